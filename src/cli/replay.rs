//! `weir replay`: the stream folded again into another generation, beside the one that counts, until it has caught up; then both are compared.

use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use serde_json::Value;

use super::{
    Answer, Failure, Format, Where,
    client::{Client, Purpose, escaped},
    generations, held_up, progress,
};

/// The --start that needs an archive.
const ARCHIVE: &str = "archive";
/// Between two looks at how far it is.
const LOOK: Duration = Duration::from_millis(200);

/// Options of `weir replay`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Where it begins, to the minute: a time (RFC 3339, a date, epoch seconds or milliseconds, -2d), SHARD:POSITION, oldest for all that the stream
    /// keeps, or archive for all that the archive has and the stream behind it. Left out to go on with one that was begun
    #[arg(long, value_name = "TIME|SHARD:POSITION|oldest|archive", allow_hyphen_values = true)]
    start: Option<String>,
    /// The archive of --start archive: s3://BUCKET/PREFIX or file:///FOLDER, as `weir up --archive` was told (also WEIR_ARCHIVE)
    #[arg(long, value_name = "URL")]
    archive: Option<String>,
    /// Its name: letters, digits, `-`, `_` and `.`; the generation that is there from the beginning is called first
    #[arg(long, value_name = "NAME")]
    generation: String,
    /// The comparison as one object instead of sentences
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    to: Where,
}

/// Runs the command.
pub async fn run(options: Args) -> Result<Answer, Failure> {
    options.start.as_deref().map_or(Ok(()), weir::check_start).map_err(Failure::new)?;
    let client = Client::connect_reading(&options.to, Purpose::Verify, options.archive.as_deref()).await?;
    let answer = held_up::beside(&client, replay(&client, &options)).await;
    client.close().await?;
    answer
}

async fn replay(client: &Client, options: &Args) -> Result<Answer, Failure> {
    let name = &options.generation;
    if options.start.as_deref() == Some(ARCHIVE) && super::archive(options.archive.as_deref()).is_none() {
        client.has_archive().await?;
    }
    let start = options.start.as_deref().map(|start| format!("&start={}", escaped(start))).unwrap_or_default();
    let opened =
        client.json(Method::POST, &format!("/replay?generation={}{start}", escaped(name)), Bytes::new()).await?;
    let from = opened["start"].as_str().unwrap_or("the first record").to_owned();
    eprintln!("generation {name}: every record from {from} on is folded again, beside the rows that count");
    if let Some(place) = opened["archive"]["place"].as_str() {
        eprintln!("it is read from the archive {place} and the stream behind it");
    }
    for missing in opened["archive"]["missing"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        eprintln!("missing: {missing}");
    }
    let bar = progress::bar();
    let mut said = Value::Null;
    loop {
        let all = client.json(Method::GET, "/generations", Bytes::new()).await?;
        let own = all["generations"].as_array().into_iter().flatten().find(|of| of["name"] == name.as_str());
        let Some(own) = own else { return Err(Failure::new(format!("the generation {name} is gone"))) };
        bar.set_length(own["bytesTotal"].as_u64().unwrap_or(0).max(1));
        bar.set_position(own["bytes"].as_u64().unwrap_or(0));
        if own["troubles"] != said && own["troubles"] != Value::Array(vec![]) {
            said = own["troubles"].clone();
            eprintln!("it is tried again: {said}");
        }
        if let Some(why) = own["archive"]["failed"].as_str() {
            bar.finish_and_clear();
            return Err(Failure::new(format!("{why}; `weir replay --generation {name}` goes on where it was")));
        }
        match own["standing"].as_str() {
            Some("opening" | "filling") => tokio::time::sleep(LOOK).await,
            Some("ended") => return Err(Failure::new(format!("the generation {name} has ended"))),
            _ => break,
        }
    }
    bar.finish_and_clear();
    eprintln!("it has caught up, and goes on beside the one that counts");
    let answer = generations::compare(client, name, if options.json { Format::Json } else { Format::Table }).await?;
    // What differs, or was not compared, is somebody's to judge first.
    if answer == Answer::Yes {
        eprintln!("`weir promote {name}` makes it count");
    }
    Ok(answer)
}
