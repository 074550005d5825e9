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
//! The list is `files.jsonl` in its folder: see `list/journal.rs`. A lock beside it keeps a second reader out. Beside the folder stands a file with
//! its name and `.known`: who finds that and no list knows that the list was lost. (The stream's marks name what was taken, but not what files
//! began with, so no list can be made of them that would know a renamed file.)

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use events::{
    identity::{Origin, OriginKind, Producer},
    position::{SequenceNumber, ShardId},
};

mod entry;
mod error;
mod index;
mod journal;
mod objects;
mod tips;

pub use entry::{Entry, EntryId, Mark, Print};
pub use error::ListError;
pub use index::{Seen, Stamp};

use index::Index;
use journal::Journal;
use objects::Objects;
use tips::Tips;

use super::object::ObjectId;

pub use objects::OBJECTS_MAX;
pub use tips::compare;

/// How much of a file's beginning is remembered.
pub const HEAD_BYTES: usize = 1 << 10;
/// Most files of one list: about 1 GB of memory. At opening, the oldest that are gone from their path are forgotten beyond half of it; where
/// that does not help, no more are registered, with an error.
pub const FILES_MAX: usize = 1_000_000;

/// See the module. Shared between the reading thread and the sends.
#[derive(Debug)]
pub struct ReaderList {
    state: Mutex<State>,
    _lock: File,
}

#[derive(Debug)]
struct State {
    journal: Journal,
    index: Index,
    /// So much of the journal must be durable before the next append.
    named: u64,
    tips: Tips,
    objects: Objects,
    warnings: Vec<String>,
}

