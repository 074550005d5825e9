//! What the API asks of the process that it runs in. A port: the process appends, folds and waits; the API only asks.

use std::{future::Future, time::Duration};

use events::{
    event::Defined,
    identity::Producer,
    pack::{Profile, Target},
    position::{SequenceNumber, ShardId},
    stream::{AppendError, Appended, Put, Refused},
    wire::Codec,
};
use projections::{
    fold::balance::Balance,
    generations::View,
    store::{Generation, Store},
};
use serde_json::Value;

/// How lines that come in are packed for an embedded stream: quickly, and in batches that its reader takes at one time, well below a record's limit
/// when nothing packs.
pub const EMBEDDED_PROFILE: Profile = Profile { codec: Codec::Lz4, target: Target::Lines(512 << 10) };

/// A record that was not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendFailed {
    /// The stream refused this record: it is not in.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The append failed as a whole; `AppendError::Unknown` may have happened.
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// Waiting for a run ended without its balance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unsettled {
    /// Nothing is known under this name: the process was restarted, or it was long ago.
    Unknown,
    /// The consumer stopped, and why.
    Stopped(String),
    /// Not in the given time; the balance so far.
    Late(Box<Balance>),
    /// All of it can be read, but another process folded so many of its records, and that one alone knows what became of their lines; the balance
    /// of the others.
    Elsewhere(Box<Balance>, usize),
}

/// What was asked of generations was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotDone {
    /// It is not possible, and why.
    Refused(String),
    /// It failed; the same again goes on.
    Failed(String),
}

/// A change of which shard has which keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reshard {
    /// This one's keys go to two new shards, half each.
    Split(ShardId),
    /// The keys of these two, which are neighbours, go to a new one.
    Merge([ShardId; 2]),
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Check {
    /// What.
    pub name: String,
    /// It is as it should be.
    pub ok: bool,
    /// What was seen; where `ok` is false, the cause and the next step.
    pub detail: String,
}

/// How the process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// All that was checked; the process is well if each is.
    pub checks: Vec<Check>,
    /// How much older than the newest record the last folded one is, over all shards; `None`: another process folds, and it is not known here.
    pub behind_ms: Option<u64>,
}

/// See the module.
pub trait Operator: Send + Sync + 'static {
    /// The store that holds the rows.
    type Store: Store + 'static;

    /// The rows, for reading only.
    fn store(&self) -> &Self::Store;

    /// The generation that readers see.
    fn generation(&self) -> Generation;

    /// Where readers find windows.
    fn view(&self) -> View {
        self.generation().into()
    }

    /// Opens a generation beside the one that counts, or goes on with it; `start` as people write it, absent only to go on. Returns how it stands;
    /// it is folded meanwhile.
    fn replay(&self, name: &str, start: Option<&str>) -> impl Future<Output = Result<Value, NotDone>> + Send;

    /// All generations, as they are shown.
    fn generations(&self) -> impl Future<Output = Result<Value, NotDone>> + Send;

    /// Compares one with the one that counts.
    fn compare(&self, name: &str) -> impl Future<Output = Result<Value, NotDone>> + Send;

    /// From now on this one counts. Again after an error: finishes what was begun.
    fn promote(&self, name: &str) -> impl Future<Output = Result<Value, NotDone>> + Send;

    /// Folds this one no longer. `no_way_back`: also if it could be gone back to.
    fn end(&self, name: &str, no_way_back: bool) -> impl Future<Output = Result<Value, NotDone>> + Send;

    /// All shards that the stream lists, as they are shown.
    fn shards(&self) -> impl Future<Output = Result<Value, NotDone>> + Send;

    /// Splits or merges; returns the new shards once that is durable. What the old ones hold stays theirs.
    fn reshard(&self, change: Reshard) -> impl Future<Output = Result<Value, NotDone>> + Send;

    /// The host's clock, Unix milliseconds.
    fn now_ms(&self) -> i64;

    /// Appends one record; waits for room (back-pressure) and returns once it is durable. Whether to try again is decided here, not by the
    /// API: it hands an error to its client. Called at the same time: up to sixteen times for each body that is coming in.
    fn append(&self, put: Put) -> impl Future<Output = Result<Appended, AppendFailed>> + Send;

    /// The identity under which this API speaks for batches without an origin: an id and an epoch that nobody else has and no earlier start
    /// had. Asked for once, at start; the API adds to the id and counts by itself, and never has more than `IN_FLIGHT_MAX` unacknowledged.
    fn producer(&self) -> Producer;

    /// The highest revision of definitions that can be read back: what a batch may name.
    fn definitions_revision(&self) -> Option<SequenceNumber>;

    /// How lines that come in are packed: what the stream's bytes cost decides.
    fn profile(&self) -> Profile {
        EMBEDDED_PROFILE
    }

    /// A random name of the process that this is, if it has one: whoever was led here by an address asks whether it is who left it.
    fn instance(&self) -> &str {
        ""
    }

    /// Whether there is room for what a run is about to append; `Err`: not now, and why. Called before each append that `expect` will name.
    fn admit(&self, _run: &str) -> Result<(), String> {
        Ok(())
    }

    /// A run has appended a record. Called right after the append, so that the record may already be folded. `run` holds the tenant's name, so
    /// that no tenant sees another's.
    fn expect(&self, run: &str, appended: &Appended);

    /// Waits until all that a run appended is folded and its rows can be read, at most `wait`.
    fn settled(&self, run: &str, wait: Duration) -> impl Future<Output = Result<Balance, Unsettled>> + Send;

    /// How far the rows of each shard can be read.
    fn applied_through(&self) -> Vec<(ShardId, SequenceNumber)>;

    /// Looks at everything that has to work.
    fn health(&self) -> impl Future<Output = Health> + Send;

    /// Recomputes every row from the stream and compares; the report as it is shown. `Err`: it could not be done, and why.
    fn verify(&self) -> impl Future<Output = Result<serde_json::Value, String>> + Send;

    /// Appends definitions that were checked, each as a record of its own (a revision is a position) on the control key, in order, and waits
    /// until they can be read, or for as long as it can wait (`is_in_force`). Returns their revisions in order. `Err`: some may be in; the same again is harmless.
    fn apply(
        &self,
        tenant: &str,
        defined: Vec<Defined>,
    ) -> impl Future<Output = Result<Vec<SequenceNumber>, String>> + Send;

    /// Whether what `apply` gave these revisions can be read by now, as it can where it waited long enough. False: they are on the stream, and come into
    /// force by themselves.
    fn is_in_force(&self, _revisions: &[SequenceNumber]) -> bool {
        true
    }
}
