//! What becomes of objects that are announced: each counts once, whichever way its announcements come, and one that is gone is told.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    io::Write,
    num::NonZeroU16,
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use events::{
    position::{HashRange, SequenceNumber, ShardId},
    stream::{AppendError, Appended, Limits, Page, ReadError, Record, Refused, Shard, Start},
};
use projections::{
    dynamodb::Create,
    fold::{self, Input, Place, balance::Balance},
    store::{Generation, Kind as RowKind, Row, RowKey},
};
use serde_json::{Value, json};

use super::*;
use crate::{
    ingest::notified::messages,
    s3::scripted::{Act, Scripted, etag},
};

mod long;

/// A stream of one shard, which is folded whole.
#[derive(Default)]
struct Kept {
    puts: Mutex<Vec<Put>>,
    /// So many appends are refused first.
    refusals: Mutex<u32>,
}

impl Stream for Kept {
    async fn append(&self, puts: Vec<Put>) -> Result<Vec<Result<Appended, Refused>>, AppendError> {
        let mut refusals = self.refusals.lock().unwrap();
        if *refusals > 0 {
            *refusals -= 1;
            return Err(AppendError::NotAppended("as scripted".into()));
        }
        let taken = Appended { shard: ShardId::numbered(0), sequence: SequenceNumber::ZERO };
        let answers = puts.iter().map(|put| put.check().map(|()| taken.clone())).collect();
        self.puts.lock().unwrap().extend(puts);
        Ok(answers)
    }

    async fn shards(&self) -> Result<Vec<Shard>, ReadError> {
        Ok(vec![])
    }

    async fn read(&self, shard: &ShardId, _: Start, _: Limits) -> Result<Page, ReadError> {
        Err(ReadError::NoSuchShard(shard.clone()))
    }
}

impl Kept {
    /// What becomes of all of it: the balance, and dead letters as text.
    fn folded(&self) -> (Balance, Vec<String>) {
        let shard = ShardId::numbered(0);
        let all = HashRange::even(NonZeroU16::MIN)[0];
        let place = Place { generation: Generation(0), ring: vec![(shard.clone(), all)], shard };
        let (mut shard, mut rows) = (fold::Shard::new(place), BTreeMap::<RowKey, Row>::new());
        let mut balance = Balance::default();
        for (n, put) in self.puts.lock().unwrap().iter().enumerate() {
            let sequence = SequenceNumber::from_parts(1, 8 * (n as u64 + 1));
            let (partition_key, data) = (put.partition_key.clone(), put.data.clone());
            let input = Input::of(&Record { sequence, arrived_at_ms: NOW_MS, partition_key, data });
            let read = |rows: &BTreeMap<RowKey, Row>, keys: Vec<RowKey>| -> Vec<_> {
                keys.iter().map(|key| rows.get(key).cloned()).collect()
            };
            let wanted = read(&rows, shard.wants(&input));
            balance.add(&shard.fold(&input, wanted).unwrap().balance);
            let unmet = read(&rows, shard.unmet());
            shard.meet(unmet).unwrap();
            // Each record is committed, so that marks are read back and joined.
            rows.extend(shard.commit().rows.into_iter().map(|row| (row.key.clone(), row)));
            shard.committed();
        }
        let letters = rows.values().filter(|row| row.key.subject.kind == RowKind::DeadLetter);
        (balance, letters.map(|row| String::from_utf8_lossy(&row.body).into_owned()).collect())
    }
}

const NOW_MS: i64 = 1_767_226_000_000;

fn lines(count: usize) -> String {
    (0..count).map(|n| format!("{{\"service\":\"app\",\"status\":200,\"n\":{n}}}\n")).collect()
}

fn record(key: &str, bytes: &[u8], version: Option<&str>, sequencer: &str) -> Value {
    json!({"eventVersion": "2.1", "eventSource": "aws:s3", "eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": "logs"}, "object": {"key": key, "size": bytes.len(), "eTag": etag(bytes), "versionId": version,
            "sequencer": sequencer}}})
}

/// A message of SQS for each group of records.
fn sqs(groups: &[&[&Value]]) -> Vec<Message> {
    let message = |(n, records): (usize, &&[&Value])| json!({"messageId": format!("m{n}"), "eventSource": "aws:sqs", "body": json!({"Records": records}).to_string()});
    let records: Vec<Value> = groups.iter().enumerate().map(message).collect();
    messages(json!({"Records": records}).to_string().as_bytes()).unwrap()
}

fn settings(secs: u64) -> Settings {
    let read_until = Instant::now() + Duration::from_secs(secs);
    let wait_until = read_until + Duration::from_secs(secs);
    let (keep_until, keep_every) = (wait_until + Duration::from_secs(60), Duration::from_millis(10));
    Settings {
        tenant: "local".into(),
        service: None,
        profile: Profile::KINESIS,
        now_ms: NOW_MS,
        read_until,
        wait_until,
        keep_until,
        keep_every,
    }
}

