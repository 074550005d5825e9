//! Files, folders, patterns, standard input and objects of buckets become batches, each sent until it is durable. Decides what of a file is new; never what a line
//! means, and prints nothing.
//!
//! Invariants:
//! - What a file is called on the stream (its origin) is durable in the reader's list before the first append.
//! - The list's end of a file moves only past what the sender has acknowledged, in order. So whoever stops anywhere reads some bytes again,
//!   under the same origin and offsets, and the fold knows them: never twice, never a hole.
//! - One thread reads and packs, and is ahead of the sends by a bounded number of batches. A thread, because a read may block for as long as a
//!   pipe is silent or a network folder hangs, and because packing then runs beside the sends.
//! - A file that cannot be read is named in the report; the others are read all the same.
//!
//! Standard input and pipes have no origin. They are known by (producer, epoch, counter), and as nothing spools them they are *at least once*:
//! lines of a run that was cut off are counted again by the next. `--as NAME` makes them exactly once, if the same bytes come again. Objects are known
//! by what they are ([`design.md`](ingest/design.md)).

use std::{
    collections::{BTreeMap, VecDeque},
    future::poll_fn,
    io::Read,
    path::PathBuf,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use events::{
    identity::Origin,
    pack::{Packed, Target},
    position::SequenceNumber,
    wire::Codec,
};
use tokio::sync::mpsc;

mod ahead;
mod damage;
mod gzip;
mod input;
pub mod list;
pub mod notified;
pub mod object;
mod paths;
mod pattern;
mod reader;
mod recognise;
#[cfg(feature = "aws")]
pub mod s3;
mod service;
mod source;
mod zstd_frames;

pub use damage::FileError;
pub use list::ReaderList;
pub use service::service_of;

use object::Announced;
use reader::{Message, Noted, Place, Reader};

/// Sends that are under way at the same time. Fewer than the 64 that law 6 allows a producer, and enough to fill a group commit.
pub const SENDS_MAX: usize = 16;
/// How often the reading thread may have handed on what the sends did not take yet: one large batch, or many small ones. Then it waits.
const AHEAD_MAX: usize = 4;
/// Objects of which is remembered why they failed. More are only counted.
pub const FAILED_MAX: usize = 1000;

/// Where batches go: into the stream of this process, or over HTTP to another.
pub trait Sender: Sync {
    /// Returns once the batch is durable. Called for several batches at the same time, which may become durable in any order; it retries what
    /// may pass by itself. A batch may be sent again by a later run, whole or cut otherwise: the fold knows its bytes.
    fn send(&self, packed: Packed) -> impl Future<Output = Result<(), SendError>> + Send;
}

/// A batch is not known to be durable: it may have been appended or not, and a later run sends it again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// This batch; others may pass.
    #[error("a batch was refused: {0}")]
    Refused(String),
    /// Nothing more can be sent: ingest stops.
    #[error("batches cannot be sent: {0}")]
    Unavailable(String),
}

/// What to do with the files.
#[derive(Debug, Clone)]
pub struct Options {
    /// The tenant.
    pub tenant: String,
    /// The service of lines that name none; without it a file's name gives it, see [`service_of`].
    pub service: Option<String>,
    /// The identity given by hand: one input, read from its first byte.
    pub as_name: Option<String>,
    /// Counts files again that were read before.
    pub again: bool,
    /// How bodies are packed.
    pub codec: Codec,
    /// Where batches end: what the stream costs decides.
    pub target: Target,
    /// The wall clock, Unix milliseconds.
    pub now_ms: i64,
    /// The highest revision of definitions known.
    pub definitions: Option<SequenceNumber>,
}

/// What became of one input.
#[derive(Debug)]
pub enum Outcome {
    /// What was new of it is durable.
    Ingested {
        /// Bytes of lines, after decompression.
        bytes: u64,
        /// Physical lines.
        lines: u64,
    },
    /// It was read before and holds nothing new.
    Unchanged,
    /// It could not be read to its end.
    Failed {
        /// The cause.
        error: FileError,
        /// Bytes of lines before that, after decompression, which are in.
        bytes: u64,
        /// Physical lines before the damage, which are in.
        lines: u64,
    },
}

/// One input of the report.
#[derive(Debug)]
pub struct FileReport {
    /// Its path; `-` is standard input; `s3://bucket/key` is an object.
    pub path: PathBuf,
    /// The object that somebody asked the outcome of.
    pub tag: Option<usize>,
    /// What an object is called on the stream, if it could be opened.
    pub origin: Option<Origin>,
    /// What became of it.
    pub outcome: Outcome,
}

