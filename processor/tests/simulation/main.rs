//! The real fold, resume logic, wire and packer in simulated worlds: crashes, zombies, redelivery, lost answers, jumping clocks, slow shards. Each
//! world comes from a seed and nothing else, and is held against a plain model after every step.
//!
//! `WEIR_SIM_SEEDS=1000000` runs so many, `WEIR_SIM_FIRST=17` begins there. A failure names its seed and prints its schedule;
//! `WEIR_SIM_FIRST=17 WEIR_SIM_SEEDS=1 WEIR_SIM_TRACE=1` prints it again.
#![allow(clippy::unwrap_used, missing_docs)]

mod actors;
mod check;
mod fuse;
mod input;
mod model;
mod reference;
mod schedule;
mod shape;
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

use projections::fold::sabotage::{self, Sabotage};

use self::{
    actors::BrokenIngest,
    store::BrokenStore,
    world::{Broken, Seen, World},
};

const SEEDS: u64 = 10_000;
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
    let answer = catch_unwind(AssertUnwindSafe(|| world.run())).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string())).unwrap_or_default())
    });
    sabotage::set(None);
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
    let threads = std::thread::available_parallelism().map_or(1, |cores| cores.get());
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
fn a_seed_is_the_same_run_every_time() {
    let runtime = runtime();
    for seed in 0..50 {
        let (mut one, mut two) = (vec![], vec![]);
        let answers = (run(seed, None, &runtime, Some(&mut one)), run(seed, None, &runtime, Some(&mut two)));
        assert_eq!(answers.0, answers.1, "seed {seed}");
        assert_eq!(one, two, "seed {seed}");
    }
}
