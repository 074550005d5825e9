//! What a shard's files hold after a crash: where its log ends. Decides between a tail that was never durable (cut it) and damage (stop);
//! never cuts what may have been acknowledged.
//!
//! Only the last segment can have a torn tail. Let X be the offset of its first frame that is not whole. A whole frame behind X whose group
//! start is past X was written when X was durable already: then X is damaged, and a person must look. If there is none, nothing says that X was
//! ever acknowledged by a sync that later writes built on, so the log ends at X, and all behind it is cleared before anything is appended.
//!
//! The epochs of frames and headers are believed, not the metadata's: it may be an older copy that was put back. The next opening's epoch is above
//! all of them, so it is above that of every record that anybody saw: of each shard the newest of these stands in the last segment or its header.
//!
//! What the last group left is written again and synced before it counts: after a kill it may be in memory only, and after a failed sync the
//! system may take it for written although it is not.

use std::io;

use super::{
    OpenError, Options, Sabotage,
    disk::{Disk, File},
    frame::{self, ALIGN, FRAME_BYTES_MAX, HEAD_BYTES, Head, Place},
    metadata::ShardEntry,
    segment::{self, HEADER_BYTES, Header, Segment},
};
use crate::position::{SequenceNumber, ShardId};

/// How much of a file is looked at at once. At least two frames.
const WINDOW_BYTES: usize = 4 << 20;

/// What every opening knows of a shard before it looks at its files.
pub(super) struct Expected<'a, D> {
    pub disk: &'a D,
    pub shard: &'a ShardId,
    pub number: u64,
    pub log_id: u64,
    pub segment_bytes: u64,
    /// No record will be appended.
    pub closed: bool,
    pub sabotage: super::Switches,
}

/// Where a shard's log stands.
pub(super) struct Recovered<F> {
    pub segments: Vec<Segment<F>>,
    pub end: u64,
    pub tip: SequenceNumber,
    pub tip_stamp_ms: i64,
    /// The highest of a record or a segment's header.
    pub epoch: u64,
    /// In the last segment.
    pub highest_stamp_ms: i64,
    /// The last segment was most likely a spare.
    pub filled: bool,
}

/// A moving view of a segment, so that looking at a long one takes little memory.
pub(super) struct Window<'a, F> {
    segment: &'a Segment<F>,
    bytes: Vec<u8>,
    from: u64,
    through: u64,
}

impl<'a, F: File> Window<'a, F> {
    /// Sees nothing past `through`.
    pub fn new(segment: &'a Segment<F>, through: u64) -> Self {
        Self { segment, bytes: Vec::new(), from: segment.first(), through }
    }

    /// The bytes at `offset`: `want` of them, or as many as there are; often more.
    pub fn at(&mut self, offset: u64, want: usize) -> io::Result<&[u8]> {
        debug_assert!(want <= WINDOW_BYTES);
        let end = self.from + self.bytes.len() as u64;
        let want = want.min(self.through.saturating_sub(offset) as usize);
        if offset < self.from || offset + want as u64 > end {
            self.from = offset;
            self.bytes.resize((self.through.saturating_sub(offset) as usize).min(WINDOW_BYTES), 0);
            let read = self.segment.read(&mut self.bytes, offset)?;
            self.bytes.truncate(read);
        }
        Ok(self.bytes.get((offset - self.from) as usize..).unwrap_or_default())
    }

    /// The head of a whole frame.
    pub fn whole(&mut self, offset: u64) -> io::Result<Option<Head>> {
        let place = self.segment.place;
        let Some(head) = frame::head(self.at(offset, HEAD_BYTES)?, &place, offset) else { return Ok(None) };
        Ok(frame::whole(self.at(offset, head.length)?, &place, offset))
    }

    /// The head of a frame whose payload nobody has looked at.
    pub fn head(&mut self, offset: u64) -> io::Result<Option<Head>> {
        let place = self.segment.place;
        Ok(frame::head(self.at(offset, HEAD_BYTES)?, &place, offset))
    }
}

impl<'a, D: Disk> Expected<'a, D> {
    pub fn of(disk: &'a D, shard: &'a ShardId, entry: &ShardEntry, log_id: u64, options: &Options) -> Self {
        let (segment_bytes, sabotage) = (options.segment_bytes, options.switches());
        Self { disk, shard, number: entry.number, log_id, segment_bytes, closed: entry.closed, sabotage }
    }
}

