//! What `verify` compares: every kind of row and every snapshot, each changed by one byte's worth; which rows it could not compare; and that its
//! digest is of what stood still.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    cell::RefCell,
    collections::BTreeSet,
    num::NonZeroU16,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use events::{
    embedded::{Commit, Embedded, Options, disk::simulated::SimulatedDisk},
    event::{Datum, Defined, Event, Measured},
    identity::{CONTROL_KEY, Origin, OriginKind, Producer},
    pack::{Identity, Packer, Source},
    position::{HashKey, SequenceNumber},
    stream::{Put, ReadOnly, Stream},
    wire::{self, Codec, Content, Header},
};
use processor::{
    append::{append_all, system_event},
    consume::Worker,
    effects::Live,
    rebuild, tick,
    verify::{self, Report},
};
use projections::{
    cell::Cell,
    fold::{Place, identified::Identified, producers::Marks, rows::Body, taken::Taken},
    query,
    store::{
        self, Generation, Kind, Row, Span, Store,
        law::{
            block_on,
            memory::{Commits, Memory},
        },
    },
    when::Second,
};

/// 2026-01-01T00:00:00Z.
const START_MS: i64 = 1_767_225_600_000;
const GENERATION: Generation = Generation(0);

type LocalStream = Embedded<SimulatedDisk>;

/// One shard, lived through by one worker.
struct World {
    clock: Arc<AtomicI64>,
    stream: Arc<LocalStream>,
    store: Arc<Memory>,
    place: Place,
    worker: RefCell<Worker<LocalStream, Memory, Live<LocalStream>>>,
}

impl World {
    fn new() -> Self {
        let clock = Arc::new(AtomicI64::new(START_MS));
        let stamps = clock.clone();
        let options =
            Options { shards: NonZeroU16::MIN, segment_bytes: 64 << 10, commit: Commit::Inline, ..Options::default() };
        let disk = SimulatedDisk::new(1);
        let stream = Arc::new(Embedded::open(disk, move || stamps.load(Ordering::SeqCst), options).unwrap());
        let shard = block_on(stream.shards()).unwrap().remove(0);
        let ring = vec![(shard.id.clone(), shard.range)];
        let place = Place { generation: GENERATION, shard: shard.id, ring };
        let store = Arc::new(Memory::new(Commits::Whole));
        let opened = Worker::open(ReadOnly::new(stream.clone()), store.clone(), Live(stream.clone()), place.clone());
        let worker = RefCell::new(block_on(opened).unwrap());
        Self { clock, stream, store, place, worker }
    }

    fn append(&self, put: Put) {
        block_on(append_all(&*self.stream, vec![put])).unwrap();
    }

    fn settle(&self) {
        let mut worker = self.worker.borrow_mut();
        while !block_on(worker.step(Duration::ZERO)).unwrap().caught_up {
            block_on(worker.commit()).unwrap();
        }
        block_on(worker.commit()).unwrap();
    }

    /// A minute passes.
    fn tick(&self) {
        self.settle();
        self.clock.fetch_add(60_000, Ordering::SeqCst);
        block_on(tick::tick(&*self.stream, &*self.store, GENERATION)).unwrap();
        self.settle();
    }

    fn now_ms(&self) -> i64 {
        self.clock.load(Ordering::SeqCst)
    }

    /// Lines of this minute as a file of their own.
    fn file(&self, name: &str, service: &str, lines: usize) {
        let (at, pad) = (self.now_ms() / 1000, "x".repeat(60));
        let text =
            format!("{{\"ts\":{at},\"service\":\"{service}\",\"latency_ms\":9.5,\"status\":500,\"pad\":\"{pad}\"}}\n");
        let origin = Origin { kind: OriginKind::File, name: name.into(), version: "1".into() };
        let source = Source {
            tenant: "local".into(),
            service: None,
            identity: Identity::Origin { origin, from: 0 },
            read_at_ms: self.now_ms(),
            definitions: None,
        };
        let mut packer = Packer::new(source, Codec::None, 1 << 16);
        packer.push(text.repeat(lines).as_bytes());
        while let Some(packed) = packer.next(true) {
            self.append(Put { partition_key: packed.partition_key, hash_key: None, data: packed.data });
        }
    }

