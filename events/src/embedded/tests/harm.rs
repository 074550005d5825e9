//! What the stream does when files, the disk or the clock are not as they should be: it says so, and never makes up or hides a record.

use proptest::prelude::*;

use super::*;
use crate::embedded::disk::simulated::Faults;

const SHARD: &str = "shardId-000000000000";

fn segments(disk: &SimulatedDisk) -> Vec<String> {
    let mut names = disk.list(SHARD).unwrap();
    names.retain(|name| name.ends_with(".log"));
    names.sort();
    names.into_iter().map(|name| format!("{SHARD}/{name}")).collect()
}

/// So many records of a sector each, every one synced alone; the stream is closed.
fn filled(disk: &SimulatedDisk, records: usize) -> Vec<SequenceNumber> {
    let stream = open(disk, small());
    (0..records).map(|i| append(&stream, vec![put("k", vec![i as u8; 512 - 49])])[0]).collect()
}

fn reopen(disk: &SimulatedDisk) -> Result<Embedded<SimulatedDisk>, OpenError> {
    Embedded::open(disk.clone(), || 1_000, small())
}

#[test]
fn a_harmed_record_before_a_later_one_stops_the_opening_and_is_named() {
    let disk = SimulatedDisk::new(1);
    filled(&disk, 5);
    disk.harm(&segments(&disk)[0], 4096 + 512 + 100, b"harm");
    let error = reopen(&disk).unwrap_err();
    let OpenError::Damaged { file, offset, .. } = &error else { panic!("{error}") };
    assert_eq!((file.as_str(), *offset), ("simulated:shardId-000000000000/00000000000000000000.log", 4096 + 512));
    assert!(error.to_string().contains("keep a copy"), "the next step is said: {error}");
}

#[test]
fn a_torn_last_record_is_cut_and_never_comes_back() {
    let disk = SimulatedDisk::new(1);
    let sequences = filled(&disk, 5);
    disk.harm(&segments(&disk)[0], 4096 + 4 * 512 + 100, b"torn");
    let stream = reopen(&disk).unwrap();
    assert_eq!(read_all(&stream, 0, Start::TrimHorizon).unwrap().len(), 4);
    let next = append(&stream, vec![put("k", Vec::new())])[0];
    assert!(next > sequences[4], "its position is not used again");
    assert_eq!(read_all(&stream, 0, Start::After(sequences[3])).unwrap()[0].sequence, next);
}

#[test]
fn harm_in_a_sealed_segment_is_found_when_it_is_read() {
    let disk = SimulatedDisk::new(1);
    let sequences = filled(&disk, 30);
    disk.harm(&segments(&disk)[1], 4096 + 512 + 100, b"harm");
    let stream = reopen(&disk).unwrap();
    let whole = read_all(&stream, 0, Start::TrimHorizon);
    let Err(ReadError::Damaged(what)) = whole else { panic!("{whole:?}") };
    assert!(what.contains("00000000000000004096.log") && what.contains("byte 4608"), "{what}");
    let before = block_on(stream.read(&ShardId::numbered(0), Start::After(sequences[7]), LIMITS)).unwrap();
    assert_eq!(before.records.len(), 1, "what stands before it can be read");
}

#[test]
fn a_missing_misplaced_foreign_or_short_segment_stops_the_opening() {
    let break_and_open = |harm: &dyn Fn(&SimulatedDisk, &[String])| {
        let disk = SimulatedDisk::new(1);
        filled(&disk, 40);
        harm(&disk, &segments(&disk));
        reopen(&disk).map(|_| ()).unwrap_err().to_string()
    };
    let missing = break_and_open(&|disk, files| disk.remove(&files[2]).unwrap());
    assert!(missing.contains("00000000000000008192.log is damaged at byte 0: the segment is missing"), "{missing}");
    let header = break_and_open(&|disk, files| disk.harm(&files[2], 30, b"x"));
    assert!(header.contains("header is not what was written"), "{header}");
    let last_header = break_and_open(&|disk, files| disk.harm(files.last().unwrap(), 30, b"x"));
    assert!(last_header.contains("records stand behind it"), "{last_header}");
    let misplaced = break_and_open(&|disk, files| disk.rename(&files[1], &files[2]).unwrap());
    assert!(misplaced.contains("under another one's name"), "{misplaced}");
    let short = break_and_open(&|disk, files| disk::File::set_len(&disk.open(&files[1]).unwrap(), 5000).unwrap());
    assert!(short.contains("shorter than what was written"), "{short}");
    let metadata = break_and_open(&|disk, _| disk.harm("stream", 20, b"x"));
    assert!(metadata.contains("checksum"), "{metadata}");
    let no_metadata = break_and_open(&|disk, _| disk.remove("stream").unwrap());
    assert!(no_metadata.contains("it is missing, and there are shards"), "{no_metadata}");
    let empty = break_and_open(&|disk, files| files.iter().for_each(|file| disk.remove(file).unwrap()));
    assert!(empty.contains("the shard has no segment"), "{empty}");
    let foreign = break_and_open(&|disk, files| {
        let other = SimulatedDisk::new(2);
        filled(&other, 40);
        disk.harm(&files[1], 0, &other.contents(&files[1]).unwrap());
    });
    assert!(foreign.contains("belongs to another stream"), "{foreign}");
}

