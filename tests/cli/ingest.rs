//! `weir ingest`: what it takes, what it says last, and that a line counts once.

use std::process::Stdio;

use crate::{
    logs::{NONE, gzip, latencies, lines, sum},
    program::{Folder, say_with_input},
};

#[test]
fn the_last_line_is_the_balance_and_it_adds_up() {
    let folder = Folder::new();
    let text = format!(
        "{}\n{{\"broken\":\n  goes on\n{{\"timestamp\":\"2999-01-01T00:00:00Z\",\"status\":200}}\n",
        lines("app", 0..3)
    );
    let file = folder.file("app.log", text);
    let said = folder.ingest([&file]).exits(0);
    assert_eq!(
        said.out,
        "accepted 7 = folded 3 + skipped 4 (blank 1, future 1, malformed_json 2) + duplicate 0 + dead 0\n"
    );
    assert_eq!(said.err, "", "nothing is wrong, and this is no terminal");
}

#[test]
fn files_folders_and_patterns_are_read_plain_and_packed_each_once() {
    let folder = Folder::new();
    folder.file("logs/a.log", lines("a", 0..10));
    folder.file("logs/deep/b.jsonl.gz", gzip(&lines("b", 0..20)));
    folder.file("logs/deep/er/c.zst", zstd::encode_all(lines("c", 0..30).as_bytes(), 1).unwrap());
    // Told by their bytes, whatever they are called.
    folder.file("named-log.gz", lines("d", 0..40));
    folder.file("named-plain", gzip(&lines("e", 0..50)));
    let pattern = folder.path("named-*");
    // A file that is named twice is one.
    let again = folder.path("logs/../logs/a.log");
    let said = folder.ingest([folder.path("logs"), pattern, again]).exits(0);
    assert_eq!(said.last_line(), "accepted 150 = folded 150 + skipped 0 + duplicate 0 + dead 0");
    for (service, count) in [("a", 10), ("b", 20), ("c", 30), ("d", 40), ("e", 50)] {
        assert_eq!(latencies(&folder, service), (count, sum(0..count)), "{service}");
    }
}

#[test]
fn standard_input_is_taken_and_under_a_name_it_counts_once() {
    let folder = Folder::new();
    let input = "2026-01-01T00:00:00Z latency_ms=5 first\n2026-01-01T00:00:01Z latency_ms=6 second, without an end";
    let piped = |arguments: &[&str]| {
        let said = say_with_input(folder.command("ingest").arg("-").args(arguments), input.as_bytes()).exits(0);
        assert_eq!(
            said.err.contains("2 lines came under the name `import-1` before"),
            said.out.contains("duplicate 2")
        );
        said.out
    };
    assert_eq!(piped(&["--service", "once"]), "accepted 2 = folded 2 + skipped 0 + duplicate 0 + dead 0\n");
    assert_eq!(
        piped(&["--service", "named", "--as", "import-1"]),
        "accepted 2 = folded 2 + skipped 0 + duplicate 0 + dead 0\n"
    );
    assert_eq!(
        piped(&["--service", "named", "--as", "import-1"]),
        "accepted 2 = folded 0 + skipped 0 + duplicate 2 + dead 0\n"
    );
    // The name is the identity, whatever else is said.
    assert_eq!(
        piped(&["--service", "other", "--as", "import-1"]),
        "accepted 2 = folded 0 + skipped 0 + duplicate 2 + dead 0\n"
    );
    assert_eq!(latencies(&folder, "once"), (2, 11.0));
    assert_eq!(latencies(&folder, "named"), (2, 11.0));
    folder.ingest(["-", "x", "--as", "two"]).exits(2).complains(&["--as", "one PATH"]);
}