impl ReaderList {
    /// Opens the list in `folder`, or begins one, unless one is known to have been there. `reader`: a random number, which makes incarnations unique
    /// among all readers. `wait`: for another process that has it; else that is an error.
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
        let stamp = stamp_of(folder);
        if stamp.exists() && !Journal::exists(folder) {
            return Err(ListError::Lost { list: folder.to_owned(), stamp });
        }
        let (journal, entries) = Journal::open(folder, reader)?;
        if !stamp.exists() {
            fs::write(&stamp, "The folder of this name holds the list of files that were read.\n")
                .map_err(disk("marked"))?;
        }
        // After both have their names, of which the second says that the first was there.
        if let Some(parent) = folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            File::open(parent).and_then(|parent| parent.sync_all()).map_err(disk("synced"))?;
        }
        let objects = Objects::open(folder).map_err(disk("read"))?;
        let (index, tips) = (Index::default(), Tips::open(folder));
        let mut state = State { journal, index, named: 0, tips, objects, warnings: vec![] };
        for entry in entries {
            state.index.insert(entry);
        }
        if tips::is_noted(folder) {
            state.send_all_again()?;
            state.objects.forget().map_err(disk("written"))?;
            tips::forget(folder).map_err(disk("written"))?;
            state.tips = Tips::open(folder);
        }
        Ok(Self { state: Mutex::new(state), _lock: lock })
    }

    /// Forgets that there was a list in `folder`, if there is none: the next opening begins one.
    pub fn begin_anew(folder: &Path) -> Result<(), ListError> {
        let stamp = stamp_of(folder);
        if Journal::exists(folder) || !stamp.exists() {
            return Ok(());
        }
        fs::remove_file(&stamp).map_err(|source| ListError::Disk { what: "begun", path: stamp, source })
    }

    /// What was found out at opening and since, and was not asked for yet.
    pub fn warnings(&self) -> Vec<String> {
        std::mem::take(&mut self.state().warnings)
    }

    /// The stream has acknowledged a record at this place. What could not be written is found out later, or never missed.
    pub fn acknowledged(&self, shard: ShardId, sequence: SequenceNumber) {
        let mut state = self.state();
        if let Ok(true) = state.tips.acknowledged(shard, sequence)
            && state.warnings.is_empty()
        {
            state.warnings.push(format!("{LOST}. Run the same again: every file is then read from its first byte"));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is written before it is made, so a panic between the two leaves an older state, never a wrong one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Files of the tenant that begin like `head` and were read up to a place where the file has the same last bytes, the longest first. `tail_at`
    /// gives the last bytes before an offset of the file, `None` if it does not reach so far or that is not known.
    pub fn holding(&self, tenant: &str, head: &[u8], tail_at: impl FnMut(u64) -> Option<Print>) -> Vec<Entry> {
        self.state().index.holding(tenant, head, tail_at)
    }

    /// The newest files of the tenant that begin like `head` and are wanted, at most `most`, with how far they were read.
    pub fn begin_like(
        &self,
        tenant: &str,
        head: &[u8],
        most: usize,
        wanted: impl Fn(&Entry) -> bool,
    ) -> Vec<(Entry, Mark)> {
        let state = self.state();
        let alike = state.index.begin_like(tenant, head).filter(|(entry, _)| wanted(entry));
        alike.take(most).map(|(entry, mark)| (entry.clone(), mark)).collect()
    }

    /// The file that stood at `path` when it was read last.
    pub fn at(&self, tenant: &str, path: &str) -> Option<Entry> {
        self.state().index.at(tenant, path).cloned()
    }

    /// This run has read a file so far; it is forgotten with the run.
    pub fn see(&self, id: EntryId, seen: Seen) {
        self.state().index.see(id, seen);
    }

    /// What this run saw of a file.
    pub fn seen(&self, id: EntryId) -> Option<Seen> {
        self.state().index.seen(id)
    }

    /// A new incarnation at `path`; whatever stood there is gone from it.
    pub fn register(&self, tenant: &str, path: &str, head: Print, now_ms: i64) -> Result<Entry, ListError> {
        let mut state = self.state();
        if state.index.len() >= FILES_MAX {
            return Err(ListError::Full(state.journal.path().to_owned()));
        }
        let entry = Entry {
            id: EntryId(state.journal.next_number()),
            reader: state.journal.reader(),
            tenant: tenant.to_owned(),
            path: path.to_owned(),
            name: path.to_owned(),
            head,
            mark: Mark::nothing(),
            gone: false,
            doubtful: false,
            resend: false,
            reading_since_ms: Some(now_ms),
        };
        let mut changed = state.displaced(&entry);
        changed.push(entry.clone());
        state.write(changed)?;
        state.named = state.journal.length();
        Ok(entry)
    }

    /// The same file at `path`, now with this head, read again from `from`: its end or its first byte. A reading that was cut off keeps its
    /// time.
    pub fn resume(&self, entry: &Entry, path: &str, head: Print, from: u64, now_ms: i64) -> Result<Entry, ListError> {
        let mut state = self.state();
        let mut next = state.index.get(entry.id).unwrap_or(entry).clone();
        next.path = path.to_owned();
        next.gone = false;
        next.head = head;
        if from == 0 && !next.resend {
            next.mark = Mark::nothing();
        }
        next.reading_since_ms.get_or_insert(now_ms);
        let says_more = next.path != entry.path || next.head != entry.head || entry.gone;
        let mut changed = state.displaced(&next);
        changed.push(next.clone());
        state.write(changed)?;
        if says_more {
            state.named = state.journal.length();
        }
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

    /// It was read to its end, or as far as it can be, and all before the mark is durable. `doubtful`: bytes were taken that may be wrong.
    pub fn finish(&self, id: EntryId, mark: Option<Mark>, doubtful: bool) -> Result<(), ListError> {
        self.change(id, |entry| {
            if let Some(mark) = mark.filter(|mark| mark.end > entry.mark.end) {
                entry.mark = mark;
            }
            entry.doubtful = doubtful;
            if !doubtful {
                entry.resend = false;
                entry.reading_since_ms = None;
            }
        })
    }

    fn change(&self, id: EntryId, change: impl FnOnce(&mut Entry)) -> Result<(), ListError> {
        let mut state = self.state();
        let Some(entry) = state.index.get(id) else { return Ok(()) };
        let mut next = entry.clone();
        change(&mut next);
        if next == *entry { Ok(()) } else { state.write(vec![next]) }
    }

    /// A producer for bytes from nowhere, in an epoch that was never used.
    pub fn new_producer(&self) -> Result<Producer, ListError> {
        let mut state = self.state();
        let epoch = state.journal.next_epoch()?;
        let id = format!("{:016x}-stdin", state.journal.reader());
        self.sync_journal(state)?;
        Ok(Producer { id, epoch, counter: 0 })
    }

    /// True if an object was read to its end, and all of it is durable.
    pub fn knows_object(&self, id: ObjectId) -> bool {
        self.state().objects.is_read(id)
    }

    /// First byte of an object, after decompression, that is not durable.
    pub fn object_end(&self, id: ObjectId) -> u64 {
        self.state().objects.end(id)
    }

    /// All of an object before this byte is durable. May be noted later.
    pub fn object_is_durable(&self, id: ObjectId, end: u64) -> Result<(), ListError> {
        let noted = self.state().objects.advance(id, end);
        self.noted(noted)
    }

    /// An object was read to its end, and all of it is durable.
    pub fn object_was_read(&self, id: ObjectId) -> Result<(), ListError> {
        let noted = self.state().objects.finish(id);
        self.noted(noted)
    }

    fn noted(&self, noted: io::Result<bool>) -> Result<(), ListError> {
        let mut state = self.state();
        let path = state.journal.path().with_file_name("objects");
        if !noted.map_err(|source| ListError::Disk { what: "written", path: path.clone(), source })? {
            let full = format!(
                "the list {} holds {OBJECTS_MAX} objects, and takes no more: others are read again when they are named again, and their lines are \
                 duplicates",
                path.display()
            );
            state.warnings.push(full);
        }
        Ok(())
    }

    /// What this file is called on the stream.
    pub fn origin(&self, entry: &Entry) -> Origin {
        let version = format!("{:016x}-{}", entry.reader, entry.id.0);
        Origin { kind: OriginKind::File, name: entry.name.clone(), version }
    }

    /// True if `sync_named` has something to do.
    pub fn has_unsynced_names(&self) -> bool {
        let state = self.state();
        state.named > state.journal.synced()
    }

    /// What files are called is durable: their bytes may be appended.
    pub fn sync_named(&self) -> Result<(), ListError> {
        let state = self.state();
        if state.named > state.journal.synced() { self.sync_journal(state) } else { Ok(()) }
    }

    /// Everything said so far is durable.
    pub fn sync(&self) -> Result<(), ListError> {
        let mut state = self.state();
        let path = state.journal.path().to_owned();
        let disk = |source| ListError::Disk { what: "synced", path: path.clone(), source };
        state.tips.write(true).map_err(disk)?;
        state.objects.sync().map_err(disk)?;
        self.sync_journal(state)
    }

    /// Syncs without holding the lock: the sends go on meanwhile.
    fn sync_journal(&self, state: MutexGuard<'_, State>) -> Result<(), ListError> {
        let (file, through) = state.journal.begin_sync()?;
        drop(state);
        let done = file.sync_data();
        self.state().journal.end_sync(through, done)
    }
}

fn stamp_of(folder: &Path) -> PathBuf {
    let mut name = folder.as_os_str().to_owned();
    name.push(".known");
    name.into()
}

const LOST: &str = "the stream ends before lines that this list of files saw acknowledged: it was restored from an older backup, cut, or replaced";

impl State {
    /// Durable when it returns.
    fn send_all_again(&mut self) -> Result<(), ListError> {
        let taken = self.index.all().filter(|entry| entry.mark.end > 0 && !entry.resend);
        let again: Vec<Entry> = taken.map(|entry| Entry { resend: true, ..entry.clone() }).collect();
        self.warnings.push(format!(
            "{LOST}. Each of {} files is read from its first byte when it is next named; what the stream still has of it is known, and counted as \
             duplicate",
            again.len()
        ));
        self.write(again)?;
        self.journal.sync()
    }

    /// Who stands at the entry's path and no longer does.
    fn displaced(&self, by: &Entry) -> Vec<Entry> {
        let other = self.index.at(&by.tenant, &by.path).filter(|entry| entry.id != by.id);
        other.map(|entry| Entry { gone: true, ..entry.clone() }).into_iter().collect()
    }

    /// Writes first, so that memory never knows more than the file.
    fn write(&mut self, changed: Vec<Entry>) -> Result<(), ListError> {
        self.journal.write(&changed)?;
        for entry in changed {
            self.index.insert(entry);
        }
        Ok(())
    }
}
