//! `GET /generations`, and `POST /replay`, `/compare`, `/promote` and `/end` with `generation=NAME`.

use axum::response::Response;

use super::whole::{Asked, done};
use crate::{operator::Operator, parameters::Parameters, refusal::Refusal};

const WHAT: &str = "generations";

fn name(parameters: &Parameters) -> Result<&str, Refusal> {
    parameters.text("generation").ok_or_else(|| Refusal::field("generation", "give the name of one"))
}

/// `GET /generations`: what there is, and how far.
pub(crate) async fn list<O: Operator>(asked: Asked<O>) -> Result<Response, Refusal> {
    let (operator, _) = asked.of(WHAT, &[])?;
    done(operator.generations()).await
}

/// `POST /replay`: opens one, or goes on with it; it is folded meanwhile.
pub(crate) async fn replay<O: Operator>(asked: Asked<O>) -> Result<Response, Refusal> {
    let (operator, parameters) = asked.of(WHAT, &["generation", "start"])?;
    done(operator.replay(name(&parameters)?, parameters.text("start"))).await
}

/// `POST /compare`: with the one that counts.
pub(crate) async fn compare<O: Operator>(asked: Asked<O>) -> Result<Response, Refusal> {
    let (operator, parameters) = asked.of(WHAT, &["generation"])?;
    done(operator.compare(name(&parameters)?)).await
}

/// `POST /promote`: from now on it counts.
pub(crate) async fn promote<O: Operator>(asked: Asked<O>) -> Result<Response, Refusal> {
    let (operator, parameters) = asked.of(WHAT, &["generation"])?;
    done(operator.promote(name(&parameters)?)).await
}

/// `POST /end`: it is folded no longer. `noWayBack=true`: also one that could be gone back to.
pub(crate) async fn end<O: Operator>(asked: Asked<O>) -> Result<Response, Refusal> {
    let (operator, parameters) = asked.of(WHAT, &["generation", "noWayBack"])?;
    let no_way_back = match parameters.text("noWayBack") {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(Refusal::field("noWayBack", "give true, or leave it out")),
    };
    done(operator.end(name(&parameters)?, no_way_back)).await
}
