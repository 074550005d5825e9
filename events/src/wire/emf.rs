//! CloudWatch's Embedded Metric Format (its page "Specification: Embedded metric format"). Decides whether a document is one, and which values it
//! names; never which window they fall into.
//!
//! - A document that breaks a rule below names no values at all: it is a log line like any other, as it is for CloudWatch.
//! - Each metric has a series for every set of dimensions of its directive, and each value of an array is a value of all of them.
//! - The service is what the document names as a JSON line does, or as `ServiceName`; else that of what sent it.
//! - A storage resolution of 1 second is taken, and its values fall into windows of a minute like all others.
//!
//! | member | rule |
//! | --- | --- |
//! | `_aws.Timestamp` | Unix milliseconds; absent: the time of what holds the document |
//! | `_aws.CloudWatchMetrics` | an array of directives: `Namespace`, `Dimensions`, `Metrics` |
//! | `Dimensions` | sets of at most 30 names, each a member of the document and a string; absent or empty: one empty set |
//! | `Metrics` | at most 100 of `Name`, `Unit` (absent: `None`), `StorageResolution` (1 or 60) |
//! | a metric's member | a number, or at most 100 of them |

use std::{borrow::Cow, collections::BTreeMap};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{DecodeError, part::Budget};
use crate::event::{BATCH_EVENTS_MAX, Datum};

/// Most metrics of a directive, and values of a metric.
const METRICS_MAX: usize = 100;
const DIMENSIONS_MAX: usize = 30;
/// Of a name with its value, besides their texts.
const PAIR_BYTES: usize = size_of::<(String, String)>();
/// Where a document names its service, best first.
const SERVICE_KEYS: [&str; 7] =
    ["service", "service.name", "service_name", "serviceName", "app", "application", "ServiceName"];

type Members<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

#[derive(Deserialize)]
struct Metadata<'a> {
    #[serde(rename = "Timestamp")]
    timestamp: Option<f64>,
    #[serde(rename = "CloudWatchMetrics", borrow)]
    directives: Vec<Directive<'a>>,
}

#[derive(Deserialize)]
struct Directive<'a> {
    #[serde(rename = "Namespace", borrow)]
    namespace: Cow<'a, str>,
    #[serde(rename = "Dimensions", borrow, default)]
    dimensions: Vec<Vec<Cow<'a, str>>>,
    #[serde(rename = "Metrics", borrow)]
    metrics: Vec<Metric<'a>>,
}

#[derive(Deserialize)]
struct Metric<'a> {
    #[serde(rename = "Name", borrow)]
    name: Cow<'a, str>,
    #[serde(rename = "Unit", borrow)]
    unit: Option<Cow<'a, str>>,
    #[serde(rename = "StorageResolution")]
    storage_resolution: Option<u8>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Numbers {
    One(f64),
    Many(Vec<f64>),
}

/// Whether it is worth looking closer.
pub(super) fn may_be(document: &[u8]) -> bool {
    memchr::memmem::find(document, b"\"_aws\"").is_some()
}

/// The values that a document names; `Ok(None)`: it is a log line. Fails where the record as a whole names too many.
pub(super) fn values(
    document: &[u8],
    time_ms: Option<i64>,
    budget: &mut Budget,
) -> Result<Option<Vec<Datum>>, DecodeError> {
    if !may_be(document) {
        return Ok(None);
    }
    let Ok(members) = serde_json::from_slice::<Members<'_>>(document) else { return Ok(None) };
    let metadata = members.get("_aws").and_then(|metadata| serde_json::from_str::<Metadata<'_>>(metadata.get()).ok());
    let Some(metadata) = metadata else { return Ok(None) };
    let Some(named) = Named::of(&members, &metadata) else { return Ok(None) };
    match named.size(&metadata) {
        // A document that names none says nothing as metrics, but it may as a line.
        (0, _) => Ok(None),
        (count, _) if count > BATCH_EVENTS_MAX => Ok(None),
        (_, bytes) => {
            budget.take_values(bytes)?;
            Ok(Some(named.data(&metadata, metadata.timestamp.map_or(time_ms, |at| Some(at as i64)))))
        }
    }
}

/// What directives name, each read once however often it is named: a short document can name a long member a million times.
struct Named<'a> {
    service: Option<String>,
    dimensions: BTreeMap<&'a str, String>,
    numbers: BTreeMap<&'a str, Vec<f64>>,
}

