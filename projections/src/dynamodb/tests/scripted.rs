//! What no emulator does, on the way to one that does the rest: throttles, keys left undone, answers lost, errors with secrets in them.

use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use events::position::{SequenceNumber, ShardId};

use super::{
    gate::{Act, Gate, Request, wait},
    laws::{again, dynalite, ministack, open, prefix},
};
use crate::{
    dynamodb::{DynamoDb, TRIES_MAX},
    store::{
        Checkpoint, Commit, Day, Generation, Kind, PartName, Partial, ReadError, Row, RowKey, Span, Store, Subject,
        WriteError, Written, law::random::Random,
    },
};

pub(super) fn at(number: u64) -> SequenceNumber {
    SequenceNumber::from_parts(1, number)
}

pub(super) fn key(kind: Kind, name: &str, at: i64) -> RowKey {
    let subject = Subject { tenant: "tenant".into(), generation: Generation(0), kind, name: name.into() };
    RowKey { subject, at, shard: ShardId::numbered(0), partial: Partial(0), page: 0 }
}

pub(super) fn row(key: RowKey, through: u64) -> Row {
    let (applied_from, applied_through) = (at(1), at(through));
    let body = Bytes::from(format!("{key:?} through {through}"));
    Row { key, applied_from, applied_through, folded_on: Day(20_000), fold_revision: 1, body }
}

pub(super) fn window(second: i64, through: u64) -> Row {
    row(key(Kind::Window, "web", second), through)
}

fn is_row(request: &Request) -> bool {
    request.operation == "PutItem" && request.body.contains("AppliedThrough")
}

fn is_point(request: &Request) -> bool {
    request.operation == "PutItem" && request.body.contains("resume point")
}

/// A gate that treats the first so many of some requests in one way.
pub(super) fn first(count: u32, of: fn(&Request) -> bool, act: Act) -> (Gate, DynamoDb) {
    let prefix = prefix();
    drop(open(dynalite(), &prefix));
    let met = AtomicU32::new(0);
    let gate = Gate::before(dynalite(), move |request| {
        if of(request) && met.fetch_add(1, Ordering::SeqCst) < count { act.clone() } else { Act::Pass }
    });
    let store = again(&gate.endpoint, &prefix);
    (gate, store)
}

pub(super) fn write(store: &DynamoDb, rows: &[Row]) -> Result<Vec<Written>, WriteError> {
    wait(store.write(rows.to_vec()))
}

pub(super) fn stands(store: &DynamoDb, row: &Row) -> bool {
    wait(store.read(std::slice::from_ref(&row.key))).unwrap()[0].as_ref() == Some(row)
}

const THROTTLED: &str = "ProvisionedThroughputExceededException";

#[test]
fn a_row_that_is_throttled_a_few_times_is_stored() {
    for code in [THROTTLED, "ThrottlingException", "RequestLimitExceeded", "TransactionConflictException"] {
        let (gate, store) = first(3, is_row, Act::refuse(400, code));
        assert_eq!(write(&store, &[window(0, 5)]), Ok(vec![Written::Stored]), "{code}");
        assert!(stands(&store, &window(0, 5)));
        assert_eq!(gate.seen("PutItem").iter().filter(|request| is_row(request)).count(), 4);
    }
}

#[test]
fn a_row_that_is_throttled_for_ever_is_not_written_and_says_by_which_table() {
    let (gate, store) = first(u32::MAX, is_row, Act::refuse(400, THROTTLED));
    let Err(WriteError::NotWritten(why)) = write(&store, &[window(0, 5)]) else { panic!("it was not written") };
    let puts = gate.seen("PutItem").iter().filter(|request| is_row(request)).count();
    assert_eq!(puts, TRIES_MAX as usize);
    let table = store.metrics.as_str();
    for part in [table, "PutItem", THROTTLED, "throttled 8 times", "Raise its maximum throughput"] {
        assert!(why.contains(part), "`{part}` is not in: {why}");
    }
    assert!(!stands(&store, &window(0, 5)));
}

#[test]
fn some_rows_written_and_others_throttled_for_ever_is_unknown() {
    let is_one = |request: &Request| is_row(request) && request.body.contains("1970-01-01T00:01:00Z");
    let (_gate, store) = first(u32::MAX, is_one, Act::refuse(400, THROTTLED));
    assert_eq!(write(&store, &[window(0, 5)]), Ok(vec![Written::Stored]));
    let answer = write(&store, &[window(0, 6), window(60, 6), window(60, 7)]);
    // Which came first is chance, and what it says has to be true of it.
    match answer {
        Err(WriteError::Unknown(_)) => assert!(stands(&store, &window(0, 6))),
        Err(WriteError::NotWritten(_)) => assert!(stands(&store, &window(0, 5))),
        Ok(answer) => panic!("{answer:?}"),
    }
}

