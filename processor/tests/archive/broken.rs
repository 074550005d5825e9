//! An archive in which something is missing or wrong: it is said what, where, on both sides, and from where all is there.

use events::{
    position::{HashKey, SequenceNumber},
    stream::{ReadError, Record, Start},
};
use processor::archive::archiver::Step;
use projections::store::law::block_on;

use crate::world::{World, read, read_all, work};

/// A shard of forty records, archived in eight segments of five; the stream has the last three of them only.
fn world() -> (World, Vec<Record>) {
    let world = World::new(1);
    for round in 0..8 {
        world.append(round * 5..round * 5 + 5);
        world.archive();
    }
    let all = world.all().remove(&world.shard()).unwrap();
    assert_eq!(world.objects.segments().len(), 8);
    world.live.trim(&world.shard(), all[36].sequence);
    (world, all)
}

/// What is said, and what can be read.
fn found(world: &World) -> (String, Vec<Record>) {
    let whole = world.open().unwrap();
    let said = whole.said();
    assert!(said.len() <= 1, "{said:?}");
    let records = read_all(&*whole).unwrap().remove(&world.shard()).unwrap();
    (said.concat(), records)
}

fn has(said: &str, parts: &[&str]) {
    parts.iter().for_each(|part| assert!(said.contains(part), "{part}: {said}"));
}

#[test]
fn a_segment_that_is_missing_is_a_hole_between_two_positions_and_the_shard_is_read_from_behind_it() {
    let (world, all) = world();
    let names = world.objects.segments();
    world.objects.take(&names[3]);
    let (said, records) = found(&world);
    has(
        &said,
        &[
            "segments are missing between",
            &names[2],
            &names[4],
            &all[14].sequence.to_string(),
            &all[19].sequence.to_string(),
        ],
    );
    assert_eq!(records, all[20..]);
    // Whoever asks for what is not there is told as by a stream that was trimmed.
    let whole = world.open().unwrap();
    for asked in [all[3].sequence, all[18].sequence] {
        let oldest = all[20].sequence;
        let shard = world.shard();
        assert_eq!(
            read(&*whole, &world.shard(), Start::After(asked)),
            Err(ReadError::Trimmed { shard, asked, oldest })
        );
    }
    assert_eq!(read(&*whole, &world.shard(), Start::After(all[19].sequence)).unwrap(), all[20..], "nothing between");
}

#[test]
fn a_segment_that_is_damaged_or_cut_or_another_one_is_named_and_what_lies_behind_it_can_be_read() {
    for what in ["changed", "cut", "another", "nothing"] {
        let (world, all) = world();
        let names = world.objects.segments();
        let other = world.objects.objects.lock().unwrap()[&names[1]].to_vec();
        world.objects.change(&names[3], |bytes| match what {
            "changed" => bytes[100] ^= 1,
            "cut" => bytes.truncate(90),
            "another" => *bytes = other,
            _ => bytes.clear(),
        });
        let (said, records) = found(&world);
        has(&said, &[&names[3], "is damaged", "move it away"]);
        assert_eq!(records, all[20..], "{what}");
    }
}

#[test]
fn a_segment_that_was_replaced_by_a_sound_one_is_known_by_the_one_behind_it() {
    let (world, all) = world();
    let names = world.objects.segments();
    let records = &all[15..20];
    let (_, before) = events::archive::parse(&names[2]).unwrap();
    let before = block_on(world.reader().segment(&world.shard(), before)).unwrap().unwrap();
    let mut forged = events::archive::Builder::after(&before, events::archive::Codec::Zstd);
    for record in records {
        forged.push(&Record { data: bytes::Bytes::from_static(b"something else"), ..record.clone() }).unwrap();
    }
    let forged = forged.seal(&world.shards()[0], events::archive::Closing::Open).unwrap();
    world.objects.change(&names[3], |bytes| *bytes = forged.bytes.to_vec());
    let (said, records) = found(&world);
    has(&said, &[&names[3], &names[4], "was replaced"]);
    assert_eq!(records, all[20..]);
}

#[test]
fn damage_within_a_segment_stops_the_reader_there_and_names_the_object() {
    let (world, all) = world();
    let names = world.objects.segments();
    world.objects.change(&names[3], |bytes| *bytes.last_mut().unwrap() ^= 1);
    let whole = world.open().unwrap();
    assert_eq!(whole.said(), [""; 0], "headers are whole");
    let error = read_all(&*whole).unwrap_err();
    assert!(matches!(error, ReadError::Damaged(_)));
    has(&error.to_string(), &[&names[3], "the checksum of a block", "move it away"]);
    // What the message tells to do helps.
    world.objects.take(&names[3]);
    assert_eq!(found(&world).1, all[20..]);
}

