//! Any number of archivers, killed at any point, whose answers are lost: one chain, with every record once.

use std::{sync::Arc, time::Duration};

use events::{
    archive::{Builder, Closing, Codec},
    position::{HashKey, SequenceNumber, ShardId},
    stream::{ReadOnly, Start},
};
use processor::archive::{
    ArchiveError, Reader, Writer,
    archiver::{Archiver, Step},
};
use projections::store::law::block_on;

use tokio::time::Instant;

use crate::{
    objects::{Fault, Memory},
    world::{Live, World, read, read_all, work},
};

/// Random enough to meet, and the same for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// Nothing is missing, whatever the stream has let go of.
fn is_whole(world: &World, what: &str) {
    let whole = world.open().unwrap();
    assert_eq!(whole.said(), [""; 0], "{what}");
    assert_eq!(read_all(&*whole).unwrap(), world.all(), "{what}");
}

#[test]
fn what_two_archivers_put_at_once_is_one_chain_with_every_record_once() {
    for seed in 1..60u64 {
        let (mut dice, mut world) = (Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15)), World::new(1));
        let shard = world.shards().remove(0);
        // Ends of segments differ from archiver to archiver.
        world.settings.idle_pause = Duration::ZERO;
        let mut archivers: Vec<Option<Archiver<Live, Memory>>> = (0..3).map(|_| None).collect();
        let mut number = 0;
        for _ in 0..400 {
            let which = dice.roll(3) as usize;
            match dice.roll(12) {
                0..=3 => {
                    let more = dice.roll(9) as u32;
                    world.append(number..number + more);
                    number += more;
                }
                // It is killed; what it held is gone with it.
                4 => archivers[which] = None,
                5 => world.objects.fail([[Fault::Before, Fault::After, Fault::None][dice.roll(3) as usize]]),
                6 => {
                    world.settings.segment_bytes = 1 + dice.roll(3_000) as usize;
                    world.settings.age = [Duration::ZERO, Duration::from_secs(300)][dice.roll(2) as usize];
                }
                _ => {
                    let archiver = archivers[which].get_or_insert_with(|| world.archiver(&shard));
                    match block_on(archiver.step()) {
                        Ok(_) | Err(ArchiveError::Objects(_)) => {}
                        Err(error) => panic!("seed {seed}: {error}"),
                    }
                    // What is archived may go, but for the newest record.
                    let through = archiver.archived_through();
                    let all = &world.all()[&shard.id];
                    let place = all.iter().position(|record| record.sequence >= through).unwrap_or(0);
                    if dice.roll(4) == 0 && place > 1 {
                        world.live.trim(&shard.id, all[place - 1].sequence);
                    }
                }
            }
        }
        world.objects.faults.lock().unwrap().clear();
        is_whole(&world, &format!("seed {seed}"));
        world.archive();
        is_whole(&world, &format!("seed {seed}, when all is archived"));
    }
}

#[test]
fn an_archiver_whose_answer_was_lost_finds_its_own_segment_and_does_not_stand_by() {
    let world = World::new(1);
    world.append(0..10);
    let mut archiver = world.archiver(&world.shards()[0]);
    world.objects.fail([Fault::After]);
    assert_eq!(block_on(archiver.step()), Ok(Step::Read));
    assert!(matches!(block_on(archiver.step()), Err(ArchiveError::Objects(_))));
    assert_eq!(block_on(archiver.step()), Ok(Step::Archived));
    world.append(10..20);
    assert!(
        matches!(block_on(archiver.step()), Ok(Step::Idle(until)) if until < Instant::now() + world.settings.idle_pause)
    );
    let finished = block_on(archiver.finish(Instant::now(), |lost| panic!("{lost}")));
    assert_eq!(finished, Ok(false), "there is no time to read what came");
    let soon = Instant::now() + Duration::from_secs(60);
    assert_eq!(block_on(archiver.finish(soon, |lost| panic!("{lost}"))), Ok(true), "it goes on as before");
    assert_eq!(world.objects.segments().len(), 2);
}

