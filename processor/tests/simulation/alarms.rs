//! What alarms have to become: plain, slow and by the rules alone. Told the same events as the fold in the same order, it shares no decision with it;
//! values are added up from lines whose meaning is known, and of what shards said to each other nothing is read but who spoke of which windows.
//!
//! Rules: a home decides a minute once every shard that its tick listed has spoken for it, or at the third tick after, and names the silent ones; from
//! each source it uses what that one knew at its own tick, and the definitions are those of the home's tick. A state follows from the newest N
//! datapoints of the evaluation range, M of which have to breach; missing ones are `missing`. A home is kept by whoever owns its point; for a shard that
//! has ended, and has not spoken, those have to speak that own its keys, and who owns its first key says what it had not said.

mod home;
mod rules;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use events::{
    event::Ticked,
    position::{HashKey, HashRange, SequenceNumber, ShardId},
};
use projections::fold::alarms::{HOMES, home_key, point};
use rustc_hash::FxHashMap;

use self::{
    home::{Home, Pending},
    rules::Alarm,
};
use crate::model::Stat;

/// How much longer than an evaluation range windows are kept.
const KEEP_SECS: i64 = 300;

/// Tenant and name.
type Name = (String, String);
/// Tenant, service, metric.
pub type Watch = (String, String, String);
/// Whose lines, of what, and the minute.
pub type Window = (ShardId, Watch, i64);

type Alarms = BTreeMap<Name, Alarm>;

/// What an alarm became.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    pub tenant: String,
    pub alarm: String,
    pub from: Option<&'static str>,
    pub to: &'static str,
    pub reason: String,
    pub time_secs: i64,
    pub revision: SequenceNumber,
}

/// What a shard tells a home: the minute that is over, and windows of watched series that changed, or that the home may not know.
#[derive(Debug)]
struct Word {
    minute: i64,
    /// Its keys.
    range: HashRange,
    /// Who has ended before it.
    succeeds: Vec<ShardId>,
    windows: BTreeMap<Window, Stat>,
}

/// A record of a word, or of a part of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    pub source: ShardId,
    pub at: SequenceNumber,
    /// The point of the home.
    pub home: HashKey,
    pub part: u32,
    pub parts_after: u32,
    /// The windows that stand in it.
    pub windows: Vec<Window>,
}

/// What all shards have in common.
#[derive(Debug, Default)]
pub struct Common {
    /// Revision, alarm, body.
    defined: Vec<(SequenceNumber, Name, String)>,
    /// By source, its tick, and home.
    words: FxHashMap<(ShardId, SequenceNumber, HashKey), Arc<Word>>,
    /// A word that was something else than the model's.
    pub wrong: Option<String>,
}

impl Common {
    pub fn define(&mut self, revision: SequenceNumber, tenant: String, name: String, body: String) {
        self.defined.push((revision, (tenant, name), body));
    }

    pub fn has_said(&self, part: &Part) -> bool {
        self.words.contains_key(&(part.source.clone(), part.at, part.home))
    }

    /// Of each alarm the last definition up to this revision.
    fn in_force(&self, revision: SequenceNumber) -> Alarms {
        let mut alarms = Alarms::new();
        for (_, name, body) in self.defined.iter().filter(|defined| defined.0 <= revision) {
            match Alarm::read(body) {
                Some(alarm) => alarms.insert(name.clone(), alarm),
                None => alarms.remove(name),
            };
        }
        alarms
    }
}

/// The values of one service that somebody watches.
#[derive(Debug, Default, Clone)]
struct Watched {
    range_secs: i64,
    /// By whose lines they are, and minute.
    minutes: BTreeMap<(ShardId, i64), Minute>,
}

