//! Against kinesis-local: the port's laws, splits and merges, and streams that are missing.

use std::{
    num::{NonZeroU16, NonZeroU32},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use aws_sdk_kinesis::{
    Client,
    config::{BehaviorVersion, Credentials, Region},
};

use super::super::{Kinesis, Missing, Options};
use crate::stream::law;

/// A client of an endpoint that speaks plain HTTP.
pub fn client(endpoint: &str) -> Client {
    let config = aws_sdk_kinesis::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("test-key", "test-secret", None, None, "test"))
        .endpoint_url(endpoint)
        .http_client(aws_smithy_http_client::Builder::new().build_http());
    Client::from_conf(config.build())
}

/// An emulator has no limits of its own, and nobody waits for it to be polite.
pub fn quick() -> Options {
    Options {
        reads_per_sec: NonZeroU32::new(100_000).unwrap(),
        read_bytes_per_sec: NonZeroU32::MAX,
        write_bytes_per_sec: NonZeroU32::MAX,
        write_records_per_sec: NonZeroU32::MAX,
        idle_pause: Duration::from_millis(5),
        throttle_pause: Duration::from_millis(5),
        back_off_first: Duration::from_millis(1),
        back_off_longest: Duration::from_millis(5),
        status_pause: Duration::from_millis(5),
        ..Options::default()
    }
}

fn fresh_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("kinesis-adapter-{}", COUNT.fetch_add(1, Relaxed))
}

async fn fresh(shards: NonZeroU16) -> Kinesis {
    let client = client(&emulators::kinesis().endpoint);
    let stream = Kinesis::open_with(client, &fresh_name(), Missing::Create(shards), quick()).await.unwrap();
    assert!(stream.was_created());
    stream
}

#[tokio::test]
async fn the_laws_of_the_stream_port_hold() {
    law::suite(fresh).await;
}
