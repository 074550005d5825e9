//! Processes that share one pair, in one program: each a system of its own on the same stream and rows, with leases that are handed out by hand. The clock
//! is set, so nobody waits for a minute to pass.
#![allow(clippy::unwrap_used)]

use std::{
    num::NonZeroU16,
    sync::atomic::{AtomicI64, AtomicU64},
};

use events::{
    embedded::{self as stream, disk::RealDisk},
    identity::Producer,
    position::{HashRange, SequenceNumber, ShardId},
    stream::Put,
    wire::{self, Content, Header},
};
use processor::{append::system_event, generations::Start};
use projections::{alarm::State, query, store::Store};

use super::*;
use crate::{
    AnyStore, AnyStream, LocalStore, LocalStream, System, archive::Archive, pair::Manner, verifying::Verifying,
    workers::place_in,
};

/// 2026-01-01T00:00:00Z.
const START_MS: i64 = 1_767_225_600_000;
const ALARM: &str = r#"{"AlarmName":"slow","ServiceName":"shop","MetricName":"latency","Statistic":"Sum","Period":60,"EvaluationPeriods":3,
    "DatapointsToAlarm":2,"Threshold":100,"ComparisonOperator":"GreaterThanThreshold"}"#;
const FIRST: Generation = Generation(0);
const NEW: Generation = Generation(1);
/// Whatever is waited for is there long before, or never.
const PATIENCE: Duration = Duration::from_secs(60);

struct World {
    folder: tempfile::TempDir,
    clock: Arc<AtomicI64>,
    stream: Arc<AnyStream>,
    store: Arc<AnyStore>,
}

/// One of them; its threads end with it.
struct Process(Option<System>);

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(system) = self.0.take() {
            system.workers.end();
            assert_eq!(system.why_stopped(), None);
        }
    }
}

impl std::ops::Deref for Process {
    type Target = System;

    fn deref(&self) -> &System {
        self.0.as_ref().unwrap()
    }
}

impl Process {
    /// It has these leases from now on, and no others.
    async fn has(&self, all: &[Shard], shards: &[usize], generations: &[Generation]) {
        let workers = &self.workers;
        *held(&workers.following.mine) = generations.iter().copied().collect();
        let mine: Vec<&Shard> = shards.iter().map(|number| &all[*number]).collect();
        let others = workers.running().into_iter().filter(|id| mine.iter().all(|shard| shard.id != *id));
        let others: Vec<ShardId> = others.collect();
        others.iter().for_each(|shard| workers.tell(shard));
        soon(async || workers.running().iter().all(|id| !others.contains(id))).await;
        let running = workers.running();
        for shard in mine.into_iter().filter(|shard| !running.contains(&shard.id)) {
            workers.start(workers.place_of(shard, all), None).unwrap();
        }
    }

    /// Its worker has come to where a generation counts.
    async fn is_at(&self, generation: Generation, number: usize, all: &[Shard]) -> bool {
        let place = place_in(generation, &all[number], all);
        let opened = self.workers.open(place).await.unwrap();
        opened.shard().acts()
    }

    fn has_ended(&self, shard: &Shard) -> bool {
        self.workers.ended().iter().any(|(ended, _)| *ended == shard.id)
    }

    async fn standing(&self, name: &str) -> String {
        let all = self.generations().await.unwrap();
        let found = all["generations"].as_array().unwrap().iter().find(|of| of["name"] == name).unwrap().clone();
        found["standing"].as_str().unwrap().to_owned()
    }
}

async fn soon(is_so: impl AsyncFn() -> bool) {
    let looks = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looks).await.expect("it comes to be so");
}

impl World {
    fn of(shards: u16) -> Self {
        let (folder, clock) = (tempfile::tempdir().unwrap(), Arc::new(AtomicI64::new(START_MS)));
        let stamps = clock.clone();
        let options = stream::Options { shards: NonZeroU16::new(shards).unwrap(), ..stream::Options::default() };
        let disk = RealDisk::in_folder(folder.path().join("stream")).unwrap();
        let stream = LocalStream::open(disk, move || stamps.load(Ordering::SeqCst), options).unwrap();
        let store = LocalStore::open(&folder.path().join("rows.redb")).unwrap();
        let (stream, store) = (Arc::new(AnyStream::Local(stream)), Arc::new(AnyStore::Local(store)));
        Self { folder, clock, stream, store }
    }

