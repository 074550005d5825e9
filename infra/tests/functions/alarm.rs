//! An alarm that rings at the very time at which another generation is promoted, while the shard that keeps it is split: the consumer folds through all
//! three, and decides what a process decides that runs all the time.
//!
//! Minutes pass as the stream's stamps say, so nobody waits for one.

use std::{collections::HashMap, num::NonZeroU16, time::Duration};

use events::{
    event::{Defined, Event},
    identity::{CONTROL_KEY, LOCAL_TENANT},
    position::{HashKey, HashRange},
    stream::{Put, Shard, Stream},
};
use processor::{
    append::{append_all, system_event_of},
    generations::Start,
};
use projections::{fold::alarms::home_key, query, store::Generation};
use serde_json::json;
use weir::{System, aws::Role};

use crate::{
    cloud::{CONSUMER, Cloud, TICKER},
    generations::{finish, follows, promote_and_die},
    lambda::Function,
    mapping::{Delivered, TIME, done_with, event, recorded},
    stamps::Stamps,
    way::Way,
};

const NAME: &str = "slow";
const DEFINITION: &str = r#"{"AlarmName":"slow","ServiceName":"shop","MetricName":"latency","Statistic":"Maximum","Period":60,"EvaluationPeriods":1,
    "Threshold":100,"ComparisonOperator":"GreaterThanThreshold"}"#;
const NEW: Generation = Generation(1);
/// Places of the ring that get a line each minute.
const PLACES: NonZeroU16 = NonZeroU16::new(8).unwrap();
/// Records of a batch.
const BATCH: usize = 7;
/// So often nothing of any shard is folded; then it never is.
const FRUITLESS_MAX: u32 = 3;
/// Longest that what is on the stream is waited for.
const LONGEST: Duration = Duration::from_secs(120);
/// Shards answer each other so often within a minute, and once more in between.
const ROUNDS: u32 = 4;

/// A pair, and the time on its stream.
struct Scene {
    cloud: Cloud,
    stamps: Way<Stamps>,
}

impl Scene {
    fn new(now_ms: i64) -> Self {
        let stamps = Way::to(&emulators::kinesis().endpoint, Stamps::at(now_ms));
        Self { cloud: Cloud::on(2, &stamps.endpoint, &emulators::dynamodb().endpoint), stamps }
    }

    async fn append(&self, puts: Vec<Put>) {
        append_all(&*self.cloud.stream, puts).await.unwrap();
    }

    async fn define(&self) {
        let defined = Defined { kind: "alarm".into(), name: NAME.into(), body: DEFINITION.into(), by: "a test".into() };
        self.append(vec![system_event_of(LOCAL_TENANT, HashKey::of(CONTROL_KEY), Event::Defined(defined))]).await;
    }

    /// A line on each of some places of the ring, by a producer that knows nothing of Weir.
    async fn lines(&self, latency: u32) {
        let now_ms = self.stamps.guard.lock().unwrap().now_ms;
        let line = format!(r#"{{"ts":{},"service":"shop","latency_ms":{latency}}}"#, now_ms / 1000);
        let put = |range: HashRange| Put {
            partition_key: "line".into(),
            hash_key: Some(range.from),
            data: line.clone().into(),
        };
        self.append(HashRange::even(PLACES).into_iter().map(put).collect()).await;
    }

    fn minute_is_over(&self) {
        self.stamps.guard.lock().unwrap().now_ms += 60_000;
    }

    /// The shard that keeps the alarm.
    async fn home(&self) -> Shard {
        let home = home_key(LOCAL_TENANT, NAME);
        let listed = self.cloud.stream.shards().await.unwrap();
        listed.into_iter().find(|shard| !shard.closed && shard.range.contains(home)).unwrap()
    }

    /// The shard that keeps the alarm is split in its middle; which one it was.
    async fn split(&self) -> Shard {
        let home = self.home().await;
        let at = home.range.from.0 + (home.range.through.0 - home.range.from.0) / 2;
        let split = self.cloud.client.split_shard().stream_name(&self.cloud.name).shard_to_split(home.id.as_str());
        split.new_starting_hash_key(at.to_string()).send().await.unwrap();
        let done = async { while self.home().await.id == home.id {} };
        tokio::time::timeout(LONGEST, done).await.expect("it is split");
        home
    }

    /// What the alarm did, in words. Nothing of positions, which differ between streams.
    async fn transitions(&self, generation: Generation) -> Vec<String> {
        let found = query::alarms(&*self.cloud.store, LOCAL_TENANT, &generation.into(), Some(NAME)).await.unwrap();
        let changes = found.iter().flat_map(|of| of.transitions.iter().flatten());
        changes.map(|of| format!("{} {:?} -> {:?}: {}", of.time, of.from, of.to, of.reason)).collect()
    }
}

/// The event source of all shards, two instances of the consumer that take turns, and the ticker.
struct Functions {
    consumers: [Function; 2],
    ticker: Function,
    done: HashMap<String, usize>,
    turn: usize,
}

impl Functions {
    fn new(cloud: &Cloud) -> Self {
        let consumers = [cloud.function(CONSUMER), cloud.function(CONSUMER)];
        Self { consumers, ticker: cloud.function(TICKER), done: HashMap::new(), turn: 0 }
    }

    fn tick(&mut self) {
        self.ticker.invoke(&json!({"source": "aws.scheduler"}), TIME).answered();
    }

    /// What is on a shard and was not handed over.
    fn left(&self, cloud: &Cloud, shard: &str) -> Vec<Delivered> {
        recorded(cloud, shard).split_off(self.done.get(shard).copied().unwrap_or_default())
    }

