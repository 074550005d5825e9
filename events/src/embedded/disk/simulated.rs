//! A disk in memory that forgets what was not synced. Decides, by a seed, what a power loss leaves; never loses what `Disk` promises to keep.
//!
//! What it does to those who do not sync:
//! - `power_loss`: of each 512-byte sector written since the file's last sync, any of the versions that it went through stays, or the old
//!   one; a sector that never held durable bytes may show another file's. A length may be any that it went through. Names come and go likewise.
//! - A failed sync makes some of the sectors durable and forgets that the others need it: they are still read, and gone at a power loss.
//! - `kill` (the death of the process) loses nothing.
//!
//! Both end all handles: they answer with an error from then on, as do all calls of a disk whose power has failed and not yet returned.

mod chance;
mod file;
mod image;
mod state;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

pub use self::{
    chance::{Faults, Seeded},
    file::SimulatedFile,
};
use self::{
    image::Image,
    state::{FOLDER, Names, Renaming, State, split},
};

/// What a disk writes whole or not at all.
pub const SECTOR_BYTES: usize = 512;

/// The disk; clones are the same disk.
#[derive(Debug, Clone)]
pub struct SimulatedDisk(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    meanwhile: Mutex<Meanwhile>,
}

/// What others do while a sync is on its way.
#[derive(Default, Clone)]
struct Meanwhile(Option<Arc<dyn Fn() + Send + Sync>>);

impl fmt::Debug for Meanwhile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Meanwhile").field(&self.0.is_some()).finish()
    }
}

/// The lock of a folder of it.
#[derive(Debug)]
pub struct SimulatedLock {
    disk: SimulatedDisk,
    path: String,
    life: u64,
}

impl SimulatedDisk {
    /// An empty disk without faults; the seed decides their chance once they are set, and what `fresh_id` gives.
    pub fn new(seed: u64) -> Self {
        let state = State {
            folders: BTreeMap::from([(String::new(), Names::default())]),
            files: BTreeMap::new(),
            locks: BTreeSet::new(),
            next_file: FOLDER + 1,
            life: 0,
            chance: Seeded::new(seed),
            faults: Faults::default(),
            capacity: None,
            fails_after: None,
            down: false,
            steps: 0,
        };
        Self(Arc::new(Shared { state: state.into(), meanwhile: Mutex::default() }))
    }

    /// At each sync, before it has any effect, this is called: what a reader does at the worst moment. `None`: nothing.
    pub fn set_meanwhile(&self, call: Option<Arc<dyn Fn() + Send + Sync>>) {
        *self.0.meanwhile.lock().unwrap_or_else(PoisonError::into_inner) = Meanwhile(call);
    }

    fn call_meanwhile(&self) {
        let call = self.0.meanwhile.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(call) = call.0 {
            call();
        }
    }

    /// From now on, calls fail this often.
    pub fn set_faults(&self, faults: Faults) {
        self.state().faults = faults;
    }

    /// The disk is full at so many bytes; `None`: never.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// The power fails during the call that changes something after so many others; `power_loss` brings it back.
    pub fn fail_after(&self, steps: u64) {
        self.state().fails_after = Some(steps);
    }

    /// The power has failed, and is not back.
    pub fn is_down(&self) -> bool {
        self.state().down
    }

    /// How many calls have changed something so far.
    pub fn steps(&self) -> u64 {
        self.state().steps
    }

    /// The power fails and comes back: what was not synced is kept, lost, torn or exchanged as the seed says.
    pub fn power_loss(&self, seed: u64) {
        let mut chance = Seeded::new(seed);
        let mut state = self.state();
        for names in state.folders.values_mut() {
            let keep = chance.below(3);
            for change in std::mem::take(&mut names.pending) {
                // All, none, or each on its own.
                if keep == 1 || (keep == 2 && chance.one_in(2)) {
                    Names::apply(&mut names.durable, &change);
                }
            }
            names.now = names.durable.clone();
        }
        let folders: Vec<String> = state.folders.keys().filter(|name| !name.is_empty()).cloned().collect();
        for folder in folders {
            let (above, name) = split(&folder);
            if state.folders.get(above).is_none_or(|names| !names.now.contains_key(name)) {
                state.folders.remove(&folder);
            }
        }
        let stale: Vec<_> = state.files.values().flat_map(Image::sectors).collect();
        for image in state.files.values_mut() {
            image.lose(&mut chance, &stale);
        }
        state.forget_unnamed();
        state.end_life();
    }