    /// One more process, as on a pair that others have too. It folds nothing until it has leases.
    async fn join(&self) -> Process {
        let manner = Manner { is_alone: false, ..Manner::LOCAL };
        let (stream, store) = (self.stream.clone(), self.store.clone());
        let workers = Workers::new(stream.clone(), store.clone(), manner, None);
        // Somebody waits for all that is durable: each commit comes at once.
        workers.waiters.fetch_add(1, Ordering::SeqCst);
        let ticker = Arc::new(Ticker::new(now_ms()));
        let generations = Generations::new(workers.clone(), ticker.clone());
        let system = System {
            folder: self.folder.path().to_owned(),
            own: None,
            is_new: false,
            lists: String::new(),
            stream,
            store,
            workers: workers.clone(),
            instance: format!("{:016x}", crate::chance()),
            producer: Producer { id: "api".into(), epoch: 0, counter: 0 },
            counter: AtomicU64::new(0),
            ticker,
            verifying: Verifying::default(),
            generations: generations.clone(),
            identity: String::new(),
            archive: Archive::default(),
        };
        generations.look().await.unwrap();
        workers.spawn("generations", generations.supervise()).unwrap();
        // What others fold their resume points tell, as `leasing` looks it up.
        let elsewhere = workers.clone();
        let follow = async move {
            while !elsewhere.is_stopped_within(Duration::from_millis(20)).await {
                let running = elsewhere.running();
                let listed = elsewhere.stream.shards().await.unwrap();
                for shard in listed.iter().filter(|shard| !running.contains(&shard.id)) {
                    elsewhere.ledger.passed(&shard.id, elsewhere.applied(&shard.id).await.unwrap().through);
                }
            }
            Ok(())
        };
        workers.spawn("elsewhere", follow).unwrap();
        Process(Some(system))
    }

    async fn shards(&self) -> Vec<Shard> {
        self.stream.shards().await.unwrap()
    }

    async fn point(&self, generation: Generation, shard: &ShardId) -> SequenceNumber {
        let point = self.store.resume_point(generation, shard).await.unwrap();
        point.map_or(SequenceNumber::ZERO, |point| point.position)
    }

    /// Waits until a generation has committed all that the stream holds.
    async fn folded_by(&self, generation: Generation) {
        soon(async || {
            let mut is_folded = true;
            for shard in self.shards().await {
                let tip = self.stream.local().unwrap().tip(&shard.id).unwrap();
                let point = self.store.resume_point(generation, &shard.id).await.unwrap();
                let ended = point.as_ref().is_some_and(|point| point.ended);
                let at = point.map_or(SequenceNumber::ZERO, |point| point.position);
                is_folded &= at >= tip && (ended || !shard.closed);
            }
            is_folded
        })
        .await;
    }

    fn split(&self, shard: &Shard) {
        let HashRange { from, through } = shard.range;
        let middle = HashKey(from.0 + (through.0 - from.0) / 2);
        self.stream.local().unwrap().split(&shard.id, middle).unwrap();
    }

    async fn define(&self) {
        let defined = Defined { kind: "alarm".into(), name: "slow".into(), body: ALARM.into(), by: "me".into() };
        let put = system_event(HashKey::of(CONTROL_KEY), Event::Defined(defined));
        append_all(&*self.stream, vec![put]).await.unwrap();
    }

    /// A line on each of eight places of the ring; then the minute is over.
    async fn minute(&self, through: &System, latency: f64, counts: Generation) {
        let now_ms = self.clock.load(Ordering::SeqCst);
        let put = |range: HashRange| {
            let line = format!("{{\"ts\":{},\"service\":\"shop\",\"latency_ms\":{latency}}}\n", now_ms / 1000 + 30);
            let header = Header::plain("local", Content::Lines, line.len() as u32, now_ms);
            let (partition_key, data) = ("line".to_owned(), wire::encode(&header, line.as_bytes()));
            Put { partition_key, hash_key: Some(range.from), data }
        };
        let puts = HashRange::even(NonZeroU16::new(8).unwrap()).into_iter().map(put).collect();
        append_all(&*self.stream, puts).await.unwrap();
        self.folded_by(counts).await;
        self.clock.store(now_ms.div_euclid(60_000) * 60_000 + 61_000, Ordering::SeqCst);
        through.tick().await.unwrap();
        self.folded_by(counts).await;
    }

    /// When, from what, to what: as readers see it.
    async fn transitions(&self, view: &View) -> Vec<(i64, Option<State>, State)> {
        let found = query::alarms(&*self.store, "local", view, Some("slow")).await.unwrap();
        let all = found[0].transitions.as_ref().unwrap().iter();
        all.map(|of| ((of.time.0 - START_MS / 1000) / 60, of.from, of.to)).collect()
    }

