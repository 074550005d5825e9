//! Alarms end to end: definitions, lines and ticks through the real stream, fold and store. Crashes, redelivery, the number of shards and replay
//! change no transition, nor its time or reason.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "parts/local.rs"]
mod local;

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use events::{
    event::{Defined, Event, OpenShard, RolledUp, RolledWindow, Ticked},
    identity::{CONTROL_KEY, Origin, OriginKind},
    pack::{Identity, Packer, Source},
    position::{HashKey, SequenceNumber, ShardId},
    stream::{Limits, Put, ReadOnly, Start, Stream},
    wire::{self, Codec},
};
use processor::{
    append::{append_all, system_event},
    consume::Worker,
    effects::Live,
    replay::{Replay, ResumePoints},
    tick,
};
use projections::{
    alarm::State,
    fold::{
        FOLD_REVISION, Place,
        alarms::{Decision, home_key},
    },
    store::{
        Kind, Span, Store,
        law::{
            block_on,
            memory::{Commits, Memory},
        },
    },
};

use self::local::{GENERATION, LocalStream, START_MS};

type LocalWorker = Worker<LocalStream, Memory, Live<LocalStream>>;

/// A text as a file of its own, in as many batches as it needs.
fn file(name: &str, at: i64, text: &str) -> Vec<Put> {
    let origin = Origin { kind: OriginKind::File, name: name.into(), version: "1".into() };
    let source = Source {
        tenant: "local".into(),
        service: None,
        identity: Identity::Origin { origin, from: 0 },
        read_at_ms: at * 1000,
        definitions: None,
    };
    let mut packer = Packer::new(source, Codec::None, 1 << 19);
    packer.push(text.as_bytes());
    std::iter::from_fn(|| packer.next(true))
        .map(|packed| Put { partition_key: packed.partition_key, hash_key: None, data: packed.data })
        .collect()
}

struct World {
    clock: Arc<AtomicI64>,
    stream: Arc<LocalStream>,
    store: Arc<Memory>,
    places: Vec<Place>,
    workers: Vec<LocalWorker>,
    /// Decides when workers crash; 0: never.
    seed: u64,
    files: u64,
}

impl World {
    fn of(shards: u16, commits: Commits, seed: u64) -> Self {
        let clock = Arc::new(AtomicI64::new(START_MS));
        let stream = local::stream(shards, &clock);
        let places = local::places(block_on(stream.shards()).unwrap());
        let store = Arc::new(Memory::new(commits));
        let mut world = Self { clock, stream, store, places, workers: vec![], seed, files: 0 };
        world.restart();
        world
    }

    /// Every worker is gone, with all that it had not committed; others begin at the resume points.
    fn restart(&mut self) {
        self.workers.clear();
        for place in &self.places {
            let (stream, store) = (self.stream.clone(), self.store.clone());
            let opened = Worker::open(ReadOnly::new(stream.clone()), store, Live(stream), place.clone());
            self.workers.push(block_on(opened).unwrap());
        }
    }

