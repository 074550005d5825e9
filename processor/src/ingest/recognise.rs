//! Which file is this? Compares what a file holds with what the list remembers. Reads files; sends nothing.
//!
//! | at this path, last time | in the same folder, last time | it is |
//! | --- | --- | --- |
//! | begins and goes on alike | | the same file: it continues |
//! | damaged, begins alike | | the same file, mended: read from its first byte, and the fold knows what it has |
//! | nothing, or another | alike, and gone from its path | that file, renamed |
//! | nothing, or another | | a new incarnation |
//!
//! "Alike" is both: the first bytes as first seen, and the last bytes before the end that was taken.

use std::{
    fs::{self, File},
    io,
    path::Path,
    sync::Arc,
};

use super::{
    FileError, Progress,
    list::{Entry, HEAD_BYTES, Print, ReaderList},
    source::{Source, open_file},
};

/// A file with its identity, ready to be read on.
pub(super) struct Known {
    pub entry: Entry,
    /// Where it is read on: the sends may have moved the entry's own end meanwhile.
    pub from: u64,
    /// Stands at `from`, or after `next`.
    pub source: Source,
    pub next: Next,
    /// The last bytes before that.
    pub before: Vec<u8>,
    /// Nothing of this file was taken before.
    pub is_new: bool,
    /// Files elsewhere that begin alike.
    pub alike: Vec<Entry>,
}

/// What follows, as far as it was looked at.
pub(super) enum Next {
    Unread,
    Byte(u8),
    End,
}

/// A source that was read up to somewhere, with the last bytes before.
type Standing = (Source, Vec<u8>);

/// What a comparison found.
#[derive(Default)]
struct Compared {
    /// Whether the file holds what was taken of each candidate; fewer answers where damage ends them.
    holds: Vec<bool>,
    damage: Option<FileError>,
    /// Stands at the last candidate's end, or the file's.
    standing: Option<Standing>,
}

/// What the list is asked about.
pub(super) struct Question<'a> {
    pub list: &'a ReaderList,
    pub tenant: &'a str,
    pub path: &'a Path,
    /// Open: who replaces the file meanwhile does not mix two.
    pub file: &'a File,
    pub path_text: &'a str,
    pub again: bool,
    pub now_ms: i64,
    pub progress: &'a Arc<Progress>,
}

