//! What this reader has read: which file is which, and how far it was taken. Decides what is durable before the first append; opens no log.
//!
//! | call | the list says | on disk when it returns |
//! | --- | --- | --- |
//! | `register` | a new incarnation, nothing taken | no: `sync_named` must come before its first append |
//! | `resume` | the same file, perhaps under another name, perhaps with a longer head | as `register`, if it says more than before |
//! | `advance` | its end moved | written; synced with what comes next: a lost end is read again, and known |
//! | `finish` | it was read to its end | as `advance` |
//!
//! So many small files are made durable by one sync.
//!
//! The list is `files.jsonl` in its folder: see `list/journal.rs`. A lock beside it keeps a second reader out.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use events::{
    identity::{Origin, OriginKind, Producer},
    pack::HISTORY_BYTES,
};
use xxhash_rust::xxh3::xxh3_128;

mod journal;

use journal::Journal;

/// How much of a file's beginning is remembered.
pub const HEAD_BYTES: usize = 1 << 10;
/// Most files of one list: some 500 MB of memory. At opening, the oldest that are gone from their path are forgotten beyond half of it; where
/// that does not help, no more are registered, with an error.
pub const FILES_MAX: usize = 1_000_000;

/// The list cannot be kept. Nothing may be sent without it.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// Another process has it.
    #[error("another `weir ingest` reads with the folder {}. Wait for it, or use another --data", .0.display())]
    InUse(PathBuf),
    /// The disk said no.
    #[error("the list of files {} could not be {what}: {source}", .path.display())]
    Disk {
        /// What failed.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// It cannot be understood.
    #[error(
        "line {line} of the list of files {} cannot be read: {why}. Restore the list; or delete that line, and the file that it named will be \
         counted again", .path.display()
    )]
    Damaged {
        /// Where.
        path: PathBuf,
        /// Which line.
        line: usize,
        /// The cause.
        why: String,
    },
    /// Too many files.
    #[error("the list {} holds {FILES_MAX} files, and takes no more. Use another --data, or --as NAME", .0.display())]
    Full(PathBuf),
}

/// A file's number in its list, never given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryId(pub(super) u64);

/// Length and hash of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Print {
    /// How many, at most 1 KiB.
    pub len: usize,
    /// XXH3, 128 bits.
    pub hash: u128,
}

impl Print {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self { len: bytes.len(), hash: xxh3_128(bytes) }
    }

    /// True if `bytes` end with what this is the print of.
    pub(super) fn ends(&self, bytes: &[u8]) -> bool {
        bytes.len().checked_sub(self.len).is_some_and(|from| Self::of(&bytes[from..]) == *self)
    }
}

/// How far a file was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// First byte, after decompression, that was not.
    pub end: u64,
    /// The last bytes before it.
    pub tail: Print,
}

impl Mark {
    /// After `end` bytes, of which `before` are the last.
    pub(super) fn after(end: u64, before: &[u8]) -> Self {
        Self { end, tail: Print::of(&before[before.len().saturating_sub(HISTORY_BYTES)..]) }
    }
}

/// What is known of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number.
    pub id: EntryId,
    /// Whose.
    pub tenant: String,
    /// Where it was seen last.
    pub path: String,
    /// Where it was seen first: the origin's name.
    pub name: String,
    /// Its beginning, as first seen.
    pub head: Print,
    /// What is durable of it.
    pub mark: Mark,
    /// Something else stands at its path by now.
    pub gone: bool,
    /// It was damaged: what was taken last may not be what it holds once mended.
    pub doubtful: bool,
    /// When the reading began that has not come to its end.
    pub reading_since_ms: Option<i64>,
}

/// See the module. Shared between the reading thread and the sends.
#[derive(Debug)]
pub struct ReaderList {
    state: Mutex<State>,
    _lock: File,
}

#[derive(Debug)]
struct State {
    journal: Journal,
    entries: BTreeMap<EntryId, Entry>,
    at_path: HashMap<(String, String), Vec<EntryId>>,
    by_head: HashMap<Print, Vec<EntryId>>,
    /// How many entries have a head of this length.
    head_lens: BTreeMap<usize, usize>,
    /// Something that must be durable before the next append is not.
    unsynced_names: bool,
}