    fn random(&mut self, below: u64) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % below
    }

    /// Folds all there is. With a seed, in random order, with commits and crashes in between.
    fn settle(&mut self) {
        if self.seed != 0 {
            for _ in 0..8 {
                let number = self.random(self.workers.len() as u64) as usize;
                block_on(self.workers[number].step(Duration::ZERO)).unwrap();
                match self.random(4) {
                    0 => self.restart(),
                    1 => drop(block_on(self.workers[number].commit()).unwrap()),
                    _ => {}
                }
            }
        }
        loop {
            let mut quiet = true;
            for worker in &mut self.workers {
                quiet &= block_on(worker.step(Duration::ZERO)).unwrap().caught_up;
                block_on(worker.commit()).unwrap();
            }
            if quiet {
                return;
            }
        }
    }

    fn apply(&mut self, body: &str) {
        self.apply_as("slow", body);
    }

    fn apply_as(&mut self, name: &str, body: &str) {
        let event =
            Event::Defined(Defined { kind: "alarm".into(), name: name.into(), body: body.into(), by: "me".into() });
        block_on(append_all(&*self.stream, vec![system_event(HashKey::of(CONTROL_KEY), event)])).unwrap();
        self.settle();
    }

    /// Lines of one minute, spread over the shards: each is a file of its own.
    fn lines(&mut self, minute: i64, latencies: &[f64]) {
        for latency in latencies {
            let at = START_MS / 1000 + minute * 60 + 30;
            let text = format!("{{\"ts\":{at},\"service\":\"shop\",\"latency_ms\":{latency}}}\n");
            self.files += 1;
            let name = format!("/logs/{}.log", self.files);
            block_on(append_all(&*self.stream, file(&name, at, &text))).unwrap();
        }
    }

    /// The minute is over: the clock moves on, and the ticker ticks (twice, where a second one runs beside it).
    fn end_minute(&mut self, minute: i64, tickers: usize) {
        self.settle();
        self.clock.store(START_MS + (minute + 1) * 60_000 + 1_000, Ordering::SeqCst);
        for _ in 0..tickers {
            block_on(tick::tick(&*self.stream, &*self.store, GENERATION)).unwrap();
        }
        self.settle();
    }

    fn transitions(&self) -> Vec<Decision> {
        let span = Span::All { tenant: None, generation: GENERATION, kind: Kind::Transition };
        let rows = block_on(self.store.scan(&span, None, 1000.try_into().unwrap())).unwrap().rows;
        let mut found: Vec<Decision> = rows.iter().map(|row| Decision::decode(&row.body).unwrap()).collect();
        found.sort_by_key(|decision| decision.time_secs);
        for decision in &mut found {
            // A position of the control shard: another in each world.
            decision.revision = SequenceNumber::ZERO;
        }
        found
    }

    fn verify(&self) {
        let report = local::verify(&self.stream, &*self.store, self.places.clone());
        assert_eq!(report.differences, 0, "{:?}", report.first_difference);
        assert!(report.rows > 20, "{report:?}");
    }
}

const ALARM: &str = r#"{"AlarmName":"slow","ServiceName":"shop","MetricName":"latency","ExtendedStatistic":"p90","Period":120,
    "EvaluationPeriods":3,"DatapointsToAlarm":2,"Threshold":100,"ComparisonOperator":"GreaterThanThreshold"}"#;

/// Some forty minutes with two bad spells, a silence, late lines, and a change of the threshold.
fn play(shards: u16, commits: Commits, seed: u64, tickers: usize) -> World {
    let mut world = World::of(shards, commits, seed);
    world.apply(ALARM);
    for minute in 0..42 {
        let latencies: &[f64] = match minute {
            8..13 | 20..24 => &[150.0, 250.0, 90.0, 300.0, 170.0],
            26..38 => &[],
            _ => &[10.0, 20.0, 30.0, 12.5, 11.0],
        };
        world.lines(minute, latencies);
        if minute == 10 {
            world.lines(3, &[5_000.0; 3]);
        }
        if minute == 23 {
            world.apply(&ALARM.replace("\"Threshold\":100", "\"Threshold\":1000"));
        }
        world.end_minute(minute, tickers);
    }
    world.verify();
    world
}

#[test]
fn an_alarm_rings_and_falls_silent_again_with_times_and_reasons() {
    use State::{Alarm, InsufficientData, Ok};
    let told: Vec<_> = play(1, Commits::Whole, 0, 1)
        .transitions()
        .iter()
        .map(|decision| (decision.from, decision.to, (decision.time_secs - START_MS / 1000) / 60))
        .collect();
    assert_eq!((told[0].0, told[0].1), (None, InsufficientData), "a new alarm has no data: {told:?}");
    assert_eq!((told[1].0, told[1].1), (Some(InsufficientData), Ok), "{told:?}");
    let rings: Vec<i64> = told.iter().filter(|change| change.1 == Alarm).map(|change| change.2).collect();
    assert_eq!(rings.len(), 2, "two bad spells: {told:?}");
    assert!((9..=12).contains(&rings[0]) && (21..=24).contains(&rings[1]), "{told:?}");
    assert!(told.iter().any(|change| change.1 == InsufficientData && change.2 > 30), "the silence: {told:?}");
    let calmed = |change: &&(Option<State>, State, i64)| change.0 == Some(Alarm) && change.1 == Ok;
    assert!(told.iter().filter(calmed).any(|change| (24..=25).contains(&change.2)), "a higher threshold: {told:?}");
}

#[test]
fn the_number_of_shards_changes_no_transition() {
    let one = play(1, Commits::Whole, 0, 1).transitions();
    for shards in [2, 3, 5] {
        assert_eq!(play(shards, Commits::Whole, 0, 1).transitions(), one, "{shards} shards");
    }
}

