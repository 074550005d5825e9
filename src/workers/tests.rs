//! Workers on a pair in a folder that is treated as one that others work on too.
#![allow(clippy::unwrap_used)]

use std::num::NonZeroU16;

use events::{
    embedded::{Options, disk::RealDisk},
    stream::Put,
};

use projections::store::Store;

use super::*;
use crate::{LocalStore, LocalStream, now_ms};

/// Another process may have it as well.
const SHARED: Manner = Manner { is_alone: false, ..Manner::LOCAL };

fn workers(folder: &std::path::Path) -> Arc<Workers> {
    let disk = RealDisk::in_folder(folder.join("stream")).unwrap();
    let options = Options { shards: NonZeroU16::new(2).unwrap(), ..Options::default() };
    let stream = LocalStream::open(disk, now_ms, options).unwrap();
    let store = LocalStore::open(&folder.join("rows.redb")).unwrap();
    Workers::new(Arc::new(AnyStream::Local(stream)), Arc::new(AnyStore::Local(store)), SHARED, None)
}

async fn over(workers: &Workers) {
    while !workers.running().is_empty() {
        tokio::time::sleep(STOP_LOOK).await;
    }
}

#[tokio::test]
async fn a_shard_that_is_gone_from_the_list_is_said_as_a_loss_and_the_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let workers = workers(folder.path());
    let shards = workers.stream.shards().await.unwrap();
    let gone = Shard { id: ShardId::numbered(77), ..shards[0].clone() };
    workers.start(workers.place_of(&gone, &shards), None).unwrap();
    over(&workers).await;
    assert_eq!(workers.ledger.why_stopped(), None);
    assert_eq!(workers.ended(), [(gone.id, true)]);
    let losses = workers.notes.losses();
    assert!(losses.len() == 1 && losses[0].contains("shardId-000000000077: it is gone from the stream"), "{losses:?}");
    assert!(losses[0].contains("never folded"), "{losses:?}");
    workers.end();
}

#[tokio::test]
async fn a_worker_that_is_told_to_end_has_committed_what_it_folded_and_another_may_begin() {
    let folder = tempfile::tempdir().unwrap();
    let workers = workers(folder.path());
    let shards = workers.stream.shards().await.unwrap();
    let append = async |line: &'static str| {
        let put = Put {
            partition_key: "k".into(),
            hash_key: Some(shards[0].range.from),
            data: bytes::Bytes::from_static(line.as_bytes()),
        };
        workers.stream.append(vec![put]).await.unwrap().remove(0).unwrap().sequence
    };
    for line in ["one line\n", "another line\n"] {
        let at = append(line).await;
        workers.start(workers.place_of(&shards[0], &shards), None).unwrap();
        workers.start(workers.place_of(&shards[1], &shards), None).unwrap();
        workers.want(&shards[0].id, at);
        while workers.ledger.applied_through().iter().all(|(shard, through)| *shard != shards[0].id || *through < at) {
            tokio::time::sleep(STOP_LOOK).await;
        }
        workers.tell(&shards[0].id);
        while workers.running().contains(&shards[0].id) {
            tokio::time::sleep(STOP_LOOK).await;
        }
        assert_eq!(workers.running(), [shards[1].id.clone()], "the other is not told");
        let point = workers.store.resume_point(Generation::default(), &shards[0].id).await.unwrap().unwrap();
        assert!(point.position >= at);
        workers.tell(&shards[1].id);
        over(&workers).await;
    }
    workers.end();
}
