//! What takes long says so on standard error: in one line for everybody, and how far it is on a terminal only.

use std::process::Command;

use events::position::ShardId;
use projections::{
    fold::FOLD_REVISION,
    store::{Checkpoint, Commit, Generation, Kind, Row, Span, Store},
};
use weir::LocalStore;

use crate::{
    logs::{NONE, latencies, lines, sum},
    program::{Folder, Said, clean, say},
};

/// The program with a terminal for its standard error, and for its standard output.
fn on_a_terminal(folder: &Folder, command: &str) -> Said {
    let mut python = Command::new("python3");
    clean(&mut python, folder.root.path());
    let script = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";
    say(python.args(["-c", script, env!("CARGO_BIN_EXE_weir"), command, "--data"]).arg(&folder.data))
}

/// The folder's rows as an earlier revision of the fold made them, all of them on one shard.
#[tokio::main(flavor = "current_thread")]
async fn made_by_an_earlier_fold(folder: &Folder) {
    let (path, other_path) = (folder.data.join("rows.redb"), folder.data.join("other.redb"));
    let (old, other) = (LocalStore::open(&path).unwrap(), LocalStore::open(&other_path).unwrap());
    let mut rows = vec![];
    for kind in Kind::ALL {
        let span = Span::All { tenant: None, generation: Generation(0), kind };
        let page = old.scan(&span, None, 10_000.try_into().unwrap()).await.unwrap();
        assert!(page.next_after.is_none());
        rows.extend(page.rows.into_iter().map(|row| Row { fold_revision: FOLD_REVISION - 1, ..row }));
    }
    let (checkpoint, parts) = old.checkpoint(Generation(0), &ShardId::numbered(0)).await.unwrap().unwrap();
    let checkpoint = Checkpoint { fold_revision: FOLD_REVISION - 1, ..checkpoint };
    let parts = checkpoint.parts.iter().cloned().zip(parts).collect();
    other.commit(Commit { rows, parts, checkpoint }).await.unwrap();
    drop((old, other));
    std::fs::rename(other_path, path).unwrap();
}

/// A folder of one shard with these lines.
fn with_lines(count: u64) -> Folder {
    let folder = Folder::new();
    folder.up(["--shards", "1"]).stop().exits(0);
    folder.ingest([folder.file("app.log", lines("app", 0..count))]).exits(0);
    folder
}

#[test]
fn rows_of_an_earlier_fold_are_made_anew_and_every_command_says_so_once() {
    let folder = with_lines(1_000);
    let more = folder.file("more.log", lines("more", 0..10));
    let alarm = r#"{"AlarmName":"a","ServiceName":"app","MetricName":"errors","Statistic":"Sum","Period":60,"EvaluationPeriods":1,
        "Threshold":1,"ComparisonOperator":"GreaterThanThreshold"}"#;
    let alarm = folder.file("alarm.json", alarm);
    let commands = [
        vec!["metrics"],
        vec!["alarms"],
        vec!["verify"],
        vec!["ingest", more.to_str().unwrap()],
        vec!["apply", alarm.to_str().unwrap()],
    ];
    let words = format!("were made by revision {} of the fold", FOLD_REVISION - 1);
    for command in commands {
        made_by_an_earlier_fold(&folder);
        let said = folder.run(command[0], &command[1..]).exits(0).complains(&[&words, folder.data.to_str().unwrap()]);
        assert_eq!(said.err.matches("made anew from the stream").count(), 1, "{command:?}: {said:?}");
        assert!(!said.err.contains('%'), "no progress where there is no terminal: {said:?}");
        let again = folder.run("metrics", NONE).exits(0);
        assert!(!again.err.contains("revision"), "{command:?}: {again:?}");
    }
    made_by_an_earlier_fold(&folder);
    let server = folder.up(NONE);
    assert_eq!(latencies(&folder, "app"), (1_000, sum(0..1_000)));
    server.stop().exits(0).complains(&[&words]);
    made_by_an_earlier_fold(&folder);
    let said = on_a_terminal(&folder, "metrics").exits(0);
    assert!(said.out.contains(&words) && said.out.contains('%'), "{said:?}");
    folder.verifies();
}

#[test]
fn rows_that_were_moved_away_are_made_anew_and_it_is_said() {
    let folder = with_lines(20_000);
    let before = folder.verifies()["digest"].clone();
    let rows = folder.data.join("rows.redb");
    std::fs::rename(&rows, folder.path("moved")).unwrap();
    let said = folder.run("metrics", ["--service", "app", "--metric", "latency"]).exits(0);
    let said = said.complains(&["are gone", "made anew from the stream"]);
    assert!(!said.err.contains('%'), "{said:?}");
    assert_eq!(latencies(&folder, "app"), (20_000, sum(0..20_000)));
    assert_eq!(folder.verifies()["digest"], before);
    std::fs::remove_file(&rows).unwrap();
    let server = folder.up(NONE);
    server.stop().exits(0).complains(&["made anew from the stream"]);
    assert_eq!(folder.run("metrics", ["--metric", "latency"]).exits(0).err, "");
    assert_eq!(folder.verifies()["digest"], before);
}

