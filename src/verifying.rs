//! How far a verify is that this process carries out, for whoever asks meanwhile. Decides words only.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use processor::replay::Progress;

/// The name of the check in `GET /health` that is there while a verify is under way.
pub const VERIFY: &str = "verify";

/// The verify that began last, while it is under way.
#[derive(Debug, Default)]
pub(crate) struct Verifying(Mutex<Option<(Instant, Progress)>>);

/// A verify is under way until this is dropped.
pub(crate) struct Shown<'a>(&'a Verifying);

impl Verifying {
    fn state(&self) -> MutexGuard<'_, Option<(Instant, Progress)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn begin(&self) -> Shown<'_> {
        *self.state() = Some((Instant::now(), Progress::default()));
        Shown(self)
    }

    /// In words; `None`: none is under way.
    pub(crate) fn said(&self) -> Option<String> {
        self.state().map(|(begun, progress)| words(&progress, begun.elapsed().as_secs_f64()))
    }
}

impl Shown<'_> {
    pub(crate) fn at(&self, progress: Progress) {
        if let Some((_, shown)) = self.0.state().as_mut() {
            *shown = progress;
        }
    }
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        *self.0.state() = None;
    }
}

fn words(progress: &Progress, secs: f64) -> String {
    let Progress { records, bytes, bytes_total } = *progress;
    let mb = |bytes: u64| bytes as f64 / 1e6;
    if bytes == 0 || bytes_total == 0 {
        return format!("{records} records folded again");
    }
    if bytes >= bytes_total {
        return format!("{records} records folded again, comparing rows");
    }
    let rate = mb(bytes) / secs.max(0.001);
    let left = mb(bytes_total - bytes) / rate.max(0.001);
    format!(
        "{records} records folded again, {:.0} of {:.0} MB ({} %), {rate:.0} MB/s, {left:.0} s left",
        mb(bytes),
        mb(bytes_total),
        u128::from(bytes) * 100 / u128::from(bytes_total)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_far_a_verify_is_can_be_asked_while_it_runs_and_no_longer() {
        let verifying = Verifying::default();
        assert_eq!(verifying.said(), None);
        let shown = verifying.begin();
        assert_eq!(verifying.said().as_deref(), Some("0 records folded again"));
        shown.at(Progress { records: 7, bytes: 9, bytes_total: 9 });
        assert_eq!(verifying.said().as_deref(), Some("7 records folded again, comparing rows"));
        drop(shown);
        assert_eq!(verifying.said(), None);
    }

    #[test]
    fn amount_rate_and_what_is_left_are_said() {
        let half = Progress { records: 12, bytes: 30_000_000, bytes_total: 120_000_000 };
        assert_eq!(words(&half, 2.0), "12 records folded again, 30 of 120 MB (25 %), 15 MB/s, 6 s left");
    }
}
