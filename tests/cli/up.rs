//! `weir up` and `weir demo`: who goes through it, how it ends, and what a killed one leaves.

use crate::{
    logs::{NONE, latencies, lines, plain, sum},
    program::{Folder, Server, say, weir},
};

#[test]
fn every_command_on_its_folder_goes_through_it_and_its_end_changes_no_answer() {
    let folder = Folder::new();
    let server = folder.up(NONE);
    assert!(server.begun.contains(folder.data.to_str().unwrap()), "{}", server.begun);
    assert_eq!(server.get("/health").status, 200);
    let file = folder.file("app.log", lines("app", 0..1_000));
    let said = folder.ingest([&file]).exits(0);
    assert_eq!(said.last_line(), "accepted 1000 = folded 1000 + skipped 0 + duplicate 0 + dead 0");
    let ask = || {
        let metrics = folder.run("metrics", ["--json"]).exits(0).out;
        (metrics, folder.verifies()["digest"].clone(), folder.run("alarms", ["--json"]).exits(0).out)
    };
    let through = ask();
    assert_eq!(server.stop().exits(0).err, "");
    assert_eq!(ask(), through, "the same without it");
    // The reader's list is the same, too.
    folder.ingest([&file]).exits(0).complains(&["hold nothing new"]);
    let server = folder.up(NONE);
    folder.ingest([&file]).exits(0).complains(&["hold nothing new"]);
    assert_eq!(ask(), through, "the same through the next");
    server.stop().exits(0);
}

#[test]
fn it_drains_on_either_signal_and_what_was_taken_by_then_is_in() {
    for signal in ["INT", "TERM"] {
        let folder = Folder::new();
        let server = folder.up(NONE);
        assert_eq!(server.post("/ingest?service=app", lines("app", 0..5_000).as_bytes()).status, 202);
        server.signal(signal);
        server.end().exits(0);
        // Nobody waited for the fold; the drain did.
        assert_eq!(latencies(&folder, "app"), (5_000, sum(0..5_000)), "{signal}");
        folder.verifies();
    }
}

#[test]
fn it_drains_also_when_it_is_told_to_end_as_soon_as_it_has_said_its_address() {
    let folder = Folder::new();
    // The moment is short: without the signal being listened for by then, two in five were cut off.
    for _ in 0..12 {
        folder.up(NONE).stop().exits(0);
    }
}

#[test]
fn a_url_reaches_it_from_another_folder_which_keeps_its_own_list_for_it() {
    let folder = Folder::new();
    let server = folder.up(NONE);
    let file = folder.file("app.log", lines("app", 0..10));
    let (file, here) = (file.to_str().unwrap(), folder.path("here"));
    let here = here.to_str().unwrap();
    let through = ["ingest", file, "--url", &server.url, "--data", here];
    plain(&folder, &through).exits(0);
    plain(&folder, &through).exits(0).complains(&["hold nothing new"]);
    let rows =
        plain(&folder, &["metrics", "--url", &server.url, "--metric", "latency", "--json"]).exits(0).json_lines();
    assert_eq!(rows[0]["count"], 10);
    plain(&folder, &["verify", "--url", &server.url]).exits(0);
    // The folder here has none of it.
    plain(&folder, &["ingest", file, "--data", here]).exits(0);
    server.stop().exits(0);
}

#[test]
fn the_address_that_a_killed_one_left_leads_nobody_to_another_folder() {
    let (first, second) = (Folder::new(), Folder::new());
    let mut killed = first.up(NONE);
    first.ingest([first.file("app.log", lines("first", 0..10))]).exits(0);
    killed.child.kill().unwrap();
    killed.child.wait().unwrap();
    let address = killed.url.strip_prefix("http://").unwrap();
    let left = std::fs::read(first.data.join("address")).unwrap();
    // Another weir, on another folder, now listens where the killed one did.
    let other = Server::start(second.command("up").args(["--listen", address]));
    assert_eq!(latencies(&first, "first").0, 10);
    first.ingest([first.file("more.log", lines("more", 0..10))]).exits(0);
    assert_eq!(latencies(&first, "more").0, 10);
    assert_eq!(latencies(&second, "more").0, 0);
    // A command that has just locked the first folder, and has not taken away yet what the killed one left there.
    let held = std::fs::File::create(first.data.join("lock")).unwrap();
    held.lock().unwrap();
    std::fs::write(first.data.join("lock"), "weir test (process 1)").unwrap();
    std::fs::write(first.data.join("address"), &left).unwrap();
    first.run("metrics", NONE).exits(2).complains(&["in use", "serves no address (weir test (process 1))"]);
    drop(held);
    // Its URL is the other's, and the first folder's list of files says nothing of it.
    std::fs::write(first.data.join("address"), &other.url).unwrap();
    let said = plain(
        &first,
        &[
            "ingest",
            first.path("app.log").to_str().unwrap(),
            "--url",
            &other.url,
            "--data",
            first.data.to_str().unwrap(),
        ],
    );
    assert_eq!(said.exits(0).last_line(), "accepted 10 = folded 10 + skipped 0 + duplicate 0 + dead 0");
    other.stop().exits(0);
}

#[test]
fn what_a_killed_one_had_taken_can_be_read_by_the_first_command_after_it() {
    let folder = Folder::new();
    let mut server = folder.up(NONE);
    // Durable by the answer; folded and committed perhaps not.
    for part in 0..20 {
        let body = lines("app", part * 500..part * 500 + 500);
        assert_eq!(server.post("/ingest?service=app", body.as_bytes()).status, 202);
    }
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    assert_eq!(latencies(&folder, "app"), (10_000, sum(0..10_000)));
    folder.verifies();
}

#[test]
fn the_demo_serves_what_it_says_and_takes_its_folder_away() {
    let folder = Folder::new();
    let temporary = folder.path("temporary");
    std::fs::create_dir(&temporary).unwrap();
    let server =
        Server::start(weir(folder.root.path()).args(["demo", "--listen", "127.0.0.1:0"]).env("TMPDIR", &temporary));
    assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 1);
    let url = server.url.clone();
    assert_eq!(server.get("/health").status, 200);
    assert!(server.get("/").body.contains("<html"), "a page for people");
    server.signal("INT");
    // What it says to try is tried while it drains no sooner than the test has asked: so on a second one.
    let said = server.end().exits(0);
    assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 0, "{said:?}");
    // As it was called, so that it can be copied.
    let program = format!("{} ", env!("CARGO_BIN_EXE_weir"));
    let proposed: Vec<_> =
        said.out.lines().filter_map(|line| line.trim_start_matches([' ', '$']).strip_prefix(&program)).collect();
    assert!(proposed.len() >= 6, "{said:?}");

    let server =
        Server::start(weir(folder.root.path()).args(["demo", "--listen", "127.0.0.1:0"]).env("TMPDIR", &temporary));
    for line in proposed.iter().filter(|line| !line.starts_with("ingest")) {
        let arguments = line.replace(&url, &server.url);
        let said = say(weir(folder.root.path()).args(arguments.split_whitespace())).exits(0);
        assert!(said.out.lines().count() > 1, "{line}: {said:?}");
    }
    server.signal("INT");
    server.end().exits(0);
}
