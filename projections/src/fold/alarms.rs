//! Alarms in the fold: what a shard watches, what homes hear, and when a window may be decided.
//!
//! An alarm lives in one of sixteen homes, which is kept by the shard that owns its point on the ring. At each tick of a new minute a shard tells every
//! home the windows of watched series that changed (its own by the same way, but without the stream), and a home decides a minute when every shard that
//! its tick listed has spoken for it, or after `LATE_TICKS_MAX` further ticks.
//!
//! Invariants:
//! - What does not fit into one record is told in parts; a shard has spoken once its last part was heard.
//! - A decision for a minute uses from each source what it had said up to its own tick of that minute, and the definitions that were in force at
//!   the home's tick of that minute, never later news: so the number of shards changes no decision.
//! - A tick comes with its ring: to a shard that it does not list it is no tick. So who speaks, and who keeps a home, is what all that ticked agree on.
//! - A home is handed over whole, by snapshot, from the shard that has ended to the one that owns its point then. What is said to it is addressed to the
//!   point: so of all that a home is told, each thing is heard once, in one order, whoever keeps it.
//! - A shard that has ended says nothing more. What it had not told yet, its heir tells with its first word, in its name.
//! - An alarm begins, and ends, with a minute: nothing is decided for the minutes before.
//! - Only windows that an evaluation range, counted back from the fold's time, still reaches are kept: old lines ring nothing and cost nothing.

mod decided;
mod heard;
mod homes;
mod in_force;
mod inherited;
mod parts;
mod room;
mod watched;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use events::{
    event::{Event, OpenShard, RolledUp, Ticked},
    position::{HashRange, SequenceNumber, ShardId},
};
use rustc_hash::FxBuildHasher;
use serde::{Deserialize, Serialize};

pub use self::{
    decided::Decision,
    homes::{HOMES, home_key, point},
};
use self::{
    heard::{Heard, Spoken},
    in_force::{Defined, InForce},
    room::Applied,
    watched::Watched,
};
use super::{
    Effect, Place,
    sabotage::{self, Sabotage},
    services::ServiceId,
};
use crate::{alarm::State, definitions::Room, generations::Live};

/// A home waits so many ticks for a shard that has not spoken; then it decides without it, and says so.
pub const LATE_TICKS_MAX: u32 = 3;
/// Windows are kept this much longer than an evaluation range: a home may decide a few ticks late.
const KEEP_SECS: i64 = 60 * (LATE_TICKS_MAX as i64 + 2);

type Name = (String, String);
/// Source, tenant, service, encoded series.
type Told = (ShardId, String, String, Vec<u8>);
/// Encoded windows by their start, of each source and series in order.
type Values = Vec<(Told, BTreeMap<i64, serde_bytes::ByteBuf>)>;

/// A minute that waits to be decided.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Pending {
    end_secs: i64,
    listed: Vec<OpenShard>,
    waited_ticks: u32,
    /// Of the definitions that were in force at its tick.
    revision: SequenceNumber,
}

/// Where an alarm stands.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Standing {
    state: State,
    /// The first minute that it is decided for.
    since_secs: i64,
}

/// All that the decisions of one home depend on. What it decided is taken out before a record is done.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Home {
    heard: BTreeMap<ShardId, VecDeque<Heard>>,
    /// By source.
    spoken: BTreeMap<ShardId, Spoken>,
    values: Values,
    pending: VecDeque<Pending>,
    standings: BTreeMap<Name, Standing>,
    decided_through_secs: i64,
    ticked_secs: i64,
    #[serde(skip)]
    decisions: Vec<Decision>,
}

