//! The targets of the fuzzers, tried here on what fuzzers found worth keeping and on bytes near to it: a finding that was mended stays mended. The
//! fuzzing itself is run by hand: `tests/fuzz/README.md`.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{io::Write, path::Path};

use bytes::Bytes;
use events::{
    event::{Datum, Event, Measured},
    identity::{Origin, OriginKind, Producer},
    position::{SequenceNumber, ShardId},
    wire::{self, Codec, Content, Extent, Header},
};
use projections::{
    cell::Cell,
    definitions::Definition,
    fold::{balance::Balance, identified::Identified, producers::Marks, rows::Body, taken::Taken},
    lines::Parser,
    series::Series,
    store::{Generation, Kind, Partial, RowKey, Subject, key},
};

#[path = "fuzz/targets.rs"]
mod targets;

/// Tries near each seed.
const TRIES: u64 = 60;

/// A source of choices; one seed, one sequence.
struct Choices(u64);

impl Choices {
    /// Less than `bound`.
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % bound.max(1) as u64) as usize
    }

    /// Bytes near to others: some are changed, taken out, doubled, or the end is cut off.
    fn near(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            match self.below(5) {
                0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                1 if at < bytes.len() => bytes[at] = [0, 0xff, b'"', b'\n', b'{', 0x7f, 0x80][self.below(7)],
                2 => drop(bytes.drain(at..(at + self.below(8)).min(bytes.len()))),
                3 => bytes.extend_from_within(at..(at + self.below(64)).min(bytes.len())),
                _ => bytes.truncate(at.max(1)),
            }
        }
        bytes
    }
}

fn header(content: Content, codec: Codec, raw_len: usize) -> Header {
    Header {
        codec,
        service: Some("shop".into()),
        producer: Some(Producer { id: "p".into(), epoch: 1, counter: 1 }),
        definitions: Some(SequenceNumber::from_parts(1, 8)),
        ..Header::plain("local", content, raw_len as u32, 1_767_226_000_000)
    }
}

fn lines() -> Vec<u8> {
    std::fs::read("tests/golden/lines.log").unwrap()
}

/// An object that was created, as it comes by SNS through SQS.
const ANNOUNCED: &str = r#"{"Records":[{"messageId":"1","eventSource":"aws:sqs","body":"{\"Type\":\"Notification\",\"Message\":\"{\\\"Records\\\":[{\\\"eventVersion\\\":\\\"2.1\\\",\\\"eventSource\\\":\\\"aws:s3\\\",\\\"eventName\\\":\\\"ObjectCreated:Put\\\",\\\"s3\\\":{\\\"bucket\\\":{\\\"name\\\":\\\"logs\\\"},\\\"object\\\":{\\\"key\\\":\\\"a+b%2Bc\\\"}}}]}\"}"}]}"#;

/// What is well formed, for each target.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    match target {
        "wire" => payloads(),
        "strangers" => strangers(),
        "json" | "lines" => lines().split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).chain([lines()]).collect(),
        "rows" => stored(),
        "texts" => [
            "2026-11-21T00:39:38Z",
            "-15m",
            "1795221578000",
            "p50,p99,sum",
            "18446744073709551624",
            r#"{"AlarmName":"a","ServiceName":"s","MetricName":"errors","Statistic":"Sum","Period":60,"EvaluationPeriods":3,
                "DatapointsToAlarm":2,"Threshold":5,"ComparisonOperator":"GreaterThanOrEqualToThreshold","TreatMissingData":"missing"}"#,
        ]
        .into_iter()
        .chain([ANNOUNCED])
        .map(|text| text.as_bytes().to_vec())
        .collect(),
        "unpack" => packed().into_iter().map(|form| [vec![7], form].concat()).collect(),
        _ => packed(),
    }
}

/// Behind the byte that tells the form.
fn strangers() -> Vec<Vec<u8>> {
    let metrics = r#"{"_aws":{"Timestamp":1,"CloudWatchMetrics":[{"Namespace":"S","Dimensions":[["d"]],"Metrics":[{"Name":"a","Unit":"Count","StorageResolution":1}]}]},"d":"x","a":[1,2]}"#;
    let log_events = format!(
        r#"{{"messageType":"DATA_MESSAGE","owner":"1","logGroup":"/g","logStream":"s","logEvents":[{{"id":"1","timestamp":1,"message":"a\nb"}},{{"id":"2","timestamp":1,"message":{metrics:?}}}]}}"#
    );
    let control = r#"{"messageType":"CONTROL_MESSAGE","owner":"CloudwatchLogs","logGroup":"","logStream":"","logEvents":[{"id":"","timestamp":1,"message":"CWL"}]}"#;
    let event = r#"{"id":"e","detail-type":"t","source":"s","time":"1970-01-01T00:00:00Z","detail":{"status":503}}"#;
    let ours = r#"{"Measured":{"data":[{"namespace":"S","metric":"a","value":1.0,"unit":"None"}]}}"#;
    let lines = format!("first\n{metrics}\n{ours}\nlast");
    let array = format!("[{{\"a\":1}},{event},{metrics}]");
    let together = [log_events.as_bytes(), event.as_bytes(), lines.as_bytes(), b"", b"{\"a\":1}{\"b\":2}"].join(&0);
    let form = |form: u8, text: &str| [&[form], text.as_bytes()].concat();
    vec![
        form(0, &lines),
        form(0, &array),
        form(0, event),
        form(1, &log_events),
        form(1, control),
        [&[2], together.as_slice()].concat(),
        [&[0], targets::aggregate(&[b"a", b"{\"b\":1}"]).as_ref()].concat(),
    ]
}

