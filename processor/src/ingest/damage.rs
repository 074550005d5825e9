//! Why an input could not be read, in words that name the cause and the next step. The path stands in the report beside it.

use std::{error::Error, io, path::PathBuf};

use super::{SendError, list::ListError, object::NotGiven};

/// An input could not be read, or not to its end. What stands before the damage is in.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// No such file, and no pattern's match.
    #[error("nothing is there, or matches. Check the path; quote a pattern if the shell changed it")]
    NotFound,
    /// A link to what is not there.
    #[error("it is a link to {}, where nothing is. Mend the link, or name the file itself", .0.display())]
    Dangling(PathBuf),
    /// The pattern cannot be understood.
    #[error("it is no pattern: {0}")]
    BadPattern(String),
    /// Could not be opened or listed.
    #[error("it could not be opened")]
    Open(#[source] io::Error),
    /// Neither file nor folder nor pipe.
    #[error("it is a {0}, which holds no lines. Name files, folders, pipes or -")]
    Special(&'static str),
    /// Its name cannot be kept as an origin's.
    #[error(
        "its path is longer than 4096 bytes, or cannot be spelt. Move it, or pipe it in with `weir ingest - --as NAME`"
    )]
    NameTooLong,
    /// Packed in a way that is not read here.
    #[error("it is packed with {0}, which is not read. Unpack it, or pipe it in: `{1} FILE | weir ingest - --as NAME`")]
    Packing(&'static str, &'static str),
    /// An archive of files.
    #[error("it is a tar archive, which is not read. Unpack it (`tar -xf FILE -C FOLDER`) and name the folder")]
    Archive,
    /// Not bytes of text.
    #[error(
        "it is UTF-16 text, which is not read. Pipe it in: `iconv -f UTF-16 -t UTF-8 FILE | weir ingest - --as NAME`"
    )]
    Utf16,
    /// Folders within folders.
    #[error("folders lie {0} deep. Name a folder further down")]
    TooDeep(usize),
    /// The disk said no.
    #[error("reading failed at byte {offset}")]
    Read {
        /// Offset in the file.
        offset: u64,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The packed file ends too early.
    #[error("it is cut short: it ends at byte {offset}, within packed data")]
    Truncated {
        /// Offset in the file.
        offset: u64,
    },
    /// The packed file is damaged.
    #[error("it is damaged at byte {offset}: {why}")]
    Damaged {
        /// Offset in the file.
        offset: u64,
        /// What is wrong there.
        why: String,
    },
    /// A packed file could not be unpacked to its end.
    #[error("{damage}. {}", advice(*.unverified))]
    Spoilt {
        /// How it ends.
        damage: Box<FileError>,
        /// Bytes were taken that no checksum speaks for.
        unverified: bool,
    },
    /// Something follows the packed data.
    #[error(
        "at byte {offset}, after the packed data, stand other bytes. All lines before are in; cut the file there if the rest is nothing"
    )]
    TrailingGarbage {
        /// Offset in the file.
        offset: u64,
    },
    /// Somebody cut the file while it was read.
    #[error(
        "it was cut from {read} to {now} bytes while it was read. What was read is in; ingest it again for what it holds now"
    )]
    Shrank {
        /// How far it was read.
        read: u64,
        /// How long it is.
        now: u64,
    },
    /// Damage hides whether it is a file that was read before.
    #[error(
        "it begins like {} and is damaged before one can tell whether it is that file under another name: nothing was read. Once it is complete, \
         ingest it again; --again counts it as another file", .path.display()
    )]
    CannotTell {
        /// The file that was read before.
        path: PathBuf,
    },
    /// Damage stands before what was read of it earlier.
    #[error(
        "it is damaged now before the place up to which it was read earlier: nothing more was read. Once it is whole, ingest it again"
    )]
    WorseDamaged,
    /// An object could not be had.
    #[error("{0}")]
    Object(Box<dyn Error + Send + Sync>),
    /// `--as` with several inputs.
    #[error("--as names one input, and {0} were found. Name one file")]
    AsOne(usize),
    /// `--as` with a name that cannot be an origin's.
    #[error("--as takes a name of 1 to 4096 bytes without NUL")]
    AsName,
    /// The reader's list could not be kept: nothing may be sent.
    #[error(transparent)]
    List(#[from] ListError),
    /// Its lines could not be sent.
    #[error(transparent)]
    Send(#[from] SendError),
    /// Ingest stopped before it.
    #[error("it was not read, or not to its end, because ingest had to stop before. Ingest it again")]
    NotRead,
}

impl FileError {
    /// Reading failed at an offset. What an object's reader says is said as it is.
    pub(super) fn reading(offset: u64, error: io::Error) -> Self {
        if !error.get_ref().is_some_and(|inner| inner.is::<NotGiven>()) {
            return Self::Read { offset, source: error };
        }
        match error.into_inner().map(|inner| inner.downcast::<NotGiven>()) {
            Some(Ok(not_given)) => Self::Object(not_given.0),
            Some(Err(other)) => Self::Object(other),
            None => Self::NotRead,
        }
    }

    /// What a packed file's damage means for what was taken of it.
    pub(super) fn spoilt(self, unverified: bool) -> Self {
        match self {
            // All packed data before it ended well.
            Self::TrailingGarbage { .. } => self,
            damage => Self::Spoilt { damage: Box::new(damage), unverified },
        }
    }

    /// True if bytes were taken that may be wrong.
    pub(super) fn makes_bytes_doubtful(&self) -> bool {
        matches!(self, Self::Spoilt { unverified: true, .. })
    }
}

fn advice(unverified: bool) -> &'static str {
    if unverified {
        "Lines up to 8 MiB before that are in, and no checksum says that they are right. Once the file is whole, ingest it again: if it holds \
         what was taken, it goes on there; if not, all of it is counted, and the wrong lines stay counted beside it"
    } else {
        "Nothing is in that its checksums do not confirm. Once the file is whole, ingest it again; to take what can be unpacked of it as it is: \
         `gzip -dc FILE | weir ingest - --as NAME` (or `zstd -dc`)"
    }
}
