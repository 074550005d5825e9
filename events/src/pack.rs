//! Bytes in, batches out: the one packer that files, standard input and HTTP bodies go through. Pure: reads no file and asks no clock.
//!
//! Bytes are read into a buffer with room before them; a batch that nothing compresses is that buffer, with the header written into the room.
//! So its bytes are never copied: only what follows the cut, some lines, moves to the next buffer.
//!
//! Invariants:
//! - The batches' extents follow each other without gap or overlap and cover every byte pushed.
//! - At most `2 * (WINDOW_BYTES_MIN + target)` bytes are held, however long a line is, and `SPARE_MAX` buffers that came back. A target in units
//!   counts as the bytes of lines that it comes to, at most `RAW_BYTES_MAX`.
//! - The last `HISTORY_BYTES` before the next batch stay readable: a reader keeps their hash to know the place again.

mod buffer;
mod units;

use bytes::Bytes;
use memchr::{memchr, memrchr};

pub use self::units::{RAW_BYTES_MAX, UNIT_BYTES, UNITS_AIM};
use self::{
    buffer::{Buffer, Spares},
    units::{Units, Verdict},
};
use crate::{
    cut::{Cut, LINE_KEPT_BYTES, WINDOW_BYTES_MIN, count_lines, next_cut},
    identity::{Origin, Producer, SLICE_BYTES},
    position::SequenceNumber,
    wire::{self, Codec, Content, Edit, Extent, Header, Removed},
};

/// How much of what was packed stays readable.
pub const HISTORY_BYTES: usize = 1 << 10;

/// Where batches end, besides where they must.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// After about so many bytes of lines.
    Lines(usize),
    /// Where the record fills whole PUT payload units, about `UNITS_AIM` of them: on Kinesis, which bills by them.
    Units,
}

impl From<usize> for Target {
    fn from(bytes: usize) -> Self {
        Self::Lines(bytes)
    }
}

/// How a stream wants its batches: what its bytes cost decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Profile {
    /// How bodies are packed.
    pub codec: Codec,
    /// Where batches end.
    pub target: Target,
}

impl Profile {
    /// Kinesis: each unit of 25 KB costs, so zstd, and units are full.
    pub const KINESIS: Self = Self { codec: Codec::Zstd, target: Target::Units };
}

/// Who speaks in a packer's batches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// Bytes of an origin, from this offset on.
    Origin {
        /// What they are read from.
        origin: Origin,
        /// Offset of the first byte that will be pushed.
        from: u64,
    },
    /// Bytes from nowhere: each batch takes the next counter.
    Producer(Producer),
}

/// What all batches of one packer share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The tenant.
    pub tenant: String,
    /// The service of lines that name none.
    pub service: Option<String>,
    /// The identity of what is pushed.
    pub identity: Identity,
    /// When it was read, Unix milliseconds.
    pub read_at_ms: i64,
    /// The highest revision of definitions known.
    pub definitions: Option<SequenceNumber>,
}

/// A batch ready to be put on the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// Decides its shard.
    pub partition_key: String,
    /// The payload.
    pub data: Bytes,
    /// Bytes of the source that it covers, after what was covered before.
    pub covers: u64,
    /// Physical lines in it; the last may lack its newline.
    pub lines: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Packer {
    source: Source,
    codec: Codec,
    cuts: Cuts,
    /// Offset in the origin of the first byte that was not packed.
    offset: u64,
    /// What was pushed and not packed, behind what was packed last.
    held: Buffer,
    spares: Spares,
    too_long: Option<TooLong>,
}

#[derive(Debug)]
enum Cuts {
    Lines(usize),
    Units(Units),
}

/// What a cut came to.
enum Tried {
    /// It is the batch: with the payload, if it was made to know that.
    Batch(Option<Bytes>),
    /// Another is to be tried.
    Again,
}

/// A line that is being passed over: its head, and how much of it was not kept.
#[derive(Debug)]
struct TooLong {
    kept: Vec<u8>,
    removed: u64,
}

