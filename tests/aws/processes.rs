//! Several processes on one pair, and processes that are killed: lines count once, and rows are what the stream says.

use std::{
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    cloud::Cloud,
    logs::lines,
    program::{Folder, say},
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
    for (file, name) in files.iter().zip(SERVICES) {
        let said = say(cloud.command_in(&third, "ingest").arg(file).args(["--as", name])).exits(0);
        assert!(said.out.contains("folded 0 + skipped 0"), "{said:?}");
    }
    for server in &servers {
        let health = server.get("/health");
        assert_eq!(health.status, 200, "{health:?}");
    }
    assert_eq!(cloud.verifies()["digest"], expected);
    for server in servers {
        server.stop().exits(0);
    }
    assert_eq!(cloud.verifies()["digest"], expected);
}