#[test]
fn metadata_put_back_from_an_older_copy_costs_no_record_and_no_position_is_used_twice() {
    for (records, trimmed) in [(5, false), (30, false), (30, true)] {
        let disk = SimulatedDisk::new(1);
        drop(open(&disk, small()));
        let older = disk.contents("stream").unwrap();
        let mut sequences = Vec::new();
        for opening in 0..3u8 {
            let stream = open(&disk, small());
            for i in 0..records {
                sequences.extend(append(&stream, vec![put("k", vec![opening.max(i); 512 - 49])]));
            }
            if trimmed {
                stream.trim(&ShardId::numbered(0), i64::MAX, sequences[sequences.len() - 3]).unwrap();
            }
        }
        let kept = read_all(&open(&disk, small()), 0, Start::TrimHorizon).unwrap();
        disk.harm("stream", 0, &older);
        for _ in 0..3 {
            let stream = reopen(&disk).unwrap();
            assert!(read_all(&stream, 0, Start::TrimHorizon).unwrap() == kept);
        }
        disk.harm("stream", 0, &older);
        let stream = reopen(&disk).unwrap();
        let next = append(&stream, vec![put("k", vec![1])])[0];
        assert!(next.parts().unwrap().0 > sequences.last().unwrap().parts().unwrap().0, "its epoch is a new one");
        drop(stream);
        disk.harm("stream", 0, &older);
        disk.harm(segments(&disk).last().unwrap(), 4096 + 100, b"harm");
        if records == 5 {
            let error = reopen(&disk).unwrap_err().to_string();
            assert!(
                error.contains("is damaged at byte 4096"),
                "harm before a later record is found all the same: {error}"
            );
        }
    }
}

#[test]
fn metadata_of_before_the_first_opening_was_done_makes_no_shard_again() {
    let disk = SimulatedDisk::new(1);
    filled(&disk, 30);
    let kept = read_all(&reopen(&disk).unwrap(), 0, Start::TrimHorizon).unwrap();
    let unfinished = Metadata { epoch: 0, ..Metadata::load(&disk).unwrap().unwrap() };
    for trimmed in [false, true] {
        unfinished.store(&disk).unwrap();
        let stream = reopen(&disk).unwrap();
        let expected = if trimmed { &kept[kept.len() - 6..] } else { &kept };
        assert!(read_all(&stream, 0, Start::TrimHorizon).unwrap() == expected);
        stream.trim(&ShardId::numbered(0), i64::MAX, SequenceNumber::MAX).unwrap();
    }
}

#[test]
fn a_full_disk_refuses_cleanly_and_goes_on_when_there_is_room() {
    let disk = SimulatedDisk::new(1);
    let stream = open(&disk, small());
    disk.set_capacity(Some(20_000));
    let mut taken = Vec::new();
    let refused = loop {
        match block_on(stream.append(vec![put("k", vec![7; 900])])) {
            Ok(answers) => taken.push(answers[0].clone().unwrap().sequence),
            Err(refused) => break refused,
        }
    };
    assert!(
        matches!(&refused, AppendError::NotAppended(why) if why.contains("storage") && why.contains("shardId-000000000000/")),
        "{refused:?}"
    );
    assert!(taken.len() >= 4);
    disk.set_capacity(None);
    taken.extend(append(&stream, vec![put("k", vec![7; 900])]));
    disk.power_loss(3);
    let stream = reopen(&disk).unwrap();
    let kept: Vec<_> = read_all(&stream, 0, Start::TrimHorizon).unwrap().iter().map(|record| record.sequence).collect();
    assert_eq!(kept, taken);
}

