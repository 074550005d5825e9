//! The Kinesis event source of Lambda, played as its developer guide describes it ("Using AWS Lambda with Amazon Kinesis"): batches of one shard in
//! order, the next only after the one before; what was reported as failed comes again from the lowest that was reported; a failed batch comes again,
//! whole or halved. The records are those that the emulator gives by GetRecords. Decides nothing about right and wrong.

use std::time::Duration;

use aws_sdk_kinesis::types::ShardIteratorType;
use serde_json::{Value, json};

use crate::{
    cloud::Cloud,
    lambda::{Ended, Function},
};

/// A record as the event source hands it over, and its number.
#[derive(Debug, Clone)]
pub struct Delivered {
    pub sequence: String,
    pub json: Value,
}

/// Base64 as RFC 4648 has it.
pub fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let wide = u32::from_be_bytes([0, chunk[0], *chunk.get(1).unwrap_or(&0), *chunk.get(2).unwrap_or(&0)]);
        for place in 0..4 {
            let letter = ALPHABET[(wide >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

/// All records of a shard, recorded from the emulator.
pub fn recorded(cloud: &Cloud, shard: &str) -> Vec<Delivered> {
    cloud.runtime.block_on(async {
        let iterator = cloud.client.get_shard_iterator().stream_name(&cloud.name).shard_id(shard);
        let iterator = iterator.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await.unwrap();
        let (mut next, mut found) = (iterator.shard_iterator, vec![]);
        while let Some(iterator) = next.take() {
            let page = cloud.client.get_records().shard_iterator(iterator).send().await.unwrap();
            found.extend(page.records.iter().map(|record| delivered(cloud, shard, record)));
            if page.millis_behind_latest.unwrap_or(0) > 0 || !page.records.is_empty() {
                next = page.next_shard_iterator;
            }
        }
        found
    })
}

fn delivered(cloud: &Cloud, shard: &str, record: &aws_sdk_kinesis::types::Record) -> Delivered {
    let sequence = record.sequence_number.clone();
    let at = record.approximate_arrival_timestamp.unwrap();
    let ms = (at.as_secs_f64() * 1_000.0).round();
    let json = json!({
        "kinesis": {
            "kinesisSchemaVersion": "1.0",
            "partitionKey": record.partition_key,
            "sequenceNumber": sequence,
            "data": base64(record.data.as_ref()),
            "approximateArrivalTimestamp": ms / 1_000.0,
        },
        "eventSource": "aws:kinesis",
        "eventVersion": "1.0",
        "eventID": format!("{shard}:{sequence}"),
        "eventName": "aws:kinesis:record",
        "invokeIdentityArn": "arn:aws:iam::000000000000:role/weir",
        "awsRegion": "us-east-1",
        "eventSourceARN": cloud.arn(),
    });
    Delivered { sequence, json }
}

/// A batch as an event.
pub fn event(batch: &[Delivered]) -> Value {
    json!({"Records": batch.iter().map(|record| record.json.clone()).collect::<Vec<_>>()})
}

/// How many records of a batch are done with, by the function's answer; the rest comes again.
pub fn done_with(batch: &[Delivered], ended: &Ended) -> usize {
    let Ended::Answered(answer) = ended else { return 0 };
    let failures = answer["batchItemFailures"].as_array().cloned().unwrap_or_default();
    let place = |failure: &Value| batch.iter().position(|record| failure["itemIdentifier"] == record.sequence.as_str());
    // One that names no record is the whole batch's.
    failures.iter().map(|failure| place(failure).unwrap_or(0)).min().unwrap_or(batch.len())
}

/// How long an invocation may take.
pub const TIME: Duration = Duration::from_secs(60);

/// Hands over everything from `from` on in batches of so many, until all is done with. Fails if a batch makes no progress for `tries` times.
#[track_caller]
pub fn run(function: &mut Function, records: &[Delivered], size: usize, tries: u32) {
    let (mut from, mut failed) = (0, 0);
    while from < records.len() {
        let batch = &records[from..records.len().min(from + size)];
        let ended = function.invoke(&event(batch), TIME);
        let done = done_with(batch, &ended);
        from += done;
        failed = if done == 0 { failed + 1 } else { 0 };
        assert!(failed < tries, "{ended:?} of {}: {}", batch[0].sequence, function.said());
    }
}
