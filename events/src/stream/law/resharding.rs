//! The laws of splits and merges: parents close where they stand, children own their keys from then on, and nothing is lost or moved between. How
//! they are brought about is the caller's.

use std::num::NonZeroU16;

use super::{append_one, append_to, join, limits, put, read, read_to_end};
use crate::{
    position::{HashKey, HashRange, SequenceNumber, ShardId},
    stream::{Put, Shard, Start, Stream},
};

/// Splits and merges shards of the adapter under test; returns once the stream lists the children.
pub trait Resharder<S> {
    /// Closes a shard; its upper child begins at this key.
    fn split(&self, stream: &S, shard: &Shard, at: HashKey) -> impl Future<Output = ()>;

    /// Closes two neighbours.
    fn merge(&self, stream: &S, lower: &Shard, upper: &Shard) -> impl Future<Output = ()>;
}

/// Runs all laws of splits and merges, each on a fresh stream. Panics at the first that is broken, with its name.
pub async fn reshard_suite<S: Stream>(make: impl AsyncFn(NonZeroU16) -> S, resharder: &impl Resharder<S>) {
    let fresh = async |shards: u16| make(NonZeroU16::new(shards).expect("not zero")).await;
    a_split_gives_each_key_to_one_child(&fresh(1).await, resharder).await;
    a_merge_gives_all_keys_to_one_child(&fresh(2).await, resharder).await;
    a_closed_shard_is_read_to_its_end_from_anywhere(&fresh(1).await, resharder).await;
    children_split_and_merge_again(&fresh(2).await, resharder).await;
    what_is_appended_meanwhile_is_there_once(&fresh(1).await, resharder).await;
}

async fn a_split_gives_each_key_to_one_child<S: Stream>(stream: &S, resharder: &impl Resharder<S>) {
    let parent = only(stream).await;
    let before = fill(stream, 20).await;
    let at = HashKey(1 << 126);
    resharder.split(stream, &parent, at).await;
    let shards = listed(stream).await;
    let (old, children) = (shard(&shards, &parent.id), children_of(&shards, &[&parent]));
    assert!(old.closed && old.range == parent.range, "the parent stays listed, and is closed: {old:?}");
    let ranges: Vec<HashRange> = children.iter().map(|child| child.range).collect();
    let upper = HashRange { from: at, through: parent.range.through };
    assert_eq!(ranges, [HashRange { from: parent.range.from, through: HashKey(at.0 - 1) }, upper]);
    covers_the_ring(&shards);
    children_follow(stream, &[&parent], &children, &before).await;
}

async fn a_merge_gives_all_keys_to_one_child<S: Stream>(stream: &S, resharder: &impl Resharder<S>) {
    let mut parents = listed(stream).await;
    parents.sort_by_key(|parent| parent.range.from);
    let before = fill(stream, 20).await;
    resharder.merge(stream, &parents[0], &parents[1]).await;
    let shards = listed(stream).await;
    let parents: Vec<&Shard> = parents.iter().collect();
    assert!(parents.iter().all(|parent| shard(&shards, &parent.id).closed), "both are closed: {shards:?}");
    let children = children_of(&shards, &parents);
    assert_eq!(children.len(), 1, "{shards:?}");
    let mut named = children[0].parents.clone();
    named.sort();
    assert_eq!(named, parents.iter().map(|parent| parent.id.clone()).collect::<Vec<_>>(), "it names both");
    assert_eq!((children[0].range.from, children[0].range.through), (HashKey(0), HashKey(u128::MAX)));
    children_follow(stream, &parents, &children, &before).await;
}

