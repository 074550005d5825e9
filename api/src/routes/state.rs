//! What became of things: `GET /runs/{run}`, `GET /balance`, `GET /health`, `POST /verify`.

use std::sync::Arc;

use axum::{
    Extension,
    extract::{Path, State, rejection::PathRejection},
    http::{StatusCode, Uri},
    response::Response,
};
use events::{identity::LOCAL_TENANT, pack::Target};
use projections::query::{self, Tally};
use serde::Serialize;
use serde_json::json;

use crate::{
    Api,
    guard::Caller,
    operator::{Operator, Unsettled},
    parameters::{Parameters, part, run_of},
    refusal::{Refusal, answer},
};

#[derive(Serialize)]
struct Settled {
    #[serde(flatten)]
    tally: Tally,
    /// Everything is folded, durable and can be read.
    settled: bool,
    /// Records that another process folded, which alone knows what became of their lines: they are not in the balance.
    #[serde(skip_serializing_if = "is_none")]
    elsewhere: usize,
}

fn is_none(records: &usize) -> bool {
    *records == 0
}

/// `GET /runs/{run}`: waits, and says what became of the run's lines.
pub(crate) async fn run<O: Operator>(
    State(api): State<Arc<Api<O>>>,
    Extension(caller): Extension<Caller>,
    run: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Response, Refusal> {
    let parameters = Parameters::of(&uri, &["wait"])?;
    let run = part(run)?;
    let most = api.limits.settle;
    let wait = parameters.number("wait", 0, most.as_secs())?.map_or(most, std::time::Duration::from_secs);
    let name = run_of(caller.tenant()?, &run)?;
    let (balance, settled, elsewhere) = match api.operator.settled(&name, wait).await {
        Ok(balance) => (balance, true, 0),
        Err(Unsettled::Elsewhere(balance, records)) => (*balance, true, records),
        Err(Unsettled::Late(balance)) => (*balance, false, 0),
        Err(Unsettled::Unknown) => {
            let message = format!(
                "run `{run}` is not known: nothing was ingested under it, or it was long ago, or the server was restarted since; what a file \
                 brought before is counted as duplicate when it is ingested again"
            );
            return Err(Refusal::new(StatusCode::NOT_FOUND, "unknown_run", message));
        }
        Err(Unsettled::Stopped(why)) => {
            let message = format!("lines are in, but none is folded any more: {}", caller.cause(why));
            return Err(Refusal::unavailable("stopped", message));
        }
    };
    Ok(answer(StatusCode::OK, &Settled { tally: Tally::from(&balance), settled, elsewhere }))
}

/// `GET /balance`: what became of everything that this tenant sent.
pub(crate) async fn balance<O: Operator>(
    State(api): State<Arc<Api<O>>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Response, Refusal> {
    Parameters::of(&uri, &[])?;
    let balance = query::balance(api.operator.store(), caller.tenant()?, &api.operator.view()).await?;
    Ok(answer(StatusCode::OK, &Tally::from(&balance)))
}

/// `GET /health`: 200 if everything works, else 503; whose credential it is, for those only who show one, and details, which may name what is
/// another tenant's, for those who run the server.
pub(crate) async fn health<O: Operator>(
    State(api): State<Arc<Api<O>>>,
    Extension(caller): Extension<Caller>,
) -> Response {
    let mut health = api.operator.health().await;
    if !caller.sees_all {
        health.checks.iter_mut().for_each(|check| check.detail.clear());
    }
    let ok = health.checks.iter().all(|check| check.ok);
    let status = if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut shown = json!({"ok": ok, "behindMs": health.behind_ms, "checks": health.checks});
    let instance = api.operator.instance();
    if !instance.is_empty() {
        shown["instance"] = json!(instance);
    }
    // Whoever packs files for it fills what is paid.
    if api.operator.profile().target == Target::Units {
        shown["paysUnits"] = json!(true);
    }
    if let Some(tenant) = &caller.tenant {
        shown["tenant"] = json!(**tenant);
    }
    answer(status, &shown)
}

/// `POST /verify`: recomputes every row from the stream, every tenant's.
pub(crate) async fn verify<O: Operator>(
    State(api): State<Arc<Api<O>>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Response, Refusal> {
    Parameters::of(&uri, &[])?;
    caller.tenant()?;
    if !caller.sees_all {
        let message =
            format!("verify reads every tenant's rows: only a token of tenant `{LOCAL_TENANT}` may ask for it");
        return Err(Refusal::new(StatusCode::FORBIDDEN, "not_yours", message));
    }
    let Ok(_one) = api.verifying.try_acquire() else {
        let message = "a verify is under way, and it reads the whole stream: ask again when it is done";
        return Err(Refusal::unavailable("busy", message));
    };
    let report = api.operator.verify().await;
    let report =
        report.map_err(|why| Refusal::unavailable("not_verified", format!("the rows could not be verified: {why}")))?;
    Ok(answer(StatusCode::OK, &report))
}
