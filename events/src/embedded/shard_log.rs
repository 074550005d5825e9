//! The log of one shard: puts records behind its end, a group at a time, and shows them once they are durable. Never overwrites a durable byte.
//!
//! What a step that fails leaves:
//!
//! | step | disk | answer | stream |
//! |---|---|---|---|
//! | clock far behind, log ended | nothing | not appended | goes on, or has ended |
//! | making a segment (full disk) | removed again, durably | not appended | goes on; ends if that fails |
//! | writing the group (full disk) | zeros again, durably | not appended | goes on; ends if that fails |
//! | any sync | unknown | unknown | ends |

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    iter::Peekable,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    vec,
};

use super::{
    Options, Sabotage, Switches, TrimError,
    committer::Queue,
    disk::{Disk, File},
    frame::{self, HEAD_BYTES, Head, Place},
    reader::Chunk,
    recover::Recovered,
    segment::{self, Before, Header, Room, Segment},
    spare::Spare,
    tail::Tail,
    time::Time,
};
use crate::{
    position::SequenceNumber,
    stream::{Appended, Put, Record, Shard},
};

/// Payloads up to this are joined into one buffer for writing; longer ones are written from where they lie.
const JOINED_BYTES_MAX: usize = 4096;

/// Why a record was not appended, or may have been.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    Nothing(String),
    Unknown(String),
}

/// What became of some records.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// Of all, or of none.
    pub answers: Vec<Result<Appended, Failure>>,
    /// Given back: the shard is closed, and a child owns their keys.
    pub moved: Vec<Put>,
}

#[derive(Debug)]
pub(super) struct ShardLog<D: Disk> {
    pub shard: Shard,
    disk: D,
    number: u64,
    log_id: u64,
    epoch: u64,
    segment_bytes: u64,
    switches: Switches,
    time: Arc<Time>,
    /// Held by whoever writes; always taken before `view`.
    writing: Mutex<()>,
    view: Mutex<View<D::File>>,
    pub(super) queue: Queue,
    pub(super) spare: Spare<D>,
    pub(super) ahead: Mutex<Option<Chunk>>,
}

/// What readers see: only durable records.
#[derive(Debug)]
pub(super) struct View<F> {
    /// Never empty; the last one is being written.
    pub segments: VecDeque<Arc<Segment<F>>>,
    pub end: u64,
    pub tip: SequenceNumber,
    pub tip_stamp_ms: i64,
    /// In the last segment.
    pub highest_stamp_ms: i64,
    /// The last segment was a spare: syncing in it is cheap.
    pub filled: bool,
    pub tail: Tail,
    /// No record will ever come: children have its keys.
    pub closed: bool,
    /// Why every call fails from now on.
    pub ended: Option<String>,
}

impl<F> View<F> {
    fn last(&self) -> &Arc<Segment<F>> {
        self.segments.back().expect("never empty")
    }

    /// The newest record that trimming has removed; `ZERO`: all are there.
    pub fn trimmed(&self) -> SequenceNumber {
        self.segments.front().expect("never empty").header.before.last
    }
}

/// Records on their way into one segment.
struct Group {
    start: u64,
    end: u64,
    records: Vec<Record>,
    /// Heads, keys, short payloads and padding, in order.
    joined: Vec<u8>,
    /// Where the payload of a record stands behind so many of the joined bytes.
    apart: Vec<(usize, usize)>,
}

