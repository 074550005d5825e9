//! Against kinesis-local: the port's laws, splits and merges, and streams that are missing.

use std::{
    num::NonZeroU16,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use aws_sdk_kinesis::{Client, types::StreamStatus};

use super::{Kinesis, Missing, client, quick};
use crate::{
    kinesis::OpenError,
    position::{HashKey, ShardId},
    stream::{
        Shard, Stream,
        law::{self, Resharder},
    },
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

struct Calls;

impl Resharder<Kinesis> for Calls {
    async fn split(&self, stream: &Kinesis, shard: &Shard, at: HashKey) {
        let client = client(&emulators::kinesis().endpoint);
        let call = client.split_shard().stream_name(stream.name()).shard_to_split(shard.id.as_str());
        call.new_starting_hash_key(at.0.to_string()).send().await.unwrap();
        settled(&client, stream, &shard.id).await;
    }

    async fn merge(&self, stream: &Kinesis, lower: &Shard, upper: &Shard) {
        let client = client(&emulators::kinesis().endpoint);
        let call = client.merge_shards().stream_name(stream.name()).shard_to_merge(lower.id.as_str());
        call.adjacent_shard_to_merge(upper.id.as_str()).send().await.unwrap();
        settled(&client, stream, &lower.id).await;
    }
}

/// Waits until the children of a shard are listed and the stream takes the next change.
async fn settled(client: &Client, stream: &Kinesis, parent: &ShardId) {
    for _ in 0..1_000 {
        let shards = stream.shards().await.unwrap();
        let summary = client.describe_stream_summary().stream_name(stream.name()).send().await.unwrap();
        let status = summary.stream_description_summary.unwrap().stream_status;
        if status == StreamStatus::Active && shards.iter().any(|shard| shard.parents.contains(parent)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the change of {parent} did not end");
}

#[tokio::test]
async fn the_laws_of_splits_and_merges_hold() {
    law::reshard_suite(fresh, &Calls).await;
}
