//! Finds a stream, or makes it where that is allowed: decides what a new stream looks like. Never changes one that exists.

use std::{num::NonZeroU16, time::Duration};

use aws_sdk_kinesis::{
    Client,
    types::{StreamDescriptionSummary, StreamMode, StreamModeDetails, StreamStatus},
};
use tokio::time::Instant;

use super::{
    Options,
    failure::{Failure, Kind},
};

/// Longest wait for a stream until it can be used.
const WAIT_MAX: Duration = Duration::from_secs(300);
/// Longest name of a stream (Kinesis API reference, `StreamName`).
const NAME_BYTES_MAX: usize = 128;
/// The tag of what Weir made.
const TAG: (&str, &str) = ("created-by", "weir");

/// What to do if there is no such stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// Fail: somebody else makes streams here.
    Refuse,
    /// Make one of so many shards, tagged.
    Create(NonZeroU16),
}

/// The stream cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// No stream can have this name.
    #[error("`{0}` is no name of a stream: 1 to {NAME_BYTES_MAX} of a-z, A-Z, 0-9, `_`, `-`, `.`")]
    Name(String),
    /// It does not exist, and is not to be made.
    #[error("there is no Kinesis stream {0} in this account and region")]
    Missing(String),
    /// It is being deleted, or did not become active.
    #[error("Kinesis stream {name} is {status} and cannot be used: try again later")]
    NotActive {
        /// The stream.
        name: String,
        /// What Kinesis says of it.
        status: String,
    },
    /// A call failed.
    #[error("Kinesis stream {name} could not be {what}: {why}")]
    Failed {
        /// The stream.
        name: String,
        /// Described, created, listed.
        what: &'static str,
        /// The cause.
        why: String,
    },
}

/// A stream that can be used.
pub(super) struct Found {
    pub created: bool,
    pub retention: Option<Duration>,
    pub arn: String,
    /// In seconds since 1970.
    pub made_at: f64,
}

pub(super) async fn find(client: &Client, name: &str, missing: Missing, options: &Options) -> Result<Found, OpenError> {
    let named = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    if !named || name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(OpenError::Name(name.chars().take(NAME_BYTES_MAX + 1).collect()));
    }
    let failed = |what| {
        let name = name.to_owned();
        move |failure: Failure| OpenError::Failed { name, what, why: failure.why }
    };
    let give_up = Instant::now() + WAIT_MAX;
    let mut created = false;
    loop {
        let summary = match describe(client, name).await {
            Ok(summary) => Some(summary),
            Err(failure) if failure.kind == Kind::Gone => None,
            Err(failure) => return Err(failed("described")(failure)),
        };
        let status = match &summary {
            Some(summary) => match summary.stream_status() {
                StreamStatus::Active | StreamStatus::Updating => {
                    let made_at = summary.stream_creation_timestamp().as_secs_f64();
                    let arn = summary.stream_arn().to_owned();
                    return Ok(Found { created, retention: retention_of(summary), arn, made_at });
                }
                StreamStatus::Deleting => {
                    return Err(OpenError::NotActive { name: name.to_owned(), status: "being deleted".to_owned() });
                }
                status => status.as_str().to_lowercase(),
            },
            // What was just made may not be seen yet.
            None if created => "being created".to_owned(),
            None => {
                let Missing::Create(shards) = missing else { return Err(OpenError::Missing(name.to_owned())) };
                created = create(client, name, shards).await.map_err(failed("created"))?;
                "being created".to_owned()
            }
        };
        if Instant::now() >= give_up {
            return Err(OpenError::NotActive { name: name.to_owned(), status });
        }
        tokio::time::sleep(options.status_pause).await;
    }
}

/// How long the stream keeps records, as it is now; `None`: it did not say.
pub(super) async fn retention(client: &Client, name: &str) -> Option<Duration> {
    describe(client, name).await.ok().as_ref().and_then(retention_of)
}

fn retention_of(summary: &StreamDescriptionSummary) -> Option<Duration> {
    let hours = u64::try_from(summary.retention_period_hours()).ok().filter(|hours| *hours > 0);
    hours.map(|hours| Duration::from_secs(hours * 3600))
}

async fn describe(client: &Client, name: &str) -> Result<StreamDescriptionSummary, Failure> {
    let answer = client.describe_stream_summary().stream_name(name).send().await;
    let answer = answer.map_err(|error| Failure::of(&error))?;
    answer.stream_description_summary.ok_or_else(|| Failure::new(Kind::Unknown, "Kinesis described nothing"))
}

/// False: somebody else made it meanwhile.
///
/// Provisioned, not on demand: Weir packs, so a shard takes some 15,000 log lines a second, and a packed gigabyte costs on demand what thirty cost
/// by the unit (`design.md` has the sum).
async fn create(client: &Client, name: &str, shards: NonZeroU16) -> Result<bool, Failure> {
    let mode = StreamModeDetails::builder().stream_mode(StreamMode::Provisioned).build();
    let mode = mode.expect("a mode is all that it needs");
    let call = client.create_stream().stream_name(name).shard_count(shards.get().into()).stream_mode_details(mode);
    match call.tags(TAG.0, TAG.1).send().await {
        Ok(_) => Ok(true),
        Err(error) => match Failure::of(&error) {
            failure if failure.kind == Kind::InUse => Ok(false),
            failure => Err(failure),
        },
    }
}
