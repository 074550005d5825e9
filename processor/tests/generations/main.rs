//! Generations end to end, with a seed: another one is opened in the middle of a history, promoted, and gone back from, while shards split, merge and go,
//! go on in any order, and every process may crash between any two steps.
#![allow(clippy::unwrap_used, missing_docs)]

mod check;
#[path = "../parts/local.rs"]
mod local;
mod member;
#[path = "../archive/retained.rs"]
#[allow(dead_code)]
mod retained;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use events::stream::ReadOnly;
use processor::generations::{self, BeginError};
use projections::{
    fold::sabotage::{self, Sabotage},
    generations::{Standing, compared::LeftOut},
    store::{Day, Generation, Kind, Span, Store, law::block_on},
};

use self::{
    local::START_MS,
    world::{FIRST, World},
};

const ALARM: &str = r#"{"AlarmName":"slow","ServiceName":"shop","MetricName":"latency","Statistic":"Sum","Period":60,
    "EvaluationPeriods":2,"DatapointsToAlarm":1,"Threshold":100,"ComparisonOperator":"GreaterThanThreshold"}"#;

/// A history of some hours: an alarm, lines, another generation, its promotion, the way back, and once more.
fn history(seed: u64) {
    let mut world = World::new(seed);
    world.define("alarm", "slow", ALARM);
    world.minutes(20);
    let start = match world.random(4) {
        0 => generations::Start::Oldest,
        // What came just before is perhaps not folded yet.
        1 => generations::Start::Time(world.now_ms()),
        _ => generations::Start::Time(START_MS + 60_000 * world.random(world.minute as u64) as i64),
    };
    world.replay("b", start);
    world.minutes(4);
    world.check();
    world.promote("b");
    world.minutes(14);
    world.check();
    world.promote("first");
    world.minutes(6);
    world.check();
    world.promote("b");
    world.minutes(6);
    world.check();
    // A day later nobody folds the first one any more: what it has stays, and late lines of its time are the other's.
    world.settle();
    world.change(|record| record.stands(FIRST, Standing::Ended));
    world.crash();
    world.minutes(8);
    world.check();
}

#[test]
fn readers_see_each_line_once_and_effects_leave_once_whichever_generation_counts() {
    let seeds = std::env::var("WEIR_GENERATION_SEEDS").map_or(10, |seeds| seeds.parse().unwrap());
    for seed in 0..seeds {
        println!("seed {seed}");
        history(seed);
    }
}

#[test]
fn decisions_that_the_generation_that_counts_could_not_make_are_named_with_both_states() {
    let mut world = World::new(0);
    world.define("alarm", "slow", ALARM);
    let minute = |world: &mut World| {
        world.minute += 1;
        world.tick();
    };
    for _ in 0..2 {
        world.settle();
        minute(&mut world);
    }
    world.settle();
    // Values that the alarm rings for come and go while nobody folds, and the stream lets go of them.
    let rang = world.now_ms() / 1000 + 60;
    for latency in [500, 500, 1, 1] {
        world.line(world.now_ms() / 1000, latency);
        minute(&mut world);
    }
    let shard = world.shards()[0].id.clone();
    let log = world.log(&shard);
    world.stream.trim(&shard, log[log.len() - 2].sequence);
    world.has_lost = true;
    world.crash();
    world.settle();
    assert!(world.verify(FIRST).older_than_stream > 0);
    // The archive has all of it.
    world.stream.trimmed.lock().unwrap().clear();
    world.replay("whole", generations::Start::Archive);
    world.settle();
    let compared = world.compared("whole");
    assert_eq!((compared.windows, compared.windows_differ, compared.from_secs), (4, 4, None), "{compared:?}");
    assert!(compared.decisions > compared.decisions_differ, "what both have decided is no difference: {compared:?}");
    let named = |time_secs: i64| compared.first_decisions.iter().find(|differs| differs.time_secs == time_secs);
    let differs = named(rang).unwrap_or_else(|| panic!("{rang}: {compared:?}"));
    assert_eq!((&differs.alarm[..], differs.old.as_deref(), differs.new.as_deref()), ("slow", None, Some("ALARM")));
    assert_eq!(compared.first_decisions.len() as u64, compared.decisions_differ);
}

#[test]
fn records_that_go_between_the_start_and_the_first_fold_are_a_loss_that_is_told() {
    let mut world = World::new(0);
    world.minutes(3);
    world.settle();
    world.replay("b", generations::Start::Oldest);
    let shard = world.shards()[0].id.clone();
    let log = world.log(&shard);
    world.stream.trim(&shard, log[1].sequence);
    let found = catch_unwind(AssertUnwindSafe(|| world.settle())).unwrap_err();
    let found = found.downcast_ref::<String>().unwrap();
    assert!(found.contains("were trimmed; the oldest kept one is"), "{found}");
}

/// Each law, broken on purpose, is found within a hundred seeds.
fn is_found(broken: Sabotage) {
    sabotage::set(Some(broken));
    let found = (0..100).find(|seed| catch_unwind(AssertUnwindSafe(|| history(*seed))).is_err());
    sabotage::set(None);
    println!("{broken:?}: {found:?}");
    assert!(found.is_some(), "{broken:?} was not found");
}

#[test]
fn a_generation_that_acts_before_it_counts_is_found() {
    is_found(Sabotage::UnpromotedActs);
}

