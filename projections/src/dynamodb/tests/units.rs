//! What each operation costs, in the units that dynalite counts; those of the index in ministack's, as dynalite counts none. Nor does it count
//! queries that find nothing, of which AWS takes a unit each: these are counted here as requests. The figures stand in `design.md`.

use bytes::Bytes;
use events::position::{SequenceNumber, ShardId};

use super::{
    gate::{Act, Gate, wait},
    laws::{again, dynalite, ministack, open, prefix},
    scripted::{key, row},
};
use crate::{
    dynamodb::{DynamoDb, Units},
    store::{Checkpoint, Commit, Day, Generation, Kind, PartName, Row, RowKey, Span, Store, Subject},
};

/// 2025-11-21, midnight.
const MIDNIGHT: i64 = 1_763_683_200;

/// As long as Kinesis makes them.
fn kinesis(number: u64) -> SequenceNumber {
    format!("4959033827149025660855969253836157109592157598{number:010}").parse().unwrap()
}

fn sized(key: RowKey, through: u64, body_bytes: usize) -> Row {
    let (applied_from, applied_through) = (kinesis(1), kinesis(through));
    Row { applied_from, applied_through, body: Bytes::from(vec![7; body_bytes]), ..row(key, through) }
}

/// A row as a service-minute of some fifty lines is: the body has 600 bytes.
fn minute(minute: i64, through: u64) -> Row {
    sized(key(Kind::Window, "checkout", MIDNIGHT + minute * 60), through, 600)
}

/// What a future consumed.
fn units<T>(store: &DynamoDb, future: impl Future<Output = T>) -> (f64, f64) {
    let before = store.units();
    wait(future);
    let Units { read, write } = store.units();
    (read - before.read, write - before.write)
}

fn write(store: &DynamoDb, rows: &[Row]) -> (f64, f64) {
    units(store, async { store.write(rows.to_vec()).await.unwrap() })
}

#[test]
fn a_service_minute_is_one_write_unit_and_its_lists_are_paid_once_in_six_hours() {
    let prefix = prefix();
    let store = open(dynalite(), &prefix);
    assert_eq!(write(&store, &[minute(0, 5)]), (2.0, 4.0), "tenant, bucket, head and row");
    assert_eq!(write(&store, &[minute(1, 6)]), (0.0, 1.0));
    assert_eq!(write(&store, &[minute(1, 7)]), (0.0, 1.0), "again, further");
    assert_eq!(write(&store, &(2..360).map(|m| minute(m, 8)).collect::<Vec<_>>()), (0.0, 358.0));
    assert_eq!(write(&store, &[minute(360, 9)]), (1.0, 3.0), "the next six hours: bucket, head and row");
    let later = Row { folded_on: Day(20_001), ..minute(360, 10) };
    assert_eq!(write(&store, &[later]), (1.0, 2.0), "folded on another day: the bucket's entry, and the row");
    let another = again(dynalite(), &prefix);
    assert_eq!(write(&another, &[minute(361, 11)]), (2.0, 1.0), "another process looks whether it is listed");
    assert_eq!(write(&another, &[minute(362, 12)]), (0.0, 1.0));
    let largest = |body_bytes| sized(minute(363, 13).key, 13 + body_bytes as u64, body_bytes);
    assert_eq!(write(&another, &[largest(BODY_BYTES_OF_A_UNIT)]), (0.0, 1.0));
    assert_eq!(write(&another, &[largest(BODY_BYTES_OF_A_UNIT + 1)]), (0.0, 2.0));
}

/// What names, keys and positions leave of a kilobyte: their own lengths are those of `tenant` and `checkout`.
const BODY_BYTES_OF_A_UNIT: usize = 817;

#[test]
fn the_index_costs_a_unit_in_six_hours_of_a_service_and_none_a_row() {
    let store = open(ministack(), &prefix());
    assert_eq!(write(&store, &[minute(0, 5)]).1, 5.0, "tenant, bucket, head, its row in the index, and the row");
    assert_eq!(write(&store, &[minute(1, 6)]).1, 1.0);
    assert_eq!(write(&store, &[minute(1, 7)]).1, 1.0);
}

fn of(name: &str, from: i64, to: i64) -> Span {
    let subject = Subject { name: name.to_owned(), ..key(Kind::Window, "", 0).subject };
    Span::Of { subject, from, to }
}

/// A store whose requests are counted.
struct Counted {
    store: DynamoDb,
    gate: Gate,
}

impl Counted {
    fn again(prefix: &str) -> Self {
        let gate = Gate::before(dynalite(), |_| Act::Pass);
        Self { store: again(&gate.endpoint, prefix), gate }
    }

    /// Units and queries of a scan that finds so many rows.
    fn scan(&self, span: &Span, rows: usize) -> (f64, usize) {
        let before = self.gate.seen("Query").len();
        let (read, _) = units(&self.store, async {
            let page = self.store.scan(span, None, 10_000.try_into().unwrap()).await.unwrap();
            assert_eq!((page.rows.len(), page.next_after), (rows, None));
        });
        (read, self.gate.seen("Query").len() - before)
    }
}