/// Tables that nobody has used.
async fn rows() -> Arc<DynamoDb> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let config = emulators::settings!(aws_sdk_dynamodb, &emulators::dynamodb().endpoint);
    let prefix = format!("announced-{}", NUMBER.fetch_add(1, Relaxed));
    let client = aws_sdk_dynamodb::Client::from_conf(config.build());
    Arc::new(DynamoDb::open(&client, &prefix, Create::Missing).await.unwrap().0)
}

async fn ingest(s3: &Scripted, stream: &Kept, messages: Vec<Message>) -> Vec<Done> {
    let bucket = s3.bucket();
    ingest_announced(messages, |_| bucket.clone(), stream, rows().await, &settings(60)).await
}

#[track_caller]
fn counts(stream: &Kept, folded: u64, duplicate: u64, dead: u64) {
    let (balance, letters) = stream.folded();
    assert_eq!(
        (balance.folded, balance.duplicate, balance.dead, balance.skipped_total()),
        (folded, duplicate, dead, 0)
    );
    assert_eq!(letters.len() as u64, dead, "{letters:?}");
}

fn done(n: usize, read: usize, missed: usize) -> Done {
    Done { id: Some(format!("m{n}")), read, missed, left: vec![] }
}

#[tokio::test]
async fn an_object_counts_once_however_often_it_is_announced() {
    let (s3, stream) = (Scripted::start().await, Kept::default());
    let text = lines(50);
    s3.put("a b/app.log", text.clone());
    let mut packed = flate2::write::GzEncoder::new(vec![], flate2::Compression::default());
    packed.write_all(lines(7).as_bytes()).unwrap();
    let packed = packed.finish().unwrap();
    s3.put("p.log.gz", packed.clone());
    let (a, p) = (record("a+b/app.log", text.as_bytes(), None, "01"), record("p.log.gz", &packed, None, "02"));
    let said = ingest(&s3, &stream, sqs(&[&[&a], &[&a, &p], &[&a]])).await;
    assert_eq!(said, [done(0, 1, 0), done(1, 2, 0), done(2, 1, 0)]);
    assert_eq!(s3.calls().len(), 2, "an object is read once, whoever announces it");
    counts(&stream, 57, 0, 0);
    // Again, by another call of the function.
    assert_eq!(ingest(&s3, &stream, sqs(&[&[&a]])).await, [done(0, 1, 0)]);
    counts(&stream, 57, 50, 0);
}

#[tokio::test]
async fn of_a_key_without_versions_what_stands_there_now_is_read_and_what_was_replaced_is_a_dead_letter() {
    let (s3, stream) = (Scripted::start().await, Kept::default());
    let (old, new) = (lines(5), lines(9));
    s3.put("app.log", new.clone());
    // The older one comes alone, then both, the newer first.
    let (older, newer) =
        (record("app.log", old.as_bytes(), None, "0A"), record("app.log", new.as_bytes(), None, "0A1"));
    assert_eq!(ingest(&s3, &stream, sqs(&[&[&older]])).await, [done(0, 0, 1)]);
    counts(&stream, 9, 0, 1);
    assert!(stream.folded().1[0].contains(&etag(old.as_bytes())), "it names the one that was replaced");
    s3.calls();
    assert_eq!(ingest(&s3, &stream, sqs(&[&[&newer], &[&older]])).await, [done(0, 1, 0), done(1, 0, 1)]);
    assert_eq!(s3.calls().len(), 1, "the newer one is asked for, and stands there");
    counts(&stream, 9, 10, 1);
    // One that was read before it was replaced is no loss, and where nothing stands any more each one is told.
    let newest = lines(3);
    s3.put("app.log", newest.clone());
    assert_eq!(ingest(&s3, &stream, sqs(&[&[&newer]])).await, [done(0, 0, 1)]);
    counts(&stream, 12, 11, 1);
    s3.delete("app.log");
    let [other, last] = [lines(1), lines(2)].map(|text| record("app.log", text.as_bytes(), None, "0B"));
    assert_eq!(ingest(&s3, &stream, sqs(&[&[&other], &[&last]])).await, [done(0, 0, 1), done(1, 0, 1)]);
    counts(&stream, 12, 11, 3);
}

#[tokio::test]
async fn a_version_is_read_whatever_stands_there_now() {
    let (s3, stream) = (Scripted::start().await, Kept::default());
    s3.state().keeps_versions = true;
    let (old, new) = (lines(5), lines(9));
    s3.put("app.log", old.clone());
    s3.put("app.log", new.clone());
    s3.delete("app.log");
    let of = |text: &str, version| record("app.log", text.as_bytes(), Some(version), "01");
    let said = ingest(&s3, &stream, sqs(&[&[&of(&new, "v2")], &[&of(&old, "v1")]])).await;
    assert_eq!(said, [done(0, 1, 0), done(1, 1, 0)]);
    counts(&stream, 14, 0, 0);
}

