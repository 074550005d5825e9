//! Announcements in every form that they come in.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn record(name: &str, key: &str) -> Value {
    json!({
        "eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": "us-east-1", "eventTime": "2026-01-01T00:00:00.000Z", "eventName": name,
        "s3": {"s3SchemaVersion": "1.0", "bucket": {"name": "logs", "arn": "arn:aws:s3:::logs"},
            "object": {"key": key, "size": 5, "eTag": "abc", "versionId": "v1", "sequencer": "0055AED6DCD90281E5"}}
    })
}

fn created(key: &str) -> Notified {
    Notified {
        bucket: "logs".into(),
        key: key.into(),
        version: Some("v1".into()),
        etag: Some("abc".into()),
        size: Some(5),
        sequencer: Sequencer::read("0055AED6DCD90281E5"),
    }
}

fn said(event: &Value) -> Vec<Message> {
    messages(event.to_string().as_bytes()).unwrap()
}

#[track_caller]
fn announces(event: &Value, objects: &[Notified]) {
    let said = said(event);
    let all: Vec<Notified> = said.into_iter().flat_map(|message| message.objects.unwrap()).collect();
    assert_eq!(all, objects);
}

#[test]
fn an_object_is_found_straight_in_sqs_in_sns_in_sns_within_sqs_and_from_eventbridge() {
    let straight = json!({"Records": [record("ObjectCreated:Put", "in/a+b%2Bc+%C3%A9.txt")]});
    let key = "in/a b+c é.txt";
    announces(&straight, &[created(key)]);
    let sqs =
        |body: &Value| json!({"Records": [{"messageId": "m1", "eventSource": "aws:sqs", "body": body.to_string()}]});
    announces(&sqs(&straight), &[created(key)]);
    assert_eq!(said(&sqs(&straight))[0].id.as_deref(), Some("m1"));
    let sns = json!({"Records": [{"EventSource": "aws:sns", "EventVersion": "1.0", "Sns": {"Message": straight.to_string()}}]});
    announces(&sns, &[created(key)]);
    let envelope =
        json!({"Type": "Notification", "TopicArn": "arn:aws:sns:us-east-1:1:t", "Message": straight.to_string()});
    announces(&sqs(&envelope), &[created(key)]);
    announces(&envelope, &[created(key)]);
    let bridge = json!({
        "version": "0", "id": "1", "detail-type": "Object Created", "source": "aws.s3", "time": "2026-01-01T00:00:00Z",
        "detail": {"version": "0", "bucket": {"name": "logs"}, "object": {"key": "in/a+b%2B", "size": 5, "etag": "abc", "version-id": "v1",
            "sequencer": "0055AED6DCD90281E5"}, "reason": "PutObject"}
    });
    // There a key is as it is.
    announces(&bridge, &[created("in/a+b%2B")]);
    announces(&sqs(&bridge), &[created("in/a+b%2B")]);
}

#[test]
fn what_needs_nothing_is_no_object_and_no_error() {
    let test =
        json!({"Service": "Amazon S3", "Event": "s3:TestEvent", "Time": "2026-01-01T00:00:00Z", "Bucket": "logs"});
    announces(&test, &[]);
    for name in [
        "ObjectRemoved:Delete",
        "ObjectRemoved:DeleteMarkerCreated",
        "LifecycleExpiration:Delete",
        "ObjectRestore:Post",
    ] {
        announces(&json!({"Records": [record(name, "a")]}), &[]);
    }
    announces(&json!({"Records": [record("ObjectRestore:Completed", "a")]}), &[created("a")]);
    let removed = json!({"detail-type": "Object Deleted", "source": "aws.s3", "detail": {}});
    announces(&removed, &[]);
    // A deletion has neither size nor etag, and a bucket without versions no version.
    let mut plain = record("ObjectCreated:Put", "a");
    for member in ["size", "eTag", "versionId", "sequencer"] {
        plain["s3"]["object"].as_object_mut().unwrap().remove(member);
    }
    let bare = Notified { version: None, etag: None, size: None, sequencer: None, ..created("a") };
    announces(&json!({"Records": [plain]}), &[bare]);
}

