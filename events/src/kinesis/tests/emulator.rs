//! Against kinesis-local: the port's laws, splits and merges, and streams that are missing.

use std::{
    num::NonZeroU16,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use super::{Kinesis, Missing, client, put, quick};
use crate::{
    kinesis::OpenError,
    position::{HashKey, ShardId},
    stream::{Put, Start, Stream, law},
};

fn fresh_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("kinesis-adapter-{}", COUNT.fetch_add(1, Relaxed))
}

async fn fresh(shards: NonZeroU16) -> Kinesis {
    let client = client(&emulators::kinesis().endpoint);
    let stream = Kinesis::open_with(client, &fresh_name(), Missing::Create(shards), quick()).await.unwrap();
    assert!(stream.was_created());
    stream
}

#[tokio::test]
async fn the_laws_of_the_stream_port_hold() {
    law::suite(fresh).await;
}

#[tokio::test]
async fn a_missing_stream_is_refused_and_one_that_is_there_is_used() {
    let (client, name) = (client(&emulators::kinesis().endpoint), fresh_name());
    let refused = Kinesis::open_with(client.clone(), &name, Missing::Refuse, quick()).await;
    assert_eq!(refused.unwrap_err(), OpenError::Missing(name.clone()));
    let create = Missing::Create(NonZeroU16::MIN);
    assert!(Kinesis::open_with(client.clone(), &name, create, quick()).await.unwrap().was_created());
    assert!(!Kinesis::open_with(client.clone(), &name, create, quick()).await.unwrap().was_created());
    let tags = client.list_tags_for_stream().stream_name(&name).send().await.unwrap();
    let tags: Vec<_> = tags.tags().iter().map(|tag| (tag.key(), tag.value().unwrap_or_default())).collect();
    assert!(tags.is_empty() || tags == [("created-by", "weir")], "{tags:?}");
}

/// Waits until a change of shards is done.
async fn settled(stream: &Kinesis, open: usize) -> Vec<crate::stream::Shard> {
    for _ in 0..1_000 {
        let shards = stream.shards().await.unwrap();
        if shards.iter().filter(|shard| !shard.closed).count() == open {
            return shards;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the change of shards did not end");
}

async fn active(stream: &Kinesis) {
    Kinesis::open_with(client(&emulators::kinesis().endpoint), stream.name(), Missing::Refuse, quick()).await.unwrap();
}

async fn read_all(stream: &Kinesis, shard: &ShardId) -> (Vec<Vec<u8>>, bool) {
    let (mut all, mut from, mut idle) = (vec![], Start::TrimHorizon, 0);
    while idle < 3 {
        let page = stream.read(shard, from, super::limits(2, usize::MAX)).await.unwrap();
        idle = if page.records.is_empty() && page.behind_ms == 0 { idle + 1 } else { 0 };
        all.extend(page.records.iter().map(|record| record.data.to_vec()));
        match page.next {
            Some(next) => from = next,
            None => return (all, true),
        }
    }
    (all, false)
}

#[tokio::test]
async fn a_parent_is_read_to_its_end_and_children_name_it() {
    let stream = fresh(NonZeroU16::MIN).await;
    let client = client(&emulators::kinesis().endpoint);
    let to = |key: u128, data: &[u8]| Put { hash_key: Some(HashKey(key)), ..put("k", data) };
    stream.append((0..5).map(|i| to(0, &[i])).collect()).await.unwrap();
    let parent = stream.shards().await.unwrap()[0].clone();
    assert!(!read_all(&stream, &parent.id).await.1, "an open shard has no end");
    let middle = (1u128 << 127).to_string();
    let split = client.split_shard().stream_name(stream.name()).shard_to_split(parent.id.as_str());
    split.new_starting_hash_key(middle).send().await.unwrap();
    let shards = settled(&stream, 2).await;
    active(&stream).await;
    assert_eq!((&shards[0].id, shards[0].closed), (&parent.id, true), "parents come first");
    assert!(shards[1..].iter().all(|child| child.parents == [parent.id.clone()] && !child.closed));
    for (key, data) in [(0, [10]), (u128::MAX, [11])] {
        let answers = stream.append(vec![to(key, &data)]).await.unwrap();
        let owner = shards[1..].iter().find(|shard| shard.range.contains(HashKey(key))).unwrap();
        assert_eq!(answers[0].as_ref().unwrap().shard, owner.id, "a child took it");
    }
    let (mut records, ended) = read_all(&stream, &parent.id).await;
    records.sort();
    assert_eq!((records, ended), ((0..5).map(|i| vec![i]).collect(), true));

    let merge = client.merge_shards().stream_name(stream.name()).shard_to_merge(shards[1].id.as_str());
    merge.adjacent_shard_to_merge(shards[2].id.as_str()).send().await.unwrap();
    let merged = settled(&stream, 1).await;
    active(&stream).await;
    let last = merged.last().unwrap();
    let mut parents = last.parents.clone();
    parents.sort();
    assert_eq!(parents, [shards[1].id.clone(), shards[2].id.clone()]);
    stream.append(vec![to(5, &[12])]).await.unwrap();
    for (shard, data) in [(&shards[1], 10), (&shards[2], 11)] {
        let shard_data = read_all(&stream, &shard.id).await;
        let expected = if shard.range.contains(HashKey(0)) { 10 } else { 11 };
        assert_eq!(shard_data, (vec![vec![expected]], true), "{data}");
    }
    assert_eq!(read_all(&stream, &last.id).await, (vec![vec![12]], false));
}
