//! An object is read in bounded memory however large it is: what the heap holds while it is read, counted by the allocator, all threads in it.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "parts/emulated.rs"]
mod emulated;

use std::{
    alloc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use bytes::Bytes;
use cap::Cap;
use events::{
    cut,
    pack::{Packed, Target},
    wire::{self, Codec},
};
use processor::{
    ingest::{
        Inputs, Options, Outcome, SendError, Sender, ingest_all,
        s3::{FIRST_BYTES, Next, RANGE_BYTES, RANGES_AHEAD, ToOpen, open_ahead},
    },
    s3::{Putting, Wanted},
};
use tokio::sync::mpsc;

#[global_allocator]
static HEAP: Cap<alloc::System> = Cap::new(alloc::System, usize::MAX);

/// Sixteen ranges.
const OBJECT_BYTES: usize = 128 << 20;
/// Ranges on their way, one that waits and one that is read; batches, and buffers of those who read and send.
const HELD_BYTES_MAX: usize = FIRST_BYTES as usize + (RANGES_AHEAD + 2) * RANGE_BYTES as usize + (24 << 20);

/// Counts lines and the most that the heap held.
#[derive(Default)]
struct Counting {
    lines: AtomicU64,
    most: AtomicU64,
}

impl Sender for Counting {
    async fn send(&self, packed: Packed) -> Result<(), SendError> {
        let batch = wire::decode(&packed.data).unwrap();
        self.lines.fetch_add(cut::count_lines(&batch.body), SeqCst);
        self.most.fetch_max(HEAP.allocated() as u64, SeqCst);
        Ok(())
    }
}

#[tokio::test]
async fn an_object_of_many_ranges_is_read_in_bounded_memory() {
    const { assert!(OBJECT_BYTES > HELD_BYTES_MAX + (32 << 20), "all of it would not fit") };
    let line = b"2026-01-01T00:00:00Z INFO a line of some length, as there are many in a log\n";
    let object: Bytes = line.repeat(OBJECT_BYTES / line.len()).into();
    let lines = (object.len() / line.len()) as u64;
    emulated::done("PUT", "/weir-large", &[], &[]);
    let bucket = emulated::bucket("weir-large");
    bucket.put("app.log", object, Putting::Always).await.unwrap();
    let before = HEAP.allocated();
    let (tell, told) = mpsc::channel(1);
    let wanted = Wanted { key: "app.log".into(), ..Wanted::default() };
    tell.send(Next::Open(ToOpen { bucket, wanted, id: None, tag: Some(7) })).await.unwrap();
    drop(tell);
    let options = Options {
        tenant: "local".into(),
        service: None,
        as_name: None,
        again: false,
        codec: Codec::Lz4,
        target: Target::Lines(512 << 10),
        now_ms: 0,
        definitions: None,
    };
    let (counting, progress) = (Counting::default(), Arc::default());
    let inputs = Inputs { paths: vec![], stdin: Box::new(std::io::empty()), objects: Some(open_ahead(told)) };
    let report = ingest_all(inputs, options, None, &counting, progress).await;
    let [file] = report.files.try_into().unwrap_or_else(|files| panic!("one object: {files:?}"));
    assert!(matches!(file.outcome, Outcome::Ingested { .. }) && file.tag == Some(7), "{file:?}");
    assert_eq!(counting.lines.load(SeqCst), lines);
    let most = counting.most.load(SeqCst) as usize - before;
    println!("at most {} MiB for an object of {} MiB", most >> 20, OBJECT_BYTES >> 20);
    assert!(most < HELD_BYTES_MAX, "{} MiB were held", most >> 20);
}
