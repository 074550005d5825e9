//! A stream that is split and merged while workers run: what its alarms do. The clock is set, so nobody waits for a minute to pass.
#![allow(clippy::unwrap_used)]

use std::{
    num::NonZeroU16,
    sync::atomic::{AtomicI64, Ordering},
};

use events::{
    embedded::{self as stream, disk::RealDisk},
    event::{Defined, Event},
    identity::CONTROL_KEY,
    position::{HashKey, HashRange},
    stream::{Put, ReadOnly},
    wire::{self, Content, Header},
};
use processor::{
    append::{append_all, system_event},
    tick, verify,
};
use projections::{alarm::State, fold::alarms::home_key, query, store::Store};

use super::*;
use crate::{LocalStore, LocalStream};

/// 2026-01-01T00:00:00Z.
const START_MS: i64 = 1_767_225_600_000;
const ALARM: &str = r#"{"AlarmName":"slow","ServiceName":"shop","MetricName":"latency","Statistic":"Sum","Period":60,"EvaluationPeriods":3,
    "DatapointsToAlarm":2,"Threshold":100,"ComparisonOperator":"GreaterThanThreshold"}"#;

struct World {
    folder: tempfile::TempDir,
    clock: Arc<AtomicI64>,
    workers: Arc<Workers>,
}

impl World {
    async fn of(shards: u16) -> Self {
        let (folder, clock) = (tempfile::tempdir().unwrap(), Arc::new(AtomicI64::new(START_MS)));
        let stamps = clock.clone();
        let options = stream::Options { shards: NonZeroU16::new(shards).unwrap(), ..stream::Options::default() };
        let disk = RealDisk::in_folder(folder.path().join("stream")).unwrap();
        let stream = LocalStream::open(disk, move || stamps.load(Ordering::SeqCst), options).unwrap();
        let store = LocalStore::open(&folder.path().join("rows.redb")).unwrap();
        let (stream, store) = (Arc::new(AnyStream::Local(stream)), Arc::new(AnyStore::Local(store)));
        let workers = Workers::new(stream, store, Manner::LOCAL, None);
        // Somebody waits for all that is durable: each commit comes at once.
        workers.waiters.fetch_add(1, Ordering::SeqCst);
        for place in workers.without(&workers.stream.shards().await.unwrap()) {
            workers.start(place, None).unwrap();
        }
        workers.spawn("shards", workers.clone().supervise()).unwrap();
        let world = Self { folder, clock, workers };
        let defined = Defined { kind: "alarm".into(), name: "slow".into(), body: ALARM.into(), by: "me".into() };
        world.append(vec![system_event(HashKey::of(CONTROL_KEY), Event::Defined(defined))]).await;
        world
    }

    fn stream(&self) -> &LocalStream {
        self.workers.stream.local().unwrap()
    }

    async fn append(&self, puts: Vec<Put>) {
        append_all(&*self.workers.stream, puts).await.unwrap();
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
        for shard in self.workers.stream.shards().await.unwrap() {
            let tip = self.stream().tip(&shard.id).unwrap();
            let stored = self.workers.store.checkpoint(Generation::default(), &shard.id).await.unwrap();
            let (position, ended) = stored.map_or((SequenceNumber::ZERO, false), |(of, _)| (of.position, of.ended));
            if position < tip || shard.closed && !ended {
                return false;
            }
        }
        true
    }

    /// A line on each of eight places of the ring; then the minute is over.
    async fn minute(&self, latency: f64) {
        let now_ms = self.clock.load(Ordering::SeqCst);
        let put = |range: HashRange| {
            let line = format!("{{\"ts\":{},\"service\":\"shop\",\"latency_ms\":{latency}}}\n", now_ms / 1000 + 30);
            let header = Header::plain("local", Content::Lines, line.len() as u32, now_ms);
            let (partition_key, data) = ("line".to_owned(), wire::encode(&header, line.as_bytes()));
            Put { partition_key, hash_key: Some(range.from), data }
        };
        self.append(HashRange::even(NonZeroU16::new(8).unwrap()).into_iter().map(put).collect()).await;
        self.clock.store(now_ms.div_euclid(60_000) * 60_000 + 61_000, Ordering::SeqCst);
        tick::tick(&*self.workers.stream, &*self.workers.store, Generation::default()).await.unwrap();
        self.append(vec![]).await;
    }

    async fn open_shards(&self) -> Vec<Shard> {
        let all = self.workers.stream.shards().await.unwrap();
        let mut open: Vec<Shard> = all.into_iter().filter(|shard| !shard.closed).collect();
        open.sort_by_key(|shard| shard.range.from);
        open
    }

    /// The shard that keeps the alarm's home is split there; its upper part begins with the home.
    async fn split(&self) {
        let home = home_key("local", "slow");
        let open = self.open_shards().await;
        let keeper = open.iter().find(|shard| shard.range.contains(home)).unwrap();
        self.stream().split(&keeper.id, home).unwrap();
    }

    async fn merge(&self) {
        let (home, open) = (home_key("local", "slow"), self.open_shards().await);
        let upper = open.iter().position(|shard| shard.range.contains(home)).unwrap();
        self.stream().merge(&open[upper - 1].id, &open[upper].id).unwrap();
    }

    /// When, from what, to what, and why.
    async fn transitions(&self) -> Vec<(i64, Option<State>, State, String)> {
        let found =
            query::alarms(&*self.workers.store, "local", &Generation::default().into(), Some("slow")).await.unwrap();
        let all = found[0].transitions.as_ref().unwrap().iter();
        all.map(|of| ((of.time.0 - START_MS / 1000) / 60, of.from, of.to, of.reason.clone())).collect()
    }

    async fn verify(&self) {
        let scratch = Arc::new(LocalStore::open(&self.folder.path().join("verify.redb")).unwrap());
        let places = places(&self.workers.stream.shards().await.unwrap());
        let stream = ReadOnly::new(self.workers.stream.clone());
        let report = verify::verify(stream, &*self.workers.store, scratch, places, async {}, |_| {}).await.unwrap();
        assert_eq!(report.differences, 0, "{:?}", report.first_difference);
    }
}

/// An alarm that rings and falls silent again, on a stream that splits and merges meanwhile or does not.
async fn play(shards: u16, reshards: bool) -> Vec<(i64, Option<State>, State, String)> {
    let world = World::of(shards).await;
    for minute in 0..14 {
        match minute {
            // While it rings; and once in the minute in which it falls silent.
            5 | 9 if reshards => world.split().await,
            6 | 10 if reshards => world.merge().await,
            _ => {}
        }
        world.minute(if (3..8).contains(&minute) { 50.0 } else { 1.0 }).await;
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
