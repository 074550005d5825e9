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
use projections::{alarm::Alarm, definitions::Room, query};
use serde_json::{Value, json};

use super::ingest::share;
use crate::{
    Api,
    body::Incoming,
    guard::Caller,
    operator::Operator,
    parameters::{Parameters, part},
    refusal::{Refusal, answer},
    strict,
};

/// Most definitions of one request.
const DEFINITIONS_MAX: usize = 1_000;
/// Longest body.
const BODY_BYTES_MAX: usize = 4 << 20;
/// Longest definition (CloudWatch API reference, `PutMetricAlarm`: 120 KB); each is a record of its own.
const DEFINITION_BYTES_MAX: usize = 120 << 10;
/// What else CloudWatch lists beside `MetricAlarms`.
const OTHER_KINDS: [&str; 2] = ["CompositeAlarms", "LogAlarms"];
const SHAPE: &str = "send one alarm in CloudWatch's field names, a list of them, or {\"MetricAlarms\":[…]}";
/// What definitions of alarms are called in events and rows.
const KIND: &str = "alarm";

/// Most alarms of a page, and how many there are where none is asked for.
const PAGE_MAX: u64 = 1_000;

/// `GET /alarms`: all of the tenant's, with their states, in order of name. Every page reads them all: they are few by nature.
pub(crate) async fn list<O: Operator>(
    State(api): State<Arc<Api<O>>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Response, Refusal> {
    let parameters = Parameters::of(&uri, &["limit", "nextToken"])?;
    let limit = parameters.number("limit", 1, PAGE_MAX)?.unwrap_or(PAGE_MAX) as usize;
    let after = parameters.text("nextToken").map(|token| name_in(token).ok_or_else(bad_token)).transpose()?;
    let mut alarms = query::alarms(api.operator.store(), caller.tenant()?, &api.operator.view(), None).await?;
    alarms.retain(|alarm| after.as_ref().is_none_or(|after| alarm.name > *after));
    let is_last = alarms.len() <= limit;
    alarms.truncate(limit);
    let mut page = json!({"alarms": alarms});
    if let Some(last) = alarms.last().filter(|_| !is_last) {
        page["nextToken"] = json!(token(&last.name));
    }
    Ok(answer(StatusCode::OK, &page))
}

fn bad_token() -> Refusal {
    let message = "this is not a token that an earlier answer gave: hand back `nextToken` unchanged, or leave it out to begin again";
    Refusal::field("nextToken", message)
}

/// Where the next page begins: version 1, and the last name in hexadecimal. It grants nothing, since the tenant never comes from it.
fn token(last: &str) -> String {
    last.bytes().fold("1".to_owned(), |token, byte| format!("{token}{byte:02x}"))
}

fn name_in(token: &str) -> Option<String> {
    let digits: Vec<u8> =
        token.strip_prefix('1')?.chars().map(|c| Some(c.to_digit(16)? as u8)).collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    let bytes = pairs.iter().map(|[high, low]| high * 16 + low).collect();
    String::from_utf8(bytes).ok().filter(|name| rest.is_empty() && !name.is_empty())
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
    let found = query::alarms(api.operator.store(), caller.tenant()?, &api.operator.view(), Some(&name)).await?;
    found.first().map(|alarm| answer(StatusCode::OK, alarm)).ok_or_else(unknown)
}

/// `POST /definitions`: alarms in CloudWatch's field names. 200: they are in force; 202: they will be, without anything more.
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
    let mut room = Room::of(&query::in_force(api.operator.store(), tenant, api.operator.generation()).await?);
    for Defined { kind, name, body, .. } in &defined {
        let full = |why| Refusal::bad("too_many_alarms", format!("alarm `{name}`: {why}; nothing was applied"));
        room.apply(kind, name, body).map_err(full)?;
    }
    let names: Vec<String> = defined.iter().map(|defined| defined.name.clone()).collect();
    let revisions = api.operator.apply(tenant, defined).await;
    let revisions = revisions.map_err(|why| {
        let message = format!(
            "not all definitions are in force: {}. Apply them again: what is in stays as it is",
            caller.cause(why)
        );
        Refusal::unavailable("not_applied", message)
    })?;
    let applied: Vec<Value> = names
        .iter()
        .zip(&revisions)
        .map(|(name, revision)| json!({"kind": KIND, "name": name, "revision": revision.to_string()}))
        .collect();
    // What is durable and not folded yet is no failure: whoever is told of one tries again, and appends the same once more.
    let is_in_force = api.operator.is_in_force(&revisions);
    let status = if is_in_force { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok(answer(status, &json!({"applied": applied, "inForce": is_in_force})))
}

fn bad(message: impl Into<String>) -> Refusal {
    Refusal::bad("bad_definition", message)
}

fn read(body: &[u8], by: &str) -> Result<Vec<Defined>, Refusal> {
    let value =
        strict::parse(body).map_err(|error| bad(format!("the body cannot be read as JSON: {error}; {SHAPE}")))?;
    let list = listed(value)?;
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
        let refuse = |why: &dyn std::fmt::Display| bad(format!("{named}: {why}; nothing was applied"));
        let Value::Object(fields) = definition else {
            return Err(refuse(&"it is no object with CloudWatch's fields of an alarm"));
        };
        if let Some((field, why)) = fields.keys().find_map(|field| Some((field, not_yet(field)?))) {
            return Err(refuse(&format!("{field} {why}: leave it out")));
        }
        let body = definition.to_string();
        if body.len() > DEFINITION_BYTES_MAX {
            return Err(refuse(&format!("it has {} bytes; at most {DEFINITION_BYTES_MAX} are taken", body.len())));
        }
        let alarm = Alarm::parse(&body).map_err(|error| refuse(&error))?;
        if !names.insert(alarm.name.clone()) {
            return Err(bad(format!("{named} is defined twice here: leave one; nothing was applied")));
        }
        defined.push(Defined { kind: KIND.to_owned(), name: alarm.name, body, by: by.to_owned() });
    }
    Ok(defined)
}

