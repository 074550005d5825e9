//! Laws of scans: order, walls, edges and pages. What a scan should say is taken from the order of `RowKey` itself.

use std::{cell::Cell, collections::BTreeMap, num::NonZeroUsize};

use events::position::ShardId;

use super::{Adapter, Bench, everything, key, row, subject};
use crate::store::{Generation, KeyRef, Kind, Partial, ReadError, Row, RowKey, Span, Store, Subject};

/// Names of which some begin with others, and whose bytes sort low, high and between.
const NAMES: [&str; 9] = ["", "\u{1}", "a", "a\u{1}", "ab", "abc", "a\u{ff}", "b", "\u{10ffff}"];
const PLACES: [i64; 8] = [i64::MIN, -60, -1, 0, 1, 255, 256, i64::MAX];

/// Rows of many tenants, generations, kinds, names, places, shards and pages.
fn many() -> BTreeMap<RowKey, Row> {
    let mut rows = BTreeMap::new();
    let mut put = |key: RowKey| rows.insert(key.clone(), row(key, 5));
    for tenant in NAMES {
        for name in NAMES {
            for (generation, kind) in [(0, Kind::Window), (0, Kind::Taken), (1, Kind::Window), (256, Kind::Transition)]
            {
                let (tenant, name) = (tenant.to_owned(), name.to_owned());
                let subject = Subject { tenant, generation: Generation(generation), kind, name };
                put(RowKey { subject, at: 60, shard: ShardId::numbered(0), partial: Partial(0), page: 0 });
            }
        }
    }
    for at in PLACES {
        for shard in ["a", "ab", "b", "shardId-000000000002"] {
            for (partial, page) in [(0, 0), (0, 1), (0, 256), (0, u16::MAX), (1, 0), (255, 1), (256, 0), (u16::MAX, 1)]
            {
                let (subject, shard) = (subject("a", "places"), ShardId::named(shard));
                put(RowKey { subject, at, shard, partial: Partial(partial), page });
            }
        }
    }
    rows
}

fn matches(span: &Span, key: &RowKey) -> bool {
    match span {
        Span::Of { subject, from, to } => key.subject == *subject && (*from..*to).contains(&key.at),
        Span::All { tenant, generation, kind } => {
            tenant.as_ref().is_none_or(|tenant| *tenant == key.subject.tenant)
                && (*generation, *kind) == (key.subject.generation, key.subject.kind)
        }
    }
}

fn all_spans() -> Vec<Span> {
    let mut spans = Vec::new();
    for tenant in NAMES.into_iter().chain(["nobody", "aa"]) {
        for name in NAMES.into_iter().chain(["nothing", "places"]) {
            spans.push(Span::Of { subject: subject(tenant, name), from: i64::MIN, to: i64::MAX });
        }
        spans.push(everything(Some(tenant)));
        spans.push(Span::All { tenant: Some(tenant.to_owned()), generation: Generation(1), kind: Kind::Window });
        spans.push(Span::All { tenant: Some(tenant.to_owned()), generation: Generation(0), kind: Kind::Taken });
    }
    for kind in Kind::ALL {
        spans.push(Span::All { tenant: None, generation: Generation(0), kind });
    }
    spans.push(Span::All { tenant: None, generation: Generation(256), kind: Kind::Transition });
    spans
}

/// Tenant, generation, kind, name, place (negative first), shard, partial, page.
pub fn a_scan_has_the_order_of_the_keys<A: Adapter>(adapter: &A) {
    let bench = Bench::empty(adapter);
    let rows = many();
    let offered: Vec<Row> = rows.values().rev().cloned().collect();
    bench.write(&offered);
    for span in [
        everything(None),
        everything(Some("a")),
        Span::Of { subject: subject("a", "places"), from: i64::MIN, to: i64::MAX },
    ] {
        let keys: Vec<RowKey> = bench.scan(&span, 1000).into_iter().map(|row| row.key).collect();
        let unsorted = keys.windows(2).find(|pair| pair[0] >= pair[1]);
        assert_eq!(unsorted, None, "rows of {span:?} out of order");
        assert_eq!(keys, rows.keys().filter(|key| matches(&span, key)).cloned().collect::<Vec<_>>());
    }
}

/// No row of another subject, tenant, generation or kind, whatever the names begin with; all of the own ones.
pub fn a_span_shows_nothing_of_others<A: Adapter>(adapter: &A) {
    let bench = Bench::empty(adapter);
    let rows = many();
    bench.write(&rows.values().cloned().collect::<Vec<_>>());
    for span in all_spans() {
        let found = bench.scan(&span, 1000);
        let stranger = found.iter().find(|row| !matches(&span, &row.key));
        assert_eq!(stranger, None, "a stranger's row in {span:?}");
        let expected: Vec<Row> = rows.values().filter(|row| matches(&span, &row.key)).cloned().collect();
        assert_eq!(found, expected, "rows of {span:?}");
    }
}

