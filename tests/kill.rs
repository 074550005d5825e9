//! The real program, killed with SIGKILL at random points while it reads logs, and run again until it is done: after each kill verify finds no
//! difference, and at the end totals are those that awk counts in the raw files, and an alarm has done what it does when nobody is killed.
//!
//! The stream of a round begins with the history of an alarm that rings and falls silent, of which nothing but the definition is folded yet: so kills
//! fall into its decisions too, and it is known what they have to be.
//!
//! `WEIR_KILLS` says how many kills (half of them while `weir ingest` works alone, half with a `weir up` that it goes through), `WEIR_SEED` which.
//! Kill points are drawn as shares of an undisturbed run's duration, so they cover the whole run on any machine.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "program/history.rs"]
mod history;
#[path = "kill/logs.rs"]
mod logs;
#[path = "program/weir.rs"]
mod program;

use std::{
    io::Read,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use logs::{Logs, Random, Totals, totals_of};
use program::{Folder, Said, Server};

/// Of each folder.
const SHARDS: u16 = 2;
/// Kills of each of the two tests where `WEIR_KILLS` is not set: well below a minute in a dev build on two idle cores.
const KILLS: u64 = 12;
/// A share that no run reaches.
const UNDISTURBED: f64 = 1e6;
/// Between two looks at the clock and at a process.
const LOOK: Duration = Duration::from_micros(300);
/// Attempts of one round that may be killed; the next is left alone, and must get everything done.
const ATTEMPTS_MAX: u32 = 10;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{variable}={text}")))
}

/// How a round of kills is going.
struct Kills {
    wanted: u64,
    done: u64,
    rounds: u64,
    /// Kills by the tenth of the undisturbed run in which they fell.
    tenths: [u64; 10],
    /// Lines that came again and were known: kills that fell between an append and the reader's note of it.
    duplicates: u64,
    /// How long an undisturbed run takes, as far as is known.
    whole: Duration,
    /// The shares of it between which lines are appended: a small part, and the one where a file may be read twice.
    appending: (f64, f64),
}

impl Kills {
    /// Runs an ingest undisturbed, and looks when the reader's list of files begins and ceases to grow.
    fn measure(folder: &Folder, logs: &Logs) -> Self {
        let list = folder.data.join("readers/files.jsonl");
        let (begun, mut grew, mut size) = (Instant::now(), vec![], 0);
        let mut child = quiet(folder.command("ingest").args(&logs.paths));
        while child.try_wait().unwrap().is_none() {
            let now = std::fs::metadata(&list).map_or(0, |list| list.len());
            if now != size {
                grew.push(begun.elapsed());
                size = now;
            }
            std::thread::sleep(LOOK);
        }
        let whole = begun.elapsed();
        assert_eq!(child.wait().unwrap().code(), Some(0));
        let share = |time: Option<&Duration>| time.map_or(0.0, |time| time.as_secs_f64() / whole.as_secs_f64());
        let appending = (share(grew.first()), share(grew.last()));
        Self {
            wanted: number("WEIR_KILLS", 2 * KILLS).div_ceil(2),
            done: 0,
            rounds: 0,
            tenths: [0; 10],
            duplicates: 0,
            whole,
            appending,
        }
    }

    /// A share of an undisturbed run. First attempts go through its tenths, so that few rounds cover it. What is left of a run that was killed
    /// is shorter, so half of the later kills come while it appends, and half sooner than evenly.
    fn share(&self, random: &mut Random, attempt: u32) -> f64 {
        let (from, to) = self.appending;
        match attempt {
            ATTEMPTS_MAX.. => UNDISTURBED,
            1 if random.one_in(2) => ((self.rounds * 7 % 10) as f64 + random.share()) / 10.0,
            _ if random.one_in(2) => random.share() * random.share(),
            _ => from + (to - from) * random.share(),
        }
    }

    /// The balance of a whole run is known once it has ended: what was known of its lines.
    fn heard(&mut self, child: &mut Child) {
        let mut said = String::new();
        child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        let duplicate = said.split("duplicate ").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<u64>().ok());
        self.duplicates += duplicate.unwrap_or(0);
    }

    fn count(&mut self, share: f64) {
        self.done += 1;
        self.tenths[((share * 10.0) as usize).min(9)] += 1;
    }

    /// A run that nobody disturbed took so long: other work on the machine comes and goes.
    fn took(&mut self, time: Duration) {
        self.whole = (self.whole * 3 + time) / 4;
    }

    fn tell(&self, what: &str) {
        println!(
            "{what}: {} kills in {} rounds, 0 differences, {} lines came again and were known; by tenth of an undisturbed run ({:.2} s, appends from {:.2} to {:.2} of it): {:?}",
            self.done,
            self.rounds,
            self.duplicates,
            self.whole.as_secs_f64(),
            self.appending.0,
            self.appending.1,
            self.tenths
        );
    }
}

/// Waits for a moment, or for the process's end if that comes first. True: the moment came. Nothing is expected to have happened by then.
fn comes_first(child: &mut Child, share: f64, whole: Duration) -> bool {
    let deadline = Instant::now() + whole.mul_f64(share);
    while Instant::now() < deadline {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        std::thread::sleep(LOOK);
    }
    child.try_wait().unwrap().is_none()
}

