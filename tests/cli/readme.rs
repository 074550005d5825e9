//! The README's first commands, run as they stand there.

use std::{os::unix::fs::symlink, path::Path};

use crate::program::{Folder, Server, say, weir};

/// The commands of the block of the README under a mark, without `cargo run --`: the program has been built.
fn commands(mark: &str) -> Vec<Vec<String>> {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let (_, rest) = readme.split_once(&format!("<!-- {mark} -->\n```console\n")).unwrap();
    let (block, _) = rest.split_once("```").unwrap();
    let arguments = |line: &str| {
        line.strip_prefix("cargo run -- ").unwrap().split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    block.lines().map(arguments).collect()
}

#[test]
fn one_command_shows_a_real_log_become_metrics() {
    let folder = Folder::new();
    let [command] = &commands("first command")[..] else { panic!("it is one command") };
    // Only the port is another: the usual one may be taken where tests run.
    let server = Server::start(weir(folder.root.path()).args(command).args(["--listen", "127.0.0.1:0"]));
    server.signal("INT");
    let said = server.end().exits(0);
    for words in [
        "accepted 10000 = folded 10000 + skipped 0 + duplicate 0 + dead 0",
        "TIME                  SERVICE      METRIC      DIMENSIONS  COUNT",
        "2015-05-20T15:00:00Z  apache_logs  bytes ",
        "2015-05-20T16:00:00Z  apache_logs  requests ",
    ] {
        assert!(said.out.contains(words), "`{words}` is missing: {said:?}");
    }
    assert_eq!(said.err, "");
}

#[test]
fn the_same_log_can_be_kept_in_a_folder() {
    let folder = Folder::new();
    symlink(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests"), folder.path("tests")).unwrap();
    let mut out = String::new();
    for command in commands("kept in a folder") {
        out.push_str(&say(weir(folder.root.path()).current_dir(folder.root.path()).args(command)).exits(0).out);
    }
    assert!(out.starts_with("accepted 10000 = folded 10000 + skipped 0 + duplicate 0 + dead 0\nTIME "), "{out}");
    // An hour of its own for each of the 84 in which something was asked for.
    assert_eq!(out.lines().filter(|line| line.contains("  apache_logs  requests ")).count(), 84, "{out}");
    assert!(out.contains("every row is what the stream says"), "{out}");
}
