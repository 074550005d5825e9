//! Records that were handed over, over a stream that may have more before, between and behind them.
#![allow(clippy::unwrap_used)]
use std::{collections::VecDeque, sync::atomic::AtomicUsize, sync::atomic::Ordering::SeqCst};

use bytes::Bytes;

use super::*;

/// A shard that keeps these records, and answers reads of it from a script where there is one.
struct Kept {
    records: Vec<u64>,
    reads: AtomicUsize,
    script: Mutex<VecDeque<Result<Page, ReadError>>>,
}

fn at(number: u64) -> SequenceNumber {
    number.to_string().parse().unwrap()
}

fn record(number: u64) -> Record {
    let data = Bytes::from(number.to_string());
    Record { sequence: at(number), arrived_at_ms: number as i64 * 1_000, partition_key: "k".into(), data }
}

fn shard() -> ShardId {
    ShardId::numbered(0)
}

impl Stream for Kept {
    async fn append(&self, _: Vec<Put>) -> Result<Vec<Result<Appended, Refused>>, AppendError> {
        Ok(vec![])
    }

    async fn shards(&self) -> Result<Vec<Shard>, ReadError> {
        Ok(vec![])
    }

    async fn read(&self, of: &ShardId, from: Start, limits: Limits) -> Result<Page, ReadError> {
        self.reads.fetch_add(1, SeqCst);
        if let Some(answer) = held(&self.script).pop_front() {
            return answer;
        }
        let after = match from {
            Start::TrimHorizon => SequenceNumber::ZERO,
            Start::After(position) => position,
            _ => unreachable!("nobody asks for {from:?}"),
        };
        let oldest = self.records.first().map(|first| at(*first));
        if let (Start::After(asked), Some(oldest)) = (from, oldest)
            && asked < oldest
        {
            return Err(ReadError::Trimmed { shard: of.clone(), asked, oldest });
        }
        let found = self.records.iter().filter(|number| at(**number) > after).take(limits.records.get());
        let records: Vec<Record> = found.map(|number| record(*number)).collect();
        let last = records.last().map_or(from, |last| Start::After(last.sequence));
        Ok(Page { records, next: Some(last), behind_ms: 0 })
    }
}

fn over(records: impl IntoIterator<Item = u64>) -> Delivered<Kept> {
    let records = records.into_iter().collect();
    Delivered::new(Arc::new(Kept { records, reads: AtomicUsize::new(0), script: Mutex::default() }))
}

const LIMITS: Limits = Limits { records: NonZeroUsize::new(3).unwrap(), bytes: 1 << 20, wait: Duration::ZERO };

/// Reads on from a place until a position, and says the numbers.
async fn numbers(delivered: &Delivered<Kept>, from: Start, through: u64) -> Result<Vec<u64>, ReadError> {
    let (mut from, mut found) = (from, vec![]);
    loop {
        let page = delivered.read(&shard(), from, LIMITS).await?;
        assert!(page.records.len() <= LIMITS.records.get());
        found.extend(page.records.iter().map(|record| String::from_utf8_lossy(&record.data).parse::<u64>().unwrap()));
        from = page.next.unwrap();
        if found.last().is_some_and(|last| *last >= through) {
            return Ok(found);
        }
    }
}

#[tokio::test]
async fn what_follows_on_the_resume_point_is_not_read_from_the_stream_but_for_one_look() {
    let delivered = over(1..=9);
    delivered.hand_over(shard(), (4..=9).map(record).collect());
    assert!(delivered.follows(&shard(), at(3)).await.unwrap());
    assert_eq!(numbers(&delivered, Start::After(at(3)), 9).await.unwrap(), [4, 5, 6, 7, 8, 9]);
    assert_eq!(delivered.stream.reads.load(SeqCst), 1);
    // A retry from the middle needs none.
    delivered.hand_over(shard(), (4..=9).map(record).collect());
    assert_eq!(numbers(&delivered, Start::After(at(6)), 9).await.unwrap(), [7, 8, 9]);
    assert_eq!(delivered.stream.reads.load(SeqCst), 1);
}

