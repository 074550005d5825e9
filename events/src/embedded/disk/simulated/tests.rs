//! The simulated disk forgets what it may, and nothing else.
#![allow(clippy::unwrap_used)]
use std::io::IoSlice;

use super::{
    super::{Disk, File},
    *,
};

fn write(file: &SimulatedFile, offset: u64, bytes: &[u8]) {
    file.write_at(&[IoSlice::new(bytes)], offset).unwrap();
}

/// What 200 power losses leave of a disk on which `work` was done.
fn outcomes<T: PartialEq>(work: impl Fn(&SimulatedDisk), look: impl Fn(&SimulatedDisk) -> T) -> Vec<T> {
    let mut seen = Vec::new();
    for seed in 0..200 {
        let disk = SimulatedDisk::new(0);
        work(&disk);
        disk.power_loss(seed);
        let outcome = look(&disk);
        if !seen.contains(&outcome) {
            seen.push(outcome);
        }
    }
    seen
}

#[test]
fn what_was_not_synced_is_kept_lost_or_torn_and_what_was_stays() {
    let work = |disk: &SimulatedDisk| {
        let file = disk.create("a").unwrap();
        write(&file, 0, &[1; 1024]);
        file.sync_data().unwrap();
        disk.sync_folder("").unwrap();
        write(&file, 512, &[2; 1024]);
    };
    let look = |disk: &SimulatedDisk| disk.contents("a").unwrap();
    let seen = outcomes(work, look);
    assert!(seen.iter().all(|bytes| bytes[..512] == [1; 512]), "a sector that was synced and not written again");
    assert!(seen.contains(&vec![1; 1024]), "all lost");
    assert!(seen.contains(&[vec![1; 512], vec![2; 1024]].concat()), "all kept");
    assert!(seen.iter().any(|bytes| bytes.len() == 1536 && bytes[512..1024] == [1; 512]), "torn, out of order");
}

#[test]
fn names_come_and_go_until_their_folder_is_synced() {
    let work = |disk: &SimulatedDisk| {
        for name in ["old", "gone"] {
            disk.create(name).unwrap();
        }
        disk.sync_folder("").unwrap();
        disk.rename("old", "renamed").unwrap();
        disk.remove("gone").unwrap();
        disk.create("fresh").unwrap();
    };
    let seen = outcomes(work, |disk| disk.list("").unwrap());
    for expected in [&["gone", "old"][..], &["fresh", "renamed"], &["gone", "renamed"], &["fresh", "gone", "old"]] {
        assert!(seen.iter().any(|names| names == expected), "{expected:?} in {seen:?}");
    }
    assert!(seen.iter().all(|names| names.iter().any(|name| name == "old" || name == "renamed")), "never neither");
}

#[test]
fn after_a_failed_sync_the_next_one_succeeds_and_makes_nothing_durable() {
    let work = |disk: &SimulatedDisk| {
        let file = disk.create("a").unwrap();
        file.set_len(512).unwrap();
        file.sync_data().unwrap();
        disk.sync_folder("").unwrap();
        write(&file, 0, &[7; 512]);
        disk.set_faults(Faults { sync: 1, ..Faults::default() });
        file.sync_data().unwrap_err();
        disk.set_faults(Faults::default());
        file.sync_data().unwrap();
        assert_eq!(disk.contents("a").unwrap(), [7; 512], "it is read all the same");
    };
    // Whether that sector got there is the disk's own chance, so another disk.
    let lost = (0..20).any(|seed| {
        let disk = SimulatedDisk::new(seed);
        work(&disk);
        disk.power_loss(seed);
        disk.contents("a").unwrap() == [0; 512]
    });
    assert!(lost);
}

#[test]
fn a_dead_process_keeps_its_bytes_and_loses_its_handles_and_locks() {
    let disk = SimulatedDisk::new(0);
    let lock = disk.lock("lock").unwrap().unwrap();
    assert!(disk.lock("lock").unwrap().is_none());
    let file = disk.create("a").unwrap();
    write(&file, 0, b"bytes");
    disk.kill();
    file.sync_data().unwrap_err();
    assert_eq!(disk.contents("a").unwrap(), b"bytes");
    let second = disk.lock("lock").unwrap();
    assert!(second.is_some());
    drop(lock);
    assert!(disk.lock("lock").unwrap().is_none(), "the dead one's lock is not the new one's");
}

#[test]
fn a_full_disk_refuses_to_grow_and_takes_what_was_allocated() {
    let disk = SimulatedDisk::new(0);
    let file = disk.create("a").unwrap();
    file.allocate(1000).unwrap();
    disk.set_capacity(Some(1000));
    write(&file, 0, &[1; 1000]);
    let full = file.write_at(&[IoSlice::new(&[1; 10])], 995).unwrap_err();
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    assert_eq!(file.len().unwrap(), 1000);
    assert_eq!(file.allocate(1001).unwrap_err().kind(), io::ErrorKind::StorageFull);
}
