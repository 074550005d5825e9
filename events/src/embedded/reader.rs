//! Answers reads of one shard: finds where a read starts, takes records from memory or from the files, and checks every frame that it takes from
//! a file. Never shows anything behind the durable end, and holds no lock while it reads a file.

use std::{
    io, mem,
    sync::{Arc, PoisonError},
    time::Instant,
};

use bytes::Bytes;

use super::{
    disk::Disk,
    frame::{self, ALIGN, FRAME_BYTES_MAX, HEAD_BYTES},
    recover::Window,
    segment::Segment,
    shard_log::{ShardLog, View},
};
use crate::{
    position::SequenceNumber,
    stream::{Limits, Page, ReadError, Record, Start},
};

/// How much is read from a file at once: the records behind those asked for are likely asked for next.
const READ_AHEAD_BYTES: usize = 5 << 19;
const _: () = assert!(READ_AHEAD_BYTES >= 2 * FRAME_BYTES_MAX);

/// Bytes of one segment, read earlier; records are slices of them. What is durable never changes, so they stay true.
#[derive(Debug, Clone)]
pub(super) struct Chunk {
    segment: u64,
    offset: u64,
    bytes: Bytes,
}

impl Chunk {
    fn at(&self, segment: u64, offset: u64) -> Option<Bytes> {
        let within = offset.checked_sub(self.offset).filter(|_| self.segment == segment)?;
        (within < self.bytes.len() as u64).then(|| self.bytes.slice(within as usize..))
    }
}

/// A part of the log that lies in one segment.
struct Part<F> {
    segment: Arc<Segment<F>>,
    /// Behind its last durable record.
    end: u64,
}

impl<F> View<F> {
    fn part(&self, index: usize) -> Part<F> {
        let end = self.segments.get(index + 1).map_or(self.end, |next| next.first());
        Part { segment: self.segments[index].clone(), end }
    }

    /// The segment of the first record that is not before `asked`, if that is kept or comes right behind what was trimmed.
    fn part_of(&self, asked: SequenceNumber) -> Part<F> {
        self.part(self.segments.partition_point(|segment| segment.header.before.last < asked).saturating_sub(1))
    }

    /// The first segment with a record that arrived at this time or later.
    fn part_since(&self, unix_ms: i64) -> Option<Part<F>> {
        let highest = |index: usize| {
            self.segments.get(index + 1).map_or(self.highest_stamp_ms, |next| next.header.before.highest_stamp_ms)
        };
        (0..self.segments.len()).find(|index| highest(*index) >= unix_ms).map(|index| self.part(index))
    }

    fn behind_ms(&self, last: &Record) -> u64 {
        match last.sequence < self.tip {
            true => u64::try_from(self.tip_stamp_ms.saturating_sub(last.arrived_at_ms)).unwrap_or(0).max(1),
            false => 0,
        }
    }
}

impl<D: Disk> ShardLog<D> {
    pub async fn read(&self, mut from: Start, limits: Limits, inline: bool) -> Result<Page, ReadError> {
        if let Start::Latest = from {
            // What comes while this read waits is new to its caller.
            from = Start::After(self.tip());
        }
        let until = (!inline && !limits.wait.is_zero()).then(|| Instant::now().checked_add(limits.wait)).flatten();
        loop {
            let (seen, closed) = {
                let view = self.view();
                (view.end, view.closed)
            };
            if let Some(offset) = self.locate(from)?
                && let Some(page) = self.page(offset, limits)?
            {
                return Ok(page);
            }
            if closed {
                return Ok(Page { records: Vec::new(), next: None, behind_ms: 0 });
            }
            match until.filter(|until| Instant::now() < *until) {
                Some(until) => self.changed(seen, until).await?,
                None => return Ok(Page { records: Vec::new(), next: Some(from), behind_ms: 0 }),
            }
        }
    }

