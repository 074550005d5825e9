//! `weir shards`, `weir split` and `weir merge`: which shards the stream has, and how one becomes two or two become one.

use bytes::Bytes;
use hyper::Method;
use serde_json::{Value, json};

use super::{
    Answer, Failure, Format, Output, Where,
    client::{Client, Purpose, escaped},
    output::{Column, Printer, say},
};

static TABLE: [Column; 5] = [
    Column::left("SHARD", "shard"),
    Column::left("STATE", "state"),
    Column::left("KEYS", "keys"),
    Column::left("PARENTS", "parents"),
    Column::left("FOLDED THROUGH", "foldedThrough"),
];

/// As the objects of JSON have them.
static CSV: [Column; 6] = [
    Column::left("", "shard"),
    Column::left("", "state"),
    Column::left("", "startingHashKey"),
    Column::left("", "endingHashKey"),
    Column::left("", "parents"),
    Column::left("", "foldedThrough"),
];

/// A position of Kinesis has 56 digits, and what is near in time differs in the last ones: so many are shown to a person.
const DIGITS_SHOWN: usize = 20;

/// Options of `weir shards`.
#[derive(Debug, Clone, clap::Args)]
pub struct List {
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    of: Where,
}

/// Options of `weir split`.
#[derive(Debug, Clone, clap::Args)]
pub struct Split {
    /// The shard, which is closed; `weir shards` lists them
    #[arg(value_name = "SHARD")]
    shard: String,
    /// One object instead of a sentence
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    of: Where,
}

/// Options of `weir merge`.
#[derive(Debug, Clone, clap::Args)]
pub struct Merge {
    /// One of them; both are closed
    #[arg(value_name = "SHARD")]
    shard: String,
    /// The other: the one whose keys begin where the first one's end, or end where they begin
    #[arg(value_name = "WITH")]
    with: String,
    /// One object instead of a sentence
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    of: Where,
}

/// Runs `weir shards`.
pub async fn list(options: List) -> Result<Answer, Failure> {
    let format = options.output.format()?;
    let client = Client::connect(&options.of, Purpose::Read).await?;
    let found = client.json(Method::GET, "/shards", Bytes::new()).await;
    client.close().await?;
    let mut items: Vec<Value> = found?["shards"].as_array().cloned().unwrap_or_default();
    match format {
        Format::Table => items.iter_mut().for_each(words),
        Format::Csv => items.iter_mut().for_each(flat),
        Format::Json => {}
    }
    let mut printer = Printer::new(format, if format == Format::Table { &TABLE } else { &CSV });
    printer.items(&items)?;
    printer.end("no shards")?;
    if format == Format::Table && items.iter().any(|item| text(item, "foldedThrough").starts_with('…')) {
        eprintln!(
            "positions are cut to their last {DIGITS_SHOWN} digits: -o json has them whole, and GET /health says how far behind a weir is"
        );
    }
    Ok(Answer::Yes)
}

fn text<'a>(item: &'a Value, field: &str) -> &'a str {
    item[field].as_str().unwrap_or_default()
}

/// Of an item what a person reads.
fn words(item: &mut Value) {
    let key = |field: &str| item[field].as_str().and_then(|key| key.parse::<u128>().ok()).unwrap_or(0);
    let percent = |key: u128| key as f64 / u128::MAX as f64 * 100.0;
    let keys = format!("{:.1}-{:.1} %", percent(key("startingHashKey")), percent(key("endingHashKey")));
    let through = text(item, "foldedThrough");
    let through = match through.len().checked_sub(DIGITS_SHOWN) {
        Some(cut @ 1..) => format!("…{}", through.get(cut..).unwrap_or(through)),
        _ => through.to_owned(),
    };
    item["foldedThrough"] = json!(through);
    item["keys"] = json!(keys);
    flat(item);
}

/// A list in one field.
fn flat(item: &mut Value) {
    let parents: Vec<&str> = item["parents"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    item["parents"] = json!(parents.join(" "));
}

/// Runs `weir split`.
pub async fn split(options: Split) -> Result<Answer, Failure> {
    change(&options.of, &format!("/split?shard={}", escaped(&options.shard)), &options.shard, options.json).await
}

/// Runs `weir merge`.
pub async fn merge(options: Merge) -> Result<Answer, Failure> {
    let path = format!("/merge?shard={}&with={}", escaped(&options.shard), escaped(&options.with));
    change(&options.of, &path, &format!("{} and {}", options.shard, options.with), options.json).await
}

async fn change(of: &Where, path: &str, old: &str, json: bool) -> Result<Answer, Failure> {
    let client = Client::connect(of, Purpose::Verify).await?;
    let made = client.json(Method::POST, path, Bytes::new()).await;
    client.close().await?;
    let made = made?;
    if json {
        say(&made.to_string())?;
    } else {
        let made: Vec<&str> = made["shards"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let (verb, have) = if old.contains(' ') { ("are", "has") } else { ("is", "have") };
        say(&format!("{old} {verb} closed; {} {have} the keys from now on", made.join(" and ")))?;
    }
    Ok(Answer::Yes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_of_kinesis_is_cut_for_people_and_whole_for_programs() {
        let whole = "49640000000000000000000000000000012345678901234567890123";
        let (mut shown, mut listed) = (json!({"foldedThrough": whole, "parents": ["a", "b"]}), json!({"parents": []}));
        let mut short = json!({"foldedThrough": "77"});
        flat(&mut listed);
        assert_eq!(listed["parents"], "");
        words(&mut shown);
        words(&mut short);
        assert_eq!(shown["foldedThrough"], "…45678901234567890123");
        assert_eq!((&shown["parents"], &short["foldedThrough"]), (&json!("a b"), &json!("77")));
    }
}
