//! How long rows are kept: by one value of the pair, and nobody is shown what is past its time.

use crate::{
    dynamodb::{DynamoDb, keep, layout},
    store::{Day, Generation, Kind, Row, Span, Store},
};

use super::{
    gate::wait,
    laws::{again, dynalite, ministack, open, prefix},
    scripted::{key, row, stands, window, write},
};

/// As if it had been looked up.
fn keeping(store: DynamoDb, days: u16) -> DynamoDb {
    keep::assume(&store, days);
    store
}

fn on(day: fn() -> Day, store: DynamoDb) -> DynamoDb {
    DynamoDb { today: day, ..store }
}

#[test]
fn rows_that_are_kept_for_some_days_carry_the_time_at_which_they_expire_and_marks_stay_twice_as_long() {
    let prefix = prefix();
    let store = keeping(open(ministack(), &prefix), 15);
    let rows = [
        window(0, 5),
        row(key(Kind::Alarm, "cpu", 0), 5),
        row(key(Kind::Definition, "1", 0), 5),
        row(key(Kind::Balance, "", 0), 5),
        row(key(Kind::Taken, "a", 0), 5),
        row(key(Kind::Producer, "a", 0), 5),
        row(key(Kind::Identified, "a", 0), 5),
    ];
    write(&store, &rows).unwrap();
    let expires = |row: &Row| {
        let item = wait(store.get(&layout::place(&row.key).unwrap())).unwrap().unwrap();
        item.get("ExpiresAt").map(|at| at.as_n().unwrap().parse::<i64>().unwrap())
    };
    let after = |days: i64| Some((20_000 + days + 1) * 86_400);
    assert_eq!(
        rows.each_ref().map(expires),
        [after(15), None, None, after(15), after(30), after(30), after(30)],
        "definitions and states stay"
    );
    // Folded long after its day, such as by a replay: not born expired.
    let late = on(|| Day(20_400), keeping(again(ministack(), &prefix), 15));
    write(&late, &[window(60, 5)]).unwrap();
    assert_eq!(expires(&window(60, 5)), after(400 + 15));
    assert!(stands(&late, &window(60, 5)));
}

fn scanned(store: &DynamoDb, kind: Kind) -> usize {
    let span = Span::All { tenant: Some("tenant".into()), generation: Generation(0), kind };
    wait(store.scan(&span, None, 10.try_into().unwrap())).unwrap().rows.len()
}

#[test]
fn a_row_past_its_time_is_as_good_as_gone_whether_dynamodb_has_removed_it_or_not() {
    let prefix = prefix();
    let mark = row(key(Kind::Taken, "a", 0), 5);
    // dynalite removes nothing. The second row is of before anything was kept by time.
    write(&keeping(open(dynalite(), &prefix), 15), &[window(0, 5), mark.clone()]).unwrap();
    write(&again(dynalite(), &prefix), &[window(60, 5)]).unwrap();
    let seen = |today, days| {
        let store = on(today, keeping(again(dynalite(), &prefix), days));
        let read = wait(store.read(&[window(0, 5).key, window(60, 5).key, mark.key.clone()])).unwrap();
        assert_eq!(read.iter().take(2).flatten().count(), scanned(&store, Kind::Window));
        assert_eq!(read.iter().skip(2).flatten().count(), scanned(&store, Kind::Taken));
        read.iter().map(Option::is_some).collect::<Vec<_>>()
    };
    assert_eq!(seen(|| Day(20_015), 15), [true, true, true], "its last day");
    assert_eq!(seen(|| Day(20_016), 15), [false, false, true]);
    assert_eq!(seen(|| Day(20_030), 15), [false, false, true]);
    assert_eq!(seen(|| Day(20_031), 15), [false, false, false]);
    assert_eq!(seen(|| Day(20_016), 0), [false, true, true], "kept for ever from now on: what is written says when");
    let store = on(|| Day(20_016), keeping(again(dynalite(), &prefix), 15));
    assert!(store.is_past(Kind::Window, Day(20_000)) && !store.is_past(Kind::Window, Day(20_001)));
    assert!(!store.is_past(Kind::Taken, Day(20_000)) && !store.is_past(Kind::Alarm, Day(0)));
    // What comes late begins a row anew, though the old one still stands.
    let anew = Row { folded_on: Day(20_016), ..window(0, 6) };
    write(&store, std::slice::from_ref(&anew)).unwrap();
    assert!(stands(&store, &anew));
}

#[test]
fn one_value_of_the_pair_says_how_long_rows_are_kept_and_every_process_has_it() {
    let prefix = prefix();
    let (one, other) = (open(dynalite(), &prefix), again(dynalite(), &prefix));
    wait(one.bind("arn:logs 1")).unwrap();
    assert_eq!(wait(one.kept()), Ok(None));
    wait(one.keep(Some(15))).unwrap();
    wait(other.bind("arn:logs 1")).unwrap();
    assert!(other.is_past(Kind::Window, Day(19_984)) && !other.is_past(Kind::Window, Day(19_985)));
    // A process that was there already sees a change within ten minutes.
    let looks = |store: &DynamoDb| {
        wait(async {
            tokio::time::pause();
            tokio::time::advance(std::time::Duration::from_secs(601)).await;
            tokio::time::resume();
            store.read(&[window(0, 5).key]).await.unwrap();
        });
    };
    wait(one.keep(Some(30))).unwrap();
    assert!(other.is_past(Kind::Window, Day(19_984)));
    looks(&other);
    assert!(!other.is_past(Kind::Window, Day(19_984)));
    wait(one.keep(None)).unwrap();
    assert_eq!(wait(other.kept()), Ok(None));
    assert!(!other.is_past(Kind::Window, Day(0)));
}

/// When the entry of a window's bucket expires.
fn entry_expires(store: &DynamoDb, row: &Row) -> Option<i64> {
    let scope = layout::Scope::of(&row.key.subject);
    let bucket = scope.bucket(&row.key.subject.name, row.key.at).unwrap();
    let entry = wait(store.get(&scope.listed(&bucket))).unwrap().unwrap();
    entry.get("ExpiresAt").map(|at| at.as_n().unwrap().parse().unwrap())
}

#[test]
fn a_bucket_stays_listed_for_longer_than_the_rows_that_are_kept_longest() {
    let prefix = prefix();
    let store = |days| keeping(again(dynalite(), &prefix), days);
    write(&keeping(open(dynalite(), &prefix), 15), &[window(0, 5)]).unwrap();
    let short = entry_expires(&store(15), &window(0, 5)).unwrap();
    write(&store(63), &[window(0, 6)]).unwrap();
    assert_eq!(entry_expires(&store(63), &window(0, 5)), Some(short + (63 - 15) * 86_400));
    write(&store(15), &[window(0, 7)]).unwrap();
    assert_eq!(entry_expires(&store(15), &window(0, 5)), Some(short + (63 - 15) * 86_400));
    write(&again(dynalite(), &prefix), &[window(0, 8)]).unwrap();
    assert_eq!(entry_expires(&store(15), &window(0, 5)), None, "a row that stays for good");
    write(&store(15), &[window(0, 9)]).unwrap();
    assert_eq!(entry_expires(&store(15), &window(0, 5)), None);
}
