//! What a record's payload looks like. Decides how bytes are framed and packed; never what a line means.
//!
//! A payload that begins with [`MAGIC`] is a Weir batch:
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..4 | `E7 57 45 52` |
//! | 4 | version, 1 |
//! | 5..9 | length of the header, unsigned 32 bits, little-endian |
//! | 9.. | header: a MessagePack map with the fields of [`Header`] |
//! | rest | body, packed by the header's codec |
//!
//! Other payloads are read by `payload`, which tells all of them apart.
//!
//! `wire/format.md` says the same for writers in other languages, with every field and limit.

pub mod aggregate;
mod document;
mod emf;
pub mod part;
pub mod payload;
pub mod subscription;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    event::{BATCH_EVENTS_MAX, Event},
    identity::{self, ORIGIN_NAME_BYTES_MAX, Origin, Producer},
    position::SequenceNumber,
};

/// First bytes of a Weir batch: not UTF-8, and no other payload's.
pub const MAGIC: [u8; 4] = [0xE7, b'W', b'E', b'R'];
/// The version that this program writes.
pub const VERSION: u8 = 1;
/// Longest header.
pub const HEADER_BYTES_MAX: usize = 64 << 10;
/// Longest body after unpacking: what a reader must be ready to hold.
pub const BODY_BYTES_MAX: usize = 8 << 20;
/// Most places of one batch where bytes were taken out.
pub const EDITS_MAX: usize = 1_000;

const PREFIX: usize = MAGIC.len() + 1 + 4;

/// How the body is packed. Never part of any digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Codec {
    /// As it is: folded where it lies.
    None,
    /// One LZ4 block.
    Lz4,
    /// One Zstandard frame.
    Zstd,
}

/// What the body holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// Raw log lines.
    Lines,
    /// A MessagePack array of events.
    Events,
}

/// Why bytes of the origin are not in the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Removed {
    /// A redaction rule took them out.
    Redacted,
    /// The line was longer than a line may be; its head was kept.
    TooLong,
}

/// A place where the body is shorter than the origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edit {
    /// Where in the body bytes are missing.
    pub body_offset: u32,
    /// How many of the origin's bytes are missing there.
    pub removed_bytes: u64,
    /// Why.
    pub reason: Removed,
}

/// The contiguous bytes of one origin that a batch holds, counted after decompression.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// What they were read from.
    pub origin: Origin,
    /// First byte.
    pub from: u64,
    /// First byte after them.
    pub to: u64,
}

/// What is known of a batch without unpacking it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The wall: a batch holds one tenant.
    pub tenant: String,
    /// What the body holds.
    pub content: Content,
    /// How it is packed.
    pub codec: Codec,
    /// Its length unpacked.
    pub raw_len: u32,
    /// When the producer first read these bytes, Unix milliseconds; every retry repeats it.
    pub read_at_ms: i64,
    /// The service of lines that name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Identity of bytes that come from somewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extent: Option<Extent>,
    /// Where the body is shorter than what was read, in order of offset.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub edits: Vec<Edit>,
    /// Identity of bytes that come from nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub producer: Option<Producer>,
    /// The key that the body is encrypted with; absent: it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_key_id: Option<String>,
    /// The highest revision of definitions that the producer knew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definitions: Option<SequenceNumber>,
}

impl Header {
    /// Of a body that is not packed, and of which no more is known: no service, origin or producer.
    pub fn plain(tenant: impl Into<String>, content: Content, raw_len: u32, read_at_ms: i64) -> Self {
        Self {
            tenant: tenant.into(),
            content,
            codec: Codec::None,
            raw_len,
            read_at_ms,
            service: None,
            extent: None,
            edits: vec![],
            producer: None,
            data_key_id: None,
            definitions: None,
        }
    }
}

/// A batch with its body unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The header.
    pub header: Header,
    /// `header.raw_len` bytes.
    pub body: Bytes,
}

/// A payload that cannot be understood: a dead letter with this reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Another payload, or noise.
    #[error("the payload is not a Weir batch (first bytes {0:02x?})")]
    NotABatch(Vec<u8>),
    /// Written by a newer program.
    #[error("the batch has version {0}; this program reads version {VERSION}")]
    Version(u8),
    /// Cut short or corrupted.
    #[error("the batch's {what} cannot be read: {why}")]
    Malformed {
        /// Header, body or events.
        what: &'static str,
        /// The cause.
        why: String,
    },
    /// Another payload, or noise.
    #[error("the payload begins with {first:02x?}, which is no form that is read, and is no UTF-8 from byte {at} on")]
    NotText {
        /// Its first bytes.
        first: Vec<u8>,
        /// How much of it is UTF-8.
        at: usize,
    },
    /// A stranger's form, cut short or corrupted.
    #[error("the {form} cannot be read: {why}")]
    Strange {
        /// Which form.
        form: &'static str,
        /// The cause.
        why: String,
    },
    /// One record unpacks to more than is read.
    #[error(
        "it unpacks to more than the {BODY_BYTES_MAX} bytes and {} bytes of metrics that one record may hold",
        part::VALUES_BYTES_MAX
    )]
    TooLarge,
    /// An aggregate of more records than are read.
    #[error("it holds more than {} records", aggregate::RECORDS_MAX)]
    TooManyRecords,
    /// A record of an aggregate names a key that is not there.
    #[error("it names a key that is in no table of its aggregate")]
    BadIndex,
    /// A batch in an aggregate holds some bytes of another batch in it, and others.
    #[error("some of its bytes, and not all, stand in a batch before it in the same record")]
    Overlaps,
}

