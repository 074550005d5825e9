//! The ticker: a tick at once, and then after each full minute; and what became of the last. Decides when; what a tick is, `processor` says.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use events::{position::SequenceNumber, stream::Stream};
use processor::tick::{self, Tick, TickError};
use projections::store::{Generation, Store};

use crate::now_ms;

/// Between two ticks.
const TICK_SECS: u64 = 60;
/// A tick comes so long after a full minute, so that the shards' stamps of one tick fall into one minute.
const TICK_AFTER: Duration = Duration::from_secs(1);
/// How often the ticker looks whether a tick is due, or it is to end.
const DUE_LOOK: Duration = Duration::from_millis(100);
/// A tick that is missing for longer is told of.
const LATE_MS_MAX: i64 = 3 * 60_000;

/// See the module.
#[derive(Debug)]
pub(crate) struct Ticker {
    state: Mutex<State>,
    /// The generation that counts: what it can read of definitions is named.
    live: AtomicU32,
}

#[derive(Debug)]
struct State {
    /// The highest revision of definitions that a tick has named.
    revision: SequenceNumber,
    /// When the latest tick was appended, or this began.
    last_ms: i64,
    /// Why the latest was not.
    failed: Option<String>,
}

impl Ticker {
    pub(crate) fn new(now_ms: i64) -> Self {
        let state = State { revision: SequenceNumber::ZERO, last_ms: now_ms, failed: None }.into();
        Self { state, live: AtomicU32::new(Generation::default().0) }
    }

    /// From now on this generation counts.
    pub(crate) fn count(&self, live: Generation) {
        self.live.store(live.0, Ordering::SeqCst);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The highest revision of definitions that a tick of this process has named.
    pub(crate) fn revision(&self) -> SequenceNumber {
        self.state().revision
    }

    /// Ticks now.
    pub(crate) async fn tick<S: Stream, T: Store>(&self, stream: &S, store: &T) -> Result<Tick, TickError> {
        let ticked = tick::tick(stream, store, Generation(self.live.load(Ordering::SeqCst))).await;
        let mut state = self.state();
        match ticked {
            Ok(tick) => {
                // Two that tick at the same time may answer in any order.
                state.revision = tick.definitions.max(state.revision);
                (state.last_ms, state.failed) = (now_ms(), None);
                Ok(tick)
            }
            Err(error) => {
                state.failed = Some(error.to_string());
                Err(error)
            }
        }
    }

    /// Ticks at once, and then after each full minute.
    pub(crate) async fn run<S: Stream, T: Store>(&self, stream: &S, store: &T, stop: &AtomicBool) {
        let mut due = 0;
        while !stop.load(Ordering::SeqCst) {
            let now = u64::try_from(now_ms()).unwrap_or(0) / 1000;
            if now >= due {
                // One that fails is made up for by the next, as the fold walks the minutes between; until then `said` tells of it.
                let _ = self.tick(stream, store).await;
                due = (now / TICK_SECS + 1) * TICK_SECS + TICK_AFTER.as_secs();
            }
            tokio::time::sleep(DUE_LOOK).await;
        }
    }

    /// Whether minutes pass, in words.
    pub(crate) fn said(&self, now_ms: i64) -> Result<String, String> {
        let state = self.state();
        let secs = now_ms.saturating_sub(state.last_ms).max(0) / 1000;
        let next = "no alarm is decided until one succeeds; it is tried again each minute";
        match &state.failed {
            Some(why) => Err(format!("{why}. The last tick was {secs} s ago: {next}")),
            None if now_ms.saturating_sub(state.last_ms) > LATE_MS_MAX => {
                Err(format!("the last tick was {secs} s ago, and the next has not ended: {next}"))
            }
            None => Ok("a tick passes each minute".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use events::embedded::{Options, disk::RealDisk};

    use super::*;
    use crate::{LocalStore, LocalStream};

    #[tokio::test]
    async fn ticks_that_fail_or_stay_out_are_told_of_until_one_succeeds() {
        let folder = tempfile::tempdir().unwrap();
        let open = || {
            let disk = RealDisk::in_folder(folder.path().join("stream")).unwrap();
            LocalStream::open(disk, now_ms, Options::default()).unwrap()
        };
        let (stream, store) = (open(), LocalStore::open(&folder.path().join("rows.redb")).unwrap());
        let ticker = Ticker::new(now_ms());
        ticker.tick(&stream, &store).await.unwrap();
        assert!(ticker.said(now_ms()).is_ok());
        let late = ticker.said(now_ms() + LATE_MS_MAX + 60_000).unwrap_err();
        assert!(late.contains("the last tick was 240 s ago") && late.contains("no alarm"), "{late}");
        stream.close();
        ticker.tick(&stream, &store).await.unwrap_err();
        let failed = ticker.said(now_ms()).unwrap_err();
        assert!(failed.contains("closed") && failed.contains("no alarm is decided"), "{failed}");
        drop(stream);
        ticker.tick(&open(), &store).await.unwrap();
        assert!(ticker.said(now_ms()).is_ok());
    }
}
