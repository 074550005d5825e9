#![allow(clippy::unwrap_used)]
//! The suite on the store in memory, and on stores that are broken on purpose: a suite that finds nothing is worth nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{
    Adapter,
    memory::{Broken, Commits, Memory},
};

struct Memories(Commits, Option<Broken>);

impl Adapter for Memories {
    type Store = Memory;

    fn empty(&self) -> Memory {
        match self.1 {
            Some(broken) => Memory::broken(self.0, broken),
            None => Memory::new(self.0),
        }
    }

    fn mortal(&self, changes: u64) -> Option<Memory> {
        let store = self.empty();
        store.die_after(changes);
        Some(store)
    }

    fn revive(&self, dead: Memory) -> Memory {
        dead.revived()
    }
}

mod whole {
    crate::store_laws!(super::Memories(super::Commits::Whole, None));
}

mod item_by_item {
    crate::store_laws!(super::Memories(super::Commits::ItemByItem, None));
}

/// Which law finds which fault. Others may find it too; this one is there for it.
const FOUND_BY: [(Broken, &str); 30] = [
    (Broken::EqualReplaces, "a_row_is_replaced_only_by_one_that_goes_further"),
    (Broken::AnythingReplaces, "workers_in_any_order_leave_the_furthest_rows"),
    (Broken::LostHearsItself, "a_row_is_replaced_only_by_one_that_goes_further"),
    (Broken::LoserEndsTheWrite, "each_row_of_a_write_has_its_own_condition"),
    (Broken::OldBodyStays, "a_row_is_replaced_only_by_one_that_goes_further"),
    (Broken::OldDayStays, "a_row_is_replaced_only_by_one_that_goes_further"),
    (Broken::RefusesLate, "what_is_too_large_is_refused_whole"),
    (Broken::ResumePointFirst, "a_crash_leaves_no_resume_point_without_its_rows_and_parts"),
    (Broken::ResumePointGoesBack, "a_resume_point_only_moves_forward"),
    (Broken::EndIsNoPlace, "a_resume_point_moves_to_the_end_of_its_shard"),
    (Broken::ForgetsReferredParts, "parts_are_kept_by_reference_and_go_when_unnamed"),
    (Broken::KeepsUnnamedParts, "parts_are_kept_by_reference_and_go_when_unnamed"),
    (Broken::NamesGoneParts, "a_resume_point_never_names_a_part_that_is_gone"),
    (Broken::LoserSweepsParts, "a_resume_point_never_names_a_part_that_is_gone"),
    (Broken::SpanHoldsItsEnd, "a_span_holds_its_first_place_and_not_its_last"),
    (Broken::TenantPrefix, "a_span_shows_nothing_of_others"),
    (Broken::SubjectPrefix, "a_span_shows_nothing_of_others"),
    (Broken::UnsignedPlaces, "a_scan_has_the_order_of_the_keys"),
    (Broken::PageRepeats, "pages_neither_skip_nor_repeat"),
    (Broken::PageSkips, "pages_neither_skip_nor_repeat"),
    (Broken::PageByCount, "pages_neither_skip_nor_repeat_while_rows_are_written"),
    (Broken::AnswersSorted, "reads_answer_in_the_order_of_their_keys"),
    (Broken::MissingLeftOut, "reads_answer_in_the_order_of_their_keys"),
    (Broken::ExpiresItsEnd, "rows_past_their_time_go_and_others_stay"),
    (Broken::ExpiresByPlace, "rows_past_their_time_go_and_others_stay"),
    (Broken::ExpiresEveryKind, "definitions_and_states_of_alarms_never_expire"),
    (Broken::ExpiresWhatItSaw, "an_expiry_takes_no_row_that_was_replaced_meanwhile"),
    (Broken::ExpiresEveryGeneration, "rows_past_their_time_go_and_others_stay"),
    (Broken::ReadsLate, "what_was_acknowledged_is_seen_by_all_threads"),
    (Broken::ChecksThenPuts, "what_was_acknowledged_is_seen_by_all_threads"),
];

#[test]
fn every_store_that_is_broken_on_purpose_is_found_by_its_law() {
    // Threads may miss each other once, but not always.
    const ATTEMPTS_MAX: usize = 50;
    let laws = crate::store_laws!(@laws table Memories);
    for (broken, name) in FOUND_BY {
        let (_, law) = laws.iter().find(|(law, _)| *law == name).unwrap();
        let adapter = Memories(Commits::ItemByItem, Some(broken));
        let mut attempts = (0..ATTEMPTS_MAX).map(|_| catch_unwind(AssertUnwindSafe(|| law(&adapter))));
        assert!(attempts.any(|outcome| outcome.is_err()), "{name} does not find {broken:?}");
    }
    let listed = FOUND_BY.map(|(broken, _)| broken);
    assert_eq!(listed, Broken::ALL, "each fault has its law");
}
