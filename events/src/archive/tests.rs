//! What is written is read again, byte for byte, and nothing else is believed.
#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::{
    position::{HashKey, HashRange},
    stream::{Record, Shard},
};

const STREAM: &str = "arn:aws:kinesis:us-east-1:000000000000:stream/logs 1767225600.0";
/// What `small` gives: files of later versions are added, and none is changed.
const GOLDEN: &[u8] = include_bytes!("tests/golden/segment-1.bin");

fn shard() -> Shard {
    let range = HashRange { from: HashKey(0), through: HashKey(u128::MAX >> 1) };
    Shard { id: ShardId::named("shardId-000000000003"), range, parents: vec![ShardId::numbered(1)], closed: false }
}

fn record(number: u64, data: &[u8]) -> Record {
    Record {
        sequence: SequenceNumber::from_parts(7, number),
        arrived_at_ms: 1_767_225_600_000 + (number as i64 % 3),
        partition_key: format!("key {number} ü"),
        data: Bytes::copy_from_slice(data),
    }
}

fn records(sealed: &Sealed) -> Result<Vec<Record>, Damaged> {
    all(&sealed.bytes, &place(sealed))
}

fn place(sealed: &Sealed) -> Place {
    let of = &sealed.segment;
    Place { stream: of.stream.clone(), shard: of.shard.id.clone(), after: of.after }
}

/// Header and all blocks, as a reader of ranges takes them.
fn all(bytes: &[u8], place: &Place) -> Result<Vec<Record>, Damaged> {
    let segment = Segment::read(bytes, place)?;
    let mut records = vec![];
    for number in 0..segment.blocks.len() {
        let range = segment.range(number).unwrap();
        let (from, to) = ((range.start as usize).min(bytes.len()), (range.end as usize).min(bytes.len()));
        records.extend(segment.records(number, &bytes[from..to])?);
    }
    Ok(records)
}

fn builder(codec: Codec) -> Builder {
    Builder::first(STREAM.into(), shard().id, codec)
}

/// The last segment of a shard, of two.
fn last_of_two(records: &[Record]) -> Sealed {
    let mut before = builder(Codec::None);
    before.push(&record(0, b"zero")).unwrap();
    let before = before.seal(&shard(), Closing::Open).unwrap();
    let mut segment = Builder::after(&before.segment, Codec::None);
    records.iter().for_each(|record| segment.push(record).unwrap());
    segment.seal(&shard(), Closing::LastOfShard).unwrap()
}

fn small() -> (Sealed, Vec<Record>) {
    let records = vec![record(1, b"one"), record(2, b""), record(5, b"three")];
    (last_of_two(&records), records)
}

fn of_two_blocks() -> (Sealed, Vec<Record>) {
    let records =
        vec![record(1, b"one"), record(2, b""), record(5, &vec![b'x'; BLOCK_BYTES]), record(9, b"in the second block")];
    (last_of_two(&records), records)
}

#[test]
fn a_segment_says_where_it_stands_and_gives_its_records_back() {
    for codec in [Codec::None, Codec::Zstd] {
        let mut first = builder(codec);
        let written: Vec<Record> = (1..500).map(|i| record(i * 3, &vec![i as u8; (i as usize * 37) % 9_000])).collect();
        written.iter().for_each(|record| first.push(record).unwrap());
        let first = first.seal(&shard(), Closing::Open).unwrap();
        assert_eq!(records(&first).unwrap(), written);
        assert!(first.segment.blocks.len() > 1, "a reader holds a block, not a segment");
        assert_eq!(Segment::read(&first.bytes, &place(&first)).unwrap(), first.segment);
        let held = first.segment.held.unwrap();
        assert_eq!((held.records, held.first, first.segment.last), (499, written[0].sequence, written[498].sequence));
        let mut next = Builder::after(&first.segment, codec);
        assert!(next.push(&written[498]).is_err(), "what the one before holds is not held twice");
        next.push(&record(2_000, b"next")).unwrap();
        let next = next.seal(&shard(), Closing::LastOfShard).unwrap().segment;
        assert_eq!((next.after, next.previous), (first.segment.last, Some(first.segment.checksum)));
        assert!(next.shard.closed && !first.segment.shard.closed);
        // Where its beginning lies is all that a reader needs to find a record.
        for record in &written {
            let block = first.segment.block_of(record.sequence);
            let range = first.segment.range(block).unwrap();
            let stored = &first.bytes[range.start as usize..range.end as usize];
            assert!(first.segment.records(block, stored).unwrap().contains(record));
        }
    }
}

