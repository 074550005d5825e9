//! Real processes that share the shards of one stream: they join, crash, leave, and come back from the dead; every line counts once.

use std::{path::PathBuf, process::Command};

use serde_json::Value;

use crate::{
    cloud::Cloud,
    input::batches,
    logs::lines,
    program::{self, Folder, Server, say, weir},
    stream::Stream,
    way::{Call, Guard, Way},
};

/// Files of a stage: enough that every shard gets some of their lines.
const FILES: u64 = 8;
const LINES: u64 = 200;

/// A pair with logs that come in stages, and the processes on it.
struct Shared {
    cloud: Cloud,
    logs: Folder,
    stages: u64,
}

impl Shared {
    fn new() -> Self {
        Self { cloud: Cloud::new(), logs: Folder::new(), stages: 0 }
    }

    /// One more process, which others give up on after two seconds of silence.
    fn join(&self, folder: &Folder) -> Server {
        let mut command = self.cloud.command_in(folder, "up");
        command.args(["--listen", "127.0.0.1:0", "--shards", "4", "--failover", "2s"]);
        Server::start(&mut command)
    }

    fn files(&self, stage: u64) -> Vec<PathBuf> {
        let file = |number: u64| {
            let from = (stage * FILES + number) * LINES;
            self.logs.file(&format!("{stage}-{number}.log"), lines(&format!("s{number}"), from..from + LINES))
        };
        (0..FILES).map(file).collect()
    }

    /// Files of their own go through a process; returns when all of them can be read.
    fn flow(&mut self, through: &Server) {
        let files = self.files(self.stages);
        self.stages += 1;
        say(weir(self.logs.root.path()).args(["ingest", "--url", &through.url]).args(files)).exits(0);
    }

    /// The rows are what the stream says, and what one shard alone gives for all lines.
    fn is_exact(&self) {
        let alone = Folder::new();
        alone.up(["--shards", "1"]).stop().exits(0);
        let files: Vec<PathBuf> = (0..self.stages).flat_map(|stage| self.files(stage)).collect();
        alone.ingest(files).exits(0);
        let (shared, alone) = (self.cloud.verifies(), alone.verifies());
        assert_eq!(shared["digest"], alone["digest"], "{shared}\n{alone}");
    }
}

/// What `GET /health` says of the shards.
fn said(server: &Server) -> String {
    let health = server.get("/health").json();
    let check = health["checks"].as_array().unwrap().iter().find(|check| check["name"] == "consumer").unwrap().clone();
    check["detail"].as_str().unwrap().to_owned()
}

/// How many shards a process reads.
fn load(server: &Server) -> usize {
    let said = said(server);
    let count = said.split_once(" reads ").and_then(|(_, rest)| rest.split_once(" of 4 shards"));
    count.and_then(|(count, _)| count.parse().ok()).unwrap_or(usize::MAX)
}

/// Waits until the processes read so many shards, in whatever order.
#[track_caller]
fn until(servers: &[&Server], loads: &[usize]) {
    program::until(&format!("processes read {loads:?} shards"), || {
        let mut found: Vec<usize> = servers.iter().map(|server| load(server)).collect();
        found.sort_unstable();
        found == loads
    });
}

#[test]
fn shards_even_out_as_processes_join_crash_and_leave_and_every_line_counts_once() {
    let mut shared = Shared::new();
    let folders = [Folder::new(), Folder::new(), Folder::new()];
    let first = shared.join(&folders[0]);
    until(&[&first], &[4]);
    shared.flow(&first);

    let mut second = shared.join(&folders[1]);
    until(&[&first, &second], &[2, 2]);
    shared.flow(&second);

    let third = shared.join(&folders[2]);
    until(&[&first, &second, &third], &[1, 1, 2]);
    shared.flow(&third);
    let others = said(&first);
    assert_eq!(others.matches(" reads ").count(), 3, "each of the three is named: {others}");

    // Lines are on their way while it dies.
    let mut sending = Command::new(env!("CARGO_BIN_EXE_weir"));
    let stage = shared.files(shared.stages);
    shared.stages += 1;
    sending.args(["ingest", "--url", &first.url]).args(&stage).env("HOME", folders[0].root.path());
    let mut sending = sending.stdout(std::process::Stdio::null()).spawn().unwrap();
    second.child.kill().unwrap();
    second.child.wait().unwrap();
    until(&[&first, &third], &[2, 2]);
    assert!(sending.wait().unwrap().success());

    let left = third.stop().exits(0);
    until(&[&first], &[4]);
    shared.flow(&first);
    shared.is_exact();
    let told = first.stop().exits(0).complains(&["was taken over by", "nobody had it"]);
    // Whoever had less took what the dead one had.
    assert!([&left.err, &told.err].iter().any(|said| said.contains("has been silent")), "{left:?}\n{told:?}");
    shared.is_exact();
}

