//! From a path to a file that a database can stand on: a new one appears whole, or not at all.

use std::{fs, io, path::Path};

use redb::{StorageBackend, backends::FileBackend};

use super::{OpenError, file::File};

/// Gives the file again each time. Unless it `creates`, a file that is gone is an error: an empty one would pass for all that was stored.
pub(super) fn storage(
    path: &Path,
    creates: bool,
) -> impl Fn() -> io::Result<Box<dyn StorageBackend>> + Send + Sync + 'static {
    let path = path.to_owned();
    move || Ok(Box::new(FileBackend::new(open(&path, creates)?).map_err(io::Error::other)?))
}

/// Makes a database beside its place and then gives it its name, so that a loss of power on the way leaves none that is half.
pub(super) fn make(path: &Path) -> Result<(), OpenError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = Path::new(&beside);
    let name = beside.display().to_string();
    let refused = |source| OpenError::Refused { name: name.clone(), source };
    let attempt = || File::open(name.clone(), Box::new(storage(beside, true)));
    if let Err(OpenError::Foreign { .. } | OpenError::Damaged { .. }) = attempt() {
        // What a loss of power left of an earlier attempt; nobody has ever stored anything there.
        fs::remove_file(beside).map_err(refused)?;
    }
    drop(attempt()?);
    open(beside, false).and_then(|file| file.sync_all()).map_err(refused)?;
    // A link, because it does not replace the file of somebody who came first.
    match fs::hard_link(beside, path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied) => {
            fs::rename(beside, path).map_err(refused)?;
        }
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(refused(error)),
        _ => fs::remove_file(beside).map_err(refused)?,
    }
    // Else the name could be gone after a loss of power, and with it all that was acknowledged.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(refused)
}

fn open(path: &Path, creates: bool) -> io::Result<fs::File> {
    fs::OpenOptions::new().read(true).write(true).create(creates).truncate(false).open(path)
}
