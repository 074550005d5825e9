//! How fast calls may go: rates by the clock of the runtime, and pauses after a failure. The only place with randomness. Knows no call.

use std::{
    num::NonZeroU32,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::Clock,
    middleware::NoOpMiddleware,
    state::{InMemoryState, NotKeyed},
};
use tokio::time::Instant;

/// Tokio's time, which tests can stop.
#[derive(Debug, Clone)]
struct RuntimeClock(Instant);

impl Clock for RuntimeClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

/// So many units a second, at most a second's worth at once.
#[derive(Debug)]
pub(super) struct Rate {
    limiter: RateLimiter<NotKeyed, InMemoryState, RuntimeClock, NoOpMiddleware<Duration>>,
    clock: RuntimeClock,
    burst: NonZeroU32,
}

impl Rate {
    pub fn new(per_sec: NonZeroU32) -> Self {
        let clock = RuntimeClock(Instant::now());
        let limiter = RateLimiter::direct_with_clock(Quota::per_second(per_sec), clock.clone());
        Self { limiter, clock, burst: per_sec }
    }

    /// Takes so many units, a second's worth at most; else says when to ask again.
    pub fn take(&self, units: usize) -> Result<(), Instant> {
        let Some(units) = NonZeroU32::new(u32::try_from(units).unwrap_or(u32::MAX)) else { return Ok(()) };
        match self.limiter.check_n(units.min(self.burst)) {
            Ok(Err(not_until)) => Err(Instant::now() + not_until.wait_time_from(self.clock.now())),
            // More than the burst is never asked for.
            Ok(Ok(())) | Err(_) => Ok(()),
        }
    }

    /// Waits until any number of units was taken.
    pub async fn taken(&self, mut units: usize) {
        while units > 0 {
            let now = units.min(self.burst.get() as usize);
            match self.take(now) {
                Ok(()) => units -= now,
                Err(until) => tokio::time::sleep_until(until).await,
            }
        }
    }
}

/// A time before which nothing goes.
#[derive(Debug, Default)]
pub(super) struct Hold(Mutex<Option<Instant>>);

impl Hold {
    /// Nothing goes for so long from now; a longer hold stays.
    pub fn for_at_least(&self, pause: Duration) {
        let until = Instant::now() + pause;
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *held = Some(held.map_or(until, |before| before.max(until)));
    }

    /// When things go again, if not now.
    pub fn until(&self) -> Option<Instant> {
        let held = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.filter(|until| *until > Instant::now())
    }
}

/// Pauses that double from `first` to `longest`, each drawn evenly from nothing to its whole length ("full jitter": those who failed together do not
/// come again together).
#[derive(Debug, Clone, Copy)]
pub(super) struct BackOff {
    pub first: Duration,
    pub longest: Duration,
}

impl BackOff {
    /// The pause after the failure with this number, from 1 on.
    pub fn pause(&self, failures: u32) -> Duration {
        self.bound(failures).mul_f64(fastrand::f64())
    }

    /// The longest that it can be.
    fn bound(&self, failures: u32) -> Duration {
        self.first.saturating_mul(1 << failures.saturating_sub(1).min(20)).min(self.longest)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn rate(per_sec: u32) -> Rate {
        Rate::new(NonZeroU32::new(per_sec).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_lets_a_seconds_worth_pass_and_then_no_more_than_its_units_a_second() {
        let (rate, began) = (rate(1_000), Instant::now());
        rate.taken(1_000).await;
        assert_eq!(began.elapsed(), Duration::ZERO);
        rate.taken(10_000).await;
        let took = began.elapsed();
        assert!(took >= Duration::from_secs(10) && took < Duration::from_millis(10_100), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_larger_than_a_seconds_worth_passes_as_one() {
        let rate = rate(10);
        assert_eq!(rate.take(1_000_000), Ok(()));
        let until = rate.take(1).unwrap_err();
        assert!(until > Instant::now());
    }

    #[tokio::test(start_paused = true)]
    async fn a_hold_ends_by_itself_and_is_never_shortened() {
        let hold = Hold::default();
        assert_eq!(hold.until(), None);
        hold.for_at_least(Duration::from_secs(5));
        hold.for_at_least(Duration::from_secs(1));
        assert_eq!(hold.until(), Some(Instant::now() + Duration::from_secs(5)));
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(hold.until(), None);
    }

    #[test]
    fn pauses_double_up_to_their_bound() {
        let back_off = BackOff { first: Duration::from_millis(50), longest: Duration::from_secs(5) };
        let bounds: Vec<u128> = [1, 2, 3, 7, 8, 9, u32::MAX].map(|n| back_off.bound(n).as_millis()).into();
        assert_eq!(bounds, [50, 100, 200, 3_200, 5_000, 5_000, 5_000]);
        assert!((0..100).all(|_| back_off.pause(3) <= Duration::from_millis(200)));
    }
}
