//! A record, decoded once. Decides only whether it can be understood, and whose a stranger's record is.
//!
//! A record may hold several bodies: an aggregate does, and so does a payload in which lines and values come in turns. They are folded in their
//! order, as one record: its position is what rows and marks know.
//!
//! A stranger's record belongs to the local tenant: until there is a definition that says whose a producer's records are, and from when on (law 13),
//! nobody else can own a stream that strangers write to. It was read when the stream took it.

use bytes::Bytes;
use events::{
    event::{Datum, Event, Missed, RolledUp},
    identity::LOCAL_TENANT,
    position::SequenceNumber,
    stream::Record,
    wire::{
        self, Batch, Content, DecodeError, Header,
        part::{Entries, Entry, Part, Said},
        payload::{self, Piece},
    },
};

use super::{LINES_PAGE, Place};
use crate::{
    cell::WINDOW_SECS,
    series::Series,
    store::{Kind, Subject},
};

/// Pages over which a service's API metrics are spread by the hash of the series: a row must fit into one item.
const SERIES_PAGES: u64 = 16;

/// A part of what a record holds.
#[derive(Debug, Clone)]
pub(super) enum Body {
    Lines(Batch),
    /// The series of each value that APIs name, in their order; `None`: it names none.
    Events(Batch, Vec<Event>, Vec<Option<Named>>),
    /// A batch of lines or events that stands in this record already.
    Repeated(Batch),
    Told(Told),
    /// One unit that is nothing to be counted.
    Skipped {
        reason: &'static str,
        sample: Bytes,
    },
    /// Cannot be understood: its reason in one word, the whole cause, and its bytes.
    Dead {
        /// Which record of an aggregate it is.
        number: Option<u32>,
        reason: &'static str,
        cause: String,
        bytes: Bytes,
    },
}

/// What strangers say with a time, an identity or values of its own.
#[derive(Debug, Clone)]
pub(super) struct Told {
    pub header: Header,
    /// What sent it: ids are its.
    pub source: Option<String>,
    pub entries: Vec<Entry>,
    /// The series of each value, in order, as for events.
    pub named: Vec<Option<Named>>,
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

impl Told {
    /// The row that knows whether this entry is new, and its place in time; `None`: it has no id.
    pub fn mark(&self, entry: &Entry, place: &Place) -> Option<(Subject, i64)> {
        let (source, _) = self.source.as_ref().zip(entry.id)?;
        let minute = entry.time_ms.unwrap_or(self.header.read_at_ms).div_euclid(60_000).saturating_mul(WINDOW_SECS);
        Some((subject(place, &self.header.tenant, Kind::Identified, source.clone()), minute))
    }
}

impl Body {
    fn of(piece: Piece, read_at_ms: i64) -> Self {
        let dead = |error: DecodeError, bytes: Bytes| Self::Dead {
            number: piece.number,
            reason: error.reason(),
            cause: error.to_string(),
            bytes,
        };
        let strange = |content, length: usize| Header::plain(LOCAL_TENANT, content, length as u32, read_at_ms);
        match piece.part {
            Part::Batch(batch) if batch.header.content == Content::Lines => Self::Lines(batch),
            Part::Batch(batch) => match wire::decode_events(&batch.body) {
                Ok(events) => {
                    let named = data(&events).map(Named::of).collect();
                    Self::Events(batch, events, named)
                }
                Err(error) => dead(error, batch.body),
            },
            Part::Repeated(batch) => Self::Repeated(batch),
            Part::Lines(body) => Self::Lines(Batch { header: strange(Content::Lines, body.len()), body }),
            Part::Entries(Entries { service, source, entries }) => {
                let header = Header { service, ..strange(Content::Lines, 0) };
                let named = values(&entries).map(Named::of).collect();
                Self::Told(Told { header, source, entries, named })
            }
            Part::Skipped { reason, sample } => Self::Skipped { reason, sample },
            Part::Dead { error, bytes } => dead(error, bytes),
        }
    }

    fn header(&self) -> Option<&Header> {
        match self {
            Self::Lines(batch) | Self::Events(batch, ..) | Self::Repeated(batch) => Some(&batch.header),
            Self::Told(told) => Some(&told.header),
            Self::Skipped { .. } | Self::Dead { .. } => None,
        }
    }

    /// Whose it is. A dead record's tenant cannot be read: it is the machine's own.
    pub fn tenant(&self) -> &str {
        self.header().map_or(LOCAL_TENANT, |header| &header.tenant)
    }

