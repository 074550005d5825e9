//! A system on Kinesis and DynamoDB. Decides what its names may be, where configuration comes from (the SDK's own: environment, profiles, SSO, roles,
//! regions, `AWS_ENDPOINT_URL`), and what is told when something of it is missing. Any number of processes may work on one pair (laws 4 and 5).

pub mod announced;
mod buckets;
mod fan_out;
mod keep;
mod whom;

use std::{
    io,
    num::NonZeroU16,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use aws_config::{BehaviorVersion, SdkConfig, timeout::TimeoutConfig};
use aws_smithy_http_client::tls;
use events::{
    identity::Producer,
    kinesis::{self, Kinesis},
};
use processor::{
    consume::ConsumeError,
    leases::{
        Appetite,
        dynamodb::{Table, TableError},
    },
};
use projections::{
    dynamodb::{self, DynamoDb},
    fold::Place,
};
use tokio::runtime::Handle;
use xxhash_rust::xxh3::xxh3_64;

pub use buckets::Buckets;
pub use keep::{KeepError, Kept};

use crate::{
    AnyStore, AnyStream, LISTS_ELSEWHERE, SHARDS_MAX, System,
    archive::Archive,
    chance,
    generations::Generations,
    leasing::{self, Leasing},
    now_ms,
    pair::Manner,
    ticker::Ticker,
    verifying::Verifying,
    with_causes,
    workers::{Workers, is_too_early},
};

/// Longest that an answer may take to begin: a connection that hangs is given up, and the call made again.
const ANSWER_WAIT: Duration = Duration::from_secs(20);
/// Longest that a connection may take.
const CONNECT_WAIT: Duration = Duration::from_secs(5);
/// Most characters of a stream's name (Kinesis API reference, `CreateStream`).
const STREAM_CHARS_MAX: usize = 128;
/// Most characters of the beginning of tables' names: a name has at most 255 (DynamoDB API reference, `CreateTable`), and what follows is ours.
const PREFIX_CHARS_MAX: usize = 200;

/// How the name of the table of leases ends.
const LEASES: &str = "leases";
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

/// HTTP over TLS: HTTP/2 where the service offers it, as Kinesis does for what it pushes.
fn https() -> aws_sdk_kinesis::config::SharedHttpClient {
    let https = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring);
    aws_smithy_http_client::Builder::new().tls_provider(https).build_https()
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

impl Options {
    /// Refuses what nothing can be made with.
    fn check(&self) -> Result<(), OpenError> {
        self.shards
            .filter(|shards| shards.get() > SHARDS_MAX)
            .map_or(Ok(()), |many| Err(OpenError::TooManyShards(many)))
    }
}

impl System {
    /// Opens a pair, and starts workers and the ticker if that is the role. `cache`: the folder of readers' lists, and of what `verify` folds into.
    /// `made` hears what was missing and is there now.
    pub async fn open_on_aws(
        pair: &Pair,
        options: Options,
        cache: &Path,
        made: impl Fn(&str),
    ) -> Result<Self, OpenError> {
        options.check()?;
        Self::open_on_aws_with(&configuration().await?, pair, options, cache, made).await
    }

    /// As `open_on_aws`, with a configuration that is at hand.
    pub async fn open_on_aws_with(
        config: &SdkConfig,
        pair: &Pair,
        options: Options,
        cache: &Path,
        made: impl Fn(&str),
    ) -> Result<Self, OpenError> {
        options.check()?;
        std::fs::create_dir_all(cache).map_err(|source| OpenError::Cache { folder: cache.to_owned(), source })?;
        let client = aws_sdk_kinesis::Client::new(config);
        let (name, prefix) = (&pair.stream, &pair.prefix);
        let missing = match options.create {
            true => kinesis::Missing::Create(options.shards.unwrap_or(kinesis::SHARDS_DEFAULT)),
            false => kinesis::Missing::Refuse,
        };
        let of_stream = |source| OpenError::Stream { name: name.clone(), place: place(config, "Kinesis"), source };
        let stream = Kinesis::open(client, name, missing).await.map_err(of_stream)?;
        if stream.was_created() {
            made(&format!(
                "the stream {name} in {}, which keeps records for 24 hours (`aws kinesis increase-stream-retention-period` for longer)",
                place(config, "Kinesis")
            ));
        }
        let of_rows = |source| OpenError::Rows { place: place(config, "DynamoDB"), source };
        let create = if options.create { dynamodb::Create::Missing } else { dynamodb::Create::Refuse };
        let (rows, tables) =
            DynamoDb::open(&aws_sdk_dynamodb::Client::new(config), prefix, create).await.map_err(of_rows)?;
        for table in &tables {
            made(&format!("the table {table} in {}", place(config, "DynamoDB")));
        }
        let (is_new, identity) = (stream.was_created(), stream.identity());
        // Who reads alone tells nobody what is wrong about it, and has what it made be as all others make it.
        let without_expiry = match options.role {
            Role::Reader if tables.is_empty() => vec![],
            _ => rows.see_to_expiry(create).await,
        };
        rows.bind(&identity).await.map_err(of_rows)?;
        let wrong = match rows.known_to_keep() {
            None if !options.create => without_expiry,
            kept => keep::wrong(kept, keep::days_kept(&stream), &without_expiry),
        };
        let lists = format!("{LISTS_ELSEWHERE}{:016x}", xxh3_64(identity.as_bytes()));
        let reading = match options.fan_out {
            true => Some(Arc::new(AnyStream::FanOut(Box::new(
                fan_out::subscribed(&stream, config, pair, &options, &made).await?,
            )))),
            false => None,
        };
        let (stream, store) = (Arc::new(AnyStream::Kinesis(stream)), Arc::new(AnyStore::DynamoDb(Box::new(rows))));
        let reading = reading.unwrap_or_else(|| stream.clone());
        let instance = format!("{:016x}", chance());
        let workers = Workers::reading(stream.clone(), reading, store.clone(), Manner::AWS, Some(Handle::current()));
        let ticker = Arc::new(Ticker::new(now_ms()));
        let system = Self {
            folder: cache.to_owned(),
            own: None,
            is_new,
            lists,
            stream,
            store,
            // Nobody counts openings here: the id is one that no other process has.
            producer: Producer {
                id: format!("api-{instance}"),
                epoch: u64::try_from(now_ms()).unwrap_or(0),
                counter: 0,
            },
            instance,
            counter: AtomicU64::new(0),
            generations: Generations::new(workers.clone(), ticker.clone()),
            ticker,
            workers,
            verifying: Verifying::default(),
            identity,
            archive: Archive::default(),
        };
        system.generations.look().await.map_err(OpenError::Generations)?;
        let appetite = match options.role {
            Role::Worker => Appetite::Share,
            Role::Helper => Appetite::Leftovers,
            Role::Reader => return Ok(system),
        };
        let of_leases = |source| OpenError::Leases { place: place(config, "DynamoDB"), source };
        let leases = format!("{prefix}-{LEASES}");
        let table = Table::open(aws_sdk_dynamodb::Client::new(config), &leases, options.create).await;
        let (table, was_made) = table.map_err(of_leases)?;
        if was_made {
            made(&format!("the table {leases} in {}", place(config, "DynamoDB")));
        }
        let me = leasing::name(&system.instance, appetite);
        system.start_elsewhere(Leasing::new(table, me, appetite, options.failover, &system.workers)).await?;
        wrong.into_iter().for_each(|wrong| system.workers.notes.tell(format!("warning: {wrong}")));
        Ok(system)
    }

    /// The first workers are opened before anything else happens: what cannot work at all is said at once.
    async fn start_elsewhere(&self, leasing: Arc<Leasing>) -> Result<(), OpenError> {
        let begun = leasing.round(false).await;
        leasing.say(begun.as_ref().err()).await;
        let begun = begun.map_err(|error| OpenError::Round(with_causes(&error)))?;
        if let Err(error) = self.start_first(begun).await {
            // What this process took is not to wait until it has been silent for long.
            self.workers.stop.store(true, Ordering::SeqCst);
            leasing.leave().await;
            return Err(error);
        }
        // All that a process takes when it begins is told by what it serves.
        drop(self.news());
        self.begin_attending().map_err(|(_, source)| OpenError::Thread(source))?;
        self.workers.spawn("leases", leasing.run()).map_err(OpenError::Thread)
    }

    async fn start_first(&self, places: Vec<Place>) -> Result<(), OpenError> {
        for place in places {
            // A parent may have to end first that another process follows with.
            let worker = match self.workers.open(place.clone()).await {
                Err(error) if is_too_early(&error) => None,
                opened => Some(opened.map_err(Box::new)?),
            };
            if let Some(worker) = worker.as_ref().filter(|worker| worker.shard().acts()) {
                self.ledger().passed(&place.shard, worker.committed());
            }
            self.workers.start(place, worker).map_err(OpenError::Thread)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

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
