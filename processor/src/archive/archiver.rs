//! Puts one shard of a stream into the archive. Decides where a segment ends, and what is done where another archiver was first; it changes nothing
//! else, and holds no resume point: it goes on behind the archive's newest segment.
//!
//! | it finds | it does |
//! | --- | --- |
//! | a segment's worth of bytes, or the oldest record waits for `Settings::age`, or the shard has ended | puts a segment, if there is none of its name |
//! | its own segment there already (the answer of an earlier put was lost) | goes on behind it |
//! | another's segment there | checks that it is of the same records, goes on behind it, and stands by: the other one is at work |
//! | no further segment of the other one for longer than `Settings::age` | goes to work itself, and puts what has waited as soon as it has read it |
//! | that the stream has let go of records before it came to them | says so, in the chain and in words, and goes on with the oldest |
//! | that the stream has let go of the whole shard | says so, puts what it holds, and ends: the archive has no end of the shard |
//! | nothing more to read | looks again after `Settings::idle_pause`: whoever folds reads the same shard |
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
/// Who stands by looks so often within `Settings::age`: each look is a GET.
const LOOKS_AN_AGE: u32 = 5;
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
    /// Another archiver is at work. Its next segment is looked for at `next`; if there is none at `until`, it has stopped.
    StandingBy { next: Instant, until: Instant },
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
    /// Records are gone before the next segment.
    is_behind_hole: bool,
    /// The stream no longer has the shard.
    is_gone: bool,
    /// It had read all that there was: it is not to look again before.
    rests_until: Option<Instant>,
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
        let mut archiver = Self {
            stream,
            archive,
            shard,
            settings,
            newest,
            tip_ms: None,
            doing: Doing::Ended,
            is_behind_hole: false,
            is_gone: false,
            rests_until: None,
        };
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
            Doing::StandingBy { .. } | Doing::Ended => None,
        };
        // Nothing that is not archived is known of.
        let Some(first) = first else { return 0 };
        self.tip_ms.map_or(0, |tip| u64::try_from(tip.saturating_sub(first)).unwrap_or(0))
    }

    /// Begins the segment behind the newest.
    fn go_on(&mut self) {
        let codec = self.settings.codec;
        let (mut builder, next) = match &self.newest {
            _ if self.is_gone => {
                self.doing = Doing::Ended;
                return;
            }
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
            Doing::StandingBy { next, .. } if Instant::now() < *next => Ok(Step::Idle(*next)),
            Doing::StandingBy { until, .. } => {
                let until = *until;
                self.look(until).await
            }
            Doing::Filling { .. } => self.fill().await,
        }
    }

    /// Reads what is there and puts it, before the process ends; what is there beyond `until` is not read any more. False: there was more.
    pub async fn finish(&mut self, until: Instant, mut lost: impl FnMut(String)) -> Result<bool, ArchiveError> {
        let mut is_all = false;
        while !is_all && Instant::now() < until {
            // It has looked just now, but not for this.
            self.rests_until = None;
            match self.step().await? {
                Step::Read | Step::Archived => {}
                Step::Lost(why) => lost(why),
                Step::Idle(_) | Step::Ended => is_all = true,
            }
        }
        self.seal();
        while let Doing::Putting { .. } = self.doing {
            self.put().await?;
        }
        Ok(is_all)
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
        // By the stream's own stamps too, once there is no more to read: who begins, or takes over, lets nothing wait twice.
        let waited_ms = match (builder.held(), self.tip_ms, self.rests_until) {
            (Some(held), Some(tip_ms), Some(_)) => u64::try_from(tip_ms.saturating_sub(held.first_ms)).unwrap_or(0),
            _ => 0,
        };
        let is_old = since.is_some_and(|since| since.elapsed().max(Duration::from_millis(waited_ms)) >= settings.age);
        if builder.bytes() >= settings.segment_bytes || builder.is_full() || is_old || *ended {
            self.seal();
            return self.put().await;
        }
        let now = Instant::now();
        let age_left =
            |since: &Option<Instant>| since.map_or(settings.age, |since| settings.age.saturating_sub(now - since));
        if let Some(until) = self.rests_until.filter(|until| now < *until) {
            return Ok(Step::Idle(until.min(now + age_left(since))));
        }
        let (records, bytes) = PAGE;
        let limits = Limits { records, bytes, wait: Duration::ZERO };
        let Page { records, next: then, behind_ms } = match self.stream.read(&self.shard.id, *next, limits).await {
            Ok(page) => page,
            Err(ReadError::Trimmed { asked, oldest, .. }) => return Ok(self.lost(asked, oldest)),
            Err(ReadError::NoSuchShard(_)) => return Ok(self.gone()),
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
        self.rests_until = (!*ended && behind_ms == 0).then(|| now + settings.idle_pause);
        match self.rests_until {
            Some(until) if records.is_empty() => Ok(Step::Idle(until.min(now + age_left(since)))),
            _ => Ok(Step::Read),
        }
    }

    /// The shard is not there any more. Whether it held more than what was read, nobody can tell.
    fn gone(&mut self) -> Step {
        self.is_gone = true;
        let read = match &self.doing {
            Doing::Filling { builder, .. } => builder.last(),
            _ => self.archived_through(),
        };
        self.seal();
        if let Doing::Filling { .. } = self.doing {
            self.go_on();
        }
        Step::Lost(format!(
            "{}: the stream no longer has this shard, and its end was not archived: of its records those up to {read} are. Keep the stream's records \
             for longer than weir may be away",
            self.shard.id
        ))
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
        // Behind another's segment the stream may have all: what is gone there shows when it is read.
        self.is_behind_hole &= !is_behind(&self.doing) && !is_others;
        self.newest = Some(newest);
        self.go_on();
        if is_others && let Doing::Filling { .. } = self.doing {
            self.stand_by();
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

    /// A segment has come just now: the other one's next is due within an age, and a look.
    fn stand_by(&mut self) {
        let (now, look) = (Instant::now(), self.settings.age / LOOKS_AN_AGE);
        self.doing = Doing::StandingBy { next: now + look, until: now + self.settings.age + look };
    }

    /// Follows the other archiver, or goes to work where it has stopped.
    async fn look(&mut self, until: Instant) -> Result<Step, ArchiveError> {
        let mut followed = false;
        while let Some(newest) = self.newest.as_ref().filter(|newest| !newest.shard.closed) {
            let Some(next) = self.archive.reader().segment(&newest.shard.id, newest.last).await? else { break };
            self.newest = Some(next);
            followed = true;
        }
        let now = Instant::now();
        if !followed && now < until {
            let next = until.min(now + self.settings.age / LOOKS_AN_AGE);
            self.doing = Doing::StandingBy { next, until };
            return Ok(Step::Idle(next));
        }
        self.go_on();
        if followed && let Doing::Filling { .. } = self.doing {
            self.stand_by();
        }
        Ok(Step::Archived)
    }
}
