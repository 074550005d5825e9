//! The embedded pair on one disk that loses power: what the stream answered for is there, the rows are never ahead of it, and once all is sent
//! every line counts once. The simulator beside this has more shards, zombies and clocks over a stream and a store of its own; here both are real,
//! and so is every sector that is torn.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "parts/local.rs"]
mod local;

use std::{
    cell,
    collections::BTreeMap,
    io::{self, IoSlice},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use events::{
    embedded::{
        Options, Sabotage,
        disk::{
            Disk, File,
            simulated::{Faults, Seeded, SimulatedDisk},
        },
    },
    event::{Defined, Event},
    identity::{CONTROL_KEY, Origin, OriginKind},
    pack::Identity,
    position::{HashKey, ShardId},
    stream::{Put, ReadOnly, Stream},
};
use processor::{
    append::{append_all, system_event},
    consume::Worker,
    effects::{Live, Sink},
    tick, verify,
};
use projections::{
    cell::Cell,
    embedded::Embedded as EmbeddedStore,
    fold::{Effect, Input, Place},
    store::{
        Kind, Span, Store,
        law::memory::{Commits, Memory},
    },
};

use self::local::{GENERATION, LocalStream, START_MS};

const ROWS: &str = "rows.redb";
const SERVICES: u64 = 3;
const FILES: u64 = 5;
const BATCHES: u64 = 6;
const ALARM: &str = r#"{"AlarmName":"a","ServiceName":"s1","MetricName":"errors","Statistic":"Sum","Period":60,"EvaluationPeriods":2,
    "Threshold":1,"ComparisonOperator":"GreaterThanOrEqualToThreshold"}"#;

thread_local! {
    /// The sync of this thread is the store's, which would wait for itself if another worker came in between.
    static OF_THE_STORE: cell::Cell<bool> = const { cell::Cell::new(false) };
}

/// redb's file, on the same disk as the stream's.
#[derive(Debug)]
struct Rows(<SimulatedDisk as Disk>::File);

impl redb::StorageBackend for Rows {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let read = self.0.read_at(out, offset)?;
        if read == out.len() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        OF_THE_STORE.set(true);
        let synced = self.0.sync_data();
        OF_THE_STORE.set(false);
        synced
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_at(&[IoSlice::new(data)], offset)
    }
}

/// The sink of a worker that reads and commits only: what would append ends it.
struct Mute;

impl Sink for Mute {
    async fn carry_out(&mut self, _: &ShardId, _: Vec<Effect>) -> Result<(), String> {
        Err("it may not append".into())
    }

    fn admit(&mut self, input: Input) -> Option<Input> {
        Some(input)
    }
}

type LocalWorker = Worker<LocalStream, EmbeddedStore, Live<LocalStream>>;

/// One life of the process.
struct Process {
    stream: Arc<LocalStream>,
    store: Arc<EmbeddedStore>,
    places: Vec<Place>,
    workers: Vec<LocalWorker>,
}

/// What a program that sends files knows: the batches of each, and how many were answered for.
struct Sender {
    batches: Vec<Put>,
    sent: usize,
}

struct World {
    disk: SimulatedDisk,
    random: Seeded,
    clock: Arc<AtomicI64>,
    sabotage: Option<Sabotage>,
    senders: Vec<Sender>,
    /// Lines of each service.
    lines: BTreeMap<String, u64>,
    /// At every sync another worker folds and commits, and not only at some.
    eager: Arc<AtomicBool>,
    /// Times that the process began again.
    lives: u32,
}

/// A file of some minutes, cut into batches, and its lines by service.
fn file(random: &mut Seeded, number: u64, lines: &mut BTreeMap<String, u64>) -> Vec<Put> {
    let origin = Origin { kind: OriginKind::File, name: format!("/{number}.log"), version: "1".into() };
    let mut from = 0;
    let batch = |_| {
        let line = |_| {
            let service = format!("s{}", random.below(SERVICES));
            *lines.entry(service.clone()).or_default() += 1;
            let (at, status) = (START_MS / 1000 + random.below(300) as i64, if random.one_in(4) { 500 } else { 200 });
            format!(
                "{{\"ts\":{at},\"service\":\"{service}\",\"status\":{status},\"latency_ms\":{}.5}}\n",
                random.below(900)
            )
        };
        let text: String = (0..20).map(line).collect();
        let identity = Identity::Origin { origin: origin.clone(), from };
        from += text.len() as u64;
        local::batch(identity, START_MS, &text)
    };
    (0..BATCHES).map(batch).collect()
}