    /// One value that a producer sends.
    fn value(&self, counter: u64) {
        let datum = Datum {
            namespace: "Shop".into(),
            metric: "Basket".into(),
            service: Some("till".into()),
            dimensions: vec![],
            time_ms: None,
            value: counter as f64,
            unit: "None".into(),
        };
        let producer = Some(Producer { id: "p".into(), epoch: 1, counter });
        let header = Header { producer, ..Header::plain("local", Content::Events, 0, self.now_ms()) };
        let data = wire::encode_events(header, &[Event::Measured(Measured { data: vec![datum] })]);
        self.append(Put { partition_key: "p".into(), hash_key: None, data });
    }

    /// An event of a stranger, which has an id and no place.
    fn event(&self, id: u32) {
        let time = Second(START_MS / 1000);
        let event = format!(
            r#"{{"version":"0","id":"{id}","detail-type":"Job","source":"acme","account":"1","time":"{time}","region":"r","resources":[],"detail":{{}}}}"#
        );
        self.append(Put { partition_key: "e".into(), hash_key: None, data: event.into() });
    }

    fn apply(&self) {
        let body = r#"{"AlarmName":"a","ServiceName":"shop","MetricName":"errors","Statistic":"Sum","Period":60,
            "EvaluationPeriods":1,"Threshold":1,"ComparisonOperator":"GreaterThanOrEqualToThreshold"}"#;
        let defined = Defined { kind: "alarm".into(), name: "a".into(), body: body.into(), by: "test".into() };
        self.append(system_event(HashKey::of(CONTROL_KEY), Event::Defined(defined)));
        self.tick();
    }

    /// Something of each kind of row, but for those of alarms.
    fn live(&self) {
        self.append(Put { partition_key: "x".into(), hash_key: None, data: Bytes::from_static(b"\xffnoise") });
        for number in 0..3 {
            self.event(number as u32);
            self.file(&format!("/{number}.log"), "shop", 40);
            self.file("/same.log", "other", 40 + number);
            self.value(200 * number as u64);
            self.value(200 * number as u64 + 1);
            self.tick();
        }
    }

    fn verify(&self, store: &Memory) -> Report {
        self.verify_while(store, async {})
    }

    fn verify_while<G>(&self, store: &Memory, pause: impl Future<Output = G>) -> Report {
        let (stream, scratch) = (ReadOnly::new(self.stream.clone()), Arc::new(Memory::new(Commits::Whole)));
        block_on(verify::verify(stream, store, scratch, vec![self.place.clone()], pause, |_| {})).unwrap()
    }

    fn rows(&self, kind: Kind) -> Vec<Row> {
        let span = Span::All { tenant: None, generation: GENERATION, kind };
        block_on(self.store.scan(&span, None, 1000.try_into().unwrap())).unwrap().rows
    }

    /// The store with other rows, and perhaps another snapshot.
    fn with(&self, change: impl FnOnce(&mut Vec<Row>, &mut Vec<Bytes>)) -> Memory {
        let mut rows: Vec<Row> = Kind::ALL.into_iter().flat_map(|kind| self.rows(kind)).collect();
        let (mut checkpoint, mut bodies) =
            block_on(self.store.checkpoint(GENERATION, &self.place.shard)).unwrap().unwrap();
        change(&mut rows, &mut bodies);
        checkpoint.parts = (0..bodies.len()).map(|part| store::PartName(format!("changed/{part}"))).collect();
        let parts = checkpoint.parts.iter().cloned().zip(bodies).collect();
        let other = Memory::new(Commits::Whole);
        block_on(other.commit(store::Commit { rows, parts, checkpoint })).unwrap().checkpoint.unwrap();
        other
    }
}

