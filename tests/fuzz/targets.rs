//! What must hold of each parser for any bytes whatever. A fuzzer looks for bytes that break it (`tests/fuzz/README.md`); `tests/fuzzed.rs` tries
//! those that fuzzers found worth keeping.

#[allow(dead_code)]
#[path = "../../api/src/unpack.rs"]
mod unpack;

use std::{
    io::{self, Read as _, Write as _},
    sync::{Arc, Mutex, OnceLock},
};

use bytes::Bytes;
use events::{
    archive::{self as archived, Checksum, Segment},
    cut,
    pack::{self, Packed},
    position::{HashKey, HashRange, SEQUENCE_NUMBER_DIGITS_MAX, SequenceNumber, ShardId},
    stream::{self, Record},
    wire::{
        self,
        part::{Entry, Part, Said},
        payload::{self, Piece},
    },
};
use md5::{Digest, Md5};
use processor::ingest::{self, ReaderList, SendError};
use projections::{
    alarm::Alarm,
    canonical::DecodeError,
    cell::Cell,
    definitions::Definition,
    distribution::Distribution,
    fold::{
        Input, Place, Shard, alarms::Decision, balance::Balance, identified::Identified, producers::Marks, rows::Body,
        taken::Taken,
    },
    lines::{Line, Parser, Skip, is_plain},
    query::{Cursor, Statistics},
    series::Series,
    sketch::Sketch,
    store::{Generation, ROW_BYTES_MAX, key},
    sum::Sum,
    when,
};

/// Takes any bytes, and panics if something does not hold.
pub type Target = fn(&[u8]);

/// Name and body of every target.
pub const ALL: [(&str, Target); 9] = [
    ("wire", wire),
    ("strangers", strangers),
    ("json", json),
    ("lines", lines),
    ("rows", rows),
    ("texts", texts),
    ("unpack", unpack),
    ("files", files),
    ("archive", archive),
];

/// A record's payload: what is read of it is what a writer of the same header and body writes.
pub fn wire(payload: &[u8]) {
    let payload = Bytes::copy_from_slice(payload);
    let record = Record {
        sequence: SequenceNumber::from_parts(1, 8),
        partition_key: String::new(),
        data: payload.clone(),
        arrived_at_ms: 0,
    };
    Input::of(&record);
    let Ok(batch) = wire::decode(&payload) else { return };
    assert_eq!(batch.body.len(), batch.header.raw_len as usize);
    let again = wire::decode(&wire::encode(&batch.header, &batch.body)).expect("what was written can be read");
    assert_eq!((again.header, again.body), (batch.header, batch.body.clone()));
    if let Ok(events) = wire::decode_events(&batch.body) {
        drop(events);
    }
}

/// A segment of the archive, or its header alone with a checksum that matches, and blocks with theirs: what is believed is within its limits, in order,
/// and what its writer would write.
pub fn archive(bytes: &[u8]) {
    let place = archived::Place { stream: "s".into(), shard: ShardId::named("a"), after: SequenceNumber::ZERO };
    let (header, blocks) = match bytes.iter().position(|byte| *byte == 0) {
        Some(end) => (&bytes[..end], &bytes[end + 1..]),
        None => (bytes, &[][..]),
    };
    let length = u32::try_from(header.len()).expect("short").to_le_bytes();
    let forged = [&archived::MAGIC[..], &length, &Checksum::of(header).0, header, blocks].concat();
    for object in [bytes, &forged] {
        let Ok(segment) = Segment::read(object, &place) else { continue };
        assert!(segment.after < segment.last || segment.shard.closed);
        let mut last = segment.after;
        for number in 0..segment.blocks.len() {
            let range = segment.range(number).expect("it has this block");
            let (from, to) = (range.start as usize, range.end as usize);
            let Ok(records) = segment.records(number, object.get(from..to).unwrap_or_default()) else { return };
            for record in records {
                assert!(record.sequence > last && record.data.len() <= archived::DATA_BYTES_MAX);
                last = record.sequence;
            }
        }
        assert_eq!(last, segment.last);
    }
    // The same records, written.
    let mut builder = archived::Builder::first("s".into(), ShardId::named("a"), archived::Codec::Zstd);
    let record = |(number, data): (usize, &[u8])| Record {
        sequence: SequenceNumber::from_parts(1, number as u64),
        arrived_at_ms: 0,
        partition_key: "k".into(),
        data: Bytes::copy_from_slice(data),
    };
    let records: Vec<Record> = bytes.split(|byte| *byte == 0).take(100).enumerate().map(record).collect();
    records.iter().for_each(|record| builder.push(record).expect("in order"));
    let range = HashRange { from: HashKey(0), through: HashKey(1) };
    let shard = stream::Shard { id: ShardId::named("a"), range, parents: vec![], closed: false };
    let sealed = builder.seal(&shard, archived::Closing::Open).expect("it has a record");
    let segment = Segment::read(&sealed.bytes, &place).expect("what was written can be read");
    let range = segment.range(0).expect("it has a block");
    assert_eq!(segment.records(0, &sealed.bytes[range.start as usize..range.end as usize]), Ok(records));
}

