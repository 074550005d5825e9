//! The list on disk: JSON lines, appended, each the whole of what is known of one file; the last one about a file holds. Decides what of a
//! damaged list can be used.
//!
//! The first line says the version, the reader's id and the next free number; `line` says how each is written. The file begins, and is shortened, by writing it anew beside the old one and renaming it. At most `UNSYNCED_BYTES_MAX` at its end were not synced: there lines may
//! be torn, and are dropped; a line that cannot be read further up stops the reader with a message.
//!
//! After a failed sync nothing is known about the disk: nothing more is written, and every later call fails. An opening writes the end again that
//! may not have been synced, and syncs it, because what it reads there may be in memory only.

mod line;

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use self::line::{Line, parse, spell};
use super::{Entry, FILES_MAX, ListError};

const FILE: &str = "files.jsonl";
const VERSION: u32 = 2;
/// Written and not yet synced; then it is.
const UNSYNCED_BYTES_MAX: u64 = 256 << 10;
/// So many lines more than twice the files, and the list is written anew at opening.
const SPARE_LINES: usize = 1_000;

#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: Arc<File>,
    length: u64,
    /// So much of it is known to be durable.
    synced: u64,
    /// Why nothing can be written any more.
    broken: Option<String>,
    /// Of this opening.
    reader: u64,
    next: u64,
    epoch: u64,
}

impl Journal {
    pub(super) fn open(folder: &Path, reader: u64) -> Result<(Self, Vec<Entry>), ListError> {
        let path = folder.join(FILE);
        let disk = |what| {
            let path = path.clone();
            move |source| ListError::Disk { what, path, source }
        };
        let mut loaded = match fs::read(&path) {
            Ok(text) => load(&path, &text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Loaded { reader: format!("{reader:016x}"), next: 1, anew: true, ..Loaded::default() }
            }
            Err(error) => return Err(disk("read")(error)),
        };
        loaded.forget_oldest();
        if loaded.anew {
            write_anew(&path, &loaded).map_err(disk("written"))?;
        }
        let file = File::options().append(true).open(&path).map_err(disk("opened"))?;
        let length = file.metadata().map_err(disk("opened"))?.len();
        if !loaded.anew {
            write_end_again(&path, length).map_err(disk("synced"))?;
        }
        let Loaded { next, epoch, entries, .. } = loaded;
        let entries = entries.into_values().collect();
        let file = Arc::new(file);
        Ok((Self { path, file, length, synced: length, broken: None, reader, next, epoch }, entries))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn reader(&self) -> u64 {
        self.reader
    }

    pub(super) fn exists(folder: &Path) -> bool {
        folder.join(FILE).exists()
    }

    /// Never given twice: who takes it writes an entry with it, and a number that was not written was not used.
    pub(super) fn next_number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    pub(super) fn next_epoch(&mut self) -> Result<u64, ListError> {
        let epoch = self.epoch + 1;
        self.append(spell(&Line::Epoch { epoch }))?;
        self.epoch = epoch;
        Ok(epoch)
    }

    pub(super) fn write(&mut self, entries: &[Entry]) -> Result<(), ListError> {
        let mut text = String::new();
        for entry in entries {
            text.push_str(&spell(&Line::File(entry.into())));
            // Many at once are not more than may be unsynced.
            if text.len() as u64 > UNSYNCED_BYTES_MAX / 2 {
                self.append(std::mem::take(&mut text))?;
            }
        }
        self.append(text)
    }

    /// How long it is, and how much of that is durable.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn synced(&self) -> u64 {
        self.synced
    }

    /// The file to sync, and how long it is now: `end_sync` is to hear of both.
    pub(super) fn begin_sync(&self) -> Result<(Arc<File>, u64), ListError> {
        self.check()?;
        Ok((self.file.clone(), self.length))
    }

