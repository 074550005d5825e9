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

/// Says why nothing matched: the service, the metric, or the time. Only what was asked for by its own name, over all time, is said not to be there.
pub async fn hint(client: &Client, service: Option<&str>, metric: Option<&str>) -> Result<String, Failure> {
    let of_service = service.map(|service| format!("&service={}", escaped(service))).unwrap_or_default();
    if let Some(service) = service
        && first(client, &of_service).await?.is_none()
    {
        // Every service that wrote a line has `lines`; one page holds more services of these than of all metrics.
        let mut services = names(client, "service", "&metric=lines").await?;
        services.add(names(client, "service", "").await?);
        return Ok(missing("service", service, &services));
    }
    let of_metric = metric.map(|metric| format!("&metric={}", escaped(metric))).unwrap_or_default();
    let there = first(client, &format!("{of_service}{of_metric}")).await?;
    if let Some(metric) = metric
        && there.is_none()
    {
        let from_lines = Count::ALL.iter().map(|count| count.metric()).chain([LATENCY, BYTES]);
        if from_lines.clone().any(|known| known == metric) {
            return Ok(format!("no value of `{metric}`: no line has had one{}", of(service)));
        }
        let mut metrics = names(client, "metric", &of_service).await?;
        // Where lines were counted, each of these may come.
        if metrics.found.contains(Count::Lines.metric()) {
            metrics.found.extend(from_lines.map(str::to_owned));
        }
        return Ok(missing("metric", metric, &metrics));
    }
    Ok(match there {
        None => "no metrics match: there are none yet. `weir ingest PATH` reads logs".to_owned(),
        Some(time) => format!(
            "no metrics match in this time and namespace; there are some from {time} on. `weir metrics` without options shows all there are; \
             `weir ingest PATH` reads logs"
        ),
    })
}

fn of(service: Option<&str>) -> String {
    service.map(|service| format!(" of service `{service}`")).unwrap_or_default()
}

/// All of time: hours, counts only.
const EVER: &str = "/metrics?startTime=1970-01-01&endTime=9999-01-01&period=3600&statistics=count";

/// The hour of the first window that matches; `None`: there is none, however many others there are.
async fn first(client: &Client, of: &str) -> Result<Option<String>, Failure> {
    let page = client.json(Method::GET, &format!("{EVER}&limit=1{of}"), Bytes::new()).await?;
    Ok(page["items"][0]["timestamp"].as_str().map(str::to_owned))
}

/// Names that there are.
#[derive(Default)]
struct Names {
    found: BTreeSet<String>,
    /// Not all windows were looked through.
    cut: bool,
}

impl Names {
    fn add(&mut self, other: Self) {
        self.found.extend(other.found);
        self.cut |= other.cut;
    }
}

/// The values of a field, of all windows that match, up to a bound.
async fn names(client: &Client, field: &str, of: &str) -> Result<Names, Failure> {
    let (mut names, mut next) = (Names::default(), String::new());
    for _ in 0..PAGES_MAX {
        let page = client.json(Method::GET, &format!("{EVER}&limit=1000{of}{next}"), Bytes::new()).await?;
        let items = page["items"].as_array().into_iter().flatten();
        names.found.extend(items.filter_map(|item| item[field].as_str().map(str::to_owned)));
        let Some(token) = page["nextToken"].as_str() else { return Ok(names) };
        next = format!("&nextToken={}", escaped(token));
    }
    names.cut = true;
    Ok(names)
}

fn missing(what: &str, name: &str, there: &Names) -> String {
    if there.found.is_empty() {
        return format!("no metrics match: there is no {what} yet. `weir ingest PATH` reads logs");
    }
    let mut near: Vec<_> = there.found.iter().map(|known| (distance(name, known), known)).collect();
    near.sort();
    let listed: Vec<_> = near.iter().take(LISTED_MAX).map(|(_, known)| known.as_str()).collect();
    let more = match near.len() - listed.len() {
        _ if there.cut => " and more".to_owned(),
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
        let found = (0..20).map(|i| format!("service-{i:02}")).chain(["checkout".into()]).collect();
        let mut there = Names { found, cut: false };
        let said = missing("service", "chekout", &there);
        assert!(said.contains("no service `chekout`; there are checkout, service-"), "{said}");
        assert!(said.ends_with("and 9 more"), "{said}");
        there.cut = true;
        assert!(missing("service", "chekout", &there).ends_with(" and more"), "how many more is not known");
    }
}
