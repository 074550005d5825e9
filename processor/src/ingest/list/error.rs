//! Why the list of files cannot be kept, in words that name the cause and the next step.

use std::{io, path::PathBuf};

use super::FILES_MAX;

/// The list cannot be kept. Nothing may be sent without it.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// Another process has it.
    #[error("another `weir ingest` reads with the folder {}. Wait for it, or use another --data", .0.display())]
    InUse(PathBuf),
    /// The disk said no.
    #[error("the list of files {} could not be {what}: {source}", .path.display())]
    Disk {
        /// What failed.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// An earlier write or sync failed: what the disk holds is not known until the list is opened again.
    #[error(
        "the list of files {} takes nothing more, because {why}. Mend the disk, then run the same again: what is in is known, and nothing is counted \
         twice", .path.display()
    )]
    Broken {
        /// Where.
        path: PathBuf,
        /// What failed first.
        why: String,
    },
    /// There was one.
    #[error(
        "the list of files that were read, {}, is gone, though {} says that there was one: without it every file would be counted again. Restore \
         it from a backup; or begin a new one with --again, which counts the files that you name, and later each other file, again",
        .list.display(), .stamp.display()
    )]
    Lost {
        /// The list's folder.
        list: PathBuf,
        /// What tells of it.
        stamp: PathBuf,
    },
    /// It cannot be understood.
    #[error(
        "line {line} of the list of files {} cannot be read: {why}. Restore the list; or delete that line, and the file that it named will be \
         counted again", .path.display()
    )]
    Damaged {
        /// Where.
        path: PathBuf,
        /// Which line.
        line: usize,
        /// The cause.
        why: String,
    },
    /// Too many files.
    #[error("the list {} holds {FILES_MAX} files, and takes no more. Use another --data, or --as NAME", .0.display())]
    Full(PathBuf),
}
