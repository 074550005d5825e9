//! `weir verify`: has every row recomputed, and says what differs.

use bytes::Bytes;
use hyper::Method;
use serde_json::Value;

use super::{
    Answer, Failure, Where,
    client::{Client, Purpose},
    held_up,
    output::say,
    progress,
};

/// Options of `weir verify`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// One object instead of sentences
    #[arg(long)]
    json: bool,
    /// Read from there what the stream no longer has, as `weir up --archive` keeps it [env: WEIR_ARCHIVE]
    #[arg(long, value_name = "URL")]
    archive: Option<String>,
    #[command(flatten)]
    of: Where,
}

/// Runs the command.
pub async fn run(options: Args) -> Result<Answer, Failure> {
    let client = Client::connect_reading(&options.of, Purpose::Verify, options.archive.as_deref()).await?;
    let asked = client.json(Method::POST, "/verify", Bytes::new());
    let report = held_up::beside(&client, progress::verifying(&client, asked)).await;
    let is_elsewhere = client.is_elsewhere();
    client.close().await?;
    let report = report?;
    let rows = if is_elsewhere { Rows::Tables } else { Rows::Folder };
    let same = report["differences"].as_u64() == Some(0);
    if options.json {
        say(&report.to_string())?;
    } else {
        words(&report, same, rows).iter().try_for_each(|line| say(line))?;
    }
    Ok(if same { Answer::Yes } else { Answer::No })
}

/// Groups of rows that could not be recomputed are named so far; `--json` has more of them.
const OLDER_SHOWN_MAX: usize = 20;

/// Where rows are, for what to do about them.
#[derive(Clone, Copy)]
enum Rows {
    /// In a data folder: of this process, or of the `weir up` that was asked.
    Folder,
    /// In tables.
    Tables,
}

fn words(report: &Value, same: bool, rows: Rows) -> Vec<String> {
    let number = |field: &str| report[field].as_u64().unwrap_or(0);
    let (compared, older) = (number("rows"), number("older_than_stream"));
    let mut lines = vec![format!("folded {} records again and compared {compared} rows", number("records"))];
    if older > 0 {
        lines.extend(not_recomputed(report, older));
    }
    if number("expired") > 0 {
        let text = "rows are past the time for which rows are kept here (`weir keep`), or began anew after it, and were not compared";
        lines.push(format!("{} {text}", number("expired")));
    }
    lines.extend(archived(report));
    let digest = report["digest"].as_str().unwrap_or("?");
    if same {
        lines.push(match older {
            0 => format!("every row is what the stream says; digest {digest}"),
            _ => format!(
                "every one of the {compared} rows that could be recomputed is what the stream says, and {older} could not; digest {digest}"
            ),
        });
        return lines;
    }
    let text = |field: &str| report["first_difference"][field].as_str().unwrap_or("?");
    let damaged = match number("damaged") {
        0 => String::new(),
        damaged => format!(", {damaged} of them because they are damaged"),
    };
    lines.push(match number("differences") {
        1 if damaged.is_empty() => "1 row differs:".to_owned(),
        1 => "1 row differs, because it is damaged:".to_owned(),
        many => format!("{many} rows differ{damaged}. The first, in key order:"),
    });
    lines.push(format!("  {}: {}", text("row"), text("what")));
    let next = match (older, rows) {
        (0, Rows::Folder) => {
            "To have every row made anew from the stream, move rows.redb out of the data folder and run any command (README, A newer program, and a \
             damaged row)"
        }
        (0, Rows::Tables) => "To have every row made anew from the stream, give another prefix: --store dynamodb://NEW",
        (_, Rows::Folder) => {
            "Keep rows.redb: what the stream no longer has is in it alone. Restore a backup, or report this as a defect"
        }
        (_, Rows::Tables) => {
            "Keep the tables: what the stream no longer has is in them alone. Restore a backup, or report this as a defect"
        }
    };
    lines.push(next.to_owned());
    lines
}

