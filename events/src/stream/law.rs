//! The laws of the Stream port: every adapter runs this suite, and is none until it passes. Knows nothing of how a stream works, and uses no
//! runtime, so that an adapter may bring its own.
//!
//! An adapter's test calls `suite` with a function that makes a fresh stream of so many shards. A stream may be a little slow to show what was
//! appended (`PATIENCE` says how slow), but may never show it wrongly. A stream that lets records go keeps `what_was_trimmed_is_said` as well,
//! one whose failures can be caused `what_failed_is_said_truly`, and one whose shards split and merge what `reshard_suite` says.

mod faults;
mod resharding;
mod retention;

use std::{
    collections::BTreeMap,
    future,
    num::{NonZeroU16, NonZeroUsize},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::Duration,
};

use bytes::Bytes;

pub use self::{
    faults::{Fault, what_failed_is_said_truly},
    resharding::{Resharder, reshard_suite},
    retention::what_was_trimmed_is_said,
};
use super::{
    APPEND_RECORDS_MAX, AppendError, Limits, PARTITION_KEY_CHARS_MAX, Page, Put, RECORD_BYTES_MAX, ReadError, Record,
    Refused, Start, Stream,
};
use crate::position::{HashKey, SequenceNumber, ShardId};

/// So many empty pages in a row that say that they are not behind, each after waiting for `WAIT`: the stream has nothing more.
const PATIENCE: usize = 3;
const WAIT: Duration = Duration::from_millis(10);
/// More pages than any law here reads: a stream that never ends is found.
const PAGES_MAX: usize = 10_000;

/// Runs all laws, each on fresh streams. Panics at the first that is broken, with its name.
pub async fn suite<S: Stream>(make: impl AsyncFn(NonZeroU16) -> S) {
    let fresh = async |shards: u16| make(NonZeroU16::new(shards).expect("not zero")).await;
    appended_records_are_read_in_order_byte_for_byte(&fresh(1).await).await;
    answers_stand_in_the_order_of_the_puts(&fresh(4).await).await;
    what_no_stream_takes_is_refused_alone(&fresh(1).await).await;
    an_append_of_nothing_or_of_too_much_changes_nothing(&fresh(1).await).await;
    the_longest_record_and_the_emptiest_come_back(&fresh(1).await).await;
    a_record_lands_on_the_shard_that_owns_its_hash(&fresh(4).await).await;
    shards_cover_the_ring_and_have_names(&fresh(3).await).await;
    paging_leaves_no_gap_and_repeats_nothing(&fresh(1).await).await;
    every_start_begins_where_it_says(&fresh(1).await).await;
    latest_skips_what_was_there_and_nothing_after(&fresh(1).await).await;
    reading_again_gives_the_same(&fresh(2).await).await;
    an_empty_shard_is_read_from_anywhere(&fresh(1).await).await;
    a_page_says_how_far_behind_it_is(&fresh(1).await).await;
    appends_at_the_same_time_all_happen(&fresh(2).await).await;
    an_unknown_shard_is_said(&fresh(1).await).await;
}

async fn appended_records_are_read_in_order_byte_for_byte(stream: &impl Stream) {
    let shard = only_shard(stream).await;
    let mut expected = Vec::new();
    for round in 0..5u8 {
        let puts: Vec<Put> = (0..7u8).map(|i| put(&format!("key {round} {i}"), vec![round, i, 0, 255])).collect();
        // One call for each: an adapter need not keep the order within a call.
        for one in puts {
            let sequence = append_one(stream, one.clone()).await;
            expected.push((sequence, one));
        }
    }
    let records = read_to_end(stream, &shard, Start::TrimHorizon).await;
    assert_eq!(records.len(), expected.len(), "every record once");
    for (record, (sequence, put)) in records.iter().zip(&expected) {
        assert_eq!(record.sequence, *sequence, "read where the append said");
        assert_eq!((&record.partition_key, &record.data), (&put.partition_key, &put.data));
    }
    assert!(records.windows(2).all(|pair| pair[0].sequence < pair[1].sequence), "numbers grow strictly");
    assert!(records[0].sequence > SequenceNumber::ZERO, "ZERO stands before every record");
    assert!(records.iter().all(|record| record.arrived_at_ms > 0), "every record has its stamp");
}

async fn answers_stand_in_the_order_of_the_puts(stream: &impl Stream) {
    let puts: Vec<Put> = (0..100).map(|i| put(&format!("key {i}"), i.to_string().into_bytes())).collect();
    let answers = stream.append(puts.clone()).await.expect("appended");
    assert_eq!(answers.len(), puts.len());
    let stored = read_all_shards(stream).await;
    for (put, answer) in puts.iter().zip(answers) {
        let appended = answer.expect("taken");
        let record = stored[&appended.shard].iter().find(|record| record.sequence == appended.sequence);
        let record = record.unwrap_or_else(|| panic!("{:?} is not where the answer says", put.partition_key));
        assert_eq!(record.data, put.data, "the answer is that of its put");
    }
    assert_eq!(stored.values().map(Vec::len).sum::<usize>(), puts.len());
}