/// The row's body with something else in it, that can be read.
fn changed(row: &Row) -> Bytes {
    match row.key.subject.kind {
        Kind::Window => {
            let mut cell = Cell::decode(&row.body).unwrap();
            cell.merge(&cell.clone());
            cell.encode().into()
        }
        Kind::Taken => {
            let mut taken = Taken::decode(&row.body).unwrap();
            // Another record took the last of the bytes.
            taken.ranges.last_mut().unwrap().position = row.applied_from;
            taken.encode().into()
        }
        Kind::Producer => {
            let mut marks = Marks::default();
            let producer = Producer { id: "p".into(), epoch: 1, counter: 401 };
            assert!(marks.take(&producer, row.applied_through, false).unwrap());
            marks.encode().into()
        }
        Kind::Identified => {
            let mut ids = Identified::default();
            assert!(ids.take(1, row.applied_from, false));
            ids.encode().into()
        }
        _ => [&row.body[..], b"\0"].concat().into(),
    }
}

#[test]
fn of_every_kind_of_row_another_body_a_missing_and_an_extra_one_is_found_and_named() {
    let world = World::new();
    world.apply();
    world.live();
    assert_eq!(world.verify(&world.with(|_, _| {})).first_difference, None);
    let compared = world.verify(&world.store).rows;
    // The list of generations is no row of any of them: nothing folds it.
    for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Generations) {
        let found = world.rows(kind);
        // One that several records made, where there is such a one.
        let several = found.iter().find(|row| row.applied_from != row.applied_through);
        let row = several.or(found.first()).unwrap_or_else(|| panic!("no row of kind {kind:?}: this looks at nothing"));
        let with = |change: &dyn Fn(&mut Row)| {
            world.with(|rows, _| change(rows.iter_mut().find(|of| of.key == row.key).unwrap()))
        };
        let extra = {
            let mut extra = row.clone();
            extra.key.subject.name.push_str("-extra");
            extra
        };
        let stores = [
            (&row.key, with(&|row| row.body = changed(row))),
            (&row.key, with(&|row| row.applied_from = row.applied_through)),
            (&row.key, with(&|row| row.fold_revision += 1)),
            (&row.key, world.with(|rows, _| rows.retain(|of| of.key != row.key))),
            (&extra.key, world.with(|rows, _| rows.push(extra.clone()))),
        ];
        for (number, (key, store)) in stores.iter().enumerate() {
            if number == 1 && row.applied_from == row.applied_through {
                continue;
            }
            let report = world.verify(store);
            assert_eq!(report.differences, 1, "{kind:?}, change {number}: {report:?}");
            let first = report.first_difference.unwrap();
            assert_eq!(
                (&first.kind, &first.tenant, &first.row),
                (&format!("{kind:?}"), &"local".into(), &key.to_string())
            );
            assert_eq!((&first.subject, first.at, &first.shard), (&key.subject.name, key.at, &key.shard.to_string()));
            assert_eq!(report.rows, compared + u64::from(number == 4), "{kind:?}, change {number}");
        }
    }
}

#[test]
fn of_a_window_the_metric_is_named_and_both_values() {
    let world = World::new();
    world.apply();
    world.live();
    let store = world.with(|rows, _| {
        let row = rows.iter_mut().find(|row| row.key.subject.name == "till").unwrap();
        row.body = changed(row);
    });
    let first = world.verify(&store).first_difference.unwrap();
    assert_eq!((first.metric.as_deref(), first.time), (Some("Basket"), Some(Second(START_MS / 1000 + 60))));
    assert_eq!(first.what, "of `Basket` it has 4 values with the sum 2, the stream says 2 values with the sum 1");
    // A body that nobody can read differs too, and then there is no digest.
    let store = world.with(|rows, _| rows[0].body = Bytes::from_static(b"?"));
    let report = world.verify(&store);
    assert_eq!((report.differences, report.digest), (1, None));
}