    /// The offset of the first record to read; `None`: it is not there yet.
    fn locate(&self, from: Start) -> Result<Option<u64>, ReadError> {
        let view = self.view();
        if let Some(why) = &view.ended {
            return Err(ReadError::Unavailable(why.clone()));
        }
        let (trimmed, tip, front) = (view.trimmed(), view.tip, view.part(0));
        match from {
            Start::TrimHorizon | Start::After(SequenceNumber::ZERO) | Start::At(SequenceNumber::ZERO) => {
                Ok(Some(front.segment.first()))
            }
            Start::Latest => Ok(None),
            Start::After(asked) if asked >= tip => Ok(None),
            Start::At(asked) if asked > tip => Ok(None),
            Start::After(asked) if asked == trimmed => Ok(Some(front.segment.first())),
            Start::After(asked) | Start::At(asked) if asked <= trimmed => {
                drop(view);
                Err(self.lost(asked, &front)?)
            }
            Start::After(asked) => {
                let part = view.part_of(asked);
                drop(view);
                self.locate_in(&part, asked, true).map(Some)
            }
            Start::At(asked) => {
                let part = view.part_of(asked);
                drop(view);
                self.locate_in(&part, asked, false).map(Some)
            }
            Start::AtTimestamp(unix_ms) => {
                let Some(part) = view.part_since(unix_ms) else { return Ok(None) };
                drop(view);
                self.walk(&part, |_, stamp_ms| stamp_ms < unix_ms).map(Some)
            }
        }
    }

    /// Most often the position is that of a record, and its head says where the next one stands.
    fn locate_in(&self, part: &Part<D::File>, asked: SequenceNumber, behind: bool) -> Result<u64, ReadError> {
        let segment = &part.segment;
        if let Some((epoch, offset)) = asked.parts()
            && (segment.first()..part.end).contains(&offset)
            && offset % ALIGN == 0
        {
            let bytes = self.bytes_at(part, offset, HEAD_BYTES)?;
            if let Some(head) = frame::head(&bytes, &segment.place, offset).filter(|head| head.epoch == epoch) {
                return Ok(if behind { offset + head.stride() } else { offset });
            }
        }
        self.walk(part, |sequence, _| sequence < asked || (behind && sequence == asked))
    }

    /// From head to head through a segment, past all records that are `before`.
    fn walk(&self, part: &Part<D::File>, before: impl Fn(SequenceNumber, i64) -> bool) -> Result<u64, ReadError> {
        let mut window = Window::new(&part.segment, part.end);
        let mut offset = part.segment.first();
        while offset < part.end {
            let head = window.head(offset).map_err(|error| self.unreadable(&part.segment, &error))?;
            let head = head.ok_or_else(|| self.damaged(&part.segment, offset))?;
            if !before(SequenceNumber::from_parts(head.epoch, offset), head.arrived_at_ms) {
                break;
            }
            offset += head.stride();
        }
        Ok(offset)
    }

    /// The records from an offset on; `None`: none yet.
    fn page(&self, offset: u64, limits: Limits) -> Result<Option<Page>, ReadError> {
        let view = self.view();
        if offset >= view.end {
            return Ok(None);
        }
        if view.tail.first().and_then(offset_of).is_some_and(|first| first <= offset) {
            let mut room = limits.bytes;
            let mut full = false;
            let after = view.tail.from(|record| offset_of(record) < Some(offset));
            let records: Vec<Record> = after
                .take(limits.records.get())
                .take_while(|record| !std::mem::replace(&mut full, uses_up(&mut room, record)))
                .cloned()
                .collect();
            return Ok(Some(page_of(records, &view)));
        }
        let index = view.segments.partition_point(|segment| segment.first() <= offset);
        let Some(index) = index.checked_sub(1) else {
            return Err(ReadError::Unavailable(
                "the records were trimmed while they were looked for: read again".to_owned(),
            ));
        };
        let part = view.part(index);
        drop(view);
        let records = self.take_from_file(&part, offset, limits)?;
        Ok(Some(page_of(records, &self.view())))
    }

