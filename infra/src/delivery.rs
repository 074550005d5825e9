//! A Kinesis event of Lambda as a batch of records, and what becomes of it as the answer that the event source mapping reads. Decides which record is
//! the first that has to come again; never that one was folded, which the resume point says.
//!
//! The event (Lambda developer guide, "Using AWS Lambda with Amazon Kinesis") holds the records of one shard, data in base64 and the arrival as seconds
//! with a fraction. The fold's time is that stamp, so it is read to the nearest millisecond, as from GetRecords. (The structs of `aws_lambda_events` read
//! the digits behind the point as a whole number: .98 would be 98 ms.)
//!
//! | the answer | when | what the mapping does |
//! | --- | --- | --- |
//! | `batchItemFailures` empty | all is durable | goes on behind the batch |
//! | the first record that is not durable | something became durable | goes on with that one |
//! | an error | nothing could be done: neither of this shard nor of what stands before it | sends the batch again, halved where bisecting is on |

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lambda_events::encodings::Base64Data;
use bytes::Bytes;
use events::{
    position::{SequenceNumber, ShardId},
    stream::Record,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;
use weir::batches::{Batch, Outcome, Until};

/// What is left of an invocation's time for the commit, as a share of what there is at its begin.
const COMMIT_SHARE: u32 = 4;
/// So much is left at least, where that is not more than half of it, and at most.
const COMMIT_MIN: Duration = Duration::from_secs(2);
const COMMIT_MAX: Duration = Duration::from_secs(20);
/// So long before the end whatever is under way is given up, as the answer has to arrive.
const ANSWER: Duration = Duration::from_millis(500);

/// A Kinesis event.
#[derive(Debug, Clone, Deserialize)]
pub struct Event {
    #[serde(rename = "Records")]
    records: Vec<Delivered>,
}

#[derive(Debug, Clone, Deserialize)]
struct Delivered {
    kinesis: Data,
    /// The shard, a colon, the sequence number.
    #[serde(rename = "eventID")]
    event_id: String,
    #[serde(rename = "eventSourceARN")]
    event_source_arn: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    partition_key: String,
    sequence_number: String,
    data: Base64Data,
    approximate_arrival_timestamp: f64,
}

/// The event is none of the function's stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadEvent {
    /// No record.
    #[error("the event holds no records")]
    Empty,
    /// A field that cannot be read.
    #[error("the event's {field} `{value}` is not {form}")]
    Field {
        /// Which.
        field: &'static str,
        /// What it holds.
        value: String,
        /// What it should.
        form: &'static str,
    },
    /// Of another stream: its shards have the same names, and its records would be folded as if they were this one's.
    #[error(
        "the event is of {arn}, and this function folds the stream {stream}: mend the event source, or WEIR_STREAM"
    )]
    Stream {
        /// Whose event it is.
        arn: String,
        /// Which is folded.
        stream: String,
    },
    /// Of several shards.
    #[error("the event holds records of {one} and {other}: an event source sends those of one shard")]
    Shards {
        /// A shard.
        one: ShardId,
        /// Another.
        other: ShardId,
    },
}

/// Records of a shard, and what each is called in the answer.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The records.
    pub batch: Batch,
    /// The texts of their sequence numbers as they came.
    names: Vec<(SequenceNumber, String)>,
}

/// Names records that have to come again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// Empty, or the first of them.
    batch_item_failures: Vec<Failure>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Failure {
    item_identifier: String,
}

/// The name of the stream in an ARN of it, or of a consumer of it.
fn stream_of(arn: &str) -> Option<&str> {
    let (_, resource) = arn.split_once(":stream/")?;
    resource.split('/').next()
}

impl Delivery {
    /// Reads an event of this stream.
    pub fn read(event: Event, stream: &str) -> Result<Self, BadEvent> {
        let (mut shard, mut records, mut names) = (None, vec![], vec![]);
        for Delivered { kinesis, event_id, event_source_arn: arn } in event.records {
            if stream_of(&arn) != Some(stream) {
                return Err(BadEvent::Stream { arn, stream: stream.to_owned() });
            }
            let (of, _) = event_id.split_once(':').ok_or_else(|| {
                let form = "SHARD:SEQUENCE_NUMBER";
                BadEvent::Field { field: "eventID", value: event_id.clone(), form }
            })?;
            let of = ShardId::named(of);
            match shard.get_or_insert_with(|| of.clone()) {
                one if *one != of => return Err(BadEvent::Shards { one: one.clone(), other: of }),
                _ => {}
            }
            let sequence: SequenceNumber = kinesis.sequence_number.parse().map_err(|_| {
                let (value, form) = (kinesis.sequence_number.clone(), "a sequence number");
                BadEvent::Field { field: "sequenceNumber", value, form }
            })?;
            names.push((sequence, kinesis.sequence_number));
            records.push(Record {
                sequence,
                arrived_at_ms: (kinesis.approximate_arrival_timestamp * 1_000.0).round() as i64,
                partition_key: kinesis.partition_key,
                data: Bytes::from(kinesis.data.0),
            });
        }
        names.sort();
        let shard = shard.ok_or(BadEvent::Empty)?;
        Ok(Self { batch: Batch { shard, records }, names })
    }

    /// What the event source is told of it. `Err`: nothing could be done, and why.
    pub fn answer(&self, outcome: &Outcome) -> Result<Answer, String> {
        let left = self.names.iter().find(|(sequence, _)| *sequence > outcome.durable_through);
        let is_first = left.is_some() && left == self.names.first();
        match &outcome.left {
            Some(why) if is_first && !outcome.has_moved => Err(format!("{}: {why}", self.batch.shard)),
            _ => {
                let failure = |(_, name): &(_, String)| Failure { item_identifier: name.clone() };
                Ok(Answer { batch_item_failures: left.map(failure).into_iter().collect() })
            }
        }
    }

    /// What the log says of it.
    pub fn said(&self, outcome: &Outcome, took: Duration) -> Value {
        let name = |found: Option<&(SequenceNumber, String)>| found.map(|(_, name)| name.clone());
        json!({
            "shard": self.batch.shard.as_str(),
            "records": self.names.len(),
            "first": name(self.names.first()),
            "last": name(self.names.last()),
            "durableThrough": outcome.durable_through.to_string(),
            "foldedRecords": outcome.records,
            "folded": outcome.balance.folded,
            "skipped": outcome.balance.skipped_total(),
            "duplicate": outcome.balance.duplicate,
            "dead": outcome.balance.dead,
            "openings": outcome.openings,
            "ms": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        })
    }
}

/// How long an invocation may work that has to have answered by `deadline_ms`, Unix milliseconds.
pub fn until(deadline_ms: u64) -> Until {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let left = Duration::from_millis(deadline_ms).saturating_sub(since);
    let now = Instant::now();
    let commit = (left / COMMIT_SHARE).clamp(COMMIT_MIN, COMMIT_MAX).min(left / 2);
    Until { stop: now + (left - commit), give_up: now + left.saturating_sub(ANSWER) }
}

#[cfg(test)]
mod tests;
