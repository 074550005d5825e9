//! What generations there are: one row outside the fold. Decides which may be opened, promoted and ended; how it is folded and read is others'.
//!
//! The row's `applied_through` counts its versions. Whoever changes it writes the version after the one that it has read; of two that have read the same
//! one loses, and reads again. So nothing of this needs more than the Store port has.
//!
//! | a generation | becomes | when |
//! | --- | --- | --- |
//! | `Opening` | `Filling` | it has what it needs to know of the time before its start, and what it takes from an archive; a killed opening goes on when it is asked for again |
//! | `Opening` | `Ended` | another is opened, and it has shown no progress for `OPENING_MS` |
//! | `Filling` | `Following` | it had caught up with the one that counts once |
//! | `Following` | counts | promoted; the one before follows it |
//! | `Following` | `Ended` | it did not count for `FOLLOWS_MS`, or was never promoted for `UNPROMOTED_MS`; both by its fold's time |
//! | any that does not count | `Ended` | somebody says so (`end`) |

mod ended;
mod refused;
mod row;

use std::collections::BTreeMap;

use events::position::{SequenceNumber, ShardId};
use serde::{Deserialize, Serialize};

pub use self::{
    ended::EndRefused,
    refused::{OpenRefused, PromoteRefused},
    row::{Read, read, write},
};
use super::Compared;
use crate::store::Generation;

/// A generation that does not count any more folds on for so long: a day, so that whoever is called at night by what a promotion did can go back at
/// work, and two generations are paid for no longer.
pub const FOLLOWS_MS: i64 = 24 * 60 * 60 * 1000;
/// One that was opened and never promoted ends after a week: it costs as much as the one that counts.
pub const UNPROMOTED_MS: i64 = 7 * 24 * 60 * 60 * 1000;
/// One whose opening was begun and not finished ends once it is in the way of another, this long after the last sign that somebody is at work on it: its
/// opening, or progress of whoever fills it from an archive, which is a part of opening and may take days.
pub const OPENING_MS: i64 = 24 * 60 * 60 * 1000;
/// Whoever fills one says so at most so often: each time is a write of the record.
pub const PROGRESS_MS: i64 = 60 * 60 * 1000;
/// Most generations that are remembered, with those that have ended. A further one is refused.
pub const GENERATIONS_MAX: usize = 64;
/// Most generations that are folded at once, with the one that counts.
pub const OPEN_MAX: usize = 3;
/// Longest name.
pub const NAME_BYTES_MAX: usize = 64;
/// What the first one is called.
pub const FIRST: &str = "first";
/// How far a generation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It is being given what it needs to know of the time before its start, or filled from an archive.
    Opening,
    /// It folds what is older than its opening.
    Filling,
    /// It has caught up, and goes on behind the one that counts.
    Following,
    /// It is folded no longer.
    Ended,
}

/// One generation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Its place in every row's key.
    pub number: u32,
    /// What people call it.
    pub name: String,
    /// Whose windows stand where it has none; `None`: the first has no parent.
    pub parent: Option<u32>,
    /// It holds the records that arrived from here on, Unix milliseconds, a whole minute; `None`: all.
    pub start_ms: Option<i64>,
    /// By shard, the first record that it holds; a shard that is not named had none.
    pub starts: BTreeMap<ShardId, SequenceNumber>,
    /// When, Unix milliseconds.
    pub opened_at_ms: i64,
    /// How far it is.
    pub standing: Standing,
    /// When it ceased to count, by the stream's time; `None`: it never did.
    pub counted_until_ms: Option<i64>,
    /// The last comparison.
    pub compared: Option<Compared>,
    /// It is filled from the archive, and from the stream behind that, while it is `Opening`.
    #[serde(default)]
    pub from_archive: bool,
    /// When whoever fills it last said that it makes progress, Unix milliseconds; `None`: nobody did.
    #[serde(default)]
    pub progress_at_ms: Option<i64>,
}

/// One promotion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promotion {
    /// 1 is the first.
    pub number: u16,
    /// What was promoted.
    pub generation: u32,
    /// The definition that says so; `None`: it may not be on the stream yet. The same promotion again finishes it.
    pub revision: Option<SequenceNumber>,
    /// When, Unix milliseconds.
    pub at_ms: i64,
}

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Without the first, which is always there.
    pub entries: Vec<Entry>,
    /// In their order.
    pub promotions: Vec<Promotion>,
    /// When the first ceased to count; `None`: it never did.
    pub first_counted_until_ms: Option<i64>,
    /// The first is folded no longer.
    pub first_ended: bool,
    /// Numbers up to here are given to no generation: the stream names one that is not among the rows any more.
    #[serde(default)]
    pub numbers_through: u32,
}

