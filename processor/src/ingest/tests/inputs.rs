//! What can be named as an input, what cannot be read of it, and what cannot be sent.

use super::*;

#[test]
fn files_folders_patterns_and_packed_files_are_read_once() {
    let mut world = World::new();
    world.write("a.log", "a1\na2\n");
    world.write("deep/b.txt", gz(b"b1\nb2\n"));
    world.write("deep/er/c", [zst(b"c1\n"), zst(b"c2\n")].concat());
    let report = world.run();
    assert_eq!(failures(&report), [""; 0]);
    assert_eq!(world.counted(), ["a1", "a2", "b1", "b2", "c1", "c2"]);
    assert_eq!(report.lines_sent, 6);
    let (folder, pattern, file) = (world.path("deep"), world.path("**/*.log"), world.path("a.log"));
    let report = world.run_on(&[&folder, &pattern, &file]);
    assert_eq!(report.files.len(), 3, "each file once");
    assert!(report.files.iter().all(|file| matches!(file.outcome, Outcome::Unchanged)), "{report:?}");
    assert_eq!(world.counted(), [""; 0]);
}

#[test]
fn names_that_are_no_utf_8_match_patterns_and_are_known_again() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    let mut world = World::new();
    let name = |bytes: &'static [u8]| Path::new(OsStr::from_bytes(bytes)).to_owned();
    let strange = world.path("caf\u{e9} %41").parent().unwrap().join(name(b"caf\xe9 %41.log"));
    fs::write(&strange, lines("a", 100)).unwrap();
    world.write("deep/er/plain.log", "b\n");
    for pattern in ["*.log", "c?f?*.log", "**/*.log", "[c]af*"] {
        let pattern = world.path(pattern);
        assert_eq!(failures(&world.run_on(&[&pattern])), [""; 0]);
    }
    assert_eq!(world.counted().len(), 101);
    let origins = world.fold.origins();
    let spelt = |origin: &String| origin.contains("bytes:/") && origin.ends_with("logs/caf%E9%20%2541.log");
    assert!(origins.iter().any(spelt), "{origins:?}");
    assert!(world.fold.services.contains(&Some("caf\u{fffd} %41".into())), "{:?}", world.fold.services);
    let renamed = strange.with_file_name(name(b"caf\xe9.log.1"));
    fs::rename(&strange, &renamed).unwrap();
    fs::write(&strange, "other\n").unwrap();
    assert_eq!(failures(&world.run()), [""; 0]);
    assert_eq!(world.counted(), ["other"]);
}

#[test]
fn a_pattern_over_folders_that_cannot_be_listed_or_run_in_circles_ends() {
    let mut world = World::new();
    world.write("a/x.log", "1\n");
    world.write("b/c/x.log", "2\n");
    std::os::unix::fs::symlink(world.path("b"), world.path("b/c/loop")).unwrap();
    for pattern in ["*/x.log", "*/*/x.log", "**/loop/**/x.log", "**"] {
        let pattern = world.path(pattern);
        assert_eq!(failures(&world.run_on(&[&pattern])), [""; 0]);
    }
    assert_eq!(world.counted(), ["1", "2"]);
    let nothing = world.path("x.log/*");
    assert_eq!(failures(&world.run_on(&[&nothing])).len(), 1);
}

#[test]
fn a_bad_input_is_named_and_the_others_are_read() {
    let mut world = World::new();
    world.write("a.log", "a\n");
    world.write("b.log", b"BZh91AY&SY...");
    world.write("x[1].log", "x\n");
    std::os::unix::net::UnixListener::bind(world.path("socket")).unwrap();
    std::os::unix::fs::symlink(world.path("nowhere"), world.path("dangling")).unwrap();
    std::os::unix::fs::symlink(world.path(""), world.path("loop")).unwrap();
    let (missing, pattern) = (world.path("missing.log"), world.path("*.none"));
    let (logs, socket, device) = (world.path(""), world.path("socket"), PathBuf::from("/dev/null"));
    let report = world.run_on(&[&missing, &pattern, &logs, &socket, &device]);
    let failed: Vec<_> = report.failed().map(|(path, _)| path.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(failed, ["missing.log", "*.none", "b.log", "socket", "null"]);
    let warned = |name: &str| report.warnings.iter().any(|warning| warning.contains(name));
    assert!(warned("socket") && warned("dangling"), "what is found in a folder is no failure: {:?}", report.warnings);
    assert_eq!(world.counted(), ["a", "x"]);
}

#[test]
fn standard_input_is_counted_each_time_and_named_input_once() {
    let mut world = World::new();
    world.stdin = gz(lines("s", 30).as_bytes());
    let dash = Path::new("-");
    world.run_on(&[dash]);
    assert_eq!(world.counted().len(), 30);
    assert_eq!(world.fold.services[0], None, "nothing names a service");
    world.run_on(&[dash]);
    assert_eq!(world.counted().len(), 30, "at least once: the same bytes again are other lines");
    world.as_name = Some("nightly".into());
    world.run_on(&[dash]);
    assert_eq!(world.counted().len(), 30);
    let report = world.run_on(&[dash]);
    assert_eq!((world.counted().len(), report.lines_sent), (0, 30), "sent again, and known");
    world.write("a.log", "a\n");
    world.write("b.log", "b\n");
    let report = world.run();
    assert!(matches!(report.failed().next(), Some((_, FileError::AsOne(2)))), "two inputs cannot have one name");
}

#[test]
fn lines_have_the_files_service_or_the_one_that_was_named() {
    let mut world = World::new();
    world.write("access.log.2.gz", gz(b"a\n"));
    world.run();
    world.service = Some("shop".into());
    world.write("b.log", "b\n");
    world.run();
    assert_eq!(world.fold.services, [Some("access".to_owned()), Some("shop".to_owned())]);
}

#[test]
fn a_refused_batch_fails_its_file_alone_and_comes_again() {
    let mut world = World::new();
    world.write("a.log", lines("a", 100));
    world.write("b.log", lines("b", 100));
    let logs = world.path("");
    let report =
        world.run_with(&[&logs], |number| (0, if number == 2 { Fault::Refused } else { Fault::None })).unwrap();
    assert_eq!(failures(&report).len(), 1);
    assert!(world.fold.counted.len() < 200);
    let report = world.run();
    assert_eq!(failures(&report), [""; 0]);
    let mut counted = world.counted();
    counted.sort();
    counted.dedup();
    assert_eq!(counted.len(), 200);
}

#[test]
fn where_nothing_can_be_sent_every_file_left_is_named() {
    let mut world = World::new();
    for name in ["a", "b", "c"] {
        world.write(name, lines(name, 100));
    }
    let logs = world.path("");
    let plan = |number| (0, if number >= 2 { Fault::Unavailable } else { Fault::None });
    let report = world.run_with(&[&logs], plan).unwrap();
    assert_eq!(report.failed().count(), 3, "{report:?}");
    world.run();
    assert_eq!(world.counted().len(), 300);
}
