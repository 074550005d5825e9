//! The archive: the stream's records, kept beyond its retention. Decides what is asked of a place for objects, what of it can be written and by whom,
//! and which archive belongs to which stream; what a segment says is `events::archive`'s.
//!
//! | part | what |
//! | --- | --- |
//! | `archiver` | one shard of the stream, put into the archive from where that ends |
//! | `chain` | from where the segments of a shard hang together |
//! | `run` | an archiver for each shard of a process |
//! | `archived` | the archive and the live stream behind it, as one stream that can only be read |
//!
//! Invariants:
//! - An object is put if there is none of its name, and never replaced or removed.
//! - The archive is its own resume point: the newest segment of a shard says where it goes on, so no second truth can disagree.
//! - [`Reader`] cannot put: who replays or verifies cannot archive (law 11).

pub mod archived;
pub mod archiver;
pub mod chain;
pub mod folder;
pub mod run;
#[cfg(feature = "aws")]
pub mod s3;

use std::{future::Future, ops::Range, sync::Arc};

use bytes::Bytes;
use events::{
    archive::{self, Damaged, PREFIX_BYTES, Place, Sealed, Segment},
    position::{SequenceNumber, ShardId},
    stream::Record,
};
use serde::{Deserialize, Serialize};

/// The object that says whose archive this is.
pub const IDENTITY: &str = "archive.json";
/// Most segments of a shard: at one in five minutes nineteen years. Beyond, the archive is not read.
pub const SEGMENTS_MAX: usize = 2_000_000;
/// Most shards, also of those that ended long ago. Beyond, the archive is not read.
pub const SHARDS_MAX: usize = 20_000;
/// Most pages of a list: each has a name at least.
const PAGES_MAX: usize = 1_000_000;
/// Asked for with the first look at a segment: most headers are shorter.
const HEADER_GUESS: u64 = 16 << 10;
/// Longest identity object that is read.
const IDENTITY_BYTES_MAX: u64 = 64 << 10;
const FORMAT: u32 = 1;

/// What became of an object that was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// It is durable.
    New,
    /// There was one of this name, which stays as it is. It may be the same, put by a call whose answer was lost.
    Exists,
}

/// A call to a place for objects did not succeed. A put may have happened all the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Failed {
    /// What, why, and what to do.
    pub why: String,
}

/// Some names of objects, in the order of their bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// Perhaps none, although more follow.
    pub names: Vec<String>,
    /// From where the next page goes on; `None`: this was the last.
    pub next_after: Option<String>,
}

/// A place for objects: a bucket and a prefix, or a folder. Names are relative to it.
pub trait Objects: Send + Sync {
    /// Puts a whole object if there is none of its name. Called twice: the second is told `Exists`. At the same time: one of them is `New`. After a
    /// failure the caller puts the same again; it may find its own.
    fn put_if_absent(&self, name: &str, bytes: Bytes) -> impl Future<Output = Result<Stored, Failed>> + Send;

    /// These bytes of an object, fewer where it ends before; `None`: there is none of this name. The adapter retries.
    fn get(&self, name: &str, range: Range<u64>) -> impl Future<Output = Result<Option<Bytes>, Failed>> + Send;

    /// A page of the names that begin with `prefix` and come after `after` (empty: from the first on). What was put before the call is there. The
    /// adapter retries.
    fn list(&self, prefix: &str, after: &str) -> impl Future<Output = Result<Page, Failed>> + Send;

    /// The object's whole name, for people.
    fn describe(&self, name: &str) -> String;
}

/// The archive cannot be used as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    /// The place for objects.
    #[error("the archive could not be reached: {0}")]
    Objects(#[from] Failed),
    /// It belongs to another stream.
    #[error(
        "the archive {archive} is that of the stream {found}; this one is {own}. Give this stream a prefix of its own: two streams have shards of \
         the same names (a stream that was deleted and made anew is another one)"
    )]
    AnotherStream {
        /// The object that says so.
        archive: String,
        /// Whose it is.
        found: String,
        /// Who asks.
        own: String,
    },
    /// There is none.
    #[error(
        "there is no archive at {0}: `weir up --archive` makes one; see that the prefix is the one that was given there"
    )]
    Missing(String),
    /// A segment is damaged.
    #[error(
        "the segment {segment} is damaged: {source}. Restore that object, or move it away: then its records count as missing"
    )]
    Segment {
        /// Which.
        segment: String,
        /// What is wrong with it.
        source: Damaged,
    },
    /// Another object is damaged.
    #[error("{object} is not what an archive has there: {why}")]
    Strange {
        /// Which.
        object: String,
        /// What is wrong with it.
        why: String,
    },
    /// More of it than is read.
    #[error("{place} holds more than {most} {what}")]
    TooMany {
        /// Where.
        place: String,
        /// How many are read.
        most: usize,
        /// Of what.
        what: &'static str,
    },
    /// Another archiver put other records where these belong.
    #[error(
        "the segment {segment} begins with the record {theirs}, and the stream says that this is {ours}: they are not of one stream. Give this \
         stream another prefix, and report this as a defect if nobody else has written here"
    )]
    Disagrees {
        /// Which.
        segment: String,
        /// Its first record.
        theirs: SequenceNumber,
        /// The stream's.
        ours: SequenceNumber,
    },
    /// The stream that is to be archived.
    #[error("the stream could not be read for the archive: {0}")]
    Stream(#[from] events::stream::ReadError),
    /// A record that fits into no segment.
    #[error("a record of {shard} cannot be archived: {source}")]
    Record {
        /// Its shard.
        shard: ShardId,
        /// Why.
        source: Damaged,
    },
}