impl<'a> Named<'a> {
    /// `None`: some rule is broken.
    fn of(members: &Members<'_>, metadata: &'a Metadata<'_>) -> Option<Self> {
        let service = SERVICE_KEYS.iter().find_map(|key| text(members, key).filter(|name| !name.is_empty()));
        let mut named = Self { service, dimensions: BTreeMap::new(), numbers: BTreeMap::new() };
        for Directive { dimensions, metrics, .. } in &metadata.directives {
            if metrics.len() > METRICS_MAX || dimensions.iter().any(|set| set.len() > DIMENSIONS_MAX) {
                return None;
            }
            for name in dimensions.iter().flatten() {
                if !named.dimensions.contains_key(&**name) {
                    named.dimensions.insert(name, text(members, name)?);
                }
            }
            for metric in metrics {
                if !matches!(metric.storage_resolution, None | Some(1 | 60)) {
                    return None;
                }
                if !named.numbers.contains_key(&*metric.name) {
                    let numbers = match serde_json::from_str(members.get(&metric.name)?.get()).ok()? {
                        Numbers::One(number) => vec![number],
                        Numbers::Many(numbers) if numbers.len() <= METRICS_MAX => numbers,
                        Numbers::Many(_) => return None,
                    };
                    named.numbers.insert(&metric.name, numbers);
                }
            }
        }
        Some(named)
    }

    /// How many values there are, and how many bytes they will have, about.
    fn size(&self, metadata: &Metadata<'_>) -> (usize, usize) {
        let (mut count, mut bytes) = (0_usize, 0_usize);
        let own = size_of::<Datum>() + self.service.as_ref().map_or(0, String::len);
        for Directive { namespace, dimensions, metrics } in &metadata.directives {
            let pairs =
                dimensions.iter().flatten().map(|name| name.len() + self.dimensions[&**name].len() + PAIR_BYTES);
            let (sets, pairs) = (dimensions.len().max(1), pairs.sum::<usize>());
            for metric in metrics {
                let numbers = self.numbers[&*metric.name].len();
                let each =
                    own + namespace.len() + metric.name.len() + metric.unit.as_ref().map_or(4, |unit| unit.len());
                count = count.saturating_add(sets.saturating_mul(numbers));
                bytes = bytes.saturating_add(numbers.saturating_mul(sets.saturating_mul(each).saturating_add(pairs)));
            }
        }
        (count, bytes)
    }

    fn data(&self, metadata: &Metadata<'_>, time_ms: Option<i64>) -> Vec<Datum> {
        let none = [vec![]];
        let mut data = vec![];
        for Directive { namespace, dimensions, metrics } in &metadata.directives {
            let sets = if dimensions.is_empty() { none.as_slice() } else { dimensions.as_slice() };
            for metric in metrics {
                for set in sets {
                    let pair = |name: &Cow<'_, str>| (name.clone().into_owned(), self.dimensions[&**name].clone());
                    data.extend(self.numbers[&*metric.name].iter().map(|value| Datum {
                        namespace: namespace.clone().into_owned(),
                        metric: metric.name.clone().into_owned(),
                        service: self.service.clone(),
                        dimensions: set.iter().map(pair).collect(),
                        time_ms,
                        value: *value,
                        unit: metric.unit.as_deref().unwrap_or("None").to_owned(),
                    }));
                }
            }
        }
        data
    }
}

fn text(members: &Members<'_>, key: &str) -> Option<String> {
    serde_json::from_str(members.get(key)?.get()).ok()
}

#[cfg(test)]
mod tests;
