//! The real fold, resume logic, wire and packer in simulated worlds: crashes, zombies, redelivery, lost answers, jumping clocks, slow shards. Each
//! world comes from a seed and nothing else, and is held against a plain model after every step.
//!
//! `WEIR_SIM_SEEDS=1000000` runs so many (`WEIR_SIM_SHARD_SEEDS` on several numbers of shards), `WEIR_SIM_FIRST=17` begins there, `WEIR_SIM_THREADS=1` has one thread: so a range of seeds is split over
//! processes or machines, best with `cargo test --release`. A failure names its seed and prints its schedule;
//! `WEIR_SIM_FIRST=17 WEIR_SIM_SEEDS=1 WEIR_SIM_TRACE=1` prints it again.
#![allow(clippy::unwrap_used, missing_docs)]

mod actors;
mod alarms;
mod check;
mod fuse;
mod input;
mod logged;
mod model;
mod reference;
mod schedule;
mod shape;
mod shards;
mod store;
mod stream;
mod world;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use projections::fold::{
    limits::{self, Limits},
    sabotage::{self, Sabotage},
};

use self::{
    actors::BrokenIngest,
    store::BrokenStore,
    world::{Broken, Seen, World},
};

const SEEDS: u64 = 10_000;
const SHARD_SEEDS: u64 = 300;
/// Within so many seeds a law that is broken on purpose is found.
const FOUND_WITHIN: u64 = 100;

fn runtime() -> Arc<tokio::runtime::Runtime> {
    Arc::new(tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap())
}

/// `Err`: what was found, and after which step.
fn run(
    seed: u64,
    broken: Option<Broken>,
    runtime: &Arc<tokio::runtime::Runtime>,
    trace: Option<&mut Vec<String>>,
) -> Result<Seen, String> {
    sabotage::set(if let Some(Broken::Fold(broken)) = broken { Some(broken) } else { None });
    let mut world = World::new(seed, broken, runtime.clone(), trace.is_some());
    limits::set(world.shape.limits);
    let answer = catch_unwind(AssertUnwindSafe(|| world.run())).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string())).unwrap_or_default())
    });
    sabotage::set(None);
    limits::set(Limits::REAL);
    if let Some(trace) = trace {
        trace.push(format!("{:#?}", world.shape));
        trace.append(world.trace.as_mut().unwrap());
    }
    answer.map_err(|what| format!("seed {seed}, step {}: {what}", world.step))
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

#[test]
fn no_schedule_of_crashes_zombies_and_lost_answers_changes_what_the_rows_say() {
    let (first, seeds) = (number("WEIR_SIM_FIRST").unwrap_or(0), number("WEIR_SIM_SEEDS").unwrap_or(SEEDS));
    let next = AtomicU64::new(first);
    let records = AtomicU64::new(0);
    let cores = || std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let threads = number("WEIR_SIM_THREADS").unwrap_or_else(cores);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let runtime = runtime();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + seeds {
                        return;
                    }
                    match run(seed, None, &runtime, None) {
                        Ok(seen) => records.fetch_add(seen.records, Ordering::Relaxed),
                        Err(what) => {
                            next.store(u64::MAX / 2, Ordering::Relaxed);
                            let mut trace = vec![];
                            let _ = run(seed, None, &runtime, Some(&mut trace));
                            panic!("{}\n{what}", trace.join("\n"));
                        }
                    };
                    if number("WEIR_SIM_TRACE").is_some() {
                        let mut trace = vec![];
                        let _ = run(seed, None, &runtime, Some(&mut trace));
                        println!("{}", trace.join("\n"));
                    }
                }
            });
        }
    });
    println!("{seeds} seeds from {first} on, {} records", records.into_inner());
}

#[test]
fn the_number_of_shards_changes_neither_merged_rows_nor_transitions() {
    let seeds = number("WEIR_SIM_SHARD_SEEDS").unwrap_or(SHARD_SEEDS);
    let changes: usize = (0..seeds).map(|seed| shards::compare(seed).unwrap_or_else(|what| panic!("{what}"))).sum();
    assert!(changes as u64 > seeds, "only {changes} transitions: this looked at nothing");
}

