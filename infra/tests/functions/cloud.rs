//! A stream and tables that one test has to itself, functions on them, and what they come to beside the embedded pair. Decides nothing.

use std::{
    num::NonZeroU16,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

// Where they live now is a crate that nothing here needs otherwise.
#[allow(deprecated)]
use aws_config::{
    SdkConfig,
    profile::profile_file::{ProfileFileKind, ProfileFiles},
};
use aws_sdk_kinesis::config::{BehaviorVersion, Credentials, Region};
use events::{
    kinesis::{self, Kinesis},
    position::{SequenceNumber, ShardId},
    stream::{Put, ReadOnly, Stream},
};
use processor::verify::{self, Report};
use projections::{
    dynamodb::{self, DynamoDb},
    fold::Place,
    store::{Generation, Store},
};
use weir::{
    LocalStore, System,
    aws::{FAILOVER, Options, Pair, Role},
};

pub use crate::input::{batches_of, lines};
use crate::lambda::Function;

pub const CONSUMER: &str = env!("CARGO_BIN_EXE_weir-consumer");
pub const TICKER: &str = env!("CARGO_BIN_EXE_weir-ticker");
pub const NOTIFICATION: &str = env!("CARGO_BIN_EXE_weir-s3-notification");
pub const API: &str = env!("CARGO_BIN_EXE_weir-api");

/// Many lines of one minute: much to fold, and little to write.
pub fn minute(lines_a_second: u64) -> String {
    lines("app", 0..60).repeat(usize::try_from(lines_a_second).unwrap())
}

/// A file's lines as batches of some thirty, as they are put on any stream.
pub fn batches(name: &str, text: &str) -> Vec<Put> {
    batches_of(name, text, 3_000)
}

/// What a process of the pair on these emulators is led by.
#[allow(deprecated)]
pub async fn config(kinesis: &str, dynamodb: &str) -> SdkConfig {
    // One endpoint for each service, as a profile has them.
    let profile = format!(
        "[default]\nservices = emulators\n[services emulators]\nkinesis =\n  endpoint_url = {kinesis}\ndynamodb =\n  endpoint_url = {dynamodb}\n"
    );
    let profile = ProfileFiles::builder().with_contents(ProfileFileKind::Config, profile).build();
    let config = aws_config::defaults(BehaviorVersion::latest())
        .profile_files(profile)
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "test"))
        .http_client(aws_smithy_http_client::Builder::new().build_http());
    config.load().await
}

/// A pair of its own on the emulators.
pub struct Cloud {
    pub name: String,
    pub runtime: tokio::runtime::Runtime,
    pub client: aws_sdk_kinesis::Client,
    pub stream: Arc<Kinesis>,
    pub store: Arc<DynamoDb>,
    rows: aws_sdk_dynamodb::Client,
    /// Of the stream, and of the tables.
    endpoints: [String; 2],
}

impl Cloud {
    pub fn new(shards: u16) -> Self {
        Self::on(shards, &emulators::kinesis().endpoint, &emulators::dynamodb().endpoint)
    }

    /// On these emulators.
    pub fn on(shards: u16, kinesis: &str, dynamodb: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("weir-functions-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let settings = emulators::settings!(aws_sdk_kinesis, kinesis);
        let client = aws_sdk_kinesis::Client::from_conf(settings.build());
        let settings = emulators::settings!(aws_sdk_dynamodb, dynamodb);
        let rows = aws_sdk_dynamodb::Client::from_conf(settings.build());
        let (stream, store) = runtime.block_on(async {
            let shards = NonZeroU16::new(shards).unwrap();
            let stream = Kinesis::open(client.clone(), &name, kinesis::Missing::Create(shards)).await.unwrap();
            let (store, _) = DynamoDb::open(&rows, &name, dynamodb::Create::Missing).await.unwrap();
            (Arc::new(stream), Arc::new(store))
        });
        let endpoints = [kinesis.to_owned(), dynamodb.to_owned()];
        Self { name, runtime, client, stream, store, rows, endpoints }
    }

    pub fn arn(&self) -> String {
        format!("arn:aws:kinesis:us-east-1:000000000000:stream/{}", self.name)
    }

    /// Leads a program to the pair.
    pub fn lead(&self, command: &mut Command) {
        command
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "a-secret");
        command.env("AWS_EC2_METADATA_DISABLED", "true").env("AWS_CONFIG_FILE", "/dev/null");
        command.env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
        command.env("AWS_ENDPOINT_URL_KINESIS", &self.endpoints[0]);
        command.env("AWS_ENDPOINT_URL_DYNAMODB", &self.endpoints[1]);
        command.env("AWS_ENDPOINT_URL_S3", &emulators::aws().endpoint);
        command.env("WEIR_STREAM", format!("kinesis://{}", self.name));
        command.env("WEIR_STORE", format!("dynamodb://{}", self.name));
    }

