#![allow(clippy::unwrap_used)]
//! Lines go through the real fold, on one to three shards, into the store in memory; answers are held against plain sums over the same lines.

mod world;

use std::num::NonZeroUsize;

use events::{
    event::{Defined, Event, OpenShard, Ticked},
    position::{HashKey, HashRange, SequenceNumber, ShardId},
    wire::{self, Content},
};
use proptest::prelude::*;

use self::world::*;
use super::*;
use crate::{
    cell::Cell,
    fold::FOLD_REVISION,
    store::{
        Day, Partial, Row, RowKey,
        law::{
            block_on,
            memory::{Commits, Memory},
        },
    },
};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn the_digest_does_not_depend_on_shards_batches_or_commits(
        said in said(), routes in prop::collection::vec((1..4u16, 1..20usize, 1..5usize), 2..4), at in any::<prop::sample::Index>(),
    ) {
        let digests: Vec<_> = routes.iter().map(|route| world(&said, route.0, route.1, route.2).digest()).collect();
        prop_assert!(digests.windows(2).all(|pair| pair[0] == pair[1]), "{digests:?}");
        if !said.is_empty() {
            let mut other = said.clone();
            let changed = &mut other[at.index(said.len())];
            changed.latency = Some(changed.latency.unwrap_or(1.0) + 1.0);
            prop_assert_ne!(&world(&other, 2, 7, 2).digest(), &digests[0]);
        }
    }

    #[test]
    fn items_are_what_the_lines_said_in_order_and_pages_have_no_gap_and_no_repeat(
        said in said(), query in queries(), shards in 1..4u16, limit in 1..40usize,
    ) {
        let world = world(&said, shards, 5, 3);
        let items = world.metrics(&query, None, 100_000).items;
        let expected = expected(&said, &query);
        prop_assert_eq!(items.len(), expected.len());
        for (item, ((service, start, series), values)) in items.iter().zip(&expected) {
            prop_assert_eq!((&*item.service, item.timestamp.0, &*item.series), (service.as_str(), *start, series));
            prop_assert_eq!((item.count, item.period), (values.len() as u64, query.period_secs));
            let sum: f64 = values.iter().sum();
            prop_assert!((item.sum - sum).abs() <= 1e-9 * sum.abs(), "{} {}", item.sum, sum);
            prop_assert_eq!(item.min, values.iter().copied().fold(f64::INFINITY, f64::min));
            prop_assert_eq!(item.max, values.iter().copied().fold(f64::NEG_INFINITY, f64::max));
            prop_assert!(item.min <= item.p50 && item.p50 <= item.p90 && item.p90 <= item.p99 && item.p99 <= item.max);
        }
        prop_assert_eq!(world.pages(&query, limit), items);
    }

    #[test]
    fn an_item_s_json_is_read_back(said in said()) {
        let items = world(&said, 1, 9, 3).metrics(&query(), None, 1_000).items;
        let mut json = vec![];
        write_items(&items, Statistics::ALL, &mut json);
        prop_assert_eq!(serde_json::from_slice::<Vec<Item>>(&json).unwrap(), items);
    }

    #[test]
    fn items_are_written_as_each_alone_would_be(
        said in said(), factor in prop_oneof![Just(1.0), Just(-1.0), Just(1e-300), Just(1e14), Just(1e90)], mask in 0..512usize,
    ) {
        let names = Statistics::NAMES.iter().enumerate().filter(|(i, _)| mask >> i & 1 == 1).map(|(_, name)| *name);
        let names = names.collect::<Vec<_>>().join(",");
        let statistics = if names.is_empty() { Statistics::ALL } else { Statistics::parse(&names).unwrap() };
        let mut items = world(&said, 1, 9, 3).metrics(&query(), None, 1_000).items;
        for item in &mut items {
            (item.sum, item.average, item.p90) = (item.sum * factor, item.average * factor, -0.0);
        }
        let mut json = vec![];
        write_items(&items, statistics, &mut json);
        let each: Vec<_> = items.iter().map(|item| item.show(statistics)).collect();
        prop_assert_eq!(String::from_utf8(json).unwrap(), serde_json::to_string(&each).unwrap());
    }

    #[test]
    fn no_text_that_is_no_token_is_taken_for_one(text in "[A-Za-z0-9_-]{0,80}|\\PC{0,20}", at in any::<prop::sample::Index>(), letter in "[A-Za-z0-9_-]") {
        prop_assert_eq!(Cursor::parse(&text, &query()), Err(BadCursor::Malformed));
        let series = Arc::new(Series::of_logs("m", "Count"));
        let item = Item::of("a".into(), series, (60, 60), &Part::equal(1.0, 1), &Pool::default()).unwrap();
        let cursor = Cursor::behind(&query(), (0, 60), &item);
        let token = cursor.to_string();
        prop_assert_eq!(Cursor::parse(&token, &query()), Ok(cursor));
        let at = at.index(token.len());
        let changed = format!("{}{letter}{}", &token[..at], &token[at + 1..]);
        // The last letter holds bits that no byte has: other letters there mean the same.
        if changed != token && at + 1 < token.len() {
            prop_assert_eq!(Cursor::parse(&changed, &query()), Err(BadCursor::Malformed));
        }
    }
}

