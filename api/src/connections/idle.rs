//! Which connections wait for a request, and since when. Decides which of them makes room for a newcomer; it closes none itself.
//!
//! The address that has most connections gives way first, so that whoever fills the server loses what is idle before anybody else does.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{sync::Notify, time::Instant};

use crate::throttle::Client;

/// All open connections: no more than there may be at once.
#[derive(Debug, Default)]
pub(super) struct Idle(Mutex<Seats>);

#[derive(Debug, Default)]
struct Seats {
    next: u64,
    taken: HashMap<u64, Seat>,
}

#[derive(Debug)]
struct Seat {
    client: Client,
    /// `None`: it is answered just now, or was told to leave.
    idle_since: Option<Instant>,
    leave: Arc<Notify>,
}

/// One open connection, until this is dropped.
#[derive(Debug)]
pub(super) struct Guest {
    idle: Arc<Idle>,
    number: u64,
    leave: Arc<Notify>,
}

impl Idle {
    fn seats(&self) -> MutexGuard<'_, Seats> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection is open, and has asked nothing yet.
    pub(super) fn enter(self: &Arc<Self>, client: Client) -> Guest {
        let leave = Arc::new(Notify::new());
        let mut seats = self.seats();
        let number = seats.next;
        seats.next += 1;
        let seat = Seat { client, idle_since: Some(Instant::now()), leave: leave.clone() };
        seats.taken.insert(number, seat);
        Guest { idle: self.clone(), number, leave }
    }

    /// Tells the longest idle connection, of those with most connections, to leave; each is told once. False: none is idle.
    pub(super) fn make_room(&self) -> bool {
        let mut seats = self.seats();
        let mut of: HashMap<&Client, usize> = HashMap::new();
        for seat in seats.taken.values() {
            *of.entry(&seat.client).or_default() += 1;
        }
        let idle = seats.taken.iter().filter_map(|(number, seat)| Some((seat.idle_since?, *number, of[&seat.client])));
        let longest = idle.min_by_key(|(since, number, most)| (std::cmp::Reverse(*most), *since, *number));
        let Some((_, number, _)) = longest else { return false };
        if let Some(seat) = seats.taken.get_mut(&number) {
            seat.idle_since = None;
            seat.leave.notify_one();
        }
        true
    }
}

impl Guest {
    fn set(&self, idle_since: Option<Instant>) {
        if let Some(seat) = self.idle.seats().taken.get_mut(&self.number) {
            seat.idle_since = idle_since;
        }
    }

    /// A request has come in.
    pub(super) fn is_answered(&self) {
        self.set(None);
    }

    /// It has its answer.
    pub(super) fn has_its_answer(&self) {
        self.set(Some(Instant::now()));
    }

    /// Waits until it is to make room.
    pub(super) async fn told_to_leave(&self) {
        self.leave.notified().await;
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.idle.seats().taken.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_longest_idle_of_the_address_with_most_makes_room_and_who_is_answered_does_not() {
        let idle = Arc::new(Idle::default());
        let client = |name: &str| Client::Tenant(name.into());
        let mut guests = vec![];
        for name in ["few", "many", "many", "many"] {
            guests.push(idle.enter(client(name)));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        guests[1].is_answered();
        let left = |guests: &[Guest]| -> Vec<bool> {
            guests.iter().map(|guest| guest.told_to_leave().now_or_never().is_some()).collect()
        };
        assert!(idle.make_room());
        assert_eq!(left(&guests), [false, false, true, false]);
        // Answered again, it is idle for the shortest time.
        guests[1].has_its_answer();
        assert!(idle.make_room());
        assert_eq!(left(&guests), [false, false, false, true]);
        guests.truncate(2);
        assert!(idle.make_room());
        assert_eq!(left(&guests), [true, false]);
        assert!(idle.make_room() && !idle.make_room(), "each is told once");
        drop(guests);
        assert_eq!(idle.seats().taken.len(), 0);
    }
}