#[derive(Serialize, Deserialize)]
struct Identity {
    format: u32,
    stream: String,
}

/// An archive that can be read, and not written:
///
/// ```
/// use processor::archive::{Objects, Reader};
/// fn read<O: Objects>(archive: Reader<O>) {
///     drop(archive.shards());
/// }
/// ```
///
/// ```compile_fail,E0616
/// use processor::archive::{Objects, Reader};
/// fn put<O: Objects>(archive: Reader<O>) {
///     drop(archive.objects.put_if_absent("name", Default::default()));
/// }
/// ```
///
/// ```compile_fail,E0599
/// use processor::archive::{Objects, Reader, Stored};
/// fn put<O: Objects>(archive: Reader<O>, sealed: events::archive::Sealed) {
///     drop(archive.put(&sealed));
/// }
/// ```
pub struct Reader<O> {
    objects: Arc<O>,
    stream: Arc<str>,
}

impl<O> Clone for Reader<O> {
    fn clone(&self) -> Self {
        Self { objects: self.objects.clone(), stream: self.stream.clone() }
    }
}

/// An archive that segments can be put into.
pub struct Writer<O>(Reader<O>);

impl<O> Clone for Writer<O> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<O: Objects> Reader<O> {
    /// The archive of this stream; what names the stream is its owner's matter, and never changes.
    pub async fn open(objects: Arc<O>, stream: &str) -> Result<Self, ArchiveError> {
        match whose(&*objects).await? {
            None => Err(ArchiveError::Missing(objects.describe(""))),
            Some(found) => Self { objects, stream: stream.into() }.is_of(found),
        }
    }

    fn is_of(self, found: String) -> Result<Self, ArchiveError> {
        if *found == *self.stream {
            return Ok(self);
        }
        let archive = self.objects.describe(IDENTITY);
        Err(ArchiveError::AnotherStream { archive, found, own: self.stream.to_string() })
    }

    /// Where it is, for people.
    pub fn describe(&self) -> String {
        self.objects.describe("")
    }

    /// Whose it is.
    pub fn stream(&self) -> &str {
        &self.stream
    }

    fn place(&self, shard: &ShardId, after: SequenceNumber) -> Place {
        Place { stream: self.stream.to_string(), shard: shard.clone(), after }
    }

    fn name(&self, shard: &ShardId, after: SequenceNumber) -> Result<String, ArchiveError> {
        archive::name(shard, after).ok_or_else(|| ArchiveError::Strange {
            object: self.objects.describe(archive::FOLDER),
            why: format!("a shard is called `{shard}`, which is no name of an object"),
        })
    }

    /// A segment's whole name, for people.
    pub fn describe_segment(&self, shard: &ShardId, after: SequenceNumber) -> String {
        archive::name(shard, after)
            .map_or_else(|| format!("{shard} after {after}"), |name| self.objects.describe(&name))
    }

    /// All shards that have a segment. One list for each of them.
    pub async fn shards(&self) -> Result<Vec<ShardId>, ArchiveError> {
        let (mut shards, mut after): (Vec<ShardId>, _) = (vec![], String::new());
        for _ in 0..PAGES_MAX {
            let page = self.objects.list(archive::FOLDER, &after).await?;
            let found = page.names.iter().find_map(|name| archive::parse(name)).map(|(shard, _)| shard);
            match (found, page.next_after) {
                (Some(shard), _) => {
                    // Behind all digits.
                    after = format!("{}{shard}/~", archive::FOLDER);
                    shards.push(shard);
                }
                (None, Some(next)) => after = next,
                (None, None) => return Ok(shards),
            }
            if shards.len() > SHARDS_MAX {
                break;
            }
        }
        let place = self.objects.describe(archive::FOLDER);
        Err(ArchiveError::TooMany { place, most: SHARDS_MAX, what: "shards" })
    }