    async fn verifies(&self, through: &System) -> Option<String> {
        let report = through.verify(|_| {}).await.unwrap();
        assert_eq!(report.differences, 0, "{:?}", report.first_difference);
        report.digest
    }
}

fn latency(minute: i64) -> f64 {
    if (3..8).contains(&minute) { 50.0 } else { 1.0 }
}

/// An alarm that rings and falls silent in one process that promotes nothing.
async fn alone() -> Vec<(i64, Option<State>, State)> {
    let world = World::of(2);
    let only = world.join().await;
    only.has(&world.shards().await, &[0, 1], &[]).await;
    world.define().await;
    for minute in 0..14 {
        world.minute(&only, latency(minute), FIRST).await;
    }
    world.verifies(&only).await;
    world.transitions(&only.view()).await
}

/// The same in two processes that share the shards, while a third has another generation made, promotes it, and goes back.
async fn shared(reshards: bool) {
    let world = World::of(2);
    let all = world.shards().await;
    let (left, right, third) = (world.join().await, world.join().await, world.join().await);
    left.has(&all, &[0], &[NEW]).await;
    right.has(&all, &[1], &[FIRST]).await;
    world.define().await;
    let mut counts = FIRST;
    for minute in 0..14 {
        match minute {
            2 => {
                third.replay("new", Some(Start::Oldest)).await.unwrap();
                soon(async || third.standing("new").await == "following").await;
            }
            // While it rings.
            4 => {
                third.promote("new").await.unwrap();
                counts = NEW;
                assert_eq!((left.workers.running().len(), right.workers.running().len()), (1, 1));
            }
            5 if reshards => {
                // Each half of the ring gets another shard.
                all.iter().for_each(|shard| world.split(shard));
                soon(async || left.has_ended(&all[0]) && right.has_ended(&all[1])).await;
                let all = world.shards().await;
                left.has(&all, &[3, 4], &[FIRST]).await;
                right.has(&all, &[2, 5], &[NEW]).await;
            }
            // Shards change hands, and those who follow too.
            5 => {
                left.has(&all, &[1], &[FIRST]).await;
                right.has(&all, &[0], &[NEW]).await;
            }
            // In the minutes in which it falls silent.
            8 => {
                third.promote("first").await.unwrap();
                counts = FIRST;
            }
            9 => {
                third.promote("new").await.unwrap();
                counts = NEW;
                // Both believe for a while that it is they who follow.
                *held(&left.workers.following.mine) = [FIRST, NEW].into();
                *held(&right.workers.following.mine) = [FIRST, NEW].into();
            }
            11 => {
                third.promote("first").await.unwrap();
                counts = FIRST;
            }
            _ => {}
        }
        world.minute(&third, latency(minute), counts).await;
    }
    // Each is told again where it stands at a promotion, and readers pass over that.
    assert_eq!(world.transitions(&third.view()).await, alone().await);
    assert_eq!(third.compare_generations("new").await.unwrap()["windowsDiffer"], 0);
    world.verifies(&third).await;
    let mut lost = left.losses();
    lost.extend(right.losses());
    assert_eq!(lost, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_generation_that_counts_is_shared_as_the_first_is_and_alarms_do_not_notice() {
    shared(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn so_it_is_on_shards_that_are_split_while_it_counts() {
    shared(true).await;
}

/// A word that one generation said stands behind the promotion of another in the log of whoever hears it: that one's own fold of the speaker has to say it,
/// in whichever process that is.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_shard_that_counts_waits_for_words_that_another_process_makes_of_a_shard_that_is_behind() {
    let world = World::of(2);
    let all = world.shards().await;
    let control = usize::from(!all[0].range.contains(HashKey::of(CONTROL_KEY)));
    let (ahead, behind, third) = (world.join().await, world.join().await, world.join().await);
    ahead.has(&all, &[control], &[]).await;
    behind.has(&all, &[1 - control], &[FIRST, NEW]).await;
    world.define().await;
    world.minute(&third, 1.0, FIRST).await;
    third.replay("new", Some(Start::Oldest)).await.unwrap();
    soon(async || third.standing("new").await == "following").await;
    third.compare_generations("new").await.unwrap();
    // One shard stands still before a tick, at which it will speak as the first; the other goes on to the promotion behind it.
    behind.has(&all, &[], &[FIRST, NEW]).await;
    let now_ms = world.clock.load(Ordering::SeqCst);
    world.clock.store(now_ms + 60_000, Ordering::SeqCst);
    third.tick().await.unwrap();
    let goes_on = async {
        soon(async || third.generations.look().await.unwrap().unfinished().is_some()).await;
        let before = world.point(NEW, &all[control].id).await;
        soon(async || world.point(NEW, &all[control].id).await > before && ahead.is_at(NEW, control, &all).await).await;
        behind.has(&all, &[1 - control], &[FIRST, NEW]).await;
    };
    let (promoted, ()) = tokio::join!(third.promote("new"), goes_on);
    promoted.unwrap();
    world.minute(&third, 50.0, NEW).await;
    world.verifies(&third).await;
}

/// The rows are made anew under another prefix while the stream says that another generation counts. `is_begun`: a process began to mend that, and died.
async fn anew(is_begun: bool) {
    let mut world = World::of(2);
    let all = world.shards().await;
    let only = world.join().await;
    only.has(&all, &[0, 1], &[FIRST, NEW]).await;
    world.minute(&only, 1.0, FIRST).await;
    only.replay("new", Some(Start::Oldest)).await.unwrap();
    soon(async || only.standing("new").await == "following").await;
    only.promote("new").await.unwrap();
    world.minute(&only, 1.0, NEW).await;
    let digest = world.verifies(&only).await;
    drop(only);

    world.store = Arc::new(AnyStore::Local(LocalStore::open(&world.folder.path().join("anew.redb")).unwrap()));
    if is_begun {
        let read = record::read(&*world.store).await.unwrap();
        let begun = Promotion { number: 2, generation: 0, revision: None, at_ms: START_MS };
        let record = Record { promotions: vec![begun], ..Record::default() };
        assert!(record::write(&*world.store, &read, &record).await.unwrap());
    }
    let (left, right) = (world.join().await, world.join().await);
    left.has(&all, &[0], &[FIRST]).await;
    right.has(&all, &[1], &[]).await;
    soon(async || left.generations.look().await.unwrap().finished().count() == 1).await;
    world.folded_by(FIRST).await;
    world.minute(&right, 1.0, FIRST).await;
    let record = left.generations.look().await.unwrap();
    let numbers: Vec<u16> = record.promotions.iter().map(|promotion| promotion.number).collect();
    assert_eq!((numbers, record.live()), (vec![2], FIRST), "once, whoever saw it");
    // Who has read the record just before another mended it.
    for process in [&left, &right] {
        assert!(process.workers.unknown().is_some());
        process.generations.mend(&Record::default()).await.unwrap();
    }
    assert_eq!(left.generations.look().await.unwrap(), record);
    assert_ne!(world.verifies(&left).await, digest, "a minute more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn where_the_stream_names_a_generation_that_is_not_among_the_rows_two_processes_promote_the_first_once() {
    anew(false).await;
    anew(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_has_ended_is_not_begun_again_and_children_of_its_shards_are_the_next_ones() {
    let world = World::of(2);
    let all = world.shards().await;
    let only = world.join().await;
    only.has(&all, &[0, 1], &[FIRST, NEW]).await;
    world.minute(&only, 1.0, FIRST).await;
    only.replay("new", Some(Start::Oldest)).await.unwrap();
    soon(async || only.standing("new").await == "following").await;
    only.promote("new").await.unwrap();
    world.minute(&only, 1.0, NEW).await;
    // The record's times are the host's, and the fold's are the stream's.
    world.clock.store(now_ms() + 2 * 24 * 60 * 60_000, Ordering::SeqCst);
    world.minute(&only, 1.0, NEW).await;
    soon(async || only.standing("first").await == "ended").await;
    soon(async || only.generations.crew(FIRST).is_none()).await;
    let stood = world.point(FIRST, &all[0].id).await;
    world.split(&all[0]);
    drop(only);

    let next = world.join().await;
    next.has(&all, &[0, 1], &[NEW]).await;
    soon(async || next.has_ended(&all[0])).await;
    let all = world.shards().await;
    next.has(&all, &[1, 2, 3], &[NEW]).await;
    world.minute(&next, 1.0, NEW).await;
    assert_eq!(next.losses(), Vec::<String>::new());
    assert_eq!(world.point(FIRST, &all[0].id).await, stood);
    assert_eq!(world.point(FIRST, &all[2].id).await, SequenceNumber::ZERO, "nobody began it for a child");
    assert!(!held(&next.workers.following.wanted).as_ref().unwrap().contains(&FIRST), "nor is it to be followed with");
    world.verifies(&next).await;
}
