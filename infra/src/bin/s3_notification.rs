//! The function of S3's notifications: reads the objects that they announce onto the stream, and answers which messages have to come again. Decides
//! nothing. Environment: `WEIR_STREAM` (`kinesis://NAME`), `WEIR_SERVICE` (of lines that name none, instead of the one in their object's name).

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use serde_json::{Value, json};
use weir::{
    aws::announced::{Announced, answer},
    with_causes,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let set = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
    let stream = set("WEIR_STREAM").ok_or("the variable WEIR_STREAM is not set: give the function kinesis://NAME")?;
    let announced = Announced::open(&stream, set("WEIR_SERVICE")).await;
    let announced = Arc::new(announced.map_err(|error| with_causes(&error))?);
    run(service_fn(move |event: LambdaEvent<Value>| {
        let announced = announced.clone();
        async move { ingest(&announced, event).await }
    }))
    .await
}

async fn ingest(announced: &Announced, event: LambdaEvent<Value>) -> Result<Value, Error> {
    let left = event.context.deadline().duration_since(SystemTime::now()).unwrap_or(Duration::ZERO);
    let done = announced.ingest(event.payload.to_string().as_bytes(), left).await?;
    for done in &done {
        let level = if done.left.is_empty() { "INFO" } else { "WARN" };
        let (message, read, missed, left) = (&done.id, done.read, done.missed, &done.left);
        println!("{}", json!({"level": level, "message": message, "read": read, "missed": missed, "left": left}));
    }
    Ok(answer(&done)?)
}
