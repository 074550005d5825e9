//! One kind of alarm: a static threshold on one statistic of one series, M of N periods. Decides a state from datapoints; knows no shard and
//! no clock.
//!
//! Rules: CloudWatch user guide, "Using Amazon CloudWatch alarms" (evaluation, missing data), in the reading that reproduces its tables.
//! Missing data is treated as `missing`; the other treatments, actions, composite and metric-math alarms are refused by name.

mod reason;

use serde::{Deserialize, Serialize};

use crate::{distribution::Distribution, series::Series};

/// CloudWatch reads more periods than it evaluates; the page gives one figure, 5 for 3 evaluation periods.
pub(crate) fn evaluation_range(evaluation_periods: u32) -> u32 {
    evaluation_periods + (evaluation_periods / 3).max(2)
}

/// From this period on, evaluation periods may span a week.
const LONG_PERIOD_SECS: u32 = 3_600;
/// Longest description, in characters.
const DESCRIPTION_CHARS_MAX: usize = 1_024;

/// Longest span of all evaluation periods, in seconds (CloudWatch API reference, `PutMetricAlarm`: a day, or a week for long periods).
pub(crate) fn span_secs_max(period_secs: u32) -> u64 {
    if period_secs < LONG_PERIOD_SECS { 86_400 } else { 604_800 }
}

/// An alarm's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum State {
    /// Not breaching.
    #[serde(rename = "OK")]
    Ok,
    /// Breaching.
    #[serde(rename = "ALARM")]
    Alarm,
    /// No data to decide by.
    #[serde(rename = "INSUFFICIENT_DATA")]
    InsufficientData,
}

impl State {
    /// As CloudWatch writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Alarm => "ALARM",
            Self::InsufficientData => "INSUFFICIENT_DATA",
        }
    }
}

/// How a value is held against the threshold; the value stands on the left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Comparison {
    /// `>=`
    GreaterThanOrEqualToThreshold,
    /// `>`
    GreaterThanThreshold,
    /// `<`
    LessThanThreshold,
    /// `<=`
    LessThanOrEqualToThreshold,
}

impl Comparison {
    fn breaches(self, value: f64, threshold: f64) -> bool {
        match self {
            Self::GreaterThanOrEqualToThreshold => value >= threshold,
            Self::GreaterThanThreshold => value > threshold,
            Self::LessThanThreshold => value < threshold,
            Self::LessThanOrEqualToThreshold => value <= threshold,
        }
    }
}

/// Which number of a window is compared.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Statistic {
    /// How many values.
    SampleCount,
    /// Their mean.
    Average,
    /// Their sum.
    Sum,
    /// The least.
    Minimum,
    /// The greatest.
    Maximum,
    /// The quantile, as a fraction.
    Percentile(f64),
}

impl Statistic {
    /// CloudWatch's word in `Statistic`: one of five.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "SampleCount" => Self::SampleCount,
            "Average" => Self::Average,
            "Sum" => Self::Sum,
            "Minimum" => Self::Minimum,
            "Maximum" => Self::Maximum,
            _ => return None,
        })
    }

    /// CloudWatch's word in `ExtendedStatistic`: of those, `p` and a number from 0 to 100.
    pub fn parse_extended(text: &str) -> Option<Self> {
        let number = text.strip_prefix('p')?;
        let plain = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let percent: f64 = number.parse().ok().filter(|_| plain)?;
        Some(Self::Percentile((0.0..=100.0).contains(&percent).then_some(percent / 100.0)?))
    }

    /// The number; `None` of an empty window.
    pub fn of(self, values: &Distribution) -> Option<f64> {
        match self {
            _ if values.is_empty() => None,
            Self::SampleCount => Some(values.count() as f64),
            Self::Average => values.average(),
            Self::Sum => Some(values.sum()),
            Self::Minimum => values.min(),
            Self::Maximum => values.max(),
            Self::Percentile(fraction) => values.quantile(fraction),
        }
    }
}

