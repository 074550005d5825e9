//! The wire, pinned: `golden/v1.txt` holds a payload of every content and codec and of every event in hexadecimal, as version 1 first wrote them.
//! Streams keep them for years, and programs outside Weir write them: they are read for ever, and what is written changes only with a new version.

use bytes::Bytes;

use super::{super::*, header};
use crate::{
    event::{Datum, Defined, Event, Measured, RolledUp, RolledWindow, Ticked, TimeReset},
    identity::Producer,
    position::{SequenceNumber, ShardId},
};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/wire/golden/v1.txt");
const LINES: &[u8] = b"a line\nanother line, longer than the first, longer than the first\nno end";

fn events() -> Vec<Event> {
    let at = SequenceNumber::from_parts(3, 4096);
    let window = RolledWindow {
        tenant: "local".into(),
        service: "checkout".into(),
        series: vec![1, 2],
        start_secs: 60,
        value: vec![3],
    };
    let datum = Datum {
        namespace: "Shop".into(),
        metric: "Basket".into(),
        service: Some("checkout".into()),
        dimensions: vec![("a".into(), "b".into())],
        time_ms: Some(-1),
        value: -2.5,
        unit: "None".into(),
    };
    let bare = Datum { service: None, dimensions: vec![], time_ms: None, ..datum.clone() };
    vec![
        Event::Ticked(Ticked { definitions: at, open_shards: vec![ShardId::numbered(1)], fold_revision: 1 }),
        Event::RolledUp(RolledUp {
            source: ShardId::numbered(2),
            source_position: at,
            source_time_ms: 9,
            windows: vec![window],
            part: 0,
            parts_after: 0,
            generation: 0,
        }),
        Event::Defined(Defined { kind: "alarm".into(), name: "a".into(), body: "{}".into(), by: "somebody".into() }),
        Event::Measured(Measured { data: vec![datum, bare] }),
        Event::TimeReset(TimeReset { was_ms: 7 }),
    ]
}

/// Name, header and unpacked body of each payload.
fn payloads() -> Vec<(String, Header, Vec<u8>)> {
    let producer = Some(Producer { id: "p-1".into(), epoch: 2, counter: 300 });
    let edits = vec![Edit { body_offset: 7, removed_bytes: 5, reason: Removed::Redacted }];
    let mut edited = Header { edits, service: None, definitions: None, ..header(LINES) };
    if let Some(extent) = &mut edited.extent {
        extent.to += 5;
    }
    let mut all = vec![("lines edited".to_owned(), edited, LINES.to_vec())];
    for codec in [Codec::None, Codec::Lz4, Codec::Zstd] {
        all.push((format!("lines {codec:?}").to_lowercase(), Header { codec, ..header(LINES) }, LINES.to_vec()));
    }
    for event in events() {
        let name = format!("{event:?}");
        let name = format!("event {}", &name[..name.find('(').unwrap()]);
        let bare = Header { extent: None, producer: producer.clone(), content: Content::Events, ..header(b"") };
        let batch = decode(&encode_events(bare, std::slice::from_ref(&event))).unwrap();
        assert_eq!(decode_events(&batch.body).unwrap(), [event]);
        all.push((name, batch.header, batch.body.to_vec()));
    }
    all
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Bytes {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
}

#[test]
fn what_version_1_wrote_is_read_for_ever_and_written_still() {
    let payloads = payloads();
    if std::env::var_os("WEIR_WRITE_GOLDEN").is_some() && !std::path::Path::new(GOLDEN).exists() {
        let lines: String =
            payloads.iter().map(|(name, header, body)| format!("{name}: {}\n", hex(&encode(header, body)))).collect();
        std::fs::write(GOLDEN, lines).unwrap();
    }
    let golden = std::fs::read_to_string(GOLDEN).unwrap();
    assert_eq!(golden.lines().count(), payloads.len());
    for (line, (name, header, body)) in golden.lines().zip(payloads) {
        let (golden_name, payload) = line.split_once(": ").unwrap();
        let payload = unhex(payload);
        let batch = decode(&payload).unwrap();
        assert_eq!((golden_name, &batch.header, batch.body.as_ref()), (name.as_str(), &header, body.as_slice()));
        // What a codec makes of a body is its own: another release of it may pack better.
        if header.codec == Codec::None {
            assert_eq!(hex(&encode(&header, &body)), hex(&payload), "{name}");
        }
    }
}
