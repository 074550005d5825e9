//! What editors, rotations and writers do to a file between two runs.

use super::*;

/// A step of a story, and what the run after it is to count.
type Step = (fn(&World), &'static [&'static str]);

fn tell(stories: &[(&str, &[Step])]) {
    for (story, steps) in stories {
        let mut world = World::new();
        for (number, (change, counted)) in steps.iter().enumerate() {
            change(&world);
            let report = world.run();
            assert_eq!(failures(&report), [""; 0], "{story}, step {number}");
            assert_eq!(world.counted(), *counted, "{story}, step {number}");
            assert_eq!(report.warnings, [""; 0], "{story}, step {number}");
            world.run();
            assert_eq!(world.counted(), [""; 0], "{story}, step {number}, run again");
        }
    }
}

#[test]
fn a_file_is_known_again_whatever_was_done_to_it() {
    tell(&[
        ("it grows", &[(|w| w.write("a.log", "1\n"), &["1"]), (|w| w.append("a.log", "2\n3\n"), &["2", "3"])]),
        ("an empty file gets lines", &[(|w| w.write("a.log", ""), &[]), (|w| w.write("a.log", "1\n"), &["1"])]),
        (
            "an editor writes it anew, with a line more",
            &[
                (|w| w.write("a.log", "1\n2\n"), &["1", "2"]),
                (
                    |w| {
                        w.write("swap", "1\n2\n3\n");
                        w.rename("swap", "a.log");
                    },
                    &["3"],
                ),
            ],
        ),
        (
            "a shorter file replaces it",
            &[(|w| w.write("a.log", "1\n2\n3\n"), &["1", "2", "3"]), (|w| w.write("a.log", "1\n2\n"), &["1", "2"])],
        ),
        (
            "another replaces it",
            &[(|w| w.write("a.log", "1\n2\n"), &["1", "2"]), (|w| w.write("a.log", "x\n2\n3\n"), &["x", "2", "3"])],
        ),
        (
            "its end is edited",
            &[(|w| w.write("a.log", "1\n2\n"), &["1", "2"]), (|w| w.write("a.log", "1\nx\n3\n"), &["1", "x", "3"])],
        ),
        (
            "it is emptied, and says the same again",
            &[
                (|w| w.write("a.log", "1\n"), &["1"]),
                (|w| w.write("a.log", ""), &[]),
                (|w| w.write("a.log", "1\n"), &["1"]),
            ],
        ),
        (
            "it is packed in its place",
            &[
                (|w| w.write("a.log", "1\n2\n"), &["1", "2"]),
                (|w| w.write("a.log", gz(b"1\n2\n3\n")), &["3"]),
                (|w| w.write("a.log", zst(b"1\n2\n3\n4\n")), &["4"]),
            ],
        ),
    ]);
}

#[test]
fn a_rotated_file_keeps_its_identity() {
    tell(&[
        (
            "the chain turns",
            &[
                (|w| w.write("a.log", "1\n"), &["1"]),
                (
                    |w| {
                        w.append("a.log", "2\n");
                        w.rename("a.log", "a.log.1");
                        w.write("a.log", "3\n");
                    },
                    &["3", "2"],
                ),
                (
                    |w| {
                        w.write("a.log.2.gz", gz(b"1\n2\n"));
                        fs::remove_file(w.path("a.log.1")).unwrap();
                        w.rename("a.log", "a.log.1");
                        w.write("a.log", "4\n");
                    },
                    &["4"],
                ),
                (
                    |w| {
                        w.rename("a.log.2.gz", "a.log.3.gz");
                        w.write("a.log.2.gz", gz(b"3\n"));
                        w.rename("a.log", "a.log.1");
                    },
                    &[],
                ),
            ],
        ),
        (
            "it is copied and cut",
            &[
                (|w| w.write("a.log", "1\n"), &["1"]),
                (
                    |w| {
                        w.append("a.log", "2\n");
                        fs::copy(w.path("a.log"), w.path("a.log.1")).unwrap();
                        w.write("a.log", "");
                    },
                    &["2"],
                ),
                (|w| w.append("a.log", "3\n"), &["3"]),
            ],
        ),
        (
            "two files change names",
            &[
                (
                    |w| {
                        w.write("a", "1\n");
                        w.write("b", "2\n");
                    },
                    &["1", "2"],
                ),
                (
                    |w| {
                        w.rename("a", "c");
                        w.rename("b", "a");
                        w.rename("c", "b");
                        w.append("a", "3\n");
                        w.append("b", "4\n");
                    },
                    &["3", "4"],
                ),
            ],
        ),
        (
            "it is renamed and comes back",
            &[
                (|w| w.write("a.log", "1\n"), &["1"]),
                (|w| w.rename("a.log", "b.log"), &[]),
                (
                    |w| {
                        w.rename("b.log", "a.log");
                        w.append("a.log", "2\n");
                    },
                    &["2"],
                ),
            ],
        ),
    ]);
}

