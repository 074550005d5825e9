//! Objects that S3 announces, onto a stream: what the function of notifications does. Decides how a time limit is shared, and what the answer to each
//! source of messages is; reads no key.

use std::time::Duration;

use events::kinesis::{self, Kinesis};
use processor::ingest::{
    notified::{self, ParseError},
    s3::announced::{Done, Settings, ingest_announced},
};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Buckets, OpenError, STREAM_CHARS_MAX, configuration, name, place};
use crate::now_ms;

/// Most of the time that is kept for what is on its way when nothing more is read: as long as a record may wait for its turn.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Time that is kept for the answer.
const ANSWER: Duration = Duration::from_millis(500);

/// A stream, and buckets.
pub struct Announced {
    stream: Kinesis,
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
    /// The stream of this URL, `kinesis://NAME`, which must be there. `service`: of lines that name none, instead of the one in their object's name.
    pub async fn open(stream: &str, service: Option<String>) -> Result<Self, OpenError> {
        let Some(name) = name(stream, "kinesis", STREAM_CHARS_MAX) else {
            let form = "kinesis://NAME with the name of a stream".to_owned();
            return Err(OpenError::Name { option: "WEIR_STREAM", given: stream.to_owned(), form });
        };
        let config = configuration().await?;
        let client = aws_sdk_kinesis::Client::new(&config);
        let opened = Kinesis::open(client, name, kinesis::Missing::Refuse).await;
        let place = place(&config, "Kinesis");
        let stream = opened.map_err(|source| OpenError::Stream { name: name.to_owned(), place, source })?;
        Ok(Self { stream, buckets: Buckets::open().await?, service })
    }

    /// Reads what the event announces, for at most so long. What became of each message; see [`answer`].
    pub async fn ingest(&self, event: &[u8], within: Duration) -> Result<Vec<Done>, ParseError> {
        let end = Instant::now() + within.saturating_sub(ANSWER);
        let settings = Settings {
            tenant: events::identity::LOCAL_TENANT.to_owned(),
            service: self.service.clone(),
            profile: events::pack::Profile::KINESIS,
            now_ms: now_ms(),
            read_until: end - WAIT_MAX.min(within / 4),
            wait_until: end,
        };
        let messages = notified::messages(event)?;
        Ok(ingest_announced(messages, |name| self.buckets.named(name), &self.stream, &settings).await)
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
