//! Lines in, rows out: each step of the main job alone, and all of it, in MB of raw text per CPU second.
//!
//! `cargo bench --bench main_job -- [STEP…] [--file PATH] [--mb N]`. Without a file it makes its own lines. Not measured: reading from a cold disk,
//! the network, and what a second process would take away. Each step prints a checksum of its result.
#![allow(clippy::unwrap_used)]

use std::{hint::black_box, time::Instant};

use events::{
    identity::{Origin, OriginKind},
    pack::{Identity, Packer, Source},
    position::{SequenceNumber, ShardId},
    stream::Record,
    wire::Codec,
};
use projections::{
    fold::{CHANGED_ROWS_MAX, Input, Place, Shard},
    lines,
    store::Generation,
};

/// CPU seconds of this process, all threads.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks: f64 = fields.get(11..13).map_or(0.0, |two| two.iter().filter_map(|n| n.parse::<f64>().ok()).sum());
    ticks / 100.0
}

fn report(step: &str, bytes: usize, cpu_secs: f64, wall_secs: f64, check: u64) {
    let mb = bytes as f64 / 1e6;
    let rate = mb / cpu_secs.max(0.01);
    println!(
        "{step:24} {mb:9.1} MB  {rate:8.0} MB/cpu-s  cpu {cpu_secs:7.2} s  wall {wall_secs:7.2} s  check {check:016x}"
    );
}

fn timed(step: &str, bytes: usize, work: impl FnOnce() -> u64) {
    let (cpu_before, wall) = (cpu(), Instant::now());
    let check = black_box(work());
    report(step, bytes, cpu() - cpu_before, wall.elapsed().as_secs_f64(), check);
}

fn made(mb: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity((mb << 20) + 512);
    let mut state = 88_172_645_463_325_252u64;
    let mut line = 0u64;
    while text.len() < mb << 20 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let (second, service) = (line / 46, state % 50);
        let latency = 5.0 + (state >> 20 & 0xffff) as f64 / 512.0;
        let (level, status) = if state.is_multiple_of(50) { ("ERROR", 503) } else { ("INFO", 200) };
        text.extend_from_slice(
            format!(
                "{{\"timestamp\":\"2026-01-01T{:02}:{:02}:{:02}.{:03}Z\",\"level\":\"{level}\",\"service\":\"service-{service}\",\"message\":\"\
                 connection request timeout user order cache miss upstream retry payload\",\"latency_ms\":{latency:.3},\"status\":{status},\
                 \"request_id\":\"{:08x}-0000-0000-0000-{:012x}\",\"path\":\"/api/v1/connection/{}\"}}\n",
                second / 3600 % 24,
                second / 60 % 60,
                second % 60,
                state % 1000,
                state as u32,
                state & 0xffff_ffff_ffff,
                state % 200
            )
            .as_bytes(),
        );
        line += 1;
    }
    text
}

fn records(text: &[u8]) -> Vec<Record> {
    let origin = Origin { kind: OriginKind::File, name: "/bench.log".into(), version: "1".into() };
    let source = Source {
        tenant: "local".into(),
        service: Some("bench".into()),
        identity: Identity::Origin { origin, from: 0 },
        read_at_ms: 1_767_225_600_000,
        definitions: None,
    };
    let mut packer = Packer::new(source, Codec::None, 512 << 10);
    let mut records = vec![];
    for piece in text.chunks(1 << 20) {
        packer.push(piece);
        while let Some(packed) = packer.next(false) {
            records.push(packed);
        }
    }
    while let Some(packed) = packer.next(true) {
        records.push(packed);
    }
    let record = |(i, packed): (usize, events::pack::Packed)| Record {
        sequence: SequenceNumber::from_parts(1, i as u64 + 1),
        arrived_at_ms: 1_767_312_000_000,
        partition_key: packed.partition_key,
        data: packed.data,
    };
    records.into_iter().enumerate().map(record).collect()
}

fn fold(records: &[Record]) -> u64 {
    let shard = ShardId::numbered(0);
    let mut fold = Shard::new(Place { generation: Generation(0), shard, ring: vec![] });
    let mut check = 0u64;
    for record in records {
        let input = Input::of(record);
        let wanted = fold.wants(&input).len();
        fold.fold(&input, vec![None; wanted]).unwrap();
        let unmet = fold.unmet().len();
        fold.meet(vec![None; unmet]).unwrap();
        if fold.changed_rows() >= CHANGED_ROWS_MAX {
            check += fold.commit().rows.iter().map(|row| row.body.len() as u64).sum::<u64>();
            fold.committed();
        }
    }
    check + fold.commit().rows.iter().map(|row| row.body.len() as u64).sum::<u64>()
}

fn parse(text: &[u8]) -> u64 {
    let mut parser = lines::Parser::new(0);
    let plain = lines::is_plain(text);
    let mut check = 0u64;
    for (_, line) in events::cut::lines(text) {
        if let Ok(line) = parser.parse(line, plain) {
            check = check.wrapping_add(line.time_ms.unwrap_or(0) as u64 ^ line.latency_ms.unwrap_or(0.0).to_bits());
        }
    }
    check
}

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let (mut file, mut mb, mut steps) = (None, 16usize, vec![]);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--file" => file = args.next(),
            "--mb" => mb = args.next().and_then(|n| n.parse().ok()).unwrap_or(mb),
            step => steps.push(step.to_owned()),
        }
    }
    let text = match file {
        Some(path) => std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}")),
        None => made(mb),
    };
    let wanted = |step: &str| steps.is_empty() || steps.iter().any(|of| of == step);
    if wanted("parse") {
        timed("parse", text.len(), || parse(&text));
    }
    if wanted("pack") {
        timed("pack", text.len(), || records(&text).len() as u64);
    }
    if wanted("fold") {
        let records = records(&text);
        timed("fold to row bytes", text.len(), || fold(&records));
    }
}
