//! The disk of this machine. Never decides what is worth syncing.

use std::{
    fs,
    hash::{BuildHasher, Hasher, RandomState},
    io::{self, IoSlice},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::{
    fs::{FallocateFlags, fallocate},
    io::{Errno, pwritev},
};

/// Most parts that one call may write (IOV_MAX of Linux and of POSIX systems that we know).
const PARTS_MAX: usize = 1024;

/// Files under one folder of the machine.
#[derive(Debug, Clone)]
pub struct RealDisk {
    root: Arc<Path>,
}

impl RealDisk {
    /// Makes the folder, and those above it, if they are not there.
    pub fn in_folder(root: impl Into<PathBuf>) -> io::Result<Self> {
        let root = root.into();
        if !root.is_dir() {
            fs::create_dir_all(&root)?;
            // The new name must outlive a power loss as all that will stand below it.
            if let Some(above) = root.canonicalize()?.parent() {
                fs::File::open(above)?.sync_all()?;
            }
        }
        Ok(Self { root: root.into() })
    }

    fn at(&self, path: &str) -> PathBuf {
        if path.is_empty() { self.root.to_path_buf() } else { self.root.join(path) }
    }
}

/// A file's lock, given up when dropped. To close the file would not do: a program that is just being started has it open as well, until it is the other
/// program, and so would have the lock.
#[derive(Debug)]
pub struct Locked(fs::File);

impl Locked {
    /// Of a file that is locked.
    pub fn new(file: fs::File) -> Self {
        Self(file)
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // If that is refused, closing it is what is left.
        let _ = self.0.unlock();
    }
}

impl super::Disk for RealDisk {
    type File = fs::File;
    type Lock = Locked;

    fn describe(&self, path: &str) -> String {
        self.at(path).display().to_string()
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.at(folder))? {
            // A name that is not text is none of ours.
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn create_folder(&self, folder: &str) -> io::Result<()> {
        fs::create_dir_all(self.at(folder))
    }

    fn create(&self, path: &str) -> io::Result<fs::File> {
        fs::File::options().read(true).write(true).create(true).truncate(true).open(self.at(path))
    }

    fn open(&self, path: &str) -> io::Result<fs::File> {
        fs::File::options().read(true).write(true).open(self.at(path))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        fs::remove_file(self.at(path))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.at(from), self.at(to))
    }

    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        fs::File::open(self.at(folder))?.sync_all()
    }

    fn lock(&self, path: &str) -> io::Result<Option<Locked>> {
        // Never emptied: whoever holds it may have written there.
        let file = fs::File::options().read(true).write(true).create(true).truncate(false).open(self.at(path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Locked(file))),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    fn fresh_id(&self) -> u64 {
        // The standard library seeds each of these from the system's randomness.
        RandomState::new().build_hasher().finish()
    }
}

impl super::File for fs::File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < into.len() {
            match FileExt::read_at(self, &mut into[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&self, parts: &[IoSlice<'_>], mut offset: u64) -> io::Result<()> {
        let mut parts = parts.to_vec();
        let mut rest = &mut parts[..];
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            let count = rest.len().min(PARTS_MAX);
            match pwritev(self, &rest[..count], offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    offset += written as u64;
                    IoSlice::advance_slices(&mut rest, written);
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        match fallocate(self, FallocateFlags::empty(), 0, bytes) {
            // The file system cannot: then a full disk shows when writing.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) if self.metadata()?.len() < bytes => fs::File::set_len(self, bytes),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            other => Ok(other?),
        }
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        fs::File::set_len(self, bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        fs::File::sync_data(self)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{super::Disk, *};

    #[test]
    fn a_lock_that_was_given_up_is_free_though_a_program_that_is_being_started_has_the_file_open() {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::in_folder(folder.path()).unwrap();
        let lock = disk.lock("lock").unwrap().unwrap();
        let started = lock.0.try_clone().unwrap();
        assert!(disk.lock("lock").unwrap().is_none());
        drop(lock);
        assert!(disk.lock("lock").unwrap().is_some());
        drop(started);
    }
}
