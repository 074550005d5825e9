#![allow(clippy::unwrap_used)]
//! Requests to the router without a socket; behind it the real fold and the store in memory.

mod anything;
mod definitions;
mod fake;
mod ingest;
mod metrics;
mod sockets;
mod tenants;
mod web;

use std::sync::Arc;

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Request, Response, StatusCode},
};
use serde_json::Value;
use tower::ServiceExt;

use self::fake::Fake;
use crate::{Access, Limits, router_within};

const ACME: &str = "acme-0123456789abcdef";
const OTHER: &str = "other-0123456789abcdef";
const LOCAL: &str = "local-0123456789abcdef";

/// A server and its fake process.
struct Server {
    fake: Arc<Fake>,
    router: Router,
}

/// A whole answer.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: axum::http::HeaderMap,
    json: Value,
    text: String,
}

impl Server {
    fn open() -> Self {
        Self::of(Access::Open, Limits::default())
    }

    fn with_tokens() -> Self {
        let text = format!("acme {ACME}\nother {OTHER}\nlocal {LOCAL}\n");
        Self::of(Access::tokens(&text).unwrap(), Limits::default())
    }

    fn of(access: Access, limits: Limits) -> Self {
        let fake = Arc::new(Fake::new(3));
        Self { router: router_within(fake.clone(), access, limits), fake }
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let response: Response<Body> = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, usize::MAX).await.unwrap();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        Answer { status: parts.status, headers: parts.headers, json, text }
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    async fn post(&self, path: &str, body: impl Into<Body>) -> Answer {
        self.send(Request::post(path).body(body.into()).unwrap()).await
    }

    async fn get_as(&self, token: &str, path: &str) -> Answer {
        let authorization = format!("Bearer {token}");
        self.send(Request::get(path).header("authorization", authorization).body(Body::empty()).unwrap()).await
    }

    async fn post_as(&self, token: &str, path: &str, body: impl Into<Body>) -> Answer {
        let authorization = format!("Bearer {token}");
        self.send(Request::post(path).header("authorization", authorization).body(body.into()).unwrap()).await
    }
}

impl Answer {
    /// Refused with this code; the message, which is never empty.
    fn refused(&self, status: u16, code: &str) -> &str {
        assert_eq!((self.status.as_u16(), self.json["error"]["code"].as_str()), (status, Some(code)), "{}", self.text);
        assert_eq!(self.headers["content-type"], "application/json");
        let message = self.json["error"]["message"].as_str().unwrap();
        assert!(message.len() > 20, "{message}");
        message
    }

    fn ok(&self) -> &Value {
        assert!(self.status.is_success(), "{} {}", self.status, self.text);
        &self.json
    }
}

/// Lines of one service, one a second from a full hour on.
fn lines(service: &str, count: usize) -> String {
    (0..count)
        .map(|i| {
            format!(
                "{{\"time\":{},\"service\":\"{service}\",\"status\":200,\"latency_ms\":{i}}}\n",
                fake::HOUR + i as i64
            )
        })
        .collect()
}