/// The parents hold what they held, and end; new records go to the children, at positions past all of the parents'.
async fn children_follow<S: Stream>(
    stream: &S,
    parents: &[&Shard],
    children: &[Shard],
    before: &[(ShardId, SequenceNumber, Put)],
) {
    let mut newest = SequenceNumber::ZERO;
    for parent in parents {
        let own: Vec<_> = before.iter().filter(|(shard, ..)| *shard == parent.id).collect();
        let records = read_to_end(stream, &parent.id, Start::TrimHorizon).await;
        assert_eq!(records.len(), own.len(), "{} holds what it held", parent.id);
        for (record, (_, sequence, put)) in records.iter().zip(own) {
            assert_eq!((record.sequence, &record.data), (*sequence, &put.data), "in {}", parent.id);
            newest = newest.max(*sequence);
        }
    }
    for i in 0..40 {
        let key = format!("key {i}");
        let owner = children.iter().find(|child| child.range.contains(HashKey::of(&key))).expect("a child owns it");
        let answers = stream.append(vec![put(&key, vec![i])]).await.expect("appended");
        let appended = answers.into_iter().next().expect("one").expect("taken");
        assert_eq!(appended.shard, owner.id, "the key's MD5 decides among the children");
        assert!(appended.sequence > newest, "a lineage has one order: {:?} follows {newest:?}", appended.sequence);
    }
    for child in children {
        for hash_key in [child.range.from, child.range.through] {
            let put = Put { hash_key: Some(hash_key), ..put("k", b"by hash".to_vec()) };
            assert_eq!(append_to(stream, put).await, child.id, "both ends inclusive");
        }
        let records = read_to_end(stream, &child.id, Start::TrimHorizon).await;
        assert!(records.iter().all(|record| record.data.len() == 1 || &record.data[..] == b"by hash"), "begins empty");
        let page = read(stream, &child.id, Start::TrimHorizon, limits()).await;
        assert!(page.next.is_some(), "an open shard goes on");
    }
}

async fn a_closed_shard_is_read_to_its_end_from_anywhere<S: Stream>(stream: &S, resharder: &impl Resharder<S>) {
    let parent = only(stream).await;
    for i in 0..5u8 {
        append_one(stream, put("k", vec![i])).await;
    }
    let whole = read_to_end(stream, &parent.id, Start::TrimHorizon).await;
    let tip = whole[4].sequence;
    // A reader at the tip, which was told where to go on while the shard was open.
    let next = read(stream, &parent.id, Start::After(tip), limits()).await.next.expect("an open shard goes on");
    resharder.split(stream, &parent, HashKey(1 << 127)).await;
    for (from, left) in [
        (next, 0),
        (Start::TrimHorizon, 5),
        (Start::After(tip), 0),
        (Start::At(tip), 1),
        (Start::After(whole[1].sequence), 3),
        (Start::AtTimestamp(1), 5),
        (Start::Latest, 0),
    ] {
        let mut records = vec![];
        let mut from = Some(from);
        while let Some(start) = from {
            let page = read(stream, &parent.id, start, limits()).await;
            records.extend(page.records);
            assert!(records.len() <= 5, "a closed shard comes to an end");
            from = page.next;
        }
        assert_eq!(records, whole[5 - left..], "all that is left, then the end");
    }
}

async fn children_split_and_merge_again<S: Stream>(stream: &S, resharder: &impl Resharder<S>) {
    let mut first = listed(stream).await;
    first.sort_by_key(|shard| shard.range.from);
    let middle = HashKey(first[0].range.from.0 + (first[0].range.through.0 - first[0].range.from.0) / 2);
    // The lower one never has a record.
    resharder.split(stream, &first[0], middle).await;
    let shards = listed(stream).await;
    let upper = children_of(&shards, &[&first[0]]).remove(1);
    resharder.merge(stream, &upper, &first[1]).await;
    let shards = listed(stream).await;
    covers_the_ring(&shards);
    let child = children_of(&shards, &[&upper, &first[1]]).remove(0);
    assert_eq!((child.range.from, child.range.through), (middle, HashKey(u128::MAX)), "of one level and another");
    for (place, shard) in shards.iter().enumerate() {
        let is_before = |parent: &ShardId| shards[..place].iter().any(|of| of.id == *parent);
        assert!(shard.parents.iter().all(is_before), "parents before children: {shards:?}");
    }
    let page = read(stream, &upper.id, Start::TrimHorizon, limits()).await;
    assert_eq!((page.records.len(), page.next), (0, None), "one that never had a record ends too");
    assert_eq!(append_to(stream, Put { hash_key: Some(middle), ..put("k", vec![1]) }).await, child.id);
}

