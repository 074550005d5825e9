//! Objects of S3 as inputs: opened ahead in their order, read by ranges. Decides which object a name means, how much of it is asked for at once, and
//! what it is called on the stream; never where lines end. Why so stands in `design.md`.
//!
//! Invariants:
//! - All bytes of one origin come from one object: every range after the first is asked of the etag, or the version, that the first had.
//! - What is held of objects is bounded whatever their number and size: `OPEN_AHEAD` first ranges, and `RANGES_AHEAD` ranges of the one being read.
//! - An object's name on the stream comes from what S3 says when it is read, never from a list or an announcement: so every way to it gives the same.

use std::{
    collections::VecDeque,
    future::Future,
    io::{self, Read},
};

use bytes::{Buf, Bytes};
use events::identity::{ORIGIN_NAME_BYTES_MAX, Origin, OriginKind};
use tokio::{
    runtime::Handle,
    sync::mpsc,
    task::{AbortHandle, JoinHandle},
};

use super::{
    FileError,
    object::{Announced, NotGiven, Object, ObjectId, Ranged},
};
use crate::s3::{Bucket, Failure, Kind, Part, Wanted};

pub mod announced;
mod listed;

pub use listed::{Buckets, NotMeant, Survey, Target, listed, spelling};

/// The first range of an object: small objects come with one call.
pub const FIRST_BYTES: u64 = 1 << 20;
/// Every other range.
pub const RANGE_BYTES: u64 = 8 << 20;
/// Ranges of the object that is being read that are on their way or wait to be read.
pub const RANGES_AHEAD: usize = 3;
/// Objects that are opened before their turn, so that many small ones do not each wait for an answer.
pub const OPEN_AHEAD: usize = 16;
/// An object that is replaced between two calls is opened anew, so often.
const OPENS_MAX: u32 = 4;

/// An object that somebody wants to be read.
#[derive(Debug, Clone)]
pub struct ToOpen {
    /// Where it lies.
    pub bucket: Bucket,
    /// Which it is. If one of this etag is not there any more, what stands there now is read.
    pub wanted: Wanted,
    /// Its number in the list of objects that were read.
    pub id: Option<ObjectId>,
    /// Whose outcome it is.
    pub tag: Option<usize>,
}

/// What is to be told of objects, in its order.
#[derive(Debug)]
pub enum Next {
    /// Objects that were read before.
    Known {
        /// How many.
        objects: u64,
        /// Bytes as they lie in the bucket.
        bytes: u64,
    },
    /// One to be opened.
    Open(ToOpen),
    /// What could not be listed.
    Failed(String, Failure),
}

/// How a user names an object.
pub fn url(bucket: &str, key: &str) -> String {
    format!("s3://{bucket}/{key}")
}

/// One that is being opened, and what is told of it if that cannot be carried out.
struct Opening {
    task: JoinHandle<Announced>,
    name: String,
    id: Option<ObjectId>,
    tag: Option<usize>,
}

impl Opening {
    fn begin(next: Next) -> Self {
        let (name, id, tag) = match &next {
            Next::Known { .. } => (String::new(), None, None),
            Next::Open(to_open) => (url(to_open.bucket.name(), &to_open.wanted.key), to_open.id, to_open.tag),
            Next::Failed(name, _) => (name.clone(), None, None),
        };
        let named = name.clone();
        let task = tokio::spawn(async move {
            let opened = match next {
                Next::Known { objects, bytes } => return Announced::Known { objects, bytes },
                Next::Failed(_, failure) => Err(failure.into()),
                Next::Open(to_open) => open(to_open).await,
            };
            Announced::One { name: named, id, tag, opened }
        });
        Self { task, name, id, tag }
    }

    async fn end(self) -> Announced {
        let Self { task, name, id, tag } = self;
        task.await.unwrap_or(Announced::One { name, id, tag, opened: Err(FileError::NotRead) })
    }
}

/// Opens objects in their order, a few ahead of their turn. Called within a runtime, which has to go on while they are read.
pub fn open_ahead(mut next: mpsc::Receiver<Next>) -> mpsc::Receiver<Announced> {
    let (ahead, mut due) = mpsc::channel(OPEN_AHEAD);
    let (announce, announced) = mpsc::channel(1);
    tokio::spawn(async move {
        while let Some(next) = next.recv().await {
            if ahead.send(Opening::begin(next)).await.is_err() {
                return;
            }
        }
    });
    tokio::spawn(async move {
        while let Some(opening) = due.recv().await {
            if announce.send(opening.end().await).await.is_err() {
                return;
            }
        }
    });
    announced
}

impl From<Failure> for FileError {
    fn from(failure: Failure) -> Self {
        Self::Object(Box::new(failure))
    }
}

