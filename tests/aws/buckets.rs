//! Logs in buckets: read as files are, known whichever way they come, and what is wrong with one is said while the others go on.

use crate::{
    bucket::{Bucket, ingest, lead},
    cloud::Cloud,
    logs::{gzip, lines},
    program::{Folder, say},
};

#[test]
fn a_prefix_gives_the_digest_that_the_same_files_give_and_costs_nothing_again() {
    let (bucket, folder, local) = (Bucket::new(), Folder::new(), Folder::new());
    let zstd = zstd::encode_all(lines("zst", 0..500).as_bytes(), 1).unwrap();
    let undated = "a line without a time\nanother\n";
    for (key, bytes) in [
        ("in/2026/plain.log", lines("plain", 0..700).into_bytes()),
        ("in/2026/packed.log.gz", gzip(&lines("packed", 0..300))),
        ("in/a b+c é.txt", lines("odd", 0..100).into_bytes()),
        ("in/z.jsonl.zst", zstd),
    ] {
        bucket.put(key, &bytes);
        local.ingest([local.file(key, &bytes)]).exits(0);
    }
    bucket.put("in/folder/", "");
    bucket.put("inside.log", undated);
    let said = ingest(&folder, &[&bucket.url("in")]).exits(0);
    assert_eq!(said.last_line(), "accepted 1600 = folded 1600 + skipped 0 + duplicate 0 + dead 0");
    let said =
        said.complains(&["4 objects of ", "1 is empty", "estimate: 6 calls of S3: less than $0.01", "objects: 4 read"]);
    assert!(!said.err.contains("Kinesis"), "{said:?}");
    assert_eq!(folder.verifies()["digest"], local.verifies()["digest"]);

    let said = ingest(&folder, &[&bucket.url("in/")]).exits(0);
    said.complains(&["0 objects of 0 B; 4 were read before", "objects: 0 read, 4 known from before"]);
    // Two names of one object, and one that is new.
    let said =
        ingest(&folder, &[&bucket.url("in/2026/plain.log"), &bucket.url("in*"), &bucket.url("inside.log")]).exits(0);
    assert_eq!(said.last_line(), "accepted 2 = folded 2 + skipped 0 + duplicate 0 + dead 0", "{said:?}");
}

#[test]
fn on_kinesis_and_dynamodb_an_object_is_known_to_the_stream_whoever_reads_it() {
    let (bucket, cloud, local) = (Bucket::new(), Cloud::new(), Folder::new());
    bucket.put("app.log.gz", gzip(&lines("app", 0..2_000)));
    local.ingest([local.file("app.log", lines("app", 0..2_000))]).exits(0);
    let other = Folder::new();
    let read =
        |cache: &Folder| say(lead(&mut cloud.command_in(cache, "ingest")).arg(bucket.url("app.log.gz"))).exits(0);
    let said = read(&cloud.folder);
    assert_eq!(said.last_line(), "accepted 2000 = folded 2000 + skipped 0 + duplicate 0 + dead 0");
    said.complains(&["PUT units of Kinesis", "write units of DynamoDB", "list prices of us-east-1"]);
    // Of a file it would be said that it counts again; an object is known to the stream, and cannot be named by hand.
    let said = read(&other);
    assert_eq!(said.last_line(), "accepted 2000 = folded 0 + skipped 0 + duplicate 2000 + dead 0");
    assert!(!said.err.contains("counts again") && !said.err.contains("--as"), "{said:?}");
    assert_eq!(cloud.verifies()["digest"], local.verifies()["digest"]);
}

#[test]
fn what_cannot_be_read_is_named_with_its_cause_and_the_rest_is_read() {
    let (bucket, folder) = (Bucket::new(), Folder::new());
    bucket.put("good.log", lines("good", 0..10));
    bucket.put("bad.log.gz", &gzip(&lines("bad", 0..100))[..50]);
    bucket.put("logs-old/a.log", lines("old", 0..10));
    let said = ingest(
        &folder,
        &[
            "s3://weir-no-such-bucket/a",
            &bucket.url("logs"),
            &bucket.url("none"),
            "s3://B",
            &bucket.url("good.log"),
            &bucket.url("bad.log.gz"),
        ],
    )
    .exits(1);
    assert_eq!(said.last_line(), "accepted 10 = folded 10 + skipped 0 + duplicate 0 + dead 0");
    said.complains(&[
        "failed: s3://weir-no-such-bucket/a: ",
        "there is no bucket weir-no-such-bucket",
        "Keys begin so, the first is logs-old/a.log",
        &format!("aws s3 ls s3://{}/` shows", bucket.name),
        "s3://B is not s3://BUCKET",
        &format!("failed: {}: it is cut short", bucket.url("bad.log.gz")),
    ]);
    // Once more: what is bad is said again, though nothing else is new.
    ingest(&folder, &[&bucket.url("good.log"), &bucket.url("bad.log.gz")]).exits(1).complains(&["it is cut short"]);
    ingest(&folder, &["--again", &bucket.url("good.log")]).exits(2).complains(&["--again cannot count"]);
    ingest(&folder, &["--as", "x", &bucket.url("good.log")])
        .exits(2)
        .complains(&["--as is for input without an identity"]);
    folder.verifies();
}

#[test]
fn an_object_that_is_replaced_counts_anew_and_a_version_is_known_by_itself() {
    for versions in [false, true] {
        let (bucket, folder) = (Bucket::new(), Folder::new());
        if versions {
            bucket.keep_versions();
        }
        let read =
            |expected: &str| assert_eq!(ingest(&folder, &[&bucket.url("app.log")]).exits(0).last_line(), expected);
        bucket.put("app.log", lines("app", 0..10));
        read("accepted 10 = folded 10 + skipped 0 + duplicate 0 + dead 0");
        bucket.put("app.log", lines("app", 0..20));
        read("accepted 20 = folded 20 + skipped 0 + duplicate 0 + dead 0");
        folder.verifies();
    }
}
