//! Limits hold across restarts: what a worker that was started again says no to is what a replay says no to. At the real limits.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "limits/marks.rs"]
mod marks;
#[path = "limits/retention.rs"]
mod retention;

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU16,
};

use bytes::Bytes;
use events::{
    event::{Datum, Event, Measured, OpenShard, Ticked},
    position::{HashRange, SequenceNumber, ShardId},
    stream::Record,
    wire::{self, Content, Header},
};
use projections::{
    alarm::State,
    cell::SERIES_MAX,
    definitions::Definition,
    fold::{FOLD_REVISION, Input, Place, Shard, alarms::Decision, balance::Balance, limits::Limits},
    store::{Commit, Generation, Kind, Row, RowKey},
};

const DAY_MS: i64 = 86_400_000;
const NOON_MS: i64 = 20_000 * DAY_MS + DAY_MS / 2;

fn place() -> Place {
    let shard = ShardId::numbered(0);
    let all = HashRange::even(NonZeroU16::MIN)[0];
    Place { generation: Generation(0), ring: vec![(shard.clone(), all)], shard }
}

/// A worker with its store: rows stand if they grow.
struct Driver {
    shard: Shard,
    rows: BTreeMap<RowKey, Row>,
    balance: Balance,
}

impl Driver {
    fn new() -> Self {
        Self { shard: Shard::new(place()), rows: BTreeMap::new(), balance: Balance::default() }
    }

    fn read(&self, keys: &[RowKey]) -> Vec<Option<Row>> {
        keys.iter().map(|key| self.rows.get(key).cloned()).collect()
    }

    fn fold(&mut self, record: &Record) -> Balance {
        let input = Input::of(record);
        let read = self.shard.wants(&input);
        let read = self.read(&read);
        let folded = self.shard.fold(&input, read).unwrap();
        let unmet = self.read(&self.shard.unmet());
        self.shard.meet(unmet).unwrap();
        self.balance.add(&folded.balance);
        folded.balance
    }

    fn commit(&mut self) -> Commit {
        let commit = self.shard.commit();
        for row in &commit.rows {
            let stored = self.rows.get(&row.key).map_or(SequenceNumber::ZERO, |row| row.applied_through);
            if stored < row.applied_through {
                self.rows.insert(row.key.clone(), row.clone());
            }
        }
        self.shard.committed();
        commit
    }

    /// Another process begins at this resume point.
    fn restart(&mut self, commit: &Commit) {
        let parts: Vec<Bytes> = commit.parts.iter().map(|(_, body)| body.clone()).collect();
        self.shard = Shard::restore(place(), commit.checkpoint.position, &parts).unwrap();
    }

    fn skipped(&self, reason: &str) -> u64 {
        self.balance.skipped.get(reason).map_or(0, |skipped| skipped.count)
    }

    /// The snapshot of now, to the byte.
    fn snapshot(&self) -> Vec<Bytes> {
        self.shard.commit().parts.into_iter().map(|(_, body)| body).collect()
    }
}

fn header(tenant: &str, content: Content, raw_len: usize, read_at_ms: i64) -> Header {
    Header::plain(tenant, content, raw_len as u32, read_at_ms)
}

fn record(number: u64, arrived_at_ms: i64, data: Bytes) -> Record {
    Record { sequence: SequenceNumber::from_parts(1, number), arrived_at_ms, partition_key: "k".into(), data }
}

/// A line of each of these services.
fn lines(number: u64, tenant: &str, at_ms: i64, services: std::ops::Range<usize>) -> Record {
    let text: String = services.map(|n| format!("{{\"service\":\"s{n}\",\"status\":200}}\n")).collect();
    record(number, at_ms, wire::encode(&header(tenant, Content::Lines, text.len(), at_ms), text.as_bytes()))
}

/// A value of each of these metrics of one service.
fn values(number: u64, at_ms: i64, metrics: &[String]) -> Record {
    let data = metrics.iter().map(|metric| Datum {
        namespace: "app".into(),
        metric: metric.clone(),
        service: Some("api".into()),
        dimensions: vec![],
        time_ms: None,
        value: 1.5,
        unit: "None".into(),
    });
    let event = Event::Measured(Measured { data: data.collect() });
    record(number, at_ms, wire::encode_events(header("local", Content::Events, 0, at_ms), &[event]))
}

/// Names whose series share a page with the first of them.
fn of_one_page(count: usize) -> Vec<String> {
    let page = |name: &str| {
        let mut driver = Driver::new();
        driver.fold(&values(1, NOON_MS, &[name.to_owned()]));
        driver.commit().rows.iter().find(|row| row.key.subject.kind == Kind::Window).unwrap().key.page
    };
    let wanted = page("m0");
    (0..).map(|n| format!("m{n}")).filter(|name| page(name) == wanted).take(count).collect()
}

