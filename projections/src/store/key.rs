//! Row keys as bytes whose order is the order of the keys. Every adapter stores these; it never looks into a row.
//!
//! Invariants:
//! - `encode(a) < encode(b)` exactly when `a < b`, and `decode(encode(a)) == a`. The bytes are stored: never change them.
//! - No key of one tenant, generation, kind or subject lies in the range of another, however their names begin.
//!
//! ```text
//! tenant 00 | generation u32 | kind u8 | name 00 | at i64, sign flipped | shard 00 | partial u16 | page u16
//! ```
//! All rows of one window are neighbours, whichever shards, partials and pages they are. Numbers are big-endian. Names hold no NUL, so the one that ends them sorts a name before all that it is a prefix of.

use super::{Generation, KeyRef, Kind, NAME_BYTES_MAX, Partial, RowKey, Span, Subject};

/// Most bytes of a shard's name (Kinesis API reference, `ShardId`).
pub const SHARD_BYTES_MAX: usize = 128;

/// Bytes of a place in time.
pub const AT_BYTES: usize = 8;

const END: u8 = 0;
const SIGN: u64 = 1 << 63;

/// A name that no key can hold. Writers are refused; for readers there is nothing under it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// It would end early and could be read as another key.
    #[error("the {part}'s name {name:?} holds a NUL byte")]
    Nul {
        /// Tenant, subject or shard.
        part: &'static str,
        /// The name.
        name: String,
    },
    /// Not every store could hold it.
    #[error("the {part}'s name has {bytes} bytes, {bytes_max} are allowed; it begins with {start:?}")]
    TooLong {
        /// Tenant, subject or shard.
        part: &'static str,
        /// Its first characters.
        start: String,
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        bytes_max: usize,
    },
}

/// Keys from `from` up to, but not including, `to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// First key that is wanted.
    pub from: Vec<u8>,
    /// First key that is not.
    pub to: Vec<u8>,
}

/// The bytes of a key.
pub fn encode(key: &RowKey) -> Result<Vec<u8>, BadName> {
    let mut bytes = subject(&key.subject)?;
    bytes.reserve(8 + key.shard.as_str().len() + 5);
    bytes.extend_from_slice(&at(key.at));
    push_name(&mut bytes, "shard", key.shard.as_str(), SHARD_BYTES_MAX)?;
    bytes.extend_from_slice(&key.partial.0.to_be_bytes());
    bytes.extend_from_slice(&key.page.to_be_bytes());
    Ok(bytes)
}

/// The key that `encode` made these bytes of; `None`: it did not.
pub fn decode(bytes: &[u8]) -> Option<RowKey> {
    view(bytes).map(RowKey::from)
}

/// As `decode`, without a copy.
pub fn view(bytes: &[u8]) -> Option<KeyRef<'_>> {
    let (tenant, rest) = split_name(bytes, NAME_BYTES_MAX)?;
    let (generation, rest) = rest.split_first_chunk()?;
    let (kind, rest) = rest.split_first()?;
    let (name, rest) = split_name(rest, NAME_BYTES_MAX)?;
    let (at, rest) = rest.split_first_chunk()?;
    let (shard, rest) = split_name(rest, SHARD_BYTES_MAX)?;
    let (partial, page) = split_partial_and_page(rest)?;
    let generation = Generation(u32::from_be_bytes(*generation));
    let kind = Kind::ALL.into_iter().find(|known| *known as u8 == *kind)?;
    let at = (u64::from_be_bytes(*at) ^ SIGN) as i64;
    Some(KeyRef { tenant, generation, kind, name, at, shard, partial, page })
}

/// As `view`, of a key that begins with a subject's bytes, which need not be read again.
pub fn view_of<'a>(subject: &'a Subject, prefix: &[u8], bytes: &'a [u8]) -> Option<KeyRef<'a>> {
    let (at, rest) = bytes.strip_prefix(prefix)?.split_first_chunk()?;
    let (shard, rest) = split_name(rest, SHARD_BYTES_MAX)?;
    let (partial, page) = split_partial_and_page(rest)?;
    let Subject { tenant, generation, kind, name } = subject;
    let at = (u64::from_be_bytes(*at) ^ SIGN) as i64;
    Some(KeyRef { tenant, generation: *generation, kind: *kind, name, at, shard, partial, page })
}

