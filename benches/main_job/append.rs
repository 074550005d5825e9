//! The durable append alone, beside bare writes of the same size in the same minute on the same disk.
//!
//! Leaves out: packing, folding, a reader of the same stream. Each bare write goes behind the one before it into blocks that were written full of
//! zeros, or into a growing file, and is synced (fdatasync) before the next: what one caller can have from the disk.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    os::unix::fs::FileExt,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use events::{
    embedded::{Embedded, Options, disk::RealDisk},
    stream::{Put, Stream},
};

use crate::measure::{Cost, cost};

/// The largest record, less room for its key: what is compared is a MiB made durable by one bare write and sync, and by one append. (The goal:
/// a group commit has 80 % of bare's MB/s, and one caller waits 1.5 times as long as bare's median.)
const MIB_BYTES: usize = (1 << 20) - 64;

/// What one caller waited for, each time.
struct Waits(Vec<Duration>);

/// What a row says: MB a second, and the median wait in ms.
struct Said {
    rate: f64,
    p50_ms: f64,
}

impl Waits {
    fn print(mut self, name: &str, bytes: u64, cost: Cost) -> Said {
        self.0.sort_unstable();
        let at = |share: f64| self.0[((self.0.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
        println!(
            "{name:34} {:8.1} MB {:7.0} MB/s  p50 {:7.3} ms  p99 {:7.3} ms  {:6.0} MB/cpu-s",
            bytes as f64 / 1e6,
            bytes as f64 / 1e6 / cost.wall.as_secs_f64(),
            at(0.5),
            at(0.99),
            cost.rate(bytes)
        );
        Said { rate: bytes as f64 / 1e6 / cost.wall.as_secs_f64(), p50_ms: at(0.5) }
    }
}

/// Runs the step in `folder`, with records of so many bytes in all, and so many at most.
pub fn append(folder: &Path, bytes: u64, records_max: u64) {
    println!(
        "append: records made durable by one caller and by eight, beside bare fdatasync writes. Leaves out: packing and reading."
    );
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime of two threads");
    for size in [4usize << 10, 64 << 10, 512 << 10, MIB_BYTES] {
        let bytes = bytes.min(size as u64 * records_max);
        let payload: Bytes = (0..size).map(|i| (i * 31 % 251) as u8).collect::<Vec<_>>().into();
        let kib = size.div_ceil(1 << 10);
        let file = prepared(&folder.join("zeros"), bytes);
        let bare_one = bare(&format!("{kib} KiB bare, zeros before"), &file, &payload, bytes);
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(folder.join("growing"));
        bare(&format!("{kib} KiB bare, growing file"), &file.expect("a file in the bench's folder"), &payload, bytes);
        for callers in [1, 8] {
            let name = format!("{kib} KiB embedded, {callers} caller{}", if callers == 1 { "" } else { "s" });
            let inner = folder.join(format!("stream-{size}-{callers}"));
            let said = runtime.block_on(embedded(&name, &inner, &payload, bytes, callers));
            let _ = std::fs::remove_dir_all(inner);
            match callers {
                1 => println!("  acknowledged p50 is {:.2} times bare's", said.p50_ms / bare_one.p50_ms),
                _ => println!("  group commit has {:.0} % of bare's MB/s", 100.0 * said.rate / bare_one.rate),
            }
        }
    }
}

fn prepared(path: &Path, bytes: u64) -> File {
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).open(path).expect("a file in the bench's folder");
    let zeros = vec![0; 1 << 20];
    for _ in 0..bytes.div_ceil(1 << 20) + 1 {
        file.write_all(&zeros).expect("room on the disk");
    }
    file.sync_all().expect("a disk that syncs");
    file
}

fn bare(name: &str, file: &File, payload: &[u8], bytes: u64) -> Said {
    let (waits, cost) = cost(|| {
        let write = |number: u64| {
            let started = Instant::now();
            file.write_all_at(payload, number * payload.len() as u64).expect("room on the disk");
            file.sync_data().expect("a disk that syncs");
            started.elapsed()
        };
        (0..bytes / payload.len() as u64).map(write).collect()
    });
    Waits(waits).print(name, bytes, cost)
}

async fn embedded(name: &str, folder: &Path, payload: &Bytes, bytes: u64, callers: u64) -> Said {
    let disk = RealDisk::in_folder(folder).expect("a folder in the bench's");
    let stream = Arc::new(Embedded::open(disk, weir::now_ms, Options::default()).expect("a new stream"));
    let each = (bytes / payload.len() as u64 / callers).max(1);
    let (cpu, wall) = (crate::measure::cpu(), Instant::now());
    let call = |caller: u64| {
        let (stream, payload) = (stream.clone(), payload.clone());
        tokio::spawn(async move {
            let mut waits = vec![];
            for number in 0..each {
                let put = Put { partition_key: format!("{caller}-{number}"), hash_key: None, data: payload.clone() };
                let started = Instant::now();
                let answers = stream.append(vec![put]).await.expect("a disk that takes it");
                assert!(answers.iter().all(Result::is_ok), "a record was refused");
                waits.push(started.elapsed());
            }
            waits
        })
    };
    let calls: Vec<_> = (0..callers).map(call).collect();
    let mut waits = vec![];
    for call in calls {
        waits.extend(call.await.expect("no caller panics"));
    }
    let cost = Cost { cpu: crate::measure::cpu() - cpu, wall: wall.elapsed() };
    let said = Waits(waits).print(name, each * callers * payload.len() as u64, cost);
    stream.close();
    said
}
