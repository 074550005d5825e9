//! The laws of the port, against each program that plays DynamoDB.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::gate::{Act, Gate, client, wait};
use crate::{
    dynamodb::{Create, DynamoDb, call::Pace},
    store::{Day, law::Adapter},
};

/// Waits of a test: short, and as many.
pub(super) const PACE: Pace = Pace { first: Duration::from_micros(100), most: Duration::from_millis(2) };

/// A prefix that nobody else in this process uses.
pub(super) fn prefix() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("weir-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Empty tables, through an endpoint.
pub(super) fn open(endpoint: &str, prefix: &str) -> DynamoDb {
    let (mut store, made) = wait(DynamoDb::open(&client(endpoint), prefix, Create::Missing)).unwrap();
    assert_eq!(made.len(), 3);
    store.pace = PACE;
    store.today = today;
    store
}

/// The day on which the tests' rows are folded.
pub(super) fn today() -> Day {
    Day(20_000)
}

/// The same tables, as another process finds them.
pub(super) fn again(endpoint: &str, prefix: &str) -> DynamoDb {
    let mut store = DynamoDb::over(&client(endpoint), prefix);
    (store.pace, store.today) = (PACE, today);
    store
}

pub(super) struct Played {
    endpoint: fn() -> &'static str,
    /// The tables of the store that may be killed.
    mortal: Mutex<Option<String>>,
    /// Parts are items of their own, however small.
    parts_apart: bool,
}

impl Played {
    pub(super) const fn by(endpoint: fn() -> &'static str) -> Self {
        Self { endpoint, mortal: Mutex::new(None), parts_apart: false }
    }

    pub(super) const fn with_parts_as_items(endpoint: fn() -> &'static str) -> Self {
        Self { endpoint, mortal: Mutex::new(None), parts_apart: true }
    }

    fn laid_out(&self, store: DynamoDb) -> DynamoDb {
        if self.parts_apart { DynamoDb { held_bytes_max: 0, ..store } } else { store }
    }
}

impl Adapter for Played {
    type Store = DynamoDb;

    fn empty(&self) -> DynamoDb {
        self.laid_out(open((self.endpoint)(), &prefix()))
    }

    fn mortal(&self, changes: u64) -> Option<DynamoDb> {
        let prefix = prefix();
        drop(open((self.endpoint)(), &prefix));
        let left = AtomicU64::new(changes);
        let gate = Gate::before((self.endpoint)(), move |request| {
            if !matches!(request.operation.as_str(), "PutItem" | "UpdateItem" | "DeleteItem") {
                return if left.load(Ordering::SeqCst) > 0 { Act::Pass } else { Act::Cut };
            }
            let before = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
            match before {
                // Every other one dies with its last change done and nobody told.
                Ok(1) if changes % 2 == 1 => Act::PassAndCut,
                Ok(_) => Act::Pass,
                Err(_) => Act::Cut,
            }
        });
        *self.mortal.lock().unwrap() = Some(prefix.clone());
        Some(self.laid_out(again(&gate.endpoint, &prefix)))
    }

    fn is_far(&self) -> bool {
        true
    }

    fn revive(&self, _dead: DynamoDb) -> DynamoDb {
        self.laid_out(again((self.endpoint)(), &self.mortal.lock().unwrap().take().unwrap()))
    }

    fn wait<F: Future>(&self, future: F) -> F::Output {
        wait(future)
    }
}

pub(super) fn dynalite() -> &'static str {
    &emulators::dynamodb().endpoint
}

pub(super) fn ministack() -> &'static str {
    &emulators::aws().endpoint
}

mod on_dynalite {
    crate::store_laws!(super::Played::by(super::dynalite));
}

mod on_dynalite_with_parts_as_items {
    crate::store_laws! { @tests super::Played::with_parts_as_items(super::dynalite);
        a_resume_point_only_moves_forward
        a_resume_point_moves_to_the_end_of_its_shard
        a_resume_point_never_names_a_part_that_is_gone
        a_commit_brings_its_rows_and_parts
        parts_are_kept_by_reference_and_go_when_unnamed
        a_crash_leaves_no_resume_point_without_its_rows_and_parts
    }
}

mod on_ministack {
    // Another reader of the same interface, and slow: only laws of what programs that play DynamoDB differ in.
    crate::store_laws! { @tests super::Played::by(super::ministack);
        a_row_is_replaced_only_by_one_that_goes_further
        each_row_of_a_write_has_its_own_condition
        reads_answer_in_the_order_of_their_keys
        what_is_too_large_is_refused_whole
        a_span_holds_its_first_place_and_not_its_last
        a_row_that_is_folded_into_again_lives_on
        a_resume_point_only_moves_forward
        parts_are_kept_by_reference_and_go_when_unnamed
    }
}
