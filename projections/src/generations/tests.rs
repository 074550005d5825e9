#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use events::position::SequenceNumber;

use super::{
    record::{FIRST, FOLLOWS_MS, OPENING_MS, PROGRESS_MS, UNPROMOTED_MS},
    *,
};

const HOUR: i64 = 3600;
const HOUR_MS: i64 = HOUR * 1000;

fn opened(record: &mut Record, name: &str, start_ms: Option<i64>) -> Generation {
    let (generation, _) = record.open(name, start_ms, BTreeMap::new(), 0).unwrap();
    record.stands(generation, Standing::Following);
    generation
}

fn promoted(record: &mut Record, name: &str, now_ms: i64) {
    let promotion = record.promote(name, now_ms).unwrap();
    record.promoted(promotion.number, SequenceNumber::from_parts(0, 1), now_ms);
}

fn source(generation: u32, partials: Option<std::ops::Range<u16>>) -> Source {
    Source { generation: Generation(generation), partials }
}

#[test]
fn without_a_promotion_all_is_the_first_ones() {
    let view = View::of(&Record::default());
    assert_eq!(view.windows(0, HOUR), [(0..HOUR, vec![source(0, None)])]);
    assert_eq!(view.live(), Generation(0));
}

#[test]
fn windows_that_begin_less_than_two_hours_after_the_start_are_the_parents_earlier_partials_and_the_new_ones_later_ones()
{
    let mut record = Record::default();
    opened(&mut record, "b", Some(10 * HOUR_MS));
    promoted(&mut record, "b", 0);
    let view = View::of(&record);
    let early = vec![source(1, Some(1..u16::MAX)), source(0, Some(0..1))];
    assert_eq!(
        view.windows(0, 20 * HOUR),
        [(0..12 * HOUR, early.clone()), (12 * HOUR..20 * HOUR, vec![source(1, None)])]
    );
    assert_eq!(view.minutes(0, 20 * HOUR), [(0..10 * HOUR, early), (10 * HOUR..20 * HOUR, vec![source(1, None)])]);
}

#[test]
fn to_go_back_reads_the_first_whole_again_and_every_number_of_a_window_is_read_of_one_generation() {
    let mut record = Record::default();
    opened(&mut record, "b", Some(10 * HOUR_MS));
    promoted(&mut record, "b", 0);
    promoted(&mut record, FIRST, 1);
    assert_eq!(View::of(&record).windows(0, HOUR), [(0..HOUR, vec![source(0, None)])]);
    promoted(&mut record, "b", 2);
    let early = vec![source(1, Some(3..u16::MAX)), source(0, Some(0..3))];
    assert_eq!(View::of(&record).windows(0, HOUR), [(0..HOUR, early)]);
    opened(&mut record, "c", Some(20 * HOUR_MS));
    promoted(&mut record, "c", 3);
    let view = View::of(&record);
    let of_three = vec![source(2, Some(4..u16::MAX)), source(1, Some(3..4)), source(0, Some(0..3))];
    assert_eq!(view.windows(0, HOUR), [(0..HOUR, of_three)]);
    assert_eq!(view.windows(13 * HOUR, 14 * HOUR)[0].1, [source(2, Some(4..u16::MAX)), source(1, Some(0..4))]);
    for at in [0, 13 * HOUR, 30 * HOUR] {
        let sources = view.windows(at, at + 60).remove(0).1;
        let readers = |number| sources.iter().filter(|source| source.takes(Partial(number))).count();
        assert!((0..6).all(|number| readers(number) == 1), "{sources:?}");
    }
}

#[test]
fn one_is_opened_at_a_time_and_the_same_again_goes_on() {
    let mut record = Record::default();
    assert_eq!(record.open("b", Some(60_000), BTreeMap::new(), 0).unwrap(), (Generation(1), true));
    assert_eq!(record.open("b", Some(60_000), BTreeMap::new(), 9).unwrap(), (Generation(1), false));
    assert_eq!(record.open("b", None, BTreeMap::new(), 9), Err(OpenRefused::Taken("b".into())));
    assert_eq!(record.open("c", None, BTreeMap::new(), 9), Err(OpenRefused::UnderWay("b".into())));
    assert!(matches!(record.promote("b", 0), Err(PromoteRefused::Filling(_))));
    assert!(matches!(record.promote("x", 0), Err(PromoteRefused::Unknown { .. })));
    assert_eq!(record.promote(FIRST, 0), Err(PromoteRefused::Counts(FIRST.into())));
    for name in ["", FIRST, "a b", "é", &"x".repeat(65)] {
        assert!(matches!(record.open(name, None, BTreeMap::new(), 0), Err(OpenRefused::Name(_))), "{name}");
    }
    record.stands(Generation(1), Standing::Following);
    opened(&mut record, "c", None);
    assert_eq!(record.open("d", None, BTreeMap::new(), 9), Err(OpenRefused::Many));
}

