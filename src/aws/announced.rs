//! Objects that S3 announces, onto a stream: what the function of notifications does. Decides how a time limit is shared, and what the answer to each
//! source of messages is; reads no key.

use std::{sync::Arc, time::Duration};

use events::kinesis::Kinesis;
use processor::ingest::{
    notified::{self, ParseError},
    s3::announced::{Done, Settings, ingest_announced},
};
use projections::dynamodb::DynamoDb;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Buckets, OpenError, Pair, configuration};
use crate::now_ms;

/// Most of the time that is kept for what is on its way when nothing more is read: as long as a record may wait for its turn.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Most of the time that is kept for saying how far objects are.
const KEEP_MAX: Duration = Duration::from_secs(2);
/// How often that is said while they are read: at some 10 MB of lines a second, which a shard takes, a killed call leaves 100 MB to be read again.
const KEEP_EVERY: Duration = Duration::from_secs(10);
/// Time that is kept for the answer.
const ANSWER: Duration = Duration::from_millis(500);

/// A stream, where it is kept how far objects are, and buckets.
pub struct Announced {
    stream: Kinesis,
    rows: Arc<DynamoDb>,
    buckets: Buckets,
    service: Option<String>,
}

/// A call of the function failed: who called it calls again.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// It was handed something else.
    #[error("the event cannot be read: {0}")]
    Event(#[from] ParseError),
    /// What was announced without a queue is not done.
    #[error("{0}")]
    Left(String),
}

impl Announced {
    /// Stream and tables must be there. `service`: of lines that name none, instead of the one in their object's name.
    pub async fn open(pair: &Pair, service: Option<String>) -> Result<Self, OpenError> {
        let config = configuration().await?;
        let stream = pair.open_stream(&config, None, |_| {}).await?;
        // How far an object is on another stream, or on one of this name that is gone, says nothing of this one.
        let (rows, _) = pair.open_rows(&config, false, &stream, |_| {}).await?;
        Ok(Self { stream, rows: Arc::new(rows), buckets: Buckets::open().await?, service })
    }

    /// Reads what the event announces, for at most so long. What became of each message; see [`answer`].
    pub async fn ingest(&self, event: &[u8], within: Duration) -> Result<Vec<Done>, ParseError> {
        let end = Instant::now() + within.saturating_sub(ANSWER);
        let keep = KEEP_MAX.min(within / 8);
        let settings = Settings {
            tenant: events::identity::LOCAL_TENANT.to_owned(),
            service: self.service.clone(),
            profile: events::pack::Profile::KINESIS,
            now_ms: now_ms(),
            read_until: end - keep - WAIT_MAX.min(within / 4),
            wait_until: end - keep,
            keep_until: end,
            keep_every: KEEP_EVERY,
        };
        let messages = notified::messages(event)?;
        Ok(ingest_announced(messages, |name| self.buckets.named(name), &self.stream, self.rows.clone(), &settings)
            .await)
    }
}

/// What the caller is answered. A queue hears which messages have to come again; anybody else an error, if any has.
pub fn answer(done: &[Done]) -> Result<Value, Failed> {
    let mut failures = vec![];
    for done in done.iter().filter(|done| !done.left.is_empty()) {
        match &done.id {
            Some(id) => failures.push(json!({"itemIdentifier": id})),
            None => return Err(Failed::Left(done.left.join("; "))),
        }
    }
    Ok(json!({"batchItemFailures": failures}))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn done(id: Option<&str>, left: &[&str]) -> Done {
        Done { id: id.map(Into::into), read: 1, missed: 0, left: left.iter().map(|why| (*why).to_owned()).collect() }
    }

    #[test]
    fn a_queue_hears_which_messages_come_again_and_anybody_else_an_error() {
        let said = answer(&[done(Some("a"), &[]), done(Some("b"), &["why"]), done(Some("c"), &[])]).unwrap();
        assert_eq!(said, json!({"batchItemFailures": [{"itemIdentifier": "b"}]}));
        assert_eq!(answer(&[done(None, &[])]).unwrap(), json!({"batchItemFailures": []}));
        assert_eq!(answer(&[done(None, &["one", "two"])]).unwrap_err().to_string(), "one; two");
    }
}
