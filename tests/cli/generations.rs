//! `weir replay`, `weir generations` and `weir promote`: beside the rows that count, through a running server, killed in the middle, and back again.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
};

use projections::{
    cell::Cell,
    store::{Generation, Kind, Row, Span, Store, law::block_on},
};
use weir::LocalStore;

use crate::{
    logs::{NONE, latencies, lines, sum},
    program::{Folder, Said},
};

fn standing(folder: &Folder, name: &str) -> String {
    let all = folder.run("generations", ["--json"]).exits(0).json_lines();
    let found = all.iter().find(|of| of["name"] == name).unwrap_or_else(|| panic!("{name}: {all:?}"));
    found["standing"].as_str().unwrap().to_owned()
}

fn replay(folder: &Folder, start: &str, name: &str) -> Said {
    folder.run("replay", ["--start", start, "--generation", name])
}

#[test]
fn another_generation_is_folded_beside_promoted_and_gone_back_from_and_each_line_counts_once() {
    let folder = Folder::new();
    folder.ingest([folder.file("app.log", lines("app", 0..300))]).exits(0);
    let said = replay(&folder, "oldest", "new").exits(0).complains(&["it has caught up", "weir promote new"]);
    assert!(said.out.starts_with("compared new with first: 0 of 5 windows differ, 0 of 0 decisions"), "{said:?}");
    assert_eq!((standing(&folder, "first"), standing(&folder, "new")), ("counts".into(), "following".into()));
    // Lines that came before, between and after both promotions; the last file brings what is there already.
    let promote = |name: &str, before: &str| {
        let said = folder.run("promote", [name]).exits(0);
        assert!(said.out.starts_with(&format!("{name} counts; {before} is folded on for a day")), "{said:?}");
    };
    promote("new", "first");
    assert_eq!((standing(&folder, "first"), standing(&folder, "new")), ("following".into(), "counts".into()));
    folder.ingest([folder.file("app.log", lines("app", 0..600))]).exits(0);
    assert_eq!(latencies(&folder, "app"), (600, sum(0..600)));
    let server = folder.up(NONE);
    promote("first", "new");
    folder.ingest([folder.file("app.log", lines("app", 0..900))]).exits(0);
    assert_eq!(latencies(&folder, "app"), (900, sum(0..900)));
    let same = folder.run("generations", ["--compare", "new"]).exits(0);
    assert!(same.out.contains("0 of 15 windows differ"), "{same:?}");
    promote("new", "first");
    assert_eq!(latencies(&folder, "app"), (900, sum(0..900)));
    server.stop().exits(0);
    folder.verifies();
    // Rows that are gone are made anew of the whole stream, which names a generation that is not among them.
    std::fs::remove_file(folder.data.join("rows.redb")).unwrap();
    assert_eq!(latencies(&folder, "app"), (900, sum(0..900)));
    folder.verifies();
    assert_eq!(standing(&folder, "first"), "counts");
    // Another one that is called like it is another one: it counts nowhere on the stream.
    let said = replay(&folder, "oldest", "new").exits(0);
    assert!(said.out.contains("0 of 15 windows differ"), "{said:?}");
    let all = folder.run("generations", ["--json"]).exits(0).json_lines();
    assert_eq!(all[1]["number"], 2, "{all:?}");
}

#[test]
fn a_generation_that_begins_later_leaves_what_is_older_to_its_parent_and_knows_what_was_taken() {
    let folder = Folder::new();
    folder.ingest([folder.file("app.log", lines("app", 0..300))]).exits(0);
    // Nothing of it is compared yet, which is no yes, and nobody is told to promote it.
    let said = replay(&folder, "now", "tip").exits(1);
    for words in
        ["nothing was compared: tip and first have no window in common", "earlier ones are read from the parent"]
    {
        assert!(said.out.contains(words), "{said:?}");
    }
    assert!(!said.err.contains("weir promote"), "{said:?}");
    folder.run("promote", ["tip"]).exits(0);
    // The lines are of a time that the parent has, whoever folds them: late lines after the promotion are the new one's part.
    folder.ingest([std::path::PathBuf::from("--again"), folder.file("app.log", lines("app", 0..300))]).exits(0);
    assert_eq!(latencies(&folder, "app").0, 600);
    let again = folder.ingest([folder.file("b.log", lines("b", 0..60))]).exits(0);
    assert_eq!(again.last_line(), "accepted 60 = folded 60 + skipped 0 + duplicate 0 + dead 0");
    folder.run("promote", ["first"]).exits(0);
    assert_eq!((latencies(&folder, "app").0, latencies(&folder, "b").0), (600, 60));
    folder.verifies();
}

