//! All parts together: `weir ingest`'s path in this process, replay, queries, checkpoints, memory.

use std::{
    io::{Cursor, Write},
    num::NonZeroU16,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Once},
    time::Duration,
};

use axum::{Router, body::Body};
use bytes::Bytes;
use events::{
    embedded::{self as stream, disk::RealDisk},
    identity::LOCAL_TENANT,
    pack::{Packed, Target},
    position::ShardId,
    stream::ReadOnly,
    wire::Codec,
};
use http_body_util::BodyExt;
use hyper::{Method, Request, StatusCode};
use processor::{
    consume::Worker,
    effects::Sink,
    ingest::{Options, Progress, ReaderList, SendError, Sender, ingest},
};
use projections::{
    embedded::Embedded as Rows,
    fold::{CHANGED_ROWS_MAX, Effect, Input, Place},
    query,
    store::Generation,
};
use serde_json::Value;
use tokio::runtime::Runtime;
use weir::System;
use xxhash_rust::xxh3::Xxh3;

use crate::{
    alone::BATCH_BYTES,
    generate::{Format, generate},
    measure::{Cost, checked, cost, memory_max_mb, report},
};

/// As the program's own.
pub fn runtime() -> Runtime {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime of two threads")
}

/// What the command line does where no other process has the folder open: requests to the routes, without a socket.
struct Here {
    router: Router,
}

impl Here {
    async fn ask(&self, method: Method, path: &str, body: Bytes) -> (StatusCode, Bytes) {
        let request =
            Request::builder().method(method).uri(path).body(Body::from(body)).expect("a request of fixed text");
        let mut service = self.router.clone().into_service::<Body>();
        let Ok(answer) = tower_service::Service::call(&mut service, request).await;
        let (head, body) = answer.into_parts();
        let body = body.collect().await.expect("the answer is whole").to_bytes();
        (head.status, body)
    }

