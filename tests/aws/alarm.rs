//! An alarm on AWS that rings and falls silent again, while the shard that keeps it is split and the process that decided is killed between the rows that
//! say so and the resume point behind them: each change is decided once (law 9), and read by people and programs.
//!
//! Minutes pass as the stream's stamps say: on the way from it they are set, so nobody waits for one.

use std::time::{Duration, Instant};

use events::{
    kinesis::{Kinesis, Missing},
    position::{HashKey, HashRange},
    stream::Put,
};
use processor::tick;
use projections::{
    dynamodb::{Create, DynamoDb},
    fold::alarms::home_key,
    store::Generation,
};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::{
    cloud::Cloud,
    program::{Said, Server, say},
    stamps::Stamps,
    stream::{Stream, client, runtime},
    way::{Call, Guard, Way},
};

const NAME: &str = "slow";
const DEFINITION: &str = r#"{"AlarmName":"slow","ServiceName":"shop","MetricName":"latency","Statistic":"Maximum","Period":60,"EvaluationPeriods":1,
    "Threshold":100,"ComparisonOperator":"GreaterThanThreshold"}"#;
/// Places of the ring that get a line each minute.
const PLACES: std::num::NonZeroU16 = std::num::NonZeroU16::new(8).unwrap();
/// An alarm of one period has changed after so many minutes, or never does.
const MINUTES_MAX: u32 = 6;
/// Longest that a test waits for what has to come: a commit that is kept back is tried for most of a minute, with what was folded when it began, and what
/// came meanwhile is in the next one.
const LONGEST: Duration = Duration::from_secs(300);

/// Keeps resume points back while it is shut.
#[derive(Default)]
struct Gate {
    is_shut: bool,
}

impl Guard for Gate {
    fn goes(&mut self, call: &Call) -> bool {
        let is_point = call.asked.to_string().contains("resume point");
        !(self.is_shut && is_point && ["PutItem", "UpdateItem", "TransactWriteItems"].contains(&call.action.as_str()))
    }
}

struct Scene {
    cloud: Cloud,
    stamps: Way<Stamps>,
    gate: Way<Gate>,
    shards: Stream,
    runtime: Runtime,
    stream: Kinesis,
    store: DynamoDb,
    runs: u64,
}

impl Scene {
    fn new(cloud: Cloud) -> (Self, Server) {
        let stamps = {
            let now_ms = weir::now_ms().div_euclid(60_000) * 60_000 + 1_000;
            Way::to(&emulators::kinesis().endpoint, Stamps::at(now_ms))
        };
        let gate = Way::to(&emulators::dynamodb().endpoint, Gate::default());
        let server = up(&cloud, &stamps, &gate);
        let rows = crate::cloud::dynamodb();
        let runtime = runtime();
        let stream = Kinesis::open(client(&stamps.endpoint), &cloud.name, Missing::Refuse);
        let stream = runtime.block_on(stream).unwrap();
        let (store, _) = runtime.block_on(DynamoDb::open(&rows, &cloud.name, Create::Refuse)).unwrap();
        let shards = Stream::of(&cloud);
        (Self { cloud, stamps, gate, shards, runtime, stream, store, runs: 0 }, server)
    }

    fn up(&self) -> Server {
        up(&self.cloud, &self.stamps, &self.gate)
    }

    /// A command on the same ways.
    fn run(&self, name: &str, arguments: &[&str]) -> Said {
        let mut command = self.cloud.command(name);
        command.env("AWS_ENDPOINT_URL_KINESIS", &self.stamps.endpoint);
        say(command.args(arguments)).exits(0)
    }