impl<D: Disk> ShardLog<D> {
    pub fn new(
        disk: &D,
        shard: Shard,
        found: Recovered<D::File>,
        epoch: u64,
        log_id: u64,
        options: &Options,
        time: Arc<Time>,
    ) -> Self {
        let number = found.segments.last().map_or(0, |segment| segment.header.shard);
        let view = View {
            segments: found.segments.into_iter().map(Arc::new).collect(),
            end: found.end,
            tip: found.tip,
            tip_stamp_ms: found.tip_stamp_ms,
            highest_stamp_ms: found.highest_stamp_ms,
            // Not so after a crash that left a torn tail, or where the spare came too late: then it is only slower.
            filled: found.filled,
            tail: Tail::default(),
            closed: shard.closed,
            ended: None,
        };
        Self {
            shard,
            disk: disk.clone(),
            number,
            log_id,
            epoch,
            segment_bytes: options.segment_bytes,
            switches: options.switches(),
            time,
            writing: Mutex::new(()),
            view: view.into(),
            queue: Queue::default(),
            spare: Spare::new(disk, options),
            ahead: Mutex::new(None),
        }
    }

    /// As the port lists it.
    pub fn listed(&self) -> Shard {
        Shard { closed: self.view().closed, ..self.shard.clone() }
    }

    /// No group is under way, and none begins, as long as the answer lives.
    pub fn hold(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its children are durable and known. Called while it is held.
    pub fn close_for_good(&self) {
        self.view().closed = true;
        self.spare.give_up();
        self.queue.retire();
    }

    pub fn view(&self) -> MutexGuard<'_, View<D::File>> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn tip(&self) -> SequenceNumber {
        self.view().tip
    }

    pub fn describe(&self, path: &str) -> String {
        self.disk.describe(path)
    }

    /// Where a record that was appended now would stand.
    pub fn next(&self) -> SequenceNumber {
        SequenceNumber::from_parts(self.epoch, self.view().end)
    }

    /// From now on every call fails; the first reason stays.
    pub fn end(&self, why: &str) {
        self.view().ended.get_or_insert_with(|| why.to_owned());
        self.queue.wake_readers();
    }

    fn broken(&self, what: &str, error: &io::Error) -> String {
        let why = format!(
            "{what} failed ({error}): what the disk holds is unknown until the stream is opened again; end this process"
        );
        self.end(&why);
        why
    }

    /// Appends in order and answers each record, when it is durable or it is clear that it is not.
    pub fn commit(&self, puts: Vec<Put>) -> Done {
        let _writing = self.hold();
        if self.view().closed {
            return Done { answers: vec![], moved: puts };
        }
        let mut answers = Vec::with_capacity(puts.len());
        let mut rest = puts.into_iter().peekable();
        while rest.peek().is_some() {
            let before = rest.len();
            let done = self.commit_group(&mut rest);
            match done {
                Ok(places) => answers.extend(places.into_iter().map(Ok)),
                Err(failure) => {
                    let count = before + answers.len();
                    // What came before is durable; of the rest nothing was written, unless it was in this group.
                    let tried = before - rest.len();
                    let others = match &failure {
                        Failure::Unknown(why) => Failure::Nothing(why.clone()),
                        nothing => nothing.clone(),
                    };
                    answers.extend(std::iter::repeat_n(Err(failure), tried));
                    answers.resize(count, Err(others));
                    break;
                }
            }
        }
        Done { answers, moved: vec![] }
    }