#[test]
fn a_filling_ends_a_day_after_the_last_progress_that_was_said_and_only_where_another_is_opened() {
    let open = |record: &mut Record, name: &str, now_ms| record.open(name, None, BTreeMap::new(), now_ms);
    let mut record = Record::default();
    let (filled, _) = open(&mut record, "b", 0).unwrap();
    record.fill_from_archive(filled);
    assert!(record.entries[0].is_progress_due(0), "nothing was said yet");
    record.progresses(filled, OPENING_MS - 1);
    // By another host's clock.
    record.progresses(filled, 0);
    let due = |record: &Record, after_ms| record.entries[0].is_progress_due(OPENING_MS - 1 + after_ms);
    assert!(!due(&record, PROGRESS_MS - 1) && due(&record, PROGRESS_MS));
    let under_way = Err(OpenRefused::UnderWay("b".into()));
    assert_eq!(open(&mut record, "c", 2 * OPENING_MS - 2), under_way, "it moved a moment less than a day ago");
    assert_eq!(record.standing(filled), Standing::Opening);
    let (other, is_new) = open(&mut record, "c", 2 * OPENING_MS - 1).unwrap();
    assert!(is_new && record.standing(filled) == Standing::Ended);
    // Nobody has said anything of this one, and none that is over moves again.
    record.progresses(filled, 5 * OPENING_MS);
    assert_eq!(open(&mut record, "d", 3 * OPENING_MS - 2), Err(OpenRefused::UnderWay("c".into())));
    assert!(open(&mut record, "d", 3 * OPENING_MS - 1).is_ok() && record.standing(other) == Standing::Ended);
}

#[test]
fn a_promotion_that_was_cut_short_is_finished_before_another_begins() {
    let mut record = Record::default();
    opened(&mut record, "b", None);
    let begun = record.promote("b", 5).unwrap();
    assert_eq!((record.live(), record.promote("b", 9).unwrap()), (Generation(0), begun.clone()));
    assert_eq!(record.promote(FIRST, 9), Err(PromoteRefused::UnderWay("b".into())));
    record.promoted(begun.number, SequenceNumber::from_parts(0, 7), 9);
    assert_eq!((record.live(), record.unfinished()), (Generation(1), None));
}

#[test]
fn the_one_that_counted_can_be_gone_back_to_for_a_day_and_then_no_more() {
    let mut record = Record::default();
    let new = opened(&mut record, "b", None);
    assert!(!record.is_over(Generation(0), i64::MAX), "it counts");
    assert!(!record.is_over(new, UNPROMOTED_MS - 1) && record.is_over(new, UNPROMOTED_MS));
    promoted(&mut record, "b", 1_000);
    assert!(!record.is_over(new, i64::MAX), "it counts");
    assert!(!record.is_over(Generation(0), 999 + FOLLOWS_MS) && record.is_over(Generation(0), 1_000 + FOLLOWS_MS));
    promoted(&mut record, FIRST, 2_000);
    assert!(!record.is_over(Generation(0), i64::MAX) && record.is_over(new, 2_000 + FOLLOWS_MS));
    record.stands(new, Standing::Ended);
    assert_eq!(record.promote("b", 0), Err(PromoteRefused::Ended("b".into())));
    assert_eq!(record.folded(), [Generation(0)]);
}

#[test]
fn what_counts_stands_in_the_definition_in_force() {
    let live = Live { generation: Generation(7), promotion: 3 };
    let definition = |name: &str, body: String| Definition {
        revision: SequenceNumber::from_parts(0, 1),
        tenant: "local".into(),
        kind: definitions::GENERATION.into(),
        name: name.into(),
        body,
        by: String::new(),
        at_ms: 0,
    };
    assert_eq!(Live::of(&[definition(LIVE, live.body())]), live);
    assert_eq!(Live::of(&[definition("other", live.body()), definition(LIVE, "{}".into())]), Live::default());
    assert_eq!((Live::default().partial(), live.partial()), (Partial(0), Partial(3)));
}
