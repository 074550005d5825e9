//! Lines to ingest, small enough to count by hand, and what came of them.

use std::fmt::Write;

use crate::program::{Folder, say, weir};

/// No further arguments.
pub const NONE: [&str; 0] = [];

/// One line a second from 2026-01-01T00:00:00Z on, of one service; the latency is the number of the line.
pub fn lines(service: &str, numbers: std::ops::Range<u64>) -> String {
    let mut text = String::new();
    for i in numbers {
        let (hour, minute, second) = (i / 3600 % 24, i / 60 % 60, i % 60);
        writeln!(
            text,
            r#"{{"timestamp":"2026-01-01T{hour:02}:{minute:02}:{second:02}Z","service":"{service}","status":200,"latency_ms":{i}}}"#
        )
        .unwrap();
    }
    text
}

/// The latencies of `lines`, added up.
pub fn sum(numbers: std::ops::Range<u64>) -> f64 {
    numbers.sum::<u64>() as f64
}

/// Count and sum of a service's latencies, as `weir metrics` says.
#[track_caller]
pub fn latencies(folder: &Folder, service: &str) -> (u64, f64) {
    let said = folder.run("metrics", ["--service", service, "--metric", "latency", "--json"]).exits(0);
    let rows = said.json_lines();
    let count = rows.iter().map(|row| row["count"].as_u64().unwrap()).sum();
    (count, rows.iter().map(|row| row["sum"].as_f64().unwrap()).sum())
}

/// A command without a data folder or URL of its own.
pub fn plain(folder: &Folder, arguments: &[&str]) -> crate::program::Said {
    say(weir(folder.root.path()).args(arguments))
}

/// Packed with gzip.
pub fn gzip(text: &str) -> Vec<u8> {
    use std::io::Write;
    let mut packer = flate2::write::GzEncoder::new(vec![], flate2::Compression::default());
    packer.write_all(text.as_bytes()).unwrap();
    packer.finish().unwrap()
}
