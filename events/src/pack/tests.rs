//! What is packed covers what was pushed, and how full units are.
#![allow(clippy::unwrap_used)]
use proptest::prelude::*;

use super::*;
use crate::{
    cut::LINE_BYTES_MAX,
    identity::{OriginKind, SLICE_BYTES},
};

fn source(from: u64) -> Source {
    let origin = Origin { kind: OriginKind::File, name: "/a.log".into(), version: "1".into() };
    Source {
        tenant: "local".into(),
        service: Some("a".into()),
        identity: Identity::Origin { origin, from },
        read_at_ms: 1,
        definitions: None,
    }
}

fn pack_all(text: &[u8], piece: usize, target: usize, from: u64, codec: Codec) -> Vec<wire::Batch> {
    let mut packer = Packer::new(source(from), codec, target);
    let mut batches = vec![];
    for bytes in text.chunks(piece) {
        packer.push(bytes);
        while let Some(packed) = packer.next(false) {
            batches.push(wire::decode(&packed.data).unwrap());
        }
    }
    while let Some(packed) = packer.next(true) {
        batches.push(wire::decode(&packed.data).unwrap());
    }
    batches
}

#[test]
fn a_line_of_any_length_is_named_whole_and_kept_in_part() {
    let mut text = b"before\n".to_vec();
    text.extend(vec![b'x'; 3 * LINE_BYTES_MAX]);
    text.extend(b"\nafter\n");
    let batches = pack_all(&text, 10_000, 4096, 0, Codec::None);
    assert_eq!(batches.len(), 3);
    let long = &batches[1];
    assert_eq!(long.body.len(), LINE_KEPT_BYTES + 1);
    let removed = (3 * LINE_BYTES_MAX - LINE_KEPT_BYTES) as u64;
    assert_eq!(
        long.header.edits,
        [Edit { body_offset: LINE_KEPT_BYTES as u32, removed_bytes: removed, reason: Removed::TooLong }]
    );
    assert_eq!(batches[2].header.extent.as_ref().unwrap().to, text.len() as u64);
}

#[test]
fn the_last_bytes_before_a_batch_stay_readable() {
    let long = "x".repeat(2 * LINE_BYTES_MAX);
    let text: Vec<u8> =
        (0..90_000).map(|i| format!("line {i}\n")).chain([long, "\nend\n".into()]).collect::<String>().into();
    let mut packer = Packer::new(source(0), Codec::None, 10_000);
    packer.remember(&[b'-'; 2_000]);
    let mut packed = 0;
    for piece in text.chunks(64 << 10).map(Some).chain([None]) {
        packer.push(piece.unwrap_or(&[]));
        while let Some(batch) = packer.next(piece.is_none()) {
            packed += batch.covers as usize;
            assert_eq!(packer.offset(), packed as u64);
            let sure = &text[packed.saturating_sub(HISTORY_BYTES)..packed];
            assert!(packer.history().ends_with(sure), "after {packed} bytes");
            assert_eq!(packer.history().len(), HISTORY_BYTES);
        }
    }
    assert_eq!(packed, text.len());
}

proptest! {
    #[test]
    fn extents_cover_the_source_and_bodies_are_its_bytes(
        words in proptest::collection::vec("[a-zC ]{0,9}", 0..80), ended in any::<bool>(), piece in 1usize..50,
        target in 1usize..100, near in 0u64..300, codec in prop_oneof![Just(Codec::None), Just(Codec::Lz4), Just(Codec::Zstd)],
    ) {
        let mut text = words.join("\n").into_bytes();
        if ended { text.push(b'\n'); }
        let from = SLICE_BYTES - near;
        let mut at = from;
        let mut bytes = vec![];
        for batch in pack_all(&text, piece, target, from, codec) {
            let extent = batch.header.extent.unwrap();
            prop_assert_eq!(extent.from, at);
            at = extent.to;
            bytes.extend_from_slice(&batch.body);
        }
        prop_assert_eq!(bytes, text);
    }
}

/// Lines like those of a middling service: times, levels, messages of known words, and an id that nothing packs.
fn events(count: u64) -> Vec<u8> {
    const WORDS: &str = "connection request timeout user order cache miss upstream retry payload token session item queue flush commit index shard \
                         replica handler response body header client worker batch event metric latency checkout refund invoice search result page";
    let words: Vec<&str> = WORDS.split_whitespace().collect();
    let mut state = 1u64;
    let mut random = move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let messages: Vec<String> = (0..4096)
        .map(|_| {
            let length = 20 + random() as usize % 101;
            let mut text = String::new();
            while text.len() < length {
                text.push_str(words[random() as usize % words.len()]);
                text.push(' ');
            }
            text.truncate(length);
            text.trim_end().to_owned()
        })
        .collect();
    let mut text = String::new();
    for i in 0..count {
        let ms = i * 86_400_000 / 1_000_000;
        let (s, z) = (ms / 1000, random());
        let level = ["INFO", "INFO", "INFO", "INFO", "INFO", "INFO", "WARN", "ERROR"][z as usize % 8];
        let status = [200, 200, 200, 200, 201, 204, 301, 304, 400, 500][(z >> 8) as usize % 10];
        let latency = (z >> 16) as f64 % 400_000.0 / 1_000.0;
        let (service, path) = ((random() % 50) * (random() % 50) / 50, random() % 200);
        let message = &messages[random() as usize % messages.len()];
        let (h, m, s, ms, id) = (s / 3600, s / 60 % 60, s % 60, ms % 1000, (random(), random()));
        text.push_str(&format!(
            "{{\"timestamp\":\"2026-01-01T{h:02}:{m:02}:{s:02}.{ms:03}Z\",\"level\":\"{level}\",\"service\":\"team-{service}-api\",\"message\":\"{message}\",\
             \"latency_ms\":{latency},\"status\":{status},\"request_id\":\"{:08x}-{:04x}-{:04x}-{:04x}-{:012x}\",\"path\":\"/api/v{}/{}/{path}\"}}\n",
            id.0 >> 32, id.0 >> 16 & 0xffff, id.0 & 0xffff, id.1 >> 48, id.1 & 0xffff_ffff_ffff, path % 3 + 1, words[path as usize % words.len()],
        ));
    }
    text.into_bytes()
}

