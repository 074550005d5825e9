//! One file of a shard's log: its name, its header and where its bytes stand. Decides whether a header belongs there; frames are `frame`'s.
//!
//! The header fills the first 4096 bytes, so that no frame ever shares a page with it. Numbers are little-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 0–7 | `WEIRLOG` and the version, 1 |
//! | 8–15 | the stream's id |
//! | 16–23 | shard |
//! | 24–31 | first offset of the shard's log in this segment, as in the file's name |
//! | 32–39 | epoch of the opening that made it |
//! | 40–47 | first offset of the segment before; all ones: this is the first ever |
//! | 48–63 | epoch and offset of the last record before this segment; zeros: there was none |
//! | 64–71 | arrival stamp of that record |
//! | 72–79 | highest arrival stamp in the segment before |
//! | 80–87 | xxh3-64 of bytes 0–79 |

use std::io::{self, IoSlice};

use xxhash_rust::xxh3::xxh3_64;

use super::{
    disk::{Disk, File},
    frame::{ALIGN, Place},
};
use crate::position::{SequenceNumber, ShardId};

/// Where the first frame stands in the file.
pub(super) const HEADER_BYTES: u64 = 4096;
const MAGIC: [u8; 8] = *b"WEIRLOG\x01";
const FIELDS_BYTES: usize = 88;
const NONE_BEFORE: u64 = u64::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub log_id: u64,
    pub shard: u64,
    pub first: u64,
    pub epoch: u64,
    pub before: Before,
}

/// What a segment knows of the log before it, so that a missing one and a trimmed one can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Before {
    pub first: Option<u64>,
    pub last: SequenceNumber,
    pub last_stamp_ms: i64,
    pub highest_stamp_ms: i64,
}

impl Before {
    /// Before the first segment of all.
    pub const NOTHING: Self =
        Self { first: None, last: SequenceNumber::ZERO, last_stamp_ms: i64::MIN, highest_stamp_ms: i64::MIN };
}

impl Header {
    pub fn to_bytes(self) -> Vec<u8> {
        let (last_epoch, last_offset) = self.before.last.parts().expect("a record of this stream");
        let mut bytes = MAGIC.to_vec();
        for number in [self.log_id, self.shard, self.first, self.epoch, self.before.first.unwrap_or(NONE_BEFORE)] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for number in [last_epoch, last_offset] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&self.before.last_stamp_ms.to_le_bytes());
        bytes.extend_from_slice(&self.before.highest_stamp_ms.to_le_bytes());
        bytes.extend_from_slice(&xxh3_64(&bytes).to_le_bytes());
        debug_assert_eq!(bytes.len(), FIELDS_BYTES);
        bytes.resize(HEADER_BYTES as usize, 0);
        bytes
    }

    /// `None`: not a header, or harmed.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let fields: &[u8; FIELDS_BYTES] = bytes.first_chunk()?;
        let word = |at: usize| u64::from_le_bytes(*fields[at..].first_chunk().expect("at most 80"));
        if fields[..8] != MAGIC || word(80) != xxh3_64(&fields[..80]) || !is_possible(word(24)) {
            return None;
        }
        Some(Self {
            log_id: word(8),
            shard: word(16),
            first: word(24),
            epoch: word(32),
            before: Before {
                first: Some(word(40)).filter(|first| *first != NONE_BEFORE),
                last: SequenceNumber::from_parts(word(48), word(56)),
                last_stamp_ms: word(64) as i64,
                highest_stamp_ms: word(72) as i64,
            },
        })
    }
}

/// An open segment. Which of its bytes are records, its shard knows.
#[derive(Debug)]
pub(super) struct Segment<F> {
    pub path: String,
    pub file: F,
    pub header: Header,
    pub place: Place,
}

impl<F> Segment<F> {
    pub fn first(&self) -> u64 {
        self.header.first
    }

    /// Where an offset of the log stands in the file.
    pub fn in_file(&self, offset: u64) -> u64 {
        HEADER_BYTES + (offset - self.header.first)
    }
}

impl<F: File> Segment<F> {
    pub fn read(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(into, self.in_file(offset))
    }

