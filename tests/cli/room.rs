//! A disk that is full: a clear error, nothing lost, and it goes on when there is room.

use std::{path::Path, process::Command};

use crate::{
    logs::{latencies, lines, sum},
    program::{Folder, Said, Server, clean, say},
};

const LINES: u64 = 30_000;

/// `weir ingest` where no file may grow past a limit: a full disk that needs no rights to make.
fn ingest_within(folder: &Folder, kib: u64, file: &Path) -> Said {
    say(within(folder, kib, "ingest").arg(file))
}

fn within(folder: &Folder, kib: u64, command: &str) -> Command {
    let mut shell = Command::new("bash");
    clean(&mut shell, folder.root.path());
    // A write past the limit is to fail like any other, and not to end the process by a signal.
    let script = format!("trap '' XFSZ; ulimit -f {kib}; exec \"$@\"");
    shell.args(["-c", &script, "bash", env!("CARGO_BIN_EXE_weir"), command, "--data"]).arg(&folder.data);
    shell
}

#[test]
fn files_that_may_not_grow_are_named_and_with_room_it_goes_on() {
    let sources = Folder::new();
    let file = sources.file("app.log", lines("app", 0..LINES));
    // The folder cannot be made; the stream, the rows and the list of files cannot grow.
    for (kib, made_before) in [(100, false), (30_000, false), (200, true), (1_000, true), (2_000, true)] {
        let folder = Folder::new();
        if made_before {
            folder.ingest([folder.file("first.log", lines("first", 0..10))]).exits(0);
        }
        let said = ingest_within(&folder, kib, &file);
        assert!(matches!(said.code, Some(1 | 2)), "{kib} KiB: {said:?}");
        let said = said.complains(&["File too large", "make some, then run the same again"]);
        assert!(!said.err.contains("end this process"), "it has ended: {said:?}");
        let said = folder.ingest([&file]).exits(0);
        assert!(!said.out.is_empty(), "{kib} KiB");
        assert_eq!(latencies(&folder, "app"), (LINES, sum(0..LINES)), "{kib} KiB");
        assert_eq!(latencies(&folder, "first").0, if made_before { 10 } else { 0 });
        folder.verifies();
    }
}

/// Minutes of each service of `many_rows`.
const MINUTES: u64 = 1_440;

/// A line for each of many minutes and services: rows need more room than lines.
fn many_rows(name: &str, services: u64) -> String {
    let of = |service: u64| (0..MINUTES).map(move |i| lines(&format!("{name}-{service}"), i * 60..i * 60 + 1));
    (0..services).flat_map(of).collect()
}

#[track_caller]
fn assert_all(folder: &Folder, name: &str, services: u64) {
    let said = folder.run("metrics", ["--metric", "latency", "--json"]).exits(0);
    let mut rows = 0;
    for row in said.json_lines().iter().filter(|row| row["service"].as_str().unwrap().starts_with(name)) {
        rows += 1;
        assert_eq!(row["count"], 1, "{row}");
    }
    assert_eq!(rows, MINUTES * services);
}

#[test]
fn a_running_weir_up_that_runs_out_of_room_says_so_and_ends_and_what_it_took_is_there_afterwards() {
    let folder = Folder::new();
    folder.up(["--shards", "1"]).stop().exits(0);
    let file = folder.file("app.log", many_rows("app", 12));
    // The stream takes the lines within the limit; the rows need more.
    let mut up = within(&folder, 1_750, "up");
    let mut server = Server::start(up.args(["--listen", "127.0.0.1:0"]));
    let said = folder.ingest([&file]);
    assert!(matches!(said.code, Some(1 | 2)), "{said:?}");
    // Whether it stops while lines come in or while they are folded, nobody has to tell it.
    server.child.wait().unwrap();
    let said = server.end().exits(2).complains(&["rows.redb", "File too large", "make some, then run the same again"]);
    assert!(!said.err.contains("retry") && !said.err.contains("tried again"), "the process has ended: {said:?}");
    folder.ingest([&file]).exits(0);
    assert_all(&folder, "app", 12);
    folder.verifies();
}
