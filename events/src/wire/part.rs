//! What a payload is taken apart into, and what may still be taken out of it: the words that its readers (`payload`, `subscription`, `document`, `emf`)
//! have in common. Decides nothing.

use bytes::Bytes;

use super::{Batch, DecodeError};
use crate::event::Datum;

/// Most bytes in memory, about, of the values of metrics that the documents of one record name: some 130,000 values.
pub const VALUES_BYTES_MAX: usize = 32 << 20;

/// What a piece of a payload is.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// A Weir batch.
    Batch(Batch),
    /// A Weir batch all of whose bytes, or whose mark, stand in this record already.
    Repeated(Batch),
    /// Lines that say all that is known of them.
    Lines(Bytes),
    /// What has a time, an identity or values of its own.
    Entries(Entries),
    /// One unit that is nothing to be counted.
    Skipped {
        /// In one word.
        reason: &'static str,
        /// Its bytes.
        sample: Bytes,
    },
    /// Cannot be understood.
    Dead {
        /// Why.
        error: DecodeError,
        /// What.
        bytes: Bytes,
    },
}

/// Entries that have something in common.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Entries {
    /// The service of those that name none.
    pub service: Option<String>,
    /// Within what ids are unique: what sent them. `None`: nothing here has an id.
    pub source: Option<String>,
    /// In their order.
    pub entries: Vec<Entry>,
}

/// One log event, or one document.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The hash of its id: who repeats it repeats this. `None`: each counts.
    pub id: Option<u64>,
    /// An entry before it in this record has the same id.
    pub repeated: bool,
    /// When, Unix milliseconds; absent: when its record arrived.
    pub time_ms: Option<i64>,
    /// A time in its text is another one's and does not count.
    pub dated: bool,
    /// What it says.
    pub said: Said,
}

/// See [`Entry`].
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    /// A line, with those that continue it: each is a unit of the balance.
    Line(Bytes),
    /// A document of JSON, however many lines it is written on: one unit.
    Document(Bytes),
    /// Values of metrics: each is a unit.
    Values(Vec<Datum>),
}

/// What one record may still unpack to.
pub(super) struct Budget {
    pub bytes: usize,
    pub value_bytes: usize,
}

impl Budget {
    /// `Err`: there is no room for so many bytes of values.
    pub fn take_values(&mut self, bytes: usize) -> Result<(), DecodeError> {
        self.value_bytes = self.value_bytes.checked_sub(bytes).ok_or(DecodeError::TooLarge)?;
        Ok(())
    }
}

pub(super) fn dead(error: DecodeError, bytes: &Bytes) -> Part {
    Part::Dead { error, bytes: bytes.clone() }
}

pub(super) fn skipped(reason: &'static str, sample: &Bytes) -> Part {
    Part::Skipped { reason, sample: sample.clone() }
}
