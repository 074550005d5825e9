//! The two ways to read a JSON line against each other, and both against serde_json.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::lines::time::Clock;
use crate::lines::{Line, Parser, Skip, is_plain};
use proptest::prelude::*;
use serde_json::Value;

/// A JSON value of which the scalars, keys (both as written) and spaces can be anything.
#[derive(Debug, Clone)]
enum Tree {
    Scalar,
    Array(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

impl Tree {
    fn write(&self, scalars: &mut impl Iterator<Item = String>, space: &str, out: &mut String) {
        match self {
            Tree::Scalar => out.push_str(&scalars.next().unwrap()),
            Tree::Array(elements) => {
                out.push('[');
                for (index, element) in elements.iter().enumerate() {
                    out.push_str(if index > 0 { "," } else { space });
                    element.write(scalars, space, out);
                }
                out.push(']');
            }
            Tree::Object(members) => {
                out.push('{');
                for (index, (key, value)) in members.iter().enumerate() {
                    out.push_str(if index > 0 { "," } else { "" });
                    out.push_str(space);
                    out.push_str(key);
                    out.push_str(space);
                    out.push(':');
                    value.write(scalars, space, out);
                }
                out.push('}');
                out.push_str(space);
            }
        }
    }
}

/// Compiled once: a bare `&str` would be compiled for each value.
fn regex(pattern: &str) -> impl Strategy<Value = String> + use<> {
    proptest::string::string_regex(pattern).unwrap()
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => prop_oneof![
            Just("timestamp"), Just("time"), Just("@timestamp"), Just("level"), Just("severity"), Just("service"), Just("app"),
            Just("name"), Just("http"), Just("response"), Just("status_code"), Just("status"), Just("log"), Just("service.name"),
            Just("latency_ms"), Just("duration_us"), Just("request_time"), Just("bytes"), Just("size"), Just("message"),
            Just("st\\u0061tus"), Just("l\\u0065vel"), Just("a\\\\\\\"b"), Just("\\ud83d"), Just(""),
        ].prop_map(String::from),
        1 => regex("[a-zé\u{1f600}]{0,20}"),
    ]
    .prop_map(|key| format!("\"{key}\""))
}

fn scalar_text() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => prop_oneof![
            Just("\"2026-01-01T00:00:00.123Z\""), Just("\"2026-01-01T00:01:59Z\""), Just("\"2026-02-30T00:00:00Z\""),
            Just("\"2026-01-01T00:00:00\""), Just("\"01\\/Jan\\/2026:00:00:00 +0100\""), Just("1767225600123"), Just("1767225600.5"),
            Just("\"INFO\""), Just("\"w\\u0061rn\""), Just("\"Error\""), Just("30"), Just("\"auth-api\""), Just("\"a\\\"b\""),
            Just("\"caf\\u00e9\""), Just("200"), Just("\"404\""), Just("503.0"), Just("999"), Just("12.345"), Just("\"1.5s\""), Just("1e400"),
            Just("-0.0"), Just("\"\""), Just("\"\\ud83d\""), Just("true"), Just("false"), Just("null"), Just("[]"), Just("{}"),
        ].prop_map(String::from),
        1 => regex("-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,20})?([eE][-+]?[0-9]{1,3})?"),
        1 => regex("\"([ -!#-\\[\\]-~é\u{1f600}]|\\\\[\"\\\\/bfnrt]|\\\\u[0-9a-fA-F]{4}|\\\\ud83d\\\\ude00){0,40}\""),
        1 => (250usize..260).prop_map(|length| format!("\"{}\"", "x".repeat(length))),
    ]
}

fn tree() -> impl Strategy<Value = Tree> {
    let value = Just(Tree::Scalar).prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Tree::Array),
            proptest::collection::vec((key(), inner), 0..4).prop_map(Tree::Object),
        ]
    });
    let value = prop_oneof![3 => Just(Tree::Scalar), 1 => value];
    proptest::collection::vec((key(), value), 0..9).prop_map(Tree::Object)
}

