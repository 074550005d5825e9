//! Reading and writing metrics.

use std::collections::HashSet;

use super::{Server, fake::HOUR, lines};

#[tokio::test]
async fn lines_are_read_back_as_windows() {
    let server = Server::open();
    server.post("/ingest", lines("web", 90)).await.ok();
    let answer = server.get("/metrics?service=web&metric=latency").await;
    let items = answer.ok()["items"].as_array().unwrap();
    assert_eq!(items.len(), 2);
    let expected = serde_json::json!({
        "service": "web", "namespace": "Weir/Logs", "metric": "latency", "dimensions": {}, "timestamp": "2026-01-02T03:00:00Z",
        "period": 60, "count": 60, "sum": 1770.0, "min": 0.0, "max": 59.0, "average": 29.5,
        "p50": items[0]["p50"], "p90": items[0]["p90"], "p95": items[0]["p95"], "p99": items[0]["p99"], "unit": "Milliseconds",
    });
    assert_eq!(items[0], expected);
    assert!((items[0]["p50"].as_f64().unwrap() - 29.0).abs() <= 0.3, "{}", items[0]);
    assert!(answer.json.get("nextToken").is_none() && answer.json["generation"] == 0);
    assert!(answer.json["appliedThrough"].as_object().unwrap().contains_key("shardId-000000000000"));
}

#[tokio::test]
async fn pages_follow_each_other_by_their_tokens() {
    let server = Server::open();
    server.post("/ingest", lines("web", 600) + &lines("db", 300)).await.ok();
    let whole = server.get("/metrics").await.ok()["items"].as_array().unwrap().clone();
    let mut paged = vec![];
    let mut next = String::new();
    loop {
        let page = server.get(&format!("/metrics?limit=7{next}")).await;
        paged.extend(page.ok()["items"].as_array().unwrap().clone());
        let Some(token) = page.json["nextToken"].as_str() else { break };
        next = format!("&nextToken={token}");
    }
    assert_eq!(paged, whole);
    assert!(whole.len() >= 60, "{}", whole.len());
    let foreign = server.get(&format!("/metrics?limit=7&service=db{next}")).await;
    assert!(foreign.refused(400, "bad_parameter").starts_with("nextToken: the token continues another query"));
    // Each letter of the token counts, but for the last, some of whose bits may be to spare.
    let token = next.strip_prefix("&nextToken=").unwrap();
    for place in 0..token.len() - 1 {
        let letter = if &token[place..=place] == "A" { "B" } else { "A" };
        let changed = format!("{}{letter}{}", &token[..place], &token[place + 1..]);
        let answer = server.get(&format!("/metrics?limit=7&nextToken={changed}")).await;
        assert!(answer.refused(400, "bad_parameter").starts_with("nextToken: "), "{place}: {}", answer.text);
    }
}