/// Packs as a reader does, which asks how much to push. Sizes of the records, keys included.
fn sizes(text: &[u8], profile: Profile) -> Vec<usize> {
    let mut packer = Packer::new(source(0), profile.codec, profile.target);
    let (mut rest, mut sizes, mut covered) = (text, vec![], 0);
    let mut take = |packed: Packed| {
        covered += packed.covers;
        sizes.push(packed.data.len() + packed.partition_key.len());
    };
    while !rest.is_empty() {
        let (now, later) = rest.split_at(packer.appetite().min(rest.len()));
        packer.push(now);
        rest = later;
        while let Some(packed) = packer.next(false) {
            take(packed);
        }
    }
    while let Some(packed) = packer.next(true) {
        take(packed);
    }
    assert_eq!(covered, text.len() as u64);
    sizes
}

#[test]
fn put_payload_units_are_full_and_few() {
    const EVENTS: u64 = 120_000;
    let text = events(EVENTS);
    let sizes = sizes(&text, Profile::KINESIS);
    let units: usize = sizes.iter().map(|size| size.div_ceil(UNIT_BYTES)).sum();
    let fill = sizes.iter().sum::<usize>() as f64 / (units * UNIT_BYTES) as f64;
    // As if each event had 274 bytes, as those have that the goal speaks of.
    let per_million = units as f64 * 274e6 / text.len() as f64;
    println!(
        "{} bytes a line: {units} units, {:.1} % full, {per_million:.0} a million",
        text.len() as u64 / EVENTS,
        fill * 100.0
    );
    assert!(fill >= 0.90, "{fill}");
    assert!(per_million <= 2_900.0, "{per_million}");
}

#[test]
fn lines_that_do_not_pack_fit_into_records_and_fill_units() {
    let mut state = 7u64;
    let mut text = vec![];
    while text.len() < 6 << 20 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let byte = (state >> 56) as u8;
        // Nothing that begins a continuation, and a newline now and then.
        text.push(if byte == b'\n' || byte < 4 { b'\n' } else { byte | 0x80 });
    }
    let profiles = [
        Profile::KINESIS,
        Profile { codec: Codec::Lz4, ..Profile::KINESIS },
        Profile { codec: Codec::None, ..Profile::KINESIS },
    ];
    for profile in profiles {
        let sizes = sizes(&text, profile);
        assert!(sizes.iter().all(|size| *size <= crate::stream::RECORD_BYTES_MAX));
        let units: usize = sizes.iter().map(|size| size.div_ceil(UNIT_BYTES)).sum();
        let fill = sizes.iter().sum::<usize>() as f64 / (units * UNIT_BYTES) as f64;
        assert!(fill >= 0.90, "{profile:?}: {fill}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn batches_of_units_cover_the_source_whatever_its_lines_are_like(
        lines in proptest::collection::vec((0usize..400_000, any::<bool>(), 0u8..4), 1..40), piece in 1_000usize..3_000_000,
        near in 0u64..3_000_000,
    ) {
        let mut text = vec![];
        for (i, (length, short, kind)) in lines.iter().enumerate() {
            let length = if *short { length % 300 } else { *length };
            let byte = |j: usize| match kind {
                0 => b'x',
                1 => b"0123456789abcdef"[(j * j * 7 + i) % 16],
                2 => (((i * 31 + j) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8 | 0x80,
                _ => b' ',
            };
            text.extend((0..length).map(byte));
            text.push(b'\n');
        }
        let from = SLICE_BYTES - near;
        let mut packer = Packer::new(source(from), Codec::Zstd, Target::Units);
        let mut at = from;
        let mut check = |packed: Packed| {
            let batch = wire::decode(&packed.data).unwrap();
            let extent = batch.header.extent.unwrap();
            assert_eq!((extent.from, extent.to), (at, at + packed.covers));
            at = extent.to;
            assert!(packed.data.len() + packed.partition_key.len() <= crate::stream::RECORD_BYTES_MAX);
            if batch.header.edits.is_empty() {
                let begin = (extent.from - from) as usize;
                assert_eq!(&batch.body[..], &text[begin..begin + packed.covers as usize]);
            }
        };
        for bytes in text.chunks(piece) {
            packer.push(bytes);
            while let Some(packed) = packer.next(false) {
                check(packed);
            }
        }
        while let Some(packed) = packer.next(true) {
            check(packed);
        }
        prop_assert_eq!(at, from + text.len() as u64);
    }
}
