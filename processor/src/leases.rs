//! Which worker reads which shard: decides from the table of leases what one worker does next. Pure: it writes nothing, and time is what the observer's
//! own clock says, never another host's.
//!
//! Invariants:
//! - A lease is taken only if nobody owns it, or its counter has not moved for `failover` as this observer saw it, or its owner has at least two more
//!   than this worker. Each of these is carried out by a write on condition of owner and counter, so of two who try, one does.
//! - A shard is read only after its parents were read to their end, as far as they are still listed. That is what resume points say; what the table says
//!   of it is for people and tools.
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

use events::{
    position::{SequenceNumber, ShardId},
    stream::Shard,
};
use xxhash_rust::xxh3::Xxh3Default;

/// How the name of an owner ends that holds leases for a moment only.
pub const BRIEF: &str = ":brief";
/// Such an owner is silent after so long, if `failover` is not shorter: it renews as often as this asks for. Else whoever repeats a command that was
/// killed would wait as long as for a server.
pub const BRIEF_FAILOVER: Duration = Duration::from_secs(10);

/// A row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The shard.
    pub shard: ShardId,
    /// The worker that reads it; `None`: nobody.
    pub owner: Option<String>,
    /// Grows by one with every write of an owner, and whenever the owner changes.
    pub counter: u64,
    /// How far the row says that the shard was read.
    pub noted: Noted,
    /// Somebody waits until rows can be read up to here; `ZERO`: nobody does.
    pub wanted: SequenceNumber,
}

/// What a row says of how far a shard was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Noted {
    /// Nothing was committed yet.
    Nothing,
    /// Up to here.
    Through(SequenceNumber),
    /// To its end.
    End,
}

/// How much a worker takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appetite {
    /// Its share of all leases, for as long as it runs; from others too.
    Share,
    /// For a moment only: what nobody has, and nothing from others, who would have to take it back.
    Leftovers,
}

/// What a worker is to do with a lease now. Each is a write on condition that the row is as it was read; a lost condition is no error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Make the row of a shard that has none, owned by nobody.
    Create(Shard),
    /// Make the row of a task that has none, owned by nobody.
    CreateTask(ShardId),
    /// Keep what this worker has.
    Renew(Lease),
    /// Take what nobody has, or whose owner is silent, or (`steal`) what another has too many of.
    Take {
        /// The row as it was read.
        lease: Lease,
        /// Its owner is alive, and is to notice at its next renewal.
        steal: bool,
    },
    /// Note that a shard was read to its end, and give its lease back.
    End {
        /// The row as it was read.
        lease: Lease,
        /// The shards that took over its keys.
        children: Vec<ShardId>,
    },
    /// Remove the row of a shard that was read to its end and that nothing waits for: it is not listed any more, or those who took over its keys are
    /// read already.
    Remove(Lease),
    /// Remove the row of a shard that the stream does not list any more, that was not read to its end, and that no living worker has. Who does says
    /// the loss.
    Lose(Lease),
}

/// What one observer has seen of the leases over time.
#[derive(Debug, Default)]
pub struct Watch {
    /// Owner and counter, and for how long they were seen so, by this observer's clock.
    seen: BTreeMap<ShardId, (Option<String>, u64, Duration)>,
    looked: Option<Duration>,
}

impl Watch {
    /// Takes a reading of the whole table at `now`; returns the shards whose owner has been silent for `failover`, or a brief one for `BRIEF_FAILOVER`.
    ///
    /// Between two looks at most half of `failover` counts: one who was stopped, and all of whose leases and everybody's look old when it goes on, has to
    /// look again before it takes any. A clock that goes back counts nothing.
    pub fn look(&mut self, leases: &[Lease], now: Duration, failover: Duration) -> BTreeSet<ShardId> {
        let listed: BTreeSet<&ShardId> = leases.iter().map(|lease| &lease.shard).collect();
        self.seen.retain(|shard, _| listed.contains(shard));
        let since = self.looked.replace(now).map_or(Duration::ZERO, |looked| now.saturating_sub(looked));
        let failover_of = |owner: &Option<String>| match owner {
            Some(owner) if owner.ends_with(BRIEF) => failover.min(BRIEF_FAILOVER),
            _ => failover,
        };
        let mut silent = BTreeSet::new();
        for lease in leases {
            let fresh = (lease.owner.clone(), lease.counter, Duration::ZERO);
            match self.seen.get_mut(&lease.shard) {
                Some(seen) if (&seen.0, seen.1) == (&lease.owner, lease.counter) => {
                    let failover = failover_of(&lease.owner);
                    seen.2 += since.min(failover / 2);
                    if lease.owner.is_some() && seen.2 >= failover {
                        silent.insert(lease.shard.clone());
                    }
                }
                _ => {
                    self.seen.insert(lease.shard.clone(), fresh);
                }
            }
        }
        silent
    }
}

