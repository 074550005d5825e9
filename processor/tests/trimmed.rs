//! A stream that has forgotten its beginning: rows that cannot be recomputed are said, the others still verify, and what was taken stays taken.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "parts/local.rs"]
mod local;

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use events::{
    event::{Datum, Defined, Event, Measured},
    identity::{CONTROL_KEY, Producer},
    pack::Identity,
    position::{HashKey, SequenceNumber, ShardId},
    stream::{self, AppendError, Appended, Page, Put, ReadError, ReadOnly, Refused, Shard, Start, Stream},
    wire::{self, Content, Header},
};
use processor::{
    append::{append_all, system_event},
    consume::Worker,
    effects::Live,
    rebuild, tick,
    verify::Report,
};
use projections::{
    fold::{
        Place,
        alarms::Decision,
        balance::Balance,
        limits::{self, Limits},
        rows::Body,
    },
    store::{
        Checkpoint, Commit, Kind, Row, Span, Store,
        law::{
            block_on,
            memory::{Commits, Memory},
        },
    },
};

use self::local::{GENERATION, LocalStream, START_MS};

struct World {
    clock: Arc<AtomicI64>,
    stream: Arc<LocalStream>,
    store: Arc<Memory>,
    place: Place,
    worker: Worker<LocalStream, Memory, Live<LocalStream>>,
}

impl World {
    fn new() -> Self {
        let clock = Arc::new(AtomicI64::new(START_MS));
        let stream = local::stream(1, &clock);
        let place = local::places(block_on(stream.shards()).unwrap()).remove(0);
        let store = Arc::new(Memory::new(Commits::Whole));
        let worker = worker(&stream, &store, &place);
        Self { clock, stream, store, place, worker }
    }

    fn shard(&self) -> &ShardId {
        &self.place.shard
    }

    /// A minute passes, and this is appended, folded and committed. Answers how many lines were duplicates.
    fn minute(&mut self, puts: Vec<Put>) -> u64 {
        self.clock.fetch_add(60_000, Ordering::SeqCst);
        block_on(append_all(&*self.stream, puts)).unwrap();
        self.fold()
    }

    fn fold(&mut self) -> u64 {
        let mut duplicate = 0;
        loop {
            let step = block_on(self.worker.step(Duration::ZERO)).unwrap();
            duplicate += step.folded.iter().map(|(_, balance)| balance.duplicate).sum::<u64>();
            if step.caught_up {
                block_on(self.worker.commit()).unwrap();
                return duplicate;
            }
        }
    }

    /// The stream forgets what it can of the first minutes. Answers the oldest record that is left.
    fn trim(&self, minutes: i64) -> SequenceNumber {
        let tip = self.stream.tip(self.shard()).unwrap();
        let removed = self.stream.trim(self.shard(), START_MS + minutes * 60_000, tip).unwrap();
        assert!(removed > 0, "small segments, so some are whole and old");
        block_on(ReadOnly::new(self.stream.clone()).oldest(self.shard())).unwrap().unwrap()
    }

    fn verify(&self) -> Report {
        local::verify(&self.stream, &*self.store, vec![self.place.clone()])
    }

    fn agrees(&self) -> Report {
        let report = self.verify();
        assert_eq!(report.differences, 0, "{:?}", report.first_difference);
        report
    }

    /// The rows made anew.
    fn rebuilt(&self) -> Arc<Memory> {
        let anew = Arc::new(Memory::new(Commits::Whole));
        let stream = ReadOnly::new(self.stream.clone());
        block_on(rebuild::rebuild(stream, &*self.store, anew.clone(), vec![self.place.clone()], |_| {})).unwrap();
        anew
    }

