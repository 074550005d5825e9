//! Puts one shard of a stream into the archive. Decides where a segment ends, and what is done where another archiver was first; it changes nothing
//! else, and holds no resume point: it goes on behind the archive's newest segment.
//!
//! | it finds | it does |
//! | --- | --- |
//! | a segment's worth of bytes, or the oldest record waits for `Settings::age`, or the shard has ended | puts a segment, if there is none of its name |
//! | its own segment there already (the answer of an earlier put was lost) | goes on behind it |
//! | another's segment there | checks that it is of the same records, goes on behind it, and stands by: the other one is at work |
//! | no further segment of the other one for twice `Settings::age` | goes to work itself |
//! | that the stream has let go of records before it came to them | says so, in the chain and in words, and goes on with the oldest |
//! | that a put or a read fails | holds what it has, reads no more, and tries again |
//!
//! Killed at any point, nothing is lost that the stream still has: what was not put is read again.

use std::{num::NonZeroUsize, time::Duration};

use events::{
    archive::{Builder, Closing, Codec, Sealed, Segment},
    position::{SequenceNumber, ShardId},
    stream::{Limits, Page, ReadError, ReadOnly, Shard, Start, Stream},
};
use tokio::time::Instant;

use super::{ArchiveError, Objects, Stored, Writer};

/// Segments are put once they have this many stored bytes: at a shard's full rate (1 MB/s) one in sixteen seconds.
const SEGMENT_BYTES: usize = 16 << 20;
/// What all archivers of a process hold together is about this; with many shards segments are smaller.
const HELD_BYTES_MAX: usize = 256 << 20;
/// The smallest such share: with more shards than this allows for, more is held.
const SEGMENT_BYTES_MIN: usize = 1 << 20;
/// Records and bytes of one read.
const PAGE: (NonZeroUsize, usize) = (NonZeroUsize::new(10_000).expect("not zero"), 1 << 20);

/// How an archiver works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// A segment with so many stored bytes is put.
    pub segment_bytes: usize,
    /// Longest that a record waits for its segment.
    pub age: Duration,
    /// How long to wait before a shard that had nothing more is read again: each look is a read, of which Kinesis allows a shard five a second for all.
    pub idle_pause: Duration,
    /// How blocks are packed.
    pub codec: Codec,
}

impl Settings {
    /// For a stream of so many shards.
    pub fn of(shards: usize, age: Duration, idle_pause: Duration) -> Self {
        let segment_bytes = (HELD_BYTES_MAX / shards.max(1)).clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES);
        Self { segment_bytes, age, idle_pause, codec: Codec::Zstd }
    }
}

/// What a step did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// It read some records.
    Read,
    /// There was nothing to do until then.
    Idle(Instant),
    /// It put a segment, or found that one was there.
    Archived,
    /// Records were gone from the stream; in words.
    Lost(String),
    /// The shard has ended, and all of it is archived.
    Ended,
}

enum Doing {
    /// Reading on from there. `ended`: the shard has nothing more.
    Filling { builder: Box<Builder>, next: Start, since: Option<Instant>, ended: bool },
    /// This is to be put. `may_be_there`: an earlier answer was lost.
    Putting { sealed: Box<Sealed>, may_be_there: bool },
    /// Another archiver is at work; its next segment is looked for then.
    StandingBy(Instant),
    /// The archive has the shard's end.
    Ended,
}

/// See the module. One that failed may be stepped again.
pub struct Archiver<S, O> {
    stream: ReadOnly<S>,
    archive: Writer<O>,
    shard: Shard,
    settings: Settings,
    /// The newest segment. `None`: there is none.
    newest: Option<Segment>,
    /// Highest arrival stamp that is known to be in the stream, Unix milliseconds.
    tip_ms: Option<i64>,
    doing: Doing,
    /// The next time that records are gone is told once.
    is_behind_hole: bool,
}