#[tokio::test]
async fn a_range_is_given_in_any_form() {
    let server = Server::open();
    server.post("/ingest", lines("web", 600)).await.ok();
    let starts = async |query: &str| {
        let answer = server.get(&format!("/metrics?metric=lines&statistics=sum&{query}")).await;
        answer.ok()["items"].as_array().unwrap().len()
    };
    assert_eq!(starts("timeRange=1h").await, 10);
    assert_eq!(starts("timeRange=1h&period=300").await, 2);
    assert_eq!(starts("startTime=2026-01-02T03:04:30Z").await, 6);
    assert_eq!(starts("startTime=2026-01-02T04:04:30%2B01:00&endTime=now").await, 6);
    assert_eq!(starts(&format!("startTime={HOUR}&endTime={}", HOUR + 120)).await, 2);
    assert_eq!(starts(&format!("endTime={}000", HOUR + 120)).await, 2);
    assert_eq!(starts("startTime=-25m").await, 5);
    assert_eq!(starts("startTime=2026-01-02&endTime=2026-01-03").await, 10);
    assert_eq!(starts("endTime=2026-01-02").await, 0);
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused_by_name() {
    let server = Server::open();
    for (query, named) in [
        ("timeRange=2h", "timeRange: `2h` is not one of 1h, 6h, 24h, 7d, 30d"),
        ("timeRange=", "timeRange: `` is not one of"),
        ("timeRange=24h&endTime=now", "timeRange: give either"),
        ("timeRange=1h&startTime=now", "timeRange: give either"),
        ("startTime=yesterday", "startTime: `yesterday` is no time"),
        ("startTime=now&endTime=-1h", "startTime: it is not before endTime"),
        ("startTime=2030-01-01", "startTime: it is later than any line can be"),
        ("startTime=", "startTime: `` is no time"),
        ("startTime=-1", "startTime: `-1` is no time"),
        ("startTime=9999999999999999999", "startTime: `9999999999999999999` is no time"),
        ("startTime=2026-01-02T04:00:00+01:00", "startTime: `2026-01-02T04:00:00 01:00` is no time with a known zone"),
        ("endTime=2026-13-01", "endTime: `2026-13-01` is no time"),
        ("period=61", "period: `61` is not one of 60, 300, 3600 seconds"),
        ("period=", "period: `` is not one of"),
        ("period=60s", "period: `60s` is not one of"),
        ("namespace=", "namespace: namespace `` is not 1 to 255"),
        ("namespace=%00", "namespace: namespace `"),
        (&format!("metric={}", "x".repeat(256)), "metric: metric `xx"),
        ("limit=", "limit: `` is not a whole number"),
        ("limit=-1", "limit: `-1` is not a whole number"),
        ("limit=99999999999999999999", "limit: `9999"),
        ("limit", "limit: `` is not a whole number"),
        ("statistics=", "statistics: statistic `` is none of count, sum"),
        ("limit=0", "limit: `0` is not a whole number from 1 to 1000"),
        ("limit=1001", "limit: "),
        ("statistics=sum,p42", "statistics: statistic `p42` is none of count, sum"),
        ("service=", "service: service `` is not 1 to 255"),
        ("nextToken=abc", "nextToken: this is not a token"),
        ("nextToken=", "nextToken: this is not a token"),
    ] {
        let answer = server.get(&format!("/metrics?{query}")).await;
        assert!(answer.refused(400, "bad_parameter").starts_with(named), "{query}: {}", answer.text);
    }
    let answer = server.get("/metrics?tenant=acme").await;
    assert!(
        answer.refused(400, "unknown_parameter").contains("`tenant` is no parameter of /metrics; it takes service")
    );
    server.get("/metrics?limit=1&limit=2").await.refused(400, "repeated_parameter");
}

#[tokio::test]
async fn only_the_statistics_that_are_asked_for_are_sent() {
    let server = Server::open();
    server.post("/ingest", lines("web", 3)).await.ok();
    let answer = server.get("/metrics?metric=latency&statistics=p99,count").await;
    let item = answer.ok()["items"][0].as_object().unwrap();
    let fields: HashSet<_> = item.keys().map(String::as_str).collect();
    let expected = ["service", "namespace", "metric", "dimensions", "timestamp", "period", "count", "p99", "unit"];
    assert_eq!(fields, HashSet::from(expected));
}

#[tokio::test]
async fn measured_values_are_read_back_by_their_dimensions() {
    let server = Server::open();
    let body = r#"{"metrics":[
        {"service":"shop","metric":"paid","value":12.5,"unit":"None","timestamp":"2026-01-02T03:00:10Z","dimensions":{"b":"2","a":"1"}},
        {"service":"shop","metric":"paid","value":-0.1,"timestamp":1767322811,"dimensions":{"a":"1","b":"2"}},
        {"service":"shop","metric":"paid","value":1431.6374200421199,"timestamp":1767322811000,"namespace":"Mine"}]}"#;
    let answer = server.post("/metrics?run=r1", body).await;
    assert_eq!((answer.status.as_u16(), answer.ok()["accepted"].as_u64()), (201, Some(3)));
    assert_eq!(answer.json["positions"].as_array().unwrap().len(), 1);
    let items = server.get("/metrics?service=shop").await.ok()["items"].clone();
    assert_eq!(items.as_array().unwrap().len(), 2, "{items}");
    assert_eq!((&items[0]["namespace"], &items[0]["sum"]), (&"Custom".into(), &12.4.into()));
    assert_eq!(items[0]["dimensions"], serde_json::json!({"a": "1", "b": "2"}));
    assert_eq!(items[1]["sum"].as_f64().unwrap(), 1431.6374200421199, "the f64 that was written");
    assert_eq!(server.get("/runs/r1").await.ok()["folded"], 3);
    let one = r#"{"service":"shop","metric":"paid","value":1}"#;
    assert_eq!(server.post("/metrics", one).await.status.as_u16(), 201);
}

