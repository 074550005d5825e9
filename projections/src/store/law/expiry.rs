//! Laws of expiry: the day of folding decides, and nothing else.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};

use super::{Adapter, Bench, key, row, subject};
use crate::store::{Day, Generation, Kind, Partial, Row, RowKey, Span, Store, Subject, Written};
use events::position::ShardId;

fn expire<A: Adapter>(bench: &Bench<'_, A>, generation: u32, kind: Kind, before: u16) -> u64 {
    let removed = bench.store.expire(Generation(generation), kind, Day(before));
    bench.wait(removed).expect("an expiry without faults is answered")
}

/// Rows of one kind and generation that were folded before a day, of every tenant and wherever they lie in time; no others.
pub fn rows_past_their_time_go_and_others_stay<A: Adapter>(adapter: &A) {
    const DAYS: [u16; 5] = [0, 59, 60, 61, u16::MAX];
    // The year 2015, today as it were, and what no clock says.
    const PLACES: [i64; 5] = [i64::MIN, -1, 0, 60 * 86_400, i64::MAX];
    let bench = Bench::empty(adapter);
    let mut rows = Vec::new();
    for tenant in ["", "a", "ab", "b"] {
        for name in ["", "web", "web2"] {
            for (generation, kind) in [(0, Kind::Window), (0, Kind::Taken), (1, Kind::Window), (0, Kind::Transition)] {
                for at in PLACES {
                    for (shard, day) in (0..).zip(DAYS) {
                        let subject = Subject { generation: Generation(generation), kind, ..subject(tenant, name) };
                        let key = RowKey { subject, at, shard: ShardId::numbered(shard), partial: Partial(0), page: 0 };
                        rows.push(Row { folded_on: Day(day), ..row(key, 3) });
                    }
                }
            }
        }
    }
    bench.write(&rows);
    let expire = |generation, kind, before| expire(&bench, generation, kind, before);
    assert_eq!(expire(0, Kind::Window, 0), 0);
    assert_eq!(expire(0, Kind::DeadLetter, u16::MAX), 0);
    assert_eq!(expire(0, Kind::Window, 60), 4 * 3 * 5 * 2, "tenants, names, places, days");
    assert_eq!(expire(0, Kind::Window, 60), 0, "what is gone is not counted again");
    let is_past = |row: &Row| {
        let Subject { generation, kind, .. } = row.key.subject;
        (generation, kind) == (Generation(0), Kind::Window) && row.folded_on < Day(60)
    };
    for row in &rows {
        let expected = if is_past(row) { None } else { Some(row) };
        assert_eq!(bench.read(&row.key).as_ref(), expected, "{:?}", row.key);
    }
    let span = Span::All { tenant: None, generation: Generation(0), kind: Kind::Window };
    assert_eq!(bench.scan(&span, 7).len(), 4 * 3 * 5 * 3);
    // Whoever is gone has no position any more.
    let again = rows.iter().find(|row| is_past(row)).expect("some rows are past");
    assert_eq!(bench.write(std::slice::from_ref(again)), [Written::Stored]);
}

/// The last record counts, and not the first; one that lost counts for nothing.
pub fn a_row_that_is_folded_into_again_lives_on<A: Adapter>(adapter: &A) {
    let bench = Bench::empty(adapter);
    let on = |name: &str, through: u64, day: u16| Row { folded_on: Day(day), ..row(key(name, 0), through) };
    bench.write(&[on("late line", 1, 10), on("loser", 2, 10), on("clock went back", 1, 50)]);
    let written = bench.write(&[on("late line", 2, 40), on("loser", 1, 40), on("clock went back", 2, 10)]);
    assert_eq!(written, [Written::Stored, Written::Lost(super::seq(2)), Written::Stored]);
    assert_eq!(expire(&bench, 0, Kind::Window, 40), 2);
    assert_eq!(bench.scan(&super::everything(None), 10), [on("late line", 2, 40)]);
}

/// A definition may be named by any record that is kept, and a state is written only when it changes.
pub fn definitions_and_states_of_alarms_never_expire<A: Adapter>(adapter: &A) {
    let bench = Bench::empty(adapter);
    let rows = Kind::ALL.map(|kind| row(RowKey { subject: Subject { kind, ..subject("t", "n") }, ..key("n", 0) }, 1));
    bench.write(&rows);
    for row in rows {
        let kind = row.key.subject.kind;
        let stays = matches!(kind, Kind::Definition | Kind::Alarm | Kind::Generations);
        assert_eq!(expire(&bench, 0, kind, u16::MAX), u64::from(!stays), "{kind:?}");
        assert_eq!(bench.read(&row.key), stays.then_some(row), "{kind:?}");
    }
}

/// A row that was acknowledged with a later day stands, although it was past its time when the expiry began.
pub fn an_expiry_takes_no_row_that_was_replaced_meanwhile<A: Adapter>(adapter: &A) {
    const EXPIRIES: usize = 40;
    const ROUNDS_MAX: u64 = 10_000;
    const KEYS: i64 = 8;
    // So that an expiry takes a while from its first look to its end.
    const OTHERS: i64 = 1_000;
    let bench = &Bench::empty(adapter);
    let (expired, writing) = (&AtomicUsize::new(0), &AtomicBool::new(true));
    let on = |at: i64, through: u64, day: u16| Row { folded_on: Day(day), ..row(key("web", at), through) };
    bench.write(&(KEYS..OTHERS).map(|at| on(at, 1, u16::MAX)).collect::<Vec<_>>());
    thread::scope(|scope| {
        scope.spawn(move || {
            while writing.load(Ordering::SeqCst) {
                expire(bench, 0, Kind::Window, 100);
                expired.fetch_add(1, Ordering::SeqCst);
            }
        });
        let (mut round, mut gone) = (0, None);
        while round < ROUNDS_MAX && expired.load(Ordering::SeqCst) < EXPIRIES {
            round += 1;
            let rows = |through, day| (0..KEYS).map(|at| on(at, through, day)).collect::<Vec<_>>();
            bench.write(&rows(2 * round, 99));
            thread::yield_now();
            for row in rows(2 * round + 1, 100) {
                bench.write(std::slice::from_ref(&row));
            }
            let stays = |row: &Row| bench.read(&row.key).as_ref() == Some(row);
            gone = gone.or(rows(2 * round + 1, 100).into_iter().find(|row| !stays(row)));
        }
        // The other thread ends before this one may panic.
        writing.store(false, Ordering::SeqCst);
        assert_eq!(gone, None, "a row of the later day is gone");
    });
}
