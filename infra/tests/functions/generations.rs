//! The consumer where another generation of rows is promoted in the middle of deliveries: it goes on with the one that counts, warm and cold, there and
//! back, and what it comes to is what one process comes to.

use std::time::Duration;

use events::{
    event::{Defined, Event},
    identity::{CONTROL_KEY, LOCAL_TENANT},
    position::{HashKey, SequenceNumber, ShardId},
    stream::Put,
};
use processor::append::system_event_of;
use projections::{
    definitions::GENERATION,
    generations::{LIVE, Live, Promotion, record},
    store::{Generation, Store},
};
use serde_json::json;
use weir::System;

use crate::{
    cloud::{CONSUMER, Cloud, TICKER, batches, lines},
    lambda::Function,
    mapping::{TIME, recorded, run},
};

const SHARDS: [&str; 2] = ["shardId-000000000000", "shardId-000000000001"];
const FIRST: Generation = Generation(0);
const NEW: Generation = Generation(1);

/// Files of six services, enough of them that both shards have some.
fn part(number: u64) -> Vec<Put> {
    let file = |service: u64| {
        let service = format!("service-{service}");
        batches(&format!("{service}-{number}"), &lines(&service, number * 200..number * 200 + 260))
    };
    (0..6).flat_map(file).collect()
}

/// What the event source has handed over of each shard.
#[derive(Default)]
struct Source {
    done: [usize; 2],
}

impl Source {
    /// Hands over all that is on a shard and was not yet. A batch may have to come again.
    fn catch_up(&mut self, cloud: &Cloud, function: &mut Function, shard: usize) {
        let all = recorded(cloud, SHARDS[shard]);
        run(function, &all[self.done[shard]..], 7, 4);
        self.done[shard] = all.len();
    }
}

