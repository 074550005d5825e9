//! `weir up --archive` and `weir verify --archive`, with a folder as the archive.

use std::path::Path;

use crate::{
    logs::lines,
    program::{Folder, Said},
};

fn segments(archive: &Path) -> Vec<std::path::PathBuf> {
    let mut found = vec![];
    for shard in std::fs::read_dir(archive.join("stream")).unwrap() {
        found.extend(std::fs::read_dir(shard.unwrap().path()).unwrap().map(|entry| entry.unwrap().path()));
    }
    found.sort();
    found
}

fn verify(folder: &Folder, url: &str) -> Said {
    folder.run("verify", ["--archive", url])
}

#[test]
fn all_that_came_is_in_the_archive_when_it_ends_and_a_verify_reads_it_from_there() {
    let folder = Folder::new();
    let archive = folder.path("archive");
    let url = format!("file://{}", archive.display());
    let missing = verify(&folder, &url);
    missing.exits(2).complains(&["there is nothing of weir in the data folder"]);
    for round in 0..2u64 {
        let server = folder.up(["--shards", "2", "--archive", &url]);
        folder.ingest([folder.file(&format!("{round}.log"), lines("app", round * 100..round * 100 + 100))]).exits(0);
        let health = server.get("/health").json();
        let check = health["checks"].as_array().unwrap().iter().find(|check| check["name"] == "archive").unwrap();
        let detail = check["detail"].as_str().unwrap();
        assert!(check["ok"] == true && detail.contains("2 shards") && detail.contains("s behind"), "{detail}");
        assert_eq!(server.stop().exits(0).err, "");
        assert_eq!(segments(&archive).len() as u64, 2 * (round + 1), "each end puts what it holds, of each shard");
    }
    let plain = folder.verifies();
    let report = folder.run("verify", ["--json", "--archive", &url]).exits(0).json();
    assert_eq!((&report["digest"], &report["differences"]), (&plain["digest"], &0.into()));
    assert_eq!(report["archive"]["missing"], serde_json::json!([]));
    let said = verify(&folder, &url).exits(0);
    let place = format!("read from the archive {}/ and the stream behind it:", archive.display());
    assert!(said.out.contains(&place) && said.out.contains("  shardId-000000000001 from "), "{}", said.out);
    // A segment that is gone is told, and the rest verifies.
    std::fs::remove_file(&segments(&archive)[0]).unwrap();
    let said = verify(&folder, &url);
    assert!(said.out.contains("are gone from the archive: none ends at "), "{}", said.out);
    // One that is damaged within is named.
    let last = segments(&archive).pop().unwrap();
    let mut bytes = std::fs::read(&last).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&last, bytes).unwrap();
    verify(&folder, &url).exits(2).complains(&[last.to_str().unwrap(), "is damaged", "move it away"]);
}

#[test]
fn an_archive_of_another_stream_or_of_no_name_is_refused_with_what_to_do() {
    let (one, other) = (Folder::new(), Folder::new());
    let url = format!("file://{}", one.path("archive").display());
    one.up(["--archive", &url]).stop().exits(0);
    other.ingest([other.file("a.log", lines("app", 0..3))]).exits(0);
    verify(&other, &url)
        .exits(2)
        .complains(&["archive.json is that of the stream embedded stream", "a prefix of its own"]);
    let up = other.run("up", ["--listen", "127.0.0.1:0", "--archive", &url]);
    up.exits(2).complains(&["archive.json is that of the stream embedded stream"]);
    let nothing = format!("file://{}", one.path("nothing").display());
    verify(&other, &nothing).exits(2).complains(&["there is no archive at", "`weir up --archive` makes one"]);
    verify(&other, "archive").exits(2).complains(&["--archive archive is not s3://BUCKET/PREFIX, or file:///FOLDER"]);
    let server = one.up(["--archive", &url]);
    verify(&one, &url).exits(2).complains(&["reads the archive that it was started with", "leave --archive out"]);
    let said = one.run("verify", [""; 0]).exits(0);
    assert!(said.out.contains("read from the archive"), "{}", said.out);
    server.stop().exits(0);
}