impl<S: Stream, O: Objects> Archiver<S, O> {
    /// Behind the archive's newest segment of the shard. One list.
    pub async fn open(
        stream: ReadOnly<S>,
        archive: Writer<O>,
        shard: Shard,
        settings: Settings,
    ) -> Result<Self, ArchiveError> {
        let segments = archive.reader().segments(&shard.id, SequenceNumber::ZERO).await?;
        let newest = match segments.last() {
            Some(after) => archive.reader().segment(&shard.id, *after).await?,
            None => None,
        };
        let mut archiver =
            Self { stream, archive, shard, settings, newest, tip_ms: None, doing: Doing::Ended, is_behind_hole: false };
        archiver.go_on();
        Ok(archiver)
    }

    /// The shard.
    pub fn shard(&self) -> &ShardId {
        &self.shard.id
    }

    /// The last position that is archived; `ZERO`: none.
    pub fn archived_through(&self) -> SequenceNumber {
        self.newest.as_ref().map_or(SequenceNumber::ZERO, |segment| segment.last)
    }

    /// How much older than the newest record that it knows of the oldest one is that waits to be archived, in milliseconds.
    pub fn behind_ms(&self) -> u64 {
        let first = match &self.doing {
            Doing::Filling { builder, .. } => builder.held().map(|held| held.first_ms),
            Doing::Putting { sealed, .. } => sealed.segment.held.map(|held| held.first_ms),
            Doing::StandingBy(_) | Doing::Ended => None,
        };
        // Nothing that is not archived is known of.
        let Some(first) = first else { return 0 };
        self.tip_ms.map_or(0, |tip| u64::try_from(tip.saturating_sub(first)).unwrap_or(0))
    }

    /// Begins the segment behind the newest.
    fn go_on(&mut self) {
        let codec = self.settings.codec;
        let (mut builder, next) = match &self.newest {
            Some(newest) if newest.shard.closed => {
                self.doing = Doing::Ended;
                return;
            }
            Some(newest) => (Builder::after(newest, codec), Start::After(newest.last)),
            None => {
                let stream = self.archive.reader().stream().to_owned();
                (Builder::first(stream, self.shard.id.clone(), codec), Start::TrimHorizon)
            }
        };
        let next = if self.is_behind_hole {
            builder.begins_behind_hole();
            Start::TrimHorizon
        } else {
            next
        };
        self.doing = Doing::Filling { builder: Box::new(builder), next, since: None, ended: false };
    }

    /// Reads some records, or puts a segment. After an error the same is tried again by the next step.
    pub async fn step(&mut self) -> Result<Step, ArchiveError> {
        match &mut self.doing {
            Doing::Ended => Ok(Step::Ended),
            Doing::Putting { .. } => self.put().await,
            Doing::StandingBy(until) if Instant::now() < *until => Ok(Step::Idle(*until)),
            Doing::StandingBy(_) => self.look().await,
            Doing::Filling { .. } => self.fill().await,
        }
    }

    /// Puts what it holds, without reading on: before the process ends.
    pub async fn put_held(&mut self) -> Result<(), ArchiveError> {
        self.seal();
        while let Doing::Putting { .. } = self.doing {
            self.put().await?;
        }
        Ok(())
    }

    /// What it holds is to be put, if it holds anything.
    fn seal(&mut self) {
        let Doing::Filling { builder, ended, .. } = &self.doing else { return };
        let closing = if *ended { Closing::LastOfShard } else { Closing::Open };
        if let Some(sealed) = builder.as_ref().clone().seal(&self.shard, closing) {
            self.doing = Doing::Putting { sealed: Box::new(sealed), may_be_there: false };
        }
    }