    async fn json(&self, path: &str) -> Value {
        let (status, body) = self.ask(Method::GET, path, Bytes::new()).await;
        assert_eq!(status, StatusCode::OK, "{path}: {}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).expect("the routes answer JSON")
    }
}

impl Sender for Here {
    async fn send(&self, packed: Packed) -> Result<(), SendError> {
        let (status, body) = self.ask(Method::POST, "/ingest?run=bench", packed.data).await;
        if status.is_success() {
            Ok(())
        } else {
            Err(SendError::Unavailable(String::from_utf8_lossy(&body).into_owned()))
        }
    }
}

/// Ingests a file into a new folder and closes it; the number of lines.
async fn ingest_file(folder: &Path, file: &Path, shards: u16) -> u64 {
    let options = weir::Options { shards: NonZeroU16::new(shards), ..weir::Options::default() };
    let system = Arc::new(System::open(folder, options).await.expect("a new folder opens"));
    let here = Here { router: api::router(system.clone(), api::Access::Open) };
    let list = Arc::new(ReaderList::open(&folder.join("readers"), 1, true).expect("a new list opens"));
    let settings = Options {
        tenant: LOCAL_TENANT.into(),
        service: None,
        as_name: None,
        again: false,
        codec: Codec::None,
        target: Target::Lines(BATCH_BYTES),
        now_ms: weir::now_ms(),
        definitions: None,
    };
    let stdin = Box::new(Cursor::new(vec![]));
    let report = ingest(vec![file.to_owned()], stdin, settings, list, &here, Arc::<Progress>::default()).await;
    assert_eq!(report.failed().count(), 0, "{report:?}");
    let balance = loop {
        let balance = here.json("/runs/bench").await;
        if balance["settled"] != Value::Bool(false) {
            break balance;
        }
    };
    assert_eq!(balance["accepted"].as_u64(), Some(report.lines_sent), "accepted is not what was sent: {balance}");
    drop(here);
    let system = Arc::try_unwrap(system).ok().expect("no request is under way");
    assert_eq!(tokio::task::spawn_blocking(move || system.close()).await.expect("closing does not panic"), None);
    report.lines_sent
}

fn digest_of(rows: &Rows) -> String {
    runtime().block_on(query::digest(rows, Generation::default())).expect("the rows can be read")
}

fn digest(folder: &Path) -> String {
    digest_of(&Rows::open(&folder.join("rows.redb")).expect("the rows open"))
}

fn length(file: &Path) -> u64 {
    std::fs::metadata(file).expect("the file is there").len()
}

/// The whole job in this process.
pub fn end_to_end(folder: &Path, file: &Path, shards: u16) {
    println!(
        "end-to-end: file, packer, routes, durable append, tail, fold, rows durable, closed; {shards} shard{}. Leaves out: the command line's \
         start, a socket, a cold disk.",
        if shards == 1 { "" } else { "s" }
    );
    let inner = folder.join(format!("data-{shards}"));
    let _ = std::fs::remove_dir_all(&inner);
    let (_, cost) = cost(|| runtime().block_on(ingest_file(&inner, file, shards)));
    let memory = memory_max_mb();
    report(&format!("end-to-end, {shards} shard(s)"), length(file), cost, &digest(&inner));
    println!("  wall {:.0} MB/s, most memory {memory:.1} MB", length(file) as f64 / 1e6 / cost.wall.as_secs_f64());
}

/// Runs the whole job in a process of its own, and returns what follows each of these words in what it says.
fn apart<const N: usize>(file: &Path, folder: &Path, args: &[&str], words: [&str; N]) -> [String; N] {
    let mut command = Command::new(std::env::current_exe().expect("a program knows where it lies"));
    command.args(["--bench", "end-to-end", "--file"]).arg(file).arg("--dir").arg(folder).args(args);
    let said = command.output().expect("the bench starts itself");
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let text = String::from_utf8_lossy(&said.stdout);
    words.map(|word| {
        let (_, rest) = text.split_once(word).unwrap_or_else(|| panic!("no `{word}` in {text}"));
        rest.split_whitespace().next().unwrap_or_default().to_owned()
    })
}

/// Two shards on all cores against one shard in a process held on one core.
pub fn shards(folder: &Path, file: &Path, rounds: usize) {
    println!(
        "shards: end-to-end with two shards and all cores, against one shard and one core, each in a process of its own, in turn; the least wall \
         time of {rounds} round(s). Wall time: only a calm machine says something."
    );
    let inner = folder.join("shards");
    let mut best = [f64::INFINITY; 2];
    for _ in 0..rounds {
        let ways = [["--shards", "1", "--core", "0"].as_slice(), &["--shards", "2"]];
        let said = ways.map(|args| apart(file, &inner, args, ["wall ", "cpu ", "check "]));
        assert_eq!(said[0][2], said[1][2], "two shards came to other rows");
        for (best, [wall, cpu, _]) in best.iter_mut().zip(&said) {
            let wall = wall.parse().expect("seconds");
            println!("  wall {wall:.3} s, cpu {cpu} s");
            *best = best.min(wall);
        }
    }
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    println!("shards: two on {cores} cores are {:.2} times as quick as one on one core", best[0] / best[1]);
}

/// Carries out nothing: one shard has nobody to tell.
struct Nowhere;

impl Sink for Nowhere {
    async fn carry_out(&mut self, _: &ShardId, _: Vec<Effect>) -> Result<(), String> {
        Ok(())
    }