#[test]
fn a_window_with_more_series_than_a_page_is_read_in_full() {
    let store = Memory::new(Commits::Whole);
    let name = |i: usize| format!("m{:04}", i * 7 % 1_500);
    // Each series stands on two shards and in two partials of one, and its neighbours in order on other pages.
    for (shard, partial, value) in [(0, 0, 1.0), (0, 1, 2.0), (1, 0, 4.0)] {
        for (page, names) in (0..1_500).map(name).collect::<Vec<_>>().chunks(20).enumerate() {
            let mut cell = Cell::default();
            for name in names {
                cell.add_value(&Series::new("Custom", name, &[], "None").unwrap(), 60, value).unwrap();
            }
            let mut row = row(Kind::Window, "a", cell.encode());
            (row.key.shard, row.key.partial) = (ShardId::numbered(shard), Partial(partial));
            row.key.page = 1 + page as u16;
            block_on(store.write(vec![row])).unwrap();
        }
    }
    let world = World { store, shards: vec![], records: 0 };
    for limit in [11, 300, 1_000, 1_500] {
        let items = world.pages(&Query { service: Some("a".into()), ..query() }, limit);
        assert_eq!(items.len(), 1_500, "{limit}");
        for (i, item) in items.iter().enumerate() {
            assert_eq!((item.series.metric.as_str(), item.sum), (format!("m{i:04}").as_str(), 7.0), "{limit}");
        }
    }
}

#[test]
fn a_range_takes_whole_windows_and_ends_before_its_end() {
    let mut world = World::of(1);
    for minute in 0..20 {
        world.lines("local", "k", &format!("{{\"time\":{},\"service\":\"a\"}}\n", HOUR + minute * 60));
    }
    world.commit();
    let starts = |from_secs, to_secs, period_secs| {
        let items = world.metrics(&Query { from_secs, to_secs, period_secs, ..query() }, None, 100).items;
        items.iter().map(|item| (item.timestamp.0 - HOUR, item.count)).collect::<Vec<_>>()
    };
    assert_eq!(starts(HOUR + 61, HOUR + 180, 60), [(60, 1), (120, 1)]);
    assert_eq!(starts(HOUR + 61, HOUR + 181, 60), [(60, 1), (120, 1), (180, 1)]);
    assert_eq!(starts(HOUR + 301, HOUR + 601, 300), [(300, 5), (600, 5)], "the last window is whole");
    assert_eq!(starts(HOUR, HOUR, 60), []);
    assert_eq!(starts(HOUR + 600, HOUR, 60), []);
}

