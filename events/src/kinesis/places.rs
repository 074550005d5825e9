//! Where readers are: for each place that a page ended at, the iterator that goes on there, and the records that were read ahead of it. Decides what is
//! kept and for how long; asks nobody. All of it is only a cache: without it a read begins from its position.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    position::{SequenceNumber, ShardId},
    stream::{Limits, Page, Record, Start},
};

/// Most places kept. Then the one that was left first is forgotten.
const PLACES_MAX: usize = 1_024;
/// Most bytes of records kept that were read ahead. Then the places that were left first are forgotten.
const AHEAD_BYTES_MAX: usize = 64 << 20;
/// How long an iterator is used. Kinesis takes it for five minutes.
const ITERATOR_AGE_MAX: Duration = Duration::from_secs(270);

/// An iterator, which gives the records from a place on, for some minutes.
#[derive(Debug)]
pub(super) struct Iterator {
    pub token: String,
    pub made_at: Instant,
    /// The position that was asked for and must be the first record that comes, else something was trimmed: see `reader`.
    pub must_begin_at: Option<Expected>,
}

/// The first record that an iterator must give.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected {
    pub sequence: SequenceNumber,
    /// It was asked for; else it is only to be seen, as reading goes on after it.
    pub wanted: bool,
}

/// How what was read stands to what was asked for.
pub(super) enum Begins {
    /// As it had to, or it is not known yet.
    Well,
    /// Something before it is gone.
    Later {
        asked: SequenceNumber,
        /// The first that came; `None`: there is none, and the shard has ended.
        oldest: Option<SequenceNumber>,
    },
}

impl Begins {
    /// Looks at the first records of an answer, and takes away the one that was only to be seen. `is_end`: no more will come.
    pub fn of(must: &mut Option<Expected>, ahead: &mut VecDeque<Record>, is_end: bool) -> Self {
        let Some(Expected { sequence: asked, wanted }) = *must else { return Self::Well };
        match ahead.front().map(|first| first.sequence) {
            Some(first) if first == asked => {
                *must = None;
                if !wanted {
                    ahead.pop_front();
                }
                Self::Well
            }
            None if !is_end => Self::Well,
            oldest => Self::Later { asked, oldest },
        }
    }
}

/// A place in a shard.
#[derive(Debug)]
pub(super) struct Place {
    /// What a caller asks with to go on here.
    pub from: Start,
    /// Records behind `from` that were read and not handed out.
    pub ahead: VecDeque<Record>,
    /// Goes on behind `ahead`; `None`: to be made, or there is nothing behind it (`ended`).
    pub iterator: Option<Iterator>,
    /// The shard is closed, and `ahead` is all that is left of it.
    pub ended: bool,
    /// How far behind the tip the end of `ahead` is.
    pub behind_ms: u64,
    /// When `behind_ms` was heard.
    pub heard_at: Instant,
}

impl Place {
    pub fn new(from: Start) -> Self {
        Self { from, ahead: VecDeque::new(), iterator: None, ended: false, behind_ms: 0, heard_at: Instant::now() }
    }

    /// A page of what was read ahead, and where it ends. Empty only if nothing was.
    pub fn page(&mut self, limits: &Limits) -> Page {
        let (mut records, mut bytes) = (Vec::new(), 0usize);
        while records.len() < limits.records.get() && (records.is_empty() || bytes < limits.bytes) {
            let Some(record) = self.ahead.pop_front() else { break };
            bytes = bytes.saturating_add(record.data.len());
            self.from = Start::After(record.sequence);
            records.push(record);
        }
        let behind_ms = match (records.last(), self.ahead.back()) {
            (Some(last), Some(end)) => {
                let between = u64::try_from(end.arrived_at_ms.saturating_sub(last.arrived_at_ms)).unwrap_or(0);
                self.behind_ms.saturating_add(between).max(1)
            }
            _ => self.behind_ms,
        };
        let next = (!self.ended || !self.ahead.is_empty()).then_some(self.from);
        Page { records, next, behind_ms }
    }

    fn ahead_bytes(&self) -> usize {
        self.ahead.iter().map(|record| record.data.len() + record.partition_key.len()).sum()
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Places(Mutex<Kept>);

type Key = (ShardId, Start);

#[derive(Debug, Default)]
struct Kept {
    places: HashMap<Key, (u64, Place)>,
    /// Keys in the order in which they were left, with the number that says whether this was the last time.
    left: VecDeque<(u64, Key)>,
    count: u64,
    bytes: usize,
}

impl Kept {
    fn take(&mut self, key: &Key) -> Option<Place> {
        let (_, place) = self.places.remove(key)?;
        self.bytes -= place.ahead_bytes();
        Some(place)
    }

    fn forget_first(&mut self) -> bool {
        let Some((count, key)) = self.left.pop_front() else { return false };
        if self.places.get(&key).is_some_and(|(last, _)| *last == count) {
            self.take(&key);
        }
        true
    }
}

impl Places {
    /// The place, if it is known; it is not kept any more. `edge`: farther behind than this, an iterator is not trusted (see `reader`).
    pub fn take(&self, shard: &ShardId, from: Start, edge: Option<Duration>) -> Place {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mut place) = kept.take(&(shard.clone(), from)) else { return Place::new(from) };
        let behind = Duration::from_millis(place.behind_ms) + place.heard_at.elapsed();
        let at_the_edge = place.behind_ms > 0 && edge.is_some_and(|edge| behind >= edge);
        place.iterator = place.iterator.filter(|it| it.made_at.elapsed() < ITERATOR_AGE_MAX && !at_the_edge);
        place
    }

    /// Keeps the place for whoever asks with its `from`.
    pub fn keep(&self, shard: &ShardId, place: Place) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (shard.clone(), place.from);
        kept.take(&key);
        kept.count += 1;
        let count = kept.count;
        kept.bytes += place.ahead_bytes();
        kept.left.push_back((count, key.clone()));
        kept.places.insert(key, (count, place));
        while (kept.places.len() > PLACES_MAX || kept.bytes > AHEAD_BYTES_MAX || kept.left.len() > 2 * PLACES_MAX)
            && kept.forget_first()
        {}
    }
}
