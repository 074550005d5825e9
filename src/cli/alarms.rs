//! `weir alarms`: states of all alarms, or one alarm with its changes.

use bytes::Bytes;
use hyper::Method;
use serde_json::Value;

use super::{
    Alarms, Answer, Failure, Format,
    client::{Client, Made, escaped},
    output::{Column, Printer, say},
};

const fn column(name: &'static str, field: &'static str) -> Column {
    Column { name, field, right: false }
}

static STATES: [Column; 4] =
    [column("ALARM", "name"), column("STATE", "state"), column("SINCE", "decidedAt"), column("REASON", "reason")];
static CHANGES: [Column; 4] =
    [column("TIME", "time"), column("FROM", "from"), column("TO", "to"), column("REASON", "reason")];

/// Runs the command.
pub async fn run(options: Alarms) -> Result<Answer, Failure> {
    let client = Client::connect(&options.of, Made::Before).await?;
    let path = options.name.as_ref().map_or("/alarms".to_owned(), |name| format!("/alarms/{}", escaped(name)));
    let found = client.json(Method::GET, &path, Bytes::new()).await;
    client.close().await?;
    let (found, format) = (found?, options.output.format());
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    if options.name.is_none() {
        let mut printer = Printer::new(format, &STATES);
        printer.items(&list(&found["alarms"]))?;
        printer.end("no alarms. `weir apply FILE` defines one; the README shows a file")?;
        return Ok(Answer::Yes);
    }
    if format == Format::Json {
        say(&found.to_string())?;
        return Ok(Answer::Yes);
    }
    if format == Format::Table {
        // Before its first evaluation it has a state and no time.
        let since = found["decidedAt"].as_str().map(|since| format!(" since {since}")).unwrap_or_default();
        say(&format!("{} is {}{since}", text(&found["name"]), text(&found["state"])))?;
        say(&format!("{}\n", text(&found["reason"])))?;
    }
    let mut printer = Printer::new(format, &CHANGES);
    printer.items(&list(&found["transitions"]))?;
    printer.end("it has not changed yet")?;
    Ok(Answer::Yes)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}
