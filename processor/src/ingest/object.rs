//! An object of a bucket, as the reading thread takes it: its identity is what it is, and its bytes come from somewhere else. Decides nothing; the
//! adapter is `s3.rs`.

use std::{
    error::Error,
    fmt,
    io::{self, Read},
    sync::{Arc, atomic::AtomicU64},
};

use events::identity::Origin;

use super::FileError;

/// Tells an object from all others by what a list says of it (bucket, key, etag, time and size), so that who lists again need not open it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ObjectId(pub u128);

/// Bytes that come by ranges. What has been read stays what it was: an object never changes.
pub trait Ranged: Read + Send {
    /// How many bytes there are.
    fn size(&self) -> u64;
    /// The next read begins at this offset.
    fn go_to(&mut self, offset: u64);
}

/// Why a [`Ranged`] could not be read on: what its `read` gives wrapped in an [`io::Error`].
#[derive(Debug)]
pub struct NotGiven(pub Box<dyn Error + Send + Sync>);

impl fmt::Display for NotGiven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for NotGiven {}

impl From<NotGiven> for io::Error {
    fn from(error: NotGiven) -> Self {
        Self::other(error)
    }
}

/// An object that is open.
pub struct Object {
    /// What its bytes are called on the stream.
    pub origin: Origin,
    /// When the bucket took it, Unix milliseconds. Its lines without a time take this: so they fall into the same minute whoever reads it, and when.
    pub taken_at_ms: i64,
    /// Its bytes as they lie in the bucket.
    pub bytes: Box<dyn Ranged>,
    /// The first byte, after decompression, that is not known to be durable on the stream: reading begins there, and it moves on with what becomes
    /// durable. `None`: the list of objects that were read says where, and is told.
    pub durable: Option<Arc<AtomicU64>>,
}

/// What the reading thread hears of objects.
pub enum Announced {
    /// So many were read to their end before, and have so many bytes.
    Known {
        /// How many.
        objects: u64,
        /// Bytes as they lie in the bucket.
        bytes: u64,
    },
    /// One to be read, or why not.
    One {
        /// As a user would name it: `s3://bucket/key`.
        name: String,
        /// Its number in the list of objects that were read; `None`: nobody lists it.
        id: Option<ObjectId>,
        /// Whose outcome this is in the report; `None`: one of many.
        tag: Option<usize>,
        /// The object.
        opened: Result<Object, FileError>,
    },
}
