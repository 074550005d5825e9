//! Alarms are defined and shown.

use super::Server;

fn alarm(name: &str) -> String {
    format!(
        r#"{{"AlarmName":"{name}","ServiceName":"web","MetricName":"errors","Statistic":"Sum","Period":60,"EvaluationPeriods":1,
        "Threshold":1,"ComparisonOperator":"GreaterThanThreshold"}}"#
    )
}

#[tokio::test]
async fn an_alarm_is_defined_alone_in_a_list_or_as_cloudwatch_lists_them() {
    let server = Server::open();
    let (a, b, c) = (alarm("a"), alarm("b/ü"), alarm("c"));
    for (body, names) in [
        (a.clone(), vec!["a"]),
        (format!("[{a},{b}]"), vec!["a", "b/ü"]),
        (format!("{{\"MetricAlarms\":[{b},{c}],\"CompositeAlarms\":[]}}"), vec!["b/ü", "c"]),
    ] {
        let answer = server.post("/definitions", body).await;
        let applied = answer.ok()["applied"].as_array().unwrap();
        assert_eq!(applied.iter().map(|one| one["name"].as_str().unwrap()).collect::<Vec<_>>(), names);
        assert!(applied.iter().all(|one| one["kind"] == "alarm" && one["revision"].is_string()), "{}", answer.text);
    }
    let all = server.get("/alarms").await;
    let names: Vec<_> =
        all.ok()["alarms"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["a", "b/ü", "c"]);
    let mut paged = vec![];
    let mut path = "/alarms?limit=1".to_owned();
    loop {
        let page = server.get(&path).await;
        let alarms = page.ok()["alarms"].as_array().unwrap().clone();
        assert_eq!(alarms.len(), 1);
        paged.extend(alarms);
        let Some(token) = page.json["nextToken"].as_str() else { break };
        path = format!("/alarms?limit=1&nextToken={token}");
    }
    assert_eq!(serde_json::Value::from(paged), all.json["alarms"]);
    assert_eq!(all.json.get("nextToken"), None);
    for query in
        ["limit=0", "limit=1001", "nextToken=", "nextToken=1", "nextToken=x", "nextToken=161f", "nextToken=1c3"]
    {
        let refused = server.get(&format!("/alarms?{query}")).await;
        assert!(refused.refused(400, "bad_parameter").starts_with(query.split('=').next().unwrap()), "{query}");
    }
    let one = server.get("/alarms/b%2F%C3%BC").await;
    assert_eq!((&one.ok()["name"], &one.json["state"]), (&"b/ü".into(), &"INSUFFICIENT_DATA".into()));
    assert_eq!(one.json["definition"]["MetricName"], "errors");
    assert_eq!(one.json["transitions"], serde_json::json!([]));
    server.get("/alarms/none").await.refused(404, "unknown_alarm");
    server.get("/alarms/%a0").await.refused(400, "bad_path");
    server.get("/alarms/%00").await.refused(404, "unknown_alarm");
}

