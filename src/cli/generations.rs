//! `weir generations`: what there is, from where, how far, which one counts, and how it was compared.

use bytes::Bytes;
use hyper::Method;
use serde_json::{Value, json};

use super::{
    Answer, Failure, Format, Output, Where,
    client::{Client, Purpose, escaped},
    held_up,
    output::{Column, Printer, say},
};

static COLUMNS: [Column; 7] = [
    Column::left("GENERATION", "name"),
    Column::left("STANDING", "standing"),
    Column::left("PARENT", "parent"),
    Column::left("FROM", "start"),
    Column::left("FOLDED", "folded"),
    Column::left("COMPARED", "comparison"),
    Column::left("GO BACK UNTIL", "goBackUntil"),
];

/// Options of `weir generations`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Compare this one with the one that counts, once more: windows and decisions of alarms that differ
    #[arg(long, value_name = "NAME")]
    compare: Option<String>,
    /// End this one: it is folded no longer, and another can be begun in its place. Never the one that counts
    #[arg(long, value_name = "NAME", conflicts_with = "compare")]
    end: Option<String>,
    /// With --end: also one that counted, and that `weir promote` could go back to
    #[arg(long, requires = "end")]
    no_way_back: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    of: Where,
}

/// Runs the command.
pub async fn run(options: Args) -> Result<Answer, Failure> {
    let format = options.output.format()?;
    // Only who folds can compare.
    let purpose = if options.compare.is_some() { Purpose::Verify } else { Purpose::Read };
    let client = Client::connect(&options.of, purpose).await?;
    let answer = match &options.compare {
        Some(name) => held_up::beside_answer(&client, compare(&client, name, format)).await,
        None => match &options.end {
            Some(name) => end(&client, name, options.no_way_back, format).await,
            None => list(&client, format).await.map(|()| Answer::Yes),
        },
    };
    client.close().await?;
    answer
}

async fn list(client: &Client, format: Format) -> Result<(), Failure> {
    let found = client.json(Method::GET, "/generations", Bytes::new()).await?;
    let mut items: Vec<Value> = found["generations"].as_array().cloned().unwrap_or_default();
    if format != Format::Json {
        items.iter_mut().for_each(words);
    }
    for trouble in items.iter().flat_map(|item| item["troubles"].as_array().cloned().unwrap_or_default()) {
        eprintln!("trouble: {}", trouble.as_str().unwrap_or("?"));
    }
    if let Some(name) = found["unfinishedPromotion"].as_str() {
        eprintln!("the promotion of `{name}` was cut short: `weir promote {name}` finishes it");
    }
    let mut printer = Printer::new(format, &COLUMNS);
    printer.items(&items)?;
    printer.end("no generations")
}

/// Of an item what a person reads.
fn words(item: &mut Value) {
    if item["start"].is_null() {
        item["start"] = json!("the first record");
    }
    let (done, total) = (item["bytes"].as_u64().unwrap_or(0), item["bytesTotal"].as_u64().unwrap_or(0));
    item["folded"] = match item["standing"].as_str() {
        Some("ended" | "opening") => Value::Null,
        _ if total > 0 => json!(format!("{} %", u128::from(done) * 100 / u128::from(total))),
        _ => Value::Null,
    };
    let compared = &item["compared"];
    let number = |field: &str| compared[field].as_u64().unwrap_or(0);
    let left_out = ["moving", "past"].map(|why| LEFT_OUT.map(|what| compared[why][what].as_u64().unwrap_or(0)));
    let left_out: u64 = left_out.iter().flatten().sum();
    item["comparison"] = match compared.is_null() {
        true => Value::Null,
        false => json!(format!(
            "{} of {} windows and {} of {} decisions differ from {}{}",
            number("windowsDiffer"),
            number("windows"),
            number("decisionsDiffer"),
            number("decisions"),
            compared["with"].as_str().unwrap_or("?"),
            if left_out > 0 { format!("; {left_out} left out") } else { String::new() },
        )),
    };
}

/// What may be left out of a comparison.
const LEFT_OUT: [&str; 2] = ["windows", "decisions"];

/// What was not compared and is in no count, and why; `None`: nothing for this reason.
fn left_out(of: &Value, why: &str) -> Option<String> {
    let [windows, decisions] = LEFT_OUT.map(|what| of[what].as_u64().unwrap_or(0));
    let at = |field: &str| of[field].as_str().unwrap_or("?").to_owned();
    (windows + decisions > 0).then(|| {
        let (from, through) = (at("from"), at("through"));
        format!("  left out: windows: {windows}, decisions: {decisions}, of {from} to {through}, {why}")
    })
}

async fn end(client: &Client, name: &str, no_way_back: bool, format: Format) -> Result<Answer, Failure> {
    let path = format!("/end?generation={}&noWayBack={no_way_back}", escaped(name));
    let ended = client.json(Method::POST, &path, Bytes::new()).await?;
    match format {
        Format::Json => say(&ended.to_string())?,
        _ if ended["already"] == true => say(&format!("{name} has ended already: nothing was changed"))?,
        _ => say(&format!("{name} has ended: it is folded no longer, and cannot be promoted"))?,
    }
    Ok(Answer::Yes)
}

