//! Shards and the store that they write to, and what lines say in plain sums.

use std::{
    collections::BTreeMap,
    num::{NonZeroU16, NonZeroUsize},
};

use bytes::Bytes;
use events::{
    event::{Datum, Event, Measured},
    position::{HashKey, HashRange, SequenceNumber, ShardId},
    stream::Record,
    wire::{self, Content, Header},
};
use proptest::prelude::*;

use super::super::*;
use crate::{
    definitions::Definition,
    fold::{Input, Place, Shard},
    store::law::{
        block_on,
        memory::{Commits, Memory},
    },
};

pub(super) const GENERATION: Generation = Generation(3);
pub(super) const NOW_MS: i64 = 1_767_322_800_000;
pub(super) const HOUR: i64 = 1_767_322_800;

/// Shards and the store that they write to.
pub(super) struct World {
    pub(super) store: Memory,
    pub(super) shards: Vec<(HashRange, ShardId, Shard)>,
    pub(super) records: u64,
}

impl World {
    pub(super) fn of(shards: u16) -> Self {
        let ranges = HashRange::even(NonZeroU16::new(shards).unwrap());
        let ring: Vec<_> = (0..).map(ShardId::numbered).zip(ranges.iter().copied()).collect();
        let shards = ring.iter().map(|(id, range)| {
            let place = Place { generation: GENERATION, shard: id.clone(), ring: ring.clone() };
            (*range, id.clone(), Shard::new(place))
        });
        Self { store: Memory::new(Commits::Whole), shards: shards.collect(), records: 0 }
    }

    pub(super) fn header(tenant: &str, content: Content, raw_len: usize) -> Header {
        Header::plain(tenant, content, raw_len as u32, NOW_MS)
    }

    /// The five steps of `fold`.
    pub(super) fn put(&mut self, key: HashKey, arrived_at_ms: i64, data: Bytes) -> SequenceNumber {
        self.records += 1;
        let sequence = SequenceNumber::from_parts(1, self.records);
        let record = Record { sequence, arrived_at_ms, partition_key: "k".into(), data };
        let (_, _, shard) = self.shards.iter_mut().find(|(range, ..)| range.contains(key)).unwrap();
        let input = Input::of(&record);
        if let Some(revision) = shard.wants_definitions(&input) {
            let span = Span::All { tenant: None, generation: GENERATION, kind: Kind::Definition };
            let rows = block_on(self.store.scan(&span, None, SCAN_ROWS)).unwrap().rows;
            let all: Vec<_> = rows.iter().map(|row| Definition::decode(&row.body).unwrap()).collect();
            shard.define(&input, revision, &all);
        }
        let marks = block_on(self.store.read(&shard.wants(&input))).unwrap();
        shard.fold(&input, marks).unwrap();
        let stored = block_on(self.store.read(&shard.unmet())).unwrap();
        shard.meet(stored).unwrap();
        sequence
    }

    pub(super) fn lines(&mut self, tenant: &str, key: &str, lines: &str) {
        let data = wire::encode(&Self::header(tenant, Content::Lines, lines.len()), lines.as_bytes());
        self.put(HashKey::of(key), NOW_MS, data);
    }

    pub(super) fn events(&mut self, tenant: &str, key: HashKey, at_ms: i64, events: &[Event]) -> SequenceNumber {
        self.put(key, at_ms, wire::encode_events(Self::header(tenant, Content::Events, 0), events))
    }

    pub(super) fn measure(&mut self, tenant: &str, data: Vec<Datum>) {
        let key = HashKey::of(&format!("{data:?}"));
        self.events(tenant, key, NOW_MS, &[Event::Measured(Measured { data })]);
    }

    pub(super) fn commit(&mut self) {
        for (_, _, shard) in &mut self.shards {
            if shard.position() > SequenceNumber::ZERO {
                block_on(self.store.commit(shard.commit())).unwrap();
                shard.committed();
            }
        }
    }

    pub(super) fn metrics(&self, query: &Query, after: Option<&Cursor>, limit: usize) -> Page {
        block_on(metrics(&self.store, query, after, NonZeroUsize::new(limit).unwrap())).unwrap()
    }

    /// All pages, each read with the token that the one before it gave.
    pub(super) fn pages(&self, query: &Query, limit: usize) -> Vec<Item> {
        let mut items = vec![];
        let mut token: Option<String> = None;
        loop {
            let cursor = token.map(|token| Cursor::parse(&token, query).unwrap());
            let page = self.metrics(query, cursor.as_ref(), limit);
            assert!(page.items.len() == limit || page.next.is_none(), "a page that is not the last is full");
            items.extend(page.items);
            match page.next {
                Some(next) => token = Some(next.to_string()),
                None => return items,
            }
        }
    }

    pub(super) fn digest(&self) -> String {
        block_on(digest(&self.store, GENERATION)).unwrap()
    }
}

pub(super) fn query() -> Query {
    Query {
        tenant: "local".into(),
        view: GENERATION.into(),
        service: None,
        namespace: None,
        metric: None,
        from_secs: i64::MIN,
        to_secs: i64::MAX,
        period_secs: 60,
    }
}

