//! Where each row lies: tables, partitions and sort keys, as text that people can read where that is possible. It asks nobody; `design.md` beside
//! it has the table of layouts.
//!
//! Invariants:
//! - Two rows have one place only if they have one key, however names are made: a partition's text is taken apart from its right end.
//! - Within a partition the order of sort keys is the order of the rows' keys.
//! - What is stored under these names is never given others.

use std::ops::Range;

use crate::{
    store::{
        Generation, Kind, Partial, RowKey, Subject,
        key::{self, BadName},
    },
    when::{self, Second},
};
use events::position::ShardId;
use xxhash_rust::xxh3::xxh3_64;

/// Partitions in which the tenants of a generation and kind are listed.
pub(super) const TENANT_LISTS: u64 = 4;
/// Partitions in which the services of a tenant are listed, and of the index for each six hours: ten thousand services begin a bucket in the same
/// minute, and one partition takes a thousand writes a second.
const SERVICE_LISTS: u64 = 16;
/// Partitions of a shard's parts: of 380 KB each, so one partition takes two and a half a second.
pub(super) const PART_LISTS: u64 = 4;

/// Sort key of the item by which a service's six hours stand in the index; it sorts before every time, so no range of rows holds it.
const HEAD: &str = "!";

/// A partition key may have 2,048 bytes, but the index has it as its sort key (DynamoDB developer guide, "Service quotas").
const INDEX_SORT_BYTES_MAX: usize = 1_024;

/// The tables of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Table {
    /// Windows.
    Metrics,
    /// Every other kind of row, and the lists by which rows are found.
    State,
    /// Resume points and parts of snapshots.
    Checkpoints,
}

impl Table {
    pub(super) const ALL: [Self; 3] = [Self::Metrics, Self::State, Self::Checkpoints];

    /// What follows the prefix in its name.
    pub(super) const fn suffix(self) -> &'static str {
        match self {
            Self::Metrics => "ApplicationMetrics",
            Self::State => "state",
            Self::Checkpoints => "checkpoints",
        }
    }

    /// The names of the partition key and the sort key.
    pub(super) const fn keys(self) -> (&'static str, &'static str) {
        match self {
            Self::Metrics => ("ServiceName", "Timestamp"),
            Self::State => ("Partition", "Key"),
            Self::Checkpoints => ("Shard", "Item"),
        }
    }

    /// True where sort keys are text, false where they are bytes.
    pub(super) const fn sorts_text(self) -> bool {
        !matches!(self, Self::State)
    }
}

/// A sort key. Only those of one table are compared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Sort {
    Text(String),
    Bytes(Vec<u8>),
}

impl Sort {
    /// The first sort key behind this one: none of ours goes on with these.
    pub(super) fn successor(mut self) -> Self {
        match &mut self {
            Self::Text(text) => text.push('\u{1}'),
            Self::Bytes(bytes) => bytes.push(0),
        }
        self
    }
}

/// Where an item lies.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place {
    pub(super) table: Table,
    pub(super) partition: String,
    pub(super) sort: Sort,
}

/// All rows of one kind of one tenant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Scope {
    pub(super) tenant: String,
    pub(super) generation: Generation,
    pub(super) kind: Kind,
}

/// Rows of one subject that share a partition, by the first second of its bucket: what a list of partitions holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Bucket {
    pub(super) name: String,
    pub(super) start: i64,
}

/// How long a bucket of a kind with many rows a subject is; `None`: rows of many subjects share a partition.
const fn bucket_secs(kind: Kind) -> Option<i64> {
    match kind {
        Kind::Window => Some(6 * 60 * 60),
        Kind::Balance | Kind::Identified => Some(24 * 60 * 60),
        _ => None,
    }
}

/// In how many partitions a tenant's rows of a kind lie, or the list of their partitions.
const fn lists(kind: Kind) -> u64 {
    match kind {
        Kind::Window => SERVICE_LISTS,
        // One for each slice of 16 MiB of input, and one for each record that nobody could read: as many as there are.
        Kind::Taken | Kind::DeadLetter | Kind::Identified => 16,
        Kind::Producer | Kind::Service | Kind::Transition => 4,
        // One subject; or bounded by what people write.
        Kind::Balance | Kind::Definition | Kind::Alarm | Kind::Generations => 1,
    }
}