/// What `ingest` did.
#[derive(Debug, Default)]
pub struct Report {
    /// Every input, in the order of reading. Of objects that nobody asked the outcome of, those that failed, at most `FAILED_MAX`.
    pub files: Vec<FileReport>,
    /// Objects that nobody asked the outcome of.
    pub objects: Objects,
    /// What the user should know and need not act on.
    pub warnings: Vec<String>,
    /// Physical lines whose batches are durable: the fold's balance must accept as many.
    pub lines_sent: u64,
}

/// Objects, by what became of them: there may be millions.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Objects {
    /// What was new of them is durable.
    pub ingested: u64,
    /// They were read before.
    pub unchanged: u64,
    /// They could not be read to their end.
    pub failed: u64,
}

/// What is read.
pub struct Inputs {
    /// Files, folders, patterns, or `-` for `stdin`.
    pub paths: Vec<PathBuf>,
    /// Standard input.
    pub stdin: Box<dyn Read + Send>,
    /// Objects, after all paths.
    pub objects: Option<mpsc::Receiver<Announced>>,
}

impl Report {
    /// The inputs that failed.
    pub fn failed(&self) -> impl Iterator<Item = (&PathBuf, &FileError)> {
        self.files.iter().filter_map(|file| match &file.outcome {
            Outcome::Failed { error, .. } => Some((&file.path, error)),
            _ => None,
        })
    }
}

/// How far it is, for whoever shows it. Counters only grow.
#[derive(Debug, Default)]
pub struct Progress {
    /// Files that were found.
    pub files_total: AtomicU64,
    /// Files that were read, or failed.
    pub files_done: AtomicU64,
    /// Size on disk of the files that were found.
    pub disk_bytes_total: AtomicU64,
    /// Of these, bytes that were read or known from before.
    pub disk_bytes_read: AtomicU64,
    /// Bytes after decompression.
    pub raw_bytes: AtomicU64,
    /// Physical lines that were packed.
    pub lines_packed: AtomicU64,
    /// Physical lines that are durable.
    pub lines_sent: AtomicU64,
}

/// Reads what is new of files and standard input, and sends it. See [`ingest_all`].
pub async fn ingest<S: Sender>(
    paths: Vec<PathBuf>,
    stdin: Box<dyn Read + Send>,
    options: Options,
    list: Arc<ReaderList>,
    sender: &S,
    progress: Arc<Progress>,
) -> Report {
    ingest_all(Inputs { paths, stdin, objects: None }, options, Some(list), sender, progress).await
}

/// Reads what is new of the inputs, and sends it. Returns when all of it is durable, or named as failed. Dropped, it stops after at most one more
/// batch is packed.
///
/// `list`: what this reader has read; without one there are neither files nor pipes, and objects are read again each time.
pub async fn ingest_all<S: Sender>(
    inputs: Inputs,
    options: Options,
    list: Option<Arc<ReaderList>>,
    sender: &S,
    progress: Arc<Progress>,
) -> Report {
    Run::start(inputs, options, list, sender, progress).finish().await
}

/// Inputs that are being read.
pub struct Run<'a, S>(Sends<'a, S>);

impl<'a, S: Sender> Run<'a, S> {
    /// Begins to read.
    pub fn start(
        inputs: Inputs,
        options: Options,
        list: Option<Arc<ReaderList>>,
        sender: &'a S,
        progress: Arc<Progress>,
    ) -> Self {
        let (messages, received) = mpsc::channel(AHEAD_MAX);
        let stop = Arc::new(AtomicBool::new(false));
        let broken = Arc::new(AtomicU64::new(0));
        let reader = Reader {
            options,
            list: list.clone(),
            progress: progress.clone(),
            messages,
            stop: stop.clone(),
            broken: broken.clone(),
            stdin: Some(inputs.stdin),
            held: vec![],
            held_bytes: 0,
        };
        let thread = std::thread::Builder::new().name("weir-reader".into());
        let thread = thread.spawn(move || reader.run(&inputs.paths, inputs.objects));
        let mut report = Report::default();
        if let Err(error) = thread {
            let outcome = Outcome::Failed { error: FileError::Open(error), bytes: 0, lines: 0 };
            report.files.push(FileReport { path: "-".into(), tag: None, origin: None, outcome });
        }
        Self(Sends {
            sender,
            list,
            progress,
            received,
            taken: vec![].into_iter(),
            stop,
            broken,
            under_way: VecDeque::new(),
            files: BTreeMap::new(),
            found: 0,
            report,
        })
    }

