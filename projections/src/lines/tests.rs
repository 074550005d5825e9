//! What each form of a line says, and why one says nothing.
#![allow(clippy::unwrap_used)]
use super::*;
use proptest::prelude::*;

const NOON_MS: i64 = 1_795_221_578_000; // 2026-11-21T00:39:38Z

fn with<T>(line: &str, look: impl Fn(Result<Line<'_>, Skip>) -> T) -> T {
    look(Parser::new(0).parse(line.as_bytes(), false))
}

#[test]
fn a_json_line_says_all_that_its_keys_say() {
    let line = r#"{"timestamp":"2026-11-21T00:39:38.500Z","level":"warning","service":"auth","latency_ms":12.345,"status":200,"bytes":7}"#;
    with(line, |answer| {
        let expected = Line {
            time_ms: Some(NOON_MS + 500),
            service: Some("auth"),
            level: Some(Level::Warn),
            status: Some(200),
            latency_ms: Some(12.345),
            bytes: Some(7.0),
        };
        assert_eq!(answer, Ok(expected));
    });
}

#[test]
fn the_best_ranked_usable_key_wins_wherever_it_stands() {
    for (line, status) in [
        (r#"{"http_status":404,"status":200}"#, Some(200)),
        (r#"{"status":200,"http_status":404}"#, Some(200)),
        (r#"{"status":"active","http_status":404}"#, Some(404)),
        (r#"{"status":200,"status":404}"#, Some(404)),
        (r#"{"status":200,"status":null,"statusCode":500}"#, Some(500)),
        (r#"{"http":{"status_code":404},"http":{}}"#, None),
        (r#"{"http":{"response":{"status_code":"404"}}}"#, Some(404)),
        (r#"{"other":{"status":404}}"#, None),
        (r#"{"status":[200]}"#, None),
        (r#"{"status":"200 OK"}"#, None),
        (r#"{"status":600}"#, None),
    ] {
        // Twice, so that the second time the layout is known.
        let mut parser = Parser::new(0);
        for _ in 0..2 {
            assert_eq!(parser.parse(line.as_bytes(), true).unwrap().status, status, "{line}");
        }
    }
}

#[test]
fn a_latency_is_milliseconds_whatever_its_key_counts_in() {
    for (line, ms) in [
        (r#"{"duration":12}"#, 12.0),
        (r#"{"duration_us":12}"#, 0.012),
        (r#"{"elapsed_ns":1500000}"#, 1.5),
        (r#"{"latency_seconds":0.075}"#, 75.0),
        (r#"{"request_time":"0.075"}"#, 75.0),
        (r#"{"request_time":0.1,"duration_ms":3}"#, 3.0),
        (r#"{"elapsed":"1.5s"}"#, 1500.0),
    ] {
        with(line, |answer| assert_eq!(answer.unwrap().latency_ms, Some(ms), "{line}"));
    }
}

#[test]
fn a_services_name_has_its_escapes_resolved_and_a_bound() {
    let service = |line: &str| with(line, |answer| answer.unwrap().service.map(String::from));
    assert_eq!(service(r#"{"service":"a\u00e9\/b"}"#).as_deref(), Some("aé/b"));
    assert_eq!(service(r#"{"service":{"name":"cart"}}"#).as_deref(), Some("cart"));
    assert_eq!(service(r#"{"app":"x\ty","service":"\ud83d"}"#).as_deref(), Some("x\ty"));
    assert_eq!(service(r#"{"app":"x\ty","service":""}"#).as_deref(), Some("x\ty"));
    let longest = "x".repeat(SERVICE_BYTES_MAX);
    assert_eq!(service(&format!(r#"{{"service":"{longest}","app":"short"}}"#)), Some(longest.clone()));
    assert_eq!(service(&format!(r#"{{"service":"{longest}x","app":"short"}}"#)).as_deref(), Some("short"));
}

#[test]
fn lines_that_say_nothing_say_why() {
    for (line, skip) in [
        ("", Skip::Blank),
        (" \t\r", Skip::Blank),
        ("{", Skip::MalformedJson),
        (" {\"a\":1", Skip::MalformedJson),
        ("{\"a\":\"b\tc\"}", Skip::MalformedJson),
        ("{}{}", Skip::MalformedJson),
        ("{\"a\":01}", Skip::MalformedJson),
        (r#"[{"status":500},{"status":200}]"#, Skip::JsonArray),
        (" [ {\"a\":[{}]} , 1 ] \r", Skip::JsonArray),
        ("a\0b", Skip::Binary),
        ("{\"a\":\"\0\"}", Skip::Binary),
    ] {
        with(line, |answer| assert_eq!(answer, Err(skip), "{line:?}"));
    }
    let not_utf8 = b"{\"a\":\"\xff\"}";
    assert_eq!(Parser::new(0).parse(not_utf8, false), Err(Skip::MalformedJson));
    assert!(Parser::new(0).parse(b"text \xff", false).is_ok());
}

#[test]
fn text_that_begins_with_a_bracket_is_text() {
    let level = |line: &str| with(line, |answer| answer.map(|line| line.level));
    for line in
        ["[2026-01-02 03:04:05] ERROR x", "[error] x", "[{db}] ERROR x", "[{\"a\":1}] ERROR x", "[{\"a\":1} ERROR"]
    {
        assert_eq!(level(line), Ok(Some(Level::Error)), "{line}");
    }
    for line in ["[", "[]", "[1,2]", "[\"a\"]", "[{"] {
        assert_eq!(level(line), Ok(None), "{line}");
    }
}

#[test]
fn a_line_whose_time_is_no_instant_is_skipped_for_that_and_not_counted_as_of_now() {
    for line in [
        r#"{"time":"2026-02-30T00:00:00Z","status":500}"#,
        r#"{"time":"1969-12-31T23:59:59Z","status":500}"#,
        r#"{"ts":-1,"status":500}"#,
        r#"{"ts":1e30,"status":500}"#,
        "2026-13-01 00:00:00 ERROR x",
        "[2026-13-01 00:00:00] ERROR x",
        "1.2.3.4 - - [31/Feb/2026:00:00:00 +0000] \"GET / HTTP/1.1\" 500 1",
        "1.2.3.4 - - [0:00] \"GET / HTTP/1.1\" 500 1",
        "level=error time=2026-02-30T00:00:00Z",
        r#"{"time":"01/02/2026 03:04:05","status":500}"#,
        "01/02/2026, 03:04:05 ERROR x",
    ] {
        // Twice, so that the second time the layout is known.
        let mut parser = Parser::new(0);
        for _ in 0..2 {
            assert_eq!(parser.parse(line.as_bytes(), false), Err(Skip::BadTime), "{line}");
        }
    }
    for (line, time_ms) in [
        (r#"{"time":"2026-02-30T00:00:00Z","ts":1795221578}"#, Some(NOON_MS)),
        (r#"{"ts":1795221578,"time":"2026-02-30T00:00:00Z"}"#, Some(NOON_MS)),
        (r#"{"time":null,"status":500}"#, None),
        (r#"{"time":"10:00:00","date":"2026-02-28"}"#, Some(1_772_236_800_000)),
        (r#"{"time":"0001-01-01T00:00:00Z","status":500}"#, None),
        ("2026-13-01 00:00:00 time=2026-11-21T00:39:38Z", Some(NOON_MS)),
        ("plain words", None),
    ] {
        with(line, |answer| assert_eq!(answer.unwrap().time_ms, time_ms, "{line}"));
    }
}

#[test]
fn a_form_without_a_year_is_read_alike_with_and_without_a_layout() {
    for (line, time_ms) in [
        (r#"{"time":"Nov 21 00:39:38","status":500}"#, Some(NOON_MS)),
        (r#"{"status":500,"time":"Nov 21 00:39:38.000"}"#, Some(NOON_MS)),
        (r#"{"date":"2026-11-21","time":"20261121T003938Z"}"#, Some(NOON_MS)),
        ("<34>Nov 21 00:39:38 host app[1]: hello", Some(NOON_MS)),
        ("I1121 00:39:38.000000 1 main.go:1] started", Some(NOON_MS)),
        ("[Nov 21 00:39:38] started", Some(NOON_MS)),
        ("Nov 31 00:39:38 host app[1]: hello", None),
    ] {
        let mut parser = Parser::new(0);
        parser.read_at(NOON_MS);
        for _ in 0..2 {
            assert_eq!(parser.parse(line.as_bytes(), true).unwrap().time_ms, time_ms, "{line}");
        }
        // Read a year later, it is of a year later, unless it names its year.
        parser.read_at(NOON_MS + 365 * 86_400_000);
        let later = parser.parse(line.as_bytes(), true).unwrap().time_ms;
        let has_year = line.contains("2026");
        assert_eq!(
            later.map(|ms| ms - NOON_MS),
            time_ms.map(|_| if has_year { 0 } else { 365 * 86_400_000 }),
            "{line}"
        );
    }
}

#[test]
fn a_carriage_return_and_a_byte_order_mark_are_no_part_of_the_line() {
    for line in ["{\"status\":200}\r", "\u{feff}{\"status\":200}", "\t{\"status\" :\t200 } ", "\u{feff}status=200\r"] {
        with(line, |answer| assert_eq!(answer.unwrap().status, Some(200), "{line:?}"));
    }
}

#[test]
fn plain_is_utf8_without_control_bytes_but_newlines() {
    let long = "é{\"a\":1}\n".repeat(2000);
    for (batch, plain) in [("", true), ("a\nb", true), ("é\n", true), (&long, true), ("\t", false), ("\r\n", false)] {
        assert_eq!(is_plain(batch.as_bytes()), plain, "{batch:.20}");
    }
    for at in [0, 1, 4095, 4096, 9000] {
        for (byte, plain) in [(b'\x1f', false), (b'\0', false), (b'\xff', false), (b'\x7f', true)] {
            let mut batch = vec![b'a'; 10_000];
            batch[at] = byte;
            assert_eq!(is_plain(&batch), plain, "{byte} at {at}");
        }
    }
}

/// Compiled once: a bare `&str` would be compiled for each value.
fn regex(pattern: &str) -> impl Strategy<Value = String> + use<> {
    proptest::string::string_regex(pattern).unwrap()
}

fn any_line() -> impl Strategy<Value = Vec<u8>> {
    let shaped = prop_oneof![
        // Access logs, plain text and JSON, each with room for what breaks it.
        regex(
            "(1\\.2\\.3\\.4|::1) - (-|\"?a b\"?) \\[(0[19]|40)/(Jan|Feb|Xxx)/2026:0[0-2]:0[0-2]:[0-6]0 [+-]0[01]00\\] \"(GET /[a-z]|\\\\\"|\\\\){0,4}\" [0-9-]{1,4} [0-9-]{1,4}( \"[a-z\\\\\" ]{0,9}\"){0,3}( (rt=)?\"?[0-9]{0,2}\\.?[0-9]{0,3}(ms)?\"?)?"
        ),
        regex(
            "(\\[?2026-01-0[12][T ]0[01]:0[01]:[0-6]0(\\.[0-9]{1,7})?(Z| ?[+-]0100|)\\]?)? ?(INFO|error:|\\[warn\\]|main)? [a-z =:\"\\\\]{0,9}((status|level|latency|app)=(\"?[a-z0-9.]{0,5}\"?|500|error))?.{0,20}"
        ),
        regex(
            "\\{\"ts\":(\"2026-01-0[12]T0[01]:0[01]:[0-6]0Z\"|[0-9]{1,20}(\\.[0-9]{1,9})?),\"(level|app)\":\"[a-zA-Z\\\\]{0,6}\",\"(status|size)\":[0-9]{1,4}\\}[ }]?"
        ),
        regex("<[0-9]{1,4}>(1 )?(2026-01-01T00:00:00Z|Oct 11 22:14:15) [a-z -]{0,12}"),
    ];
    let bytes = proptest::collection::vec(any::<u8>().prop_filter("one line", |byte| *byte != b'\n'), 0..60);
    prop_oneof![8 => shaped.prop_map(String::into_bytes), 1 => bytes]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_was_read_before_and_who_checked_it_change_no_answer(lines in proptest::collection::vec(any_line(), 1..20)) {
        let mut warm = Parser::new(-3600);
        for line in &lines {
            let expected = format!("{:?}", Parser::new(-3600).parse(line, false));
            prop_assert_eq!(format!("{:?}", warm.parse(line, is_plain(line))), expected, "{:?}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn no_line_breaks_a_bound(line in any_line()) {
        if let Ok(answer) = Parser::new(0).parse(&line, false) {
            prop_assert!(answer.service.is_none_or(|name| (1..=SERVICE_BYTES_MAX).contains(&name.len())));
            prop_assert!(answer.status.is_none_or(|status| (100..=599).contains(&status)));
            prop_assert!(answer.bytes.is_none_or(|bytes| (0.0..=2f64.powi(360)).contains(&bytes)));
            prop_assert!(answer.time_ms.is_none_or(|time_ms| (0..=253_402_300_799_999).contains(&time_ms)));
        }
    }
}
