//! What happened, in the past tense. The only things besides log lines that change a projection.
//!
//! Names and fields are stored for as long as the archive lives: add, never rename. `wire/format.md` describes them for other languages.

use serde::{Deserialize, Serialize};

use crate::{
    identity::Origin,
    position::{HashRange, SequenceNumber, ShardId},
};

/// Most events in one batch.
pub const BATCH_EVENTS_MAX: usize = 10_000;

/// One event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// A minute passed: gives every shard a time even in silence.
    Ticked(Ticked),
    /// A shard tells an alarm's home what it has seen of watched metrics.
    RolledUp(RolledUp),
    /// Somebody applied a definition. Its revision is its position on the control key.
    Defined(Defined),
    /// An API wrote metric values.
    Measured(Measured),
    /// A person confirmed that the host's clock is right although it stands before the last stamp: the only record that lowers time.
    TimeReset(TimeReset),
    /// Something was announced, and was gone when it was to be read.
    Missed(Missed),
}

/// See [`Event::Ticked`]. Says nothing about time itself: the stream's own stamp on it does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticked {
    /// The highest revision of definitions that the ticker has read back from the store.
    pub definitions: SequenceNumber,
    /// The shards that were open: who has to speak before an alarm is decided, and where alarms are at home. To a shard that is not among them it is
    /// no tick.
    pub open_shards: Vec<OpenShard>,
    /// Revision of the fold that is in force from here on.
    pub fold_revision: u32,
}

/// A shard that takes records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenShard {
    /// Its name.
    pub shard: ShardId,
    /// The keys that it owns.
    pub range: HashRange,
}

/// See [`Event::RolledUp`]. State, not a difference: a higher position of the same source replaces a lower.
///
/// What does not fit into one record is said in parts, each an event of its own with the same source, position and time. The source has spoken
/// for its tick once all of them were heard, in whatever order and however often.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolledUp {
    /// Who speaks.
    pub source: ShardId,
    /// The tick at which it speaks, in its own log.
    pub source_position: SequenceNumber,
    /// Its time at that tick, Unix milliseconds.
    pub source_time_ms: i64,
    /// The keys that it owns: it speaks for all shards that owned some of them before, too.
    pub source_range: HashRange,
    /// Shards that have ended: its parents, and theirs where a parent never spoke.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub succeeds: Vec<ShardId>,
    /// To which of the homes it speaks, whichever shard keeps it.
    pub home: u8,
    /// Watched windows that changed since it last spoke to this home; none: it has nothing new to say.
    pub windows: Vec<RolledWindow>,
    /// Which part of what is said to this home at this tick, from 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub part: u32,
    /// Parts that come after this one: 0 in the last.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub parts_after: u32,
    /// The generation of rows that says it: for any other it tells only that the source has spoken.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub generation: u32,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// One window of one watched series, as far as its shard has folded. What a shard had not told when it ended, one that took over from it tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolledWindow {
    /// The tenant.
    pub tenant: String,
    /// The service.
    pub service: String,
    /// The series, encoded as in rows.
    #[serde(with = "serde_bytes")]
    pub series: Vec<u8>,
    /// Window start, Unix seconds.
    pub start_secs: i64,
    /// The shard that has ended whose window it is; absent: the source's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<ShardId>,
    /// Its distribution, encoded as in rows.
    #[serde(with = "serde_bytes")]
    pub value: Vec<u8>,
}

/// See [`Event::Defined`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Defined {
    /// `alarm`, or `generation`: which one counts from here on.
    pub kind: String,
    /// Unique within tenant and kind: a second definition replaces the first.
    pub name: String,
    /// The definition as JSON text, as it was checked. `null`: no longer defined.
    pub body: String,
    /// Who applied it.
    pub by: String,
}

/// See [`Event::Measured`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// The values; each is one unit of the balance.
    pub data: Vec<Datum>,
}

/// One value of one metric, in the terms of CloudWatch's PutMetricData.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Datum {
    /// Namespace; built-in metrics of logs have `Weir/Logs`.
    pub namespace: String,
    /// Metric name.
    pub metric: String,
    /// Service that it belongs to; absent: the batch's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Exact set of dimensions, any order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dimensions: Vec<(String, String)>,
    /// Unix milliseconds; absent: the batch's `read_at_ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_ms: Option<i64>,
    /// Finite, within ±2^360.
    pub value: f64,
    /// One of CloudWatch's units; `None` is one of them.
    pub unit: String,
}

/// See [`Event::TimeReset`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeReset {
    /// The stamp that stood before, Unix milliseconds.
    pub was_ms: i64,
}

/// See [`Event::Missed`]. It stands on the shard of the slice that begins to be missing, so that the fold sees whether that was read before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missed {
    /// What is gone.
    pub origin: Origin,
    /// Its first byte, after decompression, that was not read; 0: none was; [`Missed::UNKNOWN`]: who read it before has not said how far it came.
    pub from: u64,
}

impl Missed {
    /// No byte of any object, so that nothing passes for having read it: what nobody can tell is told, and never taken for a duplicate.
    pub const UNKNOWN: u64 = u64::MAX;

    /// What the news itself is known by: the same of the same thing is one, however often it is said.
    pub fn known_as(&self) -> Origin {
        let Self { origin, from } = self;
        Origin { version: format!("{} missed from {from}", origin.version), ..origin.clone() }
    }
}
