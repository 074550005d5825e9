//! What S3 announces: events of objects as they come to a function, straight, in bodies of SQS, in envelopes of SNS, or from EventBridge. Decides which
//! of them name an object to be read, and what of them is the same news; reads nothing. Pure.
//!
//! | form | told by | key | names of events |
//! | --- | --- | --- | --- |
//! | S3 | `Records[].eventSource` = `aws:s3` | as in forms: `+` is a space, then `%` and two digits are a byte | `ObjectCreated:Put` … |
//! | in SQS | `Records[].eventSource` = `aws:sqs`: the text in `body` is one of these | | |
//! | in SNS | `Records[].EventSource` = `aws:sns`, or `Type` = `Notification`: the text in `Message` is one of these | | |
//! | EventBridge | `source` = `aws.s3` and `detail-type` | as it is | `Object Created` … |
//! | a test | `Event` = `s3:TestEvent` | none | |
//!
//! Sources: S3 user guide, pages "Event message structure" (fields, versions, encoding of keys, sequencer) and "EventBridge event message structure".

use std::cmp::Ordering;

use serde_json::{Map, Value};

/// Most bytes of what a function is handed: Lambda passes 6 MB (quotas page, "Invocation payload"). More is refused whole.
pub const EVENT_BYTES_MAX: usize = 8 << 20;
/// Most bytes of one text within: SQS and SNS carry at most 1 MiB (quotas pages). A longer one is refused, the others are not.
pub const TEXT_BYTES_MAX: usize = 1 << 20;
/// Envelopes in each other: SNS in SQS are two.
const DEPTH_MAX: usize = 4;
/// Major version of S3's own form that is understood.
const MAJOR: &str = "2";
/// Longest key (S3 user guide, "Naming objects": 1,024 bytes of UTF-8).
const KEY_BYTES_MAX: usize = 1024;

/// It is no announcement. Told to whoever sent it, so that it goes to the queue of what could not be handled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// No JSON, or no object.
    #[error("it is no JSON object: {0}")]
    NotJson(String),
    /// Longer than anything that S3 or those who carry it send.
    #[error("it has {0} bytes, at most {1} are read")]
    TooLong(usize, usize),
    /// JSON of another kind.
    #[error("it is no event of S3, nor one in an envelope of SQS, SNS or EventBridge")]
    Unknown,
    /// A later form.
    #[error("it is of version {0}, and version {MAJOR} is understood: a newer weir may read it")]
    Version(String),
    /// A member that each such event has.
    #[error("`{0}` is missing, or is not what it should be")]
    Member(&'static str),
    /// Envelopes without end.
    #[error("envelopes lie {DEPTH_MAX} deep in each other")]
    TooDeep,
}

/// An object that was created, or restored from an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notified {
    /// The bucket.
    pub bucket: String,
    /// The key, decoded.
    pub key: String,
    /// Its version, where the bucket keeps versions.
    pub version: Option<String>,
    /// Without quotes.
    pub etag: Option<String>,
    /// How many bytes it has.
    pub size: Option<u64>,
    /// Orders the events of one key.
    pub sequencer: Option<Sequencer>,
}

/// S3's order of the events of one key: hexadecimal digits, of which the shorter is to be filled with zeros on the right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequencer(String);

impl Sequencer {
    fn read(text: &str) -> Option<Self> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        digits.then(|| Self(text.to_ascii_uppercase()))
    }

    /// Which of two events of one key came first. Equal: one event, announced twice.
    pub fn order(&self, other: &Self) -> Ordering {
        let length = self.0.len().max(other.0.len());
        let filled = |text: &str| format!("{text:0<length$}");
        filled(&self.0).cmp(&filled(&other.0))
    }
}

/// One message, and what it announces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// By what its queue knows it; `None`: no queue carries it.
    pub id: Option<String>,
    /// Objects to be read. None: it announces something else, which needs nothing (a deletion, a test).
    pub objects: Result<Vec<Notified>, ParseError>,
}

/// The messages of what a function was handed. A message that cannot be understood says so for itself alone.
pub fn messages(event: &[u8]) -> Result<Vec<Message>, ParseError> {
    if event.len() > EVENT_BYTES_MAX {
        return Err(ParseError::TooLong(event.len(), EVENT_BYTES_MAX));
    }
    let event = parse(event)?;
    let Some(records) = event.get("Records").and_then(Value::as_array) else {
        return Ok(vec![Message { id: None, objects: objects(&event, 0) }]);
    };
    let is_sqs = |record: &Value| record.get("eventSource").and_then(Value::as_str) == Some("aws:sqs");
    if !records.iter().any(is_sqs) {
        return Ok(vec![Message { id: None, objects: objects(&event, 0) }]);
    }
    let message = |record: &Value| {
        let text = |member: &str| record.get(member).and_then(Value::as_str);
        let id = text("messageId").map(str::to_owned);
        let objects = match text("body") {
            Some(body) if is_sqs(record) => within(body, 1),
            _ => Err(ParseError::Member("body")),
        };
        Message { id, objects }
    };
    Ok(records.iter().map(message).collect())
}

fn parse(bytes: &[u8]) -> Result<Map<String, Value>, ParseError> {
    serde_json::from_slice(bytes).map_err(|error| ParseError::NotJson(error.to_string()))
}

