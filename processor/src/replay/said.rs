//! What the replays of the shards have told each other and the one who was told has not folded yet. Decides what a recorded word stands for, and
//! when nobody can ask for a word any more.
//!
//! A home asks for what its records hold. A record may stand on the stream twice, and again long after, because whoever appends hears no answer and
//! appends again. So what was heard cannot be found by what is left of it: a home is remembered by how far it has heard each source. A word that is
//! not further than that is one that the fold does not heed, whatever it says. What a shard says of one tick may be several words, its parts; it says
//! all of them before a home hears one, and a home may hear them in any order.

use std::collections::{BTreeMap, BTreeSet};

use events::{
    event::{Event, RolledUp},
    position::{HashKey, SequenceNumber, ShardId},
};

/// A source that has told a home so many words which that home has not come to yet lets the others go first. Together with one page of the source's
/// records this bounds what is remembered, however old the stream is, but for one thing: what a home says after it has reached its end.
pub(super) const AHEAD_MAX: usize = 64;

/// One source and one home, by the key under which others address it.
type Pair = (ShardId, HashKey);

/// The source's tick, and which part of what it said there.
type Part = (SequenceNumber, u32);

fn part(word: &RolledUp) -> Part {
    (word.source_position, word.part)
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Said {
    /// Homes of whose records the stream has none: they never ask, and of what they are told the last words are kept.
    gone: BTreeSet<HashKey>,
    waiting: BTreeMap<Pair, BTreeMap<Part, RolledUp>>,
    heard_through: BTreeMap<Pair, SequenceNumber>,
    count: usize,
    most: usize,
}

impl Said {
    /// Nothing was said yet.
    pub fn new(gone: BTreeSet<HashKey>) -> Self {
        Self { gone, ..Self::default() }
    }

    /// A source's replay tells a home.
    pub fn say(&mut self, home: HashKey, rolled_up: RolledUp) {
        let pair = (rolled_up.source.clone(), home);
        if self.heard_through.get(&pair).is_some_and(|through| rolled_up.source_position <= *through) {
            return;
        }
        let waiting = self.waiting.entry(pair).or_default();
        self.count += usize::from(waiting.insert(part(&rolled_up), rolled_up).is_none());
        if waiting.len() > AHEAD_MAX && self.gone.contains(&home) {
            waiting.pop_first();
            self.count -= 1;
        }
        self.most = self.most.max(self.count);
    }

    /// What a recorded word stands for; `None`: the source's replay has not come so far.
    pub fn of(&self, home: HashKey, recorded: &RolledUp) -> Option<RolledUp> {
        let pair = (recorded.source.clone(), home);
        let own = self.waiting.get(&pair).and_then(|waiting| waiting.get(&part(recorded)));
        if own.is_none() && self.heard_through.get(&pair).is_some_and(|through| recorded.source_position <= *through) {
            return Some(recorded.clone());
        }
        // An older revision of the fold may have needed more parts for it: the first one twice changes nothing.
        own.or_else(|| self.waiting.get(&pair)?.get(&(recorded.source_position, 0))).cloned()
    }

    /// The home folds this word next: it asks for none before it any more.
    pub fn heard(&mut self, home: HashKey, word: &RolledUp) {
        let pair = (word.source.clone(), home);
        if let Some(waiting) = self.waiting.get_mut(&pair) {
            while waiting.first_key_value().is_some_and(|((position, _), _)| *position < word.source_position) {
                waiting.pop_first();
                self.count -= 1;
            }
            self.count -= usize::from(waiting.remove(&part(word)).is_some());
        }
        let through = self.heard_through.entry(pair).or_default();
        *through = word.source_position.max(*through);
    }

    /// A home begins again where it had heard so much of each source: it asks for these words once more.
    pub fn begin_again(&mut self, home: HashKey, heard: &BTreeMap<ShardId, SequenceNumber>, words: Vec<RolledUp>) {
        self.heard_through.retain(|(_, of), _| *of != home);
        let through = heard.iter().map(|(source, through)| ((source.clone(), home), *through));
        self.heard_through.extend(through);
        let count = &mut self.count;
        self.waiting.retain(|(_, of), words| {
            *count -= if *of == home { words.len() } else { 0 };
            *of != home
        });
        words.into_iter().for_each(|word| self.say_again(home, word));
    }

    /// As `say`, of a word that the home may have heard a part of.
    fn say_again(&mut self, home: HashKey, word: RolledUp) {
        let waiting = self.waiting.entry((word.source.clone(), home)).or_default();
        self.count += usize::from(waiting.insert(part(&word), word).is_none());
        self.most = self.most.max(self.count);
    }

    /// True if the source should wait for the homes.
    pub fn is_ahead(&self, source: &ShardId) -> bool {
        let pairs = self.waiting.range((source.clone(), HashKey(0))..=(source.clone(), HashKey(u128::MAX)));
        pairs.into_iter().any(|(_, waiting)| waiting.len() > AHEAD_MAX)
    }

    /// Most words that were remembered at once.
    pub fn most(&self) -> usize {
        self.most
    }

    /// What no home has come to, with its key, in the order in which each source said it.
    pub fn unheard(&self) -> Vec<(HashKey, Event)> {
        let all = self.waiting.iter().flat_map(|((_, home), words)| words.values().map(|word| (*home, word.clone())));
        all.map(|(home, word)| (home, Event::RolledUp(word))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: HashKey = HashKey(7);

    fn word(position: u64, time_ms: i64) -> RolledUp {
        RolledUp {
            source: ShardId::numbered(1),
            source_position: SequenceNumber::from_parts(1, position),
            source_time_ms: time_ms,
            windows: vec![],
            part: 0,
            parts_after: 0,
            generation: 0,
        }
    }

    #[test]
    fn every_part_of_a_word_is_the_replays_own_in_whatever_order_it_was_recorded() {
        let mut said = Said::default();
        let said_of = |position, time_ms, part| RolledUp { part, parts_after: 2 - part, ..word(position, time_ms) };
        (0..3).for_each(|part| said.say(HOME, said_of(1, 30, part)));
        for part in [0, 2, 1] {
            assert_eq!(said.of(HOME, &said_of(1, 0, part)), Some(said_of(1, 30, part)));
            said.heard(HOME, &said_of(1, 30, part));
        }
        assert_eq!((said.count, said.unheard()), (0, vec![]));
        assert_eq!(said.of(HOME, &said_of(1, 0, 2)), Some(said_of(1, 0, 2)), "it stands there again");
        said.say(HOME, word(2, 40));
        assert_eq!(said.of(HOME, &said_of(2, 0, 2)), Some(word(2, 40)), "it needed more parts once");
        assert_eq!(said.of(HOME, &word(3, 0)), None);
    }

    #[test]
    fn a_recorded_word_waits_for_the_replays_own_and_stands_for_that() {
        let mut said = Said::default();
        assert_eq!(said.of(HOME, &word(3, 0)), None);
        said.say(HOME, word(3, 30));
        assert_eq!(said.of(HOME, &word(3, 0)), Some(word(3, 30)));
        assert_eq!(said.of(HashKey(8), &word(3, 0)), None, "it was told to another");
    }

    #[test]
    fn a_word_that_stands_on_the_stream_again_is_let_through_though_nothing_of_it_is_left() {
        let mut said = Said::default();
        for position in 1..=9 {
            said.say(HOME, word(position, 0));
            said.heard(HOME, &word(position, 0));
        }
        assert_eq!((said.count, said.most()), (0, 1));
        for again in [9, 9, 2] {
            assert_eq!(said.of(HOME, &word(again, 5)), Some(word(again, 5)));
            said.heard(HOME, &word(again, 5));
        }
        assert_eq!(said.of(HOME, &word(10, 0)), None, "and what was not said yet still waits");
    }

    #[test]
    fn a_home_that_never_asks_makes_nobody_wait_and_nothing_grow() {
        let mut said = Said::new([HOME].into());
        (1..=500).for_each(|position| said.say(HOME, word(position, 0)));
        assert!(!said.is_ahead(&ShardId::numbered(1)));
        assert_eq!((said.count, said.unheard().len()), (AHEAD_MAX, AHEAD_MAX));
        (1..=65).for_each(|position| said.say(HashKey(8), word(position, 0)));
        assert!(said.is_ahead(&ShardId::numbered(1)) && !said.is_ahead(&ShardId::numbered(2)));
    }

    #[test]
    fn what_was_said_before_a_word_that_was_heard_is_asked_for_by_nobody() {
        let mut said = Said::default();
        (1..=4).for_each(|position| said.say(HOME, word(position, 0)));
        said.say(HashKey(8), word(4, 0));
        said.heard(HOME, &word(3, 0));
        said.say(HOME, word(2, 0));
        let unheard = said.unheard();
        assert_eq!(unheard, [(HOME, Event::RolledUp(word(4, 0))), (HashKey(8), Event::RolledUp(word(4, 0)))]);
    }
}
