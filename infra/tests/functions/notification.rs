//! S3's notifications: objects of a bucket come onto the stream, whoever hands them over, and count once.

use std::{ops::Range, time::Duration};

use events::{
    stream::{Limits, Start, Stream},
    wire,
};
use serde_json::{Value, json};

use crate::{
    cloud::{CONSUMER, Cloud, NOTIFICATION, batches, lines},
    emulated::done,
    lambda::{Ended, Function},
    mapping::{TIME, recorded, run},
    ranges::Ranges,
};

pub fn announcement(bucket: &str, key: &str) -> Value {
    json!({"eventVersion": "2.1", "eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": bucket}, "object": {"key": key}}})
}

fn message(id: &str, body: &str) -> Value {
    json!({"messageId": id, "receiptHandle": "r", "body": body, "eventSource": "aws:sqs", "awsRegion": "us-east-1"})
}

#[test]
fn announced_objects_count_once_and_a_queue_hears_what_has_to_come_again() {
    let cloud = Cloud::new(2);
    let bucket = format!("{}-logs", cloud.name);
    done("PUT", &format!("/{bucket}"), &[], &[]);
    done("PUT", &format!("/{bucket}/in/a%20b%2Bc%20%C3%A9.txt"), &[], lines("app", 0..300).as_bytes());
    done("PUT", &format!("/{bucket}/other.log"), &[], lines("other", 0..100).as_bytes());
    let announce = |keys: &[&str]| {
        let records: Vec<Value> = keys.iter().map(|key| announcement(&bucket, key)).collect();
        json!({"Records": records}).to_string()
    };
    let odd = "in/a+b%2Bc+%C3%A9.txt";
    let topic = json!({"Type": "Notification", "Message": announce(&["other.log"])}).to_string();
    let event = json!({"Records": [message("1", &announce(&[odd])), message("2", "no announcement"), message("3", &topic),
        message("4", &announce(&[odd, "gone.log"]))]});
    let mut function = cloud.function(NOTIFICATION);
    let answer = function.invoke(&event, TIME).answered();
    assert_eq!(answer, json!({"batchItemFailures": [{"itemIdentifier": "2"}]}));
    let log = function.log(4);
    let messages: Vec<Value> = log.iter().map(|line| line["message"].clone()).collect();
    assert_eq!(messages, ["ingested", "left", "ingested", "missed"], "{log:?}");
    // Handed over straight, by another instance.
    let straight = json!({"Records": [announcement(&bucket, odd)]});
    let mut other = cloud.function(NOTIFICATION);
    assert_eq!(other.invoke(&straight, TIME).answered(), json!({"batchItemFailures": []}));
    assert!(other.invoke(&json!({"no": "announcement"}), TIME).failed().contains("it is no event of S3"));

    for shard in cloud.shards() {
        let shard = shard.id.as_str();
        run(&mut cloud.function(CONSUMER), &recorded(&cloud, shard), 10, 3);
    }
    let both = [batches("app", &lines("app", 0..300)), batches("other", &lines("other", 0..100))].concat();
    assert_eq!(cloud.verifies(), cloud.embedded(&both));
}

/// Bytes of batches of the stream's one shard, in its order.
fn extents(cloud: &Cloud) -> Vec<Range<u64>> {
    let shard = cloud.shards().remove(0).id;
    cloud.runtime.block_on(async {
        let (mut next, mut extents) = (Some(Start::TrimHorizon), vec![]);
        while let Some(from) = next.take() {
            let limits = Limits { records: std::num::NonZeroUsize::MAX, bytes: 1 << 20, wait: Duration::ZERO };
            let page = cloud.stream.read(&shard, from, limits).await.unwrap();
            let extent = |data| wire::decode_header(data).unwrap().0.extent.map(|extent| extent.from..extent.to);
            extents.extend(page.records.iter().filter_map(|record| extent(&record.data)));
            next = page.next.filter(|_| page.behind_ms > 0 || !page.records.is_empty());
        }
        extents
    })
}

#[test]
fn an_object_that_takes_longer_than_a_call_is_read_on_by_the_next_one_also_behind_one_that_was_killed() {
    const LENGTH: u64 = 20 << 20;
    let (cloud, object) = (Cloud::new(1), Ranges::start(LENGTH));
    let start = || {
        Function::start(NOTIFICATION, |command| {
            cloud.lead(command);
            command.env("AWS_ENDPOINT_URL_S3", &object.endpoint);
        })
    };
    let announced = json!({"Records": [announcement("weir-large", "app.log")]}).to_string();
    let event = json!({"Records": [message("1", &announced)]});
    let again = json!({"batchItemFailures": [{"itemIdentifier": "1"}]});
    object.hold_from(10 << 20);
    let mut function = start();
    assert_eq!(function.invoke(&event, Duration::from_secs(8)).answered(), again);
    let said = function.log(1)[0]["left"].to_string();
    let reached: u64 = said.split("up to byte ").nth(1).unwrap().split(':').next().unwrap().parse().unwrap();
    let first = extents(&cloud);
    assert_eq!(first.iter().map(|extent| extent.end).max(), Some(reached), "{said}");
    object.asked();

    object.hold_from(18 << 20);
    let number = function.hand_over(&event, TIME);
    object.wait_for(18 << 20);
    function.kill();
    assert_eq!(function.wait(number), Ended::Died);
    let asked = |object: &Ranges| object.asked().iter().map(|range| range.start).filter(|from| *from > 0).min();
    assert!(asked(&object).unwrap() + 2048 >= reached);

    object.hold_from(u64::MAX);
    let mut function = start();
    assert_eq!(function.invoke(&event, TIME).answered(), json!({"batchItemFailures": []}));
    let mut all = extents(&cloud);
    assert!(all[first.len()..].iter().all(|extent| extent.start >= reached), "{all:?}");
    all.sort_by_key(|extent| extent.start);
    let end = all.iter().try_fold(0, |end, extent| (extent.start <= end).then_some(end.max(extent.end)));
    assert_eq!(end, Some(LENGTH), "{all:?}");

    object.asked();
    assert_eq!(function.invoke(&event, TIME).answered(), json!({"batchItemFailures": []}));
    assert_eq!((object.asked().len(), extents(&cloud).len()), (1, all.len()), "it is not read again");
}