    /// Verifies another store, that holds the same but for what `change` makes of one row.
    fn verify_changed(&self, kind: Kind, mut change: impl FnMut(&mut Row) -> bool) -> Report {
        let mut is_changed = false;
        let mut rows = vec![];
        for of in Kind::ALL {
            for mut row in rows_of(&self.store, of) {
                is_changed = is_changed || of == kind && change(&mut row);
                rows.push(row);
            }
        }
        assert!(is_changed, "there is a row to change");
        let (checkpoint, bodies) = block_on(self.store.checkpoint(GENERATION, self.shard())).unwrap().unwrap();
        let parts = checkpoint.parts.iter().cloned().zip(bodies).collect();
        let other = Memory::new(Commits::Whole);
        block_on(other.commit(Commit { rows, parts, checkpoint: Checkpoint { ..checkpoint } })).unwrap();
        local::verify(&self.stream, &other, vec![self.place.clone()])
    }
}

fn worker(
    stream: &Arc<LocalStream>,
    store: &Arc<Memory>,
    place: &Place,
) -> Worker<LocalStream, Memory, Live<LocalStream>> {
    let opened = Worker::open(ReadOnly::new(stream.clone()), store.clone(), Live(stream.clone()), place.clone());
    block_on(opened).unwrap()
}

fn rows_of(store: &Memory, kind: Kind) -> Vec<Row> {
    let span = Span::All { tenant: None, generation: GENERATION, kind };
    block_on(store.scan(&span, None, 10_000.try_into().unwrap())).unwrap().rows
}

/// Forty lines of one minute.
fn lines(number: i64, service: &str) -> String {
    let at = START_MS / 1000 + number * 60;
    let line = format!(
        "{{\"ts\":{at},\"service\":\"{service}\",\"latency_ms\":{}.5,\"status\":200,\"pad\":\"{}\"}}\n",
        100 + number,
        "x".repeat(60)
    );
    line.repeat(40)
}

/// They as a file of their own.
fn file(number: i64, service: &str) -> Put {
    local::part_of_file(&format!("/{number}.log"), 0, START_MS + number * 60_000, &lines(number, service))
}

/// They as a part of a long file.
fn part(number: i64) -> Put {
    let (text, from) = (lines(number, "shop"), (0..number).map(|before| lines(before, "shop").len() as u64).sum());
    local::part_of_file("/long.log", from, START_MS + number * 60_000, &text)
}

#[test]
fn verify_says_which_rows_are_older_than_the_stream_and_compares_the_others() {
    let mut world = World::new();
    for number in 0..60 {
        assert_eq!(world.minute(vec![file(number, "shop")]), 0);
    }
    let first = world.trim(30);
    // The first file again: the stream has forgotten it, the marks have not.
    assert_eq!(world.minute(vec![file(0, "shop"), file(60, "shop")]), 40);
    let report = world.agrees();
    let windows = rows_of(&world.store, Kind::Window);
    let older = windows.iter().filter(|row| row.applied_from < first).count() as u64;
    assert!(older > 10 && older < 60, "{older} of {} windows", windows.len());
    assert!(report.older_than_stream >= older && report.rows > 0, "{report:?}");
    assert_eq!(report.from[world.shard().as_str()], first.to_string());
    // Made anew, they hold the same: the older ones as they were, the others from the stream; a worker goes on with them.
    let anew = world.rebuilt();
    assert_eq!(rows_of(&anew, Kind::Window), windows);
    let worker = worker(&world.stream, &anew, &world.place);
    assert_eq!(worker.committed(), world.stream.tip(world.shard()).unwrap());
}

#[test]
fn a_file_that_was_read_across_the_place_where_the_stream_was_cut_is_counted_once() {
    let mut world = World::new();
    for number in 0..60 {
        assert_eq!(world.minute(vec![part(number)]), 0);
    }
    let first = world.trim(30);
    let marks = rows_of(&world.store, Kind::Taken);
    assert!(marks.len() == 1 && marks[0].applied_through > first, "one mark holds what is lost and what is left");
    // Its first part again, and more: joined with what is left, the mark has not forgotten the part.
    assert_eq!(world.minute(vec![part(0), part(60)]), 40);
    let report = world.agrees();
    assert!(report.rows > 20, "{report:?}");
    let anew = world.rebuilt();
    for kind in [Kind::Window, Kind::Balance] {
        assert_eq!(rows_of(&anew, kind), rows_of(&world.store, kind));
    }
    let mut worker = worker(&world.stream, &anew, &world.place);
    block_on(append_all(&*world.stream, vec![part(1)])).unwrap();
    assert_eq!(block_on(worker.step(Duration::ZERO)).unwrap().folded[0].1.duplicate, 40);
}

