//! The routes, their list, and what stands where none is.

pub(crate) mod alarms;
pub(crate) mod generations;
pub(crate) mod ingest;
pub(crate) mod measure;
pub(crate) mod metrics;
pub(crate) mod shards;
pub(crate) mod state;
mod whole;

use axum::{
    body::Body,
    http::{HeaderValue, Method, StatusCode, Uri, header},
    response::Response,
};

use crate::refusal::Refusal;

/// Path, methods.
const ROUTES: [(&str, &str); 18] = [
    ("/", "GET"),
    ("/metrics", "GET, POST"),
    ("/ingest", "POST"),
    ("/runs/{run}", "GET"),
    ("/balance", "GET"),
    ("/health", "GET"),
    ("/verify", "POST"),
    ("/alarms", "GET"),
    ("/alarms/{name}", "GET"),
    ("/definitions", "POST"),
    ("/generations", "GET"),
    ("/replay", "POST"),
    ("/compare", "POST"),
    ("/promote", "POST"),
    ("/end", "POST"),
    ("/shards", "GET"),
    ("/split", "POST"),
    ("/merge", "POST"),
];

/// A path or method as it may stand in a message.
pub(crate) fn short(path: &str) -> String {
    path.chars().take(100).collect()
}

/// The methods of the route at this path, `*` being all of the server; `None`: there is no route.
pub(crate) fn methods(path: &str) -> Option<&'static str> {
    let fits = |route: &str| match route.split_once('{') {
        Some((before, _)) => path.strip_prefix(before).is_some_and(|rest| !rest.is_empty() && !rest.contains('/')),
        None => path == route,
    };
    let of_all = (path == "*").then_some("GET, POST");
    of_all.or(ROUTES.iter().find(|(route, _)| fits(route)).map(|(_, methods)| *methods))
}

/// The same with those that every route has: `HEAD` is a `GET` without its body.
pub(crate) fn allowed(methods: &str) -> String {
    format!("{}, OPTIONS", methods.replace("GET", "GET, HEAD"))
}

/// 404
pub(crate) fn nothing_at(method: &Method, uri: &Uri) -> Refusal {
    let known: Vec<_> = ROUTES.iter().map(|(path, methods)| format!("{methods} {path}")).collect();
    let message =
        format!("nothing is at {} {}; there is {}", short(method.as_str()), short(uri.path()), known.join(" · "));
    Refusal::new(StatusCode::NOT_FOUND, "not_found", message)
}

/// 404
pub(crate) async fn not_found(method: Method, uri: Uri) -> Refusal {
    nothing_at(&method, &uri)
}

/// 405
pub(crate) async fn not_allowed(method: Method, uri: Uri) -> Refusal {
    let allowed = allowed(methods(uri.path()).unwrap_or_default());
    let message = format!("{} is not allowed at {}; allowed: {allowed}", short(method.as_str()), short(uri.path()));
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message).header(header::ALLOW, &allowed)
}

/// Nothing but the page's own script runs, known by its digest, so that no text that found a way in would; and it talks to nobody but this server.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'sha256-PmG8Ul6MO+yw4Ghs1HmqpfQxNft9KDAKtx0IHPyjbqw='; \
                           style-src 'sha256-L1zqDWUcPGFlGXxsUp7ykNcC40aAxgw0+XNAoD/kJF0='; connect-src 'self'; base-uri 'none'; \
                           form-action 'none'; frame-ancestors 'none'";

/// `GET /`: the list of routes and a chart, for people.
pub(crate) async fn page() -> Response {
    let mut response = Response::new(Body::from(include_str!("page.html")));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY));
    response
}