#[test]
fn who_finds_anothers_segment_stands_by_until_that_one_is_silent() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let world = World::new(1);
        let shard = world.shards().remove(0);
        let stream = || ReadOnly::new(world.live.clone());
        let open = async || Archiver::open(stream(), world.writer(), shard.clone(), world.settings).await.unwrap();
        world.append(0..10);
        let (mut one, mut other) = (open().await, open().await);
        for archiver in [&mut one, &mut other] {
            assert_eq!(archiver.step().await, Ok(Step::Read));
            assert_eq!(archiver.step().await, Ok(Step::Archived));
        }
        let look = world.settings.age / 5;
        let Ok(Step::Idle(next)) = other.step().await else { panic!("it does not stand by") };
        assert_eq!(next - Instant::now(), look);
        for round in 1..4 {
            world.append(round * 10..round * 10 + 10);
            tokio::time::advance(look).await;
            let idle = Step::Idle(Instant::now() + look);
            assert_eq!(other.step().await, Ok(idle), "it looks, and there is nothing yet");
            assert_eq!(one.step().await, Ok(Step::Read));
            assert_eq!(one.step().await, Ok(Step::Archived), "the first one is at work");
            tokio::time::advance(look).await;
            let gets = *world.objects.gets.lock().unwrap();
            assert_eq!(other.step().await, Ok(Step::Archived));
            assert_eq!(other.archived_through(), one.archived_through(), "it follows");
            assert!(*world.objects.gets.lock().unwrap() - gets <= 3, "by headers");
            assert!(matches!(other.step().await, Ok(Step::Idle(_))));
        }
        drop(one);
        world.append(90..95);
        tokio::time::advance(world.settings.age + look).await;
        let steps = [other.step().await, other.step().await, other.step().await];
        assert_eq!(steps, [Ok(Step::Archived), Ok(Step::Read), Ok(Step::Archived)]);
        is_whole(&world, "the second one has taken over");
    });
}

#[test]
fn who_takes_over_from_one_that_died_lets_nothing_wait_for_an_age_again() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut world = World::new(1);
        world.settings.segment_bytes = 1 << 20;
        let (shard, age) = (world.shards().remove(0), world.settings.age);
        let stream = || ReadOnly::new(world.live.clone());
        let open = async || Archiver::open(stream(), world.writer(), shard.clone(), world.settings).await.unwrap();
        let (mut one, mut other) = (open().await, open().await);
        world.append(0..10);
        for archiver in [&mut one, &mut other] {
            assert_eq!(archiver.step().await, Ok(Step::Read));
        }
        tokio::time::advance(age).await;
        for archiver in [&mut one, &mut other] {
            assert_eq!(archiver.step().await, Ok(Step::Archived));
        }
        // A record comes just then, and whoever is at work dies with it in its hands. Others come as long as the stream lives.
        drop(one);
        let begun = Instant::now();
        let mut number = 10;
        while world.objects.segments().len() < 2 {
            world.clock.fetch_add(59_000, std::sync::atomic::Ordering::SeqCst);
            world.append(number..number + 1);
            number += 1;
            while !matches!(other.step().await, Ok(Step::Idle(_))) {}
            tokio::time::advance(Duration::from_secs(60)).await;
            assert!(begun.elapsed() <= age * 2, "{:?}", begun.elapsed());
        }
        assert_eq!(begun.elapsed(), age / 5 * 7);
        is_whole(&world, "the second one has taken over");
    });
}

#[test]
fn who_goes_on_behind_many_segments_reads_one_header() {
    let world = World::new(1);
    for round in 0..40 {
        world.append(round..round + 1);
        work(&mut world.archiver(&world.shards()[0]));
    }
    let before = *world.objects.gets.lock().unwrap();
    let archiver = world.archiver(&world.shards()[0]);
    assert_eq!(archiver.archived_through(), world.all()[&world.shard()].last().unwrap().sequence);
    assert_eq!(*world.objects.gets.lock().unwrap() - before, 2, "whose archive it is, and the newest segment");
}

#[test]
fn a_segment_is_put_when_it_is_large_or_old_or_the_shard_has_ended_and_not_before() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut world = World::new(1);
        world.settings.segment_bytes = 1 << 20;
        let shard = world.shards().remove(0);
        let stream = ReadOnly::new(world.live.clone());
        let mut archiver = Archiver::open(stream, world.writer(), shard.clone(), world.settings).await.unwrap();
        world.append(0..5);
        assert_eq!(archiver.step().await, Ok(Step::Read));
        assert!(matches!(archiver.step().await, Ok(Step::Idle(until)) if until - tokio::time::Instant::now() == world.settings.idle_pause));
        tokio::time::advance(world.settings.age - Duration::from_secs(1)).await;
        assert!(matches!(archiver.step().await, Ok(Step::Idle(until)) if until - tokio::time::Instant::now() == Duration::from_secs(1)));
        assert_eq!(archiver.behind_ms(), 4_000, "the oldest record that waits is so much older than the newest");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(archiver.step().await, Ok(Step::Archived));
        assert_eq!((archiver.behind_ms(), world.objects.segments().len()), (0, 1));
        world.append(5..6);
        world.live.inner.split(&shard.id, HashKey(1 << 127)).unwrap();
        let mut steps = vec![];
        while steps.last() != Some(&Ok(Step::Ended)) {
            tokio::time::advance(world.settings.idle_pause).await;
            steps.push(archiver.step().await);
            assert!(steps.len() <= 4, "{steps:?}");
        }
        is_whole(&world, "the parent has ended, and its children have nothing");
    });
}