#[test]
fn splits_and_merges_change_no_merged_row_and_no_transition_and_verify_finds_each_partial() {
    let seeds = number("WEIR_SIM_SHARD_SEEDS").unwrap_or(SHARD_SEEDS);
    let compared = (0..seeds).map(|seed| shards::compare_resharded(seed).unwrap_or_else(|what| panic!("{what}")));
    let (shards, changes) = compared.fold((0, 0), |all, of| (all.0 + of.0, all.1 + of.1));
    assert!(shards as u64 > 4 * seeds, "only {shards} shards: this looked at nothing");
    assert!(changes as u64 > seeds, "only {changes} transitions: this looked at nothing");
}

#[test]
fn the_comparison_of_histories_would_see_what_children_do_wrong() {
    use Sabotage::{
        ChildWithoutMarks, HomesLeftBehind, HomesOfAll, MergeTakesOneParent, MinutesLeftBehind, RestUntold,
    };
    for broken in [ChildWithoutMarks, MergeTakesOneParent, HomesLeftBehind, MinutesLeftBehind, HomesOfAll, RestUntold] {
        sabotage::set(Some(broken));
        let found = (0..FOUND_WITHIN).find_map(|seed| shards::compare_resharded(seed).err());
        sabotage::set(None);
        println!("{broken:?}: {}", found.as_deref().unwrap_or("NOT FOUND").chars().take(200).collect::<String>());
        assert!(found.is_some(), "{broken:?} went unnoticed in {FOUND_WITHIN} seeds");
    }
}

#[test]
fn the_comparison_of_shards_would_see_definitions_of_later_minutes() {
    sabotage::set(Some(Sabotage::PendingByLaterDefinitions));
    let found = (0..FOUND_WITHIN).find_map(|seed| shards::compare(seed).err());
    sabotage::set(None);
    assert!(found.is_some(), "decisions by later definitions went unnoticed in {FOUND_WITHIN} seeds");
}

#[test]
fn a_replay_finds_what_shards_told_each_other_wrongly_unless_it_believes_them() {
    let runtime = runtime();
    let found = (0..FOUND_WITHIN).find(|seed| {
        let wrong = Some(Sabotage::SaysWrong);
        sabotage::set(wrong);
        let mut world = World::new(*seed, wrong.map(Broken::Fold), runtime.clone(), false);
        // The model would tell it before anybody replays.
        world.is_unchecked = true;
        let lived = world.live();
        sabotage::set(None);
        let honest = world.verify();
        sabotage::set(Some(Sabotage::ReplayBelievesRecorded));
        let believing = world.verify();
        sabotage::set(None);
        lived.is_ok() && honest.is_err() && believing.is_ok()
    });
    assert!(found.is_some(), "verify saw no difference in {FOUND_WITHIN} seeds");
}

/// What alarms become wrongly where these are broken.
const ALARMS: [Sabotage; 11] = [
    Sabotage::DecidedEarly,
    Sabotage::LaterNewsUsed,
    Sabotage::PendingByLaterDefinitions,
    Sabotage::LaterDefinitionsUsed,
    Sabotage::StoreDefinitionsUsed,
    Sabotage::JumpNotWalked,
    Sabotage::EveryTickCounts,
    Sabotage::ToldTwiceAddsUp,
    Sabotage::HeardAgain,
    Sabotage::AlarmsNotRestored,
    Sabotage::SaysWrong,
];

#[test]
fn the_model_of_alarms_finds_what_is_decided_wrongly_without_a_second_run_of_the_fold() {
    let runtime = runtime();
    let missed: Vec<_> = ALARMS
        .into_iter()
        .filter(|broken| {
            let found = (0..FOUND_WITHIN).find_map(|seed| {
                sabotage::set(Some(*broken));
                let mut world = World::new(seed, Some(Broken::Fold(*broken)), runtime.clone(), false);
                limits::set(world.shape.limits);
                let lived = world.live().and_then(|()| check::complete(&world.store, &world.models));
                // Only what is said of an alarm's rows, or of words, counts: the plain run is not asked.
                lived
                    .err()
                    .filter(|what| ["Transition", "Alarm", " said "].iter().any(|of| what.contains(of)))
                    .map(|what| (seed, what))
            });
            sabotage::set(None);
            limits::set(Limits::REAL);
            let first = |(seed, what): &(u64, String)| {
                format!("seed {seed}: {}", what.chars().take(160).collect::<String>().replace('\n', " "))
            };
            println!("{broken:?}: {}", found.as_ref().map_or("NOT FOUND".into(), first));
            found.is_none()
        })
        .collect();
    assert!(missed.is_empty(), "the model saw nothing of {missed:?} in {FOUND_WITHIN} seeds");
}

