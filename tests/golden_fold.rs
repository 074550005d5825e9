//! The meaning of records, pinned: a golden stream is folded and its rows are digested. If this fails, the fold says something else of the same
//! records than it did: raise `FOLD_REVISION` and add a golden digest beside the old one, or mend the fold.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "golden_fold/alarms.rs"]
mod alarms;

use events::{
    event::{Datum, Event, Measured},
    identity::{Origin, OriginKind, Producer},
    position::{SequenceNumber, ShardId},
    stream::Record,
    wire::{self, Content, Extent, Header},
};
use projections::{
    fold::{FOLD_REVISION, Input, Place, Shard},
    store::Generation,
};

const READ_AT_MS: i64 = 1_767_226_000_000;

fn header(raw_len: usize) -> Header {
    Header { service: Some("declared".into()), ..Header::plain("local", Content::Lines, raw_len as u32, READ_AT_MS) }
}

/// Lines of every kind, in three batches that overlap, then values of an API, noise, and what strangers send.
fn golden_stream() -> Vec<Record> {
    let text = std::fs::read("tests/golden/lines.log").unwrap();
    let newlines: Vec<usize> = memchr(&text);
    let origin = Origin { kind: OriginKind::File, name: "/golden.log".into(), version: "r-1".into() };
    let mut payloads = vec![];
    for (from, to) in [(0, newlines[9]), (newlines[4], newlines[14]), (newlines[14], text.len())] {
        let extent = Extent { origin: origin.clone(), from: from as u64, to: to as u64 };
        payloads.push(wire::encode(&Header { extent: Some(extent), ..header(to - from) }, &text[from..to]));
    }
    let datum = |value: f64, dimensions: &[(&str, &str)]| Datum {
        namespace: "Shop".into(),
        metric: "Basket".into(),
        service: None,
        dimensions: dimensions.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        time_ms: None,
        value,
        unit: "None".into(),
    };
    let data = vec![datum(-1.5, &[]), datum(2.5, &[("b", "2"), ("a", "1")]), datum(f64::NAN, &[]), datum(1e300, &[])];
    let producer = Producer { id: "p".into(), epoch: 1, counter: 1 };
    for _ in 0..2 {
        let head = Header { producer: Some(producer.clone()), ..header(0) };
        payloads.push(wire::encode_events(head, &[Event::Measured(Measured { data: data.clone() })]));
    }
    payloads.push(b"\xffnoise".as_slice().into());
    payloads.extend(strangers());
    let record = |(i, data): (usize, bytes::Bytes)| Record {
        sequence: SequenceNumber::from_parts(1, 8 * (i as u64 + 1)),
        arrived_at_ms: READ_AT_MS + i as i64,
        partition_key: "k".into(),
        data,
    };
    payloads.into_iter().enumerate().map(record).collect()
}

/// An aggregate of another implementation, then log events twice as CloudWatch Logs packs them, an event of EventBridge, metrics among lines, and what
/// looks like an aggregate and is none.
fn strangers() -> Vec<bytes::Bytes> {
    let aggregate = std::fs::read("events/src/wire/golden/kpl-aws_kinesis_agg-1.2.3.bin").unwrap();
    let metrics = r#"{"_aws":{"Timestamp":1767226000000,"CloudWatchMetrics":[{"Namespace":"Shop","Dimensions":[["Page"],[]],"Metrics":[{"Name":"Time","Unit":"Milliseconds"}]}]},"Page":"a","Time":[1.5,2]}"#;
    let log_events = format!(
        r#"{{"messageType":"DATA_MESSAGE","owner":"1","logGroup":"/aws/lambda/checkout","logStream":"s","subscriptionFilters":["f"],"logEvents":[
        {{"id":"1","timestamp":1767226000000,"message":"START"}},{{"id":"2","timestamp":1767226060000,"message":{metrics:?}}},
        {{"id":"1","timestamp":1767226000000,"message":"START"}},{{"id":"3","timestamp":1767226060000,"message":"ERROR a\n  b"}}]}}"#
    );
    let mut packed = flate2::write::GzEncoder::new(vec![], flate2::Compression::new(6));
    std::io::Write::write_all(&mut packed, log_events.as_bytes()).unwrap();
    let packed = bytes::Bytes::from(packed.finish().unwrap());
    let event = r#"{"version":"0","id":"e","detail-type":"Placed","source":"shop","time":"2026-01-01T00:00:00Z","detail":{"status":503}}"#;
    let lines = format!("first\n{metrics}\n{{\"level\":\"warn\"}}\n");
    let broken = [&[0xF3, 0x89, 0x9A, 0xC2], &aggregate[5..]].concat();
    vec![aggregate.into(), packed.clone(), packed, event.into(), event.into(), lines.into(), broken.into(), "".into()]
}

fn memchr(text: &[u8]) -> Vec<usize> {
    text.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(i, _)| i + 1).collect()
}

#[test]
fn the_golden_stream_folds_to_the_golden_rows() {
    let shard = ShardId::numbered(0);
    let mut fold = Shard::new(Place { generation: Generation(0), shard, ring: vec![] });
    let mut balance = projections::fold::balance::Balance::default();
    for record in golden_stream() {
        let input = Input::of(&record);
        let wanted = fold.wants(&input).len();
        balance.add(&fold.fold(&input, vec![None; wanted]).unwrap().balance);
        let unmet = fold.unmet().len();
        fold.meet(vec![None; unmet]).unwrap();
    }
    let mut rows = fold.commit().rows;
    rows.sort_by(|a, b| a.key.cmp(&b.key));
    let mut shown = format!("revision {FOLD_REVISION}\n");
    for row in &rows {
        let hash = xxhash_rust::xxh3::xxh3_128(&row.body);
        let subject = &row.key.subject;
        shown += &format!(
            "{:?} {} {} page {} {:?}..{:?} day {} {hash:032x}\n",
            subject.kind,
            subject.name,
            row.key.at,
            row.key.page,
            row.applied_from,
            row.applied_through,
            row.folded_on.0
        );
    }
    shown += &format!("{balance:#?}\n");
    compare("rows", &shown);
}

#[test]
fn the_golden_half_hour_under_alarms_decides_what_it_decided() {
    let shown = alarms::shown();
    for what in ["Some(Ok) to Alarm", "Some(Alarm) to Ok", "to InsufficientData", "Decided without", "told by"] {
        assert!(shown.contains(what), "nothing here pins `{what}`");
    }
    compare("alarms", &shown);
}

/// With what stands in the golden file of this revision; one that is not there is written if asked for.
fn compare(name: &str, shown: &str) {
    let path = format!("tests/golden/{name}-{FOLD_REVISION}.txt");
    if std::env::var_os("WEIR_WRITE_GOLDEN").is_some() && !std::path::Path::new(&path).exists() {
        std::fs::write(&path, shown).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(shown, golden, "{path}: the fold says something else than it did");
}
