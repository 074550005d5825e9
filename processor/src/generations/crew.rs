//! The sinks of a generation's shards, one for each, and what they share: the words that the shards tell each other. Decides what a recorded word stands
//! for; only `Acting` can append, and it stands where the generation counts.
//!
//! A recorded `RolledUp` names the generation that said it.
//!
//! | the word is | it stands for |
//! | --- | --- |
//! | of this generation | itself: the fold is pure, so it is what this shard's own fold says |
//! | from before the generation's start | itself: nobody of this generation can say it |
//! | of another generation | what this generation's fold of the source says; until it has come so far, the record waits |
//!
//! A crew may be killed at any time. So what a shard said and a home has not folded for good stands in the shard's own resume point, with how far the
//! shard has heard the others; both are recalled when it begins again.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use events::{
    event::{Event, RolledUp},
    position::{HashKey, HashRange, SequenceNumber, ShardId},
    stream::Stream,
};
use projections::{
    fold::{
        Effect, Input,
        alarms::{HOMES, point},
        sabotage::{self, Sabotage},
    },
    store::Generation,
};
use serde::{Deserialize, Serialize};

use crate::{
    effects::{Live, Sink},
    replay::said::Said,
};

/// Most words of one shard for one home that are kept: of a home that never comes to them the oldest are forgotten first.
const KEPT_MAX: usize = 4_096;

/// The source's tick, and which part of what it said there.
type Part = (SequenceNumber, u32);

#[derive(Debug, Default)]
struct Words {
    said: Said,
    /// By source and home: what the home has not folded and committed yet.
    kept: BTreeMap<(ShardId, HashKey), BTreeMap<Part, RolledUp>>,
}

/// What the shards of one generation share in one process.
#[derive(Debug)]
pub struct Crew {
    generation: Generation,
    start_ms: Option<i64>,
    words: Mutex<Words>,
    /// Definitions up to here can be read from this generation's rows.
    defined: Mutex<SequenceNumber>,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Crew {
    /// A generation that begins at this time, Unix milliseconds (`None`: with the first record). `defined`: definitions up to here can be read from its
    /// rows.
    pub fn new(generation: Generation, start_ms: Option<i64>, defined: SequenceNumber) -> Arc<Self> {
        let words = Mutex::default();
        Arc::new(Self { generation, start_ms, words, defined: Mutex::new(defined) })
    }

    /// Its generation.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// When it begins.
    pub fn start_ms(&self) -> Option<i64> {
        self.start_ms
    }

    /// The shard that folds definitions has committed so far: what it defined can be read.
    pub fn defined_through(&self, position: SequenceNumber) {
        let mut defined = held(&self.defined);
        *defined = position.max(*defined);
    }

    /// True if a shard should let the others go first: homes have many of its words before them.
    pub fn is_ahead(&self, shard: &ShardId) -> bool {
        held(&self.words).said.is_ahead(shard)
    }

    /// The sink of a shard that does not count, which owns these keys.
    pub fn follower(self: &Arc<Self>, shard: ShardId, range: HashRange) -> Follower {
        Follower { crew: self.clone(), shard, range, heard: Heard::new(), keeping: Heard::new(), wants: None }
    }

    /// The sink of a shard that counts.
    pub fn acting<S>(self: &Arc<Self>, shard: ShardId, range: HashRange, stream: Arc<S>) -> Acting<S> {
        Acting { follower: self.follower(shard, range), live: Live(stream) }
    }
}

/// See the module: it can tell and hear, and do nothing else.
#[derive(Debug)]
pub struct Follower {
    crew: Arc<Crew>,
    shard: ShardId,
    range: HashRange,
    heard: Heard,
    /// The same at the resume point that is being written.
    keeping: Heard,
    /// Whose word the record needs that waits.
    wants: Option<ShardId>,
}

/// How far each of the homes that a shard keeps has heard each source.
type Heard = BTreeMap<u8, BTreeMap<ShardId, SequenceNumber>>;

/// What stands in a resume point.
#[derive(Default, Serialize, Deserialize)]
struct Kept {
    said: Vec<(HashKey, Vec<RolledUp>)>,
    heard: Heard,
}

impl Kept {
    fn of(bytes: &[u8]) -> Result<Self, String> {
        match bytes {
            [] => Ok(Self::default()),
            bytes => rmp_serde::from_slice(bytes).map_err(|error| error.to_string()),
        }
    }
}

impl Follower {
    /// The shard's homes begin where they had heard so much: they ask for what comes after it once more.
    fn begin(&mut self, words: &mut Words, heard: Heard) {
        for home in (0..HOMES).filter(|home| self.range.contains(point(*home))) {
            let own = words.kept.iter().filter(|((_, of), _)| *of == point(home));
            let own = own.flat_map(|(_, words)| words.values().cloned()).collect();
            words.said.begin_again(point(home), heard.get(&home).unwrap_or(&BTreeMap::new()), own);
        }
        self.heard = heard;
    }

    /// Its crew.
    pub fn crew(&self) -> &Arc<Crew> {
        &self.crew
    }

    /// Whose word the record needs that waits; `None`: it waits for definitions, or none waits.
    pub fn wants(&self) -> Option<&ShardId> {
        self.wants.as_ref()
    }

