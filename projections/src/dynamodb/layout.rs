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
        Kind::Balance | Kind::Definition | Kind::Alarm => 1,
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

    /// The item by which a bucket stands in the index, and its key there; only windows have one.
    pub(super) fn head(&self, bucket: &Bucket) -> Option<(Place, String)> {
        if self.kind != Kind::Window {
            return None;
        }
        let place =
            Place { table: Table::Metrics, partition: self.bucket_partition(bucket), sort: Sort::Text(HEAD.into()) };
        let cell = format!("{}-{}", self.cell(bucket), list_of(&bucket.name, SERVICE_LISTS));
        Some((place, partition(&self.tenant, "", self.generation, &cell)))
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
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::store::{NAME_BYTES_MAX, key::SHARD_BYTES_MAX};

    fn name() -> impl Strategy<Value = String> {
        // What takes texts apart, what sorts low and high, and names that are made of a whole partition.
        prop_oneof![
            "[a/1 !\"~\u{1}\u{10ffff}]{0,4}",
            Just("a/windows/g0/0/1".to_owned()),
            Just("a/g0/1970-01-01T00/1".to_owned()),
            Just("balances/a".to_owned()),
        ]
    }

    prop_compose! {
        fn keys()(
            tenant in name(), name in name(), shard in "[ab! \u{1}~]{1,2}", generation in 0..2u32, kind in 0..Kind::ALL.len(),
            at in prop_oneof![-2..2i64, -30_000..30_000i64, any::<i64>(), 253_402_300_700..253_402_300_900i64],
            partial in prop_oneof![0..2u16, any::<u16>()], page in prop_oneof![0..2u16, any::<u16>()],
        ) -> RowKey {
            let subject = Subject { tenant, generation: Generation(generation), kind: Kind::ALL[kind], name };
            RowKey { subject, at, shard: ShardId::named(&shard), partial: Partial(partial), page }
        }
    }

    proptest! {
        #[test]
        fn a_place_is_that_of_one_key_and_says_it(a in keys(), b in keys()) {
            let (left, right) = (place(&a).unwrap(), place(&b).unwrap());
            prop_assert_eq!(left == right, a == b);
            if (left.table, &left.partition) == (right.table, &right.partition) {
                prop_assert_eq!(left.sort.cmp(&right.sort), a.cmp(&b));
                prop_assert_eq!(&a.subject.tenant, &b.subject.tenant, "one partition holds rows of one tenant");
            }
            prop_assert_eq!(Scope::of(&a.subject).key(&a.subject.name, &left.sort), Some(a));
        }

        #[test]
        fn lists_are_partitions_of_their_own_and_say_what_they_hold(a in keys(), b in keys()) {
            let (scope, rows) = (Scope::of(&a.subject), place(&b).unwrap());
            let listed = tenant_listed(&scope);
            prop_assert_ne!((listed.table, &listed.partition), (rows.table, &rows.partition));
            prop_assert_eq!(read_tenant(&listed.sort), Some(scope.tenant.clone()));
            prop_assert!(tenant_lists(scope.generation, scope.kind).contains(&listed.partition));
            if let Some(bucket) = scope.bucket(&a.subject.name, a.at) {
                let listed = scope.listed(&bucket);
                prop_assert_ne!((listed.table, &listed.partition), (rows.table, &rows.partition));
                prop_assert!(scope.bucket_lists().contains(&listed.partition));
                prop_assert!(scope.span(&bucket).contains(&a.at) || a.at == i64::MAX);
                prop_assert_eq!(read_bucket(&listed.sort), Some(bucket));
            } else {
                prop_assert!(scope.shared_partitions().contains(&scope.shared_partition(&a.subject.name)));
            }
        }

        #[test]
        fn a_head_lies_before_every_row_of_its_bucket(a in keys()) {
            let scope = Scope::of(&a.subject);
            if let Some((head, _)) = scope.bucket(&a.subject.name, a.at).and_then(|bucket| scope.head(&bucket)) {
                let row = place(&a).unwrap();
                prop_assert_eq!(&head.partition, &row.partition);
                prop_assert!(head.sort < row.sort && head.sort < Sort::Text(time(i64::MIN)));
            }
        }
    }

    #[test]
    fn names_that_are_made_of_the_same_text_have_partitions_of_their_own() {
        let mut names = vec![String::new()];
        for length in 0..3 {
            let longer = names.iter().filter(|name| name.len() == length);
            let longer: Vec<String> = longer.flat_map(|name| ["a", "/"].map(|char| format!("{name}{char}"))).collect();
            names.extend(longer);
        }
        let mut partitions = std::collections::HashSet::new();
        for (tenant, name) in names.iter().flat_map(|tenant| names.iter().map(move |name| (tenant, name))) {
            for kind in [Kind::Window, Kind::Balance] {
                let subject = Subject { tenant: tenant.clone(), generation: Generation(0), kind, name: name.clone() };
                let key = RowKey { subject, at: 0, shard: ShardId::numbered(0), partial: Partial(0), page: 0 };
                let Place { table, partition, .. } = place(&key).unwrap();
                assert!(partitions.insert((table, partition.clone())), "{partition} of {tenant:?} and {name:?}");
            }
        }
    }

    #[test]
    fn the_stored_texts_are_those_of_version_1() {
        let subject =
            |kind| Subject { tenant: "acme".into(), generation: Generation(0), kind, name: "checkout".into() };
        let key = |kind| RowKey {
            subject: subject(kind),
            at: 1_763_705_100,
            shard: ShardId::numbered(3),
            partial: Partial(1),
            page: 2,
        };
        let window = place(&key(Kind::Window)).unwrap();
        assert_eq!(window.partition, "acme/checkout/g0/2025-11-21T06/4");
        assert_eq!(window.sort, Sort::Text("2025-11-21T06:05:00Z shardId-000000000003 00010002".into()));
        assert_eq!(place(&key(Kind::Balance)).unwrap().partition, "acme/balances/checkout/g0/2025-11-21/4");
        let alarm = place(&key(Kind::Alarm)).unwrap();
        assert_eq!(alarm.partition, "acme/alarms/g0/0/4");
        let Sort::Bytes(bytes) = alarm.sort else { panic!("bytes") };
        assert_eq!(&bytes[..9], b"checkout\0");
        let scope = Scope::of(&subject(Kind::Window));
        let (head, index) = scope.head(&scope.bucket("checkout", 1_763_705_100).unwrap()).unwrap();
        assert_eq!((head.partition, head.sort), (window.partition, Sort::Text("!".into())));
        assert_eq!(index, format!("acme//g0/2025-11-21T06-{}/4", list_of("checkout", SERVICE_LISTS)));
    }

    #[test]
    fn the_longest_names_fit_into_the_keys_of_dynamodb() {
        for (kind, filler) in Kind::ALL.into_iter().flat_map(|kind| ["x", "/", "\u{1}"].map(|filler| (kind, filler))) {
            let name = filler.repeat(NAME_BYTES_MAX);
            let subject = Subject { tenant: name.clone(), generation: Generation(u32::MAX), kind, name };
            let shard = ShardId::named(&"!".repeat(SHARD_BYTES_MAX));
            let key = RowKey { subject, at: i64::MIN, shard, partial: Partial(u16::MAX), page: u16::MAX };
            let length = |sort: &Sort| match sort {
                Sort::Text(text) => text.len(),
                Sort::Bytes(bytes) => bytes.len(),
            };
            let scope = Scope::of(&key.subject);
            let listed = scope.bucket(&key.subject.name, key.at).map(|bucket| scope.listed(&bucket));
            for place in [Some(place(&key).unwrap()), listed, Some(tenant_listed(&scope))].into_iter().flatten() {
                assert!(place.partition.len() <= 2_048, "{kind:?}: {} bytes", place.partition.len());
                assert!(length(&place.sort) <= 1_024, "{kind:?}: {} bytes", length(&place.sort));
            }
        }
    }
}
