//! Announcements as an S3 that somebody else wrote sends them, straight to a queue, by a topic and by a bus: each finds its object.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "parts/emulated.rs"]
mod emulated;

use emulated::{bucket, call, done};
use processor::{ingest::notified, s3::Wanted};
use serde_json::{Value, json};

const KEY: &str = "in/a b+c é.txt";
const ESCAPED: &str = "in/a%20b%2Bc%20%C3%A9.txt";
const ACCOUNT: &str = "000000000000";

fn sqs(action: &str, body: Value) -> Value {
    let target = format!("AmazonSQS.{action}");
    let headers = [("X-Amz-Target", target.as_str()), ("Content-Type", "application/x-amz-json-1.0")];
    let said = done("POST", "/", &headers, body.to_string().as_bytes());
    serde_json::from_str(&said).unwrap_or_default()
}

fn query(service: &str, parameters: &str) -> String {
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/{service}/aws4_request, SignedHeaders=host, Signature=0"
    );
    let headers = [("Content-Type", "application/x-www-form-urlencoded"), ("Authorization", authorization.as_str())];
    done("POST", "/", &headers, parameters.as_bytes())
}

/// A queue, and what it is called elsewhere.
fn queue(name: &str) -> (String, String) {
    let url = sqs("CreateQueue", json!({"QueueName": name}))["QueueUrl"].as_str().unwrap().to_owned();
    (url, format!("arn:aws:sqs:us-east-1:{ACCOUNT}:{name}"))
}

fn notify(bucket: &str, configuration: &str) {
    let xml = format!("<NotificationConfiguration>{configuration}</NotificationConfiguration>");
    done("PUT", &format!("/{bucket}?notification"), &[], xml.as_bytes());
}

/// The objects that messages announce, once there are so many. Tests and deletions announce none.
fn announced(url: &str, wanted: usize) -> Vec<notified::Notified> {
    let mut objects = vec![];
    while objects.len() < wanted {
        let said = sqs("ReceiveMessage", json!({"QueueUrl": url, "MaxNumberOfMessages": 10, "WaitTimeSeconds": 5}));
        let as_handed = |message: &Value| json!({"messageId": message["MessageId"], "eventSource": "aws:sqs", "body": message["Body"]});
        let records: Vec<Value> = said["Messages"].as_array().into_iter().flatten().map(as_handed).collect();
        let messages = notified::messages(json!({"Records": records}).to_string().as_bytes()).unwrap();
        objects.extend(messages.into_iter().flat_map(|message| message.objects.unwrap()));
    }
    objects
}

/// The one object that the messages announce, read by what they say of it.
async fn finds(bucket_name: &str, objects: &[notified::Notified]) {
    let [object] = objects else { panic!("{objects:?}") };
    assert_eq!((object.bucket.as_str(), object.key.as_str()), (bucket_name, KEY));
    assert!(object.sequencer.is_some() && object.size == Some(7), "{object:?}");
    let wanted = Wanted { key: object.key.clone(), version: None, etag: object.etag.clone() };
    assert_eq!(bucket(bucket_name).get(&wanted, 0..100).await.unwrap().bytes, "a line\n");
}

#[tokio::test]
async fn straight_to_a_queue() {
    let (name, (url, arn)) = ("weir-straight", queue("weir-straight"));
    done("PUT", &format!("/{name}"), &[], &[]);
    notify(
        name,
        &format!(
            "<QueueConfiguration><Queue>{arn}</Queue><Event>s3:ObjectCreated:*</Event><Event>s3:ObjectRemoved:*</Event></QueueConfiguration>"
        ),
    );
    done("PUT", &format!("/{name}/other"), &[], b"x");
    done("DELETE", &format!("/{name}/other"), &[], &[]);
    done("PUT", &format!("/{name}/{ESCAPED}"), &[], b"a line\n");
    let objects = announced(&url, 2);
    assert_eq!(objects[0].key, "other");
    finds(name, &objects[1..]).await;
}

#[tokio::test]
async fn by_a_topic_to_a_queue() {
    let (name, (url, arn)) = ("weir-topic", queue("weir-topic"));
    done("PUT", &format!("/{name}"), &[], &[]);
    query("sns", &format!("Action=CreateTopic&Name={name}&Version=2010-03-31"));
    let topic = format!("arn:aws:sns:us-east-1:{ACCOUNT}:{name}");
    query("sns", &format!("Action=Subscribe&TopicArn={topic}&Protocol=sqs&Endpoint={arn}&Version=2010-03-31"));
    notify(
        name,
        &format!("<TopicConfiguration><Topic>{topic}</Topic><Event>s3:ObjectCreated:*</Event></TopicConfiguration>"),
    );
    done("PUT", &format!("/{name}/{ESCAPED}"), &[], b"a line\n");
    finds(name, &announced(&url, 1)).await;
}

#[tokio::test]
async fn by_a_bus_to_a_queue() {
    let (name, (url, arn)) = ("weir-bus", queue("weir-bus"));
    done("PUT", &format!("/{name}"), &[], &[]);
    let bus = |action: &str, body: Value| {
        let target = format!("AWSEvents.{action}");
        let headers = [("X-Amz-Target", target.as_str()), ("Content-Type", "application/x-amz-json-1.1")];
        let (status, said) = call("POST", "/", &headers, body.to_string().as_bytes());
        assert_eq!(status, 200, "{said}");
    };
    let pattern = json!({"source": ["aws.s3"], "detail": {"bucket": {"name": [name]}}}).to_string();
    bus("PutRule", json!({"Name": name, "EventPattern": pattern, "State": "ENABLED"}));
    bus("PutTargets", json!({"Rule": name, "Targets": [{"Id": "queue", "Arn": arn}]}));
    notify(name, "<EventBridgeConfiguration/>");
    done("PUT", &format!("/{name}/{ESCAPED}"), &[], b"a line\n");
    finds(name, &announced(&url, 1)).await;
}
