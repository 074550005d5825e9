//! The law of a place for objects: a folder and a bucket keep it, over a real file system and a real socket to an emulator of S3.

use bytes::Bytes;
use processor::archive::{Objects, Reader, Stored, Writer, archived::Archived, archiver::Archiver, folder::Folder};
use std::sync::Arc;

use crate::world::{STREAM, World, eager, read_all};

/// Runs on an empty place.
async fn keeps_the_law<O: Objects + Clone + 'static>(objects: O) {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    let list = async |prefix: &str, after: &str| {
        let (mut names, mut after) = (vec![], after.to_owned());
        loop {
            let page = objects.list(prefix, &after).await.unwrap();
            names.extend(page.names);
            match page.next_after {
                Some(next) => after = next,
                None => return names,
            }
        }
    };
    assert_eq!(objects.get("nothing", 0..9).await, Ok(None));
    assert_eq!(list("stream/", "").await, [""; 0]);
    assert_eq!(objects.put_if_absent("stream/a/1", bytes("first")).await, Ok(Stored::New));
    assert_eq!(objects.put_if_absent("stream/a/1", bytes("first")).await, Ok(Stored::Exists), "the same too");
    assert_eq!(objects.put_if_absent("stream/a/1", bytes("second")).await, Ok(Stored::Exists));
    for (range, expected) in [(0..99, "first"), (1..3, "ir"), (4..9, "t"), (5..9, ""), (90..99, ""), (2..2, "")] {
        assert_eq!(objects.get("stream/a/1", range).await, Ok(Some(bytes(expected))), "never replaced");
    }
    // Those who come at once: one of them is first, and its bytes are there whole.
    let many = (0..8).map(|who| {
        let objects = objects.clone();
        async move { objects.put_if_absent("stream/a/2", Bytes::from(vec![who; 100_000])).await.unwrap() }
    });
    let answers = futures_util::future::join_all(many).await;
    assert_eq!(answers.iter().filter(|stored| **stored == Stored::New).count(), 1, "{answers:?}");
    let there = objects.get("stream/a/2", 0..200_000).await.unwrap().unwrap();
    assert!(there.len() == 100_000 && there.iter().all(|byte| *byte == there[0]));
    for name in ["stream/a/10", "stream/b/1", "stream/a-/1", "archive.json"] {
        assert_eq!(objects.put_if_absent(name, bytes(name)).await, Ok(Stored::New));
    }
    assert_eq!(list("stream/", "").await, ["stream/a-/1", "stream/a/1", "stream/a/10", "stream/a/2", "stream/b/1"]);
    assert_eq!(list("stream/a/", "").await, ["stream/a/1", "stream/a/10", "stream/a/2"]);
    assert_eq!(list("stream/a/", "stream/a/1").await, ["stream/a/10", "stream/a/2"], "behind a name");
    assert_eq!(list("stream/a/", "stream/a/15").await, ["stream/a/2"], "that need not be there");
    assert_eq!(list("stream/", "stream/a/~").await, ["stream/b/1"]);
}

/// Archives and reads again.
async fn holds_an_archive<O: Objects>(objects: O) {
    let (world, objects) = (World::new(2), Arc::new(objects));
    let live = || events::stream::ReadOnly::new(world.live.clone());
    for round in 0..3 {
        world.append(round * 9..round * 9 + 9);
        for shard in world.shards() {
            let writer = Writer::open(objects.clone(), STREAM).await.unwrap();
            let mut archiver = Archiver::open(live(), writer, shard, eager()).await.unwrap();
            while archiver.step().await.unwrap() == processor::archive::archiver::Step::Read {}
        }
    }
    for shard in world.shards() {
        let all = &world.all()[&shard.id];
        world.live.trim(&shard.id, all[all.len() - 2].sequence);
    }
    let archive = Reader::open(objects.clone(), STREAM).await.unwrap();
    assert_eq!(archive.shards().await.unwrap().len(), 2);
    let whole = Archived::open(live(), archive).await.unwrap();
    assert_eq!(whole.said(), [""; 0]);
    let whole = tokio::task::block_in_place(|| read_all(&whole));
    assert_eq!(whole.unwrap(), world.all());
}

#[test]
fn a_folder_keeps_the_law_of_a_place_for_objects_and_holds_an_archive() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    runtime.block_on(async {
        keeps_the_law(Folder::new(one.path().join("made/when/used"))).await;
        holds_an_archive(Folder::new(other.path().to_owned())).await;
    });
    let left: Vec<_> = std::fs::read_dir(one.path().join("made/when/used/stream/a")).unwrap().collect();
    assert_eq!(left.len(), 3, "nothing half written stays: {left:?}");
}

#[cfg(feature = "aws")]
#[test]
fn a_bucket_keeps_the_law_of_a_place_for_objects_and_holds_an_archive() {
    use aws_sdk_s3::Client;
    use processor::{archive::s3::Prefix, s3::Bucket};
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let config = emulators::settings!(aws_sdk_s3, &emulators::aws().endpoint).force_path_style(true);
        let client = Client::from_conf(config.build());
        let name = "archive-places";
        client.create_bucket().bucket(name).send().await.unwrap();
        let prefix = |prefix| Prefix::new(Bucket::new(client.clone(), name), prefix);
        keeps_the_law(prefix("of/the law/")).await;
        assert_eq!(prefix("of/the law").describe("x"), "s3://archive-places/of/the law/x");
        holds_an_archive(prefix("/archive")).await;
        let refused =
            Reader::open(Arc::new(Prefix::new(Bucket::new(client.clone(), "no-such-bucket"), "")), STREAM).await;
        let refused = refused.err().unwrap().to_string();
        assert!(refused.contains("s3://no-such-bucket/archive.json: there is no bucket no-such-bucket"), "{refused}");
    });
}
