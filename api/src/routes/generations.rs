//! `GET /generations`, and `POST /replay`, `/compare` and `/promote` with `generation=NAME`. Decides who may ask: they touch every tenant's rows.

use std::{future::Future, sync::Arc};

use axum::{
    Extension,
    extract::State,
    http::{StatusCode, Uri},
    response::Response,
};
use events::identity::LOCAL_TENANT;
use serde_json::Value;

use crate::{
    Api,
    guard::Caller,
    operator::{NotDone, Operator},
    parameters::Parameters,
    refusal::{Refusal, answer},
};

fn may(caller: &Caller) -> Result<(), Refusal> {
    caller.tenant()?;
    if caller.sees_all {
        return Ok(());
    }
    let message =
        format!("generations hold every tenant's rows: only a token of tenant `{LOCAL_TENANT}` may ask for them");
    Err(Refusal::new(StatusCode::FORBIDDEN, "not_yours", message))
}

fn name(parameters: &Parameters) -> Result<&str, Refusal> {
    parameters.text("generation").ok_or_else(|| Refusal::field("generation", "give the name of one"))
}

async fn done(what: impl Future<Output = Result<Value, NotDone>>) -> Result<Response, Refusal> {
    match what.await {
        Ok(value) => Ok(answer(StatusCode::OK, &value)),
        Err(NotDone::Refused(why)) => Err(Refusal::new(StatusCode::CONFLICT, "refused", why)),
        Err(NotDone::Failed(why)) => Err(Refusal::unavailable("not_done", why)),
    }
}

/// `GET /generations`: what there is, and how far.
pub(crate) async fn list<O: Operator>(
    State(api): State<Arc<Api<O>>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Response, Refusal> {
    Parameters::of(&uri, &[])?;
    may(&caller)?;
    done(api.operator.generations()).await
}

/// `POST /replay`: opens one, or goes on with it; it is folded meanwhile.
pub(crate) async fn replay<O: Operator>(
    State(api): State<Arc<Api<O>>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Response, Refusal> {
    let parameters = Parameters::of(&uri, &["generation", "start"])?;
    may(&caller)?;
    done(api.operator.replay(name(&parameters)?, parameters.text("start"))).await
}

/// `POST /compare`: with the one that counts.
pub(crate) async fn compare<O: Operator>(
    State(api): State<Arc<Api<O>>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Response, Refusal> {
    let parameters = Parameters::of(&uri, &["generation"])?;
    may(&caller)?;
    done(api.operator.compare(name(&parameters)?)).await
}

/// `POST /promote`: from now on it counts.
pub(crate) async fn promote<O: Operator>(
    State(api): State<Arc<Api<O>>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Response, Refusal> {
    let parameters = Parameters::of(&uri, &["generation"])?;
    may(&caller)?;
    done(api.operator.promote(name(&parameters)?)).await
}
