//! A disk in memory that can lose power, run full, fail to sync, or hold its breath.
//!
//! What was written since the last sync is, after a loss of power, there or not, each sector by itself and in any order; so is a change of the
//! file's length. It never loses what was synced.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard},
};

use redb::StorageBackend;

use crate::{
    embedded::{Embedded, OpenError},
    store::law::random::Random,
};

/// What a disk writes whole, or not at all.
const SECTOR_BYTES: usize = 512;

#[derive(Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Length(usize),
}

#[derive(Debug, Default)]
struct Platter {
    seen: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
    /// Changes and syncs until the power goes; `None`: it stays.
    changes_left: Option<u64>,
    has_power: bool,
    /// Bytes that fit.
    room: Option<usize>,
    /// Writes that the disk refuses, as one that is full, before it takes some again.
    refusals: u64,
    fails_syncs: bool,
    opened: u64,
    /// A sync waits while this is so.
    holds_syncs: bool,
    syncs_held: u64,
}

/// The disk. Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub(super) struct Disk(Arc<(Mutex<Platter>, Condvar)>);

impl Disk {
    pub(super) fn new() -> Self {
        let disk = Self::default();
        disk.platter().has_power = true;
        disk
    }

    pub(super) fn open(&self) -> Result<Embedded, OpenError> {
        let disk = self.clone();
        Embedded::over("disk".to_owned(), move || {
            let opened = {
                let mut platter = disk.platter();
                platter.has_power.then_some(()).ok_or_else(no_power)?;
                platter.opened += 1;
                platter.opened
            };
            Ok(Box::new(Handle { disk: disk.clone(), opened }))
        })
    }

    pub(super) fn platter_len(&self) -> usize {
        self.platter().seen.len()
    }

    pub(super) fn lose_power_after(&self, changes: u64) {
        self.platter().changes_left = Some(changes);
    }

    pub(super) fn has_power(&self) -> bool {
        self.platter().has_power
    }

    /// Power comes back, to what chance has left of what was not synced.
    pub(super) fn restore_power(&self, random: &mut Random) {
        let mut platter = self.platter();
        let mut left = std::mem::take(&mut platter.durable);
        // Nothing, anything, or all of it.
        let kept_per_mille = [0, 100, 500, 900, 1000][random.below(5) as usize];
        for change in std::mem::take(&mut platter.unsynced) {
            match change {
                Change::Length(length) if random.per_mille(kept_per_mille) => set_length(&mut left, length),
                Change::Length(_) => {}
                Change::Write { offset, bytes } => {
                    let mut from = 0;
                    while from < bytes.len() {
                        let to = bytes.len().min((offset + from) / SECTOR_BYTES * SECTOR_BYTES + SECTOR_BYTES - offset);
                        if random.per_mille(kept_per_mille) {
                            put(&mut left, offset + from, &bytes[from..to]);
                        }
                        from = to;
                    }
                }
            }
        }
        platter.seen.clone_from(&left);
        platter.durable = left;
        platter.changes_left = None;
        platter.has_power = true;
    }

    pub(super) fn set_room(&self, bytes: Option<usize>) {
        self.platter().room = bytes;
    }

    pub(super) fn refuse(&self, writes: u64) {
        self.platter().refusals = writes;
    }

    pub(super) fn fail_syncs(&self, fails: bool) {
        self.platter().fails_syncs = fails;
    }

    pub(super) fn hold_syncs(&self, holds: bool) {
        self.platter().holds_syncs = holds;
        self.0.1.notify_all();
    }

    pub(super) fn wait_for_a_held_sync(&self) {
        let mut platter = self.platter();
        while platter.syncs_held == 0 {
            platter = self.0.1.wait(platter).unwrap();
        }
    }

    /// Changes the bytes that lie there, behind everybody's back.
    pub(super) fn with_bytes(&self, with: impl FnOnce(&mut Vec<u8>)) {
        let mut platter = self.platter();
        assert!(platter.unsynced.is_empty(), "damage is done to what lies there");
        with(&mut platter.seen);
        platter.durable = platter.seen.clone();
    }

    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.0.0.lock().unwrap()
    }
}

fn no_power() -> io::Error {
    io::Error::other("no power")
}

/// As `resize`, which takes long in an unoptimised build.
fn set_length(bytes: &mut Vec<u8>, length: usize) {
    let mut changed = vec![0; length];
    let kept = length.min(bytes.len());
    changed[..kept].copy_from_slice(&bytes[..kept]);
    *bytes = changed;
}

fn put(platter: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    if platter.len() < offset + bytes.len() {
        set_length(platter, offset + bytes.len());
    }
    platter[offset..offset + bytes.len()].copy_from_slice(bytes);
}

/// An open file on the disk; it knows nothing of what comes after a loss of power.
#[derive(Debug)]
struct Handle {
    disk: Disk,
    opened: u64,
}

impl Handle {
    fn alive(&self) -> io::Result<MutexGuard<'_, Platter>> {
        let platter = self.disk.platter();
        (platter.has_power && platter.opened == self.opened).then_some(platter).ok_or_else(no_power)
    }

    /// Counts down to the loss of power.
    fn changing(&self) -> io::Result<MutexGuard<'_, Platter>> {
        let mut platter = self.alive()?;
        match &mut platter.changes_left {
            Some(0) => {
                platter.has_power = false;
                return Err(no_power());
            }
            Some(left) => *left -= 1,
            None => {}
        }
        Ok(platter)
    }
}

impl StorageBackend for Handle {
    fn len(&self) -> io::Result<u64> {
        Ok(self.alive()?.seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let platter = self.alive()?;
        let from = offset as usize;
        let found = platter.seen.get(from..from + out.len());
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut platter = self.changing()?;
        set_length(&mut platter.seen, len as usize);
        platter.unsynced.push(Change::Length(len as usize));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut platter = self.changing()?;
        platter.syncs_held += 1;
        self.disk.0.1.notify_all();
        while platter.holds_syncs {
            platter = self.disk.0.1.wait(platter).unwrap();
        }
        platter.syncs_held -= 1;
        if platter.fails_syncs {
            return Err(io::Error::other("the disk did not take it"));
        }
        let mut durable = std::mem::take(&mut platter.durable);
        for change in std::mem::take(&mut platter.unsynced) {
            match change {
                Change::Length(length) => set_length(&mut durable, length),
                Change::Write { offset, bytes } => put(&mut durable, offset, &bytes),
            }
        }
        platter.durable = durable;
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut platter = self.changing()?;
        let offset = offset as usize;
        let is_full = platter.room.is_some_and(|room| offset + data.len() > room);
        if platter.refusals > 0 || is_full {
            platter.refusals = platter.refusals.saturating_sub(1);
            return Err(io::ErrorKind::StorageFull.into());
        }
        put(&mut platter.seen, offset, data);
        platter.unsynced.push(Change::Write { offset, bytes: data.to_vec() });
        Ok(())
    }
}
