//! Steps that touch memory alone: parse, pack, fold, codecs. Neither a disk nor a second thread is in any of them.

use std::{collections::VecDeque, hint::black_box};

use events::{
    cut,
    identity::{Origin, OriginKind},
    pack::{Identity, Packed, Packer, Source},
    position::{SequenceNumber, ShardId},
    stream::Record,
    wire::{self, Codec},
};
use projections::{
    fold::{CHANGED_ROWS_MAX, Input, Place, Shard},
    lines,
    store::Generation,
};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::measure::timed;

/// Bytes of lines in a batch, as `weir ingest` packs them.
pub const BATCH_BYTES: usize = 512 << 10;
/// When the records of a bench arrive: later than any line says.
const ARRIVED_MS: i64 = 1_900_000_000_000;
/// Batches alive at once: about what the embedded stream keeps in memory.
const ALIVE: usize = 16;

/// Lines to what they say.
pub fn parse(text: &[u8], times: usize) {
    println!(
        "parse: each line's time, service, level, status, latency, size. Leaves out: windows, rows, everything around."
    );
    timed("parse", text.len() as u64, times, || {
        let plain = lines::is_plain(text);
        let mut parser = lines::Parser::new(0);
        let (mut at, mut check) = (0, 0u64);
        while let Some(line) = parser.next(text, &mut at, plain) {
            if let Ok(line) = line {
                let latency = line.latency_ms.unwrap_or(0.0).to_bits();
                check = check.wrapping_mul(31).wrapping_add(line.time_ms.unwrap_or(0) as u64 ^ latency);
            }
        }
        check
    });
}

fn packer(codec: Codec) -> Packer {
    let origin = Origin { kind: OriginKind::File, name: "/bench.log".into(), version: "1".into() };
    let source = Source {
        tenant: "local".into(),
        service: Some("bench".into()),
        identity: Identity::Origin { origin, from: 0 },
        read_at_ms: ARRIVED_MS,
        definitions: None,
    };
    Packer::new(source, codec, BATCH_BYTES)
}

fn each_batch(text: &[u8], codec: Codec, mut each: impl FnMut(Packed)) {
    let mut packer = packer(codec);
    let mut rest = text;
    while !rest.is_empty() {
        let (now, later) = rest.split_at(packer.appetite().min(256 << 10).min(rest.len()));
        packer.push(now);
        rest = later;
        while let Some(packed) = packer.next(false) {
            each(packed);
        }
    }
    while let Some(packed) = packer.next(true) {
        each(packed);
    }
}

/// Lines to records, beside a bare copy of the same bytes.
pub fn pack(text: &[u8], times: usize) {
    println!(
        "pack: cut at heads, header, one copy in. Leaves out: reading the file, sending. {ALIVE} batches are alive at once."
    );
    let mut room = vec![0; BATCH_BYTES];
    timed("bare copy", text.len() as u64, times, || {
        text.chunks(BATCH_BYTES).fold(0, |check, chunk| {
            room[..chunk.len()].copy_from_slice(chunk);
            check ^ u64::from(black_box(&room)[chunk.len() / 2])
        })
    });
    timed("pack", text.len() as u64, times, || {
        let (mut check, mut alive) = (0u64, VecDeque::new());
        each_batch(text, Codec::None, |packed| {
            check = check.wrapping_mul(31).wrapping_add(packed.lines ^ packed.covers);
            alive.push_back(packed);
            if alive.len() > ALIVE {
                alive.pop_front();
            }
        });
        check
    });
}

/// The records of a text.
pub fn records(text: &[u8], codec: Codec) -> Vec<Record> {
    let mut records = vec![];
    each_batch(text, codec, |packed| {
        records.push(Record {
            sequence: SequenceNumber::from_parts(1, records.len() as u64 + 1),
            arrived_at_ms: ARRIVED_MS,
            partition_key: packed.partition_key,
            data: packed.data,
        });
    });
    records
}

fn fold_all(records: &[Record]) -> u64 {
    let mut fold = Shard::new(Place { generation: Generation(0), shard: ShardId::numbered(0), ring: vec![] });
    let mut check = Xxh3::new();
    let mut commit = |fold: &mut Shard| {
        for row in &fold.commit().rows {
            check.update(&row.body);
        }
        fold.committed();
    };
    for record in records {
        let input = Input::of(record);
        let wanted = fold.wants(&input).len();
        fold.fold(&input, vec![None; wanted]).expect("the records are in order");
        let unmet = fold.unmet().len();
        fold.meet(vec![None; unmet]).expect("nothing is met");
        if fold.changed_rows() >= CHANGED_ROWS_MAX {
            commit(&mut fold);
        }
    }
    commit(&mut fold);
    check.digest()
}

/// Packed batches to the bytes of rows.
pub fn fold(text: &[u8], times: usize) {
    println!(
        "fold: records in memory to rows' bytes, dedupe and commits in it. Leaves out: stream, store, and reading rows back."
    );
    for (name, codec) in [("fold", Codec::None), ("fold, lz4", Codec::Lz4), ("fold, zstd -1", Codec::Zstd)] {
        let records = records(text, codec);
        timed(name, text.len() as u64, times, || fold_all(&records));
    }
}

/// What packing and unpacking cost, and what they save.
pub fn codec(text: &[u8], times: usize) {
    println!(
        "codec: batches of {BATCH_BYTES} bytes packed, unpacked and checksummed. Leaves out: what fewer bytes save on the disk."
    );
    for (name, codec) in [("none", Codec::None), ("lz4", Codec::Lz4), ("zstd -1", Codec::Zstd)] {
        let batches = records(text, codec);
        let packed: usize = batches.iter().map(|record| record.data.len()).sum();
        println!("  {name}: {:.1} % of the raw bytes", 100.0 * packed as f64 / text.len() as f64);
        timed(&format!("pack, {name}"), text.len() as u64, times, || {
            let mut check = 0;
            each_batch(text, codec, |batch| check ^= batch.lines);
            check
        });
        timed(&format!("unpack, {name}"), text.len() as u64, times, || {
            let unpack = |record: &Record| wire::decode(&record.data).expect("it was packed here").body;
            batches.iter().map(|record| black_box(unpack(record)).len() as u64).sum()
        });
        timed(&format!("checksum, {name}"), text.len() as u64, times, || {
            batches.iter().fold(0, |check, record| check ^ xxh3_64(&record.data))
        });
    }
    timed("count lines", text.len() as u64, times, || cut::lines(text).count() as u64);
}
