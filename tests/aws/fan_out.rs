//! Workers that read by enhanced fan-out: the same rows, also when a shard is split under them.

use crate::{
    cloud::Cloud,
    logs::lines,
    program::{Folder, Said, Server, say, weir},
    reads::{BEHIND_MS, Reads},
    split::split,
    way::Way,
};

/// A process that reads by enhanced fan-out, and what all others would share.
struct Pushed {
    cloud: Cloud,
    reads: Way<Reads>,
    server: Server,
    files: u64,
}

impl Pushed {
    fn new() -> Self {
        let (cloud, reads) = (Cloud::new(), Way::to(&emulators::kinesis().endpoint, Reads::default()));
        let mut command = cloud.command("up");
        command.env("AWS_ENDPOINT_URL_KINESIS", &reads.endpoint);
        let server = Server::start(command.args(["--listen", "127.0.0.1:0", "--shards", "1", "--fan-out"]));
        Self { cloud, reads, server, files: 0 }
    }

    fn ask(&self, arguments: &[&str]) -> Said {
        let mut command = weir(self.cloud.folder.root.path());
        say(command.args(&arguments[..1]).args(["--url", &self.server.url]).args(&arguments[1..]))
    }

    /// A file of its own; returns when all of it can be read.
    fn send(&mut self) {
        let file = self.file(self.files);
        self.files += 1;
        let said = self.ask(&["ingest", file.to_str().unwrap()]).exits(0);
        assert_eq!(said.last_line(), "accepted 300 = folded 300 + skipped 0 + duplicate 0 + dead 0");
    }

    fn file(&self, number: u64) -> std::path::PathBuf {
        let name = format!("{number}.log");
        self.cloud.folder.file(&name, lines(&format!("s{number}"), number * 300..number * 300 + 300))
    }

    /// The rows that count are what the stream says, and what one machine makes of all files.
    fn is_exact(&self) {
        let local = Folder::new();
        local.ingest((0..self.files).map(|number| self.file(number))).exits(0);
        assert_eq!(self.cloud.verifies()["digest"], local.verifies()["digest"]);
    }
}

#[test]
fn what_counts_is_pushed_also_after_a_promotion_and_after_going_back() {
    let mut pushed = Pushed::new();
    pushed.send();
    pushed.ask(&["replay", "--start", "oldest", "--generation", "new"]).exits(0);
    for generation in ["new", "first"] {
        pushed.ask(&["promote", generation]).exits(0);
        // Who follows reads as all readers do, and gets nothing for a while.
        pushed.reads.guard.lock().unwrap().hold();
        pushed.send();
        let health = pushed.server.get("/health").json();
        assert!(health["behindMs"].as_u64() < Some(BEHIND_MS), "what only follows is not what is behind: {health}");
        pushed.reads.guard.lock().unwrap().go_on();
        pushed.is_exact();
    }
    pushed.server.stop().exits(0);
}

#[test]
fn a_shard_that_goes_from_the_list_before_a_generation_that_follows_has_folded_it_is_said_to_be_lost_to_that_one_alone()
{
    let mut pushed = Pushed::new();
    pushed.send();
    let said = pushed.ask(&["replay", "--start", "oldest", "--generation", "new"]).exits(0);
    assert!(said.out.starts_with("compared new with first: 0 of 5 windows differ"), "{said:?}");
    pushed.reads.guard.lock().unwrap().hold_behind();
    pushed.send();
    split(&pushed.cloud);
    // These are on its children, so what counts has folded it to its end.
    pushed.send();
    let parent = "shardId-000000000000";
    pushed.reads.guard.lock().unwrap().let_go(parent);
    pushed.reads.guard.lock().unwrap().go_on();
    // It goes on with the children, without what it has lost.
    let said = pushed.ask(&["generations", "--compare", "new"]);
    assert!(said.exits(1).out.starts_with("compared new with first: 5 of 15 windows differ"));
    let health = pushed.server.get("/health").json();
    assert_eq!(health["ok"], true, "{health}");
    pushed.is_exact();
    let told = pushed.server.stop().exits(0);
    let lost = format!("lost: generation `new`: {parent}: it is gone from the stream, and it was folded up to ");
    let told = told.complains(&[&lost]);
    assert!(!told.err.contains("lost: shardId"), "what counts has all of it: {told:?}");
}

#[test]
fn what_is_pushed_gives_the_rows_that_reads_give_and_the_consumer_is_named_with_its_price() {
    let (cloud, local) = (Cloud::new(), Folder::new());
    let refused = cloud.run("up", ["--listen", "127.0.0.1:0", "--fan-out", "--no-create"]).exits(2);
    refused.complains(&["there is no Kinesis stream"]);
    let files = ["a", "b", "c"].map(|service| cloud.folder.file(&format!("{service}.log"), lines(service, 0..300)));
    local.ingest(&files).exits(0);
    cloud.run("ingest", &files[..1]).exits(0);
    let refused = cloud.run("up", ["--listen", "127.0.0.1:0", "--fan-out", "--no-create"]).exits(2);
    refused.complains(&[&format!("no enhanced fan-out consumer weir-{}", cloud.name), "leave out --no-create"]);

    let server = cloud.up(["--fan-out"]);
    let send = |file: &std::path::PathBuf| {
        let said = say(weir(local.root.path()).args(["ingest", "--url", &server.url]).arg(file)).exits(0);
        assert_eq!(said.last_line(), "accepted 300 = folded 300 + skipped 0 + duplicate 0 + dead 0");
    };
    send(&files[1]);
    split(&cloud);
    send(&files[2]);
    let verified = server.post("/verify", b"").json();
    assert_eq!(verified["differences"], 0, "a replay reads beside the consumer: {verified}");
    let told = server.stop().exits(0);
    told.complains(&[
        &format!("made the enhanced fan-out consumer weir-{} of stream {}", cloud.name, cloud.name),
        "$0.015 an hour",
    ]);
    assert_eq!(cloud.verifies()["digest"], local.verifies()["digest"]);
}
