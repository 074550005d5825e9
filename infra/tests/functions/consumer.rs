//! The consumer: what it answers, and what it has made durable by then.

use std::time::{Duration, Instant};

use events::position::SequenceNumber;
use serde_json::json;

use crate::{
    cloud::{CONSUMER, Cloud, batches, lines, minute},
    lambda::Ended,
    mapping::{TIME, done_with, event, recorded, run},
};

const SHARD: &str = "shardId-000000000000";

#[test]
fn a_batch_is_durable_when_it_is_answered_and_what_comes_again_counts_once() {
    let cloud = Cloud::new(1);
    let puts = batches("app.log", &lines("app", 0..600));
    cloud.append(&puts);
    let records = recorded(&cloud, SHARD);
    assert!(records.len() > 10, "{}", records.len());
    let mut function = cloud.function(CONSUMER);
    let whole = json!({"batchItemFailures": []});
    let mut last = None;
    // Batches that overlap, that are inside one that came before, and that begin before the resume point.
    for (from, to) in [(0, 4), (0, 4), (2, 7), (3, 5), (6, 10), (0, records.len())] {
        assert_eq!(function.invoke(&event(&records[from..to]), TIME).answered(), whole, "{}", function.said());
        last = last.max(Some(to));
        let (position, ended) = cloud.resume_point(SHARD).unwrap();
        assert_eq!((position.as_str(), ended), (records[last.unwrap() - 1].sequence.as_str(), false));
    }
    assert_eq!(cloud.verifies(), cloud.embedded(&puts));
    let log = function.log(6);
    let openings: Vec<_> = log.iter().map(|line| line["openings"].as_u64().unwrap()).collect();
    assert_eq!(openings, [1, 0, 0, 0, 0, 0], "the worker is kept for the next batch: {log:?}");
    assert!(log[0]["folded"].as_u64().unwrap() > 0 && log.iter().all(|line| line["level"] == "INFO"), "{log:?}");
    assert!(!function.said().contains("a-secret"));
}

#[test]
fn what_stands_before_a_batch_and_was_never_folded_is_read_from_the_stream() {
    let cloud = Cloud::new(1);
    let puts = batches("app.log", &lines("app", 0..900));
    cloud.append(&puts);
    let records = recorded(&cloud, SHARD);
    let third = records.len() / 3;
    // A mapping that begins at LATEST.
    let mut function = cloud.function(CONSUMER);
    run(&mut function, &records[third..third + 2], 2, 1);
    // A batch that was thrown away after its retries.
    run(&mut function, &records[2 * third..], 5, 1);
    assert_eq!(cloud.resume_point(SHARD).unwrap().0, records.last().unwrap().sequence);
    assert_eq!(cloud.verifies(), cloud.embedded(&puts));
}

