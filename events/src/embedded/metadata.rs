//! What the stream knows of itself as a whole: its shards and the epoch of its latest opening. Never holds anything about single records.
//!
//! The file `stream` is replaced as a whole (write the new one beside it, sync, rename, sync the folder), so it is the old one or the new one.
//! `WEIRMETA`, a version (u32), the body's length (u32), the body (MessagePack, fields by name), xxh3-64 of all before; little-endian.
//! Epoch 0 says that making the stream was not finished: nothing was ever appended.

use std::io::{self, IoSlice};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::disk::{Disk, File};
use crate::{
    position::{HashKey, HashRange, ShardId},
    stream::Shard,
};

pub(super) const PATH: &str = "stream";
const PATH_NEW: &str = "stream.new";
const MAGIC: [u8; 8] = *b"WEIRMETA";
const VERSION: u32 = 1;
/// A longer file is not ours. Room for more shards than a stream can have.
const BYTES_MAX: u64 = 64 << 20;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Metadata {
    /// Part of every checksum's seed, so that no other stream's files pass for ours.
    pub log_id: u64,
    pub epoch: u64,
    pub shards: Vec<ShardEntry>,
    /// The latest time that a person confirmed a clock that had gone back.
    pub confirmed: Option<Confirmed>,
}

/// A shard's entry. Splitting and merging add entries with parents, and close those of the parents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ShardEntry {
    pub number: u64,
    /// High and low half.
    pub from: (u64, u64),
    pub through: (u64, u64),
    pub parents: Vec<u64>,
    pub closed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Confirmed {
    /// Stamps of records of earlier epochs no longer hold the clock up.
    pub epoch: u64,
    pub from_ms: i64,
    pub to_ms: i64,
    /// The record that says so is durable.
    pub told: bool,
}

/// Why there is no metadata.
#[derive(Debug)]
pub(super) enum Unreadable {
    Io(io::Error),
    Damaged(&'static str),
    Version(u32),
}

impl Metadata {
    pub fn new(log_id: u64, shards: std::num::NonZeroU16) -> Self {
        let shards = (0..).zip(HashRange::even(shards));
        let shards = shards.map(|(number, range)| ShardEntry::new(number, range, Vec::new()));
        Self { log_id, epoch: 0, shards: shards.collect(), confirmed: None }
    }

    /// `None`: there is none.
    pub fn load<D: Disk>(disk: &D) -> Result<Option<Self>, Unreadable> {
        let file = match disk.open(PATH) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Unreadable::Io(error)),
        };
        let len = file.len().map_err(Unreadable::Io)?;
        if len > BYTES_MAX {
            return Err(Unreadable::Damaged("it is too long"));
        }
        let mut bytes = vec![0; len as usize];
        let read = file.read_at(&mut bytes, 0).map_err(Unreadable::Io)?;
        Self::from_bytes(&bytes[..read]).map(Some)
    }

    pub fn store<D: Disk>(&self, disk: &D) -> io::Result<()> {
        self.stage(disk)?;
        Self::replace(disk, true)
    }

    /// Writes it beside the one that stands. An error: that one stands.
    pub fn stage<D: Disk>(&self, disk: &D) -> io::Result<()> {
        let file = disk.create(PATH_NEW)?;
        file.write_at(&[IoSlice::new(&self.to_bytes())], 0)?;
        file.sync_data()
    }

    /// Puts what was staged in place of the one that stands. An error: either of them stands. `sync_name`: false is a law broken on purpose.
    pub fn replace<D: Disk>(disk: &D, sync_name: bool) -> io::Result<()> {
        disk.rename(PATH_NEW, PATH)?;
        if sync_name { disk.sync_folder("") } else { Ok(()) }
    }

    fn to_bytes(&self) -> Vec<u8> {
        let body = rmp_serde::to_vec_named(self).expect("numbers and lists always encode");
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&body);
        bytes.extend_from_slice(&xxh3_64(&bytes).to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, Unreadable> {
        let Some((bytes, checksum)) = bytes.split_last_chunk::<8>().filter(|(bytes, _)| bytes.len() >= 16) else {
            return Err(Unreadable::Damaged("it is too short"));
        };
        if bytes[..8] != MAGIC || xxh3_64(bytes) != u64::from_le_bytes(*checksum) {
            return Err(Unreadable::Damaged("its checksum is wrong"));
        }
        let number = |at: usize| u32::from_le_bytes(*bytes[at..].first_chunk().expect("16 bytes at least"));
        if number(8) != VERSION {
            return Err(Unreadable::Version(number(8)));
        }
        if number(12) as usize != bytes.len() - 16 {
            return Err(Unreadable::Damaged("its length is wrong"));
        }
        rmp_serde::from_slice(&bytes[16..]).map_err(|_| Unreadable::Damaged("its body cannot be read"))
    }
}

impl ShardEntry {
    pub fn new(number: u64, range: HashRange, parents: Vec<u64>) -> Self {
        let halves = |key: HashKey| ((key.0 >> 64) as u64, key.0 as u64);
        Self { number, from: halves(range.from), through: halves(range.through), parents, closed: false }
    }

    pub fn id(&self) -> ShardId {
        ShardId::numbered(self.number)
    }

    pub fn range(&self) -> HashRange {
        let key = |(high, low): (u64, u64)| HashKey(u128::from(high) << 64 | u128::from(low));
        HashRange { from: key(self.from), through: key(self.through) }
    }

    pub fn shard(&self) -> Shard {
        let parents = self.parents.iter().map(|number| ShardId::numbered(*number)).collect();
        Shard { id: self.id(), range: self.range(), parents, closed: self.closed }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn metadata_comes_back_and_a_harmed_byte_is_found() {
        let mut metadata = Metadata::new(9, 3.try_into().unwrap());
        metadata.confirmed = Some(Confirmed { epoch: 2, from_ms: 5, to_ms: -5, told: false });
        let bytes = metadata.to_bytes();
        assert_eq!(Metadata::from_bytes(&bytes).unwrap(), metadata);
        assert_eq!(metadata.shards[2].range().through, HashKey(u128::MAX));
        for at in 0..bytes.len() {
            let mut harmed = bytes.clone();
            harmed[at] ^= 1;
            assert!(Metadata::from_bytes(&harmed).is_err(), "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_no_metadata_and_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Metadata::from_bytes(&bytes).is_err());
        }
    }
}
