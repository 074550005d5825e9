//! Workers over one table: they join, leave, crash, are paused, and look whenever they like, each by a clock of its own.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, num::NonZeroU16};

use events::position::HashRange;
use proptest::prelude::*;

use super::*;

const FAILOVER: Duration = Duration::from_secs(10);

fn shard(number: u64, parents: &[u64]) -> Shard {
    let range = HashRange::even(NonZeroU16::MIN)[0];
    let parents = parents.iter().map(|parent| ShardId::numbered(*parent)).collect();
    Shard { id: ShardId::numbered(number), range, parents, closed: false }
}

/// A table whose writes are conditional, as the real one's are.
#[derive(Debug, Default)]
struct Table(BTreeMap<ShardId, Lease>);

impl Table {
    fn read(&self) -> Vec<Lease> {
        self.0.values().cloned().collect()
    }

    /// True if the condition held.
    fn carry_out(&mut self, me: &str, step: &Step) -> bool {
        match step {
            Step::Create(Shard { id, .. }) => {
                let row = Lease { shard: id.clone(), owner: None, counter: 0, ended: false };
                self.0.insert(id.clone(), self.0.get(id).cloned().unwrap_or(row));
                true
            }
            Step::Renew(lease) | Step::Take { lease, .. } => {
                let row = self.0.get_mut(&lease.shard).filter(|row| *row == lease);
                row.map(|row| (row.owner, row.counter) = (Some(me.to_owned()), lease.counter + 1)).is_some()
            }
            Step::Remove(lease) => self.0.get(&lease.shard) == Some(lease) && self.0.remove(&lease.shard).is_some(),
        }
    }
}

#[derive(Debug)]
struct Worker {
    name: String,
    watch: Watch,
    /// This host's clock begins anywhere.
    skew: Duration,
    alive: bool,
}

#[derive(Debug, Default)]
struct World {
    shards: Vec<Shard>,
    table: Table,
    workers: Vec<Worker>,
    now: Duration,
}

impl World {
    fn join(&mut self) {
        let name = format!("worker-{}", self.workers.len());
        let skew = Duration::from_secs(self.workers.len() as u64 * 1_000_003 % 90_000);
        self.workers.push(Worker { name, watch: Watch::default(), skew, alive: true });
    }

    fn look(&mut self, worker: usize) -> Vec<Step> {
        let leases = self.table.read();
        let worker = &mut self.workers[worker];
        let silent = worker.watch.look(&leases, self.now + worker.skew, FAILOVER);
        plan(&worker.name, &self.shards, &leases, &silent)
    }

    fn act(&mut self, worker: usize) {
        for step in self.look(worker) {
            let name = self.workers[worker].name.clone();
            self.check(&step);
            self.table.carry_out(&name, &step);
        }
    }

    fn check(&self, step: &Step) {
        if let Step::Take { lease, .. } = step {
            let shard = self.shards.iter().find(|shard| shard.id == lease.shard).unwrap();
            let ended = |parent: &ShardId| self.table.0.get(parent).is_some_and(|row| row.ended);
            let listed = |parent: &ShardId| self.shards.iter().any(|shard| shard.id == *parent);
            assert!(shard.parents.iter().all(|parent| ended(parent) || !listed(parent)), "children come after parents");
        }
    }

    /// Everybody alive looks every few seconds, for long enough.
    fn settle(&mut self) {
        for _ in 0..20 + 3 * self.shards.len() {
            self.now += Duration::from_secs(3);
            for worker in 0..self.workers.len() {
                if self.workers[worker].alive {
                    self.act(worker);
                }
            }
        }
    }

    /// How many leases each living worker has; every open one must have a living owner.
    fn loads(&self) -> Vec<usize> {
        let alive: BTreeMap<&str, ()> =
            self.workers.iter().filter(|worker| worker.alive).map(|worker| (worker.name.as_str(), ())).collect();
        let mut loads: BTreeMap<&str, usize> = alive.keys().map(|name| (*name, 0)).collect();
        for lease in self.table.0.values().filter(|lease| !lease.ended) {
            *loads.get_mut(lease.owner.as_deref().unwrap()).expect("a living owner") += 1;
        }
        loads.into_values().collect()
    }
}

fn assert_even(loads: &[usize]) {
    let (least, most) = (loads.iter().min().unwrap(), loads.iter().max().unwrap());
    assert!(most - least <= 1, "{loads:?}");
}

