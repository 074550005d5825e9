//! The live sink of a system's workers. Decides which records wait: those that name definitions which cannot be read from the rows yet, and those that
//! hold what another shard said while another generation counted, as long as the own generation's fold of that shard has not said it too.
//!
//! Nobody names definitions that are not readable; but where rows are behind the stream, as under a new prefix beside a stream that is older, the shard
//! that folds definitions may not have come so far, and whoever folds a record with fewer than it names decides otherwise than was decided. The other
//! shards may be in any process, so what they have done is looked for in the rows.

use std::{collections::BTreeMap, sync::Arc};

use events::{
    position::{SequenceNumber, ShardId},
    stream::Stream,
};
use processor::{
    consume::ConsumeError,
    effects::{Live, Sink},
    generations::{Acting, hear, readable},
};
use projections::{
    fold::{Effect, Input, Place},
    store::Store,
};

/// See the module.
#[derive(Debug)]
pub(crate) struct Patient<S> {
    to: To<S>,
    /// Definitions up to here can be read, as far as is known.
    readable: SequenceNumber,
    /// The first record of each shard that the generation holds.
    starts: BTreeMap<ShardId, SequenceNumber>,
}

/// What takes the effects.
#[derive(Debug)]
enum To<S> {
    /// The stream; what other shards said is taken as it stands there.
    Live(Live<S>),
    /// The stream; what they said is their fold's of this generation.
    Acting(Acting<S>),
}

impl<S> Patient<S> {
    /// Every record waits that names definitions, until `look` has been asked. What shards said is taken as it stands, whichever generation said it.
    pub(crate) fn new(stream: Arc<S>) -> Self {
        Self { to: To::Live(Live(stream)), readable: SequenceNumber::ZERO, starts: BTreeMap::new() }
    }

    /// Of a shard that counts. `starts`: the first record of each shard that its generation holds.
    pub(crate) fn of(acting: Acting<S>, starts: BTreeMap<ShardId, SequenceNumber>) -> Self {
        Self { to: To::Acting(acting), readable: SequenceNumber::ZERO, starts }
    }

    /// For rows that are never behind what records name: they go with their stream, and are made anew before anything is folded live.
    pub(crate) fn of_whole_rows(mut self) -> Self {
        self.readable = SequenceNumber::MAX;
        self
    }

    /// Looks what there is by now of what a record waits for.
    pub(crate) async fn look<T: Store>(&mut self, store: &T, place: &Place) -> Result<(), ConsumeError> {
        self.readable = readable(store, place, &self.starts).await?.max(self.readable);
        match &mut self.to {
            To::Live(_) => Ok(()),
            To::Acting(acting) => hear(acting.follower(), store, place).await,
        }
    }
}

impl<S: Stream> Sink for Patient<S> {
    async fn carry_out(&mut self, shard: &ShardId, effects: Vec<Effect>) -> Result<(), String> {
        match &mut self.to {
            To::Live(live) => live.carry_out(shard, effects).await,
            To::Acting(acting) => acting.carry_out(shard, effects).await,
        }
    }

    fn acts(&self) -> Option<bool> {
        Some(true)
    }

    fn admit(&mut self, input: Input) -> Option<Input> {
        let may = input.definitions().is_none_or(|revision| revision <= self.readable);
        match &mut self.to {
            _ if !may => None,
            To::Live(_) => Some(input),
            To::Acting(acting) => acting.admit(input),
        }
    }

    fn keep(&mut self) -> Vec<u8> {
        match &mut self.to {
            To::Live(_) => vec![],
            To::Acting(acting) => acting.keep(),
        }
    }

    fn kept(&mut self) {
        if let To::Acting(acting) = &mut self.to {
            acting.kept();
        }
    }

    fn recall(&mut self, kept: &[u8], has_ended: bool) -> Result<(), String> {
        match &mut self.to {
            To::Live(_) => Ok(()),
            To::Acting(acting) => acting.recall(kept, has_ended),
        }
    }

    fn inherit(&mut self, parents: &[Vec<u8>]) -> Result<(), String> {
        match &mut self.to {
            To::Live(_) => Ok(()),
            To::Acting(acting) => acting.inherit(parents),
        }
    }
}