/// What a worker knows when it plans.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The stream's listing.
    pub shards: &'a [Shard],
    /// Those of them whose resume points say that they were read to their end.
    pub ended: &'a BTreeSet<ShardId>,
    /// The whole table.
    pub leases: &'a [Lease],
    /// See [`Watch::look`].
    pub silent: &'a BTreeSet<ShardId>,
}

/// What `me` does next.
pub fn plan(me: &str, appetite: Appetite, view: View<'_>) -> Vec<Step> {
    let View { shards, ended, leases, silent } = view;
    let rows: BTreeMap<&ShardId, &Lease> = leases.iter().map(|lease| (&lease.shard, lease)).collect();
    let listed: BTreeSet<&ShardId> = shards.iter().map(|shard| &shard.id).collect();
    // A parent that is not listed any more is gone: who meets that says the loss.
    let ready = |shard: &&Shard| shard.parents.iter().all(|parent| ended.contains(parent) || !listed.contains(parent));
    let mut steps = Vec::new();
    let mut open: Vec<&Lease> = Vec::new();
    for shard in shards.iter().filter(ready).filter(|shard| !ended.contains(&shard.id)) {
        match rows.get(&shard.id) {
            None => steps.push(Step::Create(shard.clone())),
            Some(lease) => open.push(lease),
        }
    }
    // A silent owner has nothing, and does not count as a worker.
    let owner = |lease: &Lease| lease.owner.clone().filter(|_| !silent.contains(&lease.shard));
    let mut loads: BTreeMap<String, usize> = BTreeMap::from([(me.to_owned(), 0)]);
    for name in open.iter().filter_map(|lease| owner(lease)) {
        *loads.entry(name).or_default() += 1;
    }
    let mine = open.iter().filter(|lease| owner(lease).as_deref() == Some(me));
    steps.extend(mine.map(|lease| Step::Renew((*lease).clone())));
    take(me, appetite, &open, owner, &loads, &mut steps);
    let is_mine = |lease: &Lease| owner(lease).is_none_or(|owner| owner == me);
    let has_begun =
        |shard: &Shard| ended.contains(&shard.id) || rows.get(&shard.id).is_some_and(|row| row.noted > Noted::Nothing);
    for lease in leases {
        let children = || shards.iter().filter(|shard| shard.parents.contains(&lease.shard));
        let is_listed = listed.contains(&lease.shard);
        let is_followed = ended.contains(&lease.shard) && children().next().is_some() && children().all(has_begun);
        steps.extend(match lease.noted {
            Noted::End if is_followed || !is_listed => Some(Step::Remove(lease.clone())),
            Noted::Nothing | Noted::Through(_) if !is_listed && is_mine(lease) => Some(Step::Lose(lease.clone())),
            Noted::Nothing | Noted::Through(_) if ended.contains(&lease.shard) && is_mine(lease) => {
                let children = children().map(|shard| shard.id.clone()).collect();
                Some(Step::End { lease: lease.clone(), children })
            }
            _ => None,
        });
    }
    steps
}

/// What `me` does next about tasks: work that is one worker's, whatever there is of it, and no shard's. Their rows stand among the shards', under names
/// that no shard has. Whoever finds one that nobody has takes it; none is taken from a living worker, as how much work they are nobody knows.
pub fn plan_tasks(me: &str, wanted: &BTreeSet<ShardId>, leases: &[Lease], silent: &BTreeSet<ShardId>) -> Vec<Step> {
    let rows: BTreeMap<&ShardId, &Lease> = leases.iter().map(|lease| (&lease.shard, lease)).collect();
    let owner = |lease: &Lease| lease.owner.clone().filter(|_| !silent.contains(&lease.shard));
    let mut steps = Vec::new();
    for task in wanted {
        steps.extend(match rows.get(task) {
            None => Some(Step::CreateTask(task.clone())),
            Some(lease) => match owner(lease) {
                None => Some(Step::Take { lease: (*lease).clone(), steal: false }),
                Some(owner) => (owner == me).then(|| Step::Renew((*lease).clone())),
            },
        });
    }
    // Who wants what nobody else wants any more, or wants something already that others do not yet, is left alone.
    let is_free = |lease: &&Lease| owner(lease).is_none_or(|owner| owner == me);
    let done = leases.iter().filter(|lease| !wanted.contains(&lease.shard)).filter(is_free);
    steps.extend(done.map(|lease| Step::Remove(lease.clone())));
    steps
}

/// Free leases up to this worker's share; if there are none, one of the worker that has most.
fn take(
    me: &str,
    appetite: Appetite,
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
    if appetite == Appetite::Leftovers {
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
