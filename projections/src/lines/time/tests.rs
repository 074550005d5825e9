//! Every form of a time is the same instant, and what is none has none; the calendar is compared with another one.
#![allow(clippy::unwrap_used)]
use super::*;
use proptest::prelude::*;

fn at(text: &str) -> Option<i64> {
    Clock::new(0).whole(text.as_bytes()).unwrap_or(None)
}

const NOON: i64 = 1_795_221_578_000; // 2026-11-21T00:39:38Z

#[test]
fn every_form_of_one_instant_gives_that_instant() {
    let forms = "2026-11-21T00:39:38Z|2026-11-21 00:39:38|2026-11-21t00:39:38z|2026-11-21T01:39:38+01:00|2026-11-20T23:09:38-0130\
        |2026-11-21T02:39:38+02|2026-11-21 01:39:38 +0100|2026-11-21 00:39:38 UTC|2026-11-21T00:39:38.000000000Z\
        |2026-11-21 00:39:38,000|21/Nov/2026:00:39:38 +0000|21/Nov/2026:02:39:38 +0200|2026/11/21 00:39:38\
        |Sat, 21 Nov 2026 00:39:38 GMT|21 Nov 2026 01:39:38 +0100|Sat Nov 21 00:39:38 2026|Sat Nov 21 00:39:38 UTC 2026\
        |21-Nov-2026 00:39:38|Sat Nov 21 00:39:38.000000 2026\
        |20261121T003938Z|20261121T003938.000Z|20261121T013938+0100|20261121t003938|Nov 21 2026 00:39:38|I20261121 00:39:38.000000\
        |1795221578|1795221578.0|1795221578000|1795221578000000|1795221578000000000";
    for form in forms.split('|') {
        assert_eq!(at(form), Some(NOON), "{form}");
    }
}

#[test]
fn decimals_are_cut_off_at_milliseconds() {
    for (form, ms) in [
        ("2026-11-21T00:39:38.1Z", 100),
        ("2026-11-21T00:39:38.99999Z", 999),
        ("2026-11-21 00:39:38,123", 123),
        ("Sat Nov 21 00:39:38.654321 2026", 654),
        ("1795221578.123999", 123),
        ("1795221578123.9", 123),
        ("1.7952215785e9", 500),
    ] {
        assert_eq!(at(form), Some(NOON + ms), "{form}");
    }
}

#[test]
fn what_is_no_instant_has_none() {
    let forms = "|2026-02-30T00:00:00Z|2026-13-01T00:00:00Z|2026-00-01T00:00:00Z|2026-01-01T24:00:00Z|2026-01-01T00:60:00Z\
        |2026-01-01T00:00:61Z|2025-02-29T00:00:00Z|1900-02-29T00:00:00Z|1969-12-31T23:59:59Z|2026-02-30|2026-01-01 |2026-01-01T00Z\
        |2026-01-01T00:00:00.Z|2026-01-01T00:00:00+24:00|2026-01-01T00:00:00+0|2026-01-01T00:00:00Zulu|2026-01-01_00:00:00\
        |Oct 11 22:14:15|I1121 00:39:38.123|-5|1e30|99999999999999999999|10:00:00|yesterday|29/Feb/2015:10:05:03 +0000\
        |Sat Nov 31 00:39:38 2026|Sat, 31 Nov 2026 00:39:38 GMT|21/Nov/2026:00:39:38 +9900";
    for form in forms.split('|') {
        assert_eq!(at(form), None, "{form}");
    }
}

#[test]
fn what_means_to_be_a_timestamp_is_told_from_what_does_not() {
    let broken = "2026-02-30T00:00:00Z|2026-13-01 00:00:00|1969-12-31T23:59:59Z|1601-01-01T00:00:00Z|2026-01-01T25:00:00Z\
        |2026-01-01T00:00:61Z|2026-01-01T00:00:00+24:00|2026-01-01 00:00:00 CEST|2026/02/30 00:00:00|29/Feb/2015:10:05:03 +0000\
        |Sat Nov 31 00:39:38 2026|Sat Nov  1 25:39:38 2026|Sat, 31 Nov 2026 00:39:38 GMT|31 Nov 2026 00:39:38|1 Foo 2026 00:39:38\
        |31-Nov-2026 00:39:38|-5|1e30|99999999999999999999";
    for form in broken.split('|') {
        assert_eq!(Clock::new(0).whole(form.as_bytes()), Err(NoInstant), "{form}");
    }
    // The last is the zero time of Go.
    for form in "|yesterday|10:00:00|2026-02-30|2026-01-01T10|Oct 11 22:14:15|0001-01-01T00:00:00Z".split('|') {
        assert_eq!(Clock::new(0).whole(form.as_bytes()), Ok(None), "{form}");
    }
    assert_eq!(Clock::new(0).prefix(b"2026-02-30 00:00:00 ERROR x"), Err(NoInstant));
    assert_eq!(Clock::new(0).prefix(b"2026-11-21T00:39:38abc"), Err(NoInstant));
    assert_eq!(Clock::new(0).prefix(b"179522 items"), Ok(None));
}

