//! When a minute may be decided, and what its alarms become: from what was told up to it, by the definitions of its tick.

use std::collections::{BTreeMap, HashMap};

use events::position::{SequenceNumber, ShardId};
use rustc_hash::FxBuildHasher;
use serde::{Deserialize, Serialize};

use super::{Alarms, Home, KEEP_SECS, LATE_TICKS_MAX, Name, Pending, Standing, Told, Values, in_force::Defined};
use crate::{
    alarm::{self, Alarm, State},
    distribution::Distribution,
    fold::{
        WALK_MAX_SECS,
        sabotage::{self, Sabotage},
    },
};

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
}

impl Alarms {
    /// Decides the minutes that wait no longer.
    pub fn decide(&mut self) {
        let mut homes = std::mem::take(&mut self.homes);
        for (number, home) in &mut homes {
            while let Some((pending, silent)) = home.next_due() {
                let defined = self.defined_at(pending.revision);
                home.decide_through(*number, pending.end_secs, &silent, &defined);
                self.decisions.append(&mut home.decisions);
            }
        }
        self.homes = homes;
        self.forget_earlier();
    }
}

impl Home {
    /// The first minute that waits, if it waits no longer, and who is silent.
    fn next_due(&mut self) -> Option<(Pending, Vec<ShardId>)> {
        let pending = self.pending.front()?;
        let silent = self.silent(&pending.listed, pending.end_secs);
        let is_early = sabotage::breaks(Sabotage::DecidedEarly);
        if !silent.is_empty() && pending.waited_ticks < LATE_TICKS_MAX && !is_early {
            return None;
        }
        self.pending.pop_front().map(|pending| (pending, silent))
    }

    fn decide_through(&mut self, number: u8, end_secs: i64, silent: &[ShardId], defined: &Defined) {
        self.take_in_through(end_secs);
        self.begin_and_end(number, defined, end_secs);
        let mut walked = (self.decided_through_secs + 60).max(end_secs - WALK_MAX_SECS);
        if sabotage::breaks(Sabotage::JumpNotWalked) {
            walked = end_secs;
        }
        for (name, alarm) in defined.at_home(number) {
            self.decide_alarm(name, alarm, (walked, end_secs), silent, defined.revision);
        }
        self.decided_through_secs = end_secs;
        // Just as long as the shards keep them, which tell them anew to a home that is new to them: else what an alarm finds there when it
        // begins would depend on which others are at home with it.
        for ((_, tenant, service, _), windows) in &mut self.values {
            let range = defined.ranges.get(&(tenant.clone(), service.clone()));
            *windows = range.map_or(BTreeMap::new(), |range| windows.split_off(&(end_secs - range - KEEP_SECS)));
        }
        self.values.retain(|(_, windows)| !windows.is_empty());
    }

    /// Alarms that are new stand at the beginning; those that are gone stand nowhere.
    fn begin_and_end(&mut self, number: u8, defined: &Defined, minute: i64) {
        self.standings.retain(|name, _| defined.alarms.contains_key(name));
        for (name, _) in defined.at_home(number) {
            if self.standings.contains_key(name) {
                continue;
            }
            let state = State::InsufficientData;
            self.standings.insert(name.clone(), Standing { state, since_secs: minute });
            self.decisions.push(Decision {
                tenant: name.0.clone(),
                alarm: name.1.clone(),
                from: None,
                to: state,
                reason: "Unchecked: Initial alarm creation".into(),
                reason_data: String::new(),
                time_secs: minute,
                revision: defined.revision,
            });
        }
    }

    /// Decides the minutes from `first` to `last` that come after its beginning.
    fn decide_alarm(
        &mut self,
        name: &Name,
        alarm: &Alarm,
        (first, last): (i64, i64),
        silent: &[ShardId],
        revision: SequenceNumber,
    ) {
        let Some(standing) = self.standings.get_mut(name) else { return };
        let mut periods = Periods::of(&self.values, &name.0, alarm);
        for end_secs in (first.max(standing.since_secs)..=last).step_by(60) {
            let verdict = alarm.decide(standing.state, &periods.before(end_secs), end_secs);
            if verdict.to == standing.state {
                continue;
            }
            let mut reason = verdict.reason;
            if !silent.is_empty() {
                let names: Vec<&str> = silent.iter().map(ShardId::as_str).collect();
                reason
                    .push_str(&format!(" Decided without {}, which had not spoken for this minute.", names.join(", ")));
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
    }
}

/// What an alarm sees of what was told, merged over all sources; each period once, however many minutes are decided by it.
struct Periods<'a> {
    alarm: &'a Alarm,
    told: Vec<&'a BTreeMap<i64, serde_bytes::ByteBuf>>,
    by_start: HashMap<i64, Option<f64>, FxBuildHasher>,
}

impl<'a> Periods<'a> {
    fn of(values: &'a Values, tenant: &str, alarm: &'a Alarm) -> Self {
        let series = alarm.series.encode();
        let is_seen = |(_, of, service, told): &Told| of == tenant && *service == alarm.service && *told == series;
        let told = values.iter().filter(|(of, _)| is_seen(of)).map(|(_, windows)| windows).collect();
        Self { alarm, told, by_start: HashMap::default() }
    }

    /// The periods of the evaluation range that ends at `end_secs`, oldest first.
    fn before(&mut self, end_secs: i64) -> Vec<Option<f64>> {
        let period = i64::from(self.alarm.period_secs);
        let range = i64::from(alarm::evaluation_range(self.alarm.evaluation_periods));
        let Self { alarm, told, by_start } = self;
        (0..range)
            .map(|i| {
                let start = end_secs - (range - i) * period;
                *by_start.entry(start).or_insert_with(|| {
                    let mut values = Distribution::default();
                    for value in told.iter().flat_map(|windows| windows.range(start..start + period)) {
                        // It was encoded by a fold, or checked when it was heard.
                        if let Ok(value) = Distribution::decode(&mut value.1.as_slice()) {
                            values.merge(&value);
                        }
                    }
                    alarm.statistic.of(&values)
                })
            })
            .collect()
    }
}
