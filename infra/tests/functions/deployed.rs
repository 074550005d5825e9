//! The consumer deployed as its users do, by a client of AWS that is none of ours, on an emulator that runs `provided.al2023` and has an event source of
//! its own.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    cloud::{CONSUMER, Cloud, batches, lines},
    mapping::{event, recorded},
};

const SHARD: &str = "shardId-000000000000";

#[test]
fn deployed_by_botocore_it_answers_an_invocation_and_is_fed_by_the_emulators_event_source() {
    let cloud = Cloud::on(1, &emulators::aws().endpoint, &emulators::aws().endpoint);
    let puts = batches("app.log", &lines("app", 0..600));
    let half = puts.len() / 2;
    cloud.append(&puts[..half]);
    let records = recorded(&cloud, SHARD);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("event.json");
    std::fs::write(&file, event(&records).to_string()).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/deployed.py");
    let mut command = Command::new(emulators::python());
    command.args([script, &emulators::aws().endpoint, CONSUMER, &cloud.name, &cloud.name, &cloud.name]).arg(&file);
    let said = command.output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let answer: Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!(answer, json!({"error": null, "answer": {"batchItemFailures": []}}));
    assert_eq!(cloud.resume_point(SHARD).unwrap().0, records.last().unwrap().sequence);

    // Its event source begins at the beginning: what is folded already comes again, and what follows.
    cloud.append(&puts[half..]);
    let last = recorded(&cloud, SHARD).pop().unwrap().sequence;
    let begun = Instant::now();
    while cloud.resume_point(SHARD).unwrap().0 != last {
        assert!(begun.elapsed() < Duration::from_secs(120), "the event source has not fed it");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(cloud.verifies(), cloud.embedded(&puts));
}
