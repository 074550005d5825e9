//! A line of the list on disk: the whole of what is known of one file, as JSON with a checksum of its text. Decides how it is written and when it can be
//! read; opens no file.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::ingest::list::{Entry, EntryId, Mark, Print};

const SUM: &str = ",\"sum\":\"";
const SUM_BYTES: usize = SUM.len() + 16 + 2;

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub(super) enum Line {
    List { version: u32, reader: String, next: u64 },
    File(FileLine),
    Epoch { epoch: u64 },
}

/// Hashes are hexadecimal: JSON's numbers do not hold them.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FileLine {
    pub(super) number: u64,
    /// Since version 2; before, the list's own.
    #[serde(default)]
    pub(super) reader: String,
    tenant: String,
    path: String,
    name: String,
    head_bytes: usize,
    head_hash: String,
    end: u64,
    tail_bytes: usize,
    tail_hash: String,
    /// Since version 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    whole_hash: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    gone: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    doubtful: bool,
    /// Since version 2.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    resend: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reading_since_ms: Option<i64>,
}

impl From<&Entry> for FileLine {
    fn from(entry: &Entry) -> Self {
        Self {
            number: entry.id.0,
            reader: format!("{:016x}", entry.reader),
            tenant: entry.tenant.clone(),
            path: entry.path.clone(),
            name: entry.name.clone(),
            head_bytes: entry.head.len,
            head_hash: format!("{:032x}", entry.head.hash),
            end: entry.mark.end,
            tail_bytes: entry.mark.tail.len,
            tail_hash: format!("{:032x}", entry.mark.tail.hash),
            whole_hash: entry.mark.whole.map(|hash| format!("{hash:032x}")),
            gone: entry.gone,
            doubtful: entry.doubtful,
            resend: entry.resend,
            reading_since_ms: entry.reading_since_ms,
        }
    }
}

impl TryFrom<FileLine> for Entry {
    type Error = String;

    fn try_from(line: FileLine) -> Result<Self, String> {
        let hash = |text: &str| u128::from_str_radix(text, 16).map_err(|_| format!("`{text}` is no hash"));
        Ok(Self {
            id: EntryId(line.number),
            reader: u64::from_str_radix(&line.reader, 16).map_err(|_| format!("`{}` is no reader", line.reader))?,
            tenant: line.tenant,
            path: line.path,
            name: line.name,
            head: Print { len: line.head_bytes, hash: hash(&line.head_hash)? },
            mark: Mark {
                end: line.end,
                tail: Print { len: line.tail_bytes, hash: hash(&line.tail_hash)? },
                whole: line.whole_hash.as_deref().map(hash).transpose()?,
            },
            gone: line.gone,
            doubtful: line.doubtful,
            resend: line.resend,
            reading_since_ms: line.reading_since_ms,
        })
    }
}

/// A line with its checksum and newline.
pub(super) fn spell(line: &Line) -> String {
    let mut text = serde_json::to_string(line).expect("strings and numbers always encode");
    let sum = xxh3_64(text.as_bytes());
    text.pop();
    text.push_str(&format!("{SUM}{sum:016x}\"}}\n"));
    text
}

pub(super) fn parse(line: &[u8]) -> Result<Line, String> {
    let line = std::str::from_utf8(line).map_err(|_| "it is not UTF-8")?;
    let line = line.strip_suffix('\n').ok_or("it is cut short")?;
    let (body, sum) =
        line.len().checked_sub(SUM_BYTES).and_then(|at| line.split_at_checked(at)).ok_or("it has no checksum")?;
    let sum = sum.strip_prefix(SUM).and_then(|sum| sum.strip_suffix("\"}")).ok_or("it has no checksum")?;
    let body = format!("{body}}}");
    if u64::from_str_radix(sum, 16) != Ok(xxh3_64(body.as_bytes())) {
        return Err("its checksum is wrong".into());
    }
    serde_json::from_str(&body).map_err(|error| error.to_string())
}