/// What was seen of each metric, and whether it changed since it was told.
type Minute = (BTreeMap<&'static str, Stat>, bool);

/// See the module: one shard.
#[derive(Debug)]
pub struct AlarmShard {
    id: ShardId,
    revision: SequenceNumber,
    alarms: Arc<Alarms>,
    watched: BTreeMap<(String, String), Watched>,
    /// Alarms that are new, look at something else, or look further back: their homes may not know what is watched already.
    untold: BTreeSet<Name>,
    ticked: i64,
    range: Option<HashRange>,
    has_spoken: bool,
    succeeds: Vec<ShardId>,
    /// The first key of shards that have ended, if it is known.
    first_keys: BTreeMap<ShardId, Option<HashKey>>,
    /// By their points.
    homes: BTreeMap<HashKey, Home>,
}

pub fn add(stat: &mut Stat, value: f64) {
    stat.count += 1;
    stat.sum += value;
    stat.min = stat.min.min(value);
    stat.max = stat.max.max(value);
}

fn knows(before: &Alarms, name: &Name, alarm: &Alarm) -> bool {
    before.get(name).is_some_and(|was| {
        (&was.service, &was.metric) == (&alarm.service, &alarm.metric) && was.range_secs() >= alarm.range_secs()
    })
}

impl AlarmShard {
    pub fn new(id: ShardId) -> Self {
        Self {
            id,
            revision: SequenceNumber::ZERO,
            alarms: Arc::default(),
            watched: BTreeMap::new(),
            untold: BTreeSet::new(),
            ticked: 0,
            range: None,
            has_spoken: false,
            succeeds: vec![],
            first_keys: BTreeMap::new(),
            homes: BTreeMap::new(),
        }
    }

    /// The child of shards that have ended, by the keys that it owns.
    pub fn child(id: ShardId, range: HashRange, parents: &[&Self]) -> Self {
        let newest = parents.iter().max_by_key(|parent| parent.revision).unwrap();
        let mut child = Self {
            range: Some(range),
            revision: newest.revision,
            alarms: newest.alarms.clone(),
            ticked: parents.iter().map(|parent| parent.ticked).min().unwrap(),
            ..Self::new(id)
        };
        for parent in parents {
            child.succeeds.push(parent.id.clone());
            child.succeeds.extend(parent.succeeds.iter().filter(|_| !parent.has_spoken).cloned());
            child.untold.extend(parent.untold.iter().cloned());
            let unknown = child.alarms.iter().filter(|(name, alarm)| !knows(&parent.alarms, name, alarm));
            child.untold.extend(unknown.map(|(name, _)| name.clone()));
            child.first_keys.extend(parent.first_keys.clone());
            child.first_keys.insert(parent.id.clone(), parent.range.map(|range| range.from));
            for (of, watched) in &parent.watched {
                let own = child.watched.entry(of.clone()).or_default();
                own.minutes.extend(watched.minutes.iter().map(|(of, what)| (of.clone(), what.clone())));
            }
            let homes = parent.homes.iter().filter(|(home, _)| range.contains(**home));
            child.homes.extend(homes.map(|(home, state)| (*home, state.clone())));
        }
        let keys = &child.first_keys;
        for watched in child.watched.values_mut() {
            watched.minutes.retain(|(of, _), _| keys[of].is_none_or(|key| range.contains(key)));
        }
        child.watch();
        child
    }

    pub fn take_changes(&mut self) -> Vec<Change> {
        self.homes.values_mut().flat_map(|home| std::mem::take(&mut home.changes)).collect()
    }

    /// A record names these definitions.
    pub fn name_revision(&mut self, revision: SequenceNumber, common: &Common) {
        if revision <= self.revision {
            return;
        }
        self.revision = revision;
        let before = std::mem::replace(&mut self.alarms, Arc::new(common.in_force(revision)));
        let unknown = self.alarms.iter().filter(|(name, alarm)| !knows(&before, name, alarm));
        self.untold.extend(unknown.map(|(name, _)| name.clone()));
        self.watch();
    }

    fn watch(&mut self) {
        let mut ranges: BTreeMap<(String, String), i64> = BTreeMap::new();
        for ((tenant, _), alarm) in &*self.alarms {
            let range = ranges.entry((tenant.clone(), alarm.service.clone())).or_default();
            *range = alarm.range_secs().max(*range);
        }
        self.watched.retain(|service, _| ranges.contains_key(service));
        for (service, range_secs) in ranges {
            self.watched.entry(service).or_default().range_secs = range_secs;
        }
    }

    /// A line counts.
    pub fn count(&mut self, now_ms: i64, tenant: &str, service: &str, minute: i64, metric: &'static str, value: f64) {
        if self.watched.is_empty() {
            return;
        }
        let Some(watched) = self.watched.get_mut(&(tenant.to_owned(), service.to_owned())) else { return };
        if minute < now_ms.div_euclid(1000) - watched.range_secs - KEEP_SECS {
            return;
        }
        let (metrics, changed) = watched.minutes.entry((self.id.clone(), minute)).or_default();
        *changed = true;
        add(metrics.entry(metric).or_insert(Stat::NONE), value);
    }

    pub fn tick(&mut self, at: SequenceNumber, time_ms: i64, tick: &Ticked, common: &mut Common) {
        let Some(own) = tick.open_shards.iter().find(|open| open.shard == self.id) else { return };
        self.range = Some(own.range);
        let minute = time_ms.div_euclid(60_000) * 60;
        if minute <= self.ticked {
            return;
        }
        self.ticked = minute;
        self.has_spoken = true;
        for home in self.homes.values_mut().filter(|home| home.ticked < minute) {
            home.pending.iter_mut().for_each(|pending| pending.waited += 1);
        }
        for home in (0..HOMES).map(point) {
            let is_own = own.range.contains(home);
            // Whether all windows are told.
            let mut watches: BTreeMap<Watch, bool> = BTreeMap::new();
            for (name, alarm) in self.alarms.iter().filter(|(name, _)| home_key(&name.0, &name.1) == home) {
                let watch = (name.0.clone(), alarm.service.clone(), alarm.metric.clone());
                *watches.entry(watch).or_default() |= self.untold.contains(name);
            }
            // An alarm that is gone has to end.
            let is_ending = is_own && self.homes.get(&home).is_some_and(|home| !home.standing.is_empty());
            if watches.is_empty() && !is_ending {
                continue;
            }
            let (range, succeeds, windows) = (own.range, self.succeeds.clone(), self.windows(&watches));
            let known = windows.keys().cloned().collect();
            let word = Arc::new(Word { minute, range, succeeds, windows });
            common.words.insert((self.id.clone(), at, home), word);
            if is_own {
                let source = self.id.clone();
                self.hear(&Part { source, at, home, part: 0, parts_after: 0, windows: known }, common);
                let home = self.homes.entry(home).or_default();
                if home.ticked < minute {
                    home.ticked = minute;
                    let (listed, alarms) = (tick.open_shards.clone(), self.alarms.clone());
                    home.pending.push_back(Pending { minute, listed, waited: 0, alarms, revision: self.revision });
                }
            }
        }
        self.untold.clear();
        for watched in self.watched.values_mut() {
            let floor = minute - watched.range_secs - KEEP_SECS;
            watched.minutes.retain(|(_, minute), _| *minute >= floor);
            watched.minutes.values_mut().for_each(|minute| minute.1 = false);
        }
        self.decide();
    }

    fn windows(&self, watches: &BTreeMap<Watch, bool>) -> BTreeMap<Window, Stat> {
        let mut windows = BTreeMap::new();
        for (watch, all) in watches {
            let Some(watched) = self.watched.get(&(watch.0.clone(), watch.1.clone())) else { continue };
            for ((of, minute), (metrics, _)) in watched.minutes.iter().filter(|(_, (_, changed))| *all || *changed) {
                let stat = metrics.get(watch.2.as_str());
                windows.extend(stat.map(|stat| ((of.clone(), watch.clone(), *minute), *stat)));
            }
        }
        windows
    }

    /// Another shard's word has come, or a part of it.
    pub fn told(&mut self, part: &Part, common: &mut Common) {
        self.hear(part, common);
        self.decide();
    }

    fn hear(&mut self, part: &Part, common: &mut Common) {
        let word = common.words[&(part.source.clone(), part.at, part.home)].clone();
        let heard = self.homes.entry(part.home).or_default().hear(part, &word);
        common.wrong = common.wrong.take().or(heard.err());
    }

    /// A person has set the clock back.
    pub fn reset_time(&mut self, time_ms: i64) {
        let minute = time_ms.div_euclid(60_000) * 60;
        self.ticked = self.ticked.min(minute);
        self.homes.values_mut().for_each(|home| home.reset_time(minute));
    }

    fn decide(&mut self) {
        for (point, home) in &mut self.homes {
            home.decide(*point);
        }
    }
}