pub(super) fn datum(service: &str, metric: &str, secs: i64, value: f64) -> Datum {
    let dimensions = vec![("d".to_owned(), metric.to_owned())];
    Datum {
        namespace: "Custom".into(),
        metric: metric.into(),
        service: Some(service.into()),
        dimensions,
        time_ms: Some(secs * 1000),
        value,
        unit: "None".into(),
    }
}

/// A line, or a value that an API named.
#[derive(Debug, Clone)]
pub(super) struct Said {
    pub(super) service: &'static str,
    pub(super) secs: i64,
    pub(super) status: Option<u16>,
    pub(super) latency: Option<f64>,
    pub(super) metric: Option<&'static str>,
}

impl Said {
    pub(super) fn line(&self) -> String {
        let mut line = format!("{{\"time\":{},\"service\":\"{}\"", self.secs, self.service);
        if let Some(status) = self.status {
            line += &format!(",\"status\":{status}");
        }
        if let Some(latency) = self.latency {
            line += &format!(",\"latency_ms\":{latency:?}");
        }
        line + "}\n"
    }

    /// Series and value, as the table of built-in metrics has them.
    pub(super) fn values(&self) -> Vec<(Series, f64)> {
        if let Some(metric) = self.metric {
            let dimensions = [("d".to_owned(), metric.to_owned())];
            return vec![(Series::new("Custom", metric, &dimensions, "None").unwrap(), self.latency.unwrap_or(1.0))];
        }
        let count = |name: &str| (Series::of_logs(name, "Count"), 1.0);
        let mut values = vec![count("lines")];
        if self.status.is_some() || self.latency.is_some() {
            values.push(count("requests"));
        }
        if let Some(status) = self.status {
            values.push(count(&format!("status_{}xx", status / 100)));
            if status >= 500 {
                values.push(count("errors"));
            }
        }
        values.extend(self.latency.map(|latency| (Series::of_logs("latency", "Milliseconds"), latency)));
        values
    }
}

pub(super) fn said() -> impl Strategy<Value = Vec<Said>> {
    let one = (
        prop_oneof![Just("a"), Just("ab"), Just("b")],
        HOUR - 7_300..HOUR + 300,
        prop::option::of(200u16..600),
        prop::option::of(0.0..1e4),
        prop::option::weighted(0.3, prop_oneof![Just("m"), Just("n"), Just("requests")]),
    );
    let one = one.prop_map(|(service, secs, status, latency, metric)| Said { service, secs, status, latency, metric });
    prop::collection::vec(one, 0..80)
}

/// Batches of a few lines each, spread over the shards, with a commit now and then.
pub(super) fn world(said: &[Said], shards: u16, batch: usize, commit_every: usize) -> World {
    let mut world = World::of(shards);
    for (i, batch) in said.chunks(batch).enumerate() {
        let lines: String = batch.iter().filter(|said| said.metric.is_none()).map(Said::line).collect();
        world.lines("local", &i.to_string(), &lines);
        let data =
            |said: &Said| said.metric.map(|name| datum(said.service, name, said.secs, said.latency.unwrap_or(1.0)));
        world.measure("local", batch.iter().filter_map(data).collect());
        if i % commit_every == 0 {
            world.commit();
        }
    }
    world.commit();
    world
}

pub(super) type Expected = BTreeMap<(String, i64, Series), Vec<f64>>;

pub(super) fn expected(said: &[Said], query: &Query) -> Expected {
    let period = i64::from(query.period_secs);
    let from = query.from_secs.saturating_sub(query.from_secs.rem_euclid(period));
    let mut expected = Expected::new();
    for said in said {
        let start = said.secs - said.secs.rem_euclid(period);
        for (series, value) in said.values() {
            let fits = |wanted: &Option<String>, is: &str| wanted.as_ref().is_none_or(|wanted| wanted == is);
            let is_wanted = fits(&query.service, said.service)
                && fits(&query.namespace, &series.namespace)
                && fits(&query.metric, &series.metric)
                && (from..query.to_secs).contains(&start);
            if is_wanted {
                expected.entry((said.service.to_owned(), start, series)).or_default().push(value);
            }
        }
    }
    expected
}

pub(super) fn queries() -> impl Strategy<Value = Query> {
    let names = |names: &'static [&'static str]| prop::option::of(prop::sample::select(names).prop_map(str::to_owned));
    (
        names(&["a", "ab", "b", "c"]),
        names(&["Custom", "Weir/Logs", "Weir"]),
        names(&["requests", "latency", "lines", "m"]),
        prop_oneof![Just(i64::MIN), HOUR - 7_300..HOUR],
        prop_oneof![Just(i64::MAX), HOUR - 3_600..HOUR + 400],
        prop::sample::select(&PERIODS_SECS),
    )
        .prop_map(|(service, namespace, metric, from_secs, to_secs, period_secs)| Query {
            service,
            namespace,
            metric,
            from_secs,
            to_secs,
            period_secs,
            ..query()
        })
}
