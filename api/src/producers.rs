//! The identities under which the API speaks (law 6). Decides that no two bodies use one at the same time, and so how many bodies come in at
//! once.
//!
//! There are as many identities as bodies may come in; each is the operator's with a number behind it, and counts by itself. A body that ends
//! with everything acknowledged hands its identity on; one that was cut off takes its identity with it, since what it sent may still arrive.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use events::identity::Producer;
use tokio::sync::{Semaphore, SemaphorePermit};

/// The pool.
#[derive(Debug)]
pub(crate) struct Producers {
    first: Producer,
    free: Mutex<Free>,
    bodies: Semaphore,
}

#[derive(Debug, Default)]
struct Free {
    idle: VecDeque<Producer>,
    made: u64,
}

impl Producers {
    pub(crate) fn new(first: Producer, bodies_max: usize) -> Self {
        Self { first, free: Mutex::default(), bodies: Semaphore::new(bodies_max) }
    }

    /// An identity for one body; `None`: none became free in time.
    pub(crate) async fn lease(&self, wait: Duration) -> Option<Lease<'_>> {
        let permit = tokio::time::timeout(wait, self.bodies.acquire()).await.ok()?.ok()?;
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        // The one that was idle longest: so that short bodies take turns over the shards.
        let producer = free.idle.pop_front().unwrap_or_else(|| {
            free.made += 1;
            Producer { id: format!("{}-{}", self.first.id, free.made), ..self.first.clone() }
        });
        Some(Lease { pool: self, producer, _permit: permit })
    }
}

/// An identity in use.
#[derive(Debug)]
pub(crate) struct Lease<'a> {
    pool: &'a Producers,
    pub(crate) producer: Producer,
    _permit: SemaphorePermit<'a>,
}

impl Lease<'_> {
    /// Everything that was sent is acknowledged, `used` counters in all: the next body may go on.
    pub(crate) fn hand_on(self, used: u64) {
        let mut producer = self.producer.clone();
        producer.counter += used;
        self.pool.free.lock().unwrap_or_else(PoisonError::into_inner).idle.push_back(producer);
    }
}
