//! The Store port: rows that only move forward, and the resume points of shards. It never looks into a row's body.
//!
//! Invariants that every adapter keeps (the suite in `law` checks them):
//! - A row is replaced only by one with a higher `applied_through`; whoever comes with less has lost, and is told so.
//! - A resume point only moves forward: to a higher position, or at its position to the end of its shard. Once it stands, every row and part of
//!   its commit stands too.
//! - `read` and `scan` see every write that was acknowledged before they began.

pub mod key;
#[cfg(any(test, feature = "law"))]
pub mod law;

use std::{fmt, future::Future, num::NonZeroUsize};

use bytes::Bytes;
use events::position::{SequenceNumber, ShardId};

use crate::when::Second;

/// Most bytes of a row's body: a DynamoDB item holds 400 KB with its names (DynamoDB developer guide, "Service quotas").
pub const ROW_BYTES_MAX: usize = 380_000;
/// Most bytes of one part of a snapshot, for the same reason.
pub const PART_BYTES_MAX: usize = 380_000;
/// Most bytes of a tenant's or a subject's name: a DynamoDB sort key holds 1,024 bytes, of which the rest of a row's key needs 142.
pub const NAME_BYTES_MAX: usize = 880;

/// What kind of fact a row holds. The numbers are stored: never reuse one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// All metrics of one service and minute. Subject: service. At: window start, Unix seconds.
    Window = 1,
    /// Bytes of one slice of one object or file that were taken. Subject: origin and slice. At: 0.
    Taken = 2,
    /// The last batches of one producer that were taken, by epoch and counter, each with its position. Subject: producer. At: 0.
    Producer = 3,
    /// Lines accepted, folded, skipped, duplicate and dead. Subject: empty. At: minute of the fold's time, Unix seconds.
    Balance = 4,
    /// A record that could not be decoded. Subject: its position, 40 digits; of a record in an aggregate behind it a dot and its number. At: the fold's time, Unix seconds.
    DeadLetter = 5,
    /// A service that was seen. Subject: service. At: 0.
    Service = 6,
    /// A definition's body. Subject: its revision, padded to sort as it does. At: the fold's time, Unix milliseconds.
    Definition = 7,
    /// An alarm's state. Subject: alarm. At: 0.
    Alarm = 8,
    /// One change of an alarm's state. Subject: alarm. At: time of evaluation, Unix seconds.
    Transition = 9,
    /// The ids of one source's events of one minute that were taken, each with its position. Subject: the source. At: the minute of the events' own
    /// time, Unix seconds.
    Identified = 10,
    /// What generations there are: one row under a generation that no fold writes to, replaced by who has read it. Subject: empty. At: 0.
    Generations = 11,
}

impl Kind {
    /// Every kind, in stored order.
    pub const ALL: [Self; 11] = [
        Self::Window,
        Self::Taken,
        Self::Producer,
        Self::Balance,
        Self::DeadLetter,
        Self::Service,
        Self::Definition,
        Self::Alarm,
        Self::Transition,
        Self::Identified,
        Self::Generations,
    ];

    /// False for what stays as long as its generation: definitions, which any record may name, the states that alarms are in, which are not
    /// written again until they change, and the list of generations.
    pub const fn expires(self) -> bool {
        !matches!(self, Self::Definition | Self::Alarm | Self::Generations)
    }
}

/// A day in UTC, counted from 1970-01-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Day(pub u16);

impl Day {
    /// The day of an instant, Unix milliseconds. What lies before 1970 or after 2149-06-06 counts as the nearest day that there is.
    pub fn of(time_ms: i64) -> Self {
        let day = time_ms.div_euclid(24 * 60 * 60 * 1000);
        Self(day.clamp(0, u16::MAX.into()) as u16)
    }
}

/// Which replay of the stream a row belongs to. 0 is the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Generation(pub u32);

/// Which of a shard's partials of one generation: at a promotion both generations begin new ones, so that a window can be made of the parent's
/// earlier partials and the new generation's later ones. 0 is the first, and the only one until something is promoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Partial(pub u16);

/// All rows of one kind about one subject: what a reader asks for, in order of time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject {
    /// The wall: comes from the credential, first in every key. At most `NAME_BYTES_MAX` bytes, no NUL.
    pub tenant: String,
    /// The replay.
    pub generation: Generation,
    /// The kind.
    pub kind: Kind,
    /// What it is about; at most `NAME_BYTES_MAX` bytes, no NUL.
    pub name: String,
}

/// A row's full name. The field order is the order of rows in a scan.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowKey {
    /// What it is about.
    pub subject: Subject,
    /// Place in time within the subject; its unit is the kind's.
    pub at: i64,
    /// The shard whose fold wrote it: a row is a partial.
    pub shard: ShardId,
    /// Which of the shard's partials, where it began a new one.
    pub partial: Partial,
    /// Number of the page, where one subject's row is too large for one item.
    pub page: u16,
}