/// See the module. What is skipped follows from the rest and from the record: definitions in a form that can be decided by, numbers of services,
/// what tenants have room for; decisions are taken out before a record is done, and the time is the shard's.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Alarms {
    in_force: InForce,
    /// In the order of their revisions: those that minutes wait to be decided by.
    earlier: Vec<InForce>,
    /// On the control shard: what no record has named yet.
    applied: Vec<Applied>,
    watched: Vec<Watched>,
    /// Alarms whose homes may never have been told what is watched already: at the next tick they are told all of it.
    untold: BTreeSet<Name>,
    homes: BTreeMap<u8, Home>,
    /// The minute that it told last, or its parents did.
    ticked_secs: i64,
    /// Its keys, as its last tick listed them, or as it began with them.
    range: Option<HashRange>,
    /// Shards that have ended, which homes have to know: its parents, and theirs where a parent never spoke.
    succeeds: Vec<ShardId>,
    /// It has told something under its own name.
    has_spoken: bool,
    #[serde(skip)]
    defined: Arc<Defined>,
    /// Of `earlier`, those that were asked for.
    #[serde(skip)]
    parsed: BTreeMap<SequenceNumber, Arc<Defined>>,
    /// Of tenants that have applied something since definitions came into force.
    #[serde(skip)]
    rooms: HashMap<String, Room>,
    #[serde(skip)]
    places: HashMap<ServiceId, Option<usize>, FxBuildHasher>,
    #[serde(skip)]
    decisions: Vec<Decision>,
    #[serde(skip)]
    now_secs: i64,
}

/// The minute that a time in milliseconds falls into, in seconds.
fn minute(time_ms: i64) -> i64 {
    time_ms.div_euclid(60_000) * 60
}

impl Alarms {
    /// The revision of definitions in force.
    pub fn revision(&self) -> SequenceNumber {
        self.in_force.revision
    }

    /// Which generation counts, by what is in force.
    pub fn live(&self) -> Live {
        Live::of(&self.in_force.all)
    }

    /// Its generation begins to count: where each alarm stands is said, as it is, although nothing changed.
    pub fn say_standings(&mut self) {
        let (time_secs, revision) = (self.now_secs.div_euclid(60) * 60, self.in_force.revision);
        let standings = self.homes.values().flat_map(|home| &home.standings);
        self.decisions.extend(standings.map(|((tenant, alarm), standing)| Decision {
            tenant: tenant.clone(),
            alarm: alarm.clone(),
            from: Some(standing.state),
            to: standing.state,
            reason: "Its generation counts from here on, and this is the state in which it stands.".into(),
            reason_data: String::new(),
            time_secs,
            revision,
        }));
    }

    /// The fold's time.
    pub fn advance(&mut self, time_ms: i64) {
        self.now_secs = time_ms.div_euclid(1000);
    }

    /// Time was set back: minutes that had been told and decided come again.
    pub fn reset_time(&mut self, time_ms: i64) {
        let minute = minute(time_ms);
        self.ticked_secs = self.ticked_secs.min(minute);
        for home in self.homes.values_mut() {
            home.ticked_secs = home.ticked_secs.min(minute);
            home.decided_through_secs = home.decided_through_secs.min(minute);
            home.spoken.values_mut().for_each(|spoken| spoken.through_secs = spoken.through_secs.min(minute));
            home.standings.values_mut().for_each(|standing| standing.since_secs = standing.since_secs.min(minute));
            home.pending.clear();
        }
        self.forget_earlier();
        self.advance(time_ms);
    }

    /// The state was read from a snapshot: makes what is derived from it.
    pub fn restore(&mut self) {
        self.defined = Arc::new(Defined::of(&self.in_force));
        self.name_series();
    }

