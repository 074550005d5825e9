//! The threads of a running system: a worker for each shard, and the ticker. Decides when a worker looks again; what it does is `processor`'s. None
//! ends unnoticed.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use events::stream::Stream;
use processor::{
    consume::{ConsumeError, Live, Worker},
    ledger::Ledger,
};
use projections::{fold::Place, store::Store};
use tokio::sync::Semaphore;

/// How long a worker that has nothing to commit waits for a record.
const IDLE_WAIT: Duration = Duration::from_millis(250);
/// How long it waits while a commit is outstanding.
const BUSY_WAIT: Duration = Duration::from_millis(20);

/// Work that cannot go on without: however it ends, the ledger hears why.
struct Watched {
    name: String,
    ledger: Arc<Ledger>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let name = &self.name;
            self.ledger
                .stopped(&format!("the thread {name} panicked; standard error says where: report it as a defect"));
        }
    }
}

/// A thread with a runtime of its own: a fold is never in the way of a request. The ledger hears why it failed or that it panicked.
pub(crate) fn spawn(
    name: String,
    ledger: Arc<Ledger>,
    work: impl Future<Output = Result<(), String>> + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    std::thread::Builder::new().name(name.clone()).spawn(move || {
        let watched = Watched { name, ledger };
        if let Err(why) = runtime.block_on(work) {
            watched.ledger.stopped(&why);
        }
    })
}

/// Steps and commits until it is stopped and has caught up.
pub(crate) async fn consume<S: Stream, T: Store>(
    mut worker: Worker<S, T, Live<S>>,
    place: &Place,
    ledger: &Ledger,
    commits: &Semaphore,
    waiters: &AtomicUsize,
    stop: &AtomicBool,
    behind_ms: &AtomicU64,
) -> Result<(), ConsumeError> {
    loop {
        let stopping = stop.load(Ordering::SeqCst);
        let awaited = ledger.is_awaited(&place.shard) || waiters.load(Ordering::SeqCst) > 0;
        let wait = match worker.is_waiting() {
            _ if stopping => Duration::ZERO,
            true if awaited => Duration::ZERO,
            true => BUSY_WAIT,
            false => IDLE_WAIT,
        };
        let step = worker.step(wait).await?;
        behind_ms.store(step.behind_ms, Ordering::Relaxed);
        ledger.folded(&place.shard, step.folded);
        if worker.is_due(step.caught_up, awaited) || (stopping && step.caught_up) {
            let permit = commits.acquire().await;
            ledger.committed(&place.shard, worker.commit().await?);
            drop(permit);
        }
        if stopping && step.caught_up {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_thread_that_panics_or_fails_is_why_the_consumer_stopped() {
        let ledger = Arc::<Ledger>::default();
        spawn("well".into(), ledger.clone(), async { Ok(()) }).unwrap().join().unwrap();
        assert_eq!(ledger.why_stopped(), None);
        spawn("worker-7".into(), ledger.clone(), async { panic!("on purpose") }).unwrap().join().unwrap_err();
        let why = ledger.why_stopped().unwrap();
        assert!(why.contains("worker-7 panicked"), "{why}");
        let ledger = Arc::<Ledger>::default();
        spawn("worker-8".into(), ledger.clone(), async { Err("the disk is full".into()) }).unwrap().join().unwrap();
        assert_eq!(ledger.why_stopped().unwrap(), "the disk is full");
    }
}
