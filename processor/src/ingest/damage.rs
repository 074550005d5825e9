//! Why an input could not be read, in words that name the cause and the next step. The path stands in the report beside it.

use std::{io, path::PathBuf};

use super::{SendError, list::ListError};

/// An input could not be read, or not to its end. What stands before the damage is in.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// No such file, and no pattern's match.
    #[error("nothing is there, or matches. Check the path; quote a pattern if the shell changed it")]
    NotFound,
    /// The pattern cannot be understood.
    #[error("it is no pattern: {0}")]
    BadPattern(String),
    /// Could not be opened or listed.
    #[error("it could not be opened")]
    Open(#[source] io::Error),
    /// Neither file nor folder nor pipe.
    #[error("it is a {0}, which holds no lines. Name files, folders, pipes or -")]
    Special(&'static str),
    /// Its name cannot be kept as text.
    #[error("its name is not UTF-8. Rename it, or pipe it in with `weir ingest - --as NAME`")]
    NotUtf8,
    /// Packed in a way that is not read here.
    #[error("it is packed with {0}, which is not read. Unpack it, or pipe it in with `weir ingest - --as NAME`")]
    Packing(&'static str),
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
    #[error(
        "it is cut short: it ends at byte {offset}, within packed data. The whole lines before are in; once the file is complete, ingest it again"
    )]
    Truncated {
        /// Offset in the file.
        offset: u64,
    },
    /// The packed file is damaged.
    #[error(
        "it is damaged at byte {offset}: {why}. The whole lines before are in; once the file is mended, ingest it again"
    )]
    Damaged {
        /// Offset in the file.
        offset: u64,
        /// What is wrong there.
        why: String,
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
        "it begins like {} and is damaged ({damage}) before one can tell whether it is that file under another name: nothing was read. Once it \
         is complete, ingest it again; --again counts it as another file", .path.display()
    )]
    CannotTell {
        /// The file that was read before.
        path: PathBuf,
        /// The damage.
        damage: Box<FileError>,
    },
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
    /// True if bytes before the damage may be wrong though they were unpacked.
    pub(super) fn makes_bytes_doubtful(&self) -> bool {
        matches!(self, Self::Damaged { .. })
    }
}