async fn what_no_stream_takes_is_refused_alone(stream: &impl Stream) {
    let long_key = "k".repeat(PARTITION_KEY_CHARS_MAX + 1);
    let wide_key = "ü".repeat(PARTITION_KEY_CHARS_MAX);
    let puts = vec![
        put("good 1", b"1".to_vec()),
        put(&long_key, b"2".to_vec()),
        put("k", vec![0; RECORD_BYTES_MAX]),
        put("", b"4".to_vec()),
        put(&wide_key, b"5".to_vec()),
    ];
    let answers = stream.append(puts).await.expect("the others are appended");
    let refused: Vec<bool> = answers.iter().map(|answer| matches!(answer, Err(Refused::Invalid(_)))).collect();
    assert_eq!(refused, [false, true, true, true, false], "{answers:?}");
    let records = read_to_end(stream, &only_shard(stream).await, Start::TrimHorizon).await;
    let mut keys: Vec<&str> = records.iter().map(|record| record.partition_key.as_str()).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["good 1", &wide_key], "a key is measured in characters");
}

async fn an_append_of_nothing_or_of_too_much_changes_nothing(stream: &impl Stream) {
    assert_eq!(stream.append(Vec::new()).await, Ok(Vec::new()));
    let many = vec![put("k", b"x".to_vec()); APPEND_RECORDS_MAX + 1];
    let answer = stream.append(many.clone()).await;
    assert!(matches!(answer, Err(AppendError::NotAppended(_))), "{answer:?}");
    let shard = only_shard(stream).await;
    assert_eq!(read_to_end(stream, &shard, Start::TrimHorizon).await, []);
    let most = many[1..].to_vec();
    assert_eq!(stream.append(most).await.expect("that many are taken").len(), APPEND_RECORDS_MAX);
    assert_eq!(read_to_end(stream, &shard, Start::TrimHorizon).await.len(), APPEND_RECORDS_MAX);
}

async fn the_longest_record_and_the_emptiest_come_back(stream: &impl Stream) {
    let pattern = |len: usize| (0..len).map(|i| (i * 31 % 251) as u8).collect::<Vec<u8>>();
    for put in [put("k", Vec::new()), put("k", pattern(RECORD_BYTES_MAX - 1)), put("k", pattern(1))] {
        append_one(stream, put).await;
    }
    let records = read_to_end(stream, &only_shard(stream).await, Start::TrimHorizon).await;
    let sizes: Vec<usize> = records.iter().map(|record| record.data.len()).collect();
    assert_eq!(sizes, [0, RECORD_BYTES_MAX - 1, 1]);
    assert!(records.iter().all(|record| record.data == pattern(record.data.len())), "byte for byte");
}

async fn a_record_lands_on_the_shard_that_owns_its_hash(stream: &impl Stream) {
    let shards = stream.shards().await.expect("listed");
    for i in 0..40 {
        let key = format!("tenant/{i}");
        let owner = shards.iter().find(|shard| shard.range.contains(HashKey::of(&key))).expect("the ring is covered");
        assert_eq!(append_to(stream, put(&key, b"by key".to_vec())).await, owner.id, "the key's MD5 decides");
    }
    for shard in &shards {
        for hash_key in [shard.range.from, shard.range.through] {
            let put = Put { hash_key: Some(hash_key), ..put("tenant/0", b"by hash".to_vec()) };
            assert_eq!(append_to(stream, put).await, shard.id, "an explicit hash key decides, both ends inclusive");
        }
    }
}

async fn shards_cover_the_ring_and_have_names(stream: &impl Stream) {
    let mut shards = stream.shards().await.expect("listed");
    assert_eq!(shards.len(), 3);
    assert!(shards.iter().all(|shard| shard.parents.is_empty() && !shard.closed), "nothing was split or merged");
    shards.sort_by_key(|shard| shard.range.from);
    assert_eq!((shards[0].range.from, shards[2].range.through), (HashKey(0), HashKey(u128::MAX)));
    assert!(shards.windows(2).all(|pair| pair[0].range.through.0 + 1 == pair[1].range.from.0), "no gap, no overlap");
    assert!(shards[0].id != shards[1].id && shards[1].id != shards[2].id && shards[0].id != shards[2].id);
}

