//! S3's notifications: objects of a bucket come onto the stream, whoever hands them over, and count once.

use serde_json::{Value, json};

use crate::{
    cloud::{CONSUMER, Cloud, NOTIFICATION, batches, lines},
    emulated::done,
    mapping::{TIME, recorded, run},
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
