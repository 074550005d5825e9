//! Rows that are kept for some days, under a stream that keeps everything, as an archive does: what has gone, and what began anew since, is no difference.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "parts/local.rs"]
mod local;

use std::{
    collections::{BTreeMap, HashMap},
    num::NonZeroUsize,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicU16, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use events::{
    position::ShardId,
    stream::{Put, ReadOnly, Stream},
};
use processor::{
    append::append_all,
    consume::Worker,
    effects::Live,
    generations::{Common, compare},
    verify::Report,
};
use projections::{
    fold::Place,
    generations::compared::LeftOut,
    store::{
        Checkpoint, Commit, Committed, Day, Generation, Kind, ReadError, Row, RowKey, Rows, Span, Store, WriteError,
        Written,
        law::{
            block_on,
            memory::{Commits, Memory},
        },
    },
};

use self::local::{GENERATION, LocalStream, START_MS};

const DAYS: u16 = 10;
const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

/// A store of a cloud: it keeps rows for so many days, and marks for twice as many, and removes them late; nobody is shown what is past its time.
struct Keeping {
    rows: Memory,
    today: AtomicU16,
    /// What was written of a day long past is kept for as long from then on.
    written_on: Mutex<HashMap<RowKey, Day>>,
}

impl Keeping {
    fn shown(&self, row: &Row) -> bool {
        let written_on = self.written_on.lock().unwrap().get(&row.key).copied();
        !self.is_past(row.key.subject.kind, row.folded_on.max(written_on.unwrap_or_default()))
    }

    fn note<'a>(&self, rows: impl Iterator<Item = &'a Row>) {
        let today = Day(self.today.load(Ordering::SeqCst));
        self.written_on.lock().unwrap().extend(rows.map(|row| (row.key.clone(), today)));
    }
}

impl Store for Keeping {
    async fn write(&self, rows: Vec<Row>) -> Result<Vec<Written>, WriteError> {
        self.note(rows.iter());
        self.rows.write(rows).await
    }

    async fn commit(&self, commit: Commit) -> Result<Committed, WriteError> {
        self.note(commit.rows.iter());
        self.rows.commit(commit).await
    }

    async fn checkpoint(
        &self,
        generation: Generation,
        shard: &ShardId,
    ) -> Result<Option<(Checkpoint, Vec<Bytes>)>, ReadError> {
        self.rows.checkpoint(generation, shard).await
    }

    async fn read(&self, keys: &[RowKey]) -> Result<Vec<Option<Row>>, ReadError> {
        let rows = self.rows.read(keys).await?;
        Ok(rows.into_iter().map(|row| row.filter(|row| self.shown(row))).collect())
    }

    async fn scan(&self, span: &Span, after: Option<&RowKey>, limit: NonZeroUsize) -> Result<Rows, ReadError> {
        let mut page = self.rows.scan(span, after, limit).await?;
        page.rows.retain(|row| self.shown(row));
        Ok(page)
    }

    fn is_past(&self, kind: Kind, folded_on: Day) -> bool {
        let days = match kind {
            Kind::Taken | Kind::Producer | Kind::Identified => 2 * DAYS,
            _ => DAYS,
        };
        kind.expires() && folded_on.0 + days < self.today.load(Ordering::SeqCst)
    }

    async fn expire(&self, generation: Generation, kind: Kind, before: Day) -> Result<u64, WriteError> {
        self.rows.expire(generation, kind, before).await
    }
}

struct World {
    clock: Arc<AtomicI64>,
    stream: Arc<LocalStream>,
    store: Arc<Keeping>,
    place: Place,
    worker: Worker<LocalStream, Keeping, Live<LocalStream>>,
}

impl World {
    fn new() -> Self {
        let clock = Arc::new(AtomicI64::new(START_MS));
        let stream = local::stream(1, &clock);
        let place = local::places(block_on(stream.shards()).unwrap()).remove(0);
        let today = AtomicU16::new(Day::of(START_MS).0);
        let store = Arc::new(Keeping { rows: Memory::new(Commits::Whole), today, written_on: Mutex::default() });
        let worker = opened(&stream, &store, &place);
        Self { clock, stream, store, place, worker }
    }

    /// A day passes, and this is appended, folded and committed by a worker that knows no row yet.
    fn day(&mut self, puts: Vec<Put>) {
        let now = self.clock.fetch_add(DAY_MS, Ordering::SeqCst) + DAY_MS;
        self.store.today.store(Day::of(now).0, Ordering::SeqCst);
        self.worker = opened(&self.stream, &self.store, &self.place);
        block_on(append_all(&*self.stream, puts)).unwrap();
        while !block_on(self.worker.step(Duration::ZERO)).unwrap().caught_up {}
        block_on(self.worker.commit()).unwrap();
    }

