//! A record, decoded once. Decides only whether it can be understood.

use events::{
    event::{Datum, Event, RolledUp},
    identity::LOCAL_TENANT,
    position::SequenceNumber,
    stream::Record,
    wire::{self, Batch, Content},
};

use super::{LINES_PAGE, Place};
use crate::{
    series::Series,
    store::{Kind, Subject},
};

/// Pages over which a service's API metrics are spread by the hash of the series: a row must fit into one item.
const SERIES_PAGES: u64 = 16;

/// What a record holds.
#[derive(Debug, Clone)]
pub(super) enum Body {
    Lines(Batch),
    /// The series of each value that APIs name, in their order; `None`: it names none.
    Events(Batch, Vec<Event>, Vec<Option<Named>>),
    /// Cannot be understood: its reason in one word, the whole cause, and its bytes.
    Dead {
        reason: &'static str,
        cause: String,
        bytes: bytes::Bytes,
    },
}

/// The series of a value, spelled once, and the page of a window that holds it.
#[derive(Debug, Clone)]
pub(super) struct Named {
    pub series: Vec<u8>,
    pub page: u16,
}

impl Named {
    fn of(datum: &Datum) -> Option<Self> {
        let series = Series::new(&datum.namespace, &datum.metric, &datum.dimensions, &datum.unit).ok()?.encode();
        let page = LINES_PAGE + 1 + (xxhash_rust::xxh3::xxh3_64(&series) % SERIES_PAGES) as u16;
        Some(Self { series, page })
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Input {
    pub(super) sequence: SequenceNumber,
    pub(super) arrived_at_ms: i64,
    pub(super) body: Body,
}

impl Input {
    /// Decodes a record; one that cannot be decoded is an input too.
    pub fn of(record: &Record) -> Self {
        let body = wire::decode(&record.data)
            .and_then(|batch| match batch.header.content {
                Content::Lines => Ok(Body::Lines(batch)),
                Content::Events => wire::decode_events(&batch.body).map(|events| {
                    let named = data(&events).map(Named::of).collect();
                    Body::Events(batch, events, named)
                }),
            })
            .unwrap_or_else(|error| Body::Dead {
                reason: error.reason(),
                cause: error.to_string(),
                bytes: record.data.clone(),
            });
        Self { sequence: record.sequence, arrived_at_ms: record.arrived_at_ms, body }
    }

    /// Its position.
    pub fn sequence(&self) -> SequenceNumber {
        self.sequence
    }

    /// The rolled-up windows that it carries, if it is such a record: in replay they wait for the replay's own.
    pub fn events(&self) -> &[Event] {
        match &self.body {
            Body::Events(_, events, _) => events,
            _ => &[],
        }
    }

    /// The input with its rolled-up records replaced by what a replay has computed; `None`: one of them is not computed yet.
    pub fn map_rolled_up(mut self, mut replace: impl FnMut(&RolledUp) -> Option<RolledUp>) -> Option<Self> {
        if let Body::Events(_, events, _) = &mut self.body {
            for event in events {
                if let Event::RolledUp(rolled_up) = event {
                    *rolled_up = replace(rolled_up)?;
                }
            }
        }
        Some(self)
    }

    fn batch(&self) -> Option<&Batch> {
        match &self.body {
            Body::Lines(batch) | Body::Events(batch, ..) => Some(batch),
            Body::Dead { .. } => None,
        }
    }

    /// Whose it is. A dead record's tenant cannot be read: it is the machine's own.
    pub fn tenant(&self) -> &str {
        self.batch().map_or(LOCAL_TENANT, |batch| &batch.header.tenant)
    }

    /// The highest revision of definitions that it names.
    pub fn definitions(&self) -> Option<SequenceNumber> {
        let ticked = self.events().iter().filter_map(|event| match event {
            Event::Ticked(tick) => Some(tick.definitions),
            _ => None,
        });
        self.batch().and_then(|batch| batch.header.definitions).into_iter().chain(ticked).max()
    }

    /// The row that decides what of it is new; `None`: it has no identity, and everything is.
    pub(super) fn mark(&self, place: &Place) -> Option<(Kind, Subject)> {
        let header = &self.batch()?.header;
        let (kind, name) = match (&header.extent, &header.producer) {
            (Some(extent), _) => (Kind::Taken, extent.origin.partition_key(&header.tenant, extent.from)),
            (None, Some(producer)) => (Kind::Producer, producer.id.clone()),
            (None, None) => return None,
        };
        Some((kind, Subject { tenant: header.tenant.clone(), generation: place.generation, kind, name }))
    }
}

/// Every value that is in the events.
pub(super) fn data(events: &[Event]) -> impl Iterator<Item = &Datum> {
    let measured =
        events.iter().filter_map(|event| if let Event::Measured(measured) = event { Some(measured) } else { None });
    measured.flat_map(|measured| &measured.data)
}