#[tokio::test]
async fn an_object_that_is_gone_is_one_dead_letter_and_the_rest_goes_on() {
    let (s3, stream) = (Scripted::start().await, Kept::default());
    let text = lines(5);
    s3.put("good.log", text.clone());
    let (gone, good) = (record("gone.log", b"x", None, "01"), record("good.log", text.as_bytes(), None, "01"));
    let said = ingest(&s3, &stream, sqs(&[&[&gone], &[&good]])).await;
    assert_eq!(said, [done(0, 0, 1), done(1, 1, 0)]);
    counts(&stream, 5, 0, 1);
    let letter = stream.folded().1.remove(0);
    assert!(letter.contains("object_missing") && letter.contains("logs/gone.log ("), "{letter}");
    // Said again it is known.
    assert_eq!(ingest(&s3, &stream, sqs(&[&[&gone]])).await, [done(0, 0, 1)]);
    counts(&stream, 5, 1, 1);
    // One that was read before it went is no loss.
    s3.delete("good.log");
    assert_eq!(ingest(&s3, &stream, sqs(&[&[&good]])).await, [done(0, 0, 1)]);
    counts(&stream, 5, 2, 1);
    // And one that is put back after it was missed counts whole.
    s3.put("gone.log", b"x".to_vec());
    ingest(&s3, &stream, sqs(&[&[&record("gone.log", b"x", None, "02")]])).await;
    counts(&stream, 6, 2, 1);
}

#[tokio::test]
async fn of_an_object_that_goes_while_it_is_read_what_came_counts_and_the_rest_is_a_dead_letter() {
    let (s3, stream) = (Scripted::start().await, Kept::default());
    let text = lines(100_000);
    assert!(text.len() as u64 > super::super::FIRST_BYTES);
    s3.put("app.log", text.clone());
    s3.next([Act::Fine, Act::Change("app.log", None)]);
    let announced = record("app.log", text.as_bytes(), None, "01");
    assert_eq!(ingest(&s3, &stream, sqs(&[&[&announced]])).await, [done(0, 0, 1)]);
    let (balance, letters) = stream.folded();
    assert!((10_000..100_000).contains(&balance.folded) && balance.dead == 1, "{balance:?}");
    assert!(letters[0].contains("was gone when it was to be read from byte "), "{letters:?}");
}

#[tokio::test]
async fn what_is_not_durable_comes_again_and_nothing_else() {
    let (s3, stream) = (Scripted::start().await, Kept::default());
    let (text, damaged) = (lines(5), b"\x1f\x8b\x08\0\0\0".to_vec());
    s3.put("good.log", text.clone());
    s3.put("bad.log.gz", damaged.clone());
    s3.put("cold.log", text.clone());
    let of = |key: &str, bytes: &[u8]| record(key, bytes, None, "01");
    let [good, bad, cold] =
        [of("good.log", text.as_bytes()), of("bad.log.gz", &damaged), of("cold.log", text.as_bytes())];
    let mut all = sqs(&[&[&good], &[&bad], &[&cold]]);
    all.push(Message { id: Some("m3".into()), objects: Err(crate::ingest::notified::ParseError::Unknown) });
    s3.next([Act::Fine, Act::Fine, Act::Error(403, "InvalidObjectState", None)]);
    let said = ingest(&s3, &stream, all).await;
    assert_eq!(said[0], done(0, 1, 0));
    let left: Vec<_> = said.iter().filter(|done| !done.left.is_empty()).map(|done| done.id.clone().unwrap()).collect();
    assert_eq!(left, ["m1", "m2", "m3"], "{said:?}");
    assert!(said[2].left[0].contains("s3://logs/cold.log: it is archived"), "{said:?}");
    counts(&stream, 5, 0, 0);
    // A stream that takes nothing for long: nothing is lost by it.
    let stream = Kept { refusals: Mutex::new(100), ..Kept::default() };
    let said = ingest(&s3, &stream, sqs(&[&[&good]])).await;
    assert!(said[0].left[0].contains("as scripted"), "{said:?}");
    *stream.refusals.lock().unwrap() = 0;
    assert_eq!(ingest(&s3, &stream, sqs(&[&[&good]])).await, [done(0, 1, 0)]);
    counts(&stream, 5, 0, 0);
}

#[tokio::test]
async fn when_the_time_is_over_what_is_left_is_said() {
    let (s3, stream) = (Scripted::start().await, Kept::default());
    let text = lines(5);
    s3.put("a.log", text.clone());
    s3.put("b.log", text.clone());
    s3.next([Act::Fine, Act::Hang]);
    let of = |key: &str| record(key, text.as_bytes(), None, "01");
    let (messages, bucket) = (sqs(&[&[&of("a.log")], &[&of("b.log")]]), s3.bucket());
    // The first may be either, as both are asked for at once.
    let said = ingest_announced(messages, |_| bucket.clone(), &stream, rows().await, &settings(1)).await;
    let left: Vec<_> = said.iter().filter(|done| !done.left.is_empty()).collect();
    assert!(!left.is_empty() && left.iter().all(|done| done.left[0].contains("the time was over")), "{said:?}");
    let (balance, _) = stream.folded();
    assert_eq!(balance.folded, 5 * said.iter().filter(|done| done.read == 1).count() as u64);
}
