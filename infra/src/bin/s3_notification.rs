//! The function of S3's notifications: reads the objects that they announce onto the stream, and answers which messages have to come again. Decides
//! nothing.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use infra::{
    log::{self, Level},
    settings,
};
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use serde_json::{Value, json};
use weir::aws::announced::{Announced, answer};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let announced = Arc::new(settings::announced().await.map_err(|error| log::cannot_begin(&error))?);
    run(service_fn(move |event: LambdaEvent<Value>| {
        let announced = announced.clone();
        async move { ingest(&announced, event).await }
    }))
    .await
}

async fn ingest(announced: &Announced, event: LambdaEvent<Value>) -> Result<Value, Error> {
    let left = event.context.deadline().duration_since(SystemTime::now()).unwrap_or(Duration::ZERO);
    let refused = |error: &dyn std::error::Error| log::say(Level::Error, "refused", json!({"why": error.to_string()}));
    let event = event.payload.to_string();
    let done = announced.ingest(event.as_bytes(), left).await.inspect_err(|error| refused(error))?;
    for done in &done {
        let (level, message) = match (done.left.is_empty(), done.missed) {
            (false, _) => (Level::Warn, "left"),
            (true, 0) => (Level::Info, "ingested"),
            (true, _) => (Level::Error, "missed"),
        };
        log::say(level, message, json!({"id": done.id, "read": done.read, "missed": done.missed, "left": done.left}));
    }
    Ok(answer(&done)?)
}
