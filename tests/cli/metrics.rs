//! `weir metrics`: fields, formats, times and pages.

use serde_json::{Value, json};

use crate::{
    logs::{NONE, lines, plain},
    program::Folder,
};

#[test]
fn json_is_an_object_a_line_with_exactly_these_fields() {
    let folder = Folder::new();
    let text = "{\"timestamp\":\"2026-01-01T01:00:30+01:00\",\"service\":\"shop\",\"latency_ms\":-2.5}\n\
                {\"timestamp\":\"2026-01-01T00:00:31Z\",\"service\":\"shop\",\"latency_ms\":7.5}\n";
    folder.ingest([folder.file("shop.log", text)]).exits(0);
    let said = folder.run("metrics", ["--metric", "latency", "--json"]).exits(0);
    let rows = said.json_lines();
    assert_eq!(rows.len(), 1, "{said:?}");
    let fields: Vec<&str> = rows[0].as_object().unwrap().keys().map(String::as_str).collect();
    let mut expected = vec![
        "service",
        "namespace",
        "metric",
        "dimensions",
        "timestamp",
        "period",
        "count",
        "sum",
        "min",
        "max",
        "average",
        "p50",
        "p90",
        "p95",
        "p99",
        "unit",
    ];
    expected.sort_unstable();
    assert_eq!(fields, expected);
    let of = |field: &str| rows[0][field].clone();
    assert_eq!(of("timestamp"), "2026-01-01T00:00:00Z");
    assert_eq!((of("service"), of("namespace"), of("metric")), (json!("shop"), json!("Weir/Logs"), json!("latency")));
    assert_eq!((of("dimensions"), of("period"), of("unit")), (json!({}), json!(60), json!("Milliseconds")));
    let numbers = ["count", "sum", "min", "max", "average", "p50", "p99"].map(|field| of(field).as_f64().unwrap());
    assert_eq!(&numbers[..5], [2.0, 5.0, -2.5, 7.5, 2.5]);
    assert!((numbers[5] + 2.5).abs() <= 0.025 && (numbers[6] - 7.5).abs() <= 0.075, "{numbers:?}");
    assert_eq!(folder.run("metrics", ["--metric", "latency", "-o", "json"]).out, said.out);
    // A reader of the table sees the same.
    let table = folder.run("metrics", ["--metric", "latency"]).exits(0).out;
    assert!(table.starts_with("TIME") && table.contains("2026-01-01T00:00:00Z  shop"), "{table}");
}

#[test]
fn every_row_is_printed_however_many_there_are_and_a_table_says_where_it_stops() {
    let folder = Folder::new();
    // A line a minute for 20 hours: more rows than a page of the API holds.
    let text: String = (0..1_200).map(|i| lines("app", i * 60..i * 60 + 1)).collect();
    folder.ingest([folder.file("app.log", text)]).exits(0);
    let rows = folder.run("metrics", ["--metric", "latency", "--json"]).exits(0).json_lines();
    assert_eq!(rows.len(), 1_200);
    assert!(rows.windows(2).all(|pair| pair[0]["timestamp"].as_str() < pair[1]["timestamp"].as_str()));
    let csv = folder.run("metrics", ["--metric", "latency", "-o", "csv"]).exits(0).out;
    assert_eq!(csv.lines().count(), 1_201);
    let said = folder.run("metrics", ["--metric", "latency"]).exits(0).complains(&["first 500 rows", "-o csv"]);
    assert_eq!(said.out.lines().count(), 501);
    for (period, windows, count) in [("300", 240, 5), ("3600", 20, 60)] {
        let rows = folder.run("metrics", ["--metric", "latency", "--json", "--period", period]).exits(0).json_lines();
        assert_eq!(rows.len(), windows);
        assert!(rows.iter().all(|row| row["count"] == count && row["period"].as_u64() == period.parse().ok()));
    }
}

#[test]
fn what_matches_nothing_is_said_beside_every_format_and_the_answer_stays_for_programs() {
    let folder = Folder::new();
    folder.ingest([folder.file("app.log", lines("app", 0..1))]).exits(0);
    for (format, out) in [("table", 0), ("json", 0), ("csv", 1)] {
        let said = folder.run("metrics", ["--service", "ap", "-o", format]).exits(0);
        assert_eq!(said.out.lines().count(), out, "{said:?}");
        said.complains(&["there is no service `ap`; there are app"]);
    }
}

