//! The sink of a replay: what its shards tell each other, and what they hear. Decides whether a record may be folded yet; can append nothing.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use events::{
    event::Event,
    position::{SequenceNumber, ShardId},
};
use projections::fold::{
    Effect, Input,
    alarms::point,
    sabotage::{self, Sabotage},
};

use super::said::Said;
use crate::effects::Sink;

/// The sink of a replay: it can tell and hear, and do nothing else.
pub struct Barrier {
    pub(super) said: Arc<Mutex<Said>>,
    /// How far the replay of the control shard has come: a record that names a later definition waits.
    pub(super) defined: Arc<Mutex<SequenceNumber>>,
    /// Definitions from before are not on the stream, and were given.
    pub(super) oldest_definition: SequenceNumber,
    /// Records from before are gone from the stream: what they said is taken as recorded.
    pub(super) oldest: HashMap<ShardId, SequenceNumber>,
    /// See `Replay::through`.
    pub(super) believes: Arc<AtomicBool>,
}

impl Sink for Barrier {
    async fn carry_out(&mut self, _: &ShardId, effects: Vec<Effect>) -> Result<(), String> {
        let mut said = self.said.lock().map_err(|_| "another shard's replay panicked".to_owned())?;
        for Effect::Append { hash_key, event } in effects {
            if let Event::RolledUp(rolled_up) = event {
                said.say(hash_key, rolled_up);
            }
        }
        Ok(())
    }

    fn admit(&mut self, input: Input) -> Option<Input> {
        let (Ok(mut said), Ok(defined)) = (self.said.lock(), self.defined.lock()) else { return None };
        let must_wait = |revision| revision > *defined && revision >= self.oldest_definition;
        if input.definitions().is_some_and(must_wait) {
            return None;
        }
        let admitted = input.map_rolled_up(|recorded| {
            let oldest = self.oldest.get(&recorded.source).copied();
            let believes = sabotage::breaks(Sabotage::ReplayBelievesRecorded);
            // Of a source that the stream does not list any more all is gone.
            if oldest.is_none_or(|oldest| recorded.source_position < oldest) || believes {
                return Some(recorded.clone());
            }
            let believes = || self.believes.load(Ordering::Relaxed).then(|| recorded.clone());
            said.of(point(recorded.home), recorded).or_else(believes)
        })?;
        // Only now: of a record that has to wait nothing was heard.
        for event in admitted.events() {
            if let Event::RolledUp(word) = event {
                said.heard(point(word.home), word);
            }
        }
        Some(admitted)
    }
}
