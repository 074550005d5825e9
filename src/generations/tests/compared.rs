//! Generations that are compared while they move, or stand apart; and what is known of them meanwhile.

use std::sync::atomic::AtomicBool;

use events::{position::SequenceNumber, stream::ReadOnly};
use processor::{consume::Worker, generations::Start};
use projections::generations::OpenRefused;

use super::{super::*, world::*};
use crate::workers::place_in;

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_comparison_ends_and_finds_no_difference_while_two_processes_commit_what_comes_in_without_a_pause() {
    let world = World::of(2);
    let all = world.shards().await;
    let (left, right, third) = (world.join().await, world.join().await, world.join().await);
    left.has(&all, &[0], &[NEW]).await;
    right.has(&all, &[1], &[]).await;
    world.minute(&third, 1.0, FIRST).await;
    third.opens(Start::Oldest).await;
    let is_over = AtomicBool::new(false);
    let feeds = async {
        while !is_over.load(Ordering::SeqCst) {
            world.lines(1.0).await;
        }
    };
    let compares = async {
        for _ in 0..30 {
            let compared = third.compare_generations("new").await.unwrap();
            assert_eq!(compared["windowsDiffer"], 0, "{compared}");
        }
        is_over.store(true, Ordering::SeqCst);
    };
    tokio::join!(feeds, compares);
    world.folded_by(FIRST).await;
    world.folded_by(NEW).await;
    let compared = third.compare_generations("new").await.unwrap();
    assert_eq!(
        (&compared["windows"], &compared["windowsDiffer"], &compared["moving"]["windows"]),
        (&2.into(), &0.into(), &0.into())
    );
}

/// As where archivers are ahead of a consumer that stands still.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_generation_that_was_filled_further_than_the_one_that_counts_is_compared_once_that_has_come_as_far() {
    let world = World::of(2);
    let all = world.shards().await;
    let (folds, third) = (world.join().await, world.join().await);
    folds.has(&all, &[0, 1], &[]).await;
    world.minute(&third, 1.0, FIRST).await;
    folds.has(&all, &[], &[]).await;
    world.lines(1.0).await;
    let open = |record: &mut Record| {
        let (generation, _) = record.open("new", None, BTreeMap::new(), now_ms())?;
        record.fill_from_archive(generation);
        Ok::<_, OpenRefused>(generation)
    };
    assert_eq!(third.generations.change(open).await.unwrap(), Ok(NEW));
    let crew = Crew::new(NEW, None, SequenceNumber::ZERO);
    for shard in &all {
        let follower = crew.follower(shard.id.clone(), shard.range);
        let (stream, place) = (ReadOnly::new(world.stream.clone()), place_in(NEW, shard, &all));
        let mut worker = Worker::open(stream, world.store.clone(), follower, place).await.unwrap();
        while !worker.step(Duration::ZERO).await.unwrap().caught_up {}
        assert!(worker.commit().await.unwrap() > world.point(FIRST, &shard.id).await);
    }
    third.generations.stands(NEW, Standing::Filling).await.unwrap();
    folds.has(&all, &[], &[NEW]).await;
    // Both say that they wait.
    let troubles = || folds.generations.crew(NEW).map(|crew| crew.troubles()).unwrap_or_default();
    soon(async || troubles().len() == 2).await;
    folds.generations.attend_now().await.unwrap();
    assert_eq!(third.standing("new").await, "filling", "it has not stood where the other does");
    // Whoever goes by what was known before.
    third.generations.stands(NEW, Standing::Following).await.unwrap();
    let (compared, ()) = tokio::join!(third.compare_generations("new"), folds.has(&all, &[0, 1], &[NEW]));
    let compared = compared.unwrap();
    soon(async || troubles().is_empty()).await;
    assert_eq!(
        (&compared["windows"], &compared["windowsDiffer"], &compared["moving"]["windows"]),
        (&2.into(), &0.into(), &0.into())
    );
    third.promote("new").await.unwrap();
    world.verifies(&third).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn whoever_fills_a_generation_from_an_archive_says_in_the_record_that_it_moves() {
    let world = World::of(2);
    let all = world.shards().await;
    let only = world.join().await;
    only.has(&all, &[0, 1], &[NEW]).await;
    world.minute(&only, 1.0, FIRST).await;
    // So the children begin at a later look than the parents.
    all.iter().for_each(|shard| world.split(shard));
    soon(async || all.iter().all(|shard| only.has_ended(shard))).await;
    only.has(&world.shards().await, &[2, 3, 4, 5], &[NEW]).await;
    world.minute(&only, 1.0, FIRST).await;
    only.archive_to(&format!("file://{}/archive", world.folder.path().display())).await.unwrap();
    let before_ms = now_ms();
    only.opens(Start::Archive).await;
    let record = only.generations.look().await.unwrap();
    let entry = record.entry(NEW).unwrap();
    assert!(entry.from_archive && entry.progress_at_ms >= Some(before_ms), "{entry:?}");
    assert_eq!(only.compare_generations("new").await.unwrap()["windowsDiffer"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_older_record_that_is_read_later_is_not_gone_by() {
    let world = World::of(1);
    let only = world.join().await;
    let old = record::read(&*world.store).await.unwrap();
    let open = |record: &mut Record| record.open("new", None, BTreeMap::new(), now_ms());
    only.generations.change(open).await.unwrap().unwrap();
    only.generations.stands(NEW, Standing::Following).await.unwrap();
    let promotes = |record: &mut Record| {
        let promotion = record.promote("new", now_ms()).unwrap();
        record.promoted(promotion.number, SequenceNumber::from_parts(0, 1), now_ms());
        Ok::<_, String>(())
    };
    only.generations.change(promotes).await.unwrap().unwrap();
    let taken = only.generations.take(&old);
    assert_eq!((taken.live(), only.workers.record().live(), only.view().live()), (NEW, NEW, NEW));
    assert_eq!(*only.workers.learn(&old), taken);
    assert!(held(&only.workers.following.wanted).as_ref().unwrap().contains(&NEW));
}
