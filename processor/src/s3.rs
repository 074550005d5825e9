//! Buckets of Amazon S3: whole objects put, objects got by range and listed by pages. Decides when a call goes again and which object a range may
//! come from; never what bytes mean.
//!
//! | call | called twice | at the same time | who retries |
//! | --- | --- | --- | --- |
//! | `list` | the next look at the bucket: keys may have come and gone | allowed | this adapter |
//! | `get` | the same bytes, or `Replaced`: never bytes of two objects, as each range is asked of one etag or version | allowed | this adapter, from the byte at which an answer broke off |
//! | `put` | the same object; under `IfAbsent` the second is told that one is there, also if it was its own first try whose answer was lost | allowed | this adapter |
//!
//! A bucket may lie in another region than the client's: S3 names it, and the calls go there. The SDK's own retries are off, so that tries have one
//! bound; all calls may be repeated.

mod failure;

use std::{
    fmt,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aws_sdk_s3::{
    Client,
    config::{Builder, Region, retry::RetryConfig},
    operation::list_objects_v2::builders::ListObjectsV2FluentBuilder,
    primitives::ByteStream,
    types::{EncodingType, RequestPayer},
};
use bytes::{Bytes, BytesMut};
use tokio::time::{sleep, timeout};

use events::sdk::chain;
pub use failure::{Failure, Kind};

use crate::ingest::notified::decoded;

/// Calls of one request that bring nothing. Then its failure is told, about half a minute after the first.
pub const TRIES_MAX: u32 = 8;
/// The first pause is a random part of this; each is at most twice the one before.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// A body of which nothing comes for so long is given up, and asked for again from there.
const STALL_MAX: Duration = Duration::from_secs(20);
/// Keys of a page: S3 gives no more.
pub const PAGE_KEYS: usize = 1000;

/// A bucket.
#[derive(Clone)]
pub struct Bucket {
    client: Client,
    name: Arc<str>,
    /// Who asks says so that it pays, where the owner has its readers pay.
    payer: Option<RequestPayer>,
    /// Where S3 has said that it lies, if that is not the client's region.
    region: Arc<Mutex<Option<Region>>>,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Bucket").field(&self.name).finish()
    }
}

/// Which object is meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Its key.
    pub key: String,
    /// This version of it and no other.
    pub version: Option<String>,
    /// It, as long as its etag (without quotes) is this.
    pub etag: Option<String>,
}

/// Some bytes of an object, and what S3 says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The bytes that were asked for, as far as the object reaches.
    pub bytes: Bytes,
    /// How long the object is.
    pub total: u64,
    /// Without quotes.
    pub etag: String,
    /// Its version, where the bucket keeps versions.
    pub version: Option<String>,
    /// When S3 took it, Unix milliseconds; S3 knows seconds.
    pub modified_ms: i64,
}

/// An object of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its key.
    pub key: String,
    /// How many bytes it has.
    pub size: u64,
    /// Without quotes.
    pub etag: String,
    /// When S3 took it, Unix milliseconds.
    pub modified_ms: i64,
}

/// A page of a list, in the order of keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// Its objects.
    pub objects: Vec<Listed>,
    /// What gives the next page; `None`: this was the last.
    pub next: Option<String>,
}

/// Whether an object may be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Putting {
    /// It may.
    Always,
    /// Only if there is none of this key.
    IfAbsent,
}

/// What became of an object that was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// It is durable.
    New,
    /// There was one of this key, which stays as it is. It may be the same, put by a try whose answer was lost.
    Exists,
}

impl Bucket {
    /// A bucket that a ready client reaches. Asks nothing.
    pub fn new(client: Client, name: &str) -> Self {
        Self { client, name: name.into(), payer: None, region: Arc::default() }
    }

