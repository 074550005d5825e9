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

fn lease(shard: &ShardId, owner: Option<&str>, counter: u64) -> Lease {
    let (noted, wanted) = (Noted::Nothing, SequenceNumber::ZERO);
    Lease { shard: shard.clone(), owner: owner.map(str::to_owned), counter, noted, wanted }
}

fn plan_of(me: &str, shards: &[Shard], ended: &[u64], leases: &[Lease]) -> Vec<Step> {
    let ended = ended.iter().map(|number| ShardId::numbered(*number)).collect();
    plan(me, Appetite::Share, View { shards, ended: &ended, leases, silent: &BTreeSet::new() })
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
            Step::Create(Shard { id, .. }) | Step::CreateTask(id) => {
                let row = lease(id, None, 0);
                self.0.insert(id.clone(), self.0.get(id).cloned().unwrap_or(row));
                true
            }
            Step::Renew(lease) | Step::Take { lease, .. } => {
                let row = self.0.get_mut(&lease.shard).filter(|row| *row == lease);
                row.map(|row| (row.owner, row.counter) = (Some(me.to_owned()), lease.counter + 1)).is_some()
            }
            Step::End { lease, .. } => {
                let row = self.0.get_mut(&lease.shard).filter(|row| *row == lease);
                row.map(|row| (row.owner, row.counter, row.noted) = (None, lease.counter + 1, Noted::End)).is_some()
            }
            Step::Remove(lease) | Step::Lose(lease) => {
                self.0.get(&lease.shard) == Some(lease) && self.0.remove(&lease.shard).is_some()
            }
        }
    }
}

#[derive(Debug)]
struct Worker {
    name: String,
    watch: Watch,
    /// This host's clock begins anywhere, and jumps.
    skew: Duration,
    alive: bool,
    appetite: Appetite,
}

#[derive(Debug, Default)]
struct World {
    shards: Vec<Shard>,
    /// What resume points say.
    ended: BTreeSet<ShardId>,
    table: Table,
    workers: Vec<Worker>,
    now: Duration,
}

impl World {
    fn join(&mut self) {
        let name = format!("worker-{}", self.workers.len());
        let skew = Duration::from_secs(self.workers.len() as u64 * 1_000_003 % 90_000);
        self.workers.push(Worker { name, watch: Watch::default(), skew, alive: true, appetite: Appetite::Share });
    }