#[test]
fn near_its_deadline_it_commits_what_it_has_and_reports_the_first_record_that_is_left() {
    // An undisturbed invocation on another pair says how long one takes; it is made to stand still after a share of it, until the time is nearly over.
    let (cloud, other) = (Cloud::new(1), Cloud::new(1));
    // The time is looked at after each page of a thousand.
    let mut puts = batches("app.log", &minute(2_000));
    [&cloud, &other].iter().for_each(|pair| drop(pair.append(&puts)));
    let mut records = recorded(&cloud, SHARD);
    assert!(records.len() > 3_000, "{}", records.len());
    // Both have their workers from the file before; without one, most of the time goes by before anything is folded.
    let warmed = 100;
    let (mut undisturbed, mut function) = (other.function(CONSUMER), cloud.function(CONSUMER));
    run(&mut function, &records[..warmed], warmed, 1);
    let others = recorded(&other, SHARD);
    run(&mut undisturbed, &others[..warmed], warmed, 1);
    assert!(undisturbed.is_ready());
    let begun = Instant::now();
    run(&mut undisturbed, &others[warmed..], others.len(), 1);
    let whole = begun.elapsed().min(Duration::from_secs(4));
    let (mut from, mut parts, mut invocations) = (warmed, 0, 1);
    for (number, share) in [0.5, 0.4, 0.6, 0.3, 0.7, 0.2, 0.8, 0.45, 0.55, 0.35, 0.65, 0.1].into_iter().enumerate() {
        if parts > 0 {
            break;
        }
        if from == records.len() {
            let more = batches(&format!("app-{number}.log"), &minute(2_000));
            cloud.append(&more);
            puts.extend(more);
            records = recorded(&cloud, SHARD);
        }
        let batch = &records[from..];
        assert!(function.is_ready());
        let begun = Instant::now();
        // Two seconds of it are for the commit.
        let number = function.hand_over(&event(batch), Duration::from_secs(6));
        while begun.elapsed() < whole.mul_f64(share) {
            std::thread::sleep(Duration::from_millis(1));
        }
        function.pause();
        while begun.elapsed() < Duration::from_millis(4_100) {
            std::thread::sleep(Duration::from_millis(5));
        }
        function.go_on();
        let done = done_with(batch, &function.wait(number));
        invocations += 1;
        if let Some(last) = done.checked_sub(1) {
            // A commit that was under way at the very end may have succeeded: durable is never less than what was answered.
            let durable: SequenceNumber = cloud.resume_point(SHARD).unwrap().0.parse().unwrap();
            assert!(durable >= batch[last].sequence.parse().unwrap(), "an answer is what is durable");
        }
        parts += u32::from(done > 0 && done < batch.len());
        from += done;
    }
    let log = function.log(invocations);
    assert!(parts > 0, "nothing was left over: {log:?}");
    assert!(log.iter().any(|line| line["left"] == "the time was over" && line["level"] == "WARN"), "{log:?}");
    run(&mut function, &records[from..], records.len(), 3);
    assert_eq!(cloud.verifies(), cloud.embedded(&puts));
}

#[test]
fn killed_in_the_middle_it_goes_on_from_the_resume_point_whatever_the_batches_are_then() {
    // An undisturbed invocation on another pair says how long one takes; kill points are shares of it.
    let (cloud, other) = (Cloud::new(1), Cloud::new(1));
    let puts = [batches("app.log", &lines("app", 0..4_000)), batches("busy.log", &minute(100))].concat();
    [&cloud, &other].iter().for_each(|pair| drop(pair.append(&puts)));
    let records = recorded(&cloud, SHARD);
    let mut undisturbed = other.function(CONSUMER);
    assert!(undisturbed.is_ready());
    let begun = Instant::now();
    run(&mut undisturbed, &recorded(&other, SHARD), records.len(), 1);
    let whole = begun.elapsed();
    let mut kills = 0;
    for share in [0.1, 0.3, 0.5, 0.7, 0.85, 0.95] {
        let mut function = cloud.function(CONSUMER);
        assert!(function.is_ready());
        let number = function.hand_over(&event(&records), TIME);
        let until = Instant::now() + whole.mul_f64(share);
        while Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        function.kill();
        kills += u32::from(function.wait(number) == Ended::Died);
    }
    assert!(kills > 0, "every invocation had ended before its kill");
    // Bisected, and cut otherwise.
    let half = records.len() / 2;
    let mut function = cloud.function(CONSUMER);
    run(&mut function, &records[..half], half, 1);
    run(&mut function, &records[half - 2..], 50, 1);
    assert_eq!(cloud.verifies(), cloud.embedded(&puts), "after {kills} kills");
}

