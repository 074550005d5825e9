//! One record as it lies in a segment. Decides what is a whole, unharmed frame; never reads a file and never trusts a length.
//!
//! A frame stands at a multiple of 8, all numbers little-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 0–7 | checksum: xxh3-64 of bytes 8 to the end of the payload, seeded by the frame's place |
//! | 8–11 | length of the frame without padding |
//! | 12–13 | length of the partition key in bytes |
//! | 14–15 | zero |
//! | 16–23 | epoch of the opening that wrote it |
//! | 24–31 | arrival stamp, Unix milliseconds |
//! | 32–39 | group start: everything before this offset of the log was durable when the frame was written |
//! | 40–47 | head check: xxh3-64 of bytes 8–39, seeded by the frame's place |
//! | 48– | partition key, payload, zeros up to a multiple of 8 |
//!
//! The seed holds the stream's id, the shard, the segment and the offset, so a frame that was copied or left over elsewhere is none. The
//! head has a check of its own so that hopping over frames, and the search behind a torn one, need not read (or be made to read) payloads.

use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed};

use crate::stream::{PARTITION_KEY_CHARS_MAX, RECORD_BYTES_MAX};

/// Before the partition key.
pub(super) const HEAD_BYTES: usize = 48;
/// Frames stand at multiples of this.
pub(super) const ALIGN: u64 = 8;
/// A longer one is not a frame: no buffer grows past this because of what a file says.
pub(super) const FRAME_BYTES_MAX: usize = HEAD_BYTES + RECORD_BYTES_MAX;
const KEY_BYTES_MAX: usize = PARTITION_KEY_CHARS_MAX * 4;

/// What a checksum is seeded with, besides the offset.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub log_id: u64,
    pub shard: u64,
    /// First offset of the segment.
    pub segment: u64,
    /// Broken on purpose: any frame is good anywhere.
    pub unseeded: bool,
}

impl Place {
    fn seed(&self, offset: u64) -> u64 {
        if self.unseeded {
            return 0;
        }
        let mut place = [0; 24];
        place[..8].copy_from_slice(&self.shard.to_le_bytes());
        place[8..16].copy_from_slice(&self.segment.to_le_bytes());
        place[16..].copy_from_slice(&offset.to_le_bytes());
        xxh3_64_with_seed(&place, self.log_id)
    }
}

/// A frame without its key and payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// Whole frame, without padding.
    pub length: usize,
    pub key_bytes: usize,
    pub epoch: u64,
    pub arrived_at_ms: i64,
    pub group_start: u64,
}

impl Head {
    /// Where the next frame stands, counted from this one.
    pub fn stride(&self) -> u64 {
        stride(self.length)
    }

    /// Key and payload, as ranges of the frame.
    pub fn key(&self) -> std::ops::Range<usize> {
        HEAD_BYTES..HEAD_BYTES + self.key_bytes
    }

    pub fn data(&self) -> std::ops::Range<usize> {
        HEAD_BYTES + self.key_bytes..self.length
    }
}

/// A frame's length with its padding.
pub(super) fn stride(length: usize) -> u64 {
    (length as u64).next_multiple_of(ALIGN)
}

/// The head for a record at `offset`; the frame is this, the key, the payload and padding.
pub(super) fn seal(head: &Head, key: &str, data: &[u8], place: &Place, offset: u64) -> [u8; HEAD_BYTES] {
    debug_assert_eq!(head.length, HEAD_BYTES + key.len() + data.len());
    let seed = place.seed(offset);
    let mut bytes = [0; HEAD_BYTES];
    bytes[8..12].copy_from_slice(&(head.length as u32).to_le_bytes());
    bytes[12..14].copy_from_slice(&(head.key_bytes as u16).to_le_bytes());
    bytes[16..24].copy_from_slice(&head.epoch.to_le_bytes());
    bytes[24..32].copy_from_slice(&head.arrived_at_ms.to_le_bytes());
    bytes[32..40].copy_from_slice(&head.group_start.to_le_bytes());
    let check = xxh3_64_with_seed(&bytes[8..40], seed);
    bytes[40..48].copy_from_slice(&check.to_le_bytes());
    let mut checksum = Xxh3::with_seed(seed);
    checksum.update(&bytes[8..]);
    checksum.update(key.as_bytes());
    checksum.update(data);
    bytes[..8].copy_from_slice(&checksum.digest().to_le_bytes());
    bytes
}