const fn label(kind: Kind) -> &'static str {
    match kind {
        Kind::Window => "windows",
        Kind::Taken => "marks",
        Kind::Producer => "producers",
        Kind::Balance => "balances",
        Kind::DeadLetter => "dead-letters",
        Kind::Service => "services",
        Kind::Definition => "definitions",
        Kind::Alarm => "alarms",
        Kind::Transition => "transitions",
        Kind::Identified => "identities",
        Kind::Generations => "generations",
    }
}

/// A partition's text. From the right: the length of the tenant's name, a cell without `/`, the generation, and what the tenant's name leaves of the
/// rest. So no tenant's partition is another's, whatever its name holds.
fn partition(tenant: &str, what: &str, generation: Generation, cell: &str) -> String {
    format!("{tenant}/{what}/g{}/{cell}/{}", generation.0, tenant.len())
}

fn list_of(name: &str, lists: u64) -> String {
    (xxh3_64(name.as_bytes()) % lists).to_string()
}

/// The table of a kind's rows.
pub(super) const fn table(kind: Kind) -> Table {
    match kind {
        Kind::Window => Table::Metrics,
        _ => Table::State,
    }
}

/// True where rows of one subject lie in buckets of time, and these are listed.
pub(super) const fn is_bucketed(kind: Kind) -> bool {
    bucket_secs(kind).is_some()
}

impl Scope {
    pub(super) fn of(subject: &Subject) -> Self {
        Self { tenant: subject.tenant.clone(), generation: subject.generation, kind: subject.kind }
    }

    fn prefix_bytes(&self) -> usize {
        self.tenant.len() + 1 + 4 + 1
    }

    /// The bucket of a place in time; only where rows are bucketed.
    pub(super) fn bucket(&self, name: &str, at: i64) -> Option<Bucket> {
        let secs = bucket_secs(self.kind)?;
        Some(Bucket { name: name.to_owned(), start: at.div_euclid(secs).saturating_mul(secs) })
    }

    /// Every bucket of one subject in a range, in order, if they are not more than `most`.
    pub(super) fn buckets(&self, name: &str, at: &Range<i64>, most: usize) -> Option<Vec<Bucket>> {
        let secs = bucket_secs(self.kind)?;
        let (first, last) = (at.start.div_euclid(secs), at.end.saturating_sub(1).div_euclid(secs));
        if last.saturating_sub(first) >= i64::try_from(most).unwrap_or(i64::MAX) {
            return None;
        }
        Some((first..=last).map(|b| Bucket { name: name.to_owned(), start: b.saturating_mul(secs) }).collect())
    }

    /// The partition of a bucket's rows.
    pub(super) fn bucket_partition(&self, bucket: &Bucket) -> String {
        let cell = self.cell(bucket);
        match self.kind {
            Kind::Window => partition(&self.tenant, &bucket.name, self.generation, &cell),
            kind => partition(&self.tenant, &format!("{}/{}", label(kind), bucket.name), self.generation, &cell),
        }
    }

    /// The beginning of a bucket, to its hour or day.
    fn cell(&self, bucket: &Bucket) -> String {
        let mut cell = Second(bucket.start).to_string();
        if cell.ends_with('Z') {
            cell.truncate(if self.kind == Kind::Window { 13 } else { 10 });
        }
        cell
    }

    /// The partition of a subject's rows, where many subjects share one.
    pub(super) fn shared_partition(&self, name: &str) -> String {
        partition(&self.tenant, label(self.kind), self.generation, &list_of(name, lists(self.kind)))
    }

    /// All of them.
    pub(super) fn shared_partitions(&self) -> Vec<String> {
        let cells = 0..lists(self.kind);
        cells.map(|cell| partition(&self.tenant, label(self.kind), self.generation, &cell.to_string())).collect()
    }

    /// The list that names a subject's buckets.
    pub(super) fn bucket_list(&self, name: &str) -> String {
        self.list(&list_of(name, lists(self.kind)))
    }

