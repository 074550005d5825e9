//! Packed files that break off, are spoilt, or are followed by something.

use proptest::prelude::*;

use super::*;

#[test]
fn whole_lines_before_a_cut_are_in_and_the_rest_comes_once_it_is_mended() {
    let text = lines("l", 200);
    for (name, packed) in [("a.gz", gz(text.as_bytes())), ("a.zst", zst(text.as_bytes()))] {
        // Fewer bytes are not told from text.
        for cut in (4..packed.len()).step_by(37) {
            let mut world = World::new();
            world.write(name, &packed[..cut]);
            let report = world.run();
            assert_eq!(failures(&report).len(), 1, "{name} cut at {cut}");
            assert!(world.fold.counted.iter().all(|line| text.contains(&format!("{line}\n"))), "{name} cut at {cut}");
            world.run();
            world.write(name, &packed);
            assert_eq!(failures(&world.run()), [""; 0]);
            assert_eq!(sorted(world.counted()), sorted(text.lines()), "{name} cut at {cut}");
        }
    }
}

#[test]
fn a_cut_is_named_with_its_offset() {
    let packed = gz(lines("l", 10).as_bytes());
    let mut world = World::new();
    world.write("a.gz", &packed[..60]);
    assert!(failures(&world.run())[0].contains("ends at byte 60"));
    world.write("b.gz", [packed.as_slice(), b"junk"].concat());
    let report = world.run();
    assert!(failures(&report)[1].contains(&format!("at byte {}", packed.len())), "{:?}", failures(&report));
    assert!(world.fold.counted.contains(&lines("l", 10).lines().last().unwrap().to_owned()), "all lines before are in");
}

