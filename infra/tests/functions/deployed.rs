//! The consumer deployed as its users do, by a client of AWS that is none of ours, on an emulator that runs `provided.al2023`.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use events::position::SequenceNumber;
use serde_json::{Value, json};

use crate::{
    cloud::{CONSUMER, Cloud, batches, lines},
    mapping::{event, recorded},
};

const SHARD: &str = "shardId-000000000000";

/// Without the zeros that this emulator puts before its sequence numbers.
fn number(sequence: &str) -> String {
    sequence.parse::<SequenceNumber>().unwrap().to_string()
}

/// Deploys the consumer and has it invoked by an event, or by an event source; what is said of it.
fn deploy(cloud: &Cloud, event: &str) -> Value {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/deployed.py");
    let mut command = Command::new(emulators::python());
    command.args([script, &emulators::aws().endpoint, CONSUMER, &cloud.name, &cloud.name, &cloud.name, event]);
    let said = command.output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    serde_json::from_slice(&said.stdout).unwrap()
}

#[test]
fn an_event_source_that_nobody_here_wrote_feeds_it() {
    let cloud = Cloud::on(1, &emulators::aws().endpoint, &emulators::aws().endpoint);
    let puts = batches("app.log", &lines("app", 0..600));
    cloud.append(&puts);
    let last = number(&recorded(&cloud, SHARD).last().unwrap().sequence);
    deploy(&cloud, &cloud.arn());
    let begun = Instant::now();
    while cloud.resume_point(SHARD).is_none_or(|(position, _)| position != last) {
        assert!(begun.elapsed() < Duration::from_secs(100), "it was not fed: {:?}", cloud.resume_point(SHARD));
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn deployed_by_botocore_it_answers_an_invocation() {
    let cloud = Cloud::on(1, &emulators::aws().endpoint, &emulators::aws().endpoint);
    let puts = batches("app.log", &lines("app", 0..600));
    cloud.append(&puts);
    let records = recorded(&cloud, SHARD);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("event.json");
    std::fs::write(&file, event(&records).to_string()).unwrap();
    let answer = deploy(&cloud, file.to_str().unwrap());
    assert_eq!(answer, json!({"error": null, "answer": {"batchItemFailures": []}}));
    assert_eq!(cloud.resume_point(SHARD).unwrap().0, number(&records.last().unwrap().sequence));
}
