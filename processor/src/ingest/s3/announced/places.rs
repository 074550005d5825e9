//! How far announced objects are on the stream, kept in the store's entries from one call to the next. Decides when an entry is asked and written; what it
//! may say is `projections::dynamodb`'s, and what counts is the fold's.
//!
//! Invariants:
//! - Before the first byte of an object is sent, its entry names this reader: so whoever finds the object gone knows whether to trust the entry.
//! - An entry's end is behind nothing that is not durable.
//! - A reader is taken off an entry only if it knows what became of everything that it sent.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use events::{event::Missed, identity::Origin};
use projections::{
    dynamodb::{DynamoDb, Reached},
    store::ReadError,
};
use tokio::{sync::mpsc, time::sleep};

use super::super::FIRST_BYTES;
use crate::ingest::{FileError, object::Announced};

/// The entries of the objects of one call.
pub(super) struct Places {
    rows: Arc<DynamoDb>,
    tenant: String,
    /// What this call's entries name.
    reader: String,
    /// Of each object, once it is open; small ones have none.
    of: Vec<OnceLock<Place>>,
}

struct Place {
    origin: Origin,
    /// First byte that is not known to be durable; `None`: all of it is, and it is not read.
    end: Option<Arc<AtomicU64>>,
    /// What the entry says.
    kept: AtomicU64,
}

/// What of an object is missing that is gone.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// Nothing: it was read to its end before.
    Nothing,
    /// From this byte on; see [`Missed::from`].
    From(u64),
}

impl Places {
    pub(super) fn new(rows: Arc<DynamoDb>, tenant: &str, objects: usize) -> Self {
        let reader = format!("{:016x}", fastrand::u64(..));
        Self { rows, tenant: tenant.to_owned(), reader, of: (0..objects).map(|_| OnceLock::new()).collect() }
    }

    /// Objects as they are opened, each from where it is to be read on; those of which nothing is to be read are left out.
    pub(super) fn going_on(self: Arc<Self>, mut opened: mpsc::Receiver<Announced>) -> mpsc::Receiver<Announced> {
        let (tell, told) = mpsc::channel(1);
        tokio::spawn(async move {
            while let Some(announced) = opened.recv().await {
                if let Some(announced) = self.begin(announced).await
                    && tell.send(announced).await.is_err()
                {
                    return;
                }
            }
        });
        told
    }

    async fn begin(&self, announced: Announced) -> Option<Announced> {
        let Announced::One { name, id, tag: Some(tag), opened: Ok(mut object) } = announced else {
            return Some(announced);
        };
        // What came with the first call is sent at once: an entry would cost as much as that.
        let is_small = object.bytes.size() <= FIRST_BYTES;
        let Some(of) = self.of.get(tag).filter(|_| !is_small) else {
            return Some(Announced::One { name, id, tag: Some(tag), opened: Ok(object) });
        };
        let (origin, kept) = (object.origin.clone(), AtomicU64::new(0));
        let opened = match self.rows.begin_object(&self.tenant, &origin, &self.reader).await {
            Ok(Reached::End) => {
                let _ = of.set(Place { origin, end: None, kept });
                return None;
            }
            Ok(Reached::Byte(end)) => {
                kept.store(end, Relaxed);
                let end = Arc::new(AtomicU64::new(end));
                object.durable = Some(end.clone());
                let _ = of.set(Place { origin, end: Some(end), kept });
                Ok(object)
            }
            Err(error) => Err(FileError::Object(Box::new(error))),
        };
        Some(Announced::One { name, id, tag: Some(tag), opened })
    }

    fn place(&self, tag: usize) -> Option<&Place> {
        self.of.get(tag)?.get()
    }

    /// True if it was read to its end by an earlier call.
    pub(super) fn was_read(&self, tag: usize) -> bool {
        self.place(tag).is_some_and(|place| place.end.is_none())
    }

    /// Which object was found under its name; `None`: no entry was begun.
    pub(super) fn origin(&self, tag: usize) -> Option<Origin> {
        Some(self.place(tag)?.origin.clone())
    }

    /// How far it is; `None`: no entry was begun.
    pub(super) fn reached(&self, tag: usize) -> Option<u64> {
        Some(self.place(tag)?.end.as_ref()?.load(Relaxed))
    }

    /// Writes, now and then, how far objects are that went on: that is what a killed call leaves. Never ends. What fails is written with the next.
    pub(super) async fn keep_up(&self, every: Duration) {
        loop {
            sleep(every).await;
            for place in self.of.iter().filter_map(OnceLock::get) {
                let Some(end) = place.end.as_ref().map(|end| end.load(Relaxed)) else { continue };
                if end > place.kept.load(Relaxed)
                    && self.rows.object_is_durable(&self.tenant, &place.origin, end).await.is_ok()
                {
                    place.kept.store(end, Relaxed);
                }
            }
        }
    }

    /// What is missing of an object that is gone, of which this call has read up to `read`.
    pub(super) async fn missing(&self, origin: &Origin, read: u64) -> Result<Missing, ReadError> {
        let Some(entry) = self.rows.object(&self.tenant, origin).await? else { return Ok(Missing::From(read)) };
        let others = entry.under_way.iter().any(|reader| *reader != self.reader);
        Ok(match entry.reached {
            Reached::End => Missing::Nothing,
            Reached::Byte(_) if others => Missing::From(Missed::UNKNOWN),
            Reached::Byte(end) => Missing::From(end.max(read)),
        })
    }

    /// The call's last word about an object. `is_read`: to its end. `is_sure`: it is known what became of all that was sent. In words, what failed.
    pub(super) async fn end(&self, tag: usize, is_read: bool, is_sure: bool) -> Result<(), String> {
        let Some((place, Some(end))) = self.place(tag).map(|place| (place, &place.end)) else { return Ok(()) };
        let (Self { rows, tenant, reader, .. }, Place { origin, .. }) = (self, place);
        let end = end.load(Relaxed);
        let written = match (is_read, is_sure) {
            (true, _) => rows.finish_object(tenant, origin).await,
            (false, true) => rows.leave_object(tenant, origin, reader, end).await,
            (false, false) => rows.object_is_durable(tenant, origin, end).await,
        };
        written.map_err(|error| error.to_string())
    }
}
