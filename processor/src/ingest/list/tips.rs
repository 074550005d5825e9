//! How far the stream was when this list last saw lines acknowledged. Decides whether a stream has lost what the list says it took.
//!
//! `acknowledged` in the list's folder has a line for each shard, and a checksum. It may lag behind the list by `WRITE_EVERY` answers after a crash;
//! what it says is never too much. Who opens a stream compares, before anything is appended to it (each opening's positions are higher than all
//! before, so later nobody could tell), and leaves `lost` in the folder where the stream ends too early. The list's next opening takes all of its
//! files for ones to be sent again: under the same names, so that the fold knows what it still has.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use events::position::{SequenceNumber, ShardId};
use xxhash_rust::xxh3::xxh3_64;

const WRITE_EVERY: u32 = 16;

#[derive(Debug)]
pub(super) struct Tips {
    folder: PathBuf,
    /// What earlier runs had seen.
    before: BTreeMap<ShardId, SequenceNumber>,
    now: BTreeMap<ShardId, SequenceNumber>,
    unwritten: u32,
}

impl Tips {
    pub fn open(folder: &Path) -> Self {
        let before = read(folder);
        Self { folder: folder.to_owned(), now: before.clone(), before, unwritten: 0 }
    }

    /// A record was acknowledged; whether an earlier one stood at or behind its place, so that the stream has lost that.
    pub fn acknowledged(&mut self, shard: ShardId, sequence: SequenceNumber) -> io::Result<bool> {
        if self.before.get(&shard).is_some_and(|before| sequence <= *before) {
            note(&self.folder)?;
            return Ok(true);
        }
        let now = self.now.entry(shard).or_default();
        *now = sequence.max(*now);
        self.unwritten += 1;
        if self.unwritten >= WRITE_EVERY { self.write(false).map(|()| false) } else { Ok(false) }
    }

    pub fn write(&mut self, durably: bool) -> io::Result<()> {
        if self.unwritten == 0 {
            return Ok(());
        }
        let mut text: String = self.now.iter().map(|(shard, sequence)| format!("{shard} {sequence}\n")).collect();
        text.push_str(&format!("{:016x}\n", xxh3_64(text.as_bytes())));
        put(&self.folder, "acknowledged", &text, durably)?;
        self.unwritten = 0;
        Ok(())
    }
}

fn read(folder: &Path) -> BTreeMap<ShardId, SequenceNumber> {
    let text = fs::read_to_string(folder.join("acknowledged")).unwrap_or_default();
    let Some((lines, sum)) = text.trim_end().rsplit_once('\n') else { return BTreeMap::new() };
    if u64::from_str_radix(sum, 16) != Ok(xxh3_64(format!("{lines}\n").as_bytes())) {
        return BTreeMap::new();
    }
    let line = |line: &str| {
        let (shard, sequence) = line.split_once(' ')?;
        Some((ShardId::named(shard), sequence.parse().ok()?))
    };
    lines.lines().filter_map(line).collect()
}

fn put(folder: &Path, name: &str, text: &str, durably: bool) -> io::Result<()> {
    let beside = folder.join(format!("{name}.new"));
    let mut file = File::create(&beside)?;
    file.write_all(text.as_bytes())?;
    if durably {
        file.sync_all()?;
    }
    fs::rename(&beside, folder.join(name))?;
    if durably { File::open(folder)?.sync_all() } else { Ok(()) }
}

fn note(folder: &Path) -> io::Result<()> {
    put(folder, "lost", "the stream ended before what this list had seen acknowledged\n", true)
}

/// Compares a stream that was opened, and to which nothing was appended yet, with what the list in `folder` has seen. `tips`: the last durable
/// position of each shard. True: the stream has lost something; the list knows by itself from now on.
pub fn compare(folder: &Path, tips: &[(ShardId, SequenceNumber)]) -> io::Result<bool> {
    let reaches = |(shard, seen): (&ShardId, &SequenceNumber)| tips.iter().any(|(of, tip)| of == shard && tip >= seen);
    let lost = !read(folder).iter().all(reaches);
    if lost {
        note(folder)?;
    }
    Ok(lost)
}

pub(super) fn is_noted(folder: &Path) -> bool {
    folder.join("lost").exists()
}

/// The list has taken it to heart, durably.
pub(super) fn forget(folder: &Path) -> io::Result<()> {
    for name in ["acknowledged", "lost"] {
        match fs::remove_file(folder.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    File::open(folder)?.sync_all()
}