#[test]
fn a_row_whose_answer_was_lost_is_stored_and_has_not_lost_to_itself() {
    let (gate, store) = first(1, is_row, Act::PassAndCut);
    assert_eq!(write(&store, &[window(0, 5)]), Ok(vec![Written::Stored]));
    assert!(stands(&store, &window(0, 5)));
    assert_eq!(gate.seen("PutItem").iter().filter(|request| is_row(request)).count(), 2);
    // Offered by another call, it has.
    assert_eq!(write(&store, &[window(0, 5)]), Ok(vec![Written::Lost(at(5))]));
}

#[test]
fn a_row_whose_request_was_lost_has_lost_to_another_of_its_position_that_came_meanwhile() {
    let prefix = prefix();
    let others = open(dynalite(), &prefix);
    let body = Bytes::from_static(b"another's");
    let (other, met) = (Row { body, ..window(0, 5) }, AtomicU32::new(0));
    let offered = other.clone();
    let gate = Gate::apart(dynalite(), move |request| {
        if !is_row(request) || met.fetch_add(1, Ordering::SeqCst) > 0 {
            return Act::Pass;
        }
        let put = || assert_eq!(write(&others, std::slice::from_ref(&offered)), Ok(vec![Written::Stored]));
        std::thread::scope(|scope| scope.spawn(put).join()).unwrap();
        Act::refuse(500, "InternalServerError")
    });
    let store = again(&gate.endpoint, &prefix);
    assert_eq!(write(&store, &[window(0, 5)]), Ok(vec![Written::Lost(at(5))]));
    assert!(stands(&store, &other));
}

#[test]
fn a_row_whose_request_was_lost_is_stored_by_the_next_try() {
    for act in [Act::Cut, Act::refuse(500, "InternalServerError"), Act::Say(503, "busy".into())] {
        let (_gate, store) = first(2, is_row, act.clone());
        assert_eq!(write(&store, &[window(0, 5)]), Ok(vec![Written::Stored]), "{act:?}");
        assert!(stands(&store, &window(0, 5)));
    }
}

#[test]
fn a_row_that_gets_no_answer_at_all_is_unknown_whether_or_not_it_happened() {
    for (act, happened) in [(Act::PassAndCut, true), (Act::Cut, false)] {
        let prefix = prefix();
        drop(open(dynalite(), &prefix));
        let to = act.clone();
        let gate = Gate::before(dynalite(), move |request| if is_row(request) { to.clone() } else { Act::Pass });
        let store = again(&gate.endpoint, &prefix);
        let answer = write(&store, &[window(0, 5)]);
        assert!(matches!(answer, Err(WriteError::Unknown(_))), "{act:?}: {answer:?}");
        assert_eq!(stands(&store, &window(0, 5)), happened, "{act:?}");
    }
}

#[test]
fn who_loses_hears_what_stands_with_and_without_the_item_in_the_answer() {
    for (service, reads) in [(dynalite(), 1), (ministack(), 0)] {
        let prefix = prefix();
        assert_eq!(write(&open(service, &prefix), &[window(0, 9)]), Ok(vec![Written::Stored]));
        let gate = Gate::before(service, |_| Act::Pass);
        let store = again(&gate.endpoint, &prefix);
        let metrics = store.metrics.clone();
        assert_eq!(write(&store, &[window(0, 5)]), Ok(vec![Written::Lost(at(9))]));
        let read = gate.seen("GetItem").iter().filter(|request| request.body.contains(&metrics)).count();
        assert_eq!(read, reads, "{service}");
    }
}

fn undone(request: &Request) -> Act {
    let body: serde_json::Value = serde_json::from_str(&request.body).unwrap();
    Act::Say(200, serde_json::json!({ "Responses": {}, "UnprocessedKeys": body["RequestItems"] }).to_string())
}

#[test]
fn keys_that_were_left_undone_are_asked_for_again() {
    let prefix = prefix();
    let rows: Vec<Row> = (0..120).map(|minute| window(minute * 60, 5)).collect();
    write(&open(dynalite(), &prefix), &rows).unwrap();
    let met = AtomicU32::new(0);
    let gate = Gate::before(dynalite(), move |request| {
        let is_first = request.operation == "BatchGetItem" && met.fetch_add(1, Ordering::SeqCst) < 3;
        if is_first { undone(request) } else { Act::Pass }
    });
    let store = again(&gate.endpoint, &prefix);
    let keys: Vec<RowKey> = rows.iter().map(|row| row.key.clone()).collect();
    let read: Vec<Row> = wait(store.read(&keys)).unwrap().into_iter().flatten().collect();
    assert_eq!(read, rows);
    assert_eq!(gate.seen("BatchGetItem").len(), 3 + 2, "two batches, and three that were undone");
}

