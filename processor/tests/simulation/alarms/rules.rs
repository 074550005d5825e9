//! The rules of the one kind of alarm, as CloudWatch's page has them: which datapoints count, the state that follows, and why in words.

use crate::model::Stat;

const DAY_SECS: i64 = 86_400;

const OK: &str = "OK";
const ALARM: &str = "ALARM";
pub const INSUFFICIENT: &str = "INSUFFICIENT_DATA";

#[derive(Debug, Clone)]
pub struct Alarm {
    pub service: String,
    pub metric: String,
    statistic: String,
    pub period: i64,
    n: usize,
    m: usize,
    threshold: f64,
    greater: bool,
}

impl Alarm {
    pub fn read(body: &str) -> Option<Self> {
        let json: serde_json::Value = serde_json::from_str(body).unwrap();
        let text = |field: &str| json[field].as_str().unwrap().to_owned();
        let number = |field: &str| json[field].as_u64().unwrap();
        (!json.is_null()).then(|| Self {
            service: text("ServiceName"),
            metric: text("MetricName"),
            statistic: text("Statistic"),
            period: number("Period") as i64,
            n: number("EvaluationPeriods") as usize,
            m: number("DatapointsToAlarm") as usize,
            threshold: json["Threshold"].as_f64().unwrap(),
            greater: text("ComparisonOperator") == "GreaterThanThreshold",
        })
    }

    /// Periods that an evaluation reads: 5 for 3.
    pub fn range(&self) -> usize {
        self.n + (self.n / 3).max(2)
    }

    pub fn range_secs(&self) -> i64 {
        self.range() as i64 * self.period
    }

    fn breaches(&self, value: f64) -> bool {
        if self.greater { value > self.threshold } else { value < self.threshold }
    }

    pub fn value(&self, stat: &Stat) -> f64 {
        match self.statistic.as_str() {
            "Sum" => stat.sum,
            "SampleCount" => stat.count as f64,
            "Maximum" => stat.max,
            other => panic!("the simulator makes no alarm on {other}"),
        }
    }
}

/// The state, and the datapoints that it follows from, oldest first.
pub fn judge(alarm: &Alarm, state: &'static str, points: &[(i64, Option<f64>)]) -> (&'static str, Vec<(i64, f64)>) {
    let real: Vec<(i64, f64)> = points.iter().filter_map(|(start, value)| Some((*start, (*value)?))).collect();
    let breaching = |points: &[(i64, f64)]| points.iter().filter(|point| alarm.breaches(point.1)).count();
    if real.len() >= alarm.n {
        let newest = real[real.len() - alarm.n..].to_vec();
        return (if breaching(&newest) >= alarm.m { ALARM } else { OK }, newest);
    }
    if real.is_empty() {
        return (INSUFFICIENT, real);
    }
    let b = breaching(&real);
    if b >= alarm.m {
        return (ALARM, real);
    }
    if b < real.len() {
        return (OK, real);
    }
    // All breach, and they are too few: once M periods have begun since the oldest of them, it rings.
    let oldest = points.iter().position(|point| point.1.is_some()).unwrap();
    (if points.len() - oldest >= alarm.m { ALARM } else { state }, real)
}

pub fn reason(alarm: &Alarm, to: &str, used: &[(i64, f64)]) -> String {
    let s = |count: usize| if count == 1 { "" } else { "s" };
    let was = |count: usize| if count == 1 { "was" } else { "were" };
    let (n, m) = (alarm.n, alarm.m);
    if used.is_empty() {
        return format!("Insufficient Data: {n} datapoint{} {} unknown.", s(n), was(n));
    }
    let counted = used.iter().filter(|point| alarm.breaches(point.1) == (to == ALARM)).count();
    let listed: Vec<String> =
        used.iter().rev().map(|(start, value)| format!("{value:?} ({})", clock(*start))).collect();
    let than = if alarm.greater { "greater than" } else { "less than" };
    let not = if to == ALARM { "" } else { "not " };
    let missing = n.saturating_sub(used.len());
    let missing = if missing == 0 {
        String::new()
    } else {
        format!(" and {missing} datapoint{} {} missing", s(missing), was(missing))
    };
    let (least, arrow) = if to == ALARM { (m, "OK -> ALARM") } else { (n - m + 1, "ALARM -> OK") };
    format!(
        "Threshold Crossed: {counted} out of the last {n} datapoints [{}] {} {not}{than} the threshold ({:?}){missing} \
         (minimum {least} datapoint{} for {arrow} transition).",
        listed.join(", "),
        was(counted),
        alarm.threshold,
        s(least),
    )
}

/// Of the days in which worlds live.
fn clock(secs: i64) -> String {
    // 2025-11-01T00:00:00Z.
    let since = secs - 1_761_955_200;
    let (day, time) = (1 + since.div_euclid(DAY_SECS), since.rem_euclid(DAY_SECS));
    assert!((1..=30).contains(&day), "worlds live in November 2025");
    format!("{day:02}/11/25 {:02}:{:02}:{:02}", time / 3600, time / 60 % 60, time % 60)
}
