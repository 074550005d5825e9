//! An object is read in bounded memory however large it is, also behind the fourth GiB: what the heap holds while it is read, counted by the allocator, all
//! threads in it. The object is made up as it is asked for.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "parts/ranges.rs"]
mod ranges;

use std::{
    alloc,
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use cap::Cap;
use events::{
    cut,
    identity::SLICE_BYTES,
    pack::{Packed, Target},
    wire::{self, Codec},
};
use processor::{
    ingest::{
        Inputs, Options, Outcome, SendError, Sender, ingest_all,
        object::Announced,
        s3::{FIRST_BYTES, Next, RANGE_BYTES, RANGES_AHEAD, ToOpen, open_ahead},
    },
    s3::{Bucket, Wanted},
};
use ranges::{LINE, Ranges};
use tokio::sync::mpsc;

#[global_allocator]
static HEAP: Cap<alloc::System> = Cap::new(alloc::System, usize::MAX);

/// What is read of an object: sixteen ranges.
const READ_BYTES: u64 = 128 << 20;
/// Ranges on their way, one that waits and one that is read; batches, and buffers of those who read and send.
const HELD_BYTES_MAX: usize = FIRST_BYTES as usize + (RANGES_AHEAD + 2) * RANGE_BYTES as usize + (24 << 20);

/// Counts lines and the most that the heap held.
#[derive(Default)]
struct Counting {
    lines: AtomicU64,
    most: AtomicU64,
    extents: Mutex<Vec<Range<u64>>>,
}

impl Sender for Counting {
    async fn send(&self, packed: Packed) -> Result<(), SendError> {
        let batch = wire::decode(&packed.data).unwrap();
        let extent = batch.header.extent.unwrap();
        assert_eq!(packed.partition_key, extent.origin.partition_key("local", extent.from));
        self.extents.lock().unwrap().push(extent.from..extent.to);
        self.lines.fetch_add(cut::count_lines(&batch.body), SeqCst);
        self.most.fetch_max(HEAP.allocated() as u64, SeqCst);
        Ok(())
    }
}

/// Opens the object, and says from where on it is to be read.
async fn opened(object: &Ranges, from: u64) -> (mpsc::Receiver<Announced>, Arc<AtomicU64>) {
    let settings = emulators::settings!(aws_sdk_s3, &object.endpoint).force_path_style(true);
    let bucket = Bucket::new(aws_sdk_s3::Client::from_conf(settings.build()), "weir-large");
    let (tell, told) = mpsc::channel(1);
    let wanted = Wanted { key: "app.log".into(), ..Wanted::default() };
    tell.send(Next::Open(ToOpen { bucket, wanted, id: None, tag: Some(7) })).await.unwrap();
    drop(tell);
    let Some(Announced::One { name, id, tag, opened: Ok(mut object) }) = open_ahead(told).recv().await else {
        panic!("it is not open")
    };
    let durable = Arc::new(AtomicU64::new(from));
    object.durable = Some(durable.clone());
    let (tell, told) = mpsc::channel(1);
    tell.send(Announced::One { name, id, tag, opened: Ok(object) }).await.unwrap();
    (told, durable)
}

/// Reads an object of so many bytes from one on, and says how much the heap held.
async fn read(length: u64, from: u64) -> usize {
    let before = HEAP.allocated();
    let object = Ranges::start(length);
    let (told, durable) = opened(&object, from).await;
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
    let inputs = Inputs { paths: vec![], stdin: Box::new(std::io::empty()), objects: Some(told) };
    let report = ingest_all(inputs, options, None, &counting, progress).await;
    let [file] = report.files.try_into().unwrap_or_else(|files| panic!("one object: {files:?}"));
    let expected = length - from;
    assert!(matches!(file.outcome, Outcome::Ingested { bytes, .. } if bytes == expected), "{file:?}");
    assert_eq!((file.tag, durable.load(SeqCst)), (Some(7), length));
    assert_eq!(counting.lines.load(SeqCst), expected.div_ceil(LINE.len() as u64));
    let mut extents = counting.extents.into_inner().unwrap();
    extents.sort_by_key(|extent| extent.start);
    assert_eq!((extents[0].start, extents.last().unwrap().end), (from, length));
    assert!(extents.windows(2).all(|two| two[0].end == two[1].start));
    // A line belongs to the slice of its first byte.
    let slices = |extent: &Range<u64>| (extent.start / SLICE_BYTES, (extent.end - LINE.len() as u64) / SLICE_BYTES);
    assert!(extents.iter().map(slices).all(|(first, last)| first == last));
    let asked: u64 = object.asked().iter().map(|range| range.end - range.start).sum();
    assert!(asked <= expected + FIRST_BYTES + (64 << 10), "{asked} bytes were asked for");
    counting.most.load(SeqCst) as usize - before
}

#[tokio::test]
async fn an_object_of_any_length_is_read_in_bounded_memory() {
    const { assert!(READ_BYTES as usize > HELD_BYTES_MAX + (32 << 20), "all of it would not fit") };
    let behind = (6 << 30) / LINE.len() as u64 * LINE.len() as u64;
    for (length, from) in [(READ_BYTES, 0), (behind + READ_BYTES, behind)] {
        let begun = std::time::Instant::now();
        let most = read(length, from).await;
        println!(
            "at most {} MiB for {} MiB of an object of {} MiB, {:.1?}",
            most >> 20,
            READ_BYTES >> 20,
            length >> 20,
            begun.elapsed()
        );
        assert!(most < HELD_BYTES_MAX, "{} MiB were held", most >> 20);
    }
}