/// What may be done to a valid line: nothing, a byte put in place of another, put in, taken out, or the rest cut off.
fn damaged(line: &str, damage: Option<(u8, usize, u8)>) -> Vec<u8> {
    let mut line = line.as_bytes().to_vec();
    if let Some((kind, at, byte)) = damage {
        let at = at % line.len();
        match kind {
            0 => line[at] = byte,
            1 => line.insert(at, byte),
            2 => drop(line.remove(at)),
            _ => line.truncate(at),
        }
    }
    line
}

fn damage() -> impl Strategy<Value = Option<(u8, usize, u8)>> {
    let byte = prop_oneof![
        Just(b'"'),
        Just(b'\\'),
        Just(b','),
        Just(b':'),
        Just(b'{'),
        Just(b'}'),
        Just(b']'),
        Just(b'0'),
        Just(b'.'),
        Just(b'-'),
        Just(b' '),
        Just(b'\t'),
        Just(b'e'),
        Just(b'u'),
        any::<u8>()
    ];
    prop_oneof![2 => Just(None), 1 => (0u8..4, any::<usize>(), byte).prop_map(Some)]
}

/// Lines of a few layouts in turn, some of them damaged.
fn lines() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let space = prop_oneof![4 => Just(""), 1 => Just(" "), 1 => Just("  "), 1 => Just("\t")];
    let layouts = proptest::collection::vec((tree(), space), 1..6);
    let line = (any::<prop::sample::Index>(), proptest::collection::vec(scalar_text(), 8), damage());
    (layouts, proptest::collection::vec(line, 1..25)).prop_map(|(layouts, lines)| {
        let write = |(index, scalars, damage): (prop::sample::Index, Vec<String>, _)| {
            let (tree, space) = index.get(&layouts);
            let mut text = String::new();
            tree.write(&mut scalars.into_iter().cycle(), space, &mut text);
            damaged(&text, damage)
        };
        lines.into_iter().map(write).filter(|line| !line.contains(&b'\n')).collect()
    })
}

