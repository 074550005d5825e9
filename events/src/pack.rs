//! Bytes in, batches out: the one packer that files, standard input and HTTP bodies go through. Pure: reads no file and asks no clock.
//!
//! Bytes are read into a buffer with room before them; a batch that nothing compresses is that buffer, with the header written into the room.
//! So its bytes are never copied: only what follows the cut, some lines, moves to the next buffer.
//!
//! Invariants:
//! - The batches' extents follow each other without gap or overlap and cover every byte pushed.
//! - At most `2 * (WINDOW_BYTES_MIN + target)` bytes are held, however long a line is, and `SPARE_MAX` buffers that came back.
//! - The last `HISTORY_BYTES` before the next batch stay readable: a reader keeps their hash to know the place again.

mod buffer;

use bytes::Bytes;
use memchr::{memchr, memrchr};

use self::buffer::{Buffer, Spares};
use crate::{
    cut::{Cut, LINE_KEPT_BYTES, WINDOW_BYTES_MIN, count_lines, next_cut},
    identity::{Origin, Producer},
    position::SequenceNumber,
    wire::{self, Codec, Content, Edit, Extent, Header, Removed},
};

/// How much of what was packed stays readable.
pub const HISTORY_BYTES: usize = 1 << 10;

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
    target: usize,
    /// Offset in the origin of the first byte that was not packed.
    offset: u64,
    /// What was pushed and not packed, behind what was packed last.
    held: Buffer,
    spares: Spares,
    too_long: Option<TooLong>,
}

/// A line that is being passed over: its head, and how much of it was not kept.
#[derive(Debug)]
struct TooLong {
    kept: Vec<u8>,
    removed: u64,
}

impl Packer {
    /// Batches of about `target` bytes of body, packed by `codec`.
    pub fn new(source: Source, codec: Codec, target: usize) -> Self {
        let offset = match &source.identity {
            Identity::Origin { from, .. } => *from,
            Identity::Producer(_) => 0,
        };
        let spares = Spares::default();
        Self { source, codec, target, offset, held: spares.take(), spares, too_long: None }
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
        let wanted = if held < self.target { self.target } else { self.target + WINDOW_BYTES_MIN };
        wanted.saturating_sub(held).max(4 << 10)
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
            match next_cut(self.held.bytes(), self.offset, at_end, self.target) {
                Cut::Batch(length) => {
                    let cut = self.held.cut(length, self.spares.take());
                    return Some(self.pack(cut, vec![], length as u64));
                }
                Cut::TooLong => self.too_long = Some(TooLong { kept: Vec::new(), removed: 0 }),
                Cut::NeedMore => return None,
            }
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
        Some(self.pack(body, vec![edit], covers))
    }