impl ReaderList {
    /// Opens the list in `folder`, or begins one. `reader`: a random number, taken when the list begins: it makes incarnations unique among all
    /// readers. `wait`: for another process that has it; else that is an error.
    pub fn open(folder: &Path, reader: u64, wait: bool) -> Result<Self, ListError> {
        let disk = |what| move |source| ListError::Disk { what, path: folder.to_owned(), source };
        fs::create_dir_all(folder).map_err(disk("created"))?;
        let lock_path = folder.join("lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&lock_path).map_err(disk("locked"))?;
        if wait {
            lock.lock().map_err(disk("locked"))?;
        } else {
            lock.try_lock().map_err(|error| match error {
                TryLockError::WouldBlock => ListError::InUse(folder.to_owned()),
                TryLockError::Error(error) => disk("locked")(error),
            })?;
        }
        if let Some(parent) = folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            File::open(parent).and_then(|parent| parent.sync_all()).map_err(disk("synced"))?;
        }
        let (journal, entries) = Journal::open(folder, reader)?;
        let mut state = State {
            journal,
            entries: BTreeMap::new(),
            at_path: HashMap::new(),
            by_head: HashMap::new(),
            head_lens: BTreeMap::new(),
            unsynced_names: false,
        };
        for entry in entries {
            state.insert(entry);
        }
        Ok(Self { state: Mutex::new(state), _lock: lock })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is written before it is made, so a panic between the two leaves an older state, never a wrong one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Files of the tenant that begin like `head`, wherever they are.
    pub fn begin_like(&self, tenant: &str, head: &[u8]) -> Vec<Entry> {
        let state = self.state();
        let lens = state.head_lens.range(1..=head.len()).map(|(len, _)| *len);
        lens.filter_map(|len| state.by_head.get(&Print::of(&head[..len])))
            .flatten()
            .filter_map(|id| state.entries.get(id))
            .filter(|entry| entry.tenant == tenant)
            .cloned()
            .collect()
    }

    /// The file that stood at `path` when it was read last.
    pub fn at(&self, tenant: &str, path: &str) -> Option<Entry> {
        let state = self.state();
        let ids = state.at_path.get(&(tenant.to_owned(), path.to_owned()))?;
        ids.iter().filter_map(|id| state.entries.get(id)).find(|entry| !entry.gone).cloned()
    }

    /// A new incarnation at `path`; whatever stood there is gone from it.
    pub fn register(&self, tenant: &str, path: &str, head: Print, now_ms: i64) -> Result<Entry, ListError> {
        let mut state = self.state();
        if state.entries.len() >= FILES_MAX {
            return Err(ListError::Full(state.journal.path().to_owned()));
        }
        let entry = Entry {
            id: EntryId(state.journal.next_number()),
            tenant: tenant.to_owned(),
            path: path.to_owned(),
            name: path.to_owned(),
            head,
            mark: Mark { end: 0, tail: Print::of(&[]) },
            gone: false,
            doubtful: false,
            reading_since_ms: Some(now_ms),
        };
        let mut changed = state.displaced(&entry);
        changed.push(entry.clone());
        state.write(changed)?;
        state.unsynced_names = true;
        Ok(entry)
    }

    /// The same file at `path`, now with this head, read again from `from`: its end or its first byte. A reading that was cut off keeps its
    /// time.
    pub fn resume(&self, entry: &Entry, path: &str, head: Print, from: u64, now_ms: i64) -> Result<Entry, ListError> {
        let mut state = self.state();
        let mut next = state.entries.get(&entry.id).unwrap_or(entry).clone();
        next.path = path.to_owned();
        next.gone = false;
        next.head = head;
        if from == 0 {
            next.mark = Mark { end: 0, tail: Print::of(&[]) };
        }
        next.reading_since_ms.get_or_insert(now_ms);
        let says_more = next.path != entry.path || next.head != entry.head || entry.gone;
        let mut changed = state.displaced(&next);
        changed.push(next.clone());
        state.write(changed)?;
        state.unsynced_names |= says_more;
        Ok(next)
    }

    /// All before the mark is durable on the stream. Never moves back.
    pub fn advance(&self, id: EntryId, mark: Mark) -> Result<(), ListError> {
        self.change(id, |entry| {
            if mark.end > entry.mark.end {
                entry.mark = mark;
            }
        })
    }

    /// It was read to its end, or as far as it can be. `doubtful`: up to damage that may have spoilt bytes before it.
    pub fn finish(&self, id: EntryId, doubtful: bool) -> Result<(), ListError> {
        self.change(id, |entry| {
            entry.doubtful = doubtful;
            if !doubtful {
                entry.reading_since_ms = None;
            }
        })
    }

    fn change(&self, id: EntryId, change: impl FnOnce(&mut Entry)) -> Result<(), ListError> {
        let mut state = self.state();
        let Some(entry) = state.entries.get(&id) else { return Ok(()) };
        let mut next = entry.clone();
        change(&mut next);
        if next == *entry { Ok(()) } else { state.write(vec![next]) }
    }

    /// A producer for bytes from nowhere, in an epoch that was never used.
    pub fn new_producer(&self) -> Result<Producer, ListError> {
        let mut state = self.state();
        let epoch = state.journal.next_epoch()?;
        let id = format!("{}-stdin", state.journal.reader());
        sync(state)?;
        Ok(Producer { id, epoch, counter: 0 })
    }

    /// What this file is called on the stream.
    pub fn origin(&self, entry: &Entry) -> Origin {
        let version = format!("{}-{}", self.state().journal.reader(), entry.id.0);
        Origin { kind: OriginKind::File, name: entry.name.clone(), version }
    }

    /// True if `sync_named` has something to do.
    pub fn has_unsynced_names(&self) -> bool {
        self.state().unsynced_names
    }

    /// What files are called is durable: their bytes may be appended.
    pub fn sync_named(&self) -> Result<(), ListError> {
        let mut state = self.state();
        if !std::mem::take(&mut state.unsynced_names) {
            return Ok(());
        }
        sync(state).inspect_err(|_| self.state().unsynced_names = true)
    }

    /// Everything said so far is durable.
    pub fn sync(&self) -> Result<(), ListError> {
        sync(self.state())
    }
}

/// Syncs without holding the lock: the sends go on meanwhile.
fn sync(mut state: MutexGuard<'_, State>) -> Result<(), ListError> {
    let file: Arc<File> = state.journal.begin_sync();
    let path = state.journal.path().to_owned();
    drop(state);
    file.sync_data().map_err(|source| ListError::Disk { what: "synced", path, source })
}

impl State {
    /// Who stands at the entry's path and no longer does.
    fn displaced(&self, by: &Entry) -> Vec<Entry> {
        let ids = self.at_path.get(&(by.tenant.clone(), by.path.clone())).into_iter().flatten();
        let others = ids.filter_map(|id| self.entries.get(id)).filter(|entry| entry.id != by.id && !entry.gone);
        others.map(|entry| Entry { gone: true, ..entry.clone() }).collect()
    }

    /// Writes first, so that memory never knows more than the file.
    fn write(&mut self, changed: Vec<Entry>) -> Result<(), ListError> {
        self.journal.write(&changed)?;
        for entry in changed {
            self.insert(entry);
        }
        Ok(())
    }

    fn insert(&mut self, entry: Entry) {
        if let Some(old) = self.entries.remove(&entry.id) {
            if let Some(ids) = self.at_path.get_mut(&(old.tenant, old.path)) {
                ids.retain(|id| *id != old.id);
            }
            if let Some(ids) = self.by_head.get_mut(&old.head) {
                ids.retain(|id| *id != old.id);
            }
            if let Some(count) = self.head_lens.get_mut(&old.head.len) {
                *count -= 1;
                if *count == 0 {
                    self.head_lens.remove(&old.head.len);
                }
            }
        }
        self.at_path.entry((entry.tenant.clone(), entry.path.clone())).or_default().push(entry.id);
        self.by_head.entry(entry.head).or_default().push(entry.id);
        *self.head_lens.entry(entry.head.len).or_default() += 1;
        self.entries.insert(entry.id, entry);
    }
}
