//! `weir verify`: has every row recomputed, and says what differs.

use bytes::Bytes;
use hyper::Method;
use serde_json::Value;

use super::{Answer, Failure, Verify, client::Client, output::say, progress};

/// Runs the command.
pub async fn run(options: Verify) -> Result<Answer, Failure> {
    let client = Client::connect(&options.of).await?;
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
    say(&format!("folded {} records again and compared {} rows", number("records"), number("rows")))?;
    if number("older_than_stream") > 0 {
        let rows = number("older_than_stream");
        say(&format!(
            "{rows} rows hold records that the stream no longer has: they cannot be recomputed and were not compared"
        ))?;
        for (shard, first) in report["from"].as_object().into_iter().flatten() {
            say(&format!("  {shard} can be recomputed from {} on", first.as_str().unwrap_or("?")))?;
        }
    }
    if same {
        return say(&format!("every row is what the stream says; digest {}", report["digest"].as_str().unwrap_or("?")));
    }
    let first = &report["first_difference"];
    let text = |field: &str| first[field].as_str().unwrap_or("?").to_owned();
    say(&format!("{} rows differ. The first, in key order:", number("differences")))?;
    say(&format!(
        "  {} of `{}` at {} on {} (tenant {}): {}",
        text("kind"),
        text("subject"),
        first["at"],
        text("shard"),
        text("tenant"),
        text("what")
    ))
}