/// What every key of a subject, and no other, begins with.
pub fn subject(subject: &Subject) -> Result<Vec<u8>, BadName> {
    let mut bytes = kind(&subject.tenant, subject.generation, subject.kind)?;
    push_name(&mut bytes, "subject", &subject.name, NAME_BYTES_MAX)?;
    Ok(bytes)
}

/// What every key of a tenant's kind, and no other, begins with.
pub fn kind(tenant: &str, generation: Generation, kind: Kind) -> Result<Vec<u8>, BadName> {
    let mut bytes = Vec::with_capacity(tenant.len() + 64);
    push_name(&mut bytes, "tenant", tenant, NAME_BYTES_MAX)?;
    bytes.extend_from_slice(&generation.0.to_be_bytes());
    bytes.push(kind as u8);
    Ok(bytes)
}

/// Where a span lies; `None` for the span of all tenants, which is one range for each of them.
pub fn range(span: &Span) -> Result<Option<Range>, BadName> {
    Ok(Some(match span {
        Span::Of { subject: of, from, to } => {
            let prefix = subject(of)?;
            Range { from: [prefix.as_slice(), &at(*from)].concat(), to: [prefix.as_slice(), &at(*to)].concat() }
        }
        Span::All { tenant: Some(tenant), generation, kind: of } => {
            let from = kind(tenant, *generation, *of)?;
            Range { to: after_all(&from), from }
        }
        Span::All { tenant: None, .. } => return Ok(None),
    }))
}

/// The tenant's name at the start of a key.
pub fn tenant(bytes: &[u8]) -> Option<&str> {
    split_name(bytes, NAME_BYTES_MAX).map(|(tenant, _)| tenant)
}

/// The part of a key that names its subject.
pub fn subject_of(bytes: &[u8]) -> Option<&[u8]> {
    let (tenant, rest) = split_name(bytes, NAME_BYTES_MAX)?;
    let (name, _) = split_name(rest.get(5..)?, NAME_BYTES_MAX)?;
    bytes.get(..tenant.len() + name.len() + 7)
}

/// A place in time, in an order that bytes have too.
pub fn at(at: i64) -> [u8; AT_BYTES] {
    (at as u64 ^ SIGN).to_be_bytes()
}

/// The first bytes behind everything that begins with a prefix of ours (they end with NUL or a kind, never FF).
pub fn after_all(prefix: &[u8]) -> Vec<u8> {
    let mut bytes = prefix.to_vec();
    if let Some(last) = bytes.last_mut() {
        *last += 1;
    }
    bytes
}

fn push_name(bytes: &mut Vec<u8>, part: &'static str, name: &str, bytes_max: usize) -> Result<(), BadName> {
    if name.len() > bytes_max {
        let start = name.chars().take(40).collect();
        return Err(BadName::TooLong { part, start, bytes: name.len(), bytes_max });
    }
    if memchr::memchr(END, name.as_bytes()).is_some() {
        return Err(BadName::Nul { part, name: name.to_owned() });
    }
    bytes.extend_from_slice(name.as_bytes());
    bytes.push(END);
    Ok(())
}

fn split_name(bytes: &[u8], bytes_max: usize) -> Option<(&str, &[u8])> {
    let end = memchr::memchr(END, &bytes[..bytes.len().min(bytes_max + 1)])?;
    Some((std::str::from_utf8(&bytes[..end]).ok()?, &bytes[end + 1..]))
}

