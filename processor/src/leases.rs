//! Which worker reads which shard: decides from the table of leases what one worker does next. Pure: it writes nothing, and time is what the observer's
//! own clock says, never another host's.
//!
//! Invariants:
//! - A lease is taken only if nobody owns it, or its counter has not moved for `failover` as this observer saw it, or its owner has at least two more
//!   than this worker. Each of these is carried out by a write on condition of owner and counter, so of two who try, one does.
//! - A shard is read only after its parents were read to their end, as far as they are still listed.
//! - Holding a lease is no proof: a worker that was paused may think so after another took it. Rows only move forward (law 4), so it harms nothing.
//!
//! What is balanced is the number of leases: within one of each other, after as many rounds as there are leases to move. A worker steals one lease a
//! round, so that a newcomer does not stop everybody at once.

#[cfg(feature = "aws")]
pub mod dynamodb;

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::Hasher,
    time::Duration,
};

use events::{position::ShardId, stream::Shard};
use xxhash_rust::xxh3::Xxh3Default;

/// A row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The shard.
    pub shard: ShardId,
    /// The worker that reads it; `None`: nobody.
    pub owner: Option<String>,
    /// Grows by one with every write of an owner, and whenever the owner changes.
    pub counter: u64,
    /// The shard was read to its end.
    pub ended: bool,
}

/// What a worker is to do with a lease now. Each is a write on condition that the row is as it was read; a lost condition is no error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Make the row of a shard that has none, owned by nobody.
    Create(Shard),
    /// Keep what this worker has.
    Renew(Lease),
    /// Take what nobody has, or whose owner is silent, or (`steal`) what another has too many of.
    Take {
        /// The row as it was read.
        lease: Lease,
        /// Its owner is alive, and is to notice at its next renewal.
        steal: bool,
    },
    /// Remove the row of a shard that the stream does not list any more, and that was read to its end.
    Remove(Lease),
}

/// What one observer has seen of the leases over time.
#[derive(Debug, Default)]
pub struct Watch {
    /// Owner and counter, and when they were first seen so, by this observer's clock.
    seen: BTreeMap<ShardId, (Option<String>, u64, Duration)>,
}

impl Watch {
    /// Takes a reading of the whole table at `now`, which only grows; returns the shards whose owner has been silent for `failover`.
    pub fn look(&mut self, leases: &[Lease], now: Duration, failover: Duration) -> BTreeSet<ShardId> {
        let listed: BTreeSet<&ShardId> = leases.iter().map(|lease| &lease.shard).collect();
        self.seen.retain(|shard, _| listed.contains(shard));
        let mut silent = BTreeSet::new();
        for lease in leases {
            let fresh = (lease.owner.clone(), lease.counter, now);
            let seen = self.seen.entry(lease.shard.clone()).or_insert_with(|| fresh.clone());
            if (&seen.0, seen.1) != (&lease.owner, lease.counter) {
                *seen = fresh;
            }
            if lease.owner.is_some() && now.saturating_sub(seen.2) >= failover {
                silent.insert(lease.shard.clone());
            }
        }
        silent
    }
}

/// What `me` does next. `shards`: the stream's listing; `leases`: the whole table; `silent`: see [`Watch::look`].
pub fn plan(me: &str, shards: &[Shard], leases: &[Lease], silent: &BTreeSet<ShardId>) -> Vec<Step> {
    let rows: BTreeMap<&ShardId, &Lease> = leases.iter().map(|lease| (&lease.shard, lease)).collect();
    let listed: BTreeSet<&ShardId> = shards.iter().map(|shard| &shard.id).collect();
    let ended = |shard: &ShardId| rows.get(shard).is_some_and(|lease| lease.ended);
    // A parent that is not listed any more is gone: who meets that says the loss.
    let ready = |shard: &&Shard| shard.parents.iter().all(|parent| ended(parent) || !listed.contains(parent));
    let mut steps = Vec::new();
    let mut open: Vec<&Lease> = Vec::new();
    for shard in shards.iter().filter(ready) {
        match rows.get(&shard.id) {
            None => steps.push(Step::Create(shard.clone())),
            Some(lease) if !lease.ended => open.push(lease),
            Some(_) => {}
        }
    }
    // A silent owner has nothing, and does not count as a worker.
    let owner = |lease: &Lease| lease.owner.clone().filter(|_| !silent.contains(&lease.shard));
    let mut loads: BTreeMap<String, usize> = BTreeMap::from([(me.to_owned(), 0)]);
    for name in open.iter().filter_map(|lease| owner(lease)) {
        *loads.entry(name).or_default() += 1;
    }
    steps.extend(
        open.iter().filter(|lease| owner(lease).as_deref() == Some(me)).map(|lease| Step::Renew((*lease).clone())),
    );
    take(me, &open, owner, &loads, &mut steps);
    let done = |lease: &&Lease| lease.ended && !listed.contains(&lease.shard);
    steps.extend(leases.iter().filter(done).map(|lease| Step::Remove(lease.clone())));
    steps
}

/// Free leases up to this worker's share; if there are none, one of the worker that has most.
fn take(
    me: &str,
    open: &[&Lease],
    owner: impl Fn(&Lease) -> Option<String>,
    loads: &BTreeMap<String, usize>,
    steps: &mut Vec<Step>,
) {
    let mine = loads[me];
    let share = open.len().div_ceil(loads.len());
    let mut free: Vec<&Lease> = open.iter().copied().filter(|lease| owner(lease).is_none()).collect();
    // Workers that look at the same time begin at different ones.
    free.sort_by_key(|lease| place(me, &lease.shard));
    if !free.is_empty() {
        let wanted = share.saturating_sub(mine);
        steps.extend(free.into_iter().take(wanted).map(|lease| Step::Take { lease: lease.clone(), steal: false }));
        return;
    }
    let Some((busiest, load)) = loads.iter().max_by_key(|(name, load)| (**load, place(me, &ShardId::named(name))))
    else {
        return;
    };
    if *load >= mine + 2 {
        let theirs = open.iter().filter(|lease| owner(lease).as_ref() == Some(busiest));
        let stolen = theirs.min_by_key(|lease| place(me, &lease.shard));
        steps.extend(stolen.map(|lease| Step::Take { lease: (*lease).clone(), steal: true }));
    }
}

/// An order of its own for each worker.
fn place(me: &str, shard: &ShardId) -> u64 {
    let mut hash = Xxh3Default::new();
    hash.write(me.as_bytes());
    hash.write(&[0]);
    hash.write(shard.as_str().as_bytes());
    hash.finish()
}

#[cfg(test)]
mod tests;
