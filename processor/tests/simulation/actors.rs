//! Those who put records on the stream, as laws 6 and 8 ask of them, or breaking one on purpose. Each remembers what is not acknowledged.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use events::{
    event::{self, Event, Measured},
    identity::{IN_FLIGHT_MAX, Producer},
    pack::{self, Packer, Source},
    position::SequenceNumber,
    stream::Put,
    wire::{self, Codec, Content, Header},
};
use projections::store::law::random::Random;

use crate::{
    input::{File, Oddness, Text},
    logged,
    model::{Body, Datum, Identity, Meaning},
};

/// A rule of those who ingest that is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokenIngest {
    /// The service is part of the partition key.
    ServiceInKey,
    /// A batch goes on where a slice ends.
    CutAcrossSlices,
    /// A new epoch begins while something is unacknowledged, and sends that again.
    EpochTooEarly,
    /// Counters run ahead of what is acknowledged.
    TooManyInFlight,
    /// A repeat gets a new counter.
    RepeatRenamed,
    /// A batch names a definition that is on the stream, whether or not it can be read yet.
    NamesUnstored,
}

/// A record with what it means.
#[derive(Debug, Clone)]
pub struct Sent {
    pub put: Put,
    pub meaning: Arc<Meaning>,
}

/// One who sends: what has to be acknowledged.
#[derive(Debug)]
pub struct Sender {
    pub waiting: VecDeque<Sent>,
    pub kind: Kind,
}

/// What a sender does when nothing waits.
#[derive(Debug)]
pub enum Kind {
    /// Sends what it has, once.
    Once,
    /// Makes more: a producer without an origin.
    Producer(Spool),
}

/// A producer without an origin. `waiting` holds what is unacknowledged.
#[derive(Debug)]
pub struct Spool {
    tenant: &'static str,
    id: String,
    epoch: u64,
    counter: u64,
    /// Batches that it may still make.
    pub left: u64,
    measures: bool,
    hasty: bool,
}

/// What senders need of the world.
pub struct Surroundings<'a> {
    pub random: &'a mut Random,
    pub ids: &'a mut u64,
    pub now_ms: i64,
    pub odd: Oddness,
    pub eager_epochs: bool,
    pub hasty: bool,
    pub definitions: Option<SequenceNumber>,
    pub broken: Option<BrokenIngest>,
}

impl Surroundings<'_> {
    fn some_service(&mut self) -> Option<&'static str> {
        (self.random.below(2) == 0).then(|| self.odd.service(self.random))
    }

    fn tenant(&mut self) -> &'static str {
        self.odd.tenant(self.random)
    }
}

impl Sender {
    /// Sends a file, or the rest of it from some line on.
    pub fn of_file(around: &mut Surroundings<'_>, file: &File, read_at_ms: i64) -> Self {
        let heads = file.heads();
        let first = match around.random.below(3) {
            0 => heads[around.random.below(heads.len() as u64) as usize],
            _ => 0,
        };
        let service = around.some_service();
        Self::of_file_from(around, file, read_at_ms, first, service)
    }

    /// Sends all of a file, in cuts of its own, and says nothing of its service.
    pub fn of_whole_file(around: &mut Surroundings<'_>, file: &File, read_at_ms: i64) -> Self {
        Self::of_file_from(around, file, read_at_ms, 0, None)
    }

    fn of_file_from(
        around: &mut Surroundings<'_>,
        file: &File,
        read_at_ms: i64,
        first: u64,
        service: Option<&'static str>,
    ) -> Self {
        let definitions = around.definitions.filter(|_| around.random.below(2) == 0);
        let source = Source {
            tenant: file.tenant.into(),
            service: service.map(str::to_owned),
            identity: pack::Identity::Origin { origin: file.origin.clone(), from: file.from + first },
            read_at_ms,
            definitions,
        };
        let codec = if around.random.below(4) == 0 { Codec::Lz4 } else { Codec::None };
        let mut packer = Packer::new(source, codec, 1 + around.random.below(900) as usize);
        packer.push(&file.text.bytes[first as usize..]);
        let mut waiting: VecDeque<Sent> = VecDeque::new();
        let mut at = first;
        while let Some(packed) = packer.next(true) {
            let lines = file.text.lines_in(at, at + packed.covers).to_vec();
            let identity = Identity::Origin(file.origin.clone(), file.from + at, file.from + at + packed.covers);
            let body = Body::Lines(lines);
            let meaning = Meaning::Batch { tenant: file.tenant, service, read_at_ms, identity, body, definitions };
            let put = Put { partition_key: packed.partition_key, hash_key: None, data: packed.data };
            let mut sent = Sent { put, meaning: meaning.into() };
            if around.broken == Some(BrokenIngest::ServiceInKey) {
                sent.put.partition_key.push_str(service.unwrap_or_default());
            }
            match waiting.back_mut() {
                Some(last) if around.broken == Some(BrokenIngest::CutAcrossSlices) => join(last, &sent),
                _ => waiting.push_back(sent),
            }
            at += packed.covers;
        }
        Self { waiting, kind: Kind::Once }
    }