#[test]
fn a_day_of_one_service_is_read_by_queries_of_what_it_holds() {
    let prefix = prefix();
    let store = open(dynalite(), &prefix);
    write(&store, &(0..1_440).map(|m| minute(m, 8)).collect::<Vec<_>>());
    let reader = Counted::again(&prefix);
    assert_eq!(reader.scan(&of("checkout", MIDNIGHT, MIDNIGHT + 86_400), 1_440), (DAY_UNITS, 4));
    assert_eq!(reader.scan(&of("checkout", MIDNIGHT + 3_600, MIDNIGHT + 7_200), 60), (HOUR_UNITS, 1));
    assert_eq!(reader.scan(&of("nobody", MIDNIGHT, MIDNIGHT + 86_400), 0), (0.0, 4), "one for each bucket");
    assert_eq!(reader.scan(&of("nobody", i64::MIN, i64::MAX), 0), (0.0, 1), "the list");
    let keys: Vec<RowKey> = (0..100).map(|m| minute(m, 8).key).collect();
    assert_eq!(units(&reader.store, async { reader.store.read(&keys).await.unwrap() }), (100.0, 0.0));
    // Nothing of this, and of nothing else, is a scan or a look into an index.
    assert!(reader.gate.seen("Scan").is_empty());
    for operation in ["Query", "BatchGetItem", "GetItem"] {
        for request in reader.gate.seen(operation) {
            assert!(request.body.contains(r#""ConsistentRead":true"#), "{}", request.body);
            assert!(!request.body.contains("IndexName"), "{}", request.body);
        }
    }
}

/// 1,440 rows of 807 bytes.
const DAY_UNITS: f64 = 284.0;
const HOUR_UNITS: f64 = 12.0;

#[test]
fn small_lists_are_a_unit_for_each_4_kb_and_partition() {
    let prefix = prefix();
    let store = open(dynalite(), &prefix);
    let all =
        |kind, tenant: Option<&str>| Span::All { tenant: tenant.map(str::to_owned), generation: Generation(0), kind };
    let state = |n: usize| sized(key(Kind::Alarm, &format!("alarm {n:04}"), 0), 5, 500);
    write(&store, &(0..100).map(state).collect::<Vec<_>>());
    let reader = Counted::again(&prefix);
    assert_eq!(reader.scan(&all(Kind::Alarm, Some("tenant")), 100), (ALARM_UNITS, 1));
    assert_eq!(reader.scan(&all(Kind::Alarm, None), 100), (ALARM_UNITS + 1.0, 5), "and the lists of tenants");
    assert_eq!(reader.scan(&all(Kind::Service, Some("nobody")), 0), (0.0, 4));
    assert_eq!(reader.scan(&all(Kind::Window, Some("nobody")), 0), (0.0, 16), "the lists of services");
}

/// A hundred rows of some 690 bytes.
const ALARM_UNITS: f64 = 17.0;

fn idle(number: u64, part_bytes: usize) -> Commit {
    let name = PartName(format!("0/shardId-000000000000/{}/0", kinesis(number)));
    let balance = sized(key(Kind::Balance, "", MIDNIGHT + 60 * number.cast_signed()), number, 60);
    Commit {
        rows: vec![balance],
        parts: vec![(name.clone(), Bytes::from(vec![7; part_bytes]))],
        checkpoint: Checkpoint {
            generation: Generation(0),
            shard: ShardId::numbered(0),
            position: kinesis(number),
            fold_revision: 1,
            ended: false,
            parts: vec![name],
        },
    }
}

#[test]
fn a_commit_of_an_idle_shard_is_its_balance_its_part_its_resume_point_and_the_part_before() {
    let prefix = prefix();
    let store = open(dynalite(), &prefix);
    let commit = |number, part_bytes| units(&store, async { store.commit(idle(number, part_bytes)).await.unwrap() });
    assert_eq!(commit(1, 800), (4.0, 5.0), "first: what stands, lists, names of parts; tenant, day, row, part, point");
    assert_eq!(commit(2, 800), (0.0, 4.0));
    assert_eq!(commit(3, 800), (0.0, 4.0));
    assert_eq!(
        commit(4, 7_900),
        (0.0, 11.0),
        "a part of eight kilobytes costs eight units, and is removed for as many"
    );
    assert_eq!(commit(5, 800), (0.0, 11.0));
    let heir = again(dynalite(), &prefix);
    let read = async { heir.checkpoint(Generation(0), &ShardId::numbered(0)).await.unwrap().unwrap() };
    assert_eq!(units(&heir, read), (2.0, 0.0), "the resume point and its part");
    let point = async { heir.resume_point(Generation(0), &ShardId::numbered(0)).await.unwrap().unwrap() };
    assert_eq!(units(&heir, point), (1.0, 0.0), "how far it is, whatever its parts have");
}

#[test]
fn an_expiry_looks_only_into_buckets_that_hold_something_past_its_time() {
    let prefix = prefix();
    let store = open(dynalite(), &prefix);
    let on = |m, day| Row { folded_on: Day(day), ..minute(m, 8) };
    write(&store, &(0..720).map(|m| on(m, if m < 360 { 100 } else { 101 })).collect::<Vec<_>>());
    let expire = |before, count| {
        units(&store, async {
            assert_eq!(store.expire(Generation(0), Kind::Window, Day(before)).await.unwrap(), count);
        })
    };
    assert_eq!(expire(100, 0), (2.0, 0.0), "the lists of tenants and services");
    assert_eq!(expire(101, 360), (2.0 + BUCKET_UNITS, 362.0), "a bucket is read; its rows, its entry and its head go");
    assert_eq!(expire(101, 0), (2.0, 0.0));
}

/// 360 rows of 807 bytes, and a head.
const BUCKET_UNITS: f64 = 71.0;
