//! `weir replay --start archive` on AWS: a generation filled from segments in a bucket, and from the stream behind them, where the stream has let go of its
//! beginning.
//!
//! Hours pass as the stream's stamps say, so that windows of two generations can be compared without waiting for them.

use std::process::Command;

use crate::{
    bucket::Bucket,
    cloud::Cloud,
    program::{Folder, Said, Server, say},
    stamps::Stamps,
    way::Way,
};

const HOUR_MS: i64 = 3_600_000;
/// Lines of a part: five minutes of one a second.
const LINES: i64 = 300;
/// As many, that both shards have lines of some.
const SERVICES: [&str; 4] = ["a", "b", "c", "d"];
const PREFIX: &str = "kept";

/// A stream of which each part is archived in segments of its own.
struct World {
    cloud: Cloud,
    bucket: Bucket,
    stamps: Way<Stamps>,
    /// When the parts begin.
    parts: Vec<i64>,
}

impl World {
    fn new() -> Self {
        // All of it is over by the machine's own clock: Kinesis is asked for no time that is still to come.
        let begun_ms = (weir::now_ms() - 12 * HOUR_MS).div_euclid(60_000) * 60_000;
        let stamps = Way::to(&emulators::kinesis().endpoint, Stamps::at(begun_ms));
        Self { cloud: Cloud::new(), bucket: Bucket::new(), stamps, parts: vec![] }
    }

    fn url(&self) -> String {
        self.bucket.url(PREFIX)
    }

    /// A command on the pair that knows of the archive.
    fn command(&self, name: &str) -> Command {
        let mut command = self.cloud.command(name);
        command.env("AWS_ENDPOINT_URL_KINESIS", &self.stamps.endpoint);
        command.env("AWS_ENDPOINT_URL_S3", &emulators::aws().endpoint).env("WEIR_ARCHIVE", self.url());
        command
    }

    fn run(&self, name: &str, arguments: &[&str]) -> Said {
        say(self.command(name).args(arguments))
    }

    /// So many hours later lines come in, through a `weir up` that archives them.
    fn part(&mut self, hours: i64) {
        let now_ms = {
            let mut stamps = self.stamps.guard.lock().unwrap();
            stamps.now_ms += hours * HOUR_MS;
            stamps.now_ms
        };
        self.parts.push(now_ms);
        let mut command = self.command("up");
        let server = Server::start(command.args(["--listen", "127.0.0.1:0", "--shards", "2"]));
        for service in SERVICES {
            let sent = server.post(&format!("/ingest?run={service}-{now_ms}"), lines(service, now_ms).as_bytes());
            assert_eq!(sent.status, 202, "{sent:?}");
        }
        for service in SERVICES {
            server.settles(&format!("{service}-{now_ms}"));
        }
        server.stop().exits(0);
    }

    /// The stream has nothing any more of what came before a part.
    fn let_go_before(&self, part: usize) {
        self.stamps.guard.lock().unwrap().let_go(self.parts[part]);
    }

    /// Rows are what archive and stream say; their digest.
    fn digest(&self) -> serde_json::Value {
        let report = self.run("verify", &["--json"]).exits(0).json();
        assert_eq!((&report["differences"], &report["older_than_stream"]), (&0.into(), &0.into()), "{report}");
        report["digest"].clone()
    }

    /// What one machine makes of the lines of all parts.
    fn alone(&self) -> serde_json::Value {
        let alone = Folder::new();
        for part in &self.parts {
            for service in SERVICES {
                alone.ingest([alone.file(&format!("{service}-{part}.log"), lines(service, *part))]).exits(0);
            }
        }
        alone.verifies()["digest"].clone()
    }
}

/// A line a second from a time on.
fn lines(service: &str, from_ms: i64) -> String {
    let line = |second: i64| {
        format!("{{\"ts\":{},\"service\":\"{service}\",\"latency_ms\":{second}}}\n", from_ms / 1000 + second)
    };
    (0..LINES).map(line).collect()
}

#[test]
fn a_generation_from_an_archive_in_a_bucket_has_the_digest_of_the_one_that_folded_the_stream_whole() {
    let mut world = World::new();
    world.part(0);
    world.part(5);
    let before = world.digest();
    assert_eq!(before, world.alone());
    world.let_go_before(1);
    let by_stream = say(world.command("verify").env_remove("WEIR_ARCHIVE").arg("--json")).json();
    assert!(by_stream["older_than_stream"].as_u64() > Some(0), "the stream has let go of its beginning: {by_stream}");

    let said = world.run("replay", &["--start", "archive", "--generation", "whole"]).exits(0);
    let said = said.complains(&[
        "every record from the first record on is folded again",
        &format!("it is read from the archive {}", world.url()),
        "it has caught up, and goes on beside the one that counts",
    ]);
    assert!(!said.err.contains("missing:"), "{said:?}");
    assert!(said.out.starts_with("compared whole with first: 0 of 40 windows differ"), "{said:?}");
    world.run("promote", &["whole"]).exits(0);
    assert_eq!(world.digest(), before);
    // It goes on on the stream.
    world.part(1);
    assert_eq!(world.digest(), world.alone());
}

#[test]
fn a_segment_that_is_gone_from_the_bucket_is_named_and_what_comes_behind_it_is_filled() {
    let mut world = World::new();
    world.part(0);
    let first = world.bucket.keys(PREFIX);
    world.part(1);
    let second: Vec<String> = world.bucket.keys(PREFIX).into_iter().filter(|key| !first.contains(key)).collect();
    world.part(1);
    world.part(4);
    world.let_go_before(3);
    assert!(!second.is_empty());
    second.iter().for_each(|key| world.bucket.delete(key));

    let said = world.run("replay", &["--start", "archive", "--generation", "cut"]).exits(0);
    let (shards, between) = (["shardId-000000000000", "shardId-000000000001"], "segments are missing between");
    let missing: Vec<&str> = said.err.lines().filter(|line| line.starts_with("missing: ")).collect();
    assert_eq!(missing.len(), shards.len(), "{said:?}");
    for shard in shards {
        let of = missing.iter().find(|line| line.starts_with(&format!("missing: {shard}: "))).expect("of both shards");
        assert!(of.contains(between) && of.contains(&world.url()) && of.contains("on can be read"), "{of}");
    }
    // Of the windows of the last part nothing is missing, and those before are the parent's.
    assert!(said.out.starts_with("compared cut with first: 0 of 20 windows from "), "{said:?}");
    assert!(said.out.contains("(earlier ones are read from the parent)"), "{said:?}");
    world.run("promote", &["cut"]).exits(0);
    world.part(1);
    let verified = world.run("verify", &["--json"]).exits(0).json();
    assert_eq!(verified["differences"], 0, "{verified}");
    assert_eq!(verified["archive"]["missing"].as_array().unwrap().len(), shards.len(), "{verified}");
    let query = ["--service", "a", "--metric", "latency", "-o", "json"];
    let windows = world.run("metrics", &query).exits(0).json_lines();
    let counted: i64 = windows.iter().map(|window| window["count"].as_i64().unwrap()).sum();
    assert_eq!(counted, LINES * 5, "nothing that people could read before is gone: {windows:?}");
}