#[test]
fn a_seed_is_the_same_run_every_time() {
    let runtime = runtime();
    for seed in 0..50 {
        let (mut one, mut two) = (vec![], vec![]);
        let answers = (run(seed, None, &runtime, Some(&mut one)), run(seed, None, &runtime, Some(&mut two)));
        assert_eq!(answers.0, answers.1, "seed {seed}");
        assert_eq!(one, two, "seed {seed}");
    }
}

/// Each schedule that a law names after its "else" or "so", as the switch that brings it about.
const LAWS: [(&str, Broken); 60] = [
    ("3: the time of the fold never goes back", Broken::Fold(Sabotage::TimeGoesBack)),
    ("14: only a TimeReset lowers time", Broken::Fold(Sabotage::TimeResetIgnored)),
    ("3: time is part of the state", Broken::Fold(Sabotage::TimeNotRestored)),
    ("3: the services met are part of the state", Broken::Fold(Sabotage::ServicesNotRestored)),
    ("3: and the day in which they were met", Broken::Fold(Sabotage::DayNotRestored)),
    ("12: a limit is a day's, not for ever", Broken::Fold(Sabotage::DaysNotTold)),
    ("4: a row that decides is read before its batch folds", Broken::Fold(Sabotage::PageNotRead)),
    ("4: a row that is ahead still answers as it did", Broken::Fold(Sabotage::RoomOfLaterPage)),
    ("3: a second ticker cannot matter", Broken::Fold(Sabotage::EveryTickCounts)),
    ("3: a jump in time is walked minute by minute", Broken::Fold(Sabotage::JumpNotWalked)),
    ("3: undated lines take read_at", Broken::Fold(Sabotage::UndatedAtFoldTime)),
    ("3: lateness is judged by the stream's time", Broken::Fold(Sabotage::FutureTaken)),
    ("4: else a line counts twice", Broken::Fold(Sabotage::RowAheadTakenIn)),
    ("4: a row takes only records past its applied_through", Broken::Fold(Sabotage::RowAheadAddedTo)),
    ("4: else an old row is replaced by a part", Broken::Fold(Sabotage::RowNotMet)),
    ("4: a row is read consistently", Broken::Store(BrokenStore::ReadsStale)),
    ("4: a row is written on condition that it grows", Broken::Store(BrokenStore::RowConditionUnchecked)),
    ("4: who loses the condition goes on", Broken::Fold(Sabotage::LoserStops)),
    ("4: a row leaves memory only when it is durable", Broken::Fold(Sabotage::LetGoBeforeDurable)),
    ("5: else lines of an open row are lost", Broken::Fold(Sabotage::ResumePointBeforeRows)),
    ("5: the resume point is written last", Broken::Store(BrokenStore::ResumePointFirst)),
    ("5: the resume point grows", Broken::Store(BrokenStore::ResumePointGoesBack)),
    ("5: the snapshot holds what decisions depend on", Broken::Fold(Sabotage::AlarmsNotRestored)),
    ("6: the key is nothing but tenant, object and slice", Broken::Ingest(BrokenIngest::ServiceInKey)),
    ("6: a batch never crosses a slice", Broken::Ingest(BrokenIngest::CutAcrossSlices)),
    ("6: a mark that is ahead still says what each took", Broken::Fold(Sabotage::MarkNotAhead)),
    ("6: a mark that is ahead knows what it refused", Broken::Fold(Sabotage::RefusalForgotten)),
    ("6: room depends on bytes, not on what was joined", Broken::Fold(Sabotage::RangesCounted)),
    ("6: who meets a joined range is a zombie and stops", Broken::Fold(Sabotage::OvertakenNotSeen)),
    ("6: ranges that are joined keep the highest position", Broken::Fold(Sabotage::JoinKeepsLowest)),
    ("6: who asks for forgotten counters is a zombie too", Broken::Fold(Sabotage::ForgottenNotSeen)),
    ("6: an older counter is a duplicate", Broken::Fold(Sabotage::OldCounterTaken)),
    ("6: c waits for c - 64", Broken::Ingest(BrokenIngest::TooManyInFlight)),
    ("6: a repeat has the same key", Broken::Ingest(BrokenIngest::RepeatRenamed)),
    ("6: a new epoch waits for the old", Broken::Ingest(BrokenIngest::EpochTooEarly)),
    ("6: strangers are told apart by their own ids", Broken::Fold(Sabotage::IdsForgotten)),
    ("6: parents before children", Broken::Fold(Sabotage::ChildBeforeParent)),
    ("6: children take their parents' marks", Broken::Fold(Sabotage::ChildWithoutMarks)),
    ("6: a merge the union", Broken::Fold(Sabotage::MergeTakesOneParent)),
    ("8: a child starts with its parents' definitions", Broken::Fold(Sabotage::ChildWithoutDefinitions)),
    ("7: old binaries stop at the tick", Broken::Fold(Sabotage::RevisionIgnored)),
    ("7: old binaries set their resume point", Broken::Fold(Sabotage::StopsWithoutCommit)),
    ("8: the highest revision that records have named", Broken::Fold(Sabotage::StoreDefinitionsUsed)),
    ("8: a definition is stored before a record names it", Broken::Ingest(BrokenIngest::NamesUnstored)),
    ("8: and none past it", Broken::Fold(Sabotage::LaterDefinitionsUsed)),
    ("9: else one slow shard makes false alarms", Broken::Fold(Sabotage::DecidedEarly)),
    ("9: a shard has spoken at the last part of its word", Broken::Fold(Sabotage::FirstPartIsAll)),
    ("9: no news of later minutes", Broken::Fold(Sabotage::LaterNewsUsed)),
    ("9: no definitions of later minutes", Broken::Fold(Sabotage::PendingByLaterDefinitions)),
    ("9: state, not a difference", Broken::Fold(Sabotage::ToldTwiceAddsUp)),
    ("9: a higher position replaces a lower", Broken::Fold(Sabotage::HeardAgain)),
    ("9: an alarm goes on where its home goes", Broken::Fold(Sabotage::HomesLeftBehind)),
    ("9: and its minutes that wait", Broken::Fold(Sabotage::MinutesLeftBehind)),
    ("9: a home is kept by one shard", Broken::Fold(Sabotage::HomesOfAll)),
    ("9: what a parent had not told its heir tells", Broken::Fold(Sabotage::RestUntold)),
    ("9: for one that has ended its children speak", Broken::Fold(Sabotage::EndSaysAll)),
    ("9: a tick that does not list a shard is none to it", Broken::Fold(Sabotage::UnlistedTicks)),
    ("9: what is said is what was folded", Broken::Fold(Sabotage::SaysWrong)),
    ("10: the resume point passes no effect", Broken::Fold(Sabotage::EffectsDropped)),
    ("13: every key begins with the tenant", Broken::Fold(Sabotage::TenantsMixed)),
];

#[test]
fn each_law_broken_on_purpose_is_found_within_a_hundred_seeds() {
    let runtime = runtime();
    let silent = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let found = LAWS.map(|(law, broken)| {
        (law, broken, (0..FOUND_WITHIN).find_map(|seed| run(seed, Some(broken), &runtime, None).err()))
    });
    std::panic::set_hook(silent);
    for (law, broken, what) in &found {
        let what = what.as_deref().unwrap_or("NOT FOUND");
        println!(
            "{law}: {broken:?}: {}",
            what.lines().next().unwrap_or_default().chars().take(160).collect::<String>()
        );
    }
    let missed: Vec<_> =
        found.iter().filter(|(_, _, what)| what.is_none()).map(|(law, broken, _)| (law, broken)).collect();
    assert!(missed.is_empty(), "not found within {FOUND_WITHIN} seeds: {missed:#?}");
}
