//! `weir verify` where the answer is no: rows that were changed behind the program's back.

use std::path::Path;

use projections::{
    cell::Cell,
    store::{Commit, Generation, Kind, Row, Span, Store, law::block_on},
};
use weir::LocalStore;

use crate::{
    logs::{NONE, latencies, lines, sum},
    program::Folder,
};

/// 2026-01-01T00:00:00Z.
const FROM_SECS: i64 = 1_767_225_600;

/// The folder's rows, with this change to them; resume points stay.
fn change(data: &Path, change: impl FnOnce(&mut Vec<Row>)) {
    let path = data.join("rows.redb");
    let (old, new) = (LocalStore::open(&path).unwrap(), LocalStore::open(&data.join("changed.redb")).unwrap());
    let mut rows = vec![];
    for kind in Kind::ALL {
        let span = Span::All { tenant: None, generation: Generation(0), kind };
        let page = block_on(old.scan(&span, None, 10_000.try_into().unwrap())).unwrap();
        assert!(page.next_after.is_none());
        rows.extend(page.rows);
    }
    change(&mut rows);
    assert!(block_on(new.write(rows)).unwrap().len() > 1);
    for shard in (0..64).map(events::position::ShardId::numbered) {
        let Some((checkpoint, parts)) = block_on(old.checkpoint(Generation(0), &shard)).unwrap() else { break };
        let parts = checkpoint.parts.iter().cloned().zip(parts).collect();
        block_on(new.commit(Commit { rows: vec![], parts, checkpoint })).unwrap().checkpoint.unwrap();
    }
    drop((old, new));
    std::fs::rename(data.join("changed.redb"), path).unwrap();
}

/// The row of a service's third minute.
fn place(rows: &[Row]) -> usize {
    let is_it = |row: &Row| row.key.subject.kind == Kind::Window && row.key.subject.name == "app";
    rows.iter().position(|row| is_it(row) && row.key.at == FROM_SECS + 120).unwrap()
}

#[test]
fn the_first_row_that_differs_is_named_and_the_answer_is_no_until_rows_are_made_anew() {
    let folder = Folder::new();
    folder.ingest([folder.file("app.log", lines("app", 0..300)), folder.file("b.log", lines("b", 0..300))]).exits(0);
    let digest = folder.verifies()["digest"].clone();
    let rows = folder.data.join("rows.redb");
    let sound = std::fs::read(&rows).unwrap();
    type Change = fn(&mut Vec<Row>);
    let changes: [(Change, Option<&str>, &str, &str); 3] = [
        (
            |rows| {
                let place = place(rows);
                let mut cell = Cell::decode(&rows[place].body).unwrap();
                cell.merge(&cell.clone());
                rows[place].body = cell.encode().into();
            },
            // In order of their names.
            Some("latency"),
            "app",
            "of `latency` it has 120 values with the sum 17940, the stream says 60 values with the sum 8970",
        ),
        (|rows| drop(rows.remove(place(rows))), None, "app", "there is such a row, and there is none"),
        (
            |rows| {
                let mut extra = rows[place(rows)].clone();
                extra.key.subject.name = "nobody".into();
                rows.push(extra);
            },
            None,
            "nobody",
            "the stream says nothing of this row",
        ),
    ];
    for (changed, metric, service, what) in changes {
        std::fs::write(&rows, &sound).unwrap();
        change(&folder.data, changed);
        let report = folder.run("verify", ["--json"]).exits(1).json();
        assert_eq!((&report["differences"], &report["older_than_stream"]), (&1.into(), &0.into()), "{report}");
        let first = &report["first_difference"];
        let said = |field: &str| first[field].as_str();
        assert_eq!(
            (said("kind"), said("tenant"), said("subject")),
            (Some("Window"), Some("local"), Some(service)),
            "{first}"
        );
        assert_eq!((said("time"), said("metric")), (Some("2026-01-01T00:02:00Z"), metric), "{first}");
        assert!(said("shard").unwrap().starts_with("shardId-"), "{first}");
        assert!(said("what").unwrap().contains(what), "{first}");
        // For people the same, with what to do; also through a server.
        let server = folder.up(NONE);
        let said = folder.run("verify", NONE).exits(1);
        server.stop().exits(0);
        let row =
            format!("the metrics of service `{service}` in the minute 2026-01-01T00:02:00Z (tenant local, shardId-");
        for words in ["1 row differs:", &row, what, "move rows.redb out of the data folder and run any command"] {
            assert!(said.out.contains(words), "`{words}` is missing: {said:?}");
        }
    }
    // What it advises helps.
    std::fs::rename(&rows, folder.path("out-of-the-way.redb")).unwrap();
    assert_eq!(latencies(&folder, "app"), (300, sum(0..300)));
    assert_eq!(folder.verifies()["digest"], digest);
}

#[test]
fn of_several_differences_the_number_and_the_first_are_said() {
    let folder = Folder::new();
    folder.ingest([folder.file("app.log", lines("app", 0..300))]).exits(0);
    change(&folder.data, |rows| rows.retain(|row| row.key.subject.kind != Kind::Window));
    let said = folder.run("verify", NONE).exits(1);
    assert!(said.out.contains("5 rows differ. The first, in key order:"), "{said:?}");
    assert!(said.out.contains("in the minute 2026-01-01T00:00:00Z"), "{said:?}");
}
