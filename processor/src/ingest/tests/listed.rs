//! The reader's list on disk.

use events::position::{SequenceNumber, ShardId};

use super::*;
use crate::ingest::list::{ListError, Mark, Print, compare};

#[test]
fn a_second_reader_is_kept_out() {
    let world = World::new();
    let list = world.list();
    let second = ReaderList::open(&world.list_folder(), 8, false);
    assert!(matches!(second, Err(ListError::InUse(_))));
    drop(list);
    assert!(ReaderList::open(&world.list_folder(), 8, false).is_ok());
}

#[test]
fn a_torn_end_is_dropped_and_damage_before_it_is_named() {
    let world = World::new();
    let list = world.list();
    let file = world.list_folder().join("files.jsonl");
    for i in 0..2_000 {
        let path = format!("/logs/{i}");
        let entry = list.register("local", &path, Print::of(path.as_bytes()), 5).unwrap();
        list.advance(entry.id, Mark::after(10, b"0123456789")).unwrap();
    }
    drop(list);
    let text = fs::read(&file).unwrap();
    fs::write(&file, &text[..text.len() - 100]).unwrap();
    let list = world.list();
    assert_eq!(list.at("local", "/logs/1999").unwrap().mark.end, 0, "the older word about the file holds");
    assert_eq!(list.at("local", "/logs/1998").unwrap().mark.end, 10);
    drop(list);
    let mut text = fs::read(&file).unwrap();
    text[3_000] ^= 1;
    fs::write(&file, &text).unwrap();
    let error = ReaderList::open(&world.list_folder(), 7, true).err().map(|error| error.to_string()).unwrap();
    assert!(error.contains("line ") && error.contains("checksum"), "{error}");
}

#[test]
fn numbers_and_epochs_are_never_given_twice() {
    let world = World::new();
    let (mut numbers, mut epochs) = (vec![], vec![]);
    for _ in 0..3 {
        let list = world.list();
        for _ in 0..2 {
            let entry = list.register("local", "/a", Print::of(b"1"), 5).unwrap();
            numbers.push(list.origin(&entry).version);
            epochs.push(list.new_producer().unwrap().epoch);
        }
    }
    assert_eq!(numbers, (1..=6).map(|number| format!("0000000000000007-{number}")).collect::<Vec<_>>());
    assert_eq!(epochs, [1, 2, 3, 4, 5, 6]);
}

#[test]
fn a_long_list_is_written_anew_and_says_the_same() {
    let world = World::new();
    let list = world.list();
    let entry = list.register("local", "/a", Print::of(b"1"), 5).unwrap();
    for end in 1..3_000 {
        list.advance(entry.id, Mark::after(end, b"x")).unwrap();
    }
    list.finish(entry.id, None, true).unwrap();
    let before = list.at("local", "/a");
    drop(list);
    let length = || fs::metadata(world.list_folder().join("files.jsonl")).unwrap().len();
    assert!(length() > 100_000);
    assert_eq!(world.list().at("local", "/a"), before);
    assert!(length() < 1_000);
}

#[test]
fn version_1_is_read_as_it_was_written() {
    let world = World::new();
    fs::create_dir_all(world.list_folder()).unwrap();
    fs::write(world.list_folder().join("files.jsonl"), include_str!("../list/golden/v1.jsonl")).unwrap();
    let list = world.list();
    let entry = list.at("local", "/var/log/app.log.1").unwrap();
    assert_eq!(entry.name, "/var/log/app.log");
    assert_eq!((entry.head, entry.mark), (Print::of(b"head"), Mark::after(4, b"head")));
    assert_eq!(entry.reading_since_ms, Some(1_767_225_600_000));
    assert_eq!(list.origin(&entry).version, "00000000000000ff-3");
    assert_eq!(list.new_producer().unwrap().epoch, 3);
    drop(list);
}

#[test]
fn version_2_is_read_as_it_was_written_and_written_as_it_was() {
    let golden = include_str!("../list/golden/v2.jsonl");
    let other = World::new();
    let list = ReaderList::open(&other.list_folder(), 0xee, true).unwrap();
    let entry = list.register("local", "/var/log/app.log", Print::of(b"head"), 1_767_225_600_000).unwrap();
    let mark = Mark { whole: Some(Print::of(b"head").hash), ..Mark::after(4, b"head") };
    list.finish(entry.id, Some(mark), true).unwrap();
    drop(list);
    compare(&other.list_folder(), &[]).unwrap();
    let list = ReaderList::open(&other.list_folder(), 1, true).unwrap();
    let entry = list.at("local", "/var/log/app.log").unwrap();
    list.acknowledged(ShardId::numbered(0), SequenceNumber::from_parts(1, 2));
    list.sync().unwrap();
    drop(list);
    assert!(compare(&other.list_folder(), &[]).unwrap());
    let list = ReaderList::open(&other.list_folder(), 1, true).unwrap();
    list.resume(&entry, "/var/log/app.log.1.gz", entry.head, 0, 1_767_225_700_000).unwrap();
    list.new_producer().unwrap();
    drop(list);
    assert_eq!(fs::read_to_string(other.list_folder().join("files.jsonl")).unwrap(), golden);
    let world = World::new();
    fs::create_dir_all(world.list_folder()).unwrap();
    fs::write(world.list_folder().join("files.jsonl"), golden).unwrap();
    let list = world.list();
    let entry = list.at("local", "/var/log/app.log.1.gz").unwrap();
    assert_eq!((entry.reader, entry.doubtful, entry.resend), (0xee, true, true));
    assert_eq!(entry.mark, Mark { whole: Some(Print::of(b"head").hash), ..Mark::after(4, b"head") });
    assert_eq!(list.origin(&entry).version, "00000000000000ee-1");
    drop(list);
    assert_eq!(fs::read_to_string(world.list_folder().join("files.jsonl")).unwrap(), golden, "nothing was said");
}

