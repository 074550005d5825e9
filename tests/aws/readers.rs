//! What Weir writes, read by a program that knows the wire format's page alone: the lines as they came.

use std::{io::Read, path::Path, process::Command};

use crate::{
    cloud::Cloud,
    logs::{NONE, lines},
    program::say_with_input,
};

/// What the program prints of a stream: the lines, and how many batches were of which kind.
fn read(cloud: &Cloud) -> (String, serde_json::Value) {
    let mut script = Command::new(emulators::python());
    script.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/read_batches.py"));
    let output = script.args([&emulators::kinesis().endpoint, &cloud.name]).output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{err}");
    (String::from_utf8(output.stdout).unwrap(), serde_json::from_str(err.trim()).unwrap())
}

#[test]
fn a_consumer_in_another_language_reads_the_lines_of_files_pipes_and_posts_as_they_came() {
    let real = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/apache_logs.log.gz");
    let mut text = String::new();
    flate2::read::MultiGzDecoder::new(std::fs::File::open(&real).unwrap()).read_to_string(&mut text).unwrap();

    let cloud = Cloud::new();
    let server = cloud.up(["--shards", "2"]);
    cloud.run("ingest", [real.to_str().unwrap(), "--as", "a"]).exits(0);
    // Twice on the stream, and cut otherwise: the bytes of an origin are the same ones.
    let posted = server.post("/ingest?run=one", lines("posted", 0..50).as_bytes());
    assert_eq!(posted.status, 202);
    server.settles("one");
    server.stop().exits(0);
    say_with_input(cloud.command("ingest").args(["-", "--as", "b"]), lines("named", 0..700).as_bytes()).exits(0);
    say_with_input(cloud.command("ingest").args(["-", "--as", "b"]), lines("named", 0..900).as_bytes()).exits(0);

    let (read, kinds) = read(&cloud);
    let expected = [text, lines("named", 0..900), lines("posted", 0..50)].concat();
    assert_eq!(read.len(), expected.len(), "{kinds}");
    assert!(read == expected, "the same number of bytes, and not the same ones");
    assert!(kinds["zstd"].as_u64() >= Some(3) && kinds["Ticked"].as_u64() >= Some(2), "{kinds}");
    cloud.run("metrics", NONE).exits(0);
}