impl Question<'_> {
    /// Durable when it returns. `None`: the file is empty.
    pub(super) fn answer(&self) -> Result<Option<Known>, FileError> {
        let (head, damage) = read_head(self.file)?;
        let own = self.list.at(self.tenant, self.path_text);
        if head.is_empty() {
            return damage.map_or_else(|| self.empty(own.as_ref()), Err);
        }
        let alike = self.list.begin_like(self.tenant, &head);
        if self.again {
            return self.begin(&head, vec![]).map(Some);
        }
        let mut candidates: Vec<Entry> =
            alike.iter().filter(|entry| self.may_be(entry, own.as_ref())).cloned().collect();
        if let Some(own) = own.filter(|own| own.head.len == 0) {
            candidates.push(own);
        }
        let mut standing = None;
        match self.pick(candidates, &mut standing)? {
            Some((entry, from)) => self.go_on(entry, from, &head, standing).map(Some),
            None => self.begin(&head, alike).map(Some),
        }
    }

    /// Emptied: what it holds next is another file, even if it begins alike.
    fn empty(&self, own: Option<&Entry>) -> Result<Option<Known>, FileError> {
        if own.is_some_and(|own| own.head.len > 0) {
            self.list.register(self.tenant, self.path_text, Print::of(&[]), self.now_ms)?;
        }
        Ok(None)
    }

    /// It stands here, or it stood under another name in this folder.
    fn may_be(&self, entry: &Entry, own: Option<&Entry>) -> bool {
        own.is_some_and(|own| own.id == entry.id)
            || (entry.path != self.path_text && Path::new(&entry.path).parent() == self.path.parent())
    }

    /// The one that this file is, and where to go on.
    fn pick(
        &self,
        mut candidates: Vec<Entry>,
        reached: &mut Option<Standing>,
    ) -> Result<Option<(Entry, u64)>, FileError> {
        candidates.sort_by_key(|entry| entry.mark.end);
        let Compared { holds, damage, standing } = compare(self.file, &candidates)?;
        *reached = standing;
        let is_own = |entry: &Entry| entry.path == self.path_text && !entry.gone;
        let own = candidates.iter().position(is_own).map(|at| (candidates[at].clone(), holds.get(at).copied()));
        match &own {
            Some((entry, Some(true))) if entry.mark.end > 0 => return Ok(Some((entry.clone(), entry.mark.end))),
            // A mended file begins alike, and was read as far as bytes could be trusted: nobody knows where that was.
            Some((entry, Some(false) | None)) if entry.doubtful => return Ok(Some((entry.clone(), 0))),
            Some((_, None)) => return damage.map_or(Ok(None), Err),
            _ => {}
        }
        // The longest that fits is the most particular.
        for (entry, _) in candidates.iter().zip(&holds).rev().filter(|(entry, holds)| **holds && !is_own(entry)) {
            if entry.gone || is_gone(entry) {
                return Ok(Some((entry.clone(), entry.mark.end)));
            }
        }
        // Nothing of it is known to be taken, so its beginning alone speaks for it: less than any of those above.
        if let Some((entry, Some(true))) = own {
            return Ok(Some((entry, 0)));
        }
        match (damage, candidates.get(holds.len())) {
            (Some(damage), Some(entry)) => {
                Err(FileError::CannotTell { path: entry.path.clone().into(), damage: Box::new(damage) })
            }
            _ => Ok(None),
        }
    }

    fn open(&self) -> Result<Source, FileError> {
        Source::of(self.file, Some(self.progress.clone()))
    }

    fn begin(&self, head: &[u8], alike: Vec<Entry>) -> Result<Known, FileError> {
        let source = self.open()?;
        let entry = self.list.register(self.tenant, self.path_text, Print::of(head), self.now_ms)?;
        Ok(Known { entry, from: 0, source, next: Next::Unread, before: vec![], is_new: true, alike })
    }

    fn go_on(&self, entry: Entry, from: u64, head: &[u8], standing: Option<Standing>) -> Result<Known, FileError> {
        let (mut source, before) = match standing.filter(|(source, _)| source.offset() == from) {
            // Nothing is unpacked twice for a packed file that was read before.
            Some((mut source, before)) => {
                source.count_in(self.progress.clone());
                (source, before)
            }
            None => {
                let (mut source, mut before) = (self.open()?, vec![]);
                if !source.skip_to(from, &mut before)? {
                    return Err(FileError::Shrank { read: from, now: source.offset() });
                }
                (source, before)
            }
        };
        let mut byte = [0; 1];
        let next = if source.read(&mut byte)? == 0 { Next::End } else { Next::Byte(byte[0]) };
        let longer = entry.head.len < HEAD_BYTES && head.len() > entry.head.len;
        let head = if longer { Print::of(head) } else { entry.head };
        // Nothing to read and nothing to say: a folder of old files costs no writes.
        let silent = matches!(next, Next::End) && !longer && entry.path == self.path_text && !entry.gone;
        let entry = if silent { entry } else { self.list.resume(&entry, self.path_text, head, from, self.now_ms)? };
        Ok(Known { entry, from, source, next, before, is_new: false, alike: vec![] })
    }
}

/// The first bytes, and the damage that ends them.
fn read_head(file: &File) -> Result<(Vec<u8>, Option<FileError>), FileError> {
    let mut source = Source::of(file, None)?;
    let mut head = vec![0; HEAD_BYTES];
    let mut have = 0;
    while have < head.len() {
        match source.read(&mut head[have..]) {
            Ok(0) => break,
            Ok(count) => have += count,
            Err(error) => {
                head.truncate(have);
                return Ok((head, Some(error)));
            }
        }
    }
    head.truncate(have);
    Ok((head, None))
}

/// Compares the file with each candidate; they come in order of their ends.
fn compare(file: &File, candidates: &[Entry]) -> Result<Compared, FileError> {
    let mut compared = Compared::default();
    if candidates.is_empty() {
        return Ok(compared);
    }
    let mut source = Source::of(file, None)?;
    let mut before = vec![];
    for entry in candidates {
        match source.skip_to(entry.mark.end, &mut before) {
            Ok(reached) => compared.holds.push(reached && entry.mark.tail.ends(&before)),
            Err(error) => {
                compared.damage = Some(error);
                return Ok(compared);
            }
        }
    }
    compared.standing = Some((source, before));
    Ok(compared)
}

/// True if its path holds something else by now, or nothing. What cannot be read may still be there.
fn is_gone(entry: &Entry) -> bool {
    let path = Path::new(&entry.path);
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return true,
        Ok(metadata) if !metadata.is_file() => return true,
        _ => {}
    }
    let file = match open_file(path) {
        Ok(file) => file,
        Err(error) => return matches!(error, FileError::NotFound),
    };
    let Ok((head, damage)) = read_head(&file) else { return false };
    if head.len() < entry.head.len {
        return damage.is_none();
    }
    if Print::of(&head[..entry.head.len]) != entry.head {
        return true;
    }
    match compare(&file, std::slice::from_ref(entry)) {
        Ok(Compared { holds, damage: None, .. }) => holds == [false],
        _ => false,
    }
}
