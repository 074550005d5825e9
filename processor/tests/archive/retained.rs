//! A stream that lets go of records when it is told to, of any number, and of whole shards: as strict as Kinesis, for which a position is known only
//! while its own record is kept.

use std::{
    collections::{HashMap, HashSet},
    num::NonZeroUsize,
    sync::{Arc, Mutex},
    time::Duration,
};

use events::{
    position::{SequenceNumber, ShardId},
    stream::{AppendError, Appended, Limits, Page, Put, ReadError, Refused, Shard, Start, Stream},
};

pub struct Retained<S> {
    pub inner: Arc<S>,
    /// Records up to here are gone.
    pub trimmed: Mutex<HashMap<ShardId, SequenceNumber>>,
    /// These are not listed any more.
    pub gone: Mutex<HashSet<ShardId>>,
    /// Most records of one read.
    pub page: Mutex<NonZeroUsize>,
}

impl<S: Stream> Retained<S> {
    pub fn new(inner: Arc<S>) -> Self {
        Self { inner, trimmed: Mutex::default(), gone: Mutex::default(), page: Mutex::new(NonZeroUsize::MAX) }
    }

    pub fn trim(&self, shard: &ShardId, through: SequenceNumber) {
        let mut trimmed = self.trimmed.lock().unwrap();
        let at = trimmed.entry(shard.clone()).or_default();
        *at = through.max(*at);
    }

    pub fn forget(&self, shard: &ShardId) {
        self.gone.lock().unwrap().insert(shard.clone());
    }

    fn through(&self, shard: &ShardId) -> SequenceNumber {
        self.trimmed.lock().unwrap().get(shard).copied().unwrap_or_default()
    }
}

impl<S: Stream> Stream for Retained<S> {
    async fn append(&self, puts: Vec<Put>) -> Result<Vec<Result<Appended, Refused>>, AppendError> {
        self.inner.append(puts).await
    }

    async fn shards(&self) -> Result<Vec<Shard>, ReadError> {
        let mut shards = self.inner.shards().await?;
        shards.retain(|shard| !self.gone.lock().unwrap().contains(&shard.id));
        Ok(shards)
    }

    async fn read(&self, shard: &ShardId, from: Start, limits: Limits) -> Result<Page, ReadError> {
        let limits = Limits { records: limits.records.min(*self.page.lock().unwrap()), ..limits };
        if self.gone.lock().unwrap().contains(shard) {
            return Err(ReadError::NoSuchShard(shard.clone()));
        }
        let through = self.through(shard);
        if through == SequenceNumber::ZERO {
            return self.inner.read(shard, from, limits).await;
        }
        match from {
            Start::TrimHorizon | Start::At(SequenceNumber::ZERO) | Start::After(SequenceNumber::ZERO) => {
                self.inner.read(shard, Start::After(through), limits).await
            }
            Start::At(asked) | Start::After(asked) if asked <= through => {
                let one = Limits { records: NonZeroUsize::MIN, bytes: 1, wait: Duration::ZERO };
                let kept = self.inner.read(shard, Start::After(through), one).await?;
                match kept.records.first() {
                    // Nothing came since: what is gone is known once a record shows it.
                    None if kept.next.is_some() => Ok(Page { next: Some(from), ..kept }),
                    first => {
                        let oldest = first.map_or(SequenceNumber::MAX, |record| record.sequence);
                        Err(ReadError::Trimmed { shard: shard.clone(), asked, oldest })
                    }
                }
            }
            Start::AtTimestamp(_) => {
                let page = self.inner.read(shard, from, limits).await?;
                match page.records.first() {
                    Some(first) if first.sequence <= through => {
                        self.inner.read(shard, Start::After(through), limits).await
                    }
                    _ => Ok(page),
                }
            }
            from => self.inner.read(shard, from, limits).await,
        }
    }
}
