//! What every request passes before its route: from which page it comes, whose it is, whether it comes too soon. Decides nothing about data.
//!
//! | access | pages of other sites | names of this host |
//! | --- | --- | --- |
//! | open | refused: a page that somebody visits must not read or write what is on their machine | `localhost` or an address, so that no foreign name that resolves here passes for this site |
//! | tokens | welcome: without the token they get nothing | any |

use std::{net::SocketAddr, sync::Arc};

use axum::{
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::{Api, access::Access, operator::Operator, refusal::Refusal, routes, throttle::Client};

/// Whose request it is. Without a tenant it showed no credential, on a route that asks for none.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) tenant: Option<Arc<str>>,
    /// In whose share of the server it is answered.
    pub(crate) client: Client,
    /// It may see what is of every tenant: causes of failures, which name rows and files, and what a verify finds.
    pub(crate) sees_all: bool,
}

impl Caller {
    /// The tenant.
    pub(crate) fn tenant(&self) -> Result<&str, Refusal> {
        self.tenant.as_deref().ok_or_else(|| unauthorized(false))
    }

    /// Why something failed, as far as it is this caller's to know.
    pub(crate) fn cause(&self, why: String) -> String {
        if self.sees_all { why } else { "the cause is told to those who run this server".into() }
    }
}

fn unauthorized(is_shown: bool) -> Refusal {
    let message = if is_shown {
        "this server does not know the token that was sent: whoever runs it has its list (`weir up --tokens FILE`); weir takes one from --token or WEIR_TOKEN"
    } else {
        "this server asks for a token: send the header `Authorization: Bearer TOKEN` (with weir: --token or WEIR_TOKEN)"
    };
    Refusal::new(StatusCode::UNAUTHORIZED, "unauthorized", message).header(header::WWW_AUTHENTICATE, "Bearer")
}

/// Answered without a credential, so that load balancers and browsers can ask.
fn is_public(path: &str) -> bool {
    matches!(path, "/" | "/health")
}

/// See the module.
pub(crate) async fn guard<O: Operator>(State(api): State<Arc<Api<O>>>, mut request: Request, next: Next) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let mut response = match pass(&api, &mut request) {
        Ok(()) if request.method() == Method::OPTIONS => options(&request),
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    };
    if let Some(origin) = origin {
        share(&api.access, &origin, response.headers_mut());
    }
    for (name, value) in ALWAYS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// On every answer: it is what it says it is, nobody keeps it, and no page of another site shows it as its own picture, script or frame.
const ALWAYS: [(HeaderName, &str); 4] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::CACHE_CONTROL, "no-store"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

fn pass<O: Operator>(api: &Api<O>, request: &mut Request) -> Result<(), Refusal> {
    let headers = request.headers();
    if matches!(api.access, Access::Open) {
        check_site(headers, request.uri().host())?;
    }
    let tenant = api.access.tenant(headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes));
    let address = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    let client = match (&api.access, &tenant, address) {
        (Access::Tokens(_), Some(tenant), _) => Client::Tenant(tenant.clone()),
        (_, _, Some(address)) => Client::of(address),
        (_, _, None) => Client::Unknown,
    };
    api.throttle.check(client.clone()).map_err(|wait| {
        let secs = wait.as_secs_f64().ceil().max(1.0);
        let message =
            format!("too many requests from this client: try again after {secs} s, or send more in one request");
        Refusal::new(StatusCode::TOO_MANY_REQUESTS, "throttled", message).header(header::RETRY_AFTER, &secs.to_string())
    })?;
    if tenant.is_none() && !is_public(request.uri().path()) && request.method() != Method::OPTIONS {
        return Err(unauthorized(request.headers().contains_key(header::AUTHORIZATION)));
    }
    let sees_all = api.access.sees_all(tenant.as_deref());
    request.extensions_mut().insert(Caller { tenant, client, sees_all });
    Ok(())
}

fn check_site(headers: &HeaderMap, host_of_address: Option<&str>) -> Result<(), Refusal> {
    let refuse = |what: &str, name: &[u8]| {
        let name: String = String::from_utf8_lossy(name).chars().take(80).collect();
        let message = format!(
            "this server is open to its own machine only, and the request's {what} is `{name}`: ask it as localhost or by its address, or \
             start it with tokens"
        );
        Err(Refusal::new(StatusCode::FORBIDDEN, "foreign_site", message))
    };
    if let Some(origin) = headers.get_all(header::ORIGIN).iter().find(|origin| !is_own_origin(origin)) {
        return refuse("origin", origin.as_bytes());
    }
    // A picture, script or the like of another site's page; a link that somebody follows is none.
    let says = |name: &str, value: &str| headers.get(name).is_some_and(|said| said == value);
    let is_embedded = says("sec-fetch-site", "cross-site") && !says("sec-fetch-mode", "navigate");
    if is_embedded && !headers.contains_key(header::ORIGIN) {
        return refuse("origin", b"another site");
    }
    let hosts = headers.get_all(header::HOST).iter().map(HeaderValue::as_bytes);
    match hosts.chain(host_of_address.map(str::as_bytes)).find(|host| !is_own_host(host)) {
        Some(host) => refuse("host", host),
        None => Ok(()),
    }
}

fn is_own_origin(origin: &HeaderValue) -> bool {
    let text = origin.to_str().unwrap_or_default();
    let host = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    host.is_some_and(|host| is_loopback(host_name(host)))
}

/// An address cannot be made to resolve elsewhere, so any will do; a name must be that of the machine itself.
fn is_own_host(host: &[u8]) -> bool {
    let name = host_name(std::str::from_utf8(host).unwrap_or_default());
    is_loopback(name) || name.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok()
}

fn is_loopback(name: &str) -> bool {
    let address = name.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

/// `host` of `host:port`, with the brackets of an IPv6 address.
fn host_name(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

/// What may be asked at this address; also what a browser asks before it lets a page of another site ask.
fn options(request: &Request) -> Response {
    let Some(methods) = routes::methods(request.uri().path()) else {
        return routes::nothing_at(request.method(), request.uri()).into_response();
    };
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    if let Ok(allowed) = HeaderValue::from_str(&routes::allowed(methods)) {
        headers.insert(header::ALLOW, allowed);
    }
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, OPTIONS"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("authorization, content-type"));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    response
}

/// Lets the page that asked read the answer.
fn share(access: &Access, origin: &HeaderValue, headers: &mut HeaderMap) {
    match access {
        Access::Tokens(_) => {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        }
        Access::Open if is_own_origin(origin) => {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.insert(header::VARY, HeaderValue::from_static("origin"));
        }
        Access::Open => {}
    }
}
