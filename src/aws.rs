//! A system on Kinesis and DynamoDB. Decides what its names may be, where configuration comes from (the SDK's own: environment, profiles, SSO, roles,
//! regions, `AWS_ENDPOINT_URL`), and what is told when something of it is missing; in which order it is opened, `open` does. Any number of processes may work on one pair (laws 4 and 5).

pub mod announced;
mod buckets;
mod fan_out;
mod keep;
mod open;
pub mod silence;
mod whom;

use std::{io, num::NonZeroU16, path::PathBuf, time::Duration};

use aws_config::{BehaviorVersion, SdkConfig, timeout::TimeoutConfig};
use aws_smithy_http_client::tls;
use events::kinesis;
use processor::{consume::ConsumeError, leases::dynamodb::TableError};
use projections::dynamodb;

pub use buckets::Buckets;
pub use keep::{KeepError, Kept};

use crate::{SHARDS_MAX, leasing};

/// Longest that an answer may take to begin: a connection that hangs is given up, and the call made again.
const ANSWER_WAIT: Duration = Duration::from_secs(20);
/// Longest that a connection may take.
const CONNECT_WAIT: Duration = Duration::from_secs(5);
/// In the words of the SDK's HTTP client: a name that DNS does not know.
const NO_ADDRESS: &str = "dns error";
/// Most characters of a stream's name (Kinesis API reference, `CreateStream`).
const STREAM_CHARS_MAX: usize = 128;
/// Most characters of the beginning of tables' names: a name has at most 255 (DynamoDB API reference, `CreateTable`), and what follows is ours.
const PREFIX_CHARS_MAX: usize = 200;

/// How long a process may be silent until others take its shards over, unless told otherwise.
pub const FAILOVER: Duration = leasing::FAILOVER;