    fn admit(&mut self, input: Input) -> Option<Input> {
        Some(input)
    }
}

type Reader = ReadOnly<weir::LocalStream>;

fn open_stream(folder: &Path) -> Reader {
    let disk = RealDisk::in_folder(folder.join("stream")).expect("the stream's folder is there");
    ReadOnly::new(Arc::new(
        weir::LocalStream::open(disk, weir::now_ms, stream::Options::default()).expect("the stream opens"),
    ))
}

/// Folds the whole stream into a new store; commits whenever `is_due` says so of the records since the last commit, and at the end.
async fn refold(stream: &Reader, rows: Arc<Rows>, is_due: impl Fn(usize, usize) -> bool) -> u64 {
    let mut commits = 0;
    for shard in stream.shards().await.expect("the stream has shards") {
        let place = Place { generation: Generation::default(), shard: shard.id, ring: vec![] };
        let mut worker = Worker::open(stream.clone(), rows.clone(), Nowhere, place).await.expect("a new worker");
        let mut since = 0;
        loop {
            let step = worker.step(Duration::ZERO).await.expect("the stream can be folded");
            since += step.folded.len();
            if is_due(since, worker.shard().changed_rows()) || step.caught_up {
                worker.commit().await.expect("the rows can be written");
                commits += 1;
                since = 0;
            }
            if step.caught_up {
                break;
            }
        }
    }
    commits
}

fn refolded(folder: &Path, is_due: impl Fn(usize, usize) -> bool) -> (String, u64, Cost) {
    let stream = open_stream(folder);
    let path = folder.join("replayed.redb");
    let rows = Arc::new(Rows::open(&path).expect("a new store opens"));
    let (commits, cost) = cost(|| runtime().block_on(refold(&stream, rows.clone(), is_due)));
    let digest = digest_of(&rows);
    drop(rows);
    std::fs::remove_file(path).expect("it was made here");
    (digest, commits, cost)
}

/// From the embedded stream to rows, as `weir verify` does before it compares.
pub fn replay(folder: &Path, file: &Path) {
    println!(
        "replay: the embedded stream from its files to durable rows in a new store, one shard after the other. Leaves out: comparing, a cold disk."
    );
    let inner = made(folder, file);
    let (replayed, _, cost) = refolded(&inner, |_, changed| changed >= CHANGED_ROWS_MAX);
    assert_eq!(replayed, digest(&inner), "the replay came to other rows");
    report("replay", length(file), cost, &replayed);
}

/// What checkpoints add to the same fold.
pub fn checkpoint(folder: &Path, file: &Path) {
    println!(
        "checkpoint: the replay with a durable commit for every so many batches, and with as few as memory allows. At a pace of 10,000 lines a \
         second ten seconds are some 53 batches; at full speed, thousands. Leaves out: waiting for the disk (it is no CPU)."
    );
    let inner = made(folder, file);
    let (check, commits, few) = refolded(&inner, |_, changed| changed >= CHANGED_ROWS_MAX);
    report(&format!("{commits} commits: as memory asks"), length(file), few, &check);
    for batches in [530, 53] {
        let (digest, commits, many) =
            refolded(&inner, |since, changed| since >= batches || changed >= CHANGED_ROWS_MAX);
        assert_eq!(digest, check, "when rows are committed must not matter");
        report(&format!("{commits} commits: each {batches} batches"), length(file), many, &digest);
        let more = 100.0 * (many.cpu.as_secs_f64() / few.cpu.as_secs_f64() - 1.0);
        println!("  {more:+.1} % CPU");
    }
}

/// A folder with the file in it, in one shard; made once in a run, never taken over from an earlier one: that may have had another file.
fn made(folder: &Path, file: &Path) -> PathBuf {
    static MADE: Once = Once::new();
    let inner = folder.join("data-made");
    MADE.call_once(|| {
        let _ = std::fs::remove_dir_all(&inner);
        runtime().block_on(ingest_file(&inner, file, 1));
    });
    inner
}

/// `GET /metrics` of one service, 24 hours, one metric, a point a minute.
pub fn query(folder: &Path, file: &Path, times: usize) {
    println!(
        "query: GET /metrics, one service, 24 h, 1-minute points, all pages, JSON written. Leaves out: the socket and HTTP's own parsing."
    );
    let inner = made(folder, file);
    runtime().block_on(async {
        let system = Arc::new(System::open(&inner, weir::Options::default()).await.expect("the folder opens"));
        let here = Here { router: api::router(system.clone(), api::Access::Open) };
        let range = "startTime=2026-01-01T00:00:00Z&endTime=2026-01-02T00:00:00Z&period=60";
        for (metric, statistics) in [("requests", "sum"), ("latency", "p50,p95,p99"), ("latency", "")] {
            let statistics = if statistics.is_empty() { String::new() } else { format!("&statistics={statistics}") };
            let path = format!("/metrics?service=auth-api&metric={metric}&{range}{statistics}");
            let mut check = Xxh3::new();
            let (mut points, mut bytes, mut requests) = (0, 0, 0);
            let (mut cpu, mut wall) = (Duration::ZERO, Duration::ZERO);
            for _ in 0..times {
                let mut token = String::new();
                loop {
                    let path = format!("{path}{token}");
                    let (cpu_before, asked) = (crate::measure::cpu(), std::time::Instant::now());
                    let (status, body) = here.ask(Method::GET, &path, Bytes::new()).await;
                    (cpu, wall) = (cpu + (crate::measure::cpu() - cpu_before), wall + asked.elapsed());
                    assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&body));
                    // What stands behind the items names positions of this run.
                    check.update(items(&body));
                    (requests, bytes) = (requests + 1, bytes + body.len());
                    let (found, next) = page(&body);
                    points += found;
                    match next {
                        Some(next) => token = format!("&nextToken={next}"),
                        None => break,
                    }
                }
            }
            // Not its bytes: positions of this run are more or less long.
            checked(&format!("query {metric} {statistics}"), &format!("{points} {:016x}", check.digest()));
            let each = |time: Duration| time.as_secs_f64() * 1e3 / times as f64;
            println!(
                "query {metric:9}{statistics:26} {:7.3} ms cpu  {:7.3} ms wall  for {} points in {} requests  check {points}/{bytes}/{:016x}",
                each(cpu),
                each(wall),
                points / times,
                requests / times,
                check.digest()
            );
        }
        drop(here);
        let system = Arc::try_unwrap(system).ok().expect("no request is under way");
        tokio::task::spawn_blocking(move || system.close()).await.expect("closing does not panic");
    });
}

