//! A file's bytes after decompression. Tells what it holds by its first bytes, never by its name, and refuses what holds no lines.
//!
//! A small file is read to its end at once: it is opened and read one time, whoever it turns out to be.

use std::{
    fs::File,
    io::{ErrorKind, Seek},
    path::Path,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use events::pack::HISTORY_BYTES;
use xxhash_rust::xxh3::Xxh3Default;

use super::{
    FileError, Progress,
    ahead::{Ahead, Small, Unpack},
    gzip::{self, Gzip},
    input::{Input, Raw},
    zstd_frames::{self, Frames},
};

const SKIP_BYTES: usize = 128 << 10;
/// A file that nothing packs is read at once up to this length. Less in tests, so that they take both ways.
const SMALL_BYTES: u64 = if cfg!(test) { 2 << 10 } else { 256 << 10 };
/// Enough to tell what a file holds.
const MAGIC_BYTES: usize = 16;
/// Where a tar archive says that it is one, and what.
const TAR: (usize, &[u8]) = (257, b"ustar");

enum Form {
    Plain(Input),
    Packed(Box<Ahead>),
    Small { bytes: Vec<u8>, damage: Option<FileError>, disk_bytes: u64 },
}

/// See the module.
pub(super) struct Source {
    form: Form,
    is_packed: bool,
    /// Offset of the next byte, after decompression.
    offset: u64,
    /// The first call's damage stays.
    broken: bool,
}

/// What was passed over, as far as who goes on needs it.
#[derive(Clone, Default)]
pub(super) struct Passed {
    /// The last bytes, at most `HISTORY_BYTES`.
    pub before: Vec<u8>,
    /// All of them, if asked for.
    pub hash: Option<Box<Xxh3Default>>,
}

impl Source {
    pub(super) fn open(path: &Path, progress: Option<Arc<Progress>>) -> Result<Self, FileError> {
        Self::new(Raw::File(open_file(path)?), progress)
    }

    /// From the first byte of a file that is open: another may stand at its path by now. One source at a time reads it.
    pub(super) fn of(file: &File, progress: Option<Arc<Progress>>) -> Result<Self, FileError> {
        let mut file = file.try_clone().map_err(FileError::Open)?;
        file.rewind().map_err(|source| FileError::Read { offset: 0, source })?;
        Self::new(Raw::File(file), progress)
    }

    pub(super) fn new(raw: Raw, progress: Option<Arc<Progress>>) -> Result<Self, FileError> {
        let mut input = Input::new(raw, progress)?;
        let head = input.peek(MAGIC_BYTES)?;
        let unpack = if head.starts_with(&gzip::MAGIC) {
            Unpack::Gzip(Gzip::new())
        } else if zstd_frames::begins_frame(head) {
            Unpack::Zstd(Frames::new()?)
        } else {
            refuse(head)?;
            refuse(input.peeked())?;
            let form = match input.len()? {
                Some(len) if len <= SMALL_BYTES => small(input)?,
                _ => Form::Plain(input),
            };
            return Ok(Self { form, is_packed: false, offset: 0, broken: false });
        };
        let form = match Ahead::new(unpack, input) {
            Ok(ahead) => Form::Packed(Box::new(ahead)),
            Err(Small { bytes, damage: Some(damage), .. }) if bytes.is_empty() => return Err(damage),
            Err(Small { bytes, damage, disk_bytes }) => Form::Small { bytes, damage, disk_bytes },
        };
        match &form {
            Form::Packed(ahead) => refuse(ahead.first())?,
            Form::Small { bytes, .. } => refuse(bytes)?,
            Form::Plain(_) => {}
        }
        Ok(Self { form, is_packed: true, offset: 0, broken: false })
    }

    /// Counts what was read so far, and what will be.
    pub(super) fn count_in(&mut self, progress: Arc<Progress>) {
        match &mut self.form {
            Form::Plain(input) => input.count_in(progress),
            Form::Packed(ahead) => ahead.input().count_in(progress),
            Form::Small { disk_bytes, .. } => {
                progress.disk_bytes_read.fetch_add(std::mem::take(disk_bytes), Relaxed);
            }
        }
    }

    /// Offset of the next byte, after decompression.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Goes back to the first byte of a small file.
    pub(super) fn restart(&mut self) {
        debug_assert!(self.whole().is_some(), "what was read of a larger one is gone");
        self.offset = 0;
    }

    /// True if bytes were unpacked.
    pub(super) fn is_packed(&self) -> bool {
        self.is_packed
    }

    /// All bytes of a small file, and whether damage follows them.
    pub(super) fn whole(&self) -> Option<(&[u8], bool)> {
        match &self.form {
            Form::Small { bytes, damage, .. } => Some((bytes, damage.is_some())),
            _ => None,
        }
    }

    /// Fills some of `out`; 0 at the end. Bytes before damage come before the error does.
    pub(super) fn read(&mut self, out: &mut [u8]) -> Result<usize, FileError> {
        if self.broken {
            return Ok(0);
        }
        let result = match &mut self.form {
            Form::Plain(input) => input.read(out),
            Form::Packed(ahead) => ahead.read(out),
            Form::Small { bytes, damage, .. } => {
                let rest = bytes.get(self.offset as usize..).unwrap_or_default();
                let count = out.len().min(rest.len());
                out[..count].copy_from_slice(&rest[..count]);
                match damage.take_if(|_| count == 0) {
                    Some(damage) => Err(damage),
                    None => Ok(count),
                }
            }
        };
        match &result {
            Ok(count) => self.offset += *count as u64,
            Err(_) => self.broken = true,
        }
        if let (Ok(0), Form::Plain(input)) = (&result, &self.form)
            && let Some(now) = input.len()?.filter(|now| *now < self.offset)
        {
            return Err(FileError::Shrank { read: self.offset, now });
        }
        result
    }

    /// Goes on to `to`, false if the source ends before. `passed` grows by what lies between; of a plain file that nobody hashes, by its end only.
    pub(super) fn skip_to(&mut self, to: u64, passed: &mut Passed) -> Result<bool, FileError> {
        if let Form::Plain(input) = &mut self.form
            && passed.hash.is_none()
        {
            if input.len()?.is_some_and(|len| len < to) {
                return Ok(false);
            }
            passed.before.clear();
            self.offset = to.saturating_sub(HISTORY_BYTES as u64);
            input.seek(self.offset)?;
        }
        let mut buffer = vec![0; SKIP_BYTES.min((to - self.offset) as usize)];
        while self.offset < to {
            let wanted = buffer.len().min((to - self.offset) as usize);
            let count = self.read(&mut buffer[..wanted])?;
            if count == 0 {
                return Ok(false);
            }
            if let Some(hash) = &mut passed.hash {
                hash.update(&buffer[..count]);
            }
            passed.before.extend_from_slice(&buffer[..count]);
            passed.before.drain(..passed.before.len().saturating_sub(HISTORY_BYTES));
        }
        Ok(true)
    }
}

fn small(mut input: Input) -> Result<Form, FileError> {
    let mut bytes = input.peeked().to_vec();
    input.take(bytes.len());
    let mut have = bytes.len();
    loop {
        if have == bytes.len() {
            // One byte more shows the end.
            bytes.resize(have + have.clamp(64, SKIP_BYTES), 0);
        }
        match input.read(&mut bytes[have..])? {
            0 => break,
            count => have += count,
        }
    }
    bytes.truncate(have);
    let shrank = input.len()?.filter(|now| *now < have as u64);
    let damage = shrank.map(|now| FileError::Shrank { read: have as u64, now });
    Ok(Form::Small { bytes, damage, disk_bytes: input.uncounted() })
}

pub(super) fn open_file(path: &Path) -> Result<File, FileError> {
    File::open(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => FileError::NotFound,
        _ => FileError::Open(error),
    })
}

