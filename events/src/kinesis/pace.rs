//! How fast calls may go: rates by the clock of the runtime, and pauses after a failure. The only place with randomness. Knows no call.

use std::{
    num::NonZeroU32,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// So many units a second, at most a second's worth at once. What is taken beyond is a debt that time pays: who takes next waits for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket {
    per_sec: NonZeroU32,
    /// When all that was taken will be paid for, less the second's worth that may go at once.
    spent: Duration,
}

/// A second's worth may go at once.
const BURST: Duration = Duration::from_secs(1);

impl Bucket {
    pub fn new(per_sec: NonZeroU32) -> Self {
        Self { per_sec, spent: Duration::ZERO }
    }

    /// The bucket after so many units were taken of it at a time.
    pub fn after(self, now: Duration, units: usize) -> Self {
        let nanos = units as u128 * 1_000_000_000 / u128::from(self.per_sec.get());
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        // One that was left alone is full, and no fuller.
        Self { spent: self.spent.max(now).saturating_add(cost), ..self }
    }

    /// When the last that was taken may go.
    pub fn paid_at(&self) -> Duration {
        self.spent.saturating_sub(BURST)
    }
}

/// A bucket by the runtime's clock, which tests can stop. Those who wait go in the order in which they came.
#[derive(Debug)]
pub(super) struct Rate {
    began: Instant,
    bucket: Mutex<Bucket>,
}

impl Rate {
    pub fn new(per_sec: NonZeroU32) -> Self {
        Self { began: Instant::now(), bucket: Mutex::new(Bucket::new(per_sec)) }
    }

    /// Takes any number of units, and waits until they may go.
    pub async fn taken(&self, units: usize) {
        let until = {
            let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
            *bucket = bucket.after(self.began.elapsed(), units);
            self.began + bucket.paid_at()
        };
        tokio::time::sleep_until(until).await;
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
    async fn what_is_larger_than_a_seconds_worth_passes_and_is_paid_for() {
        let (rate, began) = (rate(10), Instant::now());
        rate.taken(15).await;
        rate.taken(10).await;
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(1_500) && took < Duration::from_millis(1_600), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_much_goes_before_who_came_later_for_little() {
        let rate = rate(10);
        rate.taken(10).await;
        let (much, little) =
            (async { (rate.taken(10).await, Instant::now()).1 }, async { (rate.taken(1).await, Instant::now()).1 });
        let (much, little) = tokio::join!(much, little);
        assert!(much < little);
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