    async fn fill(&mut self) -> Result<Step, ArchiveError> {
        let Doing::Filling { builder, next, since, ended } = &mut self.doing else { return Ok(Step::Read) };
        let settings = self.settings;
        let is_old = since.is_some_and(|since| since.elapsed() >= settings.age);
        if builder.bytes() >= settings.segment_bytes || builder.is_full() || is_old || *ended {
            self.seal();
            return self.put().await;
        }
        let (records, bytes) = PAGE;
        let limits = Limits { records, bytes, wait: Duration::ZERO };
        let Page { records, next: then, behind_ms } = match self.stream.read(&self.shard.id, *next, limits).await {
            Ok(page) => page,
            Err(ReadError::Trimmed { asked, oldest, .. }) => return Ok(self.lost(asked, oldest)),
            Err(error) => return Err(error.into()),
        };
        for record in &records {
            let shard = &self.shard.id;
            builder.push(record).map_err(|source| ArchiveError::Record { shard: shard.clone(), source })?;
            *since = since.or(Some(Instant::now()));
            self.tip_ms = self.tip_ms.max(Some(record.arrived_at_ms));
        }
        if let (Some(last), true) = (records.last(), behind_ms > 0) {
            self.tip_ms = self.tip_ms.max(Some(last.arrived_at_ms.saturating_add_unsigned(behind_ms)));
        }
        match then {
            Some(then) => *next = then,
            None => *ended = true,
        }
        if *ended || behind_ms > 0 || !records.is_empty() {
            return Ok(Step::Read);
        }
        let due = since.map_or(settings.idle_pause, |since| settings.age.saturating_sub(since.elapsed()));
        Ok(Step::Idle(Instant::now() + due.min(settings.idle_pause)))
    }

    /// The stream has let go of what comes next. What is held is put first: it stands before the hole.
    fn lost(&mut self, asked: SequenceNumber, oldest: SequenceNumber) -> Step {
        self.is_behind_hole = true;
        self.seal();
        if let Doing::Filling { .. } = self.doing {
            self.go_on();
        }
        Step::Lost(format!(
            "{}: the records after {asked} and before {oldest} were gone from the stream before they were archived: the archive has a hole there. \
             Keep the stream's records for longer than weir may be away",
            self.shard.id
        ))
    }

    async fn put(&mut self) -> Result<Step, ArchiveError> {
        let Doing::Putting { sealed, may_be_there } = &mut self.doing else { return Ok(Step::Read) };
        let (ours, was_put) = (sealed.segment.clone(), std::mem::replace(may_be_there, true));
        let stored = self.archive.put(sealed).await?;
        let mut is_others = false;
        let newest = match stored {
            Stored::New => ours,
            Stored::Exists => {
                let there = self.archive.reader().segment(&ours.shard.id, ours.after).await?;
                // One that was there and is gone: the same is put again.
                let Some(there) = there else { return Ok(Step::Read) };
                self.agrees(&there, &ours)?;
                is_others = !was_put || there.checksum != ours.checksum;
                there
            }
        };
        // The hole lies before the segment that was to be behind it, or before the next one.
        let is_behind = |doing: &Doing| matches!(doing, Doing::Putting { sealed, .. } if sealed.segment.is_behind_hole);
        self.is_behind_hole &= !is_behind(&self.doing);
        self.newest = Some(newest);
        self.go_on();
        if is_others && let Doing::Filling { .. } = self.doing {
            self.doing = Doing::StandingBy(Instant::now() + 2 * self.settings.age);
        }
        Ok(Step::Archived)
    }

    /// Whether another's segment holds the stream's records behind the same place. Where one of the two stands behind a hole, or the stream may have let
    /// go of the shard's first records between both looks, the beginning tells nothing.
    fn agrees(&self, theirs: &Segment, ours: &Segment) -> Result<(), ArchiveError> {
        let first = |of: &Segment| of.held.map(|held| held.first);
        let may_differ = ours.after == SequenceNumber::ZERO || theirs.is_behind_hole || ours.is_behind_hole;
        match (first(theirs), first(ours)) {
            (Some(theirs_first), Some(ours_first)) if theirs_first != ours_first && !may_differ => {
                let segment = self.archive.reader().describe_segment(&ours.shard.id, ours.after);
                Err(ArchiveError::Disagrees { segment, theirs: theirs_first, ours: ours_first })
            }
            _ => Ok(()),
        }
    }

    /// Follows the other archiver, or goes to work where it has stopped.
    async fn look(&mut self) -> Result<Step, ArchiveError> {
        let mut followed = false;
        while let Some(newest) = self.newest.as_ref().filter(|newest| !newest.shard.closed) {
            let Some(next) = self.archive.reader().segment(&newest.shard.id, newest.last).await? else { break };
            self.newest = Some(next);
            followed = true;
        }
        self.go_on();
        if followed && let Doing::Filling { .. } = self.doing {
            self.doing = Doing::StandingBy(Instant::now() + 2 * self.settings.age);
        }
        Ok(Step::Archived)
    }
}