#[test]
fn shards_that_the_stream_no_longer_lists_are_read_from_the_archive_with_their_ranges_and_parents() {
    let world = World::new(1);
    let parent = world.shard();
    world.append(0..20);
    let [lower, upper] = world.live.inner.split(&parent, HashKey(1 << 127)).unwrap();
    world.append(20..60);
    let merged = world.live.inner.merge(&lower, &upper).unwrap();
    world.append(60..80);
    let listed = world.shards();
    assert_eq!(world.archive(), [""; 0]);
    for shard in [&parent, &lower, &upper] {
        world.live.forget(shard);
    }
    assert_eq!(world.shards().len(), 1);
    is_whole(&world, "three shards are in the archive only");
    let whole = world.open().unwrap();
    let mut shards = block_on(events::stream::Stream::shards(&*whole)).unwrap();
    assert_eq!(shards.iter().map(|shard| &shard.id).next_back(), Some(&merged), "parents come before children");
    shards.sort_by_key(|shard| shard.id.clone());
    assert_eq!(shards, listed, "as the stream listed them");
    // A shard that had no record is no loss.
    let [empty, _] = world.live.inner.split(&merged, HashKey(1)).unwrap();
    assert_eq!(world.archive(), [""; 0]);
    world.live.inner.split(&world.shards()[2].id, HashKey(1 << 126)).unwrap();
    world.archive();
    world.live.forget(&merged);
    is_whole(&world, &format!("{empty} has never had a record"));
}

#[test]
fn an_archive_of_another_stream_is_refused_by_who_writes_and_who_reads() {
    let world = World::new(1);
    world.append(0..3);
    world.archive();
    let before = world.objects.segments();
    let refused = block_on(Writer::open(world.objects.clone(), "another stream")).err().unwrap();
    assert!(matches!(&refused, ArchiveError::AnotherStream { found, .. } if found == crate::world::STREAM));
    let refused = refused.to_string();
    assert!(
        refused.contains("memory://archive.json is that of the stream stream of the test; this one is another"),
        "{refused}"
    );
    assert!(block_on(Reader::open(world.objects.clone(), "another stream")).is_err());
    assert_eq!(world.objects.segments(), before);
    let nothing = block_on(Reader::open(Arc::new(Memory::default()), "x")).err().unwrap().to_string();
    assert!(nothing.starts_with("there is no archive at memory://: `weir up --archive` makes one"), "{nothing}");
    // Also if a segment of another stream's archive was copied here: its shards have the same names.
    let (other, name) = (World::new(1), &before[0]);
    other.append(0..3);
    let theirs = block_on(Writer::open(other.objects.clone(), "another stream")).unwrap();
    let stream = ReadOnly::new(other.live.clone());
    work(&mut block_on(Archiver::open(stream, theirs, other.shards()[0].clone(), other.settings)).unwrap());
    world.objects.change(name, |bytes| *bytes = other.objects.take(name).to_vec());
    let said = world.open().unwrap().said().concat();
    assert!(said.contains("it is a segment of another stream: another stream where stream of the test"), "{said}");
}

#[test]
fn an_archiver_that_finds_other_records_where_its_own_belong_stops() {
    let world = World::new(1);
    let shard = world.shards().remove(0);
    world.append(0..3);
    world.archive();
    world.append(3..6);
    // Another stream's archiver puts its next record while this one holds its own.
    let mut archiver = world.archiver(&shard);
    assert_eq!(block_on(archiver.step()), Ok(Step::Read));
    let before = block_on(world.reader().segment(&shard.id, SequenceNumber::ZERO)).unwrap().unwrap();
    let mut theirs = Builder::after(&before, Codec::None);
    theirs.push(&world.all()[&shard.id][5]).unwrap();
    let theirs = theirs.seal(&shard, Closing::Open).unwrap();
    let name = events::archive::name(&shard.id, before.last).unwrap();
    world.objects.objects.lock().unwrap().insert(name, theirs.bytes);
    let answer = block_on(archiver.step());
    assert!(matches!(answer, Err(ArchiveError::Disagrees { .. })), "{answer:?}");
    assert!(matches!(block_on(archiver.step()), Err(ArchiveError::Disagrees { .. })), "and stays so");
}

#[test]
fn positions_and_times_are_found_in_the_archive_and_behind_it() {
    let world = World::new(1);
    let shard: ShardId = world.shard();
    for round in 0..9 {
        world.append(round * 7..round * 7 + 7);
        if round < 7 {
            work(&mut world.archiver(&world.shards()[0]));
        }
    }
    let (whole, all) = (world.open().unwrap(), world.all().remove(&shard).unwrap());
    world.live.trim(&shard, all[40].sequence);
    for (place, record) in all.iter().enumerate() {
        let from = |start| read(&*whole, &shard, start).unwrap();
        assert_eq!(from(Start::At(record.sequence)), all[place..]);
        assert_eq!(from(Start::After(record.sequence)), all[place + 1..]);
        assert_eq!(from(Start::AtTimestamp(record.arrived_at_ms)), all[place..]);
        assert_eq!(from(Start::AtTimestamp(record.arrived_at_ms - 1)), all[place..]);
    }
    assert_eq!(read(&*whole, &shard, Start::Latest).unwrap(), []);
}
