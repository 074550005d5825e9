//! The service that a file's name tells. Decides by the name alone.

use std::path::Path;

use events::identity::check_service;

const PACKINGS: [&str; 4] = [".gz", ".gzip", ".zst", ".zstd"];
const EXTENSIONS: [&str; 6] = [".log", ".jsonl", ".ndjson", ".json", ".txt", ".out"];

/// The service of lines that name none, for a file of this name: what is left of it without, from its end, packings (`.gz` …), one rotation
/// (`.1`, `-20260101`, `.2026-01-01`, `-2026010113`), one extension (`.log`, `.json` …), and one rotation more. A part is taken off only if
/// something is left. A number counts as a rotation unless a digit stands before its point (`app-1.2.3` is a version).
pub(crate) fn service_of(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_string_lossy();
    let mut rest = &*name;
    while let Some(shorter) = without_one_of(rest, &PACKINGS) {
        rest = shorter;
    }
    rest = without_rotation(rest).unwrap_or(rest);
    rest = without_one_of(rest, &EXTENSIONS).unwrap_or(rest);
    rest = without_rotation(rest).unwrap_or(rest);
    check_service(rest).ok().map(str::to_owned)
}

fn without_one_of<'a>(name: &'a str, endings: &[&str]) -> Option<&'a str> {
    let lower = name.to_ascii_lowercase();
    let ending = endings.iter().find(|ending| lower.ends_with(*ending))?;
    Some(&name[..name.len() - ending.len()]).filter(|rest| !rest.is_empty())
}

fn without_rotation(name: &str) -> Option<&str> {
    without_number(name).or_else(|| without_date(name))
}

fn without_number(name: &str) -> Option<&str> {
    let (rest, number) = name.rsplit_once('.')?;
    let short = (1..=4).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
    let plain = rest.bytes().last().is_some_and(|byte| !byte.is_ascii_digit());
    (short && plain).then_some(rest)
}

/// `-YYYYMMDD`, `-YYYYMMDDHH`, `-YYYY-MM-DD`, `-YYYY-MM-DD-HH`, or an epoch of ten digits; `.` and `_` do for the first `-`.
fn without_date(name: &str) -> Option<&str> {
    let tail = name.bytes().rev().take_while(|byte| byte.is_ascii_digit() || *byte == b'-').count();
    let (before, date) = name.split_at(name.len() - tail);
    // The separator may be one of the dashes.
    let (rest, date) = match date.strip_prefix('-') {
        Some(date) => (before, date),
        None => (before.strip_suffix(['.', '_'])?, date),
    };
    let shape: String = date.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
    let dated = matches!(shape.as_str(), "99999999" | "9999999999" | "9999-99-99" | "9999-99-99-99");
    let year = date.starts_with("19") || date.starts_with("20") || shape == "9999999999";
    (dated && year && !rest.is_empty()).then_some(rest)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_files_name_tells_the_service() {
        for (path, service) in [
            ("/var/log/nginx/access.log", "access"),
            ("/var/log/nginx/access.log.2.gz", "access"),
            ("/var/log/app-20260101.log", "app"),
            ("/var/log/app.log-20260101.gz", "app"),
            ("/var/log/app.log.2026-01-01", "app"),
            ("/var/log/app-2026-01-01-13.jsonl.zst", "app"),
            ("/var/log/app.log-2026010113", "app"),
            ("/var/log/app.log.1767225600", "app"),
            ("/var/log/app.1.log", "app"),
            ("/var/log/syslog.1", "syslog"),
            ("/var/log/syslog", "syslog"),
            ("checkout.JSON", "checkout"),
            ("app-1.2.3.log", "app-1.2.3"),
            ("port-8080.log", "port-8080"),
            ("2026-01-01.log", "2026-01-01"),
            (".log", ".log"),
            ("a.gz.gz", "a"),
            ("apache_logs.log.gz", "apache_logs"),
        ] {
            assert_eq!(service_of(Path::new(path)).as_deref(), Some(service), "{path}");
        }
        assert_eq!(service_of(Path::new("/")), None);
        assert_eq!(service_of(Path::new("a\nb.log")), None);
    }
}
