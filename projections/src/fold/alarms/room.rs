//! Whether a tenant has room for another alarm: on the control shard, where definitions have their order. What is counted is what is in force and
//! what was applied since, both part of the snapshot, so a replay refuses the same definitions.

use events::position::SequenceNumber;
use serde::{Deserialize, Serialize};

use super::{Alarms, Name};
use crate::definitions::{self, Definition, NoRoom, Room};

/// A definition that no record has named yet.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Applied {
    name: Name,
    revision: SequenceNumber,
    /// What it looks back; `None`: it was removed.
    minutes: Option<i64>,
}

impl Alarms {
    /// Somebody applies a definition; `Err`: there is no room for it, and it must not become a row.
    pub fn apply(&mut self, definition: &Definition) -> Result<(), NoRoom> {
        let Definition { tenant, kind, name, body, .. } = definition;
        if kind != definitions::ALARM {
            return Ok(());
        }
        if !self.rooms.contains_key(tenant) {
            self.rooms.insert(tenant.clone(), self.room(tenant));
        }
        if let Some(room) = self.rooms.get_mut(tenant) {
            room.apply(kind, name, body)?;
        }
        let name = (tenant.clone(), name.clone());
        self.applied.retain(|applied| applied.name != name);
        self.applied.push(Applied { name, revision: definition.revision, minutes: definitions::minutes(body) });
        Ok(())
    }

    fn room(&self, tenant: &str) -> Room {
        let mut room = Room::of(self.in_force.all.iter().filter(|definition| definition.tenant == tenant));
        for applied in self.applied.iter().filter(|applied| applied.name.0 == tenant) {
            room.put(&applied.name.1, applied.minutes);
        }
        room
    }

    /// A record has named a revision: what was applied up to it is in force, or was replaced.
    pub(super) fn named(&mut self, revision: SequenceNumber) {
        self.applied.retain(|applied| applied.revision > revision);
        self.applied.sort_by_key(|applied| applied.revision);
        self.applied.dedup_by_key(|applied| applied.revision);
        self.rooms.clear();
    }
}
