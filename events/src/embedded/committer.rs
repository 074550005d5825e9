//! Who waits for a shard: appends for their turn and their sync, readers for the next record. Decides who is woken and when; knows no format.
//!
//! Needs no runtime: one thread a shard commits what waits, as one group, and wakes readers whose time is up.

use std::{
    collections::{BTreeMap, VecDeque},
    future, io, mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
    thread::{self, JoinHandle},
    time::Instant,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::{
    disk::Disk,
    shard_log::{Done, Failure, ShardLog},
};
use crate::stream::{Appended, Put, ReadError, Refused};

/// Most that waits for a shard's committer, and so the largest group, in units; appends past it wait for their turn.
const QUEUE_UNITS_MAX: usize = 8 << 10;
/// A unit is a KiB of payload; each append takes one more, so that empty ones are bounded too.
const UNIT_BYTES: usize = 1024;

/// Of all records; or of none, and they are given back, as the shard is closed.
type Answers = Result<Answered, Failure>;

/// See `Done`.
#[derive(Debug, Default)]
pub(super) struct Answered {
    pub answers: Vec<Result<Appended, Refused>>,
    pub moved: Vec<Put>,
}

#[derive(Debug)]
struct Request {
    puts: Vec<Put>,
    answer: oneshot::Sender<Answers>,
    _room: OwnedSemaphorePermit,
}

#[derive(Debug)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    work: Condvar,
    room: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Waiting {
    requests: VecDeque<Request>,
    closing: bool,
    /// The shard is closed: nobody commits any more.
    retired: bool,
    readers: BTreeMap<u64, (Instant, Waker)>,
    next_reader: u64,
}

impl Default for Queue {
    fn default() -> Self {
        Self { waiting: Mutex::default(), work: Condvar::new(), room: Arc::new(Semaphore::new(QUEUE_UNITS_MAX)) }
    }
}

/// What an append will hear.
pub(super) enum Answer {
    Now(Answers),
    Later(oneshot::Receiver<Answers>),
}

impl Answer {
    pub async fn wait(self) -> Answers {
        match self {
            Self::Now(answers) => answers,
            Self::Later(answers) => {
                answers.await.unwrap_or_else(|_| Err(Failure::Unknown("the committer has ended".to_owned())))
            }
        }
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets all waiting readers look again.
    pub fn wake_readers(&self) {
        let readers = mem::take(&mut self.lock().readers);
        for (_, waker) in readers.into_values() {
            waker.wake();
        }
    }

    /// The shard has closed, and says so: to who waits for its turn or its sync, and to readers. Whatever waits now is given back.
    pub fn retire(&self) {
        self.lock().retired = true;
        self.work.notify_all();
        self.wake_readers();
    }

    fn is_closing(&self) -> bool {
        self.lock().closing
    }
}

impl<D: Disk> ShardLog<D> {
    /// Commits in the caller.
    pub fn append_here(&self, puts: Vec<Put>) -> Answer {
        Answer::Now(answers(self.commit(puts)))
    }

    /// Hands over to the committer, once there is room. Dropped before: nothing is appended; dropped later: it is.
    pub async fn enqueue(&self, puts: Vec<Put>) -> Answer {
        let bytes: usize = puts.iter().map(|put| put.data.len() + put.partition_key.len()).sum();
        // An append larger than the queue goes alone.
        let units = (1 + puts.len() / 8 + bytes / UNIT_BYTES).min(QUEUE_UNITS_MAX);
        let closed = || Answer::Now(Err(Failure::Nothing("the stream was closed".to_owned())));
        let Ok(room) = self.queue.room.clone().acquire_many_owned(units as u32).await else { return closed() };
        let (answer, later) = oneshot::channel();
        let mut waiting = self.queue.lock();
        if waiting.closing {
            return closed();
        }
        if waiting.retired {
            return Answer::Now(Ok(Answered { answers: vec![], moved: puts }));
        }
        waiting.requests.push_back(Request { puts, answer, _room: room });
        drop(waiting);
        self.queue.work.notify_one();
        Answer::Later(later)
    }

    /// No new appends; those that wait are still committed.
    pub fn close(&self) {
        self.queue.lock().closing = true;
        self.queue.room.close();
        self.queue.work.notify_all();
        self.queue.wake_readers();
    }

    /// Waits until the log ends elsewhere than at `seen_end`, or the stream ends, or it is `until`.
    pub async fn changed(&self, seen_end: u64, until: Instant) -> Result<(), ReadError> {
        let mut place = Place { queue: &self.queue, reader: None };
        future::poll_fn(|context| {
            // Registered before looking: who publishes looks for readers afterwards.
            place.register(until, context.waker());
            let view = self.view();
            let changed = view.end != seen_end || view.closed || view.ended.is_some();
            drop(view);
            if self.queue.is_closing() {
                return Poll::Ready(Err(ReadError::Unavailable("it was closed".to_owned())));
            }
            if changed || Instant::now() >= until { Poll::Ready(Ok(())) } else { Poll::Pending }
        })
        .await
    }

    fn run(&self) {
        loop {
            let requests = {
                let mut waiting = self.queue.lock();
                loop {
                    let due = waiting.due(Instant::now());
                    if !due.is_empty() {
                        drop(waiting);
                        due.into_iter().for_each(Waker::wake);
                        waiting = self.queue.lock();
                        continue;
                    }
                    if !waiting.requests.is_empty() {
                        break mem::take(&mut waiting.requests);
                    }
                    if waiting.closing || waiting.retired {
                        return;
                    }
                    let next = waiting.readers.values().map(|(until, _)| *until).min();
                    waiting = match next {
                        None => self.queue.work.wait(waiting).unwrap_or_else(PoisonError::into_inner),
                        Some(until) => {
                            let pause = until.saturating_duration_since(Instant::now());
                            self.queue.work.wait_timeout(waiting, pause).unwrap_or_else(PoisonError::into_inner).0
                        }
                    };
                }
            };
            self.serve(requests);
        }
    }

    fn serve(&self, requests: VecDeque<Request>) {
        let mut puts = Vec::with_capacity(requests.iter().map(|request| request.puts.len()).sum());
        let mut callers = Vec::with_capacity(requests.len());
        for request in requests {
            callers.push((request.puts.len(), request.answer, request._room));
            puts.extend(request.puts);
        }
        let Done { answers: done, moved } = self.commit(puts);
        let (mut done, mut moved) = (done.into_iter(), moved.into_iter());
        for (count, caller, _room) in callers {
            let moved = moved.by_ref().take(count).collect();
            // A caller that is gone does not need the answer.
            let _ = caller.send(answers(Done { answers: done.by_ref().take(count).collect(), moved }));
        }
    }
}

impl Waiting {
    /// Takes out the readers whose time is up.
    fn due(&mut self, now: Instant) -> Vec<Waker> {
        self.readers.extract_if(.., |_, (until, _)| *until <= now).map(|(_, (_, waker))| waker).collect()
    }
}

/// A reader's place among those that wait; given up when it is dropped.
struct Place<'a> {
    queue: &'a Queue,
    reader: Option<u64>,
}

impl Place<'_> {
    fn register(&mut self, until: Instant, waker: &Waker) {
        let mut waiting = self.queue.lock();
        let reader = *self.reader.get_or_insert_with(|| {
            waiting.next_reader += 1;
            waiting.next_reader
        });
        waiting.readers.insert(reader, (until, waker.clone()));
        drop(waiting);
        self.queue.work.notify_one();
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(reader) = self.reader {
            self.queue.lock().readers.remove(&reader);
        }
    }
}

/// Starts the thread that commits for a shard until it is closed.
pub(super) fn start<D: Disk>(log: Arc<ShardLog<D>>) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(format!("commit {}", log.shard.id)).spawn(move || {
        let ends = EndOnPanic(&log);
        log.run();
        mem::forget(ends);
    })
}

struct EndOnPanic<'a, D: Disk>(&'a ShardLog<D>);

impl<D: Disk> Drop for EndOnPanic<'_, D> {
    fn drop(&mut self) {
        self.0.end("the committer panicked");
        self.0.close();
        self.0.queue.lock().requests.clear();
    }
}

/// One append's answers from those of its records.
fn answers(Done { answers: done, moved }: Done) -> Answers {
    if let Some(unknown) =
        done.iter().find_map(|one| one.as_ref().err().filter(|why| matches!(why, Failure::Unknown(_))))
    {
        return Err(unknown.clone());
    }
    if let Some(Err(nothing)) = done.first().filter(|_| done.iter().all(Result::is_err)) {
        return Err(nothing.clone());
    }
    let answers = done.into_iter().map(|one| one.map_err(|_| Refused::Failed)).collect();
    Ok(Answered { answers, moved })
}
