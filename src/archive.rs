//! The archive of a running system. Decides which places for objects there are and what their names look like; what is archived, and how it is read, is
//! `processor`'s.

use std::{
    ops::Range,
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, PoisonError, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use events::stream::ReadOnly;
#[cfg(feature = "aws")]
use processor::archive::s3::Prefix;
use processor::archive::{
    ArchiveError, Failed, Objects, Page, Reader, Stored, Writer,
    archived::Archived,
    folder::Folder,
    run::{self, Rhythm, State},
};
use tokio::runtime::Handle;

use crate::{AnyStream, System};

/// Longest that a record waits for its segment: 8,640 PUTs a month for a shard that always has some, $0.043 by the list price of S3.
const AGE: Duration = Duration::from_secs(300);
/// Between two looks at a shard that had nothing more: on Kinesis each is one of five reads a second.
const IDLE_PAUSE: Duration = Duration::from_secs(10);
const FORMS: &str = "s3://BUCKET/PREFIX, or file:///FOLDER";

/// The archive could not be opened. Nothing was changed, except that a new one says whose it is.
#[derive(Debug, thiserror::Error)]
pub enum OpenArchiveError {
    /// The name is none.
    #[error("--archive {0} is not {FORMS}")]
    Name(String),
    /// It is on AWS, and this program cannot go there.
    #[error(
        "{0} is on AWS, and this program was built without it: build it with `cargo build --release --features aws`, then run the same again"
    )]
    NotBuilt(String),
    /// AWS cannot be asked.
    #[cfg(feature = "aws")]
    #[error(transparent)]
    Aws(#[from] Box<crate::aws::OpenError>),
    /// The archive.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A thread of the system.
    #[error("the thread of the archive could not be started: {0}")]
    Thread(#[source] std::io::Error),
}

/// A place for objects, by its URL.
pub enum AnyObjects {
    /// `file:///FOLDER`.
    Folder(Folder),
    /// `s3://BUCKET/PREFIX`.
    #[cfg(feature = "aws")]
    S3(Prefix),
}

/// What a URL names.
enum Named<'a> {
    Folder(&'a str),
    Bucket { bucket: &'a str, prefix: &'a str },
}

impl<'a> Named<'a> {
    fn parse(url: &'a str) -> Result<Self, OpenArchiveError> {
        let name = || OpenArchiveError::Name(url.to_owned());
        if let Some(path) = url.strip_prefix("file://") {
            return if path.starts_with('/') { Ok(Self::Folder(path)) } else { Err(name()) };
        }
        let place = url.strip_prefix("s3://").ok_or_else(name)?;
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        if bucket.is_empty() { Err(name()) } else { Ok(Self::Bucket { bucket, prefix }) }
    }
}

/// Refuses a URL that names no place for an archive. Asks nobody.
pub fn check_archive(url: &str) -> Result<(), OpenArchiveError> {
    Named::parse(url).map(drop)
}

/// Refuses a place for an archive that cannot be read. Made for before a system is opened, so whose archive it is, and whether there is one, it leaves open.
pub async fn look_at_archive(url: &str) -> Result<(), OpenArchiveError> {
    match Reader::open(Arc::new(AnyObjects::open(url).await?), "").await {
        Ok(_) | Err(ArchiveError::AnotherStream { .. } | ArchiveError::Missing(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

impl AnyObjects {
    /// Asks nothing of the place itself.
    pub async fn open(url: &str) -> Result<Self, OpenArchiveError> {
        match Named::parse(url)? {
            Named::Folder(path) => Ok(Self::Folder(Folder::new(PathBuf::from(path)))),
            Named::Bucket { bucket, prefix } => Self::in_bucket(url, bucket, prefix).await,
        }
    }

    #[cfg(feature = "aws")]
    async fn in_bucket(_: &str, bucket: &str, prefix: &str) -> Result<Self, OpenArchiveError> {
        let buckets = crate::aws::Buckets::open().await.map_err(Box::new)?;
        Ok(Self::S3(Prefix::new(buckets.named(bucket), prefix)))
    }

    #[cfg(not(feature = "aws"))]
    async fn in_bucket(url: &str, _: &str, _: &str) -> Result<Self, OpenArchiveError> {
        Err(OpenArchiveError::NotBuilt(url.to_owned()))
    }

    /// Where the connections live that it opens.
    fn runtime(&self) -> Option<Handle> {
        match self {
            Self::Folder(_) => None,
            #[cfg(feature = "aws")]
            Self::S3(_) => Some(Handle::current()),
        }
    }
}

impl Objects for AnyObjects {
    async fn put_if_absent(&self, name: &str, bytes: Bytes) -> Result<Stored, Failed> {
        match self {
            Self::Folder(folder) => folder.put_if_absent(name, bytes).await,
            #[cfg(feature = "aws")]
            Self::S3(prefix) => prefix.put_if_absent(name, bytes).await,
        }
    }

    async fn get(&self, name: &str, range: Range<u64>) -> Result<Option<Bytes>, Failed> {
        match self {
            Self::Folder(folder) => folder.get(name, range).await,
            #[cfg(feature = "aws")]
            Self::S3(prefix) => prefix.get(name, range).await,
        }
    }

    async fn list(&self, prefix: &str, after: &str) -> Result<Page, Failed> {
        match self {
            Self::Folder(folder) => folder.list(prefix, after).await,
            #[cfg(feature = "aws")]
            Self::S3(place) => place.list(prefix, after).await,
        }
    }

    fn describe(&self, name: &str) -> String {
        match self {
            Self::Folder(folder) => folder.describe(name),
            #[cfg(feature = "aws")]
            Self::S3(prefix) => prefix.describe(name),
        }
    }
}

/// Which archive a system has, if it has one.
#[derive(Default)]
pub(crate) struct Archive {
    reader: OnceLock<Reader<AnyObjects>>,
    /// Of those who write; `None`: this process only reads.
    state: OnceLock<Arc<State>>,
    /// Where its connections live; none: it has none.
    runtime: OnceLock<Handle>,
    /// What was missing when it was last read.
    missing: Mutex<Option<Missing>>,
}

/// See [`Archived::said`] and [`Archived::unarchived`].
#[derive(Clone)]
struct Missing {
    said: Vec<String>,
    unarchived: Vec<String>,
}

impl Archive {
    /// In words, how far it is behind, or what is wrong; `None`: nothing is archived here.
    pub(crate) fn health(&self) -> Option<Result<String, String>> {
        Some(self.state.get()?.said(&self.reader.get()?.describe()))
    }

    /// Where whoever reads it has to run; `None`: anywhere.
    pub(crate) fn runtime(&self) -> Option<Handle> {
        self.runtime.get().cloned()
    }

    pub(crate) fn losses(&self) -> Vec<String> {
        self.state.get().map_or(vec![], |state| state.losses())
    }

    /// What a process that ended has left to be archived, in words.
    pub(crate) fn left(&self) -> Vec<String> {
        self.state.get().map_or(vec![], |state| state.left())
    }

    /// Where it is, and what was missing when it was last read; `None`: it was not. `is_cut`: something was found that neither it nor the stream has.
    pub(crate) fn found(&self, is_cut: bool) -> Option<(String, Vec<String>)> {
        let Missing { mut said, unarchived } = self.missing.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        said.extend(unarchived.into_iter().filter(|_| is_cut));
        Some((self.reader.get()?.describe(), said))
    }
}

impl System {
    /// Archives the stream from now on, and reads from the archive what the stream no longer has. Called twice: the first one stays.
    pub async fn archive_to(&self, url: &str) -> Result<(), OpenArchiveError> {
        let objects = AnyObjects::open(url).await?;
        let runtime = objects.runtime();
        runtime.iter().for_each(|runtime| drop(self.archive.runtime.set(runtime.clone())));
        let writer = Writer::open(Arc::new(objects), &self.identity).await?;
        let state = self.archive.state.get_or_init(Arc::default).clone();
        if self.archive.reader.set(writer.reader().clone()).is_err() {
            return Ok(());
        }
        let shards_look = self.workers.manner.shards_look;
        let rhythm = Rhythm { age: AGE, idle_pause: IDLE_PAUSE, shards_look };
        let (stream, workers) = (ReadOnly::new(self.stream.clone()), self.workers.clone());
        let work = async move {
            run::run(stream, writer, rhythm, &state, || workers.stop.load(Ordering::SeqCst)).await;
            Ok(())
        };
        self.workers.spawn_on("archive", runtime, work).map_err(OpenArchiveError::Thread)
    }

    /// Reads from an archive what the stream no longer has.
    pub async fn read_archive(&self, url: &str) -> Result<(), OpenArchiveError> {
        let objects = Arc::new(AnyObjects::open(url).await?);
        objects.runtime().into_iter().for_each(|runtime| drop(self.archive.runtime.set(runtime)));
        let reader = Reader::open(objects, &self.identity).await?;
        let _ = self.archive.reader.set(reader);
        Ok(())
    }

    /// The archive and the stream behind it, as they are now; `None`: there is no archive. A header of each segment is read.
    pub async fn archived(&self) -> Result<Option<Arc<Archived<AnyStream, AnyObjects>>>, ArchiveError> {
        let Some(reader) = self.archive.reader.get() else { return Ok(None) };
        let archived = Archived::open(ReadOnly::new(self.stream.clone()), reader.clone()).await?;
        let missing = Missing { said: archived.said().to_vec(), unarchived: archived.unarchived() };
        *self.archive.missing.lock().unwrap_or_else(PoisonError::into_inner) = Some(missing);
        Ok(Some(Arc::new(archived)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn urls_name_a_bucket_or_a_folder_and_what_is_wrong_is_said_with_the_right_form() {
        for wrong in ["archive", "s3://", "s3:///prefix", "file://relative", "/folder", "kinesis://a"] {
            let refused = AnyObjects::open(wrong).await.err().unwrap().to_string();
            assert_eq!(refused, format!("--archive {wrong} is not s3://BUCKET/PREFIX, or file:///FOLDER"));
            assert_eq!(check_archive(wrong).unwrap_err().to_string(), refused);
        }
        let folder = AnyObjects::open("file:///some/folder").await.unwrap();
        assert_eq!(folder.describe("a"), "/some/folder/a");
    }
}
