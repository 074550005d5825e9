//! `GET /shards`, `POST /split` with `shard=ID`, and `POST /merge` with `shard=ID` and `with=ID`.

use std::sync::Arc;

use axum::{Extension, extract::State, http::Uri, response::Response};
use events::position::ShardId;

use super::whole::{done, may};
use crate::{
    Api,
    guard::Caller,
    operator::{Operator, Reshard},
    parameters::Parameters,
    refusal::Refusal,
};

fn shard(parameters: &Parameters, field: &'static str) -> Result<ShardId, Refusal> {
    let text =
        parameters.text(field).ok_or_else(|| Refusal::field(field, "give a shard's name: GET /shards has them"))?;
    Ok(ShardId::named(text))
}

/// `GET /shards`: all that the stream lists.
pub(crate) async fn list<O: Operator>(
    State(api): State<Arc<Api<O>>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Response, Refusal> {
    Parameters::of(&uri, &[])?;
    may(&caller, "shards")?;
    done(api.operator.shards()).await
}

/// `POST /split`: in the middle of its keys.
pub(crate) async fn split<O: Operator>(
    State(api): State<Arc<Api<O>>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Response, Refusal> {
    let parameters = Parameters::of(&uri, &["shard"])?;
    may(&caller, "shards")?;
    done(api.operator.reshard(Reshard::Split(shard(&parameters, "shard")?))).await
}

/// `POST /merge`: two whose keys are neighbours.
pub(crate) async fn merge<O: Operator>(
    State(api): State<Arc<Api<O>>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Response, Refusal> {
    let parameters = Parameters::of(&uri, &["shard", "with"])?;
    may(&caller, "shards")?;
    done(api.operator.reshard(Reshard::Merge([shard(&parameters, "shard")?, shard(&parameters, "with")?]))).await
}
