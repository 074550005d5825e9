//! What became of every line: accepted = folded + skipped + duplicate + dead, always. Counts only; decides nothing.

use std::collections::BTreeMap;

use super::rows::Body;
use crate::canonical::{self, DecodeError};

const VERSION: u8 = 1;
/// Most bytes kept of a line as a sample of its reason.
pub const SAMPLE_BYTES_MAX: usize = 256;

/// Lines (or data) by what became of them. `accepted` is their sum, so it can never disagree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Balance {
    /// Counted in a window.
    pub folded: u64,
    /// Bytes, or a counter, that a lower position had brought.
    pub duplicate: u64,
    /// In a record that could not be decoded.
    pub dead: u64,
    /// By reason, with the first line that had it.
    pub skipped: BTreeMap<String, Skipped>,
}

/// Lines skipped for one reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Skipped {
    /// How many.
    pub count: u64,
    /// The first of them, cut to `SAMPLE_BYTES_MAX`.
    pub sample: Vec<u8>,
}

impl Balance {
    /// Everything that came in.
    pub fn accepted(&self) -> u64 {
        self.folded + self.duplicate + self.dead + self.skipped_total()
    }

    /// Skipped for any reason.
    pub fn skipped_total(&self) -> u64 {
        self.skipped.values().map(|skipped| skipped.count).sum()
    }

    /// Counts lines that are skipped.
    pub fn skip(&mut self, reason: &str, count: u64, sample: &[u8]) {
        if let Some(skipped) = self.skipped.get_mut(reason) {
            skipped.count += count;
            return;
        }
        let sample = sample[..sample.len().min(SAMPLE_BYTES_MAX)].to_vec();
        self.skipped.insert(reason.to_owned(), Skipped { count, sample });
    }

    /// Adds later counts: the sample that is here is the older one and stays.
    pub fn add(&mut self, later: &Self) {
        self.folded += later.folded;
        self.duplicate += later.duplicate;
        self.dead += later.dead;
        for (reason, skipped) in &later.skipped {
            self.skip(reason, skipped.count, &skipped.sample);
        }
    }
}

impl Body for Balance {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        for count in [self.folded, self.duplicate, self.dead, self.skipped.len() as u64] {
            canonical::put_varint(&mut bytes, count);
        }
        for (reason, skipped) in &self.skipped {
            canonical::put_text(&mut bytes, reason);
            canonical::put_varint(&mut bytes, skipped.count);
            canonical::put_varint(&mut bytes, skipped.sample.len() as u64);
            bytes.extend_from_slice(&skipped.sample);
        }
        bytes
    }

    fn decode(mut input: &[u8]) -> Result<Self, DecodeError> {
        let input = &mut input;
        if canonical::take_byte(input, "version")? != VERSION {
            return Err(DecodeError::OutOfRange { what: "version of a balance" });
        }
        let mut number = |what| canonical::take_varint(input, what);
        let (folded, duplicate, dead, reasons) =
            (number("folded")?, number("duplicate")?, number("dead")?, number("reasons")?);
        let mut skipped = BTreeMap::new();
        for _ in 0..reasons {
            let reason = canonical::take_text(input, 64, "reason")?.to_owned();
            let count = canonical::take_varint(input, "skipped")?;
            let length = canonical::take_varint(input, "sample")?.min(SAMPLE_BYTES_MAX as u64 + 1) as usize;
            if length > SAMPLE_BYTES_MAX {
                return Err(DecodeError::OutOfRange { what: "sample" });
            }
            let sample = canonical::take_bytes(input, length, "sample")?.to_vec();
            skipped.insert(reason, Skipped { count, sample });
        }
        Ok(Self { folded, duplicate, dead, skipped })
    }

    fn take_in(&mut self, older: Self) {
        let later = std::mem::replace(self, older);
        self.add(&later);
    }
}
