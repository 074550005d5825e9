//! One home: who has spoken to it, what they said, and what its alarms become.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use events::{
    event::OpenShard,
    position::{HashKey, HashRange, SequenceNumber, ShardId},
};
use projections::fold::alarms::home_key;

use super::{
    Alarms, Change, KEEP_SECS, Name, Part, Watch, Window, Word,
    rules::{Alarm, INSUFFICIENT, judge, reason},
};
use crate::model::Stat;

const WAIT_TICKS: u32 = 3;
const DAY_SECS: i64 = 86_400;
/// So many words of one source wait for their minute; the oldest is taken in then.
const WORDS_MAX: usize = 16;

/// What a home has heard of a source.
#[derive(Debug, Default, Clone)]
struct Spoken {
    /// The newest tick of which it heard anything, and which parts.
    at: SequenceNumber,
    parts: BTreeSet<u32>,
    is_whole: bool,
    /// The minute up to which it heard all.
    minute: i64,
    range: Option<HashRange>,
    has_ended: bool,
}

/// What a home has heard of one tick of a source.
#[derive(Debug, Clone)]
struct Heard {
    at: SequenceNumber,
    minute: i64,
    windows: Vec<(Window, Stat)>,
}

#[derive(Debug, Clone)]
pub struct Pending {
    pub minute: i64,
    pub listed: Vec<OpenShard>,
    pub waited: u32,
    pub alarms: Arc<Alarms>,
    pub revision: SequenceNumber,
}

/// See the module.
#[derive(Debug, Default, Clone)]
pub struct Home {
    pub ticked: i64,
    heard: BTreeMap<ShardId, VecDeque<Heard>>,
    spoken: BTreeMap<ShardId, Spoken>,
    values: BTreeMap<(ShardId, Watch), BTreeMap<i64, Stat>>,
    pub pending: VecDeque<Pending>,
    /// The state, and the first minute that is decided.
    pub standing: BTreeMap<Name, (&'static str, i64)>,
    decided_through: i64,
    pub changes: Vec<Change>,
}

impl Home {
    /// `Err`: it is not what the source had to say.
    pub fn hear(&mut self, part: &Part, word: &Word) -> Result<(), String> {
        let Part { source, at, .. } = part;
        let spoken = self.spoken.entry(source.clone()).or_default();
        if *at < spoken.at || *at == spoken.at && (spoken.is_whole || spoken.parts.contains(&part.part)) {
            return Ok(());
        }
        if *at > spoken.at {
            let (minute, has_ended) = (spoken.minute, spoken.has_ended);
            *spoken = Spoken { at: *at, minute, has_ended, range: Some(word.range), ..Spoken::default() };
        }
        spoken.parts.insert(part.part);
        spoken.is_whole = spoken.parts.len() as u64 == u64::from(part.part) + u64::from(part.parts_after) + 1;
        if spoken.is_whole {
            spoken.minute = word.minute;
        }
        for ended in &word.succeeds {
            self.spoken.entry(ended.clone()).or_default().has_ended = true;
        }
        let known = |window: &Window| Some((window.clone(), *word.windows.get(window)?));
        let windows: Vec<_> = part.windows.iter().filter_map(known).collect();
        // A word in one part has all of it; of several the last to come does not tell which others there were.
        let is_wrong = windows.len() < part.windows.len()
            || part.part + part.parts_after == 0 && windows.len() < word.windows.len();
        let heard = self.heard.entry(source.clone()).or_default();
        match heard.back_mut() {
            Some(begun) if begun.at == *at => begun.windows.extend(windows),
            _ => heard.push_back(Heard { at: *at, minute: word.minute, windows }),
        }
        if heard.len() > WORDS_MAX {
            let oldest = heard.pop_front().unwrap();
            self.take_in(source, oldest);
        }
        let said = &part.windows;
        let wrong = || format!("{source} said {said:?} at its tick {at:?}, not what is in {:?}", word.windows);
        if is_wrong { Err(wrong()) } else { Ok(()) }
    }

    fn take_in(&mut self, source: &ShardId, heard: Heard) {
        for ((of, watch, minute), stat) in heard.windows {
            // What a shard said itself came before what another says for it.
            while of != *source
                && let Some(earlier) = self.heard.get_mut(&of).and_then(VecDeque::pop_front)
            {
                self.take_in(&of, earlier);
            }
            self.values.entry((of, watch)).or_default().insert(minute, stat);
        }
    }

    pub fn reset_time(&mut self, minute: i64) {
        self.ticked = self.ticked.min(minute);
        self.decided_through = self.decided_through.min(minute);
        self.spoken.values_mut().for_each(|spoken| spoken.minute = spoken.minute.min(minute));
        self.standing.values_mut().for_each(|standing| standing.1 = standing.1.min(minute));
        self.pending.clear();
    }

    pub fn decide(&mut self, point: HashKey) {
        while let Some(pending) = self.pending.front() {
            let has_spoken = |open: &&OpenShard| self.has_spoken(open, pending.minute);
            let silent = pending.listed.iter().filter(|open| !has_spoken(open));
            let silent: Vec<ShardId> = silent.map(|open| open.shard.clone()).collect();
            if !silent.is_empty() && pending.waited < WAIT_TICKS {
                return;
            }
            let pending = self.pending.pop_front().unwrap();
            self.decide_minutes(point, &pending, &silent);
        }
    }

    fn has_spoken(&self, open: &OpenShard, minute: i64) -> bool {
        let Some(spoken) = self.spoken.get(&open.shard) else { return false };
        if spoken.minute >= minute {
            return true;
        }
        let ranges: Vec<HashRange> =
            self.spoken.values().filter(|spoken| spoken.minute >= minute).filter_map(|spoken| spoken.range).collect();
        // Where a range ends, another has to go on.
        let ends = ranges.iter().filter_map(|range| Some(HashKey(range.through.0.checked_add(1)?)));
        let mut keys = ends.filter(|key| open.range.contains(*key)).chain([open.range.from]);
        spoken.has_ended && keys.all(|key| ranges.iter().any(|range| range.contains(key)))
    }

    fn decide_minutes(&mut self, point: HashKey, pending: &Pending, silent: &[ShardId]) {
        let sources: Vec<ShardId> = self.heard.keys().cloned().collect();
        for source in sources {
            while self.heard[&source].front().is_some_and(|word| word.minute <= pending.minute) {
                let word = self.heard.get_mut(&source).unwrap().pop_front().unwrap();
                self.take_in(&source, word);
            }
        }
        let own = |name: &Name| home_key(&name.0, &name.1) == point;
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
