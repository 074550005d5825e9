//! What decisions depend on besides rows: the fold's time, alarms with their windows, and the services of the day. Written with each resume point.
//!
//! A part begins with a byte that says what it is a piece of. The pieces of one section are joined in their order.
//!
//! | section | holds | changes |
//! | --- | --- | --- |
//! | `STATE` | time and alarms, MessagePack | with every record |
//! | `SAID` | what the driver keeps beside the fold of a generation that does not count: not the fold's, and compared with nothing | with every record |
//! | `SERVICES` | whom the day has met, each piece by itself | the last piece grows; none does once everybody was met |

use bytes::Bytes;
use events::position::{SequenceNumber, ShardId};
use serde::{Deserialize, Serialize};

use super::{
    Alarms, LINEAGE_MAX, Place, Shard,
    sabotage::{self, Sabotage},
    services::Services,
};
use crate::{
    canonical::DecodeError,
    store::{Commit, PART_BYTES_MAX, PartName},
};

const VERSION: u8 = 1;
const STATE: u8 = 1;
const SERVICES: u8 = 2;
const SAID: u8 = 3;

#[derive(Serialize, Deserialize)]
pub(super) struct Snapshot<A> {
    version: u8,
    /// The first record that the state holds something of.
    pub(super) began: SequenceNumber,
    pub(super) time_ms: i64,
    /// Whose marks are the shard's own: newest first.
    pub(super) lineage: Vec<ShardId>,
    pub(super) alarms: A,
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
    /// Written by another program.
    #[error("a part of the resume point's snapshot begins with {0:?}; this program reads {STATE} and {SERVICES}")]
    Section(Option<u8>),
    /// The shard has more ancestors than its marks can be looked for in.
    #[error(
        "the shard has {0} ancestors by splits and merges, and {LINEAGE_MAX} are the limit: make the rows anew on a stream with fewer of them"
    )]
    Lineage(usize),
    /// Not what was written.
    #[error("the services in the snapshot of the resume point cannot be decoded: {0}")]
    Services(#[from] DecodeError),
}

impl Shard {
    /// The state besides rows, in parts that each fit into one item.
    pub(super) fn snapshot(&self) -> Vec<Bytes> {
        let (began, time_ms, lineage, alarms) = (self.began, self.time_ms, self.lineage.clone(), &self.alarms);
        let snapshot = Snapshot { version: VERSION, began, time_ms, lineage, alarms };
        let bytes = Bytes::from(rmp_serde::to_vec_named(&snapshot).expect("a snapshot of plain data always encodes"));
        let state = bytes.chunks(PART_BYTES_MAX - 1).map(|piece| part(STATE, piece));
        state.chain(self.services.snapshot().iter().map(|piece| part(SERVICES, piece))).collect()
    }

    /// The shard as it was at a resume point.
    pub fn restore(place: Place, position: SequenceNumber, parts: &[Bytes]) -> Result<Self, BadSnapshot> {
        let (snapshot, services) = read(parts)?;
        let mut shard = Self::new(place);
        shard.began = snapshot.began;
        shard.position = position;
        shard.resume_point = position;
        shard.time_ms = snapshot.time_ms;
        shard.lineage = snapshot.lineage;
        shard.alarms = snapshot.alarms;
        if !sabotage::breaks(Sabotage::ServicesNotRestored) {
            let day_of_ms = if sabotage::breaks(Sabotage::DayNotRestored) { 0 } else { snapshot.time_ms };
            shard.services = Services::restore(day_of_ms, &services)?;
        }
        if sabotage::breaks(Sabotage::TimeNotRestored) {
            shard.time_ms = 0;
        }
        if sabotage::breaks(Sabotage::AlarmsNotRestored) {
            shard.alarms = Alarms::default();
        }
        shard.alarms.restore();
        shard.live = shard.alarms.live();
        Ok(shard)
    }
}

