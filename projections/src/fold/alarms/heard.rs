//! What a home was told by the shards that have lines: state by source, so that a later word replaces an earlier one; and who has spoken for which keys.
//! Decides no state of an alarm.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use events::{
    event::{OpenShard, RolledUp, RolledWindow},
    position::{HashKey, HashRange, SequenceNumber, ShardId},
};
use serde::{Deserialize, Serialize};

use super::{Home, Values, minute};
use crate::{
    distribution::Distribution,
    fold::sabotage::{self, Sabotage},
};

/// Of so many ticks, at most, a home keeps apart what one source said: of more, the oldest is taken in before its minute is decided.
const HEARD_MAX: usize = 16;
/// A word so old says nothing of a window that any evaluation range still reaches (the longest is three weeks), and is not heeded. So a shard that
/// ended so long ago can be forgotten: what stands on the stream again of its words changes nothing.
const FORGOTTEN_SECS: i64 = 22 * 86_400;

/// How far a source has spoken.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Spoken {
    /// The newest of its ticks that it has said anything of.
    position: SequenceNumber,
    /// The parts of that which were heard; none: all of it was.
    parts: BTreeSet<u32>,
    /// The minute up to which all that it had to say was heard.
    pub through_secs: i64,
    /// Its keys; `None`: it never spoke here.
    range: Option<HashRange>,
    /// The minute at which one that took over from it has spoken.
    ended_secs: Option<i64>,
}

/// What was said at one tick.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Heard {
    position: SequenceNumber,
    end_secs: i64,
    windows: Vec<RolledWindow>,
}

impl Home {
    /// A shard has spoken, or said a part. What it said before, or says again, changes nothing.
    pub fn hear(&mut self, word: RolledUp, now_secs: i64) {
        let end_secs = minute(word.source_time_ms);
        let spoken = self.spoken.entry(word.source.clone()).or_default();
        // A source says all of one tick before it comes to the next.
        let is_begun = word.source_position == spoken.position;
        let is_old = word.source_position < spoken.position
            || is_begun && (spoken.parts.is_empty() || spoken.parts.contains(&word.part));
        if (is_old || end_secs < now_secs - FORGOTTEN_SECS) && !sabotage::breaks(Sabotage::HeardAgain) {
            return;
        }
        if !is_begun {
            spoken.position = word.source_position;
            spoken.parts.clear();
        }
        spoken.range = Some(word.source_range);
        spoken.parts.insert(word.part);
        let parts = u64::from(word.part) + u64::from(word.parts_after) + 1;
        if spoken.parts.len() as u64 >= parts || sabotage::breaks(Sabotage::FirstPartIsAll) {
            spoken.parts.clear();
            spoken.through_secs = end_secs;
        }
        for ended in word.succeeds {
            self.spoken.entry(ended).or_default().ended_secs.get_or_insert(end_secs);
        }
        let (source, position) = (word.source, word.source_position);
        let heard = self.heard.entry(source.clone()).or_default();
        match heard.back_mut() {
            Some(begun) if begun.position == position => begun.windows.extend(word.windows),
            _ => heard.push_back(Heard { position, end_secs, windows: word.windows }),
        }
        if heard.len() > HEARD_MAX
            && let Some(oldest) = heard.pop_front()
        {
            self.take_in(&source, oldest);
        }
    }

    /// Takes in what was said up to a minute.
    pub fn take_in_through(&mut self, end_secs: i64) {
        let sources: Vec<ShardId> = self.heard.keys().cloned().collect();
        for source in sources {
            let is_due = |told: &mut Heard| told.end_secs <= end_secs || sabotage::breaks(Sabotage::LaterNewsUsed);
            while let Some(told) = self.heard.get_mut(&source).and_then(|heard| heard.pop_front_if(is_due)) {
                self.take_in(&source, told);
            }
        }
        self.heard.retain(|_, heard| !heard.is_empty());
    }

    /// A source's windows replace what was said of them before.
    fn take_in(&mut self, source: &ShardId, told: Heard) {
        for window in told.windows {
            if let Some(ended) = &window.of {
                // What it said itself came before, whatever the names.
                while let Some(earlier) = self.heard.get_mut(ended).and_then(VecDeque::pop_front) {
                    self.take_in(ended, earlier);
                }
            }
            put(&mut self.values, source, window);
        }
    }

