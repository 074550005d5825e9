//! What each operation costs, in the units that dynalite counts; those of the index in ministack's, as dynalite counts none. Nor does it count
//! queries that find nothing, of which AWS takes a unit each: these are counted here as requests. The figures stand in `design.md`.

use std::{collections::BTreeMap, io::Read};

use bytes::Bytes;
use events::{
    identity::{Origin, OriginKind},
    position::{SequenceNumber, ShardId},
};

use super::{
    gate::{Act, Gate, wait},
    laws::{again, dynalite, ministack, open, prefix},
    scripted::{key, row},
};
use crate::{
    cell::Cell,
    dynamodb::{DynamoDb, Units, item, layout},
    generations::record::{self, Record},
    lines::{Line, Parser},
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

/// A commit of a shard's balance and of parts, which say by their names what they hold, as those of the fold do.
fn idle(number: u64, parts: &[(&str, usize)]) -> Commit {
    let balance = sized(key(Kind::Balance, "", MIDNIGHT + 60 * number.cast_signed()), number, 60);
    let name = |(of, bytes): &(&str, usize)| PartName(format!("{of}-{:032x}", *bytes as u128 + (1 << 127)));
    Commit {
        rows: vec![balance],
        parts: parts.iter().map(|part| (name(part), Bytes::from(vec![7; part.1]))).collect(),
        checkpoint: Checkpoint {
            generation: Generation(0),
            shard: ShardId::numbered(0),
            position: kinesis(number),
            fold_revision: 1,
            ended: false,
            parts: parts.iter().map(name).collect(),
        },
    }
}

#[test]
fn a_commit_of_an_idle_shard_is_its_balance_and_its_resume_point_in_which_a_small_snapshot_lies() {
    let prefix = prefix();
    let store = open(dynalite(), &prefix);
    let commit = |number, parts: &[(&str, usize)]| {
        units(&store, async { store.commit(idle(number, parts)).await.unwrap().checkpoint.unwrap() })
    };
    assert_eq!(commit(1, &[("0", 700)]), (3.0, 4.0), "first: what stands and lists; tenant, day, row, point");
    assert_eq!(commit(2, &[("0", 701)]), (0.0, 2.0));
    assert_eq!(commit(3, &[("0", 2_900)]), (0.0, 5.0), "three kilobytes and what stands beside them");
    let heir = again(dynalite(), &prefix);
    let read = async { heir.checkpoint(Generation(0), &ShardId::numbered(0)).await.unwrap().unwrap() };
    assert_eq!(units(&heir, read), (1.0, 0.0), "the resume point and its part");
    assert_eq!(commit(4, &[("0", 7_900)]), (0.0, 13.0), "an item of eight units, and the larger of two resume points");
    assert_eq!(commit(5, &[("0", 701)]), (0.0, 10.0), "and eight to remove it");
    let large = |state| [("0", state), ("1", 64 << 10)];
    assert_eq!(commit(6, &large(702)), (0.0, 67.0), "65 for the large one");
    assert_eq!(commit(7, &large(703)), (0.0, 2.0), "which has not changed, and is not written again");
    let heir = again(dynalite(), &prefix);
    let read = async {
        let (_, bodies) = heir.checkpoint(Generation(0), &ShardId::numbered(0)).await.unwrap().unwrap();
        assert_eq!(bodies.iter().map(Bytes::len).collect::<Vec<_>>(), [703, 64 << 10]);
    };
    assert_eq!(units(&heir, read), (18.0, 0.0));
    let point = async { heir.resume_point(Generation(0), &ShardId::numbered(0)).await.unwrap().unwrap() };
    assert_eq!(units(&heir, point), (1.0, 0.0), "how far it is, whatever its parts have");
}

#[test]
fn an_object_that_is_read_is_a_unit_for_each_word_about_it() {
    let store = open(dynalite(), &prefix());
    let name = format!("{}/{}", "b".repeat(63), "k".repeat(200));
    let object = Origin { kind: OriginKind::Object, name, version: "v".repeat(32) };
    let (tenant, reader) = ("tenant", "0123456789abcdef");
    assert_eq!(units(&store, async { store.begin_object(tenant, &object, reader).await.unwrap() }), (0.0, 1.0));
    assert_eq!(units(&store, async { store.object_is_durable(tenant, &object, 1 << 32).await.unwrap() }), (0.0, 1.0));
    assert_eq!(units(&store, async { store.object(tenant, &object).await.unwrap() }), (1.0, 0.0));
    let leaves = async { store.leave_object(tenant, &object, reader, 2 << 32).await.unwrap() };
    assert_eq!(units(&store, leaves), (0.0, 2.0), "its place, and its reader");
    assert_eq!(units(&store, async { store.finish_object(tenant, &object).await.unwrap() }), (0.0, 1.0));
}

#[test]
fn a_list_of_generations_is_read_and_changed_for_a_unit_and_tables_are_bound_for_one() {
    let store = open(dynalite(), &prefix());
    let bind = || async { store.bind("arn:aws:kinesis:us-east-1:000000000000:stream/s 1767226000000").await.unwrap() };
    assert_eq!(units(&store, bind()), (4.0, 1.0), "before and behind, with how long rows are kept");
    assert_eq!(units(&store, bind()), (2.0, 0.0));
    let mut record = Record::default();
    assert_eq!(units(&store, async { record::read(&store).await.unwrap() }), (1.0, 0.0), "nothing is there");
    let read = wait(record::read(&store)).unwrap();
    record.open("one", Some(0), BTreeMap::from([(ShardId::numbered(0), kinesis(1))]), 0).unwrap();
    let write =
        async |read: record::Read, record: Record| assert!(record::write(&store, &read, &record).await.unwrap());
    assert_eq!(units(&store, write(read, record)), (1.0, 2.0), "its tenant's entry besides");
    let read = wait(record::read(&store)).unwrap();
    assert_eq!(units(&store, write(read, Record::default())), (0.0, 1.0));
    assert_eq!(units(&store, async { record::read(&store).await.unwrap() }), (1.0, 0.0));
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

/// The service-minutes of a real log.
fn of_a_real_log() -> Vec<Row> {
    let packed = std::fs::File::open(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/apache_logs.log.gz")).unwrap();
    let mut text = vec![];
    flate2::read::GzDecoder::new(packed).read_to_end(&mut text).unwrap();
    let mut parser = Parser::new(0);
    let mut cells = BTreeMap::<i64, Cell>::new();
    let mut at = 0;
    while let Some(line) = parser.next(&text, &mut at, false) {
        let line = line.unwrap();
        let minute = line.time_ms.unwrap().div_euclid(60_000) * 60;
        cells.entry(minute).or_default().add_line(&line);
    }
    let row = |(start, cell): (i64, Cell)| Row {
        body: cell.encode().into(),
        ..sized(key(Kind::Window, "apache", start), 9, 0)
    };
    cells.into_iter().map(row).collect()
}

/// Units of a row without the metrics that people read, and with them; how many of these are counts, and how many are whole distributions.
fn with_metrics(row: &Row) -> (usize, usize, usize, usize) {
    let item = item::row(&layout::place(&row.key).unwrap(), row, Some(1_763_683_200));
    let units = |bytes: usize| bytes.div_ceil(1024);
    let bare: BTreeMap<_, _> = item.iter().filter(|(name, _)| *name != "Metrics").collect();
    let metrics = item.get("Metrics").map(|metrics| metrics.as_m().unwrap().clone()).unwrap_or_default();
    let counts = metrics.values().filter(|value| value.is_n()).count();
    let (bare, all) = (item::bytes(bare), item::bytes(&item));
    (units(bare), units(all), counts, metrics.len() - counts)
}

/// A service-minute of so many requests, with latencies as services have them.
fn of_requests(requests: u32) -> Row {
    let mut cell = Cell::default();
    for i in 0..requests {
        // Log-normal by a sum of twelve, around 20 ms.
        let twelve = (0..12u32).map(|j| f64::from((i * 12 + j).wrapping_mul(2_654_435_761) >> 8) / f64::from(1 << 24));
        let latency_ms = (20.0 * (0.6 * (twelve.sum::<f64>() - 6.0)).exp() * 1_000.0).round() / 1_000.0;
        let status = match i % 50 {
            0 => 500,
            1 => 404,
            _ => 200,
        };
        let bytes = Some(f64::from(500 + i * 37 % 5_000));
        cell.add_line(&Line { status: Some(status), latency_ms: Some(latency_ms), bytes, ..Line::NOTHING });
    }
    Row { body: cell.encode().into(), ..minute(0, 9) }
}

#[test]
fn metrics_that_everybody_can_read_cost_no_unit_in_the_service_minutes_of_a_real_log() {
    let rows = of_a_real_log();
    assert_eq!(rows.len(), 84);
    for row in rows {
        let (bare, all, counts, values) = with_metrics(&row);
        assert_eq!((bare, all, values), (1, 1, 1), "{}", row.key);
        assert!(counts >= 3, "lines, requests, a class of status");
    }
}

#[test]
fn metrics_that_everybody_can_read_never_cost_a_unit_and_are_whole_up_to_some_400_requests_a_minute() {
    let found = [10, 55, 200, 400, 600, 1_000, 10_000].map(|requests| with_metrics(&of_requests(requests)));
    let (whole, counts) = ((1, 1, 6, 2), (1, 1, 6, 0));
    let none = (1, 1, 0, 0);
    assert_eq!(found, [whole, whole, whole, whole, counts, counts, none], "the last has no room left");
}
