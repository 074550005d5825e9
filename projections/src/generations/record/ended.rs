//! Which generations may be ended because somebody says so. Decides nothing of those that end by time.

use super::{NAME_BYTES_MAX, Record, Standing};
use crate::store::Generation;

/// A generation cannot be ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndRefused {
    /// No such.
    #[error("there is no generation `{0}`: `weir generations` lists them")]
    Unknown(String),
    /// Readers go by it.
    #[error("the generation `{0}` counts: only once another one is promoted it can be ended")]
    Counts(String),
    /// It is about to count, or to cease to.
    #[error("a promotion of `{0}` is under way, or was cut short: finish it first with `weir promote {0}`")]
    UnderWay(String),
    /// It counted less than a day ago.
    #[error(
        "the generation `{0}` counted, and can still be gone back to (`weir promote {0}`); ended, it cannot any more: give --no-way-back if that is meant"
    )]
    WayBack(String),
}

impl Record {
    /// Ends one; true: it was folded until now. What counts, or is about to, is not ended. `no_way_back`: also one that could be gone back to.
    pub fn end(&mut self, name: &str, no_way_back: bool) -> Result<bool, EndRefused> {
        let Some(generation) = self.named(name) else {
            return Err(EndRefused::Unknown(name.chars().take(NAME_BYTES_MAX).collect()));
        };
        let is_live = self.live() == generation;
        // The one before folds on until every shard has come to the record that names the new one.
        if let Some(begun) = self.unfinished().filter(|begun| is_live || begun.generation == generation.0) {
            return Err(EndRefused::UnderWay(self.name(Generation(begun.generation)).to_owned()));
        }
        if is_live {
            return Err(EndRefused::Counts(name.to_owned()));
        }
        if self.standing(generation) == Standing::Ended {
            return Ok(false);
        }
        let counted_until_ms =
            self.entry(generation).map_or(self.first_counted_until_ms, |entry| entry.counted_until_ms);
        if counted_until_ms.is_some() && !no_way_back {
            return Err(EndRefused::WayBack(name.to_owned()));
        }
        self.stands(generation, Standing::Ended);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use events::position::SequenceNumber;

    use super::*;

    #[test]
    fn what_counts_stays_what_can_be_gone_back_to_ends_if_it_is_said_twice_and_all_others_end() {
        let mut record = Record::default();
        let open = |record: &mut Record, name: &str| {
            let (generation, _) = record.open(name, None, BTreeMap::new(), 0).unwrap();
            record.stands(generation, Standing::Following);
        };
        open(&mut record, "a");
        open(&mut record, "b");
        assert_eq!(record.end("first", true), Err(EndRefused::Counts("first".into())));
        assert_eq!(record.end("c", true), Err(EndRefused::Unknown("c".into())));
        let begun = record.promote("a", 0).unwrap();
        for name in ["first", "a"] {
            assert_eq!(record.end(name, true), Err(EndRefused::UnderWay("a".into())), "{name}");
        }
        assert_eq!((record.end("b", false), record.end("b", false)), (Ok(true), Ok(false)));
        record.promoted(begun.number, SequenceNumber::from_parts(0, 1), 1);
        assert_eq!(record.end("a", true), Err(EndRefused::Counts("a".into())));
        assert_eq!(record.end("first", false), Err(EndRefused::WayBack("first".into())));
        assert_eq!(record.end("first", true), Ok(true));
        assert_eq!(record.folded(), [Generation(1)]);
        // There is room again for others.
        open(&mut record, "d");
        assert_eq!(record.end("d", false), Ok(true), "one that never counted is no way back");
    }
}