#[test]
fn crashes_and_redelivery_change_no_transition_on_either_kind_of_store() {
    let calm = play(3, Commits::Whole, 0, 1).transitions();
    for seed in 1..=12 {
        for commits in [Commits::Whole, Commits::ItemByItem] {
            assert_eq!(play(3, commits, seed, 1).transitions(), calm, "seed {seed}, {commits:?}");
        }
    }
}

#[test]
fn a_second_ticker_changes_no_transition() {
    assert_eq!(play(3, Commits::Whole, 0, 2).transitions(), play(3, Commits::Whole, 0, 1).transitions());
}

impl World {
    /// So many minutes in which one shard has much to fold and another only ticks, told to both at once now and then.
    fn lopsided(minutes: i64) -> Self {
        let mut world = Self::of(2, Commits::Whole, 0);
        world.apply(ALARM);
        let home = world.home();
        let definitions = block_on(processor::drive::definitions(&*world.store, GENERATION)).unwrap()[0].revision;
        let ring = world.places[0].ring.clone().into_iter();
        let open_shards = ring.map(|(shard, range)| OpenShard { shard, range }).collect();
        let tick = Event::Ticked(Ticked { definitions, open_shards, fold_revision: FOLD_REVISION });
        for minute in 0..minutes {
            world.clock.store(START_MS + (minute + 1) * 60_000 + 1_000, Ordering::SeqCst);
            let at = START_MS / 1000 + minute * 60;
            let line = format!("{{\"ts\":{at},\"service\":\"shop\",\"latency_ms\":5}}\n");
            let mut puts: Vec<Put> = (0..3).flat_map(|n| file(&format!("/{minute}/{n}.log"), at, &line)).collect();
            puts.iter_mut().for_each(|put| put.hash_key = Some(home));
            puts.extend(world.places[0].ring.iter().map(|(_, range)| system_event(range.from, tick.clone())));
            block_on(append_all(&*world.stream, puts)).unwrap();
            if minute % 50 == 49 {
                world.settle();
            }
        }
        world.settle();
        world
    }

    fn home(&self) -> HashKey {
        let key = home_key("local", "slow");
        let ring = &self.places[0].ring;
        ring.iter().find(|(_, range)| range.contains(key)).unwrap().1.from
    }

    /// Every word of other shards to the alarm's home that stands on the stream, in order.
    fn words(&self) -> Vec<RolledUp> {
        self.words_to(self.places[0].owner(self.home()))
    }

    fn words_to(&self, home: &ShardId) -> Vec<RolledUp> {
        let (mut words, mut from) = (vec![], Start::TrimHorizon);
        let limits = Limits { records: 1_000.try_into().unwrap(), bytes: 1 << 20, wait: Duration::ZERO };
        loop {
            let page = block_on(self.stream.read(home, from, limits)).unwrap();
            let Some(last) = page.records.last() else { return words };
            from = Start::After(last.sequence);
            for record in &page.records {
                let batch = wire::decode(&record.data).unwrap();
                if batch.header.content == wire::Content::Events
                    && let [Event::RolledUp(word)] = &wire::decode_events(&batch.body).unwrap()[..]
                {
                    words.push(word.clone());
                }
            }
        }
    }

    /// Folds all of the stream again; the most that the replay remembered of what shards said.
    fn replay(&self) -> usize {
        let until: ResumePoints =
            self.places.iter().map(|place| (place.shard.clone(), self.stream.tip(&place.shard).unwrap())).collect();
        let (stream, scratch) = (ReadOnly::new(self.stream.clone()), Arc::new(Memory::new(Commits::Whole)));
        let mut replay = block_on(Replay::open(stream, scratch, self.places.clone(), &until)).unwrap();
        block_on(replay.through(&until, &|_| {})).unwrap();
        replay.said_most()
    }
}

#[test]
fn what_a_replay_remembers_of_words_between_shards_does_not_grow_with_the_age_of_the_stream() {
    // A page of ticks, and the words by which one shard may be ahead of another.
    const MOST: usize = 1_000 + 64 + 1;
    for minutes in [1_500, 5_000] {
        let world = World::lopsided(minutes);
        assert_eq!(world.words().len() as i64, minutes, "one word a minute");
        let most = world.replay();
        assert!(most > 0 && most <= MOST, "{most} words after {minutes} minutes");
    }
}

