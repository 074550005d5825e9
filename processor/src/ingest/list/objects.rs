//! Which objects were read, and how far. Decides nothing that counts: an object is known to the stream by what it is, so who forgets it reads it
//! again, and all its lines are duplicates. What is remembered saves the reading, and the units that those copies cost.
//!
//! A file of records of 32 bytes: the object's number, the first byte (after decompression) that is not durable on the stream or `u64::MAX` for an
//! object that was read to its end, and a checksum of both. The last record of an object holds. A record that is torn or damaged is passed over.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use xxhash_rust::xxh3::xxh3_64;

use crate::ingest::object::ObjectId;

const NAME: &str = "objects";
const MAGIC: [u8; 32] = *b"weir: objects read, version 1\n\0\0";
const RECORD_BYTES: usize = 32;
const READ_WHOLE: u64 = u64::MAX;
/// Most objects of one list: some 250 MB of memory. What is beyond is not noted, and is read again when it is named again; that is said.
pub const OBJECTS_MAX: usize = 5_000_000;
/// An object that is being read is noted each time that so many bytes more are durable: what a run that is cut off reads again at most.
const STEP_BYTES: u64 = 16 << 20;

/// See the module.
#[derive(Debug)]
pub(super) struct Objects {
    path: PathBuf,
    /// Opened when the first is noted: most lists hold none.
    file: Option<File>,
    ends: HashMap<ObjectId, u64>,
    full_was_said: bool,
}

fn record(id: ObjectId, end: u64) -> [u8; RECORD_BYTES] {
    let mut bytes = [0; RECORD_BYTES];
    bytes[..16].copy_from_slice(&id.0.to_le_bytes());
    bytes[16..24].copy_from_slice(&end.to_le_bytes());
    let sum = xxh3_64(&bytes[..24]);
    bytes[24..].copy_from_slice(&sum.to_le_bytes());
    bytes
}

fn read(bytes: &[u8]) -> Option<(ObjectId, u64)> {
    let (said, sum) = bytes.split_at_checked(24)?;
    let (id, end) = said.split_at(16);
    let is_right = xxh3_64(said).to_le_bytes() == sum;
    is_right
        .then(|| Some((ObjectId(u128::from_le_bytes(id.try_into().ok()?)), u64::from_le_bytes(end.try_into().ok()?))))?
}

impl Objects {
    /// The list in this folder; none is empty.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        let path = folder.join(NAME);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => vec![],
            read => read?,
        };
        let mut ends = HashMap::new();
        let records = bytes.strip_prefix(&MAGIC).unwrap_or_default();
        let (mut count, mut damaged) = (0, !bytes.is_empty() && !bytes.starts_with(&MAGIC));
        for record in records.chunks(RECORD_BYTES) {
            count += 1;
            match read(record) {
                Some((id, end)) => drop(ends.insert(id, end)),
                None => damaged = true,
            }
        }
        let mut list = Self { path, file: None, ends, full_was_said: false };
        if damaged || count > 2 * list.ends.len() + 1024 {
            list.rewrite()?;
        }
        Ok(list)
    }

    /// Forgets all: the stream has lost some of it.
    pub(super) fn forget(&mut self) -> io::Result<()> {
        self.ends.clear();
        self.file = None;
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    /// In one step: whoever stops in between has the old one.
    fn rewrite(&mut self) -> io::Result<()> {
        let beside = self.path.with_extension("new");
        let mut bytes = MAGIC.to_vec();
        self.ends.iter().for_each(|(id, end)| bytes.extend_from_slice(&record(*id, *end)));
        let mut file = File::create(&beside)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&beside, &self.path)
    }

    /// It was read to its end.
    pub(super) fn is_read(&self, id: ObjectId) -> bool {
        self.ends.get(&id) == Some(&READ_WHOLE)
    }

    /// First byte that is not durable.
    pub(super) fn end(&self, id: ObjectId) -> u64 {
        self.ends.get(&id).copied().unwrap_or(0)
    }

    /// All before this byte is durable.
    pub(super) fn advance(&mut self, id: ObjectId, end: u64) -> io::Result<bool> {
        if end < self.end(id).saturating_add(STEP_BYTES) { Ok(true) } else { self.note(id, end) }
    }

    /// It was read to its end, and all of it is durable. False, once, where the list takes no more.
    pub(super) fn finish(&mut self, id: ObjectId) -> io::Result<bool> {
        if self.is_read(id) { Ok(true) } else { self.note(id, READ_WHOLE) }
    }

    fn note(&mut self, id: ObjectId, end: u64) -> io::Result<bool> {
        if self.ends.len() >= OBJECTS_MAX && !self.ends.contains_key(&id) {
            return Ok(std::mem::replace(&mut self.full_was_said, true));
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let mut file = File::options().create(true).append(true).open(&self.path)?;
                if file.metadata()?.len() == 0 {
                    file.write_all(&MAGIC)?;
                }
                none.insert(file)
            }
        };
        // One write: what a crash tears is one record, which is read again.
        file.write_all(&record(id, end))?;
        self.ends.insert(id, end);
        Ok(true)
    }

    /// What was noted survives the machine.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.as_ref().map_or(Ok(()), File::sync_data)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_list_that_was_torn_or_damaged_forgets_what_stood_there_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let mut list = Objects::open(folder.path()).unwrap();
        assert!(!folder.path().join(NAME).exists(), "a list of nothing is no file");
        list.finish(ObjectId(1)).unwrap();
        list.advance(ObjectId(2), STEP_BYTES - 1).unwrap();
        list.advance(ObjectId(3), STEP_BYTES).unwrap();
        list.finish(ObjectId(4)).unwrap();
        drop(list);
        let mut list = Objects::open(folder.path()).unwrap();
        assert!(list.is_read(ObjectId(1)) && list.is_read(ObjectId(4)) && !list.is_read(ObjectId(3)));
        assert_eq!((list.end(ObjectId(2)), list.end(ObjectId(3))), (0, STEP_BYTES));
        list.finish(ObjectId(3)).unwrap();
        drop(list);
        let path = folder.path().join(NAME);
        let mut bytes = fs::read(&path).unwrap();
        // The first of object 3, and a torn last one.
        bytes[MAGIC.len() + RECORD_BYTES] ^= 1;
        bytes.extend_from_slice(&record(ObjectId(5), READ_WHOLE)[..20]);
        fs::write(&path, bytes).unwrap();
        let mut list = Objects::open(folder.path()).unwrap();
        assert_eq!([1, 3, 4, 5].map(|id| list.is_read(ObjectId(id))), [true, true, true, false]);
        list.finish(ObjectId(5)).unwrap();
        assert!(Objects::open(folder.path()).unwrap().is_read(ObjectId(5)));
        list.forget().unwrap();
        assert!(!Objects::open(folder.path()).unwrap().is_read(ObjectId(1)));
    }
}
