//! A place for objects in memory, whose calls can fail before or after they did what they were asked, and whose lists come in small pages.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
    sync::Mutex,
};

use bytes::Bytes;
use processor::archive::{Failed, Objects, Page, Stored};

/// What becomes of a put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// As it should.
    None,
    /// Nothing happened, and this is said.
    Before,
    /// It happened, and the answer is lost.
    After,
}

#[derive(Debug, Default)]
pub struct Memory {
    pub objects: Mutex<BTreeMap<String, Bytes>>,
    /// Of the next puts, in order; then all is well.
    pub faults: Mutex<VecDeque<Fault>>,
    /// Names of one page; 0: all. Every second page is empty, and not the last.
    pub page: usize,
    /// Another archiver puts this as soon as an object of the same folder is read.
    pub late: Mutex<Option<(String, Bytes)>>,
    pub puts: Mutex<usize>,
    pub gets: Mutex<usize>,
}

impl Memory {
    pub fn paged(page: usize) -> Self {
        Self { page, ..Self::default() }
    }

    pub fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.faults.lock().unwrap().extend(faults);
    }

    /// The names of segments.
    pub fn segments(&self) -> Vec<String> {
        self.objects.lock().unwrap().keys().filter(|name| name.starts_with("stream/")).cloned().collect()
    }

    pub fn take(&self, name: &str) -> Bytes {
        self.objects.lock().unwrap().remove(name).unwrap()
    }

    pub fn change(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut objects = self.objects.lock().unwrap();
        let mut bytes = objects[name].to_vec();
        change(&mut bytes);
        objects.insert(name.to_owned(), bytes.into());
    }
}

impl Objects for Memory {
    async fn put_if_absent(&self, name: &str, bytes: Bytes) -> Result<Stored, Failed> {
        let fault = self.faults.lock().unwrap().pop_front().unwrap_or(Fault::None);
        let failed = |why: &str| Err(Failed { why: why.to_owned() });
        if fault == Fault::Before {
            return failed("refused on purpose");
        }
        *self.puts.lock().unwrap() += 1;
        let mut objects = self.objects.lock().unwrap();
        let stored = if objects.contains_key(name) { Stored::Exists } else { Stored::New };
        objects.entry(name.to_owned()).or_insert(bytes);
        if fault == Fault::After { failed("the answer is lost on purpose") } else { Ok(stored) }
    }

    async fn get(&self, name: &str, range: Range<u64>) -> Result<Option<Bytes>, Failed> {
        *self.gets.lock().unwrap() += 1;
        let mut objects = self.objects.lock().unwrap();
        let folder = |name: &str| name.rsplit_once('/').map(|(folder, _)| folder.to_owned());
        objects.extend(self.late.lock().unwrap().take_if(|(late, _)| folder(late) == folder(name)));
        Ok(objects.get(name).map(|object| {
            let end = (range.end as usize).min(object.len());
            object.slice((range.start as usize).min(end)..end)
        }))
    }

    async fn list(&self, prefix: &str, after: &str) -> Result<Page, Failed> {
        let objects = self.objects.lock().unwrap();
        // An empty page goes on from where it was, by a name that is none.
        if self.page > 0 && !after.ends_with('\u{1}') {
            return Ok(Page { names: vec![], next_after: Some(format!("{after}\u{1}")) });
        }
        let after = after.trim_end_matches('\u{1}');
        let names = objects.keys().filter(|name| name.starts_with(prefix) && name.as_str() > after);
        let mut names: Vec<String> = names.cloned().collect();
        let mut next_after = None;
        if self.page > 0 && names.len() > self.page {
            names.truncate(self.page);
            next_after = names.last().cloned();
        }
        Ok(Page { names, next_after })
    }

    fn describe(&self, name: &str) -> String {
        format!("memory://{name}")
    }
}