fn split_partial_and_page(bytes: &[u8]) -> Option<(Partial, u16)> {
    let [a, b, c, d] = bytes.try_into().ok()?;
    Some((Partial(u16::from_be_bytes([a, b])), u16::from_be_bytes([c, d])))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use events::position::ShardId;
    use proptest::prelude::*;

    use super::*;

    fn key(tenant: &str, name: &str, at: i64) -> RowKey {
        let generation = Generation(7);
        let subject = Subject { tenant: tenant.into(), generation, kind: Kind::Window, name: name.into() };
        RowKey { subject, at, shard: ShardId::numbered(3), partial: Partial(1), page: 2 }
    }

    prop_compose! {
        // Few characters, so that names are often equal or prefixes of each other.
        fn keys()(
            tenant in "[a\u{1}\u{ff}\u{10ffff}]{0,3}", name in "[a\u{1}\u{ff}é]{0,3}", shard in "[ab]{1,2}",
            generation in prop_oneof![0..3u32, any::<u32>()], kind in 0..Kind::ALL.len(),
            at in prop_oneof![-2..2i64, any::<i64>()], partial in prop_oneof![0..2u16, any::<u16>()],
            page in prop_oneof![0..2u16, any::<u16>()],
        ) -> RowKey {
            let subject = Subject { tenant, generation: Generation(generation), kind: Kind::ALL[kind], name };
            RowKey { subject, at, shard: ShardId::named(&shard), partial: Partial(partial), page }
        }
    }

    proptest! {
        #[test]
        fn bytes_have_the_order_of_the_keys_and_give_them_back(a in keys(), b in keys()) {
            let (left, right) = (encode(&a).unwrap(), encode(&b).unwrap());
            prop_assert_eq!(left.cmp(&right), a.cmp(&b));
            prop_assert_eq!(subject_of(&left).unwrap(), subject(&a.subject).unwrap());
            prop_assert_eq!(tenant(&left).unwrap(), &a.subject.tenant);
            let prefix = subject(&a.subject).unwrap();
            prop_assert_eq!(view_of(&a.subject, &prefix, &left), view(&left));
            prop_assert_eq!(view_of(&a.subject, &prefix, &right).is_some(), a.subject == b.subject);
            prop_assert_eq!(decode(&left).unwrap(), a);
        }

        #[test]
        fn a_range_holds_what_its_span_says_and_nothing_else(a in keys(), b in keys(), from in -2..2i64, to in -2..3i64) {
            let bytes = encode(&b).unwrap();
            let within = |span: &Span| {
                let range = range(span).unwrap().unwrap();
                (range.from.as_slice()..range.to.as_slice()).contains(&bytes.as_slice())
            };
            let (of, subject) = (&b.subject, a.subject);
            let wanted = subject == *of && (from..to).contains(&b.at);
            prop_assert_eq!(within(&Span::Of { subject: subject.clone(), from, to }), wanted);
            let Subject { tenant, generation, kind, .. } = subject;
            let wanted = (&tenant, generation, kind) == (&of.tenant, of.generation, of.kind);
            prop_assert_eq!(within(&Span::All { tenant: Some(tenant), generation, kind }), wanted);
        }

        #[test]
        fn bytes_that_are_no_key_are_none(bytes in prop::collection::vec(0..4u8, 0..40)) {
            if let Some(key) = decode(&bytes) {
                prop_assert_eq!(encode(&key).unwrap(), bytes);
            }
        }
    }

    #[test]
    fn the_stored_bytes_are_those_of_version_1() {
        let bytes = encode(&key("a", "web", -1)).unwrap();
        let golden = b"a\0\0\0\0\x07\x01web\0\x7f\xff\xff\xff\xff\xff\xff\xffshardId-000000000003\0\0\x01\0\x02";
        assert_eq!(bytes, golden);
    }

    #[test]
    fn a_name_with_nul_or_too_long_is_refused() {
        assert_eq!(encode(&key("a\0b", "", 0)), Err(BadName::Nul { part: "tenant", name: "a\0b".into() }));
        assert!(encode(&key("a", &"x".repeat(NAME_BYTES_MAX), 0)).is_ok());
        let refused = encode(&key("a", &"x".repeat(NAME_BYTES_MAX + 1), 0)).unwrap_err().to_string();
        assert!(
            refused.starts_with("the subject's name has 881 bytes, 880 are allowed; it begins with \"xxx"),
            "{refused}"
        );
    }
}