#[test]
fn a_process_that_stood_still_and_goes_on_harms_nothing() {
    let mut shared = Shared::new();
    let folders = [Folder::new(), Folder::new()];
    let (living, zombie) = (shared.join(&folders[0]), shared.join(&folders[1]));
    until(&[&living, &zombie], &[2, 2]);
    shared.flow(&zombie);
    // It holds lines that it has not committed, and its leases are taken while it sleeps.
    let sent = zombie.post("/ingest?service=s0", b"");
    assert!(sent.status < 500, "{sent:?}");
    zombie.signal("STOP");
    until(&[&living], &[4]);
    shared.flow(&living);
    zombie.signal("CONT");
    until(&[&living, &zombie], &[2, 2]);
    shared.flow(&zombie);
    shared.is_exact();
    living.stop().exits(0);
    until(&[&zombie], &[4]);
    shared.flow(&zombie);
    let told = zombie.stop().exits(0);
    told.complains(&["was taken over by"]);
    shared.is_exact();
}

/// Breaks what a process writes of its rows while it is shut, and remembers that it did.
#[derive(Default)]
struct Kept {
    is_shut: bool,
    rows: u64,
}

impl Guard for Kept {
    fn goes(&mut self, call: &Call) -> bool {
        let table = call.asked["TableName"].as_str().unwrap_or_default();
        let is_row = call.action == "PutItem" && table.ends_with("-ApplicationMetrics");
        self.rows += u64::from(self.is_shut && is_row);
        !(self.is_shut && is_row)
    }
}

#[test]
fn what_a_process_was_about_to_write_when_it_stood_still_is_refused_once_another_has_its_shards() {
    let (cloud, alone, folders) = (Cloud::new(), Folder::new(), [Folder::new(), Folder::new()]);
    let way = Way::to(&emulators::dynamodb().endpoint, Kept::default());
    let join = |folder: &Folder, endpoint: &str| {
        let mut command = cloud.command_in(folder, "up");
        command.args(["--listen", "127.0.0.1:0", "--shards", "4", "--failover", "2s"]);
        Server::start(command.env("AWS_ENDPOINT_URL_DYNAMODB", endpoint))
    };
    // Every second line of each minute, and then the others: both change the same rows.
    let half = |service: u64, odd: usize| {
        let all = lines(&format!("s{service}"), 0..LINES);
        let of_half = all.lines().skip(odd).step_by(2).map(|line| format!("{line}\n"));
        (format!("s{service}-{odd}"), of_half.collect::<String>())
    };
    let put = |odd: usize| {
        let files: Vec<_> = (0..FILES).map(|service| half(service, odd)).collect();
        alone.ingest(files.iter().map(|(name, text)| alone.file(name, text))).exits(0);
        Stream::of(&cloud).put(&files.iter().flat_map(batches).collect::<Vec<_>>());
    };
    let wait = |server: &Server, run: &str| {
        assert_eq!(server.post(&format!("/ingest?run={run}"), lines("waits", 0..1).as_bytes()).status, 202);
        server.settles(run);
    };
    let zombie = join(&folders[0], &way.endpoint);
    until(&[&zombie], &[4]);
    way.guard.lock().unwrap().is_shut = true;
    put(0);
    assert_eq!(zombie.post("/ingest?service=waits&run=held", b"\n").status, 202);
    program::until("rows are about to be written", || {
        // Somebody waits, so it is written at once.
        let _ = zombie.get("/runs/held?wait=1");
        way.guard.lock().unwrap().rows > 0
    });
    zombie.signal("STOP");
    let living = join(&folders[1], &emulators::dynamodb().endpoint);
    until(&[&living], &[4]);
    put(1);
    wait(&living, "all");
    way.guard.lock().unwrap().is_shut = false;
    zombie.signal("CONT");
    until(&[&living, &zombie], &[2, 2]);
    zombie.stop().exits(0);
    living.stop().exits(0);
    alone.ingest([alone.file("waits", lines("waits", 0..1))]).exits(0);
    assert_eq!(cloud.verifies()["digest"], alone.verifies()["digest"]);
}

#[test]
fn leases_are_as_the_kinesis_client_library_has_them_and_say_how_far_each_shard_was_read() {
    let mut shared = Shared::new();
    let folder = Folder::new();
    let only = shared.join(&folder);
    shared.flow(&only);
    assert!(only.begun.contains("kinesis://"), "{}", only.begun);
    only.stop().exits(0);
    let table = format!("{}-leases", shared.cloud.name);
    let rows = crate::cloud::scan(&table);
    assert_eq!(rows.len(), 4);
    for row in rows {
        assert!(row.get("leaseOwner").is_none(), "given back: {row:?}");
        let checkpoint: Value = row["checkpoint"].clone();
        let is_position = checkpoint.as_str().unwrap().bytes().all(|byte| byte.is_ascii_digit());
        assert!(is_position, "{row:?}");
    }
    // Who may make nothing is told which table is missing.
    let mut options = shared.cloud.options();
    options[3].push_str("-anew");
    let mut command = folder.command("ingest");
    let file = folder.file("one.log", lines("app", 0..3));
    let said = say(Cloud::lead(&mut command).args(options).arg(file)).exits(0);
    said.complains(&[&format!("made the table {}-anew-leases in us-east-1", shared.cloud.name)]);
}