#[test]
fn a_page_keeps_the_range_of_the_first_and_a_token_its_query() {
    let mut world = World::of(1);
    for minute in 0..5 {
        world.lines("local", "k", &format!("{{\"time\":{},\"service\":\"a\"}}\n", HOUR + minute * 60));
    }
    world.commit();
    let first = Query { from_secs: HOUR, to_secs: HOUR + 180, ..query() };
    let page = world.metrics(&first, None, 1);
    let token = page.next.unwrap().to_string();
    // An hour later `timeRange=1h` is another range.
    let later = Query { from_secs: HOUR + 3_600, to_secs: HOUR + 3_780, ..first.clone() };
    let rest = world.metrics(&later, Some(&Cursor::parse(&token, &later).unwrap()), 10).items;
    assert_eq!(rest.iter().map(|item| item.timestamp.0 - HOUR).collect::<Vec<_>>(), [60, 120]);
    for other in [
        Query { tenant: "other".into(), ..first.clone() },
        Query { service: Some("a".into()), ..first.clone() },
        Query { metric: Some("lines".into()), ..first.clone() },
        Query { namespace: Some("lines".into()), ..first.clone() },
        Query { period_secs: 300, ..first.clone() },
        Query { view: Generation(4).into(), ..first },
    ] {
        assert_eq!(Cursor::parse(&token, &other), Err(BadCursor::OtherQuery), "{other:?}");
    }
}

#[test]
fn a_reader_sees_one_tenant_and_one_generation() {
    let mut world = World::of(1);
    for tenant in ["local", "loca", "locals"] {
        world.lines(tenant, "k", &format!("{{\"time\":{HOUR},\"service\":\"of {tenant}\"}}\n"));
    }
    world.commit();
    for tenant in ["local", "loca", "locals"] {
        let items = world.metrics(&Query { tenant: tenant.into(), ..query() }, None, 100).items;
        assert_eq!(items.iter().map(|item| item.service.to_string()).collect::<Vec<_>>(), [format!("of {tenant}")]);
        assert_eq!(block_on(balance(&world.store, tenant, &GENERATION.into())).unwrap().folded, 1);
    }
    assert_eq!(world.metrics(&Query { view: Generation(2).into(), ..query() }, None, 100).items, []);
    assert_eq!(block_on(balance(&world.store, "nobody", &GENERATION.into())).unwrap().accepted(), 0);
}

#[test]
fn a_window_of_another_length_takes_no_part_in_minutes() {
    let store = Memory::new(Commits::Whole);
    let mut cell = Cell::default();
    let series = Series::new("Custom", "m", &[], "None").unwrap();
    cell.add_value(&series, 1, 5.0).unwrap();
    cell.add_value(&series, 60, 7.0).unwrap();
    block_on(store.write(vec![row(Kind::Window, "a", cell.encode())])).unwrap();
    let query = Query { service: Some("a".into()), ..query() };
    let items = block_on(metrics(&store, &query, None, NonZeroUsize::MIN)).unwrap().items;
    assert_eq!(items.iter().map(|item| (item.count, item.sum)).collect::<Vec<_>>(), [(1, 7.0)]);
}

fn row(kind: Kind, name: &str, body: Vec<u8>) -> Row {
    let subject = Subject { tenant: "local".into(), generation: GENERATION, kind, name: name.into() };
    let at = SequenceNumber::from_parts(1, 1);
    let key = RowKey { subject, at: HOUR, shard: ShardId::numbered(0), partial: Partial(0), page: 1 };
    let (folded_on, body) = (Day::default(), body.into());
    Row { key, applied_from: at, applied_through: at, folded_on, fold_revision: FOLD_REVISION, body }
}

#[test]
fn a_row_that_cannot_be_read_is_named() {
    let store = Memory::new(Commits::Whole);
    block_on(store.write(vec![row(Kind::Window, "a", vec![9]), row(Kind::Balance, "", vec![9])])).unwrap();
    let query = Query { service: Some("a".into()), ..query() };
    let damaged = block_on(metrics(&store, &query, None, NonZeroUsize::MIN)).unwrap_err();
    assert!(
        damaged
            .to_string()
            .starts_with("the metrics of service `a` in the minute 2026-01-02T03:00:00Z (tenant local, shardId-"),
        "{damaged}"
    );
    assert_eq!(block_on(digest(&store, GENERATION)).unwrap_err(), damaged);
    let damaged = block_on(balance(&store, "local", &GENERATION.into())).unwrap_err();
    assert!(damaged.to_string().starts_with("the balance of the minute 2026-01-02T03:00:00Z ("), "{damaged}");
}

