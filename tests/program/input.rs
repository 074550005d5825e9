//! The input that goes through every way: the embedded pair, Kinesis and DynamoDB, and the functions of Lambda. Decides nothing about right and wrong.
#![allow(clippy::unwrap_used, dead_code)]

use std::ops::Range;

use events::{
    identity::{Origin, OriginKind},
    pack::{Identity, Packed, Packer, Source},
    stream::Put,
    wire::Codec,
};

/// Files of a part, each of a service of its own: as many keys on the ring.
const SERVICES: u64 = 12;
/// So many parts, between which a stream is split and merged.
pub const PARTS: u64 = 3;
/// Lines of a file; those of two parts have some minutes in common.
pub const LINES: u64 = 400;

/// A file by its name, and its lines.
pub type File = (String, String);

/// One line a second from 2026-01-01T00:00:00Z on, of one service; the latency is the number of the line.
pub fn lines(service: &str, numbers: Range<u64>) -> String {
    let line = |i: u64| {
        let (hour, minute, second) = (i / 3600 % 24, i / 60 % 60, i % 60);
        format!(
            "{{\"timestamp\":\"2026-01-01T{hour:02}:{minute:02}:{second:02}Z\",\"service\":\"{service}\",\"status\":200,\"latency_ms\":{i}}}\n"
        )
    };
    numbers.map(line).collect()
}

/// The files of each part.
pub fn parts() -> Vec<Vec<File>> {
    let file = |part: u64, number: u64| {
        let service = format!("service-{number}");
        (format!("{service}-{part}"), lines(&service, part * 300..part * 300 + LINES))
    };
    (0..PARTS).map(|part| (0..SERVICES).map(|number| file(part, number)).collect()).collect()
}

/// A file's lines as batches of some thirty, as they are put on any stream.
pub fn batches((name, text): &File) -> Vec<Put> {
    batches_of(name, text, 3_000)
}

/// A file's lines as batches of about so many bytes of them.
pub fn batches_of(name: &str, text: &str, bytes: usize) -> Vec<Put> {
    let origin = Origin { kind: OriginKind::Named, name: name.to_owned(), version: String::new() };
    let source = Source {
        tenant: "local".to_owned(),
        service: None,
        identity: Identity::Origin { origin, from: 0 },
        read_at_ms: 1_767_225_600_000,
        definitions: None,
    };
    let mut packer = Packer::new(source, Codec::Zstd, bytes);
    let put = |packed: Packed| Put { partition_key: packed.partition_key, hash_key: None, data: packed.data };
    let mut puts = vec![];
    for piece in text.as_bytes().chunks(1 << 20) {
        packer.push(piece);
        puts.extend(std::iter::from_fn(|| packer.next(false)).map(put));
    }
    puts.extend(std::iter::from_fn(|| packer.next(true)).map(put));
    puts
}
