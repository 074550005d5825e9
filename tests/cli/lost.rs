//! `weir ingest` where something is lost or held: the list of files, part of the stream, the server in the middle, the folder's lock.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::Stdio,
};

use crate::{
    logs::{NONE, latencies, lines, sum},
    program::{Folder, Server},
};

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn a_list_of_files_that_was_deleted_is_missed() {
    let folder = Folder::new();
    let file = folder.file("app.log", lines("app", 0..100));
    folder.ingest([&file]).exits(0);
    std::fs::remove_dir_all(folder.data.join("readers")).unwrap();
    let said = folder.ingest([&file]).exits(2);
    said.complains(&["readers", "is gone", "counted again", "Restore it", "--again"]);
    assert_eq!(latencies(&folder, "app"), (100, sum(0..100)));
    let said = folder.ingest([file.as_os_str(), "--again".as_ref()]).exits(0);
    assert_eq!(said.last_line(), "accepted 100 = folded 100 + skipped 0 + duplicate 0 + dead 0");
    folder.ingest([&file]).exits(0).complains(&["hold nothing new"]);
}

#[test]
fn lines_that_a_restored_backup_lacks_are_read_again() {
    let folder = Folder::new();
    let file = folder.file("app.log", lines("app", 0..1_000));
    folder.ingest([&file]).exits(0);
    let backup = folder.path("backup");
    for name in ["stream", "rows.redb"] {
        let (from, to) = (folder.data.join(name), backup.join(name));
        if from.is_dir() { copy(&from, &to) } else { std::fs::copy(from, to).map(|_| ()).unwrap() }
    }
    folder.file("app.log", lines("app", 0..3_000));
    let other = folder.file("other.log", lines("other", 0..10));
    folder.ingest([&file, &other]).exits(0);
    std::fs::remove_dir_all(folder.data.join("stream")).unwrap();
    std::fs::remove_file(folder.data.join("rows.redb")).unwrap();
    copy(&backup, &folder.data);
    // Any command may be the first to open it, and each opening raises the stream's epoch.
    for _ in 0..3 {
        assert_eq!(latencies(&folder, "app"), (1_000, sum(0..1_000)));
    }
    let said = folder.ingest([&file, &other]).exits(0).complains(&["restored from an older backup", "duplicate"]);
    assert_eq!(said.last_line(), "accepted 3010 = folded 2010 + skipped 0 + duplicate 1000 + dead 0");
    assert_eq!(latencies(&folder, "app"), (3_000, sum(0..3_000)));
    assert_eq!(latencies(&folder, "other"), (10, sum(0..10)));
    folder.ingest([&file, &other]).exits(0).complains(&["2 of 2 files hold nothing new"]);
    folder.verifies();
}

#[test]
fn a_server_that_ends_in_the_middle_is_said_and_the_same_again_gives_exact_totals() {
    for kill in [true, false] {
        let folder = Folder::new();
        let mut server = folder.up(NONE);
        let small: Vec<_> =
            (0..50).map(|i| folder.file(&format!("small-{i}.log"), lines("small", i * 10..i * 10 + 10))).collect();
        let large = folder.file("large.log", lines("large", 0..1_000));
        let mut ingest = folder.command("ingest");
        ingest.args(["-"]).arg(&large).args(&small).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut ingest = ingest.spawn().unwrap();
        // It waits for its input, so the server ends before all of it is sent.
        while !folder.data.join("readers").exists() {
            std::thread::yield_now();
        }
        if kill {
            server.child.kill().unwrap();
            server.child.wait().unwrap();
        } else {
            server.stop().exits(0);
        }
        drop(ingest.stdin.take());
        let output = ingest.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        for words in ["does not answer", "lines are durable", "run the same again", "nothing is counted twice"] {
            assert!(said.contains(words), "{words}: {said}");
        }
        assert!(said.lines().count() <= 4, "one cause, one message: {said}");
        folder.ingest([&large]).exits(0);
        folder.ingest(&small).exits(0);
        assert_eq!(latencies(&folder, "large"), (1_000, sum(0..1_000)));
        assert_eq!(latencies(&folder, "small"), (500, sum(0..500)));
        folder.verifies();
    }
}

#[test]
fn up_waits_for_a_command_that_has_the_folder_and_says_for_whom() {
    let folder = Folder::new();
    let mut first = folder.command("ingest");
    let mut first = first.arg("-").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while !folder.data.join("readers").exists() {
        std::thread::yield_now();
    }
    let mut up = folder.command("up");
    let mut up = up.args(["--listen", "127.0.0.1:0"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut says = String::new();
    let mut err = BufReader::new(up.stderr.take().unwrap());
    err.read_line(&mut says).unwrap();
    let whom = format!("waiting for weir ingest (process {})", first.id());
    assert!(says.contains(&whom) && says.contains(folder.data.to_str().unwrap()), "{says}");
    drop(first.stdin.take());
    assert!(first.wait().unwrap().success());
    let mut out = BufReader::new(up.stdout.take().unwrap());
    says.clear();
    out.read_line(&mut says).unwrap();
    assert!(says.starts_with("weir serves http://"), "{says}");
    let file = folder.file("app.log", lines("app", 0..10));
    folder.ingest([&file]).exits(0);
    // A second one on the same folder has nothing to wait for.
    let said = folder.run("up", ["--listen", "127.0.0.1:0"]).exits(2);
    said.complains(&["in use", "which serves http://"]);
    up.kill().unwrap();
    up.wait().unwrap();
}

#[test]
fn both_orders_of_starting_up_and_ingest_together_work() {
    for round in 0..6 {
        let folder = Folder::new();
        let file = folder.file("app.log", lines("app", 0..100));
        std::thread::scope(|scope| {
            let ingest = || folder.ingest([&file]).exits(0);
            let ingest = (round % 2 == 0).then(|| scope.spawn(ingest));
            let server = Server::start(folder.command("up").args(["--listen", "127.0.0.1:0"]));
            match ingest {
                Some(ingest) => ingest.join().unwrap(),
                None => folder.ingest([&file]).exits(0),
            };
            server.stop().exits(0);
        });
        assert_eq!(latencies(&folder, "app"), (100, sum(0..100)));
    }
}