    /// A producer without an origin.
    pub fn producer(around: &mut Surroundings<'_>, number: u64) -> Self {
        let tenant = around.tenant();
        let random = &mut *around.random;
        let hasty = around.hasty || around.broken == Some(BrokenIngest::TooManyInFlight);
        let spool = Spool {
            tenant,
            id: format!("p{number}"),
            epoch: 1,
            counter: random.below(3),
            left: if hasty { 140 + random.below(80) } else { 1 + random.below(30) },
            measures: !hasty && random.below(3) == 0,
            hasty,
        };
        Self { waiting: VecDeque::new(), kind: Kind::Producer(spool) }
    }

    /// One record that says nothing, data without an identity, or log events of strangers.
    pub fn once(around: &mut Surroundings<'_>) -> Self {
        let sent = match around.random.below(2) {
            0 if around.ids.is_multiple_of(2) => {
                return Self { waiting: logged::payloads(around).into(), kind: Kind::Once };
            }
            0 => {
                let data = Bytes::from([b"\xff", format!("noise {}", *around.ids).as_bytes()].concat());
                *around.ids += 1;
                let put = Put { partition_key: "noise".into(), hash_key: None, data };
                Sent { put, meaning: Meaning::Noise.into() }
            }
            _ => {
                let tenant = around.tenant();
                measured(around, tenant, None)
            }
        };
        Self { waiting: [sent].into(), kind: Kind::Once }
    }

    pub fn is_done(&self) -> bool {
        self.waiting.is_empty() && matches!(&self.kind, Kind::Once | Kind::Producer(Spool { left: 0, .. }))
    }

    /// What it would send now, by place in `waiting`.
    pub fn choose(&mut self, around: &mut Surroundings<'_>) -> Vec<usize> {
        if let Kind::Producer(spool) = &mut self.kind {
            spool.make(around, &mut self.waiting);
        }
        let count = self.waiting.len() as u64;
        let hasty = matches!(&self.kind, Kind::Producer(spool) if spool.hasty);
        let mut places: Vec<usize> = (0..self.waiting.len()).collect();
        if around.random.below(3) == 0 {
            around.random.shuffle(&mut places);
        }
        places.truncate(1 + around.random.below(count.min(if hasty { 40 } else { 4 })) as usize);
        if self.waiting.is_empty() { vec![] } else { places }
    }

    /// Those at these places are acknowledged.
    pub fn acknowledged(&mut self, mut places: Vec<usize>) {
        places.sort_unstable();
        for place in places.into_iter().rev() {
            self.waiting.remove(place);
        }
    }

    /// The answer was lost.
    pub fn unknown(&mut self, around: &mut Surroundings<'_>) {
        let Kind::Producer(spool) = &mut self.kind else { return };
        let renames = match around.broken {
            Some(BrokenIngest::EpochTooEarly) => {
                spool.epoch += 1;
                spool.counter = 0;
                true
            }
            Some(BrokenIngest::RepeatRenamed) => true,
            _ => false,
        };
        for sent in self.waiting.iter_mut().filter(|_| renames) {
            spool.counter += 1;
            *sent = spool.renamed(sent);
        }
    }
}

/// One batch of two: extents that follow each other.
fn join(last: &mut Sent, next: &Sent) {
    let (a, b) = (wire::decode(&last.put.data).unwrap(), wire::decode(&next.put.data).unwrap());
    let body = [&a.body[..], &b.body[..]].concat();
    let mut header = a.header;
    header.codec = Codec::None;
    header.raw_len = body.len() as u32;
    header.extent.as_mut().unwrap().to = b.header.extent.unwrap().to;
    last.put.data = wire::encode(&header, &body);
    let mut meaning = (*last.meaning).clone();
    if let (
        Meaning::Batch { body: Body::Lines(lines), identity: Identity::Origin(_, _, to), .. },
        Meaning::Batch { body: Body::Lines(more), identity: Identity::Origin(_, _, end), .. },
    ) = (&mut meaning, &*next.meaning)
    {
        lines.extend(more.iter().cloned());
        *to = *end;
    }
    last.meaning = meaning.into();
}

