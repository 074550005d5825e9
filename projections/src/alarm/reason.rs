//! Why an alarm changed, in the forms that CloudWatch was seen to write. Decides words only.

use events::calendar::date;

use super::{Alarm, Comparison, Point, State};

/// Longest reason of either kind (CloudWatch API reference, `MetricAlarm`).
const TEXT_CHARS_MAX: usize = 1_023;
const DATA_CHARS_MAX: usize = 4_000;

fn compared(comparison: Comparison) -> &'static str {
    match comparison {
        Comparison::GreaterThanOrEqualToThreshold => "greater than or equal to",
        Comparison::GreaterThanThreshold => "greater than",
        Comparison::LessThanThreshold => "less than",
        Comparison::LessThanOrEqualToThreshold => "less than or equal to",
    }
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// 1.0, 0.25, 1200.5: a number as CloudWatch prints it.
fn number(value: f64) -> String {
    format!("{value:?}")
}

fn clock(secs: i64) -> (i64, i64, i64) {
    let secs = secs.rem_euclid(86_400);
    (secs / 3600, secs / 60 % 60, secs % 60)
}

/// `dd/MM/yy HH:mm:ss`.
fn short_time(secs: i64) -> String {
    let ((year, month, day), (hour, minute, second)) = (date(secs.div_euclid(86_400)), clock(secs));
    format!("{day:02}/{month:02}/{:02} {hour:02}:{minute:02}:{second:02}", year.rem_euclid(100))
}

/// `yyyy-MM-ddTHH:mm:ss.SSS+0000`.
fn long_time(secs: i64) -> String {
    let ((year, month, day), (hour, minute, second)) = (date(secs.div_euclid(86_400)), clock(secs));
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.000+0000")
}

/// The reason of the new state, at most 1,023 characters: of many datapoints, the newest that fit.
pub(super) fn text(alarm: &Alarm, to: State, used: &[Point], range: usize) -> String {
    if used.is_empty() {
        let n = alarm.evaluation_periods as usize;
        return format!(
            "Insufficient Data: {n} datapoint{} {} unknown.",
            plural(n),
            if n == 1 { "was" } else { "were" }
        );
    }
    let to_alarm = to == State::Alarm;
    let counted = used.iter().filter(|point| point.breaching == to_alarm).count();
    let mut listed: Vec<String> =
        used.iter().rev().map(|point| format!("{} ({})", number(point.value), short_time(point.start_secs))).collect();
    let (n, m) = (alarm.evaluation_periods as usize, alarm.datapoints_to_alarm as usize);
    let (least, arrow) = if to_alarm { (m, "OK -> ALARM") } else { (n - m + 1, "ALARM -> OK") };
    let missing = n.min(range).saturating_sub(used.len());
    loop {
        let text = format!(
            "Threshold Crossed: {counted} out of the last {n} datapoints [{}] {} {}{} the threshold ({}){} \
             (minimum {least} datapoint{} for {arrow} transition).",
            listed.join(", "),
            if counted == 1 { "was" } else { "were" },
            if to_alarm { "" } else { "not " },
            compared(alarm.comparison),
            number(alarm.threshold),
            if missing == 0 {
                String::new()
            } else {
                format!(" and {missing} datapoint{} missing", if missing == 1 { " was" } else { "s were" })
            },
            plural(least),
        );
        if text.len() <= TEXT_CHARS_MAX || listed.len() <= 1 {
            return text;
        }
        listed.truncate(listed.len() * 3 / 4);
    }
}

/// The reason for programs, at most 4,000 characters: of many datapoints, the newest that fit.
pub(super) fn data(alarm: &Alarm, used: &[Point], time_secs: i64) -> String {
    let mut listed = used;
    loop {
        let text = data_of(alarm, used.first(), listed, time_secs);
        if text.len() <= DATA_CHARS_MAX || listed.len() <= 1 {
            return text;
        }
        listed = &listed[listed.len().div_ceil(4)..];
    }
}

fn data_of(alarm: &Alarm, first: Option<&Point>, listed: &[Point], time_secs: i64) -> String {
    let mut data = serde_json::json!({
        "version": "1.0",
        "queryDate": long_time(time_secs),
        "statistic": alarm.statistic_name,
        "period": alarm.period_secs,
        "recentDatapoints": listed.iter().map(|point| point.value).collect::<Vec<_>>(),
        "threshold": alarm.threshold,
        "evaluatedDatapoints": listed
            .iter()
            .rev()
            .map(|point| serde_json::json!({"timestamp": long_time(point.start_secs), "value": point.value}))
            .collect::<Vec<_>>(),
    });
    if let Some(first) = first {
        data["startDate"] = long_time(first.start_secs).into();
        data["unit"] = alarm.series.unit.clone().into();
    }
    data.to_string()
}
