//! The main job, lines in and rows out: each step alone and all of it, in MB of raw text per CPU second. `../design.md` has figures and goals.
//!
//!     cargo bench --bench main_job -- [STEP…] [--file PATH] [--mb N] [--times N] [--dir FOLDER] [--shards N] [--core N]
//!     cargo bench --bench main_job -- generate json|combined LINES DAYS PATH
//!
//! Without steps: all but `memory` and `codec`. Without a file: generated JSON lines. Each step says what it leaves out and prints a checksum of
//! its result. CPU time is that of the whole process, of all threads and of the kernel on its behalf; on a shared machine wall time says little.
//! Under `cargo test` everything runs once on little data, and the checksums have to be those that `small.rs` lists.
#![allow(clippy::print_stdout)]

mod alone;
mod append;
mod generate;
mod measure;
mod small;
mod whole;

use std::path::{Path, PathBuf};

use generate::Format;

/// A line of JSON has so many bytes, about.
const LINE_BYTES: u64 = 274;
/// Steps that are done only where they are named, and once on little data.
const FURTHER: [&str; 2] = ["codec", "memory"];
const STEPS: [&str; 9] = ["parse", "pack", "fold", "append", "end-to-end", "replay", "query", "checkpoint", "shards"];

struct Args {
    steps: Vec<String>,
    file: Option<PathBuf>,
    mb: u64,
    times: usize,
    folder: Option<PathBuf>,
    shards: u16,
    small: bool,
}

fn args() -> Args {
    let given: Vec<String> = std::env::args().skip(1).collect();
    // As `cargo test` calls it, and as nextest does: without --bench. Then it only shows that all of it works.
    let small = !given.iter().any(|arg| arg == "--bench");
    let mut args = Args { steps: vec![], file: None, mb: 64, times: 5, folder: None, shards: 1, small };
    if small {
        (args.mb, args.times) = (2, 1);
    }
    let mut given = given.into_iter();
    while let Some(arg) = given.next() {
        let mut value = || given.next().unwrap_or_else(|| panic!("{arg} needs a value"));
        match arg.as_str() {
            // What `cargo test` and nextest say to every test program.
            "--test-threads" | "--skip" | "--format" | "--color" | "--logfile" => drop(value()),
            "--file" => args.file = Some(value().into()),
            "--mb" => args.mb = value().parse().expect("--mb takes a whole number"),
            "--times" => args.times = value().parse().expect("--times takes a whole number"),
            "--dir" => args.folder = Some(value().into()),
            "--shards" => args.shards = value().parse().expect("--shards takes a whole number"),
            "--core" => measure::hold_on_core(value().parse().expect("--core takes a whole number")),
            flag if flag.starts_with('-') => {}
            step => args.steps.push(step.to_owned()),
        }
    }
    args
}

fn main() {
    if std::env::args().any(|arg| arg == "--list") {
        if !std::env::args().any(|arg| arg == "--ignored") {
            println!("main_job: test");
        }
        return;
    }
    let mut args = args();
    if args.small && !args.steps.iter().any(|step| is_step(step)) {
        // Part of the name of a test, as for any other test program: it may be this one.
        if !args.steps.is_empty() && !args.steps.iter().any(|filter| "main_job".contains(filter.as_str())) {
            return;
        }
        args.steps.clear();
    }
    if args.steps.first().is_some_and(|step| step == "generate") {
        return generate_file(&args.steps[1..]);
    }
    let scratch = tempfile::tempdir().expect("a folder for the bench's files");
    let folder = args.folder.clone().unwrap_or_else(|| scratch.path().to_owned());
    std::fs::create_dir_all(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let lines = (args.mb << 20) / LINE_BYTES;
    let file = args.file.clone().unwrap_or_else(|| {
        let file = scratch.path().join("generated.jsonl");
        whole::write(&file, Format::Json, lines, 1);
        file
    });
    let steps: Vec<&str> = match args.steps.as_slice() {
        [] if args.small => STEPS.into_iter().chain(FURTHER).collect(),
        [] => STEPS.to_vec(),
        given => given.iter().map(String::as_str).collect(),
    };
    for step in steps {
        run(step, &args, &folder, &file, lines);
    }
    if args.small && args.steps.is_empty() && args.file.is_none() {
        small::compare(&measure::checks());
    }
}

fn is_step(text: &str) -> bool {
    text == "generate" || STEPS.iter().chain(&FURTHER).any(|step| *step == text)
}

fn run(step: &str, args: &Args, folder: &Path, file: &Path, lines: u64) {
    // Only where it is wanted: it would be most of the memory of the whole job.
    let text = || std::fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    match step {
        "parse" => alone::parse(&text(), args.times),
        "pack" => alone::pack(&text(), args.times),
        "fold" => alone::fold(&text(), args.times),
        "codec" => alone::codec(&text(), args.times),
        "append" => append::append(folder, args.mb << 20, if args.small { 64 } else { 4096 }),
        "end-to-end" => whole::end_to_end(folder, file, args.shards),
        "shards" => whole::shards(folder, file, if args.small { 1 } else { 3 }),
        "replay" => whole::replay(folder, file),
        "query" => whole::query(folder, file, if args.small { 2 } else { 20 * args.times }),
        "checkpoint" => whole::checkpoint(folder, file),
        "memory" => whole::memory(folder, lines, args.small),
        _ => panic!("there is no step `{step}`: {}, {}", STEPS.join(", "), FURTHER.join(", ")),
    }
}

fn generate_file(args: &[String]) {
    let [format, lines, days, path] = args else { panic!("generate json|combined LINES DAYS PATH") };
    let format = match format.as_str() {
        "json" => Format::Json,
        "combined" => Format::Combined,
        _ => panic!("`{format}` is neither json nor combined"),
    };
    let number = |text: &String| text.parse().unwrap_or_else(|_| panic!("`{text}` is not a whole number"));
    whole::write(Path::new(path), format, number(lines), number(days));
}