/// The system could not be opened. Nothing was changed, except what was said to be made.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// More shards than a new stream is made with.
    #[error(
        "{0} shards are too many for a stream that is made here: at most {SHARDS_MAX}. Make it with `aws kinesis create-stream`, then run the same again"
    )]
    TooManyShards(NonZeroU16),
    /// A URL that names no stream or no tables.
    #[error("{option} {given} is not {form}")]
    Name {
        /// Which option.
        option: &'static str,
        /// What was given.
        given: String,
        /// What it takes.
        form: String,
    },
    /// Nothing says which region.
    #[error(
        "no AWS region is set{0}: set AWS_REGION, or `region` in the profile of ~/.aws/config that AWS_PROFILE names"
    )]
    NoRegion(String),
    /// Nothing says who asks.
    #[error(
        "no AWS credentials{profile}: {why}. Log in (`aws configure`, `aws sso login`), or name a profile that has some (AWS_PROFILE); on AWS, give the \
         machine or task a role"
    )]
    NoCredentials {
        /// In which profile, if one was named.
        profile: String,
        /// The cause.
        why: String,
    },
    /// The profile that is named is nowhere.
    #[error(
        "there is no profile `{0}`, which AWS_PROFILE names, in ~/.aws/config or ~/.aws/credentials (or where AWS_CONFIG_FILE and \
         AWS_SHARED_CREDENTIALS_FILE say). `aws configure list-profiles` shows those that there are"
    )]
    NoProfile(String),
    /// What AWS tools are configured by.
    #[error(
        "AWS's configuration (~/.aws/config and ~/.aws/credentials, or where AWS_CONFIG_FILE and AWS_SHARED_CREDENTIALS_FILE say) cannot be read: {0}. \
         `aws configure list` reads the same files, and says which line is wrong"
    )]
    ConfigFiles(String),
    /// The sign-in is missing or over.
    #[error(
        "the profile `{profile}` signs in by SSO, and is not signed in: {why}. Run `aws sso login --profile {profile}`, then the same again"
    )]
    NotSignedIn {
        /// Its name.
        profile: String,
        /// The cause.
        why: String,
    },
    /// Stream or tables are not there, and were not to be made.
    #[error(
        "{what} (in {place}). The name may be misspelt, or AWS_REGION or AWS_PROFILE mean another place; `weir up` and `weir ingest` make what is \
         missing, unless they are given --no-create"
    )]
    Missing {
        /// What there is not.
        what: String,
        /// Region, and endpoint where it is not AWS's.
        place: String,
    },
    /// Its address is not known.
    #[error(
        "no address is known of {host} (in {place}): the region may be misspelt (AWS_REGION, or `region` in the profile), or the network has no DNS"
    )]
    NoHost {
        /// Which host.
        host: String,
        /// Region, and endpoint where it is not AWS's.
        place: String,
    },
    /// The stream.
    #[error(
        "{source} (in {place}). See AWS_REGION, AWS_PROFILE, AWS_ENDPOINT_URL, the network, and what the credentials permit; the same is asked by `aws \
         kinesis describe-stream-summary --stream-name {name}`"
    )]
    Stream {
        /// Its name.
        name: String,
        /// Region, and endpoint where it is not AWS's.
        place: String,
        /// The cause.
        source: kinesis::OpenError,
    },
    /// The tables.
    #[error("{source} (in {place})")]
    Rows {
        /// Region, and endpoint where it is not AWS's.
        place: String,
        /// The cause.
        source: dynamodb::OpenError,
    },
    /// The consumer of enhanced fan-out.
    #[error("{source} (in {place}). Without --fan-out its shards are read as all other readers do")]
    Consumer {
        /// Region, and endpoint where it is not AWS's.
        place: String,
        /// The cause.
        source: kinesis::ConsumerError,
    },
    /// The table of leases.
    #[error("{source} (in {place}). Processes that share a stream agree there who reads which shard")]
    Leases {
        /// Region, and endpoint where it is not AWS's.
        place: String,
        /// The cause.
        source: TableError,
    },
    /// The leases could not be looked up.
    #[error("who reads which shard could not be looked up: {0}")]
    Round(String),
    /// The folder of lists.
    #[error("the cache folder {folder} cannot be made: {source}. Name another one with --data DIR")]
    Cache {
        /// The folder.
        folder: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A worker.
    #[error(transparent)]
    Worker(#[from] Box<ConsumeError>),
    /// Which generations there are could not be read.
    #[error("which generations there are could not be read: {0}")]
    Generations(#[source] projections::store::ReadError),
    /// The shards could not be listed.
    #[error(transparent)]
    Shards(#[from] Box<events::stream::ReadError>),
    /// A thread of the system.
    #[error(
        "a thread could not be started: {0}. A limit of the machine, the user (`ulimit -u`) or the container may be reached"
    )]
    Thread(#[source] io::Error),
}

/// A stream and the rows that are made of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    stream: String,
    prefix: String,
}

/// How a pair is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// What is missing is made; else it is an error.
    pub create: bool,
    /// Shards of a new stream; an existing one keeps its own.
    pub shards: Option<NonZeroU16>,
    /// What this process does.
    pub role: Role,
    /// A process that shares the shards, and was silent for so long, has its shards taken over. The same for all processes of a pair.
    pub failover: Duration,
    /// Workers read by enhanced fan-out: a consumer of this pair's own, to which each shard's records are pushed at up to 2 MB a second, beside the
    /// five reads and 2 MB a second that all other readers of a shard share. It costs by the hour and shard, and by what it reads.
    pub fan_out: bool,
}

/// What a process does with a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It shares the stream's shards with all others in this role, folds its own, ticks, and commits.
    Worker,
    /// For as long as a command runs: it folds the shards that nobody has, ticks, and waits for those who have the others.
    Helper,
    /// It reads rows as they are.
    Reader,
}

/// The name behind a scheme, if it has only characters that names of streams and tables have.
fn name<'a>(url: &'a str, scheme: &str, chars_max: usize) -> Option<&'a str> {
    let name = url.strip_prefix(scheme)?.strip_prefix("://")?.trim_end_matches('/');
    let is_fine = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    (is_fine && (1..=chars_max).contains(&name.len())).then_some(name)
}