#[test]
fn words_that_stand_on_the_stream_again_soon_and_long_after_hold_up_no_replay() {
    let mut world = play(3, Commits::Whole, 0, 1);
    let before = world.transitions();
    let (home, words) = (world.home(), world.words());
    assert!(words.len() > 40, "{} words", words.len());
    for again in [&words[words.len() - 2..], &words[..], &words[..3]] {
        let puts = again.iter().map(|word| system_event(home, Event::RolledUp(word.clone()))).collect();
        block_on(append_all(&*world.stream, puts)).unwrap();
        world.settle();
    }
    world.lines(42, &[10.0]);
    world.end_minute(42, 1);
    world.verify();
    assert_eq!(world.transitions(), before, "and they change nothing");
}

#[test]
fn a_day_of_logs_under_alarms_that_look_back_a_day_is_told_in_parts_and_decided() {
    let mut world = World::of(2, Commits::Whole, 0);
    world.end_minute(0, 1);
    let day = ALARM.replace("\"Period\":120", "\"Period\":60");
    let day = day.replace("\"EvaluationPeriods\":3", "\"EvaluationPeriods\":1440");
    // All of them live in one home, which the shard does not keep that will get the lines.
    let lines_go_to = HashKey::of(&file("/logs/yesterday.log", START_MS / 1000 + 60, "line\n")[0].partition_key);
    let home = |name: &String| home_key("local", name);
    let keeper = |name: &String| world.places[0].owner(home(name)).clone();
    let mut names = (0..).map(|number| format!("a{number}"));
    let first = names.find(|name| keeper(name) != *world.places[0].owner(lines_go_to)).unwrap();
    let names: Vec<String> = names.filter(|name| home(name) == home(&first)).take(26).collect();
    // With those that come later, all that a tenant has room for.
    for (number, name) in names[..22].iter().enumerate() {
        world.apply_as(name, &day.replace("\"shop\"", &format!("\"shop{number}\"")));
    }
    world.end_minute(1, 1);
    // Yesterday's, of all services, minute by minute.
    let mut text = String::new();
    for minute in -1440..0 {
        for line in 0..72 {
            let (at, latency) = (START_MS / 1000 + minute * 60 + 30, 10.0 + f64::from(line / 24) * 400.5);
            text += &format!("{{\"ts\":{at},\"service\":\"shop{}\",\"latency_ms\":{latency}}}\n", line % 24);
        }
    }
    let yesterdays = file("/logs/yesterday.log", START_MS / 1000 + 60, &text);
    block_on(append_all(&*world.stream, yesterdays)).unwrap();
    world.end_minute(2, 1);
    let rung = world.transitions().iter().filter(|decision| decision.to == State::Alarm).count();
    assert_eq!(rung, 22, "each has two bad minutes in its range");
    let words = |world: &World| {
        let mut words: Vec<_> = world.places.iter().flat_map(|place| world.words_to(&place.shard)).collect();
        words.sort_by_key(|word| word.source_time_ms);
        words
    };
    let parts: Vec<(u32, u32)> = words(&world).iter().map(|word| (word.part, word.parts_after)).collect();
    assert!(parts.iter().any(|(_, after)| *after >= 2), "more than two records hold: {parts:?}");
    world.end_minute(3, 1);
    let quiet = &words(&world)[parts.len()..];
    assert!(quiet.iter().all(|word| word.windows.is_empty()), "what has not changed is not told again");
    assert_eq!(quiet.len(), 1);
    // Another threshold, and another alarm on windows that are watched already.
    let said = words(&world).len();
    let body = |threshold: &str| day.replace("\"shop\"", "\"shop7\"").replace("\"Threshold\":100", threshold);
    world.apply_as(&names[7], &body("\"Threshold\":200"));
    names[22..].iter().for_each(|name| world.apply_as(name, &body("\"Threshold\":300")));
    world.end_minute(4, 1);
    let again: Vec<RolledWindow> = words(&world).split_off(said).into_iter().flat_map(|word| word.windows).collect();
    assert!(again.iter().all(|window| window.service == "shop7"), "only what a new alarm looks at is told again");
    assert_eq!(again.len(), 1440, "and all of that");
    let rung = world.transitions().into_iter().filter(|decision| decision.to == State::Alarm);
    assert_eq!(rung.filter(|decision| names[22..].contains(&decision.alarm)).count(), 4);
    world.verify();
}
