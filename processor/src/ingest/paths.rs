//! What the user named becomes a list of inputs. Decides order and what is no file; opens none.
//!
//! Invariants:
//! - The same names over the same folders give the same order: as named, folders sorted by name, depth first.
//! - A file is listed once, under its real path: links followed, so that two names of one file are one identity.

use std::{
    collections::HashSet,
    fs::{self, FileType, Metadata},
    path::{Path, PathBuf},
};

use super::{
    FileError,
    pattern::{self, Walk},
};

/// Folders within folders; deeper ones are named as failed.
const DEPTH_MAX: usize = 100;

/// Something to be read, or why not.
#[derive(Debug)]
pub(super) struct Found {
    /// As the user would name it.
    pub path: PathBuf,
    pub kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    Stdin,
    /// Its real path, and its size.
    File(PathBuf, u64),
    Pipe,
    Failed(FileError),
}

/// What was found, and what was passed over in folders.
#[derive(Debug, Default)]
pub(super) struct Finder {
    pub found: Vec<Found>,
    pub warnings: Vec<String>,
    files: HashSet<PathBuf>,
    folders: HashSet<PathBuf>,
}

impl Finder {
    pub(super) fn find(paths: &[PathBuf]) -> Self {
        let mut finder = Self::default();
        for path in paths {
            finder.named(path);
        }
        finder
    }

    fn add(&mut self, path: &Path, kind: Kind) {
        self.found.push(Found { path: path.to_owned(), kind });
    }

    fn fail(&mut self, path: &Path, error: std::io::Error) {
        let error = match error.kind() {
            std::io::ErrorKind::NotFound => fs::read_link(path).map_or(FileError::NotFound, FileError::Dangling),
            _ => FileError::Open(error),
        };
        self.add(path, Kind::Failed(error));
    }

    /// What stands there is meant, even if its name looks like a pattern.
    fn named(&mut self, path: &Path) {
        if path.as_os_str() == "-" {
            return self.add(path, Kind::Stdin);
        }
        match fs::symlink_metadata(path) {
            Err(_) if pattern::is_pattern(path) => self.matching(path),
            _ => self.visit(path, 0),
        }
    }

    fn matching(&mut self, path: &Path) {
        let Walk { found, failed } = match pattern::matching(path) {
            Ok(walk) => walk,
            Err(error) => return self.add(path, Kind::Failed(FileError::BadPattern(error.to_string()))),
        };
        if found.is_empty() && failed.is_empty() {
            self.add(path, Kind::Failed(FileError::NotFound));
        }
        for (path, error) in failed {
            self.fail(&path, error);
        }
        for path in found {
            self.visit(&path, 0);
        }
    }

