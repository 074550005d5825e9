//! `weir alarms`: states of all alarms, or one alarm with its changes.

use bytes::Bytes;
use hyper::Method;
use serde_json::Value;

use super::{
    Answer, Failure, Format, Output, Where,
    client::{Client, Purpose, escaped},
    output::{Column, Printer, say},
};

static STATES: [Column; 4] = [
    Column::left("ALARM", "name"),
    Column::left("STATE", "state"),
    Column::left("SINCE", "decidedAt"),
    Column::left("REASON", "reason"),
];
static CHANGES: [Column; 4] = [
    Column::left("TIME", "time"),
    Column::left("FROM", "from"),
    Column::left("TO", "to"),
    Column::left("REASON", "reason"),
];

/// Options of `weir alarms`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// One alarm, with its changes
    #[arg(value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    of: Where,
}

/// Runs the command.
pub async fn run(options: Args) -> Result<Answer, Failure> {
    let format = options.output.format()?;
    let client = Client::connect(&options.of, Purpose::Read).await?;
    let printed = match &options.name {
        Some(name) => one(&client, name, format).await,
        None => all(&client, format).await,
    };
    client.close().await?;
    printed.map(|()| Answer::Yes)
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

async fn all(client: &Client, format: Format) -> Result<(), Failure> {
    let mut printer = Printer::new(format, &STATES);
    let mut next = String::new();
    loop {
        let page = client.json(Method::GET, &format!("/alarms{next}"), Bytes::new()).await?;
        printer.items(&list(&page["alarms"]))?;
        let Some(token) = page["nextToken"].as_str() else { break };
        next = format!("?nextToken={}", escaped(token));
    }
    printer.end("no alarms. `weir apply FILE` defines one; the README shows a file")
}

async fn one(client: &Client, name: &str, format: Format) -> Result<(), Failure> {
    let found = client.json(Method::GET, &format!("/alarms/{}", escaped(name)), Bytes::new()).await?;
    if format == Format::Json {
        return say(&found.to_string());
    }
    if format == Format::Table {
        // Before its first evaluation it has a state and no time.
        let since = found["decidedAt"].as_str().map(|since| format!(" since {since}")).unwrap_or_default();
        say(&format!("{} is {}{since}", text(&found["name"]), text(&found["state"])))?;
        say(&format!("{}\n", text(&found["reason"])))?;
    }
    let mut printer = Printer::new(format, &CHANGES);
    printer.items(&list(&found["transitions"]))?;
    printer.end("it has not changed yet")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}
