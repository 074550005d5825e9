//! Records of producers that never heard of Weir, folded: what they count as, that a repeat is told, and that nothing is lost of what cannot be read.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{collections::BTreeMap, io::Write, num::NonZeroU16};

use bytes::Bytes;
use events::{
    position::{HashRange, SequenceNumber, ShardId},
    stream::Record,
};
use flate2::{Compression, write::GzEncoder};
use projections::{
    cell::Cell,
    fold::{Input, Place, Shard, balance::Balance},
    store::{Commit, Generation, Kind, Row, RowKey},
};

/// 2026-01-01T00:06:40Z: 40 seconds into a minute.
const NOW_MS: i64 = 1_767_226_000_000;
const MINUTE: i64 = 1_767_225_960;
/// Made by another implementation: `events/src/wire/golden/README.md`.
const AGGREGATE: &[u8] = include_bytes!("../../events/src/wire/golden/kpl-aws_kinesis_agg-1.2.3.bin");

fn place() -> Place {
    let shard = ShardId::numbered(0);
    let all = HashRange::even(NonZeroU16::MIN)[0];
    Place { generation: Generation(0), ring: vec![(shard.clone(), all)], shard }
}

fn record(n: u64, data: impl Into<Bytes>) -> Record {
    let sequence = SequenceNumber::from_parts(1, 8 * n);
    Record { sequence, arrived_at_ms: NOW_MS + n as i64, partition_key: "k".into(), data: data.into() }
}

/// A worker with its store: rows stand if they grow.
struct Driver {
    shard: Shard,
    rows: BTreeMap<RowKey, Row>,
}

impl Driver {
    fn new() -> Self {
        Self { shard: Shard::new(place()), rows: BTreeMap::new() }
    }

