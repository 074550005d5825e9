//! The same lines on any route: several shards, shards that are split and merged, and a producer in another language.

use std::process::Command;

use crate::{
    logs::{NONE, lines},
    program::Folder,
};

#[test]
fn any_number_of_shards_gives_the_same_digest() {
    let files = Folder::new();
    let paths: Vec<_> = (0..6)
        .map(|i| {
            let services = (0..4).map(|k| lines(&format!("svc-{}", (i + k) % 7), i * 300..i * 300 + 400));
            files.file(&format!("part-{i}.log"), services.collect::<String>())
        })
        .collect();
    let digest = |shards: &str| {
        let folder = Folder::new();
        let server = folder.up(["--shards", shards]);
        folder.ingest(&paths).exits(0);
        let report = folder.verifies();
        assert_eq!(report["from"].as_object().unwrap().len().to_string(), shards, "{report}");
        server.stop().exits(0);
        (report["digest"].clone(), folder.run("metrics", ["-o", "csv"]).exits(0).out)
    };
    let one = digest("1");
    assert_eq!(one, digest("3"));
    assert_eq!(one, digest("8"));
}

#[test]
fn shards_are_split_and_merged_with_and_without_a_server_and_each_line_counts_once() {
    let folder = Folder::new();
    let ingest = |until: u64| folder.ingest([folder.file("app.log", lines("app", 0..until))]).exits(0);
    let states = || {
        let all = folder.run("shards", ["--json"]).exits(0).json_lines();
        let state = |of: &serde_json::Value| (of["shard"].as_str().unwrap()[17..].to_owned(), of["state"] == "open");
        all.iter().map(state).collect::<Vec<_>>()
    };
    let id = |number: u64| format!("shardId-{number:012}");
    folder.up(["--shards", "1"]).stop().exits(0);
    ingest(300);
    let said = folder.run("split", [&id(0)]).exits(0);
    assert_eq!(said.out.trim(), format!("{} is closed; {} and {} have the keys from now on", id(0), id(1), id(2)));
    ingest(600);
    let server = folder.up(NONE);
    folder.run("split", [&id(2)]).exits(0);
    ingest(900);
    let said = folder.run("merge", [&id(3), &id(1)]).exits(0);
    assert_eq!(said.out.trim(), format!("{} and {} are closed; {} has the keys from now on", id(3), id(1), id(5)));
    ingest(1_200);
    let open = |number: usize| (format!("{number:03}"), [4, 5].contains(&number));
    assert_eq!(states(), (0..6).map(open).collect::<Vec<_>>());
    folder.run("split", [&id(0)]).exits(2).complains(&[&id(0), "closed", "`weir shards` lists them"]);
    folder.run("split", ["nonesuch"]).exits(2).complains(&["no shard `nonesuch`", "`weir shards` lists them"]);
    folder.run("merge", [&id(4), &id(4)]).exits(2).complains(&["neighbours"]);
    server.stop().exits(0);
    let table = folder.run("shards", NONE).exits(0);
    for part in ["75.0-100.0 %", "0.0-75.0 %", "open", "closed"] {
        assert!(table.out.contains(part), "{part}: {table:?}");
    }
    let csv = folder.run("shards", ["-o", "csv"]).exits(0).out;
    let (head, first) = csv.split_once('\n').unwrap();
    assert_eq!(head, "shard,state,startingHashKey,endingHashKey,parents,foldedThrough");
    assert!(first.starts_with(&format!("{},closed,0,{},,", id(0), u128::MAX)), "{csv}");
    let first = &folder.run("shards", ["--json"]).exits(0).json_lines()[0];
    head.split(',').for_each(|name| assert!(first.get(name).is_some(), "{name}: {first}"));
    // Shards are asked for when a folder is made; later that says nothing.
    let server = folder.up(["--shards", "7"]);
    let said = server.stop().exits(0);
    said.complains(&["--shards 7 is for a new", "with 2 open shards", "`weir split SHARD`"]);
    assert_eq!(crate::logs::latencies(&folder, "app"), (1_200, crate::logs::sum(0..1_200)));
    folder.verifies();
}

#[test]
fn a_producer_in_another_language_sends_every_batch_twice_and_counts_once() {
    let folder = Folder::new();
    let server = folder.up(NONE);
    let text =
        format!("{}  goes on\n{}", lines("own", 0..300), "2026-01-01T00:00:00Z latency_ms=1 nameless\n".repeat(200));
    let file = folder.file("foreign.log", &text);
    let output =
        Command::new("python3").arg("tests/foreign_producer.py").arg(&server.url).arg(&file).arg("spoken").output();
    let output = output.expect("python3 runs the producer that was written from the wire's page alone");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    let (count, key) = said.trim().split_once(' ').unwrap();
    assert_eq!(count, "501");
    let balance = server.get("/runs/foreign").json();
    let of = |field: &str| balance[field].as_u64().unwrap();
    assert_eq!((of("folded"), of("duplicate"), of("dead")), (501, 501, 0), "{balance}");
    assert_eq!(crate::logs::latencies(&folder, "own").0, 300);
    assert_eq!(crate::logs::latencies(&folder, "spoken"), (200, 200.0));
    // Its partition key is ours.
    let origin = events::identity::Origin {
        kind: events::identity::OriginKind::Named,
        name: file.to_str().unwrap().into(),
        version: String::new(),
    };
    assert_eq!(origin.partition_key("local", 0), key);
    server.stop().exits(0);
    folder.verifies();
}

#[test]
fn codecs_marks_values_and_edits_are_sent_as_the_page_says_and_count_once() {
    let folder = Folder::new();
    let server = folder.up(NONE);
    let output = Command::new("python3").arg("tests/foreign_producer.py").arg(&server.url).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let balance = server.get("/runs/page").json();
    let of = |field: &str| balance[field].as_u64().unwrap();
    assert_eq!((of("folded"), of("duplicate"), of("dead")), (6_004, 6_005, 0), "{balance}");
    assert_eq!(balance["skipped"], serde_json::json!({"too_long": 1}), "{balance}");
    assert_eq!(server.get("/runs/bare").json()["folded"], 2);

    // 0 to 2,999 twice, four times a 1.
    assert_eq!(crate::logs::latencies(&folder, "page"), (6_004, 2.0 * 2_999.0 * 1_500.0 + 4.0));
    let baskets = folder.run("metrics", ["--namespace", "shop", "--json"]).exits(0).json_lines();
    let [basket] = baskets.as_slice() else { panic!("{baskets:?}") };
    assert_eq!((basket["count"].as_u64(), basket["sum"].as_f64()), (Some(2), Some(2.0)), "{basket}");
    assert_eq!((&basket["dimensions"]["region"], &basket["timestamp"]), (&"eu".into(), &"2026-01-01T00:00:00Z".into()));
    server.stop().exits(0);
    folder.verifies();
}
