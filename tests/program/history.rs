//! A data folder as a system left it that ran for some minutes: an alarm was defined, rang and fell silent. Made by the parts of the system in this
//! process, with a clock that is set; so nobody waits for a minute to pass. Decides nothing about right and wrong.
#![allow(clippy::unwrap_used, dead_code)]

use std::{
    num::NonZeroU16,
    path::Path,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use events::{
    embedded::{self as stream, disk::RealDisk},
    event::{Defined, Event},
    identity::{CONTROL_KEY, Origin, OriginKind},
    pack::{Identity, Packer, Source},
    position::HashKey,
    stream::{Put, ReadOnly, Stream},
    wire::Codec,
};
use processor::{
    append::{append_all, system_event},
    consume::Worker,
    effects::Live,
    tick,
};
use projections::{
    fold::Place,
    query,
    store::{Generation, law::block_on},
};
use weir::{LocalStore, LocalStream};

/// The alarm, and the service that it watches.
pub const ALARM: &str = "slow";
pub const SERVICE: &str = "watched";
/// Lines of the service in all.
pub const LINES: u64 = 24;
/// It ended so long ago.
const ENDED_SECS: i64 = 30 * 60;
/// Minutes of it: the alarm begins, rings, is fine, and has nothing to go by.
const MINUTES: i64 = 12;

/// What is left of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// All rows.
    All,
    /// Those of the definition: all that came after it has still to be folded.
    Definition,
}

struct World {
    clock: Arc<AtomicI64>,
    stream: Arc<LocalStream>,
    store: Arc<LocalStore>,
    workers: Vec<Worker<LocalStream, LocalStore, Live<LocalStream>>>,
    files: u64,
    pad: usize,
}

fn stream(folder: &Path, shards: u16, segment_bytes: u64, clock: &Arc<AtomicI64>) -> Arc<LocalStream> {
    let stamps = clock.clone();
    let disk = RealDisk::in_folder(folder.join("stream")).unwrap();
    let shards = NonZeroU16::new(shards).unwrap();
    let options = stream::Options { shards, segment_bytes, ..stream::Options::default() };
    Arc::new(LocalStream::open(disk, move || stamps.load(Ordering::SeqCst), options).unwrap())
}

impl World {
    fn open(folder: &Path, shards: u16, pad: usize, clock: &Arc<AtomicI64>) -> Self {
        let segment_bytes = if pad > 0 { 1 } else { stream::Options::default().segment_bytes };
        let stream = stream(folder, shards, segment_bytes, clock);
        let store = Arc::new(LocalStore::open(&folder.join("rows.redb")).unwrap());
        let ring: Vec<_> =
            block_on(stream.shards()).unwrap().into_iter().map(|shard| (shard.id, shard.range)).collect();
        let workers = ring.iter().map(|(shard, _)| {
            let place = Place { generation: Generation(0), shard: shard.clone(), ring: ring.clone() };
            let opened = Worker::open(ReadOnly::new(stream.clone()), store.clone(), Live(stream.clone()), place);
            block_on(opened).unwrap()
        });
        let workers = workers.collect();
        Self { clock: clock.clone(), stream, store, workers, files: 0, pad }
    }

    fn append(&self, put: Put) {
        block_on(append_all(&*self.stream, vec![put])).unwrap();
    }

    fn settle(&mut self) {
        loop {
            let mut quiet = true;
            for worker in &mut self.workers {
                quiet &= block_on(worker.step(Duration::ZERO)).unwrap().caught_up;
                block_on(worker.commit()).unwrap();
            }
            if quiet {
                return;
            }
        }
    }

    fn apply(&mut self) {
        let defined = Defined { kind: "alarm".into(), name: ALARM.into(), body: definition(), by: "test".into() };
        self.append(system_event(HashKey::of(CONTROL_KEY), Event::Defined(defined)));
        self.settle();
    }

