//! Every row of `weir metrics` against exact answers of another program, DuckDB: counts, errors, sums, least and greatest, and quantiles within
//! the stated error; for logs as they are, for distributions that are hard on a sketch, and for a real access log.
//!
//! DuckDB comes from PyPI into a folder under `target/`: the first run needs Python 3 with `venv`, and the network.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "program/weir.rs"]
mod program;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use program::Folder;

const DUCKDB: &str = "duckdb==2.0.0";
const NEXT_STEP: &str =
    "this test needs python3 with venv, and PyPI (or a mirror that pip is told of) on its first run";

/// A Python that has DuckDB, made once and kept under `target/`.
fn python() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    // Tests may run at the same time, as threads or as processes.
    let lock = std::fs::File::create(folder.join("duckdb.lock")).unwrap();
    lock.lock().unwrap();
    let venv = folder.join(DUCKDB.replace("==", "-"));
    let python = venv.join("bin/python");
    let has_duckdb = || Command::new(&python).args(["-c", "import duckdb"]).output().is_ok_and(|o| o.status.success());
    if !has_duckdb() {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv));
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", DUCKDB]));
    }
    python
}

/// Runs a command that has to succeed; what it printed.
#[track_caller]
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}; {NEXT_STEP}"));
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}\n{err}\n{NEXT_STEP}", output.status);
    out
}

/// Ingests a file and has all its rows compared, for every period.
#[track_caller]
fn compare(kind: &str, service: &str, folder: &Folder, file: &Path) {
    folder.ingest([file]).exits(0);
    for period in ["60", "300", "3600"] {
        let csv = folder.run("metrics", ["-o", "csv", "--period", period]).exits(0).out;
        let rows = folder.file("rows.csv", csv);
        let script = ["tests/exact/compare.py", kind, period];
        let output = Command::new(python()).args(script).arg(&rows).arg(service).arg(file).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        println!("{service}: {said}");
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    }
    folder.verifies();
}

fn generated(name: &str) -> (Folder, PathBuf) {
    let folder = Folder::new();
    let logs = folder.path("logs");
    std::fs::create_dir(&logs).unwrap();
    run(Command::new("python3").arg("tests/exact/generate.py").arg(&logs));
    (folder, logs.join(name))
}

#[test]
fn every_row_of_a_realistic_log_is_what_duckdb_says() {
    let (folder, file) = generated("realistic.jsonl");
    compare("json", "realistic", &folder, &file);
}

#[test]
fn every_row_of_distributions_that_are_hard_on_a_sketch_is_what_duckdb_says() {
    let (folder, file) = generated("nasty.jsonl");
    compare("json", "nasty", &folder, &file);
}

#[test]
fn every_row_of_a_real_access_log_is_what_duckdb_says() {
    let folder = Folder::new();
    let file = folder.path("apache_logs.log.gz");
    std::fs::copy("tests/data/apache_logs.log.gz", &file).unwrap();
    compare("combined", "apache_logs", &folder, &file);
}