/// A payload of somebody who never heard of Weir, as it is, packed by gzip, or cut at NUL bytes into records of an aggregate: what it unpacks to is
/// bounded, a record of an aggregate is what it is alone, and every unit is in the balance, however often it comes.
pub fn strangers(bytes: &[u8]) {
    let Some((form, bytes)) = bytes.split_first() else { return };
    let records: Vec<&[u8]> = bytes.split(|byte| *byte == 0).take(100).collect();
    let payload = match form % 3 {
        0 => Bytes::copy_from_slice(bytes),
        1 => gzip(bytes),
        _ => aggregate(&records),
    };
    let pieces = payload::pieces(&payload);
    let text = |piece: &Piece| match &piece.part {
        Part::Lines(text) => text.len(),
        Part::Entries(entries) => entries.entries.iter().map(said_bytes).sum(),
        _ => 0,
    };
    // A line end is put behind a document that had none.
    assert!(pieces.iter().map(text).sum::<usize>() <= 2 * (wire::BODY_BYTES_MAX + payload.len()));
    let is_nested = |record: &&[u8]| record.starts_with(&wire::aggregate::MAGIC) || wire::is_batch(record);
    if form % 3 == 2 && !records.iter().any(is_nested) {
        let alone = records.iter().flat_map(|record| payload::pieces(&Bytes::copy_from_slice(record)));
        let alone: Vec<Part> = alone.map(|piece| without_repeats(piece.part)).collect();
        let together: Vec<Part> = pieces.iter().map(|piece| without_repeats(piece.part.clone())).collect();
        assert_eq!(together, alone);
    }
    let mut shard = Shard::new(Place { generation: Generation(0), shard: ShardId::numbered(0), ring: vec![] });
    let accepted = [1, 2].map(|nth| {
        let sequence = SequenceNumber::from_parts(1, 8 * nth);
        let record = Record { sequence, partition_key: String::new(), data: payload.clone(), arrived_at_ms: 0 };
        let input = Input::of(&record);
        let wanted = shard.wants(&input).len();
        let balance = shard.fold(&input, vec![None; wanted]).expect("nobody is ahead").balance;
        let unmet = shard.unmet().len();
        shard.meet(vec![None; unmet]).expect("no row is stored");
        balance.accepted()
    });
    assert_eq!(accepted[0], accepted[1]);
    assert!(accepted[0] > 0 || records.iter().any(is_nested));
    shard.commit().rows.iter().for_each(|row| assert!(row.body.len() <= ROW_BYTES_MAX));
}

fn said_bytes(entry: &Entry) -> usize {
    match &entry.said {
        Said::Line(text) | Said::Document(text) => text.len(),
        Said::Values(_) => 0,
    }
}

fn without_repeats(mut part: Part) -> Part {
    if let Part::Entries(entries) = &mut part {
        entries.entries.iter_mut().for_each(|entry| entry.repeated = false);
    }
    part
}