impl Entry {
    /// Windows that begin from here on are all its own, Unix seconds; before, they are the parent's.
    pub fn windows_from_secs(&self) -> i64 {
        self.start_ms.map_or(i64::MIN, |start_ms| start_ms.saturating_add(crate::fold::AHEAD_MAX_MS).div_euclid(1000))
    }

    /// Whoever fills it, and has folded more of it, is to say so again.
    pub fn is_progress_due(&self, now_ms: i64) -> bool {
        self.progress_at_ms.is_none_or(|at_ms| now_ms >= at_ms.saturating_add(PROGRESS_MS))
    }
}

impl Record {
    /// The one that counts, and the promotion that made it so. A promotion that is not finished does not count for readers.
    pub fn live(&self) -> Generation {
        self.finished().last().map_or(Generation::default(), |promotion| Generation(promotion.generation))
    }

    /// Those that are known to be on the stream.
    pub fn finished(&self) -> impl DoubleEndedIterator<Item = &Promotion> {
        self.promotions.iter().filter(|promotion| promotion.revision.is_some())
    }

    /// The promotion that is begun and not known to be on the stream.
    pub fn unfinished(&self) -> Option<&Promotion> {
        self.promotions.last().filter(|promotion| promotion.revision.is_none())
    }

    /// One of them; the first has none.
    pub fn entry(&self, generation: Generation) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.number == generation.0)
    }

    /// What a generation is called.
    pub fn name(&self, generation: Generation) -> &str {
        self.entry(generation).map_or(FIRST, |entry| &entry.name)
    }

    /// The generation of this name.
    pub fn named(&self, name: &str) -> Option<Generation> {
        if name == FIRST {
            return Some(Generation::default());
        }
        self.entries.iter().find(|entry| entry.name == name).map(|entry| Generation(entry.number))
    }

    /// How far it is.
    pub fn standing(&self, generation: Generation) -> Standing {
        let first = if self.first_ended { Standing::Ended } else { Standing::Following };
        self.entry(generation).map_or(first, |entry| entry.standing)
    }

    /// Those that are to be folded.
    pub fn folded(&self) -> Vec<Generation> {
        let all =
            std::iter::once(Generation::default()).chain(self.entries.iter().map(|entry| Generation(entry.number)));
        all.filter(|generation| !matches!(self.standing(*generation), Standing::Ended | Standing::Opening)).collect()
    }

    /// When it begins, Unix milliseconds; `None`: with the first record.
    pub fn start_ms(&self, generation: Generation) -> Option<i64> {
        self.entry(generation).and_then(|entry| entry.start_ms)
    }

    /// The nearest ancestor that knows all of the time before a start.
    pub fn knows_before(&self, start_ms: Option<i64>) -> Generation {
        let mut of = self.live();
        while let Some(entry) = self.entry(of) {
            if entry.start_ms <= start_ms && start_ms.is_some() || entry.start_ms.is_none() {
                break;
            }
            of = Generation(entry.parent.unwrap_or_default());
        }
        of
    }

    /// Opens a generation, or finds the one that was opened so before. True: it is new.
    pub fn open(
        &mut self,
        name: &str,
        start_ms: Option<i64>,
        starts: BTreeMap<ShardId, SequenceNumber>,
        now_ms: i64,
    ) -> Result<(Generation, bool), OpenRefused> {
        let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(is_fine) || name == FIRST {
            return Err(OpenRefused::Name(name.chars().take(NAME_BYTES_MAX).collect()));
        }
        if let Some(entry) = self.entries.iter().find(|entry| entry.name == name) {
            return match entry.standing {
                Standing::Ended => Err(OpenRefused::Ended(name.to_owned())),
                _ if entry.start_ms != start_ms => Err(OpenRefused::Taken(name.to_owned())),
                _ => Ok((Generation(entry.number), false)),
            };
        }
        // Whoever was opening it is gone, or has forgotten it: it must not be in the way for ever.
        let is_given_up = |entry: &&mut Entry| {
            let moved_at_ms = entry.progress_at_ms.unwrap_or_default().max(entry.opened_at_ms);
            entry.standing == Standing::Opening && now_ms >= moved_at_ms.saturating_add(OPENING_MS)
        };
        self.entries.iter_mut().filter(is_given_up).for_each(|entry| entry.standing = Standing::Ended);
        let busy = |entry: &&Entry| matches!(entry.standing, Standing::Opening | Standing::Filling);
        if let Some(other) = self.entries.iter().find(busy) {
            return Err(OpenRefused::UnderWay(other.name.clone()));
        }
        if self.folded().len() >= OPEN_MAX {
            return Err(OpenRefused::Many);
        }
        if self.entries.len() + 1 >= GENERATIONS_MAX {
            return Err(OpenRefused::TooMany);
        }
        let known = self.entries.iter().map(|entry| entry.number).max().unwrap_or_default();
        let number = known.max(self.numbers_through) + 1;
        self.entries.push(Entry {
            number,
            name: name.to_owned(),
            parent: Some(self.live().0),
            start_ms,
            starts,
            opened_at_ms: now_ms,
            standing: Standing::Opening,
            counted_until_ms: None,
            compared: None,
            from_archive: false,
            progress_at_ms: None,
        });
        Ok((Generation(number), true))
    }

    /// A generation that was opened is to be filled from the archive first.
    pub fn fill_from_archive(&mut self, generation: Generation) {
        let opening = |entry: &&mut Entry| entry.number == generation.0 && entry.standing == Standing::Opening;
        if let Some(entry) = self.entries.iter_mut().find(opening) {
            entry.from_archive = true;
        }
    }

    /// Whoever fills a generation has folded more of it.
    pub fn progresses(&mut self, generation: Generation, now_ms: i64) {
        let opening = |entry: &&mut Entry| entry.number == generation.0 && entry.standing == Standing::Opening;
        if let Some(entry) = self.entries.iter_mut().find(opening) {
            entry.progress_at_ms = entry.progress_at_ms.max(Some(now_ms));
        }
    }

    /// A generation has come so far. It never goes back.
    pub fn stands(&mut self, generation: Generation, standing: Standing) {
        let rank = |standing| match standing {
            Standing::Opening => 0,
            Standing::Filling => 1,
            Standing::Following => 2,
            Standing::Ended => 3,
        };
        if generation == Generation::default() {
            self.first_ended |= standing == Standing::Ended;
        }
        let found = self.entries.iter_mut().find(|entry| entry.number == generation.0);
        if let Some(entry) = found.filter(|entry| rank(entry.standing) < rank(standing)) {
            entry.standing = standing;
        }
    }

    /// True if it is to end at this time of the fold.
    pub fn is_over(&self, generation: Generation, time_ms: i64) -> bool {
        let is_wanted = self.live() == generation
            || self.unfinished().is_some_and(|promotion| promotion.generation == generation.0);
        let until = match self.entry(generation) {
            None => self.first_counted_until_ms.map(|until| until.saturating_add(FOLLOWS_MS)),
            Some(entry) => Some(match entry.counted_until_ms {
                Some(until) => until.saturating_add(FOLLOWS_MS),
                None => entry.opened_at_ms.saturating_add(UNPROMOTED_MS),
            }),
        };
        !is_wanted && until.is_some_and(|until| time_ms >= until)
    }

    /// Begins a promotion, or finds the one that was cut short. Nothing counts yet: `promoted` says so once its definition is on the stream.
    pub fn promote(&mut self, name: &str, now_ms: i64) -> Result<Promotion, PromoteRefused> {
        let of = |generation: u32| self.name(Generation(generation)).to_owned();
        let Some(generation) = self.named(name) else {
            let known = std::iter::once(FIRST).chain(self.entries.iter().map(|entry| entry.name.as_str()));
            let known = known.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            return Err(PromoteRefused::Unknown { name: name.chars().take(NAME_BYTES_MAX).collect(), known });
        };
        if let Some(begun) = self.unfinished() {
            return match begun.generation == generation.0 {
                true => Ok(begun.clone()),
                false => Err(PromoteRefused::UnderWay(of(begun.generation))),
            };
        }
        if self.live() == generation {
            return Err(PromoteRefused::Counts(name.to_owned()));
        }
        match self.standing(generation) {
            Standing::Opening | Standing::Filling => return Err(PromoteRefused::Filling(name.to_owned())),
            Standing::Ended => return Err(PromoteRefused::Ended(name.to_owned())),
            Standing::Following => {}
        }
        let last = self.promotions.last().map_or(0, |promotion| promotion.number);
        let number = last.checked_add(1).ok_or(PromoteRefused::TooMany(last))?;
        let promotion = Promotion { number, generation: generation.0, revision: None, at_ms: now_ms };
        self.promotions.push(promotion.clone());
        Ok(promotion)
    }

    /// A promotion's definition is on the stream: readers take it from here on, and the one before ends a day after this time.
    pub fn promoted(&mut self, number: u16, revision: SequenceNumber, now_ms: i64) {
        let before = self.live();
        let Some(promotion) = self.promotions.iter_mut().find(|of| of.number == number && of.revision.is_none()) else {
            return;
        };
        promotion.revision = Some(revision);
        let after = promotion.generation;
        let mut until = |generation: u32, until_ms| match self.entries.iter_mut().find(|of| of.number == generation) {
            Some(entry) => entry.counted_until_ms = until_ms,
            None => self.first_counted_until_ms = until_ms,
        };
        until(before.0, Some(now_ms));
        until(after, None);
    }
}
