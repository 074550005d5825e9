//! What concerns the system as a whole, and so every tenant. Decides who may ask for it, and how what was not done is answered.

use std::{future::Future, sync::Arc};

use axum::{
    Extension,
    extract::{FromRequestParts, rejection::ExtensionRejection},
    http::{StatusCode, Uri, request::Parts},
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

/// What somebody asks the operator for.
pub(crate) struct Asked<O> {
    api: Arc<Api<O>>,
    caller: Caller,
    uri: Uri,
}

impl<O: Operator> FromRequestParts<Arc<Api<O>>> for Asked<O> {
    type Rejection = ExtensionRejection;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api<O>>) -> Result<Self, ExtensionRejection> {
        let Extension(caller) = Extension::from_request_parts(parts, api).await?;
        Ok(Self { api: api.clone(), caller, uri: parts.uri.clone() })
    }
}

impl<O: Operator> Asked<O> {
    /// The operator and the parameters, of which there may be these, if the caller may ask. `what`: for which things, in the plural.
    pub(super) fn of(&self, what: &str, known: &[&str]) -> Result<(&O, Parameters), Refusal> {
        let parameters = Parameters::of(&self.uri, known)?;
        may(&self.caller, what)?;
        Ok((&self.api.operator, parameters))
    }
}

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
