//! `POST /metrics`: values of metrics that a program measured by itself. Decides whether each is one, and names the field that is wrong.

use std::sync::Arc;

use axum::{
    Extension,
    body::Body,
    extract::State,
    http::{StatusCode, Uri},
    response::Response,
};
use bytes::Bytes;
use events::{
    event::{Datum, Event, Measured},
    identity::{Producer, check_service},
    stream::RECORD_BYTES_MAX,
    wire::{self, Content, Header},
};
use projections::{
    distribution,
    fold::AHEAD_MAX_MS,
    series::{LOGS_NAMESPACE, Series},
    when,
};
use serde_json::{Map, Value, json};

use super::ingest::{Sender, share};
use crate::{
    Api,
    body::Incoming,
    guard::Caller,
    operator::Operator,
    parameters::Parameters,
    refusal::{Refusal, answer},
    strict,
};

/// Most values of one request (CloudWatch API reference, `PutMetricData`).
const DATA_MAX: usize = 1_000;
/// Longest body (the same).
const BODY_BYTES_MAX: usize = 1 << 20;
const KNOWN: [&str; 7] = ["service", "namespace", "metric", "value", "unit", "timestamp", "dimensions"];

pub(crate) async fn write<O: Operator>(
    State(api): State<Arc<Api<O>>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
    body: Body,
) -> Result<Response, Refusal> {
    let parameters = Parameters::of(&uri, &["run"])?;
    let tenant = caller.tenant()?;
    let run = parameters.run(tenant)?;
    let share = share(&api, &caller).await?;
    let body = Incoming::new(body, &api.limits).whole(Bytes::new(), BODY_BYTES_MAX, "the body").await?;
    let operator = &*api.operator;
    let now_ms = operator.now_ms();
    let data = read(&body, now_ms)?;
    let lease = api.producers.lease(share);
    // The packer's counters begin at one too: zero is what nobody has sent.
    let producer = Producer { counter: lease.producer.counter + 1, ..lease.producer.clone() };
    let (accepted, partition_key) = (data.len(), producer.partition_key(tenant));
    let header = Header {
        producer: Some(producer),
        definitions: operator.definitions_revision(),
        ..Header::plain(tenant, Content::Events, 0, now_ms)
    };
    let record = wire::encode_events(header, &[Event::Measured(Measured { data })]);
    if record.len() + partition_key.len() > RECORD_BYTES_MAX {
        return Err(Refusal::too_large("these values do not fit into one record of 1 MiB: send fewer at a time"));
    }
    let mut sender = Sender::new(operator, run);
    sender.send(partition_key, record).await?;
    sender.settle(lease).await?;
    Ok(answer(StatusCode::CREATED, &json!({"accepted": accepted, "positions": sender.positions()})))
}

fn read(body: &[u8], now_ms: i64) -> Result<Vec<Datum>, Refusal> {
    let shape = "send one object with service, metric and value, or {\"metrics\":[…]} with several";
    let value = strict::parse(body)
        .map_err(|error| Refusal::bad("bad_json", format!("the body cannot be read as JSON: {error}; {shape}")))?;
    let Value::Object(object) = value else {
        return Err(Refusal::bad("bad_json", format!("the body is no object: {shape}")));
    };
    match object.get("metrics") {
        None => Ok(vec![datum("", &object, now_ms)?]),
        Some(_) if object.len() > 1 => Err(Refusal::field("metrics", format!("other fields stand beside it: {shape}"))),
        Some(Value::Array(list)) if (1..=DATA_MAX).contains(&list.len()) => {
            let each = |(i, value): (usize, &Value)| match value {
                Value::Object(object) => datum(&format!("metrics[{i}]."), object, now_ms),
                _ => Err(Refusal::field(&format!("metrics[{i}]"), "it is no object")),
            };
            list.iter().enumerate().map(each).collect()
        }
        Some(_) => Err(Refusal::field("metrics", format!("it is not a list of 1 to {DATA_MAX} objects"))),
    }
}

/// `at`: where the object stands, before its fields' names.
fn datum(at: &str, object: &Map<String, Value>, now_ms: i64) -> Result<Datum, Refusal> {
    let refuse = |field: &str, why: &dyn std::fmt::Display| Refusal::field(&format!("{at}{field}"), why);
    if let Some(unknown) = object.keys().find(|name| !KNOWN.contains(&name.as_str())) {
        let short: String = unknown.chars().take(60).collect();
        return Err(refuse(&short, &format!("no such field; there are {}", KNOWN.join(", "))));
    }
    let text = |field: &str, default: Option<&str>| match (object.get(field), default) {
        (Some(Value::String(text)), _) => Ok(text.clone()),
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(refuse(field, &"it is missing")),
        (Some(_), _) => Err(refuse(field, &"it is no text")),
    };
    let service = text("service", None)?;
    check_service(&service).map_err(|error| refuse("service", &error))?;
    let (namespace, metric, unit) =
        (text("namespace", Some("Custom"))?, text("metric", None)?, text("unit", Some("None"))?);
    if namespace == LOGS_NAMESPACE {
        return Err(refuse(
            "namespace",
            &format!("{LOGS_NAMESPACE} is what Weir itself makes of lines: choose another"),
        ));
    }
    let value = match object.get("value") {
        Some(Value::Number(number)) => number.as_f64().unwrap_or(f64::NAN),
        Some(_) => return Err(refuse("value", &"it is no number")),
        None => return Err(refuse("value", &"it is missing")),
    };
    let value = distribution::check(value)
        .map_err(|_| refuse("value", &format!("{value:e} is not a finite number within ±2^360, about 2.3e108")))?;
    let time_ms = match object.get("timestamp") {
        None => None,
        Some(Value::String(text)) => Some(when::parse(text, now_ms).map_err(|error| refuse("timestamp", &error))?),
        Some(number @ Value::Number(_)) => {
            Some(when::parse(&number.to_string(), now_ms).map_err(|error| refuse("timestamp", &error))?)
        }
        Some(_) => return Err(refuse("timestamp", &"it is neither text nor number")),
    };
    if time_ms.is_some_and(|time_ms| time_ms > now_ms.saturating_add(AHEAD_MAX_MS)) {
        return Err(refuse("timestamp", &"it is more than two hours ahead of this server's clock"));
    }
    let dimensions = match object.get("dimensions") {
        None => vec![],
        Some(Value::Object(pairs)) => pairs
            .iter()
            .map(|(name, value)| match value {
                Value::String(value) => Ok((name.clone(), value.clone())),
                _ => Err(refuse("dimensions", &"a value is no text")),
            })
            .collect::<Result<_, _>>()?,
        Some(_) => return Err(refuse("dimensions", &"it is no object of texts")),
    };
    // The check's own words begin with what is wrong: namespace, metric, dimension or unit.
    Series::new(&namespace, &metric, &dimensions, &unit)
        .map_err(|error| Refusal::bad("bad_parameter", format!("{at}{error}")))?;
    Ok(Datum { namespace, metric, service: Some(service), dimensions, time_ms, value, unit })
}
