//! One input from where it is to be read to its end: its bytes into batches. Decides how much is read at once, and of which bytes a mark speaks.

use std::{path::Path, sync::atomic::Ordering::Relaxed};

use events::pack::{Packed, Packer};
use xxhash_rust::xxh3::Xxh3Default;

use super::{Message, Place, Reader};
use crate::ingest::{
    FileError,
    list::{HEAD_BYTES, Mark},
    source::Source,
};

/// How much is read at once.
const READ_BYTES: usize = 256 << 10;

/// Bytes of one input with their identity.
pub(super) struct Pour<'a> {
    pub(super) file: usize,
    pub(super) path: &'a Path,
    pub(super) source: Source,
    pub(super) packer: Packer,
    pub(super) place: Option<Place>,
    pub(super) taken: Option<Taken>,
    pub(super) alike: Vec<(Mark, String)>,
    pub(super) warned: bool,
}

/// The hash of a packed file's bytes up to the next batch.
pub(super) struct Taken {
    pub(super) hash: Box<Xxh3Default>,
    pub(super) to: u64,
    /// Read, and not in a batch yet.
    pub(super) unhashed: Vec<u8>,
}

impl Taken {
    fn advance(&mut self, to: u64) {
        let count = (to - self.to) as usize;
        self.hash.update(&self.unhashed[..count]);
        self.unhashed.drain(..count);
        self.to = to;
    }
}

impl Pour<'_> {
    /// Up to the next batch.
    fn mark(&mut self) -> Mark {
        let mut mark = Mark::after(self.packer.offset(), self.packer.history());
        // Within a line that was passed over when the file broke off, no hash ends.
        if let Some(taken) = self.taken.as_mut().filter(|taken| taken.to <= mark.end) {
            taken.advance(mark.end);
            mark.whole = Some(taken.hash.digest128());
        }
        mark
    }

    /// A line that is too long is passed over before it is packed: no batch ends within, so it need not be held for the hash.
    fn pass_over(&mut self) {
        let holds_nothing = self.packer.pushed().len() == self.packer.history().len();
        if let Some(taken) = self.taken.as_mut().filter(|_| holds_nothing) {
            taken.hash.update(&taken.unhashed);
            taken.to += taken.unhashed.len() as u64;
            taken.unhashed.clear();
        }
    }
}

impl Reader {
    /// Reads to the end; whether there was anything, and how far it came.
    pub(super) fn pour(&mut self, mut pour: Pour<'_>) -> (Result<bool, FileError>, Mark) {
        let from = pour.packer.offset();
        let result = self.pour_all(&mut pour);
        let mark = pour.mark();
        (result.map(|()| mark.end > from), mark)
    }

    fn pour_all(&mut self, pour: &mut Pour<'_>) -> Result<(), FileError> {
        loop {
            let filled = self.fill(pour);
            while let Some(packed) = pour.packer.next(false) {
                self.send(pour, packed)?;
            }
            pour.pass_over();
            let result = match filled {
                Ok(true) => continue,
                Ok(false) => Ok(()),
                // Half a line before damage is no line.
                Err(error) => {
                    pour.packer.forget_unfinished();
                    Err(error)
                }
            };
            while let Some(packed) = pour.packer.next(true) {
                self.send(pour, packed)?;
            }
            return result;
        }
    }

    /// Reads about a batch; false at the end.
    fn fill(&mut self, pour: &mut Pour<'_>) -> Result<bool, FileError> {
        let mut appetite = pour.packer.appetite();
        while appetite > 0 {
            let space = pour.packer.space(READ_BYTES.min(appetite));
            let wanted = space.len().min(appetite);
            let count = pour.source.read(&mut space[..wanted])?;
            if count == 0 {
                self.compare(pour, 0);
                return Ok(false);
            }
            if let Some(taken) = &mut pour.taken {
                taken.unhashed.extend_from_slice(&space[..count]);
            }
            pour.packer.filled(count);
            self.progress.raw_bytes.fetch_add(count as u64, Relaxed);
            self.compare(pour, count as u64);
            appetite -= count;
        }
        Ok(true)
    }

    /// Warns once if the file holds, from its first byte on, all that was read of another. A short one must be the whole of it.
    fn compare(&mut self, pour: &mut Pour<'_>, count: u64) {
        if pour.alike.is_empty() || pour.warned {
            return;
        }
        let to = pour.source.offset();
        let reached = |mark: &Mark| {
            if mark.end >= HEAD_BYTES as u64 {
                (to - count + 1..=to).contains(&mark.end)
            } else {
                count == 0 && mark.end == to
            }
        };
        let pushed = pour.packer.pushed();
        let same = pour.alike.iter().find(|(mark, _)| {
            reached(mark) && mark.tail.ends(&pushed[..pushed.len().saturating_sub((to - mark.end) as usize)])
        });
        if let Some((_, other)) = same {
            pour.warned = true;
            let warning = format!("{} holds the bytes of {other}, and was counted again", pour.path.display());
            // Where nobody listens, the next batch says so.
            let _ = self.tell(Message::Warning(warning));
        }
    }

    fn send(&mut self, pour: &mut Pour<'_>, packed: Packed) -> Result<(), FileError> {
        if self.stop.load(Relaxed) || self.broken.load(Relaxed) == pour.file as u64 + 1 {
            return Err(FileError::NotRead);
        }
        self.progress.lines_packed.fetch_add(packed.lines, Relaxed);
        let mark = pour.mark();
        let mark = pour.place.map(|place| place.with(mark));
        self.tell(Message::Batch { file: pour.file, packed, mark })
    }
}
