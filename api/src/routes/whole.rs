//! What concerns the system as a whole, and so every tenant. Decides who may ask for it, and how what was not done is answered.

use std::future::Future;

use axum::{http::StatusCode, response::Response};
use events::identity::LOCAL_TENANT;
use serde_json::Value;

use crate::{
    guard::Caller,
    operator::NotDone,
    refusal::{Refusal, answer},
};

/// `what`: of which things, in the plural.
pub(super) fn may(caller: &Caller, what: &str) -> Result<(), Refusal> {
    caller.tenant()?;
    if caller.sees_all {
        return Ok(());
    }
    let message = format!("{what} hold every tenant's data: only a token of tenant `{LOCAL_TENANT}` may ask for them");
    Err(Refusal::new(StatusCode::FORBIDDEN, "not_yours", message))
}

pub(super) async fn done(what: impl Future<Output = Result<Value, NotDone>>) -> Result<Response, Refusal> {
    match what.await {
        Ok(value) => Ok(answer(StatusCode::OK, &value)),
        Err(NotDone::Refused(why)) => Err(Refusal::new(StatusCode::CONFLICT, "refused", why)),
        Err(NotDone::Failed(why)) => Err(Refusal::unavailable("not_done", why)),
    }
}
