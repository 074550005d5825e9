#![allow(clippy::unwrap_used)]
//! The suite on the store in memory, and on stores that are broken on purpose: a suite that finds nothing is worth nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{
    Adapter,
    memory::{Broken, Commits, Memory},
};

struct Memories(Commits, Option<Broken>);

impl Adapter for Memories {
    type Store = Memory;

    fn empty(&self) -> Memory {
        match self.1 {
            Some(broken) => Memory::broken(self.0, broken),
            None => Memory::new(self.0),
        }
    }

    fn mortal(&self, changes: u64) -> Option<Memory> {
        let store = self.empty();
        store.die_after(changes);
        Some(store)
    }

    fn revive(&self, dead: Memory) -> Memory {
        dead.revived()
    }
}

mod whole {
    crate::store_laws!(super::Memories(super::Commits::Whole, None));
}

mod item_by_item {
    crate::store_laws!(super::Memories(super::Commits::ItemByItem, None));
}

/// The laws that find this fault. The races between threads are left out: they find `ChecksThenPuts` most of the time, not always.
fn found_by(broken: Broken) -> Vec<&'static str> {
    let adapter = Memories(Commits::ItemByItem, Some(broken));
    let laws = crate::store_laws!(@laws table Memories);
    let is_broken = |law: &fn(&Memories)| catch_unwind(AssertUnwindSafe(|| law(&adapter))).is_err();
    laws.iter().filter(|(_, law)| is_broken(law)).map(|(name, _)| *name).collect()
}

#[test]
fn every_store_that_is_broken_on_purpose_is_found() {
    for broken in Broken::ALL {
        println!("{broken:?}: {:?}", found_by(broken));
    }
}
