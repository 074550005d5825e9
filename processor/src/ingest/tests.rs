//! Ingest against a sender that takes batches as the fold does: a line is counted where its first byte was not taken before. What all of these tests
//! work on.
#![allow(clippy::unwrap_used)]

mod damaged;
mod inputs;
mod listed;
mod rotated;
mod simulated;

use std::{
    collections::BTreeMap,
    fs,
    future::poll_fn,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    task::Poll,
};

use bytes::Bytes;
use events::{
    cut,
    identity::Origin,
    pack::{Packed, Target},
    wire::{self, Codec},
};
use tempfile::TempDir;

use super::{FileError, Options, Outcome, Progress, ReaderList, Report, SendError, Sender, ingest};

/// What is to happen to the next sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    /// Appended, and the answer is lost.
    LostAnswer,
    Refused,
    Unavailable,
    /// The process is killed before, or after the append.
    Killed {
        appended: bool,
    },
}

/// What the fold has.
#[derive(Debug, Default, Clone)]
pub(super) struct Fold {
    /// For each origin, which of its bytes were taken.
    taken: BTreeMap<Origin, Vec<bool>>,
    producers: Vec<(String, u64, u64)>,
    /// Lines that were counted, in the order of folding.
    pub counted: Vec<String>,
    pub services: Vec<Option<String>>,
    pub read_at: Vec<i64>,
    /// Lines of all batches, taken or not.
    pub accepted: u64,
}

impl Fold {
    fn take(&mut self, data: &Bytes, lines: u64) {
        let batch = wire::decode(data).unwrap();
        self.services.push(batch.header.service.clone());
        self.read_at.push(batch.header.read_at_ms);
        let physical = cut::lines(&batch.body).count() as u64;
        assert_eq!(physical, lines, "the packer counts lines as the fold does");
        self.accepted += lines;
        let Some(extent) = batch.header.extent else {
            let producer = batch.header.producer.unwrap();
            let key = (producer.id, producer.epoch, producer.counter);
            if !self.producers.contains(&key) {
                self.producers.push(key);
                self.counted
                    .extend(cut::lines(&batch.body).map(|(_, line)| String::from_utf8_lossy(line).into_owned()));
            }
            return;
        };
        let taken = self.taken.entry(extent.origin).or_default();
        if taken.len() < extent.to as usize {
            taken.resize(extent.to as usize, false);
        }
        for (at, line) in cut::lines(&batch.body) {
            let before = batch.header.edits.iter().filter(|edit| (edit.body_offset as usize) < at);
            let offset = extent.from as usize + at + before.map(|edit| edit.removed_bytes as usize).sum::<usize>();
            if !taken[offset] {
                self.counted.push(String::from_utf8_lossy(line).into_owned());
            }
        }
        taken[extent.from as usize..extent.to as usize].fill(true);
    }

    pub fn origins(&self) -> Vec<String> {
        self.taken.keys().map(|origin| format!("{:?} {}", origin.kind, origin.name)).collect()
    }
}

/// Sends into a fold, with faults.
pub(super) struct Recorder {
    pub fold: Mutex<Fold>,
    /// For each send, how often it is polled before it is done, and what happens then.
    plan: Box<dyn Fn(usize) -> (u32, Fault) + Send + Sync>,
    sent: Mutex<usize>,
    pub killed: Mutex<bool>,
}

impl Recorder {
    fn new(fold: Fold, plan: impl Fn(usize) -> (u32, Fault) + Send + Sync + 'static) -> Self {
        Self { fold: Mutex::new(fold), plan: Box::new(plan), sent: Mutex::new(0), killed: Mutex::new(false) }
    }
}