    /// The positions behind which the segments of a shard begin: those from this one on.
    pub async fn segments(&self, shard: &ShardId, from: SequenceNumber) -> Result<Vec<SequenceNumber>, ArchiveError> {
        let prefix = self.name(shard, from)?;
        let prefix = &prefix[..prefix.len() - archive::digits(from).len()];
        let (mut segments, mut after) = (vec![], String::new());
        if from > SequenceNumber::ZERO {
            // Its own name comes after this, and every smaller one before.
            let own = archive::digits(from);
            after = format!("{prefix}{}", &own[..own.len() - 1]);
        }
        for _ in 0..PAGES_MAX {
            let page = self.objects.list(prefix, &after).await?;
            let found = page.names.iter().filter_map(|name| archive::parse(name)).map(|(_, position)| position);
            segments.extend(found.filter(|position| *position >= from));
            match page.next_after {
                None => return Ok(segments),
                Some(_) if segments.len() > SEGMENTS_MAX => break,
                Some(next) => after = next,
            }
        }
        Err(ArchiveError::TooMany { place: self.objects.describe(prefix), most: SEGMENTS_MAX, what: "segments" })
    }

    /// What a segment's header says; `None`: there is no such object.
    pub async fn segment(&self, shard: &ShardId, after: SequenceNumber) -> Result<Option<Segment>, ArchiveError> {
        let name = self.name(shard, after)?;
        let damaged = |source| ArchiveError::Segment { segment: self.objects.describe(&name), source };
        let Some(mut first) = self.objects.get(&name, 0..HEADER_GUESS).await? else { return Ok(None) };
        let needed = Segment::header_bytes(&first).map_err(damaged)?;
        if needed > first.len() && first.len() as u64 == HEADER_GUESS {
            let Some(whole) = self.objects.get(&name, 0..needed as u64).await? else { return Ok(None) };
            first = whole;
        }
        debug_assert!(needed >= PREFIX_BYTES);
        Segment::read(&first, &self.place(shard, after)).map(Some).map_err(damaged)
    }

    /// The records of one block of a segment.
    pub async fn records(&self, segment: &Segment, block: usize) -> Result<Vec<Record>, ArchiveError> {
        let name = self.name(&segment.shard.id, segment.after)?;
        let damaged = |source| ArchiveError::Segment { segment: self.objects.describe(&name), source };
        let range = segment.range(block).unwrap_or_default();
        // One that is gone since its header was read is as one that is cut.
        let stored = self.objects.get(&name, range).await?.unwrap_or_default();
        segment.records(block, &stored).map_err(damaged)
    }
}

/// What the archive says that it is of; `None`: nothing is there yet.
async fn whose<O: Objects>(objects: &O) -> Result<Option<String>, ArchiveError> {
    let Some(bytes) = objects.get(IDENTITY, 0..IDENTITY_BYTES_MAX).await? else { return Ok(None) };
    let strange = |why: String| ArchiveError::Strange { object: objects.describe(IDENTITY), why };
    let identity: Identity = serde_json::from_slice(&bytes).map_err(|error| strange(error.to_string()))?;
    if identity.format != FORMAT {
        return Err(strange(format!("it is of format {}, and this program knows format {FORMAT}", identity.format)));
    }
    Ok(Some(identity.stream))
}

impl<O: Objects> Writer<O> {
    /// The archive of this stream, begun if there is none. Called twice, or by two at once: one begins it, and the other finds whose it is.
    pub async fn open(objects: Arc<O>, stream: &str) -> Result<Self, ArchiveError> {
        let reader = Reader { objects, stream: stream.into() };
        if let Some(found) = whose(&*reader.objects).await? {
            return reader.is_of(found).map(Self);
        }
        let identity = Identity { format: FORMAT, stream: stream.to_owned() };
        let bytes = serde_json::to_vec(&identity).expect("text is JSON");
        reader.objects.put_if_absent(IDENTITY, Bytes::from(bytes)).await?;
        // Whoever was first, it is whose this says.
        match whose(&*reader.objects).await? {
            Some(found) => reader.is_of(found).map(Self),
            None => Err(ArchiveError::Missing(reader.describe())),
        }
    }

    /// The same archive, for who only reads.
    pub fn reader(&self) -> &Reader<O> {
        &self.0
    }

    /// Puts a segment, unless there is one of its name.
    pub async fn put(&self, sealed: &Sealed) -> Result<Stored, ArchiveError> {
        let name = self.0.name(&sealed.segment.shard.id, sealed.segment.after)?;
        Ok(self.0.objects.put_if_absent(&name, sealed.bytes.clone()).await?)
    }
}
