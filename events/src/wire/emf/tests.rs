//! Values that a document of the Embedded Metric Format names, and the rules that it has to keep.
#![allow(clippy::unwrap_used)]
use super::*;

fn budget() -> Budget {
    Budget { bytes: 0, value_bytes: super::super::part::VALUES_BYTES_MAX }
}

fn read(document: &str) -> Option<Vec<Datum>> {
    values(document.as_bytes(), Some(7), &mut budget()).unwrap()
}

/// A document with these directives, and these members beside them.
fn document(directives: &str, members: &str) -> String {
    format!(r#"{{"_aws":{{"Timestamp":1767226000000,"CloudWatchMetrics":[{directives}]}},{members}}}"#)
}

#[test]
fn each_value_has_a_series_for_each_set_of_dimensions() {
    let directive = r#"{"Namespace":"Shop","Dimensions":[["Region"],["Region","Page"]],"Metrics":[
        {"Name":"Time","Unit":"Milliseconds","StorageResolution":1},{"Name":"Hits"}]}"#;
    let read = read(&document(directive, r#""Region":"eu","Page":"\u0062asket","Time":[1,2.5],"Hits":3,"Other":[{}]"#));
    let shown: Vec<String> = read
        .unwrap()
        .iter()
        .map(|datum| {
            assert_eq!(
                (datum.namespace.as_str(), datum.time_ms, &datum.service),
                ("Shop", Some(1_767_226_000_000), &None)
            );
            let names: Vec<String> = datum.dimensions.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("{} {} {} {}", datum.metric, datum.unit, datum.value, names.join(","))
        })
        .collect();
    assert_eq!(
        shown,
        [
            "Time Milliseconds 1 Region=eu",
            "Time Milliseconds 2.5 Region=eu",
            "Time Milliseconds 1 Region=eu,Page=basket",
            "Time Milliseconds 2.5 Region=eu,Page=basket",
            "Hits None 3 Region=eu",
            "Hits None 3 Region=eu,Page=basket",
        ]
    );
}

#[test]
fn the_service_is_what_the_document_names() {
    let hits = r#"{"Namespace":"S","Dimensions":[[]],"Metrics":[{"Name":"Hits"}]}"#;
    for (members, service) in [
        (r#""Hits":1"#, None),
        (r#""Hits":1,"ServiceName":"cart""#, Some("cart")),
        (r#""Hits":1,"ServiceName":"cart","service":"shop""#, Some("shop")),
        (r#""Hits":1,"service":7,"app":"a""#, Some("a")),
    ] {
        let read = read(&document(hits, members)).unwrap();
        assert_eq!((read.len(), read[0].service.as_deref()), (1, service), "{members}");
    }
}

#[test]
fn without_a_timestamp_it_has_the_time_of_what_holds_it() {
    let read = read(r#"{"_aws":{"CloudWatchMetrics":[{"Namespace":"S","Metrics":[{"Name":"a"}]}]},"a":1}"#).unwrap();
    assert_eq!((read.len(), read[0].time_ms), (1, Some(7)));
}

#[test]
fn what_breaks_a_rule_names_no_value_at_all() {
    let many = |count: usize, of: &str| vec![of; count].join(",");
    let fine = r#"{"Namespace":"S","Metrics":[{"Name":"a"}]}"#;
    let cases = [
        (fine.to_owned(), r#""b":1"#.to_owned()),
        (fine.to_owned(), r#""a":"1""#.to_owned()),
        (fine.to_owned(), r#""a":1e999"#.to_owned()),
        (fine.to_owned(), r#""a":[1,"2"]"#.to_owned()),
        (fine.to_owned(), r#""a":[]"#.to_owned()),
        (fine.to_owned(), format!(r#""a":[{}]"#, many(101, "1"))),
        (r#"{"Metrics":[{"Name":"a"}]}"#.to_owned(), r#""a":1"#.to_owned()),
        (r#"{"Namespace":"S"}"#.to_owned(), r#""a":1"#.to_owned()),
        (r#"{"Namespace":"S","Metrics":[]}"#.to_owned(), r#""a":1"#.to_owned()),
        (r#"{"Namespace":"S","Dimensions":[["d"]],"Metrics":[{"Name":"a"}]}"#.to_owned(), r#""a":1,"d":1"#.to_owned()),
        (r#"{"Namespace":"S","Dimensions":[["d"]],"Metrics":[{"Name":"a"}]}"#.to_owned(), r#""a":1"#.to_owned()),
        (r#"{"Namespace":"S","Metrics":[{"Name":"a","StorageResolution":5}]}"#.to_owned(), r#""a":1"#.to_owned()),
        (format!(r#"{{"Namespace":"S","Metrics":[{}]}}"#, many(101, r#"{"Name":"a"}"#)), r#""a":1"#.to_owned()),
        (
            format!(r#"{{"Namespace":"S","Dimensions":[[{}]],"Metrics":[{{"Name":"a"}}]}}"#, many(31, r#""d""#)),
            r#""a":1,"d":"x""#.to_owned(),
        ),
    ];
    for (directive, members) in cases {
        assert_eq!(read(&document(&directive, &members)), None, "{directive} {members}");
    }
    for document in [
        "",
        "{",
        r#"["_aws"]"#,
        r#"{"_aws":1}"#,
        r#"{"_aws":{}}"#,
        r#"{"_aws":{"CloudWatchMetrics":{}}}"#,
        r#"{"a":"\"_aws\""}"#,
    ] {
        assert_eq!(read(document), None, "{document}");
    }
}

#[test]
fn a_short_document_that_names_much_is_not_written_out() {
    let names = vec![r#"{"Name":"a"}"#; 100].join(",");
    let sets = vec![r#"["d"]"#; 100].join(",");
    let directive = format!(r#"{{"Namespace":"S","Dimensions":[{sets}],"Metrics":[{names}]}}"#);
    let members = format!(r#""a":[{}],"d":"x""#, vec!["1"; 100].join(","));
    // A million values for each directive.
    assert_eq!(read(&document(&vec![directive.as_str(); 50].join(","), &members)), None);
    // As many as a document may name, each with a long dimension.
    let names = vec![r#"{"Name":"a"}"#; 100].join(",");
    let directive = format!(r#"{{"Namespace":"S","Dimensions":[["d"]],"Metrics":[{names}]}}"#);
    let members = format!(r#""a":[{}],"d":"{}""#, vec!["1"; 100].join(","), "x".repeat(10_000));
    let large = document(&directive, &members);
    assert_eq!(values(large.as_bytes(), None, &mut budget()), Err(DecodeError::TooLarge));
}