    /// The names of the fields of a snapshot in which two differ.
    pub(super) fn differing(&self, other: &Self) -> impl Iterator<Item = &'static str> + use<> {
        fn same(ours: &impl Serialize, theirs: &impl Serialize) -> bool {
            rmp_serde::to_vec(ours).ok() == rmp_serde::to_vec(theirs).ok()
        }
        macro_rules! fields {
            ($($stored:ident),*; $($made:ident),*) => {{
                // Names all, so that one that is added is compared, or passed over on purpose.
                let Self { $($stored,)* $($made: _,)* } = self;
                [$((stringify!($stored), same($stored, &other.$stored))),*]
            }};
        }
        let fields = fields!(
            in_force, earlier, applied, watched, untold, homes, ticked_secs, range, succeeds, has_spoken;
            defined, parsed, rooms, places, decisions, now_secs
        );
        fields.into_iter().filter(|(_, same)| !same).map(|(name, _)| name)
    }

    /// A tick came: tells the homes what changed, and decides what can be decided.
    pub fn tick(&mut self, place: &Place, tick: &Ticked, position: SequenceNumber, time_ms: i64) -> Vec<Effect> {
        let shard = &place.shard;
        let listed = tick.open_shards.iter().find(|open| open.shard == *shard).map(|open| open.range);
        let Some(range) = listed.or(self.range.filter(|_| sabotage::breaks(Sabotage::UnlistedTicks))) else {
            // The list was made before this shard, or after its end: it is a tick of others.
            return vec![];
        };
        self.range = Some(range);
        let end_secs = minute(time_ms);
        let is_again = end_secs == self.ticked_secs && sabotage::breaks(Sabotage::EveryTickCounts);
        if end_secs <= self.ticked_secs && !is_again {
            // A second ticker, or one with a wrong clock: this minute has been told.
            return vec![];
        }
        self.ticked_secs = end_secs;
        self.has_spoken = true;
        for home in self.homes.values_mut().filter(|home| home.is_met_first_at(end_secs)) {
            home.pending.iter_mut().for_each(|pending| pending.waited_ticks += 1);
        }
        let mut effects = vec![];
        let defined = self.defined.clone();
        for number in 0..HOMES {
            let is_own = range.contains(point(number));
            let is_empty = defined.at_home(number).next().is_none();
            // An alarm that is no longer defined has to end.
            let is_ending = is_own && self.homes.get(&number).is_some_and(|home| !home.standings.is_empty());
            if is_empty && !is_ending {
                continue;
            }
            let mut word = RolledUp {
                source: shard.clone(),
                source_position: position,
                source_time_ms: time_ms,
                source_range: range,
                succeeds: self.succeeds.clone(),
                home: number,
                windows: self.changed_windows(defined.at_home(number)),
                part: 0,
                parts_after: 0,
                generation: place.generation.0,
            };
            if sabotage::breaks(Sabotage::SaysWrong) && !is_own {
                word.windows.clear();
            }
            if is_own {
                let home = self.homes.entry(number).or_default();
                home.hear(word, self.now_secs);
                home.wait(tick, end_secs, defined.revision);
            } else {
                let parts = parts::of(word).into_iter().map(Event::RolledUp);
                effects.extend(parts.map(|event| Effect::Append { hash_key: point(number), event }));
            }
        }
        self.told(end_secs);
        self.decide();
        effects
    }

    /// A shard has spoken to a home that is kept here.
    pub fn hear(&mut self, word: RolledUp) {
        if word.home < HOMES {
            self.homes.entry(word.home).or_default().hear(word, self.now_secs);
            self.decide();
        }
    }

    /// What was decided since this was last asked.
    pub fn take_decisions(&mut self) -> Vec<Decision> {
        std::mem::take(&mut self.decisions)
    }
}

impl Home {
    /// False: another parent of its shard has met that minute.
    fn is_met_first_at(&self, end_secs: i64) -> bool {
        end_secs > self.ticked_secs || end_secs == self.ticked_secs && sabotage::breaks(Sabotage::EveryTickCounts)
    }

    /// A minute is over: it waits until all have spoken.
    fn wait(&mut self, tick: &Ticked, end_secs: i64, revision: SequenceNumber) {
        if self.is_met_first_at(end_secs) {
            self.ticked_secs = end_secs;
            let listed = tick.open_shards.clone();
            self.pending.push_back(Pending { end_secs, listed, waited_ticks: 0, revision });
            self.forget_ended(end_secs);
        }
    }
}
