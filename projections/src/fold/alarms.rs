//! Alarms in the fold: what a shard watches, what homes hear, and when a window may be decided.
//!
//! An alarm's home is the shard that owns the hash of its tenant and name. At each tick of a new minute a shard tells every home the windows of
//! watched series that changed (itself by the same way, but without the stream), and a home decides a minute when every shard that its tick
//! listed has spoken for it, or after `LATE_TICKS_MAX` further ticks.
//!
//! Invariants:
//! - A decision for a minute uses from each source what it had said up to its own tick of that minute, and the definitions that were in force at
//!   the home's tick of that minute, never later news: so the number of shards changes no decision.
//! - An alarm begins, and ends, with a minute: nothing is decided for the minutes before.
//! - Only windows that an evaluation range, counted back from the fold's time, still reaches are kept: old lines ring nothing and cost nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use events::{
    event::{Event, RolledUp, RolledWindow, Ticked},
    position::{HashKey, SequenceNumber, ShardId},
};
use rustc_hash::FxBuildHasher;
use serde::{Deserialize, Serialize};

use super::{
    Effect, Place, WALK_MAX_SECS,
    sabotage::{self, Sabotage},
    services::{ServiceId, Services},
};
use crate::{
    alarm::{self, Alarm, State},
    cell::Cell,
    definitions::{self, Definition},
    distribution::Distribution,
    series::Series,
};

/// A home waits so many ticks for a shard that has not spoken; then it decides without it, and says so.
pub const LATE_TICKS_MAX: u32 = 3;
/// Most rolled-up records that a home keeps of one source: later ones replace the oldest.
const HEARD_MAX: usize = 16;
/// Windows are kept this much longer than an evaluation range: a home may decide a few ticks late.
const KEEP_SECS: i64 = 60 * (LATE_TICKS_MAX as i64 + 2);

type Name = (String, String);
/// Source, tenant, service, encoded series.
type Told = (ShardId, String, String, Vec<u8>);

/// What an alarm has become, with its reason.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// Whose alarm.
    pub tenant: String,
    /// Its name.
    pub alarm: String,
    /// The state before; `None`: the alarm is new.
    pub from: Option<State>,
    /// The state now.
    pub to: State,
    /// For people.
    pub reason: String,
    /// For programs: JSON text.
    pub reason_data: String,
    /// Time of evaluation, Unix seconds: the end of the newest period.
    pub time_secs: i64,
    /// Revision of definitions that it was decided under.
    pub revision: SequenceNumber,
}

impl Decision {
    /// The body of its rows.
    pub fn encode(&self) -> Vec<u8> {
        rmp_serde::to_vec_named(self).expect("a decision of strings and integers always encodes")
    }

    /// Reads the body of a row.
    pub fn decode(bytes: &[u8]) -> Result<Self, rmp_serde::decode::Error> {
        rmp_serde::from_slice(bytes)
    }

    /// True if the state is another than before.
    pub fn changed(&self) -> bool {
        self.from != Some(self.to)
    }
}

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
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Standing {
    name: Name,
    state: State,
    /// The first minute that it is decided for.
    since_secs: i64,
}

/// One service of which an alarm watches something.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Watched {
    tenant: String,
    service: String,
    range_secs: i64,
    /// As they are spelled. What lines say is watched as a whole, as it is no more than a cell's built-in counts.
    #[serde(skip)]
    series: BTreeSet<Vec<u8>>,
    /// By window start; true: changed since it was last told.
    cells: BTreeMap<i64, (StoredCell, bool)>,
}

/// A cell that is stored as its row's bytes.
#[derive(Debug, Clone, Default)]
struct StoredCell(Cell);

impl Serialize for StoredCell {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0.encode())
    }
}

impl<'de> Deserialize<'de> for StoredCell {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = serde_bytes::ByteBuf::deserialize(deserializer)?;
        Cell::decode(&bytes).map(Self).map_err(serde::de::Error::custom)
    }
}