    /// What was written up to `through` is durable, or nothing can be said any more.
    pub(super) fn end_sync(&mut self, through: u64, done: io::Result<()>) -> Result<(), ListError> {
        // Another sync that failed meanwhile may have been told of the pages that this one was about.
        self.check()?;
        match done {
            Ok(()) => {
                self.synced = self.synced.max(through);
                Ok(())
            }
            Err(source) => Err(self.breaks("synced", source)),
        }
    }

    /// Syncs here and now.
    pub(super) fn sync(&mut self) -> Result<(), ListError> {
        let (file, through) = self.begin_sync()?;
        self.end_sync(through, file.sync_data())
    }

    fn check(&self) -> Result<(), ListError> {
        match &self.broken {
            None => Ok(()),
            Some(why) => Err(ListError::Broken { path: self.path.clone(), why: why.clone() }),
        }
    }

    fn breaks(&mut self, what: &'static str, source: io::Error) -> ListError {
        self.broken = Some(format!("it could not be {what}: {source}"));
        ListError::Disk { what, path: self.path.clone(), source }
    }

    fn append(&mut self, text: String) -> Result<(), ListError> {
        self.check()?;
        let unsynced = self.length - self.synced;
        if unsynced > 0 && unsynced + text.len() as u64 > UNSYNCED_BYTES_MAX {
            self.sync()?;
        }
        if let Err(source) = (&*self.file).write_all(text.as_bytes()) {
            // Half a line must not stand before the next one.
            if let Err(source) = self.file.set_len(self.length) {
                return Err(self.breaks("cut back", source));
            }
            return Err(ListError::Disk { what: "written", path: self.path.clone(), source });
        }
        self.length += text.len() as u64;
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn replace_file(&mut self, file: File) -> Arc<File> {
        std::mem::replace(&mut self.file, Arc::new(file))
    }
}

#[derive(Debug, Default)]
struct Loaded {
    reader: String,
    next: u64,
    epoch: u64,
    entries: std::collections::BTreeMap<u64, Entry>,
    /// It is to be written anew.
    anew: bool,
}

impl Loaded {
    fn take(&mut self, line: Line) -> Result<(), String> {
        match line {
            Line::List { version, .. } if version > VERSION => {
                return Err(format!("it has version {version}, this program reads {VERSION}: use the newer program"));
            }
            Line::List { version, reader, next } => {
                (self.reader, self.next) = (reader, next);
                // What is appended from now on is of this version.
                self.anew |= version < VERSION;
            }
            Line::Epoch { epoch } => self.epoch = self.epoch.max(epoch),
            Line::File(mut line) => {
                if line.reader.is_empty() {
                    line.reader.clone_from(&self.reader);
                }
                self.next = self.next.max(line.number + 1);
                self.entries.insert(line.number, Entry::try_from(line)?);
            }
        }
        Ok(())
    }

