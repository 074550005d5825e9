//! Which process folds what of which generation: leases, promotions there and back, rows made anew, what has ended.

use events::position::SequenceNumber;
use processor::generations::Start;
use projections::alarm::State;

use super::{super::*, world::*};

fn latency(minute: i64) -> f64 {
    if (3..8).contains(&minute) { 50.0 } else { 1.0 }
}

/// An alarm that rings and falls silent in one process that promotes nothing.
async fn alone() -> Vec<(i64, Option<State>, State)> {
    let world = World::of(2);
    let only = world.join().await;
    only.has(&world.shards().await, &[0, 1], &[]).await;
    world.define().await;
    for minute in 0..14 {
        world.minute(&only, latency(minute), FIRST).await;
    }
    world.verifies(&only).await;
    world.transitions(&only.view()).await
}

/// The same in two processes that share the shards, while a third has another generation made, promotes it, and goes back.
async fn shared(reshards: bool) {
    let world = World::of(2);
    let all = world.shards().await;
    let (left, right, third) = (world.join().await, world.join().await, world.join().await);
    left.has(&all, &[0], &[NEW]).await;
    right.has(&all, &[1], &[FIRST]).await;
    world.define().await;
    let mut counts = FIRST;
    for minute in 0..14 {
        match minute {
            2 => {
                third.opens(Start::Oldest).await;
            }
            // While it rings.
            4 => {
                third.promote("new").await.unwrap();
                counts = NEW;
                assert_eq!((left.workers.running().len(), right.workers.running().len()), (1, 1));
            }
            5 if reshards => {
                // Each half of the ring gets another shard.
                all.iter().for_each(|shard| world.split(shard));
                soon(async || left.has_ended(&all[0]) && right.has_ended(&all[1])).await;
                let all = world.shards().await;
                left.has(&all, &[3, 4], &[FIRST]).await;
                right.has(&all, &[2, 5], &[NEW]).await;
            }
            // Shards change hands, and those who follow too.
            5 => {
                left.has(&all, &[1], &[FIRST]).await;
                right.has(&all, &[0], &[NEW]).await;
            }
            // In the minutes in which it falls silent.
            8 => {
                third.promote("first").await.unwrap();
                counts = FIRST;
            }
            9 => {
                third.promote("new").await.unwrap();
                counts = NEW;
                // Both believe for a while that it is they who follow.
                *held(&left.workers.following.mine) = [FIRST, NEW].into();
                *held(&right.workers.following.mine) = [FIRST, NEW].into();
            }
            11 => {
                third.promote("first").await.unwrap();
                counts = FIRST;
            }
            _ => {}
        }
        world.minute(&third, latency(minute), counts).await;
    }
    // Each is told again where it stands at a promotion, and readers pass over that.
    assert_eq!(world.transitions(&third.view()).await, alone().await);
    assert_eq!(third.compare_generations("new").await.unwrap()["windowsDiffer"], 0);
    world.verifies(&third).await;
    let mut lost = left.losses();
    lost.extend(right.losses());
    assert_eq!(lost, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_generation_that_counts_is_shared_as_the_first_is_and_alarms_do_not_notice() {
    shared(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn so_it_is_on_shards_that_are_split_while_it_counts() {
    shared(true).await;
}

/// All shards, and one process that has them all and has promoted another generation.
async fn promoted(world: &World) -> (Vec<Shard>, Process) {
    let all = world.shards().await;
    let only = world.join().await;
    only.has(&all, &[0, 1], &[FIRST, NEW]).await;
    world.minute(&only, 1.0, FIRST).await;
    only.opens(Start::Oldest).await;
    only.promote("new").await.unwrap();
    world.minute(&only, 1.0, NEW).await;
    (all, only)
}

/// The rows are made anew under another prefix while the stream says that another generation counts. `is_begun`: a process began to mend that, and died.
async fn anew(is_begun: bool) {
    let mut world = World::of(2);
    let (all, only) = promoted(&world).await;
    let digest = world.verifies(&only).await;
    drop(only);

    world.store =
        Arc::new(crate::AnyStore::Local(crate::LocalStore::open(&world.folder.path().join("anew.redb")).unwrap()));
    if is_begun {
        let read = record::read(&*world.store).await.unwrap();
        let begun = Promotion { number: 2, generation: 0, revision: None, at_ms: START_MS };
        let record = Record { promotions: vec![begun], ..Record::default() };
        assert!(record::write(&*world.store, &read, &record).await.unwrap());
    }
    let (left, right) = (world.join().await, world.join().await);
    left.has(&all, &[0], &[FIRST]).await;
    right.has(&all, &[1], &[]).await;
    soon(async || left.generations.look().await.unwrap().finished().count() == 1).await;
    world.folded_by(FIRST).await;
    world.minute(&right, 1.0, FIRST).await;
    let record = left.generations.look().await.unwrap();
    let numbers: Vec<u16> = record.promotions.iter().map(|promotion| promotion.number).collect();
    assert_eq!((numbers, record.live()), (vec![2], FIRST), "once, whoever saw it");
    // Who has read the record just before another mended it.
    for process in [&left, &right] {
        assert!(process.workers.unknown().is_some());
        process.generations.mend(&Record::default()).await.unwrap();
    }
    assert_eq!(left.generations.look().await.unwrap(), record);
    assert_ne!(world.verifies(&left).await, digest, "a minute more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn where_the_stream_names_a_generation_that_is_not_among_the_rows_two_processes_promote_the_first_once() {
    anew(false).await;
    anew(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_has_ended_is_not_begun_again_and_children_of_its_shards_are_the_next_ones() {
    let world = World::of(2);
    let (all, only) = promoted(&world).await;
    // The record's times are the host's, and the fold's are the stream's.
    world.clock.store(now_ms() + 2 * 24 * 60 * 60_000, Ordering::SeqCst);
    world.minute(&only, 1.0, NEW).await;
    soon(async || only.standing("first").await == "ended").await;
    soon(async || only.generations.crew(FIRST).is_none()).await;
    let stood = world.point(FIRST, &all[0].id).await;
    world.split(&all[0]);
    drop(only);

    let next = world.join().await;
    next.has(&all, &[0, 1], &[NEW]).await;
    soon(async || next.has_ended(&all[0])).await;
    let all = world.shards().await;
    next.has(&all, &[1, 2, 3], &[NEW]).await;
    world.minute(&next, 1.0, NEW).await;
    assert_eq!(next.losses(), Vec::<String>::new());
    assert_eq!(world.point(FIRST, &all[0].id).await, stood);
    assert_eq!(world.point(FIRST, &all[2].id).await, SequenceNumber::ZERO, "nobody began it for a child");
    assert!(!held(&next.workers.following.wanted).as_ref().unwrap().contains(&FIRST), "nor is it to be followed with");
    world.verifies(&next).await;
}

/// Its reads are of those that all readers of a shard share.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn one_that_follows_reads_no_page_of_the_stream_until_the_one_that_counts_has_moved() {
    let world = World::of(2);
    let all = world.shards().await;
    let (counts, follows) = (world.join().await, world.join().await);
    counts.has(&all, &[0, 1], &[]).await;
    follows.has(&all, &[], &[NEW]).await;
    world.minute(&counts, 1.0, FIRST).await;
    counts.opens(Start::Oldest).await;
    world.minute(&counts, 1.0, FIRST).await;
    world.folded_by(NEW).await;
    // There is more on the stream, and nobody folds it who counts.
    counts.has(&all, &[], &[]).await;
    world.lines(1.0).await;
    let crew = follows.generations.crew(NEW).unwrap();
    let done = || [0, 1].map(|what| crew.done[what].load(Ordering::SeqCst));
    // What was begun before has ended.
    let looks = async |more: u64| {
        let before = done()[0];
        soon(async || done()[0] >= before + more).await;
    };
    looks(10).await;
    let pages = done()[1];
    looks(20).await;
    assert_eq!(done()[1], pages);
    counts.has(&all, &[0, 1], &[]).await;
    world.folded_by(NEW).await;
    assert!(done()[1] > pages);
}