/// A row's full name, where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyRef<'a> {
    /// The tenant.
    pub tenant: &'a str,
    /// The replay.
    pub generation: Generation,
    /// The kind.
    pub kind: Kind,
    /// What it is about.
    pub name: &'a str,
    /// Place in time within the subject.
    pub at: i64,
    /// The shard's name.
    pub shard: &'a str,
    /// Which of the shard's partials.
    pub partial: Partial,
    /// Number of the page.
    pub page: u16,
}

impl<'a> From<&'a RowKey> for KeyRef<'a> {
    fn from(key: &'a RowKey) -> Self {
        let Subject { tenant, generation, kind, name } = &key.subject;
        let (generation, kind, shard) = (*generation, *kind, key.shard.as_str());
        Self { tenant, generation, kind, name, at: key.at, shard, partial: key.partial, page: key.page }
    }
}

/// In words for a person: what the row says, about what, when, and where it stands.
impl fmt::Display for KeyRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tenant, kind, name, shard, page, .. } = self;
        let at = Second(self.at);
        match kind {
            Kind::Window => write!(f, "the metrics of service `{name}` in the minute {at}"),
            Kind::Taken => write!(f, "the list of what was taken of {name}"),
            Kind::Producer => write!(f, "the marks of producer `{name}`"),
            Kind::Balance => write!(f, "the balance of the minute {at}"),
            Kind::DeadLetter => write!(f, "a dead letter of {at}"),
            Kind::Service => write!(f, "the entry of service `{name}`"),
            Kind::Definition => write!(f, "the definition of {name}"),
            Kind::Alarm => write!(f, "the state of alarm `{name}`"),
            Kind::Transition => write!(f, "the change of alarm `{name}` at {at}"),
            Kind::Identified => write!(f, "the ids of `{name}` in the minute {at}"),
            Kind::Generations => write!(f, "the list of generations"),
        }?;
        write!(f, " (tenant {tenant}, {shard}, page {page})")
    }
}

impl fmt::Display for RowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        KeyRef::from(self).fmt(f)
    }
}

impl From<KeyRef<'_>> for RowKey {
    fn from(key: KeyRef<'_>) -> Self {
        let KeyRef { tenant, generation, kind, name, at, shard, partial, page } = key;
        let subject = Subject { tenant: tenant.to_owned(), generation, kind, name: name.to_owned() };
        Self { subject, at, shard: ShardId::named(shard), partial, page }
    }
}

/// A row as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its name.
    pub key: RowKey,
    /// The first record of the shard that it holds something of: older than the stream's oldest means "cannot be recomputed".
    pub applied_from: SequenceNumber,
    /// It holds all that the shard's records up to and including this one say about its key.
    pub applied_through: SequenceNumber,
    /// The day of the fold's time at the record that it is through: its age counts from there, whatever time its lines claim.
    pub folded_on: Day,
    /// Revision of the fold that made it.
    pub fold_revision: u32,
    /// Meaning given by its kind.
    pub body: Bytes,
}

/// What became of a row that was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It stands.
    Stored,
    /// A row through this position, at or past the one offered, stood there and still stands.
    Lost(SequenceNumber),
}

/// Names a part of a snapshot; nobody else uses the name, and what it names never changes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartName(pub String);

/// A shard's resume point: reading goes on after `position` with the state that the parts hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The replay.
    pub generation: Generation,
    /// The shard.
    pub shard: ShardId,
    /// Every row touched up to it is durable through it.
    pub position: SequenceNumber,
    /// Revision of the fold that made the parts.
    pub fold_revision: u32,
    /// The shard is closed, and there is no record of it after `position`: its children may begin.
    pub ended: bool,
    /// The snapshot, in order.
    pub parts: Vec<PartName>,
}

/// A commit: rows first, each by its condition, then the resume point by its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Rows, no key twice.
    pub rows: Vec<Row>,
    /// New parts; those that did not change are only named in the checkpoint.
    pub parts: Vec<(PartName, Bytes)>,
    /// The new resume point.
    pub checkpoint: Checkpoint,
}

/// What became of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// In the order of the commit's rows.
    pub rows: Vec<Written>,
    /// `Err`: another worker's resume point stands; its position. Rows that were stored stay stored. It is at or past this one (at the same
    /// position one that has ended is past one that has not); or it is before it (`ZERO`: there is none) and does not name a part that this one
    /// only refers to: commit again, with all parts.
    pub checkpoint: Result<(), SequenceNumber>,
}

