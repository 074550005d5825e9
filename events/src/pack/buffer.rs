//! Where a batch grows: bytes with room before them for its header. Decides how memory is laid out and used again; knows no line.
//!
//! | `..begin` | `begin..end` | `end..` |
//! | --- | --- | --- |
//! | room for the header; its last bytes are what was packed before | held | free |
//!
//! Buffers come back when the last holder of their bytes lets go, because filling fresh memory costs more than all else that packing does.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;

use super::HISTORY_BYTES;

/// Room for a header: nearly all are far shorter. A longer one (a path may have 4 KiB) is joined by a copy.
const ROOM_BYTES: usize = 4 << 10;
/// Buffers kept for later; what comes back beyond them is given up.
const SPARE_MAX: usize = 16;

type Shelf = Mutex<Vec<Vec<u8>>>;

/// Buffers that came back.
#[derive(Debug, Default)]
pub(super) struct Spares(Arc<Shelf>);

impl Spares {
    /// An empty buffer: one that came back, or a new one that takes memory when it needs it.
    pub fn take(&self) -> Buffer {
        let memory = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        Buffer { memory, begin: ROOM_BYTES, end: ROOM_BYTES, history: 0, home: Arc::downgrade(&self.0) }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Buffer {
    /// All of it is initialised.
    memory: Vec<u8>,
    begin: usize,
    end: usize,
    /// So many bytes before `begin` are what was packed before.
    history: usize,
    home: Weak<Shelf>,
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let Some(home) = self.home.upgrade() else { return };
        let mut shelf = home.lock().unwrap_or_else(PoisonError::into_inner);
        if shelf.len() < SPARE_MAX && !self.memory.is_empty() {
            shelf.push(std::mem::take(&mut self.memory));
        }
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.memory[self.begin..self.end]
    }
}

impl Buffer {
    /// What is held.
    pub fn bytes(&self) -> &[u8] {
        self.memory.get(self.begin..self.end).unwrap_or_default()
    }

    /// What was packed before it, at most `HISTORY_BYTES`.
    pub fn history(&self) -> &[u8] {
        self.memory.get(self.begin - self.history..self.begin).unwrap_or_default()
    }

    /// Both.
    pub fn with_history(&self) -> &[u8] {
        self.memory.get(self.begin - self.history..self.end).unwrap_or_default()
    }

    /// Takes the last of these bytes for what was packed before.
    pub fn set_history(&mut self, before: &[u8]) {
        self.space(0);
        self.history = before.len().min(HISTORY_BYTES);
        self.memory[self.begin - self.history..self.begin].copy_from_slice(&before[before.len() - self.history..]);
    }

    /// At least `wanted` bytes behind what is held.
    pub fn space(&mut self, wanted: usize) -> &mut [u8] {
        let needed = self.end + wanted;
        if self.memory.len() < needed {
            self.memory.resize(needed, 0);
        }
        &mut self.memory[self.end..]
    }

    /// Takes the first so many bytes of the space.
    pub fn filled(&mut self, count: usize) {
        self.end += count;
        assert!(self.end <= self.memory.len(), "more was filled than there is space");
    }

    /// Forgets what is held behind the first so many bytes.
    pub fn truncate(&mut self, length: usize) {
        self.end = self.begin + length;
    }

    /// Gives the first `length` bytes; the rest goes on in `next`, an empty buffer, which becomes this one.
    pub fn cut(&mut self, length: usize, mut next: Buffer) -> Buffer {
        let (packed, rest) = self.bytes().split_at(length);
        next.space(rest.len())[..rest.len()].copy_from_slice(rest);
        next.filled(rest.len());
        let all = self.history.min(HISTORY_BYTES) + packed.len();
        let before = &self.with_history()[..all];
        next.set_history(before);
        self.truncate(length);
        std::mem::replace(self, next)
    }

    /// A header and what is held, as one piece of memory.
    pub fn with_head(mut self, head: &[u8]) -> Bytes {
        // A small batch does not keep a large buffer: who counts the memory of a record counts its bytes.
        if self.begin < head.len() || self.bytes().len() < self.memory.len() / 2 {
            return [head, self.bytes()].concat().into();
        }
        self.begin -= head.len();
        self.history = 0;
        self.memory[self.begin..self.begin + head.len()].copy_from_slice(head);
        Bytes::from_owner(self)
    }
}
