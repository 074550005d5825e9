//! The routes that scripts and other programs use, asked as curl would.

use crate::{
    logs::{NONE, gzip, latencies, lines, sum},
    program::Folder,
};

#[test]
fn lines_come_in_raw_and_packed_and_are_durable_by_the_answer() {
    let folder = Folder::new();
    let server = folder.up(NONE);
    let nameless = "2026-01-01T00:00:00Z latency_ms=1 a\n2026-01-01T00:00:01Z latency_ms=2 b";
    let zstd = zstd::encode_all(lines("packed-zstd", 0..30).as_bytes(), 1).unwrap();
    for (path, body) in [
        ("/ingest?service=raw&run=r", nameless.as_bytes().to_vec()),
        ("/ingest?service=other&run=r", lines("own", 0..10).into_bytes()),
        ("/ingest?service=other&run=r", gzip(&lines("packed-gzip", 0..20))),
        ("/ingest?service=other&run=r", zstd),
    ] {
        let answer = server.post(path, &body);
        assert_eq!(answer.status, 202, "{answer:?}");
        let position = &answer.json()["positions"][0];
        assert!(position["shard"].is_string() && position["sequence"].is_string(), "{answer:?}");
    }
    let balance = server.settles("r");
    assert_eq!((&balance["accepted"], &balance["folded"]), (&62.into(), &62.into()), "{balance}");
    for (service, count, sum) in
        [("raw", 2, 3.0), ("own", 10, sum(0..10)), ("packed-gzip", 20, sum(0..20)), ("packed-zstd", 30, sum(0..30))]
    {
        assert_eq!(latencies(&folder, service), (count, sum), "{service}");
    }
    // Bytes that begin as gzip and are not: refused, with a reason.
    let answer = server.post("/ingest", b"\x1f\x8b\x08\x00rubbish that is no gzip");
    assert_eq!(answer.status, 400, "{answer:?}");
    assert!(answer.json()["error"]["message"].as_str().unwrap().len() > 20);
    server.stop().exits(0);
    folder.verifies();
}

#[test]
fn pages_join_to_the_same_rows_that_the_command_prints() {
    let folder = Folder::new();
    let server = folder.up(NONE);
    let text: String = (0..40).map(|i| lines(&format!("svc-{}", i % 3), i * 60..i * 60 + 2)).collect();
    folder.ingest([folder.file("app.log", text)]).exits(0);
    let printed = folder.run("metrics", ["--json"]).exits(0).json_lines();
    for limit in [1, 7, 1000] {
        let (mut items, mut token) = (vec![], String::new());
        loop {
            let answer = server.get(&format!("/metrics?limit={limit}{token}"));
            assert_eq!((answer.status, answer.headers["content-type"].as_str()), (200, "application/json"));
            let page = answer.json();
            assert_eq!(page["generation"], 0);
            assert!(page["appliedThrough"].is_object());
            let found = page["items"].as_array().unwrap();
            assert!(found.len() <= limit);
            items.extend(found.iter().cloned());
            match page["nextToken"].as_str() {
                Some(next) => token = format!("&nextToken={next}"),
                None => break,
            }
        }
        assert_eq!(items, printed, "limit {limit}");
    }
    server.stop().exits(0);
}

#[test]
fn metrics_are_asked_by_range_service_metric_period_and_statistics() {
    let folder = Folder::new();
    let server = folder.up(NONE);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let mut text = lines("old", 0..3);
    for hours in [0u64, 2, 12, 50, 200, 1000] {
        let second = now - hours * 3600 - 1;
        text.push_str(&format!("{{\"timestamp\":{second},\"service\":\"app\",\"latency_ms\":4}}\n"));
    }
    server.post("/ingest?run=r", text.as_bytes());
    server.settles("r");
    let count = |query: &str| {
        let answer = server.get(&format!("/metrics?{query}"));
        assert_eq!(answer.status, 200, "{query}: {answer:?}");
        answer.json()["items"].as_array().unwrap().len()
    };
    for (range, windows) in [("1h", 1), ("6h", 2), ("24h", 3), ("7d", 4), ("30d", 5)] {
        assert_eq!(count(&format!("service=app&metric=latency&timeRange={range}")), windows, "{range}");
    }
    assert_eq!(count("service=app&metric=latency"), 6);
    assert_eq!(count("metric=latency&startTime=2026-01-01&endTime=2026-01-01T01:00:00Z"), 1);
    assert_eq!(count("metric=latency&namespace=Nobody"), 0);
    let item = &server.get("/metrics?service=old&metric=latency&statistics=max,count").json()["items"][0];
    assert_eq!((&item["max"], &item["count"], item.get("sum")), (&2.0.into(), &3.into(), None), "{item}");
    for query in
        ["timeRange=2h", "timeRange=1h&startTime=now", "limit=0", "limit=1001", "period=61", "nextToken=x", "sevice=a"]
    {
        let answer = server.get(&format!("/metrics?{query}"));
        assert_eq!(answer.status, 400, "{query}: {answer:?}");
        let name = query.split('=').next().unwrap();
        assert!(answer.json()["error"]["message"].as_str().unwrap().contains(name), "{query}: {answer:?}");
    }
    server.stop().exits(0);
}

#[test]
fn health_says_what_was_checked_and_how_far_behind_it_is() {
    let folder = Folder::new();
    let server = folder.up(NONE);
    let answer = server.get("/health");
    let health = answer.json();
    assert_eq!((answer.status, &health["ok"]), (200, &true.into()));
    assert!(health["behindMs"].is_u64(), "{health}");
    let checks: Vec<_> =
        health["checks"].as_array().unwrap().iter().map(|check| check["name"].as_str().unwrap()).collect();
    assert_eq!(checks, ["stream", "store", "consumer", "ticker"]);
    assert_eq!(server.get("/nothing").status, 404);
    assert_eq!(server.post("/health", b"").status, 405);
    server.stop().exits(0);
}
