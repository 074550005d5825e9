//! `weir verify`: has every row recomputed, and says what differs.

use bytes::Bytes;
use hyper::Method;
use serde_json::Value;

use super::{
    Answer, Failure, Verify,
    client::{Client, Made},
    output::say,
    progress,
};

/// Runs the command.
pub async fn run(options: Verify) -> Result<Answer, Failure> {
    let client = Client::connect(&options.of, Made::Before).await?;
    let asked = client.json(Method::POST, "/verify", Bytes::new());
    let report = progress::verifying(&client, asked).await;
    client.close().await?;
    let report = report?;
    let same = report["differences"].as_u64() == Some(0);
    if options.json {
        say(&report.to_string())?;
    } else {
        print(&report, same)?;
    }
    Ok(if same { Answer::Yes } else { Answer::No })
}

fn print(report: &Value, same: bool) -> Result<(), Failure> {
    let number = |field: &str| report[field].as_u64().unwrap_or(0);
    let (compared, older) = (number("rows"), number("older_than_stream"));
    say(&format!("folded {} records again and compared {compared} rows", number("records")))?;
    if older > 0 {
        say(&format!("{older} rows hold records that the stream no longer has, and could not be recomputed:"))?;
        for (shard, first) in report["from"].as_object().into_iter().flatten() {
            say(&match first.as_str() {
                None | Some("nothing") => format!("  {shard} has nothing left"),
                Some(first) => format!("  {shard} can be recomputed from {first} on"),
            })?;
        }
    }
    let digest = report["digest"].as_str().unwrap_or("?");
    match (same, older) {
        (true, 0) => return say(&format!("every row is what the stream says; digest {digest}")),
        (true, _) => {
            return say(&format!(
                "every one of the {compared} rows that could be recomputed is what the stream says, and {older} could not; digest {digest}"
            ));
        }
        (false, _) => {}
    }
    let first = &report["first_difference"];
    let text = |field: &str| first[field].as_str().unwrap_or("?");
    say(&format!("{} rows differ. The first, in key order:", number("differences")))?;
    say(&format!("  {}: {}", text("row"), text("what")))?;
    say(match older {
        0 => "To have every row made anew from the stream, move rows.redb out of the data folder and run any command",
        _ => {
            "Keep rows.redb: what the stream no longer has is in it alone. Restore a backup, or report this as a defect"
        }
    })
}