    fn forget_oldest(&mut self) {
        let surplus = self.entries.len().saturating_sub(FILES_MAX / 2);
        let oldest: Vec<u64> =
            self.entries.values().filter(|entry| entry.gone).map(|entry| entry.id.0).take(surplus).collect();
        self.anew |= !oldest.is_empty();
        for number in oldest {
            self.entries.remove(&number);
        }
    }
}

fn load(path: &Path, text: &[u8]) -> Result<Loaded, ListError> {
    let mut loaded = Loaded::default();
    let synced = text.len().saturating_sub(UNSYNCED_BYTES_MAX as usize);
    let (mut at, mut count) = (0, 0);
    for (index, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let taken = parse(line).and_then(|line| loaded.take(line));
        if let Err(why) = taken {
            if index == 0 || at < synced {
                return Err(ListError::Damaged { path: path.to_owned(), line: index + 1, why });
            }
            loaded.anew = true;
        }
        at += line.len();
        count = index + 1;
    }
    if loaded.reader.is_empty() {
        return Err(ListError::Damaged { path: path.to_owned(), line: 1, why: "the file is empty".into() });
    }
    loaded.anew |= count > 2 * loaded.entries.len() + SPARE_LINES;
    Ok(loaded)
}

/// Rewrites what an earlier process may not have synced, or failed to sync, and makes it durable.
fn write_end_again(path: &Path, length: u64) -> io::Result<()> {
    let mut file = File::options().read(true).write(true).open(path)?;
    let from = length.saturating_sub(UNSYNCED_BYTES_MAX);
    let mut end = Vec::new();
    file.seek(SeekFrom::Start(from))?;
    (&file).take(length - from).read_to_end(&mut end)?;
    file.seek(SeekFrom::Start(from))?;
    file.write_all(&end)?;
    file.sync_data()
}

fn write_anew(path: &Path, loaded: &Loaded) -> io::Result<()> {
    let beside = path.with_extension("jsonl.new");
    let mut file = io::BufWriter::new(File::create(&beside)?);
    let first = Line::List { version: VERSION, reader: loaded.reader.clone(), next: loaded.next };
    file.write_all(spell(&first).as_bytes())?;
    if loaded.epoch > 0 {
        file.write_all(spell(&Line::Epoch { epoch: loaded.epoch }).as_bytes())?;
    }
    for entry in loaded.entries.values() {
        file.write_all(spell(&Line::File(entry.into())).as_bytes())?;
    }
    file.into_inner()?.sync_all()?;
    fs::rename(&beside, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::ingest::list::{EntryId, Mark, Print, ReaderList};

    /// A file that takes what is written, and whose sync fails.
    #[cfg(unix)]
    fn unsyncable() -> File {
        File::options().write(true).open("/dev/null").unwrap()
    }

    fn entry(number: u64) -> Entry {
        Entry {
            id: EntryId(number),
            reader: 1,
            tenant: "local".into(),
            path: "/logs/a".repeat(100),
            name: "/logs/a".into(),
            head: Print::of(b"head"),
            mark: Mark::nothing(),
            gone: false,
            doubtful: false,
            resend: false,
            reading_since_ms: None,
        }
    }

    #[test]
    fn what_is_not_synced_stays_bounded_while_another_thread_syncs() {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(folder.path(), 1).unwrap();
        let mut begun = journal.length();
        for number in 1..3_000 {
            // As the thread does that sends: it waits in its sync, and has not heard yet.
            let synced = journal.synced();
            begun = journal.begin_sync().unwrap().1.min(begun);
            assert_eq!(journal.synced(), synced, "a sync that has not ended makes nothing durable");
            journal.write(&[entry(number)]).unwrap();
            assert!(journal.length() - journal.synced() <= UNSYNCED_BYTES_MAX);
        }
        assert!(journal.synced() > begun, "who appends has synced");
        let before = journal.synced();
        journal.end_sync(begun, Ok(())).unwrap();
        assert_eq!(journal.synced(), before, "an earlier sync that ends late takes nothing back");
        journal.write(&(3_000..6_000).map(entry).collect::<Vec<_>>()).unwrap();
        assert!(journal.length() - journal.synced() <= UNSYNCED_BYTES_MAX, "many at once too");
        drop(journal);
        assert_eq!(Journal::open(folder.path(), 1).unwrap().1.len(), 5_999);
    }

    #[test]
    #[cfg(unix)]
    fn after_a_failed_sync_nothing_more_is_written_and_the_next_step_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let list = ReaderList::open(&folder.path().join("readers"), 1, false).unwrap();
        let file = list.state().journal.replace_file(unsyncable());
        list.register("local", "/logs/a", Print::of(b"head"), 0).unwrap();
        assert!(list.sync_named().is_err());
        // The disk works again, but what it dropped is not known.
        list.state()
            .journal
            .replace_file(File::options().append(true).open(folder.path().join("readers").join(FILE)).unwrap());
        drop(file);
        assert!(list.has_unsynced_names());
        for again in [
            list.sync_named(),
            list.sync(),
            list.register("local", "/logs/b", Print::of(b"head"), 0).map(|_| ()),
            list.new_producer().map(|_| ()),
        ] {
            let said = again.unwrap_err().to_string();
            assert!(said.contains("could not be synced") && said.contains("run the same again"), "{said}");
        }
    }
}