impl World {
    fn new(seed: u64, sabotage: Option<Sabotage>) -> Self {
        let (mut random, mut lines) = (Seeded::new(seed), BTreeMap::new());
        let senders = (0..FILES).map(|n| Sender { batches: file(&mut random, n, &mut lines), sent: 0 }).collect();
        let clock = Arc::new(AtomicI64::new(START_MS));
        Self {
            disk: SimulatedDisk::new(seed),
            random,
            clock,
            sabotage,
            senders,
            lines,
            eager: Arc::default(),
            lives: 0,
        }
    }

    /// The process begins, on what the last one left.
    async fn open(&mut self) -> Result<Process, String> {
        self.lives += 1;
        let stamps = self.clock.clone();
        let options = Options { segment_bytes: 0, sabotage: self.sabotage, ..local::options(2) };
        let stream = LocalStream::open(self.disk.clone(), move || stamps.load(Ordering::SeqCst), options);
        let stream = Arc::new(stream.map_err(|error| format!("the stream: {error}"))?);
        let disk = self.disk.clone();
        if self.lives == 1 {
            // A program makes the file under another name until it is whole; that is tried with the store itself.
            disk.create(ROWS).and_then(|_| disk.sync_folder("")).map_err(|error| error.to_string())?;
        }
        let storage = move || Ok(Box::new(Rows(disk.open(ROWS)?)) as Box<dyn redb::StorageBackend>);
        let store = EmbeddedStore::over(ROWS.into(), storage).map_err(|error| format!("the rows: {}", error))?;
        let store = Arc::new(store);
        let shards = stream.shards().await.map_err(|error| error.to_string())?;
        let places = local::places(shards);
        let (mut workers, mut others) = (vec![], vec![]);
        for place in &places {
            let read = ReadOnly::new(stream.clone());
            let worker = Worker::open(read, store.clone(), Live(stream.clone()), place.clone()).await;
            let worker = worker.map_err(|error| error.to_string())?;
            let tip = stream.tip(&place.shard).map_err(|error| error.to_string())?;
            if worker.committed() > tip {
                return Err(format!("law 14: the rows are at {:?}, the stream ends at {tip:?}", worker.committed()));
            }
            workers.push(worker);
            let read = ReadOnly::new(stream.clone());
            let other =
                Worker::open(read, store.clone(), Mute, place.clone()).await.map_err(|error| error.to_string())?;
            others.push(Mutex::new(other));
        }
        let (asked, eager) = (AtomicU64::new(0), self.eager.clone());
        self.disk.set_meanwhile(Some(Arc::new(move || {
            // At some syncs, before they have any effect, another worker folds and commits what it can read.
            let nth = asked.fetch_add(1, Ordering::SeqCst);
            if (nth.is_multiple_of(11) || eager.load(Ordering::SeqCst))
                && !OF_THE_STORE.get()
                && let Ok(mut worker) = others[nth as usize % others.len()].try_lock()
            {
                let worker = &mut *worker;
                let work = async move {
                    let _ = worker.step(Duration::ZERO).await;
                    let _ = worker.commit().await;
                };
                // A runtime of its own, as the one that waits for this sync stands still.
                drop(thread::scope(|scope| scope.spawn(|| runtime().block_on(work)).join()));
            }
        })));
        Ok(Process { stream, store, places, workers })
    }

