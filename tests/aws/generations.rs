//! Generations on Kinesis and DynamoDB: another one beside, promoted, and gone back from, through the real binary.

use crate::{
    cloud::Cloud,
    logs::{NONE, lines},
    program::{Server, say, until, weir},
    reads::{BEHIND_MS, Reads},
    way::Way,
};

fn counted(cloud: &Cloud) -> u64 {
    let query = ["--service", "app", "--metric", "latency", "-o", "json"];
    let windows = cloud.run("metrics", query).exits(0).json_lines();
    windows.iter().map(|window| window["count"].as_u64().unwrap()).sum()
}

#[test]
fn another_generation_is_folded_beside_promoted_and_gone_back_from_on_aws() {
    let cloud = Cloud::new();
    cloud.run("ingest", [cloud.folder.file("a.log", lines("app", 0..300))]).exits(0);
    let said = cloud.run("replay", ["--start", "oldest", "--generation", "new"]).exits(0);
    assert!(said.out.starts_with("compared new with first: 0 of 5 windows differ"), "{said:?}");
    cloud.run("promote", ["new"]).exits(0);
    cloud.run("ingest", [cloud.folder.file("b.log", lines("app", 300..600))]).exits(0);
    assert_eq!(counted(&cloud), 600);
    cloud.verifies();
    cloud.run("promote", ["first"]).exits(0);
    assert_eq!(counted(&cloud), 600);
    let listed = cloud.run("generations", NONE).exits(0);
    assert!(listed.out.contains("following"), "{listed:?}");
    cloud.verifies();
}

#[test]
fn health_says_how_far_behind_a_promoted_generation_is() {
    let (cloud, reads) = (Cloud::new(), Way::to(&emulators::kinesis().endpoint, Reads::default()));
    let mut command = cloud.command("up");
    command.env("AWS_ENDPOINT_URL_KINESIS", &reads.endpoint);
    let server = Server::start(command.args(["--listen", "127.0.0.1:0", "--shards", "1"]));
    let ask = |arguments: &[&str]| {
        let mut command = weir(cloud.folder.root.path());
        say(command.args(&arguments[..1]).args(["--url", &server.url]).args(&arguments[1..])).exits(0)
    };
    let behind_ms = || {
        let health = server.get("/health").json();
        health["behindMs"].as_u64().unwrap_or_else(|| panic!("{health}"))
    };
    ask(&["ingest", cloud.folder.file("a.log", lines("app", 0..300)).to_str().unwrap()]);
    ask(&["replay", "--start", "oldest", "--generation", "new"]);
    ask(&["promote", "new"]);
    assert!(behind_ms() < BEHIND_MS);
    reads.guard.lock().unwrap().hold();
    assert_eq!(server.post("/ingest?run=late", lines("app", 300..400).as_bytes()).status, 202);
    until("health says how far it is behind", || behind_ms() >= BEHIND_MS);
    assert_eq!(server.get("/runs/late?wait=1").json()["settled"], false);
    reads.guard.lock().unwrap().go_on();
    server.settles("late");
    assert!(behind_ms() < BEHIND_MS, "it has come so far");
    server.stop().exits(0);
    cloud.verifies();
}