#[test]
fn shards_that_split_and_merge_before_and_between_and_behind_promotions_count_each_line_once() {
    let folder = Folder::new();
    folder.up(["--shards", "1"]).stop().exits(0);
    let ingest = |until: u64| folder.ingest([folder.file("app.log", lines("app", 0..until))]).exits(0);
    let id = |number: u64| format!("shardId-{number:012}");
    ingest(300);
    folder.run("split", [id(0)]).exits(0);
    ingest(600);
    let said = replay(&folder, "oldest", "new").exits(0);
    assert!(said.out.contains("0 of 10 windows differ"), "{said:?}");
    folder.run("split", [id(1)]).exits(0);
    ingest(900);
    folder.run("promote", ["new"]).exits(0);
    folder.run("merge", [id(4), id(2)]).exits(0);
    ingest(1_200);
    folder.verifies();
    let same = folder.run("generations", ["--compare", "first"]).exits(0);
    assert!(same.out.contains("0 of 20 windows differ"), "{same:?}");
    folder.run("promote", ["first"]).exits(0);
    assert_eq!(latencies(&folder, "app"), (1_200, sum(0..1_200)));
    folder.verifies();
}

#[test]
fn what_cannot_be_is_refused_with_the_reason_and_the_next_step() {
    let folder = Folder::new();
    folder.ingest([folder.file("app.log", lines("app", 0..60))]).exits(0);
    replay(&folder, "2100-01-01", "x")
        .exits(2)
        .complains(&["no record arrived at or after 2100-01-01", "the newest is of 20"]);
    replay(&folder, "shardId-000000000000:77", "x").exits(2).complains(&[
        "no record 77 on shardId-000000000000",
        "`weir shards -o json` and `weir generations -o json` name positions",
    ]);
    replay(&folder, "soon", "x").exits(2).complains(&["--start soon is neither a time", "SHARD:POSITION"]);
    replay(&folder, "oldest", "first").exits(2).complains(&["`first` is no name of a generation"]);
    folder.run("replay", ["--generation", "x"]).exits(2).complains(&["no generation `x` yet", "give --start"]);
    folder.run("promote", ["x"]).exits(2).complains(&["there is no generation `x`; there is `first`"]);
    let said = folder.run("promote", ["first"]).exits(0);
    assert_eq!(said.out.trim(), "first counts already: nothing was changed");
    replay(&folder, "oldest", "x").exits(0);
    replay(&folder, "now", "x").exits(2).complains(&["a generation `x` already", "another start"]);
    // The same again goes on with it.
    replay(&folder, "oldest", "x").exits(0);
    folder.run("replay", ["--generation", "x"]).exits(0);
    replay(&folder, "oldest", "y").exits(0);
    replay(&folder, "oldest", "z")
        .exits(2)
        .complains(&["3 generations are folded beside each other, which is the limit"]);
}

