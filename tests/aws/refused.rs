//! What is refused: before anything is made where that can be known, and else in order, so that no thread is left behind and no shard is held.

use crate::{
    cloud::{Cloud, scan},
    logs::{NONE, lines},
    program::{Said, say},
};

const UP: [&str; 2] = ["--listen", "127.0.0.1:0"];

#[track_caller]
fn refuses(said: Said, words: &[&str]) {
    let said = said.exits(2).complains(words);
    assert!(!said.err.contains("panicked"), "{}", said.err);
}

/// Whoever has a shard of a pair, by the table of leases.
fn owners(cloud: &Cloud) -> Vec<String> {
    let rows = scan(&format!("{}-leases", cloud.name));
    rows.iter().filter_map(|row| row.get("leaseOwner")).map(ToString::to_string).collect()
}

#[test]
fn an_archive_that_is_none_or_cannot_be_reached_is_refused_before_anything_is_made() {
    let cloud = Cloud::new();
    let nowhere = format!("s3://{}-nowhere/kept", cloud.name);
    for (url, words) in [("s3:/bad", "--archive s3:/bad is not s3://BUCKET/PREFIX"), (&*nowhere, "-nowhere")] {
        for (command, arguments) in [("up", &UP[..]), ("verify", &[]), ("replay", &["--generation", "new"])] {
            let mut command = cloud.command(command);
            command.env("AWS_ENDPOINT_URL_S3", &emulators::aws().endpoint).args(arguments);
            let said = say(command.args(["--archive", url]));
            assert!(!said.err.contains("made the"), "{}", said.err);
            refuses(said, &[words]);
        }
    }
    let start = cloud.run("replay", ["--generation", "new", "--start", "yesterday"]);
    refuses(start, &["--start yesterday is neither a time"]);
    let missing = cloud.run("ingest", [cloud.folder.path("nothing.log")]);
    assert!(!missing.err.contains("made the"), "{}", missing.err);
    refuses(missing, &["nothing.log: there is no such file"]);
    // Nothing of it is there.
    cloud.run("shards", NONE).exits(2).complains(&["there is no Kinesis stream"]);
}

#[test]
fn who_is_refused_after_the_pair_was_opened_ends_in_order_and_holds_no_shard() {
    let (cloud, other) = (Cloud::new(), Cloud::new());
    let archive = format!("file://{}", other.folder.path("archive").display());
    other.up(["--archive", &archive]).stop().exits(0);
    cloud.run("ingest", [cloud.folder.file("app.log", lines("app", 0..30))]).exits(0);
    for (command, arguments) in [("up", &UP[..]), ("verify", &[]), ("replay", &["--generation", "new"])] {
        let said = cloud.run(command, arguments.iter().chain(&["--archive", &archive]));
        refuses(said, &["archive.json is that of the stream"]);
        assert_eq!(owners(&cloud), NONE, "after {command}");
    }
    let unknown = cloud.run("replay", ["--generation", "new", "--start", "shardId-000000000000:77"]);
    assert!(!unknown.err.contains("panicked"), "{}", unknown.err);
    assert_eq!(owners(&cloud), NONE);
    cloud.verifies();
}
