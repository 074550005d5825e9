//! What the names `s3://bucket/…` mean, and the objects that are listed for them. Decides by the names alone: an object whose key is exactly that;
//! else all below it, as below a folder; else, with `*` at its end, all keys that begin so. Holds a page of keys, however many there are.

use std::{collections::HashMap, sync::Arc};

use tokio::sync::mpsc;
use xxhash_rust::xxh3::xxh3_128;

use super::{FIRST_BYTES, Next, RANGE_BYTES, ToOpen, url};
use crate::{
    ingest::{ReaderList, object::ObjectId},
    s3::{Bucket, Failure, Listed, PAGE_KEYS, Wanted},
};

/// Objects of many bytes, as their names tell: what is in them is not known before they are read.
const PACKED: [&str; 4] = [".gz", ".gzip", ".zst", ".zstd"];

/// Objects that one name means.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where they lie.
    pub bucket: Bucket,
    /// Their keys begin so.
    pub prefix: String,
    /// There is one, whose key is just that.
    pub is_exact: bool,
}

/// A name that means nothing.
#[derive(Debug, thiserror::Error)]
pub enum NotMeant {
    /// It is not spelt so.
    #[error("{0} is not s3://BUCKET or s3://BUCKET/KEY: a bucket's name has 3 to 63 of a-z 0-9 - .")]
    Spelling(String),
    /// An access point, by its ARN.
    #[error(
        "{0} names an access point by its ARN. An object is known to the stream by its bucket and key: name the bucket; or, where only the access point \
         may be asked, its alias as a bucket, which `aws s3control list-access-points` shows. What is named both ways counts twice"
    )]
    AccessPoint(String),
    /// No object.
    #[error("there is no object {0}, and none below it. {1}")]
    Nothing(String, String),
    /// S3 did not say.
    #[error("{0} cannot be listed: {1}")]
    Failed(String, #[source] Failure),
}

/// Bucket and key of `s3://bucket/key`; the key may be empty.
pub fn spelling(name: &str) -> Result<(&str, &str), NotMeant> {
    let wrong = || NotMeant::Spelling(name.to_owned());
    let rest = name.strip_prefix("s3://").ok_or_else(wrong)?;
    if rest.starts_with("arn:") {
        return Err(NotMeant::AccessPoint(name.to_owned()));
    }
    let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
    let is_plain = bucket.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    if is_plain && (3..=63).contains(&bucket.len()) { Ok((bucket, key)) } else { Err(wrong()) }
}

impl Target {
    /// What a name means, by a look at what there is.
    pub async fn find(bucket: Bucket, key: &str) -> Result<Self, NotMeant> {
        let of = |prefix: &str, is_exact| Self { bucket: bucket.clone(), prefix: prefix.to_owned(), is_exact };
        let name = url(bucket.name(), key);
        let failed = |failure| NotMeant::Failed(name.clone(), failure);
        let first = bucket.list(key, None).await.map_err(failed)?;
        // In the order of keys the one that is no longer than its beginning is the first.
        if !key.is_empty() && first.objects.first().is_some_and(|object| object.key == key && object.size > 0) {
            return Ok(of(key, true));
        }
        if key.is_empty() || key.ends_with('/') {
            return Ok(of(key, false));
        }
        if let Some(prefix) = key.strip_suffix('*') {
            return Ok(of(prefix, false));
        }
        let folder = format!("{key}/");
        let below = bucket.list(&folder, None).await.map_err(failed)?;
        if !below.objects.is_empty() {
            return Ok(of(&folder, false));
        }
        let next = match first.objects.first() {
            Some(object) => format!("Keys begin so, the first is {}: `{name}*` means all of them", object.key),
            None => format!("`aws s3 ls s3://{}/` shows what there is", bucket.name()),
        };
        Err(NotMeant::Nothing(name, next))
    }

    fn covers(&self, bucket: &str, key: &str) -> bool {
        let is_it = if self.is_exact { key == self.prefix } else { key.starts_with(&self.prefix) };
        is_it && self.bucket.name() == bucket
    }
}

/// The number of an object in the list of those that were read.
fn object_id(bucket: &str, object: &Listed) -> ObjectId {
    let Listed { key, size, etag, modified_ms } = object;
    ObjectId(xxh3_128(format!("{bucket}\0{key}\0{etag}\0{modified_ms}\0{size}").as_bytes()))
}

/// What is to be read, as the lists tell.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Survey {
    /// Objects that were not read before.
    pub objects: u64,
    /// Their bytes as they lie in the bucket.
    pub bytes: u64,
    /// Of these, bytes of objects whose names say that they are packed.
    pub packed_bytes: u64,
    /// Calls that read them.
    pub gets: u64,
    /// Calls that list, each time that it is done.
    pub lists: u64,
    /// Objects that were read before.
    pub known: u64,
    /// Their bytes.
    pub known_bytes: u64,
    /// Objects without a byte: they hold no lines.
    pub empty: u64,
}