/// What nobody would want to be counted as lines.
fn refuse(head: &[u8]) -> Result<(), FileError> {
    let bzip2 = head.starts_with(b"BZh")
        && head.get(4..10).is_some_and(|block| {
            block == [0x31, 0x41, 0x59, 0x26, 0x53, 0x59] || block == [0x17, 0x72, 0x45, 0x38, 0x50, 0x90]
        });
    let known = [
        (bzip2, "bzip2", "bzip2 -dc"),
        (head.starts_with(b"\xfd7zXZ\0"), "xz", "xz -dc"),
        (head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06"), "zip", "unzip -p"),
        (head.starts_with(b"7z\xbc\xaf\x27\x1c"), "7z", "7z x -so"),
        (head.starts_with(b"\x04\x22\x4d\x18"), "lz4", "lz4 -dc"),
        (head.starts_with(b"\x1f\x9d"), "compress", "uncompress -c"),
    ];
    if let Some((_, name, command)) = known.into_iter().find(|(is, ..)| *is) {
        return Err(FileError::Packing(name, command));
    }
    if head.get(TAR.0..).is_some_and(|rest| rest.starts_with(TAR.1)) {
        return Err(FileError::Archive);
    }
    if head.starts_with(b"\xff\xfe") || head.starts_with(b"\xfe\xff") {
        return Err(FileError::Utf16);
    }
    Ok(())
}