/// See the module. Everything but the two caches is in the snapshot.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Alarms {
    in_force: InForce,
    watched: Vec<Watched>,
    heard: BTreeMap<ShardId, VecDeque<RolledUp>>,
    /// By source: its last position, and the minute up to which it has spoken.
    spoken: BTreeMap<ShardId, (SequenceNumber, i64)>,
    values: Vec<(Told, BTreeMap<i64, serde_bytes::ByteBuf>)>,
    pending: VecDeque<Pending>,
    standings: Vec<Standing>,
    decided_through_secs: i64,
    ticked_secs: i64,
    #[serde(skip)]
    alarms: BTreeMap<Name, Alarm>,
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

    /// True if any line may be watched.
    pub fn is_watching(&self) -> bool {
        !self.watched.is_empty()
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
        self.spoken.values_mut().for_each(|spoken| spoken.1 = spoken.1.min(minute));
        self.standings.iter_mut().for_each(|standing| standing.since_secs = standing.since_secs.min(minute));
        self.pending.clear();
        self.advance(time_ms);
    }

    /// The state was read from a snapshot: makes what is derived from it.
    pub fn restore(&mut self) {
        self.alarms = parse(&self.in_force.all);
        self.name_series();
    }

    fn name_series(&mut self) {
        self.watched.iter_mut().for_each(|of| of.series.clear());
        for ((tenant, _), alarm) in &self.alarms {
            if let Some(of) = self.watched.iter_mut().find(|of| of.tenant == *tenant && of.service == alarm.service) {
                of.series.insert(alarm.series.encode());
            }
        }
    }

    /// Numbers of services mean others from now on.
    pub fn forget_numbers(&mut self) {
        self.places.clear();
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
        self.alarms = parse(&self.in_force.all);
        let mut watched: BTreeMap<Name, i64> = BTreeMap::new();
        for ((tenant, _), alarm) in &self.alarms {
            let range = watched.entry((tenant.clone(), alarm.service.clone())).or_default();
            *range = (*range).max(alarm.range_secs());
        }
        self.watched.retain(|of| watched.contains_key(&(of.tenant.clone(), of.service.clone())));
        for ((tenant, service), range_secs) in watched {
            match self.watched.iter_mut().find(|of| of.tenant == tenant && of.service == service) {
                Some(of) => {
                    of.range_secs = range_secs;
                    // A home that is new to these windows has never been told them.
                    of.cells.values_mut().for_each(|cell| cell.1 = true);
                }
                None => {
                    let (series, cells) = (BTreeSet::new(), BTreeMap::new());
                    self.watched.push(Watched { tenant, service, range_secs, series, cells });
                }
            }
        }
        self.name_series();
        self.places.clear();
    }

    /// As `watched`, if an alarm looks at this very series.
    pub fn watched_series(
        &mut self,
        services: &Services,
        service: ServiceId,
        start_secs: i64,
        series: &[u8],
    ) -> Option<&mut Cell> {
        let place = self.place(services, service)?;
        let is_watched = self.watched[place].series.contains(series);
        if is_watched { self.watched(services, service, start_secs) } else { None }
    }

    /// The cell that alarms watch, if they watch this service and still reach this window.
    #[inline]
    pub fn watched(&mut self, services: &Services, service: ServiceId, start_secs: i64) -> Option<&mut Cell> {
        let place = self.place(services, service)?;
        let of = &mut self.watched[place];
        if start_secs < self.now_secs - of.range_secs - KEEP_SECS {
            return None;
        }
        let (cell, changed) = of.cells.entry(start_secs).or_default();
        *changed = true;
        Some(&mut cell.0)
    }

    #[inline]
    fn place(&mut self, services: &Services, service: ServiceId) -> Option<usize> {
        match self.places.get(&service) {
            Some(place) => *place,
            None => {
                let (tenant, name) = services.name(service);
                let place = self.watched.iter().position(|of| of.tenant == tenant && of.service == name);
                self.places.insert(service, place);
                place
            }
        }
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
        for (home, range) in &place.ring {
            let at_home: Vec<(&Name, &Alarm)> =
                self.alarms.iter().filter(|(name, _)| place.owner(home_key(&name.0, &name.1)) == home).collect();
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
            };
            if sabotage::breaks(Sabotage::SaysWrong) && *home != place.shard {
                rolled_up.windows.clear();
            }
            if *home == place.shard {
                self.hear(rolled_up);
                let listed = tick.open_shards.clone();
                self.pending.push_back(Pending { end_secs, listed, waited_ticks: 0, definitions: None });
            } else {
                effects.push(Effect::Append { hash_key: range.from, event: Event::RolledUp(rolled_up) });
            }
        }
        for of in &mut self.watched {
            let floor = end_secs - of.range_secs - KEEP_SECS;
            of.cells = of.cells.split_off(&floor);
            of.cells.values_mut().for_each(|cell| cell.1 = false);
        }
        self.decide(place);
        effects
    }

    /// Once per series, however many alarms look at it.
    fn changed_windows(&self, alarms: &[(&Name, &Alarm)]) -> Vec<RolledWindow> {
        let mut told: BTreeMap<(&str, &str, &Series), ()> = BTreeMap::new();
        for (name, alarm) in alarms {
            told.insert((&name.0, &alarm.service, &alarm.series), ());
        }
        let mut windows = vec![];
        for (tenant, service, series) in told.keys() {
            let Some(of) = self.watched.iter().find(|of| of.tenant == *tenant && of.service == *service) else {
                continue;
            };
            for (start_secs, (cell, _)) in of.cells.iter().filter(|(_, (_, changed))| *changed) {
                let Some(values) = cell.0.window(series) else { continue };
                let mut value = vec![];
                values.encode(&mut value);
                let (tenant, service) = ((*tenant).to_owned(), (*service).to_owned());
                windows.push(RolledWindow { tenant, service, series: series.encode(), start_secs: *start_secs, value });
            }
        }
        windows
    }

    /// A shard has spoken. What it said before, or says again, changes nothing.
    pub fn hear(&mut self, rolled_up: RolledUp) {
        let end_secs = rolled_up.source_time_ms.div_euclid(60_000) * 60;
        let spoken = self.spoken.entry(rolled_up.source.clone()).or_default();
        if rolled_up.source_position <= spoken.0 && !sabotage::breaks(Sabotage::HeardAgain) {
            return;
        }
        *spoken = (rolled_up.source_position, end_secs);
        let heard = self.heard.entry(rolled_up.source.clone()).or_default();
        heard.push_back(rolled_up);
        if heard.len() > HEARD_MAX
            && let Some(oldest) = heard.pop_front()
        {
            take_in(&mut self.values, oldest);
        }
    }

    /// Decides the minutes that wait no longer.
    pub fn decide(&mut self, place: &Place) {
        while let Some(pending) = self.pending.front() {
            let silent: Vec<ShardId> = pending
                .listed
                .iter()
                .filter(|shard| self.spoken.get(*shard).is_none_or(|spoken| spoken.1 < pending.end_secs))
                .cloned()
                .collect();
            let is_early = sabotage::breaks(Sabotage::DecidedEarly);
            if !silent.is_empty() && pending.waited_ticks < LATE_TICKS_MAX && !is_early {
                return;
            }
            if let Some(pending) = self.pending.pop_front() {
                self.decide_through(place, pending, &silent);
            }
        }
    }

    fn decide_through(&mut self, place: &Place, pending: Pending, silent: &[ShardId]) {
        let end_secs = pending.end_secs;
        for heard in self.heard.values_mut() {
            let is_later = |told: &RolledUp| told.source_time_ms.div_euclid(60_000) * 60 > end_secs;
            while heard.front().is_some_and(|told| !is_later(told) || sabotage::breaks(Sabotage::LaterNewsUsed)) {
                if let Some(told) = heard.pop_front() {
                    take_in(&mut self.values, told);
                }
            }
        }
        let in_force = pending.definitions.unwrap_or_else(|| self.in_force.clone());
        let mut alarms = parse(&in_force.all);
        let longest = alarms.values().chain(self.alarms.values()).map(Alarm::range_secs).max().unwrap_or(0);
        alarms.retain(|name, _| is_home(place, name));
        self.begin_and_end(&alarms, end_secs, in_force.revision);
        let mut walked = (self.decided_through_secs + 60).max(end_secs - WALK_MAX_SECS);
        if sabotage::breaks(Sabotage::JumpNotWalked) {
            walked = end_secs;
        }
        let since = self.standings.iter().map(|standing| standing.since_secs).min().unwrap_or(end_secs);
        for minute in (walked.max(since)..=end_secs).step_by(60) {
            for (name, alarm) in &alarms {
                self.decide_alarm(name, alarm, minute, silent, in_force.revision);
            }
        }
        self.decided_through_secs = end_secs;
        for (_, windows) in &mut self.values {
            *windows = windows.split_off(&(end_secs - longest - KEEP_SECS));
        }
        self.values.retain(|(_, windows)| !windows.is_empty());
    }

    /// Alarms that are new stand at the beginning; those that are gone stand nowhere.
    fn begin_and_end(&mut self, alarms: &BTreeMap<Name, Alarm>, minute: i64, revision: SequenceNumber) {
        self.standings.retain(|standing| alarms.contains_key(&standing.name));
        for name in alarms.keys() {
            if self.standings.iter().any(|standing| standing.name == *name) {
                continue;
            }
            let state = State::InsufficientData;
            self.standings.push(Standing { name: name.clone(), state, since_secs: minute });
            self.decisions.push(Decision {
                tenant: name.0.clone(),
                alarm: name.1.clone(),
                from: None,
                to: state,
                reason: "Unchecked: Initial alarm creation".into(),
                reason_data: String::new(),
                time_secs: minute,
                revision,
            });
        }
    }

    fn decide_alarm(
        &mut self,
        name: &Name,
        alarm: &Alarm,
        end_secs: i64,
        silent: &[ShardId],
        revision: SequenceNumber,
    ) {
        let points = self.points(&name.0, alarm, end_secs);
        let standing = self.standings.iter_mut().find(|standing| standing.name == *name);
        let Some(standing) = standing.filter(|standing| standing.since_secs <= end_secs) else { return };
        let verdict = alarm.decide(standing.state, &points, end_secs);
        if verdict.to == standing.state {
            return;
        }
        let mut reason = verdict.reason;
        if !silent.is_empty() {
            let names: Vec<&str> = silent.iter().map(ShardId::as_str).collect();
            reason.push_str(&format!(" Decided without {}, which had not spoken for this minute.", names.join(", ")));
        }
        self.decisions.push(Decision {
            tenant: name.0.clone(),
            alarm: name.1.clone(),
            from: Some(standing.state),
            to: verdict.to,
            reason,
            reason_data: verdict.reason_data,
            time_secs: end_secs,
            revision,
        });
        standing.state = verdict.to;
    }

    /// The periods of the evaluation range that ends at `end_secs`, oldest first, merged over all sources.
    fn points(&self, tenant: &str, alarm: &Alarm, end_secs: i64) -> Vec<Option<f64>> {
        let series = alarm.series.encode();
        let period = i64::from(alarm.period_secs);
        let told: Vec<_> = self
            .values
            .iter()
            .filter(|((_, of, service, told), _)| of == tenant && *service == alarm.service && *told == series)
            .collect();
        let range = i64::from(alarm::evaluation_range(alarm.evaluation_periods));
        (0..range)
            .map(|i| {
                let start = end_secs - (range - i) * period;
                let mut values = Distribution::default();
                for (_, windows) in &told {
                    for value in windows.range(start..start + period).map(|(_, value)| value) {
                        // It was encoded by a fold, or checked when it was heard.
                        if let Ok(value) = Distribution::decode(&mut value.as_slice()) {
                            values.merge(&value);
                        }
                    }
                }
                alarm.statistic.of(&values)
            })
            .collect()
    }

    /// What was decided since this was last asked.
    pub fn take_decisions(&mut self) -> Vec<Decision> {
        std::mem::take(&mut self.decisions)
    }
}

