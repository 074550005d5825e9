//! Requests of API Gateway and function URLs as the routes know them. Decides which part of a path is the gateway's own, and how long an answer may take;
//! which route is meant, and what it answers, `api` says.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use api::Limits;
use lambda_http::{Request, RequestExt, Response, http::Uri, request::RequestContext};
use tower_service::Service;
use weir::Apart;

/// Longest that a request waits for what others fold: API Gateway gives up after 29 seconds (API Gateway developer guide, "Quotas").
pub const WAIT_MAX: Duration = Duration::from_secs(20);
/// Most bytes of a request that Lambda takes, with what the gateway wraps around its body, a third of it for base64 (Lambda developer guide, "Quotas").
/// It refuses a larger one before the function hears of it.
pub const REQUEST_BYTES_MAX: u64 = 6 << 20;

/// What the routes take at most, where a process answers one request at a time.
pub fn limits() -> Limits {
    Limits { packed_bytes_max: REQUEST_BYTES_MAX, settle: WAIT_MAX, queue: Duration::ZERO, ..Limits::default() }
}

/// The routes, as `lambda_http` calls them.
#[derive(Clone)]
pub struct Routes<R> {
    operator: Arc<Apart>,
    router: R,
    base: String,
}

impl<R> Routes<R> {
    /// Those of an operator. `base`: what stands before the routes on a custom domain; empty, or `/` and something.
    pub fn new(operator: Arc<Apart>, router: R, base: String) -> Self {
        Self { operator, router, base }
    }
}

/// A path without what stands before the routes.
fn within<'a>(path: &'a str, before: &str) -> &'a str {
    match path.strip_prefix(before) {
        Some("") => "/",
        Some(rest) if rest.starts_with('/') => rest,
        _ => path,
    }
}

/// The name of the stage, where there is one: `lambda_http` puts it before the path wherever the gateway has not.
fn stage(context: &RequestContext) -> Option<&str> {
    let stage = match context {
        RequestContext::ApiGatewayV1(context) => context.stage.as_deref(),
        RequestContext::ApiGatewayV2(context) => context.stage.as_deref(),
        _ => None,
    };
    stage.filter(|stage| *stage != "$default")
}

/// The request's address as the routes know it.
fn address(request: &Request, base: &str) -> String {
    let mut path = request.uri().path();
    let stage = request.request_context_ref().and_then(stage).map(|stage| format!("/{stage}"));
    for before in [stage.as_deref().unwrap_or_default(), base] {
        path = within(path, before);
    }
    match request.uri().query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    }
}

impl<R, B> Service<Request> for Routes<R>
where
    R: Service<Request, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    R::Future: Send,
{
    type Response = Response<B>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<B>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.router.poll_ready(context)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        // What cannot be read as an address is left as it came: no route is there.
        if let Ok(uri) = address(&request, &self.base).parse::<Uri>() {
            *request.uri_mut() = uri;
        }
        // The one that was asked whether it is ready is the one that is called.
        let next = self.router.clone();
        let (mut router, operator) = (std::mem::replace(&mut self.router, next), self.operator.clone());
        Box::pin(async move {
            operator.look().await;
            router.call(request).await
        })
    }
}

#[cfg(test)]
mod tests;
