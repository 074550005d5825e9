//! The function of the Kinesis event source: folds a batch from the shard's resume point, commits, and answers with what is durable. Decides nothing.

use std::{sync::Arc, time::Instant};

use infra::{
    delivery::{Answer, Delivery, Event, until},
    log::{self, Level},
    settings,
};
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use serde_json::json;
use tokio::sync::Mutex;
use weir::batches::Batches;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let stream = settings::pair().map_err(|error| log::cannot_begin(&error))?.stream().to_owned();
    let system = settings::open().await.map_err(|error| log::cannot_begin(&error))?;
    let batches = Arc::new(Mutex::new(Batches::new(system)));
    run(service_fn(move |event: LambdaEvent<Event>| {
        let (batches, stream) = (batches.clone(), stream.clone());
        async move { fold(&mut *batches.lock().await, &stream, event).await }
    }))
    .await
}

async fn fold(batches: &mut Batches, stream: &str, event: LambdaEvent<Event>) -> Result<Answer, Error> {
    let (begun, until) = (Instant::now(), until(event.context.deadline));
    let refused = |error: &dyn std::error::Error| log::say(Level::Error, "refused", json!({"why": error.to_string()}));
    let delivery = Delivery::read(event.payload, stream).inspect_err(|error| refused(error))?;
    let outcome = batches.fold(&delivery.batch, until).await;
    for loss in &outcome.losses {
        log::say(Level::Error, "lost", json!({"what": loss}));
    }
    let answer = delivery.answer(&outcome);
    let mut said = delivery.said(&outcome, begun.elapsed());
    said["left"] = json!(outcome.left);
    let (level, message) = match (&outcome.left, &answer) {
        (None, _) => (Level::Info, "folded"),
        (Some(_), Ok(_)) => (Level::Warn, "folded in part"),
        (Some(_), Err(_)) => (Level::Error, "not folded"),
    };
    log::say(level, message, said);
    Ok(answer?)
}
