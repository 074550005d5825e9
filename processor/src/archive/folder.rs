//! A folder as a place for objects: an archive on another disk, or a mount. Decides how a name is taken once and durably on a file system.

use std::{
    collections::hash_map::RandomState,
    fs::{self, File},
    hash::{BuildHasher, Hasher},
    io::{self, Read, Seek, SeekFrom, Write},
    ops::Range,
    path::{Path, PathBuf},
};

use bytes::Bytes;

use super::{Failed, Objects, Page, Stored};

/// Names of one page.
const PAGE_NAMES: usize = 10_000;
/// How files begin that are being written.
const NEW: &str = ".new-";

/// A folder, which is made when something is put.
#[derive(Debug, Clone)]
pub struct Folder(PathBuf);

impl Folder {
    /// This folder.
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    fn failed(&self, name: &str, error: &io::Error) -> Failed {
        Failed { why: format!("{}: {error}", self.describe(name)) }
    }

    fn put(&self, name: &str, bytes: &[u8]) -> io::Result<Stored> {
        let path = self.0.join(name);
        let folder = path.parent().unwrap_or(&self.0);
        fs::create_dir_all(folder)?;
        let beside = folder.join(format!("{NEW}{:016x}", RandomState::new().build_hasher().finish()));
        let written = File::create_new(&beside).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        });
        // A link, unlike a renaming, is refused where there is a file of this name.
        let linked = written.and_then(|()| fs::hard_link(&beside, &path));
        let _ = fs::remove_file(&beside);
        match linked {
            Ok(()) => {
                let sync = |folder: &Path| File::open(folder).and_then(|folder| folder.sync_all());
                folder.ancestors().take_while(|folder| folder.starts_with(&self.0)).try_for_each(sync)?;
                Ok(Stored::New)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Stored::Exists),
            Err(error) => Err(error),
        }
    }

    fn names(&self, folder: &Path, found: &mut Vec<String>) -> io::Result<()> {
        let entries = match fs::read_dir(folder) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(());
            }
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                self.names(&entry.path(), found)?;
            } else if let Ok(path) = entry.path().strip_prefix(&self.0)
                && let Some(name) = path.to_str()
                && !entry.file_name().to_string_lossy().starts_with(NEW)
            {
                found.push(name.to_owned());
            }
        }
        Ok(())
    }
}

fn some(file: &Path, range: Range<u64>) -> io::Result<Option<Bytes>> {
    let mut file = match File::open(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    file.seek(SeekFrom::Start(range.start))?;
    let mut bytes = vec![];
    file.take(range.end.saturating_sub(range.start)).read_to_end(&mut bytes)?;
    Ok(Some(Bytes::from(bytes)))
}

impl Objects for Folder {
    async fn put_if_absent(&self, name: &str, bytes: Bytes) -> Result<Stored, Failed> {
        self.put(name, &bytes).map_err(|error| self.failed(name, &error))
    }

    async fn get(&self, name: &str, range: Range<u64>) -> Result<Option<Bytes>, Failed> {
        some(&self.0.join(name), range).map_err(|error| self.failed(name, &error))
    }

    async fn list(&self, prefix: &str, after: &str) -> Result<Page, Failed> {
        let mut names = vec![];
        let folder = prefix.rsplit_once('/').map_or(self.0.clone(), |(folder, _)| self.0.join(folder));
        self.names(&folder, &mut names).map_err(|error| self.failed(prefix, &error))?;
        names.retain(|name| name.starts_with(prefix) && name.as_str() > after);
        names.sort_unstable();
        let next_after = names.get(PAGE_NAMES - 1).filter(|_| names.len() > PAGE_NAMES).cloned();
        names.truncate(PAGE_NAMES);
        Ok(Page { names, next_after })
    }

    fn describe(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}
