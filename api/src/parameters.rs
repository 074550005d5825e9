//! The parameters of an address. Decides that each is known and given once: a misspelt one that is passed over in silence gives a wrong answer.

use axum::{
    extract::{Path, Query, rejection::PathRejection},
    http::Uri,
};

use crate::{refusal::Refusal, routes::short};

/// See the module.
#[derive(Debug)]
pub(crate) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Those of this address; `known` are the names that its route takes.
    pub(crate) fn of(uri: &Uri, known: &[&str]) -> Result<Self, Refusal> {
        if !uri.query().is_none_or(is_utf8) {
            let message = "the address's query is no UTF-8 once its %-escapes are read: escape each byte of UTF-8";
            return Err(Refusal::bad("bad_query", message));
        }
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|error| Refusal::bad("bad_query", format!("the address's query cannot be read: {error}")))?;
        for (i, (name, _)) in pairs.iter().enumerate() {
            let name_short: String = name.chars().take(60).collect();
            if !known.contains(&name.as_str()) {
                let what = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                let message = format!("`{name_short}` is no parameter of {}; it takes {what}", short(uri.path()));
                return Err(Refusal::bad("unknown_parameter", message));
            }
            if pairs[..i].iter().any(|(before, _)| before == name) {
                return Err(Refusal::bad("repeated_parameter", format!("`{name_short}` is given twice: give it once")));
            }
        }
        Ok(Self(pairs))
    }

    /// The text of a parameter, if it is given.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// A whole number from `least` to `most`.
    pub(crate) fn number(&self, name: &str, least: u64, most: u64) -> Result<Option<u64>, Refusal> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let number = text.parse().ok().filter(|number| (least..=most).contains(number));
        let refuse = || {
            let short: String = text.chars().take(40).collect();
            Refusal::field(name, format!("`{short}` is not a whole number from {least} to {most}"))
        };
        number.map(Some).ok_or_else(refuse)
    }

    /// The service, checked.
    pub(crate) fn service(&self) -> Result<Option<&str>, Refusal> {
        let service = self.text("service").map(events::identity::check_service).transpose();
        service.map_err(|error| Refusal::field("service", error))
    }

    /// The name of a run as the operator knows it: with the tenant, who cannot see another's.
    pub(crate) fn run(&self, tenant: &str) -> Result<Option<String>, Refusal> {
        self.text("run").map(|run| run_of(tenant, run)).transpose()
    }
}

/// What is no text would be read as another text, with a sign for what cannot be read, and find nothing or the wrong thing.
fn is_utf8(query: &str) -> bool {
    let bytes = query.as_bytes();
    let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                plain.push((high * 16 + low) as u8);
                at += 3;
            }
            _ => {
                plain.push(*byte);
                at += 1;
            }
        }
    }
    std::str::from_utf8(&plain).is_ok()
}

/// The last part of a path as text.
pub(crate) fn part(part: Result<Path<String>, PathRejection>) -> Result<String, Refusal> {
    part.map(|Path(text)| text)
        .map_err(|error| Refusal::bad("bad_path", format!("the address's path cannot be read: {error}")))
}

/// Longest name of a run.
const RUN_BYTES_MAX: usize = 64;

/// A run's name with its tenant's. Neither holds a slash, so no two pairs give one name.
pub(crate) fn run_of(tenant: &str, run: &str) -> Result<String, Refusal> {
    let plain = run.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if !plain || run.is_empty() || run.len() > RUN_BYTES_MAX {
        return Err(Refusal::field("run", format!("a run's name is 1 to {RUN_BYTES_MAX} of a-z A-Z 0-9 - _ .")));
    }
    Ok(format!("{tenant}/{run}"))
}