#[tokio::test]
async fn a_value_that_is_none_is_refused_by_its_field_and_nothing_is_appended() {
    let server = Server::open();
    let good = r#"{"service":"a","metric":"m","value":1}"#;
    let long = "x".repeat(256);
    for (fields, named) in [
        (r#""metric":"m","value":1"#, "metrics[1].service: it is missing"),
        (r#""service":"a","value":1"#, "metrics[1].metric: it is missing"),
        (r#""service":"a","metric":"m""#, "metrics[1].value: it is missing"),
        (r#""service":"a","metric":"m","value":"1""#, "metrics[1].value: it is no number"),
        (r#""service":"a","metric":"m","value":-1e200"#, "metrics[1].value: -1e200 is not a finite number"),
        (r#""service":"a","metric":"m","value":"NaN""#, "metrics[1].value: it is no number"),
        (r#""service":"a","metric":"m","value":null"#, "metrics[1].value: it is no number"),
        (
            r#""service":"a","metric":"m","value":1,"timestamp":-1767322811"#,
            "metrics[1].timestamp: `-1767322811` is no",
        ),
        (r#""service":"a","metric":"m","value":1,"timestamp":1e18"#, "metrics[1].timestamp: `1e+18` is no time"),
        (r#""service":"a","metric":"m","value":1,"timestamp":null"#, "metrics[1].timestamp: it is neither"),
        (r#""service":"a","metric":"m","value":1,"unit":"count""#, "metrics[1].unit `count`"),
        (&format!(r#""service":"a","metric":"{long}","value":1"#), "metrics[1].metric `xx"),
        (&format!(r#""service":"{long}","metric":"m","value":1"#), "metrics[1].service: service `xx"),
        (
            &format!(r#""service":"a","metric":"m","value":1,"dimensions":{{"{long}":"v"}}"#),
            "metrics[1].dimension name",
        ),
        (r#""service":"a","metric":"m","value":1,"unit":"Beards""#, "metrics[1].unit `Beards`"),
        (r#""service":"a","metric":"m","value":1,"timestamp":"soon""#, "metrics[1].timestamp: `soon` is no time"),
        (
            r#""service":"a","metric":"m","value":1,"timestamp":"2030-01-01""#,
            "metrics[1].timestamp: it is more than two hours",
        ),
        (r#""service":"a","metric":"m","value":1,"dimensions":{"d":1}"#, "metrics[1].dimensions: a value is no text"),
        (r#""service":"a","metric":"m","value":1,"dimensions":{"d":""}"#, "metrics[1].dimension value ``"),
        (
            r#""service":"a","metric":"m","value":1,"namespace":"Weir/Logs""#,
            "metrics[1].namespace: Weir/Logs is what Weir",
        ),
        (r#""service":"a","metric":"m","value":1,"tenant":"other""#, "metrics[1].tenant: no such field"),
    ] {
        let answer = server.post("/metrics", format!("{{\"metrics\":[{good},{{{fields}}}]}}")).await;
        assert!(answer.refused(400, "bad_parameter").starts_with(named), "{fields}: {}", answer.text);
    }
    for (body, why) in [
        ("", "EOF while parsing"),
        ("{", "EOF while parsing"),
        ("[]", "is no object"),
        ("null", "is no object"),
        (r#"{"service":"a","metric":"m","value":NaN}"#, "expected value"),
        (r#"{"service":"a","metric":"m","value":1e400}"#, "number out of range"),
        (r#"{"service":"a","metric":"m","value":1,"value":2}"#, "`value` stands twice"),
        (r#"{"service":"a","metric":"m","value":1,"dimensions":{"d":"1","d":"2"}}"#, "`d` stands twice"),
        (&"[".repeat(100_000), "recursion limit"),
    ] {
        let answer = server.post("/metrics", body.to_owned()).await;
        let message = answer.refused(400, "bad_json");
        assert!(message.contains(why) && message.contains("send one object with service"), "{message}");
    }
    let many = format!("{{\"metrics\":[{}]}}", vec![good; 10_001].join(","));
    for body in ["{\"metrics\":[]}", "{\"metrics\":null}", &many] {
        let answer = server.post("/metrics", body.to_owned()).await;
        let message = answer.refused(400, "bad_parameter");
        assert!(message.starts_with("metrics: it is not a list of 1 to 1000"), "{message}");
    }
    server.post("/metrics", vec![b' '; 2 << 20]).await.refused(413, "too_large");
    assert_eq!(server.fake.puts().len(), 0);
}

#[tokio::test]
async fn a_parameter_that_is_no_text_is_refused_and_not_read_as_another() {
    let server = Server::open();
    server.post("/ingest?service=caf%C3%A9", "a line\n").await.ok();
    for query in ["service=%ff", "service=caf%E9", "service=%C3", "metric=%c3%28", "%ff=1"] {
        let answer = server.get(&format!("/metrics?{query}")).await;
        assert!(answer.refused(400, "bad_query").contains("UTF-8"), "{query}: {}", answer.text);
    }
    server.post("/ingest?service=%ff", "a line\n").await.refused(400, "bad_query");
    // Every byte escaped, some, or none that needs it.
    for query in ["service=caf%C3%A9", "service=%63%61%66%c3%a9", "service=caf\u{e9}"] {
        let Ok(uri) = format!("/metrics?{query}").parse::<axum::http::Uri>() else { continue };
        let answer = server.get(&uri.to_string()).await;
        assert_eq!(answer.ok()["items"][0]["service"], "caf\u{e9}", "{query}");
    }
    let percent = server.get("/metrics?service=100%").await;
    assert_eq!(percent.ok()["items"], serde_json::json!([]), "a sign that escapes nothing is itself");
}
