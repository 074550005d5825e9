//! The identities under which the API speaks (law 6). Decides that no two bodies use one at the same time.
//!
//! There are as many identities as bodies come in at once; each is the operator's with a number behind it, and counts by itself. A body that ends
//! with everything acknowledged hands its identity on; one that was cut off takes its identity with it, since what it sent may still arrive.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use crate::shares::Share;
use events::identity::Producer;

/// The pool.
#[derive(Debug)]
pub(crate) struct Producers {
    first: Producer,
    free: Mutex<Free>,
}

#[derive(Debug, Default)]
struct Free {
    idle: VecDeque<Producer>,
    made: u64,
}

impl Producers {
    pub(crate) fn new(first: Producer) -> Self {
        Self { first, free: Mutex::default() }
    }

    /// An identity for the body that holds this share of all bodies, and with it the share.
    pub(crate) fn lease(&self, share: Share) -> Lease<'_> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        // The one that was idle longest: so that short bodies take turns over the shards.
        let producer = free.idle.pop_front().unwrap_or_else(|| {
            free.made += 1;
            Producer { id: format!("{}-{}", self.first.id, free.made), ..self.first.clone() }
        });
        Lease { pool: self, producer, _share: share }
    }
}

/// An identity in use.
#[derive(Debug)]
pub(crate) struct Lease<'a> {
    pool: &'a Producers,
    pub(crate) producer: Producer,
    _share: Share,
}

impl Lease<'_> {
    /// Everything that was sent is acknowledged, `used` counters in all: the next body may go on.
    pub(crate) fn hand_on(self, used: u64) {
        let mut producer = self.producer.clone();
        producer.counter += used;
        self.pool.free.lock().unwrap_or_else(PoisonError::into_inner).idle.push_back(producer);
    }
}
