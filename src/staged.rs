//! A pair in a folder whose clock is set by hand, for tests in which minutes pass and nobody waits for them. Decides what comes in: lines of one service
//! on eight places of the ring, and an alarm on their sum.
#![allow(clippy::unwrap_used)]

use std::{
    num::NonZeroU16,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use events::{
    embedded::{self as stream, disk::RealDisk},
    event::{Defined, Event},
    identity::CONTROL_KEY,
    position::{HashKey, HashRange, SequenceNumber, ShardId},
    stream::{Put, Shard, Stream},
    wire::{self, Content, Header},
};
use processor::append::{append_all, system_event};

use crate::{AnyStore, AnyStream, LocalStore, LocalStream};

/// 2026-01-01T00:00:00Z.
pub(crate) const START_MS: i64 = 1_767_225_600_000;
const ALARM: &str = r#"{"AlarmName":"slow","ServiceName":"shop","MetricName":"latency","Statistic":"Sum","Period":60,"EvaluationPeriods":3,
    "DatapointsToAlarm":2,"Threshold":100,"ComparisonOperator":"GreaterThanThreshold"}"#;

pub(crate) struct Staged {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) clock: Arc<AtomicI64>,
    pub(crate) stream: Arc<AnyStream>,
    pub(crate) store: Arc<AnyStore>,
}

impl Staged {
    pub(crate) fn of(shards: u16) -> Self {
        let (folder, clock) = (tempfile::tempdir().unwrap(), Arc::new(AtomicI64::new(START_MS)));
        let stamps = clock.clone();
        let options = stream::Options { shards: NonZeroU16::new(shards).unwrap(), ..stream::Options::default() };
        let disk = RealDisk::in_folder(folder.path().join("stream")).unwrap();
        let stream = LocalStream::open(disk, move || stamps.load(Ordering::SeqCst), options).unwrap();
        let store = LocalStore::open(&folder.path().join("rows.redb")).unwrap();
        let (stream, store) = (Arc::new(AnyStream::Local(stream)), Arc::new(AnyStore::Local(store)));
        Self { folder, clock, stream, store }
    }

    pub(crate) fn local(&self) -> &LocalStream {
        self.stream.local().unwrap()
    }

    pub(crate) async fn shards(&self) -> Vec<Shard> {
        self.stream.shards().await.unwrap()
    }

    pub(crate) fn tip(&self, shard: &ShardId) -> SequenceNumber {
        self.local().tip(shard).unwrap()
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.clock.load(Ordering::SeqCst)
    }

    /// The minute is over, by a second.
    pub(crate) fn pass_minute(&self) {
        self.clock.store(self.now_ms().div_euclid(60_000) * 60_000 + 61_000, Ordering::SeqCst);
    }

    /// The alarm is defined.
    pub(crate) async fn define(&self) {
        let defined = Defined { kind: "alarm".into(), name: "slow".into(), body: ALARM.into(), by: "me".into() };
        let put = system_event(HashKey::of(CONTROL_KEY), Event::Defined(defined));
        append_all(&*self.stream, vec![put]).await.unwrap();
    }

    /// A line of half a minute from now, on each of eight places of the ring.
    pub(crate) async fn lines(&self, latency: f64) {
        self.lines_at(self.now_ms() / 1000 + 30, latency).await;
    }

    /// The same, of a time in seconds.
    pub(crate) async fn lines_at(&self, at_secs: i64, latency: f64) {
        let put = |range: HashRange| {
            let line = format!("{{\"ts\":{at_secs},\"service\":\"shop\",\"latency_ms\":{latency}}}\n");
            let header = Header::plain("local", Content::Lines, line.len() as u32, self.now_ms());
            let (partition_key, data) = ("line".to_owned(), wire::encode(&header, line.as_bytes()));
            Put { partition_key, hash_key: Some(range.from), data }
        };
        let puts = HashRange::even(NonZeroU16::new(8).unwrap()).into_iter().map(put).collect();
        append_all(&*self.stream, puts).await.unwrap();
    }
}