#[test]
fn members_frames_padding_and_frames_to_be_skipped_are_one_text() {
    let skipped = [&[0x53, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
    let mut named = flate2::GzBuilder::new()
        .filename("n")
        .comment("c")
        .extra(vec![1; 9])
        .write(vec![], flate2::Compression::fast());
    std::io::Write::write_all(&mut named, b"lf\n").unwrap();
    let named = named.finish().unwrap();
    for (name, bytes) in [
        ("members", [gz(b"ha"), named.clone(), gz(b"")].concat()),
        ("padding", [gz(b"half\n"), vec![0; 600]].concat()),
        ("frames", [skipped.clone(), zst(b"ha"), skipped.clone(), zst(b"lf\n"), skipped].concat()),
    ] {
        let mut world = World::new();
        world.write("a", bytes);
        assert_eq!(failures(&world.run()), [""; 0], "{name}");
        assert_eq!(world.counted(), ["half"], "{name}");
    }
}

/// Spoils one byte; the places are spread over the file.
fn spoilt(packed: &[u8]) -> impl Iterator<Item = (usize, Vec<u8>)> {
    (12..packed.len()).step_by(packed.len() / 60 + 1).map(|at| {
        let mut spoilt = packed.to_vec();
        spoilt[at] ^= 0x55;
        (at, spoilt)
    })
}

#[test]
fn of_a_small_file_nothing_is_taken_that_its_checksums_do_not_confirm() {
    let text = lines("l", 300);
    let (first, second) = text.split_at(text.len() / 2);
    let with_sum = |bytes: &[u8]| {
        let mut encoder = zstd::Encoder::new(vec![], 1).unwrap();
        encoder.include_checksum(true).unwrap();
        std::io::Write::write_all(&mut encoder, bytes).unwrap();
        encoder.finish().unwrap()
    };
    let members = [gz(first.as_bytes()), gz(second.as_bytes())].concat();
    for (name, packed) in [("one member", gz(text.as_bytes())), ("two", members), ("frame", with_sum(text.as_bytes()))]
    {
        let mut refused = 0;
        for (at, spoilt) in spoilt(&packed) {
            let mut world = World::new();
            world.write("a.gz", &spoilt);
            let report = world.run();
            refused += failures(&report).iter().filter(|why| why.contains("its checksums do not confirm")).count();
            let held = |line: &String| text.contains(&format!("{line}\n"));
            assert!(world.fold.counted.iter().all(held), "{name}, byte {at}: {:?}", world.fold.counted);
            world.write("a.gz", &packed);
            assert_eq!(failures(&world.run()), [""; 0]);
            assert_eq!(sorted(world.counted()), sorted(text.lines()), "{name}, byte {at}");
        }
        assert!(refused > 30, "{name}: {refused}");
    }
}

#[test]
fn a_large_file_that_was_taken_unverified_is_counted_anew_only_if_that_was_wrong() {
    let text = lines("l", 6_000);
    let packed = gz(text.as_bytes());
    let (mut same, mut other) = (0, 0);
    for (at, spoilt) in spoilt(&packed) {
        let mut world = World::new();
        world.write("a.gz", &spoilt);
        let said = failures(&world.run());
        let taken = world.fold.counted.len();
        assert!(taken == 0 || taken >= 6_000 || said[0].contains("no checksum says that they are right"), "{said:?}");
        // Damaged data may also repeat lines that are right, or leave some out.
        let right = sorted(&world.fold.counted) == sorted(text.lines().take(taken));
        assert_eq!(failures(&world.run()).len(), said.len(), "it is damaged still");
        assert_eq!(world.fold.counted.len(), taken, "byte {at}: nothing more is taken");
        world.write("a.gz", &packed);
        let warnings = world.run().warnings;
        let counted = world.counted();
        if right {
            assert_eq!((sorted(&counted), warnings), (sorted(text.lines()), vec![]), "byte {at}");
            same += 1;
        } else {
            // What was taken wrong stays, and every right line is in.
            assert_eq!(sorted(&counted[taken..]), sorted(text.lines()), "byte {at}");
            assert!(warnings.len() == 1 && warnings[0].contains("stays counted"), "{warnings:?}");
            other += 1;
        }
        assert!(world.run().warnings.is_empty(), "said once");
        assert_eq!(world.counted(), [""; 0]);
    }
    assert!(same > 5 && other > 5, "{same} {other}");
}

#[test]
fn a_large_half_packed_file_beside_its_original_waits() {
    let text = lines("l", 6_000);
    let mut world = World::new();
    world.write("a.log", &text);
    world.run();
    let packed = gz(text.as_bytes());
    world.write("a.log.gz", &packed[..packed.len() / 2]);
    assert!(failures(&world.run())[0].contains("begins like"));
    world.write("a.log.gz", &packed);
    fs::remove_file(world.path("a.log")).unwrap();
    assert_eq!(failures(&world.run()), [""; 0]);
    assert_eq!(world.counted().len(), 6_000);
}

#[test]
fn a_line_too_long_is_named_and_its_neighbours_are_whole() {
    let long = "x".repeat(3 * cut::LINE_BYTES_MAX);
    let mut world = World::new();
    world.write("a", gz(format!("before\n{long}\nafter\n").as_bytes()));
    world.run();
    let counted = world.counted();
    assert_eq!((counted.len(), counted[0].as_str(), counted[2].as_str()), (3, "before", "after"));
    world.write("a", format!("before\n{long}\nafter\nmore"));
    world.run();
    assert_eq!(world.counted(), ["more"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn what_is_taken_is_what_the_file_holds(
        words in proptest::collection::vec("[a-z C\t]{0,40}", 0..200), packing in 0u8..3, target in 1usize..500, pieces in 1usize..5, ended in any::<bool>(),
    ) {
        let mut text = words.join("\n");
        if ended { text.push('\n'); }
        let mut world = World::new();
        world.target = target;
        let pack = |bytes: &[u8]| match packing { 0 => bytes.to_vec(), 1 => gz(bytes), _ => zst(bytes) };
        let size = text.len() / pieces + 1;
        let packed: Vec<u8> = text.as_bytes().chunks(size).flat_map(pack).collect();
        world.write("a", packed);
        prop_assert_eq!(failures(&world.run()), [""; 0]);
        let held = cut::lines(text.as_bytes()).map(|(_, line)| String::from_utf8_lossy(line).into_owned());
        prop_assert_eq!(sorted(world.counted()), sorted(held));
    }
}