impl Spool {
    fn make(&mut self, around: &mut Surroundings<'_>, waiting: &mut VecDeque<Sent>) {
        if waiting.is_empty() && self.counter > 0 && (around.eager_epochs || around.random.below(6) == 0) {
            self.epoch += 1;
            self.counter = 0;
        }
        let wanted = if self.hasty { IN_FLIGHT_MAX + 16 } else { 1 + around.random.below(6) };
        for _ in 0..wanted {
            let lowest = waiting.iter().map(counter).min().unwrap_or(u64::MAX);
            let is_free = self.counter + 1 < lowest.saturating_add(IN_FLIGHT_MAX);
            let is_hasty = around.broken == Some(BrokenIngest::TooManyInFlight);
            if self.left == 0 || !(is_free || is_hasty) {
                return;
            }
            self.left -= 1;
            self.counter += 1;
            let producer = Producer { id: self.id.clone(), epoch: self.epoch, counter: self.counter };
            waiting.push_back(if self.measures {
                measured(around, self.tenant, Some(producer))
            } else {
                self.written(around, producer)
            });
        }
    }

    fn written(&self, around: &mut Surroundings<'_>, producer: Producer) -> Sent {
        let count = if self.hasty { 1 } else { 1 + around.random.below(3) };
        let text = Text::write(around.random, around.ids, count, around.now_ms, around.odd);
        let service = around.some_service();
        let source = Source {
            tenant: self.tenant.into(),
            service: service.map(str::to_owned),
            identity: pack::Identity::Producer(Producer { counter: producer.counter - 1, ..producer.clone() }),
            read_at_ms: around.now_ms,
            definitions: around.definitions,
        };
        let mut packer = Packer::new(source, Codec::None, 1 << 20);
        packer.push(&text.bytes);
        let packed = packer.next(true).unwrap();
        let identity = Identity::Producer { id: producer.id, epoch: producer.epoch, counter: producer.counter };
        let body = Body::Lines(text.lines);
        let (read_at_ms, definitions) = (around.now_ms, around.definitions);
        let meaning = Meaning::Batch { tenant: self.tenant, service, read_at_ms, identity, body, definitions };
        let put = Put { partition_key: packed.partition_key, hash_key: None, data: packed.data };
        Sent { put, meaning: meaning.into() }
    }

    /// The same bytes under another name.
    fn renamed(&self, sent: &Sent) -> Sent {
        let (mut header, body) =
            (wire::decode(&sent.put.data).unwrap().header, wire::decode(&sent.put.data).unwrap().body);
        header.producer = Some(Producer { id: self.id.clone(), epoch: self.epoch, counter: self.counter });
        let mut meaning = (*sent.meaning).clone();
        if let Meaning::Batch { identity, .. } = &mut meaning {
            *identity = Identity::Producer { id: self.id.clone(), epoch: self.epoch, counter: self.counter };
        }
        let put = Put { data: wire::encode(&header, &body), ..sent.put.clone() };
        Sent { put, meaning: meaning.into() }
    }
}

/// All but the first share a page, by their hashes.
const METRICS: [&str; 5] = ["age", "orders", "sends", "stops", "views"];

fn counter(sent: &Sent) -> u64 {
    match &*sent.meaning {
        Meaning::Batch { identity: Identity::Producer { counter, .. }, .. } => *counter,
        _ => u64::MAX,
    }
}

fn measured(around: &mut Surroundings<'_>, tenant: &'static str, producer: Option<Producer>) -> Sent {
    let data: Vec<Datum> = (0..1 + around.random.below(4))
        .map(|_| {
            *around.ids += 1;
            let service = around.some_service();
            let random = &mut *around.random;
            let ahead = if around.odd.future && random.below(9) == 0 { 8_000_000 } else { 0 };
            Datum {
                id: *around.ids - 1,
                metric: METRICS[random.below(METRICS.len() as u64) as usize],
                service,
                time_ms: (random.below(4) > 0).then(|| around.now_ms + ahead - random.below(90_000) as i64),
                value: random.below(400) as f64 * 0.5 - 50.0,
            }
        })
        .collect();
    let service = around.some_service();
    let header = Header {
        service: service.map(str::to_owned),
        producer: producer.clone(),
        definitions: around.definitions,
        ..Header::plain(tenant, Content::Events, 0, around.now_ms)
    };
    let values = data.iter().map(|datum| event::Datum {
        namespace: "app".into(),
        metric: datum.metric.into(),
        service: datum.service.map(str::to_owned),
        dimensions: vec![],
        time_ms: datum.time_ms,
        value: datum.value,
        unit: "None".into(),
    });
    let bytes = wire::encode_events(header, &[Event::Measured(Measured { data: values.collect() })]);
    let partition_key = producer.as_ref().map_or_else(|| format!("api{}", around.ids), |p| p.partition_key(tenant));
    let identity =
        producer.map_or(Identity::Nobody, |Producer { id, epoch, counter }| Identity::Producer { id, epoch, counter });
    let (read_at_ms, body, definitions) = (around.now_ms, Body::Data(data), around.definitions);
    let meaning = Meaning::Batch { tenant, service, read_at_ms, identity, body, definitions };
    Sent { put: Put { partition_key, hash_key: None, data: bytes }, meaning: meaning.into() }
}
