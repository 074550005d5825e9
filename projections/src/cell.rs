//! All metrics of one service and one minute: what a line adds to them, and how a row holds them. Knows neither key nor position.
//!
//! The body of a window row, version 1:
//!
//! | field | form |
//! | --- | --- |
//! | version | 1 byte: 1 |
//! | built-in counts | varint bitmap over `Count::ALL`, then a varint for each bit that is set |
//! | latency, bytes | each a distribution, empty if no line had one |
//! | others | varint count; then in order of (series, length): series, varint window length in seconds, distribution |
//!
//! Invariants:
//! - Equal content has equal bytes: order of lines, batches and shards leaves no trace.
//! - A count of lines is held as a number and read as a distribution of so many ones.

pub mod visit;

use std::collections::{BTreeMap, btree_map::Entry};

use crate::{
    canonical::{self, DecodeError},
    distribution::{self, Distribution},
    fold::rows::Body,
    lines::{Level, Line},
    series::{self, Series},
};

/// Length of a window, in seconds.
pub const WINDOW_SECS: i64 = 60;
/// Most series of one cell besides the built-in ones: a row must fit into one item. A value of a further series is skipped and counted.
pub const SERIES_MAX: usize = 24;

const VERSION: u8 = 1;

/// The built-in metrics that count lines: each value is 1, so the sum is the count. The order is stored: only append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Count {
    /// Physical lines.
    Lines,
    /// Lines that have a status or a latency.
    Requests,
    /// Status 500 and above; level ERROR and above where there is no status.
    Errors,
    /// By class of status.
    Status2xx,
    /// By class of status.
    Status3xx,
    /// By class of status.
    Status4xx,
    /// By class of status.
    Status5xx,
    /// By level.
    LevelTrace,
    /// By level.
    LevelDebug,
    /// By level.
    LevelInfo,
    /// By level.
    LevelWarn,
    /// By level.
    LevelError,
    /// By level.
    LevelFatal,
}

const COUNTS: usize = 13;

impl Count {
    /// Every count, in stored order.
    pub const ALL: [Self; COUNTS] = [
        Self::Lines,
        Self::Requests,
        Self::Errors,
        Self::Status2xx,
        Self::Status3xx,
        Self::Status4xx,
        Self::Status5xx,
        Self::LevelTrace,
        Self::LevelDebug,
        Self::LevelInfo,
        Self::LevelWarn,
        Self::LevelError,
        Self::LevelFatal,
    ];

    /// The metric's name.
    pub fn metric(self) -> &'static str {
        match self {
            Self::Lines => "lines",
            Self::Requests => "requests",
            Self::Errors => "errors",
            Self::Status2xx => "status_2xx",
            Self::Status3xx => "status_3xx",
            Self::Status4xx => "status_4xx",
            Self::Status5xx => "status_5xx",
            Self::LevelTrace => "level_trace",
            Self::LevelDebug => "level_debug",
            Self::LevelInfo => "level_info",
            Self::LevelWarn => "level_warn",
            Self::LevelError => "level_error",
            Self::LevelFatal => "level_fatal",
        }
    }
}

/// Metric name of a line's duration; unit Milliseconds.
pub const LATENCY: &str = "latency";
/// Metric name of a line's size; unit Bytes.
pub const BYTES: &str = "bytes";

/// By encoded series and window length in seconds.
type Others = BTreeMap<(Vec<u8>, i64), Distribution>;

/// One series' values in one window, and how long the window is.
pub type Window = (Series, i64, Distribution);

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cell {
    counts: [u64; COUNTS],
    latency: Distribution,
    bytes: Distribution,
    /// Boxed, because logs have none.
    others: Option<Box<Others>>,
}

/// The cell holds as many series as a row may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

impl Cell {
    /// Adds what a line says.
    #[inline]
    pub fn add_line(&mut self, line: &Line<'_>) {
        self.count(Count::Lines);
        if let Some(level) = line.level {
            self.count(match level {
                Level::Trace => Count::LevelTrace,
                Level::Debug => Count::LevelDebug,
                Level::Info => Count::LevelInfo,
                Level::Warn => Count::LevelWarn,
                Level::Error => Count::LevelError,
                Level::Fatal => Count::LevelFatal,
            });
        }
        if let Some(status) = line.status {
            match status / 100 {
                2 => self.count(Count::Status2xx),
                3 => self.count(Count::Status3xx),
                4 => self.count(Count::Status4xx),
                5 => self.count(Count::Status5xx),
                _ => {}
            }
        }
        if line.status.is_some() || line.latency_ms.is_some() {
            self.count(Count::Requests);
        }
        if line.status.map_or(line.level >= Some(Level::Error), |status| status >= 500) {
            self.count(Count::Errors);
        }
        if let Some(latency) = line.latency_ms {
            self.latency.add(latency);
        }
        if let Some(bytes) = line.bytes {
            self.bytes.add(bytes);
        }
    }

    /// Adds a physical line that continues the one before it.
    pub fn add_continuation(&mut self) {
        self.count(Count::Lines);
    }

    #[inline]
    fn count(&mut self, count: Count) {
        self.counts[count as usize] += 1;
    }

    /// Adds a value of a series that an API named; `value` has passed `distribution::check`.
    pub fn add_value(&mut self, series: &Series, window_secs: i64, value: f64) -> Result<(), Full> {
        self.add_encoded(series.encode(), window_secs, value, SERIES_MAX)
    }