    /// The resume point of another shard holds this: what it said there to the homes of this one is known from now on.
    pub fn hear(&mut self, kept: &[u8]) -> Result<(), String> {
        let mut words = held(&self.crew.words);
        for (home, said) in Kept::of(kept)?.said.into_iter().filter(|(home, _)| self.range.contains(*home)) {
            said.into_iter().for_each(|word| words.said.say(home, word));
        }
        Ok(())
    }
}

impl Sink for Follower {
    async fn carry_out(&mut self, shard: &ShardId, effects: Vec<Effect>) -> Result<(), String> {
        let mut words = held(&self.crew.words);
        for Effect::Append { hash_key, event } in effects {
            if let Event::RolledUp(word) = event {
                let kept = words.kept.entry((shard.clone(), hash_key)).or_default();
                kept.insert((word.source_position, word.part), word.clone());
                if kept.len() > KEPT_MAX {
                    kept.pop_first();
                }
                words.said.say(hash_key, word);
            }
        }
        Ok(())
    }

    fn admit(&mut self, input: Input) -> Option<Input> {
        self.wants = None;
        if input.definitions().is_some_and(|revision| revision > *held(&self.crew.defined)) {
            return None;
        }
        let mut words = held(&self.crew.words);
        let own = self.crew.generation.0;
        let (mut is_others, mut wants) = (false, None);
        let admitted = input.map_rolled_up(|recorded| {
            let is_before = self.crew.start_ms.is_some_and(|start_ms| recorded.source_time_ms < start_ms);
            let believes = sabotage::breaks(Sabotage::ReplayBelievesRecorded);
            is_others |= recorded.generation != own;
            if recorded.generation == own || is_before || believes {
                return Some(recorded.clone());
            }
            let said = words.said.of(point(recorded.home), recorded);
            if said.is_none() {
                wants = Some(recorded.source.clone());
            }
            said
        });
        self.wants = wants;
        let admitted = admitted?;
        // Only now: of a record that has to wait nothing was heard.
        for event in admitted.events() {
            if let Event::RolledUp(word) = event {
                words.said.heard(point(word.home), word);
                // Where no other generation ever spoke nothing is to be told apart, and a resume point stays as small as it is.
                if !is_others && self.heard.is_empty() {
                    continue;
                }
                let heard = self.heard.entry(word.home).or_default().entry(word.source.clone()).or_default();
                *heard = word.source_position.max(*heard);
            }
        }
        Some(admitted)
    }

    fn acts(&self) -> Option<bool> {
        Some(false)
    }

    fn keep(&mut self) -> Vec<u8> {
        self.keeping = self.heard.clone();
        let words = held(&self.crew.words);
        let from = (self.shard.clone(), HashKey(0))..=(self.shard.clone(), HashKey(u128::MAX));
        let said = words.kept.range(from).filter(|(_, words)| !words.is_empty());
        let said = said.map(|((_, home), words)| (*home, words.values().cloned().collect()));
        let kept = Kept { said: said.collect(), heard: self.heard.clone() };
        if (kept.said.is_empty() && kept.heard.is_empty()) || sabotage::breaks(Sabotage::WordsNotKept) {
            return vec![];
        }
        rmp_serde::to_vec_named(&kept).expect("words of integers, texts and bytes always encode")
    }

    fn kept(&mut self) {
        let mut words = held(&self.crew.words);
        let all = self.keeping.iter().flat_map(|(home, heard)| heard.iter().map(|(source, at)| (*home, source, at)));
        for (home, source, through) in all {
            if let Some(kept) = words.kept.get_mut(&(source.clone(), point(home))) {
                // Of the last tick some parts may be outstanding.
                *kept = kept.split_off(&(*through, 0));
            }
        }
    }

    fn recall(&mut self, kept: &[u8], has_ended: bool) -> Result<(), String> {
        let kept = Kept::of(kept)?;
        let crew = self.crew.clone();
        let mut words = held(&crew.words);
        for (home, said) in kept.said {
            for word in said {
                let of = words.kept.entry((self.shard.clone(), home)).or_default();
                of.insert((word.source_position, word.part), word.clone());
                words.said.say(home, word);
            }
        }
        if !has_ended {
            // Else another shard keeps its homes, and may have begun.
            self.begin(&mut words, kept.heard);
        }
        Ok(())
    }

    fn inherit(&mut self, parents: &[Vec<u8>]) -> Result<(), String> {
        let mut heard = Heard::new();
        for parent in parents {
            let mut homes = Kept::of(parent)?.heard;
            homes.retain(|home, _| self.range.contains(point(*home)));
            heard.append(&mut homes);
        }
        let crew = self.crew.clone();
        self.begin(&mut held(&crew.words), heard);
        Ok(())
    }
}

/// The sink of a generation that counts: what it decides goes to the stream.
#[derive(Debug)]
pub struct Acting<S> {
    follower: Follower,
    live: Live<S>,
}

impl<S> Acting<S> {
    /// What it hears with.
    pub fn follower(&mut self) -> &mut Follower {
        &mut self.follower
    }
}

impl<S: Stream> Sink for Acting<S> {
    async fn carry_out(&mut self, shard: &ShardId, effects: Vec<Effect>) -> Result<(), String> {
        self.live.carry_out(shard, effects).await
    }

    fn admit(&mut self, input: Input) -> Option<Input> {
        self.follower.admit(input)
    }

    fn acts(&self) -> Option<bool> {
        Some(true)
    }

    fn keep(&mut self) -> Vec<u8> {
        self.follower.keep()
    }

    fn kept(&mut self) {
        self.follower.kept();
    }

    fn recall(&mut self, kept: &[u8], has_ended: bool) -> Result<(), String> {
        self.follower.recall(kept, has_ended)
    }

    fn inherit(&mut self, parents: &[Vec<u8>]) -> Result<(), String> {
        self.follower.inherit(parents)
    }
}
