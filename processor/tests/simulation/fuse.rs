//! A process that dies at any await: every call to a port burns some of a fuse, and where it ends, nothing goes on.

use std::{
    pin::pin,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    task::Poll,
};

/// See the module. One process runs at a time.
#[derive(Debug, Default)]
pub struct Fuse {
    left: AtomicU32,
    is_lit: AtomicBool,
    is_dead: AtomicBool,
}

impl Fuse {
    /// One step nearer to the end; never returns there.
    pub async fn burn(&self) {
        if self.is_lit.load(Ordering::Relaxed) {
            let left = self.left.load(Ordering::Relaxed);
            if left == 0 {
                self.is_dead.store(true, Ordering::Relaxed);
                return std::future::pending().await;
            }
            self.left.store(left - 1, Ordering::Relaxed);
        }
    }

    /// From here on it burns.
    pub fn light(&self, after: u32) {
        self.left.store(after, Ordering::Relaxed);
        self.is_lit.store(true, Ordering::Relaxed);
    }

    /// Runs what a process does. `after`: it dies when the fuse has burnt so often; `None` is the answer then.
    pub fn run<F: Future>(&self, runtime: &tokio::runtime::Runtime, after: Option<u32>, work: F) -> Option<F::Output> {
        self.left.store(after.unwrap_or(0), Ordering::Relaxed);
        self.is_lit.store(after.is_some(), Ordering::Relaxed);
        self.is_dead.store(false, Ordering::Relaxed);
        let mut work = pin!(work);
        let answer = runtime.block_on(std::future::poll_fn(|context| match work.as_mut().poll(context) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending if self.is_dead.load(Ordering::Relaxed) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }));
        self.is_lit.store(false, Ordering::Relaxed);
        answer
    }
}