/// All of an answer, comparable bit for bit.
fn bits(answer: Result<Line<'_>, Skip>) -> String {
    format!("{:?}", answer.map(|line| (line, line.latency_ms.map(f64::to_bits), line.bytes.map(f64::to_bits))))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_predicted_line_says_what_a_new_validating_parser_says(lines in lines()) {
        let mut warm = Parser::new(3600);
        for line in &lines {
            let expected = bits(Parser::new(3600).parse(line, false));
            let plain = is_plain(line);
            for _ in 0..2 {
                prop_assert_eq!(bits(warm.parse(line, plain)), expected.clone(), "{}", String::from_utf8_lossy(line));
            }
        }
    }

    #[test]
    fn a_line_is_malformed_when_serde_json_says_so(lines in lines()) {
        let mut parser = Parser::new(0);
        for line in &lines {
            let trimmed = line.trim_ascii_start();
            prop_assume!(trimmed.first() == Some(&b'{') && !line.contains(&0) && !line.contains(&0xc));
            let valid = str::from_utf8(line).is_ok_and(|text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok());
            let malformed = parser.parse(line, is_plain(line)) == Err(Skip::MalformedJson);
            prop_assert_eq!(malformed, !valid, "{}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn of_all_keys_those_count_that_a_map_would_hold(lines in lines()) {
        let mut parser = Parser::new(0);
        for line in &lines {
            // serde_json knows neither half pairs nor numbers too large, where a line is still read.
            let Ok(value @ Value::Object(_)) = serde_json::from_slice::<Value>(line) else { continue };
            let answer = parser.parse(line, is_plain(line)).unwrap();
            prop_assert_eq!(answer.service, service(&value), "{}", value);
            prop_assert_eq!(answer.status, status(&value), "{}", value);
        }
    }
}

fn first<'a, T>(value: &'a Value, paths: &[&[&str]], usable: impl Fn(&'a Value) -> Option<T>) -> Option<T> {
    paths.iter().find_map(|path| usable(path.iter().try_fold(value, |value, key| value.get(key))?))
}

fn service(value: &Value) -> Option<&str> {
    let paths: [&[&str]; 4] = [&["service"], &["service.name"], &["service", "name"], &["app"]];
    first(value, &paths, |value| value.as_str().filter(|name| (1..=255).contains(&name.len())))
}

fn status(value: &Value) -> Option<u16> {
    let paths: [&[&str]; 4] =
        [&["status"], &["status_code"], &["http", "status_code"], &["http", "response", "status_code"]];
    first(value, &paths, |value| {
        let number = value.as_f64().or_else(|| value.as_str().filter(|text| !text.starts_with('+'))?.parse().ok())?;
        ((100.0..600.0).contains(&number) && number.fract() == 0.0).then_some(number as u16)
    })
}

#[test]
fn a_second_line_of_a_layout_is_read_by_prediction() {
    let mut reader = Reader::default();
    let mut tools = Tools::new(Clock::new(0));
    let line =
        |n: u32, name: &str| format!(r#"{{"status":{n},"http":{{"a":[{n},null]}},"service":"{name}","x":{{}}}}"#);
    assert!(reader.read(line(200, "a").as_bytes(), true, &mut Found::new(), &mut tools).is_some());
    for other in [line(404, "b"), line(500, r#"a\"\u0041"#), line(1, "")] {
        assert!(reader.layouts.read(other.as_bytes(), &mut Found::new(), &mut tools).is_some(), "{other}");
    }
    for other in
        [line(404, "b").replace("null", "[]"), line(404, "b") + " ", line(200, "\\x"), line(404, "b").replace("x", "y")]
    {
        assert!(reader.layouts.read(other.as_bytes(), &mut Found::new(), &mut tools).is_none(), "{other}");
    }
}

#[test]
fn producers_that_take_turns_are_all_predicted() {
    let mut reader = Reader::default();
    let mut tools = Tools::new(Clock::new(0));
    for round in 0..3 {
        for producer in ["a", "b", "c", "d"] {
            let line = format!(r#"{{"{producer}":{round}}}"#);
            let predicted = reader.layouts.read(line.as_bytes(), &mut Found::new(), &mut tools).is_some();
            assert_eq!(predicted, round > 0, "{line}");
            assert!(reader.read(line.as_bytes(), true, &mut Found::new(), &mut tools).is_some());
        }
    }
}

#[test]
fn a_producer_without_a_layout_is_seldom_learned_from() {
    let mut reader = Reader::default();
    let mut tools = Tools::new(Clock::new(0));
    let learned = (0..10_000).filter(|n| {
        let line = format!(r#"{{"key{n}":1}}"#);
        assert!(reader.read(line.as_bytes(), true, &mut Found::new(), &mut tools).is_some());
        // Asked of a copy, so that the layout does not count as one that held.
        reader.layouts.clone().read(line.as_bytes(), &mut Found::new(), &mut tools).is_some()
    });
    assert!(learned.count() < 100);
}

#[test]
fn nesting_is_bounded_where_serde_json_bounds_it() {
    for (open, close) in [("{\"a\":", "}"), ("[", "]")] {
        for depth in [125, 126, 127, 200, 10_000] {
            let line = format!("{{\"b\":{}1{}}}", open.repeat(depth), close.repeat(depth));
            let ours = Parser::new(0).parse(line.as_bytes(), true).is_ok();
            assert_eq!(ours, serde_json::from_str::<Value>(&line).is_ok(), "{depth}");
        }
    }
}

#[test]
fn a_line_of_very_many_keys_is_read_within_bounds() {
    let line = format!("{{{}\"status\":200}}", "\"status\":404,\"k\":[1,2],".repeat(10_000));
    let mut parser = Parser::new(0);
    for _ in 0..2 {
        assert_eq!(parser.parse(line.as_bytes(), true).unwrap().status, Some(200));
    }
}
