//! The threads of a running system. Decides when a worker looks again, and when it commits; what it does is `processor`'s. None ends unnoticed.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use events::position::SequenceNumber;
use processor::{
    consume::{ConsumeError, Worker},
    ledger::Ledger,
};
use projections::{fold::Place, generations::Live};
use tokio::{runtime::Handle, sync::RwLock};

use crate::{
    pair::{AnyStore, AnyStream, Manner},
    sink::Patient,
};

/// A worker on the system's pair.
pub(crate) type PairWorker = Worker<AnyStream, AnyStore, Patient<AnyStream>>;

/// How often who waits for definitions looks.
const HELD_LOOK: Duration = Duration::from_millis(200);
/// A system that ends waits for so many looks in a row of one shard; then what is left is folded when it begins again.
const HELD_LOOKS_MAX: u32 = 10;

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

/// A thread of its own: a fold is never in the way of a request. The ledger hears why it failed or that it panicked.
///
/// Where threads share connections, these live on `shared`: on a thread's own runtime they would stand still while it folds, and end with it.
pub(crate) fn spawn(
    name: String,
    ledger: Arc<Ledger>,
    shared: Option<Handle>,
    work: impl Future<Output = Result<(), String>> + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let own = match shared {
        Some(_) => None,
        None => Some(tokio::runtime::Builder::new_current_thread().enable_time().build()?),
    };
    std::thread::Builder::new().name(name.clone()).spawn(move || {
        let watched = Watched { name, ledger };
        let done = match (&own, &shared) {
            (Some(own), _) => own.block_on(work),
            (None, Some(shared)) => shared.block_on(work),
            (None, None) => unreachable!("a runtime is made where none is shared"),
        };
        if let Err(why) = done {
            watched.ledger.stopped(&why);
        }
    })
}

/// How work on a shard ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Done {
    /// The system was told to end.
    Told,
    /// The shard is closed, and folded and committed to its end.
    Ended,
    /// From the next record on its generation does not count; this one does, as far as is known. The shard is committed up to `at`.
    Turned { at: SequenceNumber, counts: Live },
}

/// What a worker works with, and whom it listens to.
pub(crate) struct Course<'a> {
    pub(crate) place: &'a Place,
    pub(crate) store: &'a AnyStore,
    pub(crate) ledger: &'a Ledger,
    pub(crate) manner: &'a Manner,
    /// Whoever commits reads it; `verify` writes it while it compares.
    pub(crate) commits: &'a RwLock<()>,
    /// How far behind its newest record the shard is.
    pub(crate) behind_ms: &'a AtomicU64,
    /// It is to end.
    pub(crate) is_told: &'a (dyn Fn() -> bool + Sync),
    /// Somebody waits for more than this, which can be read.
    pub(crate) is_awaited: &'a (dyn Fn(SequenceNumber) -> bool + Sync),
    /// Hears of each commit.
    pub(crate) well: &'a (dyn Fn() + Sync),
}