#[tokio::test]
async fn records_before_those_that_were_handed_over_come_from_the_stream_and_none_twice() {
    for first in 2..=9 {
        let delivered = over(1..=9);
        delivered.hand_over(shard(), (first..=9).rev().map(record).collect());
        assert_eq!(delivered.follows(&shard(), SequenceNumber::ZERO).await.unwrap(), first == 1, "{first}");
        let all: Vec<u64> = (1..=9).collect();
        assert_eq!(numbers(&delivered, Start::TrimHorizon, 9).await.unwrap(), all, "{first}");
        assert_eq!(numbers(&delivered, Start::After(at(1)), 9).await.unwrap(), all[1..], "{first}");
    }
}

#[tokio::test]
async fn behind_the_batch_and_on_other_shards_the_stream_answers() {
    let delivered = over(1..=9);
    delivered.hand_over(shard(), (2..=4).map(record).collect());
    assert_eq!(numbers(&delivered, Start::After(at(4)), 9).await.unwrap(), [5, 6, 7, 8, 9]);
    let other = delivered.read(&ShardId::numbered(7), Start::TrimHorizon, LIMITS).await.unwrap();
    assert_eq!(other.records[0].sequence, at(1));
    delivered.forget();
    assert!(!delivered.follows(&shard(), at(3)).await.unwrap());
    assert_eq!(numbers(&delivered, Start::After(at(3)), 9).await.unwrap(), [4, 5, 6, 7, 8, 9]);
}

#[tokio::test]
async fn what_the_stream_has_lost_before_the_batch_is_said_even_where_it_keeps_nothing_any_more() {
    let lost = |oldest| Err(ReadError::Trimmed { shard: shard(), asked: at(2), oldest: at(oldest) });
    for (kept, oldest) in [(5..10, 5), (0..0, 7)] {
        let delivered = over(kept);
        delivered.hand_over(shard(), (7..=9).map(record).collect());
        assert_eq!(numbers(&delivered, Start::After(at(2)), 9).await, lost(oldest));
        // Whoever has said it goes on with the oldest there is.
        let all: Vec<u64> = (oldest..=9).collect();
        assert_eq!(numbers(&delivered, Start::TrimHorizon, 9).await.unwrap(), all);
    }
}

#[tokio::test]
async fn a_shard_that_is_gone_has_lost_what_stood_before_the_batch() {
    let delivered = over([]);
    // Each look is two reads: what comes next, and what is kept at all.
    let gone = || held(&delivered.stream.script).extend((0..2).map(|_| Err(ReadError::NoSuchShard(shard()))));
    delivered.hand_over(shard(), (7..=9).map(record).collect());
    gone();
    let lost = ReadError::Trimmed { shard: shard(), asked: at(2), oldest: at(7) };
    assert_eq!(numbers(&delivered, Start::After(at(2)), 9).await, Err(lost));
    gone();
    assert_eq!(numbers(&delivered, Start::TrimHorizon, 9).await.unwrap(), [7, 8, 9]);
}

#[tokio::test]
async fn a_page_that_is_empty_although_more_will_come_is_no_sign_that_nothing_stands_between() {
    let delivered = over(1..=9);
    let empty = |behind_ms| Ok(Page { records: vec![], next: Some(Start::After(at(3))), behind_ms });
    for behind_ms in [0, 5] {
        delivered.hand_over(shard(), (6..=9).map(record).collect());
        held(&delivered.stream.script).push_back(empty(behind_ms));
        assert!(!delivered.follows(&shard(), at(3)).await.unwrap());
        assert_eq!(numbers(&delivered, Start::After(at(3)), 9).await.unwrap(), [4, 5, 6, 7, 8, 9]);
    }
}
