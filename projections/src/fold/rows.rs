//! Rows that are open in memory: which exist, which must be read first, which changed. Knows nothing of what they mean.
//!
//! A row that is first touched by record r begins empty and *unmet*: what the store holds of it is read once r is folded, and then
//!
//! | the stored row | what becomes of ours |
//! | --- | --- |
//! | none | stands |
//! | through less than r | takes the stored one in |
//! | through r or more | is thrown away: the stored one already holds what r said |
//!
//! Invariants:
//! - A record never adds to a row that is already through it.
//! - A row leaves memory only when it is stored through what it holds.

use std::{collections::HashMap, hash::Hash};

use bytes::Bytes;
use events::position::SequenceNumber;
use rustc_hash::FxBuildHasher;

use super::sabotage::{self, Sabotage};
use crate::{
    canonical::DecodeError,
    store::{Day, Row},
};

/// What a kind of row holds.
pub trait Body: Default {
    /// The bytes of the row.
    fn encode(&self) -> Vec<u8>;
    /// Reads them.
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError>;
    /// Takes in what older records said.
    fn take_in(&mut self, older: Self);
}

/// The record that is being folded, as rows see it.
#[derive(Debug, Clone, Copy)]
pub struct Current {
    /// Its position.
    pub sequence: SequenceNumber,
    /// Its number in this process.
    pub record: u64,
    /// The day of the fold's time at it.
    pub day: Day,
}

/// A row in memory.
#[derive(Debug)]
pub struct Open<B> {
    /// What it holds.
    pub body: B,
    /// First record that it holds something of.
    pub applied_from: SequenceNumber,
    /// Last record that touched it.
    pub applied_through: SequenceNumber,
    /// The day of that record.
    pub folded_on: Day,
    /// Number of the record that touched it last in this process.
    touched_in: u64,
    /// It was through the record that touches it now before that record came.
    ahead: bool,
    changed: bool,
}

/// What was read of a row; empty, and through nothing, if there is none.
#[derive(Debug, Default)]
pub struct Stored<B> {
    body: B,
    applied_from: SequenceNumber,
    applied_through: SequenceNumber,
    folded_on: Day,
}

impl<B: Body> Stored<B> {
    /// Decodes it.
    pub fn of(row: Option<&Row>) -> Result<Self, DecodeError> {
        let Some(row) = row else { return Ok(Self::default()) };
        let Row { applied_from, applied_through, folded_on, .. } = *row;
        Ok(Self { body: B::decode(&row.body)?, applied_from, applied_through, folded_on })
    }
}

impl<B> Stored<B> {
    /// A row that does not stand yet, and begins with this.
    pub fn begun(body: B) -> Self
    where
        B: Default,
    {
        Self { body, ..Self::default() }
    }

    /// Without what its body need not hold any longer.
    pub fn tidied(mut self, tidy: impl FnOnce(&mut B)) -> Self {
        tidy(&mut self.body);
        self
    }
}

/// Where an open row lies, until the next `let_go`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot(u32);

/// The open rows of one kind.
#[derive(Debug)]
pub struct OpenRows<K, B> {
    index: HashMap<K, Slot, FxBuildHasher>,
    rows: Vec<(K, Open<B>)>,
    unmet: Vec<Slot>,
    changed: usize,
}

impl<K, B> Default for OpenRows<K, B> {
    fn default() -> Self {
        Self { index: HashMap::default(), rows: Vec::new(), unmet: Vec::new(), changed: 0 }
    }
}

impl<K: Hash + Eq + Clone, B: Body> OpenRows<K, B> {
    /// How many are open.
    pub fn count(&self) -> usize {
        self.rows.len()
    }

    /// How many changed since they were last stored.
    pub fn changed(&self) -> usize {
        self.changed
    }

    /// The row's place, if it is open.
    pub fn find(&self, key: &K) -> Option<Slot> {
        self.index.get(key).copied()
    }

    /// The row's place; opens it, unmet, if it is not.
    pub fn open(&mut self, key: &K) -> Slot {
        if let Some(slot) = self.find(key) {
            return slot;
        }
        let slot = self.insert(key.clone(), Stored::default());
        self.unmet.push(slot);
        slot
    }

