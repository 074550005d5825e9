//! What a service-minute's item says to people and to others' tools: its metrics by name, beside the state in `Body` that Weir itself reads. Decides
//! their form; nothing here reads them back.
//!
//! | metric | value |
//! | --- | --- |
//! | a count of lines (`lines`, `requests`, `errors`, …) | a number |
//! | `latency`, `bytes` | a map: `count`, `sum`, `min`, `max`, `unit` |
//! | of an API: `NAMESPACE/METRIC{DIMENSION=VALUE,…}` | the same; `period`, where it is not a minute |
//!
//! Where that would cost a write unit more, the counts alone stand there, or nothing: `item.rs` sees how much room there is.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;

use super::item::{number, text};
use crate::{
    cell::{Cell, Count, WINDOW_SECS},
    distribution::Distribution,
    series::Series,
};

/// DynamoDB's numbers are 0, or at least this (developer guide, "Supported data types").
const LEAST: f64 = 1e-130;
/// What a metric takes besides its name, at most.
const VALUE_BYTES: usize = 100;
/// An item holds 400 KB, and a page of an API's metrics with the longest names is not far from it: more than this is left out.
const METRICS_BYTES_MAX: usize = 12_000;

/// The metrics of a window's body: all of them, and the counts alone. None of what is no window.
pub(super) fn forms(body: &[u8]) -> Vec<AttributeValue> {
    let Ok(cell) = Cell::decode(body) else { return vec![] };
    let (mut all, mut counts) = (HashMap::new(), HashMap::new());
    let mut bytes = 0;
    for (series, period, values) in cell.windows() {
        let Some(value) = value(&series, period, &values) else { continue };
        let mut name = name(&series);
        if all.contains_key(&name) {
            name = format!("{name} {} {period}", series.unit);
        }
        if value.is_n() {
            counts.insert(name.clone(), value.clone());
        }
        bytes += name.len() + VALUE_BYTES;
        all.insert(name, value);
    }
    let all = Some(all).filter(|_| bytes <= METRICS_BYTES_MAX);
    let forms = all.into_iter().chain([counts]);
    forms.filter(|form| !form.is_empty()).map(AttributeValue::M).collect()
}

fn is_count(series: &Series) -> bool {
    Count::ALL.into_iter().any(|count| *series == Series::of_logs(count.metric(), "Count"))
}

fn name(series: &Series) -> String {
    let Series { namespace, metric, dimensions, unit } = series;
    if *series == Series::of_logs(metric, unit) {
        return metric.clone();
    }
    let dimensions: Vec<String> = dimensions.iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("{namespace}/{metric}{{{}}}", dimensions.join(","))
}

/// `None` of no values.
fn value(series: &Series, period: i64, values: &Distribution) -> Option<AttributeValue> {
    if is_count(series) {
        return Some(number(values.count()));
    }
    let mut map = HashMap::from([
        ("count".to_owned(), number(values.count())),
        ("sum".to_owned(), float(values.sum())),
        ("min".to_owned(), float(values.min()?)),
        ("max".to_owned(), float(values.max()?)),
        ("unit".to_owned(), text(&series.unit)),
    ]);
    if period != WINDOW_SECS {
        map.insert("period".to_owned(), number(period));
    }
    Some(AttributeValue::M(map))
}

/// At most 17 digits, where DynamoDB takes 38.
fn float(value: f64) -> AttributeValue {
    match value.abs() {
        small if small < LEAST => number(0),
        usual if (1e-6..1e15).contains(&usual) => number(value),
        _ => AttributeValue::N(format!("{value:e}")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn numbers_are_such_as_dynamodb_takes() {
        let text = |value: f64| float(value).as_n().unwrap().clone();
        assert_eq!([0.25, 3.0, -1e14].map(text), ["0.25", "3", "-100000000000000"]);
        assert_eq!([2f64.powi(360), -1e-100].map(text), ["2.3485425827738332e108", "-1e-100"]);
        assert_eq!([5e-324, -1e-131, 0.0].map(text), ["0", "0", "0"], "what is less than the least");
    }

    #[test]
    fn a_window_says_counts_as_numbers_and_values_with_their_unit() {
        let mut cell = Cell::default();
        cell.add_continuation();
        let dimensions = [("region".to_owned(), "eu".to_owned())];
        let series = |unit| Series::new("shop", "price", &dimensions, unit).unwrap();
        cell.add_value(&series("None"), 1, 2.5).unwrap();
        cell.add_value(&series("Percent"), 60, 7.0).unwrap();
        let forms = forms(&cell.encode());
        let [all, counts] = forms.as_slice() else { panic!("{forms:?}") };
        assert_eq!(counts.as_m().unwrap().len(), 1);
        let metrics = all.as_m().unwrap();
        assert_eq!(metrics.len(), 3, "what has one name and another unit is told apart: {metrics:?}");
        assert_eq!(metrics["lines"], number(1));
        let price = metrics["shop/price{region=eu}"].as_m().unwrap();
        assert_eq!((&price["sum"], &price["unit"], &price["period"]), (&number(2.5), &text("None"), &number(1)));
        assert_eq!(super::forms(b"no window"), []);
    }
}
