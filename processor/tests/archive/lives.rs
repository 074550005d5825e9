//! Archivers as a process has them, hour after hour.

use std::{
    num::NonZeroUsize,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use events::{position::HashKey, stream::ReadOnly};
use processor::archive::run::{Rhythm, State, run};
use tokio::time::sleep;

use crate::{
    objects::Fault,
    world::{World, read_all},
};

const RHYTHM: Rhythm =
    Rhythm { age: Duration::from_secs(300), idle_pause: Duration::from_secs(10), shards_look: Duration::from_secs(10) };

/// Runs a script beside the archivers, then tells these to end; time passes when nobody works.
fn beside(world: &World, script: impl AsyncFnOnce(&State)) -> State {
    let (state, stop) = (State::default(), AtomicBool::new(false));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let writer = world.writer();
    runtime.block_on(async {
        let stream = ReadOnly::new(world.live.clone());
        let archivers = run(stream, writer, RHYTHM, &state, || stop.load(Ordering::SeqCst));
        let script = async {
            script(&state).await;
            stop.store(true, Ordering::SeqCst);
        };
        // A script that waits for nothing is over before they begin.
        futures_util::future::join(script, archivers).await;
    });
    state
}

#[test]
fn shards_that_appear_are_archived_those_that_end_are_closed_and_an_end_puts_what_is_held() {
    let world = World::new(2);
    let state = beside(&world, async |state| {
        for minute in 0..30 {
            world.append(minute * 10..minute * 10 + 10);
            if minute == 12 {
                world.live.inner.split(&world.shard(), HashKey(1 << 126)).unwrap();
            }
            sleep(Duration::from_secs(60)).await;
            assert_eq!(state.said("here").map(|_| ()), Ok(()), "minute {minute}");
        }
        let segments = world.objects.segments().len();
        assert!((12..=20).contains(&segments), "{segments} segments of up to four shards in half an hour");
    });
    assert_eq!(state.losses(), [""; 0]);
    assert!(state.said("here").unwrap().starts_with("here has 4 shards, "));
    let shards = world.shards();
    let parent = shards.iter().find(|shard| shard.closed).unwrap();
    for shard in &shards {
        let all = &world.all()[&shard.id];
        if let Some(before) = all.len().checked_sub(2) {
            world.live.trim(&shard.id, all[before].sequence);
        }
    }
    world.live.forget(&parent.id);
    assert_eq!(read_all(&*world.open().unwrap()).unwrap(), world.all());
}

#[test]
fn who_is_told_to_end_before_a_shard_had_its_turn_has_all_of_it_in_the_archive() {
    for is_split in [false, true] {
        let world = World::new(2);
        world.append(0..100);
        // As a stream whose segments are small gives them.
        *world.live.page.lock().unwrap() = NonZeroUsize::MIN;
        let state = beside(&world, async |_| {
            if is_split {
                // Behind the first look at the list, and long before the next.
                sleep(RHYTHM.idle_pause / 2).await;
                world.live.inner.split(&world.shard(), HashKey(1 << 126)).unwrap();
                world.append(100..200);
            }
        });
        assert_eq!((state.losses(), state.left()), (vec![], vec![]));
        let whole = world.open().unwrap();
        for (shard, all) in world.all() {
            assert_eq!(whole.archived_through(&shard), all.last().map(|record| record.sequence), "{shard}");
        }
    }
}

#[test]
fn what_the_end_of_a_process_leaves_is_said_by_shard_and_is_archived_by_the_next_one() {
    let world = World::new(1);
    world.append(0..20);
    let state = beside(&world, async |_| world.objects.fail([Fault::Before; 40]));
    let [left] = &state.left()[..] else { panic!("nothing is left") };
    assert!(left.starts_with("shardId-000000000000: not all of it is archived: "), "{left}");
    assert!(left.contains("Whoever archives next goes on there"), "{left}");
    world.objects.faults.lock().unwrap().clear();
    assert_eq!(beside(&world, async |_| {}).left(), [""; 0]);
    let whole = world.open().unwrap();
    assert_eq!(whole.archived_through(&world.shard()), world.all()[&world.shard()].last().map(|last| last.sequence));
}

#[test]
fn a_place_that_fails_for_an_hour_is_told_and_nothing_is_missing_afterwards() {
    let world = World::new(1);
    beside(&world, async |state| {
        world.append(0..10);
        world.objects.fail([Fault::Before, Fault::After].into_iter().cycle().take(60));
        sleep(Duration::from_secs(400)).await;
        world.append(10..20);
        let said = state.said("here").unwrap_err();
        assert!(
            said.contains("shardId-000000000000: the archive could not be reached") && said.contains("again within")
        );
        // It holds one segment, and reads no more: what it held first is there as soon as a put succeeds.
        sleep(Duration::from_secs(3_600)).await;
        assert_eq!(world.objects.segments().len(), 2);
        sleep(Duration::from_secs(3_600)).await;
        assert_eq!(state.said("here"), Ok("here has 1 shards, 0 s behind".to_owned()));
    });
    let all = world.all().remove(&world.shard()).unwrap();
    world.live.trim(&world.shard(), all[18].sequence);
    assert_eq!(read_all(&*world.open().unwrap()).unwrap(), world.all());
}

#[test]
fn what_was_gone_before_it_was_archived_is_told_once() {
    let world = World::new(1);
    world.append(0..5);
    world.archive();
    world.append(5..15);
    let all = world.all().remove(&world.shard()).unwrap();
    world.live.trim(&world.shard(), all[9].sequence);
    let state = beside(&world, async |state| {
        sleep(Duration::from_secs(1_000)).await;
        assert_eq!(state.losses().len(), 1);
        sleep(Duration::from_secs(1_000)).await;
    });
    assert_eq!(state.losses(), [""; 0]);
}