#[test]
fn the_service_is_the_lines_own_then_the_option_then_the_files_name() {
    let folder = Folder::new();
    let nameless = "{\"timestamp\":\"2026-01-01T00:00:00Z\",\"latency_ms\":1}\n";
    let file = folder.file("checkout.log.1", format!("{nameless}{}", lines("own", 0..1)));
    folder.ingest([&file]).exits(0);
    let file = folder.file("other.log", nameless);
    folder.ingest([file.as_os_str(), "--service".as_ref(), "told".as_ref()]).exits(0);
    assert_eq!(latencies(&folder, "own").0, 1);
    assert_eq!(latencies(&folder, "checkout").0, 1);
    assert_eq!(latencies(&folder, "told").0, 1);
}

#[test]
fn the_same_again_changes_nothing_and_again_counts_it_anew() {
    let folder = Folder::new();
    let file = folder.file("app.log", lines("app", 0..100));
    folder.ingest([&file]).exits(0);
    let said = folder.ingest([&file]).exits(0).complains(&["1 of 1 files hold nothing new"]);
    assert_eq!(said.out, "accepted 0 = folded 0 + skipped 0 + duplicate 0 + dead 0\n");
    assert_eq!(latencies(&folder, "app"), (100, sum(0..100)));
    let said = folder.ingest([file.as_os_str(), "--again".as_ref()]).exits(0);
    assert_eq!(said.last_line(), "accepted 100 = folded 100 + skipped 0 + duplicate 0 + dead 0");
    assert_eq!(latencies(&folder, "app"), (200, 2.0 * sum(0..100)));
    // The reader's list is lost: the stream still knows a name that was given by hand.
    let named = [file.as_os_str(), "--as".as_ref(), "by-hand".as_ref()];
    folder.ingest(named).exits(0);
    std::fs::remove_dir_all(folder.data.join("readers")).unwrap();
    let said = folder.ingest(named).exits(0);
    assert_eq!(said.last_line(), "accepted 100 = folded 0 + skipped 0 + duplicate 100 + dead 0");
    folder.verifies();
}

#[test]
fn a_file_that_grows_is_rotated_and_packed_counts_every_line_once() {
    let folder = Folder::new();
    let logs = folder.path("logs");
    let mut taken = vec![];
    let mut step = |what: &str| {
        let said = folder.ingest([&logs]).exits(0);
        taken.push(format!("{what}: {}", said.last_line().split(' ').nth(1).unwrap()));
    };
    folder.file("logs/app.log", lines("app", 0..10));
    step("first");
    folder.file("logs/app.log", lines("app", 0..25));
    step("grown");
    std::fs::rename(logs.join("app.log"), logs.join("app.log.1")).unwrap();
    folder.file("logs/app.log", lines("app", 25..32));
    step("rotated");
    folder.file("logs/app.log.1.gz", gzip(&lines("app", 0..25)));
    std::fs::remove_file(logs.join("app.log.1")).unwrap();
    step("packed");
    std::fs::write(logs.join("app.log"), lines("app", 32..36)).unwrap();
    step("cut and written anew");
    assert_eq!(taken, ["first: 10", "grown: 15", "rotated: 7", "packed: 0", "cut and written anew: 4"]);
    assert_eq!(latencies(&folder, "app"), (36, sum(0..36)));
    folder.verifies();
}

#[test]
fn the_same_bytes_at_another_path_are_counted_and_the_warning_names_the_first() {
    let folder = Folder::new();
    let first = folder.file("one/app.log", lines("app", 0..200));
    let second = folder.file("two/app.log", lines("app", 0..200));
    folder.ingest([&first]).exits(0);
    let said = folder.ingest([&second]).exits(0);
    let first = std::fs::canonicalize(first).unwrap();
    let said = said.complains(&["warning: ", second.to_str().unwrap(), first.to_str().unwrap(), "counted again"]);
    assert_eq!(said.last_line(), "accepted 200 = folded 200 + skipped 0 + duplicate 0 + dead 0");
}

