//! How a pair is opened: the stream, the rows that are that stream's, and what shares their shards with other processes. Decides the order in which that
//! happens, so that what cannot work at all is said before anything else begins, and names what it made.

use std::{
    num::NonZeroU16,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use aws_config::SdkConfig;
use events::{
    identity::Producer,
    kinesis::{self, FanOut, Kinesis},
};
use processor::leases::{
    Appetite,
    dynamodb::{Table, TableError},
};
use projections::{
    dynamodb::{self, DynamoDb},
    fold::Place,
};
use tokio::runtime::Handle;
use xxhash_rust::xxh3::xxh3_64;

use super::{OpenError, Options, Pair, Role, configuration, fan_out, keep, place, unknown_host};
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

/// How the name of the table of leases ends.
const LEASES: &str = "leases";

impl Pair {
    /// The stream. `create`: what is missing is made, of so many shards. `made` hears of it.
    pub(super) async fn open_stream(
        &self,
        config: &SdkConfig,
        create: Option<Option<NonZeroU16>>,
        made: impl Fn(&str),
    ) -> Result<Kinesis, OpenError> {
        let name = &self.stream;
        let missing = match create {
            Some(shards) => kinesis::Missing::Create(shards.unwrap_or(kinesis::SHARDS_DEFAULT)),
            None => kinesis::Missing::Refuse,
        };
        let of_stream = |source| match source {
            kinesis::OpenError::Missing(_) => is_missing(&source, config, "Kinesis"),
            source => unknown_host(config, "Kinesis", &with_causes(&source)).unwrap_or_else(|| OpenError::Stream {
                name: name.clone(),
                place: place(config, "Kinesis"),
                source,
            }),
        };
        let stream = Kinesis::open(aws_sdk_kinesis::Client::new(config), name, missing).await.map_err(of_stream)?;
        if stream.was_created() {
            made(&format!(
                "the stream {name} in {}, which keeps records for 24 hours (`aws kinesis increase-stream-retention-period` for longer)",
                place(config, "Kinesis")
            ));
        }
        Ok(stream)
    }

    /// The rows, which are this stream's alone, with the names of tables that were made.
    pub(super) async fn open_rows(
        &self,
        config: &SdkConfig,
        create: bool,
        stream: &Kinesis,
        made: impl Fn(&str),
    ) -> Result<(DynamoDb, Vec<String>), OpenError> {
        let of_rows = |source| match source {
            dynamodb::OpenError::Missing { .. } => is_missing(&source, config, "DynamoDB"),
            source => OpenError::Rows { place: place(config, "DynamoDB"), source },
        };
        let client = aws_sdk_dynamodb::Client::new(config);
        let (rows, tables) = DynamoDb::open(&client, &self.prefix, missing(create)).await.map_err(of_rows)?;
        for table in &tables {
            made(&format!("the table {table} in {}", place(config, "DynamoDB")));
        }
        rows.bind(&stream.identity()).await.map_err(of_rows)?;
        Ok((rows, tables))
    }
}

fn is_missing(what: &impl std::error::Error, config: &SdkConfig, service: &str) -> OpenError {
    OpenError::Missing { what: what.to_string(), place: place(config, service) }
}

/// What is done about tables that are missing.
pub(super) const fn missing(create: bool) -> dynamodb::Create {
    if create { dynamodb::Create::Missing } else { dynamodb::Create::Refuse }
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
        let stream = pair.open_stream(config, options.create.then_some(options.shards), &made).await?;
        let (rows, tables) = pair.open_rows(config, options.create, &stream, &made).await?;
        // Who reads alone tells nobody what is wrong about it, and has what it made be as all others make it.
        let wrong = match options.role {
            Role::Reader if tables.is_empty() => vec![],
            _ => keep::wrong_with(&rows, &stream, options.create).await,
        };
        let reading = match options.fan_out {
            true => Some(fan_out::subscribed(&stream, config, pair, &options, &made).await?),
            false => None,
        };
        let system = Self::over(stream, reading, rows, cache);
        system.generations.look().await.map_err(OpenError::Generations)?;
        let appetite = match options.role {
            Role::Worker => Appetite::Share,
            Role::Helper => Appetite::Leftovers,
            Role::Reader => return Ok(system),
        };
        let of_leases = |source| match source {
            TableError::Missing(_) => is_missing(&source, config, "DynamoDB"),
            source => OpenError::Leases { place: place(config, "DynamoDB"), source },
        };
        let leases = format!("{}-{LEASES}", pair.prefix);
        let table = Table::open(aws_sdk_dynamodb::Client::new(config), &leases, options.create).await;
        let (table, was_made) = table.map_err(of_leases)?;
        if was_made {
            made(&format!("the table {leases} in {}", place(config, "DynamoDB")));
        }
        let me = leasing::name(&system.instance, appetite);
        let leasing = Leasing::new(table, me, appetite, options.failover, &system.workers);
        if let Err(error) = system.start_elsewhere(leasing).await {
            // Threads that have begun live on this runtime, and may not outlive it.
            let _ = tokio::task::spawn_blocking(move || system.close()).await;
            return Err(error);
        }
        wrong.into_iter().for_each(|wrong| system.workers.notes.tell(format!("warning: {wrong}")));
        Ok(system)
    }

    /// Without a worker.
    fn over(stream: Kinesis, reading: Option<FanOut>, rows: DynamoDb, cache: &Path) -> Self {
        let (is_new, identity) = (stream.was_created(), stream.identity());
        let (stream, store) = (Arc::new(AnyStream::Kinesis(stream)), Arc::new(AnyStore::DynamoDb(Box::new(rows))));
        let reading = reading.map_or_else(|| stream.clone(), |reading| Arc::new(AnyStream::FanOut(Box::new(reading))));
        let instance = format!("{:016x}", chance());
        let workers = Workers::reading(stream.clone(), reading, store.clone(), Manner::AWS, Some(Handle::current()));
        let ticker = Arc::new(Ticker::new(now_ms()));
        Self {
            folder: cache.to_owned(),
            own: None,
            is_new,
            lists: format!("{LISTS_ELSEWHERE}{:016x}", xxh3_64(identity.as_bytes())),
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
        }
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
