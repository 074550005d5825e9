//! The law of failed appends: what an append says of a failure is true. For streams whose failures can be caused; how is the caller's.

use std::collections::BTreeMap;

use super::{put, read_all_shards};
use crate::stream::{AppendError, Appended, Put, Refused, Stream};

/// What becomes of an append, however often the adapter itself tries again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It happens, and the answer is lost.
    AnswersLost,
    /// It does not happen, and fails in a way that may leave that open.
    NothingDone,
    /// It does not happen, and the failure proves that.
    Refused,
    /// Some of its records are taken, others fail.
    RefusedInPart,
}

/// On a fresh stream. `arm` begins (true) and ends (false) the fault.
pub async fn what_failed_is_said_truly<S: Stream>(stream: &S, fault: Fault, arm: impl AsyncFn(bool)) {
    let puts: Vec<Put> = (0..10u8).map(|i| put(&format!("key {i}"), vec![i; 100])).collect();
    let before = stream.append(vec![put("before", b"before".to_vec())]).await.expect("nothing fails yet");
    arm(true).await;
    let answer = stream.append(puts.clone()).await;
    arm(false).await;
    let stored = read_all_shards(stream).await;
    let count = |put: &Put| stored.values().flatten().filter(|record| record.data == put.data).count();
    match (fault, &answer) {
        (Fault::AnswersLost, Err(AppendError::Unknown(_))) => {}
        // Where it did not happen, not to know is true as well.
        (Fault::NothingDone, Err(AppendError::Unknown(_))) => {}
        (Fault::NothingDone | Fault::Refused, Err(AppendError::NotAppended(_))) => {
            assert!(puts.iter().all(|put| count(put) == 0), "nothing was appended, it was said");
        }
        (Fault::NothingDone | Fault::Refused, Ok(answers)) => {
            assert!(answers.iter().all(Result::is_err), "nothing was done: {answers:?}");
            assert!(puts.iter().all(|put| count(put) == 0), "each was refused, it was said");
        }
        (Fault::RefusedInPart, Ok(answers)) => {
            assert_eq!(answers.len(), puts.len());
            assert!(answers.iter().any(Result::is_ok) && answers.iter().any(Result::is_err), "{answers:?}");
            for (put, answer) in puts.iter().zip(answers) {
                let refused = matches!(answer, Err(Refused::Throttled | Refused::Failed));
                assert!(answer.is_ok() || refused, "it may be taken later: {answer:?}");
                assert_eq!(count(put), usize::from(answer.is_ok()), "{answer:?}");
            }
        }
        (fault, answer) => panic!("{fault:?} was answered with {answer:?}"),
    }
    let acknowledged: BTreeMap<usize, Appended> = match answer {
        Ok(answers) => answers.into_iter().enumerate().filter_map(|(i, answer)| Some((i, answer.ok()?))).collect(),
        Err(_) => BTreeMap::new(),
    };
    again_until_all_are_there(stream, &puts, acknowledged).await;
    let stored = read_all_shards(stream).await;
    let first = before[0].as_ref().expect("taken");
    assert!(stored[&first.shard].iter().any(|record| record.sequence == first.sequence), "what was there is there");
}

/// Sends what was not acknowledged; then every record is where its answer says, and nothing is there that nobody sent.
async fn again_until_all_are_there<S: Stream>(stream: &S, puts: &[Put], mut acknowledged: BTreeMap<usize, Appended>) {
    let missing: Vec<usize> = (0..puts.len()).filter(|i| !acknowledged.contains_key(i)).collect();
    let again = missing.iter().map(|i| puts[*i].clone()).collect();
    let answers = stream.append(again).await.expect("the fault is over");
    for (i, answer) in missing.into_iter().zip(answers) {
        acknowledged.insert(i, answer.expect("taken"));
    }
    let stored = read_all_shards(stream).await;
    for (i, appended) in acknowledged {
        let record = stored[&appended.shard].iter().find(|record| record.sequence == appended.sequence);
        assert_eq!(record.map(|record| &record.data), Some(&puts[i].data), "where its answer says");
    }
    let sent = |data: &[u8]| data == b"before" || puts.iter().any(|put| put.data == data);
    assert!(stored.values().flatten().all(|record| sent(&record.data)), "nobody sent anything else");
}