    fn take_from_file(&self, part: &Part<D::File>, mut offset: u64, limits: Limits) -> Result<Vec<Record>, ReadError> {
        let mut records = Vec::new();
        let mut room = limits.bytes;
        let mut bytes = self.bytes_at(part, offset, HEAD_BYTES)?;
        while records.len() < limits.records.get() && offset < part.end {
            let head = frame::head(&bytes, &part.segment.place, offset);
            let need = head.map_or(HEAD_BYTES, |head| head.length);
            if bytes.len() < need {
                if !records.is_empty() {
                    break;
                }
                // Let go first, so that its memory can be used again.
                drop(mem::take(&mut bytes));
                bytes = self.bytes_at(part, offset, need)?;
            }
            let Some(head) = frame::whole(&bytes, &part.segment.place, offset) else {
                // What came before it is good.
                return if records.is_empty() { Err(self.damaged(&part.segment, offset)) } else { Ok(records) };
            };
            let key = std::str::from_utf8(&bytes[head.key()]).expect("checked with the checksum");
            let record = Record {
                sequence: SequenceNumber::from_parts(head.epoch, offset),
                arrived_at_ms: head.arrived_at_ms,
                partition_key: key.to_owned(),
                data: bytes.slice(head.data()),
            };
            let full = uses_up(&mut room, &record);
            records.push(record);
            offset += head.stride();
            let stride = (head.stride() as usize).min(bytes.len());
            bytes = bytes.slice(stride..);
            if full {
                break;
            }
        }
        Ok(records)
    }

    /// At least `need` bytes from there on, if the segment has them: from what was read ahead, or read now.
    fn bytes_at(&self, part: &Part<D::File>, offset: u64, need: usize) -> Result<Bytes, ReadError> {
        let need = need.min((part.end - offset) as usize);
        let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        let known = ahead.as_ref().and_then(|chunk| chunk.at(part.segment.first(), offset));
        if let Some(bytes) = known.filter(|bytes| bytes.len() >= need) {
            return Ok(bytes);
        }
        // The records that were cut from the old chunk keep it alive as long as they need it; if none does, its memory is used again: as much
        // each time, taken and given back, would stay with the allocator.
        let old = ahead.take().and_then(|chunk| chunk.bytes.try_into_mut().ok());
        drop(ahead);
        let mut bytes = old.unwrap_or_default();
        bytes.resize(((part.end - offset) as usize).min(READ_AHEAD_BYTES), 0);
        let read = part.segment.read(&mut bytes, offset).map_err(|error| self.unreadable(&part.segment, &error))?;
        bytes.truncate(read);
        let bytes = bytes.freeze();
        let chunk = Chunk { segment: part.segment.first(), offset, bytes: bytes.clone() };
        *self.ahead.lock().unwrap_or_else(PoisonError::into_inner) = Some(chunk);
        Ok(bytes)
    }

    fn lost(&self, asked: SequenceNumber, front: &Part<D::File>) -> Result<ReadError, ReadError> {
        let first = front.segment.first();
        let oldest = if first < front.end {
            let bytes = self.bytes_at(front, first, HEAD_BYTES)?;
            let head = frame::head(&bytes, &front.segment.place, first);
            let head = head.ok_or_else(|| self.damaged(&front.segment, first))?;
            SequenceNumber::from_parts(head.epoch, first)
        } else {
            // None is kept: the next one will be the oldest.
            self.next()
        };
        Ok(ReadError::Trimmed { shard: self.shard.id.clone(), asked, oldest })
    }

    fn unreadable(&self, segment: &Segment<D::File>, error: &io::Error) -> ReadError {
        ReadError::Unavailable(format!("{} could not be read: {error}", self.describe(&segment.path)))
    }

    fn damaged(&self, segment: &Segment<D::File>, offset: u64) -> ReadError {
        ReadError::Damaged(format!(
            "{} is damaged at byte {}: the record is not what was written; keep a copy of the folder, and put the file back from a backup",
            self.describe(&segment.path),
            segment.in_file(offset)
        ))
    }
}

fn offset_of(record: &Record) -> Option<u64> {
    record.sequence.parts().map(|(_, offset)| offset)
}

/// Takes the record's bytes off the room; true if none is left.
fn uses_up(room: &mut usize, record: &Record) -> bool {
    *room = room.saturating_sub(record.data.len() + record.partition_key.len());
    *room == 0
}

fn page_of<F>(records: Vec<Record>, view: &View<F>) -> Page {
    let last = records.last().expect("a page is only made where there is a record");
    let is_end = view.closed && last.sequence >= view.tip;
    Page { next: (!is_end).then_some(Start::After(last.sequence)), behind_ms: view.behind_ms(last), records }
}