    /// Waits until all is durable, or named as failed. May be dropped, and called again.
    pub async fn done(&mut self) {
        while poll_fn(|context| self.0.poll_step(context)).await {}
    }

    /// Reads no more. What is on its way may still become durable: `done` waits for it.
    pub fn stop(&self) {
        self.0.stop.store(true, Relaxed);
    }

    /// As `done`, and the report.
    pub async fn finish(mut self) -> Report {
        self.done().await;
        self.report()
    }

    /// The report. What is not durable by now is named as failed.
    pub fn report(mut self) -> Report {
        self.stop();
        self.0.finish();
        self.0.report
    }
}

/// One input, from the side of the sends.
#[derive(Debug, Default)]
struct File {
    path: PathBuf,
    lines: u64,
    bytes: u64,
    /// The first batch that was not acknowledged: nothing after it moves the list's end.
    broken: Option<SendError>,
    /// What is durable and not in the list yet: it goes there with the next word about the file.
    durable: Option<Noted>,
    /// One of many objects: it stands in the report if it fails.
    is_one_of_many: bool,
    tag: Option<usize>,
    origin: Option<Origin>,
    /// See [`object::Object::durable`].
    reached: Option<Arc<AtomicU64>>,
}

/// What waits for its turn. Taken from the front only, so that marks move in order and no counter runs far ahead of an unacknowledged one.
enum UnderWay<'a> {
    Send {
        file: usize,
        lines: u64,
        covers: u64,
        mark: Option<Noted>,
        future: Pin<Box<dyn Future<Output = Result<(), SendError>> + Send + 'a>>,
        answer: Option<Result<(), SendError>>,
    },
    Done {
        file: usize,
        place: Option<Place>,
        outcome: Result<bool, FileError>,
    },
}

struct Sends<'a, S> {
    sender: &'a S,
    list: Option<Arc<ReaderList>>,
    progress: Arc<Progress>,
    received: mpsc::Receiver<Vec<Message>>,
    taken: std::vec::IntoIter<Message>,
    stop: Arc<AtomicBool>,
    broken: Arc<AtomicU64>,
    under_way: VecDeque<UnderWay<'a>>,
    /// By their place in the order of reading; those that are done are in the report, and forgotten here.
    files: BTreeMap<usize, File>,
    found: usize,
    report: Report,
}