#[test]
fn a_reading_that_was_cut_off_goes_on_with_its_time() {
    let mut world = World::new();
    world.write("a.log", lines("a", 100));
    let logs = world.path("");
    let killed = world
        .run_with(&[&logs], |number| (0, if number == 3 { Fault::Killed { appended: false } } else { Fault::None }));
    assert!(killed.is_none());
    world.now_ms = 2;
    world.run();
    world.append("a.log", "more\n");
    world.now_ms = 3;
    world.run();
    let (last, before) = world.fold.read_at.split_last().unwrap();
    assert!(*last == 3 && before.iter().all(|read_at| *read_at == 1), "{:?}", world.fold.read_at);
}

#[test]
fn a_list_that_was_lost_is_not_begun_in_silence() {
    let mut world = World::new();
    world.write("a.log", "1\n");
    world.run();
    fs::remove_dir_all(world.list_folder()).unwrap();
    let error = ReaderList::open(&world.list_folder(), 7, true).err().unwrap().to_string();
    assert!(error.contains("is gone") && error.contains("--again"), "{error}");
    ReaderList::begin_anew(&world.list_folder()).unwrap();
    world.reader = 8;
    world.run();
    assert_eq!(world.counted(), ["1", "1"]);
    // A list that is there is not touched.
    ReaderList::begin_anew(&world.list_folder()).unwrap();
    fs::remove_dir_all(world.list_folder()).unwrap();
    assert!(ReaderList::open(&world.list_folder(), 7, true).is_err());
}

#[test]
fn a_list_from_an_older_backup_gives_no_name_twice() {
    let mut world = World::new();
    let backup = world.path("../backup.jsonl");
    let list = world.list_folder().join("files.jsonl");
    world.write("a.log", "1\n");
    world.run();
    fs::copy(&list, &backup).unwrap();
    world.reader = 8;
    world.write("b.log", "2\n");
    world.run();
    fs::copy(&backup, &list).unwrap();
    world.reader = 9;
    // The same path and number as before, and other bytes.
    world.write("b.log", "3\n");
    world.run();
    assert_eq!(world.counted(), ["1", "2", "3"]);
}

#[test]
fn what_the_stream_has_lost_is_read_again_and_what_it_has_is_known() {
    let shard = ShardId::numbered(0);
    let at = |offset| [(shard.clone(), SequenceNumber::from_parts(1, offset))];
    let mut world = World::new();
    world.write("a.log", lines("a", 100));
    world.write("old.log", "old\n");
    world.run();
    let backup = world.fold.clone();
    world.append("a.log", &lines("b", 100));
    world.write("packed.gz", gz(lines("c", 100).as_bytes()));
    world.run();
    let list = world.list();
    list.acknowledged(shard.clone(), SequenceNumber::from_parts(1, 500));
    list.sync().unwrap();
    drop(list);
    world.counted();
    assert!(!compare(&world.list_folder(), &at(500)).unwrap());
    assert_eq!(world.run().lines_sent, 0, "nothing is lost");
    // The stream is restored from a backup. Whoever opens it compares; twice does no harm.
    world.fold = backup;
    for _ in 0..2 {
        assert!(compare(&world.list_folder(), &at(499)).unwrap());
    }
    let list = world.list();
    let warnings = list.warnings();
    assert!(warnings.len() == 1 && warnings[0].contains("counted as duplicate"), "{warnings:?}");
    drop(list);
    assert!(!compare(&world.list_folder(), &at(499)).unwrap(), "said once");
    // Also where that reading is killed on its way, and where a file was renamed meanwhile.
    world.rename("a.log", "a.log.1");
    let logs = world.path("");
    let plan = |number| (0, if number == 5 { Fault::Killed { appended: true } } else { Fault::None });
    assert!(world.run_with(&[&logs], plan).is_none());
    assert_eq!(failures(&world.run()), [""; 0]);
    let all = [lines("a", 100), "old\n".into(), lines("b", 100), lines("c", 100)].concat();
    assert_eq!(sorted(world.counted()), sorted(all.lines()));
    assert_eq!(world.run().lines_sent, 0);
}

#[test]
fn an_append_at_a_place_that_was_taken_before_tells_that_the_stream_was_replaced() {
    let world = World::new();
    let acknowledged = |offset: u64| {
        let list = world.list();
        list.acknowledged(ShardId::numbered(0), SequenceNumber::from_parts(1, offset));
        list.sync().unwrap();
        list.warnings()
    };
    assert_eq!(acknowledged(500), [""; 0]);
    assert_eq!(acknowledged(501), [""; 0]);
    assert!(acknowledged(20)[0].contains("Run the same again"));
    assert!(world.list().warnings()[0].contains("from its first byte"));
    assert_eq!(acknowledged(21), [""; 0]);
}
