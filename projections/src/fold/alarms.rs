//! Alarms in the fold: what a shard watches, what homes hear, and when a window may be decided.
//!
//! An alarm's home is the shard that owns the hash of its tenant and name. At each tick of a new minute a shard tells every home the windows of
//! watched series that changed (itself by the same way, but without the stream), and a home decides a minute when every shard that its tick
//! listed has spoken for it, or after `LATE_TICKS_MAX` further ticks.
//!
//! Invariants:
//! - What does not fit into one record is told in parts; a shard has spoken once its last part was heard.
//! - A decision for a minute uses from each source what it had said up to its own tick of that minute, and the definitions that were in force at
//!   the home's tick of that minute, never later news: so the number of shards changes no decision.
//! - An alarm begins, and ends, with a minute: nothing is decided for the minutes before.
//! - Only windows that an evaluation range, counted back from the fold's time, still reaches are kept: old lines ring nothing and cost nothing.

mod decided;
mod heard;
mod parts;
mod room;
mod watched;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use events::{
    event::{Event, RolledUp, Ticked},
    position::{HashKey, SequenceNumber, ShardId},
};
use rustc_hash::FxBuildHasher;
use serde::{Deserialize, Serialize};

pub use self::decided::Decision;
use self::{heard::Spoken, room::Applied, watched::Watched};
use super::{
    Effect, Place,
    sabotage::{self, Sabotage},
    services::ServiceId,
};
use crate::{
    alarm::{Alarm, State},
    definitions::{self, Definition, Room},
    generations::Live,
};

/// A home waits so many ticks for a shard that has not spoken; then it decides without it, and says so.
pub const LATE_TICKS_MAX: u32 = 3;
/// Windows are kept this much longer than an evaluation range: a home may decide a few ticks late.
const KEEP_SECS: i64 = 60 * (LATE_TICKS_MAX as i64 + 2);

type Name = (String, String);
/// Source, tenant, service, encoded series.
type Told = (ShardId, String, String, Vec<u8>);

/// A minute that waits to be decided.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Pending {
    end_secs: i64,
    listed: Vec<ShardId>,
    waited_ticks: u32,
    /// What was in force at its tick, if others came since.
    definitions: Option<InForce>,
}

/// The definitions in force, and the revision that made them so.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct InForce {
    revision: SequenceNumber,
    all: Vec<Definition>,
}

/// Where an alarm at home here stands.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Standing {
    state: State,
    /// The first minute that it is decided for.
    since_secs: i64,
}

/// See the module. What is skipped follows from the rest and from the record: definitions in a form that can be decided by, numbers of services,
/// what tenants have room for; decisions are taken out before a record is done, and the time is the shard's.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Alarms {
    in_force: InForce,
    /// On the control shard: what no record has named yet.
    applied: Vec<Applied>,
    watched: Vec<Watched>,
    /// Alarms whose homes may never have been told what is watched already: at the next tick they are told all of it.
    untold: BTreeSet<Name>,
    heard: BTreeMap<ShardId, VecDeque<RolledUp>>,
    /// By source.
    spoken: BTreeMap<ShardId, Spoken>,
    values: Vec<(Told, BTreeMap<i64, serde_bytes::ByteBuf>)>,
    pending: VecDeque<Pending>,
    standings: BTreeMap<Name, Standing>,
    decided_through_secs: i64,
    ticked_secs: i64,
    #[serde(skip)]
    alarms: BTreeMap<Name, Alarm>,
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

