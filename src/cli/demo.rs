//! `weir demo`: a temporary folder, an hour of sample logs at once and then a lively stream of them, until Ctrl-C.

use std::{path::PathBuf, time::Duration};

use bytes::Bytes;
use hyper::Method;
use weir::Options;

use super::{
    Answer, Demo, Failure,
    client::Client,
    output::say,
    progress,
    up::{Serving, listen},
};

/// Lines a second of the last hour, and from then on.
const LINES_A_SECOND: u64 = 8;
/// How long the sample may take until it can be read; the demo goes on all the same.
const READABLE: Duration = Duration::from_secs(30);
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

/// Runs the command.
pub async fn run(options: Demo) -> Result<Answer, Failure> {
    let listener = listen(options.listen).await?;
    let folder = Folder(std::env::temp_dir().join(format!("weir-demo-{}", std::process::id())));
    let system = progress::open(&folder.0, Options::default()).await.map_err(|error| Failure::of(&error))?;
    let serving = Serving::start(system, listener, api::Access::Open)?;
    let client = Client::Here {
        system: serving.system().clone(),
        router: api::router(serving.system().clone(), api::Access::Open),
    };
    client.json(Method::POST, "/definitions", Bytes::from_static(ALARM.as_bytes())).await?;
    let now = weir::now_ms() / 1000;
    send(&client, now - 3600, now).await?;
    // Whoever tries at once what is proposed below is to see something.
    let readable = serving.system().caught_up(READABLE).await;
    readable.map_err(|error| Failure::of(&error))?;
    let (url, folder_name) = (serving.url.clone(), folder.0.display().to_string());
    say(&format!(
        "weir demo serves {url}  (open it for a chart; Ctrl-C ends it and removes {folder_name})\n\n\
         Try in another terminal:\n\
         \x20 weir metrics --url {url} --service checkout --metric latency --since 15m\n\
         \x20 weir metrics --url {url} --metric errors --period 300 -o json\n\
         \x20 weir alarms  --url {url} checkout-errors\n\
         \x20 weir ingest  --url {url} /var/log/*.log\n\
         \x20 weir verify  --url {url}\n\
         \x20 curl '{url}/metrics?service=checkout&timeRange=1h'"
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
