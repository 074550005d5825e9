//! The archive and the stream behind it pass the law suite of the Stream port: what is appended goes to the stream, is archived at once, and is let go
//! of there, so that most of what is read comes from the archive.

use std::sync::{Arc, atomic::AtomicI64};

use events::{
    position::{HashKey, SequenceNumber, ShardId},
    stream::{
        AppendError, Appended, Limits, Page, Put, ReadError, ReadOnly, Refused, Shard, Start, Stream,
        law::{Resharder, reshard_suite, suite, what_was_trimmed_is_said},
    },
};
use processor::archive::archived::Archived;
use projections::store::law::block_on;

use crate::{
    local::START_MS,
    objects::Memory,
    retained::Retained,
    world::{World, eager, work},
};

/// Archives before each read.
struct Archiving {
    world: World,
    /// The stream lets go of what is archived, but for the newest record: as strict as Kinesis is, that is what joins the two.
    lets_go: bool,
    /// Each append is archived alone.
    archives_each: bool,
}

impl Archiving {
    fn new(shards: u16, lets_go: bool) -> Self {
        let clock = Arc::new(AtomicI64::new(START_MS));
        let stamps = clock.clone();
        let ticking = move || stamps.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let opened = events::embedded::Embedded::open(
            events::embedded::disk::simulated::SimulatedDisk::new(1),
            ticking,
            crate::local::options(shards),
        );
        let live = Arc::new(Retained::new(Arc::new(opened.unwrap())));
        let world = World { clock, live, objects: Arc::new(Memory::paged(3)), settings: eager() };
        Self { world, lets_go, archives_each: false }
    }

    async fn whole(&self) -> Archived<Retained<crate::local::LocalStream>, Memory> {
        let world = &self.world;
        for shard in &world.shards() {
            let mut archiver = world.archiver(shard);
            work(&mut archiver);
            let through = archiver.archived_through();
            let segments = block_on(world.reader().segments(&shard.id, SequenceNumber::ZERO)).unwrap();
            if let (true, Some(before)) = (self.lets_go, segments.last()) {
                world.live.trim(&shard.id, *before);
            }
            assert!(through >= world.live.inner.tip(&shard.id).unwrap());
        }
        Archived::open(ReadOnly::new(world.live.clone()), world.reader()).await.unwrap()
    }
}

impl Stream for Archiving {
    async fn append(&self, puts: Vec<Put>) -> Result<Vec<Result<Appended, Refused>>, AppendError> {
        let answers = self.world.live.append(puts).await;
        // Segments are small where some of them are to go.
        if self.archives_each {
            drop(self.whole().await);
        }
        answers
    }

    async fn shards(&self) -> Result<Vec<Shard>, ReadError> {
        self.whole().await.shards().await
    }

    async fn read(&self, shard: &ShardId, from: Start, limits: Limits) -> Result<Page, ReadError> {
        self.whole().await.read(shard, from, limits).await
    }
}

struct Cut;

impl Resharder<Archiving> for Cut {
    async fn split(&self, stream: &Archiving, shard: &Shard, at: HashKey) {
        stream.world.live.inner.split(&shard.id, at).unwrap();
    }

    async fn merge(&self, stream: &Archiving, lower: &Shard, upper: &Shard) {
        stream.world.live.inner.merge(&lower.id, &upper.id).unwrap();
    }
}

#[test]
fn the_archive_with_the_stream_behind_it_keeps_the_laws_of_a_stream() {
    for lets_go in [false, true] {
        block_on(suite(async |shards| {
            let archiving = Archiving::new(shards.get(), lets_go);
            drop(archiving.world.writer());
            archiving
        }));
    }
}

#[test]
fn it_keeps_the_laws_of_splits_and_merges() {
    for lets_go in [false, true] {
        block_on(reshard_suite(
            async |shards| {
                let archiving = Archiving::new(shards.get(), lets_go);
                drop(archiving.world.writer());
                archiving
            },
            &Cut,
        ));
    }
}

#[test]
fn an_archive_whose_beginning_was_removed_is_as_a_stream_that_was_trimmed() {
    let archiving = Archiving { archives_each: true, ..Archiving::new(1, true) };
    drop(archiving.world.writer());
    block_on(what_was_trimmed_is_said(&archiving, async |stream, shard, through| {
        // As many segments as hold it, as a rule of a bucket would remove them by their age.
        let world = &stream.world;
        for after in world.reader().segments(shard, SequenceNumber::ZERO).await.unwrap() {
            if after <= through {
                world.objects.take(&events::archive::name(shard, after).unwrap());
            }
        }
    }));
}
