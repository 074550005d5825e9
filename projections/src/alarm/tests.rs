//! The evaluation of an alarm against CloudWatch's published table and a plain reference.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use super::*;

fn alarm(n: u32, m: u32) -> Alarm {
    let text = format!(
        r#"{{"AlarmName":"a","ServiceName":"s","MetricName":"errors","Statistic":"Sum","Period":60,"EvaluationPeriods":{n},
            "DatapointsToAlarm":{m},"Threshold":1.0,"ComparisonOperator":"GreaterThanOrEqualToThreshold"}}"#
    );
    Alarm::parse(&text).unwrap()
}

fn points(text: &str) -> Vec<Option<f64>> {
    let point = |word: &str| match word {
        "X" => Some(1.0),
        "0" => Some(0.0),
        _ => None,
    };
    text.split_whitespace().map(point).collect()
}

#[test]
fn every_published_cell_of_the_missing_treatment_is_reproduced_from_each_state() {
    let data: serde_json::Value = serde_json::from_str(include_str!("missing_data.json")).unwrap();
    let cells = data["cells"].as_array().unwrap();
    assert!(cells.len() >= 10);
    for cell in cells {
        let text = cell["datapoints"].as_array().map_or_else(
            || cell["datapoints"].as_str().unwrap().to_owned(),
            |list| list.iter().map(|point| point.as_str().unwrap()).collect::<Vec<_>>().join(" "),
        );
        let number = |name: &str| cell[name].as_u64().unwrap() as u32;
        let alarm = alarm(number("evaluation_periods"), number("datapoints_to_alarm"));
        for before in [State::Ok, State::Alarm, State::InsufficientData] {
            let verdict = alarm.decide(before, &points(&text), 600);
            if let Some(expect) = cell["expect"].as_str() {
                let expected = if expect == "RETAIN" { before.as_str() } else { expect };
                assert_eq!(verdict.to.as_str(), expected, "{cell} from {before:?}");
            }
            if let Some(unexpected) = cell["expect_not"].as_str()
                && before.as_str() != unexpected
            {
                assert_ne!(verdict.to.as_str(), unexpected, "{cell} from {before:?}");
            }
        }
    }
}

/// The rules, once more and by other means: read off the page case by case, over sets of places.
fn plainly(n: usize, m: usize, points: &[Option<f64>], before: State) -> State {
    let real: Vec<(usize, bool)> =
        points.iter().enumerate().filter_map(|(i, point)| point.map(|value| (i, value >= 1.0))).collect();
    if real.is_empty() {
        return State::InsufficientData;
    }
    let newest: Vec<_> = real.iter().rev().take(n).collect();
    if newest.iter().filter(|(_, breaching)| *breaching).count() >= m {
        return State::Alarm;
    }
    if newest.len() == n || newest.iter().any(|(_, breaching)| !breaching) {
        return State::Ok;
    }
    let slots: BTreeSet<usize> = (newest.last().unwrap().0..points.len()).collect();
    if slots.len() >= m { State::Alarm } else { before }
}

