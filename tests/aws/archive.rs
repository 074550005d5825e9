//! The archive in a bucket: a stream on Kinesis is archived, and a verify reads it from there.

use aws_sdk_s3::Client;

use crate::{
    cloud::Cloud,
    logs::lines,
    program::{Folder, Server, say},
};

fn client() -> Client {
    let config = emulators::settings!(aws_sdk_s3, &emulators::aws().endpoint).force_path_style(true);
    Client::from_conf(config.build())
}

#[test]
fn a_stream_on_kinesis_is_archived_in_a_bucket_by_two_processes_and_verified_from_there() {
    let (cloud, local) = (Cloud::new(), Folder::new());
    local.ingest([local.file("app.log", lines("app", 0..600))]).exits(0);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let bucket = format!("{}-archive", cloud.name);
    runtime.block_on(client().create_bucket().bucket(&bucket).send()).unwrap();
    let url = format!("s3://{bucket}/kept/here");
    let up = |arguments: &[&str]| {
        let mut command = cloud.command("up");
        command.env("AWS_ENDPOINT_URL_S3", &emulators::aws().endpoint).env("WEIR_ARCHIVE", &url);
        Server::start(command.args(["--listen", "127.0.0.1:0"]).args(arguments))
    };
    let one = up(&["--shards", "2"]);
    let other = up(&["--no-create"]);
    for (server, run, numbers) in [(&one, "first", 0..300), (&other, "second", 300..600)] {
        assert_eq!(server.post(&format!("/ingest?run={run}"), lines("app", numbers).as_bytes()).status, 202);
    }
    one.settles("first");
    other.settles("second");
    one.stop().exits(0);
    other.stop().exits(0);
    let mut verify = cloud.command("verify");
    verify.env("AWS_ENDPOINT_URL_S3", &emulators::aws().endpoint).args(["--json", "--archive", &url]);
    let report = say(&mut verify).exits(0).json();
    assert_eq!(
        (&report["differences"], &report["archive"]["missing"]),
        (&0.into(), &serde_json::json!([])),
        "{report}"
    );
    assert_eq!(report["digest"], local.verifies()["digest"]);
    let listed =
        runtime.block_on(client().list_objects_v2().bucket(&bucket).prefix("kept/here/stream/").send()).unwrap();
    assert!(listed.key_count().unwrap_or(0) >= 2, "{listed:?}");
}
