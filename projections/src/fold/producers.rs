//! Marks of producers without an origin: which (epoch, counter) were taken, and by which record. Decides whether a batch is new.
//!
//! A producer keeps at most `IN_FLIGHT_MAX` batches unacknowledged, so what is more than twice as many counters behind its highest is a repeat
//! whatever it is. What was taken past the resume point stays listed, so that a mark that is ahead still gives the same answer. Whoever asks a mark
//! that is ahead about a record up to which it has forgotten counters works on a state that another worker has overtaken.

use events::{
    identity::{IN_FLIGHT_MAX, Producer},
    position::SequenceNumber,
};

use super::{
    rows::Body,
    sabotage::{self, Sabotage},
    taken::Overtaken,
};
use crate::{
    canonical::{self, DecodeError},
    store::ROW_BYTES_MAX,
};

const VERSION: u8 = 1;
/// How far behind the highest counter a batch may come.
const LISTED: u64 = 2 * IN_FLIGHT_MAX;
/// A mark of more counters than this asks for a commit, after which those that are too old are forgotten: so it fits into one row.
const CROWDED: usize = 4_096;
/// Two varints, a sequence number with its length.
const COUNTER_BYTES_MAX: usize = 10 + 10 + 1 + SequenceNumber::BYTES_MAX;
const _: () = assert!(64 + (CROWDED + 1) * COUNTER_BYTES_MAX <= ROW_BYTES_MAX);

/// See the module. In order of (epoch, counter).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks {
    /// The highest position of a counter that is no longer listed.
    forgotten_through: SequenceNumber,
    taken: Vec<(u64, u64, SequenceNumber)>,
}

impl Marks {
    /// True if the record at `position` takes this batch. `ahead`: the mark already holds this record's answer.
    pub fn take(&mut self, producer: &Producer, position: SequenceNumber, ahead: bool) -> Result<bool, Overtaken> {
        let (epoch, counter) = (producer.epoch, producer.counter);
        let found = self.taken.binary_search_by_key(&(epoch, counter), |entry| (entry.0, entry.1));
        Ok(match found {
            Ok(place) => self.taken[place].2 == position,
            Err(_) if ahead && position <= self.forgotten_through && !sabotage::breaks(Sabotage::ForgottenNotSeen) => {
                return Err(Overtaken);
            }
            Err(_) if ahead => false,
            Err(place) => {
                let old = self.taken.last().is_some_and(|(highest_epoch, highest, _)| {
                    epoch < *highest_epoch || (epoch == *highest_epoch && counter.saturating_add(LISTED) <= *highest)
                });
                let old = old && !sabotage::breaks(Sabotage::OldCounterTaken);
                if !old {
                    self.taken.insert(place, (epoch, counter, position));
                }
                !old
            }
        })
    }

    /// True if it is time to commit, so that old counters can be forgotten.
    pub fn is_crowded(&self) -> bool {
        self.taken.len() > CROWDED
    }

    /// Forgets what is too old to matter and lies behind the resume point.
    pub fn tidy(&mut self, resume_point: SequenceNumber) {
        let Some((epoch, highest, _)) = self.taken.last().copied() else { return };
        let mut forgotten_through = self.forgotten_through;
        self.taken.retain(|(of, counter, position)| {
            let is_kept = *position > resume_point || (*of == epoch && counter.saturating_add(LISTED) > highest);
            if !is_kept {
                forgotten_through = forgotten_through.max(*position);
            }
            is_kept
        });
        self.forgotten_through = forgotten_through;
    }
}

impl Marks {
    /// Takes over what an ancestor of the shard took.
    pub fn inherit(&mut self, older: Self) {
        self.forgotten_through = self.forgotten_through.max(older.forgotten_through);
        self.taken.extend(older.taken);
        // An ancestor's ancestor may have had it too, from the same record.
        self.taken.sort_unstable();
        self.taken.dedup_by_key(|entry| (entry.0, entry.1));
        self.tidy(SequenceNumber::MAX);
    }

    /// Leaves what records before `first` took, as far as it is still listed; the last of them. `None`: nothing.
    pub fn cut(&mut self, first: SequenceNumber) -> Option<SequenceNumber> {
        self.taken.retain(|(_, _, position)| *position < first);
        if self.forgotten_through >= first {
            // The mark as it was then had forgotten less, and up to where is not known: nobody asks for what lies before `first`.
            self.forgotten_through = SequenceNumber::ZERO;
        }
        self.taken.iter().map(|(_, _, position)| *position).max()
    }
}

impl Body for Marks {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        canonical::put_position(&mut bytes, self.forgotten_through);
        canonical::put_varint(&mut bytes, self.taken.len() as u64);
        for (epoch, counter, position) in &self.taken {
            canonical::put_varint(&mut bytes, *epoch);
            canonical::put_varint(&mut bytes, *counter);
            canonical::put_position(&mut bytes, *position);
        }
        bytes
    }

    fn decode(mut input: &[u8]) -> Result<Self, DecodeError> {
        let input = &mut input;
        if canonical::take_byte(input, "version")? != VERSION {
            return Err(DecodeError::OutOfRange { what: "version of a producer's mark" });
        }
        let forgotten_through = canonical::take_position(input)?;
        let count = canonical::take_varint(input, "number of marks")?;
        let mut taken: Vec<(u64, u64, SequenceNumber)> = vec![];
        for _ in 0..count {
            let epoch = canonical::take_varint(input, "epoch")?;
            let counter = canonical::take_varint(input, "counter")?;
            if taken.last().is_some_and(|before| (before.0, before.1) >= (epoch, counter)) {
                return Err(DecodeError::NotCanonical { what: "order of marks" });
            }
            taken.push((epoch, counter, canonical::take_position(input)?));
        }
        Ok(Self { forgotten_through, taken })
    }

    /// Marks are read before their record folds, so nothing is ever taken in.
    fn take_in(&mut self, older: Self) {
        *self = older;
    }
}