#[test]
fn a_repeat_that_only_lost_records_tell_from_its_first_is_not_compared_and_all_else_is() {
    let mut world = World::new();
    let mut repeated = 0;
    for number in 0..60 {
        // The repeat of an early part stands on the stream before later parts are joined with it.
        let puts = if number == 50 { vec![part(number), part(2)] } else { vec![part(number)] };
        repeated += world.minute(puts);
    }
    assert_eq!(repeated, 40);
    world.trim(30);
    let report = world.agrees();
    let compared = report.rows;
    assert!(compared > 20, "{report:?}");
    // What has nothing to do with it is told as ever.
    let last = |row: &mut Row| {
        let found = row.key.at == START_MS / 1000 + 58 * 60;
        if found {
            row.body = [&row.body[..row.body.len() - 1], &[row.body.last().unwrap() ^ 1]].concat().into();
        }
        found
    };
    assert_eq!(world.verify_changed(Kind::Window, last).differences, 1);
    // And so are duplicates that no mark explains.
    let more = |row: &mut Row| {
        let mut balance = Balance::decode(&row.body).unwrap();
        let found = row.key.at >= START_MS / 1000 + 55 * 60;
        if found {
            balance.folded += 1;
            row.body = balance.encode().into();
        }
        found
    };
    assert_eq!(world.verify_changed(Kind::Balance, more).differences, 1);
}

#[test]
fn a_counter_that_was_taken_by_a_lost_record_is_not_taken_again() {
    let counted = |number: i64| {
        let counter = number as u64;
        let identity = Identity::Producer(Producer { id: "p".into(), epoch: 1, counter });
        local::batch(identity, START_MS + number * 60_000, &lines(number, "shop"))
    };
    let mut world = World::new();
    for number in 0..40 {
        assert_eq!(world.minute(vec![counted(number)]), 0);
    }
    world.trim(30);
    assert_eq!(world.minute(vec![counted(1), counted(40)]), 40);
    world.agrees();
    let anew = world.rebuilt();
    assert_eq!(rows_of(&anew, Kind::Balance), rows_of(&world.store, Kind::Balance));
}

#[test]
fn a_limit_of_the_day_that_lost_records_had_met_makes_no_difference_that_counts() {
    limits::set(Limits { tenant_services: 2, ..Limits::REAL });
    let mut world = World::new();
    for number in 0..60 {
        // The day begins with `a` and `b`; whoever begins in the middle meets `c` first.
        let service = ["a", "b", "c"][(number % 3) as usize];
        world.minute(vec![file(number, service)]);
    }
    let (first, whole) = (world.trim(30), rows_of(&world.store, Kind::Window).len());
    assert_eq!(whole, 40, "nothing of `c` was taken");
    let report = world.agrees();
    assert!(report.older_than_stream > 0 && first > SequenceNumber::ZERO, "{report:?}");
    // From the next day on everything is known.
    world.clock.store(START_MS + 86_400_000, Ordering::SeqCst);
    for number in 1440..1460 {
        world.minute(vec![file(number, ["c", "d", "a"][(number % 3) as usize])]);
    }
    let later = world.agrees();
    assert!(later.rows > report.rows + 20, "{report:?}, then {later:?}");
    let changed = |row: &mut Row| {
        let found = row.key.at > START_MS / 1000 + 86_400;
        if found {
            row.applied_through = SequenceNumber::from_parts(1, 1 << 40);
        }
        found
    };
    assert_eq!(world.verify_changed(Kind::Window, changed).differences, 1);
    limits::set(Limits::REAL);
}

