//! The law of expiry.

use super::{Adapter, Bench, row, subject};
use crate::store::{Generation, Kind, Row, RowKey, Span, Store, Subject, Written};
use events::position::ShardId;

/// Rows of one kind and generation that lie before a time, of every tenant; no others.
pub fn rows_past_their_time_go_and_others_stay<A: Adapter>(adapter: &A) {
    let bench = Bench::empty(adapter);
    let mut rows = Vec::new();
    for tenant in ["", "a", "ab", "b"] {
        for name in ["", "web", "web2"] {
            for (generation, kind) in [(0, Kind::Window), (0, Kind::Taken), (1, Kind::Window), (0, Kind::Transition)] {
                for at in [i64::MIN, -1, 0, 59, 60, 61, i64::MAX] {
                    for page in [0, 1] {
                        let subject = Subject { generation: Generation(generation), kind, ..subject(tenant, name) };
                        rows.push(row(RowKey { subject, at, shard: ShardId::numbered(0), page }, 3));
                    }
                }
            }
        }
    }
    bench.write(&rows);
    let expire = |generation, kind, before| {
        bench
            .wait(bench.store.expire(Generation(generation), kind, before))
            .expect("an expiry without faults is answered")
    };
    assert_eq!(expire(0, Kind::Window, i64::MIN), 0);
    assert_eq!(expire(0, Kind::Alarm, i64::MAX), 0);
    assert_eq!(expire(0, Kind::Window, 60), 4 * 3 * 4 * 2, "tenants, names, places, pages");
    assert_eq!(expire(0, Kind::Window, 60), 0, "what is gone is not counted again");
    let is_past = |row: &Row| {
        let Subject { generation, kind, .. } = row.key.subject;
        (generation, kind) == (Generation(0), Kind::Window) && row.key.at < 60
    };
    for row in &rows {
        let expected = if is_past(row) { None } else { Some(row) };
        assert_eq!(bench.read(&row.key).as_ref(), expected, "{:?}", row.key);
    }
    let span = Span::All { tenant: None, generation: Generation(0), kind: Kind::Window };
    assert_eq!(bench.scan(&span, 7).len(), 4 * 3 * 3 * 2);
    // Whoever is gone has no position any more.
    let again = rows.iter().find(|row| is_past(row)).expect("some rows are past");
    assert_eq!(bench.write(std::slice::from_ref(again)), [Written::Stored]);
}
