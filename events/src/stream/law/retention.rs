//! The law of retention: what is gone is said, and never left out in silence. For streams that let records go; how they do it is the caller's.

use super::{limits, only_shard, put, read_to_end};
use crate::{
    position::{SequenceNumber, ShardId},
    stream::{ReadError, Start, Stream},
};

/// On a fresh stream of one shard. `trim` lets go of the record at a position and of all before it, perhaps of some more, and never of all.
pub async fn what_was_trimmed_is_said<S: Stream>(stream: &S, trim: impl AsyncFn(&S, &ShardId, SequenceNumber)) {
    const TRIMMED: usize = 10;
    let shard = only_shard(stream).await;
    for i in 0..40 {
        super::append_one(stream, put("k", vec![i; 500])).await;
    }
    let whole = read_to_end(stream, &shard, Start::TrimHorizon).await;
    assert_eq!(whole.len(), 40);
    trim(stream, &shard, whole[TRIMMED].sequence).await;
    let kept = read_to_end(stream, &shard, Start::TrimHorizon).await;
    let gone = whole.len() - kept.len();
    assert!(gone > TRIMMED && !kept.is_empty(), "{gone} of 40 records are gone");
    assert_eq!(kept, whole[gone..], "what is kept did not change, and nothing between is missing");
    let oldest = kept[0].sequence;
    let read = async |from| stream.read(&shard, from, limits()).await;
    for (i, record) in whole[..gone].iter().enumerate() {
        let asked = record.sequence;
        let trimmed = Err(ReadError::Trimmed { shard: shard.clone(), asked, oldest });
        assert_eq!(read(Start::At(asked)).await, trimmed, "at record {i}, which is gone");
        let after = read(Start::After(asked)).await;
        if i + 1 < gone {
            assert_eq!(after, trimmed, "after record {i}, before others that are gone");
        } else {
            // Nothing that was to be read is gone; a stream that cannot know it may say that it may be.
            assert!(after == trimmed || after.is_ok_and(|page| page.records.first() == kept.first()));
        }
    }
    assert_eq!(read_to_end(stream, &shard, Start::At(oldest)).await, kept);
    assert_eq!(read_to_end(stream, &shard, Start::After(oldest)).await, kept[1..]);
    assert_eq!(read_to_end(stream, &shard, Start::AtTimestamp(1)).await, kept, "asked by time, the oldest is first");
    let sequence = super::append_one(stream, put("k", b"later".to_vec())).await;
    let later = read_to_end(stream, &shard, Start::After(kept[kept.len() - 1].sequence)).await;
    assert_eq!(later.iter().map(|record| record.sequence).collect::<Vec<_>>(), [sequence], "no position comes again");
}
