//! What the rows have to hold: plain, slow and obviously right. It is told what each record means and never decodes one.

mod terms;

use std::{collections::BTreeMap, sync::Arc};

use events::position::{HashRange, SequenceNumber, ShardId};
use projections::{
    fold::{Place, limits::Limits},
    series::Series,
    store::{Generation, Kind, Partial, RowKey, Subject},
};
use rustc_hash::{FxHashMap, FxHashSet};

pub use self::terms::{Body, Datum, History, Holds, Identity, Meaning, Stat};
use crate::{
    alarms::{self, AlarmShard, Common},
    input::{Says, Written},
    logged::Known,
};

const AHEAD_MAX_MS: i64 = 2 * 3_600_000;

/// See the module: one shard.
#[derive(Debug)]
pub struct ModelShard {
    pub id: ShardId,
    pub alarms: AlarmShard,
    pub time_ms: i64,
    /// Records that were told.
    pub told: usize,
    pub last: SequenceNumber,
    pub ended: bool,
    /// It was split or merged.
    pub closed: bool,
    taken: FxHashSet<u64>,
    /// By name of a mark: the bytes that were taken, as pieces with gaps between.
    pieces: FxHashMap<String, Vec<(u64, u64)>>,
    counters: FxHashSet<(String, u64, u64)>,
    /// By source and minute.
    pub known: FxHashMap<(String, i64), Known>,
    pub limits: Limits,
    /// The day whose services are counted, and they by tenant.
    day: i64,
    services: FxHashMap<String, FxHashSet<String>>,
    pub rows: FxHashMap<Arc<RowKey>, History>,
    /// Every touch of a row, in order.
    pub touches: Vec<(SequenceNumber, Arc<RowKey>)>,
    /// What became of each record's lines.
    pub outcomes: FxHashMap<SequenceNumber, Holds>,
    /// Lines and data that were taken as new, each time.
    pub fresh: Vec<u64>,
    /// Lines that were skipped because they claimed to be late: depends on when a record came.
    pub future: u64,
}

/// What of a batch is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum New {
    All,
    Nothing,
    /// Each line decides by itself.
    ByLine,
    /// The same, but what is new cannot be taken.
    NoRoom,
}

pub fn key(shard: &ShardId, kind: Kind, tenant: &str, name: &str, at: i64, page: u16) -> RowKey {
    let subject = Subject { tenant: tenant.into(), generation: Generation::default(), kind, name: name.into() };
    RowKey { subject, at, shard: shard.clone(), partial: Partial(0), page }
}

pub fn page_of(metric: &str) -> u16 {
    let series = Series::new("app", metric, &[], "None").unwrap();
    1 + (xxhash_rust::xxh3::xxh3_64(&series.encode()) % 16) as u16
}

impl ModelShard {
    pub fn new(place: Place, limits: Limits) -> Self {
        Self {
            id: place.shard.clone(),
            alarms: AlarmShard::new(place.shard),
            time_ms: 0,
            told: 0,
            last: SequenceNumber::ZERO,
            ended: false,
            closed: false,
            taken: FxHashSet::default(),
            pieces: FxHashMap::default(),
            known: FxHashMap::default(),
            counters: FxHashSet::default(),
            limits,
            day: 0,
            services: FxHashMap::default(),
            rows: FxHashMap::default(),
            touches: vec![],
            outcomes: FxHashMap::default(),
            fresh: vec![],
            future: 0,
        }
    }

