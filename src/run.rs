//! The threads of a running system: a worker for each shard, and the ticker. Decides when they look again; what they do is `processor`'s.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    thread::JoinHandle,
    time::Duration,
};

use events::stream::Stream;
use processor::{
    consume::{ConsumeError, Live, Worker},
    ledger::Ledger,
    tick,
};
use projections::{
    fold::Place,
    store::{Generation, Store},
};
use tokio::sync::Semaphore;

use crate::now_ms;

/// Between two ticks.
const TICK_SECS: u64 = 60;
/// A tick comes so long after a full minute, so that the shards' stamps of one tick fall into one minute.
const TICK_AFTER: Duration = Duration::from_secs(1);
/// How long a worker that has nothing to commit waits for a record.
const IDLE_WAIT: Duration = Duration::from_millis(250);
/// How long it waits while a commit is outstanding.
const BUSY_WAIT: Duration = Duration::from_millis(20);

/// A thread with a runtime of its own: a fold is never in the way of a request.
pub(crate) fn spawn(name: String, work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a runtime without I/O needs nothing that could be missing");
    let thread = std::thread::Builder::new().name(name).spawn(move || runtime.block_on(work));
    thread.expect("the process may start the few threads that it needs")
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

/// Ticks at once, and then after each full minute.
pub(crate) async fn tick_on<S: Stream, T: Store>(stream: &S, store: &T, stop: &AtomicBool) {
    let mut due = 0;
    while !stop.load(Ordering::SeqCst) {
        let now = u64::try_from(now_ms()).unwrap_or(0) / 1000;
        if now >= due {
            // A tick that fails is made up for by the next: the fold walks the minutes between.
            let _ = tick::tick(stream, store, Generation::default()).await;
            due = (now / TICK_SECS + 1) * TICK_SECS + TICK_AFTER.as_secs();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
