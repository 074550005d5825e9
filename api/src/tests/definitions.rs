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
        (format!("{{\"MetricAlarms\":[{b},{c}]}}"), vec!["b/ü", "c"]),
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
        ("7".into(), "alarm 2 of 2: "),
    ] {
        let answer = server.post("/definitions", format!("[{good},{bad}]")).await;
        assert!(answer.refused(400, "bad_definition").starts_with(named), "{bad}: {}", answer.text);
        assert!(answer.text.contains("nothing was applied"), "{}", answer.text);
    }
    for body in ["", "7", "[]", "{\"MetricAlarms\":{}}", "{\"MetricAlarms\":[]}"] {
        server.post("/definitions", body).await.refused(400, "bad_definition");
    }
    assert_eq!(server.fake.puts().len(), 0);
}
