//! What alarms have to become: plain, slow and by the rules alone. Told the same events as the fold in the same order, it shares no decision with it;
//! values are added up from lines whose meaning is known, and of what shards said to each other nothing is read but who spoke of which windows.
//!
//! Rules: a home decides a minute once every shard that its tick listed has spoken for it, or at the third tick after, and names the silent ones; from
//! each source it uses what that one knew at its own tick, and the definitions are those of the home's tick. A state follows from the newest N
//! datapoints of the evaluation range, M of which have to breach; missing ones are `missing`.

mod rules;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use events::{
    event::Ticked,
    position::{SequenceNumber, ShardId},
};
use projections::fold::{Place, alarms::home_key};
use rustc_hash::FxHashMap;

use self::rules::{Alarm, INSUFFICIENT, judge, reason};
use crate::model::Stat;

const WAIT_TICKS: u32 = 3;
const DAY_SECS: i64 = 86_400;
/// How much longer than an evaluation range windows are kept.
const KEEP_SECS: i64 = 300;
/// So many words of one source wait for their minute; the oldest is taken in then.
const WORDS_MAX: usize = 16;

/// Tenant and name.
type Name = (String, String);
/// Tenant, service, metric.
pub type Watch = (String, String, String);

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
    windows: BTreeMap<(Watch, i64), Stat>,
}

/// A record of a word, or of a part of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    pub source: ShardId,
    pub at: SequenceNumber,
    pub part: u32,
    pub parts_after: u32,
    /// The windows that stand in it.
    pub windows: Vec<(Watch, i64)>,
}

/// What a home has heard of a source.
#[derive(Debug, Default)]
struct Spoken {
    /// The newest tick of which it heard anything, and which parts.
    at: SequenceNumber,
    parts: BTreeSet<u32>,
    is_whole: bool,
    /// The minute up to which it heard all.
    minute: i64,
}

/// What a home has heard of one tick of a source.
#[derive(Debug)]
struct Heard {
    at: SequenceNumber,
    minute: i64,
    windows: Vec<((Watch, i64), Stat)>,
}

/// What all shards have in common.
#[derive(Debug, Default)]
pub struct Common {
    /// Revision, alarm, body.
    defined: Vec<(SequenceNumber, Name, String)>,
    /// By source, its tick, and home.
    words: FxHashMap<(ShardId, SequenceNumber, ShardId), Arc<Word>>,
    /// A word that was something else than the model's.
    pub wrong: Option<String>,
}

impl Common {
    pub fn define(&mut self, revision: SequenceNumber, tenant: String, name: String, body: String) {
        self.defined.push((revision, (tenant, name), body));
    }