#[test]
fn times_are_said_in_every_form() {
    let folder = Folder::new();
    // Minutes 0 to 9 of 2026-01-01, and one now.
    let mut text: String = (0..10).map(|i| lines("app", i * 60..i * 60 + 1)).collect();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    text.push_str(&format!("{{\"timestamp\":{now},\"service\":\"app\",\"latency_ms\":1}}\n"));
    folder.ingest([folder.file("app.log", text)]).exits(0);
    let count = |arguments: &[&str]| {
        let arguments = [&["--metric", "latency", "--json"], arguments].concat();
        folder.run("metrics", arguments).exits(0).json_lines().len()
    };
    let (five, seven) = (1_767_225_600 + 300, 1_767_225_600 + 420);
    assert_eq!(count(&[]), 11);
    assert_eq!(count(&["--start", "2026-01-01T00:05:00Z", "--end", "2026-01-01T00:07:00Z"]), 2);
    assert_eq!(count(&["--start", "2026-01-01T01:05:00+01:00", "--end", "2026-01-01 00:07:00Z"]), 2);
    assert_eq!(count(&["--start", &five.to_string(), "--end", &seven.to_string()]), 2);
    assert_eq!(count(&["--start", &format!("{five}000"), "--end", &format!("{seven}000")]), 2);
    assert_eq!(count(&["--start", "2026-01-01", "--end", "2026-01-02"]), 10);
    assert_eq!(count(&["--end", "2026-01-02"]), 10);
    assert_eq!(count(&["--start", "-15m"]), 1);
    assert_eq!(count(&["--start", "-1h", "--end", "now"]), 1);
    for span in ["30m", "1h", "2d", "1w", "3000s"] {
        assert_eq!(count(&["--since", span]), 1, "{span}");
    }
}

#[test]
fn a_time_that_is_none_is_named_by_its_option_with_the_forms_there_are() {
    let folder = Folder::new();
    folder.ingest([folder.file("app.log", lines("app", 0..1))]).exits(0);
    let ask = |arguments: &[&str]| folder.run("metrics", arguments).exits(2);
    ask(&["--start", "yesterday"]).complains(&["--start", "`yesterday`", "RFC 3339", "-15m"]);
    ask(&["--end", "2026-13-01"]).complains(&["--end", "`2026-13-01`"]);
    ask(&["--start", "2026-01-01T00:00:00"]).complains(&["--start", "zone"]);
    ask(&["--since", "1x"]).complains(&["--since", "`1x`", "15m"]);
    ask(&["--since", "1h", "--start", "now"]).complains(&["cannot be used with"]);
    for (arguments, start) in [
        (&["--start", "2026-01-02", "--end", "2026-01-01"][..], "--start"),
        (&["--since", "1h", "--end", "-2h"], "--since"),
    ] {
        let said = ask(arguments).complains(&[start, "not before --end"]);
        assert!(!said.err.contains("Time"), "the parameters of the API are not what was typed: {said:?}");
    }
    ask(&["--start", "9999-01-01"]).complains(&["--start: "]);
    ask(&["--period", "61"]).complains(&["60, 300, 3600"]);
}

#[test]
fn nothing_found_is_an_empty_answer_and_a_hint_for_people() {
    let folder = Folder::new();
    folder.ingest([folder.file("app.log", lines("app", 0..1))]).exits(0);
    let said = folder.run("metrics", ["--service", "nobody"]).exits(0).complains(&["no metrics match", "`nobody`"]);
    assert_eq!(said.out, "");
    let said =
        folder.run("metrics", ["--namespace", "Nobody"]).exits(0).complains(&["no metrics match", "weir ingest"]);
    assert_eq!(said.out, "");
    let said = folder.run("metrics", ["--service", "nobody", "--json"]).exits(0);
    assert_eq!(said.out, "");
    assert_eq!(folder.run("metrics", ["--json", "-o", "json", "--service", "nobody"]).exits(0).out, "", "said twice");
    let said = folder.run("metrics", ["--service", "nobody", "-o", "csv"]).exits(0);
    assert_eq!(said.out.lines().count(), 1);
}

#[test]
fn the_default_folder_is_in_the_users_data_directory_and_is_said() {
    let folder = Folder::new();
    let file = folder.file("app.log", lines("app", 0..1));
    let default = folder.path(".local/share/weir");
    plain(&folder, &["ingest", file.to_str().unwrap()]).exits(0).complains(&["data folder", default.to_str().unwrap()]);
    assert!(default.is_dir());
    let rows = plain(&folder, &["metrics", "--json"]).exits(0).json_lines();
    assert!(rows.iter().any(|row: &Value| row["service"] == "app"));
    folder.run("metrics", NONE).exits(2).complains(&["nothing of weir", folder.data.to_str().unwrap()]);
}