#[test]
fn keys_that_are_left_undone_for_ever_are_an_error_and_not_missing_rows() {
    let prefix = prefix();
    write(&open(dynalite(), &prefix), &[window(0, 5)]).unwrap();
    let gate = Gate::before(
        dynalite(),
        |request| {
            if request.operation == "BatchGetItem" { undone(request) } else { Act::Pass }
        },
    );
    let store = again(&gate.endpoint, &prefix);
    let answer = wait(store.read(&[window(0, 5).key]));
    let Err(ReadError::Unavailable(why)) = answer else { panic!("{answer:?}") };
    assert!(why.contains(&store.metrics) && why.contains("left undone 8 times"), "{why}");
    assert_eq!(gate.seen("BatchGetItem").len(), TRIES_MAX as usize);
}

fn commit(number: u64) -> Commit {
    let name = |number| PartName(format!("part {number}"));
    let parts = if number == 1 { vec![name(1)] } else { vec![name(number - 1), name(number)] };
    Commit {
        rows: (0..number.cast_signed() % 3 + 1).map(|minute| window(minute * 60, number)).collect(),
        parts: vec![(name(number), Bytes::from(format!("body {number}")))],
        checkpoint: Checkpoint {
            generation: Generation(0),
            shard: ShardId::numbered(0),
            position: at(number),
            fold_revision: 1,
            ended: false,
            parts,
        },
    }
}

#[test]
fn a_resume_point_whose_answer_was_lost_has_moved() {
    let (_gate, store) = first(1, is_point, Act::PassAndCut);
    assert_eq!(wait(store.commit(commit(1))).unwrap().checkpoint, Ok(()));
    assert_eq!(wait(store.commit(commit(2))).unwrap().checkpoint, Ok(()));
    let (point, bodies) = wait(store.checkpoint(Generation(0), &ShardId::numbered(0))).unwrap().unwrap();
    assert_eq!((point.position, bodies.len()), (at(2), 2));
    assert_eq!(wait(store.commit(commit(2))).unwrap().checkpoint, Err(at(2)), "of another call, it has lost");
}

/// Who repeats what was not acknowledged ends where no fault was.
#[test]
fn faults_on_every_request_change_nothing_of_what_ends_up_stored() {
    const COMMITS: u64 = 8;
    let everything = Span::All { tenant: None, generation: Generation(0), kind: Kind::Window };
    let outcome = |store: &DynamoDb| {
        let rows = wait(store.scan(&everything, None, 1_000.try_into().unwrap())).unwrap().rows;
        (rows, wait(store.checkpoint(Generation(0), &ShardId::numbered(0))).unwrap())
    };
    let run = |store: &DynamoDb, said: &str| {
        for number in 1..=COMMITS {
            let mut tries = 0;
            // Lost to itself is as good: the commit before was not acknowledged, and had happened.
            while wait(store.commit(commit(number))).is_err() {
                tries += 1;
                assert!(tries < 100, "{said}");
            }
        }
    };
    let (calm, expected_in) = (prefix(), "without faults");
    let calm = open(dynalite(), &calm);
    run(&calm, expected_in);
    let expected = outcome(&calm);
    for seed in 0..4 {
        let prefix = prefix();
        drop(open(dynalite(), &prefix));
        let random = std::sync::Mutex::new(Random::new(seed));
        let gate = Gate::before(dynalite(), move |_| match random.lock().unwrap().below(1_000) {
            0..100 => Act::Cut,
            100..200 => Act::PassAndCut,
            200..300 => Act::refuse(500, "InternalServerError"),
            300..400 => Act::refuse(400, THROTTLED),
            _ => Act::Pass,
        });
        // Every other seed with parts as items.
        let held_bytes_max = if seed % 2 == 0 { 0 } else { 1_000 };
        run(&DynamoDb { held_bytes_max, ..again(&gate.endpoint, &prefix) }, &format!("seed {seed}"));
        assert_eq!(outcome(&again(dynalite(), &prefix)), expected, "seed {seed}");
    }
}