#[test]
fn a_segment_that_goes_or_changes_while_it_is_read_is_told_and_never_passed_over() {
    let (world, _) = world();
    let names = world.objects.segments();
    let whole = world.open().unwrap();
    let taken = world.objects.take(&names[3]);
    has(&read_all(&*whole).unwrap_err().to_string(), &[&names[3], "is gone since this was begun"]);
    world.objects.objects.lock().unwrap().insert(names[3].clone(), taken);
    assert_eq!(read_all(&*whole).unwrap(), world.all());
}

#[test]
fn what_the_stream_let_go_of_before_it_was_archived_is_a_hole_in_the_chain_and_in_words() {
    let world = World::new(1);
    world.append(0..5);
    assert_eq!(world.archive(), [""; 0]);
    world.append(5..15);
    let all = world.all().remove(&world.shard()).unwrap();
    world.live.trim(&world.shard(), all[9].sequence);
    let lost = world.archive();
    assert_eq!(lost.len(), 1, "said once: {lost:?}");
    has(&lost[0], &[&all[4].sequence.to_string(), &all[10].sequence.to_string(), "were gone"]);
    world.append(15..20);
    assert_eq!(world.archive(), [""; 0]);
    let (said, records) = found(&world);
    has(&said, &["were gone from the stream before they were archived", &all[10].sequence.to_string()]);
    assert_eq!(records, world.all()[&world.shard()][10..]);
}

#[test]
fn records_that_are_held_when_the_stream_lets_go_of_the_next_ones_are_put_before_the_hole() {
    let mut world = World::new(1);
    world.settings.segment_bytes = 1 << 20;
    world.append(0..5);
    let mut archiver = world.archiver(&world.shards()[0]);
    block_on(archiver.step()).unwrap();
    world.append(5..15);
    let all = world.all().remove(&world.shard()).unwrap();
    world.live.trim(&world.shard(), all[9].sequence);
    assert_eq!(work(&mut archiver).len(), 1);
    let shard = world.shard();
    let segments = block_on(world.reader().segments(&shard, SequenceNumber::ZERO)).unwrap();
    assert_eq!(segments, [SequenceNumber::ZERO, all[4].sequence]);
    let header = |after| block_on(world.reader().segment(&shard, after)).unwrap().unwrap();
    assert_eq!((header(segments[0]).is_behind_hole, header(segments[1]).is_behind_hole), (false, true));
    assert_eq!(found(&world).1, all[10..]);
}

#[test]
fn where_the_stream_does_not_go_on_where_the_archive_ends_the_stream_alone_is_read_and_that_is_said() {
    let (world, _) = world();
    world.append(40..60);
    let all = world.all().remove(&world.shard()).unwrap();
    let whole = world.open().unwrap();
    world.live.trim(&world.shard(), all[49].sequence);
    // Who reads already is stopped.
    let error = read_all(&*whole).unwrap_err().to_string();
    has(
        &error,
        &["the archive ends at", &all[39].sequence.to_string(), &all[50].sequence.to_string(), "is in neither"],
    );
    let (said, records) = found(&world);
    has(&said, &["the archive ends at", &all[39].sequence.to_string(), &all[50].sequence.to_string()]);
    assert_eq!(records, all[50..]);
}

#[test]
fn what_is_archived_and_let_go_of_while_one_reads_is_read_from_the_archive() {
    let (world, _) = world();
    let whole = world.open().unwrap();
    world.append(40..60);
    world.archive();
    let all = world.all();
    world.live.trim(&world.shard(), all[&world.shard()][57].sequence);
    assert_eq!(read_all(&*whole).unwrap(), all);
}

