//! Marks fit into one row whatever is sent, and what they refuse they refuse in every replay.

use events::{
    identity::{Origin, OriginKind, Producer},
    stream::Record,
    wire::{self, Extent},
};
use projections::{
    fold::{CHANGED_ROWS_MAX, balance::Balance, limits::Limits, taken::RANGES_CROWDED},
    store::{Commit, Kind, ROW_BYTES_MAX},
};

use super::{Content, Driver, NOON_MS, header, record};

const LINE: &str = "{\"service\":\"s\",\"status\":200}\n";
const NEIGHBOURS: u64 = 30;
const PIECES: u64 = Limits::REAL.pieces as u64;

/// The lines `lines` of one file, in one batch.
fn batch(number: u64, lines: std::ops::Range<u64>) -> Record {
    let text = LINE.repeat((lines.end - lines.start) as usize);
    let mut header = header("local", Content::Lines, text.len(), NOON_MS);
    let origin = Origin { kind: OriginKind::File, name: "/log/a".into(), version: "1".into() };
    let from = lines.start * LINE.len() as u64;
    header.extent = Some(Extent { origin, from, to: from + text.len() as u64 });
    record(number, NOON_MS, wire::encode(&header, text.as_bytes()))
}

/// As a worker does: commits when it is asked to.
fn drive(driver: &mut Driver, records: &[Record]) -> (Vec<Balance>, usize) {
    let (mut balances, mut largest) = (vec![], 0);
    for record in records {
        balances.push(driver.fold(record));
        if driver.shard.changed_rows() >= CHANGED_ROWS_MAX {
            largest = largest.max(largest_mark(&driver.commit()));
        }
    }
    (balances, largest.max(largest_mark(&driver.commit())))
}

fn largest_mark(commit: &Commit) -> usize {
    let marks = commit.rows.iter().filter(|row| matches!(row.key.subject.kind, Kind::Taken | Kind::Producer));
    marks.map(|row| row.body.len()).max().unwrap_or(0)
}

/// Neighbours, which are one piece, and every second line, each as a batch of its own; then what is between, in another order, and what was refused.
fn with_gaps() -> Vec<Record> {
    let alone = |line: u64| line..line + 1;
    let mut batches: Vec<_> = (20_000..20_000 + NEIGHBOURS).map(alone).collect();
    batches.extend((0..PIECES - 1 + 20).map(|n| alone(2 * n)));
    // Begins a further piece, fills a gap (so there is room for one), begins one, fills many and lies over what was taken, the whole slice.
    batches.extend([alone(9_001), alone(1), alone(2 * PIECES + 40), 10..200, alone(9_001), 0..9_100]);
    batches.into_iter().zip(1..).map(|(lines, number)| batch(number, lines)).collect()
}

#[test]
fn lines_that_would_leave_one_gap_too_many_are_skipped_until_gaps_are_filled() {
    let (mut driver, records) = (Driver::new(), with_gaps());
    let (balances, _) = drive(&mut driver, &records);
    let told: Vec<_> = balances[(NEIGHBOURS + PIECES) as usize - 2..]
        .iter()
        .map(|balance| (balance.folded, balance.duplicate, balance.skipped.get("too_many_gaps").map_or(0, |s| s.count)))
        .collect();
    let mut expected = vec![(1, 0, 0)];
    expected.extend([(0, 0, 1); 20]);
    expected.extend([(0, 0, 1), (1, 0, 0), (1, 0, 0), (95, 95, 0), (1, 0, 0)]);
    let taken = PIECES - 1 + 1 + 1 + 95 + 1;
    expected.push((9_100 - taken, taken, 0));
    assert_eq!(told, expected);
    assert_eq!(driver.balance.folded, NEIGHBOURS + 9_100, "each line counts once");
}

/// What each record became without any restart, and in a worker that is started again after every so many.
fn restarted(every: usize) -> (Vec<Balance>, Vec<Balance>) {
    let records = with_gaps();
    let mut driver = Driver::new();
    let lived = records.iter().map(|record| driver.fold(record)).collect();
    let mut driver = Driver::new();
    let restarted = records.iter().enumerate().map(|(number, record)| {
        let balance = driver.fold(record);
        if number % every == 0 {
            let commit = driver.commit();
            driver.restart(&commit);
        }
        balance
    });
    (lived, restarted.collect())
}

#[test]
fn neither_commits_nor_restarts_change_what_a_crowded_mark_refuses() {
    for every in [1, 7, 1_000] {
        let (lived, restarted) = restarted(every);
        assert!(lived == restarted, "a restart after every {every} records");
    }
}

/// What the last records became, and again after a crash that left their rows stored and the resume point before them.
fn crashed() -> (Vec<Balance>, Vec<Balance>) {
    let records = with_gaps();
    let (before, after) = records.split_at((NEIGHBOURS + PIECES) as usize - 5);
    let mut driver = Driver::new();
    before.iter().for_each(|record| drop(driver.fold(record)));
    let resume_point = driver.commit();
    let first = after.iter().map(|record| driver.fold(record)).collect();
    driver.commit();
    let rows = driver.rows.clone();
    driver.restart(&resume_point);
    let again = after.iter().map(|record| driver.fold(record)).collect();
    driver.commit();
    assert!(driver.rows == rows, "rows that were ahead changed");
    (first, again)
}

#[test]
fn a_mark_that_is_ahead_still_refuses_what_it_refused() {
    let (first, again) = crashed();
    assert_eq!(first, again);
}

#[test]
#[cfg(feature = "law")]
fn what_these_tests_are_for_would_be_seen() {
    use projections::fold::sabotage::{self, Sabotage};

    sabotage::set(Some(Sabotage::RangesCounted));
    let (lived, restarted) = restarted(1);
    sabotage::set(Some(Sabotage::RefusalForgotten));
    let (first, again) = crashed();
    sabotage::set(None);
    assert!(lived != restarted, "what was joined has a meaning");
    assert!(first != again, "a refusal is forgotten");
}

#[test]
fn a_slice_that_is_sent_line_by_line_asks_for_commits_before_its_mark_outgrows_a_row() {
    let mut driver = Driver::new();
    let records: Vec<Record> = (0..3 * RANGES_CROWDED as u64).map(|n| batch(1 + n, n..n + 1)).collect();
    let (_, largest) = drive(&mut driver, &records);
    assert!(largest <= ROW_BYTES_MAX / 2, "a mark of {largest} bytes");
    assert_eq!(driver.balance.folded, records.len() as u64);
    assert!(driver.shard.changed_rows() == 0);
}

#[test]
fn a_producer_that_never_pauses_asks_for_commits_before_its_mark_outgrows_a_row() {
    let mut driver = Driver::new();
    let counted = |counter: u64| {
        let mut header = header("local", Content::Lines, LINE.len(), NOON_MS);
        header.producer = Some(Producer { id: "p".into(), epoch: 1, counter });
        record(counter, NOON_MS, wire::encode(&header, LINE.as_bytes()))
    };
    let records: Vec<Record> = (1..=10_000).map(counted).collect();
    let (_, largest) = drive(&mut driver, &records);
    assert!(largest <= ROW_BYTES_MAX / 2, "a mark of {largest} bytes");
    assert_eq!(driver.balance.folded, records.len() as u64);
}
