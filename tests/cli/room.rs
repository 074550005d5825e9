//! A disk that is full: a clear error, nothing lost, and it goes on when there is room.

use std::{path::Path, process::Command};

use crate::{
    logs::{NONE, latencies, lines, sum},
    program::{Folder, Said, clean, say},
};

const LINES: u64 = 30_000;

/// `weir ingest` where no file may grow past a limit: a full disk that needs no rights to make.
fn ingest_within(folder: &Folder, kib: u64, file: &Path) -> Said {
    let mut shell = Command::new("bash");
    clean(&mut shell, folder.root.path());
    // A write past the limit is to fail like any other, and not to end the process by a signal.
    let script = format!("trap '' XFSZ; ulimit -f {kib}; exec \"$@\"");
    shell.args(["-c", &script, "bash", env!("CARGO_BIN_EXE_weir"), "ingest", "--data"]).arg(&folder.data).arg(file);
    say(&mut shell)
}

#[test]
fn files_that_may_not_grow_are_named_and_with_room_it_goes_on() {
    let sources = Folder::new();
    let file = sources.file("app.log", lines("app", 0..LINES));
    // The folder cannot be made; the stream, the rows and the list of files cannot grow.
    for (kib, made_before) in [(100, false), (30_000, false), (200, true), (1_000, true), (2_000, true)] {
        let folder = Folder::new();
        if made_before {
            folder.ingest([folder.file("first.log", lines("first", 0..10))]).exits(0);
        }
        let said = ingest_within(&folder, kib, &file);
        assert!(matches!(said.code, Some(1 | 2)), "{kib} KiB: {said:?}");
        said.complains(&["File too large"]);
        let said = folder.ingest([&file]).exits(0);
        assert!(!said.out.is_empty(), "{kib} KiB");
        assert_eq!(latencies(&folder, "app"), (LINES, sum(0..LINES)), "{kib} KiB");
        assert_eq!(latencies(&folder, "first").0, if made_before { 10 } else { 0 });
        folder.verifies();
    }
}

/// A small file system in memory, if this user may have one.
struct Small<'a>(&'a Path);

impl<'a> Small<'a> {
    fn mount(at: &'a Path) -> Option<Self> {
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", "size=150m", "tmpfs"]).arg(at).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self(at))
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}

/// Minutes of each service of `many_rows`.
const MINUTES: u64 = 1_440;

/// A line for each of many minutes and services: rows need more room than lines.
fn many_rows(name: &str, services: u64) -> String {
    let of = |service: u64| (0..MINUTES).map(move |i| lines(&format!("{name}-{service}"), i * 60..i * 60 + 1));
    (0..services).flat_map(of).collect()
}

#[track_caller]
fn assert_all(folder: &Folder, name: &str, services: u64) {
    let said = folder.run("metrics", ["--metric", "latency", "--json"]).exits(0);
    let mut rows = 0;
    for row in said.json_lines().iter().filter(|row| row["service"].as_str().unwrap().starts_with(name)) {
        rows += 1;
        assert_eq!(row["count"], 1, "{row}");
    }
    assert_eq!(rows, MINUTES * services);
}

/// Takes all room that is left.
fn fill(path: &Path) {
    use std::io::Write;
    let mut ballast = std::fs::File::create(path).unwrap();
    for size in [1 << 20, 4096, 1] {
        let block = vec![0; size];
        while ballast.write_all(&block).is_ok() {}
    }
}

#[test]
fn a_full_disk_is_named_and_with_room_it_goes_on() {
    let mut folder = Folder::new();
    let file = folder.file("app.log", many_rows("app", 6));
    let disk = folder.path("disk");
    std::fs::create_dir(&disk).unwrap();
    // Where this user may mount nothing, the test above is all that can be had without rights.
    let Some(_mounted) = Small::mount(&disk) else { return };
    folder.data = disk.join("data");
    // One shard takes 128 MiB in advance, so rows are what has no room.
    folder.up(["--shards", "1"]).stop().exits(0);
    let ballast = disk.join("ballast");
    fill(&ballast);
    let said = folder.ingest([&file]);
    assert!(matches!(said.code, Some(1 | 2)), "{said:?}");
    said.complains(&["No space left on device"]);
    let said = say(folder.command("up").args(["--listen", "127.0.0.1:0"]));
    said.exits(2).complains(&["No space left on device", folder.data.to_str().unwrap()]);
    std::fs::remove_file(&ballast).unwrap();
    folder.ingest([&file]).exits(0);
    assert_all(&folder, "app", 6);
    // A running weir up that runs out of room says so, and what was durable by then is there afterwards. There is room within the file of
    // rows by now: it takes more of them to run out.
    let server = folder.up(NONE);
    fill(&ballast);
    let more = folder.root.path().join("more.log");
    std::fs::write(&more, many_rows("more", 30)).unwrap();
    let said = folder.ingest([&more]);
    assert!(matches!(said.code, Some(1 | 2)), "{said:?}");
    std::fs::remove_file(&ballast).unwrap();
    drop(server);
    folder.ingest([&more]).exits(0);
    assert_all(&folder, "more", 30);
    folder.verifies();
}