#[test]
fn a_date_alone_is_its_first_instant() {
    assert_eq!(at("2026-11-21"), at("2026-11-21T00:00:00Z"));
    assert_eq!(Clock::new(3600).whole(b"2026-11-21"), Ok(at("2026-11-20T23:00:00Z")));
    // In front of a text its time may come elsewhere.
    assert_eq!(Clock::new(0).prefix(b"2026-11-21 ERROR x"), Ok(None));
}

#[test]
fn a_form_without_a_year_takes_the_one_that_ends_at_most_a_day_after_its_reading() {
    for (read_at, form, expected) in [
        ("2026-11-21T00:39:38Z", "Nov 21 00:39:38", "2026-11-21T00:39:38Z"),
        ("2026-11-21T00:39:38Z", "Nov 22 00:39:38", "2026-11-22T00:39:38Z"),
        ("2026-11-21T00:39:38Z", "Nov 22 00:39:39", "2025-11-22T00:39:39Z"),
        ("2026-11-21T00:39:38Z", "Nov  1 01:02:03.5", "2026-11-01T01:02:03.5Z"),
        ("2026-11-21T00:39:38Z", "Nov 21 01:39:38 +0100", "2026-11-21T00:39:38Z"),
        ("2027-01-01T00:00:10Z", "Dec 31 23:59:59", "2026-12-31T23:59:59Z"),
        ("2026-12-31T23:59:59Z", "Jan  1 00:00:10", "2027-01-01T00:00:10Z"),
        // The zone moves it into the year before.
        ("2026-12-31T12:00:00Z", "Jan  1 00:00:10 +0800", "2026-12-31T16:00:10Z"),
        ("2026-11-21T00:39:38Z", "Feb 29 00:00:00", "2024-02-29T00:00:00Z"),
        ("1971-11-21T00:39:38Z", "Dec 31 00:00:00", "1970-12-31T00:00:00Z"),
        ("2026-11-21T00:39:38Z", "I1121 00:39:38.123456", "2026-11-21T00:39:38.123Z"),
        ("2026-11-21T00:39:38Z", "E1231 00:39:38.123456", "2025-12-31T00:39:38.123Z"),
    ] {
        let mut clock = Clock::new(0);
        clock.read_at(at(read_at).unwrap());
        assert_eq!(clock.whole(form.as_bytes()), Ok(at(expected)), "{form} read at {read_at}");
        let line = format!("{form} host app[1]: hello");
        assert_eq!(clock.prefix(line.as_bytes()), Ok(at(expected).map(|ms| (ms, form.len()))), "{line}");
    }
    let mut clock = Clock::new(0);
    clock.read_at(NOON);
    for form in
        ["Nov 31 00:39:38", "Nov 21 25:39:38", "I1331 00:00:00.1", "I112 00:39:38", "May 12 people came", "Nov 21"]
    {
        assert_eq!(clock.prefix(form.as_bytes()), Ok(None), "{form}");
    }
    // Before all years that there are.
    clock.read_at(0);
    assert_eq!(clock.whole(b"Nov 21 00:39:38"), Ok(None));
    clock.read_at(i64::MAX);
    assert!(clock.whole(b"Nov 21 00:39:38").is_ok());
    clock.read_at(i64::MIN);
    assert_eq!(clock.whole(b"Nov 21 00:39:38"), Ok(None));
}

#[test]
fn seconds_may_be_missing() {
    for form in ["2026-11-21T00:39Z", "2026-11-21 00:39", "2026-11-21T01:39+01:00"] {
        assert_eq!(at(form), Some(NOON - 38_000), "{form}");
    }
}

#[test]
fn the_first_and_last_instant_count_and_their_neighbours_do_not() {
    assert_eq!(at("1970-01-01T00:00:00Z"), Some(0));
    assert_eq!(at("1969-12-31T23:59:59-01:00"), Some(3_599_000));
    assert_eq!(at("1970-01-01T00:00:00+01:00"), None);
    assert_eq!(at("9999-12-31T23:59:59.999Z"), Some(TIME_MS_MAX));
    assert_eq!(at("9999-12-31T23:59:59.999-01:00"), None);
}