fn gzip(text: &[u8]) -> Bytes {
    let mut packed = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
    packed.write_all(text).expect("memory takes it");
    packed.finish().expect("memory takes it").into()
}

/// As the Kinesis Producer Library writes them, all under one key.
pub fn aggregate(records: &[&[u8]]) -> Bytes {
    fn put(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
        out.push(tag);
        let mut length = bytes.len();
        while length >= 0x80 {
            out.push(length as u8 | 0x80);
            length >>= 7;
        }
        out.push(length as u8);
        out.extend_from_slice(bytes);
    }
    let mut message = vec![];
    put(&mut message, 0x0A, b"k");
    for data in records {
        let mut record = vec![0x08, 0];
        put(&mut record, 0x1A, data);
        put(&mut message, 0x1A, &record);
    }
    [wire::aggregate::MAGIC.as_slice(), &message, Md5::digest(&message).as_slice()].concat().into()
}

/// All of an answer, comparable bit for bit.
fn bits(answer: Result<Line<'_>, Skip>) -> Result<(Line<'_>, Option<u64>, Option<u64>), Skip> {
    answer.map(|line| (line, line.latency_ms.map(f64::to_bits), line.bytes.map(f64::to_bits)))
}

/// JSON lines: one that is read by prediction says what it says to a parser that has read nothing, and is malformed where serde_json says so.
pub fn json(batch: &[u8]) {
    let mut warm = Parser::new(3600);
    for line in batch.split(|byte| *byte == b'\n').take(16) {
        let mut cold = Parser::new(3600);
        let expected = bits(cold.parse(line, false));
        for _ in 0..2 {
            assert_eq!(bits(warm.parse(line, is_plain(line))), expected);
        }
        let text = line.strip_suffix(b"\r").unwrap_or(line);
        if text.first() == Some(&b'{') && !text.contains(&0) {
            let is_valid =
                str::from_utf8(text).is_ok_and(|text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok());
            assert_eq!(expected == Err(Skip::MalformedJson), !is_valid);
        }
    }
    lines(batch);
}

/// Lines of any format: read as a batch they say what they say alone, and within bounds.
pub fn lines(batch: &[u8]) {
    let (mut warm, mut cold) = (Parser::new(-3600), Parser::new(-3600));
    let (plain, mut at) = (is_plain(batch), 0);
    for line in batch.split_inclusive(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let expected = bits(cold.parse(line, false));
        if let Ok((line, ..)) = expected {
            assert!(line.service.is_none_or(|name| (1..=255).contains(&name.len())));
            assert!(line.status.is_none_or(|status| (100..=599).contains(&status)));
            assert!(line.latency_ms.is_none_or(|ms| ms.abs() <= 2f64.powi(360)));
            assert!(line.bytes.is_none_or(|bytes| (0.0..=2f64.powi(360)).contains(&bytes)));
            assert!(line.time_ms.is_none_or(|time_ms| (0..=253_402_300_799_999).contains(&time_ms)));
        }
        assert_eq!(warm.next(batch, &mut at, plain).map(bits), Some(expected));
    }
    assert!(at >= batch.len() && warm.next(batch, &mut at, plain).is_none());
    let mut through = 0;
    for (from, line) in cut::lines(batch) {
        assert_eq!(from, through);
        through += line.len() + usize::from(batch.get(from + line.len()) == Some(&b'\n'));
    }
    assert_eq!(through, batch.len());
    while through > 0 {
        // Cuts of any window end within it.
        let window = &batch[batch.len() - through..];
        cut::next_cut(window, 0, true, 64);
        through /= 2;
    }
}

