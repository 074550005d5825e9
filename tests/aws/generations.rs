//! Generations on Kinesis and DynamoDB: another one beside, promoted, and gone back from, through the real binary.

use crate::{
    cloud::Cloud,
    logs::{NONE, lines},
};

fn counted(cloud: &Cloud) -> u64 {
    let query = ["--service", "app", "--metric", "latency", "-o", "json"];
    let windows = cloud.run("metrics", query).exits(0).json_lines();
    windows.iter().map(|window| window["count"].as_u64().unwrap()).sum()
}

#[test]
fn another_generation_is_folded_beside_promoted_and_gone_back_from_on_aws() {
    let cloud = Cloud::new();
    cloud.run("ingest", [cloud.folder.file("a.log", lines("app", 0..300))]).exits(0);
    let said = cloud.run("replay", ["--start", "oldest", "--generation", "new"]).exits(0);
    assert!(said.out.starts_with("compared new with first: 0 of 5 windows differ"), "{said:?}");
    cloud.run("promote", ["new"]).exits(0);
    cloud.run("ingest", [cloud.folder.file("b.log", lines("app", 300..600))]).exits(0);
    assert_eq!(counted(&cloud), 600);
    cloud.verifies();
    cloud.run("promote", ["first"]).exits(0);
    assert_eq!(counted(&cloud), 600);
    let listed = cloud.run("generations", NONE).exits(0);
    assert!(listed.out.contains("following"), "{listed:?}");
    cloud.verifies();
}
