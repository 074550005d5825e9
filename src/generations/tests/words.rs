//! What shards of one generation tell each other where other processes fold some of them.

use events::{
    position::{HashKey, SequenceNumber},
    stream::ReadOnly,
};
use processor::{
    consume::Worker,
    generations::{Crew, Start},
};
use projections::{alarm::State, fold::alarms::home_key};

use super::{super::*, world::*};
use crate::workers::place_in;

/// A word that one generation said stands behind the promotion of another in the log of whoever hears it: that one's own fold of the speaker has to say it,
/// in whichever process that is.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_shard_that_counts_waits_for_words_that_another_process_makes_of_a_shard_that_is_behind() {
    waits(false).await;
}

/// Of lines that came before its start a generation knows nothing, so what its shards say is not what was recorded.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn and_where_both_generations_say_otherwise_it_goes_by_its_own() {
    waits(true).await;
}

async fn waits(differs: bool) {
    let world = World::of(2);
    let all = world.shards().await;
    let control = usize::from(!all[0].range.contains(HashKey::of(CONTROL_KEY)));
    let (ahead, behind, third) = (world.join().await, world.join().await, world.join().await);
    ahead.has(&all, &[control], &[]).await;
    behind.has(&all, &[1 - control], &[FIRST, NEW]).await;
    world.define().await;
    world.minute(&third, 1.0, FIRST).await;
    if differs {
        let of_last_minute = world.now_ms() / 1000 + 30;
        world.minute(&third, 50.0, FIRST).await;
        third.opens(Start::Time(world.now_ms())).await;
        // The new one has these alone of that minute, and tells it anew at its next tick, as the first does.
        world.lines_at(of_last_minute, 1.0).await;
        world.folded_by(FIRST).await;
        world.folded_by(NEW).await;
    } else {
        third.opens(Start::Oldest).await;
    }
    third.compare_generations("new").await.unwrap();
    // One shard stands still before a tick, at which it will speak as the first; the other goes on to the promotion behind it.
    behind.has(&all, &[], &[FIRST, NEW]).await;
    world.clock.fetch_add(60_000, Ordering::SeqCst);
    third.tick().await.unwrap();
    let goes_on = async {
        soon(async || third.generations.look().await.unwrap().unfinished().is_some()).await;
        let before = world.point(NEW, &all[control].id).await;
        soon(async || world.point(NEW, &all[control].id).await > before && ahead.is_at(NEW, control, &all).await).await;
        behind.has(&all, &[1 - control], &[FIRST, NEW]).await;
    };
    let (promoted, ()) = tokio::join!(third.promote("new"), goes_on);
    promoted.unwrap();
    world.minute(&third, 50.0, NEW).await;
    world.verifies(&third).await;
    world.folded_by(FIRST).await;
    let rings = async |of: Generation| world.transitions(&of.into()).await.iter().any(|of| of.2 == State::Alarm);
    // Two minutes of three are slow, of which the new one knows one.
    assert_eq!((rings(FIRST).await, rings(NEW).await), (differs, false));
}

/// Two processes follow with one generation, as may be for a while where one was suspended. What a shard of the one waits for, the other has heard from a
/// fold that it never committed: so it is nowhere, and the one has to go on from where the other has come to.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_shard_that_waits_for_what_another_process_has_heard_begins_again_behind_that() {
    let world = World::of(2);
    let all = world.shards().await;
    let home = usize::from(!all[0].range.contains(home_key("local", "slow")));
    let (speaker, home) = (all[1 - home].clone(), all[home].clone());
    let at = |shard: &Shard| all.iter().position(|of| of.id == shard.id).unwrap();
    let (counts, follows) = (world.join().await, world.join().await);
    counts.has(&all, &[0, 1], &[]).await;
    follows.has(&all, &[], &[NEW]).await;
    world.define().await;
    world.minute(&counts, 1.0, FIRST).await;
    counts.opens(Start::Oldest).await;
    world.minute(&counts, 1.0, FIRST).await;
    world.folded_by(NEW).await;

    // The speaker tells the next minute and commits nothing, so whoever follows does not come to it.
    counts.has(&all, &[at(&home)], &[]).await;
    world.clock.fetch_add(60_000, Ordering::SeqCst);
    counts.tick().await.unwrap();
    let ticked = world.tip(&home.id);
    let place = place_in(FIRST, &speaker, &all);
    let mut killed = counts.workers.open(place.clone()).await.unwrap();
    killed.sink().look(&*world.store, &place).await.unwrap();
    while !killed.step(Duration::ZERO).await.unwrap().caught_up {}
    drop(killed);
    let told = world.tip(&home.id);
    assert!(told > ticked, "the home was told");
    soon(async || world.point(FIRST, &home.id).await == told && world.point(NEW, &home.id).await == ticked).await;

    // Another that follows folds both, commits the home only, and is gone.
    let crew = Crew::new(NEW, None, SequenceNumber::MAX);
    for shard in [&speaker, &home] {
        let follower = crew.follower(shard.id.clone(), shard.range);
        let place = place_in(NEW, shard, &all);
        let stream = ReadOnly::new(world.stream.clone());
        let mut worker = Worker::open(stream, world.store.clone(), follower, place).await.unwrap();
        while !worker.step_until(Duration::ZERO, world.tip(&shard.id)).await.unwrap().caught_up {}
        if shard.id == home.id {
            worker.commit().await.unwrap();
        }
    }
    assert_eq!(world.point(NEW, &home.id).await, told);
    world.clock.fetch_add(60_000, Ordering::SeqCst);
    counts.tick().await.unwrap();
    soon(async || world.point(NEW, &home.id).await == world.tip(&home.id)).await;

    counts.has(&all, &[0, 1], &[]).await;
    world.minute(&counts, 50.0, FIRST).await;
    world.folded_by(NEW).await;
    assert_eq!(counts.compare_generations("new").await.unwrap()["windowsDiffer"], 0);
    follows.has(&all, &[], &[FIRST, NEW]).await;
    counts.promote("new").await.unwrap();
    world.verifies(&counts).await;
}