#[test]
fn after_a_failed_sync_every_call_fails_and_the_answer_is_unknown() {
    let disk = SimulatedDisk::new(1);
    let stream = open(&disk, small());
    append(&stream, vec![put("k", vec![1])]);
    disk.set_faults(Faults { sync: 1, ..Faults::default() });
    let answer = block_on(stream.append(vec![put("k", vec![2])]));
    assert!(matches!(answer, Err(AppendError::Unknown(_))), "{answer:?}");
    disk.set_faults(Faults::default());
    let answer = block_on(stream.append(vec![put("k", vec![3])]));
    assert!(matches!(&answer, Err(AppendError::NotAppended(why)) if why.contains("end this process")), "{answer:?}");
    assert!(matches!(read_all(&stream, 0, Start::TrimHorizon), Err(ReadError::Unavailable(_))));
    assert!(matches!(stream.trim(&ShardId::numbered(0), 0, SequenceNumber::MAX), Err(TrimError::Ended(_))));
    assert!(stream.ended().is_some_and(|why| why.contains("sync")));
}

#[test]
fn retention_removes_whole_old_segments_and_says_what_is_lost() {
    let disk = SimulatedDisk::new(1);
    let now = Arc::new(std::sync::atomic::AtomicI64::new(0));
    let clock = now.clone();
    let clock = move || clock.fetch_add(10, std::sync::atomic::Ordering::Relaxed);
    let stream = Embedded::open(disk.clone(), clock, small()).unwrap();
    // Eight of these fill a segment; their stamps are 10, 20, ….
    let sequences: Vec<_> = (0..40).map(|i| append(&stream, vec![put("k", vec![i; 512 - 49])])[0]).collect();
    let shard = ShardId::numbered(0);
    let files = segments(&disk).len();
    assert_eq!(stream.trim(&shard, 80, SequenceNumber::MAX).unwrap(), 0, "the eighth record is not older");
    assert_eq!(stream.trim(&shard, i64::MAX, sequences[7]).unwrap(), 0, "nothing at or after keep_from goes");
    assert_eq!(stream.trim(&shard, i64::MAX, sequences[8]).unwrap(), 1);
    assert_eq!(stream.trim(&shard, 250, SequenceNumber::MAX).unwrap(), 2);
    assert_eq!(segments(&disk).len(), files - 3);
    let check = |stream: &Embedded<SimulatedDisk>| {
        let kept = read_all(stream, 0, Start::TrimHorizon).unwrap();
        assert_eq!(kept[0].sequence, sequences[24]);
        let asked = sequences[22];
        let lost = read_all(stream, 0, Start::After(asked));
        assert_eq!(lost, Err(ReadError::Trimmed { shard: shard.clone(), asked, oldest: sequences[24] }));
        assert!(matches!(read_all(stream, 0, Start::At(sequences[23])), Err(ReadError::Trimmed { .. })));
        let after_the_last_lost = read_all(stream, 0, Start::After(sequences[23])).unwrap();
        assert_eq!(after_the_last_lost, kept, "nothing that was to be read is gone");
        assert_eq!(read_all(stream, 0, Start::At(SequenceNumber::ZERO)).unwrap(), kept);
        assert_eq!(read_all(stream, 0, Start::AtTimestamp(0)).unwrap(), kept);
    };
    check(&stream);
    drop(stream);
    check(&reopen(&disk).unwrap());
}

#[test]
fn a_clock_that_went_back_waits_for_a_person_and_is_told_until_the_event_is_appended() {
    let disk = SimulatedDisk::new(1);
    let options = Options { shards: 3.try_into().unwrap(), ..small() };
    let at = |now_ms: i64, options: &Options| Embedded::open(disk.clone(), move || now_ms, options.clone());
    let stream = at(10_000_000, &options).unwrap();
    let put_each =
        |stream: &Embedded<SimulatedDisk>| append(stream, (0..20).map(|i| put(&i.to_string(), vec![i])).collect());
    put_each(&stream);
    assert_eq!(stream.time_reset(), None);
    drop(stream);
    let error = at(9_000_000, &options).unwrap_err().to_string();
    assert!(error.contains("1970-01-01T02:30:00.000Z") && error.contains("1970-01-01T02:46:40.000Z"), "{error}");
    drop(at(9_950_000, &options).unwrap());
    let confirmed = Options { confirm_clock: true, ..options.clone() };
    let stream = at(9_000_000, &confirmed).unwrap();
    let reset = Some(TimeReset { from_ms: 10_000_000, to_ms: 9_000_000 });
    assert_eq!(stream.time_reset(), reset);
    drop(stream);
    let stream = at(9_000_500, &options).unwrap();
    assert_eq!(stream.time_reset(), reset, "until it is durable in the stream");
    append(&stream, vec![put("0", vec![1])]);
    stream.time_reset_appended().unwrap();
    drop(stream);
    let stream = at(9_001_000, &options).unwrap();
    assert_eq!(stream.time_reset(), None);
    put_each(&stream);
    let newest: Vec<i64> = (0..3)
        .map(|shard| read_all(&stream, shard, Start::TrimHorizon).unwrap().last().unwrap().arrived_at_ms)
        .collect();
    assert_eq!(newest, [9_001_000; 3], "stamps follow the clock again");
}