    /// The child of shards of which everything was told.
    pub fn child(place: Place, range: HashRange, limits: Limits, parents: &[&Self]) -> Self {
        let mut child = Self::new(place.clone(), limits);
        let alarms: Vec<&AlarmShard> = parents.iter().map(|parent| &parent.alarms).collect();
        child.alarms = AlarmShard::child(place.shard, range, &alarms);
        child.pass_time(parents.iter().map(|parent| parent.time_ms).max().unwrap());
        for parent in parents {
            child.taken.extend(&parent.taken);
            child.counters.extend(parent.counters.iter().cloned());
            for (of, known) in &parent.known {
                child.known.entry(of.clone()).or_default().unite(known);
            }
            for (name, pieces) in &parent.pieces {
                pieces.iter().for_each(|(from, to)| child.unite(name.clone(), *from, *to));
            }
            for (tenant, met) in parent.services.iter().filter(|_| parent.day == child.day) {
                child.services.entry(tenant.clone()).or_default().extend(met.iter().cloned());
            }
        }
        child
    }

    fn unite(&mut self, name: String, from: u64, to: u64) {
        let limits = self.limits;
        self.limits.pieces = usize::MAX;
        assert!(self.take(name, from, to));
        self.limits = limits;
    }

    /// The next record of the shard. False: it has to wait for what another shard says.
    pub fn tell(
        &mut self,
        at: SequenceNumber,
        arrived_at_ms: i64,
        meaning: &Arc<Meaning>,
        common: &mut Common,
    ) -> bool {
        if let Meaning::Spoken(part) = &**meaning
            && !self.ended
            && !common.has_said(part)
        {
            return false;
        }
        self.told += 1;
        if self.ended || matches!(**meaning, Meaning::NewRevision) {
            self.ended = true;
            return true;
        }
        self.last = at;
        let named = match &**meaning {
            Meaning::Batch { definitions, .. } => *definitions,
            Meaning::Ticked(tick) => Some(tick.definitions),
            _ => None,
        };
        self.alarms.name_revision(named.unwrap_or_default(), common);
        self.pass_time(self.time_ms.max(arrived_at_ms));
        match &**meaning {
            Meaning::System | Meaning::NewRevision => {}
            Meaning::TimeReset => {
                self.pass_time(arrived_at_ms);
                self.alarms.reset_time(arrived_at_ms);
            }
            Meaning::Ticked(tick) => self.alarms.tick(at, self.time_ms, tick, common),
            Meaning::Spoken(part) => self.alarms.told(part, common),
            Meaning::Defined(tenant, name, body) => {
                common.define(at, tenant.clone(), name.clone(), body.clone());
            }
            Meaning::Logged(logged) => self.log_events(at, logged),
            Meaning::Noise => self.balance(at, "local", |_, _, dead, _| *dead += 1),
            Meaning::Batch { tenant, service, read_at_ms, identity, body, definitions: _ } => {
                let new = self.identify(at, tenant, identity);
                let service = service.unwrap_or("unnamed");
                match body {
                    Body::Lines(lines) => self.lines(at, tenant, service, *read_at_ms, new, lines),
                    Body::Data(data) => {
                        let is_named = !matches!(identity, Identity::Nobody);
                        self.data(at, tenant, service, *read_at_ms, new, is_named, data);
                    }
                }
            }
        }
        self.keep_changes(at);
        true
    }

    /// Of each alarm the last state stands, and each change.
    fn keep_changes(&mut self, at: SequenceNumber) {
        for change in self.alarms.take_changes() {
            let page = u16::from(change.from.is_some());
            let transition = key(&self.id, Kind::Transition, &change.tenant, &change.alarm, change.time_secs, page);
            let state = key(&self.id, Kind::Alarm, &change.tenant, &change.alarm, 0, 0);
            for key in [transition, state] {
                self.touch(at, key, || Holds::Mark, |holds| *holds = Holds::Alarm(change.clone()));
            }
        }
    }

    fn pass_time(&mut self, time_ms: i64) {
        self.time_ms = time_ms;
        let day = time_ms.div_euclid(86_400_000);
        if day != self.day {
            self.day = day;
            self.services.clear();
        }
    }