    fn look(&mut self, worker: usize) -> Vec<Step> {
        let leases = self.table.read();
        let worker = &mut self.workers[worker];
        let silent = worker.watch.look(&leases, self.now + worker.skew, FAILOVER);
        let view = View { shards: &self.shards, ended: &self.ended, leases: &leases, silent: &silent };
        plan(&worker.name, worker.appetite, view)
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
            let ended = |parent: &ShardId| self.ended.contains(parent);
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
        for lease in self.table.0.values().filter(|lease| lease.noted != Noted::End) {
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
        shards in 1u64..40, begin in 1usize..6, changes in proptest::collection::vec((0usize..4, 0usize..8), 0..6),
    ) {
        let mut world = World { shards: (0..shards).map(|i| shard(i, &[])).collect(), ..World::default() };
        (0..begin).for_each(|_| world.join());
        world.settle();
        assert_even(&world.loads());
        for (change, which) in changes {
            let which = which % world.workers.len();
            match change {
                0 => world.join(),
                // Forward by days, or back to the beginning.
                3 if world.workers[which].skew.is_zero() => world.workers[which].skew = Duration::from_secs(500_000),
                3 => world.workers[which].skew = Duration::ZERO,
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
                row.noted = Noted::Through(SequenceNumber::MAX);
                world.ended.insert(row.shard.clone());
            }
            world.settle();
            // Rows of parents go once all children are read, and are not made again.
            let ended = |number: u64| world.ended.contains(&ShardId::numbered(number));
            let begun = |number: u64| ended(number) || world.table.0.contains_key(&ShardId::numbered(number));
            let stays = |number: u64| world.table.0.contains_key(&ShardId::numbered(number));
            prop_assert!(!(ended(1) && ended(2) && stays(0)), "the row of 0 is of no more use");
            prop_assert_eq!((begun(1), begun(2)), (ended(0), ended(0)));
            prop_assert_eq!(begun(4), ended(1) && ended(3));
            prop_assert!(begun(5));
        }
    }
}

#[test]
fn an_owner_is_silent_by_the_observers_clock_alone() {
    let lease = |counter| lease(&ShardId::numbered(0), Some("a"), counter);
    let mut watch = Watch::default();
    let at = Duration::from_secs;
    assert!(watch.look(&[lease(7)], at(1_000_000), FAILOVER).is_empty(), "how old it is nobody knows at first");
    assert!(watch.look(&[lease(7)], at(1_000_005), FAILOVER).is_empty());
    assert!(watch.look(&[lease(7)], at(1_000_009), FAILOVER).is_empty());
    assert!(watch.look(&[lease(8)], at(1_000_010), FAILOVER).is_empty(), "it moved");
    assert!(watch.look(&[lease(8)], at(1_000_015), FAILOVER).is_empty());
    assert!(watch.look(&[lease(8)], at(1_000_019), FAILOVER).is_empty());
    assert_eq!(watch.look(&[lease(8)], at(1_000_020), FAILOVER), [ShardId::numbered(0)].into());
}

#[test]
fn an_owner_that_is_there_for_a_moment_is_silent_sooner_than_one_that_stays() {
    let long = 3 * FAILOVER;
    let [stays, brief] = [0, 1].map(ShardId::numbered);
    let leases = [lease(&stays, Some("a:1:2"), 7), lease(&brief, Some("a:3:4:brief"), 7)];
    let at = Duration::from_secs;
    let mut watch = Watch::default();
    assert!(watch.look(&leases, at(100), long).is_empty());
    assert!(watch.look(&leases, at(110), long).is_empty(), "of a look's time five seconds count");
    assert_eq!(watch.look(&leases, at(115), long), [brief.clone()].into());
    assert_eq!(watch.look(&leases, at(129), long), [brief.clone()].into());
    assert_eq!(watch.look(&leases, at(131), long), [stays, brief].into());
    let mut watch = Watch::default();
    assert!(watch.look(&leases, at(0), at(2)).is_empty());
    assert_eq!([1, 2].map(|now| watch.look(&leases, at(now), at(2)).len()), [0, 2], "never later than the others");
}

#[test]
fn who_was_stopped_or_whose_clock_jumps_looks_again_before_it_calls_anybody_silent() {
    let leases = [lease(&ShardId::numbered(0), Some("a"), 7)];
    let mut watch = Watch::default();
    let at = Duration::from_secs;
    assert!(watch.look(&leases, at(100), FAILOVER).is_empty());
    assert!(watch.look(&leases, at(9_000), FAILOVER).is_empty(), "both may have been stopped");
    assert!(watch.look(&leases, at(50), FAILOVER).is_empty(), "back");
    assert!(watch.look(&leases, at(54), FAILOVER).is_empty());
    assert!(!watch.look(&leases, at(55), FAILOVER).is_empty(), "now it was seen to be silent for ten seconds");
}

#[test]
fn a_newcomer_steals_one_lease_a_round_and_who_stays_for_a_moment_steals_none() {
    let shards: Vec<Shard> = (0..6).map(|i| shard(i, &[])).collect();
    let leases: Vec<Lease> = (0..6).map(|i| lease(&ShardId::numbered(i), Some("old"), 1)).collect();
    let steps = plan_of("new", &shards, &[], &leases);
    assert!(matches!(&steps[..], [Step::Take { steal: true, .. }]), "{steps:?}");
    assert_eq!(plan_of("new", &shards[..1], &[], &leases[..1]), [], "one is not worth a move");
    let none = BTreeSet::new();
    let view = View { shards: &shards, ended: &none, leases: &leases, silent: &none };
    assert_eq!(plan("new", Appetite::Leftovers, view), []);
    let free = [lease(&ShardId::numbered(0), None, 1)];
    let view = View { shards: &shards[..1], leases: &free, ..view };
    let steps = plan("new", Appetite::Leftovers, view);
    assert_eq!(steps, [Step::Take { lease: free[0].clone(), steal: false }]);
}

#[test]
fn a_shard_that_was_read_to_its_end_is_noted_and_its_row_goes_when_its_children_are_read() {
    let shards = [shard(0, &[]), shard(1, &[0]), shard(2, &[0])];
    let row = |number, owner, noted| Lease { noted, ..lease(&ShardId::numbered(number), owner, 4) };
    let through = Noted::Through(SequenceNumber::from_parts(1, 1));
    let children = vec![ShardId::numbered(1), ShardId::numbered(2)];
    // Also where who read it died before it could note that.
    for owner in [None, Some("a")] {
        let mut leases = vec![row(0, owner, through), row(1, Some("a"), Noted::Nothing), row(2, Some("b"), through)];
        let end = Step::End { lease: leases[0].clone(), children: children.clone() };
        assert_eq!(plan_of("a", &shards, &[0], &leases), [Step::Renew(leases[1].clone()), end]);
        leases[0] = row(0, None, Noted::End);
        assert_eq!(plan_of("a", &shards, &[0], &leases), [Step::Renew(leases[1].clone())], "1 has not begun");
        leases[1].noted = through;
        let remove = Step::Remove(leases[0].clone());
        assert_eq!(plan_of("a", &shards, &[0], &leases), [Step::Renew(leases[1].clone()), remove]);
        assert_eq!(plan_of("a", &shards, &[0], &leases[1..]), [Step::Renew(leases[1].clone())], "not made again");
    }
    let others = [row(0, Some("b"), through), row(1, Some("a"), through), row(2, Some("a"), through)];
    assert!(!plan_of("a", &shards, &[0], &others).iter().any(|step| matches!(step, Step::End { .. })), "b does it");
}

#[test]
fn what_the_table_says_of_an_end_is_not_believed_against_the_resume_point() {
    let row = Lease { noted: Noted::End, ..lease(&ShardId::numbered(0), None, 4) };
    let steps = plan_of("a", &[shard(0, &[]), shard(1, &[0])], &[], std::slice::from_ref(&row));
    assert_eq!(steps, [Step::Take { lease: row, steal: false }]);
}

#[test]
fn the_row_of_a_shard_that_is_gone_is_removed_and_is_a_loss_if_it_was_not_read() {
    let row = |owner, noted| Lease { noted, ..lease(&ShardId::numbered(3), owner, 1) };
    let ended = row(None, Noted::End);
    assert_eq!(plan_of("a", &[], &[], std::slice::from_ref(&ended)), [Step::Remove(ended)]);
    for owner in [None, Some("a")] {
        let unread = row(owner, Noted::Nothing);
        assert_eq!(plan_of("a", &[], &[], std::slice::from_ref(&unread)), [Step::Lose(unread)]);
    }
    assert_eq!(plan_of("a", &[], &[], &[row(Some("b"), Noted::Nothing)]), [], "b is there to say it");
}

#[test]
fn a_task_has_one_worker_until_that_is_silent_or_it_is_wanted_no_more() {
    let task = ShardId::named("generation/1");
    let (wanted, none) = (BTreeSet::from([task.clone()]), BTreeSet::new());
    let mut table = Table::default();
    assert_eq!(plan_tasks("a", &wanted, &table.read(), &none), [Step::CreateTask(task.clone())]);
    table.carry_out("a", &Step::CreateTask(task.clone()));
    let take = plan_tasks("a", &wanted, &table.read(), &none);
    assert_eq!(take, plan_tasks("b", &wanted, &table.read(), &none), "both find it");
    assert_eq!((table.carry_out("b", &take[0]), table.carry_out("a", &take[0])), (true, false), "and one has it");
    assert_eq!(plan_tasks("a", &wanted, &table.read(), &none), [], "however much the other has to do");
    assert_eq!(plan_tasks("b", &wanted, &table.read(), &none), [Step::Renew(lease(&task, Some("b"), 1))]);
    let row = lease(&task, Some("b"), 1);
    assert_eq!(plan_tasks("a", &wanted, &table.read(), &wanted), [Step::Take { lease: row.clone(), steal: false }]);
    // Who looks at another time may still want it.
    assert_eq!(plan_tasks("a", &none, &table.read(), &none), []);
    assert_eq!(plan_tasks("b", &none, &table.read(), &none), [Step::Remove(row.clone())]);
    assert_eq!(plan_tasks("a", &none, &table.read(), &wanted), [Step::Remove(row)]);
}
