//! A shard of one generation in the process that folds it, whether it counts there or not.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use events::position::{SequenceNumber, ShardId};
use processor::{
    consume::{ConsumeError, Step, Worker},
    generations::{Acting, Crew, Follower},
};
use projections::store::law::{block_on, memory::Memory};

use crate::{local::LocalStream, retained::Retained};

pub type LiveStream = Retained<LocalStream>;

pub enum Member {
    Follows(Worker<LiveStream, Memory, Follower>),
    Acts(Worker<LiveStream, Memory, Acting<LiveStream>>),
}

impl Member {
    pub fn committed(&self) -> SequenceNumber {
        match self {
            Self::Follows(worker) => worker.committed(),
            Self::Acts(worker) => worker.committed(),
        }
    }

    pub fn acts(&self) -> bool {
        matches!(self, Self::Acts(_))
    }

    pub fn step(&mut self, until: SequenceNumber) -> Result<Step, ConsumeError> {
        block_on(async {
            match self {
                Self::Follows(worker) => worker.step_until(Duration::ZERO, until).await,
                Self::Acts(worker) => worker.step(Duration::ZERO).await,
            }
        })
    }

    pub fn commit(&mut self) -> SequenceNumber {
        block_on(async {
            match self {
                Self::Follows(worker) => worker.commit().await.unwrap(),
                Self::Acts(worker) => worker.commit().await.unwrap(),
            }
        })
    }
}

pub struct Generations {
    pub crew: Arc<Crew>,
    pub starts: BTreeMap<ShardId, SequenceNumber>,
    pub members: BTreeMap<ShardId, Member>,
    /// Which sink comes next, where the state does not say so yet.
    pub turned: BTreeMap<ShardId, bool>,
    pub ended: BTreeSet<ShardId>,
}