    fn verify(&self) -> Report {
        local::verify(&self.stream, &*self.store, vec![self.place.clone()])
    }

    fn windows(&self, service: &str) -> usize {
        let span = Span::All { tenant: None, generation: GENERATION, kind: Kind::Window };
        let rows = block_on(self.store.scan(&span, None, 10_000.try_into().unwrap())).unwrap().rows;
        rows.iter().filter(|row| row.key.subject.name == service).count()
    }
}

fn opened(
    stream: &Arc<LocalStream>,
    store: &Arc<Keeping>,
    place: &Place,
) -> Worker<LocalStream, Keeping, Live<LocalStream>> {
    let opened = Worker::open(ReadOnly::new(stream.clone()), store.clone(), Live(stream.clone()), place.clone());
    block_on(opened).unwrap()
}

/// A file of some lines of the first day's first minute.
fn file(number: i64, service: &str) -> Put {
    let line = format!("{{\"ts\":{},\"service\":\"{service}\",\"latency_ms\":{number}.5}}\n", START_MS / 1000);
    local::part_of_file(&format!("/{number}.log"), 0, START_MS, &line.repeat(4))
}

#[test]
fn what_is_past_its_time_is_no_difference_whether_it_was_removed_or_stands_or_began_anew() {
    let mut world = World::new();
    world.day(vec![file(1, "early"), file(2, "again"), file(3, "removed")]);
    for number in 4..16 {
        world.day(vec![file(number, "shop")]);
    }
    assert_eq!((world.windows("early"), world.windows("shop")), (0, 1), "one was last touched thirteen days ago");
    // Late lines of the same minute: what stood of it is past its time, and as good as gone.
    world.day(vec![file(16, "again")]);
    assert_eq!(world.windows("again"), 1);
    let first = Day::of(START_MS + 2 * DAY_MS);
    assert!(block_on(world.store.expire(GENERATION, Kind::Window, first)).unwrap() > 0, "some are removed by now");
    let report = world.verify();
    assert_eq!(report.differences, 0, "{:?}", report.first_difference);
    assert!(report.expired >= 3 && report.rows > 0, "{report:?}");
    // A copy of the first file comes when its mark still stands.
    world.day(vec![file(1, "early")]);
    assert_eq!((world.windows("early"), world.verify().differences), (0, 0));
}

#[test]
fn what_a_store_that_keeps_for_ever_lacks_is_a_difference() {
    let mut world = World::new();
    for number in 1..14 {
        world.day(vec![file(number, if number == 1 { "early" } else { "shop" })]);
    }
    let memory = &world.store.rows;
    assert_eq!(local::verify(&world.stream, memory, vec![world.place.clone()]).differences, 0);
    assert!(block_on(memory.expire(GENERATION, Kind::Window, Day::of(START_MS + 2 * DAY_MS))).unwrap() > 0);
    assert!(local::verify(&world.stream, memory, vec![world.place.clone()]).differences > 0);
    assert_eq!(world.verify().differences, 0, "where they are kept by time it is none");
}

#[test]
fn windows_that_one_generation_keeps_no_longer_or_only_in_part_are_left_out_of_a_comparison_with_one_from_the_archive()
{
    let mut world = World::new();
    world.day(vec![file(1, "early"), file(2, "again")]);
    for number in 3..14 {
        world.day(vec![file(number, "shop")]);
    }
    world.day(vec![file(14, "again")]);
    let new = Generation(GENERATION.0 + 1);
    let beside = Place { generation: new, ..world.place.clone() };
    let mut worker = opened(&world.stream, &world.store, &beside);
    while !block_on(worker.step(Duration::ZERO)).unwrap().caught_up {}
    block_on(worker.commit()).unwrap();
    let common = Common { from_secs: i64::MIN, through: BTreeMap::new() };
    let of = |new| block_on(compare(&*world.store, (GENERATION, "old"), new, &common, 0)).unwrap();
    let (compared, at_secs) = (of(new), Some(START_MS / 1000));
    // One is gone, and of one what came late is all that there is; both began in the same minute.
    let past = LeftOut { windows: 2, decisions: 0, first_secs: at_secs, last_secs: at_secs };
    assert_eq!((compared.windows, compared.windows_differ, compared.past), (1, 0, past), "{compared:?}");
    assert_eq!(of(GENERATION).past, LeftOut::default(), "what is the same is compared, however old");
    // Where rows stay for ever, that one began later than the other is no such reason.
    let whole = block_on(compare(&world.store.rows, (GENERATION, "old"), new, &common, 0)).unwrap();
    assert_eq!((whole.windows, whole.windows_differ, whole.past), (3, 1, LeftOut::default()), "{whole:?}");
}