/// Folds all of it, restarting after these; a replay is one without. Commits at each of them, after every hundredth record, and at the end.
fn folded(records: &[Record], restarts: &[usize]) -> Driver {
    let mut driver = Driver::new();
    for (number, record) in records.iter().enumerate() {
        driver.fold(record);
        let restarts = restarts.contains(&number);
        if restarts || number % 100 == 99 || number + 1 == records.len() {
            let commit = driver.commit();
            if restarts {
                driver.restart(&commit);
            }
        }
    }
    driver
}

#[test]
fn services_past_the_limit_are_the_same_after_a_restart_as_in_a_replay() {
    const STEP: usize = 1_005;
    let max = Limits::REAL.tenant_services;
    let mut records: Vec<Record> =
        (0..10).map(|n| lines(1 + n, "local", NOON_MS, n as usize * STEP..(n as usize + 1) * STEP)).collect();
    // Who was met may speak on, who was not may not, and another tenant has room of its own.
    records.push(lines(11, "local", NOON_MS, 0..max + 50));
    records.push(lines(12, "acme", NOON_MS, max..max + 50));
    let replayed = folded(&records, &[]);
    assert_eq!(replayed.skipped("too_many_services"), 50 + 50);
    for restarts in [vec![4], vec![4, 9], (0..records.len()).collect()] {
        let lived = folded(&records, &restarts);
        assert_eq!(lived.balance, replayed.balance, "{restarts:?}");
        assert!(lived.rows == replayed.rows, "{restarts:?}: other rows");
        assert!(lived.snapshot() == replayed.snapshot(), "{restarts:?}: another snapshot");
    }
}

#[test]
fn another_day_has_room_again_and_a_window_that_is_open_at_midnight_stays_one_row() {
    let max = Limits::REAL.tenant_services;
    let midnight_ms = NOON_MS + DAY_MS / 2;
    let records = [
        lines(1, "local", midnight_ms - 1, 0..max + 5),
        // Undated lines take the minute of their reading: these fall into the window before midnight, and arrive after it.
        record(2, midnight_ms, {
            let text: String = (5..max + 10).map(|n| format!("{{\"service\":\"s{n}\",\"status\":200}}\n")).collect();
            wire::encode(&header("local", Content::Lines, text.len(), midnight_ms - 1), text.as_bytes())
        }),
        lines(3, "local", midnight_ms + 1, 0..10),
    ];
    let replayed = folded(&records, &[]);
    // On the first day the last five; on the second the last five of the second record, then the first five, which were not met again.
    assert_eq!(replayed.skipped("too_many_services"), 5 + 5 + 5);
    let mut committed = Driver::new();
    for record in &records {
        committed.fold(record);
        committed.commit();
    }
    assert!(committed.rows == replayed.rows, "commits have a meaning");
    for restarts in [vec![0], vec![1], vec![0, 1, 2]] {
        let lived = folded(&records, &restarts);
        assert_eq!(lived.balance, replayed.balance, "{restarts:?}");
        assert!(lived.rows == replayed.rows, "{restarts:?}: other rows");
        assert!(lived.snapshot() == replayed.snapshot(), "{restarts:?}: another snapshot");
    }
}

#[test]
fn nobody_gets_the_number_of_a_service_whose_window_is_open() {
    let midnight_ms = NOON_MS + DAY_MS / 2;
    let late = |number, service: usize| {
        let text = format!("{{\"service\":\"s{service}\",\"status\":500}}\n");
        record(
            number,
            midnight_ms + 5,
            wire::encode(&header("local", Content::Lines, text.len(), NOON_MS), text.as_bytes()),
        )
    };
    // Of the first day 0; of the second 1, and then 2 in the minute in which 0 spoke.
    let records = [lines(1, "local", NOON_MS, 0..1), lines(2, "local", midnight_ms, 1..2), late(3, 2), late(4, 0)];
    let (replayed, mut committed) = (folded(&records, &[]), Driver::new());
    for record in &records {
        committed.fold(record);
        committed.commit();
    }
    assert!(committed.rows == replayed.rows, "a window became another service's");
}

#[test]
fn tenants_and_the_services_of_all_of_them_have_limits_too() {
    let limits = Limits::REAL;
    let per_tenant = limits.services / limits.tenants;
    let mut records: Vec<Record> =
        (0..=limits.tenants).map(|n| lines(1 + n as u64, &format!("t{n}"), NOON_MS, 0..per_tenant)).collect();
    records.push(lines(records.len() as u64 + 1, "t0", NOON_MS, 0..per_tenant + 7));
    let replayed = folded(&records, &[]);
    assert_eq!(replayed.skipped("too_many_tenants"), per_tenant as u64);
    assert_eq!(replayed.skipped("too_many_services"), 7);
    let parts = replayed.snapshot();
    assert!(parts.len() > 5 && parts.iter().all(|part| part.len() < 100_000), "{} parts", parts.len());
    let lived = folded(&records, &[500, limits.tenants]);
    assert_eq!(lived.balance, replayed.balance);
    assert!(lived.rows == replayed.rows && lived.snapshot() == parts);
}

