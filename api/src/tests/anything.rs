//! Whatever comes in, an answer goes out: never a panic, never an answer that is no JSON, never a status that blames the server.

use axum::{body::Body, http::Request};
use events::wire::{self, Content};
use proptest::prelude::*;

use super::{
    ACME, Answer, Server,
    fake::{NOW_MS, header},
};

fn send(server: &Server, method: &str, path: &str, authorization: &[u8], body: Vec<u8>) -> Option<Answer> {
    let request = Request::builder().method(method).uri(path).header("authorization", authorization);
    let request = request.body(Body::from(body)).ok()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    Some(runtime.block_on(server.send(request)))
}

fn check(answer: Option<Answer>) -> Result<(), TestCaseError> {
    if let Some(answer) = answer {
        prop_assert!(answer.status.as_u16() < 500, "{}", answer.text);
        prop_assert!(answer.json.is_object(), "{}", answer.text);
        prop_assert_eq!(answer.status.is_success(), answer.json.get("error").is_none());
    }
    Ok(())
}

/// Bytes, more or less like what is taken.
fn bodies() -> impl Strategy<Value = Vec<u8>> {
    let any_bytes = prop::collection::vec(any::<u8>(), 0..300);
    let headed =
        (prop::sample::select(vec![&b"\x1f\x8b\x08\x00"[..], b"\x28\xb5\x2f\xfd", &wire::MAGIC]), any_bytes.clone())
            .prop_map(|(head, rest)| [head, &rest].concat());
    let batch = (any_bytes.clone(), prop_oneof![Just(Content::Lines), Just(Content::Events)])
        .prop_map(|(body, content)| wire::encode(&header("acme", content, body.len()), &body).to_vec());
    let json = prop::string::string_regex(
        r#"\{?"?(metrics|service|AlarmName|MetricAlarms)?"?:?\[?(\{"(service|metric|value|AlarmName|Period)":("a"|1|\[\]|-1e9|null),?"?(metric|value)?"?:?("b"|2)?\})?\]?\}?"#,
    )
    .unwrap()
    .prop_map(String::into_bytes);
    prop_oneof![any_bytes, headed, batch, json]
}

fn addresses() -> impl Strategy<Value = String> {
    let name = "service|metric|namespace|timeRange|startTime|endTime|period|statistics|limit|nextToken|run|wait|x";
    let pair = (prop::string::string_regex(name).unwrap(), "[a-zA-Z0-9%+:._,-]{0,12}")
        .prop_map(|(name, value)| format!("{name}={value}"));
    let query = prop::collection::vec(pair, 0..4).prop_map(|pairs| pairs.join("&"));
    let path = prop::string::string_regex(
        "/(metrics|ingest|definitions|alarms|alarms/[a-z%0-9]{0,6}|runs/[a-z%0-9]{0,6}|balance|[a-z/%]{0,9})",
    )
    .unwrap();
    (path, query).prop_map(|(path, query)| format!("{path}?{query}"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_body_breaks_a_route(body in bodies(), path in prop::sample::select(vec!["/ingest", "/metrics", "/definitions"])) {
        let server = Server::with_tokens();
        check(send(&server, "POST", path, format!("Bearer {ACME}").as_bytes(), body))?;
        // What was taken leaves rows that can be read.
        check(send(&server, "GET", "/metrics", format!("Bearer {ACME}").as_bytes(), vec![]))?;
        prop_assert!(server.fake.puts().iter().all(|put| wire::decode_header(&put.data).unwrap().0.tenant == "acme"));
    }

    #[test]
    fn no_address_breaks_a_route(address in addresses(), method in prop::sample::select(vec!["GET", "POST", "PUT"])) {
        let server = Server::with_tokens();
        if address.starts_with("/?") {
            return Ok(());
        }
        check(send(&server, method, &address, format!("Bearer {ACME}").as_bytes(), vec![]))?;
    }

    #[test]
    fn no_credential_but_a_token_is_one(authorization in prop::collection::vec(0x20u8..0x7f, 0..60), spaced in any::<bool>()) {
        let server = Server::with_tokens();
        let authorization = if spaced { [b"Bearer ", &authorization[..]].concat() } else { authorization };
        let answer = send(&server, "GET", "/metrics", &authorization, vec![]);
        prop_assert_eq!(answer.map(|answer| answer.status.as_u16()), Some(401));
    }
}

#[test]
fn the_clock_of_these_tests_is_fixed() {
    assert_eq!(projections::when::Second(NOW_MS / 1000).to_string(), "2026-01-02T03:30:00Z");
}
