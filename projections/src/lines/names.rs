//! Decides which key of a JSON line (or of a logfmt line) means what. It never looks at a value: whether a value can be
//! used is `values`' business.
//!
//! The table is in rank order within each role: of the keys that are present with a usable value, the first here wins.
//! `a/b` is key `b` of the object under key `a`; a dot is part of the key. Of a key given twice the last one counts, even
//! when its value is unusable, as for any reader that puts an object's members into a map. Names match byte by byte.
//!
//! | role | keys, best first | value |
//! |---|---|---|
//! | time | `timestamp` `@timestamp` `time` `ts` `datetime` `date` `eventTime` `@t` | a timestamp (see `time`), or a number: seconds, ms, µs or ns of Unix time by size |
//! | level | `level` `severity` `lvl` `log.level` `log/level` `loglevel` `log_level` `levelname` `@l` | a word in any case, or a number: 10 … 60 as bunyan and pino, 0 … 7 as syslog |
//! | service | `service` `service.name` `service/name` `service_name` `serviceName` `app` `application` | a string of 1 to 255 bytes |
//! | status | `status` `status_code` `statusCode` `http.status_code` `http/status_code` `http_status` `http.response.status_code` `http/response/status_code` | a whole number in 100 ..= 599, or such a string |
//! | latency | `latency_ms` `duration_ms` `elapsed_ms` `response_time_ms` `latencyMs` `durationMs` `elapsedMs` `responseTime` `latency` `duration` `elapsed` | milliseconds, or a string with its own unit (`1.2s`) |
//! | | `request_time`, then `latency_`, `duration_`, `elapsed_` with `s`, `secs`, `seconds`, then with `us`, then with `ns` | seconds, µs, ns, or a string with its own unit |
//! | bytes | `bytes` `body_bytes_sent` `bytes_sent` `response_size` `size` `content_length` | a number ≥ 0, or such a string |

/// What a key tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Time,
    Level,
    Service,
    Status,
    /// The power of ten that turns a bare number into milliseconds.
    Latency(i8),
    Bytes,
}

impl Role {
    /// How many roles there are.
    pub(super) const COUNT: usize = 6;

    /// A dense number for tables by role.
    pub(super) fn index(self) -> usize {
        match self {
            Role::Time => 0,
            Role::Level => 1,
            Role::Service => 2,
            Role::Status => 3,
            Role::Latency(_) => 4,
            Role::Bytes => 5,
        }
    }
}

/// A place in [`FIELDS`]; of two fields of one role the lower is the better.
pub(super) type Field = u8;

/// An object in which keys may have a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Top,
    Service,
    Log,
    Http,
    HttpResponse,
    /// Anywhere else: no key has a role.
    Elsewhere,
}

use Place::{Http, HttpResponse, Log, Top};
use Role::{Bytes, Latency, Level, Service, Status, Time};

const FIELDS: [(Place, &str, Role); 65] = [
    (Top, "timestamp", Time),
    (Top, "@timestamp", Time),
    (Top, "time", Time),
    (Top, "ts", Time),
    (Top, "datetime", Time),
    (Top, "date", Time),
    (Top, "eventTime", Time),
    (Top, "@t", Time),
    (Top, "level", Level),
    (Top, "severity", Level),
    (Top, "lvl", Level),
    (Top, "log.level", Level),
    (Log, "level", Level),
    (Top, "loglevel", Level),
    (Top, "log_level", Level),
    (Top, "levelname", Level),
    (Top, "@l", Level),
    (Top, "service", Service),
    (Top, "service.name", Service),
    (Place::Service, "name", Service),
    (Top, "service_name", Service),
    (Top, "serviceName", Service),
    (Top, "app", Service),
    (Top, "application", Service),
    (Top, "status", Status),
    (Top, "status_code", Status),
    (Top, "statusCode", Status),
    (Top, "http.status_code", Status),
    (Http, "status_code", Status),
    (Top, "http_status", Status),
    (Top, "http.response.status_code", Status),
    (HttpResponse, "status_code", Status),
    (Top, "latency_ms", Latency(0)),
    (Top, "duration_ms", Latency(0)),
    (Top, "elapsed_ms", Latency(0)),
    (Top, "response_time_ms", Latency(0)),
    (Top, "latencyMs", Latency(0)),
    (Top, "durationMs", Latency(0)),
    (Top, "elapsedMs", Latency(0)),
    (Top, "responseTime", Latency(0)),
    (Top, "latency", Latency(0)),
    (Top, "duration", Latency(0)),
    (Top, "elapsed", Latency(0)),
    (Top, "request_time", Latency(3)),
    (Top, "latency_s", Latency(3)),
    (Top, "latency_secs", Latency(3)),
    (Top, "latency_seconds", Latency(3)),
    (Top, "duration_s", Latency(3)),
    (Top, "duration_secs", Latency(3)),
    (Top, "duration_seconds", Latency(3)),
    (Top, "elapsed_s", Latency(3)),
    (Top, "elapsed_secs", Latency(3)),
    (Top, "elapsed_seconds", Latency(3)),
    (Top, "latency_us", Latency(-3)),
    (Top, "duration_us", Latency(-3)),
    (Top, "elapsed_us", Latency(-3)),
    (Top, "latency_ns", Latency(-6)),
    (Top, "duration_ns", Latency(-6)),
    (Top, "elapsed_ns", Latency(-6)),
    (Top, "bytes", Bytes),
    (Top, "body_bytes_sent", Bytes),
    (Top, "bytes_sent", Bytes),
    (Top, "response_size", Bytes),
    (Top, "size", Bytes),
    (Top, "content_length", Bytes),
];