impl<D: Disk> Expected<'_, D> {
    fn place(&self, first: u64) -> Place {
        let unseeded = self.sabotage.breaks(Sabotage::UnseededChecksum);
        Place { log_id: self.log_id, shard: self.number, segment: first, unseeded }
    }

    fn damaged(&self, path: &str, offset: u64, what: &str) -> OpenError {
        OpenError::Damaged {
            file: self.disk.describe(path),
            offset,
            what: what.to_owned(),
            next_step: "keep a copy of the folder; put the file back from a backup, or move the whole folder away and ingest again".to_owned(),
        }
    }

    fn failed(&self, path: &str) -> impl Fn(io::Error) -> OpenError + use<D> {
        let file = self.disk.describe(path);
        move |source| OpenError::Io { what: "read or repaired", file: file.clone(), source }
    }

    /// Looks at all files of the shard, repairs the tail, and returns only when what it found is durable.
    pub fn recover(&self) -> Result<Recovered<D::File>, OpenError> {
        let segments = self.headers()?;
        self.check_chain(&segments)?;
        let Some(last) = segments.last() else {
            return Err(self.damaged(self.shard.as_str(), 0, "the shard has no segment"));
        };
        let tail = self.scan(last)?;
        self.repair(last, &tail).map_err(self.failed(&last.path))?;
        let spare = segment::spare_path(self.shard);
        match self.disk.remove(&spare) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(self.failed(&spare)(error)),
            _ => {}
        }
        let before = last.header.before;
        let (tip, tip_stamp_ms) = tail.last.unwrap_or((before.last, before.last_stamp_ms));
        // An opening that appended nothing may have made a segment all the same.
        let epoch = tip.parts().map_or(0, |(epoch, _)| epoch).max(last.header.epoch);
        let (end, highest_stamp_ms, filled) = (tail.end, tail.highest_stamp_ms, before.first.is_some() && tail.blank);
        Ok(Recovered { segments, end, tip, tip_stamp_ms, epoch, highest_stamp_ms, filled })
    }

    /// Opens the segments in order. One whose making was interrupted is removed: it can only be the last, and holds nothing.
    fn headers(&self) -> Result<Vec<Segment<D::File>>, OpenError> {
        let folder = self.shard.as_str();
        let names = self.disk.list(folder).map_err(self.failed(folder))?;
        let mut firsts: Vec<u64> = names.iter().filter_map(|name| segment::first_of(name)).collect();
        firsts.sort_unstable();
        let mut segments = Vec::with_capacity(firsts.len());
        for (i, &first) in firsts.iter().enumerate() {
            let path = segment::path(self.shard, first);
            let failed = self.failed(&path);
            let file = self.disk.open(&path).map_err(&failed)?;
            let mut bytes = vec![0; HEADER_BYTES as usize];
            let read = file.read_at(&mut bytes, 0).map_err(&failed)?;
            match Header::from_bytes(&bytes[..read]) {
                Some(header) if (header.log_id, header.shard, header.first) == (self.log_id, self.number, first) => {
                    segments.push(Segment { path, file, header, place: self.place(first) });
                }
                // A segment's making ends with a sync: until then anything may stand there.
                other if i + 1 == firsts.len() && i > 0 => self.remove_unfinished(&path, file, first, other)?,
                Some(header) if header.log_id != self.log_id => {
                    return Err(self.damaged(&path, 0, "the segment belongs to another stream"));
                }
                Some(_) => return Err(self.damaged(&path, 0, "the segment stands under another one's name")),
                None => return Err(self.damaged(&path, 0, "the segment's header is not what was written")),
            }
        }
        Ok(segments)
    }

    /// Removes a last segment without a header of its own, unless a record stands in it: its own or, if it is a file that someone put there,
    /// one that its header tells of.
    fn remove_unfinished(&self, path: &str, file: D::File, first: u64, found: Option<Header>) -> Result<(), OpenError> {
        let failed = self.failed(path);
        let bytes = file.len().map_err(&failed)?.saturating_sub(HEADER_BYTES);
        let nothing = segment::Before::NOTHING;
        let own = Header { log_id: self.log_id, shard: self.number, first, epoch: 0, before: nothing };
        let mut segment = Segment { path: path.to_owned(), file, header: own, place: self.place(first) };
        for header in [own].into_iter().chain(found) {
            let (log_id, shard, first) = (header.log_id, header.shard, header.first);
            segment.header = header;
            segment.place = Place { log_id, shard, segment: first, ..segment.place };
            let through = first.saturating_add(bytes);
            if Window::new(&segment, through).whole(first).map_err(&failed)?.is_some()
                || self.proof(&segment, first, through).map_err(&failed)?.is_some()
            {
                return Err(self.damaged(
                    path,
                    0,
                    "the header is not that of this segment, and records stand behind it",
                ));
            }
        }
        self.disk.remove(path).map_err(&failed)?;
        self.disk.sync_folder(self.shard.as_str()).map_err(failed)
    }

    /// Each segment names the one before it and its last record: a hole shows.
    fn check_chain(&self, segments: &[Segment<D::File>]) -> Result<(), OpenError> {
        for pair in segments.windows(2) {
            let (before, after) = (&pair[0], &pair[1]);
            if after.header.before.first != Some(before.first()) {
                let missing = after.header.before.first.unwrap_or(0);
                let missing = segment::path(self.shard, missing);
                return Err(self.damaged(&missing, 0, &format!("the segment is missing, {} follows it", after.path)));
            }
            let bytes = before.file.len().map_err(self.failed(&before.path))?;
            if bytes < before.in_file(after.first()) {
                return Err(self.damaged(&before.path, bytes, "the segment is shorter than what was written"));
            }
        }
        Ok(())
    }

    /// Finds where the records of the last segment end, and whether what stands there is damage.
    fn scan(&self, last: &Segment<D::File>) -> Result<Tail, OpenError> {
        let failed = self.failed(&last.path);
        let bytes = last.file.len().map_err(&failed)?;
        let through = last.first() + bytes.saturating_sub(HEADER_BYTES);
        let mut tail = Tail {
            end: last.first(),
            through,
            group_start: last.first(),
            last: None,
            highest_stamp_ms: i64::MIN,
            blank: false,
        };
        let mut window = Window::new(last, through);
        let mut epoch = last.header.before.last.parts().map_or(0, |(epoch, _)| epoch);
        while let Some(head) = window.whole(tail.end).map_err(&failed)? {
            // A frame of an earlier opening behind one of a later: left over, not appended.
            if head.epoch < epoch {
                break;
            }
            epoch = head.epoch;
            tail.last = Some((SequenceNumber::from_parts(head.epoch, tail.end), head.arrived_at_ms));
            tail.highest_stamp_ms = tail.highest_stamp_ms.max(head.arrived_at_ms);
            tail.group_start = head.group_start.max(last.first());
            tail.end += head.stride();
        }
        tail.blank = self.is_blank(last, &tail).map_err(&failed)?;
        if tail.blank {
            return Ok(tail);
        }
        match self.proof(last, tail.end, through).map_err(failed)? {
            None => Ok(tail),
            Some(later) => {
                let what = format!(
                    "the record is not what was written; it is no torn tail, since the record at byte {} was written later",
                    last.in_file(later)
                );
                Err(self.damaged(&last.path, last.in_file(tail.end), &what))
            }
        }
    }

    /// A frame that was written after what stands at `torn` had been durable.
    fn proof(&self, segment: &Segment<D::File>, torn: u64, through: u64) -> io::Result<Option<u64>> {
        let mut window = Window::new(segment, through);
        let mut offset = torn + ALIGN;
        while offset + HEAD_BYTES as u64 <= through {
            let seen = window.at(offset, HEAD_BYTES)?;
            if seen.len() < HEAD_BYTES {
                break;
            }
            // Most of what stands here are zeros or payload: all heads that are wholly in view, then on.
            let Some(at) = (0..=seen.len() - HEAD_BYTES)
                .step_by(ALIGN as usize)
                .find(|at| frame::may_prove_durable(&seen[*at..], offset + *at as u64, torn))
            else {
                offset += (seen.len() - HEAD_BYTES) as u64 / ALIGN * ALIGN + ALIGN;
                continue;
            };
            offset += at as u64;
            if window.whole(offset)?.is_some() {
                return Ok(Some(offset));
            }
            offset += ALIGN;
        }
        Ok(None)
    }

    /// Clears what is behind the end and makes the rest durable.
    fn repair(&self, last: &Segment<D::File>, tail: &Tail) -> io::Result<()> {
        if !self.sabotage.breaks(Sabotage::StaleTailKept) && !tail.blank {
            last.file.set_len(last.in_file(tail.end))?;
        }
        let room = if self.closed { 0 } else { self.segment_bytes };
        match last.file.allocate(room.max(last.in_file(tail.end))) {
            // Appending will say that the disk is full; what is there can be read.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {}
            other => other?,
        }
        if self.sabotage.breaks(Sabotage::TailNotSyncedAtOpen) {
            return Ok(());
        }
        self.write_again(last, 0, HEADER_BYTES)?;
        self.write_again(last, last.in_file(tail.group_start), last.in_file(tail.end))?;
        last.file.sync_data()?;
        self.disk.sync_folder(self.shard.as_str())
    }

    fn is_blank(&self, last: &Segment<D::File>, tail: &Tail) -> io::Result<bool> {
        let mut window = Window::new(last, tail.through);
        let mut offset = tail.end;
        while offset < tail.through {
            let seen = window.at(offset, 1)?;
            if seen.is_empty() {
                break;
            }
            // Compared in pieces, since most often all of a preallocated segment goes through here.
            if !seen.chunks(ZEROS.len()).all(|piece| *piece == ZEROS[..piece.len()]) {
                return Ok(false);
            }
            offset += seen.len() as u64;
        }
        Ok(true)
    }

    fn write_again(&self, last: &Segment<D::File>, from: u64, through: u64) -> io::Result<()> {
        let mut bytes = vec![0; (through.saturating_sub(from) as usize).min(WINDOW_BYTES)];
        let mut at = from;
        while at < through {
            let part = ((through - at) as usize).min(bytes.len());
            let read = last.file.read_at(&mut bytes[..part], at)?;
            if read == 0 {
                break;
            }
            last.file.write_at(&[io::IoSlice::new(&bytes[..read])], at)?;
            at += read as u64;
        }
        Ok(())
    }
}

struct Tail {
    end: u64,
    /// How far the file reaches, as an offset of the log.
    through: u64,
    /// Everything before it was durable when the last frame was written.
    group_start: u64,
    last: Option<(SequenceNumber, i64)>,
    highest_stamp_ms: i64,
    /// Nothing but zeros is behind the end.
    blank: bool,
}

static ZEROS: [u8; 4096] = [0; 4096];

const _: () = assert!(WINDOW_BYTES >= 2 * FRAME_BYTES_MAX);
