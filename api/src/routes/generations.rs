//! `GET /generations`, and `POST /replay`, `/compare` and `/promote` with `generation=NAME`.

use std::sync::Arc;

use axum::{Extension, extract::State, http::Uri, response::Response};

use super::whole::{done, may};
use crate::{Api, guard::Caller, operator::Operator, parameters::Parameters, refusal::Refusal};

fn name(parameters: &Parameters) -> Result<&str, Refusal> {
    parameters.text("generation").ok_or_else(|| Refusal::field("generation", "give the name of one"))
}

/// `GET /generations`: what there is, and how far.
pub(crate) async fn list<O: Operator>(
    State(api): State<Arc<Api<O>>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Response, Refusal> {
    Parameters::of(&uri, &[])?;
    may(&caller, "generations")?;
    done(api.operator.generations()).await
}

/// `POST /replay`: opens one, or goes on with it; it is folded meanwhile.
pub(crate) async fn replay<O: Operator>(
    State(api): State<Arc<Api<O>>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Response, Refusal> {
    let parameters = Parameters::of(&uri, &["generation", "start"])?;
    may(&caller, "generations")?;
    done(api.operator.replay(name(&parameters)?, parameters.text("start"))).await
}

/// `POST /compare`: with the one that counts.
pub(crate) async fn compare<O: Operator>(
    State(api): State<Arc<Api<O>>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Response, Refusal> {
    let parameters = Parameters::of(&uri, &["generation"])?;
    may(&caller, "generations")?;
    done(api.operator.compare(name(&parameters)?)).await
}

/// `POST /promote`: from now on it counts.
pub(crate) async fn promote<O: Operator>(
    State(api): State<Arc<Api<O>>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Response, Refusal> {
    let parameters = Parameters::of(&uri, &["generation"])?;
    may(&caller, "generations")?;
    done(api.operator.promote(name(&parameters)?)).await
}
