//! Which file is this? Compares what a file holds with what the list remembers. Reads files; sends nothing.
//!
//! | at this path, last time | in the same folder, last time | it is |
//! | --- | --- | --- |
//! | begins and goes on alike | | the same file: it continues |
//! | nothing, or another | alike, and gone from its path | that file, renamed |
//! | nothing, or another | | a new incarnation |
//! | damaged, begins alike, goes on otherwise | | a new incarnation, with a warning: what was taken before damage was wrong |
//!
//! "Alike" is all of it: the first bytes as first seen, the last bytes before the end that was taken, and where the file was packed, the hash of
//! all bytes up to there.

use std::{
    fs::{self, File, Metadata},
    io,
    path::Path,
    sync::Arc,
};

use events::pack::HISTORY_BYTES;
use xxhash_rust::xxh3::xxh3_128;

use super::{
    FileError, Progress,
    list::{Entry, HEAD_BYTES, Mark, Print, ReaderList, Seen, Stamp},
    paths::read_spelt,
    source::{Passed, Source, open_file},
};

/// Files elsewhere that a new large file is compared with while it is read; of more, the newest.
const ALIKE_MAX: usize = 64;

/// A file with its identity, ready to be read on.
pub(super) struct Known {
    pub entry: Entry,
    /// Where it is read on: the sends may have moved the entry's own end meanwhile.
    pub from: u64,
    /// Stands at `from`, or after `next`.
    pub source: Source,
    pub next: Next,
    /// What stands before that.
    pub passed: Passed,
    /// Nothing of this file was taken before.
    pub is_new: bool,
    /// Files elsewhere that begin alike, and how far they were read.
    pub alike: Vec<(Mark, String)>,
    pub warning: Option<String>,
}

/// What follows, as far as it was looked at.
pub(super) enum Next {
    Unread,
    Byte(u8),
    End,
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

/// What a file holds before some ends.
enum Held<'a> {
    /// All of it is in memory; whether damage follows.
    Whole(&'a [u8], bool),
    /// It was read through once: the last bytes before each end that was asked for, and the hash of all.
    Passed { marks: Vec<Mark>, damage: Option<FileError> },
}

impl Held<'_> {
    /// The last bytes before `end`; `None` if the file ends before, or that was not asked for.
    fn tail_at(&self, end: u64) -> Option<Print> {
        match self {
            Self::Whole(bytes, _) => {
                let before = bytes.get(..usize::try_from(end).ok()?)?;
                Some(Print::of(&before[before.len().saturating_sub(HISTORY_BYTES)..]))
            }
            Self::Passed { .. } => self.passed(end).map(|mark| mark.tail),
        }
    }

    fn passed(&self, end: u64) -> Option<&Mark> {
        let Self::Passed { marks, .. } = self else { return None };
        marks.binary_search_by_key(&end, |mark| mark.end).ok().map(|at| &marks[at])
    }

    /// True if the file holds what was taken up to the mark.
    fn holds(&self, mark: &Mark) -> bool {
        let whole = || match self {
            Self::Whole(bytes, _) => Some(xxh3_128(&bytes[..mark.end as usize])),
            Self::Passed { .. } => self.passed(mark.end).and_then(|mark| mark.whole),
        };
        self.tail_at(mark.end).is_some_and(|tail| tail == mark.tail)
            && mark.whole.is_none_or(|taken| whole().is_none_or(|holds| holds == taken))
    }

    /// True if damage hides what stands before `end`.
    fn hides(&self, end: u64) -> bool {
        match self {
            Self::Whole(bytes, damaged) => *damaged && end > bytes.len() as u64,
            Self::Passed { marks, damage } => damage.is_some() && marks.last().is_none_or(|last| end > last.end),
        }
    }
}