#[test]
fn a_page_that_lost_records_have_filled_is_full_for_a_replay_too() {
    limits::set(Limits { series: 1, ..Limits::REAL });
    let mut world = World::new();
    let mut page = |number: i64| {
        // Metrics that share a page, all of the first minute.
        let metrics = ["age", "orders", "sends", "stops", "views"];
        let datum = |metric: &&str| Datum {
            namespace: "app".into(),
            metric: (*metric).into(),
            service: Some("shop".into()),
            dimensions: vec![],
            time_ms: Some(START_MS),
            value: number as f64,
            unit: "None".into(),
        };
        let picked = if number == 0 { &metrics[..4] } else { &metrics[..] };
        let header = Header::plain("local", Content::Events, 0, START_MS);
        let event = Event::Measured(Measured { data: picked.iter().rev().map(datum).collect() });
        let data = wire::encode_events(header, &[event]);
        world.minute(vec![file(number, "shop"), Put { partition_key: "api".into(), hash_key: None, data }])
    };
    for number in 0..60 {
        page(number);
    }
    let skipped = |row: &Row| Balance::decode(&row.body).unwrap().skipped.contains_key("too_many_series");
    let balances = rows_of(&world.store, Kind::Balance);
    assert!(balances.iter().all(skipped), "a page is full from the first minute on");
    world.trim(30);
    assert!(world.agrees().rows > 20);
    limits::set(Limits::REAL);
}

const ALARM: &str = r#"{"AlarmName":"slow","ServiceName":"shop","MetricName":"latency","Statistic":"Maximum","Period":60,
    "EvaluationPeriods":3,"DatapointsToAlarm":2,"Threshold":250,"ComparisonOperator":"GreaterThanThreshold"}"#;

#[test]
fn an_alarm_is_compared_once_all_that_it_looks_back_at_was_seen() {
    let mut world = World::new();
    let event =
        Event::Defined(Defined { kind: "alarm".into(), name: "slow".into(), body: ALARM.into(), by: "me".into() });
    world.minute(vec![system_event(HashKey::of(CONTROL_KEY), event)]);
    for number in 0..260 {
        // It rings at minutes 150 and 220.
        let latency = if (150..160).contains(&number) || number > 220 { number + 200 } else { 0 };
        let text = lines(number, "shop").replace(&format!("{}.5", 100 + number), &format!("{latency}.5"));
        let put = local::part_of_file(&format!("/{number}.log"), 0, START_MS + number * 60_000, &text);
        world.minute(vec![put]);
        block_on(tick::tick(&*world.stream, &*world.store, GENERATION)).unwrap();
        world.fold();
        if number == 60 {
            world.trim(60);
        }
    }
    let report = world.agrees();
    assert!(report.older_than_stream > 0, "{report:?}");
    // Two hours and twice its range after the cut, what an alarm did is compared.
    let found = |after: i64| {
        let report = world.verify_changed(Kind::Transition, |row| {
            let mut decision = Decision::decode(&row.body).unwrap();
            let found = decision.time_secs >= START_MS / 1000 + after * 60;
            decision.reason.push('.');
            row.body = if found { decision.encode().into() } else { row.body.clone() };
            found
        });
        report.differences
    };
    assert_eq!((found(140), found(215)), (0, 1));
}

/// A stream that does not list a shard any more.
struct Without(Arc<LocalStream>, ShardId);

impl Stream for Without {
    async fn append(&self, _: Vec<Put>) -> Result<Vec<Result<Appended, Refused>>, AppendError> {
        Err(AppendError::NotAppended("nothing is taken here".into()))
    }

    async fn shards(&self) -> Result<Vec<Shard>, ReadError> {
        Ok(self.0.shards().await?.into_iter().filter(|shard| shard.id != self.1).collect())
    }

    async fn read(&self, shard: &ShardId, from: Start, limits: stream::Limits) -> Result<Page, ReadError> {
        if *shard == self.1 {
            Err(ReadError::NoSuchShard(shard.clone()))
        } else {
            self.0.read(shard, from, limits).await
        }
    }
}

