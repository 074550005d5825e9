//! What only a file can suffer, one thing at a time.

use std::{fs, thread};

use bytes::Bytes;
use events::position::{SequenceNumber, ShardId};
use redb::{ReadableDatabase, ReadableTableMetadata};

use super::disk::Disk;
use crate::{
    embedded::{EXPIRED_TOGETHER_MAX, Embedded, OpenError},
    store::{
        Checkpoint, Commit, Day, Generation, Kind, PartName, Partial, ReadError, Row, RowKey, Span, Store, Subject,
        WriteError, Written,
        law::{block_on, random::Random},
    },
};

fn row(name: &str, at: i64, through: u64) -> Row {
    let subject =
        Subject { tenant: "t".to_owned(), generation: Generation(0), kind: Kind::Window, name: name.to_owned() };
    let key = RowKey { subject, at, shard: ShardId::numbered(0), partial: Partial(0), page: 0 };
    let applied_through = SequenceNumber::from_parts(1, through);
    let body = format!("the body of {name} at {at} through {through}").into_bytes().into();
    Row {
        key,
        applied_from: applied_through,
        applied_through,
        folded_on: Day(at.max(0) as u16),
        fold_revision: 1,
        body,
    }
}

fn write(store: &Embedded, rows: &[Row]) -> Result<Vec<Written>, WriteError> {
    block_on(store.write(rows.to_vec()))
}

fn read(store: &Embedded, row: &Row) -> Result<Option<Row>, ReadError> {
    block_on(store.read(std::slice::from_ref(&row.key))).map(|mut rows| rows.remove(0))
}

#[test]
fn rows_are_there_after_closing_and_opening_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.redb");
    let rows: Vec<Row> = (0..100).map(|at| row("web", at, 1)).collect();
    write(&Embedded::open(&path).unwrap(), &rows).unwrap();
    let store = Embedded::open(&path).unwrap();
    for row in &rows {
        assert_eq!(read(&store, row).unwrap().as_ref(), Some(row));
    }
    assert_eq!(write(&store, &rows[..1]).unwrap(), [Written::Lost(rows[0].applied_through)]);
}

#[test]
fn a_second_opener_is_told_which_file_is_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.redb");
    let first = Embedded::open(&path).unwrap();
    let refused = Embedded::open(&path).err().unwrap();
    assert!(matches!(&refused, OpenError::InUse { name } if *name == path.display().to_string()), "{refused:?}");
    write(&first, &[row("web", 0, 1)]).unwrap();
    drop(first);
    assert!(read(&Embedded::open(&path).unwrap(), &row("web", 0, 1)).unwrap().is_some());
}

#[test]
fn a_file_of_another_version_or_program_is_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let newer = folder.path().join("newer");
    drop(Embedded::open(&newer).unwrap());
    let change = |sql: &dyn Fn(&redb::WriteTransaction)| {
        let database = redb::Database::create(&newer).unwrap();
        let transaction = database.begin_write().unwrap();
        sql(&transaction);
        transaction.commit().unwrap();
    };
    change(&|transaction| {
        transaction.open_table(super::super::file::META).unwrap().insert("format", 2).unwrap();
    });
    let refused = Embedded::open(&newer).err().unwrap();
    assert!(matches!(refused, OpenError::Version { found: 2, known: 1, .. }), "{refused:?}");

    let text = folder.path().join("text");
    fs::write(&text, "some notes of mine, longer than any header could be ".repeat(100)).unwrap();
    let refused = Embedded::open(&text).err().unwrap();
    assert!(matches!(refused, OpenError::Foreign { .. }), "{refused:?}");
    assert!(fs::read_to_string(&text).unwrap().starts_with("some notes of mine"));

    let other = folder.path().join("other");
    let database = redb::Database::create(&other).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(redb::TableDefinition::<u64, u64>::new("theirs")).unwrap().insert(1, 1).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let refused = Embedded::open(&other).err().unwrap();
    assert!(matches!(refused, OpenError::Foreign { .. }), "{refused:?}");

    let short = folder.path().join("short");
    drop(Embedded::open(&short).unwrap());
    fs::OpenOptions::new().write(true).open(&short).unwrap().set_len(100).unwrap();
    let refused = Embedded::open(&short).err().unwrap();
    assert!(matches!(refused, OpenError::Damaged { .. }), "{refused:?}");

    let refused = Embedded::open(&folder.path().join("no folder/rows")).err().unwrap();
    assert!(matches!(refused, OpenError::Refused { .. }), "{refused:?}");
}

#[test]
fn a_file_that_was_half_made_when_the_power_went_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.redb");
    let beside = folder.path().join("rows.redb.new");
    fs::write(&beside, [7; 5000]).unwrap();
    let store = Embedded::open(&path).unwrap();
    write(&store, &[row("web", 0, 1)]).unwrap();
    assert!(!beside.exists());
}