fn parse(definitions: &[Definition]) -> BTreeMap<Name, Alarm> {
    let alarms = definitions.iter().filter(|definition| definition.kind == "alarm");
    // What cannot be parsed was refused when it was applied; a definition of a newer program is none of ours.
    alarms.filter_map(|of| Some(((of.tenant.clone(), of.name.clone()), Alarm::parse(&of.body).ok()?))).collect()
}

fn is_home(place: &Place, name: &Name) -> bool {
    *place.owner(home_key(&name.0, &name.1)) == place.shard
}

/// A source's windows replace what it said of them before.
fn take_in(values: &mut Vec<(Told, BTreeMap<i64, serde_bytes::ByteBuf>)>, rolled_up: RolledUp) {
    for window in rolled_up.windows {
        let told = (rolled_up.source.clone(), window.tenant, window.service, window.series);
        let place = values.binary_search_by(|(of, _)| of.cmp(&told)).unwrap_or_else(|place| {
            values.insert(place, (told, BTreeMap::new()));
            place
        });
        let mut value = window.value;
        if sabotage::breaks(Sabotage::ToldTwiceAddsUp)
            && let Some(before) = values[place].1.get(&window.start_secs)
        {
            value = sum(before, &value);
        }
        values[place].1.insert(window.start_secs, value.into());
    }
}

/// What a broken law makes of two encoded values.
#[cold]
fn sum(one: &[u8], other: &[u8]) -> Vec<u8> {
    let decode = |mut bytes: &[u8]| Distribution::decode(&mut bytes).unwrap_or_default();
    let (mut sum, mut bytes) = (decode(one), vec![]);
    sum.merge(&decode(other));
    sum.encode(&mut bytes);
    bytes
}