#[tokio::test]
async fn a_definition_that_cannot_be_decided_is_refused_by_alarm_and_field_and_none_is_applied() {
    let server = Server::open();
    let good = alarm("good");
    for (bad, named) in [
        (alarm("bad").replace("\"Period\":60", "\"Period\":61"), "alarm `bad`: Period 61"),
        (alarm("bad").replace("Threshold\":1", "Threshhold\":1"), "alarm `bad`: unknown field `Threshhold`"),
        (alarm("bad").replace("\"AlarmName\":\"bad\",", ""), "alarm 2 of 2: missing field `AlarmName`"),
        (alarm("good"), "alarm `good` is defined twice here"),
        ("7".into(), "alarm 2 of 2: it is no object"),
        (alarm("bad").replacen('{', r#"{"AlarmActions":[],"#, 1), "alarm `bad`: AlarmActions is not supported yet"),
        (
            alarm("bad").replacen('{', r#"{"ActionsEnabled":true,"#, 1),
            "alarm `bad`: ActionsEnabled is not supported yet",
        ),
        (alarm("bad").replacen('{', r#"{"Metrics":[],"#, 1), "alarm `bad`: Metrics is not supported yet"),
        (alarm("bad").replacen('{', r#"{"Tags":[],"#, 1), "alarm `bad`: Tags is not supported yet"),
        (alarm("bad").replacen('{', r#"{"StateValue":"OK","#, 1), "alarm `bad`: StateValue says how an alarm was"),
        (alarm("bad").replacen('{', r#"{"AlarmRule":"ALARM(a)","#, 1), "alarm `bad`: AlarmRule is of composite alarms"),
        (
            alarm("bad").replacen('{', r#"{"TreatMissingData":"breaching","#, 1),
            "alarm `bad`: TreatMissingData `breaching` is not supported yet",
        ),
        (
            alarm("bad").replacen('{', &format!(r#"{{"AlarmDescription":"{}","#, "x".repeat(120 << 10)), 1),
            "alarm `bad`: it has 123",
        ),
    ] {
        let answer = server.post("/definitions", format!("[{good},{bad}]")).await;
        assert!(answer.refused(400, "bad_definition").starts_with(named), "{bad}: {}", answer.text);
        assert!(answer.text.contains("nothing was applied"), "{}", answer.text);
    }
    let twice = good.replacen("\"Threshold\":1", "\"Threshold\":1,\"Threshold\":2", 1);
    for (body, why) in [
        ("", "EOF while parsing"),
        ("null", "the body is no alarm: send one"),
        ("7", "the body is no alarm: send one"),
        ("[]", "0 definitions: send 1 to 1000"),
        ("[1]", "alarm 1 of 1: it is no object"),
        ("{}", "alarm 1 of 1: missing field"),
        (&"[".repeat(100_000), "recursion limit"),
        (&format!("[{}]", vec!["1"; 1_001].join(",")), "1001 definitions: send 1 to 1000"),
        (&twice, "`Threshold` stands twice"),
        (r#"{"MetricAlarms":{}}"#, "MetricAlarms is no list"),
        (r#"{"MetricAlarms":[]}"#, "0 definitions"),
        (&format!(r#"{{"MetricAlarms":[{good}],"CompositeAlarms":[{{}}]}}"#), "CompositeAlarms are not supported yet"),
        (&format!(r#"{{"MetricAlarms":[{good}],"NextToken":"t"}}"#), "`NextToken` stands beside MetricAlarms"),
        (r#"{"CompositeAlarms":[]}"#, "CompositeAlarms are not supported yet"),
    ] {
        let answer = server.post("/definitions", body.to_owned()).await;
        let message = answer.refused(400, "bad_definition");
        assert!(message.contains(why), "{body:.60}: {message}");
    }
    server.post("/definitions", vec![b' '; 10 << 20]).await.refused(413, "too_large");
    assert_eq!(server.fake.puts().len(), 0);
}

#[tokio::test]
async fn a_tenant_has_so_many_alarms_that_look_back_so_far_and_no_more() {
    let server = Server::open();
    let all: Vec<String> = (0..1_000).map(|number| alarm(&number.to_string())).collect();
    server.post("/definitions", format!("[{}]", all.join(","))).await.ok();
    let applied = server.fake.puts().len();
    let answer = server.post("/definitions", format!("[{},{}]", alarm("7"), alarm("more"))).await;
    let message = answer.refused(400, "too_many_alarms");
    assert!(message.starts_with("alarm `more`: there are 1000 alarms already, which is the limit"), "{message}");
    let day = |name: &str| alarm(name).replace("\"EvaluationPeriods\":1,", "\"EvaluationPeriods\":1440,");
    let days: Vec<String> = (0..27).map(|number| day(&number.to_string())).collect();
    let answer = server.post("/definitions", format!("[{}]", days.join(","))).await;
    let message = answer.refused(400, "too_many_alarms");
    assert!(message.contains("looks back 1920 minutes") && message.contains("nothing was applied"), "{message}");
    assert_eq!(server.fake.puts().len(), applied);
    server.post("/definitions", alarm("7").replace("\"Threshold\":1", "\"Threshold\":2")).await.ok();
    server.post("/definitions", day("7")).await.ok();
}
