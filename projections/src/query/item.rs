//! One series and window as readers see it, and its JSON. Decides names and order of fields; computes nothing but statistics.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap};

use crate::{
    distribution::stored::{Part, Pool},
    series::Series,
    when::Second,
};

/// The values of one series in one window.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(from = "Written")]
pub struct Item {
    /// The service.
    pub service: Arc<str>,
    /// Namespace, name, dimensions, unit.
    pub series: Arc<Series>,
    /// Window start.
    pub timestamp: Second,
    /// Its length in seconds.
    pub period: u32,
    /// How many values.
    pub count: u64,
    /// Their sum, rounded once.
    pub sum: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
    /// Sum by count.
    pub average: f64,
    /// The median, as all quantiles within 1 %.
    pub p50: f64,
    /// 90 % of the values are no greater.
    pub p90: f64,
    /// 95 %.
    pub p95: f64,
    /// 99 %.
    pub p99: f64,
}

impl Item {
    /// `None` of no values.
    pub(super) fn of(
        service: Arc<str>,
        series: Arc<Series>,
        (start_secs, period): (i64, u32),
        values: &Part,
        pool: &Pool,
    ) -> Option<Self> {
        let [p50, p90, p95, p99] = pool.quantiles(values, [0.5, 0.9, 0.95, 0.99])?;
        let (count, sum, min, max) = (values.count, values.sum(), values.min, values.max);
        Some(Self {
            service,
            series,
            timestamp: Second(start_secs),
            period,
            count,
            sum,
            min,
            max,
            // As `Distribution::average` has it.
            average: (sum / count as f64).clamp(min, max),
            p50,
            p90,
            p95,
            p99,
        })
    }

    /// The statistics but the count, in order of their names.
    pub(super) fn numbers(&self) -> [f64; 8] {
        [self.sum, self.min, self.max, self.average, self.p50, self.p90, self.p95, self.p99]
    }

    /// The item with these statistics only, for writing.
    pub fn show(&self, statistics: Statistics) -> Shown<'_> {
        Shown { item: self, statistics }
    }
}

impl Serialize for Item {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.show(Statistics::ALL).serialize(serializer)
    }
}

/// An item that shows some of its statistics.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a> {
    item: &'a Item,
    statistics: Statistics,
}

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (item, statistics) = (self.item, self.statistics);
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("service", &*item.service)?;
        map.serialize_entry("namespace", &item.series.namespace)?;
        map.serialize_entry("metric", &item.series.metric)?;
        map.serialize_entry("dimensions", &Dimensions(&item.series.dimensions))?;
        map.serialize_entry("timestamp", &item.timestamp)?;
        map.serialize_entry("period", &item.period)?;
        if statistics.has(0) {
            map.serialize_entry(Statistics::NAMES[0], &item.count)?;
        }
        for (i, number) in (1..).zip(item.numbers()) {
            if statistics.has(i) {
                map.serialize_entry(Statistics::NAMES[i], &number)?;
            }
        }
        map.serialize_entry("unit", &item.series.unit)?;
        map.end()
    }
}

/// Dimensions as an object.
#[derive(Debug, Clone, Copy)]
pub struct Dimensions<'a>(pub &'a [(String, String)]);

impl Serialize for Dimensions<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

/// Which statistics of an item are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statistics(u16);

/// The text names no statistic.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("statistic `{0}` is none of {names}", names = Statistics::NAMES.join(", "))]
pub struct BadStatistic(String);

impl Statistics {
    /// The fields of an item that are statistics, in order.
    pub const NAMES: [&str; 9] = ["count", "sum", "min", "max", "average", "p50", "p90", "p95", "p99"];
    /// Each of them.
    pub const ALL: Self = Self((1 << Self::NAMES.len()) - 1);

    /// Reads a list of names with commas between them.
    pub fn parse(text: &str) -> Result<Self, BadStatistic> {
        text.split(',').map(str::trim).try_fold(Self(0), |statistics, name| {
            let place = Self::NAMES.iter().position(|known| *known == name);
            let place = place.ok_or_else(|| BadStatistic(name.chars().take(40).collect()))?;
            Ok(Self(statistics.0 | 1 << place))
        })
    }

    pub(super) fn has(self, place: usize) -> bool {
        self.0 & 1 << place != 0
    }
}

impl fmt::Display for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = (0..Self::NAMES.len()).filter(|i| self.has(*i)).map(|i| Self::NAMES[i]).collect();
        f.write_str(&names.join(","))
    }
}

/// An item's JSON as another process wrote it, with all statistics.
#[derive(Deserialize)]
struct Written {
    service: Arc<str>,
    namespace: String,
    metric: String,
    dimensions: std::collections::BTreeMap<String, String>,
    timestamp: Second,
    period: u32,
    count: u64,
    sum: f64,
    min: f64,
    max: f64,
    average: f64,
    p50: f64,
    p90: f64,
    p95: f64,
    p99: f64,
    unit: String,
}

impl From<Written> for Item {
    fn from(of: Written) -> Self {
        let Written { service, timestamp, period, count, sum, min, max, average, p50, p90, p95, p99, .. } = of;
        let dimensions = of.dimensions.into_iter().collect();
        let series = Series { namespace: of.namespace, metric: of.metric, dimensions, unit: of.unit };
        Self { service, series: Arc::new(series), timestamp, period, count, sum, min, max, average, p50, p90, p95, p99 }
    }
}
