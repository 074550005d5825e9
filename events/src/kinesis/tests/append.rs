//! Appends that fail in part, as a whole, and in ways that leave open whether they happened.

use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    super::writer::{CALL_BYTES_MAX, TRIES_MAX},
    open, put, quick,
    scripted::{Act, Scripted, sequence},
};
use crate::{
    position::HashKey,
    stream::{AppendError, Put, Refused, Stream},
};

const THROTTLED: &str = "ProvisionedThroughputExceededException";

fn keys(call: &Value) -> Vec<&str> {
    call["Records"].as_array().unwrap().iter().map(|record| record["PartitionKey"].as_str().unwrap()).collect()
}

fn stored(service: &Scripted) -> Vec<String> {
    let state = service.state();
    state.shards[0].records.iter().map(|record| record.key.clone()).collect()
}

#[tokio::test]
async fn only_records_that_failed_go_again_and_answers_stand_in_the_order_of_the_puts() {
    let service = Scripted::start(1).await;
    let stream = open(&service, quick()).await;
    service.next("PutRecords", [Act::FailRecords(vec![(1, THROTTLED), (3, "InternalFailure")])]);
    let answers = stream.append((0..5).map(|i| put(&format!("k{i}"), b"x")).collect()).await.unwrap();
    let mut again: Vec<Vec<String>> = vec![];
    for call in &service.calls("PutRecords")[1..] {
        again.push(keys(call).into_iter().map(str::to_owned).collect());
    }
    let mut flat = again.concat();
    flat.sort();
    assert_eq!(flat, ["k1", "k3"], "each once more, whichever pause ended first: {again:?}");
    let stored = stored(&service);
    for (i, answer) in answers.iter().enumerate() {
        let place = stored.iter().position(|key| *key == format!("k{i}")).unwrap();
        assert_eq!(answer.as_ref().unwrap().sequence.to_string(), sequence(place), "the answer is that of its put");
    }
    assert_eq!(stored.len(), 5);
}

#[tokio::test]
async fn a_record_that_stays_throttled_is_refused_alone_after_a_bounded_number_of_tries() {
    let service = Scripted::start(1).await;
    let stream = open(&service, quick()).await;
    service.next("PutRecords", [Act::FailRecords(vec![(0, THROTTLED)])]);
    service.state().always.insert("PutRecords", Act::FailRecords(vec![(0, THROTTLED)]));
    let answers = stream.append(vec![put("a", b"1"), put("b", b"2")]).await.unwrap();
    assert_eq!(answers[0], Err(Refused::Throttled));
    assert!(answers[1].is_ok());
    assert_eq!(service.calls("PutRecords").len(), TRIES_MAX as usize);
    assert_eq!(stored(&service), ["b"]);
}

