//! `GET /alarms`, `GET /alarms/{name}` and `POST /definitions`, which makes them. Decides whether a definition can be one; applies all or none.

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    Extension,
    body::Body,
    extract::{Path, State, rejection::PathRejection},
    http::{StatusCode, Uri},
    response::Response,
};
use bytes::Bytes;
use events::event::Defined;
use projections::{alarm::Alarm, query};
use serde_json::{Value, json};

use super::ingest::share;
use crate::{
    Api,
    body::Incoming,
    guard::Caller,
    operator::Operator,
    parameters::{Parameters, part},
    refusal::{Refusal, answer},
};

/// Most definitions of one request.
const DEFINITIONS_MAX: usize = 1_000;
/// Longest body.
const BODY_BYTES_MAX: usize = 4 << 20;
/// What definitions of alarms are called in events and rows.
const KIND: &str = "alarm";

/// `GET /alarms`: all of the tenant's, with their states.
pub(crate) async fn list<O: Operator>(
    State(api): State<Arc<Api<O>>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Response, Refusal> {
    Parameters::of(&uri, &[])?;
    let alarms = query::alarms(api.operator.store(), caller.tenant()?, api.operator.generation(), None).await?;
    Ok(answer(StatusCode::OK, &json!({"alarms": alarms})))
}

/// `GET /alarms/{name}`: one, with its changes.
pub(crate) async fn one<O: Operator>(
    State(api): State<Arc<Api<O>>>,
    Extension(caller): Extension<Caller>,
    name: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Response, Refusal> {
    Parameters::of(&uri, &[])?;
    let name = part(name)?;
    let short: String = name.chars().take(255).collect();
    let unknown = || {
        Refusal::new(
            StatusCode::NOT_FOUND,
            "unknown_alarm",
            format!("there is no alarm `{short}`; GET /alarms, or `weir alarms`, lists them"),
        )
    };
    // No key holds such a name, and not every store may be asked for it.
    if name.len() > 255 || name.chars().any(char::is_control) {
        return Err(unknown());
    }
    let found = query::alarms(api.operator.store(), caller.tenant()?, api.operator.generation(), Some(&name)).await?;
    found.first().map(|alarm| answer(StatusCode::OK, alarm)).ok_or_else(unknown)
}

/// `POST /definitions`: alarms in CloudWatch's field names.
pub(crate) async fn define<O: Operator>(
    State(api): State<Arc<Api<O>>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
    body: Body,
) -> Result<Response, Refusal> {
    Parameters::of(&uri, &[])?;
    let tenant = caller.tenant()?;
    let _share = share(&api, &caller).await?;
    let body = Incoming::new(body, &api.limits).whole(Bytes::new(), BODY_BYTES_MAX, "the body").await?;
    let defined = read(&body, tenant)?;
    let names: Vec<String> = defined.iter().map(|defined| defined.name.clone()).collect();
    let revisions = api.operator.apply(tenant, defined).await;
    let revisions = revisions.map_err(|why| {
        let message = format!("not all definitions are in force: {why}. Apply them again: what is in stays as it is");
        Refusal::unavailable("not_applied", message)
    })?;
    let applied: Vec<Value> = names
        .iter()
        .zip(&revisions)
        .map(|(name, revision)| json!({"kind": KIND, "name": name, "revision": revision.to_string()}))
        .collect();
    Ok(answer(StatusCode::OK, &json!({"applied": applied})))
}

fn read(body: &[u8], by: &str) -> Result<Vec<Defined>, Refusal> {
    let bad = |message: String| Refusal::bad("bad_definition", message);
    let value: Value = serde_json::from_slice(body).map_err(|error| bad(format!("the body is not JSON: {error}")))?;
    let list = match value {
        Value::Array(list) => list,
        Value::Object(mut object) => match object.remove("MetricAlarms") {
            Some(Value::Array(list)) => list,
            Some(_) => return Err(bad("MetricAlarms is no list".into())),
            None => vec![Value::Object(object)],
        },
        _ => return Err(bad("the body is no alarm, no list of alarms, and has no MetricAlarms".into())),
    };
    if list.is_empty() || list.len() > DEFINITIONS_MAX {
        return Err(bad(format!("{} definitions: send 1 to {DEFINITIONS_MAX}", list.len())));
    }
    let mut names = BTreeSet::new();
    let mut defined = vec![];
    for (i, definition) in list.iter().enumerate() {
        let name = definition.get("AlarmName").and_then(Value::as_str);
        let named = match name {
            Some(name) => format!("alarm `{}`", name.chars().take(255).collect::<String>()),
            None => format!("alarm {} of {}", i + 1, list.len()),
        };
        let body = definition.to_string();
        let alarm = Alarm::parse(&body).map_err(|error| bad(format!("{named}: {error}; nothing was applied")))?;
        if !names.insert(alarm.name.clone()) {
            return Err(bad(format!("{named} is defined twice here: leave one; nothing was applied")));
        }
        defined.push(Defined { kind: KIND.to_owned(), name: alarm.name, body, by: by.to_owned() });
    }
    Ok(defined)
}
