//! What a simulated disk holds: names as they are and as they were last synced, files, locks. Decides what a change does to them; never when a
//! call fails.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use super::{
    chance::{Faults, Seeded},
    image::Image,
};

#[derive(Debug)]
pub(super) enum Renaming {
    Set(String, u64),
    Remove(String),
    Move(String, String),
}

#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) durable: BTreeMap<String, u64>,
    pub(super) now: BTreeMap<String, u64>,
    pub(super) pending: Vec<Renaming>,
}

impl Names {
    pub(super) fn apply(to: &mut BTreeMap<String, u64>, change: &Renaming) {
        match change {
            Renaming::Set(name, file) => {
                to.insert(name.clone(), *file);
            }
            Renaming::Remove(name) => {
                to.remove(name);
            }
            Renaming::Move(from, name) => {
                if let Some(file) = to.remove(from) {
                    to.insert(name.clone(), file);
                }
            }
        }
    }

    pub(super) fn change(&mut self, change: Renaming) {
        Self::apply(&mut self.now, &change);
        self.pending.push(change);
    }
}

/// A folder is a file without content.
pub(super) const FOLDER: u64 = 0;

#[derive(Debug)]
pub(super) struct State {
    pub(super) folders: BTreeMap<String, Names>,
    pub(super) files: BTreeMap<u64, Image>,
    pub(super) locks: BTreeSet<String>,
    pub(super) next_file: u64,
    /// Handles of an earlier life are dead.
    pub(super) life: u64,
    pub(super) chance: Seeded,
    pub(super) faults: Faults,
    pub(super) capacity: Option<u64>,
    pub(super) fails_after: Option<u64>,
    pub(super) down: bool,
    pub(super) steps: u64,
}

impl State {
    pub(super) fn file(&self, path: &str) -> io::Result<u64> {
        let (folder, name) = split(path);
        let id = self.folders.get(folder).and_then(|names| names.now.get(name)).copied();
        id.filter(|id| *id != FOLDER).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn used(&self) -> u64 {
        let named = self.folders.values().flat_map(|names| names.now.values());
        named.filter_map(|id| self.files.get(id)).map(Image::len).sum()
    }

    /// Refuses to let a file grow past what the disk holds.
    pub(super) fn grow(&self, id: u64, bytes: u64) -> io::Result<()> {
        let more = bytes.saturating_sub(self.files.get(&id).map_or(0, Image::len));
        match self.capacity {
            Some(capacity) if more > 0 && self.used() + more > capacity => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }

    pub(super) fn forget_unnamed(&mut self) {
        let named: BTreeSet<u64> = self.folders.values().flat_map(|names| names.now.values().copied()).collect();
        self.files.retain(|id, _| named.contains(id));
    }

    pub(super) fn end_life(&mut self) {
        self.life += 1;
        self.locks.clear();
        self.down = false;
        self.fails_after = None;
    }
}

pub(super) fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}
