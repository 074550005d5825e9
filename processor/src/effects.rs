//! What carries out the effects that a fold decided. Decides nothing: whoever has a sink without a stream can tell and hear, and not act.

use std::sync::Arc;

use events::{
    position::ShardId,
    stream::{Put, Stream},
};
use projections::fold::{Effect, Input};

use crate::append::{append_all, system_event};

/// Carries out what the fold decided. Replay has one whose type holds nothing that could append.
pub trait Sink: Send {
    /// Returns once every effect is durable. Called again with the same effects after a crash.
    fn carry_out(&mut self, shard: &ShardId, effects: Vec<Effect>) -> impl Future<Output = Result<(), String>> + Send;

    /// What the fold is to see of a recorded input; `None`: it must wait.
    fn admit(&mut self, input: Input) -> Option<Input>;

    /// Whether effects leave here; `None`: nobody asks whether the generation counts. A worker stops before the record at which the answer changes, and
    /// one with another sink goes on from there.
    fn acts(&self) -> Option<bool> {
        None
    }

    /// What a resume point at this place is to hold for this sink; empty: nothing.
    fn keep(&mut self) -> Vec<u8> {
        vec![]
    }

    /// The resume point stands that holds what was kept last.
    fn kept(&mut self) {}

    /// The resume point at which the worker begins holds this; empty: nothing, or there is none. `Err`: it cannot be read.
    fn recall(&mut self, _kept: &[u8]) -> Result<(), String> {
        Ok(())
    }
}

/// The live sink: effects go to the stream.
#[derive(Debug, Clone)]
pub struct Live<S>(pub Arc<S>);

impl<S: Stream> Sink for Live<S> {
    async fn carry_out(&mut self, _: &ShardId, effects: Vec<Effect>) -> Result<(), String> {
        let puts: Vec<Put> =
            effects.into_iter().map(|Effect::Append { hash_key, event }| system_event(hash_key, event)).collect();
        // Else the shard stands still for good: whoever folds the record again decides the same effect again.
        debug_assert!(puts.iter().all(|put| put.check().is_ok()), "an effect of the fold fits into a record");
        append_all(&*self.0, puts).await.map(|_| ())
    }

    fn admit(&mut self, input: Input) -> Option<Input> {
        Some(input)
    }
}