/// Steps and commits until the shard has ended, or the worker is told to end: who is alone folds what is left before.
pub(crate) async fn consume(mut worker: PairWorker, course: Course<'_>) -> Result<Done, ConsumeError> {
    let Course { place, store, ledger, manner, commits, behind_ms, is_told, is_awaited, well } = course;
    if worker.shard().is_ended() {
        // Whichever generation counted there: none goes further than one that did.
        return Ok(Done::Ended);
    }
    let mut held_back: u32 = 0;
    loop {
        let stopping = is_told();
        let awaited = is_awaited(worker.committed());
        // Where the state says that another generation counts, and no record that it does, nothing is to be waited for here.
        let acts = worker.shard().acts();
        let wait = match worker.is_waiting() {
            _ if stopping || !acts => Duration::ZERO,
            true if awaited => Duration::ZERO,
            true => manner.busy_wait,
            false => manner.idle_wait,
        };
        let step = worker.step(wait).await?;
        if !acts && step.folded.is_empty() && !step.turns && !step.held_back && !step.passed_gap {
            return Ok(Done::Turned { at: worker.committed(), counts: worker.shard().live() });
        }
        behind_ms.store(step.behind_ms, Ordering::Relaxed);
        ledger.folded(&place.shard, step.folded);
        // What holds a record back may come only after the system has ended.
        let is_stuck = held_back >= HELD_LOOKS_MAX;
        let is_last = stopping && (step.caught_up || !manner.is_alone || is_stuck);
        // A definition or a promotion is waited for on every shard, most often by a process that can tell this one only at its next look at leases. They
        // are rare; here alone, whoever waits is heard at once.
        let is_news = step.defines && !manner.is_alone;
        let is_due = is_news || worker.is_due(&manner.cadence, step.caught_up, awaited);
        if is_due || is_last || step.ended || step.held_back || step.turns {
            let held = commits.read().await;
            ledger.committed(&place.shard, worker.commit().await?);
            drop(held);
            well();
        }
        if step.ended {
            return Ok(Done::Ended);
        }
        if step.turns {
            return Ok(Done::Turned { at: worker.committed(), counts: step.counts });
        }
        if is_last {
            return Ok(Done::Told);
        }
        if step.held_back {
            worker.sink().look(store, place).await?;
            // Most often it goes on at once; else another shard is to go on first.
            held_back += 1;
            tokio::time::sleep(HELD_LOOK * (held_back - 1).min(1)).await;
        } else {
            held_back = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{
        num::NonZeroU16,
        sync::atomic::{AtomicBool, AtomicU32},
    };

    use events::{
        embedded::{self, disk::RealDisk},
        event::{Defined, Event},
        identity::{CONTROL_KEY, LOCAL_TENANT},
        position::HashKey,
        stream::Stream,
    };
    use processor::{
        append::{append_all, system_event_of},
        consume::Cadence,
        tick::tick,
    };
    use projections::{definitions::GENERATION, generations::LIVE, store::Generation};

    use super::*;
    use crate::{
        LocalStore, LocalStream, now_ms,
        workers::{Workers, places},
    };

    /// Whether a worker has committed all that is on the stream before it is told to end, which it is at its sixth look.
    async fn commits_by_itself(workers: &Workers, place: &Place) -> bool {
        let (looks, has_committed) = (AtomicU32::new(0), AtomicBool::new(false));
        let tip = workers.stream.local().unwrap().tip(&place.shard).unwrap();
        let is_told = || {
            let is_told = looks.fetch_add(1, Ordering::SeqCst) >= 5;
            if !is_told {
                let is_there = workers.ledger.applied_through().iter().any(|(_, through)| *through >= tip);
                has_committed.store(is_there, Ordering::SeqCst);
            }
            is_told
        };
        let course = Course {
            place,
            store: &workers.store,
            ledger: &workers.ledger,
            manner: &workers.manner,
            commits: &workers.commits,
            behind_ms: &AtomicU64::new(0),
            is_told: &is_told,
            is_awaited: &|_| false,
            well: &|| {},
        };
        let worker = workers.open(place.clone()).await.unwrap();
        assert_eq!(consume(worker, course).await.unwrap(), Done::Told);
        assert!(workers.ledger.applied_through().iter().any(|(_, through)| *through >= tip), "it ends with a commit");
        has_committed.into_inner()
    }

    #[tokio::test]
    async fn definitions_are_committed_at_once_where_another_process_may_wait_for_them_and_all_else_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::in_folder(folder.path().join("stream")).unwrap();
        let options = embedded::Options { shards: NonZeroU16::MIN, ..embedded::Options::default() };
        let stream = Arc::new(AnyStream::Local(LocalStream::open(disk, now_ms, options).unwrap()));
        let store = Arc::new(AnyStore::Local(LocalStore::open(&folder.path().join("rows.redb")).unwrap()));
        let hour = Duration::from_secs(3_600);
        let (cadence, wait) = (Cadence { busy: hour, awaited: hour, idle: hour }, Duration::from_millis(1));
        let manner = Manner { cadence, idle_wait: wait, busy_wait: wait, is_alone: false, ..Manner::LOCAL };
        let workers = Workers::new(stream.clone(), store.clone(), manner, None);
        let place = places(&stream.shards().await.unwrap()).remove(0);
        tick(&*stream, &*store, Generation::default()).await.unwrap();
        assert!(!commits_by_itself(&workers, &place).await, "a tick that names nothing");
        let (kind, name, body) = (GENERATION.into(), LIVE.into(), Live::default().body());
        let defined = Event::Defined(Defined { kind, name, body, by: "a test".into() });
        append_all(&*stream, vec![system_event_of(LOCAL_TENANT, HashKey::of(CONTROL_KEY), defined)]).await.unwrap();
        assert!(commits_by_itself(&workers, &place).await, "made");
        tick(&*stream, &*store, Generation::default()).await.unwrap();
        assert!(commits_by_itself(&workers, &place).await, "in force");
        tick(&*stream, &*store, Generation::default()).await.unwrap();
        assert!(!commits_by_itself(&workers, &place).await, "a tick that names nothing new");
    }

    #[test]
    fn a_thread_that_panics_or_fails_is_why_the_consumer_stopped() {
        let ledger = Arc::<Ledger>::default();
        spawn("well".into(), ledger.clone(), None, async { Ok(()) }).unwrap().join().unwrap();
        assert_eq!(ledger.why_stopped(), None);
        spawn("worker-7".into(), ledger.clone(), None, async { panic!("on purpose") }).unwrap().join().unwrap_err();
        let why = ledger.why_stopped().unwrap();
        assert!(why.contains("worker-7 panicked"), "{why}");
        let ledger = Arc::<Ledger>::default();
        spawn("worker-8".into(), ledger.clone(), None, async { Err("the disk is full".into()) })
            .unwrap()
            .join()
            .unwrap();
        assert_eq!(ledger.why_stopped().unwrap(), "the disk is full");
    }
}
