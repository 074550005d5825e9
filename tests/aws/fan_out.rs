//! Workers that read by enhanced fan-out: the same rows, also when a shard is split under them.

use crate::{
    cloud::Cloud,
    logs::lines,
    program::{Folder, say, weir},
    split::split,
};

#[test]
fn what_is_pushed_gives_the_rows_that_reads_give_and_the_consumer_is_named_with_its_price() {
    let (cloud, local) = (Cloud::new(), Folder::new());
    let refused = cloud.run("up", ["--listen", "127.0.0.1:0", "--fan-out", "--no-create"]).exits(2);
    refused.complains(&["there is no Kinesis stream"]);
    let files = ["a", "b", "c"].map(|service| cloud.folder.file(&format!("{service}.log"), lines(service, 0..300)));
    local.ingest(&files).exits(0);
    cloud.run("ingest", &files[..1]).exits(0);
    let refused = cloud.run("up", ["--listen", "127.0.0.1:0", "--fan-out", "--no-create"]).exits(2);
    refused.complains(&[&format!("no enhanced fan-out consumer weir-{}", cloud.name), "leave out --no-create"]);

    let server = cloud.up(["--fan-out"]);
    let send = |file: &std::path::PathBuf| {
        let said = say(weir(local.root.path()).args(["ingest", "--url", &server.url]).arg(file)).exits(0);
        assert_eq!(said.last_line(), "accepted 300 = folded 300 + skipped 0 + duplicate 0 + dead 0");
    };
    send(&files[1]);
    split(&cloud);
    send(&files[2]);
    let verified = server.post("/verify", b"").json();
    assert_eq!(verified["differences"], 0, "a replay reads beside the consumer: {verified}");
    let told = server.stop().exits(0);
    told.complains(&[
        &format!("made the enhanced fan-out consumer weir-{} of stream {}", cloud.name, cloud.name),
        "$0.015 an hour",
    ]);
    assert_eq!(cloud.verifies()["digest"], local.verifies()["digest"]);
}