#[test]
fn every_window_of_five_agrees_with_a_plain_reference() {
    for n in 1..=3u32 {
        let range = evaluation_range(n) as usize;
        for m in 1..=n {
            let alarm = alarm(n, m);
            for code in 0..3usize.pow(range as u32) {
                let window: Vec<Option<f64>> =
                    (0..range).map(|i| [None, Some(0.0), Some(1.0)][code / 3usize.pow(i as u32) % 3]).collect();
                for before in [State::Ok, State::Alarm, State::InsufficientData] {
                    let verdict = alarm.decide(before, &window, 6000);
                    assert_eq!(
                        verdict.to,
                        plainly(n as usize, m as usize, &window, before),
                        "{n} {m} {window:?} {before:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_reason_names_the_values_the_threshold_and_the_direction() {
    let verdict = alarm(3, 2).decide(State::Ok, &points("- - X 0 X"), 1_570_010_700);
    assert_eq!(verdict.to, State::Alarm);
    assert_eq!(
        verdict.reason,
        "Threshold Crossed: 2 out of the last 3 datapoints [1.0 (02/10/19 10:04:00), 0.0 (02/10/19 10:03:00), 1.0 (02/10/19 \
         10:02:00)] were greater than or equal to the threshold (1.0) (minimum 2 datapoints for OK -> ALARM transition)."
    );
    let data: serde_json::Value = serde_json::from_str(&verdict.reason_data).unwrap();
    assert_eq!(data["startDate"], "2019-10-02T10:02:00.000+0000");
    assert_eq!(data["recentDatapoints"], serde_json::json!([1.0, 0.0, 1.0]));
    let back = alarm(3, 2).decide(State::Alarm, &points("0 0 0 0 0"), 1_570_010_700);
    assert!(back.reason.contains("3 out of the last 3") && back.reason.contains("were not greater"), "{}", back.reason);
    assert!(back.reason.ends_with("(minimum 2 datapoints for ALARM -> OK transition)."), "{}", back.reason);
}

#[test]
fn what_cannot_be_decided_is_refused_by_name() {
    let whole = serde_json::json!({"AlarmName":"a","ServiceName":"s","MetricName":"latency","ExtendedStatistic":"p99","Period":300,
        "EvaluationPeriods":3,"Threshold":250,"ComparisonOperator":"GreaterThanThreshold"});
    let parsed = Alarm::parse(&whole.to_string()).unwrap();
    assert_eq!(
        (parsed.series.unit.as_str(), parsed.statistic, parsed.datapoints_to_alarm),
        ("Milliseconds", Statistic::Percentile(0.99), 3)
    );
    for (field, value, word) in [
        ("Period", serde_json::json!(90), "multiple of 60"),
        ("EvaluationPeriods", serde_json::json!(0), "60 to 86400"),
        ("DatapointsToAlarm", serde_json::json!(4), "DatapointsToAlarm 4"),
        ("TreatMissingData", serde_json::json!("breaching"), "`breaching` is not supported"),
        ("ExtendedStatistic", serde_json::json!("p101"), "p101"),
        ("Statistic", serde_json::json!("Sum"), "either"),
        ("AlarmActions", serde_json::json!([]), "AlarmActions"),
        ("AlarmDescription", serde_json::json!("ü".repeat(1_025)), "1024 characters"),
        ("ServiceName", serde_json::json!(""), "ServiceName"),
        ("Unit", serde_json::json!("Furlongs"), "Furlongs"),
    ] {
        let mut broken = whole.clone();
        broken[field] = value;
        let error = Alarm::parse(&broken.to_string()).unwrap_err().to_string();
        assert!(error.contains(word), "{field}: {error}");
    }
}

#[test]
fn evaluation_periods_may_span_a_day_and_a_week_where_they_are_long() {
    let parse = |period: u32, periods: u32| {
        let text = format!(
            r#"{{"AlarmName":"a","ServiceName":"s","MetricName":"errors","Statistic":"Sum","Period":{period},"EvaluationPeriods":{periods},
                "Threshold":1,"ComparisonOperator":"GreaterThanThreshold"}}"#
        );
        Alarm::parse(&text).map(drop).map_err(|error| error.to_string())
    };
    for (period, periods) in [(60, 1440), (3540, 24), (3600, 48), (3600, 168), (86_400, 7), (604_800, 1)] {
        assert_eq!(parse(period, periods), Ok(()), "{period} × {periods}");
    }
    for (period, periods, most) in [(60, 1441, 86_400), (3540, 25, 86_400), (3600, 169, 604_800), (604_860, 1, 604_800)]
    {
        assert!(parse(period, periods).unwrap_err().contains(&format!("60 to {most}")), "{period} × {periods}");
    }
}

#[test]
fn each_of_the_two_fields_of_a_statistic_takes_its_own_words() {
    let parse = |field: &str, word: &str| {
        let text = format!(
            r#"{{"AlarmName":"a","ServiceName":"s","MetricName":"errors","{field}":"{word}","Period":60,"EvaluationPeriods":1,
                "Threshold":1,"ComparisonOperator":"GreaterThanThreshold"}}"#
        );
        Alarm::parse(&text).map(|alarm| alarm.statistic).map_err(|error| error.to_string())
    };
    assert_eq!(parse("Statistic", "Average"), Ok(Statistic::Average));
    assert_eq!(parse("ExtendedStatistic", "p99.9"), Ok(Statistic::Percentile(99.9 / 100.0)));
    for (field, word) in
        [("Statistic", "p90"), ("Statistic", "average"), ("ExtendedStatistic", "Sum"), ("ExtendedStatistic", "tm90")]
    {
        let error = parse(field, word).unwrap_err();
        assert!(error.starts_with(&format!("{field} `{word}` is none of")), "{error}");
    }
}

#[test]
fn a_reason_of_a_thousand_datapoints_is_cut_to_the_newest() {
    let alarm = Alarm { evaluation_periods: 1440, ..alarm(3, 2) };
    let points: Vec<_> = (0..1920).map(|i| Some(f64::from(i) + 0.123)).collect();
    let verdict = alarm.decide(State::Ok, &points, 1_570_010_700);
    assert!(verdict.reason.len() <= 1_023 && verdict.reason_data.len() <= 4_000, "{}", verdict.reason_data.len());
    let data: serde_json::Value = serde_json::from_str(&verdict.reason_data).unwrap();
    assert!(data["evaluatedDatapoints"].as_array().unwrap().len() > 20);
    assert_eq!(data["evaluatedDatapoints"][0]["value"], 1919.123);
    assert_eq!(data["startDate"], "2019-10-01T10:05:00.000+0000", "of all that were evaluated");
}