    /// Lines of this minute, each in a file of its own and so on any shard.
    fn lines(&mut self, latencies: &[f64]) {
        let now_ms = self.clock.load(Ordering::SeqCst);
        for latency in latencies {
            self.files += 1;
            let text = format!(
                "{{\"ts\":{},\"service\":\"{SERVICE}\",\"latency_ms\":{latency},\"pad\":\"{}\"}}\n",
                now_ms / 1000 + 30,
                "x".repeat(self.pad)
            );
            let origin =
                Origin { kind: OriginKind::File, name: format!("/watched/{}.log", self.files), version: "1".into() };
            let source = Source {
                tenant: "local".into(),
                service: None,
                identity: Identity::Origin { origin, from: 0 },
                read_at_ms: now_ms,
                definitions: None,
            };
            let mut packer = Packer::new(source, Codec::None, 64 << 10);
            packer.push(text.as_bytes());
            let packed = packer.next(true).unwrap();
            self.append(Put { partition_key: packed.partition_key, hash_key: None, data: packed.data });
        }
        self.settle();
    }

    fn minute(&mut self, latencies: &[f64]) {
        self.lines(latencies);
        self.clock.fetch_add(60_000, Ordering::SeqCst);
        block_on(tick::tick(&*self.stream, &*self.store, Generation(0))).unwrap();
        self.settle();
    }

    fn close(self) {
        drop(self.workers);
        self.stream.close();
        drop((self.stream, self.store));
    }
}

fn definition() -> String {
    format!(
        r#"{{"AlarmName":"{ALARM}","ServiceName":"{SERVICE}","MetricName":"latency","Statistic":"Maximum","Period":60,"EvaluationPeriods":3,
        "DatapointsToAlarm":2,"Threshold":100,"ComparisonOperator":"GreaterThanThreshold"}}"#
    )
}

fn begun_secs() -> i64 {
    static BEGUN_SECS: OnceLock<i64> = OnceLock::new();
    *BEGUN_SECS.get_or_init(|| (weir::now_ms() / 60_000 - MINUTES) * 60 - ENDED_SECS)
}

/// Makes such a folder, and returns what the alarm did: what `weir alarms NAME --json` has as `transitions`.
///
/// Within one process all have the same lines at the same times.
pub fn live(folder: &Path, shards: u16, left: Rows) -> serde_json::Value {
    made(folder, shards, 0, left)
}

/// The same with all rows and with longer lines, in segments of the stream that are so small that the first of them can go.
pub fn long(folder: &Path, shards: u16) -> serde_json::Value {
    made(folder, shards, 30_000, Rows::All)
}

/// The stream lets go of all that came before a minute of it, but for what stands in a segment with what is younger. Answers how many segments went.
pub fn let_go(folder: &Path, minute: i64) -> usize {
    let clock = Arc::new(AtomicI64::new(weir::now_ms()));
    let stream = stream(folder, 1, 1, &clock);
    let trim = |shard: events::stream::Shard| {
        stream.trim(&shard.id, (begun_secs() + minute * 60) * 1000, stream.tip(&shard.id).unwrap()).unwrap()
    };
    let gone = block_on(stream.shards()).unwrap().into_iter().map(trim).sum();
    stream.close();
    gone
}

fn made(folder: &Path, shards: u16, pad: usize, left: Rows) -> serde_json::Value {
    let clock = Arc::new(AtomicI64::new(begun_secs() * 1000));
    std::fs::create_dir_all(folder).unwrap();
    let mut world = World::open(folder, shards, pad, &clock);
    world.apply();
    world.close();
    let (rows, definition) = (folder.join("rows.redb"), folder.join("definition.redb"));
    std::fs::copy(&rows, &definition).unwrap();
    let mut world = World::open(folder, shards, pad, &clock);
    for minute in 0..MINUTES {
        world.minute(match minute {
            2 | 3 => &[500.0, 7.0, 20.0, 1.0, 2.0, 3.0],
            4 | 5 => &[7.0, 20.0, 1.0, 2.0, 3.0, 4.0],
            _ => &[],
        });
    }
    let found = block_on(query::alarms(&*world.store, "local", &Generation(0).into(), Some(ALARM))).unwrap();
    world.close();
    match left {
        Rows::All => std::fs::remove_file(definition).unwrap(),
        Rows::Definition => std::fs::rename(definition, rows).unwrap(),
    }
    let transitions = serde_json::to_value(&found[0].transitions).unwrap();
    let states: Vec<_> = transitions.as_array().unwrap().iter().map(|change| change["to"].as_str().unwrap()).collect();
    assert_eq!(states, ["INSUFFICIENT_DATA", "ALARM", "OK", "INSUFFICIENT_DATA"], "{transitions}");
    transitions
}