    pub fn has_said(&self, source: &ShardId, at: SequenceNumber, home: &ShardId) -> bool {
        self.words.contains_key(&(source.clone(), at, home.clone()))
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
#[derive(Debug, Default)]
struct Watched {
    range_secs: i64,
    /// By minute: the metrics, and whether they changed since they were told.
    minutes: BTreeMap<i64, (BTreeMap<&'static str, Stat>, bool)>,
}

#[derive(Debug)]
struct Pending {
    minute: i64,
    listed: Vec<ShardId>,
    waited: u32,
    alarms: Arc<Alarms>,
    revision: SequenceNumber,
}

/// See the module: one shard.
#[derive(Debug)]
pub struct AlarmShard {
    place: Place,
    revision: SequenceNumber,
    alarms: Arc<Alarms>,
    watched: BTreeMap<(String, String), Watched>,
    /// Alarms that are new, look at something else, or look further back: their homes may not know what is watched already.
    untold: BTreeSet<Name>,
    ticked: i64,
    heard: BTreeMap<ShardId, VecDeque<Heard>>,
    spoken: BTreeMap<ShardId, Spoken>,
    values: BTreeMap<(ShardId, Watch), BTreeMap<i64, Stat>>,
    pending: VecDeque<Pending>,
    /// The state, and the first minute that is decided.
    standing: BTreeMap<Name, (&'static str, i64)>,
    decided_through: i64,
    changes: Vec<Change>,
}

pub fn add(stat: &mut Stat, value: f64) {
    stat.count += 1;
    stat.sum += value;
    stat.min = stat.min.min(value);
    stat.max = stat.max.max(value);
}

impl AlarmShard {
    pub fn new(place: Place) -> Self {
        Self {
            place,
            revision: SequenceNumber::ZERO,
            alarms: Arc::default(),
            watched: BTreeMap::new(),
            untold: BTreeSet::new(),
            ticked: 0,
            heard: BTreeMap::new(),
            spoken: BTreeMap::new(),
            values: BTreeMap::new(),
            pending: VecDeque::new(),
            standing: BTreeMap::new(),
            decided_through: 0,
            changes: vec![],
        }
    }

    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// A record names these definitions.
    pub fn name_revision(&mut self, revision: SequenceNumber, common: &Common) {
        if revision <= self.revision {
            return;
        }
        self.revision = revision;
        let before = std::mem::replace(&mut self.alarms, Arc::new(common.in_force(revision)));
        for (name, alarm) in &*self.alarms {
            let knows = before.get(name).is_some_and(|was| {
                (&was.service, &was.metric) == (&alarm.service, &alarm.metric) && was.range_secs() >= alarm.range_secs()
            });
            if !knows {
                self.untold.insert(name.clone());
            }
        }
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
        let (metrics, changed) = watched.minutes.entry(minute).or_default();
        *changed = true;
        add(metrics.entry(metric).or_insert(Stat::NONE), value);
    }

    pub fn tick(&mut self, at: SequenceNumber, time_ms: i64, tick: &Ticked, common: &mut Common) {
        let minute = time_ms.div_euclid(60_000) * 60;
        if minute <= self.ticked {
            return;
        }
        self.ticked = minute;
        self.pending.iter_mut().for_each(|pending| pending.waited += 1);
        let homes: Vec<ShardId> = self.place.ring.iter().map(|(shard, _)| shard.clone()).collect();
        for home in homes {
            let is_own = home == self.place.shard;
            let alarms = self.alarms.iter().filter(|(name, _)| self.home(name) == &home);
            // Whether all windows are told.
            let mut watches: BTreeMap<Watch, bool> = BTreeMap::new();
            for (name, alarm) in alarms {
                let watch = (name.0.clone(), alarm.service.clone(), alarm.metric.clone());
                *watches.entry(watch).or_default() |= self.untold.contains(name);
            }
            // An alarm that is gone has to end.
            let is_ending = is_own && !self.standing.is_empty();
            if watches.is_empty() && !is_ending {
                continue;
            }
            let word = Arc::new(Word { minute, windows: self.windows(&watches) });
            common.words.insert((self.place.shard.clone(), at, home.clone()), word);
            if is_own {
                let windows = common.words[&(home.clone(), at, home.clone())].windows.keys().cloned().collect();
                self.hear(&Part { source: home, at, part: 0, parts_after: 0, windows }, common);
                let (listed, alarms) = (tick.open_shards.clone(), self.alarms.clone());
                self.pending.push_back(Pending { minute, listed, waited: 0, alarms, revision: self.revision });
            }
        }
        self.untold.clear();
        for watched in self.watched.values_mut() {
            watched.minutes = watched.minutes.split_off(&(minute - watched.range_secs - KEEP_SECS));
            watched.minutes.values_mut().for_each(|minute| minute.1 = false);
        }
        self.decide();
    }

    fn home(&self, (tenant, name): &Name) -> &ShardId {
        self.place.owner(home_key(tenant, name))
    }

    fn windows(&self, watches: &BTreeMap<Watch, bool>) -> BTreeMap<(Watch, i64), Stat> {
        let mut windows = BTreeMap::new();
        for (watch, all) in watches {
            let Some(watched) = self.watched.get(&(watch.0.clone(), watch.1.clone())) else { continue };
            for (minute, (metrics, _)) in watched.minutes.iter().filter(|(_, (_, changed))| *all || *changed) {
                windows.extend(metrics.get(watch.2.as_str()).map(|stat| ((watch.clone(), *minute), *stat)));
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
        let Part { source, at, .. } = part;
        let word = common.words[&(source.clone(), *at, self.place.shard.clone())].clone();
        let spoken = self.spoken.entry(source.clone()).or_default();
        if *at < spoken.at || *at == spoken.at && (spoken.is_whole || spoken.parts.contains(&part.part)) {
            return;
        }
        if *at > spoken.at {
            *spoken = Spoken { at: *at, minute: spoken.minute, ..Spoken::default() };
        }
        spoken.parts.insert(part.part);
        spoken.is_whole = spoken.parts.len() as u64 == u64::from(part.part) + u64::from(part.parts_after) + 1;
        if spoken.is_whole {
            spoken.minute = word.minute;
        }
        let known = |window: &(Watch, i64)| Some((window.clone(), *word.windows.get(window)?));
        let windows: Vec<_> = part.windows.iter().filter_map(known).collect();
        // A word in one part has all of it; of several the last to come does not tell which others there were.
        if windows.len() < part.windows.len() || part.part + part.parts_after == 0 && windows.len() < word.windows.len()
        {
            let said = &part.windows;
            common.wrong =
                Some(format!("{source} said {said:?} at its tick {at:?}, not what is in {:?}", word.windows));
        }
        let heard = self.heard.entry(source.clone()).or_default();
        match heard.back_mut() {
            Some(begun) if begun.at == *at => begun.windows.extend(windows),
            _ => heard.push_back(Heard { at: *at, minute: word.minute, windows }),
        }
        if heard.len() > WORDS_MAX {
            let oldest = heard.pop_front().unwrap();
            self.take_in(source, oldest);
        }
    }

    fn take_in(&mut self, source: &ShardId, heard: Heard) {
        for ((watch, minute), stat) in heard.windows {
            self.values.entry((source.clone(), watch)).or_default().insert(minute, stat);
        }
    }

    /// A person has set the clock back.
    pub fn reset_time(&mut self, time_ms: i64) {
        let minute = time_ms.div_euclid(60_000) * 60;
        self.ticked = self.ticked.min(minute);
        self.decided_through = self.decided_through.min(minute);
        self.spoken.values_mut().for_each(|spoken| spoken.minute = spoken.minute.min(minute));
        self.standing.values_mut().for_each(|standing| standing.1 = standing.1.min(minute));
        self.pending.clear();
    }

    fn decide(&mut self) {
        while let Some(pending) = self.pending.front() {
            let has_spoken =
                |shard: &ShardId| self.spoken.get(shard).is_some_and(|spoken| spoken.minute >= pending.minute);
            let silent: Vec<ShardId> = pending.listed.iter().filter(|shard| !has_spoken(shard)).cloned().collect();
            if !silent.is_empty() && pending.waited < WAIT_TICKS {
                return;
            }
            let pending = self.pending.pop_front().unwrap();
            self.decide_minutes(&pending, &silent);
        }
    }

    fn decide_minutes(&mut self, pending: &Pending, silent: &[ShardId]) {
        let sources: Vec<ShardId> = self.heard.keys().cloned().collect();
        for source in sources {
            while self.heard[&source].front().is_some_and(|word| word.minute <= pending.minute) {
                let word = self.heard.get_mut(&source).unwrap().pop_front().unwrap();
                self.take_in(&source, word);
            }
        }
        let own = |name: &Name| *self.home(name) == self.place.shard;
        let alarms: Vec<(Name, Alarm)> = pending
            .alarms
            .iter()
            .filter(|(name, _)| own(name))
            .map(|(name, alarm)| (name.clone(), alarm.clone()))
            .collect();
        self.standing.retain(|name, _| alarms.iter().any(|(alarm, _)| alarm == name));
        for (name, _) in &alarms {
            if !self.standing.contains_key(name) {
                self.standing.insert(name.clone(), (INSUFFICIENT, pending.minute));
                let reason = "Unchecked: Initial alarm creation".to_owned();
                self.change(name, None, INSUFFICIENT, reason, pending.minute, pending.revision);
            }
        }
        let first_standing = self.standing.values().map(|standing| standing.1).min().unwrap_or(pending.minute);
        let first = (self.decided_through + 60).max(pending.minute - DAY_SECS).max(first_standing);
        for minute in (first..=pending.minute).step_by(60) {
            for (name, alarm) in &alarms {
                self.decide_alarm(name, alarm, minute, silent, pending.revision);
            }
        }
        self.decided_through = pending.minute;
        // As long as the shards that told them.
        for ((_, (tenant, service, _)), minutes) in &mut self.values {
            let of = |((owner, _), alarm): &(&Name, &Alarm)| owner == tenant && alarm.service == *service;
            let range = pending.alarms.iter().filter(of).map(|(_, alarm)| alarm.range_secs()).max();
            *minutes = range.map_or(BTreeMap::new(), |range| minutes.split_off(&(pending.minute - range - KEEP_SECS)));
        }
    }

    fn decide_alarm(&mut self, name: &Name, alarm: &Alarm, minute: i64, silent: &[ShardId], revision: SequenceNumber) {
        let (state, since) = self.standing[name];
        if since > minute {
            return;
        }
        let points = self.points(&name.0, alarm, minute);
        let (to, used) = judge(alarm, state, &points);
        if to == state {
            return;
        }
        let mut reason = reason(alarm, to, &used);
        if !silent.is_empty() {
            let silent: Vec<&str> = silent.iter().map(ShardId::as_str).collect();
            reason += &format!(" Decided without {}, which had not spoken for this minute.", silent.join(", "));
        }
        self.change(name, Some(state), to, reason, minute, revision);
        self.standing.get_mut(name).unwrap().0 = to;
    }

    /// Start and value of each period of the evaluation range, oldest first.
    fn points(&self, tenant: &str, alarm: &Alarm, end: i64) -> Vec<(i64, Option<f64>)> {
        let watch = (tenant.to_owned(), alarm.service.clone(), alarm.metric.clone());
        let told: Vec<_> = self.values.iter().filter(|((_, of), _)| *of == watch).map(|(_, minutes)| minutes).collect();
        let start = |i| end - (alarm.range() - i) as i64 * alarm.period;
        (0..alarm.range())
            .map(|i| {
                let mut all = Stat::NONE;
                for stat in told.iter().flat_map(|minutes| minutes.range(start(i)..start(i + 1))).map(|(_, stat)| stat)
                {
                    all.count += stat.count;
                    all.sum += stat.sum;
                    all.max = all.max.max(stat.max);
                }
                (start(i), (all.count > 0).then(|| alarm.value(&all)))
            })
            .collect()
    }

    fn change(
        &mut self,
        (tenant, alarm): &Name,
        from: Option<&'static str>,
        to: &'static str,
        reason: String,
        time_secs: i64,
        revision: SequenceNumber,
    ) {
        let (tenant, alarm) = (tenant.clone(), alarm.clone());
        self.changes.push(Change { tenant, alarm, from, to, reason, time_secs, revision });
    }
}
