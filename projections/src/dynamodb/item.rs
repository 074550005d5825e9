//! Items: what stands in them, under which names. It decides no place and asks nobody.
//!
//! Bytes of a position: their number, then the position, big-endian without leading zeros: they compare as positions do, and 26 bytes hold a Kinesis
//! number where its digits take 56. DynamoDB's own numbers hold 38 digits. In resume points, which people read, a position is text: the number of
//! its digits, a colon, its digits.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::{primitives::Blob, types::AttributeValue};
use bytes::Bytes;
use events::position::{SequenceNumber, ShardId};

use super::{
    layout::{Place, Sort, Table},
    metrics,
};
use crate::store::{Checkpoint, Day, Generation, Kind, PartName, Row, RowKey};

pub(super) const APPLIED_THROUGH: &str = "AppliedThrough";
pub(super) const APPLIED_FROM: &str = "AppliedFrom";
pub(super) const FOLDED_ON: &str = "FoldedOn";
pub(super) const FOLD_REVISION: &str = "FoldRevision";
pub(super) const BODY: &str = "Body";
/// Of a window: what it holds, for people and others' tools.
pub(super) const METRICS: &str = "Metrics";
/// What a write unit pays for (DynamoDB developer guide, "Read and write operations").
const UNIT_BYTES: usize = 1_024;
/// A readable copy of what the sort key holds in bytes.
pub(super) const NAME: &str = "Name";
/// Unix seconds, for the TTL of the table.
pub(super) const EXPIRES_AT: &str = "ExpiresAt";
/// Of a listed bucket: no row in it was folded before.
pub(super) const FIRST_DAY: &str = "FirstDay";
/// Of a listed bucket: no row in it was folded later.
pub(super) const LAST_DAY: &str = "LastDay";
/// Partition key of `TimestampIndex`.
pub(super) const TIME_BUCKET: &str = "TimeBucket";
pub(super) const POSITION: &str = "Position";
/// Of a resume point; absent: the shard goes on.
pub(super) const ENDED: &str = "Ended";
pub(super) const PARTS: &str = "Parts";
/// Of a resume point: bodies of parts that lie in it, by their names.
pub(super) const HELD: &str = "Held";
/// Of the item that says whose rows these are.
pub(super) const STREAM: &str = "Stream";
/// The sort key of a resume point; parts have others, as they lie in other partitions.
pub(super) const RESUME_POINT: &str = "resume point";

pub(super) type Item = HashMap<String, AttributeValue>;

/// What an item lacks, or holds in another form than was written.
pub(super) type Flaw = &'static str;

pub(super) fn number(number: impl ToString) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

pub(super) fn text(text: impl Into<String>) -> AttributeValue {
    AttributeValue::S(text.into())
}

pub(super) fn sort(sort: &Sort) -> AttributeValue {
    match sort {
        Sort::Text(value) => text(value),
        Sort::Bytes(value) => AttributeValue::B(Blob::new(value.clone())),
    }
}

/// The key of an item.
pub(super) fn key(place: &Place) -> Item {
    let (partition, sort_name) = place.table.keys();
    HashMap::from([(partition.to_owned(), text(&place.partition)), (sort_name.to_owned(), sort(&place.sort))])
}

/// Where an item lies.
pub(super) fn place(table: Table, item: &Item) -> Option<Place> {
    let (partition, sort_name) = table.keys();
    let sort = match item.get(sort_name)? {
        AttributeValue::S(text) => Sort::Text(text.clone()),
        AttributeValue::B(bytes) => Sort::Bytes(bytes.as_ref().to_vec()),
        _ => return None,
    };
    Some(Place { table, partition: item.get(partition)?.as_s().ok()?.clone(), sort })
}

pub(super) fn position(position: SequenceNumber) -> AttributeValue {
    let bytes = position.to_bytes();
    AttributeValue::B(Blob::new([&[bytes.len() as u8], bytes.as_slice()].concat()))
}

