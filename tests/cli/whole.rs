//! `weir replay --start archive`: a generation of all that the archive has and the stream behind it, where the stream has let go of its beginning; killed,
//! with an archive that is damaged, cut or another's.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::Stdio,
};

use crate::{
    history,
    logs::{NONE, latencies, lines, sum},
    program::{Folder, Said},
};

fn url(folder: &Folder) -> String {
    format!("file://{}", folder.path("archive").display())
}

fn replay(folder: &Folder, name: &str) -> Said {
    folder.run("replay", ["--start", "archive", "--archive", &url(folder), "--generation", name])
}

fn digest(folder: &Folder) -> serde_json::Value {
    let report = folder.run("verify", ["--json", "--archive", &url(folder)]).exits(0).json();
    assert_eq!((&report["differences"], &report["older_than_stream"]), (&0.into(), &0.into()), "{report}");
    report["digest"].clone()
}

fn segments(archive: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    for shard in std::fs::read_dir(archive.join("stream")).unwrap() {
        found.extend(std::fs::read_dir(shard.unwrap().path()).unwrap().map(|entry| entry.unwrap().path()));
    }
    found.sort();
    found
}

/// A folder in which an alarm rang and fell silent, archived; the stream has let go of the first half of it.
fn half_gone() -> (Folder, serde_json::Value) {
    let folder = Folder::new();
    let transitions = history::long(&folder.data, 2);
    folder.up(["--archive", &url(&folder)]).stop().exits(0);
    assert!(history::let_go(&folder.data, 5) > 1, "segments of both shards are gone");
    (folder, transitions)
}

#[test]
fn rows_from_the_archive_are_those_of_the_generation_that_folded_the_stream_whole() {
    let (folder, _) = half_gone();
    let before = digest(&folder);
    let short = folder.run("replay", ["--start", "oldest", "--generation", "short"]).exits(1);
    assert!(
        short.out.contains("earlier ones are read from the parent"),
        "the stream alone does not have it: {short:?}"
    );
    let said = replay(&folder, "whole").exits(0).complains(&[
        "every record from the first record on is folded again",
        "it is read from the archive",
        "it has caught up, and goes on beside the one that counts",
    ]);
    assert!(!said.err.contains("missing:"), "{said:?}");
    assert!(said.out.starts_with("compared whole with first: 0 of 4 windows differ, 0 of 4 decisions"), "{said:?}");
    folder.run("promote", ["whole"]).exits(0);
    assert_eq!(digest(&folder), before);
    // It goes on on the stream, without the archive.
    folder.ingest([folder.file("app.log", lines("app", 0..300))]).exits(0);
    assert_eq!(latencies(&folder, "app"), (300, sum(0..300)));
    let same = folder.run("generations", ["--compare", "first"]).exits(0);
    assert!(same.out.contains("0 of 9 windows differ"), "{same:?}");
}

#[test]
fn a_generation_that_knows_more_than_the_one_that_counts_differs_by_windows_and_decisions_and_all_are_named() {
    let (folder, transitions) = half_gone();
    // Made anew of what the stream still has, the rows lack the alarm, and the lines that it rang for.
    std::fs::remove_file(folder.data.join("rows.redb")).unwrap();
    folder.run("alarms", [history::ALARM]).exits(2);
    let said = replay(&folder, "whole").exits(1);
    assert!(said.out.contains("3 of 4 windows differ, 4 of 4 decisions of alarms differ"), "{said:?}");
    for change in transitions.as_array().unwrap() {
        let (time, to) = (change["time"].as_str().unwrap(), change["to"].as_str().unwrap());
        let line = format!("  alarm `slow` at {time} (tenant local): unchanged there, {to} in whole");
        assert!(said.out.lines().any(|said| said == line), "{line}: {said:?}");
    }
    let listed = folder.run("generations", NONE).exits(0);
    assert!(listed.out.contains("3 of 4 windows and 4 of 4 decisions differ from first"), "{listed:?}");
    folder.run("promote", ["whole"]).exits(0);
    let alarm = folder.run("alarms", [history::ALARM, "--json"]).exits(0).json();
    assert_eq!(alarm["transitions"], transitions);
}

#[test]
fn one_that_is_killed_goes_on_from_the_archive_where_it_was() {
    let folder = Folder::new();
    let server = folder.up(["--shards", "2", "--archive", &url(&folder)]);
    folder.ingest([folder.file("app.log", lines("app", 0..200_000))]).exits(0);
    server.stop().exits(0);
    for round in 0..4 {
        let mut command = folder.command("replay");
        command.args(["--start", "archive", "--archive", &url(&folder), "--generation", "new"]);
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("generation new: every record"), "{line}");
        child.kill().unwrap();
        child.wait().unwrap();
        if round == 0 {
            // Nobody goes on with it by himself.
            let next = "`weir replay --generation new --archive URL` goes on with it";
            folder.run("promote", ["new"]).exits(2).complains(&["has not caught up yet", next]);
        }
    }
    let said = folder.run("replay", ["--generation", "new", "--archive", &url(&folder)]).exits(0);
    assert!(said.out.contains(": 0 of "), "{said:?}");
    folder.run("promote", ["new"]).exits(0);
    assert_eq!(latencies(&folder, "app"), (200_000, sum(0..200_000)));
    digest(&folder);
}