    /// Appends as many as fit into one segment.
    fn commit_group(&self, rest: &mut Peekable<vec::IntoIter<Put>>) -> Result<Vec<Appended>, Failure> {
        let (mut segment, end, filled) = {
            let view = self.view();
            if let Some(why) = &view.ended {
                return Err(Failure::Nothing(format!("the stream has ended: {why}")));
            }
            (view.last().clone(), view.end, view.filled)
        };
        let mut stamp_ms = self.time.stamp().map_err(|behind| Failure::Nothing(behind.to_string()))?;
        if self.switches.breaks(Sabotage::StampsGoBack) {
            stamp_ms = self.time.clock_ms();
        }
        let Some(first) = rest.peek().map(frame_stride) else { return Ok(Vec::new()) };
        let mut limit = self.segment_bytes;
        let better = !filled && self.spare.is_better(end - segment.first());
        if better || segment.in_file(end) + first > limit {
            if segment.first() < end {
                segment = self.roll()?;
            }
            limit = limit.max(segment.in_file(end) + first);
            let allocated = segment.file.allocate(limit);
            allocated.map_err(|error| Failure::Nothing(format!("no room for a segment: {error}")))?;
        }
        let mut group = Group::new(end);
        while let Some(put) = rest.next_if(|put| segment.in_file(group.end) + frame_stride(put) <= limit) {
            group.push(put, self.epoch, stamp_ms, &segment.place);
        }
        self.write(&segment, &group)?;
        if self.switches.breaks(Sabotage::PublishedBeforeSync) {
            self.publish(&group);
        }
        if let Err(error) = segment.file.sync_data() {
            if self.switches.breaks(Sabotage::FailedSyncOutlived) {
                return Err(Failure::Unknown(error.to_string()));
            }
            return Err(Failure::Unknown(self.broken("syncing the log", &error)));
        }
        if !self.switches.breaks(Sabotage::PublishedBeforeSync) {
            self.publish(&group);
        }
        self.queue.wake_readers();
        if self.spare.is_wanted(group.end - segment.first(), filled) {
            self.spare.make(&self.shard.id);
        }
        let shard = &self.shard.id;
        Ok(group.records.iter().map(|record| Appended { shard: shard.clone(), sequence: record.sequence }).collect())
    }

    /// Writes the group, or leaves no trace of it.
    fn write(&self, segment: &Segment<D::File>, group: &Group) -> Result<(), Failure> {
        let written = segment.file.write_at(&group.slices(), segment.in_file(group.start));
        let Err(error) = written else { return Ok(()) };
        if self.switches.breaks(Sabotage::StaleTailKept) {
            return Err(Failure::Nothing(error.to_string()));
        }
        // Whole frames may have got there: behind a shorter group that comes next they would pass for records.
        let through = group.end.min(
            segment.file.len().map_or(group.end, |bytes| segment.first() + bytes.saturating_sub(segment::HEADER_BYTES)),
        );
        match segment.wipe(group.start, through).and_then(|()| segment.file.sync_data()) {
            Ok(()) => Err(Failure::Nothing(format!("writing failed: {error}"))),
            Err(wipe) => {
                self.broken("clearing what a failed write left", &wipe);
                Err(Failure::Unknown(format!("writing failed: {error}; clearing what it left: {wipe}")))
            }
        }
    }

    fn publish(&self, group: &Group) {
        let mut view = self.view();
        view.end = group.end;
        for record in &group.records {
            view.tip = record.sequence;
            view.tip_stamp_ms = record.arrived_at_ms;
            view.highest_stamp_ms = view.highest_stamp_ms.max(record.arrived_at_ms);
            view.tail.push(record.clone());
        }
    }

    /// Goes on in a new segment, which is durable, with its name, before anything is put into it.
    fn roll(&self) -> Result<Arc<Segment<D::File>>, Failure> {
        let (header, sealed) = {
            let view = self.view();
            let before = Before {
                first: Some(view.last().first()),
                last: view.tip,
                last_stamp_ms: view.tip_stamp_ms,
                highest_stamp_ms: view.highest_stamp_ms,
            };
            let header = Header { log_id: self.log_id, shard: self.number, first: view.end, epoch: self.epoch, before };
            (header, view.last().clone())
        };
        let unseeded = self.switches.breaks(Sabotage::UnseededChecksum);
        let place = Place { log_id: self.log_id, shard: self.number, segment: header.first, unseeded };
        let sync_name = !self.switches.breaks(Sabotage::FolderNotSynced);
        let room = self.spare.take().map_or(Room::Bytes(self.segment_bytes), Room::Spare);
        let filled = matches!(room, Room::Spare(_));
        match segment::create(&self.disk, &self.shard.id, header, place, room, sync_name) {
            Ok(segment) => {
                let segment = Arc::new(segment);
                let mut view = self.view();
                view.segments.push_back(segment.clone());
                view.highest_stamp_ms = i64::MIN;
                view.filled = filled;
                drop(view);
                // Gives back room that nothing will use; if it cannot, that room comes back when the segment is trimmed.
                let _ = sealed.file.set_len(sealed.in_file(header.first));
                Ok(segment)
            }
            Err(error) => {
                // If it came back after a crash it would say that the log goes on there, while a shorter record may yet go before it.
                let path = segment::path(&self.shard.id, header.first);
                let removed = match self.disk.remove(&path) {
                    Err(gone) if gone.kind() == io::ErrorKind::NotFound => Ok(()),
                    other => other,
                };
                match removed.and_then(|()| self.disk.sync_folder(self.shard.id.as_str())) {
                    Ok(()) => {
                        let path = self.disk.describe(&path);
                        Err(Failure::Nothing(format!("there is no new segment {path}: {error}")))
                    }
                    Err(removing) => Err(Failure::Nothing(self.broken("removing an unfinished segment", &removing))),
                }
            }
        }
    }

