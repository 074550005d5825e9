//! Waiting until what is durable can be read. Decides when that is so, and when it never will be: the consumer has stopped.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use events::position::{SequenceNumber, ShardId};
use processor::replay::bytes_before;

use crate::{System, tips};

/// How often who waits for rows looks.
const ROWS_LOOK: Duration = Duration::from_millis(5);
/// How long at most without looking whether the consumer is still there.
const CONSUMER_LOOK: Duration = Duration::from_secs(60);

/// Somebody waits, until this is dropped: workers that have caught up commit at once.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(waiters: &'a AtomicUsize) -> Self {
        waiters.fetch_add(1, Ordering::SeqCst);
        Self(waiters)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl System {
    /// Waits until what a crash left on the stream can be read, however long it takes; an answer before then would lack lines that are durable.
    /// Ends early if the consumer stops.
    pub async fn recovered(&self) {
        while !self.readable(&self.found, CONSUMER_LOOK).await && self.ledger.why_stopped().is_none() {}
    }

    /// Bytes of the stream that `recovered` waits for.
    pub fn recovering_bytes(&self) -> u64 {
        let applied = self.ledger.applied_through();
        let done = |shard: &ShardId| applied.iter().find(|(of, _)| of == shard).map_or(0, |(_, at)| bytes_before(*at));
        self.found.iter().map(|(shard, tip)| bytes_before(*tip).saturating_sub(done(shard))).sum()
    }

    /// Waits until all that is durable now can be read. False: not within `wait`, or the consumer has stopped.
    pub async fn caught_up(&self, wait: Duration) -> Result<bool, events::stream::ReadError> {
        Ok(self.readable(&tips(&self.stream, &self.places).map_err(|error| *error)?, wait).await)
    }

    async fn readable(&self, through: &[(ShardId, SequenceNumber)], wait: Duration) -> bool {
        let _waiting = Waiting::new(&self.waiters);
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            let applied = self.ledger.applied_through();
            let is_applied = |(shard, tip): &(ShardId, SequenceNumber)| {
                *tip == SequenceNumber::ZERO || applied.iter().any(|(of, at)| of == shard && at >= tip)
            };
            if through.iter().all(is_applied) {
                return true;
            }
            if self.ledger.why_stopped().is_some() || tokio::time::Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(ROWS_LOOK).await;
        }
    }
}