#[test]
fn a_generation_that_is_not_wanted_is_ended_with_and_without_a_server_and_makes_room() {
    let folder = Folder::new();
    folder.ingest([folder.file("app.log", lines("app", 0..60))]).exits(0);
    let end = |arguments: &[&str]| folder.run("generations", [&["--end"], arguments].concat());
    end(&["first"]).exits(2).complains(&["`first` counts", "only once another one is promoted"]);
    end(&["x"]).exits(2).complains(&["there is no generation `x`", "`weir generations`"]);
    replay(&folder, "oldest", "x").exits(0);
    replay(&folder, "oldest", "y").exits(0);
    assert_eq!(end(&["x"]).exits(0).out.trim(), "x has ended: it is folded no longer, and cannot be promoted");
    assert!(end(&["x"]).exits(0).out.contains("x has ended already"));
    assert_eq!(standing(&folder, "x"), "ended");
    folder.run("promote", ["x"]).exits(2).complains(&["`x` has ended"]);
    // There is room for another one, whoever is asked.
    let server = folder.up(NONE);
    replay(&folder, "oldest", "z").exits(0);
    end(&["z"]).exits(0);
    assert_eq!((standing(&folder, "z"), standing(&folder, "y")), ("ended".into(), "following".into()));
    folder.run("promote", ["y"]).exits(0);
    end(&["first"]).exits(2).complains(&["can still be gone back to", "`weir promote first`", "--no-way-back"]);
    assert_eq!(end(&["first", "--no-way-back", "--json"]).exits(0).json()["standing"], "ended");
    folder.run("promote", ["first"]).exits(2).complains(&["`first` has ended"]);
    server.stop().exits(0);
    folder.ingest([folder.file("app.log", lines("app", 0..90))]).exits(0);
    assert_eq!(latencies(&folder, "app"), (90, sum(0..90)));
    folder.verifies();
}

#[test]
fn a_replay_that_is_killed_goes_on_where_it_was() {
    let folder = Folder::new();
    folder.ingest([folder.file("app.log", lines("app", 0..200_000))]).exits(0);
    for _ in 0..4 {
        let mut command = folder.command("replay");
        command.args(["--start", "oldest", "--generation", "new"]).stderr(Stdio::piped()).stdout(Stdio::null());
        let mut child = command.spawn().unwrap();
        // It has opened the generation by the time it says so, and is killed wherever it then is.
        let mut line = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let said = folder.run("replay", ["--generation", "new"]).exits(0);
    assert!(said.out.contains(" windows differ, 0 of 0 decisions"), "{said:?}");
    folder.run("promote", ["new"]).exits(0);
    assert_eq!(latencies(&folder, "app"), (200_000, sum(0..200_000)));
    folder.verifies();
}

#[test]
fn a_window_that_differs_is_named_with_both_numbers_and_the_answer_is_no() {
    let folder = Folder::new();
    folder.ingest([folder.file("app.log", lines("app", 0..300))]).exits(0);
    folder.ingest([folder.file("later.log", lines("later", 0..60))]).exits(0);
    replay(&folder, "oldest", "new").exits(0);
    // A later row of the same name stands in for what another parser would have made of the minute.
    let store = LocalStore::open(&folder.data.join("rows.redb")).unwrap();
    let span = Span::All { tenant: None, generation: Generation(1), kind: Kind::Window };
    let rows = block_on(store.scan(&span, None, 1_000.try_into().unwrap())).unwrap().rows;
    let mut row: Row = rows.into_iter().next().unwrap();
    let mut cell = Cell::decode(&row.body).unwrap();
    cell.merge(&cell.clone());
    row.body = cell.encode().into();
    // Not further than what both are known to have folded: else it would pass for one to which only more came in.
    let point = block_on(store.resume_point(Generation(1), &row.key.shard)).unwrap().unwrap();
    assert!(point.position > row.applied_through);
    row.applied_through = point.position;
    block_on(store.write(vec![row])).unwrap();
    drop(store);
    let said = folder.run("generations", ["--compare", "new"]).exits(1);
    for words in
        ["1 of 6 windows differ", "of service `app` at 2026-01-01T00:00:00Z (tenant local): 60 values", "120 with"]
    {
        assert!(said.out.contains(words), "`{words}` is missing: {said:?}");
    }
    let listed = folder.run("generations", NONE).exits(0);
    assert!(listed.out.contains("1 of 6 windows and 0 of 0 decisions differ from first"), "{listed:?}");
}