/// Bodies of stored rows and their keys: what can be read is written again as something that says the same.
pub fn rows(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    match kind % 13 {
        0 => again(bytes, Cell::decode, |cell| {
            cell.windows();
            let mut twice = cell.clone();
            twice.merge(cell);
            cell.encode()
        }),
        1 => again(
            bytes,
            |mut bytes| Distribution::decode(&mut bytes),
            |values| {
                values.quantiles([0.0, 0.5, 0.99, 1.0]);
                let mut twice = values.clone();
                twice.merge(values);
                written(|out| values.encode(out))
            },
        ),
        2 => again(
            bytes,
            |mut bytes| Sketch::decode(&mut bytes),
            |sketch| {
                sketch.quantile(0.5);
                let mut twice = sketch.clone();
                twice.merge(sketch);
                assert_eq!(twice.level(), sketch.level(), "the same values need the same buckets");
                written(|out| sketch.encode(out))
            },
        ),
        3 => again(
            bytes,
            |mut bytes| Sum::decode(&mut bytes),
            |sum| {
                assert!(!sum.to_f64().is_nan());
                let mut twice = sum.clone();
                twice.merge(sum);
                written(|out| sum.encode(out))
            },
        ),
        4 => again(bytes, |mut bytes| Series::decode(&mut bytes), Series::encode),
        5 => again(bytes, Taken::decode, Body::encode),
        6 => again(bytes, Marks::decode, Body::encode),
        7 => again(bytes, Balance::decode, Body::encode),
        8 => {
            if let Some(key) = key::decode(bytes) {
                assert_eq!(key::encode(&key).expect("what was read can be written"), bytes);
            }
        }
        9 => drop(Definition::decode(bytes)),
        10 => drop(Decision::decode(bytes)),
        12 => again(bytes, Identified::decode, Body::encode),
        _ => {
            if let Some(position) = SequenceNumber::from_bytes(bytes) {
                assert_eq!(position.to_bytes(), bytes);
                // Kinesis sends no longer ones, so none is read from a text.
                let text = position.to_string();
                let read = text.parse::<SequenceNumber>().ok();
                assert_eq!(read, (text.len() <= SEQUENCE_NUMBER_DIGITS_MAX).then_some(position));
            }
        }
    }
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = vec![];
    write(&mut out);
    out
}

fn again<T>(bytes: &[u8], decode: impl Fn(&[u8]) -> Result<T, DecodeError>, encode: impl Fn(&T) -> Vec<u8>) {
    let Ok(value) = decode(bytes) else { return };
    let first = encode(&value);
    let read = decode(&first).unwrap_or_else(|error| panic!("what was written cannot be read: {error}"));
    assert_eq!(encode(&read), first);
}

/// Texts that people and programs give: times, spans, statistics, positions, tokens, definitions of alarms.
pub fn texts(bytes: &[u8]) {
    const NOW_MS: i64 = 1_795_221_578_000;
    let Ok(text) = str::from_utf8(bytes) else { return };
    let _ = when::parse(text, NOW_MS);
    let _ = when::span_secs(text);
    let _ = text.parse::<Cursor>();
    let _ = Statistics::parse(text);
    let _ = events::identity::check_service(text);
    let _ = events::identity::check_tenant(text);
    ShardId::named(text);
    if let Ok(position) = text.parse::<SequenceNumber>() {
        assert_eq!(position.to_string(), text.trim_start_matches('0').max("0"));
    }
    if let Ok(alarm) = Alarm::parse(text) {
        assert!(alarm.range_secs() > 0);
    }
}

/// Bodies of requests: the form is told, and whatever the pieces in which they come, the same bytes come out of them.
pub fn unpack(bytes: &[u8]) {
    const OUT_BYTES_MAX: usize = 1 << 20;
    let Some((size, bytes)) = bytes.split_first() else { return };
    let whole = unpacked(bytes, bytes.len().max(1), OUT_BYTES_MAX);
    let pieces = unpacked(bytes, usize::from(*size).max(1), OUT_BYTES_MAX);
    match (whole, pieces) {
        (Some(whole), Some(pieces)) => assert_eq!(whole, pieces),
        (whole, pieces) => assert_eq!(whole.is_some(), pieces.is_some()),
    }
}

