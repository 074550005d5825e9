//! `weir apply`: definitions become events. A file that cannot be applied is named, and the others are applied.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use hyper::Method;

use super::{
    Answer, Failure, Where,
    client::{Client, Purpose},
    held_up,
    output::say,
};

/// Largest file of definitions: as much as the API takes, which is a thousand alarms.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Options of `weir apply`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// JSON files with alarms in CloudWatch's field names: one, an array, or {"MetricAlarms": […]}
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    to: Where,
}

/// Runs the command.
pub async fn run(options: Args) -> Result<Answer, Failure> {
    let mut answer = Answer::Yes;
    let mut fail = |path: &Path, why: &dyn std::fmt::Display| {
        eprintln!("failed: {}: {why}", path.display());
        answer = Answer::No;
    };
    let mut files = vec![];
    for path in &options.files {
        match read(path) {
            Ok(text) => files.push((path, text)),
            Err(why) => fail(path, &format!("{why}; nothing of it was applied")),
        }
    }
    // A data folder is made for something that goes into it.
    if !files.is_empty() {
        let client = Client::connect(&options.to, Purpose::Add).await?;
        let sent = held_up::beside(&client, send(&client, files, &mut fail)).await;
        client.close().await?;
        sent?;
    }
    Ok(answer)
}

fn read(path: &Path) -> Result<Bytes, String> {
    let mut text = vec![];
    let file = File::open(path).map_err(|error| error.to_string())?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("a file of definitions has at most {FILE_BYTES_MAX} bytes, and it has more"));
    }
    serde_json::from_slice::<serde_json::Value>(&text).map_err(|error| format!("not JSON: {error}"))?;
    Ok(Bytes::from(text))
}

async fn send(
    client: &Client,
    files: Vec<(&PathBuf, Bytes)>,
    fail: &mut impl FnMut(&Path, &dyn std::fmt::Display),
) -> Result<(), Failure> {
    for (path, text) in files {
        match client.answer(Method::POST, "/definitions", text).await? {
            Ok(applied) => {
                let later = match applied["inForce"].as_bool() {
                    Some(false) => ", in force once it is folded, in a minute or two",
                    _ => "",
                };
                for definition in applied["applied"].as_array().into_iter().flatten() {
                    let name = definition["name"].as_str().unwrap_or("?");
                    let revision = definition["revision"].as_str().unwrap_or("?");
                    say(&format!("{}: alarm {name} applied, revision {revision}{later}", path.display()))?;
                }
            }
            Err(refused) if refused.by_content => fail(path, &refused.why),
            // The next file would fare no better.
            Err(refused) => return Err(Failure::new(format!("{}: {}", path.display(), refused.why))),
        }
    }
    Ok(())
}