#[test]
fn a_full_page_is_full_to_a_process_that_has_not_seen_it_fill_up() {
    let metrics = of_one_page(SERIES_MAX + 6);
    let half = SERIES_MAX / 2;
    let records: Vec<Record> = [&metrics[..half], &metrics[half..], &metrics[..], &metrics[half..]]
        .into_iter()
        .zip(1..)
        .map(|(metrics, number)| values(number, NOON_MS, metrics))
        .collect();
    let replayed = folded(&records, &[]);
    assert_eq!(replayed.skipped("too_many_series"), 6 * 3);
    for restarts in [vec![0], vec![1], vec![0, 1, 2, 3]] {
        let lived = folded(&records, &restarts);
        assert_eq!(lived.balance, replayed.balance, "{restarts:?}");
        assert!(lived.rows == replayed.rows, "{restarts:?}: other rows");
    }
}

#[test]
fn a_page_that_is_ahead_answers_as_it_did_when_it_had_room() {
    let metrics = of_one_page(SERIES_MAX + 6);
    let records: Vec<Record> = [&metrics[3..9], &metrics[..], &metrics[..3]]
        .into_iter()
        .zip(1..)
        .map(|(metrics, number)| values(number, NOON_MS, metrics))
        .collect();
    let mut driver = Driver::new();
    driver.fold(&records[0]);
    let resume_point = driver.commit();
    let first: Vec<Balance> = records[1..].iter().map(|record| driver.fold(record)).collect();
    // The rows are stored and the resume point is not: a crash in between.
    driver.commit();
    let rows = driver.rows.clone();
    driver.restart(&resume_point);
    let again: Vec<Balance> = records[1..].iter().map(|record| driver.fold(record)).collect();
    assert_eq!(first, again);
    driver.commit();
    assert!(driver.rows == rows, "rows that were ahead changed");
}

#[test]
fn each_row_that_decides_is_wanted_once() {
    let metrics: Vec<String> = (0..2_000).map(|n| format!("m{n}")).collect();
    let input = Input::of(&values(1, NOON_MS, &metrics));
    let wanted = Shard::new(place()).wants(&input);
    let distinct: BTreeSet<&RowKey> = wanted.iter().collect();
    assert_eq!((wanted.len(), distinct.len()), (16, 16), "a window has sixteen pages of series");
}

fn tick(number: u64, at_ms: i64) -> Record {
    let (shard, range) = place().ring[0].clone();
    let (definitions, open_shards) = (SequenceNumber::from_parts(1, 1), vec![OpenShard { shard, range }]);
    let event = Event::Ticked(Ticked { definitions, open_shards, fold_revision: FOLD_REVISION });
    record(number, at_ms, wire::encode_events(header("local", Content::Events, 0, at_ms), &[event]))
}

#[test]
fn an_alarm_sees_its_series_however_many_others_its_service_has() {
    let body = r#"{"AlarmName":"a","ServiceName":"api","Namespace":"app","MetricName":"wanted","Statistic":"Sum","Period":60,
        "EvaluationPeriods":1,"Threshold":1,"ComparisonOperator":"GreaterThanThreshold"}"#;
    let definition = Definition {
        revision: SequenceNumber::from_parts(1, 1),
        tenant: "local".into(),
        kind: "alarm".into(),
        name: "a".into(),
        body: body.into(),
        by: "somebody".into(),
        at_ms: NOON_MS,
    };
    let mut driver = Driver::new();
    let first = tick(2, NOON_MS);
    driver.shard.define(&Input::of(&first), definition.revision, &[definition]);
    driver.fold(&first);
    let others: Vec<String> = (0..200).map(|n| format!("m{n}")).collect();
    driver.fold(&values(3, NOON_MS + 1_000, &others));
    let before: usize = driver.snapshot().iter().map(Bytes::len).sum();
    driver.fold(&values(4, NOON_MS + 2_000, &["wanted".to_owned()]));
    driver.fold(&tick(5, NOON_MS + 61_000));
    let rows = driver.commit().rows;
    let alarm = rows.iter().find(|row| row.key.subject.kind == Kind::Alarm).unwrap();
    assert_eq!(Decision::decode(&alarm.body).unwrap().to, State::Alarm);
    assert!(before < 2_000, "the snapshot has {before} bytes: it holds what nobody watches");
}