    /// All of them.
    pub(super) fn bucket_lists(&self) -> Vec<String> {
        (0..lists(self.kind)).map(|cell| self.list(&cell.to_string())).collect()
    }

    fn list(&self, cell: &str) -> String {
        partition(&self.tenant, &format!("partitions of {}", label(self.kind)), self.generation, cell)
    }

    /// Where a bucket is listed.
    pub(super) fn listed(&self, bucket: &Bucket) -> Place {
        let partition = self.bucket_list(&bucket.name);
        Place { table: Table::State, partition, sort: bucket_sort(&bucket.name, bucket.start) }
    }

    /// The item by which a bucket stands in the index, and its key there; only windows have one, and of these not those whose partition is too long for
    /// the index: nothing here reads it.
    pub(super) fn head(&self, bucket: &Bucket) -> Option<(Place, String)> {
        if self.kind != Kind::Window {
            return None;
        }
        let partition = self.bucket_partition(bucket);
        if partition.len() > INDEX_SORT_BYTES_MAX {
            return None;
        }
        let place = Place { table: Table::Metrics, partition, sort: Sort::Text(HEAD.into()) };
        let cell = format!("{}-{}", self.cell(bucket), list_of(&bucket.name, SERVICE_LISTS));
        Some((place, self::partition(&self.tenant, "", self.generation, &cell)))
    }

    /// Sort keys between which the rows of one subject with `from <= at < to` lie.
    pub(super) fn sorts(&self, name: &str, at: &Range<i64>) -> Result<(Sort, Sort), BadName> {
        if table(self.kind).sorts_text() {
            return Ok((Sort::Text(time(at.start)), Sort::Text(time(at.end))));
        }
        let subject = Subject {
            tenant: self.tenant.clone(),
            generation: self.generation,
            kind: self.kind,
            name: name.to_owned(),
        };
        let bytes = key::subject(&subject)?.split_off(self.prefix_bytes());
        let sort = |at| Sort::Bytes([bytes.as_slice(), &key::at(at)].concat());
        Ok((sort(at.start), sort(at.end)))
    }

    /// The places in time that a bucket holds; the last of all ends before the last place, whose row has to be asked for without an end.
    pub(super) fn span(&self, bucket: &Bucket) -> Range<i64> {
        let secs = bucket_secs(self.kind).unwrap_or(i64::MAX);
        bucket.start..bucket.start.div_euclid(secs).saturating_add(1).saturating_mul(secs)
    }

    /// The key of a row by what its place says.
    pub(super) fn key(&self, name: &str, sort: &Sort) -> Option<RowKey> {
        match sort {
            Sort::Text(text) => {
                let mut parts = text.split(' ');
                let (at, shard, numbers) = (read_time(parts.next()?)?, unescape(parts.next()?)?, parts.next()?);
                let (partial, page) = numbers.split_at_checked(4)?;
                let number = |text| u16::from_str_radix(text, 16).ok();
                let subject = Subject {
                    tenant: self.tenant.clone(),
                    generation: self.generation,
                    kind: self.kind,
                    name: name.to_owned(),
                };
                let (partial, page) = (Partial(number(partial)?), number(page)?);
                Some(RowKey { subject, at, shard: ShardId::named(&shard), partial, page })
            }
            Sort::Bytes(bytes) => {
                let mut whole = key::kind(&self.tenant, self.generation, self.kind).ok()?;
                whole.extend_from_slice(bytes);
                key::decode(&whole)
            }
        }
    }
}

/// Where a row lies.
pub(super) fn place(row: &RowKey) -> Result<Place, BadName> {
    let bytes = key::encode(row)?;
    let scope = Scope::of(&row.subject);
    let name = &row.subject.name;
    let partition = match scope.bucket(name, row.at) {
        Some(bucket) => scope.bucket_partition(&bucket),
        None => scope.shared_partition(name),
    };
    let table = table(scope.kind);
    let sort = if table.sorts_text() {
        let (partial, page) = (row.partial.0, row.page);
        Sort::Text(format!("{} {} {partial:04x}{page:04x}", time(row.at), escape(row.shard.as_str())))
    } else {
        Sort::Bytes(bytes[scope.prefix_bytes()..].to_vec())
    };
    Ok(Place { table, partition, sort })
}