/// What an answer says without the positions of this run, which stand behind the items.
fn items(body: &[u8]) -> &[u8] {
    let end = body.iter().rposition(|byte| *byte == b']').expect("an answer has a list of items");
    &body[..end]
}

/// Points and token of an answer, without reading it as JSON: the client's work is not the server's.
fn page(body: &[u8]) -> (usize, Option<&str>) {
    let text = str::from_utf8(body).expect("JSON is UTF-8");
    let next = text.rsplit_once("\"nextToken\":\"").and_then(|(_, rest)| rest.split_once('"')).map(|(token, _)| token);
    (text.matches("\"timestamp\":").count(), next)
}

/// The most memory that the job takes, each time in a process of its own.
pub fn memory(folder: &Path, lines: u64, small: bool) {
    println!(
        "memory: end-to-end over one day and over ten, the same number of lines, then ten times as many. Leaves out: memory of the page cache."
    );
    let cases = [(1, lines), (10, lines), (10, 10 * lines)];
    for (days, lines) in cases.into_iter().take(if small { 1 } else { cases.len() }) {
        let file = folder.join("days.jsonl");
        write(&file, Format::Json, lines, days);
        for shards in ["1", "2"] {
            let [memory] = apart(&file, &folder.join("days"), &["--shards", shards], ["most memory "]);
            println!("memory, {days} day(s), {lines} lines, {shards} shard(s): {memory} MB");
        }
        let _ = std::fs::remove_file(file);
    }
}

/// Writes a file of generated lines.
pub fn write(file: &Path, format: Format, lines: u64, days: u64) {
    let made = std::fs::File::create(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let mut out = std::io::BufWriter::with_capacity(1 << 20, made);
    generate(&mut out, format, lines, days).expect("room on the disk");
    out.flush().expect("room on the disk");
}
