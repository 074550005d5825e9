//! What there is where somebody asked for what there is not: services and metrics, those with similar names first. Decides an order and a bound.

use std::collections::BTreeSet;

use bytes::Bytes;
use hyper::Method;
use projections::cell::{BYTES, Count, LATENCY};

use super::{
    Failure,
    client::{Client, escaped},
};

/// Names that are listed; how many more there are is said.
const LISTED_MAX: usize = 12;
/// Pages of 1,000 windows that are looked through for names; what stands behind them is not known.
const PAGES_MAX: usize = 5;

/// Says why nothing matched: the service, the metric, or the time.
pub async fn hint(client: &Client, service: Option<&str>, metric: Option<&str>) -> Result<String, Failure> {
    if let Some(service) = service {
        // Every service that wrote a line has `lines`; one page holds more services of these than of all metrics.
        let mut services = names(client, "service", "&metric=lines").await?;
        services.extend(names(client, "service", "").await?);
        if !services.contains(service) {
            return Ok(missing("service", service, &services));
        }
    }
    let of = service.map(|service| format!("&service={}", escaped(service))).unwrap_or_default();
    if let Some(metric) = metric {
        let mut metrics = names(client, "metric", &of).await?;
        let from_lines = Count::ALL.iter().map(|count| count.metric()).chain([LATENCY, BYTES]);
        if from_lines.clone().any(|known| known == metric) {
            return Ok(format!("no value of `{metric}`: no line had one in this time, service and namespace"));
        }
        // Where lines were counted, each of these may come.
        if metrics.contains(Count::Lines.metric()) {
            metrics.extend(from_lines.map(str::to_owned));
        }
        if !metrics.contains(metric) {
            return Ok(missing("metric", metric, &metrics));
        }
    }
    Ok("no metrics match in this time and namespace. `weir metrics` without options shows all there are".to_owned())
}

/// The values of a field, of all windows that match.
async fn names(client: &Client, field: &str, of: &str) -> Result<BTreeSet<String>, Failure> {
    let query = format!("/metrics?startTime=1970-01-01&endTime=9999-01-01&period=3600&limit=1000&statistics=count{of}");
    let (mut found, mut next) = (BTreeSet::new(), String::new());
    for _ in 0..PAGES_MAX {
        let page = client.json(Method::GET, &format!("{query}{next}"), Bytes::new()).await?;
        let items = page["items"].as_array().into_iter().flatten();
        found.extend(items.filter_map(|item| item[field].as_str().map(str::to_owned)));
        let Some(token) = page["nextToken"].as_str() else { break };
        next = format!("&nextToken={}", escaped(token));
    }
    Ok(found)
}

fn missing(what: &str, name: &str, there: &BTreeSet<String>) -> String {
    if there.is_empty() {
        return format!("no metrics match: there is no {what} yet. `weir ingest PATH` reads logs");
    }
    let mut near: Vec<_> = there.iter().map(|known| (distance(name, known), known)).collect();
    near.sort();
    let listed: Vec<_> = near.iter().take(LISTED_MAX).map(|(_, known)| known.as_str()).collect();
    let more = match near.len() - listed.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("no metrics match: there is no {what} `{name}`; there are {}{more}", listed.join(", "))
}

/// How many letters have to be put in, taken out or changed, whatever their case.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.to_lowercase().chars().collect(), b.to_lowercase().chars().collect());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, right) in b.iter().enumerate() {
            let changed = diagonal + usize::from(left != right);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_come_first_and_the_list_has_an_end() {
        assert_eq!((distance("chekout", "Checkout"), distance("", "abc"), distance("cart", "cart")), (1, 3, 0));
        let there: BTreeSet<String> = (0..20).map(|i| format!("service-{i:02}")).chain(["checkout".into()]).collect();
        let said = missing("service", "chekout", &there);
        assert!(said.contains("no service `chekout`; there are checkout, service-"), "{said}");
        assert!(said.ends_with("and 9 more"), "{said}");
    }
}
