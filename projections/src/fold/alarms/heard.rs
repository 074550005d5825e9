//! What other shards, and this one, have told a home: state by source, so that a later word replaces an earlier one. Decides no state of an alarm.

use std::collections::BTreeMap;

use events::event::RolledUp;

use super::{Alarms, Told};
use crate::{
    distribution::Distribution,
    fold::sabotage::{self, Sabotage},
};

/// Most rolled-up records that a home keeps of one source: later ones replace the oldest.
const HEARD_MAX: usize = 16;

impl Alarms {
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
