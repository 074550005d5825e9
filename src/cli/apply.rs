//! `weir apply`: definitions become events. Every file is read before the first is sent.

use bytes::Bytes;
use hyper::Method;

use super::{
    Answer, Apply, Failure,
    client::{Client, Made},
    output::say,
};

/// Largest file of definitions: as much as the API takes, which is a thousand alarms.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Runs the command.
pub async fn run(options: Apply) -> Result<Answer, Failure> {
    let mut files = vec![];
    for path in &options.files {
        let failed = |why: String| Failure::new(format!("{}: {why}; nothing was applied", path.display()));
        let size = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?.len();
        if size > FILE_BYTES_MAX {
            return Err(failed(format!("{size} bytes; a file of definitions has at most {FILE_BYTES_MAX}")));
        }
        let text = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
        if let Err(error) = serde_json::from_slice::<serde_json::Value>(&text) {
            return Err(failed(format!("not JSON: {error}")));
        }
        files.push((path, Bytes::from(text)));
    }
    let client = Client::connect(&options.to, Made::Now).await?;
    let mut answer = Ok(Answer::Yes);
    for (path, text) in files {
        match client.answer(Method::POST, "/definitions", text).await? {
            Ok(applied) => {
                for definition in applied["applied"].as_array().into_iter().flatten() {
                    let name = definition["name"].as_str().unwrap_or("?");
                    let revision = definition["revision"].as_str().unwrap_or("?");
                    say(&format!("{}: alarm {name} applied, revision {revision}", path.display()))?;
                }
            }
            Err(error) => {
                eprintln!("weir: {}: {error}", path.display());
                answer = Ok(Answer::No);
            }
        }
    }
    client.close().await?;
    answer
}