/// Longest key that has a role.
pub(super) const KEY_BYTES_MAX: usize = 31;

/// A set of fields, by their bits.
pub(super) type Fields = u128;

// A key is looked up by two masks, its length and its first byte: mostly none is left, seldom more than one.
const BY_LENGTH: [Fields; KEY_BYTES_MAX + 1] = {
    let mut masks = [0; KEY_BYTES_MAX + 1];
    let mut field = 0;
    while field < FIELDS.len() {
        masks[FIELDS[field].1.len()] |= 1 << field;
        field += 1;
    }
    masks
};
const BY_FIRST_BYTE: [Fields; 256] = {
    let mut masks = [0; 256];
    let mut field = 0;
    while field < FIELDS.len() {
        masks[FIELDS[field].1.as_bytes()[0] as usize] |= 1 << field;
        field += 1;
    }
    masks
};

const fn fields_of(place: Place) -> Fields {
    let (mut mask, mut field) = (0, 0);
    while field < FIELDS.len() {
        if FIELDS[field].0 as u8 == place as u8 {
            mask |= 1 << field;
        }
        field += 1;
    }
    mask
}
const BY_PLACE: [Fields; 6] = [
    fields_of(Top),
    fields_of(Place::Service),
    fields_of(Log),
    fields_of(Http),
    fields_of(HttpResponse),
    fields_of(Place::Elsewhere),
];

/// The field that `key` is at `place`.
pub(super) fn field(place: Place, key: &[u8]) -> Option<Field> {
    let first = *key.first()?;
    let mut maybe = BY_LENGTH.get(key.len())? & BY_FIRST_BYTE[first as usize] & BY_PLACE[place as usize];
    while maybe != 0 {
        let field = maybe.trailing_zeros() as u8;
        if FIELDS[field as usize].1.as_bytes() == key {
            return Some(field);
        }
        maybe &= maybe - 1;
    }
    None
}

/// Where an object under `key` at `place` leads.
pub(super) fn place(place: Place, key: &[u8]) -> Place {
    match (place, key) {
        (Top, b"service") => Place::Service,
        (Top, b"log") => Log,
        (Top, b"http") => Http,
        (Http, b"response") => HttpResponse,
        _ => Place::Elsewhere,
    }
}

/// What is forgotten when `key` at `place` is given again: the fields in the object that it may have held before.
pub(super) fn under(at: Place, key: &[u8]) -> Fields {
    match place(at, key) {
        Http => BY_PLACE[Http as usize] | BY_PLACE[HttpResponse as usize],
        inner => BY_PLACE[inner as usize],
    }
}

/// The role of a field.
pub(super) fn role(field: Field) -> Role {
    FIELDS[field as usize].2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_finds_itself_and_no_name_stands_twice() {
        for (index, (at, key, _)) in FIELDS.iter().enumerate() {
            assert_eq!(field(*at, key.as_bytes()), Some(index as u8), "{key}");
        }
    }

    #[test]
    fn a_name_counts_only_in_its_place_and_in_full() {
        assert_eq!(field(Top, b"name"), None);
        assert_eq!(field(Place::Elsewhere, b"status"), None);
        for key in ["Status", "statu", "status ", "", "timestamp2", "a_name_much_longer_than_any_of_those_in_the_table"]
        {
            assert_eq!(field(Top, key.as_bytes()), None, "{key}");
        }
    }

    #[test]
    fn an_object_given_again_forgets_all_that_stood_in_it() {
        let status = field(HttpResponse, b"status_code").map(|field| 1 << field);
        assert_eq!(Some(under(Top, b"http") & BY_PLACE[HttpResponse as usize]), status);
        assert_eq!(under(Top, b"message"), 0);
    }
}
