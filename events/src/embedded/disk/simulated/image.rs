//! One file of the simulated disk: what is durable, what is read, and every version in between. Chance is a parameter.

use std::collections::BTreeMap;

use super::{SECTOR_BYTES, Seeded};

type Sector = [u8; SECTOR_BYTES];

const ZERO: Sector = [0; SECTOR_BYTES];

#[derive(Debug, Default)]
pub(super) struct Image {
    /// What a reader sees; sectors that are not there are zeros.
    now: BTreeMap<u64, Sector>,
    len: u64,
    durable: BTreeMap<u64, Sector>,
    durable_len: u64,
    /// For each sector written since the last sync, what it went through, newest last.
    pending: BTreeMap<u64, Vec<Sector>>,
    pending_lens: Vec<u64>,
}

impl Image {
    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len as usize];
        self.read(&mut bytes, 0);
        bytes
    }

    pub fn read(&self, into: &mut [u8], offset: u64) -> usize {
        let count = self.len.saturating_sub(offset).min(into.len() as u64) as usize;
        into[..count].fill(0);
        for (number, within, range) in sectors(offset, count) {
            if let Some(sector) = self.now.get(&number) {
                into[range.clone()].copy_from_slice(&sector[within..within + range.len()]);
            }
        }
        count
    }

    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        for (number, within, range) in sectors(offset, bytes.len()) {
            let mut sector = self.now.get(&number).copied().unwrap_or(ZERO);
            sector[within..within + range.len()].copy_from_slice(&bytes[range]);
            self.put(number, sector);
        }
        let end = offset + bytes.len() as u64;
        if !bytes.is_empty() && end > self.len {
            self.len = end;
            self.pending_lens.push(end);
        }
    }

    pub fn set_len(&mut self, len: u64) {
        if len < self.len {
            let edge = len % SECTOR_BYTES as u64;
            let first_gone = len.div_ceil(SECTOR_BYTES as u64);
            let gone: Vec<u64> = self.now.range(first_gone..).map(|(number, _)| *number).collect();
            for number in gone {
                self.put(number, ZERO);
            }
            if let Some(sector) = self.now.get(&(len / SECTOR_BYTES as u64)).copied().filter(|_| edge > 0) {
                let mut cut = sector;
                cut[edge as usize..].fill(0);
                self.put(len / SECTOR_BYTES as u64, cut);
            }
        }
        if len != self.len {
            self.len = len;
            self.pending_lens.push(len);
        }
    }

    pub fn sync(&mut self) {
        for (number, versions) in std::mem::take(&mut self.pending) {
            if let Some(newest) = versions.last() {
                set(&mut self.durable, number, *newest);
            }
        }
        self.pending_lens.clear();
        self.durable_len = self.len;
    }

    /// Some of it becomes durable; that the rest needs it is forgotten, as systems do.
    pub fn fail_sync(&mut self, chance: &mut Seeded) {
        for (number, versions) in std::mem::take(&mut self.pending) {
            if let Some(newest) = versions.last().filter(|_| chance.one_in(2)) {
                set(&mut self.durable, number, *newest);
            }
        }
        self.pending_lens.clear();
        if chance.one_in(2) {
            self.durable_len = self.len;
        }
    }

    /// What a power loss leaves becomes all there is.
    pub fn lose(&mut self, chance: &mut Seeded, stale: &[Sector]) {
        let mood = chance.below(6);
        let shift = chance.below(stale.len() as u64) as usize;
        for (i, (number, versions)) in std::mem::take(&mut self.pending).into_iter().enumerate() {
            // All lost, all kept, or each sector on its own.
            let pick = match mood {
                0 | 1 => 0,
                2 => versions.len(),
                _ => chance.below(versions.len() as u64 + 1) as usize,
            };
            match pick.checked_sub(1) {
                Some(version) => set(&mut self.durable, number, versions[version]),
                // Blocks that were another file's, or that this one was to write elsewhere.
                None if mood % 2 == 1 && !stale.is_empty() && !self.durable.contains_key(&number) => {
                    set(&mut self.durable, number, stale[(shift + i) % stale.len()]);
                }
                None => {}
            }
        }
        let pick = chance.below(self.pending_lens.len() as u64 + 1) as usize;
        if let Some(len) = pick.checked_sub(1).map(|version| self.pending_lens[version]) {
            self.durable_len = len;
        }
        self.pending_lens.clear();
        let (whole, edge) = (self.durable_len / SECTOR_BYTES as u64, self.durable_len as usize % SECTOR_BYTES);
        self.durable.retain(|number, _| *number < whole || (*number == whole && edge > 0));
        if let Some(sector) = self.durable.get_mut(&whole) {
            sector[edge..].fill(0);
        }
        self.now = self.durable.clone();
        self.len = self.durable_len;
    }

    /// Its sectors that are not empty, in order.
    pub fn sectors(&self) -> impl Iterator<Item = Sector> {
        self.durable.values().copied()
    }

    fn put(&mut self, number: u64, sector: Sector) {
        let stored = |sectors: &BTreeMap<u64, Sector>| sectors.get(&number).copied().unwrap_or(ZERO);
        if stored(&self.now) == sector && stored(&self.durable) == sector && !self.pending.contains_key(&number) {
            return;
        }
        set(&mut self.now, number, sector);
        self.pending.entry(number).or_default().push(sector);
    }
}

/// A sector of zeros is one that is not there.
fn set(sectors: &mut BTreeMap<u64, Sector>, number: u64, sector: Sector) {
    if sector == ZERO {
        sectors.remove(&number);
    } else {
        sectors.insert(number, sector);
    }
}

/// The parts of `count` bytes at `offset` by sector: its number, where in it, and which of the bytes.
fn sectors(offset: u64, count: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let within = (at % SECTOR_BYTES as u64) as usize;
        let part = (SECTOR_BYTES - within).min(count - done);
        let range = done..done + part;
        done += part;
        (part > 0).then_some((at / SECTOR_BYTES as u64, within, range))
    })
}