    /// Every value in it, with its series.
    pub fn values(&self) -> Box<dyn Iterator<Item = (&Datum, Option<&Named>)> + '_> {
        match self {
            Self::Events(_, events, named) => Box::new(data(events).zip(named.iter().map(Option::as_ref))),
            Self::Told(told) => Box::new(values(&told.entries).zip(told.named.iter().map(Option::as_ref))),
            _ => Box::new(std::iter::empty()),
        }
    }

    /// Whose values they are, if there are any.
    pub fn values_header(&self) -> Option<&Header> {
        if matches!(self, Self::Events(..) | Self::Told(_)) { self.header() } else { None }
    }

    /// The rows that decide what of it is new; none: it has no identity, and everything is.
    pub fn marks(&self, place: &Place) -> Vec<(Subject, i64)> {
        match self {
            Self::Lines(batch) => mark(&batch.header, place).map(|of| (of, 0)).into_iter().collect(),
            Self::Events(batch, events, _) => {
                let missed = events.iter().filter_map(|event| match event {
                    Event::Missed(missed) => Some(missing(&batch.header, missed, place)),
                    _ => None,
                });
                mark(&batch.header, place).into_iter().chain(missed).map(|of| (of, 0)).collect()
            }
            Self::Told(told) => told.entries.iter().filter_map(|entry| told.mark(entry, place)).collect(),
            _ => vec![],
        }
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Input {
    pub(super) sequence: SequenceNumber,
    pub(super) arrived_at_ms: i64,
    pub(super) bodies: Vec<Body>,
}

impl Input {
    /// Decodes a record; one that cannot be decoded is an input too.
    pub fn of(record: &Record) -> Self {
        let pieces = payload::pieces(&record.data);
        let body = |piece| Body::of(piece, record.arrived_at_ms);
        Self {
            sequence: record.sequence,
            arrived_at_ms: record.arrived_at_ms,
            bodies: pieces.into_iter().map(body).collect(),
        }
    }

    /// Its position.
    pub fn sequence(&self) -> SequenceNumber {
        self.sequence
    }

    /// The events that it carries. Rolled-up windows among them wait, in replay, for the replay's own.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.bodies.iter().flat_map(|body| if let Body::Events(_, events, _) = body { events.as_slice() } else { &[] })
    }

    /// The input with its rolled-up records replaced by what a replay has computed; `None`: one of them is not computed yet.
    pub fn map_rolled_up(mut self, mut replace: impl FnMut(&RolledUp) -> Option<RolledUp>) -> Option<Self> {
        for body in &mut self.bodies {
            let Body::Events(_, events, _) = body else { continue };
            for event in events {
                if let Event::RolledUp(rolled_up) = event {
                    *rolled_up = replace(rolled_up)?;
                }
            }
        }
        Some(self)
    }

    /// The highest revision of definitions that it names.
    pub fn definitions(&self) -> Option<SequenceNumber> {
        let ticked = self.events().filter_map(|event| match event {
            Event::Ticked(tick) => Some(tick.definitions),
            _ => None,
        });
        let named = self.bodies.iter().filter_map(|body| body.header()?.definitions);
        named.chain(ticked).max()
    }
}

/// The row that decides what of a batch is new; `None`: it has no identity, and everything is.
pub(super) fn mark(header: &Header, place: &Place) -> Option<Subject> {
    let (kind, name) = match (&header.extent, &header.producer) {
        (Some(extent), _) => (Kind::Taken, extent.origin.partition_key(&header.tenant, extent.from)),
        (None, Some(producer)) => (Kind::Producer, producer.id.clone()),
        (None, None) => return None,
    };
    Some(subject(place, &header.tenant, kind, name))
}

/// The row that knows whether the first byte of what is missing was taken before.
pub(super) fn missing(header: &Header, missed: &Missed, place: &Place) -> Subject {
    subject(place, &header.tenant, Kind::Taken, missed.origin.partition_key(&header.tenant, missed.from))
}

fn subject(place: &Place, tenant: &str, kind: Kind, name: String) -> Subject {
    Subject { tenant: tenant.to_owned(), generation: place.generation, kind, name }
}

/// Every value that is in the events.
pub(super) fn data(events: &[Event]) -> impl Iterator<Item = &Datum> {
    let measured =
        events.iter().filter_map(|event| if let Event::Measured(measured) = event { Some(measured) } else { None });
    measured.flat_map(|measured| &measured.data)
}

fn values(entries: &[Entry]) -> impl Iterator<Item = &Datum> {
    entries.iter().flat_map(|entry| if let Said::Values(values) = &entry.said { values.as_slice() } else { &[] })
}