    /// Hands over what is on a shard until a batch has to come again; how many records are done with, and how many are left.
    fn hand_over(&mut self, cloud: &Cloud, shard: &str) -> (usize, usize) {
        let left = self.left(cloud, shard);
        let mut done = 0;
        while done < left.len() {
            let batch = &left[done..left.len().min(done + BATCH)];
            self.turn += 1;
            let ended = self.consumers[self.turn % 2].invoke(&event(batch), TIME);
            match done_with(batch, &ended) {
                0 => break,
                more => done += more,
            }
        }
        *self.done.entry(shard.to_owned()).or_default() += done;
        (done, left.len() - done)
    }

    /// Hands over all that there is, and what shards say to each other because of it. A shard that has to wait for another one has its turn again.
    fn catch_up(&mut self, cloud: &Cloud) {
        let mut fruitless = 0;
        loop {
            let shards = cloud.shards();
            let all = shards.iter().map(|shard| self.hand_over(cloud, shard.id.as_str()));
            let (done, left) = all.fold((0, 0), |sum, of| (sum.0 + of.0, sum.1 + of.1));
            if done + left == 0 {
                return;
            }
            fruitless = if done == 0 { fruitless + 1 } else { 0 };
            let said = || self.consumers.each_ref().map(Function::said).concat();
            assert!(fruitless < FRUITLESS_MAX, "{left} records are not folded: {}", said());
        }
    }

    fn minute(&mut self, scene: &Scene, latency: u32) {
        scene.cloud.runtime.block_on(scene.lines(latency));
        scene.minute_is_over();
        self.tick();
        self.catch_up(&scene.cloud);
    }
}

/// By functions alone, but for the command that opens the generation. On the stream the promotion is between lines for which the alarm rings, and so is
/// the end of the shard that keeps it; an instance dies with all of that in its hands.
fn by_functions(now_ms: i64) -> Scene {
    let scene = Scene::new(now_ms);
    let cloud = &scene.cloud;
    let mut functions = Functions::new(cloud);
    functions.tick();
    functions.catch_up(cloud);
    cloud.runtime.block_on(scene.define());
    functions.catch_up(cloud);
    functions.tick();
    functions.catch_up(cloud);
    functions.minute(&scene, 1);
    functions.minute(&scene, 1);
    cloud.beside(async |system| {
        system.replay("new", Some(Start::Oldest)).await.unwrap();
        follows(system, "new").await;
    });

    cloud.runtime.block_on(scene.lines(500));
    let (promotion, revision) = promote_and_die(cloud, "new");
    // A tick names what can be read: with the next one it comes to all shards.
    let control = cloud.shards().into_iter().find(|shard| shard.range.contains(HashKey::of(CONTROL_KEY))).unwrap();
    functions.hand_over(cloud, control.id.as_str());
    let home = cloud.runtime.block_on(scene.split());
    cloud.runtime.block_on(scene.lines(500));
    scene.minute_is_over();
    functions.tick();
    let batch = functions.left(cloud, home.id.as_str());
    let number = functions.consumers[0].hand_over(&event(&batch), TIME);
    functions.consumers[0].kill();
    functions.consumers[0].wait(number);
    functions.consumers[0] = cloud.function(CONSUMER);
    functions.catch_up(cloud);
    finish(cloud, &promotion, revision);

    for latency in [500, 1, 1] {
        functions.minute(&scene, latency);
    }
    for function in &functions.consumers {
        assert!(!function.said().contains("\"lost\""), "{}", function.said());
    }
    scene
}

/// All that is on the stream is folded, and what shards say to each other because of it.
async fn settled(system: &System) {
    for _ in 0..ROUNDS {
        assert!(system.caught_up(LONGEST).await.unwrap());
    }
}

/// By one process that runs all the time.
fn by_a_process(now_ms: i64) -> Scene {
    let scene = Scene::new(now_ms);
    scene.cloud.by(Role::Worker, async |system| {
        let tick = async || {
            system.tick().await.unwrap();
            settled(system).await;
        };
        let minute = async |latency| {
            scene.lines(latency).await;
            scene.minute_is_over();
            tick().await;
        };
        tick().await;
        scene.define().await;
        settled(system).await;
        tick().await;
        minute(1).await;
        minute(1).await;
        system.replay("new", Some(Start::Oldest)).await.unwrap();
        follows(system, "new").await;

        scene.lines(500).await;
        system.promote("new").await.unwrap();
        scene.split().await;
        minute(500).await;
        for latency in [500, 1, 1] {
            minute(latency).await;
        }
    });
    scene
}

#[test]
fn an_alarm_that_rings_while_its_shard_is_split_and_a_generation_promoted_is_decided_once_and_as_a_process_decides_it()
{
    let now_ms = weir::now_ms().div_euclid(60_000) * 60_000 + 1_000;
    let process = std::thread::spawn(move || by_a_process(now_ms));
    let functions = by_functions(now_ms);
    let process = process.join().unwrap();
    let [transitions, expected] =
        [&functions, &process].map(|scene| scene.cloud.runtime.block_on(scene.transitions(NEW)));
    let rings = transitions.iter().filter(|change| change.contains("-> Alarm")).count();
    assert_eq!((rings, transitions.len()), (1, 4), "{transitions:#?}");
    assert_eq!(transitions, expected);
    assert_eq!(functions.cloud.verifies_in(NEW), process.cloud.verifies_in(NEW));
}