    pub fn function(&self, program: &str) -> Function {
        Function::start(program, |command| self.lead(command))
    }

    /// Puts records on the stream; where they are.
    pub fn append(&self, puts: &[Put]) -> Vec<SequenceNumber> {
        self.runtime.block_on(async {
            let mut positions = vec![];
            for call in puts.chunks(100) {
                let appended = self.stream.append(call.to_vec()).await.unwrap().into_iter();
                positions.extend(appended.map(|answer| answer.unwrap().sequence));
            }
            positions
        })
    }

    /// Whoever needs them finds none.
    pub fn delete_tables(&self) {
        self.runtime.block_on(async {
            for table in ["ApplicationMetrics", "state", "checkpoints"] {
                self.rows.delete_table().table_name(format!("{}-{table}", self.name)).send().await.unwrap();
            }
        });
    }

    pub fn shards(&self) -> Vec<events::stream::Shard> {
        self.runtime.block_on(self.stream.shards()).unwrap()
    }

    /// Where a shard's resume point stands, as text, and whether the shard has ended there.
    pub fn resume_point(&self, shard: &str) -> Option<(String, bool)> {
        self.resume_point_in(Generation::default(), shard)
    }

    /// The same in a generation.
    pub fn resume_point_in(&self, generation: Generation, shard: &str) -> Option<(String, bool)> {
        let point = self.runtime.block_on(self.store.checkpoint(generation, &ShardId::named(shard))).unwrap();
        point.map(|(point, _)| (point.position.to_string(), point.ended))
    }

    /// Folds the stream again and compares: every row is what the stream says. The digest.
    #[track_caller]
    pub fn verifies(&self) -> String {
        self.verifies_in(Generation::default())
    }

    /// The same of a generation that began with the first record.
    #[track_caller]
    pub fn verifies_in(&self, generation: Generation) -> String {
        let report = self.runtime.block_on(async {
            let shards = self.stream.shards().await.unwrap();
            let ring: Vec<_> =
                shards.iter().filter(|shard| !shard.closed).map(|shard| (shard.id.clone(), shard.range)).collect();
            let place = |id: ShardId| Place { generation, shard: id, ring: ring.clone() };
            let places = shards.iter().map(|shard| place(shard.id.clone())).collect();
            let folder = tempfile::tempdir().unwrap();
            let scratch = Arc::new(LocalStore::open(&folder.path().join("rows.redb")).unwrap());
            let stream = ReadOnly::new(self.stream.clone());
            verify::verify(stream, &*self.store, scratch, places, async {}, |_| {}).await.unwrap()
        });
        digest(report)
    }

    /// For as long as `work` takes, another process has the pair, as a command has: it folds, ticks, and looks after generations.
    pub fn beside<T>(&self, work: impl AsyncFnOnce(&System) -> T) -> T {
        self.by(Role::Helper, work)
    }

    /// The same in a role.
    pub fn by<T>(&self, role: Role, work: impl AsyncFnOnce(&System) -> T) -> T {
        let pair = Pair::parse(&format!("kinesis://{}", self.name), &format!("dynamodb://{}", self.name)).unwrap();
        let options = Options { create: true, shards: None, role, failover: FAILOVER, fan_out: false };
        let folder = tempfile::tempdir().unwrap();
        let [kinesis, dynamodb] = &self.endpoints;
        self.runtime.block_on(async {
            let config = config(kinesis, dynamodb).await;
            let system = System::open_on_aws_with(&config, &pair, options, folder.path(), |_| {}).await.unwrap();
            let done = work(&system).await;
            assert_eq!(tokio::task::spawn_blocking(|| system.close()).await.unwrap(), None);
            done
        })
    }

    /// The digest of the same records on the embedded pair.
    pub fn embedded(&self, puts: &[Put]) -> String {
        let folder = tempfile::tempdir().unwrap();
        self.runtime.block_on(async {
            let options = weir::Options { shards: NonZeroU16::new(1), confirm_clock: false, who: "a test".into() };
            let system = System::open(folder.path(), options).await.unwrap();
            for put in puts {
                system.append(put.clone()).await.unwrap();
            }
            assert!(system.caught_up(Duration::from_secs(100)).await.unwrap());
            let report = system.verify(|_| {}).await.unwrap();
            assert_eq!(tokio::task::spawn_blocking(|| system.close()).await.unwrap(), None);
            digest(report)
        })
    }
}

#[track_caller]
fn digest(report: Report) -> String {
    assert_eq!((report.differences, report.older_than_stream), (0, 0), "{report:?}");
    report.digest.unwrap()
}
