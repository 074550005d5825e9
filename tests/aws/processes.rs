//! Several processes on one pair, and processes that are killed: lines count once, and rows are what the stream says.

use std::{
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    bucket::{Bucket, lead},
    cloud::Cloud,
    logs::{gzip, lines},
    program::{Folder, say},
    way::{Call, Guard, Way},
};

const SERVICES: [&str; 4] = ["a", "b", "c", "d"];
const LINES: u64 = 3_000;

/// Files of several services, and the digest that they have on one machine.
fn logs(folder: &Folder) -> (Vec<std::path::PathBuf>, serde_json::Value) {
    let files = SERVICES.map(|service| folder.file(&format!("{service}.log"), lines(service, 0..LINES)));
    let local = Folder::new();
    local.ingest(&files).exits(0);
    (files.into(), local.verifies()["digest"].clone())
}

fn quiet(command: &mut Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn killed_again_and_again_an_ingest_counts_every_line_once() {
    let cloud = Cloud::new();
    let (files, expected) = logs(&cloud.folder);
    // An undisturbed run on another pair says how long one takes; kill points are shares of it.
    let whole = {
        let (other, begun) = (Cloud::new(), Instant::now());
        other.run("ingest", &files).exits(0);
        begun.elapsed()
    };
    let mut kills = 0;
    for share in [0.35, 0.5, 0.65, 0.8, 0.95] {
        let mut child = quiet(cloud.command("ingest").args(&files));
        let deadline = Instant::now() + whole.mul_f64(share);
        while Instant::now() < deadline && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(2));
        }
        let _ = child.kill();
        kills += u32::from(child.wait().unwrap().code().is_none());
    }
    assert!(kills > 0, "every run ended before its kill");
    cloud.run("ingest", &files).exits(0);
    assert_eq!(cloud.verifies()["digest"], expected, "after {kills} kills");
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
        while way.guard.lock().unwrap().records == 0 {
            assert!(child.try_wait().unwrap().is_none(), "it ended before it was killed");
            std::thread::sleep(Duration::from_millis(2));
        }
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
    let servers = [
        cloud.up(["--shards", "2"]),
        crate::program::Server::start(cloud.command_in(&second, "up").args(["--listen", "127.0.0.1:0"])),
    ];
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