impl Question<'_> {
    /// In the list when it returns. `None`: the file is empty.
    pub(super) fn answer(&self) -> Result<Option<Known>, FileError> {
        let mut source = self.open()?;
        let mut head = [0; HEAD_BYTES];
        let (have, damage) = read_head(&mut source, &mut head);
        let head = &head[..have];
        let own = self.list.at(self.tenant, self.path_text);
        if head.is_empty() {
            return damage.map_or_else(|| self.empty(own.as_ref()), Err);
        }
        if let Some((bytes, damaged)) = source.whole() {
            let held = Held::Whole(bytes, damaged);
            let alike = self.list.holding(self.tenant, head, |end| held.tail_at(end));
            return self
                .decide(head, own, alike, &held)
                .and_then(|choice| self.take_up(choice, head, source, None))
                .map(Some);
        }
        let ends = self.ends(head, own.as_ref());
        let mut passed = Passed::default();
        let held = self.pass(&mut source, &ends, &mut passed)?;
        let alike = self.list.holding(self.tenant, head, |end| held.tail_at(end));
        let choice = self.decide(head, own, alike, &held)?;
        let standing = (!ends.is_empty()).then_some(passed);
        self.take_up(choice, head, source, standing).map(Some)
    }

    /// Emptied: what it holds next is another file, even if it begins alike.
    fn empty(&self, own: Option<&Entry>) -> Result<Option<Known>, FileError> {
        if own.is_some_and(|own| own.head.len > 0) {
            self.list.register(self.tenant, self.path_text, Print::of(&[]), self.now_ms)?;
        }
        Ok(None)
    }

    fn is_own(&self, entry: &Entry) -> bool {
        entry.path == self.path_text && !entry.gone
    }

    /// It stands here, or it stood under another name in this folder.
    fn may_be(&self, entry: &Entry) -> bool {
        self.is_own(entry) || (entry.path != self.path_text && read_spelt(&entry.path).parent() == self.path.parent())
    }

    /// Where files ended that a large file may be, in order.
    fn ends(&self, head: &[u8], own: Option<&Entry>) -> Vec<(u64, bool)> {
        if self.again {
            return vec![];
        }
        let alike = self.list.begin_like(self.tenant, head, usize::MAX, |entry| self.may_be(entry));
        let marks = alike.iter().map(|(entry, mark)| (mark.end, mark.whole.is_some() && entry.doubtful));
        let own =
            own.filter(|own| own.begins(head)).map(|own| (own.mark.end, own.mark.whole.is_some() && own.doubtful));
        let mut ends: Vec<_> = marks.chain(own).collect();
        ends.sort_unstable();
        ends.dedup_by_key(|(end, _)| *end);
        ends
    }

    /// Reads through a large file once. A plain one is hashed only where it replaces one that was damaged.
    fn pass(&self, source: &mut Source, ends: &[(u64, bool)], passed: &mut Passed) -> Result<Held<'static>, FileError> {
        if ends.is_empty() {
            return Ok(Held::Passed { marks: vec![], damage: None });
        }
        *source = self.open()?;
        if source.is_packed() || ends.iter().any(|(_, doubtful)| *doubtful) {
            passed.hash = Some(Box::default());
        }
        let mut marks = vec![];
        for (end, _) in ends {
            match source.skip_to(*end, passed) {
                Ok(true) => {
                    let whole = passed.hash.as_ref().map(|hash| hash.digest128());
                    marks.push(Mark { whole, ..Mark::after(*end, &passed.before) });
                }
                Ok(false) => break,
                Err(damage) => return Ok(Held::Passed { marks, damage: Some(damage) }),
            }
        }
        Ok(Held::Passed { marks, damage: None })
    }

    fn decide(&self, head: &[u8], own: Option<Entry>, alike: Vec<Entry>, held: &Held<'_>) -> Result<Choice, FileError> {
        if self.again {
            return Ok(Choice::default());
        }
        let own = own.filter(|own| own.begins(head) || own.head.len == 0);
        let own_holds = own.as_ref().map(|own| held.holds(&own.mark));
        if let (Some(own), Some(true)) = (&own, own_holds)
            && own.mark.end > 0
        {
            return Ok(Choice::known(own));
        }
        if let (Some(own), Held::Passed { damage: Some(_), .. } | Held::Whole(_, true)) = (&own, held)
            && held.hides(own.mark.end)
        {
            return Err(FileError::WorseDamaged);
        }
        // The longest that fits is the most particular.
        for entry in alike.iter().filter(|entry| self.may_be(entry) && !self.is_own(entry)) {
            let mark = self.list.seen(entry.id).map_or(entry.mark, |seen| seen.mark);
            if held.holds(&mark) && (entry.gone || is_gone(entry, self.list.seen(entry.id))) {
                return Ok(Choice::known(entry));
            }
        }
        // Nothing of it is known to be taken, so its beginning alone speaks for it: less than any of those above.
        if let (Some(own), Some(true)) = (&own, own_holds) {
            return Ok(Choice::known(own));
        }
        let hidden = |entry: &Entry| self.may_be(entry) && held.hides(entry.mark.end);
        if matches!(held, Held::Passed { damage: Some(_), .. } | Held::Whole(_, true))
            && let Some((entry, _)) = self.list.begin_like(self.tenant, head, 1, hidden).into_iter().next()
        {
            return Err(FileError::CannotTell { path: read_spelt(&entry.path) });
        }
        let warning = own.filter(|own| own.doubtful && own.head.len > 0).map(|own| self.was_wrong(&own));
        Ok(Choice { entry: None, warning, alike: self.elsewhere(head, alike, held) })
    }

    fn was_wrong(&self, own: &Entry) -> String {
        format!(
            "{} was damaged when it was read before, and its first {} bytes were taken otherwise than it holds them now: it is counted from its \
             start, and what was counted then stays counted (nothing is taken back from a stream). To count without that, ingest into a new \
             --data folder",
            self.path.display(),
            own.mark.end
        )
    }

    /// Whose bytes a new file holds from its first byte on. A short one must be the whole of it.
    fn elsewhere(&self, head: &[u8], alike: Vec<Entry>, held: &Held<'_>) -> Vec<(Mark, String)> {
        let read = |entry: Entry| (self.list.seen(entry.id).map_or(entry.mark, |seen| seen.mark), entry.path);
        let is_elsewhere = |entry: &Entry| entry.path != self.path_text;
        match held {
            Held::Whole(bytes, _) => {
                let is_all = |mark: &Mark| mark.end >= HEAD_BYTES as u64 || mark.end == bytes.len() as u64;
                let read = alike.into_iter().filter(is_elsewhere).map(read);
                read.filter(|(mark, _)| mark.end > 0 && is_all(mark) && held.holds(mark)).take(1).collect()
            }
            Held::Passed { .. } => {
                let marks = self.list.begin_like(self.tenant, head, ALIKE_MAX, is_elsewhere);
                marks.into_iter().map(|(entry, mark)| (mark, entry.path)).filter(|(mark, _)| mark.end > 0).collect()
            }
        }
    }

    fn open(&self) -> Result<Source, FileError> {
        Source::of(self.file, None)
    }

    fn take_up(
        &self,
        choice: Choice,
        head: &[u8],
        source: Source,
        standing: Option<Passed>,
    ) -> Result<Known, FileError> {
        let Some(entry) = choice.entry else { return self.begin(head, source, choice.alike, choice.warning) };
        self.go_on(*entry, head, source, standing)
    }

    fn begin(
        &self,
        head: &[u8],
        mut source: Source,
        alike: Vec<(Mark, String)>,
        warning: Option<String>,
    ) -> Result<Known, FileError> {
        if source.whole().is_none() {
            source = self.open()?;
            source.count_in(self.progress.clone());
        } else {
            source.restart();
            source.count_in(self.progress.clone());
        }
        let entry = self.list.register(self.tenant, self.path_text, Print::of(head), self.now_ms)?;
        let passed = Passed::default();
        Ok(Known { entry, from: 0, source, next: Next::Unread, passed, is_new: true, alike, warning })
    }

    fn go_on(
        &self,
        entry: Entry,
        head: &[u8],
        mut source: Source,
        standing: Option<Passed>,
    ) -> Result<Known, FileError> {
        let from = if entry.resend { 0 } else { entry.mark.end };
        // Nothing is unpacked twice for a large packed file that was read before.
        let passed = match standing.filter(|_| source.offset() == from && from > 0) {
            Some(passed) => passed,
            None => {
                match source.whole() {
                    Some(_) => source.restart(),
                    None => source = self.open()?,
                }
                let mut passed = Passed { hash: source.is_packed().then(Box::default), ..Passed::default() };
                if !source.skip_to(from, &mut passed)? {
                    return Err(FileError::Shrank { read: from, now: source.offset() });
                }
                passed
            }
        };
        source.count_in(self.progress.clone());
        let mut byte = [0; 1];
        let next = if source.read(&mut byte)? == 0 { Next::End } else { Next::Byte(byte[0]) };
        let longer = entry.head.len < HEAD_BYTES && head.len() > entry.head.len;
        let head = if longer { Print::of(head) } else { entry.head };
        // Nothing to read and nothing to say: a folder of old files costs no writes.
        let silent = matches!(next, Next::End) && !longer && entry.path == self.path_text && !entry.gone;
        let entry = if silent { entry } else { self.list.resume(&entry, self.path_text, head, from, self.now_ms)? };
        Ok(Known { entry, from, source, next, passed, is_new: false, alike: vec![], warning: None })
    }
}