async fn what_is_appended_meanwhile_is_there_once<S: Stream>(stream: &S, resharder: &impl Resharder<S>) {
    let parent = only(stream).await;
    let calls = (0..20).map(|call| {
        let puts = (0..10).map(|i| put(&format!("{call}/{i}"), format!("{call}/{i}").into_bytes())).collect();
        stream.append(puts)
    });
    let appends = async { join(calls).await };
    let split = async {
        resharder.split(stream, &parent, HashKey(1 << 127)).await;
        vec![]
    };
    type Work<'a, T> = std::pin::Pin<Box<dyn Future<Output = Vec<T>> + 'a>>;
    let both: [Work<'_, _>; 2] = [Box::pin(appends), Box::pin(split)];
    let mut acknowledged = vec![];
    for answer in join(both.into_iter()).await.into_iter().flatten() {
        for appended in answer.expect("appended") {
            acknowledged.extend(appended.ok().map(|appended| (appended.shard, appended.sequence)));
        }
    }
    acknowledged.sort_unstable();
    let mut stored = vec![];
    for shard in listed(stream).await {
        let records = read_to_end(stream, &shard.id, Start::TrimHorizon).await;
        assert!(
            records.iter().all(|record| shard.range.contains(HashKey::of(&record.partition_key))),
            "where it belongs"
        );
        stored.extend(records.into_iter().map(|record| (shard.id.clone(), record.sequence)));
    }
    stored.sort_unstable();
    assert_eq!(stored, acknowledged, "each acknowledged record once, and no other");
}

/// So many records, each where its answer says.
async fn fill(stream: &impl Stream, count: u8) -> Vec<(ShardId, SequenceNumber, Put)> {
    let mut all = vec![];
    for i in 0..count {
        let put = put(&format!("key {i}"), vec![i; 3]);
        let answers = stream.append(vec![put.clone()]).await.expect("appended");
        let appended = answers.into_iter().next().expect("one").expect("taken");
        all.push((appended.shard, appended.sequence, put));
    }
    all
}

async fn listed(stream: &impl Stream) -> Vec<Shard> {
    stream.shards().await.expect("listed")
}

async fn only(stream: &impl Stream) -> Shard {
    let shards = listed(stream).await;
    assert_eq!(shards.len(), 1);
    shards.into_iter().next().expect("one")
}

fn shard<'a>(shards: &'a [Shard], id: &ShardId) -> &'a Shard {
    shards.iter().find(|shard| shard.id == *id).unwrap_or_else(|| panic!("{id} is not listed: {shards:?}"))
}

/// Those that name one of these as a parent, lower keys first.
fn children_of(shards: &[Shard], parents: &[&Shard]) -> Vec<Shard> {
    let is_child = |shard: &&Shard| parents.iter().any(|parent| shard.parents.contains(&parent.id));
    let mut children: Vec<Shard> = shards.iter().filter(is_child).cloned().collect();
    children.sort_by_key(|child| child.range.from);
    assert!(!children.is_empty() && children.iter().all(|child| !child.closed), "{shards:?}");
    children
}

fn covers_the_ring(shards: &[Shard]) {
    let mut open: Vec<HashRange> = shards.iter().filter(|shard| !shard.closed).map(|shard| shard.range).collect();
    open.sort_by_key(|range| range.from);
    assert_eq!((open[0].from, open[open.len() - 1].through), (HashKey(0), HashKey(u128::MAX)));
    assert!(open.windows(2).all(|pair| pair[0].through.0 + 1 == pair[1].from.0), "open shards leave no gap: {open:?}");
}
