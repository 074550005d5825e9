//! The ticker, and what a function says that was deployed wrong.

use serde_json::json;

use crate::{
    cloud::{API, CONSUMER, Cloud, TICKER},
    lambda::{Ended, Function},
    mapping::{TIME, recorded, run},
};

#[test]
fn a_tick_reaches_every_open_shard_and_names_the_newest_definitions() {
    let cloud = Cloud::new(3);
    let mut ticker = cloud.function(TICKER);
    let scheduled = json!({
        "version": "0", "id": "53dc4d37-cffa-4f76-80c9-8b7d4a4d2eaa", "detail-type": "Scheduled Event", "source": "aws.events",
        "account": "000000000000", "time": "2026-01-01T00:01:00Z", "region": "us-east-1",
        "resources": ["arn:aws:events:us-east-1:000000000000:rule/weir"], "detail": {}
    });
    let ticked = ticker.invoke(&scheduled, TIME).answered();
    assert_eq!(ticked["shards"].as_array().unwrap().len(), 3, "{ticked}");
    assert_eq!(ticked["definitions"], "0");
    for shard in cloud.shards() {
        let shard = shard.id.as_str();
        let records = recorded(&cloud, shard);
        assert_eq!(records.len(), 1);
        run(&mut cloud.function(CONSUMER), &records, 10, 1);
    }
    assert_eq!(ticker.log(1)[0]["message"], "ticked");
    cloud.verifies();
}

#[test]
fn a_function_that_was_deployed_wrong_says_what_is_missing() {
    let cloud = Cloud::new(1);
    let begun = |program: &str, variables: &[(&str, &str)]| {
        let mut function = Function::start(program, |command| {
            cloud.lead(command);
            command.envs(variables.iter().copied());
        });
        assert_eq!(function.invoke(&json!({}), TIME), Ended::Died);
        function.end()
    };
    for (program, variables, words) in [
        (CONSUMER, [("WEIR_STREAM", ""), ("A", "b")], "the variable WEIR_STREAM is not set"),
        (CONSUMER, [("WEIR_STREAM", "logs"), ("A", "b")], "logs is not kinesis://NAME"),
        (TICKER, [("WEIR_STORE", ""), ("A", "b")], "the variable WEIR_STORE is not set"),
        (TICKER, [("WEIR_STREAM", "kinesis://no-such-stream"), ("A", "b")], "no-such-stream"),
        (API, [("WEIR_TOKENS", ""), ("A", "b")], "the variable WEIR_TOKENS is not set"),
        (API, [("WEIR_TOKENS", "swapped-secret-word local"), ("A", "b")], "the variable WEIR_TOKENS: line 1"),
        (API, [("WEIR_TOKENS_FILE", "/no/such/file"), ("A", "b")], "/no/such/file"),
    ] {
        let said = begun(program, &variables);
        assert!(said.contains(words), "{words}: {said}");
        assert!(!said.contains("swapped-secret-word"), "{said}");
    }
    // Nothing was made on the way.
    let streams = cloud.runtime.block_on(cloud.client.list_streams().send()).unwrap();
    assert!(!streams.stream_names.contains(&"no-such-stream".to_owned()));
}
