//! Which definitions alarms are decided by: those in force, and earlier ones for as long as a minute waits that has them. Decides no state.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use events::position::SequenceNumber;
use serde::{Deserialize, Serialize};

use super::{Alarms, Name, homes};
use crate::{
    alarm::Alarm,
    definitions::{self, Definition},
    fold::sabotage::{self, Sabotage},
};

/// Definitions, and the revision that made them so.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct InForce {
    pub revision: SequenceNumber,
    pub all: Vec<Definition>,
}

/// The same in a form that can be decided by.
#[derive(Debug, Default)]
pub(super) struct Defined {
    pub revision: SequenceNumber,
    pub alarms: BTreeMap<Name, Alarm>,
    /// The names at home there.
    at_home: BTreeMap<u8, Vec<Name>>,
    /// By tenant and service, the longest range of an alarm on it.
    pub ranges: BTreeMap<(String, String), i64>,
}

impl Defined {
    pub fn of(in_force: &InForce) -> Self {
        let mut defined = Self { revision: in_force.revision, ..Self::default() };
        for of in in_force.all.iter().filter(|definition| definition.kind == definitions::ALARM) {
            // What cannot be parsed was refused when it was applied; a definition of a newer program is none of ours.
            let Ok(alarm) = Alarm::parse(&of.body) else { continue };
            let range = defined.ranges.entry((of.tenant.clone(), alarm.service.clone())).or_default();
            *range = alarm.range_secs().max(*range);
            defined.alarms.insert((of.tenant.clone(), of.name.clone()), alarm);
        }
        for name in defined.alarms.keys() {
            defined.at_home.entry(homes::of(&name.0, &name.1)).or_default().push(name.clone());
        }
        defined
    }

    /// The alarms that live in a home, in the order of their names.
    pub fn at_home(&self, home: u8) -> impl Iterator<Item = (&Name, &Alarm)> {
        self.at_home.get(&home).into_iter().flatten().map(|name| (name, &self.alarms[name]))
    }

    /// Names of alarms of whose windows a home may not have been told all: they look at something else than before, or further back.
    pub fn newer_than<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = &'a Name> {
        let sees_no_more = |name, alarm: &Alarm| {
            before.alarms.get(name).is_some_and(|was: &Alarm| {
                (&was.service, &was.series) == (&alarm.service, &alarm.series) && was.range_secs() >= alarm.range_secs()
            })
        };
        self.alarms.iter().filter(move |(name, alarm)| !sees_no_more(*name, alarm)).map(|(name, _)| name)
    }
}

impl Alarms {
    /// Puts definitions in force.
    pub fn define(&mut self, revision: SequenceNumber, all: &[Definition]) {
        let is_later = sabotage::breaks(Sabotage::LaterDefinitionsUsed);
        let through = if is_later { SequenceNumber::MAX } else { revision };
        let all = definitions::in_force(all, through).into_iter().cloned().collect();
        let before = std::mem::replace(&mut self.in_force, InForce { revision, all });
        if sabotage::breaks(Sabotage::PendingByLaterDefinitions) {
            let waiting = self.homes.values_mut().flat_map(|home| &mut home.pending);
            waiting
                .filter(|pending| pending.revision == before.revision)
                .for_each(|pending| pending.revision = revision);
        }
        self.earlier.push(before);
        self.forget_earlier();
        let defined = Arc::new(Defined::of(&self.in_force));
        let before = std::mem::replace(&mut self.defined, defined);
        // A home that is new to these windows has never been told them, and may have forgotten what lies further back than it looked.
        self.untold.extend(self.defined.newer_than(&before).cloned());
        self.watch();
        self.named(revision);
    }

    /// Those of a revision that a minute was to be decided by.
    pub(super) fn defined_at(&mut self, revision: SequenceNumber) -> Arc<Defined> {
        if let Some(parsed) = self.parsed.get(&revision) {
            return parsed.clone();
        }
        let earlier = self.earlier.iter().find(|earlier| earlier.revision == revision);
        let Some(earlier) = earlier.filter(|_| revision != self.in_force.revision) else { return self.defined.clone() };
        let parsed = Arc::new(Defined::of(earlier));
        self.parsed.insert(revision, parsed.clone());
        parsed
    }

    /// What no minute waits for is needed no more.
    pub(super) fn forget_earlier(&mut self) {
        if self.earlier.is_empty() {
            return;
        }
        let waiting = self.homes.values().flat_map(|home| &home.pending).map(|pending| pending.revision);
        let mut needed: BTreeSet<SequenceNumber> = waiting.collect();
        needed.remove(&self.in_force.revision);
        self.earlier.sort_by_key(|earlier| earlier.revision);
        self.earlier.dedup_by_key(|earlier| earlier.revision);
        self.earlier.retain(|earlier| needed.contains(&earlier.revision));
        self.parsed.retain(|revision, _| needed.contains(revision));
    }
}
