//! A bucket, and a prefix in it, as a place for objects. Decides how names become keys; when a call goes again is the bucket's (`crate::s3`).

use std::ops::Range;

use bytes::Bytes;

use super::{Failed, Objects, Page, Stored};
use crate::s3::{self, Bucket, Failure, Kind, Putting, Wanted};

/// See the module.
#[derive(Debug, Clone)]
pub struct Prefix {
    bucket: Bucket,
    /// Empty, or ends with `/`.
    prefix: String,
}

impl Prefix {
    /// What lies under a prefix of a bucket; an empty one is the whole bucket.
    pub fn new(bucket: Bucket, prefix: &str) -> Self {
        let prefix = prefix.trim_matches('/');
        Self { bucket, prefix: if prefix.is_empty() { String::new() } else { format!("{prefix}/") } }
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn failed(&self, name: &str, failure: &Failure) -> Failed {
        // What an archive needs beyond reading, S3's answer does not name.
        let next = match failure.kind {
            Kind::Denied => format!(". An archive needs s3:PutObject on {}* too", self.describe("")),
            _ => String::new(),
        };
        Failed { why: format!("{}: {failure}{next}", self.describe(name)) }
    }
}

impl Objects for Prefix {
    async fn put_if_absent(&self, name: &str, bytes: Bytes) -> Result<Stored, Failed> {
        match self.bucket.put(&self.key(name), bytes, Putting::IfAbsent).await {
            Ok(s3::Stored::New) => Ok(Stored::New),
            Ok(s3::Stored::Exists) => Ok(Stored::Exists),
            Err(failure) => Err(self.failed(name, &failure)),
        }
    }

    async fn get(&self, name: &str, range: Range<u64>) -> Result<Option<Bytes>, Failed> {
        if range.is_empty() {
            return Ok(Some(Bytes::new()));
        }
        let wanted = Wanted { key: self.key(name), ..Wanted::default() };
        match self.bucket.get(&wanted, range).await {
            Ok(part) => Ok(Some(part.bytes)),
            Err(Failure { kind: Kind::NoKey, .. }) => Ok(None),
            Err(Failure { kind: Kind::PastEnd, .. }) => Ok(Some(Bytes::new())),
            Err(failure) => Err(self.failed(name, &failure)),
        }
    }

    async fn list(&self, prefix: &str, after: &str) -> Result<Page, Failed> {
        let key = self.key(prefix);
        // Nothing comes before the keys that begin with the prefix itself.
        let after = if after.is_empty() { key.clone() } else { self.key(after) };
        let page = self.bucket.list_after(&key, &after).await.map_err(|failure| self.failed(prefix, &failure))?;
        let names = page.objects.iter().filter_map(|object| object.key.strip_prefix(&self.prefix));
        let names: Vec<String> = names.map(str::to_owned).collect();
        // Where S3 gives nothing and says that there is more, the same is asked again from where it was.
        let last = names.last().cloned().unwrap_or_else(|| after[self.prefix.len()..].to_owned());
        Ok(Page { names, next_after: page.next.map(|_| last) })
    }

    fn describe(&self, name: &str) -> String {
        format!("s3://{}/{}", self.bucket.name(), self.key(name))
    }
}