#[test]
fn a_full_disk_says_so_and_the_next_write_works_once_there_is_room() {
    let disk = Disk::new();
    let store = disk.open().unwrap();
    let first = row("web", 0, 1);
    write(&store, std::slice::from_ref(&first)).unwrap();
    disk.set_room(Some(disk.platter_len()));
    let large = Row { body: Bytes::from(vec![1; 300_000]), ..row("web", 1, 2) };
    let larger: Vec<Row> = (0..12).map(|at| Row { key: row("web", at + 1, 0).key, ..large.clone() }).collect();
    for _ in 0..3 {
        let refused = write(&store, &larger).unwrap_err();
        assert!(matches!(&refused, WriteError::NotWritten(why) if why.contains("no room for disk")), "{refused:?}");
        assert_eq!(read(&store, &first).unwrap().as_ref(), Some(&first), "reading goes on");
        assert_eq!(read(&store, &larger[0]).unwrap(), None);
    }
    disk.set_room(None);
    assert_eq!(write(&store, &larger).unwrap(), vec![Written::Stored; 12]);
    drop(store);
    let store = disk.open().unwrap();
    assert!(larger.iter().all(|row| read(&store, row).unwrap().as_ref() == Some(row)));
}

#[test]
fn after_a_failed_sync_nothing_is_written_and_reading_goes_on() {
    let disk = Disk::new();
    let store = disk.open().unwrap();
    let first = row("web", 0, 1);
    write(&store, std::slice::from_ref(&first)).unwrap();
    disk.fail_syncs(true);
    assert!(write(&store, &[row("web", 0, 2)]).is_err());
    disk.fail_syncs(false);
    let refused = write(&store, &[row("web", 1, 3)]).unwrap_err();
    let text = refused.to_string();
    assert!(text.contains("sync of disk failed") && text.contains("restart"), "{text}");
    assert!(matches!(refused, WriteError::NotWritten(_)));
    assert!(read(&store, &first).unwrap().is_some());
    assert_eq!(read(&store, &row("web", 1, 3)).unwrap(), None);
}

#[test]
fn a_read_during_a_commit_does_not_wait_for_it() {
    let disk = Disk::new();
    let store = disk.open().unwrap();
    let (old, new) = (row("web", 0, 1), row("web", 0, 2));
    write(&store, std::slice::from_ref(&old)).unwrap();
    disk.hold_syncs(true);
    thread::scope(|scope| {
        let writing = scope.spawn(|| write(&store, std::slice::from_ref(&new)).unwrap());
        disk.wait_for_a_held_sync();
        // Would hang here, if it waited.
        assert_eq!(read(&store, &old).unwrap().as_ref(), Some(&old));
        let span = Span::Of { subject: old.key.subject.clone(), from: 0, to: 1 };
        assert_eq!(block_on(store.scan(&span, None, 9.try_into().unwrap())).unwrap().rows, [old]);
        disk.hold_syncs(false);
        assert_eq!(writing.join().unwrap(), [Written::Stored]);
    });
    assert_eq!(read(&store, &new).unwrap(), Some(new));
}

#[test]
fn writes_that_wait_together_share_a_sync_and_keep_their_own_answers() {
    let disk = Disk::new();
    let store = disk.open().unwrap();
    disk.hold_syncs(true);
    let store = &store;
    thread::scope(|scope| {
        let first = scope.spawn(move || write(store, &[row("first", 0, 1)]).unwrap());
        disk.wait_for_a_held_sync();
        let others: Vec<_> = (1..=8u64)
            .map(|n| scope.spawn(move || write(store, &[row("same", 0, n), row("own", n as i64, n)]).unwrap()))
            .collect();
        disk.hold_syncs(false);
        assert_eq!(first.join().unwrap(), [Written::Stored]);
        for other in others {
            assert_eq!(other.join().unwrap()[1], Written::Stored);
        }
    });
    assert_eq!(read(store, &row("same", 0, 8)).unwrap(), Some(row("same", 0, 8)));
}