#[test]
fn two_instances_that_get_one_shard_at_once_count_each_line_once() {
    let cloud = Cloud::new(1);
    let puts = batches("app.log", &lines("app", 0..3_000));
    cloud.append(&puts);
    let records = recorded(&cloud, SHARD);
    let mut functions = [cloud.function(CONSUMER), cloud.function(CONSUMER)];
    functions.iter_mut().for_each(|function| assert!(function.is_ready()));
    for (number, batch) in records.chunks(20).enumerate() {
        let events = [event(batch), event(&batch[..batch.len() / 2 + 1])];
        let numbers: Vec<u64> = functions
            .iter_mut()
            .enumerate()
            .map(|(i, function)| function.hand_over(&events[(i + number) % 2], TIME))
            .collect();
        for (function, number) in functions.iter_mut().zip(numbers) {
            let answer = function.wait(number).answered();
            assert_eq!(answer, json!({"batchItemFailures": []}), "{}", function.said());
        }
    }
    assert_eq!(cloud.verifies(), cloud.embedded(&puts));
}

#[test]
fn an_instance_that_was_overtaken_by_another_begins_anew_at_the_resume_point() {
    let cloud = Cloud::new(1);
    let puts = batches("app.log", &lines("app", 0..400));
    cloud.append(&puts);
    let records = recorded(&cloud, SHARD);
    let [mut one, mut other] = [cloud.function(CONSUMER), cloud.function(CONSUMER)];
    run(&mut one, &records[..3], 3, 1);
    run(&mut other, &records[3..6], 3, 1);
    // The same batch again: its worker folds it, and loses the commit.
    run(&mut one, &records[3..6], 3, 1);
    run(&mut other, &records[6..8], 2, 1);
    // Another batch: what it holds does not follow on what its worker has.
    run(&mut one, &records[8..], records.len(), 1);
    let log = one.log(3);
    let of = |name: &str| log.iter().map(|line| line[name].as_u64().unwrap()).collect::<Vec<_>>();
    let rest = records.len() as u64 - 8;
    assert_eq!((of("openings"), of("foldedRecords")), (vec![1, 1, 1], vec![3, 3, rest]), "{log:?}");
    assert_eq!(cloud.verifies(), cloud.embedded(&puts));
}

#[test]
fn what_cannot_be_decoded_is_a_dead_letter_and_the_shard_goes_on() {
    let cloud = Cloud::new(1);
    let mut puts = batches("app.log", &lines("app", 0..200));
    // The magic of a batch, and nothing that follows it.
    let mut broken = puts[0].clone();
    broken.data = broken.data.slice(..9);
    puts.insert(2, broken);
    cloud.append(&puts);
    let mut function = cloud.function(CONSUMER);
    run(&mut function, &recorded(&cloud, SHARD), 100, 1);
    assert_eq!(function.log(1)[0]["dead"], 1, "{}", function.said());
    assert_eq!(cloud.verifies(), cloud.embedded(&puts));
}

#[test]
fn an_event_of_another_stream_is_refused_and_changes_nothing() {
    let (cloud, other) = (Cloud::new(1), Cloud::new(1));
    let puts = batches("app.log", &lines("app", 0..60));
    cloud.append(&puts);
    other.append(&puts);
    let mut function = cloud.function(CONSUMER);
    let why = function.invoke(&event(&recorded(&other, SHARD)), TIME).failed();
    assert!(why.contains(&other.arn()) && why.contains(&cloud.name), "{why}");
    assert_eq!(cloud.resume_point(SHARD), None);
    // The instance lives on.
    run(&mut function, &recorded(&cloud, SHARD), 100, 1);
    assert_eq!(cloud.verifies(), cloud.embedded(&puts));
}

#[test]
fn while_the_tables_cannot_be_reached_nothing_is_answered_as_done() {
    let cloud = Cloud::new(1);
    cloud.append(&batches("app.log", &lines("app", 0..60)));
    let mut function = cloud.function(CONSUMER);
    let records = recorded(&cloud, SHARD);
    run(&mut function, &records[..1], 1, 1);
    // The tables are gone: whatever is tried fails, and fails again.
    cloud.delete_tables();
    let ended = function.invoke(&event(&records[1..]), Duration::from_secs(20));
    let why = ended.failed();
    assert!(why.contains(SHARD), "{why}");
    let said = function.log(2).pop().unwrap();
    assert_eq!((&said["level"], &said["message"]), (&"ERROR".into(), &"not folded".into()), "{said}");
}
