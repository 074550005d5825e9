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
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use events::{
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
mod report;
#[cfg(feature = "aws")]
pub mod s3;
mod sends;
mod service;
mod source;
mod zstd_frames;

pub use damage::FileError;
pub use list::ReaderList;
pub use report::{FileReport, Objects, Outcome, Progress, Report};
use service::service_of;

use object::Announced;
use reader::Reader;
use sends::Sends;

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
    /// The service of lines that name none; without it a file's name gives it.
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

/// What is read.
pub struct Inputs {
    /// Files, folders, patterns, or `-` for `stdin`.
    pub paths: Vec<PathBuf>,
    /// Standard input.
    pub stdin: Box<dyn Read + Send>,
    /// Objects, after all paths.
    pub objects: Option<mpsc::Receiver<Announced>>,
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

#[cfg(test)]
mod tests;