/// A write that was not acknowledged. The caller's only question: may it have happened?
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// Nothing was written.
    #[error("nothing was written to the store: {0}")]
    NotWritten(String),
    /// Some, all or none may be written. The same write again is harmless: it stores or it has lost to itself.
    #[error("the store's answer was lost; the write may have happened: {0}")]
    Unknown(String),
}

/// A read that was not answered; nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Try again later.
    #[error("the store could not be read: {0}")]
    Unavailable(String),
    /// What is stored is not what was written: stop, and ask a person.
    #[error("{0}")]
    Damaged(String),
}

/// A range of rows of one subject, or of all subjects of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Span {
    /// One subject's rows with `from <= at < to`.
    Of {
        /// The subject.
        subject: Subject,
        /// First place in time.
        from: i64,
        /// First place in time that is not wanted.
        to: i64,
    },
    /// Every row of a kind: for lists that are small by nature (services, alarms, definitions) and for `verify`.
    All {
        /// The tenant; `None`: every tenant's. Only for `verify`, never for a reader with a credential.
        tenant: Option<String>,
        /// The replay.
        generation: Generation,
        /// The kind.
        kind: Kind,
    },
}

/// Rows in key order, and where to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rows {
    /// May be fewer than the limit, even none, although more will come.
    pub rows: Vec<Row>,
    /// The last key looked at; `None`: the end.
    pub next_after: Option<RowKey>,
}

/// The role that DynamoDB and the embedded database play.
pub trait Store: Send + Sync {
    /// Writes rows, each on its own condition. Empty: nothing. The same row twice: stored, then lost to itself.
    fn write(&self, rows: Vec<Row>) -> impl Future<Output = Result<Vec<Written>, WriteError>> + Send;

    /// Writes rows and parts, then moves the resume point. The embedded adapter does all in one transaction, others row by row: a crash in
    /// between leaves rows ahead of the resume point, which the fold knows how to meet. Parts that no resume point names are removed.
    fn commit(&self, commit: Commit) -> impl Future<Output = Result<Committed, WriteError>> + Send;

    /// The resume point of a shard, with the bodies of its parts in order.
    fn checkpoint(
        &self,
        generation: Generation,
        shard: &ShardId,
    ) -> impl Future<Output = Result<Option<(Checkpoint, Vec<Bytes>)>, ReadError>> + Send;

    /// As `checkpoint`, without the bodies of its parts: one small read, for whoever wants to know how far a shard's rows can be read.
    fn resume_point(
        &self,
        generation: Generation,
        shard: &ShardId,
    ) -> impl Future<Output = Result<Option<Checkpoint>, ReadError>> + Send {
        async move { Ok(self.checkpoint(generation, shard).await?.map(|(checkpoint, _)| checkpoint)) }
    }

    /// Reads rows by key, consistently; the answers stand in the order of the keys.
    fn read(&self, keys: &[RowKey]) -> impl Future<Output = Result<Vec<Option<Row>>, ReadError>> + Send;

    /// Reads a range in key order, after a key that an earlier page ended with.
    fn scan(
        &self,
        span: &Span,
        after: Option<&RowKey>,
        limit: NonZeroUsize,
    ) -> impl Future<Output = Result<Rows, ReadError>> + Send;

    /// As `scan`, but shows the keys and bodies where they lie, in key order, and gives none away: what a reader of thousands of rows can afford.
    /// `each` ends it early by `false`, or by an error, which is then the answer. It must not call the store. Returns the last key looked at;
    /// `None`: the end.
    fn walk(
        &self,
        span: &Span,
        after: Option<&RowKey>,
        limit: NonZeroUsize,
        mut each: impl FnMut(KeyRef<'_>, &[u8]) -> Result<bool, ReadError> + Send,
    ) -> impl Future<Output = Result<Option<RowKey>, ReadError>> + Send {
        async move {
            let Rows { rows, next_after } = self.scan(span, after, limit).await?;
            for row in rows {
                if !each(KeyRef::from(&row.key), &row.body)? {
                    return Ok(Some(row.key));
                }
            }
            Ok(next_after)
        }
    }

    /// True if a row of this kind that was last folded into on this day is past its time: nobody is shown it, whether it was removed or not. Where rows
    /// are kept for ever, never.
    fn is_past(&self, kind: Kind, folded_on: Day) -> bool {
        let _ = (kind, folded_on);
        false
    }

    /// Removes rows that are past their time: those of a kind that were last folded into before a day, whatever their place in time. A row that
    /// is replaced meanwhile by one of a later day stays. Of kinds that do not expire, none. Returns how many. Again: nothing. After an error
    /// some may be gone.
    fn expire(
        &self,
        generation: Generation,
        kind: Kind,
        before: Day,
    ) -> impl Future<Output = Result<u64, WriteError>> + Send;
}