    /// Of the shards that a tick listed, those that have not spoken for its minute. For one that has ended without a word, those have to speak that
    /// have its keys now.
    pub fn silent(&self, listed: &[OpenShard], end_secs: i64) -> Vec<ShardId> {
        let has_spoken = |open: &&OpenShard| {
            self.spoken.get(&open.shard).is_some_and(|spoken| {
                let covered = || self.covers(open.range, end_secs) || sabotage::breaks(Sabotage::EndSaysAll);
                spoken.through_secs >= end_secs || spoken.ended_secs.is_some() && covered()
            })
        };
        listed.iter().filter(|open| !has_spoken(open)).map(|open| open.shard.clone()).collect()
    }

    /// True if for every key of the range somebody has spoken.
    fn covers(&self, range: HashRange, end_secs: i64) -> bool {
        let spoken = self.spoken.values().filter(|spoken| spoken.through_secs >= end_secs);
        let mut ranges: Vec<HashRange> = spoken.filter_map(|spoken| spoken.range).collect();
        ranges.sort_by_key(|spoken| spoken.from);
        let mut next = range.from.0;
        for spoken in ranges {
            if spoken.contains(HashKey(next)) {
                if spoken.through >= range.through {
                    return true;
                }
                next = spoken.through.0 + 1;
            }
        }
        false
    }

    /// Whoever ended so long ago that nothing it said is heeded any more is forgotten.
    pub fn forget_ended(&mut self, now_secs: i64) {
        self.spoken.retain(|_, spoken| spoken.ended_secs.is_none_or(|ended| ended >= now_secs - FORGOTTEN_SECS));
    }
}

fn put(values: &mut Values, source: &ShardId, window: RolledWindow) {
    let told = (window.of.unwrap_or_else(|| source.clone()), window.tenant, window.service, window.series);
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

/// What a broken law makes of two encoded values.
#[cold]
fn sum(one: &[u8], other: &[u8]) -> Vec<u8> {
    let decode = |mut bytes: &[u8]| Distribution::decode(&mut bytes).unwrap_or_default();
    let (mut sum, mut bytes) = (decode(one), vec![]);
    sum.merge(&decode(other));
    sum.encode(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use events::{event::RolledWindow, position::ShardId};

    use super::*;

    fn part(position: u64, part: u32, parts_after: u32) -> RolledUp {
        let (tenant, service) = ("t".to_owned(), format!("service of part {part}"));
        RolledUp {
            source: ShardId::numbered(7),
            source_position: SequenceNumber::from_parts(1, position),
            source_time_ms: position as i64 * 60_000,
            source_range: HashRange { from: HashKey(0), through: HashKey(9) },
            succeeds: vec![],
            home: 0,
            windows: vec![RolledWindow { tenant, service, series: vec![], start_secs: 0, of: None, value: vec![0] }],
            part,
            parts_after,
            generation: 0,
        }
    }

    fn through_secs(home: &Home) -> i64 {
        home.spoken[&ShardId::numbered(7)].through_secs
    }

    /// As after a crash, at the resume point.
    fn restored(home: &Home) -> Home {
        rmp_serde::from_slice(&rmp_serde::to_vec_named(home).unwrap()).unwrap()
    }

    #[test]
    fn a_shard_has_spoken_once_every_part_was_heard_in_whatever_order_and_however_often() {
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let mut home = Home::default();
            home.hear(part(1, 0, 0), 0);
            assert_eq!(through_secs(&home), 60, "one part is all there is");
            for heard in &order[..2] {
                home.hear(part(2, *heard, 2 - heard), 0);
                home.hear(part(2, *heard, 2 - heard), 0);
                home.hear(part(1, 0, 0), 0);
                home = restored(&home);
                assert_eq!(through_secs(&home), 60, "{order:?}: parts are missing");
            }
            home.hear(part(2, order[2], 2 - order[2]), 0);
            assert_eq!(through_secs(&home), 120, "{order:?}");
            let whole = rmp_serde::to_vec_named(&home).unwrap();
            (0..3).for_each(|again| home.hear(part(2, again, 2 - again), 0));
            assert_eq!(rmp_serde::to_vec_named(&home).unwrap(), whole, "{order:?}: said again, it changes nothing");
            let heard = &home.heard[&ShardId::numbered(7)];
            assert_eq!(heard.iter().map(|told| told.windows.len()).collect::<Vec<_>>(), [1, 3], "{order:?}");
        }
    }
}
