//! The stream of a pair as an enhanced fan-out consumer of its own reads it: decides what that is called, and what is told of its price.

use aws_config::SdkConfig;
use events::kinesis::{FanOut, Kinesis};
use xxhash_rust::xxh3::xxh3_64;

use super::{OpenError, Options, Pair, https, place};

/// Most characters of a prefix in the name of a consumer, which has at most 128 (Kinesis API reference, `RegisterStreamConsumer`).
const CONSUMER_PREFIX_MAX: usize = 123;
/// What enhanced fan-out costs (Kinesis Data Streams pricing, us-east-1), in words.
const PRICE: &str = "$0.015 an hour for each shard, and $0.013 a GB read, at the prices of us-east-1";

/// What the consumer of a pair is called: of the pair's prefix, as each pair reads the whole stream.
fn consumer_name(prefix: &str) -> String {
    match prefix.len() {
        ..=CONSUMER_PREFIX_MAX => format!("weir-{prefix}"),
        _ => format!("weir-{}-{:016x}", &prefix[..CONSUMER_PREFIX_MAX - 17], xxh3_64(prefix.as_bytes())),
    }
}

/// The stream as a consumer of its own reads it, over connections of its own: what nobody asks for at the moment fills a connection.
pub(super) async fn subscribed(
    stream: &Kinesis,
    config: &SdkConfig,
    pair: &Pair,
    options: &Options,
    made: impl Fn(&str),
) -> Result<FanOut, OpenError> {
    let client = aws_sdk_kinesis::Client::new(&config.to_builder().http_client(https()).build());
    let name = consumer_name(&pair.prefix);
    let opened = FanOut::open(stream.clone(), &client, &name, options.create).await;
    let (fan_out, was_registered) =
        opened.map_err(|source| OpenError::Consumer { place: place(config, "Kinesis"), source })?;
    if was_registered {
        made(&format!(
            "the enhanced fan-out consumer {name} of stream {} ({PRICE}; `aws kinesis deregister-stream-consumer` ends that)",
            pair.stream
        ));
    }
    Ok(fan_out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consumer_has_a_name_of_its_own_for_each_prefix() {
        assert_eq!(consumer_name("logs"), "weir-logs");
        let long = consumer_name(&"x".repeat(200));
        assert!(long.len() == 128 && long != consumer_name(&"x".repeat(199)), "{long}");
    }
}
