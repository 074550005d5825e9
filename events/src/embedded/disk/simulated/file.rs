//! An open file of a simulated disk: where its writes and syncs fail, and what such a call leaves. Never decides what a power loss keeps.

use std::{
    io::{self, IoSlice},
    sync::MutexGuard,
};

use super::{SimulatedDisk, chance::Seeded, image::Image, state::State};

/// An open file of it.
#[derive(Debug)]
pub struct SimulatedFile {
    pub(super) disk: SimulatedDisk,
    pub(super) id: u64,
    pub(super) life: u64,
}

impl SimulatedFile {
    fn of_this_life<'a>(&self, state: MutexGuard<'a, State>) -> io::Result<MutexGuard<'a, State>> {
        if state.life == self.life { Ok(state) } else { Err(io::Error::other("the handle is of a process that died")) }
    }

    fn change(&self, change: impl FnOnce(&mut Image, &mut Seeded, bool) -> io::Result<()>) -> io::Result<()> {
        let mut state = self.of_this_life(self.disk.step()?)?;
        let State { files, chance, down, .. } = &mut *state;
        change(files.get_mut(&self.id).ok_or(io::ErrorKind::NotFound)?, chance, *down)
    }
}

impl super::super::File for SimulatedFile {
    fn len(&self) -> io::Result<u64> {
        let state = self.of_this_life(self.disk.alive()?)?;
        Ok(state.files.get(&self.id).ok_or(io::ErrorKind::NotFound)?.len())
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.of_this_life(self.disk.alive()?)?;
        Ok(state.files.get(&self.id).ok_or(io::ErrorKind::NotFound)?.read(into, offset))
    }

    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        let bytes = parts.iter().map(|part| &**part).collect::<Vec<_>>().concat();
        let faults = self.disk.state().faults.write;
        let room = self.disk.state().grow(self.id, offset + bytes.len() as u64);
        self.change(|image, chance, down| {
            if down || room.is_err() || chance.one_in(faults) {
                let written = chance.below(bytes.len() as u64 + 1) as usize;
                // A full disk takes what lies within the file.
                let fits = if room.is_err() { image.len().saturating_sub(offset) as usize } else { bytes.len() };
                image.write(offset, &bytes[..written.min(fits)]);
                return room.and(Err(io::Error::other("the write failed")));
            }
            image.write(offset, &bytes);
            Ok(())
        })
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.disk.state().grow(self.id, bytes)?;
        self.change(|image, _, down| {
            if image.len() < bytes {
                image.set_len(bytes);
            }
            if down { Err(io::Error::other("the power failed")) } else { Ok(()) }
        })
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.disk.state().grow(self.id, bytes)?;
        self.change(|image, _, down| {
            image.set_len(bytes);
            if down { Err(io::Error::other("the power failed")) } else { Ok(()) }
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.call_meanwhile();
        let faults = self.disk.state().faults.sync;
        self.change(|image, chance, down| {
            if down {
                // What was on its way stays as unsure as before.
                return Err(io::Error::other("the power failed"));
            }
            if chance.one_in(faults) {
                image.fail_sync(chance);
                return Err(io::Error::other("the sync failed"));
            }
            image.sync();
            Ok(())
        })
    }
}
