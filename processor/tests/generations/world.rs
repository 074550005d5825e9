//! A stream whose shards split, merge and go, its generations, and the process that folds them all.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use events::{
    event::{Defined, Event},
    identity::{CONTROL_KEY, LOCAL_TENANT},
    position::{HashKey, HashRange, SequenceNumber, ShardId},
    stream::{Limits, ReadOnly, Record as OfStream, Shard, Start, Stream},
};
use processor::{
    append::{append_all, system_event_of},
    consume::{ConsumeError, Worker},
    generations::{self, BeginError, Crew},
    tick,
};
use projections::{
    definitions,
    fold::Place,
    generations::{LIVE, Live, Record, Standing, record},
    store::{
        Generation,
        law::{
            block_on,
            memory::{Commits, Memory},
        },
    },
};

use crate::{
    local::{self, START_MS, part_of_file},
    member::{Generations, LiveStream, Member},
    retained::Retained,
};

pub const FIRST: Generation = Generation(0);
/// Steps in a row of which none moves anything: then nobody ever will.
const STILL_MAX: usize = 400;
/// A stream that is split has no more shards than these.
const SHARDS_MAX: usize = 5;

pub struct World {
    seed: u64,
    clock: Arc<AtomicI64>,
    pub stream: Arc<LiveStream>,
    pub store: Arc<Memory>,
    pub all: BTreeMap<Generation, Generations>,
    /// How far the generation that counts has committed each shard.
    counted: BTreeMap<ShardId, SequenceNumber>,
    pub minute: i64,
    files: Vec<(String, i64, String)>,
    lets_go: bool,
    /// The first generation goes on behind records that are gone before it has folded them.
    pub has_lost: bool,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let clock = Arc::new(AtomicI64::new(START_MS));
        let stream = Arc::new(Retained::new(local::stream(1 + (seed % 3) as u16, &clock)));
        let commits = if seed.is_multiple_of(2) { Commits::Whole } else { Commits::ItemByItem };
        let store = Arc::new(Memory::new(commits));
        let (all, counted, files, lets_go) = (BTreeMap::new(), BTreeMap::new(), vec![], true);
        let mut world =
            Self { seed: seed * 2 + 1, clock, stream, store, all, counted, minute: 0, files, lets_go, has_lost: false };
        world.crash();
        world
    }

    pub fn random(&mut self, below: u64) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % below
    }

    pub fn now_ms(&self) -> i64 {
        START_MS + self.minute * 60_000
    }

    /// Those that the stream lists.
    pub fn shards(&self) -> Vec<Shard> {
        block_on(self.stream.shards()).unwrap()
    }

    pub fn record(&self) -> Record {
        block_on(record::read(&*self.store)).unwrap().record
    }

    pub fn change<T>(&self, change: impl Fn(&mut Record) -> T) -> T {
        let read = block_on(record::read(&*self.store)).unwrap();
        let mut record = read.record.clone();
        let done = change(&mut record);
        assert!(block_on(record::write(&*self.store, &read, &record)).unwrap());
        done
    }

    /// The process is gone with all that it had not committed; another one begins.
    pub fn crash(&mut self) {
        self.all.clear();
        let record = self.record();
        for generation in record.folded() {
            self.begin(&record, generation);
        }
    }

    fn begin(&mut self, record: &Record, generation: Generation) {
        let starts = record.entry(generation).map(|entry| entry.starts.clone()).unwrap_or_default();
        let defined = block_on(generations::defined(&*self.store, generation, &starts)).unwrap();
        let crew = Crew::new(generation, record.start_ms(generation), defined);
        let (members, turned, ended) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        self.all.insert(generation, Generations { crew, starts, members, turned, ended });
    }

    /// `None`: a parent has not ended.
    fn open(&mut self, generation: Generation, shard: &Shard) -> Option<Member> {
        let all = self.shards();
        let ring = all.into_iter().filter(|shard| !shard.closed).map(|shard| (shard.id, shard.range)).collect();
        let place = Place { generation, shard: shard.id.clone(), ring };
        let of = self.all.get_mut(&generation).unwrap();
        let (stream, store) = (ReadOnly::new(self.stream.clone()), self.store.clone());
        let follower = of.crew.follower(shard.id.clone(), shard.range);
        let mut worker = match block_on(Worker::open(stream.clone(), store.clone(), follower, place.clone())) {
            Err(ConsumeError::NotYet { .. }) => return None,
            worker => worker.unwrap(),
        };
        assert_eq!(worker.lost_parents(), [], "{generation:?} {}", shard.id);
        let has_lost = generation == FIRST && self.has_lost;
        if !of.turned.remove(&shard.id).unwrap_or_else(|| worker.shard().acts()) {
            worker.begin_at(of.crew.start_ms());
            worker.begin_with(of.starts.get(&shard.id).copied());
            return Some(Member::Follows(worker));
        }
        let acting = of.crew.acting(shard.id.clone(), shard.range, self.stream.clone());
        let mut worker = block_on(Worker::open(stream, store, acting, place)).unwrap();
        worker.begin_at(of.crew.start_ms());
        worker.begin_with(of.starts.get(&shard.id).copied());
        if has_lost {
            worker.pass_over_lost();
        }
        self.counted.insert(shard.id.clone(), worker.committed());
        Some(Member::Acts(worker))
    }

    /// One step of one shard; true: it moved something.
    fn step(&mut self, generation: Generation, shard: &Shard, commits: bool) -> bool {
        let id = shard.id.clone();
        if !self.all[&generation].members.contains_key(&id) {
            let Some(member) = self.open(generation, shard) else { return false };
            self.all.get_mut(&generation).unwrap().members.insert(id.clone(), member);
        }
        let until = self.counted.get(&id).copied().unwrap_or_default();
        let of = self.all.get_mut(&generation).unwrap();
        let member = of.members.get_mut(&id).unwrap();
        let step = member.step(until).unwrap_or_else(|error| panic!("{generation:?}: {error}"));
        let (before, acts) = (member.committed(), member.acts());
        let mut has_ended = false;
        if commits || step.turns || step.ended {
            let committed = member.commit();
            if acts {
                self.counted.insert(id.clone(), committed);
            }
            if shard.range.contains(HashKey::of(CONTROL_KEY)) {
                of.crew.defined_through(committed);
            }
            has_ended = step.ended && of.ended.insert(id.clone());
        }
        let moved = !step.folded.is_empty() || step.turns || has_ended || member.committed() != before;
        if step.turns {
            of.turned.insert(id.clone(), !acts);
            of.members.remove(&id);
        }
        moved
    }

    /// Any steps in any order, with crashes.
    fn stir(&mut self) {
        for _ in 0..self.random(12) {
            let generations: Vec<Generation> = self.all.keys().copied().collect();
            let generation = generations[self.random(generations.len() as u64) as usize];
            let shards = self.shards();
            let number = self.random(shards.len() as u64) as usize;
            let commits = self.random(2) == 0;
            self.step(generation, &shards[number], commits);
            if self.random(20) == 0 {
                self.crash();
            }
        }
    }

    /// Until everything is folded and committed by everybody.
    pub fn settle(&mut self) {
        let mut still = 0;
        while still < 3 {
            let mut moved = false;
            for generation in self.all.keys().copied().collect::<Vec<_>>() {
                for shard in self.shards() {
                    moved |= self.step(generation, &shard, true);
                }
            }
            still = if moved { 0 } else { still + 1 };
        }
        for shard in self.shards() {
            let tip = self.stream.inner.tip(&shard.id).unwrap();
            let counted = self.counted.get(&shard.id).copied();
            assert_eq!(counted, Some(tip), "{}: it stands still before the end of the stream", shard.id);
            for (generation, of) in &self.all {
                let at = of.members.get(&shard.id).map(Member::committed);
                assert_eq!(at, counted, "{generation:?} stands still on {}", shard.id);
            }
        }
    }

    /// Until one of them has folded and committed everything; others stand still.
    pub fn settle_one(&mut self, generation: Generation) {
        let mut still = 0;
        while still < 3 {
            let steps = self.shards().into_iter().map(|shard| self.step(generation, &shard, true));
            still = if steps.fold(false, |moved, step| moved | step) { 0 } else { still + 1 };
        }
    }

    /// Until what counts has been folded; others may lag.
    fn fold(&mut self) {
        for _ in 0..STILL_MAX {
            let mut moved = false;
            for generation in self.all.keys().copied().collect::<Vec<_>>() {
                for shard in self.shards() {
                    let commits = self.random(3) > 0;
                    moved |= self.step(generation, &shard, commits);
                }
            }
            if !moved {
                return;
            }
        }
    }

    /// Each open shard becomes two.
    pub fn halve(&self) {
        for Shard { id, range: HashRange { from, through }, closed, .. } in self.shards() {
            if !closed {
                self.stream.inner.split(&id, HashKey(from.0 + (through.0 - from.0) / 2)).unwrap();
            }
        }
    }

    /// One shard becomes two, or two neighbours one.
    pub fn reshard(&mut self) {
        let open: Vec<Shard> = self.shards().into_iter().filter(|shard| !shard.closed).collect();
        let of = open[self.random(open.len() as u64) as usize].clone();
        let HashRange { from, through } = of.range;
        let neighbour = open.iter().find(|other| through.0.checked_add(1) == Some(other.range.from.0));
        match neighbour {
            Some(other) if open.len() >= SHARDS_MAX || self.random(2) == 0 => {
                self.stream.inner.merge(&of.id, &other.id).unwrap();
            }
            None if open.len() >= SHARDS_MAX => {}
            _ => {
                let part = 1 + u128::from(self.random(15));
                self.stream.inner.split(&of.id, HashKey(from.0 + (through.0 - from.0) / 16 * part)).unwrap();
            }
        }
    }

    /// All that was ever put on a shard.
    pub fn log(&self, shard: &ShardId) -> Vec<OfStream> {
        let limits = Limits { records: 100_000.try_into().unwrap(), bytes: 1 << 30, wait: Duration::ZERO };
        block_on(self.stream.inner.read(shard, Start::TrimHorizon, limits)).unwrap().records
    }

    /// The stream lets go of what came before a minute, and of shards that have ended by then, as Kinesis does; nobody lags behind. The newest record
    /// of an open shard is never so old where minutes pass.
    pub fn let_go(&mut self, minute: i64) {
        self.settle();
        let before_ms = START_MS + minute * 60_000;
        let mut is_listed = BTreeSet::new();
        for shard in self.shards() {
            let log = self.log(&shard.id);
            let old = log.iter().take_while(|record| record.arrived_at_ms < before_ms).count();
            let parents_are_gone = !shard.parents.iter().any(|parent| is_listed.contains(parent));
            if shard.closed && old == log.len() && parents_are_gone {
                self.stream.forget(&shard.id);
                self.all.values_mut().for_each(|of| drop(of.members.remove(&shard.id)));
                continue;
            }
            is_listed.insert(shard.id.clone());
            if let Some(last) = old.min(log.len().saturating_sub(1)).checked_sub(1) {
                self.stream.trim(&shard.id, log[last].sequence);
            }
        }
    }

    pub fn define(&mut self, kind: &str, name: &str, body: &str) -> SequenceNumber {
        let (kind, name, body) = (kind.to_owned(), name.to_owned(), body.to_owned());
        let event = Event::Defined(Defined { kind, name, body, by: "me".into() });
        let put = system_event_of(LOCAL_TENANT, HashKey::of(CONTROL_KEY), event);
        block_on(append_all(&*self.stream, vec![put])).unwrap()[0].sequence
    }

    pub fn tick(&mut self) {
        self.clock.store(self.now_ms() + 1_000, Ordering::SeqCst);
        block_on(tick::tick(&*self.stream, &*self.store, self.record().live())).unwrap();
    }

    /// A file of one line, which is read now.
    pub fn line(&mut self, at: i64, latency: u64) {
        let text = format!("{{\"ts\":{at},\"service\":\"shop\",\"latency_ms\":{latency}}}\n");
        let (name, now_ms) = (format!("/logs/{}.log", self.files.len()), self.now_ms());
        block_on(append_all(&*self.stream, vec![part_of_file(&name, 0, now_ms, &text)])).unwrap();
        self.files.push((name, now_ms, text));
    }

    /// One that was there before comes again.
    pub fn copy(&mut self, number: usize) {
        let (name, read_at_ms, text) = &self.files[number];
        block_on(append_all(&*self.stream, vec![part_of_file(name, 0, *read_at_ms, text)])).unwrap();
    }

    /// Lines of any time, most of now, and copies of what was there before.
    fn lines(&mut self) {
        for _ in 0..self.random(4) {
            let now = self.now_ms() / 1000;
            if !self.files.is_empty() && self.random(4) == 0 {
                let number = self.random(self.files.len() as u64) as usize;
                self.copy(number);
                continue;
            }
            let age = if self.random(3) == 0 { 60 * self.random(600) as i64 } else { 0 };
            let latency = self.random(200);
            let ahead = 60 * self.random(110) as i64 * i64::from(self.random(5) == 0);
            self.line((now - age + ahead).max(START_MS / 1000), latency);
        }
    }

    /// Minutes pass in which the stream loses nothing: of a generation that is being opened nobody folds.
    fn minutes_in_which_nothing_goes(&mut self, count: u64) {
        self.lets_go = false;
        self.minutes(count);
        self.lets_go = true;
    }

    pub fn minutes(&mut self, count: u64) {
        for _ in 0..count {
            self.lines();
            self.stir();
            self.minute += 1 + self.random(12) as i64;
            if self.random(6) == 0 {
                self.reshard();
            }
            self.fold();
            self.tick();
            self.stir();
            self.compare_moving();
            if self.lets_go && self.random(16) == 0 {
                let minute = self.random(self.minute as u64) as i64;
                self.let_go(minute);
            }
        }
    }

    pub fn replay(&mut self, name: &str, start: generations::Start) -> Generation {
        let (stream, record) = (ReadOnly::new(self.stream.clone()), self.record());
        let began = match block_on(generations::begin(&stream, &*self.store, FIRST, &start)) {
            Err(BeginError::Gone { .. }) => {
                block_on(generations::begin(&stream, &*self.store, FIRST, &generations::Start::Oldest)).unwrap()
            }
            began => began.unwrap(),
        };
        let open = |record: &mut Record| record.open(name, began.start_ms, began.starts.clone(), 0).unwrap();
        let (generation, _) = self.change(open);
        let from = record.knows_before(began.start_ms);
        for _ in 0..1 + self.random(2) {
            // Again, where it was killed in between, and later.
            if self.random(2) == 0 {
                let minutes = 1 + self.random(3);
                self.minutes_in_which_nothing_goes(minutes);
            }
            match block_on(generations::give(&stream, &*self.store, from, generation, &began)) {
                Err(BeginError::Unfolded { .. }) => self.settle(),
                given => given.unwrap(),
            }
        }
        block_on(generations::give(&stream, &*self.store, from, generation, &began)).unwrap();
        self.change(|record| record.stands(generation, Standing::Following));
        let record = self.record();
        self.begin(&record, generation);
        generation
    }

    pub fn promote(&mut self, name: &str) {
        self.settle();
        let (promotion, before) = (self.change(|record| record.promote(name, 0).unwrap()), self.record().live());
        let live = Live { generation: Generation(promotion.generation), promotion: promotion.number };
        let revision = self.define(definitions::GENERATION, LIVE, &live.body());
        assert_eq!(before, self.record().live(), "what is not known to be on the stream does not count");
        self.fold();
        self.minute += 1;
        self.tick();
        self.stir();
        self.change(|record| record.promoted(promotion.number, revision, 0));
    }
}