impl<'a, S: Sender> Sends<'a, S> {
    /// Ready when something moved; false once all is done.
    fn poll_step(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        for item in &mut self.under_way {
            if let UnderWay::Send { future, answer: answer @ None, .. } = item
                && let Poll::Ready(result) = future.as_mut().poll(context)
            {
                *answer = Some(result);
            }
        }
        let mut moved = false;
        while !matches!(self.under_way.front(), None | Some(UnderWay::Send { answer: None, .. })) {
            if let Some(item) = self.under_way.pop_front() {
                self.settle(item);
            }
            moved = true;
        }
        if self.stop.load(Relaxed) && self.under_way.is_empty() {
            return Poll::Ready(false);
        }
        if self.under_way.len() < SENDS_MAX && !self.stop.load(Relaxed) {
            if self.taken.as_slice().is_empty() {
                match self.received.poll_recv(context) {
                    Poll::Ready(Some(messages)) => self.taken = messages.into_iter(),
                    Poll::Ready(None) if self.under_way.is_empty() => return Poll::Ready(false),
                    Poll::Ready(None) | Poll::Pending => {}
                }
            }
            if let Some(message) = self.taken.next() {
                self.take(message);
                moved = true;
            }
        }
        if moved { Poll::Ready(true) } else { Poll::Pending }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Found(paths) => {
                let files = paths.into_iter().map(|path| File { path, ..File::default() });
                self.files.extend((self.found..).zip(files));
                self.found = self.files.last_key_value().map_or(self.found, |(last, _)| last + 1);
            }
            Message::FoundObject { path, tag, origin, durable: reached } => {
                let file = File { path, tag, origin, reached, is_one_of_many: tag.is_none(), ..File::default() };
                self.files.insert(self.found, file);
                self.found += 1;
            }
            Message::Known(objects) => self.report.objects.unchanged += objects,
            Message::Warning(text) => self.report.warnings.push(text),
            Message::Batch { file, packed, mark } => {
                if self.files.get(&file).is_none_or(|file| file.broken.is_some()) {
                    return;
                }
                let (lines, covers) = (packed.lines, packed.covers);
                let future = Box::pin(self.sender.send(packed));
                self.under_way.push_back(UnderWay::Send { file, lines, covers, mark, future, answer: None });
            }
            Message::Done { file, place, outcome } => {
                self.under_way.push_back(UnderWay::Done { file, place, outcome });
            }
        }
    }

    fn settle(&mut self, item: UnderWay<'_>) {
        match item {
            UnderWay::Send { file, lines, covers, mark, answer: Some(Ok(())), .. } => {
                self.report.lines_sent += lines;
                self.progress.lines_sent.fetch_add(lines, Relaxed);
                let Some(file) = self.files.get_mut(&file) else { return };
                file.lines += lines;
                file.bytes += covers;
                // Behind what was refused nothing is known to hang together.
                if let Some(reached) = file.reached.as_ref().filter(|_| file.broken.is_none()) {
                    reached.fetch_add(covers, Relaxed);
                }
                let earlier = if file.broken.is_none() { std::mem::replace(&mut file.durable, mark) } else { None };
                if let (Some(noted), Some(list)) = (earlier, &self.list)
                    && let Err(error) = noted.advance(list)
                {
                    self.report.warnings.push(format!("{}: {error}; it will be read again", file.path.display()));
                }
            }
            UnderWay::Send { file, answer: Some(Err(error)), .. } => {
                if matches!(error, SendError::Unavailable(_)) {
                    self.stop.store(true, Relaxed);
                }
                if let Some(file) = self.files.get_mut(&file) {
                    file.broken.get_or_insert(error);
                }
                self.broken.fetch_max(file as u64 + 1, Relaxed);
            }
            UnderWay::Send { answer: None, .. } => {}
            UnderWay::Done { file, place, outcome } => {
                if let Some(mut of) = self.files.remove(&file) {
                    self.note(&mut of, place, &outcome);
                    self.close(of, outcome);
                }
            }
        }
    }

    /// The last word about an input, as far as it is durable.
    fn note(&mut self, file: &mut File, place: Option<Place>, outcome: &Result<bool, FileError>) {
        let (durable, Some(place), Some(list)) = (file.durable.take(), place, &self.list) else { return };
        let doubtful = outcome.as_ref().is_err_and(FileError::makes_bytes_doubtful);
        let noted = match (&file.broken, durable) {
            (None, durable) if outcome.is_ok() || doubtful => place.finish(list, durable, doubtful),
            (_, Some(durable)) => durable.advance(list),
            _ => Ok(()),
        };
        if let Err(error) = noted {
            self.report.warnings.push(format!("{}: {error}; it will be read again", file.path.display()));
        }
    }

    /// `outcome`: whether anything was new.
    fn close(&mut self, file: File, outcome: Result<bool, FileError>) {
        self.progress.files_done.fetch_add(1, Relaxed);
        let File { bytes, lines, .. } = file;
        let outcome = match (file.broken, outcome) {
            (Some(error), _) => Outcome::Failed { error: FileError::Send(error), bytes, lines },
            (None, Err(error)) => Outcome::Failed { error, bytes, lines },
            (None, Ok(false)) if lines == 0 => Outcome::Unchanged,
            (None, Ok(_)) => Outcome::Ingested { bytes, lines },
        };
        if file.is_one_of_many {
            let objects = &mut self.report.objects;
            let count = match outcome {
                Outcome::Ingested { .. } => &mut objects.ingested,
                Outcome::Unchanged => &mut objects.unchanged,
                Outcome::Failed { .. } => &mut objects.failed,
            };
            *count += 1;
            if !matches!(outcome, Outcome::Failed { .. }) || objects.failed > FAILED_MAX as u64 {
                return;
            }
        }
        self.report.files.push(FileReport { path: file.path, tag: file.tag, origin: file.origin, outcome });
    }

    /// Files that were not reached, because sending had to stop.
    fn finish(&mut self) {
        // Who stopped says why before.
        let mut left: Vec<_> = self.taken.by_ref().collect();
        while let Ok(messages) = self.received.try_recv() {
            left.extend(messages);
        }
        for message in left {
            if let Message::Warning(text) = message {
                self.report.warnings.push(text);
            }
        }
        for mut file in std::mem::take(&mut self.files).into_values() {
            let place = file.durable.map(Noted::place);
            self.note(&mut file, place, &Err(FileError::NotRead));
            self.close(file, Err(FileError::NotRead));
        }
        if let Some(Err(error)) = self.list.as_ref().map(|list| list.sync()) {
            self.report
                .warnings
                .push(format!("{error}: what was read may be read again, and is then counted as duplicate"));
        }
    }
}

#[cfg(test)]
mod tests;
