//! The API function where functions fold too: what it says of definitions that nobody has folded yet, and that it sees another generation in time.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::{
    cloud::{API, CONSUMER, Cloud, TICKER, batches, lines},
    generations::follows,
    lambda::Function,
    mapping::{TIME, recorded, run},
    web::{GATEWAYS, ask, of_function, tokens},
};

const SHARD: &str = "shardId-000000000000";

fn api(cloud: &Cloud) -> Function {
    Function::start(API, |command| {
        cloud.lead(command);
        command.env("WEIR_TOKENS", tokens());
    })
}

/// How many lines the API counts of a service.
fn counted(function: &mut Function) -> u64 {
    let asked = ask("GET", "/metrics").with("service", "app").with("metric", "lines");
    let answer = of_function(function, &asked.event(GATEWAYS[0].0)).json();
    let items = answer["items"].as_array().cloned().unwrap_or_default();
    items.iter().map(|item| item["sum"].as_f64().unwrap() as u64).sum()
}

#[test]
fn definitions_that_nobody_folds_in_time_are_accepted_and_come_into_force_by_themselves() {
    let cloud = Cloud::new(1);
    let (mut api, mut consumer, mut ticker) = (api(&cloud), cloud.function(CONSUMER), cloud.function(TICKER));
    let alarm = json!({"AlarmName": "slow", "ServiceName": "app", "MetricName": "lines", "Statistic": "Sum", "Period": 60, "EvaluationPeriods": 1,
        "Threshold": 1, "ComparisonOperator": "GreaterThanOrEqualToThreshold"});
    let posted = ask("POST", "/definitions").body(alarm.to_string());
    let applied = of_function(&mut api, &posted.event(GATEWAYS[0].0));
    let revision = recorded(&cloud, SHARD).pop().unwrap().sequence;
    let expected = json!({"applied": [{"kind": "alarm", "name": "slow", "revision": revision}], "inForce": false});
    assert_eq!((applied.status, applied.json()), (202, expected));
    let alarms =
        |api: &mut Function| of_function(api, &ask("GET", "/alarms").event(GATEWAYS[0].0)).json()["alarms"].clone();
    assert_eq!(alarms(&mut api), json!([]));
    // Nothing more is asked of whoever applied it.
    run(&mut consumer, &recorded(&cloud, SHARD), 10, 1);
    assert_eq!(ticker.invoke(&json!({}), TIME).answered()["definitions"], revision);
    run(&mut consumer, &recorded(&cloud, SHARD), 10, 1);
    assert_eq!(alarms(&mut api)[0]["name"], "slow");
}

#[test]
fn an_instance_that_began_before_a_promotion_answers_from_the_generation_that_counts_soon_after_it() {
    let cloud = Cloud::new(1);
    let (mut api, mut consumer) = (api(&cloud), cloud.function(CONSUMER));
    cloud.append(&batches("a.log", &lines("app", 0..120)));
    run(&mut consumer, &recorded(&cloud, SHARD), 100, 1);
    assert_eq!(counted(&mut api), 120);
    cloud.beside(async |system| {
        system.replay("new", Some(processor::generations::Start::Oldest)).await.unwrap();
        follows(system, "new").await;
        system.promote("new").await.unwrap();
    });
    // These lines are in rows of the new one alone: nobody folds the other any more.
    cloud.append(&batches("b.log", &lines("app", 120..180)));
    run(&mut consumer, &recorded(&cloud, SHARD), 100, 3);
    let begun = Instant::now();
    while counted(&mut api) != 180 {
        assert!(begun.elapsed() < Duration::from_secs(60), "it answers from the first: {}", counted(&mut api));
        std::thread::sleep(Duration::from_millis(200));
    }
}