impl DecodeError {
    /// The word under which it is counted.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotABatch(_) => "unknown_payload",
            Self::Version(_) => "unknown_version",
            Self::Malformed { .. } => "malformed_batch",
            Self::NotText { .. } => "unknown_payload",
            Self::Strange { .. } => "malformed_payload",
            Self::TooLarge => "too_large",
            Self::TooManyRecords => "too_many_records",
            Self::BadIndex => "bad_index",
            Self::Overlaps => "overlaps",
        }
    }
}

fn malformed(what: &'static str, why: impl ToString) -> DecodeError {
    DecodeError::Malformed { what, why: why.to_string() }
}

fn strange(form: &'static str, why: impl ToString) -> DecodeError {
    DecodeError::Strange { form, why: why.to_string() }
}

/// One name for several texts, whatever is in them.
fn hashed(texts: &[&str]) -> String {
    let mut whole = vec![];
    for text in texts {
        whole.extend_from_slice(&(text.len() as u64).to_le_bytes());
        whole.extend_from_slice(text.as_bytes());
    }
    format!("{}-{:032x}", texts.first().copied().unwrap_or_default(), xxhash_rust::xxh3::xxh3_128(&whole))
}

/// True if the bytes claim to be a Weir batch.
pub fn is_batch(payload: &[u8]) -> bool {
    payload.starts_with(&MAGIC)
}

/// Packs a batch. `header.codec` and `header.raw_len` are taken as given: `raw` is the unpacked body and is packed here.
pub fn encode(header: &Header, raw: &[u8]) -> Bytes {
    debug_assert_eq!(header.raw_len as usize, raw.len(), "raw_len names the body's length");
    let head = encode_head(header);
    let mut payload = Vec::with_capacity(head.len() + raw.len() + 64);
    payload.extend_from_slice(&head);
    match header.codec {
        Codec::None => payload.extend_from_slice(raw),
        Codec::Lz4 => payload.extend_from_slice(&lz4_flex::block::compress(raw)),
        Codec::Zstd => {
            payload.extend_from_slice(&zstd::bulk::compress(raw, 1).expect("zstd packs any bytes into memory"));
        }
    }
    payload.into()
}

/// All of a batch that stands before its body.
pub(crate) fn encode_head(header: &Header) -> Vec<u8> {
    let mut head = Vec::with_capacity(512);
    head.extend_from_slice(&MAGIC);
    head.push(VERSION);
    head.extend_from_slice(&[0; 4]);
    rmp_serde::encode::write_named(&mut head, header).expect("a header of strings and integers always encodes");
    let length = (head.len() - PREFIX) as u32;
    head[PREFIX - 4..PREFIX].copy_from_slice(&length.to_le_bytes());
    head
}

/// How many bytes a batch of these events has, before its header.
pub fn events_len(events: &[Event]) -> u64 {
    rmp_serde::to_vec_named(events).map_or(0, |raw| raw.len() as u64)
}

/// A batch of events.
pub fn encode_events(mut header: Header, events: &[Event]) -> Bytes {
    let raw = rmp_serde::to_vec_named(events).expect("events of strings and numbers always encode");
    header.content = Content::Events;
    header.codec = Codec::None;
    header.raw_len = raw.len() as u32;
    encode(&header, &raw)
}

/// Unpacks a batch. Bounded by `HEADER_BYTES_MAX` and `BODY_BYTES_MAX` whatever the bytes claim; a body with `Codec::None` is not copied.
pub fn decode(payload: &Bytes) -> Result<Batch, DecodeError> {
    decode_within(payload, BODY_BYTES_MAX)
}

