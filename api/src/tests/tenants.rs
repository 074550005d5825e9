//! One tenant tries to see or change what is another's, by every route.

use axum::{
    body::Body,
    http::{Request, StatusCode},
};
use events::{
    event::{Event, Measured},
    wire::{self, Content},
};
use projections::store::Store;

use super::{ACME, LOCAL, OTHER, Server, fake::header, lines};
use crate::{
    access::{Access, BadAccess},
    operator::{Check, Operator},
};

const ALARM: &str = r#"{"AlarmName":"secret alarm","ServiceName":"secret","MetricName":"errors","Statistic":"Sum","Period":60,
    "EvaluationPeriods":1,"Threshold":1,"ComparisonOperator":"GreaterThanThreshold"}"#;

#[tokio::test]
async fn a_tenant_sees_nothing_of_another_by_any_route() {
    let server = Server::with_tokens();
    server.post_as(ACME, "/ingest?run=r", lines("secret", 50)).await.ok();
    server.post_as(ACME, "/metrics", r#"{"service":"secret","metric":"m","value":1}"#).await.ok();
    server.post_as(ACME, "/definitions", ALARM).await.ok();
    assert!(!server.get_as(ACME, "/metrics").await.ok()["items"].as_array().unwrap().is_empty());
    assert_eq!(server.get_as(ACME, "/runs/r").await.ok()["folded"], 50);
    server.get_as(ACME, "/alarms/secret%20alarm").await.ok();

    for path in ["/metrics", "/metrics?service=secret", "/alarms", "/balance", "/health"] {
        let answer = server.get_as(OTHER, path).await;
        answer.ok();
        assert!(!answer.text.contains("secret"), "{path}: {}", answer.text);
    }
    assert_eq!(server.get_as(OTHER, "/balance").await.ok()["accepted"], 0);
    server.get_as(OTHER, "/runs/r").await.refused(404, "unknown_run");
    server.get_as(OTHER, "/runs/acme%2Fr").await.refused(400, "bad_parameter");
    server.get_as(OTHER, "/alarms/secret%20alarm").await.refused(404, "unknown_alarm");
    server.post_as(OTHER, "/verify", "").await.refused(403, "not_yours");
    for path in ["/generations", "/shards"] {
        server.get_as(OTHER, path).await.refused(403, "not_yours");
        server.get_as(LOCAL, path).await.ok();
    }
    for of_all in [
        "/replay?generation=g&start=oldest",
        "/compare?generation=g",
        "/promote?generation=g",
        "/end?generation=g",
        "/split?shard=s",
        "/merge?shard=s&with=t",
    ] {
        server.post_as(OTHER, of_all, "").await.refused(403, "not_yours");
    }
    server.post_as(LOCAL, "/end?generation=g&noWayBack=perhaps", "").await.refused(400, "bad_parameter");
    assert_eq!(server.post_as(LOCAL, "/end?generation=g&noWayBack=true", "").await.ok()["noWayBack"], true);
    server.post_as(LOCAL, "/end?generation=g", "").await.refused(409, "refused");
    server.post_as(LOCAL, "/split?shard=s", "").await.ok();
    server.post_as(LOCAL, "/split", "").await.refused(400, "bad_parameter");
    server.post_as(LOCAL, "/merge?shard=s&with=t", "").await.refused(409, "refused");
    let token = server.get_as(ACME, "/metrics?limit=1").await.ok()["nextToken"].as_str().unwrap().to_owned();
    let stolen = server.get_as(OTHER, &format!("/metrics?limit=1&nextToken={token}")).await;
    stolen.refused(400, "bad_parameter");
}

#[tokio::test]
async fn a_tenant_changes_nothing_of_another_by_any_route() {
    let server = Server::with_tokens();
    server.post_as(ACME, "/ingest?run=r", lines("web", 50)).await.ok();
    server.post_as(ACME, "/definitions", ALARM).await.ok();
    let before =
        (server.get_as(ACME, "/metrics").await.json["items"].clone(), server.get_as(ACME, "/alarms").await.json);

    let text = lines("web", 5);
    let batch = wire::encode(&header("acme", Content::Lines, text.len()), text.as_bytes());
    server.post_as(OTHER, "/ingest", batch).await.refused(403, "foreign_tenant");
    let events = wire::encode_events(header("acme", Content::Events, 0), &[Event::Measured(Measured { data: vec![] })]);
    server.post_as(OTHER, "/ingest", events).await.refused(403, "foreign_tenant");
    server.post_as(OTHER, "/ingest?run=r&service=web", text).await.ok();
    server.post_as(OTHER, "/metrics?run=r", r#"{"service":"web","metric":"lines","value":1}"#).await.ok();
    server.post_as(OTHER, "/definitions", ALARM.replace("GreaterThanThreshold", "LessThanThreshold")).await.ok();

    let after =
        (server.get_as(ACME, "/metrics").await.json["items"].clone(), server.get_as(ACME, "/alarms").await.json);
    assert_eq!(before, after);
    assert_eq!(server.get_as(ACME, "/runs/r").await.ok()["accepted"], 50);
}

#[tokio::test]
async fn without_a_good_token_there_is_no_answer() {
    let server = Server::with_tokens();
    server.post_as(ACME, "/ingest", lines("web", 5)).await.ok();
    let puts = server.fake.puts().len();
    let longer = format!("{ACME}x");
    for authorization in
        ["", "Bearer", "Bearer ", "Bearer x", &format!("Basic {ACME}"), &ACME[1..], &format!("Bearer {longer}")]
    {
        for (method, path) in [
            ("GET", "/metrics"),
            ("POST", "/metrics"),
            ("POST", "/ingest"),
            ("GET", "/runs/r"),
            ("GET", "/balance"),
            ("POST", "/verify"),
            ("GET", "/alarms"),
            ("GET", "/alarms/a"),
            ("POST", "/definitions"),
            ("GET", "/nothing"),
        ] {
            let request = Request::builder().method(method).uri(path).header("authorization", authorization);
            let answer = server.send(request.body(Body::from("a line\n")).unwrap()).await;
            answer.refused(401, "unauthorized");
            assert!(answer.text.contains("does not know the token that was sent"), "{}", answer.text);
            assert_eq!(answer.headers["www-authenticate"], "Bearer");
        }
    }
    assert_eq!(server.fake.puts().len(), puts);
    let health = server.get("/health").await;
    assert_eq!(health.ok()["checks"][0]["detail"], "", "details are for those who run the server");
    assert_eq!(server.get("/").await.status, StatusCode::OK);
    server.post_as(LOCAL, "/verify", "").await.ok();
}

#[test]
fn tokens_that_could_be_guessed_or_confused_are_refused_by_the_number_of_their_line() {
    let of = Access::tokens;
    let third = "third-0123456789";
    for (text, error) in [
        (String::new(), BadAccess::Empty),
        ("# a b\n\n".into(), BadAccess::Empty),
        ("a short".into(), BadAccess::Token(1)),
        (format!("# ours\n{ACME} a\n"), BadAccess::Token(2)),
        (format!("a {ACME}\n{third}"), BadAccess::Words(2)),
        (format!("a {ACME} {third}"), BadAccess::Words(1)),
        (format!("a {ACME}é"), BadAccess::Token(1)),
        (format!("a {ACME}\n\na {OTHER}\nb {ACME}"), BadAccess::Twice(1, 4)),
        (format!("a {ACME}\na {OTHER}\na {ACME}"), BadAccess::Twice(1, 3)),
        (format!("a/b {ACME}"), BadAccess::Tenant(1)),
    ] {
        let refused = of(&text).unwrap_err();
        assert_eq!(refused, error, "{text}");
        let said = format!("{refused} {refused:?}");
        assert!(!said.contains("0123") && !said.contains("short") && !said.contains("a/b"), "{said}");
    }
    let access = of(&format!("\u{feff}a {ACME}\r\n  a\t{OTHER}\nb {third}")).unwrap();
    assert!(!format!("{access:?}").contains("0123"), "a token is never printed");
    for (token, tenant) in [(ACME, "a"), (OTHER, "a"), (third, "b")] {
        assert_eq!(access.tenant(Some(format!("bearer {token}").as_bytes())).as_deref(), Some(tenant));
    }
}

#[tokio::test]
async fn a_client_learns_its_tenant_and_a_stranger_does_not() {
    let server = Server::with_tokens();
    assert_eq!(server.get_as(ACME, "/health").await.ok()["tenant"], "acme");
    assert_eq!(server.get_as(OTHER, "/health").await.ok()["tenant"], "other");
    assert!(server.get("/health").await.ok().get("tenant").is_none());
    assert_eq!(Server::open().get("/health").await.ok()["tenant"], "local");
}

#[tokio::test]
async fn why_something_failed_is_told_to_those_who_run_the_server() {
    let server = Server::with_tokens();
    server.post_as(ACME, "/ingest?run=r", lines("web", 5)).await.ok();
    server.post_as(LOCAL, "/ingest?run=r", lines("web", 5)).await.ok();
    let why = "the row of service `payments` of tenant `other` is damaged";
    *server.fake.stopped.lock().unwrap() = Some(why.to_owned());
    let consumer = Check { name: "consumer".into(), ok: false, detail: why.into() };
    server.fake.checks.lock().unwrap().push(consumer);
    for (token, told) in [(ACME, false), (LOCAL, true)] {
        let run = server.get_as(token, "/runs/r").await;
        assert_eq!(run.refused(503, "stopped").contains(why), told, "{}", run.text);
        assert_eq!(run.headers["retry-after"], "1");
        let health = server.get_as(token, "/health").await;
        assert_eq!((health.status.as_u16(), &health.json["checks"][1]["name"]), (503, &"consumer".into()));
        assert_eq!(health.text.contains(why), told, "{}", health.text);
        let applied = server.post_as(token, "/definitions", ALARM).await;
        assert_eq!(applied.refused(503, "not_applied").contains(why), told, "{}", applied.text);
        // What is folded is still there to be read.
        server.get_as(token, "/metrics").await.ok();
        server.get_as(token, "/balance").await.ok();
        server.get_as(token, "/alarms").await.ok();
    }
    server.post_as(LOCAL, "/verify", "").await.ok();
}

#[tokio::test]
async fn tenants_share_a_store_in_these_tests() {
    // Else the tests above would show nothing.
    let server = Server::with_tokens();
    server.post_as(ACME, "/ingest", lines("web", 5)).await.ok();
    server.post_as(OTHER, "/ingest", lines("web", 5)).await.ok();
    let span = projections::store::Span::All {
        tenant: None,
        generation: server.fake.generation(),
        kind: projections::store::Kind::Window,
    };
    let rows = server.fake.store().scan(&span, None, std::num::NonZeroUsize::new(9).unwrap()).await.unwrap().rows;
    let tenants: Vec<_> = rows.iter().map(|row| row.key.subject.tenant.as_str()).collect();
    assert_eq!(tenants, ["acme", "other"]);
}
