//! `GET /shards`, `POST /split` with `shard=ID`, and `POST /merge` with `shard=ID` and `with=ID`.

use axum::response::Response;
use events::position::ShardId;

use super::whole::{Asked, done};
use crate::{
    operator::{Operator, Reshard},
    parameters::Parameters,
    refusal::Refusal,
};

const WHAT: &str = "shards";

fn shard(parameters: &Parameters, field: &'static str) -> Result<ShardId, Refusal> {
    let text =
        parameters.text(field).ok_or_else(|| Refusal::field(field, "give a shard's name: GET /shards has them"))?;
    Ok(ShardId::named(text))
}

/// `GET /shards`: all that the stream lists.
pub(crate) async fn list<O: Operator>(asked: Asked<O>) -> Result<Response, Refusal> {
    let (operator, _) = asked.of(WHAT, &[])?;
    done(operator.shards()).await
}

/// `POST /split`: in the middle of its keys.
pub(crate) async fn split<O: Operator>(asked: Asked<O>) -> Result<Response, Refusal> {
    let (operator, parameters) = asked.of(WHAT, &["shard"])?;
    done(operator.reshard(Reshard::Split(shard(&parameters, "shard")?))).await
}

/// `POST /merge`: two whose keys are neighbours.
pub(crate) async fn merge<O: Operator>(asked: Asked<O>) -> Result<Response, Refusal> {
    let (operator, parameters) = asked.of(WHAT, &["shard", "with"])?;
    done(operator.reshard(Reshard::Merge([shard(&parameters, "shard")?, shard(&parameters, "with")?]))).await
}