#[test]
fn parts_that_a_crash_left_are_removed_by_the_next_process() {
    let prefix = prefix();
    let apart = |store| DynamoDb { held_bytes_max: 0, ..store };
    let store = apart(open(dynalite(), &prefix));
    wait(store.commit(commit(1))).unwrap();
    // It dies between its parts and its resume point.
    let gate = Gate::before(dynalite(), |request| if is_point(request) { Act::Cut } else { Act::Pass });
    assert!(wait(apart(again(&gate.endpoint, &prefix)).commit(commit(2))).is_err());
    let parts = |store: &DynamoDb| {
        let of = (Generation(0), ShardId::numbered(0));
        let mut names: Vec<String> = wait(store.part_names(&of)).unwrap().into_iter().map(|name| name.0).collect();
        names.sort();
        names
    };
    assert_eq!(parts(&store), ["part 1", "part 2"]);
    // Its first removals fail, and are not forgotten.
    let met = AtomicU32::new(0);
    let gate = Gate::before(dynalite(), move |request| {
        let is_early = request.operation == "DeleteItem" && met.fetch_add(1, Ordering::SeqCst) < TRIES_MAX;
        if is_early { Act::Cut } else { Act::Pass }
    });
    let heir = apart(again(&gate.endpoint, &prefix));
    wait(heir.checkpoint(Generation(0), &ShardId::numbered(0))).unwrap().unwrap();
    // It folded on in other steps.
    let name = PartName("part 1".into());
    let next = |number| {
        let mut next = commit(number);
        (next.parts, next.checkpoint.parts) = (vec![], vec![name.clone()]);
        assert_eq!(wait(heir.commit(next)).unwrap().checkpoint, Ok(()));
        parts(&heir)
    };
    assert_eq!(next(3), ["part 1", "part 2"]);
    assert_eq!(next(4), ["part 1"]);
}

#[test]
fn the_largest_rows_and_parts_with_the_longest_names_are_stored() {
    use crate::store::{NAME_BYTES_MAX, PART_BYTES_MAX, ROW_BYTES_MAX, key::SHARD_BYTES_MAX};
    for service in [dynalite(), ministack()] {
        let prefix = prefix();
        let store = open(service, &prefix);
        let (name, shard) = ("/".repeat(NAME_BYTES_MAX), ShardId::named(&"s".repeat(SHARD_BYTES_MAX)));
        for kind in [Kind::Window, Kind::Balance, Kind::Taken] {
            let subject = Subject { tenant: name.clone(), generation: Generation(u32::MAX), kind, name: name.clone() };
            let key = RowKey { subject, at: i64::MIN, shard: shard.clone(), partial: Partial(9), page: u16::MAX };
            let body = Bytes::from(vec![0xff; ROW_BYTES_MAX]);
            let highest = SequenceNumber::MAX;
            let row = Row {
                key,
                applied_from: highest,
                applied_through: highest,
                folded_on: Day(u16::MAX),
                fold_revision: u32::MAX,
                body,
            };
            assert_eq!(write(&store, std::slice::from_ref(&row)), Ok(vec![Written::Stored]));
            assert!(stands(&store, &row), "{kind:?} on {service}");
            let span = Span::All { tenant: Some(name.clone()), generation: Generation(u32::MAX), kind };
            let found = wait(store.scan(&span, None, 10.try_into().unwrap())).unwrap().rows;
            assert!(found == [row], "{kind:?} on {service}");
        }
        let mut large = commit(1);
        let part = PartName("p".repeat(NAME_BYTES_MAX));
        large.parts = vec![(part.clone(), Bytes::from(vec![0xff; PART_BYTES_MAX]))];
        (large.checkpoint.parts, large.checkpoint.shard) = (vec![part], shard.clone());
        let bodies = large.parts.iter().map(|part| part.1.clone()).collect::<Vec<_>>();
        assert_eq!(wait(store.commit(large)).unwrap().checkpoint, Ok(()));
        assert!(wait(again(service, &prefix).checkpoint(Generation(0), &shard)).unwrap().unwrap().1 == bodies);
    }
}

#[test]
fn a_tenant_sees_no_row_of_another_however_their_names_are_made() {
    const TENANTS: [&str; 6] = ["a", "a/", "a/web", "a/web/g0/1970-01-01T00/1", "ab", "a\u{1}"];
    const NAMES: [&str; 4] = ["web", "/web", "web/g0/1970-01-01T00/1", "balances/web"];
    let prefix = prefix();
    let store = open(dynalite(), &prefix);
    let mut rows = vec![];
    for tenant in TENANTS {
        for (name, kind) in NAMES.into_iter().flat_map(|name| Kind::ALL.map(|kind| (name, kind))) {
            let mut key = key(kind, name, 60);
            key.subject.tenant = tenant.to_owned();
            rows.push(row(key, 5));
        }
    }
    write(&store, &rows).unwrap();
    for (tenant, kind) in TENANTS.into_iter().flat_map(|tenant| Kind::ALL.map(|kind| (tenant, kind))) {
        let span = Span::All { tenant: Some(tenant.to_owned()), generation: Generation(0), kind };
        let found = wait(store.scan(&span, None, 100.try_into().unwrap())).unwrap().rows;
        let own = |row: &&Row| row.key.subject.tenant == tenant && row.key.subject.kind == kind;
        let mut expected: Vec<Row> = rows.iter().filter(own).cloned().collect();
        expected.sort_by(|a, b| a.key.cmp(&b.key));
        assert_eq!(found, expected, "{tenant:?} {kind:?}");
    }
}