#[test]
fn a_shard_that_is_gone_from_the_stream_and_whose_end_is_not_archived_counts_as_lost() {
    let (world, all) = world();
    let parent = world.shard();
    world.live.inner.split(&parent, HashKey(1 << 127)).unwrap();
    world.append(40..60);
    let children: Vec<_> = world.shards()[1..].to_vec();
    children.iter().for_each(|child| drop(work(&mut world.archiver(child))));
    world.live.forget(&parent);
    let whole = world.open().unwrap();
    has(&whole.said().concat(), &[parent.as_str(), "which is not its end", "left out"]);
    assert_eq!(read(&*whole, &parent, Start::TrimHorizon), Ok(vec![]));
    let asked = all[3].sequence;
    let trimmed = read(&*whole, &parent, Start::After(asked));
    assert_eq!(trimmed, Err(ReadError::Trimmed { shard: parent.clone(), asked, oldest: SequenceNumber::MAX }));
    let (mut expected, mut records) = (world.all(), read_all(&*whole).unwrap());
    assert_eq!((expected.remove(&parent).map(|all| all.len()), records.remove(&parent)), (Some(40), Some(vec![])));
    assert_eq!(records, expected, "the children are whole");
}

#[test]
fn a_shard_of_which_all_was_let_go_before_it_was_archived_ends_behind_a_hole() {
    let (world, all) = world();
    let parent = world.shard();
    world.append(40..50);
    world.live.inner.split(&parent, HashKey(1 << 127)).unwrap();
    world.live.trim(&parent, SequenceNumber::MAX);
    let lost = world.archive();
    assert_eq!(lost.len(), 1, "{lost:?}");
    has(&lost[0], &[&all[39].sequence.to_string(), "were gone"]);
    let whole = world.open().unwrap();
    assert_eq!(whole.said().len(), 1);
    assert_eq!(read(&*whole, &parent, Start::TrimHorizon), Ok(vec![]));
}

#[test]
fn a_shard_that_goes_from_the_stream_before_its_end_is_archived_ends_its_archiver_and_is_told() {
    let mut world = World::new(1);
    world.settings.segment_bytes = 1 << 20;
    world.settings.idle_pause = std::time::Duration::ZERO;
    world.append(0..5);
    let mut archiver = world.archiver(&world.shards()[0]);
    assert_eq!(block_on(archiver.step()), Ok(Step::Read));
    let (parent, all) = (world.shard(), world.all());
    world.live.inner.split(&parent, HashKey(1 << 127)).unwrap();
    world.live.forget(&parent);
    let lost = work(&mut archiver);
    assert_eq!(lost.len(), 1, "{lost:?}");
    has(&lost[0], &[parent.as_str(), "no longer has this shard", "its end was not archived"]);
    assert_eq!(archiver.archived_through(), all[&parent][4].sequence, "what it held is there");
    assert_eq!(block_on(archiver.step()), Ok(Step::Ended));
}

#[test]
fn what_one_shard_lacks_stays_said_where_another_ones_archive_grows_while_it_is_looked_at() {
    let world = World::new(2);
    for round in 0..4 {
        world.append(round * 10..round * 10 + 10);
        world.archive();
    }
    let shards = world.shards();
    let of = |shard: usize| {
        let prefix = format!("stream/{}/", shards[shard].id);
        let names = world.objects.segments().into_iter().filter(|name| name.starts_with(&prefix));
        names.collect::<Vec<_>>()
    };
    world.objects.take(&of(0)[1]);
    let newest = of(1).pop().unwrap();
    *world.objects.late.lock().unwrap() = Some((newest.clone(), world.objects.take(&newest)));
    let all = &world.all()[&shards[1].id];
    world.live.trim(&shards[1].id, all[all.len() - 2].sequence);
    world.append(40..50);
    let (whole, all) = (world.open().unwrap(), world.all());
    assert_eq!(world.objects.late.lock().unwrap().take(), None, "it came meanwhile");
    let [said] = whole.said() else { panic!("{:?}", whole.said()) };
    has(said, &[&shards[0].id.to_string(), "segments are missing between"]);
    assert_eq!(read(&*whole, &shards[1].id, Start::TrimHorizon).unwrap(), all[&shards[1].id]);
}

#[test]
fn a_shard_that_the_archive_has_nothing_of_is_named_apart_from_what_is_missing_of_the_others() {
    let world = World::new(2);
    world.append(0..20);
    let [archived, new] = &world.shards()[..] else { panic!("two shards") };
    work(&mut world.archiver(archived));
    let whole = world.open().unwrap();
    assert_eq!(whole.said(), [""; 0], "the stream may still have its first record");
    let [words] = &whole.unarchived()[..] else { panic!("{:?}", whole.unarchived()) };
    has(words, &[&new.id.to_string(), "the archive has nothing of it, and it is read from the stream alone"]);
    world.archive();
    assert_eq!(world.open().unwrap().unarchived(), [""; 0]);
}
