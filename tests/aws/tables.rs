//! The tables, as others' tools find them; and for how long rows are kept in them.

use std::{collections::BTreeMap, path::Path, process::Command};

use serde_json::Value;

use crate::{
    cloud::{Cloud, scan},
    logs::{NONE, lines},
    program::{Folder, say, say_with_input},
};

/// What a program that knows the documented layout alone finds of a service: metrics by minute, and services by six hours.
fn read(cloud: &Cloud, service: &str, hours: [&str; 2]) -> (BTreeMap<String, Value>, BTreeMap<String, Vec<String>>) {
    let mut script = Command::new(emulators::python());
    script.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/read_table.py"));
    let output = script.args([&emulators::dynamodb().endpoint, &cloud.name, "local", service]).args(hours).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    let (minutes, services) = said.trim().split_once('\n').unwrap();
    (serde_json::from_str(minutes).unwrap(), serde_json::from_str(services).unwrap())
}

#[test]
fn another_tool_finds_in_the_table_what_weir_says_by_service_and_minute_and_in_the_index_who_was_there() {
    let real = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/apache_logs.log.gz");
    let cloud = Cloud::new();
    cloud.run("ingest", ["--service", "web", real.to_str().unwrap()]).exits(0);
    let (minutes, services) = read(&cloud, "web", ["2015-05-17T00", "2015-05-20T23"]);
    let said = cloud.run("metrics", ["--service", "web", "--period", "60", "-o", "json"]).exits(0);
    let mut expected: BTreeMap<String, serde_json::Map<String, Value>> = BTreeMap::new();
    for item in said.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        let (at, metric) = (item["timestamp"].as_str().unwrap(), item["metric"].as_str().unwrap());
        let number = |field: &str| Value::from(item[field].as_f64().unwrap());
        let value = match metric {
            "bytes" | "latency" => serde_json::json!({
                "count": number("count"), "sum": number("sum"), "min": number("min"), "max": number("max"), "unit": item["unit"]
            }),
            _ => number("sum"),
        };
        expected.entry(at.to_owned()).or_default().insert(metric.to_owned(), value);
    }
    assert_eq!(minutes.len(), 84);
    let expected: BTreeMap<String, Value> = expected.into_iter().map(|(at, of)| (at, of.into())).collect();
    assert_eq!(minutes, expected);
    let lines: f64 = minutes.values().map(|of| of["lines"].as_f64().unwrap()).sum();
    assert_eq!(lines, 10_000.0);
    let hours: Vec<String> =
        minutes.keys().map(|at| format!("{}T{:02}", &at[..10], at[11..13].parse::<u8>().unwrap() / 6 * 6)).collect();
    assert!(hours.iter().all(|hours| services[hours] == ["web"]), "{services:?}");
    assert!(services.keys().all(|found| hours.contains(found)), "{services:?}");
}

#[test]
fn rows_are_kept_for_as_long_as_the_pair_says_whoever_writes_them() {
    let cloud = Cloud::new();
    let keep = |arguments: &[&str]| cloud.run("keep", arguments);
    keep(&["400d"]).exits(2).complains(&["there is no Kinesis stream"]);
    say_with_input(cloud.command("ingest").args(["-", "--as", "a"]), lines("before", 0..60).as_bytes()).exits(0);
    assert_eq!(keep(NONE.as_slice()).exits(0).last_line(), "rows are kept for as long as the tables");
    let said = keep(&["400d"]).exits(0);
    assert!(said.out.starts_with("rows are kept for 400 days after they were last folded into"), "{said:?}");
    // The emulator has no TTL.
    let said = said.complains(&["warning: ", &format!("{}-state", cloud.name), "shown to nobody"]);
    assert!(said.out.contains("within ten minutes"), "{said:?}");
    for wrong in ["0d", "400", "3w", "never", "20000d"] {
        keep(&[wrong]).exits(2).complains(&["such as 400d"]);
    }
    say_with_input(cloud.command("ingest").args(["-", "--as", "b"]), lines("after", 0..60).as_bytes()).exits(0);
    let rows = scan(&format!("{}-ApplicationMetrics", cloud.name));
    let of = |service: &str| {
        let is_row = |row: &&serde_json::Map<String, Value>| {
            row["Timestamp"] != "!" && row["ServiceName"].as_str().unwrap().contains(&format!("/{service}/"))
        };
        rows.iter().filter(is_row).map(|row| row.contains_key("ExpiresAt")).collect::<Vec<bool>>()
    };
    assert!(!of("before").is_empty() && of("before").iter().all(|expires| !expires), "{rows:?}");
    assert!(!of("after").is_empty() && of("after").iter().all(|expires| *expires), "{rows:?}");
    cloud.verifies();
    assert_eq!(keep(&["forever"]).exits(0).out.lines().next(), Some("rows are kept for as long as the tables"));
    let local = Folder::new();
    say(local.command("keep").arg("30d")).exits(2).complains(&["everything is kept in a data folder"]);
}

#[test]
fn who_describes_tables_elsewhere_is_told_that_nothing_removes_rows_from_them() {
    let cloud = Cloud::new();
    say_with_input(cloud.command("ingest").args(["-", "--as", "a"]), lines("web", 0..60).as_bytes()).exits(0);
    let said = cloud.up(["--no-create"]).stop().exits(0);
    let off = format!("warning: TTL of table {}-ApplicationMetrics is off; enable it on ExpiresAt", cloud.name);
    said.complains(&[&off]);
    // Who may make tables tries to enable it, and says no word of it where nothing is kept by time.
    assert!(!cloud.up(NONE).stop().exits(0).err.contains("TTL"));
}