    fn fold(&mut self, record: &Record) -> Balance {
        let input = Input::of(record);
        let read = |rows: &BTreeMap<RowKey, Row>, keys: Vec<RowKey>| -> Vec<Option<Row>> {
            keys.iter().map(|key| rows.get(key).cloned()).collect()
        };
        let wanted = read(&self.rows, self.shard.wants(&input));
        let balance = self.shard.fold(&input, wanted).unwrap().balance;
        let unmet = read(&self.rows, self.shard.unmet());
        self.shard.meet(unmet).unwrap();
        balance
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

    /// Metric, count and sum, by service and minute.
    fn metrics(&mut self) -> Vec<String> {
        self.commit();
        let windows = self.rows.values().filter(|row| row.key.subject.kind == Kind::Window);
        let mut shown: Vec<String> = windows
            .flat_map(|row| {
                let of = |(series, _, values): (
                    projections::series::Series,
                    i64,
                    projections::distribution::Distribution,
                )| {
                    let dimensions: Vec<String> = series.dimensions.iter().map(|(k, v)| format!("{k}={v}")).collect();
                    let minute = (row.key.at - MINUTE) / 60;
                    let name =
                        format!("{} {minute:+} {} {}", row.key.subject.name, series.metric, dimensions.join(","));
                    format!("{}: {} {}", name.trim_end(), values.count(), values.exact_sum().to_f64())
                };
                Cell::decode(&row.body).unwrap().windows().into_iter().map(of).collect::<Vec<_>>()
            })
            .collect();
        shown.sort();
        shown
    }

    fn rows_of(&mut self, kind: Kind) -> Vec<Row> {
        self.commit();
        self.rows.values().filter(|row| row.key.subject.kind == kind).cloned().collect()
    }
}

fn folded(records: &[Record]) -> (Driver, Balance) {
    let (mut driver, mut balance) = (Driver::new(), Balance::default());
    records.iter().for_each(|record| balance.add(&driver.fold(record)));
    (driver, balance)
}

fn shown(balance: &Balance) -> (u64, u64, u64, Vec<(String, u64)>) {
    let skipped = balance.skipped.iter().map(|(reason, skipped)| (reason.clone(), skipped.count)).collect();
    (balance.folded, balance.duplicate, balance.dead, skipped)
}

fn gzip(text: &str) -> Vec<u8> {
    let mut packed = GzEncoder::new(vec![], Compression::new(6));
    packed.write_all(text.as_bytes()).unwrap();
    packed.finish().unwrap()
}

/// Log events as (id, milliseconds after now, message).
fn subscription(events: &[(&str, i64, &str)]) -> Vec<u8> {
    let event = |(id, after, message): &(&str, i64, &str)| {
        format!(r#"{{"id":"{id}","timestamp":{},"message":{message:?}}}"#, NOW_MS + after)
    };
    let events: Vec<String> = events.iter().map(event).collect();
    gzip(&format!(
        r#"{{"messageType":"DATA_MESSAGE","owner":"111122223333","logGroup":"/aws/lambda/checkout","logStream":"s","subscriptionFilters":["f"],"logEvents":[{}]}}"#,
        events.join(",")
    ))
}

#[test]
fn an_aggregate_of_another_implementation_is_folded_record_by_record() {
    let (mut driver, balance) = folded(&[record(1, AGGREGATE)]);
    assert_eq!(shown(&balance), (4, 0, 0, vec![("blank".into(), 1)]));
    assert_eq!(
        driver.metrics(),
        [
            "checkout +0 errors: 1 1",
            "checkout +0 latency: 2 262.5",
            "checkout +0 lines: 2 2",
            "checkout +0 requests: 2 2",
            "checkout +0 status_2xx: 1 1",
            "checkout +0 status_5xx: 1 1",
            "unnamed +0 errors: 1 1",
            "unnamed +0 level_error: 1 1",
            "unnamed +0 level_warn: 1 1",
            "unnamed +0 lines: 2 2",
        ]
    );
}

#[test]
fn a_log_event_counts_at_its_own_time_and_a_message_at_the_one_that_it_names() {
    let emf = r#"{"_aws":{"Timestamp":1767226030000,"CloudWatchMetrics":[{"Namespace":"Shop","Dimensions":[["Page"]],"Metrics":[{"Name":"Time","Unit":"Milliseconds"}]}]},"Page":"basket","Time":[1,2]}"#;
    let events = [
        ("1", -60_000, "START RequestId: 7\n"),
        ("2", 0, "2026-01-01T00:08:01Z ERROR broken\nanything\n\nelse\n"),
        ("3", 0, r#"{"service":"cart","status":200}"#),
        ("4", 0, emf),
        ("5", 0, "{\"_aws\":{},\"level\":\"warn\"}"),
        ("6", 3 * 3_600_000, "far ahead"),
        ("7", 0, "{broken"),
        ("8", 0, ""),
    ];
    let (mut driver, balance) = folded(&[record(1, subscription(&events))]);
    let skipped = vec![("blank".into(), 1), ("future".into(), 1), ("malformed_json".into(), 1)];
    assert_eq!(shown(&balance), (1 + 4 + 1 + 2 + 1, 0, 0, skipped));
    assert_eq!(
        driver.metrics(),
        [
            "cart +0 lines: 1 1",
            "cart +0 requests: 1 1",
            "cart +0 status_2xx: 1 1",
            "checkout +0 level_warn: 1 1",
            "checkout +0 lines: 1 1",
            "checkout +1 Time Page=basket: 2 3",
            "checkout +2 errors: 1 1",
            "checkout +2 level_error: 1 1",
            "checkout +2 lines: 4 4",
            "checkout -1 lines: 1 1",
        ]
    );
}

#[test]
fn a_log_event_that_comes_again_is_a_duplicate_wherever_it_comes_again() {
    let emf = r#"{"_aws":{"CloudWatchMetrics":[{"Namespace":"Shop","Metrics":[{"Name":"a"},{"Name":"b"}]}]},"a":1,"b":[1,2]}"#;
    let (one, two, three) = (("1", 0, "one\nand its trace"), ("2", 70_000, emf), ("3", 0, "{\"a\":1}"));
    let mut driver = Driver::new();
    assert_eq!(shown(&driver.fold(&record(1, subscription(&[one, two, one])))), (5, 2, 0, vec![]));
    assert_eq!(shown(&driver.fold(&record(2, subscription(&[two, three])))), (1, 3, 0, vec![]));
    driver.commit();
    // Nothing of it is in memory any longer.
    (0..10).for_each(|n| drop(driver.fold(&record(3 + n, "x"))));
    driver.commit();
    assert_eq!(shown(&driver.fold(&record(20, subscription(&[three, two, one])))), (0, 6, 0, vec![]));
    // Of another log stream the same id is another event's.
    let other = String::from_utf8(vec![]).unwrap()
        + r#"{"messageType":"DATA_MESSAGE","owner":"1","logGroup":"g","logStream":"other","logEvents":[{"id":"1","timestamp":0,"message":"one"}]}"#;
    assert_eq!(shown(&driver.fold(&record(21, gzip(&other)))), (1, 0, 0, vec![]));
    assert_eq!(shown(&driver.fold(&record(22, other))), (0, 1, 0, vec![]), "packed or not");
}

#[test]
fn an_event_of_eventbridge_counts_once_at_its_time() {
    let event = |id: &str, detail: &str| {
        format!(
            r#"{{"version":"0","id":"{id}","detail-type":"Order Placed","source":"shop","account":"1","time":"2026-01-01T00:05:00Z","region":"r","resources":[],"detail":{detail}}}"#
        )
    };
    let placed = event("a", r#"{"status":200,"time":"2031-01-01T00:00:00Z"}"#);
    let records = [record(1, placed.clone()), record(2, placed), record(3, event("b", r#"{"date":"no date"}"#))];
    let (mut driver, balance) = folded(&records);
    assert_eq!(shown(&balance), (2, 1, 0, vec![]));
    assert_eq!(
        driver.metrics(),
        [
            "shop/Order Placed -1 lines: 2 2",
            "shop/Order Placed -1 requests: 1 1",
            "shop/Order Placed -1 status_2xx: 1 1",
        ]
    );
}

#[test]
fn what_has_no_identity_counts_each_time() {
    let text = "{\"service\":\"a\"}\n\tgoes on\nplain\n";
    let ours = r#"{"Measured":{"data":[{"namespace":"S","metric":"m","value":1,"unit":"Count"},{"namespace":"S","metric":"m","value":1,"unit":"Parsecs"}]}}"#;
    let records = [record(1, text), record(2, text), record(3, ours), record(4, gzip(text)), record(5, "")];
    let (mut driver, balance) = folded(&records);
    assert_eq!(shown(&balance), (10, 0, 0, vec![("bad_series".into(), 1), ("blank".into(), 1)]));
    assert_eq!(driver.metrics(), ["a +0 lines: 6 6", "unnamed +0 lines: 3 3", "unnamed +0 m: 1 1"]);
}

#[test]
fn a_control_message_is_skipped_and_counted() {
    let control = r#"{"messageType":"CONTROL_MESSAGE","owner":"CloudwatchLogs","logGroup":"","logStream":"","subscriptionFilters":[],"logEvents":[{"id":"","timestamp":1510109208016,"message":"CWL CONTROL MESSAGE: Checking health of destination Kinesis"}]}"#;
    let (_, balance) = folded(&[record(1, gzip(control))]);
    assert_eq!(shown(&balance), (0, 0, 0, vec![("control_message".into(), 1)]));
    assert!(balance.skipped["control_message"].sample.starts_with(b"CWL CONTROL MESSAGE"));
}

#[test]
fn a_dead_letter_names_the_record_of_the_aggregate_and_holds_its_bytes() {
    let mut message = vec![0x0A, 1, b'k'];
    for data in [&b"\xff\xfe"[..], b"fine", b"\x1f\x8bbroken"] {
        message.extend_from_slice(&[0x1A, data.len() as u8 + 4, 0x08, 0, 0x1A, data.len() as u8]);
        message.extend_from_slice(data);
    }
    // The same aggregate, with an index that is not there.
    message.extend_from_slice(&[0x1A, 5, 0x08, 9, 0x1A, 1, b'x']);
    let md5: [u8; 16] = md5::Digest::finalize(md5::Digest::chain_update(md5::Md5::default(), &message)).into();
    let payload = [&[0xF3, 0x89, 0x9A, 0xC2], message.as_slice(), &md5].concat();
    let (mut driver, balance) = folded(&[record(7, payload), record(8, &b"\xffwhole"[..])]);
    assert_eq!(shown(&balance), (1, 0, 4, vec![]));
    let letters: Vec<(String, bool)> = driver
        .rows_of(Kind::DeadLetter)
        .iter()
        .map(|row| {
            let (name, body) = (&row.key.subject.name, row.body.escape_ascii().to_string());
            let number = name.split_once('.').map_or("whole", |(_, number)| number);
            let (reason, bytes) = match number {
                "0" => ("unknown_payload", "\\xff\\xfe"),
                "2" => ("malformed_payload", "\\x1f\\x8bbroken"),
                "3" => ("bad_index", "x"),
                _ => ("unknown_payload", "\\xffwhole"),
            };
            assert_eq!(name.split('.').next().unwrap().len(), 40);
            (number.to_owned(), body.contains(reason) && body.ends_with(bytes))
        })
        .collect();
    let all = ["0", "2", "3", "whole"].map(|number| (number.to_owned(), true));
    assert_eq!(letters, all);
}

#[test]
fn ids_for_which_there_is_no_room_are_folded_and_count_again() {
    let ids: Vec<String> = (0..50_000).map(|n| n.to_string()).collect();
    let events: Vec<(&str, i64, &str)> = ids.iter().map(|id| (id.as_str(), 0, "line")).collect();
    let mut driver = Driver::new();
    assert_eq!(shown(&driver.fold(&record(1, subscription(&events)))), (50_000, 0, 0, vec![]));
    let (again, duplicate, ..) = shown(&driver.fold(&record(2, subscription(&events))));
    assert!(again > 0 && duplicate > 40_000 && again + duplicate == 50_000, "{again} again, {duplicate} duplicates");
}

/// What a worker that lags behind its rows says of each record is what was said the first time.
#[test]
fn a_worker_behind_its_rows_gives_the_same_answers() {
    let records = [
        record(1, subscription(&[("1", 0, "a"), ("2", 0, "b")])),
        record(2, subscription(&[("2", 0, "b"), ("3", 0, "c")])),
        record(3, AGGREGATE),
        record(4, subscription(&[("3", 0, "c"), ("1", 0, "a"), ("4", 61_000, "d")])),
    ];
    let mut first = Driver::new();
    let answers: Vec<_> = records.iter().map(|record| shown(&first.fold(record))).collect();
    let rows = {
        first.commit();
        first.rows.clone()
    };
    let mut second = Driver { shard: Shard::new(place()), rows: rows.clone() };
    let again: Vec<_> = records.iter().map(|record| shown(&second.fold(record))).collect();
    assert_eq!(again, answers);
    second.commit();
    assert_eq!(second.rows, rows);
    assert!(rows.values().any(|row| row.key.subject.kind == Kind::Identified && row.key.at == MINUTE));
}
