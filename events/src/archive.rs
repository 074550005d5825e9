//! The archive's format: segments of a shard's records, kept as objects beyond the stream's retention. Decides what a segment says, how it is named,
//! and what of it is believed; never where it is kept. `archive/format.md` says the same for readers in other languages.
//!
//! Invariants:
//! - A segment's name is its shard and the position *behind which* it begins: the last position of the one before. So one segment has one possible
//!   successor, whoever writes it, and "put if absent" alone keeps the chain a chain.
//! - A header is believed as a whole or not at all, and names the SHA-256 of every block, and of the header before it.
//! - What is read was written by others, or is damaged: every size has a limit, and nothing of it is believed before it is checked.

mod block;
mod builder;
mod header;
#[cfg(test)]
mod tests;

use std::fmt;

use sha2::{Digest, Sha256};

pub use self::{
    builder::{Builder, Closing, Sealed},
    header::{Block, Held, Segment},
};
use crate::position::{NotASequenceNumber, SEQUENCE_NUMBER_DIGITS_MAX, SequenceNumber, ShardId};

/// First bytes of a segment, the last of them its version.
pub const MAGIC: [u8; 8] = *b"\xE7WERARC\x01";
/// Longest header.
pub const HEADER_BYTES_MAX: usize = 1 << 20;
/// Most blocks of a segment.
pub const BLOCKS_MAX: usize = 2_048;
/// A block is closed by the record that reaches this many bytes, so that a reader holds little at a time.
pub const BLOCK_BYTES: usize = 1 << 20;
/// Longest payload of a record: what Kinesis takes at most where large records are allowed (Kinesis developer guide, "Handle large records").
pub const DATA_BYTES_MAX: usize = 10 << 20;
/// Longest block, unpacked and packed.
pub const BLOCK_BYTES_MAX: usize = BLOCK_BYTES + DATA_BYTES_MAX + (1 << 20);
/// Longest name of a stream.
pub const STREAM_BYTES_MAX: usize = 2_048;
/// Longest name of a shard (Kinesis API reference, `ShardId`).
pub const SHARD_CHARS_MAX: usize = 128;
/// What stands before the header: magic, its length and its SHA-256.
pub const PREFIX_BYTES: usize = MAGIC.len() + 4 + 32;

/// How blocks are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Codec {
    /// As they are.
    None,
    /// One Zstandard frame each.
    #[default]
    Zstd,
}

/// SHA-256 of a header, or of a block as it is stored.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Checksum(pub [u8; 32]);

impl Checksum {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        let pairs = text.as_bytes().as_chunks::<2>();
        if pairs.0.len() != bytes.len() || !pairs.1.is_empty() {
            return None;
        }
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs.0) {
            *byte = digit(*high)? << 4 | digit(*low)?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Which segment is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The stream, as its owner names it: other streams have shards of the same name.
    pub stream: String,
    /// The shard.
    pub shard: ShardId,
    /// Its records come after this position; `ZERO`: it is the shard's first.
    pub after: SequenceNumber,
}

/// A segment cannot be believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damaged {
    /// Its end is missing.
    #[error("it is cut off: {what} would need {needed} bytes, and {there} are there")]
    Cut {
        /// What is cut.
        what: &'static str,
        /// Its length.
        needed: usize,
        /// What is left.
        there: usize,
    },
    /// Something else has its name.
    #[error("it is no segment of an archive: its first bytes are others")]
    NotASegment,
    /// A later program wrote it.
    #[error("it has version {0} of the format, and this program reads version 1: use a newer one")]
    Version(u8),
    /// Bytes were changed.
    #[error("the checksum of {0} does not match: bytes were changed")]
    Checksum(&'static str),
    /// It says what no writer says.
    #[error("{0}")]
    Nonsense(String),
    /// It is whole, and belongs elsewhere.
    #[error("it is a segment of another {what}: {found} where {expected} was expected")]
    Elsewhere {
        /// What is another.
        what: &'static str,
        /// What it says.
        found: String,
        /// What its name says.
        expected: String,
    },
}

/// The folder of all shards.
pub const FOLDER: &str = "stream/";

/// The folder of a shard's segments. Shards have plain names on every stream; one that has not is refused.
pub fn folder(shard: &ShardId) -> Option<String> {
    is_plain(shard.as_str()).then(|| format!("{FOLDER}{shard}/"))
}

/// What a segment is called: names sort as positions do.
pub fn name(shard: &ShardId, after: SequenceNumber) -> Option<String> {
    folder(shard).map(|folder| format!("{folder}{}", digits(after)))
}

/// A position as it stands in a name.
pub fn digits(position: SequenceNumber) -> String {
    format!("{position:0SEQUENCE_NUMBER_DIGITS_MAX$}")
}

/// Shard and position of a name; `None`: it is no segment's name.
pub fn parse(name: &str) -> Option<(ShardId, SequenceNumber)> {
    let (shard, digits) = name.strip_prefix(FOLDER)?.split_once('/')?;
    let is_name = is_plain(shard) && digits.len() == SEQUENCE_NUMBER_DIGITS_MAX;
    let after: Result<SequenceNumber, NotASequenceNumber> = digits.parse();
    is_name.then_some((ShardId::named(shard), after.ok()?))
}

fn is_plain(shard: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    // A folder of these names would be another one.
    !matches!(shard, "." | "..") && (1..=SHARD_CHARS_MAX).contains(&shard.len()) && shard.bytes().all(plain)
}
