//! `weir metrics`: asks for pages and prints them.

use bytes::Bytes;
use hyper::Method;
use projections::when;

use super::{
    Answer, Failure, Format, Output, Where,
    client::{Client, Purpose, escaped},
    near,
    output::{Column, Printer},
};

/// A table of more rows says nothing to a person; JSON and CSV print all.
const TABLE_ROWS_MAX: usize = 500;

static TABLE: [Column; 12] = [
    Column::left("TIME", "timestamp"),
    Column::left("SERVICE", "service"),
    Column::left("METRIC", "metric"),
    Column::left("DIMENSIONS", "dimensions"),
    Column::right("COUNT", "count"),
    Column::right("SUM", "sum"),
    Column::right("AVERAGE", "average"),
    Column::right("P50", "p50"),
    Column::right("P95", "p95"),
    Column::right("P99", "p99"),
    Column::right("MAX", "max"),
    Column::left("UNIT", "unit"),
];

static CSV: [Column; 16] = [
    Column::left("", "service"),
    Column::left("", "namespace"),
    Column::left("", "metric"),
    Column::left("", "dimensions"),
    Column::left("", "timestamp"),
    Column::left("", "period"),
    Column::left("", "count"),
    Column::left("", "sum"),
    Column::left("", "min"),
    Column::left("", "max"),
    Column::left("", "average"),
    Column::left("", "p50"),
    Column::left("", "p90"),
    Column::left("", "p95"),
    Column::left("", "p99"),
    Column::left("", "unit"),
];

/// Options of `weir metrics`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Only this service
    #[arg(long, value_name = "NAME")]
    pub(super) service: Option<String>,
    /// Only this metric, such as requests, errors, latency
    #[arg(long, value_name = "NAME")]
    pub(super) metric: Option<String>,
    /// Only this namespace
    #[arg(long, value_name = "NAME")]
    pub(super) namespace: Option<String>,
    /// First time: RFC 3339, a date, epoch seconds or milliseconds, now, -15m [default: the first there is]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(super) start: Option<String>,
    /// First time that is not wanted [default: the last there is]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(super) end: Option<String>,
    /// From so long ago until now, such as 15m, 1h, 7d
    #[arg(long, value_name = "SPAN", conflicts_with = "start")]
    pub(super) since: Option<String>,
    /// Seconds of one window: 60, 300 or 3600
    #[arg(long, default_value = "60", value_parser = ["60", "300", "3600"])]
    pub(super) period: String,
    #[command(flatten)]
    pub(super) output: Output,
    #[command(flatten)]
    pub(super) of: Where,
}

/// Runs the command.
pub async fn run(options: Args) -> Result<Answer, Failure> {
    let format = options.output.format()?;
    check_times(&options)?;
    let client = Client::connect(&options.of, Purpose::Read).await?;
    let answer = print(&client, &options, format).await;
    client.close().await?;
    answer
}

/// Times are read where the answer is made; here only so that a wrong one is named by the option that has it.
fn check_times(options: &Args) -> Result<(), Failure> {
    for (option, text) in [("--start", &options.start), ("--end", &options.end)] {
        if let Some(text) = text {
            when::parse(text, weir::now_ms()).map_err(|error| Failure::new(format!("{option}: {error}")))?;
        }
    }
    if let Some(since) = &options.since {
        let span = since.trim_start_matches('-');
        when::span_secs(span).map_err(|error| Failure::new(format!("--since: {error}")))?;
    }
    Ok(())
}

fn query(options: &Args) -> String {
    let start = match (&options.start, &options.since) {
        (Some(start), _) => start.clone(),
        (None, Some(since)) => format!("-{}", since.trim_start_matches('-')),
        (None, None) => "1970-01-01".to_owned(),
    };
    let end =
        options.end.clone().unwrap_or_else(|| if options.since.is_some() { "now".into() } else { "9999-01-01".into() });
    let mut query =
        format!("/metrics?startTime={}&endTime={}&period={}", escaped(&start), escaped(&end), options.period);
    for (name, value) in [("service", &options.service), ("metric", &options.metric), ("namespace", &options.namespace)]
    {
        if let Some(value) = value {
            query.push_str(&format!("&{name}={}", escaped(value)));
        }
    }
    query
}

/// A refusal of the API names its parameters; who typed the command knows options.
fn in_options(refusal: &Failure, options: &Args) -> Failure {
    let start = if options.since.is_some() { "--since" } else { "--start" };
    Failure::new(refusal.to_string().replace("startTime", start).replace("endTime", "--end"))
}

/// Asks for the pages and prints them.
pub async fn print(client: &Client, options: &Args, format: Format) -> Result<Answer, Failure> {
    let mut printer = Printer::new(format, if format == Format::Table { &TABLE } else { &CSV });
    let query = query(options);
    let (mut next, mut printed, mut cut): (Option<String>, usize, bool) = (None, 0, false);
    loop {
        let limit = if format == Format::Table { TABLE_ROWS_MAX } else { 1000 };
        let token = next.map(|token| format!("&nextToken={}", escaped(&token))).unwrap_or_default();
        let page = client.answer(Method::GET, &format!("{query}&limit={limit}{token}"), Bytes::new()).await?;
        let page = page.map_err(|refused| in_options(&refused.why, options))?;
        let items = page["items"].as_array().cloned().unwrap_or_default();
        printed += items.len();
        printer.items(&items)?;
        next = page["nextToken"].as_str().map(str::to_owned);
        if next.is_none() {
            break;
        }
        if format == Format::Table && printed >= TABLE_ROWS_MAX {
            cut = true;
            break;
        }
    }
    let empty = match printed {
        0 => near::hint(client, options.service.as_deref(), options.metric.as_deref()).await?,
        _ => String::new(),
    };
    printer.end(&empty)?;
    if printed == 0 && format != Format::Table {
        eprintln!("{empty}");
    }
    if cut {
        eprintln!(
            "… these are the first {printed} rows. Fewer: --service, --metric, --since, --period 3600. All of them: -o json or -o csv"
        );
    }
    Ok(Answer::Yes)
}