/// `from <= at < to`.
pub fn a_span_holds_its_first_place_and_not_its_last<A: Adapter>(adapter: &A) {
    let bench = Bench::empty(adapter);
    bench.write(&PLACES.map(|at| row(key("web", at), 1)));
    for from in PLACES {
        for to in PLACES {
            let found = bench.scan(&Span::Of { subject: subject("tenant", "web"), from, to }, 3);
            let places: Vec<i64> = found.iter().map(|row| row.key.at).collect();
            let expected: Vec<i64> = PLACES.into_iter().filter(|at| (from..to).contains(at)).collect();
            assert_eq!(places, expected, "from {from} to {to}");
        }
    }
}

/// Whatever the size of a page.
pub fn pages_neither_skip_nor_repeat<A: Adapter>(adapter: &A) {
    let bench = Bench::empty(adapter);
    let rows = many();
    bench.write(&rows.values().cloned().collect::<Vec<_>>());
    for span in
        [everything(None), everything(Some("a")), Span::Of { subject: subject("a", "places"), from: -60, to: 256 }]
    {
        let expected: Vec<Row> = rows.values().filter(|row| matches(&span, &row.key)).cloned().collect();
        let small: &[usize] = if adapter.is_far() { &[5] } else { &[1, 2, 3] };
        let around = [1000, expected.len() - 1, expected.len(), expected.len() + 1];
        for limit in small.iter().copied().chain(around) {
            assert_eq!(bench.scan(&span, limit), expected, "{span:?} by pages of {limit}");
        }
    }
}

/// Rows that stood before the first page are each seen once, whatever is written between two pages.
pub fn pages_neither_skip_nor_repeat_while_rows_are_written<A: Adapter>(adapter: &A) {
    let span = Span::Of { subject: subject("tenant", "web"), from: i64::MIN, to: i64::MAX };
    let limits: &[usize] = if adapter.is_far() { &[3, 1000] } else { &[1, 2, 3, 1000] };
    for &limit in limits {
        let bench = Bench::empty(adapter);
        let before: Vec<Row> = (0..40).map(|at| row(key("web", at * 10), 1)).collect();
        bench.write(&before);
        let pages = Cell::new(0);
        let found = bench.scan_and(&span, limit, || {
            let page = pages.replace(pages.get() + 1);
            // New rows before, between and behind; and the old ones again, further.
            let new = (0..3).map(|n| row(key("web", (page * 37 + n * 131) % 400 + 1 + n), 2 + page.unsigned_abs()));
            let again = before.iter().map(|old| row(old.key.clone(), 2 + page.unsigned_abs()));
            bench.write(&new.chain(again).collect::<Vec<_>>());
        });
        let mut places: Vec<i64> = found.iter().map(|row| row.key.at).collect();
        assert!(
            places.windows(2).all(|pair| pair[0] < pair[1]),
            "twice or out of order by pages of {limit}: {places:?}"
        );
        places.retain(|at| at % 10 == 0 && (0..400).contains(at));
        assert_eq!(places, (0..40).map(|at| at * 10).collect::<Vec<_>>(), "by pages of {limit}");
        for found in found {
            let through = found.fold_revision;
            assert_eq!(found, row(found.key.clone(), through.into()), "a mixture of two rows");
        }
    }
}

/// It shows keys and bodies of the same rows, page by page, and ends where it is told.
pub fn a_walk_shows_what_a_scan_gives<A: Adapter>(adapter: &A) {
    let bench = Bench::empty(adapter);
    bench.write(&many().into_values().collect::<Vec<_>>());
    let limits: &[usize] = if adapter.is_far() { &[40] } else { &[1000, 7] };
    for (span, limit) in all_spans().into_iter().flat_map(|span| limits.iter().map(move |limit| (span.clone(), *limit)))
    {
        let limit = NonZeroUsize::new(limit).expect("more than none");
        let mut after = None;
        loop {
            let page = bench.wait(bench.store.scan(&span, after.as_ref(), limit)).expect("a scan is answered");
            let expected: Vec<_> = page.rows.into_iter().map(|row| (row.key, row.body.to_vec())).collect();
            let walk = |rows_max: usize| {
                let mut shown = vec![];
                let each = |key: KeyRef<'_>, body: &[u8]| {
                    shown.push((RowKey::from(key), body.to_vec()));
                    Ok(shown.len() < rows_max)
                };
                let next = bench.wait(bench.store.walk(&span, after.as_ref(), limit, each));
                (shown, next.expect("a walk without faults is answered"))
            };
            assert_eq!(walk(usize::MAX), (expected.clone(), page.next_after.clone()), "{span:?} by pages of {limit}");
            if let Some((last, _)) = expected.get(2) {
                assert_eq!(walk(3), (expected[..3].to_vec(), Some(last.clone())), "{span:?}, ended after three rows");
            }
            match page.next_after {
                Some(next) => after = Some(next),
                None => break,
            }
        }
    }
    let failed = ReadError::Damaged("said by who looks".to_owned());
    let all = everything(None);
    let walk = bench.store.walk(&all, None, NonZeroUsize::MIN, |_, _| Err(failed.clone()));
    assert_eq!(bench.wait(walk), Err(failed));
}