/// What a file is.
#[derive(Default)]
struct Choice {
    /// One that was read before; `None`: a new one.
    entry: Option<Box<Entry>>,
    warning: Option<String>,
    alike: Vec<(Mark, String)>,
}

impl Choice {
    fn known(entry: &Entry) -> Self {
        Self { entry: Some(Box::new(entry.clone())), ..Self::default() }
    }
}

/// The first bytes, and the damage that ends them.
fn read_head(source: &mut Source, head: &mut [u8]) -> (usize, Option<FileError>) {
    if let Some((bytes, _)) = source.whole()
        && !bytes.is_empty()
    {
        let have = bytes.len().min(head.len());
        head[..have].copy_from_slice(&bytes[..have]);
        return (have, None);
    }
    let mut have = 0;
    while have < head.len() {
        match source.read(&mut head[have..]) {
            Ok(0) => break,
            Ok(count) => have += count,
            Err(error) => return (have, Some(error)),
        }
    }
    (have, None)
}

/// What tells a file from another without reading it.
#[cfg(unix)]
pub(super) fn stamp(metadata: &Metadata) -> Option<Stamp> {
    use std::os::unix::fs::MetadataExt;
    Some((metadata.dev(), metadata.ino(), metadata.len(), metadata.ctime(), metadata.ctime_nsec()))
}

