//! Lines to ingest, small enough to count by hand, and what came of them.

pub use crate::input::lines;
use crate::program::{Folder, say, weir};

/// No further arguments.
pub const NONE: [&str; 0] = [];

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