/// What the parts of a resume point say: the state, and the pieces that tell of the day's services.
type Pieces<'a> = (Snapshot<Alarms>, Vec<&'a [u8]>);

pub(super) fn read(parts: &[Bytes]) -> Result<Pieces<'_>, BadSnapshot> {
    let (mut state, mut services) = (vec![], vec![]);
    for part in parts {
        match part.split_first() {
            Some((&STATE, piece)) => state.extend_from_slice(piece),
            Some((&SERVICES, piece)) => services.push(piece),
            Some((&SAID, _)) => {}
            other => return Err(BadSnapshot::Section(other.map(|(section, _)| *section))),
        }
    }
    let snapshot: Snapshot<Alarms> = rmp_serde::from_slice(&state)?;
    if snapshot.version != VERSION {
        return Err(BadSnapshot::Version(snapshot.version));
    }
    Ok((snapshot, services))
}

/// Adds parts to a commit in which whoever drives the fold keeps bytes of its own; none: no parts. Like those of the fold, they are named by what they
/// say: a worker that comes to the same position by another way may have others.
pub fn keep_beside(commit: &mut Commit, bytes: &[u8]) {
    for (i, piece) in bytes.chunks(PART_BYTES_MAX - 1).enumerate() {
        let name = PartName(format!("said-{i}-{:032x}", xxhash_rust::xxh3::xxh3_128(piece)));
        commit.checkpoint.parts.push(name.clone());
        commit.parts.push((name, part(SAID, piece)));
    }
}

/// What `beside` kept.
pub fn kept_beside(parts: &[Bytes]) -> Vec<u8> {
    let pieces = parts.iter().filter_map(|part| part.strip_prefix(&[SAID]));
    pieces.flatten().copied().collect()
}

fn is_own(part: &&Bytes) -> bool {
    part.first() != Some(&SAID)
}

/// The first record that a snapshot holds something of: one older than the stream's oldest means that it cannot be recomputed.
pub fn applied_from(parts: &[Bytes]) -> Result<SequenceNumber, BadSnapshot> {
    Ok(read(parts)?.0.began)
}

/// The fold's time at a resume point, Unix milliseconds.
pub fn time_ms(parts: &[Bytes]) -> Result<i64, BadSnapshot> {
    Ok(read(parts)?.0.time_ms)
}

/// What the snapshot of a resume point holds that is not what the stream says; `None`: both are equal to the byte, also in what has not led to a
/// decision yet.
pub fn difference(stored: &[Bytes], replayed: &[Bytes]) -> Option<String> {
    if stored.iter().filter(is_own).eq(replayed.iter().filter(is_own)) {
        return None;
    }
    let ((stored, met), (replayed, meets)) = match (read(stored), read(replayed)) {
        (Ok(stored), Ok(replayed)) => (stored, replayed),
        (Err(error), _) | (_, Err(error)) => return Some(error.to_string()),
    };
    if stored.began != replayed.began {
        return Some(format!("it begins at {} where the stream says {}", stored.began, replayed.began));
    }
    if stored.time_ms != replayed.time_ms {
        return Some(format!("its time is {} ms where the stream says {} ms", stored.time_ms, replayed.time_ms));
    }
    if stored.lineage != replayed.lineage {
        return Some("it has other ancestors than the stream says".to_owned());
    }
    if met != meets {
        return Some("it has met other services of its day than the stream says".to_owned());
    }
    let names: Vec<String> = stored.alarms.differing(&replayed.alarms).map(|name| format!("`{name}`")).collect();
    Some(match names.as_slice() {
        [] => "its alarms are others than the stream says".to_owned(),
        names => format!("of its alarms it holds other {} than the stream says", names.join(", ")),
    })
}

fn part(section: u8, piece: &[u8]) -> Bytes {
    let mut part = Vec::with_capacity(1 + piece.len());
    part.push(section);
    part.extend_from_slice(piece);
    part.into()
}
