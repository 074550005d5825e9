//! Finds a stream's registered consumer, or registers it where that is allowed. Never removes one, as other processes may use it.

use std::time::Duration;

use aws_sdk_kinesis::types::ConsumerStatus;
use tokio::time::Instant;

use crate::kinesis::{
    Kinesis,
    failure::{Failure, Kind},
};

/// Longest wait for a consumer until it can be used.
const WAIT_MAX: Duration = Duration::from_secs(120);
/// The tag of what Weir made.
const TAG: (&str, &str) = ("created-by", "weir");

/// The consumer cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It is not registered, and is not to be.
    #[error(
        "the Kinesis stream {stream} has no enhanced fan-out consumer {name}: register it (`aws kinesis register-stream-consumer`), or leave out --no-create"
    )]
    Missing {
        /// The stream.
        stream: String,
        /// The consumer.
        name: String,
    },
    /// It is being removed, or did not become active.
    #[error("the enhanced fan-out consumer {name} of stream {stream} is {status} and cannot be used: try again later")]
    NotActive {
        /// The stream.
        stream: String,
        /// The consumer.
        name: String,
        /// What Kinesis says of it.
        status: String,
    },
    /// A call failed.
    #[error("the enhanced fan-out consumer {name} of stream {stream} could not be {what}: {why}")]
    Failed {
        /// The stream.
        stream: String,
        /// The consumer.
        name: String,
        /// Described, registered.
        what: &'static str,
        /// The cause.
        why: String,
    },
}

/// A consumer that can be used.
pub(super) struct Found {
    pub arn: String,
    pub was_registered: bool,
}

pub(super) async fn find(stream: &Kinesis, name: &str, create: bool) -> Result<Found, OpenError> {
    let (client, stream_name, arn) = (&stream.0.client, stream.name(), &stream.0.arn);
    let failed = |what| {
        let (stream, name) = (stream_name.to_owned(), name.to_owned());
        move |failure: Failure| OpenError::Failed { stream, name, what, why: failure.why }
    };
    let (give_up, mut was_registered) = (Instant::now() + WAIT_MAX, false);
    loop {
        let answer = client.describe_stream_consumer().stream_arn(arn).consumer_name(name).send().await;
        let found = match answer.map_err(|error| Failure::of(&error)) {
            Ok(answer) => answer.consumer_description,
            Err(failure) if failure.kind == Kind::Gone => None,
            Err(failure) => return Err(failed("described")(failure)),
        };
        let status = match found {
            Some(consumer) if consumer.consumer_status == ConsumerStatus::Active => {
                return Ok(Found { arn: consumer.consumer_arn, was_registered });
            }
            Some(consumer) => consumer.consumer_status.as_str().to_lowercase(),
            // What was just registered may not be seen yet.
            None if was_registered => "being registered".to_owned(),
            None if !create => {
                return Err(OpenError::Missing { stream: stream_name.to_owned(), name: name.to_owned() });
            }
            None => {
                let call = client.register_stream_consumer().stream_arn(arn).consumer_name(name).tags(TAG.0, TAG.1);
                was_registered = match call.send().await.map_err(|error| Failure::of(&error)) {
                    Ok(_) => true,
                    // Another process has just done so.
                    Err(failure) if failure.kind == Kind::InUse => false,
                    Err(failure) => return Err(failed("registered")(failure)),
                };
                "being registered".to_owned()
            }
        };
        if Instant::now() >= give_up {
            return Err(OpenError::NotActive { stream: stream_name.to_owned(), name: name.to_owned(), status });
        }
        tokio::time::sleep(stream.0.options.status_pause).await;
    }
}