    /// Overwrites with zeros.
    pub fn wipe(&self, from: u64, through: u64) -> io::Result<()> {
        const ZEROS: [u8; 16 * 1024] = [0; 16 * 1024];
        let mut at = from;
        while at < through {
            let part = (through - at).min(ZEROS.len() as u64);
            self.file.write_at(&[IoSlice::new(&ZEROS[..part as usize])], self.in_file(at))?;
            at += part;
        }
        Ok(())
    }
}

pub(super) fn path(shard: &ShardId, first: u64) -> String {
    format!("{shard}/{first:020}.log")
}

/// The first offset that a file's name says; `None`: not a segment.
pub(super) fn first_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log").filter(|digits| digits.len() == 20)?;
    let first = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?;
    first.filter(|first| is_possible(*first))
}

/// No log comes near the other half: adding to an offset never overflows.
fn is_possible(first: u64) -> bool {
    first.is_multiple_of(ALIGN) && first <= u64::MAX / 2
}

/// Makes a segment that outlives a power loss before it returns: its bytes, and its name unless `sync_name` is false (broken on purpose).
/// Takes the shard's spare if there is one.
pub(super) fn create<D: Disk>(
    disk: &D,
    shard: &ShardId,
    header: Header,
    place: Place,
    room: Room<D::File>,
    sync_name: bool,
) -> io::Result<Segment<D::File>> {
    let path = path(shard, header.first);
    let file = match room {
        Room::Spare(file) => {
            file.write_at(&[IoSlice::new(&header.to_bytes())], 0)?;
            file.sync_data()?;
            disk.rename(&spare_path(shard), &path)?;
            file
        }
        Room::Bytes(bytes) => {
            let file = disk.create(&path)?;
            file.allocate(bytes)?;
            file.write_at(&[IoSlice::new(&header.to_bytes())], 0)?;
            file.sync_data()?;
            file
        }
    };
    if sync_name {
        disk.sync_folder(shard.as_str())?;
    }
    Ok(Segment { path, file, header, place })
}

/// What a new segment is made of.
pub(super) enum Room<F> {
    /// So many bytes, taken now.
    Bytes(u64),
    /// The file that `fill_spare` made.
    Spare(F),
}

/// Where a shard's next segment waits, full of zeros; worth nothing after a crash.
pub(super) fn spare_path(shard: &ShardId) -> String {
    format!("{shard}/spare")
}

/// Writes zeros all over a file: a sync of what is written there later need not tell the file system that these blocks are in use now.
/// `None`: told to stop.
pub(super) fn fill_spare<D: Disk>(
    disk: &D,
    shard: &ShardId,
    bytes: u64,
    stop: impl Fn() -> bool,
) -> io::Result<Option<D::File>> {
    // Each part is synced at once, else the last sync stands in the way of the log's own for long.
    const PART_BYTES: u64 = 1 << 20;
    let file = disk.create(&spare_path(shard))?;
    file.allocate(bytes)?;
    let zeros = vec![0; bytes.min(PART_BYTES) as usize];
    let mut at = 0;
    while at < bytes {
        if stop() {
            return Ok(None);
        }
        let part = (bytes - at).min(PART_BYTES);
        file.write_at(&[IoSlice::new(&zeros[..part as usize])], at)?;
        at += part;
        file.sync_data()?;
    }
    Ok(Some(file))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_header_comes_back_and_any_harm_to_it_is_found() {
        let header = Header { log_id: 1, shard: 2, first: 3 * 8, epoch: 4, before: Before::NOTHING };
        let bytes = header.to_bytes();
        assert_eq!(Header::from_bytes(&bytes), Some(header));
        for at in 0..FIELDS_BYTES {
            let mut harmed = bytes.clone();
            harmed[at] ^= 1;
            assert_eq!(Header::from_bytes(&harmed), None, "byte {at}");
        }
    }

    #[test]
    fn only_names_of_segments_are_taken() {
        assert_eq!(first_of("00000000000000000048.log"), Some(48));
        assert_eq!(first_of("00000000000000000042.log"), None, "frames stand at multiples of 8");
        assert_eq!(first_of("18446744073709551608.log"), None, "no log gets there");
        assert_eq!(first_of("42.log"), None);
        assert_eq!(first_of("0000000000000000+042.log"), None);
        assert_eq!(first_of("99999999999999999999.log"), None, "more than an offset can be");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_no_header_and_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(Header::from_bytes(&bytes), None);
        }
    }
}