#[test]
fn a_shard_that_ends_without_a_further_record_ends_all_the_same() {
    assert_eq!(builder(Codec::Zstd).seal(&shard(), Closing::Open), None, "nothing is to be said");
    let end = builder(Codec::Zstd).seal(&shard(), Closing::LastOfShard).unwrap();
    assert_eq!((end.segment.last, end.segment.held), (SequenceNumber::ZERO, None));
    assert_eq!(records(&end).unwrap(), []);
}

#[test]
fn names_sort_as_positions_do_and_say_which_segment_is_meant() {
    let (small, large) =
        (SequenceNumber::from_parts(1, 99), "49590338271490256608559692538361571095921575989136588898");
    let large: SequenceNumber = large.parse().unwrap();
    let names = [SequenceNumber::ZERO, small, large].map(|after| name(&shard().id, after).unwrap());
    assert!(names.is_sorted() && names[0] < names[1], "{names:?}");
    assert_eq!(parse(&names[2]), Some((shard().id, large)));
    for strange in ["stream/a/b", "stream/../0", "archive.json", "stream/a/1", &format!("{}0", names[0])] {
        assert_eq!(parse(strange), None, "{strange}");
    }
    assert_eq!(name(&ShardId::named("a/b"), small), None, "no shard is given another's folder");
}

#[test]
fn the_bytes_of_version_1_stay_what_they_are() {
    let (sealed, written) = small();
    if std::env::var_os("WEIR_WRITE_GOLDEN").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/archive/tests/golden/segment-1.bin"), &sealed.bytes)
            .unwrap();
    }
    assert_eq!(all(GOLDEN, &place(&sealed)).unwrap(), written);
    assert!(GOLDEN == sealed.bytes, "the format moved: give it another version");
}

