//! Bytes as they lie in the file, with their offset. Decides nothing.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    sync::{Arc, atomic::Ordering::Relaxed},
};

use super::{FileError, Progress, object::Ranged};

/// How much of a packed file is read at once.
const BUFFER_BYTES: usize = 128 << 10;
/// Most bytes that can be looked at without taking them.
const PEEK_BYTES_MAX: usize = 16;

/// A file, an object, or a pipe.
pub(super) enum Raw {
    File(File),
    Object(Box<dyn Ranged>),
    Pipe(Box<dyn Read + Send>),
}

impl Raw {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let result = match self {
                Self::File(file) => file.read(out),
                Self::Object(object) => object.read(out),
                Self::Pipe(pipe) => pipe.read(out),
            };
            match result {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }
}

/// See the module.
pub(super) struct Input {
    raw: Raw,
    buffer: Vec<u8>,
    begin: usize,
    end: usize,
    /// Offset in the file of `buffer[begin]`.
    offset: u64,
    progress: Option<Arc<Progress>>,
}

impl Input {
    /// `progress`: counts what is read.
    pub(super) fn new(raw: Raw, progress: Option<Arc<Progress>>) -> Result<Self, FileError> {
        let mut input = Self { raw, buffer: vec![], begin: 0, end: 0, offset: 0, progress };
        // A small file needs a small buffer; one byte more shows its end.
        let room = input.len()?.map_or(BUFFER_BYTES, |len| BUFFER_BYTES.min(len as usize + 1));
        input.buffer.resize(room.max(PEEK_BYTES_MAX), 0);
        Ok(input)
    }

    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Counts what was read so far, and what will be.
    pub(super) fn count_in(&mut self, progress: Arc<Progress>) {
        self.progress = Some(progress);
        self.count((self.offset as usize) + self.end - self.begin);
    }

    /// How many bytes were read that nobody counted.
    pub(super) fn uncounted(&self) -> u64 {
        if self.progress.is_some() { 0 } else { self.offset + (self.end - self.begin) as u64 }
    }

    /// The next bytes without taking them: at least `wanted` (at most `PEEK_BYTES_MAX`), fewer only at the end.
    pub(super) fn peek(&mut self, wanted: usize) -> Result<&[u8], FileError> {
        if self.end - self.begin < wanted {
            self.buffer.copy_within(self.begin..self.end, 0);
            self.end -= self.begin;
            self.begin = 0;
            while self.end < wanted {
                let read = self.raw.read(&mut self.buffer[self.end..]);
                let count = read.map_err(|error| FileError::reading(self.offset + self.end as u64, error))?;
                if count == 0 {
                    break;
                }
                self.end += count;
                self.count(count);
            }
        }
        Ok(&self.buffer[self.begin..self.end])
    }

    /// What was read and not taken.
    pub(super) fn peeked(&self) -> &[u8] {
        &self.buffer[self.begin..self.end]
    }

    /// Takes bytes that were peeked.
    pub(super) fn take(&mut self, count: usize) {
        self.begin += count;
        self.offset += count as u64;
    }

    /// The next byte; `None` at the end.
    pub(super) fn byte(&mut self) -> Result<Option<u8>, FileError> {
        let byte = self.peek(1)?.first().copied();
        self.take(usize::from(byte.is_some()));
        Ok(byte)
    }

    /// Fills `out`, without a copy once what was peeked is taken; 0 at the end.
    pub(super) fn read(&mut self, out: &mut [u8]) -> Result<usize, FileError> {
        let count = if self.begin < self.end {
            let count = out.len().min(self.end - self.begin);
            out[..count].copy_from_slice(&self.buffer[self.begin..self.begin + count]);
            self.begin += count;
            count
        } else {
            let offset = self.offset;
            let count = self.raw.read(out).map_err(|error| FileError::reading(offset, error))?;
            self.count(count);
            count
        };
        self.offset += count as u64;
        Ok(count)
    }

    /// Goes to `offset` of a file or an object, which counts as read.
    pub(super) fn seek(&mut self, offset: u64) -> Result<(), FileError> {
        match &mut self.raw {
            Raw::File(file) => {
                file.seek(SeekFrom::Start(offset)).map_err(|source| FileError::Read { offset, source })?;
            }
            Raw::Object(object) => object.go_to(offset),
            Raw::Pipe(_) => return Ok(()),
        }
        let known = offset.saturating_sub(self.offset + (self.end - self.begin) as u64);
        (self.begin, self.end, self.offset) = (0, 0, offset);
        self.count(known as usize);
        Ok(())
    }

    /// How long the file is now, or the object for ever; `None` for a pipe.
    pub(super) fn len(&self) -> Result<Option<u64>, FileError> {
        let file = match &self.raw {
            Raw::File(file) => file,
            Raw::Object(object) => return Ok(Some(object.size())),
            Raw::Pipe(_) => return Ok(None),
        };
        let metadata = file.metadata().map_err(|source| FileError::Read { offset: self.offset, source })?;
        Ok(Some(metadata.len()))
    }

    fn count(&self, bytes: usize) {
        if let Some(progress) = &self.progress {
            progress.disk_bytes_read.fetch_add(bytes as u64, Relaxed);
        }
    }
}