#[test]
fn a_leap_second_is_the_last_millisecond_of_its_minute() {
    assert_eq!(at("2016-12-31T23:59:60Z"), at("2016-12-31T23:59:59.999Z"));
    assert_eq!(at("2016-12-31T23:59:60.5Z"), at("2016-12-31T23:59:59.999Z"));
    assert_eq!(at("Sat, 31 Dec 2016 23:59:60 GMT"), at("2016-12-31T23:59:59.999Z"));
}

#[test]
fn the_default_zone_counts_only_where_none_is_named() {
    let mut clock = Clock::new(3600);
    for (form, ms) in [
        ("2026-11-21T01:39:38", NOON),
        ("2026-11-21T00:39:38Z", NOON),
        ("2026/11/21 01:39:38", NOON),
        ("Sat Nov 21 01:39:38 2026", NOON),
        ("Sat Nov 21 00:39:38 UTC 2026", NOON),
        ("21/Nov/2026:00:39:38 +0000", NOON),
        ("1795221578", NOON),
    ] {
        assert_eq!(clock.whole(form.as_bytes()), Ok(Some(ms)), "{form}");
    }
}

#[test]
fn a_prefix_ends_where_the_timestamp_ends() {
    for (line, end) in [
        ("2026-11-21 00:39:38 - root - ERROR", Some(19)),
        ("2026-11-21 00:39:38 -12 degrees", Some(19)),
        ("2026-11-21 00:39:38. So it was", Some(19)),
        ("2026-11-21 00:39:38,123 x", Some(23)),
        ("2026-11-21T00:39:38.5+02:00 x", Some(27)),
        ("2026/11/21 00:39:38 [error] 12#0: x", Some(19)),
        ("1795221578.123    45 10.0.0.1 TCP_MISS", Some(14)),
        ("1795221578x", None),
        ("179522 items", None),
        ("2026-11-21T00:39:38abc", None),
    ] {
        assert_eq!(Clock::new(0).prefix(line.as_bytes()).unwrap_or(None).map(|(_, end)| end), end, "{line}");
    }
}

proptest! {
    #[test]
    fn the_calendar_is_jiffs(year in 1960i16..10_050, month in 0i8..15, day in 0i8..34, hour in 0i8..26, minute in 0i8..62,
        second in 0i8..60, digits in "(\\.[0-9]{1,9})?", offset in -1500i32..1500, colon: bool)
    {
        let sign = if offset < 0 { '-' } else { '+' };
        let (hours, minutes) = (offset.abs() / 60, offset.abs() % 60);
        let colon = if colon { ":" } else { "" };
        let text = format!(
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{digits}{sign}{hours:02}{colon}{minutes:02}"
        );
        let expected = text.parse::<jiff::Timestamp>().ok().map(|time| time.as_nanosecond().div_euclid(1_000_000) as i64)
            .filter(|ms| (0..=TIME_MS_MAX).contains(ms) && hours < 24);
        // jiff ends some hours before our last year does.
        prop_assume!(year < 9999);
        prop_assert_eq!(at(&text), expected, "{}", text);
    }

    #[test]
    fn what_was_read_before_changes_nothing(texts in proptest::collection::vec(
        "(2026-0[12]-0[12][T ]0[0-2]:0[0-2]|0[12]/(Jan|Feb)/2026:0[0-2]:0[0-2]):[0-6][0-9](\\.[0-9]{1,4})?(Z| \\+0100|)", 1..20))
    {
        let mut warm = Clock::new(60);
        for text in &texts {
            prop_assert_eq!(warm.whole(text.as_bytes()), Clock::new(60).whole(text.as_bytes()), "{}", text);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(text in proptest::collection::vec(any::<u8>(), 0..60), shaped in "[0-9]{0,4}[-/ ][A-Za-z0-9]{0,3}[-/, ].{0,20}",
        yearless in "(Feb|Dec|I|E)[ 0-9]{1,9}[0-9]{2}:[0-5][0-9]:[0-5][0-9].{0,9}", read_at_ms: i64)
    {
        let _ = Clock::new(0).whole(&text);
        let _ = Clock::new(0).prefix(shaped.as_bytes());
        let mut clock = Clock::new(0);
        clock.read_at(read_at_ms);
        let _ = clock.whole(yearless.as_bytes());
    }
}