#[test]
fn a_damaged_row_is_named_and_its_neighbours_are_read() {
    let disk = Disk::new();
    let store = disk.open().unwrap();
    let rows = [row("a", 0, 1), row("b", 0, 1), row("c", 0, 1)];
    write(&store, &rows).unwrap();
    drop(store);
    disk.with_bytes(|bytes| {
        let body = &rows[1].body;
        let places: Vec<usize> = memchr::memmem::find_iter(bytes, body).collect();
        assert!(!places.is_empty());
        places.into_iter().for_each(|place| bytes[place] ^= 0x20);
    });
    let store = disk.open().unwrap();
    let Err(ReadError::Damaged(text)) = read(&store, &rows[1]) else { panic!("damage was not seen") };
    assert!(text.contains("`b`") && text.contains("disk"), "{text}");
    assert_eq!(read(&store, &rows[0]).unwrap().as_ref(), Some(&rows[0]));
    // Also among writes that share a transaction: one is refused, the others are not.
    disk.hold_syncs(true);
    let store = &store;
    thread::scope(|scope| {
        let first = scope.spawn(move || write(store, &[row("a", 0, 2)]).unwrap());
        disk.wait_for_a_held_sync();
        let spawn = |name, at| scope.spawn(move || write(store, &[row(name, at, 2)]));
        let (bad, good): (Vec<_>, Vec<_>) = (0..5).map(|at| (spawn("b", 0), spawn("c", at))).unzip();
        disk.hold_syncs(false);
        assert_eq!(first.join().unwrap(), [Written::Stored]);
        for bad in bad {
            let refused = bad.join().unwrap().unwrap_err();
            assert!(matches!(&refused, WriteError::NotWritten(why) if why.contains("damaged")), "{refused:?}");
        }
        for good in good {
            assert_eq!(good.join().unwrap().unwrap(), [Written::Stored]);
        }
    });
}

#[test]
fn any_damage_is_an_error_or_harmless_but_never_another_row() {
    let rows: Vec<Row> = (0..300).map(|at| row("web", at, 1)).collect();
    let span = Span::All { tenant: None, generation: Generation(0), kind: Kind::Window };
    let mut found_damage = 0;
    for seed in 0..40 {
        let mut random = Random::new(seed);
        let disk = Disk::new();
        write(&disk.open().unwrap(), &rows).unwrap();
        disk.with_bytes(|bytes| {
            let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() as u64;
            for _ in 0..=random.below(200) {
                bytes[random.below(end) as usize] = random.next() as u8;
            }
        });
        let Ok(store) = disk.open() else {
            found_damage += 1;
            continue;
        };
        for wanted in &rows {
            match read(&store, wanted) {
                Ok(found) => assert!(found.as_ref().is_none_or(|found| found == wanted), "seed {seed}: {found:?}"),
                Err(_) => found_damage += 1,
            }
        }
        match block_on(store.scan(&span, None, 1000.try_into().unwrap())) {
            Ok(found) => assert!(found.rows.iter().all(|row| rows.contains(row)), "seed {seed}"),
            Err(_) => found_damage += 1,
        }
    }
    assert!(found_damage > 20, "{found_damage}");
}

#[test]
fn parts_that_no_resume_point_names_take_no_room() {
    let store = Embedded::in_memory().unwrap();
    for position in 1..=20 {
        let names = [position - 1, position].map(|number| PartName(format!("part {number}")));
        let new = if position == 1 { &names[..] } else { &names[1..] };
        // One that it does not name is not even stored.
        let unnamed = PartName(format!("unnamed {position}"));
        let parts = new.iter().chain([&unnamed]).map(|name| (name.clone(), Bytes::from_static(b"body"))).collect();
        let position = SequenceNumber::from_parts(1, position);
        let (generation, shard) = (Generation(0), ShardId::numbered(0));
        let checkpoint =
            Checkpoint { generation, shard, position, fold_revision: 1, ended: false, parts: names.to_vec() };
        let committed = block_on(store.commit(Commit { rows: Vec::new(), parts, checkpoint })).unwrap();
        assert_eq!(committed.checkpoint, Ok(()));
        let count = |database: &redb::Database| {
            let parts = database.begin_read().unwrap().open_table(super::super::file::PARTS).unwrap();
            parts.len().unwrap()
        };
        assert_eq!(store.file.with(count).unwrap(), 2);
    }
}

#[test]
fn expiry_goes_on_over_many_transactions() {
    let store = Embedded::in_memory().unwrap();
    let names = ["a", "b", "c"];
    let per_name = EXPIRED_TOGETHER_MAX as u16 * 2 / 3;
    let rows =
        names.into_iter().flat_map(|name| (0..per_name).map(move |day| row(name, day.into(), 1))).collect::<Vec<_>>();
    write(&store, &rows).unwrap();
    let removed = block_on(store.expire(Generation(0), Kind::Window, Day(per_name - 1))).unwrap();
    assert_eq!(removed, 3 * (u64::from(per_name) - 1));
    let span = Span::All { tenant: None, generation: Generation(0), kind: Kind::Window };
    let left = block_on(store.scan(&span, None, 10.try_into().unwrap())).unwrap();
    assert_eq!(left.rows, names.map(|name| row(name, i64::from(per_name) - 1, 1)));
}