pub(super) fn read_position(item: &Item, name: &str) -> Option<SequenceNumber> {
    let (count, bytes) = item.get(name)?.as_b().ok()?.as_ref().split_first()?;
    SequenceNumber::from_bytes(bytes).filter(|_| usize::from(*count) == bytes.len())
}

pub(super) fn position_text(position: SequenceNumber) -> String {
    let digits = position.to_string();
    format!("{:03}:{digits}", digits.len())
}

fn read_position_text(item: &Item) -> Option<SequenceNumber> {
    item.get(POSITION)?.as_s().ok()?.split_once(':')?.1.parse().ok()
}

pub(super) fn read_number<N: std::str::FromStr>(item: &Item, name: &str) -> Option<N> {
    item.get(name)?.as_n().ok()?.parse().ok()
}

/// Bytes of an item (DynamoDB developer guide, "Item sizes and formats").
pub(super) fn bytes<'a>(item: impl IntoIterator<Item = (&'a String, &'a AttributeValue)>) -> usize {
    item.into_iter().map(|(name, value)| name.len() + size(value)).sum()
}

/// Those of a value. Of numbers the manual says about: two digits a byte, and one more.
fn size(value: &AttributeValue) -> usize {
    match value {
        AttributeValue::S(text) => text.len(),
        AttributeValue::N(text) => {
            let digits = text.split('e').next().unwrap_or_default().bytes().filter(u8::is_ascii_digit).count();
            digits.div_ceil(2) + 1 + usize::from(text.starts_with('-'))
        }
        AttributeValue::B(bytes) => bytes.as_ref().len(),
        AttributeValue::M(map) => 3 + map.len() + bytes(map),
        AttributeValue::L(list) => 3 + list.iter().map(|value| 1 + size(value)).sum::<usize>(),
        // A truth value; no others are written here.
        _ => 1,
    }
}

/// A row's item. A window's says its metrics to people and others' tools, as far as that costs no unit more.
pub(super) fn row(place: &Place, row: &Row, expires_at: Option<i64>) -> Item {
    let mut item = key(place);
    let mut put = |name: &str, value| item.insert(name.to_owned(), value);
    put(APPLIED_THROUGH, position(row.applied_through));
    put(APPLIED_FROM, position(row.applied_from));
    put(FOLDED_ON, number(row.folded_on.0));
    put(FOLD_REVISION, number(row.fold_revision));
    if !row.body.is_empty() {
        put(BODY, AttributeValue::B(Blob::new(row.body.as_ref())));
    }
    if !place.table.sorts_text() && !row.key.subject.name.is_empty() {
        put(NAME, text(&row.key.subject.name));
    }
    if let Some(at) = expires_at {
        put(EXPIRES_AT, number(at));
    }
    if row.key.subject.kind == Kind::Window {
        let left = UNIT_BYTES - bytes(&item) % UNIT_BYTES;
        let fits = |metrics: &AttributeValue| METRICS.len() + size(metrics) <= left;
        if let Some(metrics) = metrics::forms(&row.body).into_iter().find(fits) {
            item.insert(METRICS.to_owned(), metrics);
        }
    }
    item
}

pub(super) fn read_row(key: RowKey, mut item: Item) -> Result<Row, Flaw> {
    let body = body(&mut item)?;
    Ok(Row {
        key,
        applied_from: read_position(&item, APPLIED_FROM).ok_or(APPLIED_FROM)?,
        applied_through: read_position(&item, APPLIED_THROUGH).ok_or(APPLIED_THROUGH)?,
        folded_on: Day(read_number(&item, FOLDED_ON).ok_or(FOLDED_ON)?),
        fold_revision: read_number(&item, FOLD_REVISION).ok_or(FOLD_REVISION)?,
        body,
    })
}

