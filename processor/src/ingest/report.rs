//! What became of inputs, and how far they are: for whoever shows it. Decides nothing.

use std::{path::PathBuf, sync::atomic::AtomicU64};

use events::identity::Origin;

use super::FileError;

/// What became of one input.
#[derive(Debug)]
pub enum Outcome {
    /// What was new of it is durable.
    Ingested {
        /// Bytes of lines, after decompression.
        bytes: u64,
        /// Physical lines.
        lines: u64,
    },
    /// It was read before and holds nothing new.
    Unchanged,
    /// It could not be read to its end.
    Failed {
        /// The cause.
        error: FileError,
        /// Bytes of lines before that, after decompression, which are in.
        bytes: u64,
        /// Physical lines before the damage, which are in.
        lines: u64,
    },
}

/// One input of the report.
#[derive(Debug)]
pub struct FileReport {
    /// Its path; `-` is standard input; `s3://bucket/key` is an object.
    pub path: PathBuf,
    /// The object that somebody asked the outcome of.
    pub tag: Option<usize>,
    /// What an object is called on the stream, if it could be opened.
    pub origin: Option<Origin>,
    /// What became of it.
    pub outcome: Outcome,
}

/// What `ingest` did.
#[derive(Debug, Default)]
pub struct Report {
    /// Every input, in the order of reading. Of objects that nobody asked the outcome of, those that failed, at most `FAILED_MAX`.
    pub files: Vec<FileReport>,
    /// Objects that nobody asked the outcome of.
    pub objects: Objects,
    /// What the user should know and need not act on.
    pub warnings: Vec<String>,
    /// Physical lines whose batches are durable: the fold's balance must accept as many.
    pub lines_sent: u64,
}

/// Objects, by what became of them: there may be millions.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Objects {
    /// What was new of them is durable.
    pub ingested: u64,
    /// They were read before.
    pub unchanged: u64,
    /// They could not be read to their end.
    pub failed: u64,
}

impl Report {
    /// The inputs that failed.
    pub fn failed(&self) -> impl Iterator<Item = (&PathBuf, &FileError)> {
        self.files.iter().filter_map(|file| match &file.outcome {
            Outcome::Failed { error, .. } => Some((&file.path, error)),
            _ => None,
        })
    }
}

/// How far it is, for whoever shows it. Counters only grow.
#[derive(Debug, Default)]
pub struct Progress {
    /// Files that were found.
    pub files_total: AtomicU64,
    /// Files that were read, or failed.
    pub files_done: AtomicU64,
    /// Size on disk of the files that were found.
    pub disk_bytes_total: AtomicU64,
    /// Of these, bytes that were read or known from before.
    pub disk_bytes_read: AtomicU64,
    /// Bytes after decompression.
    pub raw_bytes: AtomicU64,
    /// Physical lines that were packed.
    pub lines_packed: AtomicU64,
    /// Physical lines that are durable.
    pub lines_sent: AtomicU64,
}
