//! The list in memory. Decides how a file is found again without looking at every other: by its path, and by how it begins and where it ended.
//!
//! A *class* holds the files that begin alike. Of each class the ends are known, and of each end which last bytes stand before it. So a file asks
//! for each end of its class "do you hold this?", once, however many files ended there. Ends are few where files are small and files are few where
//! they are large.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use xxhash_rust::xxh3::xxh3_128;

use super::{Entry, EntryId, Mark, Print};

/// Files that hold the same bytes and end at the same place, of which a new one may be any: at most so many are looked at, first those that this run
/// has not met at their path.
const SAME_MAX: usize = 16;

/// What this run saw of a file that it read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// How far it was read, sent or not.
    pub mark: Mark,
    /// The file itself, as the system numbers and dates it.
    pub stamp: Option<Stamp>,
}

/// Device, number, length and time of change: while these stay, the file does.
pub type Stamp = (u64, u64, u64, i64, i64);

#[derive(Debug, Default)]
struct Class {
    ends: BTreeMap<u64, usize>,
    ids: BTreeSet<EntryId>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Index {
    entries: BTreeMap<EntryId, Entry>,
    at_path: HashMap<(String, String), EntryId>,
    classes: HashMap<String, HashMap<Print, Class>>,
    /// By class, end and last bytes; those that this run has met come last.
    places: HashMap<u128, BTreeSet<(bool, EntryId)>>,
    /// How many files have a beginning of this length.
    head_lens: BTreeMap<usize, usize>,
    seen: HashMap<EntryId, Seen>,
}

fn place(tenant: &str, head: &Print, end: u64, tail: &Print) -> u128 {
    let mut bytes = Vec::with_capacity(64 + tenant.len());
    bytes.extend_from_slice(&head.hash.to_le_bytes());
    bytes.extend_from_slice(&(head.len as u64).to_le_bytes());
    bytes.extend_from_slice(&end.to_le_bytes());
    bytes.extend_from_slice(&tail.hash.to_le_bytes());
    bytes.extend_from_slice(tenant.as_bytes());
    xxh3_128(&bytes)
}

impl Index {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn get(&self, id: EntryId) -> Option<&Entry> {
        self.entries.get(&id)
    }

    pub fn all(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    pub fn at(&self, tenant: &str, path: &str) -> Option<&Entry> {
        self.entries.get(self.at_path.get(&(tenant.to_owned(), path.to_owned()))?)
    }

    pub fn seen(&self, id: EntryId) -> Option<Seen> {
        self.seen.get(&id).copied()
    }

    fn reach(&self, entry: &Entry) -> Mark {
        self.seen.get(&entry.id).map_or(entry.mark, |seen| seen.mark)
    }

    /// The classes that `head` belongs to.
    fn classes(&self, tenant: &str, head: &[u8]) -> impl Iterator<Item = (Print, &Class)> {
        let classes = self.classes.get(tenant);
        self.head_lens.range(1..=head.len()).filter_map(move |(len, _)| {
            let print = Print::of(&head[..*len]);
            Some((print, classes?.get(&print)?))
        })
    }

    /// Files that begin like `head` and were read up to a place where `tail_at` finds the same last bytes; the longest first.
    pub fn holding(&self, tenant: &str, head: &[u8], mut tail_at: impl FnMut(u64) -> Option<Print>) -> Vec<Entry> {
        let mut found = vec![];
        for (print, class) in self.classes(tenant, head) {
            for end in class.ends.keys() {
                let Some(tail) = tail_at(*end) else { continue };
                let Some(ids) = self.places.get(&place(tenant, &print, *end, &tail)) else { continue };
                let unmet = ids.range(..(true, EntryId(0))).take(SAME_MAX);
                let met = ids.range((true, EntryId(0))..).rev().take(SAME_MAX);
                found.extend(unmet.chain(met).filter_map(|(_, id)| Some((*end, self.entries.get(id)?.clone()))));
            }
        }
        found.sort_by_key(|(end, entry)| std::cmp::Reverse((*end, entry.id)));
        found.into_iter().map(|(_, entry)| entry).collect()
    }

    /// Files that begin like `head`, the newest first, with how far they were read.
    pub fn begin_like<'a>(&'a self, tenant: &str, head: &[u8]) -> impl Iterator<Item = (&'a Entry, Mark)> {
        let mut ids: Vec<EntryId> =
            self.classes(tenant, head).flat_map(|(_, class)| class.ids.iter().copied()).collect();
        ids.sort_unstable_by(|a, b| b.cmp(a));
        ids.into_iter().filter_map(|id| self.entries.get(&id)).map(|entry| (entry, self.reach(entry)))
    }

    pub fn see(&mut self, id: EntryId, seen: Seen) {
        let Some(entry) = self.entries.get(&id).cloned() else { return };
        self.leave(&entry);
        self.seen.insert(id, seen);
        self.enter(&entry);
    }

