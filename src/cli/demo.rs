//! `weir demo`: a temporary folder, a real log and what became of it, then made-up services at a lively pace, until Ctrl-C.

use std::{
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use bytes::Bytes;
use hyper::Method;
use projections::when::Second;
use weir::Options;

use super::{
    Answer, Failure, Format, Output, Where,
    client::Client,
    ingest::sentence,
    metrics,
    output::{called, say},
    pair::Pair,
    progress,
    sending::Run,
    up::{DEFAULT_LISTEN, Serving, listen, listen_address},
};

/// 10,000 lines of a real web server's access log: where it is from stands in the README.md beside it.
const REAL: &[u8] = include_bytes!("../../tests/data/apache_logs.log.gz");
/// The service of its lines, which name none.
const REAL_SERVICE: &str = "apache_logs";
/// Two of its hours are shown.
const SHOWN: (&str, &str) = ("2015-05-20T15:00:00Z", "2015-05-20T17:00:00Z");
/// Lines a second of the last hour, and from then on.
const LINES_A_SECOND: u64 = 8;
/// How long the sample may take until it can be read; the demo goes on all the same.
const READABLE: Duration = Duration::from_secs(30);
/// So long after a full minute what its tick says is folded, too.
const EVALUATED_SECS: i64 = 2;
/// An alarm that the sample's bad minutes set off.
const ALARM: &str = r#"{"AlarmName": "checkout-errors", "ServiceName": "checkout", "MetricName": "errors", "Statistic": "Sum", "Period": 60,
    "EvaluationPeriods": 3, "DatapointsToAlarm": 2, "Threshold": 5, "ComparisonOperator": "GreaterThanOrEqualToThreshold"}"#;

/// Removes the folder when the demo ends, also when it fails.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Options of `weir demo`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Address to serve on; port 0 takes any free one
    #[arg(long, default_value = DEFAULT_LISTEN, value_name = "IP:PORT", value_parser = listen_address)]
    listen: SocketAddr,
}

/// Runs the command.
pub async fn run(options: Args) -> Result<Answer, Failure> {
    let listener = listen(options.listen).await?;
    let folder = Folder(std::env::temp_dir().join(format!("weir-demo-{}", std::process::id())));
    let system = progress::open(&folder.0, Options::default()).await.map_err(|error| Failure::of(&error))?;
    let serving = Serving::start(system, listener, api::Access::Open).await?;
    let client = Client::Here {
        system: serving.system().clone(),
        router: api::router(serving.system().clone(), api::Access::Open),
    };
    real(&client, &serving.url).await?;
    client.json(Method::POST, "/definitions", Bytes::from_static(ALARM.as_bytes())).await?;
    let now = weir::now_ms() / 1000;
    send(&client, now - 3600, now).await?;
    // Whoever tries at once what is proposed below is to see something.
    let readable = serving.system().caught_up(READABLE).await;
    readable.map_err(|error| Failure::of(&error))?;
    let evaluated = Second((weir::now_ms() / 60_000 + 1) * 60 + EVALUATED_SECS);
    let (url, folder_name, weir) = (serving.url.clone(), folder.0.display().to_string(), called());
    say(&format!(
        "\nBeside it, four made-up services log {LINES_A_SECOND} lines a second, and the last hour of them is in.\n\
         weir demo serves {url}  (open it for a chart; Ctrl-C ends it and removes {folder_name})\n\n\
         Try in another terminal:\n\
         \x20 {weir} metrics --url {url} --service checkout --metric latency --since 15m\n\
         \x20 {weir} metrics --url {url} --metric errors --period 300 -o json\n\
         \x20 {weir} alarms  --url {url} checkout-errors\n\
         \x20 {weir} ingest  --url {url} /var/log/*.log\n\
         \x20 {weir} verify  --url {url}\n\
         \x20 curl '{url}/metrics?service=checkout&timeRange=1h'\n\n\
         The alarm is evaluated after each full minute, first at {evaluated}."
    ))?;
    let lively = tokio::spawn(async move {
        let mut from = now;
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let to = weir::now_ms() / 1000;
            // A send that fails ends with the server, which says why.
            if send(&client, from, to).await.is_err() {
                return;
            }
            from = to;
        }
    });
    let abort = lively.abort_handle();
    let answer = serving.until_told_after(move || abort.abort()).await;
    drop(folder);
    answer
}

/// Reads the real log and prints what became of it, as the commands would.
async fn real(client: &Client, url: &str) -> Result<(), Failure> {
    let begun = Instant::now();
    let run = Run::new(client);
    let path = format!("{}&service={REAL_SERVICE}", run.path());
    client.json(Method::POST, &path, Bytes::from_static(REAL)).await?;
    let balance = run.settled(true).await?;
    let ((from, to), weir) = (SHOWN, called());
    say(&format!(
        "A real web server's access log of May 2015, which is part of this program, became metrics in {:.1} s:\n{}\n\n\
         $ {weir} metrics --url {url} --service {REAL_SERVICE} --start {from} --end {to} --period 3600",
        begun.elapsed().as_secs_f64(),
        sentence(&balance)
    ))?;
    let shown = metrics::Args {
        service: Some(REAL_SERVICE.into()),
        metric: None,
        namespace: None,
        start: Some(from.into()),
        end: Some(to.into()),
        since: None,
        period: "3600".into(),
        output: Output { output: None, json: false },
        of: Where { data: None, url: None, token: None, pair: Pair::default() },
    };
    metrics::print(client, &shown, Format::Table).await.map(|_| ())
}

/// Sends the sample of these seconds.
async fn send(client: &Client, from_secs: i64, to_secs: i64) -> Result<(), Failure> {
    let text: String =
        (from_secs..to_secs).flat_map(|second| (0..LINES_A_SECOND).map(move |i| line(second, i))).collect();
    if !text.is_empty() {
        client.json(Method::POST, "/ingest?service=demo", Bytes::from(text)).await?;
    }
    Ok(())
}

/// One line: four services, a daily swing of latency, and for two minutes in every twenty a checkout that fails.
fn line(second: i64, number: u64) -> String {
    let mut state = (second as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ number.wrapping_mul(0xD1B5_4A32_D192_ED03);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state >> 11
    };
    let service = ["checkout", "cart", "search", "auth"][(next() % 4) as usize];
    let is_bad = service == "checkout" && second / 60 % 20 < 2 && next() % 3 == 0;
    let swing = 1.0 + 0.5 * (second as f64 / 600.0).sin();
    let spread = (next() % 1000) as f64 / 1000.0;
    let latency = 12.0 * swing / (1.001 - spread).sqrt() * if is_bad { 8.0 } else { 1.0 };
    let (level, status) = if is_bad { ("ERROR", 503) } else { ("INFO", 200) };
    format!(
        "{{\"timestamp\":{second}.{:03},\"level\":\"{level}\",\"service\":\"{service}\",\"status\":{status},\"latency_ms\":{latency:.3},\
         \"message\":\"handled request\"}}\n",
        number * 100 % 1000
    )
}
