//! What is known of one file: which it is, by its first bytes, and how far it was taken, by the last ones. Decides when two are alike; keeps nothing.

use events::pack::HISTORY_BYTES;
use xxhash_rust::xxh3::xxh3_128;

/// A file's number in its list, never given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryId(pub(in crate::ingest) u64);

/// Length and hash of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Print {
    /// How many, at most 1 KiB.
    pub len: usize,
    /// XXH3, 128 bits.
    pub hash: u128,
}

impl Print {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self { len: bytes.len(), hash: xxh3_128(bytes) }
    }

    /// True if `bytes` end with what this is the print of.
    pub(in crate::ingest) fn ends(&self, bytes: &[u8]) -> bool {
        bytes.len().checked_sub(self.len).is_some_and(|from| Self::of(&bytes[from..]) == *self)
    }
}

/// How far a file was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// First byte, after decompression, that was not.
    pub end: u64,
    /// The last bytes before it.
    pub tail: Print,
    /// Hash of all bytes before it, where they were packed: what was taken before damage may have been wrong.
    pub whole: Option<u128>,
}

impl Mark {
    /// After `end` bytes, of which `before` are the last.
    pub(in crate::ingest) fn after(end: u64, before: &[u8]) -> Self {
        Self { end, tail: Print::of(&before[before.len().saturating_sub(HISTORY_BYTES)..]), whole: None }
    }

    /// Before the first byte.
    pub(in crate::ingest) fn nothing() -> Self {
        Self::after(0, &[])
    }
}

/// What is known of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number.
    pub id: EntryId,
    /// The opening that gave the number: a list that was restored from a backup gives the same numbers again.
    pub reader: u64,
    /// Whose.
    pub tenant: String,
    /// Where it was seen last.
    pub path: String,
    /// Where it was seen first: the origin's name.
    pub name: String,
    /// Its beginning, as first seen.
    pub head: Print,
    /// What is durable of it.
    pub mark: Mark,
    /// Something else stands at its path by now.
    pub gone: bool,
    /// It was damaged: what was taken last may not be what it holds once mended.
    pub doubtful: bool,
    /// The stream has lost what was taken: it is read from its first byte, and what the stream still has is known there.
    pub resend: bool,
    /// When the reading began that has not come to its end.
    pub reading_since_ms: Option<i64>,
}

impl Entry {
    /// True if these first bytes of a file begin as this one did.
    pub(in crate::ingest) fn begins(&self, head: &[u8]) -> bool {
        self.head.len > 0 && head.get(..self.head.len).is_some_and(|head| Print::of(head) == self.head)
    }
}
