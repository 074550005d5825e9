//! Producers without an origin on AWS (law 6): what goes again because an answer was lost is on the stream twice, and counts once.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
};

use serde_json::Value;

use crate::{
    cloud::Cloud,
    logs::{NONE, lines},
    program::{Folder, Said, Server, say_with_input},
    way::{Call, Guard, Way},
};

/// Loses the answer to records with lines when it first sees them; the stream has taken them, and they come again.
#[derive(Default)]
struct Loses {
    seen: HashSet<String>,
    lost: u64,
}

impl Guard for Loses {
    fn is_answered(&mut self, call: &Call, _: &mut Value) -> bool {
        let records = call.asked["Records"].as_array().filter(|_| call.action == "PutRecords");
        // What the system says itself has a place on the ring, lines have a key.
        let lines = records.into_iter().flatten().filter(|record| record["ExplicitHashKey"].is_null());
        let new = lines.filter(|record| self.seen.insert(record["Data"].to_string())).count() as u64;
        self.lost += new;
        new == 0
    }
}

fn lost(guard: &Arc<Mutex<Loses>>) -> u64 {
    guard.lock().unwrap().lost
}

/// Lines and latencies that are counted, and their sum.
fn counted(said: Said) -> (u64, f64) {
    let windows = said.exits(0).json_lines();
    let count = windows.iter().map(|window| window["count"].as_u64().unwrap()).sum();
    (count, windows.iter().map(|window| window["sum"].as_f64().unwrap()).sum())
}

const QUERY: [&str; 6] = ["--service", "app", "--metric", "latency", "-o", "json"];
const LINES: u64 = 8_000;

/// Lines that do not pack well, so that there are several batches of few of them.
fn noisy() -> String {
    let mut state = 1u64;
    let mut word = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        format!("{:016x}", state ^ (state >> 29))
    };
    let mut noisy = |line: &str| {
        let noise: String = (0..12).map(|_| word()).collect();
        line.replacen('{', &format!("{{\"message\":\"{noise}\","), 1) + "\n"
    };
    lines("app", 0..LINES).lines().map(&mut noisy).collect()
}

#[test]
fn what_a_pipe_brings_counts_once_though_the_answer_to_each_batch_is_lost() {
    let (cloud, local) = (Cloud::new(), Folder::new());
    let text = noisy();
    say_with_input(local.command("ingest").arg("-"), text.as_bytes()).exits(0);
    let way = Way::to(&emulators::kinesis().endpoint, Loses::default());
    let mut command = cloud.command("ingest");
    command.env("AWS_ENDPOINT_URL_KINESIS", &way.endpoint).arg("-");
    let said = say_with_input(&mut command, text.as_bytes()).exits(0);
    assert!(lost(&way.guard) >= 2, "answers were lost: {said:?}");
    // The copy that was acknowledged is the second, and what became of that is what the run is told.
    assert_eq!(said.last_line(), format!("accepted {LINES} = folded 0 + skipped 0 + duplicate {LINES} + dead 0"));
    assert_eq!(counted(cloud.run("metrics", QUERY)), counted(local.run("metrics", QUERY)));
    let server = cloud.up(NONE);
    let balance = server.get("/balance").json();
    assert_eq!(balance["folded"], LINES, "{balance}");
    assert_eq!(balance["duplicate"], LINES, "all came twice: {balance}");
    server.stop().exits(0);
    assert_eq!(cloud.verifies()["digest"], local.verifies()["digest"]);
}

#[test]
fn what_is_posted_counts_once_though_the_servers_own_appends_lose_their_answers() {
    let (cloud, local) = (Cloud::new(), Folder::new());
    let way = Way::to(&emulators::kinesis().endpoint, Loses::default());
    let server = Server::start(cloud.command("up").env("AWS_ENDPOINT_URL_KINESIS", &way.endpoint).args([
        "--listen",
        "127.0.0.1:0",
        "--shards",
        "2",
    ]));
    for part in 0..10 {
        let sent = server.post("/ingest?run=all", lines("app", part * 100..part * 100 + 100).as_bytes());
        assert_eq!(sent.status, 202, "{sent:?}");
    }
    let balance = server.settles("all");
    assert_eq!(balance["accepted"], 1_000, "{balance}");
    assert_eq!(lost(&way.guard), 10, "each batch came twice");
    let all = server.get("/balance").json();
    assert_eq!((&all["folded"], &all["duplicate"]), (&1_000.into(), &1_000.into()), "{all}");
    server.stop().exits(0);
    local.ingest([local.file("app.log", lines("app", 0..1_000))]).exits(0);
    assert_eq!(counted(cloud.run("metrics", QUERY)), counted(local.run("metrics", QUERY)));
    assert_eq!(cloud.verifies()["digest"], local.verifies()["digest"]);
}
