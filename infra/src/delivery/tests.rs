//! Events of Lambda as batches, and what is answered of what became durable.
#![allow(clippy::unwrap_used)]
use serde_json::json;

use super::*;

const ARN: &str = "arn:aws:kinesis:eu-central-1:000000000000:stream/logs";

fn event(records: &[(&str, &str, f64)]) -> Event {
    let record = |(shard, sequence, at): &(&str, &str, f64)| {
        json!({
            "kinesis": {"kinesisSchemaVersion": "1.0", "partitionKey": "k", "sequenceNumber": sequence, "data": "SGVsbG8=",
                        "approximateArrivalTimestamp": at, "encryptionType": "NONE"},
            "eventSource": "aws:kinesis", "eventVersion": "1.0", "eventID": format!("{shard}:{sequence}"), "eventName": "aws:kinesis:record",
            "invokeIdentityArn": "arn:aws:iam::000000000000:role/x", "awsRegion": "eu-central-1", "eventSourceARN": ARN,
        })
    };
    let records: Vec<Value> = records.iter().map(record).collect();
    serde_json::from_value(json!({"Records": records})).unwrap()
}

fn delivery() -> Delivery {
    Delivery::read(event(&[("shard-1", "10", 1.0), ("shard-1", "11", 1.0), ("shard-1", "12", 1.0)]), "logs").unwrap()
}

fn outcome(through: u64, has_moved: bool, left: Option<&str>) -> Outcome {
    let durable_through = through.to_string().parse().unwrap();
    Outcome { durable_through, has_moved, left: left.map(str::to_owned), ..Outcome::default() }
}

#[test]
fn arrival_is_read_to_the_millisecond_whatever_digits_stand_behind_the_point() {
    for (text, ms) in [
        ("1545084650.987", 1_545_084_650_987),
        ("1545084650.98", 1_545_084_650_980),
        ("1545084650.9", 1_545_084_650_900),
        ("1545084650.007", 1_545_084_650_007),
        ("1545084650", 1_545_084_650_000),
        ("1545084650.0", 1_545_084_650_000),
        ("1.763721600001E9", 1_763_721_600_001),
        ("1545084650.9869999885559082", 1_545_084_650_987),
        ("1545084650.9869995", 1_545_084_650_987),
    ] {
        let at: f64 = serde_json::from_str(text).unwrap();
        let read = Delivery::read(event(&[("shard-1", "1", at)]), "logs").unwrap();
        assert_eq!(read.batch.records[0].arrived_at_ms, ms, "{text}");
    }
    // Every millisecond of a second, as JSON writes them.
    for ms in 1_763_721_600_000..1_763_721_601_000i64 {
        let read = Delivery::read(event(&[("shard-1", "1", ms as f64 / 1_000.0)]), "logs").unwrap();
        assert_eq!(read.batch.records[0].arrived_at_ms, ms);
    }
}

#[test]
fn a_record_is_what_get_records_says() {
    let read = delivery();
    assert_eq!(read.batch.shard.as_str(), "shard-1");
    let record = &read.batch.records[0];
    assert_eq!((&record.partition_key[..], &record.data[..]), ("k", &b"Hello"[..]));
    assert_eq!(record.sequence.to_string(), "10");
}

#[test]
fn the_first_record_that_is_not_durable_comes_again_and_nothing_else() {
    let read = delivery();
    let answer = |outcome: Outcome| serde_json::to_value(read.answer(&outcome).unwrap()).unwrap();
    assert_eq!(answer(outcome(12, true, None)), json!({"batchItemFailures": []}));
    // Somebody else has gone on from further.
    assert_eq!(answer(outcome(500, false, None)), json!({"batchItemFailures": []}));
    assert_eq!(answer(outcome(10, true, Some("why"))), json!({"batchItemFailures": [{"itemIdentifier": "11"}]}));
    // Only what stands before it was folded: all of it comes again, and finds less to do.
    assert_eq!(answer(outcome(9, true, Some("why"))), json!({"batchItemFailures": [{"itemIdentifier": "10"}]}));
    assert_eq!(read.answer(&outcome(9, false, Some("why"))).unwrap_err(), "shard-1: why");
}

#[test]
fn an_event_that_is_not_of_this_stream_and_one_shard_is_refused() {
    let refused = |records: &[_], stream| Delivery::read(event(records), stream).unwrap_err();
    assert_eq!(refused(&[], "logs"), BadEvent::Empty);
    assert!(matches!(refused(&[("shard-1", "1", 1.0)], "log"), BadEvent::Stream { arn, .. } if arn == ARN));
    let two = refused(&[("shard-1", "1", 1.0), ("shard-2", "2", 1.0)], "logs");
    assert!(two.to_string().contains("shard-1 and shard-2"), "{two}");
    assert!(refused(&[("shard-1", "x", 1.0)], "logs").to_string().contains("sequenceNumber `x`"));
}

#[test]
fn the_stream_is_known_by_its_name_also_where_a_consumer_of_its_own_reads_it() {
    assert_eq!(stream_of(ARN), Some("logs"));
    assert_eq!(stream_of(&format!("{ARN}/consumer/weir:1545084650")), Some("logs"));
    assert_eq!(stream_of("arn:aws-cn:kinesis:cn-north-1:000000000000:stream/a-b_c.d"), Some("a-b_c.d"));
    assert_eq!(stream_of("arn:aws:dynamodb:eu-central-1:000000000000:table/logs/stream/2026"), None);
}

#[tokio::test(start_paused = true)]
async fn some_of_the_time_is_left_for_the_commit_and_a_moment_for_the_answer() {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    for (left_ms, stop_secs, give_up_ms) in
        [(60_000, 45, 59_500), (900_000, 880, 899_500), (6_000, 4, 5_500), (2_000, 1, 1_500)]
    {
        let Until { stop, give_up } = until(now_ms + left_ms);
        let near = |at: Instant, ms: u64| {
            let after = at.duration_since(Instant::now()).as_millis() as u64;
            assert!(after <= ms && after + 2_000 > ms, "{after} of {ms}");
        };
        near(stop, stop_secs * 1_000);
        near(give_up, give_up_ms);
    }
    let Until { stop, give_up } = until(now_ms.saturating_sub(5));
    assert!(stop <= Instant::now() && give_up <= Instant::now());
}
