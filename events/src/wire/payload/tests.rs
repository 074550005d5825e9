//! Each form of a payload is told by its first bytes, alone and within an aggregate, and unpacks within a bound.
#![allow(clippy::unwrap_used)]
use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use md5::{Digest, Md5};
use proptest::prelude::*;

use super::*;
use crate::{
    identity::{OriginKind, Producer},
    wire::{Codec, Content, part::Said},
};

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(vec![], Compression::new(6));
    packed.write_all(text).unwrap();
    packed.finish().unwrap()
}

/// All under one key.
fn aggregated(records: &[Vec<u8>]) -> Bytes {
    let mut message = vec![0x0A, 1, b'k'];
    let length = |out: &mut Vec<u8>, mut number: usize| {
        while number >= 0x80 {
            out.push(number as u8 | 0x80);
            number >>= 7;
        }
        out.push(number as u8);
    };
    for data in records {
        let mut record = vec![0x08, 0, 0x1A];
        length(&mut record, data.len());
        record.extend_from_slice(data);
        message.push(0x1A);
        length(&mut message, record.len());
        message.extend_from_slice(&record);
    }
    [aggregate::MAGIC.as_slice(), &message, Md5::digest(&message).as_slice()].concat().into()
}

fn parts(payload: &[u8]) -> Vec<Part> {
    pieces(&Bytes::copy_from_slice(payload)).into_iter().map(|piece| piece.part).collect()
}

fn reasons(payload: &[u8]) -> Vec<&'static str> {
    let reason = |part: &Part| match part {
        Part::Batch(_) => "batch",
        Part::Repeated(_) => "repeated",
        Part::Lines(_) => "lines",
        Part::Entries(_) => "entries",
        Part::Skipped { reason, .. } => reason,
        Part::Dead { error, .. } => error.reason(),
    };
    parts(payload).iter().map(reason).collect()
}

const DATA: &str = r#"{"messageType":"DATA_MESSAGE","owner":"111122223333","logGroup":"/aws/lambda/checkout","logStream":"2026/01/01/[$LATEST]0a","subscriptionFilters":["all"],"logEvents":[
{"id":"1","timestamp":1767226000000,"message":"START RequestId: 7\n"},{"id":"2","timestamp":1767226000001,"message":"{\"status\":200}","extractedFields":{"a":"b"}},
{"id":"1","timestamp":1767226000000,"message":"START RequestId: 7\n"}]}"#;
const CONTROL: &str = r#"{"messageType":"CONTROL_MESSAGE","owner":"CloudwatchLogs","logGroup":"","logStream":"","subscriptionFilters":[],"logEvents":[
{"id":"","timestamp":1510109208016,"message":"CWL CONTROL MESSAGE: Checking health of destination Kinesis"}]}"#;

fn batch(from: u64, text: &[u8], producer: Option<Producer>) -> Vec<u8> {
    let header = Header::plain("local", Content::Lines, text.len() as u32, 1);
    let origin = Origin { kind: OriginKind::File, name: "/a".into(), version: String::new() };
    let extent = Extent { origin, from, to: from + text.len() as u64 };
    let extent = producer.is_none().then_some(extent);
    encode(&Header { extent, producer, ..header }, text).to_vec()
}

#[test]
fn each_form_is_told_by_its_first_bytes() {
    for (payload, what) in [
        (batch(0, b"a\n", None), "batch"),
        (b"".to_vec(), "blank"),
        (b"some text".to_vec(), "lines"),
        (b"{\"a\":1}\n{\"a\":2}".to_vec(), "lines"),
        (gzip(b"some text"), "lines"),
        (gzip(b""), "blank"),
        (gzip(DATA.as_bytes()), "entries"),
        (gzip(CONTROL.as_bytes()), "control_message"),
        (gzip(DATA.replace("DATA_", "OTHER_").as_bytes()), "malformed_payload"),
        (gzip(DATA.replace("timestamp", "time").as_bytes()), "malformed_payload"),
        (gzip(DATA.as_bytes())[..40].to_vec(), "malformed_payload"),
        (gzip(&gzip(b"twice")), "unknown_payload"),
        (b"\xffnoise".to_vec(), "unknown_payload"),
        (b"latin \xe9".to_vec(), "unknown_payload"),
        (b"\xe7WER\x02".to_vec(), "malformed_batch"),
        (aggregated(&[]).to_vec(), "blank"),
    ] {
        assert_eq!(reasons(&payload), [what], "{}", payload.escape_ascii());
    }
}

#[test]
fn log_events_have_their_time_and_are_known_by_their_id() {
    let parts = parts(&gzip(DATA.as_bytes()));
    let [Part::Entries(Entries { service, source, entries })] = &parts[..] else { panic!("{parts:?}") };
    assert_eq!(service.as_deref(), Some("checkout"));
    assert!(source.as_deref().unwrap().starts_with("logs-"));
    let shown: Vec<_> = entries.iter().map(|entry| (entry.time_ms, entry.repeated, entry.dated)).collect();
    let at = 1_767_226_000_000;
    assert_eq!(shown, [(Some(at), false, false), (Some(at + 1), false, false), (Some(at), true, false)]);
    assert_eq!(entries[0].said, Said::Line(Bytes::from_static(b"START RequestId: 7\n")));
    assert_eq!(entries[1].said, Said::Document(Bytes::from_static(b"{\"status\":200}")));
}