    /// The same, where who asks agrees to pay for calls and transfer: buckets of some owners are read so alone ("requester pays").
    #[must_use]
    pub fn paid_by_who_asks(self) -> Self {
        Self { payer: Some(RequestPayer::Requester), ..self }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The region in which it lies, if S3 has said that this is not the client's.
    pub fn region(&self) -> Option<String> {
        let region = self.region.lock().unwrap_or_else(PoisonError::into_inner);
        region.as_ref().map(Region::to_string)
    }

    fn settings(&self) -> Builder {
        let region = self.region.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let settings = Builder::default().retry_config(RetryConfig::disabled());
        if region.is_some() { settings.region(region) } else { settings }
    }

    /// Learns from a failure where the bucket lies; true if that was not known.
    fn moves(&self, failure: &Failure) -> bool {
        let Kind::Elsewhere(Some(region)) = &failure.kind else { return false };
        let mut known = self.region.lock().unwrap_or_else(PoisonError::into_inner);
        let region = Region::new(region.clone());
        let is_new = known.as_ref() != Some(&region);
        *known = Some(region);
        is_new
    }

    /// A page of the keys that begin with `prefix`, after the page that gave `next`.
    pub async fn list(&self, prefix: &str, next: Option<&str>) -> Result<Page, Failure> {
        self.page(prefix, |call| call.set_continuation_token(next.map(str::to_owned))).await
    }

    /// A page of the keys that begin with `prefix` and come after `after`, which need not be there.
    pub async fn list_after(&self, prefix: &str, after: &str) -> Result<Page, Failure> {
        self.page(prefix, |call| call.start_after(after)).await
    }

    async fn page(
        &self,
        prefix: &str,
        begin: impl Fn(ListObjectsV2FluentBuilder) -> ListObjectsV2FluentBuilder,
    ) -> Result<Page, Failure> {
        let mut tries = Tries::default();
        loop {
            let call = begin(self.client.list_objects_v2().bucket(&*self.name).prefix(prefix));
            // XML cannot hold every character that a key may have.
            let call = call.encoding_type(EncodingType::Url).set_request_payer(self.payer.clone());
            let answer = match call.customize().config_override(self.settings()).send().await {
                Ok(answer) => answer,
                Err(error) => {
                    self.pause(&mut tries, Failure::of(&self.name, prefix, &error)).await?;
                    continue;
                }
            };
            let objects = answer.contents().iter().map(|object| Listed {
                key: decoded(object.key().unwrap_or_default()),
                size: object.size().and_then(|size| size.try_into().ok()).unwrap_or(0),
                etag: unquoted(object.e_tag().unwrap_or_default()),
                modified_ms: object.last_modified().map_or(0, |time| time.secs() * 1000),
            });
            let next = answer.next_continuation_token().filter(|_| answer.is_truncated() == Some(true));
            return Ok(Page { objects: objects.collect(), next: next.map(str::to_owned) });
        }
    }

    /// These bytes of an object, as far as it reaches; none of an empty one. Of a range that breaks off the rest is asked for, and comes from the
    /// same object.
    pub async fn get(&self, wanted: &Wanted, range: Range<u64>) -> Result<Part, Failure> {
        let mut tries = Tries::default();
        let mut wanted = wanted.clone();
        let mut have = BytesMut::new();
        loop {
            let from = range.start + have.len() as u64;
            let failure = match self.get_some(&wanted, from..range.end, &mut have).await {
                Ok(about) => return Ok(Part { bytes: have.freeze(), ..about }),
                Err((about, failure)) => {
                    // What came so far is of this object.
                    if let Some(about) = about.filter(|about| !about.etag.is_empty()) {
                        wanted.etag = Some(about.etag);
                    }
                    failure
                }
            };
            if range.start + have.len() as u64 > from {
                tries = Tries::default();
            }
            self.pause(&mut tries, failure).await?;
        }
    }

    /// One answer, as far as it comes; with a failure within it what it said of the object.
    async fn get_some(
        &self,
        wanted: &Wanted,
        range: Range<u64>,
        have: &mut BytesMut,
    ) -> Result<Part, (Option<Part>, Failure)> {
        let of_key = |kind, why: String| Failure::new(&self.name, &wanted.key, kind, why);
        let call = self.client.get_object().bucket(&*self.name).key(&wanted.key);
        let call = call.range(format!("bytes={}-{}", range.start, range.end.saturating_sub(1)));
        let call = call.set_version_id(wanted.version.clone()).set_request_payer(self.payer.clone());
        let call = call.set_if_match(wanted.etag.as_ref().map(|etag| format!("\"{etag}\"")));
        let answer = call.customize().config_override(self.settings()).send().await;
        let answer = match answer.map_err(|error| Failure::of(&self.name, &wanted.key, &error)) {
            Ok(answer) => answer,
            Err(Failure { kind: Kind::PastEnd, .. }) if range.start == 0 => return self.empty(wanted).await,
            Err(failure) => return Err((None, failure)),
        };
        let total = answer.content_range().and_then(|said| said.rsplit_once('/')?.1.parse().ok());
        let Some(total) = total.or_else(|| answer.content_length()?.try_into().ok().filter(|_| range.start == 0))
        else {
            let why = "S3 did not say which bytes it sent".to_owned();
            return Err((None, of_key(Kind::Refused, why)));
        };
        let about = Part {
            bytes: Bytes::new(),
            total,
            etag: unquoted(answer.e_tag().unwrap_or_default()),
            version: answer.version_id().filter(|version| *version != "null").map(str::to_owned),
            modified_ms: answer.last_modified().map_or(0, |time| time.secs() * 1000),
        };
        let due = total.min(range.end).saturating_sub(range.start);
        let before = have.len() as u64;
        have.reserve(due as usize);
        let mut body = answer.body;
        loop {
            let chunk = match timeout(STALL_MAX, body.next()).await {
                Ok(None) => break,
                Ok(Some(Ok(chunk))) => chunk,
                Ok(Some(Err(error))) => {
                    let why = format!("the answer broke off: {}", chain(&error));
                    return Err((Some(about), of_key(Kind::Unavailable, why)));
                }
                Err(_) => {
                    let why = format!("nothing more came of the answer for {} s", STALL_MAX.as_secs());
                    return Err((Some(about), of_key(Kind::Unavailable, why)));
                }
            };
            // A server that does not know ranges sends all of it.
            let room = (before + due).saturating_sub(have.len() as u64);
            have.extend_from_slice(&chunk[..chunk.len().min(room as usize)]);
        }
        if (have.len() as u64) < before + due {
            return Err((Some(about), of_key(Kind::Unavailable, "the answer ended too early".into())));
        }
        Ok(about)
    }

    /// What no range can be asked of.
    async fn empty(&self, wanted: &Wanted) -> Result<Part, (Option<Part>, Failure)> {
        let call = self.client.head_object().bucket(&*self.name).key(&wanted.key);
        let call = call.set_version_id(wanted.version.clone()).set_request_payer(self.payer.clone());
        let answer = call.customize().config_override(self.settings()).send().await;
        let answer = answer.map_err(|error| (None, Failure::of(&self.name, &wanted.key, &error)))?;
        Ok(Part {
            bytes: Bytes::new(),
            total: 0,
            etag: unquoted(answer.e_tag().unwrap_or_default()),
            version: answer.version_id().filter(|version| *version != "null").map(str::to_owned),
            modified_ms: answer.last_modified().map_or(0, |time| time.secs() * 1000),
        })
    }

    /// Puts a whole object; durable when it returns.
    pub async fn put(&self, key: &str, bytes: Bytes, putting: Putting) -> Result<Stored, Failure> {
        let mut tries = Tries::default();
        loop {
            let call = self.client.put_object().bucket(&*self.name).key(key).body(ByteStream::from(bytes.clone()));
            let call = call.set_if_none_match((putting == Putting::IfAbsent).then(|| "*".to_owned()));
            let answer = call.customize().config_override(self.settings()).send().await;
            match answer.map_err(|error| Failure::of(&self.name, key, &error)) {
                Ok(_) => return Ok(Stored::New),
                Err(Failure { kind: Kind::Replaced, .. }) if putting == Putting::IfAbsent => return Ok(Stored::Exists),
                Err(failure) => self.pause(&mut tries, failure).await?,
            }
        }
    }

    /// Waits until a call may go again; an error: it is not worth it.
    async fn pause(&self, tries: &mut Tries, failure: Failure) -> Result<(), Failure> {
        if self.moves(&failure) { Ok(()) } else { tries.pause(failure).await }
    }
}

/// Calls of one request that brought nothing.
#[derive(Debug, Default)]
struct Tries(u32);

impl Tries {
    /// Waits before the next; an error: there is none.
    async fn pause(&mut self, failure: Failure) -> Result<(), Failure> {
        self.0 += 1;
        if !failure.passes() || self.0 >= TRIES_MAX {
            return Err(Failure { tries: self.0, ..failure });
        }
        let most = PAUSE_MAX.min(PAUSE_FIRST * (1 << self.0));
        sleep(most.mul_f64(fastrand::f64())).await;
        Ok(())
    }
}

fn unquoted(etag: &str) -> String {
    etag.trim_matches('"').to_owned()
}

#[cfg(test)]
pub(crate) mod scripted;
#[cfg(test)]
mod tests;