proptest! {
    #[test]
    fn load_evens_out_whoever_joins_leaves_or_crashes(
        shards in 1u64..40, begin in 1usize..6, changes in proptest::collection::vec((0usize..3, 0usize..8), 0..6),
    ) {
        let mut world = World { shards: (0..shards).map(|i| shard(i, &[])).collect(), ..World::default() };
        (0..begin).for_each(|_| world.join());
        world.settle();
        assert_even(&world.loads());
        for (change, which) in changes {
            let which = which % world.workers.len();
            match change {
                0 => world.join(),
                _ if world.workers.iter().filter(|worker| worker.alive).count() > 1 => world.workers[which].alive = false,
                _ => world.join(),
            }
            if world.workers.iter().all(|worker| !worker.alive) {
                world.join();
            }
            world.settle();
            let loads = world.loads();
            prop_assert_eq!(loads.iter().sum::<usize>(), shards as usize);
            assert_even(&loads);
        }
    }

    #[test]
    fn of_many_who_decide_on_one_reading_each_lease_goes_to_one(
        shards in 1u64..20, workers in 2usize..6, order in proptest::collection::vec(0usize..6, 1..60),
    ) {
        let mut world = World { shards: (0..shards).map(|i| shard(i, &[])).collect(), ..World::default() };
        (0..workers).for_each(|_| world.join());
        for turn in order.chunks(workers) {
            world.now += Duration::from_secs(4);
            // All decide, then all write.
            let plans: Vec<(usize, Vec<Step>)> =
                turn.iter().map(|worker| (worker % workers, world.look(worker % workers))).collect();
            let mut won = BTreeSet::new();
            for (worker, steps) in plans {
                let name = world.workers[worker].name.clone();
                for step in steps {
                    if world.table.carry_out(&name, &step) && let Step::Take { lease, .. } | Step::Renew(lease) = step {
                        prop_assert!(won.insert(lease.shard.clone()), "{} went to two", lease.shard);
                    }
                }
            }
        }
    }

    #[test]
    fn children_begin_when_their_parents_have_ended(ends in proptest::collection::vec(0u64..6, 0..20), workers in 1usize..4) {
        // 0 splits into 1 and 2; 1 and 3 merge into 4; 5's parent is not listed any more.
        let shards = vec![shard(0, &[]), shard(1, &[0]), shard(2, &[0]), shard(3, &[]), shard(4, &[1, 3]), shard(5, &[99])];
        let mut world = World { shards, ..World::default() };
        (0..workers).for_each(|_| world.join());
        world.settle();
        for end in ends {
            if let Some(row) = world.table.0.get_mut(&ShardId::numbered(end)) {
                row.ended = true;
            }
            world.settle();
            let begun = |number: u64| world.table.0.contains_key(&ShardId::numbered(number));
            let ended = |number: u64| world.table.0.get(&ShardId::numbered(number)).is_some_and(|row| row.ended);
            prop_assert_eq!((begun(1), begun(2)), (ended(0), ended(0)));
            prop_assert_eq!(begun(4), ended(1) && ended(3));
            prop_assert!(begun(5));
        }
    }
}

#[test]
fn an_owner_is_silent_by_the_observers_clock_alone() {
    let lease = |counter| Lease { shard: ShardId::numbered(0), owner: Some("a".into()), counter, ended: false };
    let mut watch = Watch::default();
    let at = Duration::from_secs;
    assert!(watch.look(&[lease(7)], at(1_000_000), FAILOVER).is_empty(), "how old it is nobody knows at first");
    assert!(watch.look(&[lease(7)], at(1_000_009), FAILOVER).is_empty());
    assert!(watch.look(&[lease(8)], at(1_000_010), FAILOVER).is_empty(), "it moved");
    assert!(watch.look(&[lease(8)], at(1_000_019), FAILOVER).is_empty());
    assert_eq!(watch.look(&[lease(8)], at(1_000_020), FAILOVER), [ShardId::numbered(0)].into());
}

#[test]
fn a_newcomer_steals_one_lease_a_round() {
    let shards: Vec<Shard> = (0..6).map(|i| shard(i, &[])).collect();
    let owned = |i| Lease { shard: ShardId::numbered(i), owner: Some("old".into()), counter: 1, ended: false };
    let leases: Vec<Lease> = (0..6).map(owned).collect();
    let steps = plan("new", &shards, &leases, &BTreeSet::new());
    assert!(matches!(&steps[..], [Step::Take { steal: true, .. }]), "{steps:?}");
    let steps = plan("new", &shards[..1], &leases[..1], &BTreeSet::new());
    assert_eq!(steps, [], "one is not worth a move");
}

#[test]
fn the_row_of_a_shard_that_is_gone_is_removed_once_it_was_read() {
    let row = |ended| Lease { shard: ShardId::numbered(3), owner: Some("a".into()), counter: 1, ended };
    assert_eq!(plan("a", &[], &[row(true)], &BTreeSet::new()), [Step::Remove(row(true))]);
    assert_eq!(
        plan("a", &[], &[row(false)], &BTreeSet::new()),
        [],
        "what was not read is a loss, and is kept to be said"
    );
}
