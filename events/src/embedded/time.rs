//! The stamp that a record gets: the clock's, but never before an earlier one's. Never asks a clock of its own.

use std::sync::{Mutex, PoisonError};

use super::{CLOCK_BEHIND_MS_MAX, Clock};
use crate::calendar::date;

/// One for all shards of a stream, so that its stamps agree.
pub(super) struct Time {
    clock: Box<dyn Clock>,
    newest_ms: Mutex<Option<i64>>,
}

/// The clock is further behind the newest stamp than we go on with.
#[derive(Debug, thiserror::Error)]
#[error(
    "the host's clock says {} but the newest record was stamped {}: set the clock, or, if it is right, stop and start again with --confirm-clock",
    rfc3339(*.clock_ms), rfc3339(*.newest_ms)
)]
pub(super) struct Behind {
    clock_ms: i64,
    newest_ms: i64,
}

impl Time {
    pub fn new(clock: impl Clock, newest_ms: Option<i64>) -> Self {
        Self { clock: Box::new(clock), newest_ms: newest_ms.into() }
    }

    /// The clock's own time, which is no stamp: for who breaks a law on purpose.
    pub fn clock_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// The next stamp.
    pub fn stamp(&self) -> Result<i64, Behind> {
        let mut newest = self.newest_ms.lock().unwrap_or_else(PoisonError::into_inner);
        let clock_ms = self.clock.now_ms();
        match *newest {
            Some(newest_ms) if newest_ms > clock_ms.saturating_add(CLOCK_BEHIND_MS_MAX) => {
                Err(Behind { clock_ms, newest_ms })
            }
            before => {
                let stamp = before.map_or(clock_ms, |before| before.max(clock_ms));
                *newest = Some(stamp);
                Ok(stamp)
            }
        }
    }
}

impl std::fmt::Debug for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Time").finish_non_exhaustive()
    }
}

/// A time as a person reads it, with both sides of a difference of a minute visible.
pub(super) fn rfc3339(unix_ms: i64) -> String {
    let (days, of_day) = (unix_ms.div_euclid(86_400_000), unix_ms.rem_euclid(86_400_000));
    let (year, month, day) = date(days);
    let (hour, minute, second, ms) = (of_day / 3_600_000, of_day / 60_000 % 60, of_day / 1000 % 60, of_day % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    };

    use super::*;

    #[test]
    fn stamps_follow_the_clock_wait_for_it_and_refuse_when_it_is_far_behind() {
        let now = Arc::new(AtomicI64::new(1_000_000));
        let clock = now.clone();
        let time = Time::new(move || clock.load(Ordering::Relaxed), None);
        let stamp_at = |ms| {
            now.store(ms, Ordering::Relaxed);
            time.stamp()
        };
        assert_eq!(stamp_at(1_000_000).unwrap(), 1_000_000);
        assert_eq!(stamp_at(940_000).unwrap(), 1_000_000, "within the minute it waits");
        let behind = stamp_at(939_999).unwrap_err().to_string();
        assert!(behind.contains("1970-01-01T00:15:39.999Z") && behind.contains("1970-01-01T00:16:40.000Z"), "{behind}");
        assert!(behind.contains("--confirm-clock"), "the next step: {behind}");
        assert_eq!(stamp_at(1_000_001).unwrap(), 1_000_001);
    }

    #[test]
    fn times_read_as_people_write_them() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(951_782_400_123), "2000-02-29T00:00:00.123Z");
        assert_eq!(rfc3339(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!(rfc3339(4_102_444_799_000), "2099-12-31T23:59:59.000Z");
    }
}