#[test]
fn several_payloads_of_log_events_may_be_one_behind_the_other() {
    let twice = [gzip(DATA.as_bytes()), gzip(CONTROL.as_bytes()), gzip(DATA.as_bytes())].concat();
    assert_eq!(reasons(&twice), ["entries", "control_message", "entries"]);
    let parts = parts(&twice);
    let Part::Entries(second) = &parts[2] else { panic!("{parts:?}") };
    assert!(second.entries.iter().all(|entry| entry.repeated), "its ids came in the first");
}

#[test]
fn the_service_is_the_last_part_of_the_log_groups_name() {
    for (name, service) in
        [("/aws/lambda/checkout", Some("checkout")), ("plain", Some("plain")), ("/ends/", Some("ends")), ("//", None)]
    {
        let parts = parts(&gzip(DATA.replace("/aws/lambda/checkout", name).as_bytes()));
        let [Part::Entries(entries)] = &parts[..] else { panic!("{parts:?}") };
        assert_eq!(entries.service.as_deref(), service, "{name}");
    }
}

#[test]
fn a_record_of_an_aggregate_may_be_anything_but_an_aggregate() {
    let inner = aggregated(&[b"a".to_vec()]).to_vec();
    let records =
        [b"line".to_vec(), gzip(DATA.as_bytes()), batch(0, b"a\n", None), vec![], inner.clone(), b"last".to_vec()];
    let payload = aggregated(&records);
    assert_eq!(reasons(&payload), ["lines", "entries", "batch", "blank", "unknown_payload", "lines"]);
    let numbers: Vec<_> = pieces(&payload).iter().map(|piece| piece.number).collect();
    assert_eq!(numbers, (0..6).map(Some).collect::<Vec<_>>());
    let Part::Dead { bytes, .. } = &parts(&payload)[4] else { panic!("it was taken apart twice") };
    assert_eq!(*bytes, inner);
}

#[test]
fn batches_that_stand_twice_in_an_aggregate_are_told() {
    let producer = |counter| Some(Producer { id: "p".into(), epoch: 1, counter });
    let records = [
        batch(10, b"0123456789\n", None),
        batch(21, b"next\n", None),
        batch(12, b"234\n", None),
        batch(9, b"x0\n", None),
        batch(0, b"012\n", None),
        batch(0, b"a\n", producer(1)),
        batch(0, b"b\n", producer(2)),
        batch(0, b"a\n", producer(1)),
    ];
    let expected = ["batch", "batch", "repeated", "overlaps", "batch", "batch", "batch", "repeated"];
    assert_eq!(reasons(&aggregated(&records)), expected);
}

#[test]
fn all_that_one_record_unpacks_to_is_bounded() {
    let bomb = gzip(&vec![b'a'; BODY_BYTES_MAX + 1]);
    assert_eq!(reasons(&bomb), ["too_large"]);
    let half = gzip(&vec![b'a'; BODY_BYTES_MAX / 2]);
    let packed =
        encode(&Header { codec: Codec::Zstd, ..Header::plain("local", Content::Lines, 4 << 20, 1) }, &vec![0; 4 << 20]);
    let records = [half.clone(), half.clone(), gzip(b"a"), packed.to_vec(), b"as it is".to_vec()];
    assert_eq!(reasons(&aggregated(&records)), ["lines", "lines", "too_large", "too_large", "lines"]);
    assert_eq!(reasons(&aggregated(&[bomb, gzip(b"a")])), ["too_large", "too_large"], "the first was the whole work");
}

proptest! {
    #[test]
    fn whatever_the_bytes_nothing_panics_and_bytes_are_kept(
        kind in 0..4u8, bytes in prop::collection::vec(any::<u8>(), 0..300), text in "[\\[\\]{}\":,a_1\\n \\\\-]{0,60}",
    ) {
        let payload = match kind {
            0 => bytes,
            1 => text.into_bytes(),
            2 => gzip(text.as_bytes()),
            _ => aggregated(&[text.into_bytes(), bytes]).to_vec(),
        };
        for piece in pieces(&Bytes::from(payload.clone())) {
            if let Part::Dead { bytes, .. } = piece.part {
                prop_assert!(bytes.is_empty() || memchr::memmem::find(&payload, &bytes).is_some());
            }
        }
    }

    #[test]
    fn what_is_aggregated_is_what_it_is_alone(records in prop::collection::vec("[a-z{}\": \\n]{0,40}", 1..8)) {
        let records: Vec<Vec<u8>> = records.into_iter().map(String::into_bytes).collect();
        let alone: Vec<Part> = records.iter().flat_map(|record| parts(record)).collect();
        prop_assert_eq!(parts(&aggregated(&records)), alone);
    }
}
