//! Documents and lines as strangers mix them, and what each becomes.
#![allow(clippy::unwrap_used)]
use super::*;
use crate::wire::part::VALUES_BYTES_MAX;

fn read(text: &str) -> Vec<Part> {
    let mut budget = Budget { bytes: 0, value_bytes: VALUES_BYTES_MAX };
    Text::read(&Bytes::copy_from_slice(text.as_bytes()), &mut budget).unwrap()
}

/// In words: lines as they are, documents in brackets, how many values, events with service and time.
fn shown(text: &str) -> Vec<String> {
    let entry = |entry: &Entry| match &entry.said {
        Said::Line(text) => format!("line {}", text.escape_ascii()),
        Said::Document(text) => format!("document {}", text.escape_ascii()),
        Said::Values(values) => format!("{} values", values.len()),
    };
    let part = |part: &Part| match part {
        Part::Lines(text) => vec![format!("lines {}", text.escape_ascii())],
        Part::Entries(Entries { service: Some(service), entries, .. }) => {
            vec![format!("{service} at {:?}: {}", entries[0].time_ms, entry(&entries[0]))]
        }
        Part::Entries(entries) => entries.entries.iter().map(entry).collect(),
        other => panic!("{other:?}"),
    };
    read(text).iter().flat_map(part).collect()
}

const EVENT: &str = r#"{"version":"0","id":"6a7e8feb","detail-type":"Order Placed","source":"shop.orders","account":"111122223333","time":"2026-01-01T00:06:40Z","region":"eu-west-1","resources":[],"detail":{"service":"orders","status":200}}"#;
const METRICS: &str =
    r#"{"_aws":{"Timestamp":1,"CloudWatchMetrics":[{"Namespace":"S","Metrics":[{"Name":"a"}]}]},"a":[1,2]}"#;
const OURS: &str = r#"{"Measured":{"data":[{"namespace":"S","metric":"a","value":1,"unit":"None"}]}}"#;

#[test]
fn lines_stay_together_as_they_were_written() {
    for text in [
        "one line",
        "two\nlines\n",
        "{\"a\":1}\n{\"a\":2}\n\n{broken\n",
        "\n",
        "[1,2]",
        "[{\"a\":1},2]",
        "[]",
        "{",
        "{}\nx",
    ] {
        assert_eq!(read(text), [Part::Lines(Bytes::copy_from_slice(text.as_bytes()))], "{text}");
    }
}

#[test]
fn the_objects_of_an_array_are_lines_each() {
    assert_eq!(shown(" [{\"a\":1}, {\"b\":[]}]\n"), ["lines {\\\"a\\\":1}\\n{\\\"b\\\":[]}\\n"]);
    let mixed = format!("[{{\"a\":1}},{METRICS},{EVENT},{{\"a\":\n2}},{{\"a\":3}}]");
    assert_eq!(
        shown(&mixed),
        [
            "lines {\\\"a\\\":1}\\n",
            "2 values",
            "shop.orders/Order Placed at Some(1767226000000): document {\\\"service\\\":\\\"orders\\\",\\\"status\\\":200}",
            "document {\\\"a\\\":\\n2}",
            "lines {\\\"a\\\":3}\\n",
        ]
    );
}

#[test]
fn a_document_may_be_on_several_lines_and_several_on_one() {
    assert_eq!(shown("{\n \"a\": 1\n}\n"), ["document {\\n \\\"a\\\": 1\\n}"]);
    assert_eq!(shown("{\"a\":1}{\"a\":2} {\"a\":3}"), ["lines {\\\"a\\\":1}\\n{\\\"a\\\":2}\\n{\\\"a\\\":3}\\n"]);
    // As a whole it is no JSON: so it is a line, which says that.
    assert_eq!(shown("{\"a\":1}{\"a\":2} 3"), ["lines {\\\"a\\\":1}{\\\"a\\\":2} 3"]);
}

#[test]
fn documents_that_are_more_than_a_line_stand_among_lines() {
    let text = format!("first\n  goes on\n{METRICS}\n{OURS}\r\n{{\"Measured\":2}}\nlast");
    assert_eq!(
        shown(&text),
        ["lines first\\n  goes on\\n", "2 values", "1 values", "lines {\\\"Measured\\\":2}\\nlast"]
    );
}

#[test]
fn an_event_of_eventbridge_has_its_time_and_its_id() {
    let parts = read(EVENT);
    let [Part::Entries(Entries { source, entries, .. })] = &parts[..] else { panic!("{parts:?}") };
    assert!(source.as_deref().unwrap().starts_with("bridge-"));
    assert!(matches!(&entries[..], [Entry { id: Some(_), dated: true, time_ms: Some(1_767_226_000_000), .. }]));
    for other in [
        ("\"time\"", "\"at\""),
        ("2026-01-01T00:06:40Z", "2026-02-30T00:06:40Z"),
        ("\"id\"", "\"no\""),
        ("\"detail\"", "\"d\""),
    ] {
        let broken = EVENT.replacen(other.0, other.1, 1);
        assert!(matches!(&read(&broken)[..], [Part::Lines(_)]), "{broken}");
    }
}

#[test]
fn instants_are_those_of_the_calendar() {
    for (text, ms) in [
        ("1970-01-01T00:00:00Z", Some(0)),
        ("2026-01-01T00:06:40Z", Some(1_767_226_000_000)),
        ("2024-02-29T23:59:59.5Z", Some(1_709_251_199_500)),
        ("2024-02-29T23:59:59.123456Z", Some(1_709_251_199_123)),
        ("2023-02-29T00:00:00Z", None),
        ("2026-01-01T24:00:00Z", None),
        ("2026-01-01T00:06:40", None),
        ("2026-01-01 00:06:40Z", None),
        ("+026-01-01T00:06:40Z", None),
        ("2026-01-01T00:06:40.Z", None),
        ("2026-01-01T00:06:40éZ", None),
        ("Z", None),
    ] {
        assert_eq!(instant(text), ms, "{text}");
    }
}
