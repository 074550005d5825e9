#![allow(clippy::unwrap_used)]
//! The embedded store under the laws of its port, and what only a file can suffer: no room, no power, a second opener, damage.

mod disk;
mod file;
mod power;

use std::sync::Mutex;

use self::disk::Disk;
use super::Embedded;
use crate::store::law::{Adapter, random::Random};

/// Stores on disks that can be killed.
struct OnDisk(Mutex<Option<(Disk, u64)>>);

impl Adapter for OnDisk {
    type Store = Embedded;

    fn empty(&self) -> Embedded {
        Embedded::in_memory().unwrap()
    }

    fn mortal(&self, changes: u64) -> Option<Embedded> {
        let disk = Disk::new();
        let store = disk.open().unwrap();
        disk.lose_power_after(changes);
        *self.0.lock().unwrap() = Some((disk, changes));
        Some(store)
    }

    fn revive(&self, dead: Embedded) -> Embedded {
        drop(dead);
        let (disk, changes) = self.0.lock().unwrap().take().unwrap();
        disk.restore_power(&mut Random::new(changes));
        disk.open().unwrap()
    }
}

mod laws {
    use std::sync::Mutex;

    crate::store_laws!(super::OnDisk(Mutex::new(None)));
}