/// A definition as it stands in a file: CloudWatch's field names, and `ServiceName`, which is part of a series' identity here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Written {
    alarm_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    alarm_description: Option<String>,
    service_name: String,
    #[serde(default = "logs_namespace")]
    namespace: String,
    metric_name: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    dimensions: Vec<Dimension>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unit: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    statistic: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    extended_statistic: Option<String>,
    period: u32,
    evaluation_periods: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    datapoints_to_alarm: Option<u32>,
    threshold: f64,
    comparison_operator: Comparison,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    treat_missing_data: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Dimension {
    name: String,
    value: String,
}

fn logs_namespace() -> String {
    crate::series::LOGS_NAMESPACE.to_owned()
}

/// A checked definition.
#[derive(Debug, Clone, PartialEq)]
pub struct Alarm {
    /// Its name.
    pub name: String,
    /// The service whose series it watches.
    pub service: String,
    /// The series.
    pub series: Series,
    /// The number compared.
    pub statistic: Statistic,
    /// As the file names it.
    pub statistic_name: String,
    /// Seconds of one datapoint: a multiple of 60.
    pub period_secs: u32,
    /// N.
    pub evaluation_periods: u32,
    /// M.
    pub datapoints_to_alarm: u32,
    /// The threshold.
    pub threshold: f64,
    /// How it is held against it.
    pub comparison: Comparison,
}

/// The text is no alarm that this program can decide.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadAlarm(String);

fn bad(why: impl Into<String>) -> BadAlarm {
    BadAlarm(why.into())
}

impl Alarm {
    /// Reads and checks a definition's JSON text.
    pub fn parse(json: &str) -> Result<Self, BadAlarm> {
        let written: Written = serde_json::from_str(json).map_err(|error| bad(error.to_string()))?;
        events::identity::check_service(&written.service_name).map_err(|error| bad(format!("ServiceName: {error}")))?;
        let name_fits =
            (1..=255).contains(&written.alarm_name.len()) && !written.alarm_name.chars().any(char::is_control);
        if !name_fits {
            return Err(bad("AlarmName is not 1 to 255 bytes without control characters"));
        }
        if written.alarm_description.as_ref().is_some_and(|text| text.chars().count() > DESCRIPTION_CHARS_MAX) {
            return Err(bad(format!("AlarmDescription is longer than {DESCRIPTION_CHARS_MAX} characters")));
        }
        let (statistic_name, statistic, field, words) = match (&written.statistic, &written.extended_statistic) {
            (Some(name), None) => {
                (name, Statistic::parse(name), "Statistic", "SampleCount, Average, Sum, Minimum, Maximum")
            }
            (None, Some(name)) => (name, Statistic::parse_extended(name), "ExtendedStatistic", "p0 to p100"),
            _ => return Err(bad("give either Statistic or ExtendedStatistic")),
        };
        let statistic_name = statistic_name.clone();
        let statistic = statistic.ok_or_else(|| bad(format!("{field} `{statistic_name}` is none of {words}")))?;
        let unit =
            written.unit.clone().unwrap_or_else(|| builtin_unit(&written.namespace, &written.metric_name).to_owned());
        let dimensions: Vec<_> = written.dimensions.iter().map(|d| (d.name.clone(), d.value.clone())).collect();
        let series = Series::new(&written.namespace, &written.metric_name, &dimensions, &unit)
            .map_err(|e| bad(e.to_string()))?;
        let alarm = Self {
            name: written.alarm_name,
            service: written.service_name,
            series,
            statistic,
            statistic_name,
            period_secs: written.period,
            evaluation_periods: written.evaluation_periods,
            datapoints_to_alarm: written.datapoints_to_alarm.unwrap_or(written.evaluation_periods),
            threshold: written.threshold,
            comparison: written.comparison_operator,
        };
        alarm.check(written.treat_missing_data.as_deref())?;
        Ok(alarm)
    }

