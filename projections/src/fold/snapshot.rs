//! What decisions depend on besides rows: the fold's time, and alarms with their windows. Written with each resume point.

use bytes::Bytes;
use events::position::SequenceNumber;
use serde::{Deserialize, Serialize};

use super::{
    Alarms, Place, Shard,
    sabotage::{self, Sabotage},
};
use crate::store::PART_BYTES_MAX;

const VERSION: u8 = 1;

#[derive(Serialize, Deserialize)]
struct Snapshot<A> {
    version: u8,
    time_ms: i64,
    alarms: A,
}

/// The snapshot of a resume point cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BadSnapshot {
    /// Not what was written.
    #[error("the snapshot of the resume point cannot be decoded: {0}")]
    Malformed(#[from] rmp_serde::decode::Error),
    /// Written by a newer program.
    #[error("the snapshot of the resume point has version {0}; this program reads version {VERSION}")]
    Version(u8),
}

impl Shard {
    /// The state besides rows, in parts that each fit into one item.
    pub(super) fn snapshot(&self) -> Vec<Bytes> {
        let snapshot = Snapshot { version: VERSION, time_ms: self.time_ms, alarms: &self.alarms };
        let bytes = Bytes::from(rmp_serde::to_vec_named(&snapshot).expect("a snapshot of plain data always encodes"));
        (0..bytes.len())
            .step_by(PART_BYTES_MAX)
            .map(|at| bytes.slice(at..bytes.len().min(at + PART_BYTES_MAX)))
            .collect()
    }

    /// The shard as it was at a resume point.
    pub fn restore(place: Place, position: SequenceNumber, parts: &[Bytes]) -> Result<Self, BadSnapshot> {
        let snapshot: Snapshot<Alarms> = rmp_serde::from_slice(&parts.concat())?;
        if snapshot.version != VERSION {
            return Err(BadSnapshot::Version(snapshot.version));
        }
        let mut shard = Self::new(place);
        shard.position = position;
        shard.time_ms = snapshot.time_ms;
        shard.alarms = snapshot.alarms;
        if sabotage::breaks(Sabotage::TimeNotRestored) {
            shard.time_ms = 0;
        }
        if sabotage::breaks(Sabotage::AlarmsNotRestored) {
            shard.alarms = Alarms::default();
        }
        shard.alarms.restore();
        Ok(shard)
    }
}