#[test]
fn one_that_acts_on_after_another_counts_is_found() {
    is_found(Sabotage::OldActsOn);
}

#[test]
fn partials_that_do_not_begin_at_the_promotion_are_found() {
    is_found(Sabotage::PartialNotBegun);
}

#[test]
fn readers_that_take_both_partials_are_found() {
    is_found(Sabotage::ReadersTakeBoth);
}

#[test]
fn words_that_a_crash_takes_along_are_found() {
    is_found(Sabotage::WordsNotKept);
}

#[test]
fn marks_from_before_the_start_that_are_missing_are_found() {
    is_found(Sabotage::MarksNotGiven);
}

#[test]
fn children_that_do_not_know_whose_marks_are_theirs_are_found() {
    is_found(Sabotage::EndsNotGiven);
}

#[test]
fn a_generation_does_not_begin_before_all_that_came_earlier_is_folded() {
    for broken in [None, Some(Sabotage::BeginsUnfolded)] {
        let mut world = World::new(0);
        world.line(world.now_ms() / 1000, 1);
        world.minute += 2;
        world.tick();
        // Nobody has folded the line, which came before the start.
        let (stream, start) = (ReadOnly::new(world.stream.clone()), generations::Start::Time(world.now_ms()));
        let began = block_on(generations::begin(&stream, &*world.store, FIRST, &start)).unwrap();
        sabotage::set(broken);
        let given = block_on(generations::give(&stream, &*world.store, FIRST, Generation(1), &began));
        sabotage::set(None);
        let is_refused = matches!(given, Err(BeginError::Unfolded { .. }));
        assert_eq!(is_refused, broken.is_none(), "{broken:?}: {given:?}");
        world.settle();
        block_on(generations::give(&stream, &*world.store, FIRST, Generation(1), &began)).unwrap();
    }
}

#[test]
fn a_comparison_of_rows_of_which_one_is_further_is_found() {
    is_found(Sabotage::MovingCompared);
}

/// Of a shard that only an archive still lists the generation was given nothing, and nothing of it comes behind the start.
#[test]
fn a_shard_that_only_the_archive_has_and_that_had_ended_before_the_start_is_no_difference() {
    let mut world = World::new(0);
    world.define("alarm", "slow", ALARM);
    let pass = |world: &mut World| {
        world.line(world.now_ms() / 1000, 1);
        world.minute += 1;
        world.tick();
        world.settle();
    };
    pass(&mut world);
    for _ in 0..2 {
        // So the first one is neither listed nor a parent of one that is.
        world.halve();
        pass(&mut world);
    }
    world.minute += 1;
    world.let_go(world.minute);
    assert!(world.shards().iter().all(|shard| !shard.closed), "those that have ended are gone");
    world.minute += 1;
    world.tick();
    world.replay("b", generations::Start::Time(world.now_ms()));
    pass(&mut world);
    let generation = world.record().named("b").unwrap();
    for broken in [None, Some(Sabotage::EndedIsNew)] {
        sabotage::set(broken);
        let found = catch_unwind(AssertUnwindSafe(|| world.verify_by_archive(generation)));
        sabotage::set(None);
        assert_eq!(
            found.as_ref().is_ok_and(|differences| *differences == 0),
            broken.is_none(),
            "{broken:?}: {found:?}"
        );
    }
}

#[test]
fn what_only_one_of_both_has_folded_so_far_is_left_out_and_compared_once_both_have() {
    let mut world = World::new(0);
    let pass = |world: &mut World| {
        world.line(world.now_ms() / 1000, 1);
        world.minute += 1;
        world.tick();
    };
    pass(&mut world);
    world.settle();
    world.replay("b", generations::Start::Oldest);
    world.settle();
    let all = world.compared("b");
    assert_eq!((all.windows, all.windows_differ, all.moving), (1, 0, LeftOut::default()));
    // One more minute, and one more line of the first, which the generation that counts alone has folded.
    let again = world.now_ms() / 1000;
    pass(&mut world);
    world.line(again - 60, 1);
    world.settle_one(FIRST);
    let compared = world.compared("b");
    let moving = LeftOut { windows: 2, decisions: 0, first_secs: Some(again - 60), last_secs: Some(again) };
    assert_eq!((compared.windows, compared.windows_differ, compared.moving), (0, 0, moving), "{compared:?}");
    world.settle();
    let compared = world.compared("b");
    assert_eq!((compared.windows, compared.windows_differ, compared.moving), (2, 0, LeftOut::default()));
    // What is missing that ought to be there is a difference, also where the row of the other goes on.
    let span = Span::All { tenant: None, generation: Generation(1), kind: Kind::Window };
    let rows = block_on(world.store.scan(&span, None, 10.try_into().unwrap())).unwrap().rows;
    assert_eq!(rows.len(), 2);
    block_on(world.store.expire(Generation(1), Kind::Window, Day(u16::MAX))).unwrap();
    world.line(again, 1);
    world.settle_one(FIRST);
    let compared = world.compared("b");
    assert_eq!((compared.windows, compared.windows_differ, compared.moving), (2, 2, LeftOut::default()));
}

#[test]
fn marks_from_behind_the_start_that_were_given_are_found() {
    is_found(Sabotage::LateShardsGivenWhole);
}