/// `None`: it cannot be unpacked, or is larger than this target looks at.
fn unpacked(bytes: &[u8], piece: usize, most: usize) -> Option<Vec<u8>> {
    let form = unpack::Form::of(&bytes[..bytes.len().min(unpack::FORM_BYTES)]);
    if form == unpack::Form::Batch {
        return None;
    }
    let mut unpack = unpack::Unpack::new(form).ok()?;
    let mut out = vec![];
    for piece in bytes.chunks(piece) {
        let mut input = piece;
        while !input.is_empty() {
            let before = (input.len(), out.len());
            unpack.step(&mut input, &mut out).ok()?;
            assert!((input.len(), out.len()) != before, "a step that does nothing would never end");
            if out.len() > most {
                return Some(vec![]);
            }
        }
    }
    unpack.finish(&mut out).ok()?;
    Some(if out.len() > most { vec![] } else { out })
}

/// Files as they are read: what both readers can unpack is the same, cut into batches without a gap; nothing panics or goes on for ever.
pub fn files(bytes: &[u8]) {
    const OUT_BYTES_MAX: u64 = 16 << 20;
    let expected = match unpack::Form::of(&bytes[..bytes.len().min(unpack::FORM_BYTES)]) {
        unpack::Form::Plain => Some(bytes.to_vec()),
        unpack::Form::Gzip => all_of(flate2::read::MultiGzDecoder::new(bytes), OUT_BYTES_MAX),
        unpack::Form::Zstd => zstd::stream::read::Decoder::new(bytes).ok().and_then(|all| all_of(all, OUT_BYTES_MAX)),
        unpack::Form::Batch => None,
    };
    let sent = Sent::default();
    let options = ingest::Options {
        tenant: "local".into(),
        service: None,
        as_name: Some("fuzzed".into()),
        again: true,
        codec: wire::Codec::None,
        target: pack::Target::Lines(1 << 10),
        now_ms: 0,
        definitions: None,
    };
    let paths = vec!["-".into()];
    let input = Box::new(io::Cursor::new(bytes.to_vec()));
    let work = ingest::ingest(paths, input, options, reader_list(), &sent, Arc::default());
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers");
    let report = runtime.block_on(work);
    let mut batches = sent.0.into_inner().expect("nobody panicked");
    batches.sort_by_key(|(from, ..)| *from);
    let mut at = 0;
    for (from, to, _, _) in &batches {
        assert_eq!(*from, at);
        at = *to;
    }
    let whole = report.failed().next().is_none() && batches.iter().all(|(.., edited)| !edited);
    if let (true, Some(expected)) = (whole, expected) {
        let read: Vec<u8> = batches.into_iter().flat_map(|(_, _, body, _)| body).collect();
        assert!(read == expected, "{} bytes read, {} there", read.len(), expected.len());
    }
}

/// `None`: it is damaged, or larger than this target looks at.
fn all_of(mut packed: impl io::Read, most: u64) -> Option<Vec<u8>> {
    let mut out = vec![];
    let read = io::Read::take(&mut packed, most).read_to_end(&mut out).ok()? as u64;
    (read < most).then_some(out)
}

/// One list for the life of the process: it is not what is tried here.
fn reader_list() -> Arc<ReaderList> {
    static LIST: OnceLock<Arc<ReaderList>> = OnceLock::new();
    let open = || {
        let temporary = option_env!("CARGO_TARGET_TMPDIR").map_or_else(std::env::temp_dir, Into::into);
        let folder = temporary.join(format!("weir-fuzz-{}", std::process::id()));
        Arc::new(ReaderList::open(&folder, 1, true).expect("a folder for temporary files"))
    };
    LIST.get_or_init(open).clone()
}

/// From, to, body, whether bytes were taken out.
type Batch = (u64, u64, Vec<u8>, bool);

#[derive(Default)]
struct Sent(Mutex<Vec<Batch>>);

impl ingest::Sender for Sent {
    async fn send(&self, packed: Packed) -> Result<(), SendError> {
        let batch = wire::decode(&packed.data).expect("what is packed can be read");
        let extent = batch.header.extent.expect("it has a name");
        let edited = !batch.header.edits.is_empty();
        self.0.lock().expect("nobody panicked").push((extent.from, extent.to, batch.body.to_vec(), edited));
        Ok(())
    }
}
