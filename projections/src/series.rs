//! What makes two values belong to one metric. Decides identity only; holds no value.
//!
//! A series is tenant, namespace, service, name, exact set of dimensions and unit. A window adds its start and its length. Tenant and service
//! stand in the key of the row that holds the series, so here they are left out; `encode` gives the rest one spelling.

use crate::canonical::{self, DecodeError};

/// The namespace of metrics that Weir makes from log lines.
pub const LOGS_NAMESPACE: &str = "Weir/Logs";
/// Longest namespace, metric name and dimension name (CloudWatch API reference, `MetricDatum` and `Dimension`).
pub const NAME_BYTES_MAX: usize = 255;
/// Longest dimension value (the same).
pub const DIMENSION_VALUE_BYTES_MAX: usize = 1024;
/// Most dimensions of a metric (the same).
pub const DIMENSIONS_MAX: usize = 30;
/// Longest series when encoded, all names together: two dozen of them share a row.
pub const ENCODED_BYTES_MAX: usize = 1024;
/// The units that CloudWatch knows; nothing is ever converted.
pub const UNITS: [&str; 27] = [
    "Seconds",
    "Microseconds",
    "Milliseconds",
    "Bytes",
    "Kilobytes",
    "Megabytes",
    "Gigabytes",
    "Terabytes",
    "Bits",
    "Kilobits",
    "Megabits",
    "Gigabits",
    "Terabits",
    "Percent",
    "Count",
    "Bytes/Second",
    "Kilobytes/Second",
    "Megabytes/Second",
    "Gigabytes/Second",
    "Terabytes/Second",
    "Bits/Second",
    "Kilobits/Second",
    "Megabits/Second",
    "Gigabits/Second",
    "Terabits/Second",
    "Count/Second",
    "None",
];

/// A metric's identity within tenant and service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Series {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub metric: String,
    /// Sorted by name; no name twice.
    pub dimensions: Vec<(String, String)>,
    /// One of `UNITS`.
    pub unit: String,
}

/// The text names no series.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadSeries(String);

impl Series {
    /// A metric that Weir makes from log lines.
    pub fn of_logs(metric: &str, unit: &str) -> Self {
        Self { namespace: LOGS_NAMESPACE.into(), metric: metric.into(), dimensions: vec![], unit: unit.into() }
    }

    /// A series from names that were given from outside: checks them, and sorts the dimensions.
    pub fn new(namespace: &str, metric: &str, dimensions: &[(String, String)], unit: &str) -> Result<Self, BadSeries> {
        name("namespace", namespace, NAME_BYTES_MAX)?;
        name("metric", metric, NAME_BYTES_MAX)?;
        if !UNITS.contains(&unit) {
            return Err(BadSeries(format!(
                "unit `{}` is none of CloudWatch's 27 (such as Count, Milliseconds, None)",
                cut(unit)
            )));
        }
        if dimensions.len() > DIMENSIONS_MAX {
            return Err(BadSeries(format!("{} dimensions; at most {DIMENSIONS_MAX} are allowed", dimensions.len())));
        }
        let mut dimensions = dimensions.to_vec();
        dimensions.sort();
        for (key, value) in &dimensions {
            name("dimension name", key, NAME_BYTES_MAX)?;
            name("dimension value", value, DIMENSION_VALUE_BYTES_MAX)?;
        }
        if let Some(pair) = dimensions.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(BadSeries(format!("dimension `{}` is given twice", cut(&pair[0].0))));
        }
        let series = Self { namespace: namespace.into(), metric: metric.into(), dimensions, unit: unit.into() };
        let length = series.encode().len();
        if length > ENCODED_BYTES_MAX {
            return Err(BadSeries(format!(
                "all names together have {length} bytes; at most {ENCODED_BYTES_MAX} are allowed"
            )));
        }
        Ok(series)
    }

    /// One spelling for equal series; orders as the struct does within equal lengths, which is all that a row needs.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(32);
        for text in [&self.namespace, &self.metric, &self.unit] {
            canonical::put_text(&mut bytes, text);
        }
        canonical::put_varint(&mut bytes, self.dimensions.len() as u64);
        for (key, value) in &self.dimensions {
            canonical::put_text(&mut bytes, key);
            canonical::put_text(&mut bytes, value);
        }
        bytes
    }

    /// Passes over what `encode` wrote, and returns its bytes unchecked.
    pub fn pass<'a>(input: &mut &'a [u8]) -> Result<&'a [u8], DecodeError> {
        let whole = *input;
        let text = |input: &mut &'a [u8]| {
            let len = canonical::take_varint(input, "series")?.min(u64::from(u32::MAX)) as usize;
            canonical::take_bytes(input, len, "series")
        };
        for _ in 0..3 {
            text(input)?;
        }
        let dimensions = canonical::take_varint(input, "number of dimensions")?;
        for _ in 0..dimensions.saturating_mul(2) {
            text(input)?;
        }
        Ok(&whole[..whole.len() - input.len()])
    }

    /// Reads what `encode` wrote.
    pub fn decode(input: &mut &[u8]) -> Result<Self, DecodeError> {
        let mut name = |what| canonical::take_text(input, NAME_BYTES_MAX, what).map(str::to_owned);
        let (namespace, metric, unit) = (name("namespace")?, name("metric")?, name("unit")?);
        let count = canonical::take_varint(input, "number of dimensions")?;
        if count > DIMENSIONS_MAX as u64 {
            return Err(DecodeError::OutOfRange { what: "number of dimensions" });
        }
        let mut dimensions: Vec<(String, String)> = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let key = canonical::take_text(input, NAME_BYTES_MAX, "dimension name")?.to_owned();
            let value = canonical::take_text(input, DIMENSION_VALUE_BYTES_MAX, "dimension value")?.to_owned();
            if dimensions.last().is_some_and(|(before, _)| *before >= key) {
                return Err(DecodeError::NotCanonical { what: "order of dimensions" });
            }
            dimensions.push((key, value));
        }
        Ok(Self { namespace, metric, dimensions, unit })
    }
}

fn cut(text: &str) -> String {
    text.chars().take(60).collect()
}

fn name(what: &str, text: &str, max: usize) -> Result<(), BadSeries> {
    let visible = text.bytes().any(|b| !b.is_ascii_whitespace());
    if text.is_empty() || !visible || text.len() > max || text.chars().any(char::is_control) || text.starts_with(':') {
        return Err(BadSeries(format!(
            "{what} `{}` is not 1 to {max} visible bytes without control characters that do not begin with a colon",
            cut(text)
        )));
    }
    Ok(())
}