/// An empty one is not stored.
pub(super) fn body(item: &mut Item) -> Result<Bytes, Flaw> {
    match item.remove(BODY) {
        None => Ok(Bytes::new()),
        Some(AttributeValue::B(body)) => Ok(Bytes::from(body.into_inner())),
        Some(_) => Err(BODY),
    }
}

/// A resume point's item.
pub(super) fn checkpoint(place: &Place, standing: &Standing) -> Item {
    let mut item = key(place);
    item.insert(POSITION.to_owned(), text(position_text(standing.position)));
    item.insert(FOLD_REVISION.to_owned(), number(standing.fold_revision));
    let names = standing.parts.iter().map(|PartName(name)| text(name)).collect();
    item.insert(PARTS.to_owned(), AttributeValue::L(names));
    if standing.ended {
        item.insert(ENDED.to_owned(), AttributeValue::Bool(true));
    }
    if !standing.held.is_empty() {
        let body =
            |(PartName(name), body): (&PartName, &Bytes)| (name.clone(), AttributeValue::B(Blob::new(body.as_ref())));
        item.insert(HELD.to_owned(), AttributeValue::M(standing.held.iter().map(body).collect()));
    }
    item
}

/// A resume point as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) position: SequenceNumber,
    pub(super) fold_revision: u32,
    pub(super) ended: bool,
    pub(super) parts: Vec<PartName>,
    /// Bodies of those that lie in it; the others are items of their own.
    pub(super) held: BTreeMap<PartName, Bytes>,
}

impl From<&Checkpoint> for Standing {
    fn from(checkpoint: &Checkpoint) -> Self {
        let Checkpoint { position, fold_revision, ended, parts, .. } = checkpoint;
        Self {
            position: *position,
            fold_revision: *fold_revision,
            ended: *ended,
            parts: parts.clone(),
            held: BTreeMap::new(),
        }
    }
}

impl Standing {
    /// The parts that are items of their own, in order.
    pub(super) fn items(&self) -> impl Iterator<Item = &PartName> {
        self.parts.iter().filter(|name| !self.held.contains_key(name))
    }

    pub(super) fn of(self, generation: Generation, shard: &ShardId) -> Checkpoint {
        let Self { position, fold_revision, ended, parts, .. } = self;
        Checkpoint { generation, shard: shard.clone(), position, fold_revision, ended, parts }
    }
}

pub(super) fn read_checkpoint(item: &Item) -> Result<Standing, Flaw> {
    let names = item.get(PARTS).and_then(|parts| parts.as_l().ok()).ok_or(PARTS)?;
    let name = |name: &AttributeValue| name.as_s().ok().cloned().map(PartName).ok_or(PARTS);
    Ok(Standing {
        position: read_position_text(item).ok_or(POSITION)?,
        fold_revision: read_number(item, FOLD_REVISION).ok_or(FOLD_REVISION)?,
        ended: match item.get(ENDED) {
            None => false,
            Some(ended) => *ended.as_bool().map_err(|_| ENDED)?,
        },
        parts: names.iter().map(name).collect::<Result<_, _>>()?,
        held: match item.get(HELD) {
            None => BTreeMap::new(),
            Some(held) => {
                let body = |(name, body): (&String, &AttributeValue)| {
                    let body = body.as_b().map_err(|_| HELD)?;
                    Ok::<_, Flaw>((PartName(name.clone()), Bytes::copy_from_slice(body.as_ref())))
                };
                held.as_m().map_err(|_| HELD)?.iter().map(body).collect::<Result<_, _>>()?
            }
        },
    })
}

/// A part's item: with the position of the commit that offered it, so that no later one's is removed.
pub(super) fn part(place: &Place, at: SequenceNumber, body: &Bytes) -> Item {
    let mut item = key(place);
    item.insert(POSITION.to_owned(), text(position_text(at)));
    if !body.is_empty() {
        item.insert(BODY.to_owned(), AttributeValue::B(Blob::new(body.as_ref())));
    }
    item
}
