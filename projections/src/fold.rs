//! The fold of one shard: new rows and effects from old state, a record and the definitions in force, and from nothing else.
//!
//! No clock, no store, no runtime: whoever drives it reads what `wants` and `unmet` name, and writes what `commit` gives. Time here is the
//! highest arrival stamp that the stream put on a record of this shard, this one included.
//!
//! One record goes through five steps:
//!
//! 1. [`Input::of`] decodes it, or says why it is dead.
//! 2. [`Shard::wants`] names the rows that decide what becomes of it; the driver reads them.
//! 3. [`Shard::fold`] adds it to the open rows and returns what became of its lines, with the effects.
//! 4. [`Shard::unmet`] names the rows that it opened; the driver reads them and [`Shard::meet`] takes them in.
//! 5. Now and then [`Shard::commit`] gives the rows that changed and the resume point, and [`Shard::committed`] lets go of what is stored.

pub mod alarms;
pub mod balance;
mod commit;
mod events_in;
pub mod identified;
mod input;
pub mod limits;
mod lineage;
mod lines_in;
pub mod producers;
pub mod rows;
pub mod sabotage;
mod services;
pub mod snapshot;
pub mod taken;
mod wanted;

use std::collections::{BTreeMap, HashMap};

use events::{
    event::Event,
    position::{HashKey, HashRange, SequenceNumber, ShardId},
};

use self::{
    alarms::Alarms,
    balance::Balance,
    identified::Identified,
    input::Body,
    producers::Marks,
    rows::{Current, OpenRows, Stored},
    sabotage::Sabotage,
    services::{Services, WindowKey},
    taken::Taken,
    wanted::Wanted,
};
pub use self::{input::Input, lineage::LINEAGE_MAX};
use crate::{
    canonical::DecodeError,
    cell::Cell,
    definitions::Definition,
    generations::Live,
    lines::Parser,
    store::{Day, Generation, Kind, Partial, Row, RowKey, Subject},
};

/// Which meaning this program gives to records. It stands in every row and resume point; `tests/golden_fold.rs` fails when the meaning moves
/// without it.
pub const FOLD_REVISION: u32 = 1;
/// A line or a value that claims to be later than the fold's time by more than this is skipped.
pub const AHEAD_MAX_MS: i64 = 2 * 60 * 60 * 1000;
/// A jump in time is walked minute by minute up to this; what lies before is not evaluated.
pub const WALK_MAX_SECS: i64 = 24 * 60 * 60;
/// So many changed rows ask for a commit, so that memory stays bounded whatever comes.
pub const CHANGED_ROWS_MAX: usize = 4_096;
/// The page of a window that holds what lines say, and nothing else.
pub const LINES_PAGE: u16 = 0;
/// Rows that so many records did not touch leave memory at a commit; in test builds few, so that short histories meet their rows again.
const IDLE_RECORDS: u64 = if cfg!(feature = "law") { 4 } else { 64 };
/// Where more rows than this are open after a commit, all that the last record did not touch leave: lines of many windows each, as of a sparse
/// backfill, would fill memory else.
const IDLE_ROWS_MAX: usize = CHANGED_ROWS_MAX;

/// Where a shard stands among the others: a fact of the stream, given when the fold starts.
#[derive(Debug, Clone)]
pub struct Place {
    /// The replay that the rows belong to.
    pub generation: Generation,
    /// This shard.
    pub shard: ShardId,
    /// The open shards with their ranges: who is at home where.
    pub ring: Vec<(ShardId, HashRange)>,
}

impl Place {
    /// The shard that owns a key of the ring.
    pub fn owner(&self, key: HashKey) -> &ShardId {
        let owner = self.ring.iter().find(|(_, range)| range.contains(key));
        owner.map_or(&self.shard, |(shard, _)| shard)
    }
}

/// What the fold asks the world to do. Carried out after the record is folded and before the resume point passes it; doing it twice is harmless.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Append an event to the shard that owns the key.
    Append {
        /// Where to.
        hash_key: HashKey,
        /// What.
        event: Event,
    },
}

/// What became of one record.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Folded {
    /// Of its lines or data.
    pub balance: Balance,
    /// To be carried out.
    pub effects: Vec<Effect>,
}

/// The fold cannot go on with this state: the driver throws it away and starts again from the resume point. Only `NewerRevision` leaves the state as
/// it was before the record, so that it can be committed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// Another worker is further on than this one.
    #[error("{0}: another worker has gone past this one; it must start again from the resume point")]
    Overtaken(ShardId),
    /// A tick names a newer revision of the fold: the newer program goes on from here.
    #[error(
        "{shard}: from {position} on, the fold has revision {newer}; this program has {FOLD_REVISION} and stops here"
    )]
    NewerRevision {
        /// The shard.
        shard: ShardId,
        /// The tick.
        position: SequenceNumber,
        /// Its revision.
        newer: u32,
    },
    /// A row or snapshot cannot be read.
    #[error("a stored row cannot be read: {0}")]
    BadRow(#[from] DecodeError),
}

