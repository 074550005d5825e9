//! The file that becomes a shard's next segment: written full of zeros beforehand, because syncing into it takes half as long (`design.md` has
//! the figures). Decides when it is made; the stream goes on without one when it is not ready.

use std::{
    io, mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use super::{Commit, Options, disk::Disk, segment};
use crate::position::ShardId;

/// A stream that has taken so much is worth a spare, and worth leaving a first segment that is none. One that has not stays small.
const WORTH_BYTES: u64 = 1 << 20;

#[derive(Debug)]
pub(super) struct Spare<D: Disk> {
    disk: D,
    bytes: u64,
    inline: bool,
    stop: Arc<AtomicBool>,
    state: Mutex<State<D::File>>,
}

#[derive(Debug)]
enum State<F> {
    None,
    Making(JoinHandle<io::Result<Option<F>>>),
    Ready(F),
    /// Not tried again before the next segment: the disk is full, or worse.
    Failed,
}

impl<D: Disk> Spare<D> {
    pub fn new(disk: &D, options: &Options) -> Self {
        let inline = options.commit == Commit::Inline;
        Self {
            disk: disk.clone(),
            bytes: options.segment_bytes,
            inline,
            stop: Arc::default(),
            state: State::None.into(),
        }
    }

    /// True if it is time to make one: the segment being written has taken so many bytes, and is a former spare or not.
    pub fn is_wanted(&self, taken: u64, filled: bool) -> bool {
        taken >= if filled || self.inline { self.bytes / 2 } else { WORTH_BYTES.min(self.bytes / 2) }
    }

    /// True if a segment that has taken so many bytes, and was no spare, is better left for the spare now than when it is full.
    pub fn is_better(&self, taken: u64) -> bool {
        !self.inline && taken >= WORTH_BYTES.min(self.bytes / 2) && self.is_ready()
    }

    /// Starts making it, unless that was done. Errors are not told: a segment is then made without it, and says what is wrong.
    pub fn make(&self, shard: &ShardId) {
        let mut state = self.lock();
        if !matches!(*state, State::None) {
            return;
        }
        let (disk, bytes, stop, shard) = (self.disk.clone(), self.bytes, self.stop.clone(), shard.clone());
        let fill = move || segment::fill_spare(&disk, &shard, bytes, || stop.load(Ordering::Relaxed));
        *state = if self.inline {
            settled(fill())
        } else {
            let thread = thread::Builder::new().name("spare segment".to_owned()).spawn(fill);
            thread.map_or(State::Failed, State::Making)
        };
    }

    fn is_ready(&self) -> bool {
        let mut state = self.lock();
        self.settle(&mut state);
        matches!(*state, State::Ready(_))
    }

    /// The file, if it is ready; from now on another may be made.
    pub fn take(&self) -> Option<D::File> {
        let mut state = self.lock();
        self.settle(&mut state);
        match mem::replace(&mut *state, State::None) {
            State::Ready(file) => Some(file),
            making @ State::Making(_) => {
                *state = making;
                None
            }
            State::None | State::Failed => None,
        }
    }

    /// Nothing will be made any more; what is being made ends by itself.
    pub fn give_up(&self) {
        self.stop.store(true, Ordering::Relaxed);
        let mut state = self.lock();
        if !matches!(*state, State::Making(_)) {
            *state = State::Failed;
        }
    }

    /// Returns when nothing is being made any more, and nothing will be.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        let making = mem::replace(&mut *self.lock(), State::Failed);
        if let State::Making(thread) = making {
            // Whatever it made is worth nothing now.
            let _ = thread.join();
        }
    }

    fn settle(&self, state: &mut State<D::File>) {
        if let State::Making(thread) = state
            && thread.is_finished()
            && let State::Making(thread) = mem::replace(state, State::None)
        {
            *state = thread.join().map_or(State::Failed, settled);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<D::File>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn settled<F>(made: io::Result<Option<F>>) -> State<F> {
    match made {
        Ok(Some(file)) => State::Ready(file),
        // A failed sync too: nothing stands in that file yet, and it will not be used.
        Ok(None) | Err(_) => State::Failed,
    }
}