async fn paging_leaves_no_gap_and_repeats_nothing(stream: &impl Stream) {
    let shard = only_shard(stream).await;
    for i in 0..60usize {
        append_one(stream, put("k", vec![i as u8; i * 10])).await;
    }
    let whole = read_to_end(stream, &shard, Start::TrimHorizon).await;
    assert_eq!(whole.len(), 60);
    for (records, bytes) in [(1, usize::MAX), (7, usize::MAX), (60, usize::MAX), (1000, 1), (1000, 777), (1000, 0)] {
        let limits = Limits { records: NonZeroUsize::new(records).expect("not zero"), bytes, wait: WAIT };
        let mut all = Vec::new();
        let mut from = Start::TrimHorizon;
        for _ in 0..PAGES_MAX {
            let page = read(stream, &shard, from, limits).await;
            assert!(page.records.len() <= records, "no more records than asked for");
            let before_last: usize = page.records.iter().rev().skip(1).map(|record| record.data.len()).sum();
            assert!(
                page.records.len() <= 1 || before_last < bytes.max(1),
                "stops at the record that reaches the bytes"
            );
            all.extend(page.records);
            if all.len() >= whole.len() {
                break;
            }
            from = page.next.expect("an open shard goes on");
        }
        assert_eq!(all, whole, "pages of {records} records and {bytes} bytes");
    }
}

async fn every_start_begins_where_it_says(stream: &impl Stream) {
    let shard = only_shard(stream).await;
    for i in 0..10u8 {
        append_one(stream, put("k", vec![i])).await;
    }
    let whole = read_to_end(stream, &shard, Start::TrimHorizon).await;
    for (i, record) in whole.iter().enumerate() {
        assert_eq!(read_to_end(stream, &shard, Start::At(record.sequence)).await, whole[i..], "at record {i}");
        assert_eq!(
            read_to_end(stream, &shard, Start::After(record.sequence)).await,
            whole[i + 1..],
            "after record {i}"
        );
        let since =
            whole.iter().position(|other| other.arrived_at_ms >= record.arrived_at_ms).expect("this one at least");
        let read = read_to_end(stream, &shard, Start::AtTimestamp(record.arrived_at_ms)).await;
        assert_eq!(read, whole[since..], "since the time of record {i}");
    }
    assert_eq!(read_to_end(stream, &shard, Start::At(SequenceNumber::ZERO)).await, whole);
    assert_eq!(read_to_end(stream, &shard, Start::After(SequenceNumber::ZERO)).await, whole);
    assert_eq!(read_to_end(stream, &shard, Start::AtTimestamp(1)).await, whole);
    let newest = whole[9].arrived_at_ms;
    assert_eq!(read_to_end(stream, &shard, Start::AtTimestamp(newest + 1)).await, [], "nothing is so new");
}

async fn latest_skips_what_was_there_and_nothing_after(stream: &impl Stream) {
    let shard = only_shard(stream).await;
    append_one(stream, put("k", b"old".to_vec())).await;
    read_to_end(stream, &shard, Start::TrimHorizon).await;
    let page = read(stream, &shard, Start::Latest, limits()).await;
    assert_eq!(page.records, []);
    let next = page.next.expect("an open shard goes on");
    append_one(stream, put("k", b"new".to_vec())).await;
    let records = read_to_end(stream, &shard, next).await;
    assert_eq!(records.iter().map(|record| &record.data[..]).collect::<Vec<_>>(), [b"new"]);
}

async fn reading_again_gives_the_same(stream: &impl Stream) {
    for i in 0..30u8 {
        append_to(stream, put(&format!("key {i}"), vec![i; 100])).await;
    }
    let first = read_all_shards(stream).await;
    assert_eq!(read_all_shards(stream).await, first);
    for (shard, records) in &first {
        let Some(middle) = records.get(records.len() / 2) else { continue };
        let from = Start::At(middle.sequence);
        let once = read(stream, shard, from, limits()).await.records;
        let again = read(stream, shard, from, limits()).await.records;
        let both = once.len().min(again.len());
        assert_eq!(once[..both], again[..both], "the same place, the same records");
    }
}

async fn an_empty_shard_is_read_from_anywhere(stream: &impl Stream) {
    let shard = only_shard(stream).await;
    let mut nexts = Vec::new();
    for from in [Start::TrimHorizon, Start::Latest, Start::After(SequenceNumber::ZERO), Start::AtTimestamp(1)] {
        let page = read(stream, &shard, from, limits()).await;
        assert_eq!((page.records.len(), page.behind_ms), (0, 0), "from {from:?}");
        nexts.push((from, page.next.expect("an open shard goes on")));
    }
    let sequence = append_one(stream, put("k", b"x".to_vec())).await;
    for (from, next) in nexts {
        let records = read_to_end(stream, &shard, next).await;
        let read: Vec<SequenceNumber> = records.iter().map(|record| record.sequence).collect();
        assert_eq!(read, [sequence], "nothing is lost between two pages from {from:?}");
    }
}