#[test]
fn a_renamed_file_keeps_the_name_of_its_origin() {
    let mut world = World::new();
    world.write("a.log", "1\n");
    world.run();
    world.rename("a.log", "a.log.1");
    world.append("a.log.1", "2\n");
    world.run();
    let origins = world.fold.origins();
    assert!(matches!(origins.as_slice(), [origin] if origin.ends_with("logs/a.log")), "{origins:?}");
}

#[test]
fn a_line_that_lacked_its_newline_is_joined_to_nothing() {
    tell(&[
        ("it goes on", &[(|w| w.write("a", "1\nhal"), &["1", "hal"]), (|w| w.append("a", "f\n2\n"), &["f", "2"])]),
        (
            "it gets its newline",
            &[
                (|w| w.write("a", "1"), &["1"]),
                (|w| w.append("a", "\n"), &[]),
                (|w| w.append("a", "2"), &["2"]),
                (|w| w.append("a", "\n3"), &["3"]),
            ],
        ),
        (
            "the next file begins",
            &[(
                |w| {
                    w.write("a", "1");
                    w.write("b", "2");
                },
                &["1", "2"],
            )],
        ),
        (
            "one line grows for ever",
            &[
                (|w| w.write("a", "1"), &["1"]),
                (|w| w.append("a", "2"), &["2"]),
                (|w| w.append("a", "3"), &["3"]),
                (|w| w.append("a", "\n"), &[]),
            ],
        ),
    ]);
}

#[test]
fn the_same_bytes_elsewhere_are_counted_with_a_warning() {
    let text = lines("l", 100);
    for short in [false, true] {
        let text = if short { "1\n" } else { &text };
        for same_run in [false, true] {
            let mut world = World::new();
            world.write("a.log", text);
            if !same_run {
                world.run();
                world.counted();
            }
            world.write("b.log.gz", gz(text.as_bytes()));
            world.write("elsewhere/a.log", text);
            let report = world.run();
            let copies = if same_run { 3 } else { 2 };
            assert_eq!(world.counted().len(), copies * text.lines().count());
            assert_eq!(report.warnings.len(), 2, "{:?}", report.warnings);
            assert!(report.warnings[0].contains("b.log.gz holds the bytes of"), "{:?}", report.warnings);
            assert!(world.run().warnings.is_empty(), "said once");
        }
    }
}

#[test]
fn files_that_begin_alike_are_told_apart() {
    let head = "#Fields: date time\n".repeat(100);
    let mut world = World::new();
    world.write("a.log", format!("{head}a\n"));
    world.write("b.log", format!("{head}b\n"));
    assert_eq!(world.run().warnings, [""; 0]);
    assert_eq!(world.counted().len(), 202);
    world.rename("a.log", "z.log");
    world.append("z.log", "a2\n");
    world.append("b.log", "b2\n");
    world.run();
    assert_eq!(world.counted(), ["b2", "a2"]);
}

#[test]
fn a_long_file_whose_end_was_edited_is_another() {
    let text = lines("l", 200);
    let mut world = World::new();
    world.write("a.log", &text);
    world.run();
    world.counted();
    world.write("a.log", text.replace("l199;", "x199;") + "more\n");
    world.run();
    assert_eq!(world.counted().len(), 201);
}

#[test]
fn asked_for_again_a_file_is_counted_again() {
    let mut world = World::new();
    world.write("a.log", "1\n");
    world.run();
    world.again = true;
    assert_eq!(world.run().warnings, [""; 0]);
    assert_eq!(world.counted(), ["1", "1"]);
    world.again = false;
    world.append("a.log", "2\n");
    world.run();
    assert_eq!(world.counted(), ["2"]);
}

#[test]
fn a_file_that_was_read_costs_no_write() {
    let mut world = World::new();
    world.write("a.log", "1\n");
    world.write("b.log.gz", gz(b"2\n"));
    world.run();
    let before = fs::read(world.list_folder().join("files.jsonl")).unwrap();
    let logs = world.path("");
    let report = world.run_on(&[&logs]);
    assert!(report.files.iter().all(|file| matches!(file.outcome, Outcome::Unchanged)));
    assert_eq!(fs::read(world.list_folder().join("files.jsonl")).unwrap(), before);
}