#[tokio::test]
async fn a_call_that_is_throttled_as_a_whole_goes_again_and_is_refused_at_last() {
    let service = Scripted::start(1).await;
    let stream = open(&service, quick()).await;
    service.next("PutRecords", vec![Act::Error(400, THROTTLED, "Rate exceeded"); 2]);
    assert!(stream.append(vec![put("a", b"1")]).await.unwrap()[0].is_ok());
    service.state().always.insert("PutRecords", Act::Error(400, THROTTLED, "Rate exceeded"));
    assert_eq!(stream.append(vec![put("a", b"1")]).await, Ok(vec![Err(Refused::Throttled)]), "it did not happen");
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_with_the_same_bytes() {
    for fault in [Act::Lose, Act::Cut, Act::Reset, Act::Error(500, "InternalFailure", "")] {
        let service = Scripted::start(1).await;
        let stream = open(&service, quick()).await;
        service.next("PutRecords", [fault.clone()]);
        let answers = stream.append(vec![put("a", b"1"), put("b", b"2")]).await.unwrap();
        let calls = service.calls("PutRecords");
        assert_eq!(calls.len(), 2, "after {fault:?}");
        assert_eq!(calls[0], calls[1], "after {fault:?}");
        let happened = matches!(fault, Act::Lose | Act::Cut);
        assert_eq!(stored(&service).len(), if happened { 4 } else { 2 }, "after {fault:?}");
        let first = if happened { 2 } else { 0 };
        assert_eq!(
            answers[0].as_ref().unwrap().sequence.to_string(),
            sequence(first),
            "what was acknowledged is there"
        );
    }
}

#[tokio::test]
async fn a_time_out_after_the_service_took_the_records_is_tried_again_and_the_answer_is_that_of_the_repeat() {
    let service = Scripted::start(1).await;
    let options = super::Options { call_timeout: Duration::from_millis(1_000), ..quick() };
    let stream = open(&service, options).await;
    service.next("PutRecords", [Act::Hang]);
    let answers = stream.append(vec![put("a", b"1")]).await.unwrap();
    let calls = service.calls("PutRecords");
    assert!(calls.len() >= 2 && calls.iter().all(|call| *call == calls[0]));
    let last = service.state().shards[0].records.len() - 1;
    assert!(last >= 1, "it is there more than once");
    assert_eq!(answers[0].as_ref().unwrap().sequence.to_string(), sequence(last));
}

#[tokio::test]
async fn an_append_whose_answers_all_get_lost_may_have_happened() {
    let service = Scripted::start(1).await;
    let stream = open(&service, quick()).await;
    service.state().always.insert("PutRecords", Act::Lose);
    let answer = stream.append(vec![put("a", b"1")]).await;
    assert!(matches!(&answer, Err(AppendError::Unknown(why)) if why.contains("scripted")), "{answer:?}");
    assert_eq!(stored(&service).len(), TRIES_MAX as usize);
}

#[tokio::test]
async fn a_record_that_was_lost_once_and_then_throttled_may_have_happened() {
    let service = Scripted::start(1).await;
    let stream = open(&service, quick()).await;
    service.next("PutRecords", [Act::Lose]);
    service.state().always.insert("PutRecords", Act::Error(400, THROTTLED, ""));
    let answer = stream.append(vec![put("a", b"1")]).await;
    assert!(matches!(answer, Err(AppendError::Unknown(_))), "the first call took it: {answer:?}");
    service.state().always.insert("PutRecords", Act::FailRecords(vec![(0, THROTTLED)]));
    service.next("PutRecords", [Act::Lose]);
    let answer = stream.append(vec![put("a", b"1")]).await;
    assert!(matches!(answer, Err(AppendError::Unknown(_))), "also where the record alone is refused: {answer:?}");
}

#[tokio::test]
async fn where_nobody_listens_nothing_was_appended() {
    let mut service = Scripted::start(1).await;
    let stream = open(&service, quick()).await;
    service.stop().await;
    let answer = stream.append(vec![put("a", b"1")]).await;
    let Err(AppendError::NotAppended(why)) = answer else { panic!("{answer:?}") };
    assert!(why.contains("refused"), "{why}");
}

#[tokio::test]
async fn what_no_retry_mends_is_said_at_once() {
    for (code, message, word) in [
        ("ResourceNotFoundException", "Stream scripted under account 0 not found.", "not found"),
        (
            "AccessDeniedException",
            "User: arn:aws:iam::0:user/x is not authorized to perform: kinesis:PutRecords",
            "permit",
        ),
        ("ExpiredTokenException", "The security token included in the request is expired", "renew"),
        ("ValidationException", "1 validation error detected", "validation"),
    ] {
        let service = Scripted::start(1).await;
        let stream = open(&service, quick()).await;
        service.next("PutRecords", [Act::Error(400, code, message)]);
        let answer = stream.append(vec![put("a", b"1"), put("b", b"2")]).await;
        let Err(AppendError::NotAppended(why)) = answer else { panic!("{code}: {answer:?}") };
        assert!(why.contains(word) && why.contains("stream scripted"), "{why}");
        assert_eq!(service.calls("PutRecords").len(), 1, "{code}");
    }
}

#[tokio::test]
async fn after_some_records_were_taken_the_others_have_answers_of_their_own() {
    let service = Scripted::start(1).await;
    let stream = open(&service, quick()).await;
    service.next(
        "PutRecords",
        [Act::FailRecords(vec![(1, "InternalFailure")]), Act::Error(400, "AccessDeniedException", "not any more")],
    );
    let answers = stream.append(vec![put("a", b"1"), put("b", b"2")]).await.unwrap();
    assert!(answers[0].is_ok());
    assert_eq!(answers[1], Err(Refused::Failed));
}

#[tokio::test]
async fn an_answer_with_too_few_records_is_no_answer() {
    let service = Scripted::start(1).await;
    let stream = open(&service, quick()).await;
    // The service takes one shard for none: its answer to a call of other records stands for one that is short.
    service.state().always.insert("PutRecords", Act::Error(200, "x", ""));
    let answer = stream.append(vec![put("a", b"1")]).await;
    assert!(matches!(answer, Err(AppendError::Unknown(_))), "{answer:?}");
}

#[tokio::test]
async fn a_call_holds_no_more_bytes_than_it_may_and_addresses_shards_by_hash() {
    let service = Scripted::start(4).await;
    let stream = open(&service, quick()).await;
    let large = vec![7; 900_000];
    let mut puts: Vec<Put> = (0..12).map(|i| put(&format!("k{i}"), &large)).collect();
    puts[3].hash_key = Some(HashKey(u128::MAX));
    let answers = stream.append(puts).await.unwrap();
    assert_eq!(answers[3].as_ref().unwrap().shard.as_str(), "shardId-000000000003");
    assert!(answers.iter().all(Result::is_ok));
    let calls = service.calls("PutRecords");
    let sizes: Vec<usize> = calls.iter().map(|call| keys(call).len() * 900_000).collect();
    assert_eq!(calls.len(), 3, "{sizes:?}");
    assert!(sizes.iter().all(|size| *size <= CALL_BYTES_MAX), "{sizes:?}");
    assert_eq!(calls[0]["Records"][3]["ExplicitHashKey"], u128::MAX.to_string());
}

#[tokio::test]
async fn a_busy_shard_does_not_hold_the_records_of_another() {
    let service = Scripted::start(2).await;
    let options = super::Options { write_records_per_sec: NonZeroU32::new(20).unwrap(), ..quick() };
    let stream = open(&service, options).await;
    let to = |key: u128, i: usize| Put { hash_key: Some(HashKey(key)), ..put(&format!("{i}"), b"x") };
    let mut puts: Vec<Put> = (0..25).map(|i| to(0, i)).collect();
    puts.push(to(u128::MAX, 25));
    let began = Instant::now();
    let answers = stream.append(puts).await.unwrap();
    assert!(answers.iter().all(Result::is_ok));
    let calls = service.calls("PutRecords");
    let first = keys(&calls[0]);
    assert_eq!((first.len(), first.last()), (21, Some(&"25")), "twenty of the one, and the other's");
    // Not a measurement: fewer than this the rate cannot take.
    assert!(began.elapsed() >= Duration::from_millis(200), "five more at twenty a second");
}

#[tokio::test]
async fn what_would_have_to_wait_too_long_for_its_turn_is_refused_as_too_much() {
    let service = Scripted::start(1).await;
    let write_bytes_per_sec = NonZeroU32::new(1_001).unwrap();
    let turn_longest = Duration::from_millis(500);
    let stream = open(&service, super::Options { write_bytes_per_sec, turn_longest, ..quick() }).await;
    let answers = stream.append((0..10).map(|i| put(&format!("{i}"), &[0; 1_000])).collect()).await.unwrap();
    assert!(answers[0].is_ok());
    assert!(answers[1..].iter().all(|answer| *answer == Err(Refused::Throttled)), "{answers:?}");
    assert_eq!(stored(&service), ["0"]);
}

#[tokio::test]
async fn who_finds_no_room_among_the_calls_under_way_is_refused_as_too_much() {
    let service = Scripted::start(1).await;
    let in_flight_bytes_max = NonZeroU32::new(1_000).unwrap();
    let turn_longest = Duration::from_millis(50);
    let stream = open(&service, super::Options { in_flight_bytes_max, turn_longest, ..quick() }).await;
    service.next("PutRecords", [Act::Hang]);
    let first = stream.clone();
    let hangs = tokio::spawn(async move { first.append(vec![put("a", b"1")]).await });
    while service.calls("PutRecords").is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(stream.append(vec![put("b", b"2")]).await, Ok(vec![Err(Refused::Throttled)]));
    hangs.abort();
}

#[tokio::test]
async fn calls_after_one_without_an_answer_are_smaller() {
    let service = Scripted::start(1).await;
    let stream = open(&service, quick()).await;
    service.next("PutRecords", [Act::Reset, Act::Reset]);
    let answers = stream.append((0..12).map(|i| put(&format!("{i}"), &[0; 400_000])).collect()).await.unwrap();
    assert!(answers.iter().all(Result::is_ok));
    let calls = service.calls("PutRecords");
    let sizes: Vec<usize> = calls.iter().map(|call| keys(call).len()).collect();
    assert_eq!(sizes[0], 12);
    assert!(sizes[1] <= 6 && sizes[2..].iter().all(|size| *size <= 3), "{sizes:?}");
}

#[tokio::test]
async fn calls_under_way_hold_no_more_bytes_than_they_may() {
    let service = Scripted::start(1).await;
    let options = super::Options { in_flight_bytes_max: NonZeroU32::new(100_000).unwrap(), ..quick() };
    let stream = open(&service, options).await;
    let mut appends = tokio::task::JoinSet::new();
    for i in 0..12 {
        let stream = stream.clone();
        appends.spawn(async move { stream.append(vec![put(&format!("{i}"), &[0; 40_000])]).await.unwrap() });
    }
    assert_eq!(appends.join_all().await.len(), 12);
    let state = service.state();
    assert_eq!((state.together_max, state.shards[0].records.len()), (2, 12));
}

#[tokio::test]
async fn records_that_went_to_a_new_shard_make_the_ring_be_learnt_anew() {
    let service = Scripted::start(1).await;
    let stream = open(&service, quick()).await;
    {
        let mut state = service.state();
        state.shards[0].closed = true;
        let (from, through) = (state.shards[0].from, state.shards[0].through);
        let parents = vec![state.shards[0].id.clone()];
        let id = "shardId-000000000001".to_owned();
        state.shards.push(super::scripted::Shard { id, from, through, parents, ..Default::default() });
    }
    let before = service.calls("ListShards").len();
    assert_eq!(
        stream.append(vec![put("a", b"1")]).await.unwrap()[0].as_ref().unwrap().shard.as_str(),
        "shardId-000000000001"
    );
    assert_eq!(service.calls("ListShards").len(), before + 1);
    stream.append(vec![put("a", b"1")]).await.unwrap();
    assert_eq!(service.calls("ListShards").len(), before + 1, "once is enough");
}