#[test]
fn a_running_weir_fills_one_from_its_own_archive() {
    let (folder, _) = half_gone();
    let server = folder.up(["--archive", &url(&folder)]);
    let refused = replay(&folder, "whole");
    refused.exits(2).complains(&["reads the archive that it was started with", "leave --archive out"]);
    let said = folder.run("replay", ["--start", "archive", "--generation", "whole"]).exits(0);
    assert!(said.out.contains("0 of 4 windows differ, 0 of 4 decisions"), "{said:?}");
    server.stop().exits(0);
}

#[test]
fn a_running_weir_without_an_archive_has_to_be_started_with_one_and_no_option_of_the_command_helps() {
    let folder = Folder::new();
    folder.ingest([folder.file("app.log", lines("app", 0..3))]).exits(0);
    let server = folder.up(NONE);
    let said = folder.run("replay", ["--start", "archive", "--generation", "whole"]).exits(2);
    let next = format!("the weir at {} carries this out, and was started without one", server.url);
    let said = said.complains(&["there is no archive to read", &next, "`weir up --archive URL`"]);
    assert!(!said.err.contains("give --archive"), "{said:?}");
    let said = replay(&folder, "whole").exits(2).complains(&["there is no archive to read", &next]);
    assert!(!said.err.contains("leave --archive out"), "{said:?}");
    server.stop().exits(0);
}

#[test]
fn an_archive_that_is_none_or_anothers_or_damaged_is_named_with_what_to_do() {
    let (folder, _) = half_gone();
    let start = ["--start", "archive", "--generation", "whole"];
    folder.run("replay", start).exits(2).complains(&["there is no archive to read: give --archive URL"]);
    let other = Folder::new();
    other.ingest([other.file("a.log", lines("app", 0..3))]).exits(0);
    let of_another = ["--archive", &url(&folder)];
    other
        .run("replay", start.into_iter().chain(of_another))
        .exits(2)
        .complains(&["archive.json is that of the stream embedded stream", "a prefix of its own"]);
    // A byte at its beginning is found before anything is opened, one further on when it is read; mended, it goes on.
    let server = folder.up(["--archive", &url(&folder)]);
    folder.ingest([folder.file("app.log", lines("app", 0..300))]).exits(0);
    server.stop().exits(0);
    let segments = segments(&folder.path("archive"));
    let [first, last] = [&segments[0], &segments[segments.len() - 1]];
    for (harmed, goes_on) in [(first, false), (last, true)] {
        let whole = std::fs::read(harmed).unwrap();
        let mut bytes = whole.clone();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(harmed, bytes).unwrap();
        let said = replay(&folder, "whole").exits(2);
        let said = said.complains(&[harmed.to_str().unwrap(), "is damaged", "Restore that object, or move it away"]);
        let next = "`weir replay --generation whole` goes on where it was";
        assert_eq!(said.err.contains(next), goes_on, "{said:?}");
        std::fs::write(harmed, whole).unwrap();
    }
    let said = folder.run("replay", ["--generation", "whole", "--archive", &url(&folder)]).exits(0);
    assert!(said.out.contains("0 of 9 windows differ, 0 of 4 decisions"), "{said:?}");
    // One that is gone leaves a hole. What comes behind it is of one minute, or of two where this test ran across a full one.
    std::fs::remove_file(first).unwrap();
    let said = replay(&folder, "cut");
    let refused = said.err.contains("no record arrived at or after");
    let missing =
        if refused { "of the archive is missing: shardId-000000000000" } else { "missing: shardId-000000000000" };
    assert_eq!(said.code == Some(2), refused, "{said:?}");
    said.complains(&[missing, "are gone from the archive: none ends at"]);
}

#[test]
fn a_shard_that_the_archive_has_nothing_of_is_named_where_the_stream_has_let_go_of_its_beginning() {
    let (folder, _) = half_gone();
    let missing = ["shardId-000000000000: the archive has nothing of it, and it is read from the stream alone"];
    std::fs::remove_dir_all(folder.path("archive").join("stream/shardId-000000000000")).unwrap();
    let said = replay(&folder, "cut");
    assert!(said.err.contains(missing[0]), "{said:?}");
    let verified = folder.run("verify", ["--archive", &url(&folder)]);
    assert!(verified.out.contains(missing[0]), "{verified:?}");
    // Nobody misses what the stream itself has.
    let other = Folder::new();
    let server = other.up(["--shards", "2", "--archive", &url(&other)]);
    other.ingest([other.file("a.log", lines("app", 0..300))]).exits(0);
    server.stop().exits(0);
    std::fs::remove_dir_all(other.path("archive").join("stream/shardId-000000000000")).unwrap();
    let said = replay(&other, "whole").exits(0);
    assert!(!said.err.contains("has nothing of it"), "{said:?}");
}
