//! The stream on Amazon Kinesis Data Streams. Decides how the port's promises are kept over calls that fail in part, that are throttled, and whose
//! answers are lost; it never looks into a payload, and never changes a stream that it did not make. `design.md` beside these files has the reasons.
//!
//! Invariants:
//! - An append is acknowledged only by Kinesis' own answer for that record. What may have happened is never reported as not having happened.
//! - A retry sends the same bytes under the same key.
//! - A reader that resumes at a position sees the record there, or is told that it is gone.
//! - No error or debug text holds a credential.

mod failure;
mod fan_out;
mod opening;
mod pace;
mod places;
mod reader;
mod shards;
mod trouble;
mod writer;

#[cfg(test)]
mod tests;

use std::{
    fmt,
    num::{NonZeroU16, NonZeroU32},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use aws_sdk_kinesis::{
    Client,
    config::{self, retry::RetryConfig, timeout::TimeoutConfig},
};
use tokio::sync::Semaphore;

pub use fan_out::{FanOut, OpenError as ConsumerError};
pub use opening::{Missing, OpenError};
use pace::{BackOff, Hold};
use places::Places;
use reader::Lanes;
use shards::Ring;
use trouble::Trouble;

use crate::{
    position::ShardId,
    stream::{AppendError, Appended, Limits, Page, Put, ReadError, Refused, Shard, Start, Stream},
};

/// Shards of a stream that Weir makes, unless told otherwise: it takes 1 MB of packed lines a second, and its alarms decide within the tick.
pub const SHARDS_DEFAULT: NonZeroU16 = NonZeroU16::MIN;

const fn units(count: u32) -> NonZeroU32 {
    NonZeroU32::new(count).expect("not zero")
}

/// What is taken of the stream's limits, and how long things wait. The defaults are Kinesis' own limits (developer guide, "Quotas and limits").
#[derive(Debug, Clone)]
pub struct Options {
    /// GetRecords calls a second and shard, and GetShardIterator calls likewise. Kinesis gives five to all readers of a shard together: less, if
    /// others read it too.
    pub reads_per_sec: NonZeroU32,
    /// Bytes read a second and shard, which all readers share likewise.
    pub read_bytes_per_sec: NonZeroU32,
    /// Bytes written a second and shard, keys included. One stream's shards are alike, on demand too: a stream on demand splits those that are
    /// used, so it is no reason to send a shard more than it takes.
    pub write_bytes_per_sec: NonZeroU32,
    /// Records written a second and shard.
    pub write_records_per_sec: NonZeroU32,
    /// Most bytes in PutRecords calls at the same time. Beyond: appends wait.
    pub in_flight_bytes_max: NonZeroU32,
    /// How long a record waits at most for its turn on a shard that is written to as fast as it may be. Then it is refused as too much.
    pub turn_longest: Duration,
    /// How long one call may take, and as long again as its bytes take at `SLOWEST_BYTES_PER_SEC`.
    pub call_timeout: Duration,
    /// How long a reader waits before it asks an idle shard again. It leaves the other calls of a second to other readers.
    pub idle_pause: Duration,
    /// How long a shard is left alone after it refused a read as too much.
    pub throttle_pause: Duration,
    /// Bound of the first pause after a failed call; it doubles with each.
    pub back_off_first: Duration,
    /// Bound of the longest.
    pub back_off_longest: Duration,
    /// How long between two looks at a stream that is being made.
    pub status_pause: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            reads_per_sec: units(5),
            read_bytes_per_sec: units(2_000_000),
            write_bytes_per_sec: units(1_000_000),
            write_records_per_sec: units(1_000),
            in_flight_bytes_max: units(32 << 20),
            turn_longest: Duration::from_secs(30),
            call_timeout: Duration::from_secs(15),
            idle_pause: Duration::from_millis(500),
            throttle_pause: Duration::from_secs(1),
            back_off_first: Duration::from_millis(50),
            back_off_longest: Duration::from_secs(5),
            status_pause: Duration::from_secs(1),
        }
    }
}

/// A link that is slower than this is as good as none.
const SLOWEST_BYTES_PER_SEC: u64 = 50_000;

impl Options {
    /// How long a call with so many bytes may take, as its configuration.
    fn longest_for(&self, bytes: usize) -> config::Builder {
        let bytes_take = Duration::from_millis((bytes as u64).saturating_mul(1_000) / SLOWEST_BYTES_PER_SEC);
        let longest = self.call_timeout.saturating_add(bytes_take);
        let timeouts = TimeoutConfig::builder().operation_timeout(longest).operation_attempt_timeout(longest).build();
        config::Builder::new().timeout_config(timeouts)
    }

    fn back_off(&self) -> BackOff {
        BackOff { first: self.back_off_first, longest: self.back_off_longest }
    }
}

/// A stream on Kinesis. Clones are handles of the same one: they share its rates and its bounds.
#[derive(Clone)]
pub struct Kinesis(Arc<Inner>);

impl fmt::Debug for Kinesis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Kinesis").field(&self.0.name).finish()
    }
}

struct Inner {
    /// As it was given: with the SDK's retries, for calls that are asked rarely.
    client: Client,
    /// Without retries: each call is one request, so that what became of it is known.
    once: Client,
    name: String,
    arn: String,
    /// When it was made, in seconds since 1970.
    made_at: f64,
    created: bool,
    /// As it was when last asked for, in seconds; 0: not known.
    retention_secs: AtomicU64,
    options: Options,
    in_flight: Semaphore,
    ring: Ring,
    looked: Hold,
    lanes: Lanes,
    places: Places,
    /// Of appends, and of reads.
    troubles: [Trouble; 2],
}

