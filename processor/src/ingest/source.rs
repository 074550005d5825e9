//! A file's bytes after decompression. Tells how it is packed by its first bytes, never by its name.

use std::{
    fs::File,
    io::{ErrorKind, Seek},
    path::Path,
    sync::Arc,
};

use events::pack::HISTORY_BYTES;

use super::{
    FileError, Progress,
    gzip::{self, Gzip},
    input::{Input, Raw},
    zstd_frames::{self, Frames},
};

const SKIP_BYTES: usize = 128 << 10;

enum Packing {
    Plain,
    Gzip(Gzip),
    Zstd(Frames),
}

/// See the module.
pub(super) struct Source {
    input: Input,
    packing: Packing,
    /// Bytes that were given, after decompression.
    offset: u64,
    /// The first call's damage stays.
    broken: bool,
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
        let mut input = Input::new(raw, progress);
        let head = input.peek(16)?;
        let packing = if head.starts_with(&gzip::MAGIC) {
            Packing::Gzip(Gzip::new())
        } else if zstd_frames::begins_frame(head) {
            Packing::Zstd(Frames::new()?)
        } else if let Some(name) = unreadable(head) {
            return Err(FileError::Packing(name));
        } else {
            Packing::Plain
        };
        Ok(Self { input, packing, offset: 0, broken: false })
    }

    /// Counts what was read so far, and what will be.
    pub(super) fn count_in(&mut self, progress: Arc<Progress>) {
        self.input.count_in(progress);
    }

    /// Offset of the next byte, after decompression.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Fills some of `out`; 0 at the end. Bytes before damage come before the error does.
    pub(super) fn read(&mut self, out: &mut [u8]) -> Result<usize, FileError> {
        if self.broken {
            return Ok(0);
        }
        let result = match &mut self.packing {
            Packing::Plain => self.input.read(out),
            Packing::Gzip(gzip) => gzip.read(&mut self.input, out),
            Packing::Zstd(frames) => frames.read(&mut self.input, out),
        };
        match &result {
            Ok(count) => self.offset += *count as u64,
            Err(_) => self.broken = true,
        }
        if let (Ok(0), Packing::Plain) = (&result, &self.packing)
            && let Some(now) = self.input.len()?.filter(|now| *now < self.offset)
        {
            return Err(FileError::Shrank { read: self.offset, now });
        }
        result
    }

    /// Goes on to `to`, false if the source ends before. `before`: the last bytes before where it stands, at most `HISTORY_BYTES`.
    pub(super) fn skip_to(&mut self, to: u64, before: &mut Vec<u8>) -> Result<bool, FileError> {
        if let Packing::Plain = self.packing {
            if self.input.len()?.is_some_and(|len| len < to) {
                return Ok(false);
            }
            before.clear();
            let from = to.saturating_sub(HISTORY_BYTES as u64);
            self.input.seek(from)?;
            self.offset = from;
        }
        let mut buffer = vec![0; SKIP_BYTES.min((to - self.offset) as usize)];
        while self.offset < to {
            let wanted = buffer.len().min((to - self.offset) as usize);
            let count = self.read(&mut buffer[..wanted])?;
            if count == 0 {
                return Ok(false);
            }
            before.extend_from_slice(&buffer[..count]);
            before.drain(..before.len().saturating_sub(HISTORY_BYTES));
        }
        Ok(true)
    }
}

pub(super) fn open_file(path: &Path) -> Result<File, FileError> {
    File::open(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => FileError::NotFound,
        _ => FileError::Open(error),
    })
}

/// Packed in a way that nobody would want to be counted as lines.
fn unreadable(head: &[u8]) -> Option<&'static str> {
    let bzip2 = head.starts_with(b"BZh") && head.get(4..10) == Some(&[0x31, 0x41, 0x59, 0x26, 0x53, 0x59][..]);
    let known = [
        (bzip2, "bzip2"),
        (head.starts_with(b"\xfd7zXZ\0"), "xz"),
        (head.starts_with(b"PK\x03\x04"), "zip"),
        (head.starts_with(b"7z\xbc\xaf\x27\x1c"), "7z"),
        (head.starts_with(b"\x04\x22\x4d\x18"), "lz4"),
    ];
    known.into_iter().find_map(|(is, name)| is.then_some(name))
}