#[test]
fn rows_that_are_older_than_the_stream_are_waited_for_and_it_is_said() {
    let folder = with_lines(300);
    let (rows, older) = (folder.data.join("rows.redb"), folder.path("older"));
    std::fs::copy(&rows, &older).unwrap();
    folder.ingest([folder.file("more.log", lines("app", 300..20_000))]).exits(0);
    let before = folder.verifies()["digest"].clone();
    std::fs::copy(&older, &rows).unwrap();
    let said = folder.run("metrics", ["--service", "app", "--metric", "latency"]).exits(0);
    let said = said.complains(&["of the stream are not in the rows yet", "folded first"]);
    assert!(!said.err.contains('%'), "{said:?}");
    assert_eq!(latencies(&folder, "app"), (20_000, sum(0..20_000)));
    std::fs::copy(&older, &rows).unwrap();
    let server = folder.up(NONE);
    server.stop().exits(0).complains(&["of the stream are not in the rows yet", "while it serves", "/health"]);
    assert_eq!(folder.verifies()["digest"], before);
}

/// The bodies of the folder's windows of a service.
#[tokio::main(flavor = "current_thread")]
async fn windows_of(folder: &Folder, service: &str) -> Vec<Row> {
    let store = LocalStore::open(&folder.data.join("rows.redb")).unwrap();
    let span = Span::All { tenant: None, generation: Generation(0), kind: Kind::Window };
    let page = store.scan(&span, None, 10_000.try_into().unwrap()).await.unwrap();
    page.rows.into_iter().filter(|row| row.key.subject.name == service).collect()
}

#[test]
fn a_damaged_row_is_named_in_words_and_what_it_says_to_do_mends_it() {
    let folder = with_lines(300);
    let report = folder.verifies();
    let (before, rows) = (report["digest"].clone(), report["rows"].clone());
    let body = windows_of(&folder, "app").remove(2).body;
    let path = folder.data.join("rows.redb");
    let mut bytes = std::fs::read(&path).unwrap();
    let places: Vec<usize> =
        bytes.windows(body.len()).enumerate().filter(|(_, part)| *part == body).map(|(at, _)| at).collect();
    assert!(!places.is_empty());
    places.into_iter().for_each(|place| bytes[place] ^= 0x20);
    std::fs::write(&path, bytes).unwrap();
    let words = [
        "the metrics of service `app` in the minute 2026-01-01T00:02:00Z (tenant local",
        "is damaged",
        path.to_str().unwrap(),
        "move the file away to rebuild it by replay",
    ];
    let said = folder.run("metrics", NONE).exits(2).complains(&words);
    assert!(!said.err.contains("RowKey"), "{said:?}");
    // To verify is to answer: this row differs, and all others were compared.
    let said = folder.run("verify", NONE).exits(1);
    for word in words {
        assert!(said.out.contains(word), "`{word}` is missing: {said:?}");
    }
    assert!(said.out.contains("1 row differs, because it is damaged"), "{said:?}");
    let report = folder.run("verify", ["--json"]).exits(1).json();
    assert_eq!((&report["rows"], &report["damaged"]), (&rows, &1.into()), "{report}");
    assert_eq!(report["digest"], serde_json::Value::Null, "there is none of rows that cannot all be read");
    std::fs::rename(&path, folder.path("moved.redb")).unwrap();
    assert_eq!(latencies(&folder, "app"), (300, sum(0..300)));
    assert_eq!(folder.verifies()["digest"], before);
}

#[test]
fn a_file_of_rows_whose_pages_make_no_sense_is_named_and_no_panic_is_printed() {
    let folder = with_lines(300);
    let before = folder.verifies()["digest"].clone();
    let path = folder.data.join("rows.redb");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.iter_mut().skip(8_192).step_by(997).for_each(|byte| *byte ^= 0x5a);
    std::fs::write(&path, bytes).unwrap();
    for command in ["metrics", "verify", "alarms"] {
        let said = folder.run(command, NONE).exits(2);
        let said = said.complains(&[path.to_str().unwrap(), "is damaged (a page makes no sense", "move it away"]);
        assert_eq!(said.err.lines().count(), 1, "{said:?}");
    }
    std::fs::rename(&path, folder.path("moved.redb")).unwrap();
    assert_eq!(folder.verifies()["digest"], before);
}

#[test]
fn a_verify_shows_on_a_terminal_that_it_is_under_way_and_nowhere_else() {
    let folder = with_lines(1_000);
    // What a verify left that was ended by Ctrl-C goes away with the next command.
    std::fs::write(folder.data.join("verify-1767225600000.redb"), b"a part").unwrap();
    let server = folder.up(NONE);
    assert!(!folder.data.join("verify-1767225600000.redb").exists());
    for through in [true, false] {
        let said = on_a_terminal(&folder, "verify").exits(0);
        assert!(said.out.contains("folded again"), "{through}: {said:?}");
        assert_eq!(folder.run("verify", NONE).exits(0).err, "");
        if through {
            server.signal("TERM");
            while folder.data.join("address").exists() {
                std::thread::yield_now();
            }
        }
    }
    server.end().exits(0);
}