impl Sender for Recorder {
    async fn send(&self, packed: Packed) -> Result<(), SendError> {
        let number = {
            let mut sent = self.sent.lock().unwrap();
            *sent += 1;
            *sent - 1
        };
        let (mut polls, fault) = (self.plan)(number);
        poll_fn(|context| {
            if polls == 0 {
                return Poll::Ready(());
            }
            polls -= 1;
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
        if matches!(fault, Fault::None | Fault::LostAnswer | Fault::Killed { appended: true }) {
            self.fold.lock().unwrap().take(&packed.data, packed.lines);
        }
        match fault {
            Fault::None => Ok(()),
            Fault::LostAnswer | Fault::Refused => Err(SendError::Refused("on purpose".into())),
            Fault::Unavailable => Err(SendError::Unavailable("on purpose".into())),
            Fault::Killed { .. } => {
                *self.killed.lock().unwrap() = true;
                std::future::pending().await
            }
        }
    }
}

/// A folder with logs, a reader's list, and a fold.
pub(super) struct World {
    folder: TempDir,
    pub fold: Fold,
    pub target: usize,
    pub now_ms: i64,
    pub service: Option<String>,
    pub again: bool,
    pub as_name: Option<String>,
    pub stdin: Vec<u8>,
    /// What is random of the list's next opening.
    pub reader: u64,
}

impl World {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("logs")).unwrap();
        Self {
            folder,
            fold: Fold::default(),
            target: 300,
            now_ms: 1,
            service: None,
            again: false,
            as_name: None,
            stdin: vec![],
            reader: 7,
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("logs").join(name)
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    pub fn append(&self, name: &str, bytes: &str) {
        use std::io::Write;
        let file = fs::File::options().append(true).create(true).open(self.path(name));
        file.unwrap().write_all(bytes.as_bytes()).unwrap();
    }

    pub fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    pub fn list_folder(&self) -> PathBuf {
        self.folder.path().join("readers")
    }

    pub fn list(&self) -> Arc<ReaderList> {
        Arc::new(ReaderList::open(&self.list_folder(), self.reader, true).unwrap())
    }

    /// Ingests with faults; `None`: the process was killed. Returns when nothing of it runs any more.
    pub fn run_with(
        &mut self,
        paths: &[&Path],
        plan: impl Fn(usize) -> (u32, Fault) + Send + Sync + 'static,
    ) -> Option<Report> {
        let recorder = Recorder::new(std::mem::take(&mut self.fold), plan);
        let options = Options {
            tenant: "local".into(),
            service: self.service.clone(),
            as_name: self.as_name.clone(),
            again: self.again,
            codec: Codec::None,
            target: Target::Lines(self.target),
            now_ms: self.now_ms,
            definitions: None,
        };
        let paths = paths.iter().map(|path| path.to_path_buf()).collect();
        let stdin = Box::new(std::io::Cursor::new(self.stdin.clone()));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let report = runtime.block_on(async {
            let mut ingest =
                Box::pin(ingest(paths, stdin, options, self.list(), &recorder, Arc::new(Progress::default())));
            poll_fn(|context| {
                let polled = ingest.as_mut().poll(context);
                if *recorder.killed.lock().unwrap() {
                    return Poll::Ready(None);
                }
                polled.map(Some)
            })
            .await
        });
        // The lock is free once the reading thread has ended.
        drop(self.list());
        self.fold = recorder.fold.into_inner().unwrap();
        report
    }

    /// Ingests the folder of logs, without faults.
    pub fn run(&mut self) -> Report {
        let logs = self.path("");
        self.run_on(&[&logs])
    }

    pub fn run_on(&mut self, paths: &[&Path]) -> Report {
        self.run_with(paths, |number| ((number % 3) as u32, Fault::None)).unwrap()
    }

    /// What was counted since the last call.
    pub fn counted(&mut self) -> Vec<String> {
        std::mem::take(&mut self.fold.counted)
    }
}

pub(super) fn failures(report: &Report) -> Vec<String> {
    report.failed().map(|(_, error)| error.to_string()).collect()
}

/// Batches may become durable in another order than they were read.
pub(super) fn sorted<T: Into<String>>(lines: impl IntoIterator<Item = T>) -> Vec<String> {
    let mut lines: Vec<String> = lines.into_iter().map(Into::into).collect();
    lines.sort();
    lines
}

pub(super) fn gz(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(vec![], flate2::Compression::new(6));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn zst(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// So many lines of their own.
pub(super) fn lines(name: &str, count: usize) -> String {
    (0..count).map(|i| format!("{name}{i}; some text of this line\n")).collect()
}
