//! What other shards, and this one, have told a home: state by source, so that a later word replaces an earlier one. Decides no state of an alarm.

use std::collections::{BTreeMap, BTreeSet};

use events::{event::RolledUp, position::SequenceNumber};
use serde::{Deserialize, Serialize};

use super::{Alarms, Told};
use crate::{
    distribution::Distribution,
    fold::sabotage::{self, Sabotage},
};

/// Of so many ticks, at most, a home keeps apart what one source said: of more, the oldest is taken in before its minute is decided.
const HEARD_MAX: usize = 16;

/// How far a source has spoken.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Spoken {
    /// The newest of its ticks that it has said anything of.
    position: SequenceNumber,
    /// The parts of that which were heard; none: all of it was.
    parts: BTreeSet<u32>,
    /// The minute up to which all that it had to say was heard.
    pub through_secs: i64,
}

impl Alarms {
    /// A shard has spoken, or said a part. What it said before, or says again, changes nothing.
    pub fn hear(&mut self, rolled_up: RolledUp) {
        let end_secs = rolled_up.source_time_ms.div_euclid(60_000) * 60;
        let spoken = self.spoken.entry(rolled_up.source.clone()).or_default();
        // A source says all of one tick before it comes to the next.
        let is_begun = rolled_up.source_position == spoken.position;
        let is_old = rolled_up.source_position < spoken.position
            || is_begun && (spoken.parts.is_empty() || spoken.parts.contains(&rolled_up.part));
        if is_old && !sabotage::breaks(Sabotage::HeardAgain) {
            return;
        }
        if !is_begun {
            spoken.position = rolled_up.source_position;
            spoken.parts.clear();
        }
        spoken.parts.insert(rolled_up.part);
        let parts = u64::from(rolled_up.part) + u64::from(rolled_up.parts_after) + 1;
        if spoken.parts.len() as u64 >= parts || sabotage::breaks(Sabotage::FirstPartIsAll) {
            spoken.parts.clear();
            spoken.through_secs = end_secs;
        }
        let heard = self.heard.entry(rolled_up.source.clone()).or_default();
        match heard.back_mut() {
            Some(begun) if begun.source_position == rolled_up.source_position => {
                begun.windows.extend(rolled_up.windows)
            }
            _ => heard.push_back(rolled_up),
        }
        if heard.len() > HEARD_MAX
            && let Some(oldest) = heard.pop_front()
        {
            take_in(&mut self.values, oldest);
        }
    }
}

/// A source's windows replace what it said of them before.
pub(super) fn take_in(values: &mut Vec<(Told, BTreeMap<i64, serde_bytes::ByteBuf>)>, rolled_up: RolledUp) {
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
            windows: vec![RolledWindow { tenant, service, series: vec![], start_secs: 0, value: vec![0] }],
            part,
            parts_after,
            generation: 0,
        }
    }

    fn through_secs(alarms: &Alarms) -> i64 {
        alarms.spoken[&ShardId::numbered(7)].through_secs
    }

    /// As after a crash, at the resume point.
    fn restored(alarms: &Alarms) -> Alarms {
        rmp_serde::from_slice(&rmp_serde::to_vec_named(alarms).unwrap()).unwrap()
    }

    #[test]
    fn a_shard_has_spoken_once_every_part_was_heard_in_whatever_order_and_however_often() {
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let mut alarms = Alarms::default();
            alarms.hear(part(1, 0, 0));
            assert_eq!(through_secs(&alarms), 60, "one part is all there is");
            for heard in &order[..2] {
                alarms.hear(part(2, *heard, 2 - heard));
                alarms.hear(part(2, *heard, 2 - heard));
                alarms.hear(part(1, 0, 0));
                alarms = restored(&alarms);
                assert_eq!(through_secs(&alarms), 60, "{order:?}: parts are missing");
            }
            alarms.hear(part(2, order[2], 2 - order[2]));
            assert_eq!(through_secs(&alarms), 120, "{order:?}");
            let whole = rmp_serde::to_vec_named(&alarms).unwrap();
            (0..3).for_each(|again| alarms.hear(part(2, again, 2 - again)));
            assert_eq!(rmp_serde::to_vec_named(&alarms).unwrap(), whole, "{order:?}: said again, it changes nothing");
            let heard = &alarms.heard[&ShardId::numbered(7)];
            assert_eq!(heard.iter().map(|told| told.windows.len()).collect::<Vec<_>>(), [1, 3], "{order:?}");
        }
    }
}