/// Reads its first range, which says what it is.
async fn open(ToOpen { bucket, mut wanted, .. }: ToOpen) -> Result<Object, FileError> {
    let name = format!("{}/{}", bucket.name(), wanted.key);
    if name.contains('\0') || name.len() > ORIGIN_NAME_BYTES_MAX {
        return Err(FileError::NameTooLong);
    }
    let mut opens = 0;
    let first = loop {
        opens += 1;
        match bucket.get(&wanted, 0..FIRST_BYTES).await {
            Err(failure) if failure.kind == Kind::Replaced && wanted.version.is_none() && opens < OPENS_MAX => {
                wanted.etag = None;
            }
            first => break first?,
        }
    };
    let Part { bytes, total, etag, version, modified_ms } = first;
    // Where only the version is named, credentials for the object as it is now would not do for the next range.
    let identity = version.clone().unwrap_or_else(|| etag.clone());
    let wanted = Wanted { etag: Some(etag), ..wanted };
    let origin = Origin { kind: OriginKind::Object, name, version: identity };
    let bytes = ObjectBytes {
        runtime: Handle::current(),
        bucket,
        wanted,
        version,
        total,
        at: 0,
        first: bytes.clone(),
        piece: bytes,
        coming: None,
    };
    Ok(Object { origin, taken_at_ms: modified_ms, bytes: Box::new(bytes), durable: None })
}

/// An object's bytes. Its ranges are asked for on the runtime, and read on a thread of its own.
struct ObjectBytes {
    runtime: Handle,
    bucket: Bucket,
    wanted: Wanted,
    version: Option<String>,
    total: u64,
    /// Offset of the next byte.
    at: u64,
    first: Bytes,
    /// What came and was not read.
    piece: Bytes,
    coming: Option<Coming>,
}

/// Ranges in their order. Dropped, they are given up.
struct Coming {
    pieces: mpsc::Receiver<Result<Bytes, Failure>>,
    task: AbortHandle,
}

impl Drop for Coming {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl ObjectBytes {
    /// Begins to ask for ranges from `from` on.
    fn ask(&self, from: u64) -> Coming {
        let (give, pieces) = mpsc::channel(1);
        let ranges = Ranges {
            bucket: self.bucket.clone(),
            wanted: self.wanted.clone(),
            version: self.version.clone(),
            next: from,
            total: self.total,
        };
        let task = self.runtime.spawn(ranges.give(give)).abort_handle();
        Coming { pieces, task }
    }
}

impl Read for ObjectBytes {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() || self.at >= self.total {
            return Ok(0);
        }
        // Not at the first read, which only looks at the first bytes: who goes on from a later place says so after it.
        if self.coming.is_none() && self.at + (self.piece.len() as u64) < self.total && self.at > 0 {
            self.coming = Some(self.ask(self.at + self.piece.len() as u64));
        }
        if self.piece.is_empty() {
            let Some(coming) = &mut self.coming else { return Err(NotGiven(Box::new(FileError::NotRead)).into()) };
            self.piece = match coming.pieces.blocking_recv() {
                Some(Ok(piece)) => piece,
                Some(Err(failure)) => return Err(NotGiven(Box::new(failure)).into()),
                None => return Err(NotGiven(Box::new(FileError::NotRead)).into()),
            };
        }
        let count = out.len().min(self.piece.len());
        out[..count].copy_from_slice(&self.piece[..count]);
        self.piece.advance(count);
        self.at += count as u64;
        Ok(count)
    }
}

impl Ranged for ObjectBytes {
    fn size(&self) -> u64 {
        self.total
    }

    fn go_to(&mut self, offset: u64) {
        self.coming = None;
        self.at = offset.min(self.total);
        self.piece = self.first.slice((self.at as usize).min(self.first.len())..);
        if self.piece.is_empty() && self.at < self.total {
            self.coming = Some(self.ask(self.at));
        }
    }
}

/// What asks for one object's ranges.
struct Ranges {
    bucket: Bucket,
    wanted: Wanted,
    version: Option<String>,
    next: u64,
    total: u64,
}

impl Ranges {
    /// Gives them in their order; waits while who reads is behind.
    async fn give(mut self, give: mpsc::Sender<Result<Bytes, Failure>>) {
        let mut under_way: VecDeque<Task<Result<Part, Failure>>> = VecDeque::new();
        loop {
            while under_way.len() < RANGES_AHEAD && self.next < self.total {
                let to = (self.next + RANGE_BYTES).min(self.total);
                under_way.push_back(Task(tokio::spawn(self.get(self.next, to))));
                self.next = to;
            }
            let Some(mut task) = under_way.pop_front() else { return };
            let Ok(got) = (&mut task.0).await else { return };
            let is_over = got.is_err();
            if give.send(got.map(|part| part.bytes)).await.is_err() || is_over {
                return;
            }
        }
    }

    fn get(&self, from: u64, to: u64) -> impl Future<Output = Result<Part, Failure>> + Send + use<> {
        let (bucket, wanted, version) = (self.bucket.clone(), self.wanted.clone(), self.version.clone());
        async move {
            match (bucket.get(&wanted, from..to).await, version) {
                // Another stands there by now, and the version that is being read is kept.
                (Err(Failure { kind: Kind::Replaced | Kind::NoKey, .. }), Some(version)) => {
                    bucket.get(&Wanted { version: Some(version), ..wanted }, from..to).await
                }
                (got, _) => got,
            }
        }
    }
}

/// Ends with who waits for it.
struct Task<T>(JoinHandle<T>);

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests;
