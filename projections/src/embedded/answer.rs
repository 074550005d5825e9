//! A value that one thread owes another's future. No runtime is needed: the future is woken by whoever answers.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

struct State<T> {
    value: Option<T>,
    debtor_gone: bool,
    waker: Option<Waker>,
}

/// Who owes the answer; dropped without one, the future gets `None`.
pub(super) struct Debtor<T>(Arc<Mutex<State<T>>>);

/// Who waits for it.
pub(super) struct Answer<T>(Arc<Mutex<State<T>>>);

pub(super) fn owed<T>() -> (Debtor<T>, Answer<T>) {
    let state = Arc::new(Mutex::new(State { value: None, debtor_gone: false, waker: None }));
    (Debtor(Arc::clone(&state)), Answer(state))
}

fn lock<T>(state: &Mutex<State<T>>) -> MutexGuard<'_, State<T>> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T> Debtor<T> {
    pub(super) fn answer(self, value: T) {
        lock(&self.0).value = Some(value);
    }
}

impl<T> Drop for Debtor<T> {
    fn drop(&mut self) {
        let waker = {
            let mut state = lock(&self.0);
            state.debtor_gone = true;
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Future for Answer<T> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        let mut state = lock(&self.0);
        if state.debtor_gone {
            return Poll::Ready(state.value.take());
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }
}
