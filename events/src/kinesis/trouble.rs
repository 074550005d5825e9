//! What calls that fail say to people: decides since when something is wrong, and when it is over. No call depends on it.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Calls of one kind that fail, one after another.
#[derive(Debug, Default)]
pub(super) struct Trouble(Mutex<Option<(Instant, String)>>);

impl Trouble {
    fn state(&self) -> MutexGuard<'_, Option<(Instant, String)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One failed, and is tried again.
    pub fn failed(&self, why: &str) {
        let mut state = self.state();
        let since = state.as_ref().map_or_else(Instant::now, |(since, _)| *since);
        *state = Some((since, why.to_owned()));
    }

    /// One succeeded.
    pub fn is_over(&self) {
        *self.state() = None;
    }

    /// Why nothing has succeeded for so long.
    pub fn of(&self, longest: Duration) -> Option<String> {
        self.state().as_ref().filter(|(since, _)| since.elapsed() >= longest).map(|(_, why)| why.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_has_failed_for_some_time_is_told_until_a_call_succeeds() {
        let (trouble, second) = (Trouble::default(), Duration::from_secs(1));
        assert_eq!(trouble.of(Duration::ZERO), None);
        trouble.failed("throttled");
        tokio::time::advance(second).await;
        trouble.failed("no connection");
        assert_eq!(trouble.of(second * 2), None, "it may pass");
        assert_eq!(trouble.of(second).as_deref(), Some("no connection"));
        trouble.is_over();
        trouble.failed("throttled");
        assert_eq!(trouble.of(second), None, "it began anew");
    }
}