/// What has failed for less is not told: a throttle now and then is nobody's business.
const TOLD_AFTER: Duration = Duration::from_secs(3);

/// After a look at the shards appends do not look again for so long: a listing may lag behind what an append met.
const LOOK_PAUSE: Duration = Duration::from_secs(2);

/// A permit of `in_flight` is so many bytes.
const PERMIT_BYTES: usize = 1 << 10;

impl Inner {
    /// Permits for a call of so many bytes. One that is larger than all there are goes alone.
    fn in_flight_units(&self, bytes: usize) -> u32 {
        let all = self.options.in_flight_bytes_max.get().div_ceil(PERMIT_BYTES as u32);
        u32::try_from(bytes.div_ceil(PERMIT_BYTES)).unwrap_or(u32::MAX).clamp(1, all)
    }

    /// Learns the ring anew, at most once in `LOOK_PAUSE` for all appends. If it cannot be had, the old one stays: it decides rates only.
    async fn look_at_shards(&self) {
        if self.looked.until().is_some() {
            return;
        }
        self.looked.for_at_least(LOOK_PAUSE);
        if let Ok(all) = shards::list(&self.client, &self.name).await {
            self.ring.learn(&all, &self.options);
        }
    }

    fn retention(&self) -> Option<Duration> {
        let secs = self.retention_secs.load(Relaxed);
        (secs > 0).then(|| Duration::from_secs(secs))
    }

    /// What went wrong, and where.
    fn say(&self, why: &str) -> String {
        format!("Kinesis stream {}: {why}", self.name)
    }
}

impl Kinesis {
    /// Opens a stream, or makes it if it is missing and may be made; returns once it can be used.
    pub async fn open(client: Client, name: &str, missing: Missing) -> Result<Self, OpenError> {
        Self::open_with(client, name, missing, Options::default()).await
    }

    /// As `open`, with limits of one's own.
    pub async fn open_with(client: Client, name: &str, missing: Missing, options: Options) -> Result<Self, OpenError> {
        let found = opening::find(&client, name, missing, &options).await?;
        let timeouts = client.config().timeout_config().map_or_else(TimeoutConfig::builder, TimeoutConfig::to_builder);
        let timeouts = timeouts.operation_timeout(options.call_timeout).operation_attempt_timeout(options.call_timeout);
        let once = client.config().to_builder().retry_config(RetryConfig::disabled()).timeout_config(timeouts.build());
        let ring = Ring::default();
        let all = shards::list(&client, name).await.map_err(|failure| OpenError::Failed {
            name: name.to_owned(),
            what: "listed",
            why: failure.why,
        })?;
        ring.learn(&all, &options);
        Ok(Self(Arc::new(Inner {
            once: Client::from_conf(once.build()),
            client,
            name: name.to_owned(),
            arn: found.arn,
            made_at: found.made_at,
            created: found.created,
            retention_secs: AtomicU64::new(found.retention.map_or(0, |retention| retention.as_secs())),
            in_flight: Semaphore::new(options.in_flight_bytes_max.get().div_ceil(PERMIT_BYTES as u32) as usize),
            options,
            ring,
            looked: Hold::default(),
            lanes: Lanes::default(),
            places: Places::default(),
            troubles: Default::default(),
        })))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// What tells it from every other stream, and from one that was deleted and made again under its name: its ARN and the time of its creation.
    pub fn identity(&self) -> String {
        format!("{} {:?}", self.0.arn, self.0.made_at)
    }

    /// How long it keeps records, as it was when last asked for; `None`: Kinesis did not say.
    pub fn retention(&self) -> Option<Duration> {
        self.0.retention()
    }

    /// Why appends or reads have not got anywhere for some seconds: it is throttled, out of reach, or refuses. They go on trying.
    pub fn trouble(&self) -> Option<String> {
        let why = self.0.troubles.iter().find_map(|trouble| trouble.of(TOLD_AFTER));
        why.map(|why| self.0.say(&why))
    }

    /// True if `open` made it: whoever runs the program is told.
    pub fn was_created(&self) -> bool {
        self.0.created
    }
}

impl Stream for Kinesis {
    async fn append(&self, puts: Vec<Put>) -> Result<Vec<Result<Appended, Refused>>, AppendError> {
        self.0.append(puts).await
    }

    async fn shards(&self) -> Result<Vec<Shard>, ReadError> {
        let (all, retention) =
            tokio::join!(shards::list(&self.0.client, &self.0.name), opening::retention(&self.0.client, &self.0.name));
        // Without an answer the old one stays: who reads within it asks no less often.
        if let Some(retention) = retention {
            self.0.retention_secs.store(retention.as_secs(), Relaxed);
        }
        let all = all.map_err(|failure| ReadError::Unavailable(self.0.say(&failure.why)))?;
        self.0.ring.learn(&all, &self.0.options);
        Ok(all.into_iter().map(|listed| listed.shard).collect())
    }

    async fn read(&self, shard: &ShardId, from: Start, limits: Limits) -> Result<Page, ReadError> {
        self.0.read(shard, from, limits).await
    }
}