    fn insert(&mut self, key: K, stored: Stored<B>) -> Slot {
        let slot = Slot(u32::try_from(self.rows.len()).expect("open rows are bounded far below 2^32"));
        let Stored { body, applied_from, applied_through, folded_on } = stored;
        let open = Open { body, applied_from, applied_through, folded_on, touched_in: 0, ahead: false, changed: false };
        self.rows.push((key.clone(), open));
        self.index.insert(key, slot);
        slot
    }

    /// Opens a row with what was read of it, before any record touches it: for rows that a record's folding depends on.
    pub fn admit(&mut self, key: &K, stored: Stored<B>) {
        if self.find(key).is_none() {
            self.insert(key.clone(), stored);
        }
    }

    /// The row's body for this record; `None` if the row is already through it.
    #[inline]
    pub fn touch(&mut self, slot: Slot, current: &Current) -> Option<&mut B> {
        let open = &mut self.rows[slot.0 as usize].1;
        if open.touched_in != current.record {
            open.touched_in = current.record;
            open.ahead = open.applied_through >= current.sequence && !sabotage::breaks(Sabotage::RowAheadAddedTo);
            if !open.ahead {
                if open.applied_from == SequenceNumber::ZERO {
                    open.applied_from = current.sequence;
                }
                open.applied_through = open.applied_through.max(current.sequence);
                open.folded_on = current.day;
                self.changed += usize::from(!open.changed);
                open.changed = true;
            }
        }
        if open.ahead { None } else { Some(&mut open.body) }
    }

    /// As `touch`, for rows of marks, which answer for records that they are already through; true: it is through this one.
    pub fn touch_mark(&mut self, slot: Slot, current: &Current) -> (&mut B, bool) {
        let ahead = self.touch(slot, current).is_none() && !sabotage::breaks(Sabotage::MarkNotAhead);
        (&mut self.rows[slot.0 as usize].1.body, ahead)
    }

    /// The row's body, whatever it is through.
    pub fn body(&self, slot: Slot) -> &B {
        &self.rows[slot.0 as usize].1.body
    }

    /// The names of the open rows.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.rows.iter().map(|(key, _)| key)
    }

    /// Rows that were opened and must now be met.
    pub fn unmet(&self) -> impl Iterator<Item = &K> {
        self.unmet.iter().map(|slot| &self.rows[slot.0 as usize].0)
    }

    /// Meets the unmet rows, in the order in which `unmet` named them.
    pub fn meet(&mut self, stored: impl IntoIterator<Item = Option<Row>>) -> Result<(), DecodeError> {
        for (slot, stored) in std::mem::take(&mut self.unmet).into_iter().zip(stored) {
            let Some(stored) = stored else { continue };
            let older = B::decode(&stored.body)?;
            let open = &mut self.rows[slot.0 as usize].1;
            open.applied_from = stored.applied_from;
            let is_ahead = stored.applied_through >= open.applied_through;
            if is_ahead && !sabotage::breaks(Sabotage::RowAheadTakenIn) {
                (open.applied_through, open.folded_on) = (stored.applied_through, stored.folded_on);
                open.body = older;
                self.changed -= usize::from(open.changed);
                open.changed = false;
            } else if !sabotage::breaks(Sabotage::RowNotMet) {
                open.body.take_in(older);
            }
        }
        Ok(())
    }

    /// The rows that changed, to be written.
    pub fn to_write(&self) -> impl Iterator<Item = (&K, &Open<B>, Bytes)> {
        self.rows.iter().filter(|(_, open)| open.changed).map(|(key, open)| (key, open, open.body.encode().into()))
    }

    /// All changed rows are stored: rows that no record touched since the `since`th leave memory, and every `Slot` ends.
    pub fn let_go(&mut self, since: u64, mut tidy: impl FnMut(&mut B)) {
        debug_assert!(self.unmet.is_empty(), "a row was let go before it was met");
        self.changed = 0;
        self.rows.retain(|(_, open)| open.touched_in >= since);
        self.index.clear();
        for (i, (key, open)) in self.rows.iter_mut().enumerate() {
            open.changed = false;
            tidy(&mut open.body);
            self.index.insert(key.clone(), Slot(i as u32));
        }
    }
}
