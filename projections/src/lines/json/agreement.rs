//! The two ways to read a JSON line against each other, and both against serde_json.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::lines::time::Clock;
use crate::lines::{Line, Parser, Skip, is_plain};
use serde_json::Value;

/// Seeds of each property below. By hand instead of by proptest's strategies, which take a hundred times as long.
const SEEDS: u64 = 1000;

/// A source of choices; one seed, one sequence.
struct Choices(u64);

impl Choices {
    /// Less than `bound`.
    fn below(&mut self, bound: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) % bound as u64) as usize
    }

    fn one_of<'a>(&mut self, words: &'a [&'a str]) -> &'a str {
        words[self.below(words.len())]
    }

    fn digits(&mut self, count: usize) -> String {
        (0..count).map(|_| char::from(b'0' + self.below(10) as u8)).collect()
    }
}

const KEYS: &[&str] = &[
    "timestamp",
    "time",
    "@timestamp",
    "level",
    "severity",
    "service",
    "service",
    "app",
    "name",
    "http",
    "http",
    "response",
    "status_code",
    "status_code",
    "status",
    "status",
    "log",
    "service.name",
    "latency_ms",
    "duration_us",
    "request_time",
    "bytes",
    "size",
    "message",
    "st\\u0061tus",
    "l\\u0065vel",
    "a\\\\\\\"b",
    "\\ud83d",
    "",
    "é",
    "a key longer than sixteen bytes",
    "a key longer than sixteen bytes!",
    "\u{1f600}\\n",
];
const SCALARS: &[&str] = &[
    "\"2026-01-01T00:00:00.123Z\"",
    "\"2026-01-01T00:01:59Z\"",
    "\"2026-02-30T00:00:00Z\"",
    "\"2026-01-01T00:00:00\"",
    "\"2026-01-01 00:00:00 +0100\"",
    "\"01\\/Jan\\/2026:00:00:00 +0100\"",
    "1767225600123",
    "1767225600.5",
    "\"1767225600\"",
    "\"INFO\"",
    "\"w\\u0061rn\"",
    "\"Error\"",
    "30",
    "\"auth-api\"",
    "\"a\\\"b\"",
    "\"caf\\u00e9\"",
    "200",
    "\"404\"",
    "503.0",
    "5e2",
    "999",
    "12.345",
    "\"1.5s\"",
    "1e400",
    "-0.0",
    "\"\"",
    "\"\\ud83d\"",
    "\"\\ude00\\ud83d\"",
    "true",
    "false",
    "null",
    "[]",
    "{}",
    "-1",
];
const PIECES: &[&str] = &[
    "a",
    "word ",
    "é",
    "\u{1f600}",
    "\\\"",
    "\\\\",
    "\\/",
    "\\b",
    "\\f",
    "\\n",
    "\\r",
    "\\t",
    "\\u00e9",
    "\\uD83D\\ude00",
    "\\ud83d",
    "0123456789",
    "a text of more than sixteen bytes",
    "{",
    "}",
    "[",
    ",",
    ":",
    "\u{7f}",
];