impl Survey {
    fn add(&mut self, object: &Listed, is_known: bool) {
        match (object.size, is_known) {
            (0, _) => self.empty += 1,
            (size, true) => {
                self.known += 1;
                self.known_bytes += size;
            }
            (size, false) => {
                self.objects += 1;
                self.bytes += size;
                let lower = object.key.to_ascii_lowercase();
                if PACKED.iter().any(|ending| lower.ends_with(ending)) {
                    self.packed_bytes += size;
                }
                self.gets += 1 + size.saturating_sub(FIRST_BYTES).div_ceil(RANGE_BYTES);
            }
        }
    }

    /// Looks at all that the targets mean, and reads nothing.
    pub async fn of(targets: &[Target], list: &ReaderList) -> Result<Self, NotMeant> {
        let mut survey = Self::default();
        for at in 0..targets.len() {
            let mut pages = Pages::of(targets, at);
            let failed = |failure| NotMeant::Failed(url(targets[at].bucket.name(), &targets[at].prefix), failure);
            while let Some(page) = pages.next().await.map_err(failed)? {
                survey.lists += 1;
                page.iter().for_each(|(id, object)| survey.add(object, list.knows_object(*id)));
            }
        }
        Ok(survey)
    }
}

/// Pages of one target, without what an earlier one means too.
struct Pages<'a> {
    earlier: &'a [Target],
    target: &'a Target,
    next: Option<String>,
    is_over: bool,
}

impl<'a> Pages<'a> {
    fn of(targets: &'a [Target], at: usize) -> Self {
        Self { earlier: &targets[..at], target: &targets[at], next: None, is_over: false }
    }

    async fn next(&mut self) -> Result<Option<Vec<(ObjectId, Listed)>>, Failure> {
        if self.is_over {
            return Ok(None);
        }
        let Target { bucket, prefix, is_exact } = self.target;
        let mut page = bucket.list(prefix, self.next.as_deref()).await?;
        if *is_exact {
            page.objects.truncate(1);
            page.next = None;
        }
        self.is_over = page.next.is_none();
        self.next = page.next;
        let is_meant = |object: &Listed| !self.earlier.iter().any(|earlier| earlier.covers(bucket.name(), &object.key));
        let objects = page.objects.into_iter().filter(is_meant);
        Ok(Some(objects.map(|object| (object_id(bucket.name(), &object), object)).collect()))
    }
}

/// Lists what the targets mean, and tells each object that was not read before. Called within a runtime.
pub fn listed(targets: Vec<Target>, list: Arc<ReaderList>) -> mpsc::Receiver<Next> {
    let (tell, told) = mpsc::channel(PAGE_KEYS);
    tokio::spawn(async move {
        for at in 0..targets.len() {
            let mut pages = Pages::of(&targets, at);
            loop {
                let page = match pages.next().await {
                    Ok(Some(page)) => page,
                    Ok(None) => break,
                    Err(failure) => {
                        let name = url(targets[at].bucket.name(), &targets[at].prefix);
                        if tell.send(Next::Failed(name, failure)).await.is_err() {
                            return;
                        }
                        break;
                    }
                };
                for next in worth_telling(&targets[at].bucket, page, &list) {
                    if tell.send(next).await.is_err() {
                        return;
                    }
                }
            }
        }
    });
    told
}

fn worth_telling(bucket: &Bucket, page: Vec<(ObjectId, Listed)>, list: &ReaderList) -> Vec<Next> {
    let (mut known, mut known_bytes, mut next) = (0, 0, vec![]);
    for (id, object) in page {
        if list.knows_object(id) {
            known += 1;
            known_bytes += object.size;
        } else if object.size > 0 {
            let wanted = Wanted { key: object.key, version: None, etag: Some(object.etag) };
            next.push(Next::Open(ToOpen { bucket: bucket.clone(), wanted, id: Some(id), tag: None }));
        }
    }
    if known > 0 {
        next.push(Next::Known { objects: known, bytes: known_bytes });
    }
    next
}

/// Buckets by their names, each with one client.
#[derive(Debug, Default)]
pub struct Buckets(HashMap<String, Bucket>);

impl Buckets {
    /// The bucket of this name.
    pub fn named(&mut self, name: &str, make: impl FnOnce(&str) -> Bucket) -> Bucket {
        self.0.entry(name.to_owned()).or_insert_with(|| make(name)).clone()
    }
}