    pub fn trim(&self, older_than_ms: i64, keep_from: SequenceNumber) -> Result<usize, TrimError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut removed = 0;
        loop {
            let oldest = {
                let mut view = self.view();
                if let Some(why) = &view.ended {
                    return Err(TrimError::Ended(why.clone()));
                }
                let Some(next) = view.segments.get(1).map(|next| next.header.before) else { return Ok(removed) };
                if next.highest_stamp_ms >= older_than_ms || next.last >= keep_from {
                    return Ok(removed);
                }
                // Readers must not start here any more before the file goes; those that are here have it open.
                view.segments.pop_front().expect("there are two")
            };
            let file = self.describe(&oldest.path);
            match self.disk.remove(&oldest.path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    // Else the next call would remove the one behind it, and leave a hole.
                    self.view().segments.push_front(oldest);
                    return Err(TrimError::Io { file, source });
                }
                _ => {}
            }
            // One at a time, oldest first: a power loss may not leave a hole.
            self.disk.sync_folder(self.shard.id.as_str()).map_err(|source| {
                self.broken("syncing the folder of a removed segment", &source);
                TrimError::Io { file, source }
            })?;
            removed += 1;
        }
    }
}

fn frame_length(put: &Put) -> usize {
    HEAD_BYTES + put.partition_key.len() + put.data.len()
}

fn frame_stride(put: &Put) -> u64 {
    frame::stride(frame_length(put))
}

impl Group {
    fn new(start: u64) -> Self {
        Self { start, end: start, records: Vec::new(), joined: Vec::new(), apart: Vec::new() }
    }

    fn push(&mut self, put: Put, epoch: u64, stamp_ms: i64, place: &Place) {
        let head = Head {
            length: frame_length(&put),
            key_bytes: put.partition_key.len(),
            epoch,
            arrived_at_ms: stamp_ms,
            group_start: self.start,
        };
        self.joined.extend_from_slice(&frame::seal(&head, &put.partition_key, &put.data, place, self.end));
        self.joined.extend_from_slice(put.partition_key.as_bytes());
        if put.data.len() > JOINED_BYTES_MAX {
            self.apart.push((self.joined.len(), self.records.len()));
        } else {
            self.joined.extend_from_slice(&put.data);
        }
        let padding = head.stride() as usize - head.length;
        self.joined.resize(self.joined.len() + padding, 0);
        self.records.push(Record {
            sequence: SequenceNumber::from_parts(epoch, self.end),
            arrived_at_ms: stamp_ms,
            partition_key: put.partition_key,
            data: put.data,
        });
        self.end += head.stride();
    }

    fn slices(&self) -> Vec<IoSlice<'_>> {
        let mut slices = Vec::with_capacity(2 * self.apart.len() + 1);
        let mut done = 0;
        for &(behind, record) in &self.apart {
            slices.push(IoSlice::new(&self.joined[done..behind]));
            slices.push(IoSlice::new(&self.records[record].data));
            done = behind;
        }
        slices.push(IoSlice::new(&self.joined[done..]));
        slices
    }
}