#[test]
fn the_balance_counts_every_line_of_every_shard() {
    let mut world = World::of(3);
    for i in 0..9 {
        world.lines("local", &i.to_string(), "{\"time\":1767322800,\"service\":\"a\"}\n{\"time\":99999999999}\n\n");
    }
    world.commit();
    let total = block_on(balance(&world.store, "local", &GENERATION.into())).unwrap();
    let tally = Tally::from(&total);
    assert_eq!((tally.accepted, tally.folded, tally.skipped["future"]), (27, 9, 9), "{tally:?}");
    assert_eq!(tally.skipped.values().sum::<u64>(), 18, "{tally:?}");
    assert_eq!(tally.samples["future"], "{\"time\":99999999999}");
}

#[test]
fn an_alarm_is_shown_with_its_definition_its_state_and_every_change() {
    let mut world = World::of(1);
    let control = HashKey::of(events::identity::CONTROL_KEY);
    let body = r#"{"AlarmName":"hot","ServiceName":"a","MetricName":"errors","Statistic":"Sum","Period":60,"EvaluationPeriods":1,
        "Threshold":1,"ComparisonOperator":"GreaterThanOrEqualToThreshold"}"#;
    let defined = |name: &str, body: &str| {
        Event::Defined(Defined { kind: "alarm".into(), name: name.into(), body: body.into(), by: "me".into() })
    };
    let start_ms = HOUR * 1000;
    let revision = world.events("local", control, start_ms, &[defined("hot", body)]);
    world.commit();
    let shown = |world: &World, name| block_on(alarms(&world.store, "local", &GENERATION.into(), name)).unwrap();
    assert_eq!(shown(&world, None)[0].state, crate::alarm::State::InsufficientData);
    assert_eq!(shown(&world, None)[0].decided_at, None);
    for minute in 1..=8i64 {
        let time = HOUR + minute * 60;
        // Watched from the first tick on, which is the first record that names the definition.
        if minute == 2 {
            let line = format!("{{\"time\":{},\"service\":\"a\",\"status\":500}}\n", time - 30);
            let data = wire::encode(&World::header("local", Content::Lines, line.len()), line.as_bytes());
            world.put(control, (time - 30) * 1000, data);
        }
        let range = HashRange { from: HashKey(0), through: HashKey(u128::MAX) };
        let open_shards = vec![OpenShard { shard: ShardId::numbered(0), range }];
        let tick = Ticked { definitions: revision, open_shards, fold_revision: FOLD_REVISION };
        world.events("local", control, time * 1000, &[Event::Ticked(tick)]);
        world.commit();
    }
    let one = &shown(&world, Some("hot"))[0];
    assert_eq!(one.revision, Some(revision.to_string()));
    assert!(one.definition.as_ref().unwrap().get().contains("GreaterThanOrEqualToThreshold"));
    let transitions = one.transitions.as_ref().unwrap();
    use crate::alarm::State::{Alarm, InsufficientData};
    let states: Vec<_> = transitions.iter().map(|change| change.to).collect();
    assert_eq!(states, [InsufficientData, Alarm, InsufficientData], "{one:?}");
    assert!(transitions[1].reason_data.as_ref().unwrap().get().contains("recentDatapoints"), "{one:?}");
    assert!(transitions.is_sorted_by_key(|change| change.time), "{one:?}");
    assert!(transitions.windows(2).all(|pair| pair[1].from == Some(pair[0].to)), "{one:?}");
    assert_eq!(transitions.last().unwrap().to, one.state);
    assert!(shown(&world, None)[0].transitions.is_none());
    assert_eq!(shown(&world, Some("cold")).len(), 0);
    assert_eq!(block_on(alarms(&world.store, "other", &GENERATION.into(), None)).unwrap().len(), 0);

    world.events("local", control, start_ms + 300_000, &[defined("hot", "null")]);
    world.commit();
    let removed = &shown(&world, Some("hot"))[0];
    assert!(removed.revision.is_none() && removed.definition.is_none() && removed.state == one.state, "{removed:?}");
}