    fn visit(&mut self, path: &Path, depth: usize) {
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) => return self.unseen(path, depth, error),
        };
        if metadata.is_dir() {
            return self.folder(path, depth);
        }
        if !metadata.is_file() {
            return self.special(path, metadata.file_type(), depth > 0);
        }
        self.file(path, &metadata);
    }

    /// A link that leads nowhere holds no lines: where it is named it is what was asked for, in a folder it only lies about.
    fn unseen(&mut self, path: &Path, depth: usize, error: std::io::Error) {
        match fs::read_link(path) {
            Ok(to) if depth > 0 && error.kind() == std::io::ErrorKind::NotFound => {
                let (path, to) = (path.display(), to.display());
                self.warnings.push(format!("{path} is a link to {to}, where nothing is: not read"));
            }
            _ => self.fail(path, error),
        }
    }

    fn file(&mut self, path: &Path, metadata: &Metadata) {
        match fs::canonicalize(path) {
            Ok(real) => {
                if self.files.insert(real.clone()) {
                    self.add(path, Kind::File(real, metadata.len()));
                }
            }
            Err(error) => self.fail(path, error),
        }
    }

    fn folder(&mut self, path: &Path, depth: usize) {
        if depth > DEPTH_MAX {
            return self.add(path, Kind::Failed(FileError::TooDeep(DEPTH_MAX)));
        }
        match fs::canonicalize(path) {
            // Met before: a link back up, or a folder named twice.
            Ok(real) => {
                if !self.folders.insert(real) {
                    return;
                }
            }
            Err(error) => return self.fail(path, error),
        }
        let listed = fs::read_dir(path)
            .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>());
        match listed {
            Ok(paths) if is_weirs(&paths) => {
                self.warnings.push(format!(
                    "{} is a data folder of weir: not read (files of yours in it can be named one by one)",
                    path.display()
                ));
            }
            Ok(mut paths) => {
                paths.sort();
                for path in paths {
                    self.visit(&path, depth + 1);
                }
            }
            Err(error) => self.fail(path, error),
        }
    }

    /// A pipe is read where it is named; in a folder nobody means the sockets and pipes that lie about, and opening one may block for ever.
    fn special(&mut self, path: &Path, kind: FileType, in_folder: bool) {
        let name = special_name(kind);
        if in_folder {
            self.warnings.push(format!("{} is a {name}: not read", path.display()));
        } else if name == PIPE {
            self.add(path, Kind::Pipe);
        } else {
            self.add(path, Kind::Failed(FileError::Special(name)));
        }
    }
}

/// What weir keeps of lines is no log: it grows while it is read, by what is read of it. Told by what stands in it, whichever folder it is: the rows
/// beside their stream, or a list of files that were read.
fn is_weirs(paths: &[PathBuf]) -> bool {
    let names = || paths.iter().filter_map(|path| path.file_name()?.to_str());
    let is_list = |name: &str| name.starts_with("readers") && name.ends_with(".known");
    names().any(is_list) || ["rows.redb", "stream"].iter().all(|own| names().any(|name| name == *own))
}

const PIPE: &str = "pipe";

#[cfg(unix)]
fn special_name(kind: FileType) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    if kind.is_fifo() {
        PIPE
    } else if kind.is_socket() {
        "socket"
    } else {
        "device"
    }
}

#[cfg(not(unix))]
fn special_name(_: FileType) -> &'static str {
    "device"
}

/// A path as the list and the stream name it. One that is not UTF-8 is spelt `bytes:` and its bytes, with `%` and two digits for what is not
/// printable ASCII: no real path begins so.
#[cfg(unix)]
pub(super) fn spelt(path: &Path) -> Option<String> {
    use std::os::unix::ffi::OsStrExt;
    path.to_str().map(str::to_owned).or_else(|| {
        let spell = |byte: &u8| match byte {
            b'%' => "%25".to_owned(),
            0x21..=0x7e => char::from(*byte).to_string(),
            _ => format!("%{byte:02X}"),
        };
        Some(SPELT.to_owned() + &path.as_os_str().as_bytes().iter().map(spell).collect::<String>())
    })
}

/// The path that was spelt so.
#[cfg(unix)]
pub(super) fn read_spelt(text: &str) -> PathBuf {
    use std::{ffi::OsString, os::unix::ffi::OsStringExt};
    let Some(rest) = text.strip_prefix(SPELT) else { return text.into() };
    let mut bytes = Vec::with_capacity(rest.len());
    let mut left = rest.bytes();
    while let Some(byte) = left.next() {
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        bytes.push(match byte {
            b'%' => (digit(left.next()).unwrap_or(0) * 16 + digit(left.next()).unwrap_or(0)) as u8,
            byte => byte,
        });
    }
    OsString::from_vec(bytes).into()
}

#[cfg(not(unix))]
pub(super) fn spelt(path: &Path) -> Option<String> {
    path.to_str().map(str::to_owned)
}

#[cfg(not(unix))]
pub(super) fn read_spelt(text: &str) -> PathBuf {
    text.into()
}

#[cfg(unix)]
const SPELT: &str = "bytes:";