    fn identify(&mut self, at: SequenceNumber, tenant: &str, identity: &Identity) -> New {
        match identity {
            Identity::Nobody => New::All,
            Identity::Origin(origin, from, to) => {
                let name = origin.partition_key(tenant, *from);
                let has_room = self.take(name.clone(), *from, *to);
                self.touch(at, key(&self.id, Kind::Taken, tenant, &name, 0, 0), || Holds::Mark, |_| {});
                if has_room { New::ByLine } else { New::NoRoom }
            }
            Identity::Producer { id, epoch, counter } => {
                self.touch(at, key(&self.id, Kind::Producer, tenant, id, 0, 0), || Holds::Mark, |_| {});
                let is_new = self.counters.insert((format!("{tenant} {id}"), *epoch, *counter));
                if is_new { New::All } else { New::Nothing }
            }
        }
    }

    /// Takes these bytes, unless they would make one piece more than the limit allows. What has no gap between is one piece.
    fn take(&mut self, name: String, from: u64, to: u64) -> bool {
        let pieces = self.pieces.entry(name).or_default();
        let mut with: Vec<(u64, u64)> = vec![];
        let mut all = [&pieces[..], &[(from, to)]].concat();
        all.sort_unstable();
        for (from, to) in all {
            match with.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(to),
                _ => with.push((from, to)),
            }
        }
        let has_room = with.len() <= pieces.len().max(self.limits.pieces);
        if has_room {
            *pieces = with;
        }
        has_room
    }

    fn lines(&mut self, at: SequenceNumber, tenant: &str, service: &str, read_at_ms: i64, new: New, lines: &[Written]) {
        // What the last head became: its window's service and minute, or why it was skipped.
        let mut head: Result<(String, i64), &'static str> = Err("nothing");
        for line in lines {
            let is_new = match new {
                New::All => true,
                New::Nothing => false,
                New::ByLine => self.taken.insert(line.id),
                New::NoRoom => !self.taken.contains(&line.id),
            };
            if !is_new {
                self.balance(at, tenant, |_, duplicate, _, _| *duplicate += 1);
                continue;
            }
            if new == New::NoRoom {
                self.balance(at, tenant, |_, _, _, skipped| *skipped.entry("too_many_gaps").or_default() += 1);
                continue;
            }
            self.fresh.push(line.id);
            let (became, metrics) = match &line.says {
                Says::Skip(reason) => (Err(*reason), vec![]),
                Says::Continues => (head.clone(), vec![("lines", 1.0)]),
                Says::Line(says) => {
                    let time_ms = says.time_ms.unwrap_or(read_at_ms);
                    if time_ms > self.time_ms + AHEAD_MAX_MS {
                        self.future += 1;
                        (Err("future"), vec![])
                    } else {
                        let named = says.service.unwrap_or(service).to_owned();
                        match self.meet(tenant, &named) {
                            Ok(()) => (Ok((named, time_ms.div_euclid(60_000) * 60)), says.metrics()),
                            Err(reason) => (Err(reason), vec![]),
                        }
                    }
                }
            };
            match &became {
                Ok((service, minute)) => {
                    for (metric, value) in metrics {
                        // Lines have a page to themselves, and it has room.
                        let _ = self.add(at, tenant, service, *minute, 0, metric, value);
                        self.alarms.count(self.time_ms, tenant, service, *minute, metric, value);
                    }
                    self.balance(at, tenant, |folded, _, _, _| *folded += 1);
                }
                Err(reason) => self.balance(at, tenant, |_, _, _, skipped| *skipped.entry(reason).or_default() += 1),
            }
            head = became;
        }
    }

    #[expect(clippy::too_many_arguments, reason = "what a batch says of all its data")]
    fn data(
        &mut self,
        at: SequenceNumber,
        tenant: &str,
        service: &str,
        read_at_ms: i64,
        new: New,
        is_named: bool,
        data: &[Datum],
    ) {
        for datum in data {
            if new == New::Nothing {
                self.balance(at, tenant, |_, duplicate, _, _| *duplicate += 1);
                continue;
            }
            // What nobody vouches for may come twice.
            self.fresh.extend(is_named.then_some(datum.id));
            let time_ms = datum.time_ms.unwrap_or(read_at_ms);
            if time_ms > self.time_ms + AHEAD_MAX_MS {
                self.future += 1;
                self.balance(at, tenant, |_, _, _, skipped| *skipped.entry("future").or_default() += 1);
                continue;
            }
            let (service, page) = (datum.service.unwrap_or(service), page_of(datum.metric));
            let minute = time_ms.div_euclid(60_000) * 60;
            let added = self
                .meet(tenant, service)
                .and_then(|()| self.add(at, tenant, service, minute, page, datum.metric, datum.value));
            self.balance(at, tenant, |folded, _, _, skipped| match added {
                Ok(()) => *folded += 1,
                Err(reason) => *skipped.entry(reason).or_default() += 1,
            });
        }
    }

    /// A service that was met today, or that there is room for.
    pub fn meet(&mut self, tenant: &str, service: &str) -> Result<(), &'static str> {
        if self.services.get(tenant).is_some_and(|met| met.contains(service)) {
            return Ok(());
        }
        if !self.services.contains_key(tenant) && self.services.len() >= self.limits.tenants {
            return Err("too_many_tenants");
        }
        let all: usize = self.services.values().map(FxHashSet::len).sum();
        let own = self.services.get(tenant).map_or(0, FxHashSet::len);
        if own >= self.limits.tenant_services || all >= self.limits.services {
            return Err("too_many_services");
        }
        self.services.entry(tenant.to_owned()).or_default().insert(service.to_owned());
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "a window's name has so many parts")]
    pub fn add(
        &mut self,
        at: SequenceNumber,
        tenant: &str,
        service: &str,
        minute: i64,
        page: u16,
        metric: &'static str,
        value: f64,
    ) -> Result<(), &'static str> {
        let (series_max, mut added) = (self.limits.series, Ok(()));
        let key = key(&self.id, Kind::Window, tenant, service, minute, page);
        self.touch(
            at,
            key,
            || Holds::Window(BTreeMap::new()),
            |holds| {
                let Holds::Window(metrics) = holds else { return };
                if page > 0 && metrics.len() >= series_max && !metrics.contains_key(metric) {
                    added = Err("too_many_series");
                    return;
                }
                alarms::add(metrics.entry(metric).or_insert(Stat::NONE), value);
            },
        );
        added
    }

    pub fn balance(
        &mut self,
        at: SequenceNumber,
        tenant: &str,
        change: impl Fn(&mut u64, &mut u64, &mut u64, &mut BTreeMap<&'static str, u64>),
    ) {
        let key = key(&self.id, Kind::Balance, tenant, "", self.time_ms.div_euclid(60_000) * 60, 0);
        let empty = || Holds::Balance { folded: 0, duplicate: 0, dead: 0, skipped: BTreeMap::new() };
        let change = |holds: &mut Holds| {
            if let Holds::Balance { folded, duplicate, dead, skipped } = holds {
                change(folded, duplicate, dead, skipped);
            }
        };
        change(self.outcomes.entry(at).or_insert_with(empty));
        self.touch(at, key, empty, change);
    }

    pub fn touch(
        &mut self,
        at: SequenceNumber,
        key: RowKey,
        empty: impl FnOnce() -> Holds,
        change: impl FnOnce(&mut Holds),
    ) {
        let history = match self.rows.get_mut(&key) {
            Some(history) => history,
            None => self.rows.entry(Arc::new(key.clone())).or_default(),
        };
        if history.last().is_none_or(|last| last.0 != at) {
            let holds = history.last().map_or_else(empty, |last| last.1.clone());
            history.push((at, holds));
            self.touches.push((at, key.into()));
        }
        change(&mut history.last_mut().unwrap().1);
    }
}
