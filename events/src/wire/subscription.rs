//! What a subscription of CloudWatch Logs puts on a stream (the page "Real-time processing of log data with subscriptions" of its user guide), once
//! it is unpacked. Decides which text is such a payload, and gives its log events; never what a message means, but for metrics in it (`emf`).
//!
//! - The service is the last part of the log group's name between slashes, so `/aws/lambda/checkout` is `checkout`.
//! - A log event is known by owner, log group, log stream and its id, as it may come more than once.
//! - A message without a time takes the log event's; one with its own keeps that, as the same line does on any other way.
//! - A message is one entry, whatever line ends are in it: what stands behind the first continues it.
//! - `CONTROL_MESSAGE` asks whether there is somebody: it is skipped, and counted.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, de::IgnoredAny};

use super::{
    DecodeError, emf,
    part::{Budget, Entries, Entry, Part, Said, skipped},
    strange,
};
use crate::identity::check_service;

/// Why a control message is skipped.
pub const CONTROL_MESSAGE: &str = "control_message";

#[derive(Deserialize)]
struct Subscription<'a> {
    #[serde(rename = "messageType", borrow)]
    message_type: Cow<'a, str>,
    #[serde(borrow)]
    owner: Cow<'a, str>,
    #[serde(rename = "logGroup", borrow)]
    log_group: Cow<'a, str>,
    #[serde(rename = "logStream", borrow)]
    log_stream: Cow<'a, str>,
    #[serde(rename = "logEvents", borrow)]
    log_events: Vec<LogEvent<'a>>,
}

#[derive(Deserialize)]
struct LogEvent<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    timestamp: i64,
    #[serde(borrow)]
    message: Cow<'a, str>,
}

/// Whether a document means to be such a payload.
#[derive(Deserialize)]
struct Probe {
    #[serde(rename = "messageType")]
    message_type: Option<IgnoredAny>,
    #[serde(rename = "logEvents")]
    log_events: Option<IgnoredAny>,
}

/// The parts of one such payload or of several, one behind the other; `Ok(None)`: it is none.
pub(super) fn read(text: &Bytes, budget: &mut Budget) -> Result<Option<Vec<Part>>, DecodeError> {
    if !text.trim_ascii_start().starts_with(b"{") || memchr::memmem::find(text, b"\"logEvents\"").is_none() {
        return Ok(None);
    }
    let mut probes = serde_json::Deserializer::from_slice(text).into_iter::<Probe>();
    let Some(Ok(Probe { message_type: Some(_), log_events: Some(_) })) = probes.next() else { return Ok(None) };
    let mut parts = vec![];
    for subscription in serde_json::Deserializer::from_slice(text).into_iter::<Subscription<'_>>() {
        let subscription = subscription.map_err(|error| strange("subscription", error))?;
        parts.push(match &*subscription.message_type {
            "DATA_MESSAGE" if subscription.log_events.is_empty() => skipped("blank", text),
            "DATA_MESSAGE" => Part::Entries(entries(&subscription, budget)?),
            "CONTROL_MESSAGE" => {
                let message = subscription.log_events.first().map(|event| event.message.as_bytes());
                skipped(CONTROL_MESSAGE, &Bytes::copy_from_slice(message.unwrap_or_default()))
            }
            other => return Err(strange("subscription", format!("its type is `{other}`"))),
        });
    }
    Ok(Some(parts))
}

fn entries(subscription: &Subscription<'_>, budget: &mut Budget) -> Result<Entries, DecodeError> {
    // One allocation for all messages: without escapes they are no longer than they were written.
    let mut messages = Vec::with_capacity(subscription.log_events.iter().map(|event| event.message.len()).sum());
    let mut entries = Vec::with_capacity(subscription.log_events.len());
    let mut ends = Vec::with_capacity(subscription.log_events.len());
    for event in &subscription.log_events {
        messages.extend_from_slice(event.message.as_bytes());
        ends.push(messages.len());
    }
    let messages = Bytes::from(messages);
    let mut from = 0;
    for (event, end) in subscription.log_events.iter().zip(ends) {
        let message = messages.slice(from..end);
        from = end;
        entries.push(Entry {
            id: (!event.id.is_empty()).then(|| xxhash_rust::xxh3::xxh3_64(event.id.as_bytes())),
            repeated: false,
            time_ms: Some(event.timestamp),
            dated: false,
            said: said(message, event.timestamp, budget)?,
        });
    }
    let Subscription { owner, log_group, log_stream, .. } = subscription;
    let service = log_group.rsplit('/').find(|part| check_service(part).is_ok());
    let source = super::hashed(&["logs", owner, log_group, log_stream]);
    Ok(Entries { service: service.map(str::to_owned), source: Some(source), entries })
}

fn said(message: Bytes, time_ms: i64, budget: &mut Budget) -> Result<Said, DecodeError> {
    if !message.trim_ascii_start().starts_with(b"{") {
        return Ok(Said::Line(message));
    }
    Ok(match emf::values(&message, Some(time_ms), budget)? {
        Some(values) => Said::Values(values),
        None => Said::Document(message),
    })
}