#[test]
fn a_service_or_metric_that_is_not_there_is_answered_with_those_that_are_near_ones_first() {
    let folder = Folder::new();
    let text: String = ["cart", "checkout", "search"].map(|name| lines(name, 0..2)).concat();
    folder.ingest([folder.file("app.log", text)]).exits(0);
    let ask = |arguments: &[&str]| folder.run("metrics", arguments).exits(0);
    let said = ask(&["--service", "chekout"]).complains(&["no service `chekout`; there are checkout, "]);
    assert!(said.err.contains("cart") && said.err.contains("search") && said.out.is_empty(), "{said:?}");
    let said =
        ask(&["--service", "cart", "--metric", "latenzy"]).complains(&["no metric `latenzy`; there are latency"]);
    assert!(said.err.contains("requests"), "{said:?}");
    ask(&["--metric", "error"]).complains(&["no metric `error`; there are errors"]);
    // What every service has, and this one has had none of.
    let said = ask(&["--service", "cart", "--metric", "errors"]).complains(&["no value of `errors`"]);
    assert!(!said.err.contains("there is no"), "{said:?}");
    let said = ask(&["--service", "cart", "--since", "1h"]).complains(&["in this time"]);
    assert!(!said.err.contains("there is no"), "{said:?}");
    // For programs an empty answer is empty, and people are told beside it.
    let said = ask(&["--service", "chekout", "--json"]).complains(&["no service `chekout`"]);
    assert_eq!(said.out, "");
}

#[test]
fn what_has_no_data_in_a_span_is_not_called_missing_however_many_services_there_are() {
    let folder = Folder::new();
    // More services than are looked through for names; the last of them stands behind all others.
    let mut text: String = (0..5_200).map(|i| lines(&format!("app-{i:04}"), 0..1)).collect();
    text.push_str(&lines("zebra", 0..1));
    folder.ingest([folder.file("app.log", text)]).exits(0);
    for arguments in [&["--service", "zebra"][..], &["--service", "zebra", "--metric", "latency"]] {
        let arguments = [arguments, &["--since", "1h"]].concat();
        let said = folder.run("metrics", arguments).exits(0);
        let said = said.complains(&["in this time", "from 2026-01-01T00:00:00Z on"]);
        assert!(!said.err.contains("there is no"), "{said:?}");
    }
    let said = folder.run("metrics", ["--service", "zebro"]).exits(0);
    let said = said.complains(&["there is no service `zebro`; there are app-", " and more"]);
    assert_eq!(said.out, "");
}

#[test]
fn numbers_are_printed_in_their_shortest_form_that_reads_back_the_same() {
    let folder = Folder::new();
    let server = folder.up(NONE);
    let values = [("huge", 1e100), ("large", 1e16), ("odd", 123_456_789_012_345_680.0), ("tiny", 2.5e-300)];
    for (name, value) in values {
        let body = format!(r#"{{"service":"shop","metric":"{name}","value":{value:e},"unit":"None"}}"#);
        let answer = server.post("/metrics", body.as_bytes());
        assert_eq!(answer.status, 201, "{answer:?}");
    }
    let refused = server.post("/metrics", br#"{"service":"shop","metric":"m","value":1e300,"unit":"None"}"#);
    let message = refused.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(refused.status == 400 && message.contains("1e300 is not"), "{message}");
    server.stop().exits(0);
    for (name, value) in values {
        let of = |format: &str| folder.run("metrics", ["--metric", name, "-o", format]).exits(0).out;
        for text in [of("table"), of("csv"), of("json")] {
            assert!(text.lines().all(|line| line.len() < 400), "{name}: {text}");
        }
        let row: Value = serde_json::from_str(of("json").trim()).unwrap();
        assert_eq!(row["max"].as_f64(), Some(value), "{row}");
        let csv = of("csv");
        let fields: Vec<&str> = csv.lines().nth(1).unwrap().split(',').collect();
        assert_eq!(fields[9].parse(), Ok(value), "{csv}");
        assert!(fields[9].contains('e'), "{csv}");
        let table = of("table");
        assert!(table.contains(&format!("{value:e}")), "{table}");
    }
}
