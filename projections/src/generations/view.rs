//! Where a reader finds windows: which generations' rows, and which of their partials, make up a window whole. Decides it from promotions and starts.
//!
//! With the last promotion `k`, of generation `g`: a window that `g` has all of is `g`'s, whatever its partials. Of an earlier one `g` has what came
//! after promotion `k`, the partials with that number; what came before is what a reader saw before promotion `k`. So to go back is one more step of
//! the same, and no line counts twice: it lies in one partial of one shard, and of each number one generation is read.

use std::ops::Range;

use super::record::Record;
use crate::store::{Generation, Partial};

/// Rows that are to be read of one generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Whose.
    pub generation: Generation,
    /// Which partials; `None`: all there are.
    pub partials: Option<Range<u16>>,
}

impl Source {
    /// True if this partial is to be read.
    pub fn takes(&self, partial: Partial) -> bool {
        self.partials.as_ref().is_none_or(|partials| partials.contains(&partial.0))
    }
}

/// What counted from one promotion to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Epoch {
    generation: Generation,
    /// The promotion at which it began.
    promotion: u16,
    /// It holds the records from here on, Unix seconds.
    start_secs: i64,
    /// Windows that begin from here on are all its own.
    windows_from_secs: i64,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Never empty; the first is of a generation that holds everything.
    epochs: Vec<Epoch>,
}

impl Default for View {
    fn default() -> Self {
        Self::from(Generation::default())
    }
}

/// One generation, whole: as if there were no other.
impl From<Generation> for View {
    fn from(generation: Generation) -> Self {
        Self { epochs: vec![Epoch { generation, promotion: 0, start_secs: i64::MIN, windows_from_secs: i64::MIN }] }
    }
}

impl View {
    /// What readers see.
    pub fn of(record: &Record) -> Self {
        let mut view = Self::default();
        for promotion in record.finished() {
            let generation = Generation(promotion.generation);
            let entry = record.entry(generation);
            let start_ms = entry.and_then(|entry| entry.start_ms);
            view.epochs.push(Epoch {
                generation,
                promotion: promotion.number,
                start_secs: start_ms.map_or(i64::MIN, |start_ms| start_ms.div_euclid(1000)),
                windows_from_secs: entry.map_or(i64::MIN, super::record::Entry::windows_from_secs),
            });
        }
        view
    }

    /// The generation that counts.
    pub fn live(&self) -> Generation {
        self.epochs.last().map_or(Generation::default(), |epoch| epoch.generation)
    }

    /// Every generation that anything is read of, each once.
    pub fn generations(&self) -> Vec<Generation> {
        let mut all: Vec<Generation> = self.epochs.iter().map(|epoch| epoch.generation).collect();
        all.sort();
        all.dedup();
        all
    }

    /// Which rows make up windows that begin in a range, Unix seconds: parts of the range in order, each with its sources. Empty: nothing.
    pub fn windows(&self, from: i64, to: i64) -> Vec<(Range<i64>, Vec<Source>)> {
        self.parts(from, to, |epoch| epoch.windows_from_secs)
    }

    /// The same for what is kept by the fold's minute: a generation has all of it from its start on.
    pub fn minutes(&self, from: i64, to: i64) -> Vec<(Range<i64>, Vec<Source>)> {
        self.parts(from, to, |epoch| epoch.start_secs)
    }

    fn parts(&self, from: i64, to: i64, begins: impl Fn(&Epoch) -> i64) -> Vec<(Range<i64>, Vec<Source>)> {
        let mut edges: Vec<i64> = self.epochs.iter().map(&begins).filter(|edge| from < *edge && *edge < to).collect();
        edges.extend([from, to]);
        edges.sort_unstable();
        edges.dedup();
        let part = |edges: &[i64]| (edges[0]..edges[1], self.sources(edges[0], &begins));
        edges.windows(2).map(part).collect()
    }

    fn sources(&self, at: i64, begins: &impl Fn(&Epoch) -> i64) -> Vec<Source> {
        let mut sources = vec![];
        // First promotion that is not looked at: of the last there is none yet.
        let mut before: Option<u16> = None;
        for epoch in self.epochs.iter().rev() {
            let has_all = at >= begins(epoch);
            let first = if has_all { 0 } else { epoch.promotion };
            let partials = match before {
                None if has_all => None,
                None => Some(first..u16::MAX),
                Some(before) => Some(first..before),
            };
            sources.push(Source { generation: epoch.generation, partials });
            if has_all {
                break;
            }
            before = Some(epoch.promotion);
        }
        sources
    }
}