#[cfg(not(unix))]
pub(super) fn stamp(_: &Metadata) -> Option<Stamp> {
    None
}

/// True if its path holds something else by now, or nothing. What cannot be read may still be there.
fn is_gone(entry: &Entry, seen: Option<Seen>) -> bool {
    let path = &read_spelt(&entry.path);
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return true,
        Ok(metadata) if !metadata.is_file() => return true,
        // Untouched since this run read it.
        Ok(metadata) if seen.is_some_and(|seen| seen.stamp.is_some() && seen.stamp == stamp(&metadata)) => {
            return false;
        }
        _ => {}
    }
    let file = match open_file(path) {
        Ok(file) => file,
        Err(error) => return matches!(error, FileError::NotFound),
    };
    let Ok(mut source) = Source::of(&file, None) else { return false };
    let mut head = [0; HEAD_BYTES];
    let (have, damage) = read_head(&mut source, &mut head);
    let damaged = damage.is_some() || source.whole().is_some_and(|(_, damaged)| damaged);
    if have < entry.head.len {
        return !damaged;
    }
    if !entry.begins(&head[..have]) {
        return true;
    }
    if let Some((bytes, damaged)) = source.whole() {
        let held = Held::Whole(bytes, damaged);
        return !held.hides(entry.mark.end) && !held.holds(&entry.mark);
    }
    let mut passed = Passed::default();
    let Ok(mut source) = Source::of(&file, None) else { return false };
    match source.skip_to(entry.mark.end, &mut passed) {
        Ok(reached) => !(reached && Mark::after(entry.mark.end, &passed.before).tail == entry.mark.tail),
        Err(_) => false,
    }
}
