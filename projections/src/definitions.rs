//! Definitions as rows: immutable bodies in one order. Decides which are in force at a revision, and whether a tenant has room for another; not
//! what they mean.

use std::collections::BTreeMap;

use events::position::SequenceNumber;
use serde::{Deserialize, Serialize};

use crate::alarm::Alarm;

/// What definitions of alarms are called.
pub const ALARM: &str = "alarm";
/// What the definition is called that says which generation counts from the record on that names it. There is one name, of the local tenant.
pub const GENERATION: &str = "generation";
/// Most alarms of a tenant. A further one is refused when it is applied; one that comes onto the stream all the same is skipped as
/// `too_many_alarms`, and no row is made of it.
pub const ALARMS_MAX: usize = 1_000;
/// Most minutes that a tenant's alarms may look back, all together: that many windows are held in memory and in each resume point, and are read
/// every minute. What passes it meets the same as a further alarm.
pub const RANGE_MINUTES_MAX: i64 = 50_000;

/// One definition as it was applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// Its position on the control key: the one order of all definitions.
    pub revision: SequenceNumber,
    /// Whose it is.
    pub tenant: String,
    /// `alarm`, for now.
    pub kind: String,
    /// Unique within tenant and kind.
    pub name: String,
    /// JSON text; `null`: removed by this revision.
    pub body: String,
    /// Who applied it.
    pub by: String,
    /// When, by the fold's time, Unix milliseconds.
    pub at_ms: i64,
}

/// The subject of the row of the definition with this revision.
pub fn row_name(revision: SequenceNumber) -> String {
    format!("{:0>40}", revision.to_string())
}

impl Definition {
    /// The subject of its row. A revision is part of it, so a body is never replaced.
    pub fn row_name(&self) -> String {
        row_name(self.revision)
    }

    /// The body of its row.
    pub fn encode(&self) -> Vec<u8> {
        rmp_serde::to_vec_named(self).expect("a definition of strings and integers always encodes")
    }

    /// Reads the body of a row.
    pub fn decode(bytes: &[u8]) -> Result<Self, rmp_serde::decode::Error> {
        rmp_serde::from_slice(bytes)
    }

    /// True unless this revision removed it.
    pub fn is_alive(&self) -> bool {
        self.body.trim() != "null"
    }
}

/// The definitions in force at a revision: of each name the last one up to and including it.
pub fn in_force(all: &[Definition], revision: SequenceNumber) -> Vec<&Definition> {
    let mut last: BTreeMap<(&str, &str, &str), &Definition> = BTreeMap::new();
    for definition in all.iter().filter(|definition| definition.revision <= revision) {
        let key = (definition.tenant.as_str(), definition.kind.as_str(), definition.name.as_str());
        let newest = last.entry(key).or_insert(definition);
        if newest.revision < definition.revision {
            *newest = definition;
        }
    }
    last.into_values().filter(|definition| definition.is_alive()).collect()
}

/// Adds the next one in the order of revisions: what is left are those in force.
pub fn supersede(newest: &mut BTreeMap<(String, String, String), Definition>, definition: Definition) {
    let key = (definition.tenant.clone(), definition.kind.clone(), definition.name.clone());
    if definition.is_alive() {
        newest.insert(key, definition);
    } else {
        newest.remove(&key);
    }
}

/// What a tenant's alarms need of its limits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Room {
    /// By name: minutes that the alarm looks back.
    alarms: BTreeMap<String, i64>,
    minutes: i64,
}

/// A tenant has no room for an alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    /// Too many.
    #[error("there are {ALARMS_MAX} alarms already, which is the limit; remove some, or merge them")]
    Alarms,
    /// They look back too far.
    #[error(
        "it looks back {more} minutes and all alarms together {minutes}; the limit is {RANGE_MINUTES_MAX}. Give alarms fewer EvaluationPeriods"
    )]
    Minutes {
        /// This one.
        more: i64,
        /// With this one.
        minutes: i64,
    },
}

impl Room {
    /// What these definitions need. They have been applied: nothing is refused.
    pub fn of<'a>(definitions: impl IntoIterator<Item = &'a Definition>) -> Self {
        let mut room = Self::default();
        for definition in definitions {
            if definition.kind == ALARM {
                room.put(&definition.name, minutes(&definition.body));
            }
        }
        room
    }

    /// Makes room for a definition, or frees what the one of this name had; `Err`: there is none, and nothing was changed. One that needs no more
    /// than the one it replaces always has room.
    pub fn apply(&mut self, kind: &str, name: &str, body: &str) -> Result<(), NoRoom> {
        if kind != ALARM {
            return Ok(());
        }
        let (before, after) = (self.alarms.get(name).copied(), minutes(body));
        if let Some(more) = after {
            if before.is_none() && self.alarms.len() >= ALARMS_MAX {
                return Err(NoRoom::Alarms);
            }
            let minutes = self.minutes - before.unwrap_or(0) + more;
            if minutes > RANGE_MINUTES_MAX && minutes > self.minutes {
                return Err(NoRoom::Minutes { more, minutes });
            }
        }
        self.put(name, after);
        Ok(())
    }

    /// The alarm looks back so many minutes from now on; `None`: it is no more.
    pub(crate) fn put(&mut self, name: &str, minutes: Option<i64>) {
        let before = match minutes {
            Some(minutes) => self.alarms.insert(name.to_owned(), minutes),
            None => self.alarms.remove(name),
        };
        self.minutes += minutes.unwrap_or(0) - before.unwrap_or(0);
    }
}

/// What an alarm looks back. One that this program cannot read is not watched, and counts as an alarm all the same.
pub(crate) fn minutes(body: &str) -> Option<i64> {
    if body.trim() == "null" {
        return None;
    }
    Some(Alarm::parse(body).map_or(0, |alarm| alarm.range_secs() / 60))
}

#[cfg(test)]
mod tests;