/// Waits until a generation has caught up with the one that counts.
pub async fn follows(system: &System, name: &str) {
    loop {
        let listed = system.generations().await.unwrap();
        let all = listed["generations"].as_array().unwrap().clone();
        let of = all.into_iter().find(|of| of["name"] == name).unwrap();
        if of["standing"] == "following" {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Writes down that a promotion begins, as `weir promote` does before anything else; then its process dies behind its definition. The position of that.
pub fn promote_and_die(cloud: &Cloud, name: &str) -> (Promotion, SequenceNumber) {
    let read = cloud.runtime.block_on(record::read(&*cloud.store)).unwrap();
    let mut changed = read.record.clone();
    let promotion = changed.promote(name, 0).unwrap();
    assert!(cloud.runtime.block_on(record::write(&*cloud.store, &read, &changed)).unwrap());
    let live = Live { generation: Generation(promotion.generation), promotion: promotion.number };
    let defined = Defined { kind: GENERATION.into(), name: LIVE.into(), body: live.body(), by: "weir promote".into() };
    let revision = cloud.append(&[system_event_of(LOCAL_TENANT, HashKey::of(CONTROL_KEY), Event::Defined(defined))])[0];
    (promotion, revision)
}

/// The same promotion again, which finds all done but the record.
pub fn finish(cloud: &Cloud, promotion: &Promotion, revision: SequenceNumber) {
    let read = cloud.runtime.block_on(record::read(&*cloud.store)).unwrap();
    let mut changed = read.record.clone();
    changed.promoted(promotion.number, revision, 0);
    assert!(cloud.runtime.block_on(record::write(&*cloud.store, &read, &changed)).unwrap());
}

pub fn position(cloud: &Cloud, generation: Generation, shard: &str) -> SequenceNumber {
    let point = cloud.runtime.block_on(cloud.store.resume_point(generation, &ShardId::named(shard))).unwrap();
    point.map_or(SequenceNumber::ZERO, |point| point.position)
}

#[track_caller]
fn is_folded(cloud: &Cloud, generation: Generation) {
    for shard in SHARDS {
        let last = recorded(cloud, shard).pop().unwrap().sequence.parse().unwrap();
        assert_eq!(position(cloud, generation, shard), last, "{shard} in {generation:?}");
    }
}

fn control(cloud: &Cloud) -> usize {
    let shards = cloud.shards();
    let of = shards.iter().find(|shard| shard.range.contains(HashKey::of(CONTROL_KEY))).unwrap();
    SHARDS.iter().position(|shard| *shard == of.id.as_str()).unwrap()
}

#[test]
fn a_generation_that_is_promoted_in_the_middle_of_deliveries_is_folded_from_there_on_and_so_is_the_first_when_gone_back_to()
 {
    let cloud = Cloud::new(2);
    let parts: Vec<Vec<Put>> = (0..6).map(part).collect();
    let (mut warm, mut ticker) = (cloud.function(CONSUMER), cloud.function(TICKER));
    let mut tick = || ticker.invoke(&json!({"source": "aws.scheduler"}), TIME).answered()["definitions"].clone();
    let (control, mut source) = (control(&cloud), Source::default());
    let other = 1 - control;

    cloud.append(&parts[0]);
    tick();
    (0..2).for_each(|shard| source.catch_up(&cloud, &mut warm, shard));
    cloud.beside(async |system| {
        system.replay("new", Some(processor::generations::Start::Oldest)).await.unwrap();
        follows(system, "new").await;
    });
    // Nobody folds it while it does not count and no such process runs.
    cloud.append(&parts[1]);
    (0..2).for_each(|shard| source.catch_up(&cloud, &mut warm, shard));
    assert!(position(&cloud, NEW, SHARDS[other]) < position(&cloud, FIRST, SHARDS[other]));

    // The promotion, with records behind it that come in the same batches; whoever promoted it is gone.
    let (promotion, revision) = promote_and_die(&cloud, "new");
    source.catch_up(&cloud, &mut warm, control);
    assert_eq!(position(&cloud, FIRST, SHARDS[control]), revision);
    assert_eq!(tick(), revision.to_string());
    cloud.append(&parts[2]);
    let mut cold = cloud.function(CONSUMER);
    source.catch_up(&cloud, &mut warm, control);
    source.catch_up(&cloud, &mut cold, other);
    is_folded(&cloud, NEW);
    assert!((0..2).all(|shard| position(&cloud, FIRST, SHARDS[shard]) < position(&cloud, NEW, SHARDS[shard])));
    finish(&cloud, &promotion, revision);

    // Known to the record: a cold instance begins with it, a warm one goes on. The ticker, which began before all of this, names what it can read.
    cloud.append(&parts[3]);
    cold = cloud.function(CONSUMER);
    source.catch_up(&cloud, &mut cold, control);
    source.catch_up(&cloud, &mut warm, other);
    is_folded(&cloud, NEW);
    let expected = cloud.embedded(&parts[..4].concat());
    assert_eq!(cloud.verifies_in(NEW), expected);

    // And back, as a command does it: beside it the first one is folded up to there.
    cloud.beside(async |system| {
        follows(system, "first").await;
        system.promote("first").await.unwrap();
    });
    cloud.append(&parts[4]);
    assert_eq!(tick(), position_of_newest(&cloud).to_string());
    source.catch_up(&cloud, &mut cold, control);
    source.catch_up(&cloud, &mut warm, other);
    cloud.append(&parts[5]);
    let mut last = cloud.function(CONSUMER);
    (0..2).for_each(|shard| source.catch_up(&cloud, &mut last, shard));
    is_folded(&cloud, FIRST);
    assert_eq!(cloud.verifies_in(FIRST), cloud.embedded(&parts.concat()));
    for function in [&warm, &cold, &last] {
        assert!(!function.said().contains("\"lost\""), "{}", function.said());
    }
}

/// The revision of the last promotion.
fn position_of_newest(cloud: &Cloud) -> SequenceNumber {
    let read = cloud.runtime.block_on(record::read(&*cloud.store)).unwrap();
    read.record.finished().last().unwrap().revision.unwrap()
}

#[test]
fn a_ticker_that_began_before_a_promotion_names_what_can_be_read_of_the_generation_that_counts() {
    let cloud = Cloud::new(1);
    let (mut function, mut ticker) = (cloud.function(CONSUMER), cloud.function(TICKER));
    let mut tick = || ticker.invoke(&json!({"source": "aws.scheduler"}), TIME).answered()["definitions"].clone();
    cloud.append(&part(0));
    tick();
    cloud.beside(async |system| {
        system.replay("new", Some(processor::generations::Start::Oldest)).await.unwrap();
        follows(system, "new").await;
        system.promote("new").await.unwrap();
    });
    let promoted = position_of_newest(&cloud);
    let alarm = json!({"AlarmName": "slow", "ServiceName": "service-1", "MetricName": "lines", "Statistic": "Sum", "Period": 60,
        "EvaluationPeriods": 1, "Threshold": 1, "ComparisonOperator": "GreaterThanOrEqualToThreshold"});
    let defined = Defined { kind: "alarm".into(), name: "slow".into(), body: alarm.to_string(), by: "a test".into() };
    cloud.append(&[system_event_of(LOCAL_TENANT, HashKey::of(CONTROL_KEY), Event::Defined(defined))]);
    let applied: SequenceNumber = recorded(&cloud, SHARDS[0]).pop().unwrap().sequence.parse().unwrap();
    run(&mut function, &recorded(&cloud, SHARDS[0]), 100, 3);
    assert!(position(&cloud, FIRST, SHARDS[0]) < applied, "nobody folds the first one any more");
    assert_eq!(position(&cloud, NEW, SHARDS[0]), applied);
    assert!(applied > promoted);
    assert_eq!(tick(), applied.to_string());
}
