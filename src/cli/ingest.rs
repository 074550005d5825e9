//! `weir ingest`: reads files, sends their batches, and waits until all of it is folded and readable. The last line printed is the balance.

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use events::identity::LOCAL_TENANT;
use hyper::Method;
use processor::ingest::{self, FileError, Inputs, Options, Progress, ReaderList, Report, list::ListError};
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

use super::{
    Answer, Failure, Where,
    buckets::{self, Prepared},
    client::{Client, Purpose, data_folder},
    held_up,
    output::{called, counted, say},
    progress,
    sending::{Run, random},
};

/// Messages about one kind of finding that are printed one by one.
const LISTED_MAX: usize = 20;

/// Options of `weir ingest`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Files, folders, patterns, or - for standard input; s3://BUCKET/KEY for an object or all below it, s3://BUCKET/KEY* for all whose keys begin
    /// so. gzip and zstd are told by their bytes
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Service of lines that name none [default: from the file's name]
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Identity of the one input, by hand: bytes that came under this name before are not counted again
    #[arg(long = "as", value_name = "NAME")]
    pub(super) as_name: Option<String>,
    /// Count files again that were read before
    #[arg(long, conflicts_with = "as_name")]
    pub(super) again: bool,
    /// Read from buckets without being asked, whatever it costs; what it will cost is said all the same
    #[arg(long)]
    pub(super) yes: bool,
    /// Read from buckets whose owner has who reads them pay for calls and transfer
    #[arg(long)]
    pub(super) requester_pays: bool,
    #[command(flatten)]
    to: Where,
}

/// Runs the command.
pub async fn run(options: Args) -> Result<Answer, Failure> {
    if options.as_name.is_some() && options.paths.len() != 1 {
        return Err(Failure::new("--as names one input: give one PATH"));
    }
    let (names, paths) = buckets::split(&options.paths);
    buckets::check(&names, &options)?;
    // A pair is made for something that goes into it.
    if names.is_empty()
        && paths.iter().all(|path| is_missing(path))
        && options.to.url().is_none()
        && options.to.pair()?.is_some()
    {
        let named: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
        return Err(Failure::new(format!("{}: there is no such file, and nothing was made or read", named.join(", "))));
    }
    let client = Client::connect(&options.to, Purpose::Add).await?;
    let answer = held_up::beside(&client, read(&client, &options)).await;
    client.close().await?;
    answer
}

