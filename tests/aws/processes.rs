//! Several processes on one pair, and processes that are killed: lines count once, and rows are what the stream says.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    bucket::{Bucket, lead},
    cloud::Cloud,
    logs::{gzip, lines},
    program::{Folder, Server, say, until},
    way::{Call, Guard, Way},
};

const SERVICES: [&str; 4] = ["a", "b", "c", "d"];
const LINES: u64 = 3_000;

/// Files of several services, and the digest that they have on one machine.
fn logs(folder: &Folder) -> (Vec<PathBuf>, serde_json::Value) {
    let files = SERVICES.map(|service| folder.file(&format!("{service}.log"), lines(service, 0..LINES)));
    let local = Folder::new();
    local.ingest(&files).exits(0);
    (files.into(), local.verifies()["digest"].clone())
}

fn quiet(command: &mut Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Counts what is written to stream and tables, and breaks all of it behind the last write that a process may make.
#[derive(Clone, Default)]
struct Writes {
    made: Arc<AtomicU64>,
    last: Arc<AtomicU64>,
}

impl Guard for Writes {
    fn goes(&mut self, call: &Call) -> bool {
        let table = call.asked["TableName"].as_str().unwrap_or_default();
        // How often a lease is renewed depends on the time that passes.
        let is_write = call.action.starts_with("Put") || call.action.contains("Write") || call.action == "UpdateItem";
        if !is_write || table.ends_with("-leases") {
            return true;
        }
        self.made.fetch_add(1, Ordering::SeqCst) < self.last.load(Ordering::SeqCst)
    }
}

#[test]
fn killed_again_and_again_an_ingest_counts_every_line_once() {
    let writes = Writes::default();
    let ways = [emulators::kinesis(), emulators::dynamodb()].map(|to| Way::to(&to.endpoint, writes.clone()));
    let ingest = |cloud: &Cloud, files: &[PathBuf]| {
        let mut command = cloud.command("ingest");
        command.env("AWS_ENDPOINT_URL_KINESIS", &ways[0].endpoint);
        command.env("AWS_ENDPOINT_URL_DYNAMODB", &ways[1].endpoint).args(files);
        command
    };
    let cloud = Cloud::new();
    let (files, expected) = logs(&cloud.folder);
    // An undisturbed run on another pair says how much one writes; each is killed once it has written a share of that, and is about to write more.
    writes.last.store(u64::MAX, Ordering::SeqCst);
    say(&mut ingest(&Cloud::new(), &files)).exits(0);
    let whole = writes.made.swap(0, Ordering::SeqCst);
    for tenth in [1, 3, 2] {
        let last = whole * tenth / 10;
        writes.made.store(0, Ordering::SeqCst);
        writes.last.store(last, Ordering::SeqCst);
        let mut child = quiet(&mut ingest(&cloud, &files));
        until("a write is kept back", || {
            assert!(child.try_wait().unwrap().is_none(), "it ended before its write {last} of {whole}");
            writes.made.load(Ordering::SeqCst) > last
        });
        child.kill().unwrap();
        child.wait().unwrap();
    }
    cloud.run("ingest", &files).exits(0);
    assert_eq!(cloud.verifies()["digest"], expected);
    cloud.run("ingest", &files).exits(0).complains(&["4 of 4 files hold nothing new"]);
}

/// Loses the answers to records with lines while it is armed; the stream has taken them. Remembers how many there were.
#[derive(Default)]
struct Taken {
    is_armed: bool,
    records: usize,
}

impl Guard for Taken {
    fn is_answered(&mut self, call: &Call, _: &mut serde_json::Value) -> bool {
        let records = call.asked["Records"].as_array().filter(|_| self.is_armed && call.action == "PutRecords");
        // What the system says itself has a place on the ring, lines have a key.
        let lines = records.into_iter().flatten().filter(|record| record["ExplicitHashKey"].is_null()).count();
        self.records += lines;
        lines == 0
    }
}

#[test]
fn killed_when_the_stream_has_taken_its_lines_an_ingest_of_a_bucket_goes_on_and_counts_every_line_once() {
    let (cloud, bucket) = (Cloud::new(), Bucket::new());
    let (files, expected) = logs(&cloud.folder);
    for (file, service) in files.iter().zip(SERVICES) {
        bucket.put(&format!("in/{service}.log.gz"), gzip(&std::fs::read_to_string(file).unwrap()));
    }
    let way = Way::to(&emulators::kinesis().endpoint, Taken::default());
    let run = || {
        let mut command = cloud.command("ingest");
        lead(&mut command).env("AWS_ENDPOINT_URL_KINESIS", &way.endpoint).arg(bucket.url("in/"));
        command
    };
    for _ in 0..2 {
        *way.guard.lock().unwrap() = Taken { is_armed: true, records: 0 };
        let mut child = quiet(&mut run());
        until("the stream has taken lines", || {
            assert!(child.try_wait().unwrap().is_none(), "it ended before it was killed");
            way.guard.lock().unwrap().records > 0
        });
        child.kill().unwrap();
        child.wait().unwrap();
    }
    way.guard.lock().unwrap().is_armed = false;
    say(&mut run()).exits(0);
    assert_eq!(cloud.verifies()["digest"], expected);
    say(&mut run()).exits(0).complains(&["4 were read before"]);
}

#[test]
fn two_processes_work_on_one_pair_and_a_third_reads_into_it() {
    let cloud = Cloud::new();
    let (files, expected) = logs(&cloud.folder);
    let second = Folder::new();
    // Who waits for lines that another process folds is seen at its next look at the leases, three times in that time.
    let up = |cache: &Folder| {
        let mut command = cloud.command_in(cache, "up");
        Server::start(command.args(["--listen", "127.0.0.1:0", "--shards", "2", "--failover", "2s"]))
    };
    let servers = [up(&cloud.folder), up(&second)];
    assert!(servers[0].begun.contains(&format!("kinesis://{} and dynamodb://{}", cloud.name, cloud.name)));
    // Half of it through each of the two servers, and all of it once more by a process of its own.
    for (number, file) in files.iter().enumerate() {
        let folder = Folder::new();
        let mut command = crate::program::weir(folder.root.path());
        command.args(["ingest", "--url", &servers[number % 2].url, "--as", SERVICES[number]]).arg(file);
        say(&mut command).exits(0);
    }
    let third = Folder::new();
    assert_eq!(cloud.verifies()["digest"], expected);
    for (file, name) in files.iter().zip(SERVICES) {
        let said = say(cloud.command_in(&third, "ingest").arg(file).args(["--as", name])).exits(0);
        assert!(said.out.contains("folded 0 + skipped 0"), "{said:?}");
    }
    // New lines, which those fold that have the shards: they alone know what became of each, and where that is to be seen is said.
    let more = third.file("more.log", lines("more", 0..40));
    let said = say(cloud.command_in(&third, "ingest").arg(&more).args(["--as", "more"])).exits(0);
    let last = "accepted 40 = folded 0 + skipped 0 + duplicate 0 + dead 0 + folded by another process 40";
    assert_eq!(said.last_line(), last, "{said:?}");
    said.complains(&["40 lines (1 record) are durable", "`weir ingest --url URL`", "(GET /balance): accepted "]);
    for server in &servers {
        let health = server.get("/health");
        assert_eq!(health.status, 200, "{health:?}");
    }
    let digest = cloud.verifies()["digest"].clone();
    for server in servers {
        server.stop().exits(0);
    }
    assert_eq!(cloud.verifies()["digest"], digest);
}