fn payloads() -> Vec<Vec<u8>> {
    let text = lines();
    let origin = Origin { kind: OriginKind::File, name: "/golden.log".into(), version: "r-1".into() };
    let extent = Some(Extent { origin, from: 0, to: text.len() as u64 });
    let datum = Datum {
        namespace: "Shop".into(),
        metric: "Basket".into(),
        service: None,
        dimensions: vec![("a".into(), "b".into())],
        time_ms: Some(1),
        value: 2.5,
        unit: "None".into(),
    };
    let event = Event::Measured(Measured { data: vec![datum] });
    let codecs = [Codec::None, Codec::Lz4, Codec::Zstd];
    let batch = |codec| {
        wire::encode(
            &Header { extent: extent.clone(), producer: None, ..header(Content::Lines, codec, text.len()) },
            &text,
        )
    };
    let mut payloads: Vec<Bytes> = codecs.map(batch).to_vec();
    payloads.push(wire::encode_events(header(Content::Events, Codec::None, 0), &[event]));
    payloads.iter().map(|payload| payload.to_vec()).collect()
}

/// Bodies of rows behind the byte that tells which.
fn stored() -> Vec<Vec<u8>> {
    let mut cell = Cell::default();
    let mut parser = Parser::new(0);
    for line in lines().split(|byte| *byte == b'\n') {
        if let Ok(line) = parser.parse(line, false) {
            cell.add_line(&line);
        }
    }
    let series = Series::new("Shop", "Basket", &[("a".into(), "b".into())], "None").unwrap();
    (0..300).for_each(|i| cell.add_value(&series, 60, f64::from(i) * -1.37).unwrap());
    let values = cell.window(&series).unwrap();
    let mut distribution = vec![];
    values.encode(&mut distribution);
    let mut sum = vec![];
    values.exact_sum().encode(&mut sum);
    let at = SequenceNumber::from_parts(1, 8);
    let (mut taken, mut marks, mut balance) = (Taken::default(), Marks::default(), Balance::default());
    taken.take(0, 10, at, false).unwrap();
    marks.take(&Producer { id: "p".into(), epoch: 1, counter: 1 }, at, false).unwrap();
    balance.skip("blank", 2, b"  ");
    let mut ids = Identified::default();
    for (id, n) in [(7, 1), (8, 1), (9, 2)] {
        assert!(ids.take(id, SequenceNumber::from_parts(1, 8 * n), false));
    }
    let definition = Definition {
        revision: at,
        tenant: "local".into(),
        kind: "alarm".into(),
        name: "a".into(),
        body: "{}".into(),
        by: "somebody".into(),
        at_ms: 1,
    };
    let subject =
        Subject { tenant: "local".into(), generation: Generation(1), kind: Kind::Window, name: "shop".into() };
    let key =
        key::encode(&RowKey { subject, at: -60, shard: ShardId::numbered(1), partial: Partial(2), page: 3 }).unwrap();
    let bodies = [
        (0, cell.encode()),
        (1, distribution),
        (3, sum),
        (4, series.encode()),
        (5, taken.encode()),
        (6, marks.encode()),
        (7, balance.encode()),
        (8, key),
        (9, definition.encode()),
        (11, at.to_bytes()),
        (12, ids.encode()),
    ];
    bodies.into_iter().map(|(kind, body)| [vec![kind], body].concat()).collect()
}

/// Lines, plain and packed.
fn packed() -> Vec<Vec<u8>> {
    let text = lines();
    let mut gzip = flate2::write::GzEncoder::new(vec![], flate2::Compression::default());
    gzip.write_all(&text).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = zstd::bulk::compress(&text, 1).unwrap();
    let twice = |bytes: &[u8]| [bytes, bytes].concat();
    vec![text, twice(&gzip), gzip, twice(&zstd), zstd]
}

/// What fuzzers found worth keeping.
fn kept(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new("tests/fuzz/corpus").join(target);
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} holds the corpus", folder.display());
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

#[test]
fn every_target_takes_what_is_well_formed_what_fuzzers_found_and_what_is_near_to_it() {
    for (name, target) in targets::ALL {
        for (nth, seed) in seeds(name).iter().chain(&kept(name)).enumerate() {
            target(seed);
            let mut choices = Choices(nth as u64);
            (0..TRIES / (1 + seed.len() as u64 / 256)).for_each(|_| target(&choices.near(seed)));
        }
    }
}

/// `WEIR_WRITE_SEEDS=1` gives fuzzers something to begin with.
#[test]
fn seeds_are_well_formed() {
    for (name, _) in targets::ALL {
        for (nth, seed) in seeds(name).iter().enumerate() {
            match name {
                "wire" => drop(wire::decode(&Bytes::copy_from_slice(seed)).unwrap()),
                "rows" if seed[0] == 0 => assert_eq!(Cell::decode(&seed[1..]).unwrap().encode(), seed[1..]),
                _ => assert!(!seed.is_empty()),
            }
            if std::env::var_os("WEIR_WRITE_SEEDS").is_some() {
                let folder = Path::new("tests/fuzz/corpus").join(name);
                std::fs::create_dir_all(&folder).unwrap();
                std::fs::write(folder.join(format!("seed-{nth:02}")), seed).unwrap();
            }
        }
    }
}
