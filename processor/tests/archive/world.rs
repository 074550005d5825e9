//! A stream, its archive, and what is known to have been appended.

use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use events::{
    archive::Codec,
    position::ShardId,
    stream::{Limits, Put, ReadError, ReadOnly, Record, Shard, Start, Stream},
};
use processor::archive::{
    ArchiveError, Reader, Writer,
    archived::Archived,
    archiver::{Archiver, Settings, Step},
};
use projections::store::law::block_on;
use tokio::time::Instant;

use crate::{
    local::{self, LocalStream, START_MS},
    objects::Memory,
    retained::Retained,
};

pub const STREAM: &str = "stream of the test";
pub type Live = Retained<LocalStream>;
pub type Whole = Archived<Live, Memory>;

pub struct World {
    pub clock: Arc<AtomicI64>,
    pub live: Arc<Live>,
    pub objects: Arc<Memory>,
    pub settings: Settings,
}

/// Every page is a segment.
pub fn eager() -> Settings {
    Settings {
        segment_bytes: 1,
        age: Duration::from_secs(300),
        idle_pause: Duration::from_secs(10),
        codec: Codec::Zstd,
    }
}

impl World {
    pub fn new(shards: u16) -> Self {
        let clock = Arc::new(AtomicI64::new(START_MS));
        let live = Arc::new(Retained::new(local::stream(shards, &clock)));
        Self { clock, live, objects: Arc::new(Memory::paged(2)), settings: eager() }
    }

    /// Some records, each at a time of its own.
    pub fn append(&self, numbers: impl IntoIterator<Item = u32>) {
        for number in numbers {
            self.clock.fetch_add(1_000, Ordering::SeqCst);
            let data = Bytes::from(format!("record {number} ").repeat(1 + number as usize % 40));
            let put = Put { partition_key: format!("key {number}"), hash_key: None, data };
            let answers = block_on(self.live.append(vec![put])).unwrap();
            assert!(answers[0].is_ok());
        }
    }

    pub fn shards(&self) -> Vec<Shard> {
        block_on(self.live.shards()).unwrap()
    }

    pub fn shard(&self) -> ShardId {
        self.shards()[0].id.clone()
    }

    pub fn writer(&self) -> Writer<Memory> {
        loop {
            match block_on(Writer::open(self.objects.clone(), STREAM)) {
                Ok(writer) => return writer,
                Err(ArchiveError::Objects(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    pub fn reader(&self) -> Reader<Memory> {
        block_on(Reader::open(self.objects.clone(), STREAM)).unwrap()
    }

    pub fn archiver(&self, shard: &Shard) -> Archiver<Live, Memory> {
        let stream = ReadOnly::new(self.live.clone());
        block_on(Archiver::open(stream, self.writer(), shard.clone(), self.settings)).unwrap()
    }

    /// An archiver of each shard works until it has nothing more to do; each record that is there then is archived. What was lost is answered.
    pub fn archive(&self) -> Vec<String> {
        self.shards().iter().flat_map(|shard| work(&mut self.archiver(shard))).collect()
    }

    pub fn open(&self) -> Result<Arc<Whole>, ArchiveError> {
        let live = ReadOnly::new(self.live.clone());
        block_on(Archived::open(live, self.reader())).map(Arc::new)
    }

    /// Everything that was ever appended, from the stream below, which lets go of nothing.
    pub fn all(&self) -> BTreeMap<ShardId, Vec<Record>> {
        read_all(&*self.live.inner).unwrap()
    }
}

/// Works until it waits, and puts what it holds.
pub fn work(archiver: &mut Archiver<Live, Memory>) -> Vec<String> {
    let mut lost = vec![];
    for _ in 0..10_000 {
        match block_on(archiver.step()) {
            Ok(Step::Idle(_) | Step::Ended) => {
                // A put that fails is made again.
                loop {
                    let soon = Instant::now() + Duration::from_secs(60);
                    if let Ok(is_all) = block_on(archiver.finish(soon, |more| lost.push(more))) {
                        assert!(is_all, "a minute is enough");
                        return lost;
                    }
                }
            }
            Ok(Step::Lost(why)) => lost.push(why),
            Ok(Step::Read | Step::Archived) => {}
            Err(ArchiveError::Objects(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the archiver never comes to an end");
}

pub fn limits(records: usize) -> Limits {
    Limits { records: NonZeroUsize::new(records).unwrap(), bytes: usize::MAX, wait: Duration::ZERO }
}

/// All records of a shard from there on, by pages of a few.
pub fn read<S: Stream>(stream: &S, shard: &ShardId, mut from: Start) -> Result<Vec<Record>, ReadError> {
    let mut all = vec![];
    for _ in 0..10_000 {
        let page = block_on(stream.read(shard, from, limits(7)))?;
        let is_done = page.records.is_empty() && page.behind_ms == 0;
        all.extend(page.records);
        match page.next {
            Some(next) if !is_done => from = next,
            _ => return Ok(all),
        }
    }
    panic!("{shard} never ends");
}

pub fn read_all<S: Stream>(stream: &S) -> Result<BTreeMap<ShardId, Vec<Record>>, ReadError> {
    let shards = block_on(stream.shards())?;
    shards.into_iter().map(|shard| Ok((shard.id.clone(), read(stream, &shard.id, Start::TrimHorizon)?))).collect()
}