/// Where a tenant is listed.
pub(super) fn tenant_listed(scope: &Scope) -> Place {
    let partition = tenant_list(scope.generation, scope.kind, &list_of(&scope.tenant, TENANT_LISTS));
    Place { table: Table::State, partition, sort: tenant_sort(&scope.tenant) }
}

/// The lists of tenants that have rows of a kind.
pub(super) fn tenant_lists(generation: Generation, kind: Kind) -> Vec<String> {
    (0..TENANT_LISTS).map(|cell| tenant_list(generation, kind, &cell.to_string())).collect()
}

fn tenant_list(generation: Generation, kind: Kind, cell: &str) -> String {
    partition("", &format!("tenants with {}", label(kind)), generation, cell)
}

pub(super) fn tenant_sort(tenant: &str) -> Sort {
    Sort::Bytes([tenant.as_bytes(), &[0]].concat())
}

pub(super) fn read_tenant(sort: &Sort) -> Option<String> {
    let Sort::Bytes(bytes) = sort else { return None };
    String::from_utf8(bytes.strip_suffix(&[0])?.to_vec()).ok()
}

/// A bucket's place in its list.
pub(super) fn bucket_sort(name: &str, start: i64) -> Sort {
    Sort::Bytes([name.as_bytes(), &[0], &key::at(start)].concat())
}

pub(super) fn read_bucket(sort: &Sort) -> Option<Bucket> {
    let Sort::Bytes(bytes) = sort else { return None };
    let (bytes, at) = bytes.split_last_chunk()?;
    let name = String::from_utf8(bytes.strip_suffix(&[0])?.to_vec()).ok()?;
    let start = i64::from_be_bytes(*at) ^ i64::MIN;
    Some(Bucket { name, start })
}

/// The partition of a shard's resume point.
pub(super) fn shard_partition(generation: Generation, shard: &ShardId) -> String {
    format!("{shard}/g{}", generation.0)
}

/// The partitions of a shard's parts.
pub(super) fn part_partitions(generation: Generation, shard: &ShardId) -> Vec<String> {
    (0..PART_LISTS).map(|cell| format!("{shard}/g{}/parts-{cell}", generation.0)).collect()
}

/// That of one part.
pub(super) fn part_partition(generation: Generation, shard: &ShardId, name: &str) -> String {
    format!("{shard}/g{}/parts-{}", generation.0, list_of(name, PART_LISTS))
}

/// A time as people write it, or a number where the calendar does not reach. The texts have the order of the times, and none begins another.
fn time(at: i64) -> String {
    let text = Second(at).to_string();
    match at {
        ..0 => format!("-{:020}", at.cast_unsigned() ^ (1 << 63)),
        _ if text.ends_with('Z') => text,
        _ => format!("~{at:020}"),
    }
}

fn read_time(text: &str) -> Option<i64> {
    match text.as_bytes().first()? {
        b'-' => Some((text[1..].parse::<u64>().ok()? ^ (1 << 63)).cast_signed()),
        b'~' => text[1..].parse().ok(),
        _ => Some(when::parse(text, 0).ok()? / 1000),
    }
}

/// Shard names end at a blank, which sorts before all that may follow in a longer one: so what sorts before `"` is written as two characters.
fn escape(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for char in name.chars() {
        if char <= '!' {
            escaped.push('!');
            escaped.push(char::from(char as u8 + 0x40));
        } else {
            escaped.push(char);
        }
    }
    escaped
}

fn unescape(escaped: &str) -> Option<String> {
    let (mut name, mut chars) = (String::with_capacity(escaped.len()), escaped.chars());
    while let Some(char) = chars.next() {
        if char == '!' {
            name.push(char::from(u8::try_from(chars.next()?).ok()?.checked_sub(0x40)?));
        } else {
            name.push(char);
        }
    }
    Some(name)
}

#[cfg(test)]
mod tests;