/// Compares one and says what differs. Where there was nothing to compare the answer is no: nobody knows whether they agree.
pub(super) async fn compare(client: &Client, name: &str, format: Format) -> Result<Answer, Failure> {
    let compared = client.json(Method::POST, &format!("/compare?generation={}", escaped(name)), Bytes::new()).await?;
    let number = |field: &str| compared[field].as_u64().unwrap_or(0);
    let same = number("windowsDiffer") + number("decisionsDiffer") == 0 && !is_nothing(&compared);
    match format {
        Format::Json => say(&compared.to_string())?,
        _ => sentences(name, &compared).iter().try_for_each(|line| say(line))?,
    }
    Ok(if same { Answer::Yes } else { Answer::No })
}

fn is_nothing(compared: &Value) -> bool {
    ["windows", "decisions"].iter().all(|field| compared[field].as_u64().unwrap_or(0) == 0)
}

fn sentences(name: &str, compared: &Value) -> Vec<String> {
    let number = |field: &str| compared[field].as_u64().unwrap_or(0);
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let from = match compared["windowsFrom"].as_str() {
        Some(from) => format!(" from {from} on (earlier ones are read from the parent)"),
        None => String::new(),
    };
    let first = match is_nothing(compared) {
        true => format!(
            "nothing was compared: {name} and {} have no window in common{from} that stood still, and no decision of an alarm. Begin one earlier (`--start`), or compare \
             again later (`weir generations --compare {name}`)",
            text(&compared["with"])
        ),
        false => format!(
            "compared {name} with {}: {} of {} windows{from} differ, {} of {} decisions of alarms differ",
            text(&compared["with"]),
            number("windowsDiffer"),
            number("windows"),
            number("decisionsDiffer"),
            number("decisions"),
        ),
    };
    let mut lines = vec![first];
    for of in compared["firstWindows"].as_array().into_iter().flatten() {
        lines.push(format!(
            "  {} of service `{}` at {} (tenant {}): {} values with the sum {} there, {} with {} in {name}",
            text(&of["metric"]),
            text(&of["service"]),
            text(&of["time"]),
            text(&of["tenant"]),
            of["oldCount"],
            of["oldSum"],
            of["newCount"],
            of["newSum"],
        ));
    }
    for of in compared["firstDecisions"].as_array().into_iter().flatten() {
        let became = |state: &Value| state.as_str().unwrap_or("unchanged").to_owned();
        lines.push(format!(
            "  alarm `{}` at {} (tenant {}): {} there, {} in {name}",
            text(&of["alarm"]),
            text(&of["time"]),
            text(&of["tenant"]),
            became(&of["old"]),
            became(&of["new"]),
        ));
    }
    // A window that goes on being written may differ all the same.
    let moving = "for which more came in meanwhile: compare again once nothing does, to have them compared too";
    let past = "which are past the time for which rows are kept (`weir keep`), so that one of both has no longer all of them: they cannot be compared";
    lines.extend(left_out(&compared["moving"], moving));
    lines.extend(left_out(&compared["past"], past));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_said_with_both_numbers_and_both_states() {
        let compared = json!({
            "with": "first", "windowsFrom": "2026-01-01T02:00:00Z", "windows": 9, "windowsDiffer": 1, "decisions": 2, "decisionsDiffer": 1,
            "firstWindows": [{"tenant": "local", "service": "shop", "metric": "errors", "time": "2026-01-01T03:00:00Z", "oldCount": 3, "oldSum": 3.5,
                              "newCount": 2, "newSum": 2.0}],
            "moving": {"windows": 3, "decisions": 1, "from": "2026-01-01T05:00:00Z", "through": "2026-01-01T05:02:00Z"},
            "past": {"windows": 2, "decisions": 0, "from": "2024-01-01T00:00:00Z", "through": "2024-01-01T00:01:00Z"},
            "firstDecisions": [{"tenant": "local", "alarm": "a", "time": "2026-01-01T04:00:00Z", "old": "ALARM", "new": null}],
        });
        let said = sentences("new", &compared).join("\n");
        for part in [
            "1 of 9 windows from 2026-01-01T02:00:00Z on",
            "1 of 2 decisions",
            "errors of service `shop` at 2026-01-01T03:00:00Z (tenant local): 3 values with the sum 3.5 there, 2 with 2.0 in new",
            "alarm `a` at 2026-01-01T04:00:00Z (tenant local): ALARM there, unchanged in new",
            "left out: windows: 3, decisions: 1, of 2026-01-01T05:00:00Z to 2026-01-01T05:02:00Z, for which more came in meanwhile",
            "left out: windows: 2, decisions: 0, of 2024-01-01T00:00:00Z to 2024-01-01T00:01:00Z, which are past the time",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
        let mut item = json!({"compared": compared});
        words(&mut item);
        assert_eq!(item["comparison"], "1 of 9 windows and 1 of 2 decisions differ from first; 6 left out");
        for whole in [json!({"windows": 0, "decisions": 0, "from": null, "through": null}), Value::Null] {
            assert_eq!(left_out(&whole, "why"), None);
        }
    }
}
