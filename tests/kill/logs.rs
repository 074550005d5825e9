//! Logs to read while being killed, and what another program (awk) counts in them. The lines depend on their seed alone.

use std::{
    collections::BTreeMap,
    fmt::Write,
    path::{Path, PathBuf},
    process::Command,
};

/// Generated files, and lines in each: some 6 MB.
const FILES: u64 = 4;
const LINES: u64 = 9_000;
/// The second of the first line, 2026-03-01T10:00:00Z, and lines a second.
const FROM_SECS: u64 = 1_772_359_200;
const LINES_A_SECOND: u64 = 15;

/// A small generator of numbers (splitmix64): the same seed, the same numbers, anywhere.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// From 0 up to 1.
    pub fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// What is counted of each service and minute: lines, requests, errors, latencies, their sum.
pub type Totals = BTreeMap<(String, String), [f64; 5]>;

/// Files and what is in them.
pub struct Logs {
    pub paths: Vec<PathBuf>,
    pub totals: Totals,
    pub lines: u64,
    pub skipped: u64,
}

impl Logs {
    /// The real access log, packed, and generated JSON lines, in a folder.
    pub fn in_folder(folder: &Path) -> Self {
        let packed = folder.join("apache_logs.log.gz");
        std::fs::copy("tests/data/apache_logs.log.gz", &packed).unwrap();
        let plain = Command::new("gzip").args(["-dc"]).arg(&packed).output().unwrap().stdout;
        let access = folder.join("access.plain");
        std::fs::write(&access, plain).unwrap();
        let mut generated = vec![];
        for file in 0..FILES {
            let path = folder.join(format!("batch-{}.jsonl", char::from(b'a' + file as u8)));
            std::fs::write(&path, json_lines(file)).unwrap();
            generated.push(path);
        }
        let mut logs = Self { paths: vec![packed], totals: Totals::new(), lines: 0, skipped: 0 };
        logs.count(
            Command::new("awk").args(["-v", "service=apache_logs", "-f", "tests/kill/combined.awk"]).arg(&access),
        );
        logs.count(Command::new("awk").args(["-f", "tests/kill/json.awk"]).args(&generated));
        logs.paths.extend(generated);
        logs
    }

    fn count(&mut self, awk: &mut Command) {
        let output = awk.env("LC_ALL", "C").output().expect("awk counts what the test compares with: install it");
        assert!(output.status.success(), "awk: {}", String::from_utf8_lossy(&output.stderr));
        for line in String::from_utf8(output.stdout).unwrap().lines() {
            match line.split(',').collect::<Vec<_>>().as_slice() {
                ["skipped", count] => {
                    self.skipped += count.parse::<u64>().unwrap();
                    self.lines += count.parse::<u64>().unwrap();
                }
                [service, minute, numbers @ ..] => {
                    let numbers: Vec<f64> = numbers.iter().map(|number| number.parse().unwrap()).collect();
                    self.lines += numbers[0] as u64;
                    let before = self.totals.insert(((*service).into(), (*minute).into()), numbers.try_into().unwrap());
                    assert_eq!(before, None, "{service} {minute} is counted in two files");
                }
                _ => panic!("awk said {line}"),
            }
        }
    }
}

/// What `weir metrics -o csv` says, in the same form.
pub fn totals_of(csv: &str) -> Totals {
    let mut totals = Totals::new();
    for line in csv.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let [service, "Weir/Logs", metric, "", minute, "60", count, sum, ..] = fields[..] else { panic!("{line}") };
        let numbers = totals.entry((service.into(), minute.into())).or_default();
        let (count, sum): (f64, f64) = (count.parse().unwrap(), sum.parse().unwrap());
        match metric {
            "lines" => numbers[0] = count,
            "requests" => numbers[1] = count,
            "errors" => numbers[2] = count,
            "latency" => (numbers[3], numbers[4]) = (count, sum),
            _ => {}
        }
    }
    totals
}

/// Lines of many services in slight disorder, in two orders of keys, with blank and broken ones among them. Latencies are eighths, so that
/// their sums are exact however they are added.
fn json_lines(file: u64) -> String {
    let mut random = Random(0x5EED ^ (file << 32));
    let mut text = String::new();
    for line in 0..LINES {
        let second = FROM_SECS + line / LINES_A_SECOND - random.below(90);
        let (minute, second) = (second / 60 % 60 + 60 * (second / 3600 % 24), second % 60);
        let time = format!("2026-03-01T{:02}:{:02}:{second:02}.{:03}Z", minute / 60, minute % 60, random.below(1000));
        // The share of a service falls with its number. One service a file, so that no minute is counted in two.
        let service = random.below(9).min(random.below(9));
        let service = format!("{}-{service}", ["cart", "search", "auth", "ship"][file as usize % 4]);
        let status = if random.one_in(50) { 503 } else { 200 };
        let level = if status == 503 { "ERROR" } else { "INFO" };
        let reach = 1 << random.below(16);
        let latency = random.below(reach) as f64 / 8.0;
        let message = r#"said \"service\":\"other\" and status 500 on the way, café"#;
        let start = text.len();
        let written = match random.below(40) {
            0 => Ok(()),
            1 => write!(text, r#"{{"timestamp":"{time}","level":"FATAL","message":"{message}"}}"#),
            2 => write!(text, r#"{{"timestamp":"{time}","service":"{service}","latency_ms":{latency}}}"#),
            n if n % 2 == 0 => write!(
                text,
                r#"{{"timestamp":"{time}","level":"{level}","service":"{service}","status":{status},"latency_ms":{latency},"message":"{message}"}}"#
            ),
            _ => write!(
                text,
                r#" {{"message":"{message}","latency_ms":{latency},"status":{status},"service":"{service}","level":"{level}","timestamp":"{time}"}}"#
            ),
        };
        written.unwrap();
        if random.one_in(200) && text.len() > start {
            // Cut off within the line: no closing brace is left.
            text.truncate(start + 30);
        }
        text.push('\n');
    }
    text
}