#[test]
fn children_of_a_shard_that_is_gone_altogether_are_compared_and_have_its_alarms_and_marks() {
    let mut world = World::new();
    let event =
        Event::Defined(Defined { kind: "alarm".into(), name: "slow".into(), body: ALARM.into(), by: "me".into() });
    world.minute(vec![system_event(HashKey::of(CONTROL_KEY), event)]);
    // It rings from minute 152 on.
    for number in 148..156 {
        world.clock.store(START_MS + number * 60_000, Ordering::SeqCst);
        world.minute(vec![file(number, "shop")]);
        block_on(tick::tick(&*world.stream, &*world.store, GENERATION)).unwrap();
        world.fold();
    }
    world.stream.split(world.shard(), HashKey(1 << 127)).unwrap();
    world.fold();
    let places: Vec<Place> = local::places(block_on(world.stream.shards()).unwrap()).split_off(1);
    let mut workers: Vec<_> = places.iter().map(|place| worker(&world.stream, &world.store, place)).collect();
    for number in 156..164 {
        world.clock.store(START_MS + (number + 1) * 60_000, Ordering::SeqCst);
        // One of them stood in the parent.
        let puts = vec![file(number, "shop"), file(number - 3, "shop")];
        block_on(append_all(&*world.stream, puts)).unwrap();
        block_on(tick::tick(&*world.stream, &*world.store, GENERATION)).unwrap();
        for _ in 0..3 {
            for worker in &mut workers {
                while !block_on(worker.step(Duration::ZERO)).unwrap().caught_up {}
                block_on(worker.commit()).unwrap();
            }
        }
    }
    let rung = rows_of(&world.store, Kind::Transition);
    let rung = rung.iter().map(|row| Decision::decode(&row.body).unwrap()).filter(|change| change.from.is_some());
    let rung: Vec<_> = rung.map(|change| change.to.as_str()).collect();
    assert_eq!(rung, ["OK", "ALARM"], "once, and it goes on ringing behind the split");
    let left = Arc::new(Without(world.stream.clone(), world.shard().clone()));
    let report = local::verify(&left, &*world.store, places.clone());
    assert_eq!(report.differences, 0, "{:?}", report.first_difference);
    assert!(report.older_than_stream > 0 && report.rows > 10, "{report:?}");
    // What the gone shard left is kept where rows are made anew.
    let anew = Arc::new(Memory::new(Commits::Whole));
    block_on(rebuild::rebuild(ReadOnly::new(left), &*world.store, anew.clone(), places, |_| {})).unwrap();
    for kind in Kind::ALL {
        assert_eq!(rows_of(&anew, kind), rows_of(&world.store, kind), "{kind:?}");
    }
}

#[test]
fn a_worker_that_was_away_for_too_long_goes_on_with_the_oldest_record_that_is_left_when_it_is_told_to() {
    let mut world = World::new();
    world.minute(vec![file(0, "before")]);
    let at = world.worker.committed();
    // Appended, and gone before anybody folds it.
    for minute in 1..60 {
        world.clock.fetch_add(60_000, Ordering::SeqCst);
        block_on(append_all(&*world.stream, (0..4).map(|part| file(minute * 4 + part, "away")).collect())).unwrap();
    }
    let oldest = world.trim(50);
    assert!(oldest > at);
    let refused = block_on(world.worker.step(Duration::ZERO)).unwrap_err().to_string();
    assert!(refused.contains("were trimmed") && refused.contains(&oldest.to_string()), "{refused}");
    world.worker = worker(&world.stream, &world.store, &world.place);
    world.worker.pass_over_lost();
    let step = block_on(world.worker.step(Duration::ZERO)).unwrap();
    assert_eq!(step.folded.first().unwrap().0, oldest);
    world.fold();
    assert_eq!(world.worker.committed(), world.stream.tip(world.shard()).unwrap());
}
