//! What the alarms of a child begin with. Decides which of its parents' homes it keeps, and for which of their windows it speaks.
//!
//! | of a parent | the child |
//! | --- | --- |
//! | homes | has those whose points it owns, whole: standings, what was heard, minutes that wait |
//! | windows that it watched | speaks for them in the parent's name, if it owns the parent's first key: what was not told yet at its first tick, all of it where an alarm is new |
//! | the minute that it told last | the earliest of all parents: of the others' records nothing was told for later ones |

use std::sync::Arc;

use events::position::{HashRange, ShardId};

use super::{Alarms, in_force::Defined};
use crate::fold::sabotage::{self, Sabotage};

impl Alarms {
    /// The child that owns these keys. A parent's state is that of its last resume point.
    pub fn inherit(parents: Vec<(ShardId, Self)>, range: HashRange) -> Self {
        let mut child = Self { range: Some(range), ..Self::default() };
        child.ticked_secs = parents.iter().map(|(_, parent)| parent.ticked_secs).min().unwrap_or_default();
        for (_, parent) in &parents {
            child.applied.extend(parent.applied.iter().cloned());
            child.earlier.extend(parent.earlier.iter().chain([&parent.in_force]).cloned());
            if parent.in_force.revision > child.in_force.revision {
                child.in_force = parent.in_force.clone();
            }
        }
        child.defined = Arc::new(Defined::of(&child.in_force));
        for (name, parent) in parents {
            let newer = child.defined.newer_than(&Defined::of(&parent.in_force)).cloned().collect::<Vec<_>>();
            child.untold.extend(parent.untold.iter().cloned().chain(newer));
            child.take_windows(&name, &parent, range);
            child.succeeds.push(name);
            if !parent.has_spoken {
                // Nobody has heard from it whom it succeeds.
                child.succeeds.extend(parent.succeeds);
            }
            let owns = |home: &u8| range.contains(super::point(*home)) || sabotage::breaks(Sabotage::HomesOfAll);
            let mut homes = parent.homes;
            homes.retain(|home, _| owns(home) && !sabotage::breaks(Sabotage::HomesLeftBehind));
            if sabotage::breaks(Sabotage::MinutesLeftBehind) {
                homes.values_mut().for_each(|home| home.pending.clear());
            }
            child.homes.append(&mut homes);
        }
        child.forget_earlier();
        child.named(child.in_force.revision);
        child.watch();
        child
    }
}