impl Packer {
    /// Batches that end where `target` says, packed by `codec`.
    pub fn new(source: Source, codec: Codec, target: impl Into<Target>) -> Self {
        let offset = match &source.identity {
            Identity::Origin { from, .. } => *from,
            Identity::Producer(_) => 0,
        };
        let cuts = match target.into() {
            Target::Lines(bytes) => Cuts::Lines(bytes),
            Target::Units => Cuts::Units(Units::new()),
        };
        let spares = Spares::default();
        Self { source, codec, cuts, offset, held: spares.take(), spares, too_long: None }
    }

    /// Tells what stands before the first byte that will be pushed. Packs none of it.
    pub fn remember(&mut self, before: &[u8]) {
        debug_assert!(self.held.bytes().is_empty(), "what stands before is told before anything is pushed");
        self.held.set_history(before);
    }

    /// How many bytes to push before asking for batches: fewer work too, and cost more.
    pub fn appetite(&self) -> usize {
        let held = self.held.bytes().len();
        // A batch is cut within its target. What follows it moves, so there should be little.
        let target = self.target();
        let wanted = if held < target { target } else { target + WINDOW_BYTES_MIN };
        wanted.saturating_sub(held).max(4 << 10)
    }

    /// About how many bytes of lines the next batch may hold.
    fn target(&self) -> usize {
        match &self.cuts {
            Cuts::Lines(bytes) => *bytes,
            Cuts::Units(units) => units.raw_target(),
        }
    }

    /// Takes more bytes of the source.
    pub fn push(&mut self, bytes: &[u8]) {
        self.space(bytes.len())[..bytes.len()].copy_from_slice(bytes);
        self.filled(bytes.len());
    }

    /// Room for at least `wanted` bytes of the source, to be read into where they will be packed; `filled` says how many were.
    pub fn space(&mut self, wanted: usize) -> &mut [u8] {
        self.held.space(wanted)
    }

    /// Takes the first so many bytes of `space`.
    pub fn filled(&mut self, count: usize) {
        self.held.filled(count);
    }

    /// The last bytes before the next batch: `HISTORY_BYTES`, or all that there were.
    pub fn history(&self) -> &[u8] {
        self.held.history()
    }

    /// What was pushed and not packed, behind at most `HISTORY_BYTES` of what was: until a batch is taken, all of the last push.
    pub fn pushed(&self) -> &[u8] {
        self.held.with_history()
    }

    /// Offset in the origin of the next batch.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The source broke off: forgets the last line unless it has its newline. What stays may be packed to its end.
    pub fn forget_unfinished(&mut self) {
        self.too_long = None;
        let kept = memrchr(b'\n', self.held.bytes()).map_or(0, |at| at + 1);
        self.held.truncate(kept);
    }

    /// The next batch, if the bytes so far hold one. `at_end`: no more will be pushed; `None` then means that all is packed.
    pub fn next(&mut self, at_end: bool) -> Option<Packed> {
        loop {
            if self.too_long.is_some() {
                return self.pass_over(at_end);
            }
            if self.waits_for_units(at_end) {
                return None;
            }
            match next_cut(self.held.bytes(), self.offset, at_end, self.target()) {
                Cut::Batch(length) => {
                    let Tried::Batch(ready) = self.try_cut(length, at_end) else { continue };
                    let cut = self.held.cut(length, self.spares.take());
                    return Some(self.pack(cut, vec![], length as u64, ready));
                }
                Cut::TooLong => self.too_long = Some(TooLong { kept: Vec::new(), removed: 0 }),
                Cut::NeedMore => return None,
            }
        }
    }

    /// True if the bytes so far are fewer than the units want, and more may come: a cut is allowed sooner, but would leave them empty.
    fn waits_for_units(&self, at_end: bool) -> bool {
        let Cuts::Units(units) = &self.cuts else { return false };
        let slice_left = SLICE_BYTES - self.offset % SLICE_BYTES;
        !at_end && (self.held.bytes().len() as u64) < (units.raw_target() as u64).min(slice_left)
    }

