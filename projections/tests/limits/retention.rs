//! The day that a row's age counts from: that of the fold's time at the last record that touched it, in every replay.

use std::collections::BTreeMap;

use events::{
    identity::{Origin, OriginKind},
    stream::Record,
    wire::{self, Content, Extent},
};
use projections::{
    fold::{rows::Body, taken::Taken},
    store::{Day, Kind, Row},
};

use super::{DAY_MS, Driver, NOON_MS, header, record};

const NOON: u16 = (NOON_MS / DAY_MS) as u16;

/// A line of a service that claims to be of this time, at a place in a file, folded so many days after `NOON_MS`.
fn line(number: u64, days: i64, file: &str, service: &str, time: &str) -> Record {
    let text = format!("{{\"timestamp\":\"{time}\",\"service\":\"{service}\"}}\n");
    let origin = Origin { kind: OriginKind::File, name: file.into(), version: "1".into() };
    let at_ms = NOON_MS + days * DAY_MS;
    let extent = Some(Extent { origin, from: 0, to: text.len() as u64 });
    let header = wire::Header { extent, ..header("local", Content::Lines, text.len(), at_ms) };
    record(number, at_ms, wire::encode(&header, text.as_bytes()))
}

fn history() -> Vec<Record> {
    let (long_ago, later) = ("2015-03-01T00:00:00Z", "2015-03-01T00:05:00Z");
    vec![
        line(1, 0, "/a", "web", long_ago),
        line(2, 0, "/b", "once", long_ago),
        // Another day: another minute of a service that is known; a late line; and a copy.
        line(3, 7, "/c", "web", later),
        line(4, 20, "/d", "web", long_ago),
        line(5, 30, "/b", "once", long_ago),
    ]
}

/// The days of rows, by kind and name (of a mark: of its file) and place in time; counted from the first record's.
fn days(driver: &Driver) -> BTreeMap<(Kind, String, i64), u16> {
    let day = |row: &Row| {
        let Day(day) = row.folded_on;
        let key = &row.key;
        let name = match key.subject.kind {
            Kind::Taken => Taken::decode(&row.body).unwrap().origin,
            _ => key.subject.name.clone(),
        };
        ((key.subject.kind, name, key.at), day - NOON)
    };
    driver.rows.values().filter(|row| row.key.subject.kind != Kind::Balance).map(day).collect()
}

/// Each record folded, in a new process after each if wanted.
fn folded(restarts: bool) -> Driver {
    let mut driver = Driver::new();
    for record in history() {
        driver.fold(&record);
        let commit = driver.commit();
        if restarts {
            driver.restart(&commit);
        }
    }
    driver
}

#[test]
fn a_row_is_of_the_day_of_the_last_record_that_touched_it_whatever_its_lines_claim() {
    let driver = folded(false);
    let days = days(&driver);
    let day = |kind, name: &str, at| days.get(&(kind, name.to_owned(), at)).copied();
    let minute = 1_425_168_000;
    assert_eq!(day(Kind::Window, "once", minute), Some(0), "a copy touches nothing but its mark");
    assert_eq!(day(Kind::Window, "web", minute + 300), Some(7));
    assert_eq!(day(Kind::Window, "web", minute), Some(20), "a late line");
    let marks: Vec<u16> = days.iter().filter(|((kind, ..), _)| *kind == Kind::Taken).map(|(_, day)| *day).collect();
    assert_eq!(marks.iter().copied().collect::<std::collections::BTreeSet<_>>(), [0, 7, 20, 30].into());
    assert_eq!(day(Kind::Service, "web", 0), Some(20), "the last day on which it was named");
    assert_eq!(day(Kind::Service, "once", 0), Some(0));
    assert_eq!(driver.balance.duplicate, 1);
}

#[test]
fn restarts_change_no_row_s_day() {
    assert_eq!(folded(true).rows, folded(false).rows);
}