    fn check(&self, treat_missing_data: Option<&str>) -> Result<(), BadAlarm> {
        if self.period_secs == 0 || !self.period_secs.is_multiple_of(60) {
            return Err(bad(format!("Period {} is not a multiple of 60 seconds", self.period_secs)));
        }
        let span = u64::from(self.period_secs) * u64::from(self.evaluation_periods);
        let span_max = span_secs_max(self.period_secs);
        if self.evaluation_periods == 0 || span > span_max {
            return Err(bad(format!(
                "Period × EvaluationPeriods is {span} seconds; it must be 60 to {span_max} for this Period"
            )));
        }
        if !(1..=self.evaluation_periods).contains(&self.datapoints_to_alarm) {
            return Err(bad(format!(
                "DatapointsToAlarm {} is not from 1 to EvaluationPeriods {}",
                self.datapoints_to_alarm, self.evaluation_periods
            )));
        }
        if !self.threshold.is_finite() {
            return Err(bad("Threshold is not a finite number"));
        }
        match treat_missing_data {
            None | Some("missing") => Ok(()),
            Some(other) => Err(bad(format!("TreatMissingData `{other}` is not supported yet; only `missing` is"))),
        }
    }

    /// Seconds before the evaluation's end that it may look at.
    pub fn range_secs(&self) -> i64 {
        i64::from(evaluation_range(self.evaluation_periods)) * i64::from(self.period_secs)
    }

    /// Decides the state at `time_secs`, a full minute. `points`: the periods of the evaluation range that end there, oldest first.
    pub fn decide(&self, state: State, points: &[Option<f64>], time_secs: i64) -> Verdict {
        let period = i64::from(self.period_secs);
        let starts = (0..points.len() as i64).map(|i| time_secs - (points.len() as i64 - i) * period);
        let real: Vec<Point> = starts
            .zip(points)
            .enumerate()
            .filter_map(|(place, (start_secs, value))| {
                let value = (*value)?;
                Some(Point { place, start_secs, value, breaching: self.comparison.breaches(value, self.threshold) })
            })
            .collect();
        let (n, m) = (self.evaluation_periods as usize, self.datapoints_to_alarm as usize);
        let used = &real[real.len().saturating_sub(n)..];
        let breaching = used.iter().filter(|point| point.breaching).count();
        let to = if breaching >= m {
            State::Alarm
        } else if real.len() >= n || breaching < used.len() {
            State::Ok
        } else if let Some(oldest) = used.first() {
            // All real points breach, but they are fewer than M: ALARM once the oldest of them has been followed by M − 1 periods.
            if points.len() - oldest.place >= m { State::Alarm } else { state }
        } else {
            State::InsufficientData
        };
        if to == state {
            // Nearly always: nobody reads why nothing changed, and it takes longer to write than to decide.
            return Verdict { to, reason: String::new(), reason_data: String::new() };
        }
        Verdict {
            to,
            reason: reason::text(self, to, used, points.len()),
            reason_data: reason::data(self, used, time_secs),
        }
    }
}

/// The unit of a built-in metric, so that a file need not name it.
fn builtin_unit(namespace: &str, metric: &str) -> &'static str {
    match metric {
        _ if namespace != crate::series::LOGS_NAMESPACE => "None",
        crate::cell::LATENCY => "Milliseconds",
        crate::cell::BYTES => "Bytes",
        _ => "Count",
    }
}

/// A datapoint that is there.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Point {
    /// Index in the evaluation range, oldest 0.
    place: usize,
    start_secs: i64,
    value: f64,
    breaching: bool,
}

/// A decision, with its reason in CloudWatch's words. A state that stays has none.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// The state.
    pub to: State,
    /// For people; empty where the state stays.
    pub reason: String,
    /// For programs, JSON text; empty where the state stays.
    pub reason_data: String,
}

#[cfg(test)]
mod tests;
