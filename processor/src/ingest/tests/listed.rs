//! The reader's list on disk.

use super::*;
use crate::ingest::list::{ListError, Mark, Print};

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