#[test]
fn a_minor_version_adds_and_a_major_one_is_refused() {
    let of = |version: &str| {
        let mut record = record("ObjectCreated:Put", "a");
        record["eventVersion"] = version.into();
        said(&json!({"Records": [record]})).remove(0).objects
    };
    for version in ["2.0", "2.1", "2.6", "2.97"] {
        assert_eq!(of(version).unwrap(), [created("a")], "{version}");
    }
    for version in ["3.0", "1.0", "21.0", ""] {
        assert!(matches!(of(version), Err(ParseError::Version(_))), "{version}");
    }
}

#[test]
fn a_message_that_cannot_be_understood_says_so_for_itself_alone() {
    let straight = json!({"Records": [record("ObjectCreated:Put", "a")]}).to_string();
    let message = |id: &str, body: &str| json!({"messageId": id, "eventSource": "aws:sqs", "body": body});
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(TEXT_BYTES_MAX));
    let mut deep = straight.clone();
    for _ in 0..6 {
        deep = json!({"Type": "Notification", "Message": deep}).to_string();
    }
    let event = json!({"Records": [message("1", "no JSON"), message("2", &straight), message("3", "{}"), message("4", &long),
        message("5", &deep), message("6", "[]")]});
    let said = said(&event);
    let failed: Vec<_> =
        said.iter().filter(|message| message.objects.is_err()).filter_map(|message| message.id.clone()).collect();
    assert_eq!(failed, ["1", "3", "4", "5", "6"]);
    assert_eq!(said[1].objects.as_ref().unwrap(), &[created("a")]);
    assert!(matches!(messages(&vec![b' '; EVENT_BYTES_MAX + 1]), Err(ParseError::TooLong(..))));
}

#[test]
fn sequencers_are_compared_as_if_the_shorter_ended_in_zeros() {
    let of = |text: &str| Sequencer::read(text).unwrap();
    for (first, second, order) in [
        ("0055AED6DCD90281E5", "0055AED6DCD90281E6", Ordering::Less),
        // As numbers the longer would be the later.
        ("0055AED6DCD90281E5", "0055AED6DCD90281E", Ordering::Greater),
        ("5", "41", Ordering::Greater),
        ("41", "410", Ordering::Equal),
        ("00ab", "00AB", Ordering::Equal),
    ] {
        assert_eq!(of(first).order(&of(second)), order, "{first} {second}");
    }
    assert_eq!(Sequencer::read(""), None);
    assert_eq!(Sequencer::read("xyz"), None);
}

/// As S3 writes keys: letters, digits and `-_.*/` as they are.
fn encoded(key: &str) -> String {
    let one = |byte: u8| match byte {
        b' ' => "+".to_owned(),
        byte if byte.is_ascii_alphanumeric() || b"-_.*/".contains(&byte) => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    key.bytes().map(one).collect()
}

proptest! {
    #[test]
    fn every_key_comes_back(key in "\\PC{1,40}") {
        prop_assume!(key.len() <= KEY_BYTES_MAX);
        prop_assert_eq!(decoded(&encoded(&key)), key.clone());
        let event = json!({"Records": [record("ObjectCreated:Put", &encoded(&key))]});
        prop_assert_eq!(said(&event).remove(0).objects.unwrap(), vec![created(&key)]);
    }

    #[test]
    fn any_bytes_are_refused_or_read_and_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), text in "\\PC*") {
        let _ = messages(&bytes);
        let _ = messages(text.as_bytes());
        let _ = decoded(&text);
    }

    #[test]
    fn any_change_of_an_event_is_refused_or_read(at in 0usize..400, byte in any::<u8>()) {
        let mut event = json!({"Records": [record("ObjectCreated:Put", "a%2Fb")]}).to_string().into_bytes();
        let at = at % event.len();
        event[at] = byte;
        if let Ok(said) = messages(&event) {
            for object in said.into_iter().filter_map(|message| message.objects.ok()).flatten() {
                prop_assert!(!object.bucket.is_empty() && !object.key.is_empty() && !object.key.contains('\0'));
            }
        }
    }
}
