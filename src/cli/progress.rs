//! Long work of this process, said on standard error: what is done in a line for everybody, how far it is on a terminal only.

use std::{
    cell::OnceCell,
    future::Future,
    io::IsTerminal,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use hyper::Method;
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use processor::ingest::Progress;
use serde_json::Value;
use weir::{OpenError, Opening, Options, System, VERIFY};

use super::client::Client;

/// What a crash left is said from so many bytes on; less is folded in no time.
const SAID_BYTES_MIN: u64 = 1 << 20;
/// Between two looks at how far it is.
const SHOWN_LOOK: Duration = Duration::from_millis(200);

/// Between two words about a reading, where no bar can be seen.
const WORD_PAUSE: Duration = Duration::from_secs(10);

/// How far a reading is: a bar on a terminal, elsewhere a line now and then.
pub struct Reading {
    /// Dropped: it is over.
    over: mpsc::Sender<()>,
    thread: std::thread::JoinHandle<()>,
}

impl Reading {
    /// Shows it until it is stopped.
    pub fn start(progress: Arc<Progress>) -> Self {
        let (over, ends) = mpsc::channel();
        let thread = std::thread::spawn(move || match std::io::stderr().is_terminal() {
            true => show(&progress, &ends),
            false => tell(&progress, &ends),
        });
        Self { over, thread }
    }

    /// It is over.
    pub fn stop(self) {
        drop(self.over);
        let _ = self.thread.join();
    }
}

fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn show(progress: &Progress, ends: &mpsc::Receiver<()>) {
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {percent:>3}%  {msg}  {eta} left") {
        bar.set_style(style);
    }
    let started = Instant::now();
    while let Err(RecvTimeoutError::Timeout) = ends.recv_timeout(Duration::from_millis(100)) {
        let secs = started.elapsed().as_secs_f64().max(0.001);
        let (lines, raw) = (count(&progress.lines_sent), count(&progress.raw_bytes));
        bar.set_length(count(&progress.disk_bytes_total).max(1));
        bar.set_position(count(&progress.disk_bytes_read));
        bar.set_message(format!(
            "{} lines  {} lines/s  {}/s",
            HumanCount(lines),
            HumanCount((lines as f64 / secs) as u64),
            HumanBytes((raw as f64 / secs) as u64)
        ));
    }
    bar.finish_and_clear();
}

fn tell(progress: &Progress, ends: &mpsc::Receiver<()>) {
    while let Err(RecvTimeoutError::Timeout) = ends.recv_timeout(WORD_PAUSE) {
        eprintln!("{}", far_read(progress));
    }
}

fn far_read(progress: &Progress) -> String {
    let (read, total) = (count(&progress.disk_bytes_read), count(&progress.disk_bytes_total));
    format!(
        "{} of {} read, {} lines sent",
        HumanBytes(read),
        HumanBytes(total),
        HumanCount(count(&progress.lines_sent))
    )
}

/// Waits for `work`, and says for what now and then.
pub async fn waiting<T>(what: &str, work: impl Future<Output = T>) -> T {
    let looking = async {
        loop {
            tokio::time::sleep(WORD_PAUSE).await;
            eprintln!("{what}");
        }
    };
    tokio::select! {
        done = work => done,
        () = looking => unreachable!("it looks until the work is done"),
    }
}

/// A bar of bytes. It hides itself where standard error is no terminal.
pub fn bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {percent:>3}%  {msg}{bytes_per_sec}  {eta} left") {
        bar.set_style(style);
    }
    bar
}

/// Opens a folder and says what takes long.
pub async fn open(folder: &Path, options: Options) -> Result<System, OpenError> {
    let shown = OnceCell::new();
    let say = |Opening::Rebuilding { from, to, records, bytes, bytes_total }| {
        let bar = shown.get_or_init(|| {
            let why = match from {
                Some(from) => format!(
                    "were made by revision {from} of the fold, an earlier one, and this program has revision {to}"
                ),
                None => "are gone, or a crash came before the first of them".to_owned(),
            };
            eprintln!("the rows of {} {why}: they are made anew from the stream", folder.display());
            bar()
        });
        bar.set_length(bytes_total.max(1));
        bar.set_position(bytes);
        bar.set_message(format!("{records} records  "));
    };
    let opened = System::open_saying(folder, options, say).await;
    if let Some(bar) = shown.into_inner() {
        bar.finish_and_clear();
    }
    opened
}

/// Waits until what was on the stream when the folder was opened can be read, and says for what.
pub async fn recovered(system: &System) {
    let total = system.recovering_bytes();
    if total < SAID_BYTES_MIN {
        return system.recovered().await;
    }
    eprintln!("{}: they are folded first", backlog(total));
    let bar = bar();
    bar.set_length(total);
    let look = || bar.set_position(total.saturating_sub(system.recovering_bytes()));
    beside(system.recovered(), async || look()).await;
    bar.finish_and_clear();
}

/// As `recovered`, for who serves meanwhile.
pub fn recovering(system: &System) {
    let total = system.recovering_bytes();
    if total >= SAID_BYTES_MIN {
        eprintln!("{}: they are folded while it serves, and GET /health says how far behind it is", backlog(total));
    }
}

fn backlog(bytes: u64) -> String {
    let bytes = HumanBytes(bytes);
    format!(
        "{bytes} of the stream are not in the rows yet (weir was ended in between, or the rows are older than the stream)"
    )
}

/// Waits for a verify, and shows meanwhile what the system that carries it out says of it.
pub async fn verifying<T>(client: &Client, work: impl Future<Output = T>) -> T {
    let spinner = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed}  {msg}") {
        spinner.set_style(style);
    }
    spinner.set_message("the stream is folded again");
    spinner.tick();
    if spinner.is_hidden() {
        return work.await;
    }
    let look = async || {
        // Who is busy may not answer; the verify itself says what is wrong.
        if let Ok((_, health)) = client.send(Method::GET, "/health", Bytes::new()).await
            && let Some(far) = far(&health)
        {
            spinner.set_message(far);
        }
        spinner.tick();
    };
    let answer = beside(work, look).await;
    spinner.finish_and_clear();
    answer
}

fn far(health: &[u8]) -> Option<String> {
    let health: Value = serde_json::from_slice(health).ok()?;
    let check = health["checks"].as_array()?.iter().find(|check| check["name"] == VERIFY)?;
    Some(check["detail"].as_str()?.to_owned())
}

/// Waits for `work`, and looks at it now and then.
async fn beside<T>(work: impl Future<Output = T>, mut look: impl AsyncFnMut()) -> T {
    let looking = async {
        loop {
            tokio::time::sleep(SHOWN_LOOK).await;
            look().await;
        }
    };
    tokio::select! {
        done = work => done,
        () = looking => unreachable!("it looks until the work is done"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_far_a_reading_is_stands_in_one_line() {
        let progress = Progress::default();
        progress.disk_bytes_total.store(2 << 20, Ordering::Relaxed);
        progress.disk_bytes_read.store(1 << 20, Ordering::Relaxed);
        progress.lines_sent.store(12_345, Ordering::Relaxed);
        assert_eq!(far_read(&progress), "1.00 MiB of 2.00 MiB read, 12,345 lines sent");
    }
}