/// A text in an envelope.
fn within(text: &str, depth: usize) -> Result<Vec<Notified>, ParseError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(ParseError::TooLong(text.len(), TEXT_BYTES_MAX));
    }
    objects(&parse(text.as_bytes())?, depth)
}

fn objects(event: &Map<String, Value>, depth: usize) -> Result<Vec<Notified>, ParseError> {
    if depth > DEPTH_MAX {
        return Err(ParseError::TooDeep);
    }
    let text = |member: &str| event.get(member).and_then(Value::as_str);
    if let Some(records) = event.get("Records").and_then(Value::as_array) {
        let each: Result<Vec<_>, _> = records.iter().map(|record| of_record(record, depth)).collect();
        return Ok(each?.into_iter().flatten().collect());
    }
    if let (Some("Notification"), Some(message)) = (text("Type"), text("Message")) {
        return within(message, depth + 1);
    }
    if text("Event") == Some("s3:TestEvent") {
        return Ok(vec![]);
    }
    if let (Some("aws.s3"), Some(kind)) = (text("source"), text("detail-type")) {
        let is_wanted = matches!(kind, "Object Created" | "Object Restore Completed");
        return if is_wanted { of_bridge(event).map(|object| vec![object]) } else { Ok(vec![]) };
    }
    Err(ParseError::Unknown)
}

fn of_record(record: &Value, depth: usize) -> Result<Vec<Notified>, ParseError> {
    let text = |member: &str| record.get(member).and_then(Value::as_str);
    match (text("eventSource").or(text("EventSource")), depth) {
        (Some("aws:s3"), _) => of_s3(record).map(|object| object.into_iter().collect()),
        (Some("aws:sqs"), _) => within(text("body").ok_or(ParseError::Member("body"))?, depth + 1),
        (Some("aws:sns"), _) => {
            let message = record.pointer("/Sns/Message").and_then(Value::as_str);
            within(message.ok_or(ParseError::Member("Sns.Message"))?, depth + 1)
        }
        _ => Err(ParseError::Unknown),
    }
}

fn of_s3(record: &Value) -> Result<Option<Notified>, ParseError> {
    let text = |pointer: &str| record.pointer(pointer).and_then(Value::as_str);
    let version = text("/eventVersion").ok_or(ParseError::Member("eventVersion"))?;
    // A minor version adds members, a major one changes what they mean.
    if version.split('.').next() != Some(MAJOR) {
        return Err(ParseError::Version(version.chars().take(16).collect()));
    }
    let name = text("/eventName").ok_or(ParseError::Member("eventName"))?;
    let name = name.strip_prefix("s3:").unwrap_or(name);
    if !name.starts_with("ObjectCreated:") && name != "ObjectRestore:Completed" {
        return Ok(None);
    }
    let key = text("/s3/object/key").map(decoded);
    let named = Named {
        bucket: text("/s3/bucket/name"),
        key,
        version: text("/s3/object/versionId"),
        etag: text("/s3/object/eTag"),
        size: record.pointer("/s3/object/size"),
        sequencer: text("/s3/object/sequencer"),
    };
    named.check().map(Some)
}

fn of_bridge(event: &Map<String, Value>) -> Result<Notified, ParseError> {
    let detail = event.get("detail").ok_or(ParseError::Member("detail"))?;
    let text = |pointer: &str| detail.pointer(pointer).and_then(Value::as_str);
    match text("/version") {
        Some("0") | None => {}
        Some(version) => return Err(ParseError::Version(version.chars().take(16).collect())),
    }
    let named = Named {
        bucket: text("/bucket/name"),
        key: text("/object/key").map(str::to_owned),
        version: text("/object/version-id"),
        etag: text("/object/etag"),
        size: detail.pointer("/object/size"),
        sequencer: text("/object/sequencer"),
    };
    named.check()
}

struct Named<'a> {
    bucket: Option<&'a str>,
    key: Option<String>,
    version: Option<&'a str>,
    etag: Option<&'a str>,
    size: Option<&'a Value>,
    sequencer: Option<&'a str>,
}

impl Named<'_> {
    fn check(self) -> Result<Notified, ParseError> {
        let is_name = |name: &&str| {
            (3..=255).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:".contains(&b))
        };
        let is_key = |key: &String| (1..=KEY_BYTES_MAX).contains(&key.len()) && !key.contains('\0');
        let some = |text: Option<&str>| text.filter(|text| !text.is_empty() && *text != "null").map(str::to_owned);
        Ok(Notified {
            bucket: self.bucket.filter(is_name).ok_or(ParseError::Member("bucket.name"))?.to_owned(),
            key: self.key.filter(is_key).ok_or(ParseError::Member("object.key"))?,
            version: some(self.version),
            etag: some(self.etag.map(|etag| etag.trim_matches('"'))),
            size: self.size.and_then(Value::as_u64),
            sequencer: self.sequencer.and_then(Sequencer::read),
        })
    }
}

/// A key as it is written in forms: `+` is a space, then `%` and two digits are a byte; a `%` without two digits is itself. Bytes that are no UTF-8
/// were no key: they become the sign for that, and the key is not found.
pub(crate) fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|two| two.iter().all(u8::is_ascii_hexdigit));
        let byte = digits.and_then(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok());
        rest = after;
        bytes.push(match (first, byte) {
            (b'%', Some(byte)) => {
                rest = &after[2..];
                byte
            }
            (b'+', _) => b' ',
            (first, _) => *first,
        });
    }
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests;
