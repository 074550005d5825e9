//! A stream that is split and merged while workers run: what its alarms do. The clock is set, so nobody waits for a minute to pass.
#![allow(clippy::unwrap_used)]

use events::{position::HashKey, stream::ReadOnly};
use processor::{tick, verify};
use projections::{alarm::State, fold::alarms::home_key, query, store::Store};

use super::*;
use crate::{
    LocalStore,
    staged::{START_MS, Staged},
};

/// Which part of a shard that is split keeps the alarm.
#[derive(PartialEq, Eq)]
enum Half {
    Lower,
    Upper,
}

struct World {
    pair: Staged,
    workers: Arc<Workers>,
}

impl World {
    async fn of(shards: u16) -> Self {
        let pair = Staged::of(shards);
        let workers = Workers::new(pair.stream.clone(), pair.store.clone(), Manner::LOCAL, None);
        // Somebody waits for all that is durable: each commit comes at once.
        workers.waiters.fetch_add(1, Ordering::SeqCst);
        for place in workers.without(&pair.shards().await) {
            workers.start(place, None).unwrap();
        }
        workers.spawn("shards", workers.clone().supervise()).unwrap();
        let world = Self { pair, workers };
        world.pair.define().await;
        world.folds().await;
        world
    }

    async fn folds(&self) {
        let folded = async {
            while !self.is_folded().await {
                assert_eq!(self.workers.ledger.why_stopped(), None);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), folded).await.expect("the workers fold all there is");
    }

    /// All is committed that the stream holds. What shards tell each other is appended before the commit that passes it.
    async fn is_folded(&self) -> bool {
        for shard in self.pair.shards().await {
            let stored = self.workers.store.checkpoint(Generation::default(), &shard.id).await.unwrap();
            let (position, ended) = stored.map_or((SequenceNumber::ZERO, false), |(of, _)| (of.position, of.ended));
            if position < self.pair.tip(&shard.id) || shard.closed && !ended {
                return false;
            }
        }
        true
    }

    /// Lines; then the minute is over.
    async fn minute(&self, latency: f64) {
        self.pair.lines(latency).await;
        self.folds().await;
        self.pair.pass_minute();
        tick::tick(&*self.workers.stream, &*self.workers.store, Generation::default()).await.unwrap();
        self.folds().await;
    }

    async fn open_shards(&self) -> Vec<Shard> {
        let all = self.pair.shards().await;
        let mut open: Vec<Shard> = all.into_iter().filter(|shard| !shard.closed).collect();
        open.sort_by_key(|shard| shard.range.from);
        open
    }

    /// The shard that keeps the alarm's home is split there: its upper part begins with the home, or its lower part ends with it. Of a merge the lower
    /// one is the first parent, so it shows from both sides whose home the child takes.
    async fn split(&self, kept_by: Half) {
        let home = home_key("local", "slow");
        let open = self.open_shards().await;
        let at = if kept_by == Half::Upper { home } else { HashKey(home.0 + 1) };
        let keeper = open.iter().find(|shard| shard.range.contains(home)).unwrap();
        self.pair.local().split(&keeper.id, at).unwrap();
    }

    async fn merge(&self, kept_by: Half) {
        let (home, open) = (home_key("local", "slow"), self.open_shards().await);
        let keeps = open.iter().position(|shard| shard.range.contains(home)).unwrap();
        let upper = if kept_by == Half::Upper { keeps } else { keeps + 1 };
        self.pair.local().merge(&open[upper - 1].id, &open[upper].id).unwrap();
    }

    /// When, from what, to what, and why.
    async fn transitions(&self) -> Vec<(i64, Option<State>, State, String)> {
        let found =
            query::alarms(&*self.workers.store, "local", &Generation::default().into(), Some("slow")).await.unwrap();
        let all = found[0].transitions.as_ref().unwrap().iter();
        all.map(|of| ((of.time.0 - START_MS / 1000) / 60, of.from, of.to, of.reason.clone())).collect()
    }

    async fn verify(&self) {
        let scratch = Arc::new(LocalStore::open(&self.pair.folder.path().join("verify.redb")).unwrap());
        let places = places(&self.pair.shards().await);
        let stream = ReadOnly::new(self.workers.stream.clone());
        let report = verify::verify(stream, &*self.workers.store, scratch, places, async {}, |_| {}).await.unwrap();
        assert_eq!(report.differences, 0, "{:?}", report.first_difference);
    }
}

/// An alarm that rings and falls silent again, on a stream that splits and merges meanwhile or does not.
async fn play(shards: u16, reshards: bool) -> Vec<(i64, Option<State>, State, String)> {
    let world = World::of(shards).await;
    for minute in 0..20 {
        match minute {
            // While it rings; and once in the minute in which it falls silent. Each time for longer than a shard is waited for: who kept an alarm that
            // another one keeps would decide by then, of its own lines alone.
            5 if reshards => world.split(Half::Upper).await,
            10 if reshards => world.merge(Half::Upper).await,
            13 if reshards => world.split(Half::Lower).await,
            18 if reshards => world.merge(Half::Lower).await,
            _ => {}
        }
        // Of eight lines: without those of one shard it is not over the threshold.
        world.minute(if (3..12).contains(&minute) { 13.0 } else { 1.0 }).await;
    }
    world.verify().await;
    let transitions = world.transitions().await;
    world.workers.end();
    assert_eq!(world.workers.ledger.why_stopped(), None);
    transitions
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_alarm_does_at_the_same_minutes_what_it_would_have_done_without_splits_and_merges() {
    let still = play(1, false).await;
    let states: Vec<State> = still.iter().map(|change| change.2).collect();
    assert_eq!(states, [State::InsufficientData, State::Ok, State::Alarm, State::Ok], "{still:?}");
    for shards in [1, 2] {
        assert_eq!(play(shards, true).await, still, "{shards} shards at first");
    }
}