/// Kills a process at a moment. False: it had ended by itself.
fn killed_at(child: &mut Child, share: f64, whole: Duration) -> bool {
    if comes_first(child, share, whole) {
        child.kill().unwrap();
    }
    child.wait().unwrap().code().is_none()
}

fn quiet(command: &mut Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// A random order, and in one of three attempts not all of them.
fn some<'a>(logs: &'a Logs, random: &mut Random, attempt: u32) -> Vec<&'a std::path::Path> {
    let mut paths: Vec<_> = logs.paths.iter().map(std::path::PathBuf::as_path).collect();
    for i in (1..paths.len()).rev() {
        paths.swap(i, random.below(i as u64 + 1) as usize);
    }
    if attempt < ATTEMPTS_MAX && random.one_in(3) {
        paths.truncate(1 + random.below(paths.len() as u64 - 1) as usize);
    }
    paths
}

#[track_caller]
fn assert_totals(folder: &Folder, logs: &Logs, seed: u64) {
    let csv = folder.run("metrics", ["-o", "csv"]).exits(0).out;
    let mut found = totals_of(&csv);
    found.retain(|(service, _), _| service != history::SERVICE);
    if found != logs.totals {
        panic!("seed {seed}: {}", first_difference(&found, &logs.totals));
    }
}

fn first_difference(found: &Totals, counted: &Totals) -> String {
    let of = |totals: &Totals, key| totals.get(key).copied();
    let keys = counted.keys().chain(found.keys());
    let differing = keys.filter(|key| of(found, key) != of(counted, key));
    let mut differing: Vec<_> = differing.collect();
    differing.sort();
    differing.dedup();
    let (count, key) = (differing.len(), differing[0]);
    format!(
        "{count} windows differ, first {key:?}: weir {:?}, awk {:?} (lines, requests, errors, latencies, sum)",
        of(found, key),
        of(counted, key)
    )
}

/// A killed process leaves a folder whose rows are what the stream says, however far they are.
#[track_caller]
fn verify(folder: &Folder, seed: u64) {
    let said = folder.run("verify", ["--json"]);
    assert_eq!(said.code, Some(0), "seed {seed}: after a kill: {said:?}");
}

/// A new folder, in which the alarm has yet to ring; and what it will do.
fn begun() -> (Folder, serde_json::Value) {
    let folder = Folder::new();
    let transitions = history::live(&folder.data, SHARDS, history::Rows::Definition);
    (folder, transitions)
}

/// The alarm has done what it does when nobody is killed, at the same times and for the same reasons.
#[track_caller]
fn assert_alarm(folder: &Folder, transitions: &serde_json::Value, seed: u64) {
    let alarm = folder.run("alarms", [history::ALARM, "--json"]).exits(0).json();
    assert_eq!(&alarm["transitions"], transitions, "seed {seed}");
}

/// The files hold nothing new, and the totals stay.
fn again(folder: &Folder, logs: &Logs, seed: u64) {
    let said = folder.ingest(&logs.paths).exits(0);
    assert!(said.err.contains(&format!("{0} of {0} files", logs.paths.len())), "seed {seed}: {said:?}");
    assert_totals(folder, logs, seed);
}

#[test]
fn an_ingest_that_is_killed_anywhere_counts_every_line_once_when_it_is_run_again() {
    let sources = Folder::new();
    let logs = Logs::in_folder(sources.root.path());
    // Once to have it all in the machine's memory, once to be timed.
    let said = Folder::new().ingest(&logs.paths).exits(0);
    let (undisturbed, transitions) = begun();
    let mut kills = Kills::measure(&undisturbed, &logs);
    assert_totals(&undisturbed, &logs, 0);
    assert_alarm(&undisturbed, &transitions, 0);
    let digest = undisturbed.verifies()["digest"].clone();
    assert!(said.last_line().starts_with(&format!("accepted {} = folded", logs.lines)), "{said:?}");

    let base = number("WEIR_SEED", 1);
    while kills.done < kills.wanted {
        kills.rounds += 1;
        let seed = base + kills.rounds;
        let mut random = Random(seed);
        let (folder, transitions) = begun();
        let mut attempts = 0;
        loop {
            attempts += 1;
            assert!(attempts <= ATTEMPTS_MAX, "seed {seed}: not done though it was left alone");
            let paths = some(&logs, &mut random, attempts);
            let all = paths.len() == logs.paths.len();
            let begun = Instant::now();
            let mut child = quiet(folder.command("ingest").args(paths));
            let share = kills.share(&mut random, attempts);
            if killed_at(&mut child, share, kills.whole) {
                kills.count(share);
            } else {
                kills.heard(&mut child);
                let code = child.wait().unwrap().code();
                assert_eq!(code, Some(0), "seed {seed}: an attempt that was not killed failed");
                if all && attempts == 1 {
                    kills.took(begun.elapsed());
                }
                if all {
                    break;
                }
            }
            verify(&folder, seed);
        }
        assert_totals(&folder, &logs, seed);
        assert_alarm(&folder, &transitions, seed);
        // The same windows on every route: also as when nobody was killed.
        assert_eq!(folder.verifies()["digest"], digest, "seed {seed}");
        if random.one_in(4) {
            again(&folder, &logs, seed);
        }
    }
    kills.tell("ingest alone");
}

