//! Where the next page begins, as a token that a client hands back unread. Decides only whether a token fits its query; it grants nothing, since
//! tenant and generation never come from it.
//!
//! Version 1, in base64url without padding: version byte 1; fingerprint of the query (8 bytes); first and end second of the range, start of the
//! last window (signed varints); its service and its series (texts); xxh3-64 of all that (8 bytes).

use std::{fmt, str::FromStr};

use xxhash_rust::xxh3::xxh3_64;

use super::{Item, Query};
use crate::{canonical, series::Series};

const VERSION: u8 = 1;
/// Longest token that is looked at: more than the longest series needs.
const TOKEN_BYTES_MAX: usize = 64 << 10;

/// The place of the last item of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    fingerprint: u64,
    pub(super) from_secs: i64,
    pub(super) to_secs: i64,
    pub(super) start_secs: i64,
    pub(super) service: String,
    pub(super) series: Series,
}

/// A token that does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadCursor {
    /// Cut short, changed, or made up.
    #[error(
        "this is not a token that an earlier answer gave: hand back `nextToken` unchanged, or leave it out to begin again"
    )]
    Malformed,
    /// It continues another query.
    #[error(
        "the token continues another query: repeat service, namespace, metric and period as they were, or leave it out to begin again"
    )]
    OtherQuery,
}

impl Cursor {
    pub(super) fn behind(query: &Query, range: (i64, i64), item: &Item) -> Self {
        Self {
            fingerprint: fingerprint(query),
            from_secs: range.0,
            to_secs: range.1,
            start_secs: item.timestamp.0,
            service: item.service.to_string(),
            series: Series::clone(&item.series),
        }
    }

    /// Reads a token that continues this query. The query's range is not compared: the first page's stands in the token.
    pub fn parse(token: &str, query: &Query) -> Result<Self, BadCursor> {
        let cursor: Self = token.parse()?;
        let other_service = query.service.as_ref().is_some_and(|service| *service != cursor.service);
        if cursor.fingerprint == fingerprint(query) && !other_service { Ok(cursor) } else { Err(BadCursor::OtherQuery) }
    }

    fn decode(mut input: &[u8]) -> Option<Self> {
        let (content, sum) = input.split_last_chunk::<8>()?;
        if xxh3_64(content) != u64::from_le_bytes(*sum) {
            return None;
        }
        let (version, rest) = content.split_first()?;
        let (fingerprint, rest) = rest.split_first_chunk::<8>()?;
        input = rest;
        let input = &mut input;
        let mut number = || canonical::take_signed(input, "second").ok();
        let (from_secs, to_secs, start_secs) = (number()?, number()?, number()?);
        let service = canonical::take_text(input, events::identity::SERVICE_BYTES_MAX, "service").ok()?.to_owned();
        let series = Series::decode(input).ok()?;
        let fingerprint = u64::from_le_bytes(*fingerprint);
        (*version == VERSION && input.is_empty()).then_some(Self {
            fingerprint,
            from_secs,
            to_secs,
            start_secs,
            service,
            series,
        })
    }
}

/// What must be the same from page to page.
fn fingerprint(query: &Query) -> u64 {
    let mut bytes = Vec::with_capacity(128);
    canonical::put_text(&mut bytes, &query.tenant);
    for text in [&query.service, &query.namespace, &query.metric] {
        bytes.push(u8::from(text.is_some()));
        canonical::put_text(&mut bytes, text.as_deref().unwrap_or_default());
    }
    canonical::put_varint(&mut bytes, query.view.live().0.into());
    canonical::put_varint(&mut bytes, query.period_secs.into());
    xxh3_64(&bytes)
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.fingerprint.to_le_bytes());
        for secs in [self.from_secs, self.to_secs, self.start_secs] {
            canonical::put_signed(&mut bytes, secs);
        }
        canonical::put_text(&mut bytes, &self.service);
        bytes.extend_from_slice(&self.series.encode());
        let sum = xxh3_64(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        f.write_str(&base64url(&bytes))
    }
}

impl FromStr for Cursor {
    type Err = BadCursor;

    fn from_str(token: &str) -> Result<Self, BadCursor> {
        unbase64url(token).and_then(|bytes| Self::decode(&bytes)).ok_or(BadCursor::Malformed)
    }
}

/// RFC 4648, section 5, without padding: all of it may stand in an address as it is.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn base64url(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = (0..3).fold(0u32, |bits, i| bits << 8 | u32::from(chunk.get(i).copied().unwrap_or(0)));
        for place in 0..=chunk.len() {
            text.push(char::from(ALPHABET[(bits >> (18 - 6 * place)) as usize & 63]));
        }
    }
    text
}

fn unbase64url(text: &str) -> Option<Vec<u8>> {
    if text.len() > TOKEN_BYTES_MAX || text.len() % 4 == 1 {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    for chunk in text.as_bytes().chunks(4) {
        let mut bits = 0u32;
        for place in 0..4 {
            let six = match chunk.get(place) {
                Some(letter) => ALPHABET.iter().position(|known| known == letter)? as u32,
                None => 0,
            };
            bits = bits << 6 | six;
        }
        let whole = bits.to_be_bytes();
        bytes.extend_from_slice(&whole[1..chunk.len()]);
    }
    Some(bytes)
}