/// The key of an alarm on the ring.
pub fn home_key(tenant: &str, alarm: &str) -> HashKey {
    HashKey::of(&format!("{tenant}\0alarm\0{alarm}"))
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
        self.decisions.extend(self.standings.iter().map(|((tenant, alarm), standing)| Decision {
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
        let minute = time_ms.div_euclid(60_000) * 60;
        self.ticked_secs = self.ticked_secs.min(minute);
        self.decided_through_secs = self.decided_through_secs.min(minute);
        self.spoken.values_mut().for_each(|spoken| spoken.through_secs = spoken.through_secs.min(minute));
        self.standings.values_mut().for_each(|standing| standing.since_secs = standing.since_secs.min(minute));
        self.pending.clear();
        self.advance(time_ms);
    }

    /// Takes over from a parent what a child needs to know of definitions: those in force, and what was applied and not named since.
    pub fn inherit(&mut self, parent: Self) {
        self.applied.extend(parent.applied);
        if parent.in_force.revision > self.in_force.revision {
            self.in_force = parent.in_force;
        }
        self.named(self.in_force.revision);
        self.alarms = parse(&self.in_force.all);
        self.rewatch(&BTreeMap::new());
    }

    /// The state was read from a snapshot: makes what is derived from it.
    pub fn restore(&mut self) {
        self.alarms = parse(&self.in_force.all);
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
            in_force, applied, watched, untold, heard, spoken, values, pending, standings, decided_through_secs, ticked_secs;
            alarms, rooms, places, decisions, now_secs
        );
        fields.into_iter().filter(|(_, same)| !same).map(|(name, _)| name)
    }

    /// Puts definitions in force.
    pub fn define(&mut self, revision: SequenceNumber, all: &[Definition]) {
        let is_later = sabotage::breaks(Sabotage::LaterDefinitionsUsed);
        let through = if is_later { SequenceNumber::MAX } else { revision };
        let all = definitions::in_force(all, through).into_iter().cloned().collect();
        let before = std::mem::replace(&mut self.in_force, InForce { revision, all });
        for pending in self.pending.iter_mut().filter(|pending| pending.definitions.is_none()) {
            if !sabotage::breaks(Sabotage::PendingByLaterDefinitions) {
                pending.definitions = Some(before.clone());
            }
        }
        let before = std::mem::replace(&mut self.alarms, parse(&self.in_force.all));
        self.rewatch(&before);
        self.named(revision);
    }

    /// A tick came: tells the homes what changed, and decides what can be decided.
    pub fn tick(&mut self, place: &Place, tick: &Ticked, position: SequenceNumber, time_ms: i64) -> Vec<Effect> {
        let end_secs = time_ms.div_euclid(60_000) * 60;
        let is_again = end_secs == self.ticked_secs && sabotage::breaks(Sabotage::EveryTickCounts);
        if end_secs <= self.ticked_secs && !is_again {
            // A second ticker, or one with a wrong clock: this minute has been told.
            return vec![];
        }
        self.ticked_secs = end_secs;
        for pending in &mut self.pending {
            pending.waited_ticks += 1;
        }
        let mut effects = vec![];
        // Each alarm's home is looked up once, not once for every shard.
        let alarms = std::mem::take(&mut self.alarms);
        let mut at_homes: BTreeMap<&ShardId, Vec<(&Name, &Alarm)>> = BTreeMap::new();
        for (name, alarm) in &alarms {
            at_homes.entry(place.owner(home_key(&name.0, &name.1))).or_default().push((name, alarm));
        }
        for (home, range) in &place.ring {
            let at_home = at_homes.remove(home).unwrap_or_default();
            // An alarm that is no longer defined has to end.
            let is_ending = *home == place.shard && !self.standings.is_empty();
            if at_home.is_empty() && !is_ending {
                continue;
            }
            let mut rolled_up = RolledUp {
                source: place.shard.clone(),
                source_position: position,
                source_time_ms: time_ms,
                windows: self.changed_windows(&at_home),
                part: 0,
                parts_after: 0,
                generation: place.generation.0,
            };
            if sabotage::breaks(Sabotage::SaysWrong) && *home != place.shard {
                rolled_up.windows.clear();
            }
            if *home == place.shard {
                self.hear(rolled_up);
                let listed = tick.open_shards.clone();
                self.pending.push_back(Pending { end_secs, listed, waited_ticks: 0, definitions: None });
            } else {
                let parts = parts::of(rolled_up).into_iter().map(Event::RolledUp);
                effects.extend(parts.map(|event| Effect::Append { hash_key: range.from, event }));
            }
        }
        self.alarms = alarms;
        self.told(end_secs);
        self.decide(place);
        effects
    }

    /// What was decided since this was last asked.
    pub fn take_decisions(&mut self) -> Vec<Decision> {
        std::mem::take(&mut self.decisions)
    }
}

fn parse(all: &[Definition]) -> BTreeMap<Name, Alarm> {
    let alarms = all.iter().filter(|definition| definition.kind == definitions::ALARM);
    // What cannot be parsed was refused when it was applied; a definition of a newer program is none of ours.
    alarms.filter_map(|of| Some(((of.tenant.clone(), of.name.clone()), Alarm::parse(&of.body).ok()?))).collect()
}

fn is_home(place: &Place, name: &Name) -> bool {
    *place.owner(home_key(&name.0, &name.1)) == place.shard
}