/// The definitions of a body: one, a list, or what `aws cloudwatch describe-alarms` prints.
fn listed(value: Value) -> Result<Vec<Value>, Refusal> {
    let mut object = match value {
        Value::Array(list) => return Ok(list),
        Value::Object(object) => object,
        _ => return Err(bad(format!("the body is no alarm: {SHAPE}"))),
    };
    let Some(list) = object.remove("MetricAlarms") else {
        return match object.keys().find(|key| OTHER_KINDS.contains(&key.as_str())) {
            Some(kind) => Err(bad(format!("{kind} are not supported yet, only metric alarms: {SHAPE}"))),
            None => Ok(vec![Value::Object(object)]),
        };
    };
    let Value::Array(list) = list else { return Err(bad(format!("MetricAlarms is no list: {SHAPE}"))) };
    for (key, value) in &object {
        let short: String = key.chars().take(60).collect();
        match OTHER_KINDS.contains(&key.as_str()) {
            true if value.as_array().is_some_and(Vec::is_empty) => {}
            true => {
                let message =
                    format!("{short} are not supported yet, only MetricAlarms: leave them out; nothing was applied");
                return Err(bad(message));
            }
            false => {
                return Err(bad(format!("`{short}` stands beside MetricAlarms: leave it out; nothing was applied")));
            }
        }
    }
    Ok(list)
}

/// Why a field of CloudWatch's is not taken. To pass it over in silence would promise what nobody does; what CloudWatch does not know either is
/// refused where the alarm is read.
fn not_yet(field: &str) -> Option<&'static str> {
    Some(match field {
        "ActionsEnabled" | "AlarmActions" | "OKActions" | "InsufficientDataActions" => {
            "is not supported yet, an alarm has its states and runs no actions"
        }
        "Metrics" | "ThresholdMetricId" => "is not supported yet, an alarm watches one metric and computes nothing",
        "AlarmRule" | "ActionsSuppressor" | "ActionsSuppressorWaitPeriod" | "ActionsSuppressorExtensionPeriod" => {
            "is of composite alarms, which are not supported yet"
        }
        "EvaluateLowSampleCountPercentile"
        | "EvaluationWindow"
        | "EvaluationCriteria"
        | "EvaluationInterval"
        | "Tags" => "is not supported yet",
        "AlarmArn"
        | "AlarmConfigurationUpdatedTimestamp"
        | "EvaluationState"
        | "StateReason"
        | "StateReasonData"
        | "StateTransitionedTimestamp"
        | "StateUpdatedTimestamp"
        | "StateValue" => "says how an alarm was, not what it is",
        _ => return None,
    })
}