/// What a head claims, before its check: cheap, for the search behind a torn frame.
fn claimed(bytes: &[u8]) -> Option<Head> {
    let head: &[u8; HEAD_BYTES] = bytes.first_chunk()?;
    let word = |at: usize| u64::from_le_bytes(*head[at..].first_chunk().expect("at most 40"));
    let sizes = word(8);
    let claimed = Head {
        length: (sizes & 0xffff_ffff) as usize,
        key_bytes: (sizes >> 32 & 0xffff) as usize,
        epoch: word(16),
        arrived_at_ms: word(24) as i64,
        group_start: word(32),
    };
    let fits = claimed.length <= FRAME_BYTES_MAX
        && claimed.key_bytes <= KEY_BYTES_MAX
        && HEAD_BYTES + claimed.key_bytes <= claimed.length
        && sizes >> 48 == 0;
    fits.then_some(claimed)
}

/// The head of a frame at `offset`, if there is one; its payload may still be harmed.
pub(super) fn head(bytes: &[u8], place: &Place, offset: u64) -> Option<Head> {
    let claimed = claimed(bytes).filter(|claimed| claimed.group_start <= offset)?;
    let check = u64::from_le_bytes(*bytes[40..].first_chunk()?);
    (xxh3_64_with_seed(&bytes[8..40], place.seed(offset)) == check).then_some(claimed)
}

/// A whole, unharmed frame at `offset`; `bytes` may go on behind it.
pub(super) fn whole(bytes: &[u8], place: &Place, offset: u64) -> Option<Head> {
    let head = head(bytes, place, offset)?;
    let frame = bytes.get(..head.length)?;
    let checksum = u64::from_le_bytes(*frame.first_chunk()?);
    let unharmed = xxh3_64_with_seed(&frame[8..], place.seed(offset)) == checksum;
    (unharmed && std::str::from_utf8(&frame[head.key()]).is_ok()).then_some(head)
}

/// True if a frame may stand at `offset` that says that what stands at `torn` had been durable before it was written. Cheap; `whole` decides.
pub(super) fn may_prove_durable(bytes: &[u8], offset: u64, torn: u64) -> bool {
    claimed(bytes).is_some_and(|claimed| claimed.group_start > torn && claimed.group_start <= offset)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const PLACE: Place = Place { log_id: 7, shard: 1, segment: 4096, unseeded: false };

    fn frame(key: &str, data: &[u8], offset: u64) -> Vec<u8> {
        let head = Head {
            length: HEAD_BYTES + key.len() + data.len(),
            key_bytes: key.len(),
            epoch: 3,
            arrived_at_ms: -5,
            group_start: offset,
        };
        let mut bytes = seal(&head, key, data, &PLACE, offset).to_vec();
        bytes.extend_from_slice(key.as_bytes());
        bytes.extend_from_slice(data);
        bytes
    }

    #[test]
    fn a_frame_is_good_only_at_its_own_place() {
        let bytes = frame("key", b"payload", 8192);
        let head = whole(&bytes, &PLACE, 8192).unwrap();
        assert_eq!((&bytes[head.key()], &bytes[head.data()]), (&b"key"[..], &b"payload"[..]));
        assert_eq!(whole(&bytes, &PLACE, 8200), None);
        assert_eq!(whole(&bytes, &Place { segment: 0, ..PLACE }, 8192), None);
        assert_eq!(whole(&bytes, &Place { shard: 2, ..PLACE }, 8192), None);
        assert_eq!(whole(&bytes, &Place { log_id: 8, ..PLACE }, 8192), None);
    }

    #[test]
    fn the_format_is_what_it_was() {
        // Golden: a change here is a new version of the segment.
        let bytes = frame("k", b"data", 64);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "936574ab32266bc435000000010000000300000000000000fbffffffffffffff40000000000000005d8646f27629177c6b64617461"
        );
    }

    proptest! {
        #[test]
        fn any_flipped_bit_is_found(data in proptest::collection::vec(any::<u8>(), 0..200), at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let mut bytes = frame("key", &data, 512);
            let at = at.index(bytes.len());
            bytes[at] ^= 1u8 << bit;
            prop_assert_eq!(whole(&bytes, &PLACE, 512), None);
        }

        #[test]
        fn arbitrary_bytes_are_no_frame_and_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..60) {
            prop_assert_eq!(whole(&bytes, &PLACE, 512), None);
            let good = frame("key", b"some payload", 512);
            prop_assert_eq!(whole(&good[..cut.min(good.len() - 1)], &PLACE, 512), None);
        }
    }
}
