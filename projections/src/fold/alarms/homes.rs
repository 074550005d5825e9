//! Where alarms live: in one of sixteen homes, each at a fixed point of the ring. Decides the home of a name and its point, never who keeps it: that is
//! the shard that owns the point, whichever it is, and what is said to a home is addressed to the point.
//!
//! So a word that was on its way when a shard was split or merged comes to whoever keeps the home now, and a home is handed over whole.

use events::position::HashKey;

/// So many homes: a shard says at most so many words a minute, however many shards there are.
pub const HOMES: u8 = 16;

const BITS: u32 = HOMES.ilog2();
const _: () = assert!(HOMES.is_power_of_two());

/// The point of the ring that a home lies at: the middle of its part, so that an even cut of the ring hardly ever meets one.
pub fn point(home: u8) -> HashKey {
    HashKey((u128::from(home) * 2 + 1) << (127 - BITS))
}

/// The home of an alarm, by the hash of its tenant and name.
pub(super) fn of(tenant: &str, alarm: &str) -> u8 {
    (HashKey::of(&format!("{tenant}\0alarm\0{alarm}")).0 >> (128 - BITS)) as u8
}

/// The point of an alarm's home.
pub fn home_key(tenant: &str, alarm: &str) -> HashKey {
    point(of(tenant, alarm))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use events::position::HashRange;

    use super::*;

    #[test]
    fn homes_lie_in_the_middle_of_even_parts_of_the_ring() {
        let parts = HashRange::even(u16::from(HOMES).try_into().unwrap());
        for (home, part) in (0..HOMES).zip(&parts) {
            assert!(part.contains(point(home)));
            assert_eq!(point(home).0 - part.from.0, 1 << 123);
        }
        let used: std::collections::BTreeSet<u8> = (0..200).map(|n| of("local", &format!("a{n}"))).collect();
        assert_eq!(used.len(), usize::from(HOMES), "names spread over all of them");
        assert!(parts[usize::from(of("t", "a"))].contains(HashKey::of("t\0alarm\0a")));
    }
}