/// A JSON value of which the scalars are still open.
enum Tree {
    Scalar,
    Array(Vec<Tree>),
    Object(Vec<(&'static str, Tree)>),
}

impl Tree {
    fn new(choices: &mut Choices, depth: usize) -> Self {
        match choices.below(8) {
            0 if depth > 0 => Tree::Array((0..choices.below(4)).map(|_| Tree::new(choices, depth - 1)).collect()),
            1 | 2 if depth > 0 => Tree::object(choices, 4, depth - 1),
            _ => Tree::Scalar,
        }
    }

    fn object(choices: &mut Choices, members_max: usize, depth: usize) -> Self {
        let members = 0..choices.below(members_max + 1);
        Tree::Object(members.map(|_| (choices.one_of(KEYS), Tree::new(choices, depth))).collect())
    }

    fn write(&self, choices: &mut Choices, space: &str, out: &mut String) {
        match self {
            Tree::Scalar => out.push_str(&scalar_text(choices)),
            Tree::Array(elements) => {
                out.push('[');
                for (index, element) in elements.iter().enumerate() {
                    out.push_str(if index > 0 { "," } else { space });
                    element.write(choices, space, out);
                }
                out.push(']');
            }
            Tree::Object(members) => {
                out.push('{');
                for (index, (key, value)) in members.iter().enumerate() {
                    let comma = if index > 0 { "," } else { "" };
                    out.push_str(&format!("{comma}{space}\"{key}\"{space}:"));
                    value.write(choices, space, out);
                }
                out.push_str(&format!("}}{space}"));
            }
        }
    }
}

fn scalar_text(choices: &mut Choices) -> String {
    match choices.below(8) {
        0 => {
            let mut number = String::from(choices.one_of(&["", "-"]));
            let count = choices.below(21);
            number += &format!("{}{}", 1 + choices.below(9), choices.digits(count));
            let count = 1 + choices.below(20);
            number += &format!("{}{}", choices.one_of(&["", "."]), choices.digits(count));
            let count = 1 + choices.below(3);
            number + choices.one_of(&["", "", "e", "E+", "e-"]) + &choices.digits(count)
        }
        1 => format!("\"{}\"", (0..choices.below(8)).map(|_| choices.one_of(PIECES)).collect::<String>()),
        2 if choices.below(8) == 0 => format!("\"{}\"", "x".repeat(250 + choices.below(10))),
        _ => String::from(choices.one_of(SCALARS)),
    }
}

/// A valid line with nothing done to it, or a byte put in place of another, put in, taken out, or the rest cut off.
fn damaged(line: &str, choices: &mut Choices) -> Vec<u8> {
    const BYTES: &[u8] = b"\"\\,:{}[]0.- \t\neu+\x01\xff";
    let mut line = line.as_bytes().to_vec();
    let (at, byte) = (choices.below(line.len()), BYTES[choices.below(BYTES.len())]);
    match choices.below(12) {
        0 => line[at] = byte,
        1 => line.insert(at, byte),
        2 => drop(line.remove(at)),
        3 => line.truncate(at),
        _ => {}
    }
    line
}

/// Lines of a few layouts in turn, some of them damaged.
fn lines(seed: u64) -> Vec<Vec<u8>> {
    let choices = &mut Choices(seed);
    let layout = |choices: &mut Choices| (Tree::object(choices, 8, 3), choices.one_of(&["", "", "", " ", "  ", "\t"]));
    let layouts: Vec<_> = (0..1 + choices.below(5)).map(|_| layout(choices)).collect();
    let mut line = || {
        let (tree, space) = &layouts[choices.below(layouts.len())];
        let mut text = String::new();
        tree.write(choices, space, &mut text);
        damaged(&text, choices)
    };
    (0..16).flat_map(|_| line().split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect::<Vec<_>>()).collect()
}

/// Every line of every seed, after the seed's number and the lines before it.
fn each_line(mut look: impl FnMut(u64, &mut Parser, &[u8])) {
    for seed in 0..SEEDS {
        let mut warm = Parser::new(3600);
        lines(seed).iter().for_each(|line| look(seed, &mut warm, line));
    }
}

/// All of an answer, comparable bit for bit.
fn bits(answer: Result<Line<'_>, Skip>) -> String {
    format!("{:?}", answer.map(|line| (line, line.latency_ms.map(f64::to_bits), line.bytes.map(f64::to_bits))))
}

#[test]
fn a_predicted_line_says_what_a_new_validating_parser_says() {
    each_line(|seed, warm, line| {
        let expected = bits(Parser::new(3600).parse(line, false));
        let plain = is_plain(line);
        for _ in 0..2 {
            assert_eq!(bits(warm.parse(line, plain)), expected, "seed {seed}: {}", String::from_utf8_lossy(line));
        }
    });
}

#[test]
fn a_batch_says_what_its_lines_say() {
    for seed in 0..SEEDS {
        let batch = lines(seed).join(&b'\n');
        let (mut warm, mut by_line) = (Parser::new(3600), Parser::new(3600));
        // Often a batch is not plain for one byte of one line: then once more without its odd bytes.
        for batch in [&batch, &batch.iter().copied().filter(|byte| matches!(byte, b'\n' | b' '..b'\x7f')).collect()] {
            let (plain, mut at) = (is_plain(batch), 0);
            for line in batch.split_inclusive(|byte| *byte == b'\n') {
                let line = line.strip_suffix(b"\n").unwrap_or(line);
                let answer = warm.next(batch, &mut at, plain).map(bits);
                let expected = Some(bits(by_line.parse(line, false)));
                assert_eq!(answer, expected, "seed {seed}: {}", String::from_utf8_lossy(line));
            }
            assert!(at >= batch.len() && warm.next(batch, &mut at, plain).is_none(), "seed {seed}");
        }
    }
}

#[test]
fn a_string_never_goes_on_in_the_next_line() {
    let mut parser = Parser::new(0);
    let batch =
        "{\"a\":\"x\",\"status\":200}\n{\"a\":\"\n\",\"status\":404}\n{\"a\":\"\\\n\",\"status\":404}".as_bytes();
    let mut at = 0;
    let answers = std::iter::from_fn(|| Some(parser.next(batch, &mut at, true)?.map(|line| line.status)));
    let malformed = Err(Skip::MalformedJson);
    assert_eq!(answers.collect::<Vec<_>>(), [Ok(Some(200)), malformed, Ok(None), malformed, Ok(None)]);
}

#[test]
fn a_line_is_malformed_when_serde_json_says_so() {
    each_line(|seed, parser, line| {
        if line.trim_ascii_start().first() != Some(&b'{') {
            return;
        }
        let valid = str::from_utf8(line).is_ok_and(|text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok());
        let malformed = parser.parse(line, is_plain(line)) == Err(Skip::MalformedJson);
        assert_eq!(malformed, !valid, "seed {seed}: {}", String::from_utf8_lossy(line));
    });
}

#[test]
fn of_all_keys_those_count_that_a_map_would_hold() {
    let mut compared = 0;
    each_line(|seed, parser, line| {
        // serde_json knows neither half pairs nor numbers too large, where a line is still read.
        let Ok(value @ Value::Object(_)) = serde_json::from_slice::<Value>(line) else { return };
        let answer = match parser.parse(line, is_plain(line)) {
            Ok(answer) => answer,
            Err(skip) => {
                let dated = ["timestamp", "time", "@timestamp"].iter().any(|key| value.get(key).is_some());
                return assert!(skip == Skip::BadTime && dated, "seed {seed}: {skip:?} {value}");
            }
        };
        assert_eq!(answer.service, service(&value), "seed {seed}: {value}");
        assert_eq!(answer.status, status(&value), "seed {seed}: {value}");
        compared += 1;
    });
    assert!(compared > SEEDS, "{compared}");
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
        // A string may have zeros in front; else it is a number as JSON has it.
        let in_text = |text: &str| serde_json::from_str::<f64>(text.trim_start_matches('0')).ok();
        let number = value.as_f64().or_else(|| value.as_str().filter(|text| text.trim() == *text).and_then(in_text))?;
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
        assert!(reader.layouts.read(other.as_bytes(), 0, &mut Found::new(), &mut tools).is_some(), "{other}");
    }
    for other in
        [line(404, "b").replace("null", "[]"), line(404, "b") + " ", line(200, "\\x"), line(404, "b").replace("x", "y")]
    {
        assert!(reader.layouts.read(other.as_bytes(), 0, &mut Found::new(), &mut tools).is_none(), "{other}");
    }
}

#[test]
fn producers_that_take_turns_are_all_predicted() {
    let mut reader = Reader::default();
    let mut tools = Tools::new(Clock::new(0));
    for round in 0..3 {
        for producer in ["a", "b", "c", "d"] {
            let line = format!(r#"{{"{producer}":{round}}}"#);
            let predicted = reader.layouts.read(line.as_bytes(), 0, &mut Found::new(), &mut tools).is_some();
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
        reader.layouts.clone().read(line.as_bytes(), 0, &mut Found::new(), &mut tools).is_some()
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
