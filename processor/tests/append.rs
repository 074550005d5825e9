//! What `append_all` makes of the answers of a stream.
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::Mutex;

use bytes::Bytes;
use events::{
    position::{SequenceNumber, ShardId},
    stream::{APPEND_RECORDS_MAX, AppendError, Appended, Limits, Page, Put, ReadError, Refused, Shard, Start, Stream},
};
use processor::append::append_all;

type Answer = Result<Vec<Result<Appended, Refused>>, AppendError>;

/// Answers as it was told to, and remembers every call.
struct Scripted<F> {
    answer: F,
    calls: Mutex<Vec<Vec<Put>>>,
}

impl<F: Fn(usize, &[Put]) -> Answer + Send + Sync> Scripted<F> {
    fn new(answer: F) -> Self {
        Self { answer, calls: Mutex::default() }
    }

    fn calls(&self) -> Vec<Vec<Put>> {
        self.calls.lock().unwrap().clone()
    }
}

impl<F: Fn(usize, &[Put]) -> Answer + Send + Sync> Stream for Scripted<F> {
    async fn append(&self, puts: Vec<Put>) -> Answer {
        let mut calls = self.calls.lock().unwrap();
        let answer = (self.answer)(calls.len(), &puts);
        calls.push(puts);
        answer
    }

    async fn shards(&self) -> Result<Vec<Shard>, ReadError> {
        Ok(vec![])
    }

    async fn read(&self, shard: &ShardId, _: Start, _: Limits) -> Result<Page, ReadError> {
        Err(ReadError::NoSuchShard(shard.clone()))
    }
}

/// Its time passes when nobody works.
fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(test);
}

fn put(number: usize, bytes: usize) -> Put {
    Put { partition_key: number.to_string(), hash_key: None, data: Bytes::from(vec![0; bytes]) }
}

fn taken() -> Result<Appended, Refused> {
    Ok(Appended { shard: ShardId::numbered(0), sequence: SequenceNumber::ZERO })
}

fn all_taken(puts: &[Put]) -> Answer {
    Ok(puts.iter().map(|_| taken()).collect())
}

#[test]
fn a_record_that_no_stream_takes_is_refused_at_once_and_says_why() {
    run(async {
        let stream =
            Scripted::new(|_, puts: &[Put]| Ok(puts.iter().map(|put| put.check().and_then(|()| taken())).collect()));
        let why = append_all(&stream, vec![put(0, 1), put(1, 2 << 20), put(2, 1)]).await.unwrap_err();
        assert!(why.contains("2097153 bytes, at most 1048576 are taken"), "{why}");
        assert_eq!(stream.calls().len(), 1);
    });
}

#[test]
fn what_was_refused_is_appended_again_and_nothing_else() {
    run(async {
        let stream = Scripted::new(|call, puts: &[Put]| match call {
            0 => Ok(vec![taken(), Err(Refused::Throttled), Err(Refused::Failed)]),
            1 => Err(AppendError::Unknown("the line was cut".into())),
            2 => Ok(vec![taken(), Err(Refused::Failed)]),
            _ => all_taken(puts),
        });
        append_all(&stream, vec![put(0, 1), put(1, 1), put(2, 1)]).await.unwrap();
        let keys: Vec<String> = stream
            .calls()
            .iter()
            .map(|puts| puts.iter().map(|put| put.partition_key.as_str()).collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(keys, ["0 1 2", "1 2", "1 2", "2"]);
    });
}

#[test]
fn who_gives_up_says_the_last_refusal_and_not_another() {
    run(async {
        for (refused, words) in [(Refused::Failed, "the stream failed"), (Refused::Throttled, "over its rate")] {
            let stream = Scripted::new(|_, puts: &[Put]| Ok(puts.iter().map(|_| Err(refused.clone())).collect()));
            let why = append_all(&stream, vec![put(0, 1)]).await.unwrap_err();
            assert!(why.contains(words), "{why}");
            assert_eq!(stream.calls().len(), 5);
        }
        let stream = Scripted::new(|call, _: &[Put]| Err(AppendError::NotAppended(format!("cause {call}"))));
        assert_eq!(append_all(&stream, vec![put(0, 1)]).await.unwrap_err(), "cause 4");
    });
}

#[test]
fn any_number_of_records_goes_in_calls_that_a_stream_takes() {
    run(async {
        let stream = Scripted::new(|_, puts: &[Put]| all_taken(puts));
        append_all(&stream, vec![]).await.unwrap();
        assert_eq!(stream.calls().len(), 0);
        append_all(&stream, (0..1_201).map(|number| put(number, 1)).collect()).await.unwrap();
        append_all(&stream, (1_201..1_213).map(|number| put(number, 1 << 19)).collect()).await.unwrap();
        let calls = stream.calls();
        assert_eq!(calls[..3].iter().map(Vec::len).collect::<Vec<_>>(), [APPEND_RECORDS_MAX, APPEND_RECORDS_MAX, 201]);
        assert_eq!(calls[3..].iter().map(Vec::len).collect::<Vec<_>>(), [7, 5], "by their bytes");
        let keys: Vec<String> = calls.iter().flatten().map(|put| put.partition_key.clone()).collect();
        assert_eq!(keys, (0..1_213).map(|number| number.to_string()).collect::<Vec<_>>(), "each once, in order");
    });
}