/// The state of one shard's fold.
pub struct Shard {
    place: Place,
    /// Its parents, theirs, and so on: newest first. Their marks are its own.
    lineage: Vec<ShardId>,
    /// The shard is closed, and all of it is folded.
    ended: bool,
    /// The first record that it folded, in this process or before.
    began: SequenceNumber,
    position: SequenceNumber,
    resume_point: SequenceNumber,
    time_ms: i64,
    /// Records folded by this process; orders touches, and is in no row.
    record: u64,
    parser: Parser,
    services: Services,
    windows: OpenRows<WindowKey, Cell>,
    wanted: Wanted,
    /// Pages that were read for the record that is being folded, and that none of its values has touched yet.
    pages: HashMap<RowKey, Stored<Cell>>,
    taken: OpenRows<Subject, Taken>,
    producers: OpenRows<Subject, Marks>,
    identified: OpenRows<(Subject, i64), Identified>,
    /// A mark has grown so large that it is time to commit.
    crowded: bool,
    balances: OpenRows<(String, i64, Partial), Balance>,
    seen: OpenRows<Subject, services::Seen>,
    /// Rows that are facts of one record and are never added to: definitions, dead letters, alarms' states and changes.
    facts: BTreeMap<RowKey, Row>,
    alarms: Alarms,
    /// Which generation counts, by the definitions in force.
    live: Live,
    /// At the record that is about to be folded this generation begins to count.
    begins_to_count: bool,
}

impl Shard {
    /// A shard that has folded nothing.
    pub fn new(place: Place) -> Self {
        Self {
            place,
            lineage: vec![],
            ended: false,
            began: SequenceNumber::ZERO,
            position: SequenceNumber::ZERO,
            resume_point: SequenceNumber::ZERO,
            time_ms: 0,
            record: 0,
            parser: Parser::new(0),
            services: Services::default(),
            windows: OpenRows::default(),
            wanted: Wanted::default(),
            pages: HashMap::new(),
            taken: OpenRows::default(),
            producers: OpenRows::default(),
            identified: OpenRows::default(),
            crowded: false,
            balances: OpenRows::default(),
            seen: OpenRows::default(),
            facts: BTreeMap::new(),
            alarms: Alarms::default(),
            live: Live::default(),
            begins_to_count: false,
        }
    }

    /// The last record that was folded.
    pub fn position(&self) -> SequenceNumber {
        self.position
    }

    /// No record will come after the last one that was folded.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// True once it was told that it has ended.
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// The fold's time, Unix milliseconds; 0 before the first record.
    pub fn time_ms(&self) -> i64 {
        self.time_ms
    }

    /// The revision of definitions to read before the record is folded, where it names a newer one than is in force.
    pub fn wants_definitions(&self, input: &Input) -> Option<SequenceNumber> {
        input.definitions().filter(|revision| *revision > self.alarms.revision())
    }

    /// Puts definitions in force for a record that is about to be folded: all that have a revision up to and including the one that it names.
    pub fn define(&mut self, input: &Input, revision: SequenceNumber, definitions: &[Definition]) {
        // The record's own time: what this process happens to remember of earlier records must not show.
        self.alarms.advance(self.time_ms.max(input.arrived_at_ms));
        self.alarms.define(revision, definitions);
        let (before, own) = (self.live, self.place.generation);
        self.live = self.alarms.live();
        self.begins_to_count = before.generation != own && self.live.generation == own;
        if before != self.live {
            // Lines go into other partials from here on.
            self.services.forget_windows();
        }
    }

    /// Which generation counts, by the definitions in force.
    pub fn live(&self) -> Live {
        self.live
    }

    /// True if the effects of this shard's fold are to leave: its generation counts.
    pub fn acts(&self) -> bool {
        self.live.generation == self.place.generation
    }

    /// Folds a record. `read` are the rows that `wants` named, in its order.
    pub fn fold(&mut self, input: &Input, read: Vec<Option<Row>>) -> Result<Folded, Stop> {
        self.heed_revision(input)?;
        if sabotage::breaks(Sabotage::LetGoBeforeDurable) {
            self.windows.let_go(self.record, |_| {});
            self.services.forget_windows();
        }
        self.admit(input, read)?;
        self.record += 1;
        self.time_ms = self.time_ms.max(input.arrived_at_ms);
        if sabotage::breaks(Sabotage::TimeGoesBack) {
            self.time_ms = input.arrived_at_ms;
        }
        self.alarms.advance(self.time_ms);
        self.begin_day();
        if std::mem::take(&mut self.begins_to_count) {
            self.alarms.say_standings();
            self.keep_decisions(input);
        }
        let mut folded = Folded::default();
        for body in &input.bodies {
            let Folded { balance, effects } = self.fold_body(input, body)?;
            self.count(input, body, &balance);
            folded.balance.add(&balance);
            folded.effects.extend(effects);
        }
        self.position = input.sequence;
        if self.began == SequenceNumber::ZERO {
            self.began = input.sequence;
        }
        Ok(folded)
    }