async fn a_page_says_how_far_behind_it_is(stream: &impl Stream) {
    let shard = only_shard(stream).await;
    for _ in 0..3 {
        append_one(stream, put("k", b"x".to_vec())).await;
    }
    assert_eq!(read_to_end(stream, &shard, Start::TrimHorizon).await.len(), 3);
    let whole = read(stream, &shard, Start::TrimHorizon, limits()).await;
    if whole.records.len() == 3 {
        assert_eq!(whole.behind_ms, 0, "nothing more was readable");
    }
}

async fn appends_at_the_same_time_all_happen(stream: &impl Stream) {
    const CALLS: usize = 20;
    let calls = (0..CALLS).map(|call| {
        let puts = (0..10).map(|i| put(&format!("{call}/{i}"), format!("{call}/{i}").into_bytes())).collect();
        stream.append(puts)
    });
    let mut expected: BTreeMap<ShardId, Vec<SequenceNumber>> = BTreeMap::new();
    for answers in join(calls).await {
        for answer in answers.expect("appended") {
            let appended = answer.expect("taken");
            expected.entry(appended.shard).or_default().push(appended.sequence);
        }
    }
    let stored = read_all_shards(stream).await;
    for (shard, mut sequences) in expected {
        sequences.sort_unstable();
        let read: Vec<SequenceNumber> = stored[&shard].iter().map(|record| record.sequence).collect();
        assert_eq!(read, sequences, "each acknowledged record of {shard} once");
    }
    assert!(
        stored.values().flatten().all(|record| record.partition_key.as_bytes() == record.data),
        "none was mixed up"
    );
}

async fn an_unknown_shard_is_said(stream: &impl Stream) {
    let shard = ShardId::named("shardId-999999999999");
    let answer = stream.read(&shard, Start::TrimHorizon, limits()).await;
    assert_eq!(answer, Err(ReadError::NoSuchShard(shard)));
}

fn put(key: &str, data: Vec<u8>) -> Put {
    Put { partition_key: key.to_owned(), hash_key: None, data: Bytes::from(data) }
}

fn limits() -> Limits {
    Limits { records: NonZeroUsize::new(10_000).expect("not zero"), bytes: usize::MAX, wait: WAIT }
}

async fn only_shard(stream: &impl Stream) -> ShardId {
    let shards = stream.shards().await.expect("listed");
    assert_eq!(shards.len(), 1);
    shards[0].id.clone()
}

async fn append_one(stream: &impl Stream, put: Put) -> SequenceNumber {
    let answers = stream.append(vec![put]).await.expect("appended");
    assert_eq!(answers.len(), 1);
    answers.into_iter().next().expect("one").expect("taken").sequence
}

async fn append_to(stream: &impl Stream, put: Put) -> ShardId {
    let answers = stream.append(vec![put]).await.expect("appended");
    answers.into_iter().next().expect("one").expect("taken").shard
}

async fn read(stream: &impl Stream, shard: &ShardId, from: Start, limits: Limits) -> Page {
    stream.read(shard, from, limits).await.unwrap_or_else(|error| panic!("reading {shard} from {from:?}: {error}"))
}

/// All records from there on, until the shard has shown nothing new for `PATIENCE` pages.
async fn read_to_end(stream: &impl Stream, shard: &ShardId, mut from: Start) -> Vec<Record> {
    let mut all = Vec::new();
    let mut empty = 0;
    for _ in 0..PAGES_MAX {
        let page = read(stream, shard, from, limits()).await;
        empty = if page.records.is_empty() && page.behind_ms == 0 { empty + 1 } else { 0 };
        all.extend(page.records);
        match page.next {
            Some(next) if empty < PATIENCE => from = next,
            _ => return all,
        }
    }
    panic!("{shard} never ends");
}

async fn read_all_shards(stream: &impl Stream) -> BTreeMap<ShardId, Vec<Record>> {
    let mut all = BTreeMap::new();
    for shard in stream.shards().await.expect("listed") {
        let records = read_to_end(stream, &shard.id, Start::TrimHorizon).await;
        all.insert(shard.id, records);
    }
    all
}

/// Drives all futures at once, on this task.
async fn join<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<Pin<Box<F>>> = futures.map(Box::pin).collect();
    let mut done: Vec<Option<F::Output>> = running.iter().map(|_| None).collect();
    future::poll_fn(|context| {
        for (future, output) in running.iter_mut().zip(&mut done).filter(|(_, output)| output.is_none()) {
            if let Poll::Ready(ready) = future.as_mut().poll(context) {
                *output = Some(ready);
            }
        }
        if done.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    done.into_iter().flatten().collect()
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future to its end on this thread: for adapters that need no runtime.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