/// The same, where less may be unpacked.
fn decode_within(payload: &Bytes, body_bytes_max: usize) -> Result<Batch, DecodeError> {
    let (header, body_at) = decode_header(payload)?;
    if header.raw_len as usize > body_bytes_max {
        return Err(DecodeError::TooLarge);
    }
    let packed = payload.slice(body_at..);
    let raw_len = header.raw_len as usize;
    let body = match header.codec {
        Codec::None => packed,
        Codec::Lz4 => {
            let mut raw = vec![0; raw_len];
            let written = lz4_flex::block::decompress_into(&packed, &mut raw).map_err(|e| malformed("body", e))?;
            raw.truncate(written);
            raw.into()
        }
        Codec::Zstd => zstd::bulk::decompress(&packed, raw_len).map_err(|e| malformed("body", e))?.into(),
    };
    if body.len() != raw_len {
        return Err(malformed("body", format!("it has {} bytes where the header names {raw_len}", body.len())));
    }
    Ok(Batch { header, body })
}

/// The header alone, and where the body begins.
pub fn decode_header(payload: &[u8]) -> Result<(Header, usize), DecodeError> {
    if !is_batch(payload) {
        return Err(DecodeError::NotABatch(payload.iter().take(4).copied().collect()));
    }
    let Some((prefix, rest)) = payload.split_at_checked(PREFIX) else {
        return Err(malformed("header", "the payload ends before it"));
    };
    if prefix[4] != VERSION {
        return Err(DecodeError::Version(prefix[4]));
    }
    let length = u32::from_le_bytes([prefix[5], prefix[6], prefix[7], prefix[8]]) as usize;
    if length > HEADER_BYTES_MAX {
        return Err(malformed("header", format!("it claims {length} bytes; at most {HEADER_BYTES_MAX} are read")));
    }
    let head = rest.get(..length).ok_or_else(|| malformed("header", "the payload ends within it"))?;
    let header: Header = rmp_serde::from_slice(head).map_err(|e| malformed("header", e))?;
    check(&header).map_err(|why| malformed("header", why))?;
    Ok((header, PREFIX + length))
}

/// Unpacks the events of a batch.
pub fn decode_events(body: &[u8]) -> Result<Vec<Event>, DecodeError> {
    let events: Vec<Event> = rmp_serde::from_slice(body).map_err(|e| malformed("events", e))?;
    if events.len() > BATCH_EVENTS_MAX {
        return Err(malformed("events", format!("{} events; at most {BATCH_EVENTS_MAX} are read", events.len())));
    }
    Ok(events)
}

/// What types cannot say: names in their bounds, an extent that explains the body's length.
///
/// Not checked: that all lines begin in the slice of the extent's first byte (its end may lie behind that slice, as the last line's may). Our own
/// packer keeps it. The fold marks the whole extent in the first byte's slice, so of a batch that does not keep it, lines of the next slice count
/// again when another batch brings them.
fn check(header: &Header) -> Result<(), String> {
    identity::check_tenant(&header.tenant).map_err(|e| e.to_string())?;
    if let Some(service) = &header.service {
        identity::check_service(service).map_err(|e| e.to_string())?;
    }
    if header.raw_len as usize > BODY_BYTES_MAX {
        return Err(format!("the body claims {} bytes; at most {BODY_BYTES_MAX} are read", header.raw_len));
    }
    if let Some(key) = &header.data_key_id {
        return Err(format!("the body is encrypted with key `{key}`, and this program has no keys"));
    }
    if let Some(producer) = &header.producer
        && (producer.id.is_empty() || producer.id.len() > 128 || producer.id.contains('\0'))
    {
        return Err("the producer's id is not 1 to 128 bytes without NUL".into());
    }
    if header.edits.len() > EDITS_MAX {
        return Err(format!("{} edits; at most {EDITS_MAX} are read", header.edits.len()));
    }
    let ordered = header.edits.is_sorted_by_key(|edit| edit.body_offset);
    if !ordered || header.edits.iter().any(|edit| edit.body_offset > header.raw_len) {
        return Err("the edits are not in order, or lie outside the body".into());
    }
    let removed = header.edits.iter().fold(0u64, |sum, edit| sum.saturating_add(edit.removed_bytes));
    header.extent.as_ref().map_or(Ok(()), |extent| check_extent(extent, header.raw_len, removed))
}

fn check_extent(extent: &Extent, raw_len: u32, removed: u64) -> Result<(), String> {
    let name = &extent.origin.name;
    if name.is_empty() || name.len() > ORIGIN_NAME_BYTES_MAX || name.contains('\0') {
        return Err(format!("the origin's name is not 1 to {ORIGIN_NAME_BYTES_MAX} bytes without NUL"));
    }
    if extent.origin.version.len() > ORIGIN_NAME_BYTES_MAX || extent.origin.version.contains('\0') {
        return Err("the origin's version is too long or holds a NUL".into());
    }
    let covered = extent.to.checked_sub(extent.from);
    if covered.is_none() || covered != u64::from(raw_len).checked_add(removed) {
        return Err(format!(
            "the extent {}..{} does not cover {raw_len} bytes of body and {removed} removed",
            extent.from, extent.to
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
