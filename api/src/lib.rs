//! What people and programs see: the HTTP routes over rows and stream. It reads rows and appends events; it never folds and never writes a row.
//!
//! Invariants:
//! - The tenant comes from the credential; no parameter, path or body names another's data.
//! - Every answer that is not what was asked for is JSON with a code and a message.
//! - A body is unpacked as it comes and never held whole, except where a limit of a few MiB stands.

pub mod access;
mod body;
pub mod connections;
mod guard;
pub mod operator;
mod parameters;
mod producers;
mod refusal;
mod routes;
mod shares;
mod strict;
mod throttle;
mod unpack;

use std::{future::Future, num::NonZeroU32, sync::Arc, time::Duration};

use axum::{
    Router, middleware,
    routing::{get, post},
};
use tokio::{net::TcpListener, sync::Semaphore};

pub use self::{access::Access, connections::Connections, operator::Operator};
use self::{producers::Producers, shares::Shares, throttle::Throttle};

/// What the API takes at most. A struct so that a small machine, or a test, can set less.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of an ingested body that is compressed; past it the body is refused with what is in by then.
    pub packed_bytes_max: u64,
    /// Bytes of an ingested body after unpacking; the same.
    pub unpacked_bytes_max: u64,
    /// Bodies that come in at once; a further one waits `queue` and is then refused. Each takes about 9 MiB at most.
    pub bodies_max: usize,
    /// Bodies of one client (a tenant, or an address without a token) that come in at once; the same.
    pub client_bodies_max: usize,
    /// Bodies of one client that wait for their turn; a further one is refused at once, so that they hold no connection that others want.
    pub client_queue_max: usize,
    /// Longest wait for one's turn.
    pub queue: Duration,
    /// Longest silence of a client whose body is coming in.
    pub silence: Duration,
    /// Bytes a second that a body must bring, over all but the first `silence` for which its client was waited.
    pub body_bytes_per_second_min: u64,
    /// Longest that a client is waited for, over its whole body.
    pub body_wait_max: Duration,
    /// Longest that `GET /runs/{id}` waits.
    pub settle: Duration,
    /// Requests of one client per second, on average; more are refused until it is time.
    pub requests_per_second: NonZeroU32,
    /// Requests of one client at once.
    pub burst: NonZeroU32,
}

impl Default for Limits {
    fn default() -> Self {
        const RATE: NonZeroU32 = NonZeroU32::new(5_000).unwrap();
        Self {
            packed_bytes_max: 64 << 20,
            unpacked_bytes_max: 1 << 30,
            bodies_max: 32,
            client_bodies_max: 8,
            client_queue_max: 56,
            queue: Duration::from_secs(10),
            silence: Duration::from_secs(10),
            body_bytes_per_second_min: 4 << 10,
            body_wait_max: Duration::from_secs(600),
            settle: Duration::from_secs(30),
            requests_per_second: RATE,
            burst: RATE,
        }
    }
}

/// What the routes share.
struct Api<O> {
    operator: Arc<O>,
    access: Access,
    limits: Limits,
    throttle: Throttle,
    producers: Producers,
    bodies: Arc<Shares>,
    /// One at a time: it reads the whole stream.
    verifying: Semaphore,
}

/// All routes, with the usual limits.
pub fn router<O: Operator>(operator: Arc<O>, access: Access) -> Router {
    router_within(operator, access, Limits::default())
}

/// All routes, within these limits.
pub fn router_within<O: Operator>(operator: Arc<O>, access: Access, limits: Limits) -> Router {
    let api = Arc::new(Api {
        throttle: Throttle::new(limits.requests_per_second, limits.burst),
        producers: Producers::new(operator.producer()),
        bodies: Shares::new(limits.bodies_max.max(1), limits.client_bodies_max.max(1), limits.client_queue_max),
        verifying: Semaphore::new(1),
        operator,
        access,
        limits,
    });
    Router::new()
        .route("/", get(routes::page))
        .route("/metrics", get(routes::metrics::read::<O>).post(routes::measure::write::<O>))
        .route("/ingest", post(routes::ingest::ingest::<O>))
        .route("/runs/{run}", get(routes::state::run::<O>))
        .route("/balance", get(routes::state::balance::<O>))
        .route("/health", get(routes::state::health::<O>))
        .route("/verify", post(routes::state::verify::<O>))
        .route("/alarms", get(routes::alarms::list::<O>))
        .route("/alarms/{name}", get(routes::alarms::one::<O>))
        .route("/definitions", post(routes::alarms::define::<O>))
        .route("/generations", get(routes::generations::list::<O>))
        .route("/replay", post(routes::generations::replay::<O>))
        .route("/compare", post(routes::generations::compare::<O>))
        .route("/promote", post(routes::generations::promote::<O>))
        .route("/end", post(routes::generations::end::<O>))
        .route("/shards", get(routes::shards::list::<O>))
        .route("/split", post(routes::shards::split::<O>))
        .route("/merge", post(routes::shards::merge::<O>))
        .fallback(routes::not_found)
        .method_not_allowed_fallback(routes::not_allowed)
        .layer(middleware::from_fn_with_state(api.clone(), guard::guard::<O>))
        .with_state(api)
}

/// Serves the routes on a socket until `until` is done; then takes no more connections and ends once the open requests are answered.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    until: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    serve_within(listener, router, Connections::default(), until).await
}

/// The same, within these limits.
pub async fn serve_within(
    listener: TcpListener,
    router: Router,
    limits: Connections,
    until: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    connections::serve(listener, router, limits, until).await
}

#[cfg(test)]
mod tests;
