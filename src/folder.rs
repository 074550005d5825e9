//! Who has a data folder: one process at a time, by a lock that names it, and the address under which others reach that process.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Write},
    path::Path,
    time::Duration,
};

use events::embedded::disk::Locked;

use crate::OpenError;

/// The lock is tried so often, `LOCK_LOOK` apart.
const LOCK_TRIES: u32 = 4;
const LOCK_LOOK: Duration = Duration::from_millis(5);

/// Takes the folder for this process. Whoever has it now may leave its address there; one that a killed process left is taken away, since by
/// now another program, or a weir on another folder, may listen there.
pub(crate) fn lock(folder: &Path, who: &str) -> Result<Locked, OpenError> {
    let failed = |source| OpenError::Folder { folder: folder.to_owned(), source };
    std::fs::create_dir_all(folder).map_err(failed)?;
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(folder.join("lock")).map_err(failed)?;
    for attempt in 1.. {
        match file.try_lock() {
            Ok(()) => break,
            // It may be `serving` that looks.
            Err(TryLockError::WouldBlock) if attempt < LOCK_TRIES => std::thread::sleep(LOCK_LOOK),
            Err(TryLockError::WouldBlock) => return Err(OpenError::InUse(folder.to_owned())),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
    }
    // Who waits for the folder reads it, and nothing depends on it.
    let _ =
        file.set_len(0).and_then(|()| (&file).write_all(format!("{who} (process {})", std::process::id()).as_bytes()));
    match std::fs::remove_file(folder.join("address")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
        _ => Ok(Locked::new(file)),
    }
}

/// What the process that has the folder open calls itself; `None` where none has.
pub fn holder(folder: &Path) -> Option<String> {
    let file = File::open(folder.join("lock")).ok()?;
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => std::fs::read_to_string(folder.join("lock")).ok(),
        _ => None,
    }
}

/// The URL that the process which has the folder open has left there; `None` where none has it open, or it serves nobody.
pub fn serving(folder: &Path) -> Option<String> {
    serving_as(folder).map(|(url, _)| url)
}

/// As `serving`, with the instance that left it. One that has just locked the folder may not have taken away yet what a killed one left: only
/// who answers there as this instance is the folder's.
pub fn serving_as(folder: &Path) -> Option<(String, String)> {
    let file = File::open(folder.join("lock")).ok()?;
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => {}
        _ => return None,
    }
    let address = std::fs::read_to_string(folder.join("address")).ok()?;
    let (url, instance) = address.trim().split_once('\n')?;
    Some((url.to_owned(), instance.to_owned()))
}
