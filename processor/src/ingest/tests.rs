//! Ingest against a sender that takes batches as the fold does: a line is counted where its first byte was not taken before.
#![allow(clippy::unwrap_used)]

mod damaged;
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

#[test]
fn files_folders_patterns_and_packed_files_are_read_once() {
    let mut world = World::new();
    world.write("a.log", "a1\na2\n");
    world.write("deep/b.txt", gz(b"b1\nb2\n"));
    world.write("deep/er/c", [zst(b"c1\n"), zst(b"c2\n")].concat());
    let report = world.run();
    assert_eq!(failures(&report), [""; 0]);
    assert_eq!(world.counted(), ["a1", "a2", "b1", "b2", "c1", "c2"]);
    assert_eq!(report.lines_sent, 6);
    let (folder, pattern, file) = (world.path("deep"), world.path("**/*.log"), world.path("a.log"));
    let report = world.run_on(&[&folder, &pattern, &file]);
    assert_eq!(report.files.len(), 3, "each file once");
    assert!(report.files.iter().all(|file| matches!(file.outcome, Outcome::Unchanged)), "{report:?}");
    assert_eq!(world.counted(), [""; 0]);
}

#[test]
fn names_that_are_no_utf_8_match_patterns_and_are_known_again() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    let mut world = World::new();
    let name = |bytes: &'static [u8]| Path::new(OsStr::from_bytes(bytes)).to_owned();
    let strange = world.path("caf\u{e9} %41").parent().unwrap().join(name(b"caf\xe9 %41.log"));
    fs::write(&strange, lines("a", 100)).unwrap();
    world.write("deep/er/plain.log", "b\n");
    for pattern in ["*.log", "c?f?*.log", "**/*.log", "[c]af*"] {
        let pattern = world.path(pattern);
        assert_eq!(failures(&world.run_on(&[&pattern])), [""; 0]);
    }
    assert_eq!(world.counted().len(), 101);
    let origins = world.fold.origins();
    let spelt = |origin: &String| origin.contains("bytes:/") && origin.ends_with("logs/caf%E9%20%2541.log");
    assert!(origins.iter().any(spelt), "{origins:?}");
    assert!(world.fold.services.contains(&Some("caf\u{fffd} %41".into())), "{:?}", world.fold.services);
    let renamed = strange.with_file_name(name(b"caf\xe9.log.1"));
    fs::rename(&strange, &renamed).unwrap();
    fs::write(&strange, "other\n").unwrap();
    assert_eq!(failures(&world.run()), [""; 0]);
    assert_eq!(world.counted(), ["other"]);
}

#[test]
fn a_pattern_over_folders_that_cannot_be_listed_or_run_in_circles_ends() {
    let mut world = World::new();
    world.write("a/x.log", "1\n");
    world.write("b/c/x.log", "2\n");
    std::os::unix::fs::symlink(world.path("b"), world.path("b/c/loop")).unwrap();
    for pattern in ["*/x.log", "*/*/x.log", "**/loop/**/x.log", "**"] {
        let pattern = world.path(pattern);
        assert_eq!(failures(&world.run_on(&[&pattern])), [""; 0]);
    }
    assert_eq!(world.counted(), ["1", "2"]);
    let nothing = world.path("x.log/*");
    assert_eq!(failures(&world.run_on(&[&nothing])).len(), 1);
}

#[test]
fn a_bad_input_is_named_and_the_others_are_read() {
    let mut world = World::new();
    world.write("a.log", "a\n");
    world.write("b.log", b"BZh91AY&SY...");
    world.write("x[1].log", "x\n");
    std::os::unix::net::UnixListener::bind(world.path("socket")).unwrap();
    std::os::unix::fs::symlink(world.path("nowhere"), world.path("dangling")).unwrap();
    std::os::unix::fs::symlink(world.path(""), world.path("loop")).unwrap();
    let (missing, pattern) = (world.path("missing.log"), world.path("*.none"));
    let (logs, socket, device) = (world.path(""), world.path("socket"), PathBuf::from("/dev/null"));
    let report = world.run_on(&[&missing, &pattern, &logs, &socket, &device]);
    let failed: Vec<_> = report.failed().map(|(path, _)| path.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(failed, ["missing.log", "*.none", "b.log", "socket", "null"]);
    let warned = |name: &str| report.warnings.iter().any(|warning| warning.contains(name));
    assert!(warned("socket") && warned("dangling"), "what is found in a folder is no failure: {:?}", report.warnings);
    assert_eq!(world.counted(), ["a", "x"]);
}

#[test]
fn standard_input_is_counted_each_time_and_named_input_once() {
    let mut world = World::new();
    world.stdin = gz(lines("s", 30).as_bytes());
    let dash = Path::new("-");
    world.run_on(&[dash]);
    assert_eq!(world.counted().len(), 30);
    assert_eq!(world.fold.services[0], None, "nothing names a service");
    world.run_on(&[dash]);
    assert_eq!(world.counted().len(), 30, "at least once: the same bytes again are other lines");
    world.as_name = Some("nightly".into());
    world.run_on(&[dash]);
    assert_eq!(world.counted().len(), 30);
    let report = world.run_on(&[dash]);
    assert_eq!((world.counted().len(), report.lines_sent), (0, 30), "sent again, and known");
    world.write("a.log", "a\n");
    world.write("b.log", "b\n");
    let report = world.run();
    assert!(matches!(report.failed().next(), Some((_, FileError::AsOne(2)))), "two inputs cannot have one name");
}

#[test]
fn lines_have_the_files_service_or_the_one_that_was_named() {
    let mut world = World::new();
    world.write("access.log.2.gz", gz(b"a\n"));
    world.run();
    world.service = Some("shop".into());
    world.write("b.log", "b\n");
    world.run();
    assert_eq!(world.fold.services, [Some("access".to_owned()), Some("shop".to_owned())]);
}

#[test]
fn a_refused_batch_fails_its_file_alone_and_comes_again() {
    let mut world = World::new();
    world.write("a.log", lines("a", 100));
    world.write("b.log", lines("b", 100));
    let logs = world.path("");
    let report =
        world.run_with(&[&logs], |number| (0, if number == 2 { Fault::Refused } else { Fault::None })).unwrap();
    assert_eq!(failures(&report).len(), 1);
    assert!(world.fold.counted.len() < 200);
    let report = world.run();
    assert_eq!(failures(&report), [""; 0]);
    let mut counted = world.counted();
    counted.sort();
    counted.dedup();
    assert_eq!(counted.len(), 200);
}

#[test]
fn where_nothing_can_be_sent_every_file_left_is_named() {
    let mut world = World::new();
    for name in ["a", "b", "c"] {
        world.write(name, lines(name, 100));
    }
    let logs = world.path("");
    let plan = |number| (0, if number >= 2 { Fault::Unavailable } else { Fault::None });
    let report = world.run_with(&[&logs], plan).unwrap();
    assert_eq!(report.failed().count(), 3, "{report:?}");
    world.run();
    assert_eq!(world.counted().len(), 300);
}
