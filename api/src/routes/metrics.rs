//! `GET /metrics`: windows of metrics over time, page by page.

use std::{collections::BTreeMap, num::NonZeroUsize, sync::Arc};

use axum::{
    Extension,
    extract::State,
    http::{StatusCode, Uri},
    response::Response,
};
use projections::{
    fold::AHEAD_MAX_MS,
    query::{self, Cursor, PERIODS_SECS, Query, Statistics},
    series::{LOGS_NAMESPACE, Series},
    when,
};
use serde::Serialize;

use crate::{
    Api,
    guard::Caller,
    operator::Operator,
    parameters::Parameters,
    refusal::{Refusal, json_response},
};

/// Most items of a page, and how many there are where none is asked for.
const ITEMS_MAX: u64 = 1_000;
const RANGES: [&str; 5] = ["1h", "6h", "24h", "7d", "30d"];
const KNOWN: [&str; 10] = [
    "service",
    "namespace",
    "metric",
    "timeRange",
    "startTime",
    "endTime",
    "period",
    "statistics",
    "limit",
    "nextToken",
];

/// What stands beside the items.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Besides {
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
    generation: u32,
    /// By shard: the rows hold all records up to this one.
    applied_through: BTreeMap<String, String>,
}

pub(crate) async fn read<O: Operator>(
    State(api): State<Arc<Api<O>>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Response, Refusal> {
    let parameters = Parameters::of(&uri, &KNOWN)?;
    let operator = &*api.operator;
    let (from_secs, to_secs) = range(&parameters, operator.now_ms())?;
    let query = Query {
        tenant: caller.tenant()?.to_owned(),
        view: operator.view(),
        service: parameters.service()?.map(str::to_owned),
        namespace: name(&parameters, "namespace")?.map(str::to_owned),
        metric: name(&parameters, "metric")?.map(str::to_owned),
        from_secs,
        to_secs,
        period_secs: period(&parameters)?,
    };
    let limit = parameters.number("limit", 1, ITEMS_MAX)?.unwrap_or(ITEMS_MAX) as usize;
    let limit = NonZeroUsize::new(limit).unwrap_or(NonZeroUsize::MIN);
    let statistics = parameters.text("statistics").map(Statistics::parse).transpose();
    let statistics = statistics.map_err(|error| Refusal::field("statistics", error))?.unwrap_or(Statistics::ALL);
    let after = parameters.text("nextToken").map(|token| Cursor::parse(token, &query)).transpose();
    let after = after.map_err(|error| Refusal::field("nextToken", error))?;
    // Before the rows are read: they may hold more by then, never less.
    let applied_through = operator.applied_through();
    let page = query::metrics(operator.store(), &query, after.as_ref(), limit).await?;
    let besides = Besides {
        next_token: page.next.map(|cursor| cursor.to_string()),
        generation: query.view.live().0,
        applied_through: applied_through.iter().map(|(shard, at)| (shard.to_string(), at.to_string())).collect(),
    };
    let mut json = b"{\"items\":".to_vec();
    query::write_items(&page.items, statistics, &mut json);
    let besides = serde_json::to_vec(&besides).expect("texts and numbers always encode");
    json.push(b',');
    json.extend_from_slice(&besides[1..]);
    Ok(json_response(StatusCode::OK, json))
}

fn not_one_of(name: &str, text: &str, known: &str) -> Refusal {
    let short: String = text.chars().take(40).collect();
    Refusal::field(name, format!("`{short}` is not one of {known}"))
}

/// A name that no metric can have finds nothing: whoever gives one means something else.
fn name<'a>(parameters: &'a Parameters, name: &str) -> Result<Option<&'a str>, Refusal> {
    let Some(text) = parameters.text(name) else { return Ok(None) };
    let (namespace, metric) = if name == "namespace" { (text, "any") } else { (LOGS_NAMESPACE, text) };
    match Series::new(namespace, metric, &[], "None") {
        Ok(_) => Ok(Some(text)),
        Err(error) => Err(Refusal::field(name, format!("{error}; leave it out to see every {name}"))),
    }
}

fn period(parameters: &Parameters) -> Result<u32, Refusal> {
    let Some(text) = parameters.text("period") else { return Ok(PERIODS_SECS[0]) };
    let period = text.parse().ok().filter(|period| PERIODS_SECS.contains(period));
    period.ok_or_else(|| not_one_of("period", text, "60, 300, 3600 seconds"))
}

/// First second, and first that is not wanted. Without any parameter: all there is.
fn range(parameters: &Parameters, now_ms: i64) -> Result<(i64, i64), Refusal> {
    let time = |name| {
        let text = parameters.text(name);
        text.map(|text| when::parse(text, now_ms).map_err(|error| Refusal::field(name, error))).transpose()
    };
    let (start_ms, end_ms) = (time("startTime")?, time("endTime")?);
    // No line is later than this.
    let last_ms = now_ms.saturating_add(AHEAD_MAX_MS + 60_000);
    let (start_ms, end_ms) = match parameters.text("timeRange") {
        None => (start_ms.unwrap_or(i64::MIN), end_ms.unwrap_or(last_ms)),
        Some(_) if start_ms.is_some() || end_ms.is_some() => {
            return Err(Refusal::field("timeRange", "give either timeRange, or startTime and endTime"));
        }
        Some(text) if RANGES.contains(&text) => {
            let secs = when::span_secs(text).map_err(|error| Refusal::field("timeRange", error))?;
            (now_ms.saturating_sub(secs * 1000), now_ms)
        }
        Some(text) => return Err(not_one_of("timeRange", text, &RANGES.join(", "))),
    };
    if start_ms >= end_ms {
        let why = match parameters.text("endTime") {
            Some(_) => "it is not before endTime: no window can lie between",
            None => "it is later than any line can be: give one that is not in the future",
        };
        return Err(Refusal::field("startTime", why));
    }
    Ok((start_ms.div_euclid(1000), end_ms.div_euclid(1000) + i64::from(end_ms.rem_euclid(1000) > 0)))
}