impl Pair {
    /// Reads `kinesis://NAME` and `dynamodb://PREFIX`.
    pub fn parse(stream: &str, store: &str) -> Result<Self, OpenError> {
        let refused = |option, given: &str, form: &str, chars_max| OpenError::Name {
            option,
            given: given.to_owned(),
            form: format!("{form}, of letters, digits, `_`, `.` and `-`, at most {chars_max}"),
        };
        let Some(stream) = name(stream, "kinesis", STREAM_CHARS_MAX) else {
            return Err(refused("--stream", stream, "kinesis://NAME with the name of a stream", STREAM_CHARS_MAX));
        };
        let Some(prefix) = name(store, "dynamodb", PREFIX_CHARS_MAX) else {
            return Err(refused(
                "--store",
                store,
                "dynamodb://PREFIX with the beginning of names of tables",
                PREFIX_CHARS_MAX,
            ));
        };
        Ok(Self { stream: stream.to_owned(), prefix: prefix.to_owned() })
    }

    /// The stream's name.
    pub fn stream(&self) -> &str {
        &self.stream
    }
}

/// HTTP over TLS: HTTP/2 where the service offers it, as Kinesis does for what it pushes. Whoever does not answer is told of.
fn https() -> aws_sdk_kinesis::config::SharedHttpClient {
    let https = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring);
    silence::watched(aws_smithy_http_client::Builder::new().tls_provider(https).build_https())
}

/// The SDK's own configuration.
async fn configuration() -> Result<SdkConfig, OpenError> {
    let http = https();
    let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_WAIT).read_timeout(ANSWER_WAIT).build();
    let config =
        aws_config::defaults(BehaviorVersion::latest()).http_client(http).timeout_config(timeouts).load().await;
    whom::is_known(&config).await?;
    Ok(config)
}

/// Where a service is asked, for messages: the region, an endpoint that is not AWS's own, and the profile that was named.
fn place(config: &SdkConfig, service: &str) -> String {
    let region = config.region().map_or("no region", |region| region.as_ref());
    let endpoint = whom::endpoint(config, service).map(|endpoint| format!(" at {endpoint}")).unwrap_or_default();
    let profile = whom::profile().map(|profile| format!(", profile `{profile}`")).unwrap_or_default();
    format!("{region}{endpoint}{profile}")
}

/// The host that was asked, if nobody knows its address; `why`: what the SDK says.
fn unknown_host(config: &SdkConfig, service: &str, why: &str) -> Option<OpenError> {
    if !why.contains(NO_ADDRESS) {
        return None;
    }
    let region = config.region().map_or("", |region| region.as_ref());
    // AWS General Reference, "Service endpoints".
    let of_aws = || format!("{}.{region}.amazonaws.com", service.to_lowercase());
    let host = whom::endpoint(config, service).unwrap_or_else(of_aws);
    Some(OpenError::NoHost { host, place: place(config, service) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_host_without_an_address_is_named_with_its_region() {
        let region = aws_config::Region::new("eu-centrl-1");
        let config = SdkConfig::builder().region(region).behavior_version(BehaviorVersion::latest()).build();
        let said = unknown_host(&config, "Kinesis", "io error: dns error: not known").unwrap().to_string();
        assert!(said.starts_with("no address is known of kinesis.eu-centrl-1.amazonaws.com (in eu-centrl-1"), "{said}");
        assert!(unknown_host(&config, "Kinesis", "connection refused").is_none());
    }

    #[test]
    fn urls_name_a_stream_and_the_beginning_of_tables_and_what_is_wrong_is_said_with_the_right_form() {
        let pair = Pair::parse("kinesis://my-logs_1.x", "dynamodb://weir/").unwrap();
        assert_eq!(pair, Pair { stream: "my-logs_1.x".into(), prefix: "weir".into() });
        let long = format!("kinesis://{}", "x".repeat(129));
        for stream in [
            "my-logs",
            "kinesis:my-logs",
            "kinesis://",
            "kinesis:///",
            "kinesis://a/b",
            "kinesis://a b",
            "dynamodb://a",
            &long,
        ] {
            let refused = Pair::parse(stream, "dynamodb://weir").unwrap_err().to_string();
            assert!(refused.starts_with(&format!("--stream {stream} is not kinesis://NAME")), "{refused}");
            assert!(refused.ends_with("of letters, digits, `_`, `.` and `-`, at most 128"), "{refused}");
        }
        let refused = Pair::parse("kinesis://a", "rows").unwrap_err().to_string();
        assert!(refused.starts_with("--store rows is not dynamodb://PREFIX"), "{refused}");
    }
}
