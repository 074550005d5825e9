//! Who waits, with threads on a real folder: readers for records, appends for their sync. No test here depends on how long anything takes.

use std::{
    pin::pin,
    task::{Context, Poll, Waker},
};

use super::*;

fn threaded() -> (tempfile::TempDir, Embedded<RealDisk>) {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { segment_bytes: 1 << 20, ..Options::default() };
    let stream = open(&RealDisk::in_folder(folder.path()).unwrap(), options);
    (folder, stream)
}

const PATIENT: Limits = Limits { wait: Duration::from_secs(3600), ..LIMITS };

#[test]
fn a_waiting_read_returns_as_soon_as_a_record_is_durable() {
    for from in [Start::TrimHorizon, Start::Latest, Start::AtTimestamp(0), Start::After(SequenceNumber::ZERO)] {
        let (_folder, stream) = threaded();
        let shard = ShardId::numbered(0);
        std::thread::scope(|scope| {
            let mut read = pin!(stream.read(&shard, from, PATIENT));
            assert!(read.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending(), "there is nothing yet");
            scope.spawn(|| append(&stream, vec![put("k", b"here".to_vec())]));
            let page = block_on(read).unwrap();
            assert_eq!(&page.records[0].data[..], b"here", "from {from:?}");
        });
    }
}

#[test]
fn a_waiting_read_comes_back_empty_when_its_time_is_over() {
    let (_folder, stream) = threaded();
    let limits = Limits { wait: Duration::from_millis(20), ..LIMITS };
    let page = block_on(stream.read(&ShardId::numbered(0), Start::TrimHorizon, limits)).unwrap();
    assert_eq!((page.records.len(), page.next), (0, Some(Start::TrimHorizon)));
}

#[test]
fn closing_ends_waiting_reads_and_later_calls_and_frees_the_folder() {
    let (folder, stream) = threaded();
    append(&stream, vec![put("k", vec![1])]);
    let shard = ShardId::numbered(0);
    std::thread::scope(|scope| {
        let mut read = pin!(stream.read(&shard, Start::Latest, PATIENT));
        assert!(read.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        scope.spawn(|| stream.close());
        assert!(matches!(block_on(read), Err(ReadError::Unavailable(_))));
    });
    stream.close();
    assert!(matches!(block_on(stream.append(vec![put("k", vec![2])])), Err(AppendError::NotAppended(_))));
    let again = open(&RealDisk::in_folder(folder.path()).unwrap(), Options::default());
    assert_eq!(read_all(&again, 0, Start::TrimHorizon).unwrap().len(), 1);
}

#[test]
fn an_append_whose_caller_went_away_neither_loses_others_nor_blocks_them() {
    let (_folder, stream) = threaded();
    for i in 0..200u8 {
        let mut gone = Box::pin(stream.append(vec![put("gone", vec![i; 50_000])]));
        let poll = gone.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        drop(gone);
        if i % 10 == 0 {
            append(&stream, vec![put("kept", vec![i; 10])]);
        }
        // Handed over or not, as the queue had room: both are fine.
        assert!(matches!(poll, Poll::Pending | Poll::Ready(Ok(_))));
    }
    let kept = read_all(&stream, 0, Start::TrimHorizon).unwrap();
    assert_eq!(kept.iter().filter(|record| record.partition_key == "kept").count(), 20);
}

#[test]
fn more_than_the_queue_holds_waits_its_turn_and_is_all_appended() {
    let (_folder, stream) = threaded();
    let big = Bytes::from(vec![1; 1 << 19]);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| append(&stream, vec![put("k", big.clone()); 40]));
        }
    });
    let all = read_all(&stream, 0, Start::TrimHorizon).unwrap();
    assert_eq!(all.len(), 120);
    assert!(all.iter().all(|record| record.data == big));
}

#[test]
fn what_was_handed_over_before_closing_is_durable() {
    let (folder, stream) = threaded();
    let mut appends: Vec<_> = (0..50u8).map(|i| Box::pin(stream.append(vec![put("k", vec![i])]))).collect();
    for append in &mut appends {
        assert!(append.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    stream.close();
    for append in appends {
        assert!(block_on(append).unwrap()[0].is_ok());
    }
    drop(stream);
    let again = open(&RealDisk::in_folder(folder.path()).unwrap(), Options::default());
    assert_eq!(read_all(&again, 0, Start::TrimHorizon).unwrap().len(), 50);
}