    /// Does one thing; `Err`: the process is at its end.
    async fn act(&mut self, process: &mut Process) -> Result<(), String> {
        self.clock.fetch_add(self.random.below(9_000) as i64, Ordering::SeqCst);
        let which = self.random.below(process.workers.len() as u64) as usize;
        match self.random.below(10) {
            0..=3 => {
                let from = self.random.below(FILES) as usize;
                let sender = &mut self.senders[from];
                // Now and then something is sent again that was answered for long ago.
                let again = sender.sent > 0 && self.random.one_in(5);
                let nth = if again { self.random.below(sender.sent as u64) as usize } else { sender.sent };
                let Some(put) = sender.batches.get(nth) else { return Ok(()) };
                let answers = process.stream.append(vec![put.clone()]).await.map_err(|error| error.to_string())?;
                if answers.iter().all(Result::is_ok) && !again && !self.random.one_in(8) {
                    sender.sent += 1;
                }
            }
            4..=6 => drop(process.workers[which].step(Duration::ZERO).await.map_err(|error| error.to_string())?),
            7 | 8 => drop(process.workers[which].commit().await.map_err(|error| error.to_string())?),
            _ => {
                let ticked = tick::tick(&*process.stream, &*process.store, GENERATION).await;
                ticked.map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }

    /// The process dies as chance has it, by itself, with the power, or in the middle of what it does next.
    async fn die(&mut self, mut process: Process) {
        let in_the_middle = self.random.below(3);
        if in_the_middle > 0 {
            if in_the_middle == 1 {
                self.disk.fail_after(self.random.below(12));
            } else {
                self.eager.store(true, Ordering::SeqCst);
                self.disk.set_faults(Faults { sync: 3, ..Faults::default() });
            }
            for _ in 0..40 {
                if self.act(&mut process).await.is_err() {
                    break;
                }
            }
        }
        let power = self.disk.is_down() || self.random.one_in(2);
        if power {
            self.disk.power_loss(self.random.number());
        } else {
            self.disk.kill();
        }
        // Its handles are dead: what it still has to say reaches nobody.
        self.disk.set_meanwhile(None);
        self.eager.store(false, Ordering::SeqCst);
        drop(process);
        self.disk.set_faults(Faults::default());
    }

    async fn run(&mut self) -> Result<(), String> {
        let mut process = self.open().await?;
        let defined = Defined { kind: "alarm".into(), name: "a".into(), body: ALARM.into(), by: "test".into() };
        append_all(&*process.stream, vec![system_event(HashKey::of(CONTROL_KEY), Event::Defined(defined))]).await?;
        for _ in 0..150 {
            let ended = self.act(&mut process).await.is_err();
            if ended || self.random.one_in(25) {
                self.die(process).await;
                process = self.open().await?;
                if self.random.one_in(3) {
                    self.disk.set_faults(Faults { write: 60, sync: 60, name: 60 });
                }
            }
        }
        self.disk.set_faults(Faults::default());
        self.die(process).await;
        let mut process = self.open().await?;
        self.disk.set_meanwhile(None);
        for sender in &mut self.senders {
            let rest = sender.batches.split_off(sender.sent);
            append_all(&*process.stream, rest).await?;
        }
        self.check(&mut process).await
    }

    /// All was sent: every line counts once, and the rows are what the stream says.
    async fn check(&self, process: &mut Process) -> Result<(), String> {
        for worker in &mut process.workers {
            while !worker.step(Duration::ZERO).await.map_err(|error| error.to_string())?.caught_up {}
            worker.commit().await.map_err(|error| error.to_string())?;
        }
        let span = Span::All { tenant: None, generation: GENERATION, kind: Kind::Window };
        let page =
            process.store.scan(&span, None, 10_000.try_into().unwrap()).await.map_err(|error| error.to_string())?;
        let mut found = BTreeMap::new();
        for row in page.rows {
            let windows = Cell::decode(&row.body).map_err(|error| error.to_string())?.windows();
            let lines =
                windows.iter().find(|(series, ..)| series.metric == "lines").map_or(0, |(_, _, values)| values.count());
            *found.entry(row.key.subject.name).or_default() += lines;
        }
        if found != self.lines {
            return Err(format!("counted {found:?}, sent {:?}", self.lines));
        }
        let (stream, scratch) = (ReadOnly::new(process.stream.clone()), Arc::new(Memory::new(Commits::Whole)));
        let report = verify::verify(stream, &*process.store, scratch, process.places.clone(), async {}, |_| {}).await;
        let report = report.map_err(|error| error.to_string())?;
        if report.differences > 0 { Err(format!("{:?}", report.first_difference)) } else { Ok(()) }
    }
}

fn run(seed: u64, sabotage: Option<Sabotage>) -> Result<u32, String> {
    let mut world = World::new(seed, sabotage);
    let answer = runtime().block_on(world.run());
    world.disk.set_meanwhile(None);
    answer.map(|()| world.lives)
}

/// Waiting takes no time in it.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

#[test]
fn a_pair_that_loses_power_counts_every_line_once() {
    let worlds = std::env::var("WEIR_SIM_SEEDS").map_or(100, |count| count.parse().unwrap());
    let mut lives = 0;
    for seed in 0..worlds {
        lives += u64::from(run(seed, None).unwrap_or_else(|why| panic!("seed {seed}: {why}")));
    }
    assert!(lives > 5 * worlds, "{lives} lives in {worlds} worlds");
}

#[test]
fn a_stream_that_shows_records_before_their_sync_is_found() {
    for sabotage in [Sabotage::PublishedBeforeSync, Sabotage::TailNotSyncedAtOpen] {
        let found = (0..100).find(|seed| run(*seed, Some(sabotage)).is_err());
        assert!(found.is_some(), "{sabotage:?} was not found in a hundred worlds");
    }
}