/// Nothing has this name. What stands for other names, or for standard input, is found out when it is read.
fn is_missing(path: &Path) -> bool {
    let stands_for_others = path.as_os_str() == "-" || path.to_string_lossy().contains(['*', '?', '[']);
    !stands_for_others
        && std::fs::symlink_metadata(path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

/// What is read until somebody else ends it is said: without a word it looks as if the program hung.
fn tell_pipes(paths: &[PathBuf]) {
    for path in paths {
        if path.as_os_str() == "-" && std::io::stdin().is_terminal() {
            eprintln!("reading standard input: Ctrl-D on a line of its own ends it");
        } else if is_named_pipe(path) {
            eprintln!("{} is a pipe: it is read until whoever writes into it closes it", path.display());
        }
    }
}

/// One that lies on the disk; what a shell makes for `<(command)` is seen behind a link, and needs no word.
fn is_named_pipe(path: &Path) -> bool {
    #[cfg(unix)]
    return std::fs::symlink_metadata(path)
        .is_ok_and(|about| std::os::unix::fs::FileTypeExt::is_fifo(&about.file_type()));
    #[cfg(not(unix))]
    false
}

/// On a terminal: how to see what came of it.
fn tell_next(options: &Args) {
    if std::io::stdout().is_terminal() && std::io::stderr().is_terminal() {
        let named = options.to.pair.named().ok().flatten();
        let of = match (&options.to.url, &options.to.data) {
            _ if named.is_some() && options.to.url().is_none() => {
                named.map(|pair| format!(" --stream {} --store {}", pair.stream, pair.store)).unwrap_or_default()
            }
            (Some(url), _) => format!(" --url {url}"),
            (None, Some(data)) => format!(" --data {}", data.display()),
            (None, None) => String::new(),
        };
        eprintln!("next: {} metrics --period 3600{of}", called());
    }
}

/// The list of what was read into the system that the client speaks to, for this tenant: what one has read says nothing about another.
fn reader_list(client: &Client, folder: &Path, options: &Args, tenant: &str) -> Result<ReaderList, Failure> {
    let system = match client {
        // Through a running `weir up` of the folder or without one: the same list.
        Client::Here { system, .. } => system.lists().to_owned(),
        Client::There { .. } if is_of(client, folder) => weir::LISTS.to_owned(),
        Client::There { .. } => format!("{}{:016x}", weir::LISTS_ELSEWHERE, xxh3_64(client.name().as_bytes())),
    };
    let of = if tenant == LOCAL_TENANT { String::new() } else { format!("-of-{tenant}") };
    let own = folder.join(format!("{system}{of}"));
    if let Client::Here { system, .. } = client
        && !system.is_local()
        && !system.is_new()
        && options.as_name.is_none()
        && !own.exists()
        // An object is known to the stream by what it is, whatever a folder knows.
        && !buckets::split(&options.paths).1.is_empty()
    {
        eprintln!(
            "warning: in the cache folder {} no file is known that was read into this stream: a file that was read with another cache folder counts \
             again. Keep the folder, or give files a name with --as NAME",
            folder.display()
        );
    }
    if options.again {
        ReaderList::begin_anew(&own).map_err(|error| Failure::of(&error))?;
    }
    let list = match ReaderList::open(&own, random(), true) {
        // What has a name by hand is known to the stream, and needs no list.
        Err(ListError::Lost { .. }) if options.as_name.is_some() => {
            ReaderList::open(&folder.join(format!("{system}-named{of}")), random(), true)
        }
        opened => opened,
    };
    list.map_err(|error| Failure::of(&error))
}

fn is_of(client: &Client, folder: &Path) -> bool {
    weir::serving(folder).is_some_and(|address| address == client.name())
}

async fn read(client: &Client, options: &Args) -> Result<Answer, Failure> {
    let folder = data_folder(options.to.data.as_deref())?;
    let tenant = client.tenant().await?;
    let list = Arc::new(reader_list(client, &folder, options, &tenant)?);
    let run = Run::new(client).telling(list.clone());
    let progress = Arc::new(Progress::default());
    let (names, paths) = buckets::split(&options.paths);
    let Prepared { objects, failed, is_declined } =
        buckets::prepare(&names, &list, &progress, client.is_elsewhere(), options).await?;
    if is_declined {
        eprintln!("nothing was read");
        return Ok(Answer::No);
    }
    tell_pipes(&paths);
    let shown = progress::Reading::start(progress.clone());
    let profile = client.profile().await;
    let settings = Options {
        tenant,
        service: options.service.clone(),
        as_name: options.as_name.clone(),
        again: options.again,
        codec: profile.codec,
        target: profile.target,
        now_ms: weir::now_ms(),
        definitions: None,
    };
    let is_any = objects.is_some();
    let inputs = Inputs { paths, stdin: Box::new(std::io::stdin()), objects };
    let mut report = ingest::ingest_all(inputs, settings, Some(list.clone()), &run, progress).await;
    shown.stop();
    report.warnings.splice(0..0, list.warnings());
    tell(&report);
    failed.iter().for_each(|(name, why)| eprintln!("failed: {name}: {why}"));
    let settled = run.settled(report.lines_sent > 0);
    let balance = progress::waiting("all is durable; waiting until it is folded and can be read", settled).await;
    let balance = balance.map_err(|error| {
        let next = "Once that is mended, run the same again: what is in is known, and nothing is counted twice";
        Failure::new(format!("{} lines are durable, but not all can be read yet: {error}. {next}", report.lines_sent))
    })?;
    let accepted = balance["accepted"].as_u64().unwrap_or(0);
    let elsewhere = balance["elsewhere"].as_u64().unwrap_or(0);
    if elsewhere > 0 {
        let lines = report.lines_sent.saturating_sub(accepted);
        tell_elsewhere(client, lines, elsewhere).await;
        say(&sentence_beside(&balance, lines))?;
    } else {
        say(&sentence(&balance))?;
    }
    let known = balance["duplicate"].as_u64().unwrap_or(0);
    if let Some(name) = options.as_name.as_ref().filter(|_| known > 0) {
        // By a name alone nobody can tell other bytes from those that came before.
        eprintln!("{known} lines came under the name `{name}` before: if these are others, give them another name");
    }
    if accepted + elsewhere > 0 {
        tell_next(options);
    }
    if accepted != report.lines_sent && elsewhere == 0 {
        return Err(Failure::new(format!(
            "{} lines were sent and {accepted} are accounted for: run `weir verify`, and report this as a defect",
            report.lines_sent
        )));
    }
    if report.files.is_empty() && !is_any && failed.is_empty() {
        let named: Vec<_> = options.paths.iter().map(|path| path.display().to_string()).collect();
        eprintln!("failed: {}: there is no file in it. Name files, or a folder that holds some", named.join(", "));
        return Ok(Answer::No);
    }
    let all_well = failed.is_empty() && report.failed().next().is_none();
    Ok(if all_well { Answer::Yes } else { Answer::No })
}

/// Warnings and failures, on standard error: the answer is the balance.
fn tell(report: &Report) {
    let warnings = report.warnings.iter().map(|warning| format!("warning: {warning}"));
    // What one cause has stopped is one message: the server that ended, for a thousand files.
    let mut by_cause: Vec<(String, &Path, usize)> = vec![];
    let mut failures = vec![];
    for (path, error) in report.failed() {
        let why = Failure::of(error).to_string();
        if !matches!(error, FileError::Send(_) | FileError::NotRead) {
            failures.push(format!("failed: {}: {why}", path.display()));
        } else if let Some(known) = by_cause.iter_mut().find(|(cause, ..)| *cause == why) {
            known.2 += 1;
        } else {
            by_cause.push((why, path, 0));
        }
    }
    failures.extend(by_cause.into_iter().map(|(why, path, others)| match others {
        0 => format!("failed: {}: {why}", path.display()),
        _ => format!("failed: {} and {others} files more: {why}", path.display()),
    }));
    for lines in [warnings.collect::<Vec<_>>(), failures] {
        for line in lines.iter().take(LISTED_MAX) {
            eprintln!("{line}");
        }
        if lines.len() > LISTED_MAX {
            eprintln!("… and {} more", lines.len() - LISTED_MAX);
        }
    }
    let unchanged = report
        .files
        .iter()
        .filter(|file| matches!(file.outcome, ingest::Outcome::Unchanged) && file.path.as_os_str() != "-")
        .count();
    if unchanged > 0 {
        eprintln!("{unchanged} of {} files hold nothing new since they were last read", report.files.len());
    }
    let ingest::Objects { ingested, unchanged, failed } = report.objects;
    if ingested + unchanged + failed > 0 {
        eprintln!("objects: {ingested} read, {unchanged} known from before, {failed} failed");
    }
}

/// What the process that folded these lines knows alone, and where it can be seen.
async fn tell_elsewhere(client: &Client, lines: u64, records: u64) {
    eprintln!(
        "{} ({}) are durable on the stream and were folded by another process (a `weir up` that has the shards): they can be read, and what became of \
         each that process knows alone. `weir ingest --url URL`, with the URL of that one, ends with the whole balance",
        counted(lines, "line"),
        counted(records, "record")
    );
    // A word by the way: what it says can be had later too.
    if let Ok(all) = client.json(Method::GET, "/balance", Bytes::new()).await {
        eprintln!("all lines on these rows until now (GET /balance): {}", sentence(&all));
    }
}

/// As below, with the lines whose fate another process knows.
fn sentence_beside(balance: &Value, lines: u64) -> String {
    let number = |field: &str| balance[field].as_u64().unwrap_or(0);
    let mut own = balance.clone();
    own["accepted"] = (number("accepted") + lines).into();
    format!("{} + folded by another process {lines}", sentence(&own))
}

/// accepted = folded + skipped (by reason) + duplicate + dead.
pub fn sentence(balance: &Value) -> String {
    let number = |field: &str| balance[field].as_u64().unwrap_or(0);
    let reasons: Vec<(String, u64)> = balance["skipped"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(reason, count)| (reason.clone(), count.as_u64().unwrap_or(0)))
        .collect();
    let skipped: u64 = reasons.iter().map(|(_, count)| count).sum();
    let listed: Vec<String> = reasons.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
    let listed = if listed.is_empty() { String::new() } else { format!(" ({})", listed.join(", ")) };
    format!(
        "accepted {} = folded {} + skipped {skipped}{listed} + duplicate {} + dead {}",
        number("accepted"),
        number("folded"),
        number("duplicate"),
        number("dead")
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_another_process_folded_is_a_part_of_the_balance_which_adds_up() {
        let balance =
            json!({"accepted": 3, "folded": 2, "skipped": {"too_long": 1}, "duplicate": 0, "dead": 0, "elsewhere": 1});
        assert_eq!(
            sentence_beside(&balance, 7),
            "accepted 10 = folded 2 + skipped 1 (too_long 1) + duplicate 0 + dead 0 + folded by another process 7"
        );
    }
}
