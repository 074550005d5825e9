//! One input with repeats, in two orders, on streams that are split and merged while processes are killed: the long-running consumer on Kinesis and
//! DynamoDB gives the digest that the embedded pair gives. `infra/tests/functions/digest.rs` puts the same input through the functions of Lambda.

use std::num::NonZeroU16;

use events::{
    embedded::{self, disk::RealDisk},
    position::HashKey,
    stream::{Put, Stream as _},
};
use processor::append::append_all;
use weir::LocalStream;

use crate::{
    cloud::Cloud,
    input::{self, File, LINES, PARTS, batches},
    logs::NONE,
    program::{Folder, Said, Server, say, weir},
    stream::{Stream, runtime},
};

/// Every batch of a part, backwards: on each shard a file comes after those behind it, and its end before its beginning.
fn backwards(part: &[File]) -> Vec<Put> {
    let mut puts: Vec<Put> = part.iter().flat_map(batches).collect();
    puts.reverse();
    puts
}

/// Every batch of a part.
fn forwards(part: &[File]) -> Vec<Put> {
    part.iter().flat_map(batches).collect()
}

/// At once, with whatever it holds.
fn killed(mut server: Server) {
    server.child.kill().unwrap();
    server.child.wait().unwrap();
}

/// A file of the input once more, in batches that are cut otherwise: nothing of it counts. All that is on the stream is folded when it returns.
fn nothing_is_new(said: Said) {
    let expected = format!("accepted {LINES} = folded 0 + skipped 0 + duplicate {LINES} + dead 0");
    assert_eq!(said.exits(0).last_line(), expected);
}

fn all_lines() -> u64 {
    input::parts().iter().flatten().map(|(_, text)| text.lines().count() as u64).sum()
}

/// Lines that were counted, of all services.
fn counted(said: &Said) -> u64 {
    said.json_lines().iter().map(|window| window["count"].as_u64().unwrap()).sum()
}

const QUERY: [&str; 6] = ["--metric", "lines", "--period", "3600", "-o", "json"];

/// The stream of a folder that no process has.
fn stream_of(folder: &Folder) -> LocalStream {
    let options = embedded::Options { shards: NonZeroU16::new(2).unwrap(), ..embedded::Options::default() };
    LocalStream::open(RealDisk::in_folder(folder.data.join("stream")).unwrap(), weir::now_ms, options).unwrap()
}

/// All of it through the embedded pair; the digest.
fn embedded() -> serde_json::Value {
    let (folder, runtime, parts) = (Folder::new(), runtime(), input::parts());
    assert_eq!(parts.len() as u64, PARTS);
    std::fs::create_dir_all(&folder.data).unwrap();
    let append = |stream: &LocalStream, puts: Vec<Put>| runtime.block_on(append_all(stream, puts)).unwrap();
    let open = |stream: &LocalStream| {
        let mut open = runtime.block_on(stream.shards()).unwrap();
        open.retain(|shard| !shard.closed);
        open.sort_by_key(|shard| shard.range.from);
        open
    };

    let stream = stream_of(&folder);
    append(&stream, backwards(&parts[0]));
    append(&stream, forwards(&parts[0]));
    stream.close();
    drop(stream);
    killed(folder.up(NONE));

    let stream = stream_of(&folder);
    stream.split(&open(&stream)[0].id, HashKey(1 << 125)).unwrap();
    append(&stream, forwards(&parts[1]));
    append(&stream, backwards(&parts[0]));
    stream.close();
    drop(stream);
    killed(folder.up(NONE));

    let stream = stream_of(&folder);
    let [_, upper, second] = &open(&stream)[..] else { panic!("three shards are open") };
    stream.merge(&upper.id, &second.id).unwrap();
    append(&stream, backwards(&parts[2]));
    append(&stream, forwards(&parts[1]));
    stream.close();
    drop(stream);
    killed(folder.up(NONE));

    let (name, text) = &parts[1][0];
    nothing_is_new(folder.ingest([folder.file(name, text).to_str().unwrap(), "--as", name]));
    assert_eq!(counted(&folder.run("metrics", QUERY).exits(0)), all_lines());
    folder.verifies()["digest"].clone()
}

#[test]
fn the_digest_is_that_of_one_machine_with_repeats_two_orders_splits_a_merge_and_kills_in_the_middle() {
    let (cloud, parts) = (Cloud::new(), input::parts());
    let up = |arguments: &[&str]| cloud.up(["--failover", "2s"].iter().chain(arguments));
    let again = |server: &Server, (name, text): &File| {
        let folder = Folder::new();
        let mut command = weir(folder.root.path());
        command.args(["ingest", "--url", &server.url, "--as", name]).arg(folder.file(name, text));
        nothing_is_new(say(&mut command));
    };

    let server = up(&["--shards", "2"]);
    let stream = Stream::of(&cloud);
    stream.put(&backwards(&parts[0]));
    stream.put(&forwards(&parts[0]));
    killed(server);

    // Nobody runs while the shards become four.
    stream.resize(4);
    assert_eq!(stream.open().len(), 4);
    stream.put(&forwards(&parts[1]));
    let server = up(&[]);
    again(&server, &parts[0][0]);
    stream.put(&backwards(&parts[0]));

    // Somebody runs while one is split, and one of its halves merged with its neighbour; and is killed with what is in its hands.
    let first = stream.open()[0].clone();
    stream.split(&first.shard, first.middle());
    stream.put(&backwards(&parts[2]));
    let open = stream.open();
    stream.merge(&open[1].shard, &open[2].shard);
    stream.put(&forwards(&parts[1]));
    killed(server);

    let server = up(&["--no-create"]);
    stream.put(&forwards(&parts[2]));
    again(&server, &parts[1][0]);
    again(&server, &parts[2][0]);
    assert_eq!(stream.open().len(), 4, "five less one");
    server.stop().exits(0);

    assert_eq!(counted(&cloud.run("metrics", QUERY).exits(0)), all_lines());
    assert_eq!(cloud.verifies()["digest"], embedded());
}
