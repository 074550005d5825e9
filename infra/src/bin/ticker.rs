//! The function of the schedule: appends one tick to every open shard, which also names the newest definitions. Decides nothing: a tick too many changes
//! nothing, and one that fails is made up for by the next.

use infra::{
    log::{self, Level},
    settings,
};
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use serde_json::{Value, json};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let system = settings::open().await.map_err(|error| log::cannot_begin(&error))?;
    run(service_fn(move |_: LambdaEvent<Value>| {
        let system = system.clone();
        async move {
            match system.tick().await {
                Ok(tick) => {
                    let shards: Vec<String> = tick.appended.iter().map(|put| put.shard.to_string()).collect();
                    let said = json!({"shards": shards, "definitions": tick.definitions.to_string()});
                    log::say(Level::Info, "ticked", said.clone());
                    Ok::<_, Error>(said)
                }
                Err(error) => {
                    let why = weir::with_causes(&error);
                    log::say(Level::Error, "not ticked", json!({"why": why}));
                    Err(why.into())
                }
            }
        }
    }))
    .await
}
