//! The laws of the Store port: every adapter runs this suite, and what has not passed it does not count as a store.
//!
//! An adapter's tests say `projections::store_laws!(adapter)`, which makes one test of each law. The suite itself is tested on stores that are
//! broken on purpose (`memory::Broken`): each must be found.

mod commits;
mod expiry;
pub mod faulty;
pub mod memory;
mod names;
mod races;
pub mod random;
mod rows;
mod scans;

use std::{
    future::Future,
    num::NonZeroUsize,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::Thread,
};

use events::position::{SequenceNumber, ShardId};

pub use self::{commits::*, expiry::*, names::*, races::*, rows::*, scans::*};
use super::{Day, Generation, Kind, Partial, Row, RowKey, Span, Store, Subject, Written};

/// How the suite gets stores of the adapter under test. A closure that makes an empty store is one.
pub trait Adapter: Sync {
    /// The adapter.
    type Store: Store;

    /// A store that holds nothing and that nobody else uses.
    fn empty(&self) -> Self::Store;

    /// An empty store that dies after so many of the changes it makes to what it stands on: items put, blocks written. From then on it
    /// answers nothing but errors. `None`: it cannot be killed, and the laws of crashes say nothing about it.
    fn mortal(&self, _changes: u64) -> Option<Self::Store> {
        None
    }

    /// What a new process finds where that store died.
    fn revive(&self, dead: Self::Store) -> Self::Store {
        dead
    }

    /// True where each request is a way to another program and back: laws then take larger steps.
    fn is_far(&self) -> bool {
        false
    }

    /// Waits for a future: an adapter that needs a runtime brings its own. Called from several threads at once.
    fn wait<F: Future>(&self, future: F) -> F::Output {
        block_on(future)
    }
}

impl<S: Store, F: Fn() -> S + Sync> Adapter for F {
    type Store = S;

    fn empty(&self) -> S {
        self()
    }
}

/// Makes a test of each law for an adapter: `projections::store_laws!(adapter)`, in a module of its own.
#[macro_export]
macro_rules! store_laws {
    ($adapter:expr) => {
        $crate::store_laws! { @laws tests $adapter }
    };
    (@tests $adapter:expr; $($law:ident)*) => {
        $(#[test]
        fn $law() {
            $crate::store::law::$law(&$adapter);
        })*
    };
    (@table $adapter:ty; $($law:ident)*) => {
        [$((stringify!($law), $crate::store::law::$law::<$adapter> as fn(&$adapter))),*]
    };
    (@laws $use:ident $($adapter:tt)*) => {
        $crate::store_laws! { @$use $($adapter)*;
            a_row_is_replaced_only_by_one_that_goes_further
            a_row_keeps_every_field
            each_row_of_a_write_has_its_own_condition
            the_same_row_twice_is_stored_and_then_lost_to_itself
            an_empty_write_does_nothing
            reads_answer_in_the_order_of_their_keys
            what_is_too_large_is_refused_whole
            names_that_no_key_can_hold_are_refused_and_hide_nothing
            a_scan_has_the_order_of_the_keys
            a_span_shows_nothing_of_others
            a_span_holds_its_first_place_and_not_its_last
            pages_neither_skip_nor_repeat
            pages_neither_skip_nor_repeat_while_rows_are_written
            a_walk_shows_what_a_scan_gives
            rows_past_their_time_go_and_others_stay
            a_row_that_is_folded_into_again_lives_on
            definitions_and_states_of_alarms_never_expire
            an_expiry_takes_no_row_that_was_replaced_meanwhile
            a_resume_point_only_moves_forward
            a_resume_point_moves_to_the_end_of_its_shard
            a_commit_brings_its_rows_and_parts
            parts_are_kept_by_reference_and_go_when_unnamed
            a_resume_point_never_names_a_part_that_is_gone
            a_crash_leaves_no_resume_point_without_its_rows_and_parts
            workers_in_any_order_leave_the_furthest_rows
            what_was_acknowledged_is_seen_by_all_threads
            a_scan_sees_what_was_acknowledged_before_it_began
        }
    };
}

/// Waits for a future on this thread.
pub fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}

pub(super) fn seq(number: u64) -> SequenceNumber {
    SequenceNumber::from_parts(1, number)
}

pub(super) fn subject(tenant: &str, name: &str) -> Subject {
    Subject { tenant: tenant.to_owned(), generation: Generation(0), kind: Kind::Window, name: name.to_owned() }
}

pub(super) fn key(name: &str, at: i64) -> RowKey {
    RowKey { subject: subject("tenant", name), at, shard: ShardId::numbered(0), partial: Partial(0), page: 0 }
}

/// A row through a position, whose other fields follow from key and position, so that a mixture of two shows.
pub(super) fn row(key: RowKey, through: u64) -> Row {
    let body = format!("{key:?} through {through}").into_bytes().into();
    let folded_on = Day(through as u16);
    Row {
        key,
        applied_from: seq(through / 2),
        applied_through: seq(through),
        folded_on,
        fold_revision: through as u32,
        body,
    }
}

pub(super) fn everything(tenant: Option<&str>) -> Span {
    Span::All { tenant: tenant.map(str::to_owned), generation: Generation(0), kind: Kind::Window }
}

/// A store and how to wait for it: what the laws talk to.
pub(super) struct Bench<'a, A: Adapter> {
    adapter: &'a A,
    pub(super) store: A::Store,
}

impl<'a, A: Adapter> Bench<'a, A> {
    pub(super) fn empty(adapter: &'a A) -> Self {
        Self { adapter, store: adapter.empty() }
    }

    pub(super) fn wait<F: Future>(&self, future: F) -> F::Output {
        self.adapter.wait(future)
    }

    pub(super) fn write(&self, rows: &[Row]) -> Vec<Written> {
        let written = self.wait(self.store.write(rows.to_vec())).expect("a write without faults is answered");
        assert_eq!(written.len(), rows.len(), "one answer for each row");
        written
    }

    pub(super) fn read(&self, key: &RowKey) -> Option<Row> {
        let rows = self.wait(self.store.read(std::slice::from_ref(key))).expect("a read without faults is answered");
        assert_eq!(rows.len(), 1, "one answer for each key");
        rows.into_iter().next().flatten()
    }

    /// All rows of a span, by pages of a size.
    pub(super) fn scan(&self, span: &Span, limit: usize) -> Vec<Row> {
        self.scan_and(span, limit, || {})
    }

    /// The same, and something is done between pages.
    pub(super) fn scan_and(&self, span: &Span, limit: usize, mut between: impl FnMut()) -> Vec<Row> {
        const PAGES_MAX: usize = 10_000;
        let limit = NonZeroUsize::new(limit).expect("a limit of at least one row");
        let (mut rows, mut after) = (Vec::new(), None);
        for _ in 0..PAGES_MAX {
            let page =
                self.wait(self.store.scan(span, after.as_ref(), limit)).expect("a scan without faults is answered");
            assert!(page.rows.len() <= limit.get(), "{} rows on a page of {limit}", page.rows.len());
            rows.extend(page.rows);
            let Some(next) = page.next_after else { return rows };
            assert!(
                after.is_none_or(|after| after < next),
                "a page ends at {next:?}, which is not further than the one before"
            );
            after = Some(next);
            between();
        }
        panic!("a scan of few rows had not ended after {PAGES_MAX} pages");
    }
}

#[cfg(test)]
mod tests;