/// What the archive had, and from where each shard was read with it.
fn archived(report: &Value) -> Vec<String> {
    let Some(place) = report["archive"]["place"].as_str() else { return vec![] };
    let mut lines = vec![format!("read from the archive {place} and the stream behind it:")];
    let missing: Vec<&str> =
        report["archive"]["missing"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    lines.extend(missing.iter().take(OLDER_SHOWN_MAX).map(|missing| format!("  {missing}")));
    if missing.len() > OLDER_SHOWN_MAX {
        lines.push(format!("  and {} more; `weir verify --json` names them", missing.len() - OLDER_SHOWN_MAX));
    }
    lines.extend(report["from"].as_object().into_iter().flatten().map(|(shard, first)| match first.as_str() {
        None | Some("nothing") => format!("  {shard}: nothing"),
        Some(first) => format!("  {shard} from {first} on"),
    }));
    lines
}

/// From where each shard can be recomputed, and which rows cannot.
fn not_recomputed(report: &Value, older: u64) -> Vec<String> {
    let mut lines = vec![format!(
        "{older} rows hold records that the stream no longer has, or may depend on them, and could not be recomputed:"
    )];
    let groups: Vec<&Value> = report["older"].as_array().into_iter().flatten().collect();
    lines.extend(groups.iter().take(OLDER_SHOWN_MAX).map(|of| format!("  {}", group(of))));
    let shown: u64 = groups.iter().take(OLDER_SHOWN_MAX).filter_map(|of| of["rows"].as_u64()).sum();
    if shown < older {
        lines.push(format!("  and {} more; `weir verify --json` names further ones", older - shown));
    }
    lines.extend(report["from"].as_object().into_iter().flatten().map(|(shard, first)| match first.as_str() {
        None | Some("nothing") => format!("  {shard} has nothing left"),
        Some(first) => format!("  {shard} can be recomputed from {first} on"),
    }));
    lines
}

/// Rows of one kind, and of windows of one service.
fn group(of: &Value) -> String {
    let text = |field: &str| of[field].as_str().unwrap_or("?");
    let rows = of["rows"].as_u64().unwrap_or(0);
    let of_service = || format!("windows of service `{}`", text("service"));
    let what = match text("kind") {
        "Window" => of_service(),
        "Taken" => "lists of what was taken of a file".to_owned(),
        "Producer" => "marks of producers".to_owned(),
        "Balance" => "minutes of the balance".to_owned(),
        "DeadLetter" => "dead letters".to_owned(),
        "Service" => "entries of services".to_owned(),
        "Definition" => "definitions".to_owned(),
        "Alarm" => "states of alarms".to_owned(),
        "Transition" => "changes of alarms".to_owned(),
        "Snapshot" => "states of shards at their resume points".to_owned(),
        other => format!("rows of kind {other}"),
    };
    let tenant = match text("tenant") {
        "" => String::new(),
        tenant => format!(" (tenant {tenant})"),
    };
    let when = match (of["first"].as_str(), of["last"].as_str()) {
        (Some(first), Some(last)) if first == last => format!(", of {first}"),
        (Some(first), Some(last)) => format!(", from {first} to {last}"),
        _ => String::new(),
    };
    format!("{rows} {what}{tenant}{when}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn of_a_trimmed_stream_it_is_said_how_many_rows_were_not_compared_and_from_where_they_can_be() {
        let from = json!({"shard-0": "77", "shard-1": "nothing"});
        let time = "2026-01-01T00:00:00Z";
        let older = json!([
            {"tenant": "local", "kind": "Window", "service": "shop", "rows": 2, "first": time, "last": "2026-01-02T00:00:00Z"},
            {"tenant": "", "kind": "Snapshot", "service": null, "rows": 1, "first": null, "last": null},
        ]);
        let mut report = json!({
            "records": 9, "rows": 5, "older_than_stream": 3, "older": older, "from": from, "differences": 0, "digest": "d"
        });
        let said = words(&report, true, Rows::Folder).join("\n");
        for part in [
            "3 rows hold records",
            "  2 windows of service `shop` (tenant local), from 2026-01-01T00:00:00Z to 2026-01-02T00:00:00Z",
            "  1 states of shards at their resume points",
            "shard-0 can be recomputed from 77 on",
            "shard-1 has nothing left",
            "the 5 rows",
            "3 could not",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert!(!said.contains("every row is") && !said.contains("more;"), "{said}");
        report["older_than_stream"] = json!(90);
        assert!(words(&report, true, Rows::Folder).join("\n").contains("  and 87 more; `weir verify --json`"));
        // Rows that are all that is left of their lines are not to be thrown away.
        report["differences"] = json!(1);
        report["first_difference"] = json!({"row": "the metrics of service `a`", "what": "it differs"});
        let said = words(&report, false, Rows::Folder).join("\n");
        assert!(said.contains("Keep rows.redb") && said.contains("the metrics of service `a`: it differs"), "{said}");
        (report["differences"], report["damaged"]) = (json!(3), json!(2));
        let said = words(&report, false, Rows::Folder).join("\n");
        assert!(said.contains("3 rows differ, 2 of them because they are damaged. The first"), "{said}");
        report["older_than_stream"] = json!(0);
        assert!(words(&report, false, Rows::Folder).join("\n").contains("move rows.redb out"));
        assert!(words(&report, false, Rows::Tables).join("\n").contains("--store dynamodb://NEW"));
        assert!(words(&report, true, Rows::Folder).join("\n").contains("every row is what the stream says"));
    }
}
