//! What the reading thread tells who sends, and what of an input's place the list is to say. Decides what the list hears of an input that is read.

use std::{
    path::PathBuf,
    sync::{Arc, atomic::AtomicU64},
};

use events::{identity::Origin, pack::Packed};

use crate::ingest::{
    FileError, ReaderList,
    list::{EntryId, ListError, Mark},
    object::ObjectId,
};

/// What the thread tells.
pub(in crate::ingest) enum Message {
    /// All inputs, in the order of reading: their places are the `file` of what follows.
    Found(Vec<PathBuf>),
    /// One input more, whose outcome it is, and what it is called on the stream, if that is known.
    FoundObject {
        path: PathBuf,
        tag: Option<usize>,
        origin: Option<Origin>,
        /// Moves on with what of it is durable.
        durable: Option<Arc<AtomicU64>>,
    },
    /// So many objects were read before.
    Known(u64),
    Warning(String),
    /// `mark`: what the list says once the batch and all before it are durable.
    Batch {
        file: usize,
        packed: Packed,
        mark: Option<Noted>,
    },
    /// Nothing more of this input. `outcome`: whether anything was new.
    Done {
        file: usize,
        place: Option<Place>,
        outcome: Result<bool, FileError>,
    },
}

/// Which line of the list an input has.
#[derive(Debug, Clone, Copy)]
pub(in crate::ingest) enum Place {
    File(EntryId),
    Object(ObjectId),
}

/// What the list is to say of an input.
#[derive(Debug, Clone, Copy)]
pub(in crate::ingest) enum Noted {
    File(EntryId, Mark),
    /// First byte that is not durable.
    Object(ObjectId, u64),
}

impl Place {
    pub(super) fn with(self, mark: Mark) -> Noted {
        match self {
            Self::File(entry) => Noted::File(entry, mark),
            Self::Object(id) => Noted::Object(id, mark.end),
        }
    }

    /// It was read to its end, or as far as it can be.
    pub(in crate::ingest) fn finish(
        self,
        list: &ReaderList,
        noted: Option<Noted>,
        doubtful: bool,
    ) -> Result<(), ListError> {
        match (self, noted) {
            (Self::File(entry), Some(Noted::File(_, mark))) => list.finish(entry, Some(mark), doubtful),
            (Self::File(entry), _) => list.finish(entry, None, doubtful),
            // Its damage is said each time that it is named; what stands before that is sent once.
            (Self::Object(_), noted) if doubtful => noted.map_or(Ok(()), |noted| noted.advance(list)),
            (Self::Object(id), _) => list.object_was_read(id),
        }
    }
}

impl Noted {
    pub(in crate::ingest) fn place(self) -> Place {
        match self {
            Self::File(entry, _) => Place::File(entry),
            Self::Object(id, _) => Place::Object(id),
        }
    }

    /// All before it is durable.
    pub(in crate::ingest) fn advance(self, list: &ReaderList) -> Result<(), ListError> {
        match self {
            Self::File(entry, mark) => list.advance(entry, mark),
            Self::Object(id, end) => list.object_is_durable(id, end),
        }
    }
}