#[test]
fn killing_weir_up_or_the_ingest_that_goes_through_it_counts_every_line_once() {
    let sources = Folder::new();
    let logs = Logs::in_folder(sources.root.path());
    let none: [&str; 0] = [];
    let (undisturbed, _) = begun();
    let started = Instant::now();
    let server = undisturbed.up(none);
    let starting = started.elapsed();
    let mut kills = Kills::measure(&undisturbed, &logs);
    server.stop().exits(0);
    let digest = undisturbed.verifies()["digest"].clone();

    let base = number("WEIR_SEED", 1) << 32;
    while kills.done < kills.wanted {
        kills.rounds += 1;
        let seed = base + kills.rounds;
        let (folder, transitions) = begun();
        let mut round = Round { folder, transitions, random: Random(seed), seed, starting, server: None };
        let mut attempts = 1;
        while !round.attempt(&logs, &mut kills, attempts) {
            attempts += 1;
            assert!(attempts <= ATTEMPTS_MAX, "seed {seed}: not done though it was left alone");
        }
        round.finish(&logs, &digest);
    }
    kills.tell("ingest through weir up");
}

/// One folder, until everything is in it.
struct Round {
    folder: Folder,
    transitions: serde_json::Value,
    random: Random,
    seed: u64,
    /// How long an undisturbed start takes.
    starting: Duration,
    server: Option<Server>,
}

impl Round {
    /// Starts `weir up`, perhaps only after it was killed twice while it started or recovered.
    fn serve(&mut self, kills: &mut Kills) {
        if self.random.one_in(2) {
            for _ in 0..2 {
                let mut child = quiet(self.folder.command("up").args(["--listen", "127.0.0.1:0"]));
                let share = self.random.share() * 1.5;
                // It does not end by itself, so each of these is a kill; they fall into no tenth of an ingest.
                kills.done += u64::from(killed_at(&mut child, share, self.starting));
                verify(&self.folder, self.seed);
            }
        }
        let none: [&str; 0] = [];
        self.server = Some(self.folder.up(none));
    }

    /// One ingest, with one of the two killed. True: everything is in.
    fn attempt(&mut self, logs: &Logs, kills: &mut Kills, attempt: u32) -> bool {
        if self.server.is_none() {
            self.serve(kills);
        }
        let paths = some(logs, &mut self.random, attempt);
        let all = paths.len() == logs.paths.len();
        let begun = Instant::now();
        let mut ingest = quiet(self.folder.command("ingest").args(paths));
        let share = kills.share(&mut self.random, attempt);
        let came = comes_first(&mut ingest, share, kills.whole);
        let took = begun.elapsed();
        let of_ingest = self.random.one_in(3);
        if came {
            kills.count(share);
            if of_ingest {
                ingest.kill().unwrap();
            } else {
                self.kill_server();
                // Either it notices by itself, says so and ends, or it is cut down as well.
                if self.random.one_in(2) {
                    ingest.kill().unwrap();
                }
            }
        } else if all && attempt == 1 {
            kills.took(took);
        }
        let code = ingest.wait().unwrap().code();
        kills.heard(&mut ingest);
        assert!(came || code == Some(0), "seed {}: an ingest that was not disturbed exits with {code:?}", self.seed);
        if came {
            verify(&self.folder, self.seed);
        }
        // It may have had its answer just before.
        code == Some(0) && all
    }

    fn kill_server(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.child.kill().unwrap();
            server.child.wait().unwrap();
        }
    }

    fn finish(mut self, logs: &Logs, digest: &serde_json::Value) {
        let seed = self.seed;
        if self.random.one_in(2) {
            // What was said to be readable is durable.
            self.kill_server();
            verify(&self.folder, seed);
        }
        if let Some(server) = self.server.take() {
            assert_totals(&self.folder, logs, seed);
            assert_eq!(&self.folder.verifies()["digest"], digest, "seed {seed}: through weir up");
            let balance = server.get("/balance").json();
            let number = |field: &str| balance[field].as_u64().unwrap();
            let skipped: u64 = balance["skipped"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
            assert_eq!(
                (number("folded"), skipped),
                (logs.lines - logs.skipped + history::LINES, logs.skipped),
                "seed {seed}: {balance}"
            );
            assert_eq!(number("accepted"), logs.lines + history::LINES + number("duplicate"), "seed {seed}: {balance}");
            let Said { code, .. } = server.stop();
            assert_eq!(code, Some(0), "seed {seed}");
        }
        assert_totals(&self.folder, logs, seed);
        assert_alarm(&self.folder, &self.transitions, seed);
        assert_eq!(&self.folder.verifies()["digest"], digest, "seed {seed}");
    }
}