#[test]
fn another_language_reads_a_segment_by_the_page_alone() {
    let (sealed, written) = of_two_blocks();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("segment");
    std::fs::write(&file, &sealed.bytes).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/src/archive/tests/read_archive.py");
    let output = std::process::Command::new("python3").arg(script).arg(&file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines: Vec<serde_json::Value> =
        output.stdout.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
    assert_eq!((lines.len(), lines[0]["stream"].as_str()), (5, Some(STREAM)));
    assert_eq!(lines[0]["previous"].as_str(), sealed.segment.previous.map(|sum| sum.to_string()).as_deref());
    for (line, record) in lines[1..].iter().zip(written) {
        assert_eq!(line["sequence"], record.sequence.to_string());
        assert_eq!(
            (&line["key"], line["arrived_at_ms"].as_i64()),
            (&record.partition_key.into(), Some(record.arrived_at_ms))
        );
        let data: String = record.data.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(line["data"].as_str().unwrap(), data);
    }
}

#[test]
fn a_segment_that_is_cut_changed_or_another_ones_is_not_believed() {
    let mut whole = builder(Codec::Zstd);
    (1..40).for_each(|i| whole.push(&record(i, &[i as u8; 50_000])).unwrap());
    let sealed = whole.seal(&shard(), Closing::Open).unwrap();
    let place = place(&sealed);
    assert!(sealed.segment.blocks.len() > 1);
    for end in (0..sealed.bytes.len()).step_by(41) {
        let cut = all(&sealed.bytes[..end], &place);
        assert!(matches!(cut, Err(Damaged::Cut { .. })), "{end} bytes of {}: {cut:?}", sealed.bytes.len());
    }
    for at in (0..sealed.bytes.len()).step_by(31) {
        let mut changed = sealed.bytes.to_vec();
        changed[at] ^= 0x10;
        assert!(all(&changed, &place).is_err(), "byte {at}");
    }
    for other in [
        Place { stream: "another".into(), ..place.clone() },
        Place { shard: ShardId::numbered(9), ..place.clone() },
        Place { after: SequenceNumber::from_parts(1, 1), ..place },
    ] {
        assert!(matches!(all(&sealed.bytes, &other), Err(Damaged::Elsewhere { .. })), "{other:?}");
    }
}

/// Bytes with a header whose checksum matches.
fn forged(header: &[u8], blocks: &[u8]) -> Vec<u8> {
    let length = u32::try_from(header.len()).unwrap().to_le_bytes();
    [&MAGIC[..], &length, &Checksum::of(header).0, header, blocks].concat()
}

#[test]
fn a_header_that_says_what_no_writer_says_is_refused_whatever_its_checksum() {
    let (sealed, _) = of_two_blocks();
    let end = Segment::header_bytes(&sealed.bytes).unwrap();
    let header: serde_json::Value = serde_json::from_slice(&sealed.bytes[PREFIX_BYTES..end]).unwrap();
    let same = forged(&serde_json::to_vec(&header).unwrap(), &sealed.bytes[end..]);
    assert!(all(&same, &place(&sealed)).is_ok(), "a header in another order is one as well");
    for (pointer, value) in [
        ("/blocks/0/raw_bytes", (BLOCK_BYTES_MAX + 1).into()),
        ("/blocks/0/raw_bytes", 3.into()),
        ("/blocks/0/bytes", u32::MAX.into()),
        ("/blocks/0/records", 0.into()),
        ("/blocks/0/records", 4.into()),
        ("/blocks/1/first", "1".into()),
        ("/blocks/0/sha256", "zz".into()),
        ("/blocks", serde_json::Value::Array(vec![])),
        ("/held", serde_json::Value::Null),
        ("/held/first", header["last"].clone()),
        ("/held/records", 7.into()),
        ("/last", "1".into()),
        ("/last", "9".repeat(200).into()),
        ("/after", "-1".into()),
        ("/previous", serde_json::Value::Null),
        ("/shard", "../other".into()),
        ("/parents", vec!["a"; 3].into()),
        ("/from_key", "99999999999999999999999999999999999999999999999".into()),
        ("/stream", "".into()),
        ("/codec", "rot13".into()),
    ] {
        let mut changed = header.clone();
        *changed.pointer_mut(pointer).unwrap() = value.clone();
        let bytes = forged(&serde_json::to_vec(&changed).unwrap(), &sealed.bytes[end..]);
        assert!(all(&bytes, &place(&sealed)).is_err(), "{pointer}: {value}");
    }
}

#[test]
fn a_record_longer_than_any_stream_takes_is_refused_and_leaves_the_segment_as_it_was() {
    let mut whole = builder(Codec::None);
    whole.push(&record(1, b"one")).unwrap();
    assert!(whole.push(&record(2, &vec![0; DATA_BYTES_MAX + 1])).is_err());
    whole.push(&record(3, &vec![0; DATA_BYTES_MAX])).unwrap();
    let sealed = whole.seal(&shard(), Closing::Open).unwrap();
    assert_eq!(records(&sealed).unwrap().len(), 2, "the longest there is can be read again");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_records_go_in_come_out(
        written in proptest::collection::vec((1u64..1 << 40, any::<i64>(), ".{0,40}", proptest::collection::vec(any::<u8>(), 0..3_000)), 1..60),
        zstd: bool,
    ) {
        let mut at = 0;
        let written: Vec<Record> = written.into_iter().map(|(gap, arrived_at_ms, partition_key, data)| {
            at += gap;
            Record { sequence: SequenceNumber::from_parts(at, gap), arrived_at_ms, partition_key, data: data.into() }
        }).collect();
        let mut whole = builder(if zstd { Codec::Zstd } else { Codec::None });
        written.iter().for_each(|record| whole.push(record).unwrap());
        let sealed = whole.seal(&shard(), Closing::Open).unwrap();
        prop_assert_eq!(records(&sealed).unwrap(), written);
    }

    #[test]
    fn any_bytes_are_read_or_refused(header in proptest::collection::vec(any::<u8>(), 0..300), blocks in proptest::collection::vec(any::<u8>(), 0..300)) {
        let place = Place { stream: STREAM.into(), shard: shard().id, after: SequenceNumber::ZERO };
        let _ = all(&header, &place);
        let _ = all(&forged(&header, &blocks), &place);
    }
}
