//! A shard of Kinesis that is split while the program runs: children are folded once their parent is, and lines count once.

use crate::{cloud::Cloud, logs::lines, program::Folder, stream::Stream};

/// Splits the stream's first shard in its middle.
pub fn split(cloud: &Cloud) {
    Stream::of(cloud).split("shardId-000000000000", 1 << 127);
}

#[test]
fn a_shard_that_is_split_meanwhile_is_folded_to_its_end_and_then_its_children_are() {
    let (cloud, local) = (Cloud::new(), Folder::new());
    local.ingest([local.file("app.log", lines("app", 0..600))]).exits(0);
    let server = cloud.up(["--shards", "1"]);
    let send = |run: &str, numbers| {
        let sent = server.post(&format!("/ingest?run={run}"), lines("app", numbers).as_bytes());
        assert_eq!(sent.status, 202, "{sent:?}");
    };
    let settled = |run: &str| server.settles(run)["folded"].as_u64().unwrap();
    send("before", 0..200);
    split(&cloud);
    send("after", 200..400);
    assert_eq!((settled("before"), settled("after")), (200, 200));
    server.stop().exits(0);
    // Another process finds the parent ended, and goes on with the children.
    let server = cloud.up(["--no-create"]);
    assert_eq!(server.post("/ingest?run=later", lines("app", 400..600).as_bytes()).status, 202);
    server.settles("later");
    server.stop().exits(0);
    assert_eq!(cloud.verifies()["digest"], local.verifies()["digest"]);
}
