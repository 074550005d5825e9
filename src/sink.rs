//! The live sink of a system's workers. Decides which records wait: those that name definitions which cannot be read from the rows yet.
//!
//! Nobody names definitions that are not readable; but where rows are behind the stream, as under a new prefix beside a stream that is older, the shard
//! that folds definitions may not have come so far, and whoever folds a record with fewer than it names decides otherwise than was decided.

use std::sync::Arc;

use events::{
    identity::CONTROL_KEY,
    position::{HashKey, SequenceNumber, ShardId},
    stream::Stream,
};
use processor::{
    consume::ConsumeError,
    drive,
    effects::{Live, Sink},
};
use projections::{
    fold::{Effect, Input, Place},
    store::Store,
};

/// See the module.
#[derive(Debug)]
pub(crate) struct Patient<S> {
    live: Live<S>,
    /// Definitions up to here can be read, as far as is known.
    readable: SequenceNumber,
}

impl<S> Patient<S> {
    /// Every record waits that names definitions, until `look` has been asked.
    pub(crate) fn new(stream: Arc<S>) -> Self {
        Self { live: Live(stream), readable: SequenceNumber::ZERO }
    }

    /// For rows that are never behind what records name: they go with their stream, and are made anew before anything is folded live.
    pub(crate) fn of_whole_rows(stream: Arc<S>) -> Self {
        Self { live: Live(stream), readable: SequenceNumber::MAX }
    }

    /// Looks what can be read by now. What the control shard has gone past is readable, or nowhere any more.
    pub(crate) async fn look<T: Store>(&mut self, store: &T, place: &Place) -> Result<(), ConsumeError> {
        let failed = |source| ConsumeError::Drive { shard: place.shard.clone(), source };
        let newest = drive::newest_revision(store, place.generation).await.map_err(failed)?;
        let control = store.resume_point(place.generation, place.owner(HashKey::of(CONTROL_KEY))).await;
        let control = control.map_err(|error| failed(error.into()))?;
        let passed = control.map_or(SequenceNumber::ZERO, |point| point.position);
        self.readable = self.readable.max(newest).max(passed);
        Ok(())
    }
}

impl<S: Stream> Sink for Patient<S> {
    async fn carry_out(&mut self, shard: &ShardId, effects: Vec<Effect>) -> Result<(), String> {
        self.live.carry_out(shard, effects).await
    }

    fn acts(&self) -> Option<bool> {
        Some(true)
    }

    fn admit(&mut self, input: Input) -> Option<Input> {
        let may = input.definitions().is_none_or(|revision| revision <= self.readable);
        may.then_some(input)
    }
}