#[test]
fn what_no_decision_was_made_of_yet_is_compared_too() {
    let world = World::new();
    world.apply();
    world.live();
    let parts = || block_on(world.store.checkpoint(GENERATION, &world.place.shard)).unwrap().unwrap().1;
    let before = parts();
    // Errors that the next tick decides by: they are in a row, and in what the alarm watches.
    world.file("/later.log", "shop", 3);
    world.settle();
    assert_eq!(world.verify(&world.with(|_, _| {})).first_difference, None);
    assert_ne!(before, parts());
    let report = world.verify(&world.with(|_, parts| *parts = before));
    let first = report.first_difference.unwrap();
    assert_eq!(
        (report.differences, first.kind.as_str(), first.shard.as_str()),
        (1, "Snapshot", world.place.shard.as_str())
    );
    assert_eq!(first.what, "of its alarms it holds other `watched` than the stream says");
    let report = world.verify(&world.with(|_, parts| parts.truncate(1)));
    assert_eq!(report.first_difference.unwrap().what, "it has met other services of its day than the stream says");
}

/// While it lives, nothing is committed; then all is that was appended.
struct Paused<'a>(&'a World);

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        self.0.settle();
    }
}

#[test]
fn the_digest_is_of_the_rows_that_were_compared_and_not_of_later_ones() {
    let world = World::new();
    world.apply();
    world.live();
    let through = world.worker.borrow().committed();
    world.file("/later.log", "shop", 3);
    let report = world.verify_while(&world.store, async { Paused(&world) });
    assert_eq!((report.differences, &report.through[world.place.shard.as_str()]), (0, &through.to_string()));
    let until = [(world.place.shard.clone(), through)].into();
    let replayed = Arc::new(Memory::new(Commits::Whole));
    let stream = ReadOnly::new(world.stream.clone());
    block_on(rebuild::restore(stream, replayed.clone(), vec![world.place.clone()], &until, |_| {})).unwrap();
    let digest = |store: &Memory| block_on(query::digest(store, GENERATION)).unwrap();
    assert_eq!(report.digest, Some(digest(&replayed)));
    assert_ne!(report.digest, Some(digest(&world.store)), "rows have moved since: this looked at nothing");
}

#[test]
fn rows_that_are_older_than_the_stream_are_named_by_kind_and_service() {
    let world = World::new();
    world.live();
    for number in 0..40 {
        world.file(&format!("/more-{number}.log"), "shop", 40);
        world.tick();
    }
    let tip = world.stream.tip(&world.place.shard).unwrap();
    assert!(world.stream.trim(&world.place.shard, world.now_ms(), tip).unwrap() > 0);
    let first = block_on(ReadOnly::new(world.stream.clone()).oldest(&world.place.shard)).unwrap().unwrap();
    let report = world.verify(&world.store);
    assert_eq!(report.differences, 0, "{:?}", report.first_difference);
    let is_older = |row: &&Row| row.applied_from < first;
    let all: Vec<Row> = Kind::ALL.into_iter().flat_map(|kind| world.rows(kind)).filter(|row| is_older(&row)).collect();
    let named: u64 = report.older.iter().map(|of| of.rows).sum();
    // And the snapshot.
    assert_eq!((named, report.older_than_stream, report.older_unnamed), (all.len() as u64 + 1, named, 0));
    let windows: Vec<&Row> = all.iter().filter(|row| row.key.subject.kind == Kind::Window).collect();
    for service in ["shop", "other", "till"] {
        let of: Vec<_> = windows.iter().filter(|row| row.key.subject.name == service).collect();
        let older = report.older.iter().find(|older| older.service.as_deref() == Some(service)).unwrap();
        assert_eq!((older.tenant.as_str(), older.kind.as_str(), older.rows), ("local", "Window", of.len() as u64));
        let times = of.iter().map(|row| Second(row.key.at));
        assert_eq!((older.first, older.last), (times.clone().min(), times.max()), "{service}");
    }
    let kinds: BTreeSet<&str> = report.older.iter().map(|older| older.kind.as_str()).collect();
    for kind in ["Snapshot", "Taken", "Producer", "Balance", "DeadLetter", "Service"] {
        assert!(kinds.contains(kind), "{kind} is not among {kinds:?}");
    }
    assert!(first > SequenceNumber::ZERO);
}