#[test]
fn a_clock_that_goes_far_back_while_running_refuses_appends_until_it_is_right_again() {
    let disk = SimulatedDisk::new(1);
    let now = Arc::new(std::sync::atomic::AtomicI64::new(1_000_000));
    let clock = now.clone();
    let clock = move || clock.load(std::sync::atomic::Ordering::Relaxed);
    let stream = Embedded::open(disk, clock, small()).unwrap();
    append(&stream, vec![put("k", vec![1])]);
    now.store(900_000, std::sync::atomic::Ordering::Relaxed);
    let refused = block_on(stream.append(vec![put("k", vec![2])]));
    assert!(matches!(&refused, Err(AppendError::NotAppended(why)) if why.contains("00:15:00")), "{refused:?}");
    now.store(1_000_001, std::sync::atomic::Ordering::Relaxed);
    append(&stream, vec![put("k", vec![3])]);
    let stamps: Vec<_> =
        read_all(&stream, 0, Start::TrimHorizon).unwrap().iter().map(|record| record.arrived_at_ms).collect();
    assert_eq!(stamps, [1_000_000, 1_000_001]);
}

#[test]
fn a_record_that_never_can_be_taken_is_told_apart_where_the_others_fail() {
    let disk = SimulatedDisk::new(1);
    let stream = open(&disk, small());
    disk.set_capacity(Some(10_000));
    let puts = vec![put("", vec![1]), put("k", vec![7; 20_000])];
    let answers = block_on(stream.append(puts)).unwrap();
    assert!(matches!(&answers[..], [Err(Refused::Invalid(_)), Err(Refused::Failed)]), "{answers:?}");
}

#[test]
fn positions_that_are_no_records_are_read_from_the_next_one() {
    let disk = SimulatedDisk::new(1);
    let sequences = filled(&disk, 20);
    let stream = reopen(&disk).unwrap();
    let later = append(&stream, vec![put("k", vec![1])])[0];
    for from in [Start::At as fn(SequenceNumber) -> Start, Start::After] {
        let (epoch, offset) = sequences[3].parts().unwrap();
        for between in [(epoch, offset + 8), (epoch, offset + 3)] {
            let read = read_all(&stream, 0, from(SequenceNumber::from_parts(between.0, between.1))).unwrap();
            assert_eq!(read[0].sequence, sequences[4]);
        }
        let (epoch, offset) = later.parts().unwrap();
        let cut = SequenceNumber::from_parts(epoch - 1, offset + 800);
        assert_eq!(read_all(&stream, 0, from(cut)).unwrap()[0].sequence, later, "a tail that was cut stood there");
        assert_eq!(read_all(&stream, 0, from(SequenceNumber::MAX)).unwrap(), []);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn arbitrary_bytes_in_a_segment_never_panic_and_never_make_up_a_record(
        harm in prop::collection::vec((0usize..12_288, prop::collection::vec(any::<u8>(), 1..600)), 1..4),
        from_other in any::<prop::sample::Index>(),
    ) {
        let disk = SimulatedDisk::new(1);
        filled(&disk, 20);
        let files = segments(&disk);
        let file = from_other.get(&files);
        for (at, bytes) in &harm {
            disk.harm(file, *at as u64, bytes);
        }
        if let Ok(stream) = reopen(&disk) {
            for record in read_all(&stream, 0, Start::TrimHorizon).unwrap_or_default() {
                prop_assert!(record.data.len() == 512 - 49 && record.data.iter().all(|byte| *byte == record.data[0]));
            }
        }
    }
}
