//! How the API says no: always JSON, `{"error":{"code","message"}}`, where the message names the thing, the cause and the next step.

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

/// A request that is not answered as asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
    headers: Vec<(header::HeaderName, HeaderValue)>,
    /// What was done all the same, beside `error`.
    besides: Option<(&'static str, Value)>,
}

impl Refusal {
    /// `code` is for programs and never changes; `message` is for people.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), headers: vec![], besides: None }
    }

    /// The request is wrong and will stay wrong.
    pub fn bad(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// A parameter or field is wrong.
    pub fn field(name: &str, error: impl std::fmt::Display) -> Self {
        Self::bad("bad_parameter", format!("{name}: {error}"))
    }

    /// Too large.
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }

    /// Not now.
    pub fn unavailable(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message).header(header::RETRY_AFTER, "1")
    }

    /// With a header.
    pub fn header(mut self, name: header::HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }

    /// With something that was done all the same; `note` is added to the message.
    pub fn beside(mut self, name: &'static str, value: Value, note: &str) -> Self {
        self.message.push_str(note);
        self.besides = Some((name, value));
        self
    }
}

impl From<projections::store::ReadError> for Refusal {
    fn from(error: projections::store::ReadError) -> Self {
        match error {
            projections::store::ReadError::Unavailable(_) => {
                Self::unavailable("store_unavailable", format!("{error}; try again"))
            }
            projections::store::ReadError::Damaged(_) => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "store_damaged",
                format!("{error}; `weir verify` shows what else differs"),
            ),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut body = json!({"error": {"code": self.code, "message": self.message}});
        if let Some((name, value)) = self.besides {
            body[name] = value;
        }
        let mut response = json_response(self.status, body.to_string().into_bytes());
        response.headers_mut().extend(self.headers);
        response
    }
}

/// JSON text as an answer.
pub(crate) fn json_response(status: StatusCode, json: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(json));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Something as a JSON answer.
pub fn answer(status: StatusCode, value: &impl serde::Serialize) -> Response {
    json_response(status, serde_json::to_vec(value).expect("what the API answers has text keys and always encodes"))
}