    /// The process dies: its handles and locks are gone, the files are as it left them.
    pub fn kill(&self) {
        self.state().end_life();
    }

    /// The bytes of a file as a reader would see them, for tests that harm it; `None` if it is not there.
    pub fn contents(&self, path: &str) -> Option<Vec<u8>> {
        let state = self.state();
        state.files.get(&state.file(path).ok()?).map(Image::bytes)
    }

    /// Overwrites a part of a file, durably, behind everyone's back.
    pub fn harm(&self, path: &str, offset: u64, bytes: &[u8]) {
        let mut state = self.state();
        if let Ok(id) = state.file(path)
            && let Some(image) = state.files.get_mut(&id)
        {
            image.write(offset, bytes);
            image.sync();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call that changes something; it happens in part if this is where the power fails.
    fn step(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.alive()?;
        state.steps += 1;
        match &mut state.fails_after {
            Some(0) => state.down = true,
            Some(steps) => *steps -= 1,
            None => {}
        }
        Ok(state)
    }

    fn alive(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.state();
        if state.down { Err(io::Error::other("the power has failed")) } else { Ok(state) }
    }

    fn change(&self, folder: &str, change: Renaming) -> io::Result<()> {
        let mut state = self.step()?;
        let chance = state.faults.name;
        if !state.down && state.chance.one_in(chance) {
            return Err(io::Error::other("a fault by chance"));
        }
        let down = state.down;
        state.folders.get_mut(folder).ok_or(io::ErrorKind::NotFound)?.change(change);
        if down { Err(io::Error::other("the power failed")) } else { Ok(()) }
    }
}

impl super::Disk for SimulatedDisk {
    type File = SimulatedFile;
    type Lock = SimulatedLock;

    fn describe(&self, path: &str) -> String {
        format!("simulated:{path}")
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let state = self.alive()?;
        Ok(state.folders.get(folder).ok_or(io::ErrorKind::NotFound)?.now.keys().cloned().collect())
    }

    fn create_folder(&self, folder: &str) -> io::Result<()> {
        if self.alive()?.folders.contains_key(folder) {
            return Ok(());
        }
        let (above, name) = split(folder);
        self.change(above, Renaming::Set(name.to_owned(), FOLDER))?;
        self.alive()?.folders.insert(folder.to_owned(), Names::default());
        Ok(())
    }

    fn create(&self, path: &str) -> io::Result<SimulatedFile> {
        let existing = self.alive()?.file(path);
        if let Ok(id) = existing {
            let life = self.alive()?.life;
            let file = SimulatedFile { disk: self.clone(), id, life };
            super::File::set_len(&file, 0)?;
            return Ok(file);
        }
        let (folder, name) = split(path);
        let (id, life) = {
            let mut state = self.alive()?;
            let id = state.next_file;
            state.next_file += 1;
            state.files.insert(id, Image::default());
            (id, state.life)
        };
        self.change(folder, Renaming::Set(name.to_owned(), id))?;
        Ok(SimulatedFile { disk: self.clone(), id, life })
    }

    fn open(&self, path: &str) -> io::Result<SimulatedFile> {
        let state = self.alive()?;
        Ok(SimulatedFile { disk: self.clone(), id: state.file(path)?, life: state.life })
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.alive()?.file(path)?;
        let (folder, name) = split(path);
        self.change(folder, Renaming::Remove(name.to_owned()))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.alive()?.file(from)?;
        let ((folder, from), (_, to)) = (split(from), split(to));
        self.change(folder, Renaming::Move(from.to_owned(), to.to_owned()))
    }

    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        self.call_meanwhile();
        let mut state = self.step()?;
        let chance = state.faults.sync;
        if state.down || state.chance.one_in(chance) {
            return Err(io::Error::other("the sync failed"));
        }
        let names = state.folders.get_mut(folder).ok_or(io::ErrorKind::NotFound)?;
        names.pending.clear();
        names.durable = names.now.clone();
        Ok(())
    }

    fn lock(&self, path: &str) -> io::Result<Option<SimulatedLock>> {
        let mut state = self.alive()?;
        let life = state.life;
        let free = state.locks.insert(path.to_owned());
        Ok(free.then(|| SimulatedLock { disk: self.clone(), path: path.to_owned(), life }))
    }

    fn fresh_id(&self) -> u64 {
        self.state().chance.number()
    }
}

impl Drop for SimulatedLock {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.life == self.life {
            state.locks.remove(&self.path);
        }
    }
}