    /// A line on each of some places of the ring, by a producer that knows nothing of Weir; then the minute is over.
    fn minute(&self, latency: u32) {
        let now_ms = self.stamps.guard.lock().unwrap().now_ms;
        let line = format!(r#"{{"ts":{},"service":"shop","latency_ms":{latency}}}"#, now_ms / 1000);
        let put = |range: HashRange| Put {
            partition_key: "line".into(),
            hash_key: Some(range.from),
            data: line.clone().into(),
        };
        let puts = HashRange::even(PLACES).into_iter().map(put).collect();
        let append = processor::append::append_all(&self.stream, puts);
        self.runtime.block_on(append).unwrap();
        self.stamps.guard.lock().unwrap().now_ms += 60_000;
        self.runtime.block_on(tick::tick(&self.stream, &self.store, Generation::default())).unwrap();
    }

    /// Somebody waits for what is on the stream: then it is committed at once.
    fn hurry(&mut self, server: &Server) {
        self.runs += 1;
        let sent = server.post(&format!("/ingest?service=noise&run=r{}", self.runs), b"a line\n");
        assert_eq!(sent.status, 202, "{sent:?}");
        server.settles(&format!("r{}", self.runs));
    }

    /// Minutes of such latencies pass until the alarm has this state.
    fn until(&mut self, server: &Server, latency: u32, state: &str) {
        for _ in 0..MINUTES_MAX {
            self.minute(latency);
            self.hurry(server);
            if shown(server)["state"] == state {
                return;
            }
        }
        panic!("it is not {state} after {MINUTES_MAX} minutes: {}", shown(server));
    }

    /// The shard that keeps the alarm is split where its home begins.
    fn split(&self) {
        let HashKey(home) = home_key("local", NAME);
        let open = self.shards.open();
        let keeper = open.iter().find(|open| (open.from..=open.through).contains(&home)).unwrap();
        let at = if home > keeper.from { home } else { keeper.middle() };
        self.shards.split(&keeper.shard, at);
    }
}

fn up(cloud: &Cloud, stamps: &Way<Stamps>, gate: &Way<Gate>) -> Server {
    let mut command = cloud.command("up");
    command.env("AWS_ENDPOINT_URL_KINESIS", &stamps.endpoint).env("AWS_ENDPOINT_URL_DYNAMODB", &gate.endpoint);
    Server::start(command.args(["--listen", "127.0.0.1:0", "--shards", "2", "--failover", "2s"]))
}

fn shown(server: &Server) -> Value {
    server.get(&format!("/alarms/{NAME}")).json()
}

fn states(alarm: &Value) -> Vec<&str> {
    alarm["transitions"].as_array().unwrap().iter().map(|change| change["to"].as_str().unwrap()).collect()
}

#[test]
fn an_alarm_rings_and_falls_silent_across_splits_and_a_kill_between_its_decision_and_the_resume_point() {
    let (mut scene, mut server) = Scene::new(Cloud::new());
    let file = scene.cloud.folder.file("alarm.json", DEFINITION);
    let said = scene.run("apply", &[file.to_str().unwrap()]);
    assert!(said.out.contains("alarm slow applied"), "{said:?}");
    scene.until(&server, 1, "OK");
    scene.split();
    // The children begin behind their parent's last resume point.
    scene.minute(1);
    scene.hurry(&server);

    // It rings: the rows say so, and no resume point is behind them when the process dies.
    scene.gate.guard.lock().unwrap().is_shut = true;
    let begun = Instant::now();
    scene.minute(500);
    while shown(&server)["state"] != "ALARM" {
        assert!(begun.elapsed() < LONGEST, "it does not ring: {}", shown(&server));
        // Somebody waits, so that it is committed at once; another minute, where the alarm still looks at the one before.
        scene.runs += 1;
        let run = format!("r{}", scene.runs);
        assert_eq!(server.post(&format!("/ingest?service=noise&run={run}"), b"a line\n").status, 202);
        let balance = server.get(&format!("/runs/{run}?wait=2")).json();
        assert_eq!(balance["settled"], false, "no resume point passes: {balance}");
        scene.minute(500);
    }
    let rang = shown(&server);
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    scene.gate.guard.lock().unwrap().is_shut = false;

    server = scene.up();
    scene.hurry(&server);
    let after = shown(&server);
    assert_eq!((&after["state"], states(&after)), (&"ALARM".into(), states(&rang)), "decided once: {after}");
    assert_eq!(after["transitions"], rang["transitions"]);

    scene.split();
    scene.until(&server, 1, "OK");
    let last = shown(&server);
    assert_eq!(states(&last), [states(&rang), vec!["OK"]].concat(), "{last}");
    assert_eq!(states(&last).iter().filter(|state| **state == "ALARM").count(), 1, "{last}");
    let [.., ring, silence] = &last["transitions"].as_array().unwrap()[..] else { panic!("{last}") };
    assert_eq!((&ring["from"], &silence["from"]), (&"OK".into(), &"ALARM".into()));
    let reason = |change: &Value| change["reason"].as_str().unwrap().to_owned();
    assert!(reason(ring).contains("[500.0"), "{ring}");
    assert!(reason(silence).contains("[1.0"), "{silence}");

    // People see the same, from a process of their own, also once nobody runs.
    server.stop().exits(0);
    let said = scene.run("alarms", &[NAME, "-o", "json"]).json();
    assert_eq!((&said["state"], &said["transitions"]), (&"OK".into(), &last["transitions"]));
    let said = scene.run("alarms", &[NAME]);
    assert!(said.out.starts_with("slow is OK since "), "{said:?}");
    assert!(said.out.contains(&reason(ring)), "{said:?}");
    let report = scene.run("verify", &["--json"]).json();
    assert_eq!((&report["differences"], &report["older_than_stream"]), (&0.into(), &0.into()), "{report}");
}