    /// Judges a cut by what it packs to, where that decides.
    fn try_cut(&mut self, length: usize, at_end: bool) -> Tried {
        if matches!(self.cuts, Cuts::Lines(_)) {
            return Tried::Batch(None);
        }
        let raw = &self.held.bytes()[..length];
        let (header, partition_key) = self.head(raw.len(), vec![], length as u64);
        let data = wire::encode(&header, raw);
        let last = at_end && length == self.held.bytes().len();
        let Cuts::Units(units) = &mut self.cuts else { return Tried::Batch(None) };
        match units.judge(length, data.len() + partition_key.len(), last) {
            Verdict::Take => Tried::Batch(Some(data)),
            Verdict::Again => Tried::Again,
        }
    }

    /// Consumes what is held up to the long line's end; packs the line once that is found.
    fn pass_over(&mut self, at_end: bool) -> Option<Packed> {
        let line = self.too_long.as_mut()?;
        let rest = self.held.bytes();
        let newline = memchr(b'\n', rest);
        let of_line = &rest[..newline.unwrap_or(rest.len())];
        let keep = of_line.len().min(LINE_KEPT_BYTES - line.kept.len());
        line.kept.extend_from_slice(&of_line[..keep]);
        line.removed += (of_line.len() - keep) as u64;
        let passed = of_line.len() + usize::from(newline.is_some());
        self.held.cut(passed, self.spares.take());
        if newline.is_none() && !at_end {
            return None;
        }
        let TooLong { mut kept, removed } = self.too_long.take()?;
        let edit = Edit { body_offset: kept.len() as u32, removed_bytes: removed, reason: Removed::TooLong };
        if newline.is_some() {
            kept.push(b'\n');
        }
        let covers = kept.len() as u64 + removed;
        let mut body = self.spares.take();
        body.space(kept.len())[..kept.len()].copy_from_slice(&kept);
        body.filled(kept.len());
        Some(self.pack(body, vec![edit], covers, None))
    }

    /// The header of the next batch, and its partition key.
    fn head(&self, raw_len: usize, edits: Vec<Edit>, covers: u64) -> (Header, String) {
        let (extent, producer, partition_key) = match &self.source.identity {
            Identity::Origin { origin, .. } => {
                let key = origin.partition_key(&self.source.tenant, self.offset);
                let extent = Extent { origin: origin.clone(), from: self.offset, to: self.offset + covers };
                (Some(extent), None, key)
            }
            Identity::Producer(producer) => {
                let producer = Producer { counter: producer.counter + 1, ..producer.clone() };
                let key = producer.partition_key(&self.source.tenant);
                (None, Some(producer), key)
            }
        };
        let header = Header {
            tenant: self.source.tenant.clone(),
            content: Content::Lines,
            codec: self.codec,
            raw_len: raw_len as u32,
            read_at_ms: self.source.read_at_ms,
            service: self.source.service.clone(),
            extent,
            edits,
            producer,
            data_key_id: None,
            definitions: self.source.definitions,
        };
        (header, partition_key)
    }

    /// `ready`: the payload, if it is known already.
    fn pack(&mut self, body: Buffer, edits: Vec<Edit>, covers: u64, ready: Option<Bytes>) -> Packed {
        let raw = body.bytes();
        let (header, partition_key) = self.head(raw.len(), edits, covers);
        if let Identity::Producer(producer) = &mut self.source.identity {
            producer.counter += 1;
        }
        self.offset += covers;
        let lines = count_lines(raw);
        let data = match (ready, self.codec) {
            (Some(data), _) => data,
            (None, Codec::None) => body.with_head(&wire::encode_head(&header)),
            (None, Codec::Lz4 | Codec::Zstd) => wire::encode(&header, raw),
        };
        Packed { partition_key, data, covers, lines }
    }
}

#[cfg(test)]
mod tests;
