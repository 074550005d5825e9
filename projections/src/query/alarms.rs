//! Alarms as readers see them: the definition in force, the state, the changes. Joins rows; decides no state.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;
use serde_json::value::RawValue;

use super::{SCAN_ROWS, damaged};
use crate::{
    alarm::State,
    definitions::{self, Definition},
    fold::alarms::Decision,
    generations::View,
    store::{Generation, Kind, ReadError, Row, Span, Store, Subject},
    when::Second,
};

/// Changes of one alarm that are kept for an answer; of more the newest, and `omitted` says how many came before.
pub const TRANSITIONS_MAX: usize = 1_000;

/// An alarm with its state.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Its name.
    pub name: String,
    /// Unknown data until it was decided once.
    pub state: State,
    /// Why, for people.
    pub reason: String,
    /// Why, for programs; `null` until it was decided.
    pub reason_data: Option<Box<RawValue>>,
    /// End of the newest period that it was decided by; `null` until then.
    pub decided_at: Option<Second>,
    /// Revision of the definition in force; `null`: it was removed, and this is its last state.
    pub revision: Option<String>,
    /// The definition in force, as it was applied.
    pub definition: Option<Box<RawValue>>,
    /// Every change, oldest first; only where one alarm was asked for by its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transitions: Option<Vec<Transition>>,
    /// Changes before these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub omitted: Option<u64>,
}

/// One change of an alarm's state.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Transition {
    /// End of the newest period that it was decided by.
    pub time: Second,
    /// The state before; `null`: the alarm was new.
    pub from: Option<State>,
    /// The state after.
    pub to: State,
    /// Why, for people.
    pub reason: String,
    /// Why, for programs.
    pub reason_data: Option<Box<RawValue>>,
    /// Revision of the definition that decided.
    pub revision: String,
}

/// All alarms of a tenant in order of name, or the one of this name (none: an empty answer) with its changes.
pub async fn alarms<S: Store>(
    store: &S,
    tenant: &str,
    view: &View,
    name: Option<&str>,
) -> Result<Vec<Status>, ReadError> {
    let generation = view.live();
    let span = |kind| Span::All { tenant: Some(tenant.to_owned()), generation, kind };
    let all = in_force(store, tenant, generation).await?;
    let in_force: BTreeMap<&str, &Definition> = all
        .iter()
        .filter(|definition| definition.kind == definitions::ALARM && name.is_none_or(|name| definition.name == name))
        .map(|definition| (definition.name.as_str(), definition))
        .collect();
    let mut decided: BTreeMap<String, Decision> = BTreeMap::new();
    let states = match name {
        Some(name) => of(tenant, generation, Kind::Alarm, name),
        None => span(Kind::Alarm),
    };
    each(store, &states, |row| {
        let decision = decision(row)?;
        // An alarm's home may have been another shard before: the newest decision is its state.
        let newest = decided.get(&decision.alarm);
        if newest.is_none_or(|newest| (newest.time_secs, newest.revision) < (decision.time_secs, decision.revision)) {
            decided.insert(decision.alarm.clone(), decision);
        }
        Ok(())
    })
    .await?;
    let mut names: Vec<String> = in_force.keys().map(|name| (*name).to_owned()).collect();
    names.extend(decided.keys().cloned());
    names.sort();
    names.dedup();
    let mut answer: Vec<Status> = names
        .into_iter()
        .map(|name| status(in_force.get(name.as_str()).copied(), decided.remove(&name), name))
        .collect();
    if let (Some(name), Some(status)) = (name, answer.first_mut()) {
        let (transitions, omitted) = transitions(store, tenant, view, name).await?;
        status.transitions = Some(transitions);
        status.omitted = Some(omitted).filter(|omitted| *omitted > 0);
    }
    Ok(answer)
}

/// The newest definition of each name of a tenant, but for those that are removed: no more is held, however often one was applied.
pub async fn in_force<S: Store>(store: &S, tenant: &str, generation: Generation) -> Result<Vec<Definition>, ReadError> {
    let span = Span::All { tenant: Some(tenant.to_owned()), generation, kind: Kind::Definition };
    let mut newest = BTreeMap::new();
    each(store, &span, |row| {
        // Rows come in the order of their revisions, which are their names.
        let definition = Definition::decode(&row.body).map_err(|error| damaged(&row.key, &error))?;
        definitions::supersede(&mut newest, definition);
        Ok(())
    })
    .await?;
    Ok(newest.into_values().collect())
}

fn of(tenant: &str, generation: Generation, kind: Kind, name: &str) -> Span {
    let subject = Subject { tenant: tenant.to_owned(), generation, kind, name: name.to_owned() };
    Span::Of { subject, from: i64::MIN, to: i64::MAX }
}

fn status(definition: Option<&Definition>, decided: Option<Decision>, name: String) -> Status {
    let (state, reason, reason_data, decided_at) = match decided {
        Some(decision) => (decision.to, decision.reason, raw(decision.reason_data), Some(Second(decision.time_secs))),
        None => (State::InsufficientData, "Not evaluated yet.".to_owned(), None, None),
    };
    Status {
        name,
        state,
        reason,
        reason_data,
        decided_at,
        revision: definition.map(|definition| definition.revision.to_string()),
        definition: definition.and_then(|definition| raw(definition.body.clone())),
        transitions: None,
        omitted: None,
    }
}

/// What was decided for minutes that a generation has all of is its word, and before that its parent's. When it began to count it changed nothing.
async fn transitions<S: Store>(
    store: &S,
    tenant: &str,
    view: &View,
    name: &str,
) -> Result<(Vec<Transition>, u64), ReadError> {
    let mut newest = VecDeque::new();
    let mut omitted = 0;
    for (part, sources) in view.windows(i64::MIN, i64::MAX) {
        let Some(source) = sources.last() else { continue };
        let (tenant, generation) = (tenant.to_owned(), source.generation);
        let subject = Subject { tenant, generation, kind: Kind::Transition, name: name.to_owned() };
        each(store, &Span::Of { subject, from: part.start, to: part.end }, |row| {
            let decision = decision(row)?;
            if decision.from == Some(decision.to) {
                return Ok(());
            }
            if newest.len() == TRANSITIONS_MAX {
                newest.pop_front();
                omitted += 1;
            }
            newest.push_back(Transition {
                time: Second(decision.time_secs),
                from: decision.from,
                to: decision.to,
                reason: decision.reason,
                reason_data: raw(decision.reason_data),
                revision: decision.revision.to_string(),
            });
            Ok(())
        })
        .await?;
    }
    Ok((newest.into(), omitted))
}

fn decision(row: &Row) -> Result<Decision, ReadError> {
    Decision::decode(&row.body).map_err(|error| damaged(&row.key, &error))
}

/// JSON text that is embedded as it is; what is no JSON is left out.
fn raw(json: String) -> Option<Box<RawValue>> {
    RawValue::from_string(json).ok()
}

async fn each<S: Store>(
    store: &S,
    span: &Span,
    mut visit: impl FnMut(&Row) -> Result<(), ReadError>,
) -> Result<(), ReadError> {
    let mut after = None;
    loop {
        let page = store.scan(span, after.as_ref(), SCAN_ROWS).await?;
        page.rows.iter().try_for_each(&mut visit)?;
        match page.next_after {
            Some(key) => after = Some(key),
            None => return Ok(()),
        }
    }
}
