//! Processes that share one pair, in one program: each a system of its own on the same stream and rows, with leases that are handed out by hand.

use std::sync::atomic::AtomicU64;

use events::{
    identity::Producer,
    position::{HashRange, SequenceNumber, ShardId},
};
use processor::generations::Start;
use projections::{alarm::State, query, store::Store};

use super::super::*;
pub(super) use crate::staged::{START_MS, Staged as World};
use crate::{System, archive::Archive, pair::Manner, verifying::Verifying, workers::place_in};

pub(super) const FIRST: Generation = Generation(0);
pub(super) const NEW: Generation = Generation(1);
/// Whatever is waited for is there long before, or never.
const PATIENCE: Duration = Duration::from_secs(60);

/// One of them; its threads end with it.
pub(super) struct Process(Option<System>);

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
    pub(super) async fn has(&self, all: &[Shard], shards: &[usize], generations: &[Generation]) {
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
    pub(super) async fn is_at(&self, generation: Generation, number: usize, all: &[Shard]) -> bool {
        let place = place_in(generation, &all[number], all);
        let opened = self.workers.open(place).await.unwrap();
        opened.shard().acts()
    }

    pub(super) fn has_ended(&self, shard: &Shard) -> bool {
        self.workers.ended().iter().any(|(ended, _)| *ended == shard.id)
    }

    /// Opens another generation, and waits until it follows.
    pub(super) async fn opens(&self, start: Start) {
        self.replay("new", Some(start)).await.unwrap();
        soon(async || self.standing("new").await == "following").await;
    }

    pub(super) async fn standing(&self, name: &str) -> String {
        let all = self.generations().await.unwrap();
        let found = all["generations"].as_array().unwrap().iter().find(|of| of["name"] == name).unwrap().clone();
        found["standing"].as_str().unwrap().to_owned()
    }
}

pub(super) async fn soon(is_so: impl AsyncFn() -> bool) {
    let looks = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looks).await.expect("it comes to be so");
}

impl World {
    /// One more process, as on a pair that others have too. It folds nothing until it has leases.
    pub(super) async fn join(&self) -> Process {
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
            identity: "a stream of a test".to_owned(),
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

    pub(super) async fn point(&self, generation: Generation, shard: &ShardId) -> SequenceNumber {
        let point = self.store.resume_point(generation, shard).await.unwrap();
        point.map_or(SequenceNumber::ZERO, |point| point.position)
    }

    /// Waits until a generation has committed all that the stream holds.
    pub(super) async fn folded_by(&self, generation: Generation) {
        soon(async || {
            let mut is_folded = true;
            for shard in self.shards().await {
                let tip = self.tip(&shard.id);
                let point = self.store.resume_point(generation, &shard.id).await.unwrap();
                let ended = point.as_ref().is_some_and(|point| point.ended);
                let at = point.map_or(SequenceNumber::ZERO, |point| point.position);
                is_folded &= at >= tip && (ended || !shard.closed);
            }
            is_folded
        })
        .await;
    }

    pub(super) fn split(&self, shard: &Shard) {
        let HashRange { from, through } = shard.range;
        let middle = HashKey(from.0 + (through.0 - from.0) / 2);
        self.local().split(&shard.id, middle).unwrap();
    }

    /// Lines; then the minute is over.
    pub(super) async fn minute(&self, through: &System, latency: f64, counts: Generation) {
        self.lines(latency).await;
        self.folded_by(counts).await;
        self.pass_minute();
        through.tick().await.unwrap();
        self.folded_by(counts).await;
    }

    /// When, from what, to what: as readers see it.
    pub(super) async fn transitions(&self, view: &View) -> Vec<(i64, Option<State>, State)> {
        let found = query::alarms(&*self.store, "local", view, Some("slow")).await.unwrap();
        let all = found[0].transitions.as_ref().unwrap().iter();
        all.map(|of| ((of.time.0 - START_MS / 1000) / 60, of.from, of.to)).collect()
    }

    pub(super) async fn verifies(&self, through: &System) -> Option<String> {
        let report = through.verify(|_| {}).await.unwrap();
        assert_eq!(report.differences, 0, "{:?}", report.first_difference);
        report.digest
    }
}