    fn pack(&mut self, body: Buffer, edits: Vec<Edit>, covers: u64) -> Packed {
        let (extent, producer, partition_key) = match &mut self.source.identity {
            Identity::Origin { origin, .. } => {
                let key = origin.partition_key(&self.source.tenant, self.offset);
                let extent = Extent { origin: origin.clone(), from: self.offset, to: self.offset + covers };
                (Some(extent), None, key)
            }
            Identity::Producer(producer) => {
                producer.counter += 1;
                (None, Some(producer.clone()), producer.partition_key(&self.source.tenant))
            }
        };
        let raw = body.bytes();
        let header = Header {
            tenant: self.source.tenant.clone(),
            content: Content::Lines,
            codec: self.codec,
            raw_len: raw.len() as u32,
            read_at_ms: self.source.read_at_ms,
            service: self.source.service.clone(),
            extent,
            edits,
            producer,
            data_key_id: None,
            definitions: self.source.definitions,
        };
        self.offset += covers;
        let lines = count_lines(raw);
        let data = match self.codec {
            Codec::None => body.with_head(&wire::encode_head(&header)),
            Codec::Lz4 | Codec::Zstd => wire::encode(&header, raw),
        };
        Packed { partition_key, data, covers, lines }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::{
        cut::LINE_BYTES_MAX,
        identity::{OriginKind, SLICE_BYTES},
    };

    fn source(from: u64) -> Source {
        let origin = Origin { kind: OriginKind::File, name: "/a.log".into(), version: "1".into() };
        Source {
            tenant: "local".into(),
            service: Some("a".into()),
            identity: Identity::Origin { origin, from },
            read_at_ms: 1,
            definitions: None,
        }
    }

    fn pack_all(text: &[u8], piece: usize, target: usize, from: u64, codec: Codec) -> Vec<wire::Batch> {
        let mut packer = Packer::new(source(from), codec, target);
        let mut batches = vec![];
        for bytes in text.chunks(piece) {
            packer.push(bytes);
            while let Some(packed) = packer.next(false) {
                batches.push(wire::decode(&packed.data).unwrap());
            }
        }
        while let Some(packed) = packer.next(true) {
            batches.push(wire::decode(&packed.data).unwrap());
        }
        batches
    }

    #[test]
    fn a_line_of_any_length_is_named_whole_and_kept_in_part() {
        let mut text = b"before\n".to_vec();
        text.extend(vec![b'x'; 3 * LINE_BYTES_MAX]);
        text.extend(b"\nafter\n");
        let batches = pack_all(&text, 10_000, 4096, 0, Codec::None);
        assert_eq!(batches.len(), 3);
        let long = &batches[1];
        assert_eq!(long.body.len(), LINE_KEPT_BYTES + 1);
        let removed = (3 * LINE_BYTES_MAX - LINE_KEPT_BYTES) as u64;
        assert_eq!(
            long.header.edits,
            [Edit { body_offset: LINE_KEPT_BYTES as u32, removed_bytes: removed, reason: Removed::TooLong }]
        );
        assert_eq!(batches[2].header.extent.as_ref().unwrap().to, text.len() as u64);
    }

    #[test]
    fn the_last_bytes_before_a_batch_stay_readable() {
        let long = "x".repeat(2 * LINE_BYTES_MAX);
        let text: Vec<u8> =
            (0..90_000).map(|i| format!("line {i}\n")).chain([long, "\nend\n".into()]).collect::<String>().into();
        let mut packer = Packer::new(source(0), Codec::None, 10_000);
        packer.remember(&[b'-'; 2_000]);
        let mut packed = 0;
        for piece in text.chunks(64 << 10).map(Some).chain([None]) {
            packer.push(piece.unwrap_or(&[]));
            while let Some(batch) = packer.next(piece.is_none()) {
                packed += batch.covers as usize;
                assert_eq!(packer.offset(), packed as u64);
                let sure = &text[packed.saturating_sub(HISTORY_BYTES)..packed];
                assert!(packer.history().ends_with(sure), "after {packed} bytes");
                assert_eq!(packer.history().len(), HISTORY_BYTES);
            }
        }
        assert_eq!(packed, text.len());
    }

    proptest! {
        #[test]
        fn extents_cover_the_source_and_bodies_are_its_bytes(
            words in proptest::collection::vec("[a-zC ]{0,9}", 0..80), ended in any::<bool>(), piece in 1usize..50,
            target in 1usize..100, near in 0u64..300, codec in prop_oneof![Just(Codec::None), Just(Codec::Lz4), Just(Codec::Zstd)],
        ) {
            let mut text = words.join("\n").into_bytes();
            if ended { text.push(b'\n'); }
            let from = SLICE_BYTES - near;
            let mut at = from;
            let mut bytes = vec![];
            for batch in pack_all(&text, piece, target, from, codec) {
                let extent = batch.header.extent.unwrap();
                prop_assert_eq!(extent.from, at);
                at = extent.to;
                bytes.extend_from_slice(&batch.body);
            }
            prop_assert_eq!(bytes, text);
        }
    }
}
