//! Patterns that the shell did not expand: `*`, `?`, `[…]` within a name, `**` for any folders. Decides which paths match; opens no file.
//!
//! Names are compared as text, and what of a name is no UTF-8 stands there as one unknown character for each wrong sequence: so `*` matches it, and
//! no file is passed over for how it is spelt.

use std::{
    fs, io,
    path::{Component, Path, PathBuf},
};

use glob::Pattern;

/// Folders within folders that `**` goes down.
const DEPTH_MAX: usize = 100;

/// True if the name has a character that patterns use.
pub(super) fn is_pattern(path: &Path) -> bool {
    path.to_string_lossy().contains(['*', '?', '['])
}

/// One part of a pattern, between two separators.
enum Part {
    /// Goes there, whatever there is.
    Literal(PathBuf),
    Name(Pattern),
    /// This folder, and every one below.
    Folders,
}

/// What matches, in order of names, and what could not be listed.
pub(super) struct Walk {
    pub found: Vec<PathBuf>,
    pub failed: Vec<(PathBuf, io::Error)>,
}

/// Goes through the folders that the pattern names.
pub(super) fn matching(path: &Path) -> Result<Walk, glob::PatternError> {
    let parts = path.components().map(part).collect::<Result<Vec<_>, _>>()?;
    let mut walk = Walk { found: vec![], failed: vec![] };
    walk.go(PathBuf::new(), &parts, 0);
    // `**` may come to one place on several ways.
    walk.found.sort();
    walk.found.dedup();
    Ok(walk)
}

fn part(component: Component<'_>) -> Result<Part, glob::PatternError> {
    let Component::Normal(name) = component else { return Ok(Part::Literal(component.as_os_str().into())) };
    if name == "**" {
        return Ok(Part::Folders);
    }
    if is_pattern(Path::new(name)) {
        return Pattern::new(&name.to_string_lossy()).map(Part::Name);
    }
    Ok(Part::Literal(name.into()))
}

impl Walk {
    fn go(&mut self, at: PathBuf, parts: &[Part], depth: usize) {
        let Some((part, rest)) = parts.split_first() else {
            self.found.push(at);
            return;
        };
        match part {
            Part::Literal(name) => {
                let next = at.join(name);
                if fs::symlink_metadata(&next).is_ok() {
                    self.go(next, rest, depth);
                }
            }
            Part::Name(pattern) => {
                for next in self.list(&at) {
                    let matches = next.file_name().is_some_and(|name| pattern.matches(&name.to_string_lossy()));
                    if matches && (rest.is_empty() || next.is_dir()) {
                        self.go(next, rest, depth);
                    }
                }
            }
            Part::Folders => {
                self.go(at.clone(), rest, depth);
                // A link may lead back up.
                let below = |next: &PathBuf| fs::symlink_metadata(next).is_ok_and(|metadata| metadata.is_dir());
                for next in self.list(&at).into_iter().filter(below) {
                    if depth < DEPTH_MAX {
                        self.go(next, parts, depth + 1);
                    } else {
                        self.failed.push((next, io::Error::other("folders lie too deep: name one further down")));
                    }
                }
            }
        }
    }

    fn list(&mut self, at: &Path) -> Vec<PathBuf> {
        let folder = if at.as_os_str().is_empty() { Path::new(".") } else { at };
        if !folder.is_dir() {
            return vec![];
        }
        let listed = fs::read_dir(folder)
            .and_then(|entries| entries.map(|entry| entry.map(|entry| at.join(entry.file_name()))).collect());
        listed.unwrap_or_else(|error| {
            self.failed.push((folder.to_owned(), error));
            vec![]
        })
    }
}
