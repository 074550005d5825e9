//! Lines of the function's log: one JSON object each, as CloudWatch Logs reads fields of. Never shows a record's bytes, a body, a header or a token.

use serde_json::{Map, Value, json};

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Work that was done.
    Info,
    /// Work that is left for a retry.
    Warn,
    /// Something for a person: it does not pass by itself, or something was lost.
    Error,
}

/// A line of the log.
pub fn line(level: Level, message: &str, fields: Value) -> String {
    let level = match level {
        Level::Info => "INFO",
        Level::Warn => "WARN",
        Level::Error => "ERROR",
    };
    let mut line = Map::from_iter([("level".to_owned(), json!(level)), ("message".to_owned(), json!(message))]);
    if let Value::Object(fields) = fields {
        line.extend(fields);
    }
    Value::Object(line).to_string()
}

/// Writes a line.
pub fn say(level: Level, message: &str, fields: Value) {
    println!("{}", line(level, message, fields));
}

/// Says why a function cannot begin, as its error for Lambda and in its log.
pub fn cannot_begin(error: &dyn std::error::Error) -> lambda_runtime::Error {
    let why = weir::with_causes(error);
    say(Level::Error, "the function cannot begin", json!({"why": why}));
    why.into()
}