    /// As `add_value`, of a series that is spelled already, where the cell may hold `series_max` of them. A cell that becomes a row holds at most
    /// `SERIES_MAX`.
    pub fn add_encoded(
        &mut self,
        series: Vec<u8>,
        window_secs: i64,
        value: f64,
        series_max: usize,
    ) -> Result<(), Full> {
        let is_full = self.is_full(series_max);
        let others = self.others.get_or_insert_default();
        match others.entry((series, window_secs)) {
            Entry::Vacant(_) if is_full => return Err(Full),
            entry => entry.or_default().add(value),
        }
        Ok(())
    }

    /// True if it holds as many series as it may.
    pub fn is_full(&self, series_max: usize) -> bool {
        self.others.as_ref().is_some_and(|others| others.len() >= series_max)
    }

    /// True if it has a value of this series, as `Series::encode` spells it.
    pub fn has_encoded(&self, series: &[u8], window_secs: i64) -> bool {
        // The map's keys own their bytes, so a look-up would have to copy these; there are two dozen at most.
        let others = self.others.iter().flat_map(|others| others.keys());
        others.into_iter().any(|(of, length)| of == series && *length == window_secs)
    }

    /// Adds another cell's values: exact, and in any order the same.
    pub fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count = count.saturating_add(more);
        }
        self.latency.merge(&other.latency);
        self.bytes.merge(&other.bytes);
        for (key, value) in other.others.iter().flat_map(|others| others.iter()) {
            self.others.get_or_insert_default().entry(key.clone()).or_default().merge(value);
        }
    }

    /// Every series with a value, with the window's length in seconds, in order of series.
    pub fn windows(&self) -> Vec<Window> {
        let mut windows: Vec<Window> = Count::ALL
            .into_iter()
            .filter(|count| self.counts[*count as usize] > 0)
            .map(|count| {
                let mut ones = Distribution::default();
                ones.add_times(1.0, self.counts[count as usize]);
                (Series::of_logs(count.metric(), "Count"), WINDOW_SECS, ones)
            })
            .collect();
        for (metric, unit, values) in [(LATENCY, "Milliseconds", &self.latency), (BYTES, "Bytes", &self.bytes)] {
            if !values.is_empty() {
                windows.push((Series::of_logs(metric, unit), WINDOW_SECS, values.clone()));
            }
        }
        for ((series, length), values) in self.others.iter().flat_map(|others| others.iter()) {
            let series =
                Series::decode(&mut series.as_slice()).expect("a cell holds only series that it encoded or checked");
            windows.push((series, *length, values.clone()));
        }
        windows.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
        windows
    }

    /// The values of one series; `None` if it has none here.
    pub fn window(&self, series: &Series) -> Option<Distribution> {
        // A cell has some twenty series: looking through them is quicker than an index that must be kept.
        self.windows()
            .into_iter()
            .find(|(of, length, _)| of == series && *length == WINDOW_SECS)
            .map(|(_, _, values)| values)
    }

    /// The body of a row.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(256);
        bytes.push(VERSION);
        let bitmap = (0..COUNTS).filter(|i| self.counts[*i] > 0).fold(0u64, |bits, i| bits | 1 << i);
        canonical::put_varint(&mut bytes, bitmap);
        for count in self.counts.iter().filter(|count| **count > 0) {
            canonical::put_varint(&mut bytes, *count);
        }
        self.latency.encode(&mut bytes);
        self.bytes.encode(&mut bytes);
        let others = self.others.iter().flat_map(|others| others.iter());
        canonical::put_varint(&mut bytes, self.others.as_ref().map_or(0, |others| others.len() as u64));
        for ((series, length), values) in others {
            bytes.extend_from_slice(series);
            canonical::put_varint(&mut bytes, *length as u64);
            values.encode(&mut bytes);
        }
        bytes
    }

    /// Reads a row's body.
    pub fn decode(mut input: &[u8]) -> Result<Self, DecodeError> {
        let input = &mut input;
        if canonical::take_byte(input, "version")? != VERSION {
            return Err(DecodeError::OutOfRange { what: "version of a window row" });
        }
        let bitmap = canonical::take_varint(input, "counts")?;
        if bitmap >> COUNTS != 0 {
            return Err(DecodeError::OutOfRange { what: "counts" });
        }
        let mut cell = Self::default();
        for i in (0..COUNTS).filter(|i| bitmap & 1 << i != 0) {
            cell.counts[i] = canonical::take_varint(input, "count")?;
            if cell.counts[i] == 0 {
                return Err(DecodeError::NotCanonical { what: "count" });
            }
        }
        cell.latency = Distribution::decode(input)?;
        cell.bytes = Distribution::decode(input)?;
        let others = canonical::take_varint(input, "number of series")?;
        let mut before: Option<(Vec<u8>, i64)> = None;
        for _ in 0..others {
            let series = Series::decode(input)?.encode();
            let length = canonical::take_varint(input, "window length")?;
            let key = (series, i64::try_from(length).map_err(|_| DecodeError::OutOfRange { what: "window length" })?);
            if before.as_ref().is_some_and(|before| *before >= key) {
                return Err(DecodeError::NotCanonical { what: "order of series" });
            }
            before = Some(key.clone());
            cell.others.get_or_insert_default().insert(key, Distribution::decode(input)?);
        }
        if input.is_empty() { Ok(cell) } else { Err(DecodeError::OutOfRange { what: "end of a window row" }) }
    }
}

impl Body for Cell {
    fn encode(&self) -> Vec<u8> {
        Self::encode(self)
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        Self::decode(bytes)
    }

    fn take_in(&mut self, older: Self) {
        self.merge(&older);
    }
}

const _: () = assert!(
    1 + 10
        + 10 * COUNTS
        + (2 + SERIES_MAX) * distribution::ENCODED_BYTES_MAX
        + SERIES_MAX * (series::ENCODED_BYTES_MAX + 9)
        + 10
        < crate::store::ROW_BYTES_MAX,
    "a cell fits into one item, whatever its lines and values say"
);