#[test]
fn what_cannot_be_read_is_named_and_the_rest_is_in() {
    let folder = Folder::new();
    let good = folder.file("good.log", lines("good", 0..10));
    let missing = folder.path("missing.log");
    let looped = folder.path("looped.log");
    std::os::unix::fs::symlink(&looped, &looped).unwrap();
    let packed = gzip(&lines("cut", 0..5_000));
    let cut = folder.file("cut.log.gz", &packed[..packed.len() / 2]);
    let mut damaged = gzip(&lines("damaged", 0..5_000));
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0x01;
    let damaged = folder.file("damaged.log.gz", damaged);
    let nothing = folder.path("*.nothing");
    let last = folder.file("last.log", lines("last", 0..10));
    let said = folder.ingest([&missing, &good, &looped, &cut, &damaged, &nothing, &last]).exits(1);
    let line = |path: &std::path::Path| {
        let start = format!("failed: {}: ", path.display());
        said.err.lines().find_map(|line| line.strip_prefix(&start)).unwrap_or_else(|| panic!("{path:?}: {said:?}"))
    };
    for (path, words) in [
        (&missing, vec!["nothing is there", "Check the path"]),
        (&nothing, vec!["nothing is there, or matches", "quote"]),
        // The cause stands there as the system says it.
        (&looped, vec!["could not be opened", "symbolic links"]),
        (
            &cut,
            vec!["cut short", "byte", "Nothing is in that its checksums do not confirm", "ingest it again", "gzip -dc"],
        ),
        (&damaged, vec!["damaged at byte", "Nothing is in that its checksums do not confirm", "ingest it again"]),
    ] {
        for word in words {
            assert!(line(path).contains(word), "{path:?}: {}", line(path));
        }
    }
    assert_eq!(latencies(&folder, "good"), (10, sum(0..10)));
    assert_eq!(latencies(&folder, "last"), (10, sum(0..10)));
    // Nothing of the two was counted; once they are whole, all of it is.
    for (name, path) in [("cut", &cut), ("damaged", &damaged)] {
        assert_eq!(latencies(&folder, name).0, 0);
        folder.file(&format!("{name}.log.gz"), gzip(&lines(name, 0..5_000)));
        folder.ingest([path]).exits(0);
        assert_eq!(latencies(&folder, name), (5_000, sum(0..5_000)));
    }
    folder.verifies();
}

#[test]
fn nothing_to_read_is_said() {
    let folder = Folder::new();
    let empty = folder.path("empty");
    std::fs::create_dir(&empty).unwrap();
    let said = folder.ingest([&empty]).exits(1);
    said.complains(&["failed: ", empty.to_str().unwrap(), "no file in it", "Name files"]);
    // An empty file is a file.
    let file = folder.file("empty.log", "");
    folder.ingest([&file]).exits(0);
    folder.ingest(NONE).exits(2).complains(&["<PATH>"]);
}

#[test]
fn two_at_once_on_one_folder_share_a_weir_up_and_else_the_second_is_told_why() {
    let folder = Folder::new();
    let files: Vec<_> =
        (0..4).map(|i| folder.file(&format!("app-{i}.log"), lines("app", i * 500..i * 500 + 500))).collect();
    // The first waits for its input, so it has the folder until that ends.
    let mut first = folder.command("ingest");
    let mut first = first.arg("-").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while !folder.data.join("readers").exists() {
        std::thread::yield_now();
    }
    let said = folder.ingest([&files[0]]).exits(2);
    said.complains(&[folder.data.to_str().unwrap(), "in use", "wait for it", "weir up"]);
    drop(first.stdin.take());
    assert!(first.wait().unwrap().success());

    let server = folder.up(NONE);
    std::thread::scope(|scope| {
        let folder = &folder;
        for pair in files.chunks(2) {
            scope.spawn(move || folder.ingest(pair).exits(0));
        }
    });
    assert_eq!(latencies(&folder, "app"), (2_000, sum(0..2_000)));
    server.stop().exits(0);
    folder.verifies();
}
