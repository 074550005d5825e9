//! The file layer: all that the embedded stream does to a disk goes through `Disk`, so that a simulated one can lose what was not synced.
//! It decides nothing about formats and never retries.
//!
//! Invariants that a disk keeps:
//! - Bytes of a file outlive a power loss once `File::sync_data` has returned well after they were written; so does the file's length.
//! - A name (created, renamed, removed) outlives a power loss once `sync_folder` of its folder has returned well.
//! - Nothing else outlives it for certain, and in no particular order. The death of the process alone loses nothing.

mod real;
#[cfg(any(test, feature = "law"))]
pub mod simulated;

use std::{
    fmt::Debug,
    io::{self, IoSlice},
};

pub use real::{Locked, RealDisk};

/// A folder of files. Paths are relative to it, with `/` between their parts; `""` is the folder itself.
pub trait Disk: Clone + Debug + Send + Sync + 'static {
    /// An open file.
    type File: File;
    /// Held while one process owns the folder; dropped or dead, it is free again.
    type Lock: Debug + Send + Sync + 'static;

    /// The path as a person would write it: for messages.
    fn describe(&self, path: &str) -> String;
    /// Names of the files and folders in a folder, in no order.
    fn list(&self, folder: &str) -> io::Result<Vec<String>>;
    /// Makes a folder; fine if it is there.
    fn create_folder(&self, folder: &str) -> io::Result<()>;
    /// Makes an empty file, or empties one that is there.
    fn create(&self, path: &str) -> io::Result<Self::File>;
    /// Opens a file that is there, for reading and writing.
    fn open(&self, path: &str) -> io::Result<Self::File>;
    /// Removes a file.
    fn remove(&self, path: &str) -> io::Result<()>;
    /// Gives a file another name in the same folder, in the place of any file that had it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Makes the names in a folder durable.
    fn sync_folder(&self, folder: &str) -> io::Result<()>;
    /// Takes the lock of this name without waiting; `None`: another holds it.
    fn lock(&self, path: &str) -> io::Result<Option<Self::Lock>>;
    /// A number that nobody can guess, other than the ones before.
    fn fresh_id(&self) -> u64;
}

/// An open file. May be used by several threads at once.
#[allow(clippy::len_without_is_empty)]
pub trait File: Debug + Send + Sync + 'static {
    /// Its length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Reads until `into` is full or the file ends; returns how many bytes were read.
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all parts one after the other. After an error any of the bytes may have been written.
    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()>;
    /// Grows the file to so many bytes (zeros) and takes the room for them now, so that writing there cannot meet a full disk.
    fn allocate(&self, bytes: u64) -> io::Result<()>;
    /// Sets the length: cuts, or grows with zeros.
    fn set_len(&self, bytes: u64) -> io::Result<()>;
    /// Makes everything written so far durable. After an error nothing is known about what was not yet durable, for ever:
    /// the system may have dropped it, and the next call may succeed all the same.
    fn sync_data(&self) -> io::Result<()>;
}