    pub fn insert(&mut self, entry: Entry) {
        if let Some(old) = self.entries.remove(&entry.id) {
            self.leave(&old);
            let at = (old.tenant, old.path);
            if self.at_path.get(&at) == Some(&old.id) {
                self.at_path.remove(&at);
            }
        }
        if !entry.gone {
            self.at_path.insert((entry.tenant.clone(), entry.path.clone()), entry.id);
        }
        self.enter(&entry);
        self.entries.insert(entry.id, entry);
    }

    fn enter(&mut self, entry: &Entry) {
        let mark = self.reach(entry);
        let classes = self.classes.entry(entry.tenant.clone()).or_default();
        let class = classes.entry(entry.head).or_default();
        *class.ends.entry(mark.end).or_default() += 1;
        class.ids.insert(entry.id);
        *self.head_lens.entry(entry.head.len).or_default() += 1;
        let key = place(&entry.tenant, &entry.head, mark.end, &mark.tail);
        self.places.entry(key).or_default().insert((self.seen.contains_key(&entry.id), entry.id));
    }

    fn leave(&mut self, entry: &Entry) {
        let mark = self.reach(entry);
        if let Some(classes) = self.classes.get_mut(&entry.tenant)
            && let Some(class) = classes.get_mut(&entry.head)
        {
            forget_one(&mut class.ends, mark.end);
            class.ids.remove(&entry.id);
            if class.ids.is_empty() {
                classes.remove(&entry.head);
            }
        }
        forget_one(&mut self.head_lens, entry.head.len);
        let key = place(&entry.tenant, &entry.head, mark.end, &mark.tail);
        if let Some(ids) = self.places.get_mut(&key) {
            ids.remove(&(self.seen.contains_key(&entry.id), entry.id));
            if ids.is_empty() {
                self.places.remove(&key);
            }
        }
    }
}

fn forget_one<K: Ord>(counts: &mut BTreeMap<K, usize>, key: K) {
    if let Some(count) = counts.get_mut(&key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn entry(id: u64, head: &[u8], end: u64, tail: &[u8]) -> Entry {
        let path = format!("/logs/{id}");
        Entry {
            id: EntryId(id),
            reader: 1,
            tenant: "local".into(),
            name: path.clone(),
            path,
            head: Print::of(head),
            mark: Mark { end, tail: Print::of(tail), whole: None },
            gone: false,
            doubtful: false,
            resend: false,
            reading_since_ms: None,
        }
    }

    fn index(entries: impl Iterator<Item = Entry>) -> Index {
        let mut index = Index::default();
        entries.for_each(|entry| index.insert(entry));
        index
    }

    #[test]
    fn a_file_asks_for_each_end_of_its_class_once_however_many_files_ended_there() {
        let all = (1..=10_000).map(|id| entry(id, b"head", 100 + id % 3, &id.to_le_bytes()));
        let others = (20_001..=30_000u64).map(|id| entry(id, &id.to_le_bytes(), id, b"tail"));
        let index = index(all.chain(others));
        let mut asked = vec![];
        let found = index.holding("local", b"head and more", |end| {
            asked.push(end);
            (end == 101).then(|| Print::of(&7_000u64.to_le_bytes()))
        });
        assert_eq!(asked, [100, 101, 102]);
        assert_eq!(found.iter().map(|entry| entry.id.0).collect::<Vec<_>>(), [7_000]);
        assert!(index.holding("other", b"head and more", |_| panic!("another tenant's files are nobody's")).is_empty());
    }

    #[test]
    fn of_files_that_hold_the_same_those_come_first_that_this_run_has_not_met() {
        let mut index = index((1..=1_000).map(|id| entry(id, b"head", 100, b"tail")));
        for id in (1..=1_000).filter(|id| *id != 500) {
            let mark = Mark { end: 100, tail: Print::of(b"tail"), whole: None };
            index.see(EntryId(id), Seen { mark, stamp: None });
        }
        let found = index.holding("local", b"head", |_| Some(Print::of(b"tail")));
        assert!(found.len() <= 2 * SAME_MAX && found.iter().any(|entry| entry.id.0 == 500));
    }

    #[test]
    fn what_is_changed_and_taken_away_leaves_nothing_behind() {
        let mut index = index((1..=100).map(|id| entry(id, b"head", id, b"tail")));
        for id in 1..=100 {
            index.insert(entry(id, b"other", 5, b"end"));
        }
        assert_eq!((index.head_lens.len(), index.places.len(), index.classes["local"].len()), (1, 1, 1));
        assert_eq!(index.holding("local", b"head", |_| Some(Print::of(b"tail"))), []);
        assert!(index.at("local", "/logs/7").is_some());
    }
}