    /// Stops before anything of a record is folded that names a newer revision: what stands may be committed then.
    fn heed_revision(&self, input: &Input) -> Result<(), Stop> {
        let ticks = input.events().filter_map(|event| if let Event::Ticked(tick) = event { Some(tick) } else { None });
        match ticks.map(|tick| tick.fold_revision).max() {
            Some(newer) if newer > FOLD_REVISION && !sabotage::breaks(Sabotage::RevisionIgnored) => {
                Err(Stop::NewerRevision { shard: self.place.shard.clone(), position: input.sequence, newer })
            }
            _ => Ok(()),
        }
    }

    /// After each change of time.
    fn begin_day(&mut self) {
        if !sabotage::breaks(Sabotage::DaysNotTold) {
            self.services.begin_day(self.time_ms);
        }
    }

    /// The record that is being folded, as rows see it.
    fn current(&self, input: &Input) -> Current {
        Current { sequence: input.sequence, record: self.record, day: Day::of(self.time_ms) }
    }

    /// Adds what became of a body's lines to the balance of this minute.
    fn count(&mut self, input: &Input, body: &Body, balance: &Balance) {
        if balance.accepted() == 0 {
            return;
        }
        let minute = self.time_ms.div_euclid(60_000) * 60;
        let slot = self.balances.open(&(body.tenant().to_owned(), minute, self.live.partial()));
        let current = self.current(input);
        if let Some(row) = self.balances.touch(slot, &current) {
            row.add(balance);
        }
    }

    /// Rows that were opened by the last record and must be read now.
    pub fn unmet(&self) -> Vec<RowKey> {
        let windows = self.windows.unmet().map(|key| self.window_key(key));
        let balances =
            self.balances.unmet().map(|(tenant, minute, partial)| self.balance_key(tenant, *minute, *partial));
        let seen = self.seen.unmet().map(|subject| self.key(subject.clone(), 0, 0));
        windows.chain(balances).chain(seen).collect()
    }

    /// Takes in the rows that `unmet` named, in its order.
    pub fn meet(&mut self, stored: Vec<Option<Row>>) -> Result<(), Stop> {
        let mut stored = stored.into_iter();
        let windows = self.windows.unmet().count();
        self.windows.meet(stored.by_ref().take(windows).collect::<Vec<_>>())?;
        let balances = self.balances.unmet().count();
        self.balances.meet(stored.by_ref().take(balances).collect::<Vec<_>>())?;
        self.seen.meet(stored)?;
        Ok(())
    }

    /// Rows that wait to be written: at `CHANGED_ROWS_MAX` it is time.
    pub fn changed_rows(&self) -> usize {
        if self.crowded { CHANGED_ROWS_MAX } else { self.rows_to_write() }
    }

    fn rows_to_write(&self) -> usize {
        let marks = self.taken.changed() + self.producers.changed() + self.identified.changed();
        self.windows.changed() + marks + self.balances.changed() + self.seen.changed() + self.facts.len()
    }

    fn subject(&self, tenant: &str, kind: Kind, name: &str) -> Subject {
        let tenant = if sabotage::breaks(Sabotage::TenantsMixed) { "local" } else { tenant };
        Subject { tenant: tenant.to_owned(), generation: self.place.generation, kind, name: name.to_owned() }
    }

    /// Of rows that have one partial: nobody adds those of two generations up.
    fn key(&self, subject: Subject, at: i64, page: u16) -> RowKey {
        self.key_in(Partial(0), subject, at, page)
    }

    fn key_in(&self, partial: Partial, subject: Subject, at: i64, page: u16) -> RowKey {
        RowKey { subject, at, shard: self.place.shard.clone(), partial, page }
    }

    fn window_key(&self, key: &WindowKey) -> RowKey {
        let (tenant, service) = self.services.name(key.service);
        self.key_in(key.partial, self.subject(tenant, Kind::Window, service), key.start_secs, key.page)
    }

    fn balance_key(&self, tenant: &str, minute: i64, partial: Partial) -> RowKey {
        self.key_in(partial, self.subject(tenant, Kind::Balance, ""), minute, 0)
    }
}
