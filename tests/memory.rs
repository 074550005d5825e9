//! Memory does not grow with the days that were ingested: what the heap holds after each of them, counted by the allocator, all threads in it.
//!
//! Not decided here: the most that the process takes while it works, which depends on what waits where (`cargo bench --bench main_job -- memory`).
#![allow(clippy::unwrap_used, missing_docs)]

use std::{alloc, fmt::Write, num::NonZeroU16, time::Duration};

use cap::Cap;
use events::{
    identity::{Origin, OriginKind},
    pack::{Identity, Packer, Source},
    stream::Put,
    wire::Codec,
};
use weir::{Options, System};

#[global_allocator]
static HEAP: Cap<alloc::System> = Cap::new(alloc::System, usize::MAX);

const SERVICES: usize = 10;
/// Until then caches fill: the database's pages and the newest records.
const WARM_DAYS: usize = 8;
const DAYS: usize = 20;
/// What twelve days may add: less than six bytes a row.
const GROWTH_BYTES_MAX: usize = 1 << 20;

/// A line of each service in each minute of a day of January.
fn lines(day: usize) -> String {
    let mut lines = String::new();
    for minute in 0..24 * 60 {
        for service in 0..SERVICES {
            let (hour, minute, latency) = (minute / 60, minute % 60, (minute * 7 + service) % 100);
            writeln!(
                lines,
                "{{\"timestamp\":\"2026-01-{:02}T{hour:02}:{minute:02}:{service:02}.000Z\",\"level\":\"INFO\",\"service\":\"svc-{service}\",\
                 \"latency_ms\":{latency}.5,\"status\":200}}",
                day + 1
            )
            .unwrap();
        }
    }
    lines
}

/// Appends a text; returns once its rows can be read.
async fn ingest(system: &System, name: &str, text: &str) {
    let origin = Origin { kind: OriginKind::File, name: name.into(), version: "1".into() };
    let source = Source {
        tenant: "local".into(),
        service: None,
        identity: Identity::Origin { origin, from: 0 },
        read_at_ms: weir::now_ms(),
        definitions: None,
    };
    let mut packer = Packer::new(source, Codec::None, 256 << 10);
    packer.push(text.as_bytes());
    while let Some(packed) = packer.next(true) {
        let put = Put { partition_key: packed.partition_key, hash_key: None, data: packed.data };
        let appended = system.append(put).await.unwrap();
        system.ledger().expect("days", &appended.shard, appended.sequence);
    }
    system.ledger().settled("days", Duration::from_secs(60)).await.unwrap();
}

#[tokio::test]
async fn twenty_days_take_no_more_memory_than_eight() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { shards: NonZeroU16::new(1), ..Options::default() };
    let system = System::open(folder.path(), options).await.unwrap();
    let mut held = vec![];
    for day in 0..DAYS {
        ingest(&system, &format!("/logs/{day}.jsonl"), &lines(day)).await;
        // Rows that some records have not touched leave memory: how many of the day's were still open is chance.
        for record in 0..6 {
            ingest(&system, &format!("/logs/{day}-{record}.log"), "nothing new\n").await;
        }
        held.push(HEAP.allocated());
    }
    assert_eq!(system.close(), None);
    // The least of several days: a spare segment may be in the making. What grows with the days grows in both spans, at the same rate; a buffer that
    // once became as large as it ever does, on a day that is chance, in one.
    let least = |before: usize| held[before - 4..before].iter().copied().min().unwrap();
    let (warm, half, late) = (least(WARM_DAYS), least((WARM_DAYS + DAYS) / 2), least(DAYS));
    let growth = late.saturating_sub(half).min(half.saturating_sub(warm));
    assert!(growth < GROWTH_BYTES_MAX / 2, "bytes that the heap held after each day: {held:?}");
}
