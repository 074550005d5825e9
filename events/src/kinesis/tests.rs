//! The adapter against an emulator that others wrote, and against a scripted service for what no emulator does.
#![allow(clippy::unwrap_used)]

mod append;
mod base64;
mod emulator;
mod fan_out;
mod laws;
mod opening;
mod read;
mod scripted;

use std::{
    num::{NonZeroU32, NonZeroUsize},
    time::Duration,
};

use aws_sdk_kinesis::{
    Client,
    config::{BehaviorVersion, Credentials, ProvideCredentials, Region, retry::RetryConfig},
};
use bytes::Bytes;

use self::scripted::Scripted;
use super::{Kinesis, Missing, Options};
use crate::stream::{Limits, Put};

/// A client of an endpoint that speaks plain HTTP.
fn client(endpoint: &str) -> Client {
    client_with(endpoint, Some(Credentials::new("test-key", "test-secret", Some("test-session".into()), None, "test")))
}

fn client_with(endpoint: &str, credentials: Option<impl ProvideCredentials + 'static>) -> Client {
    let mut config = aws_sdk_kinesis::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .retry_config(RetryConfig::standard().with_initial_backoff(Duration::from_millis(1)))
        .endpoint_url(endpoint)
        .http_client(aws_smithy_http_client::Builder::new().build_http());
    if let Some(credentials) = credentials {
        config = config.credentials_provider(credentials);
    }
    Client::from_conf(config.build())
}

/// No limits, and nobody waits to be polite.
fn quick() -> Options {
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

async fn open(service: &Scripted, options: Options) -> Kinesis {
    Kinesis::open_with(client(&service.endpoint), "scripted", Missing::Refuse, options).await.unwrap()
}

fn put(key: &str, data: &[u8]) -> Put {
    Put { partition_key: key.to_owned(), hash_key: None, data: Bytes::copy_from_slice(data) }
}

fn limits(records: usize, bytes: usize) -> Limits {
    Limits { records: NonZeroUsize::new(records).unwrap(), bytes, wait: Duration::ZERO }
}
