//! `POST /ingest`: raw lines, NDJSON, gzip, zstd or one Weir batch, told by their bytes, onto the stream. Decides who speaks; reads no line.
//!
//! Lines become batches as they come in and are appended while more are coming. So a body that turns out bad after some of it was appended is
//! refused with what is in: the client sends the rest. Lines without an origin are taken at least once: who repeats a request repeats its lines.

use std::sync::Arc;

use axum::{
    Extension,
    body::Body,
    extract::State,
    http::{StatusCode, Uri, header},
    response::Response,
};
use bytes::Bytes;
use events::{
    event::Event,
    pack::{Identity, Packer, Source},
    stream::{Appended, PARTITION_KEY_CHARS_MAX, Put, RECORD_BYTES_MAX},
    wire::{self, Content, Header},
};
use futures_util::{StreamExt, stream::FuturesOrdered};
use serde_json::{Value, json};

use crate::{
    Api, Limits,
    body::Incoming,
    guard::Caller,
    operator::{AppendFailed, Operator},
    parameters::Parameters,
    producers::Lease,
    refusal::{Refusal, answer},
    shares::{Full, Share},
    unpack::{FORM_BYTES, Form, Unpack},
};

/// Appends of one body that are on their way; far below `IN_FLIGHT_MAX`.
const IN_FLIGHT: usize = 16;

pub(crate) async fn ingest<O: Operator>(
    State(api): State<Arc<Api<O>>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
    body: Body,
) -> Result<Response, Refusal> {
    let parameters = Parameters::of(&uri, &["service", "run"])?;
    let tenant = caller.tenant()?;
    let run = parameters.run(tenant)?;
    let service = parameters.service()?;
    let mut incoming = Incoming::new(body, &api.limits);
    // Before any of it is asked for: who waits for `100 Continue` need not send it.
    check_announced(&api, &incoming, None)?;
    let lease = api.producers.lease(share(&api, &caller).await?);
    let first = incoming.at_least(FORM_BYTES).await?;
    let mut sender = Sender::new(&*api.operator, run);
    let done = match Form::of(&first) {
        Form::Batch => batch(&mut sender, tenant, service, &lease, incoming, first).await,
        form => {
            let source = Source {
                tenant: tenant.to_owned(),
                service: service.map(str::to_owned),
                identity: Identity::Producer(lease.producer.clone()),
                read_at_ms: api.operator.now_ms(),
                definitions: api.operator.definitions_revision(),
            };
            lines(&api, &mut sender, source, form, incoming, first).await
        }
    };
    sender.finish(done, lease).await
}

/// The client's share of the bodies that come in at once; taken before any of the body is read.
pub(crate) async fn share<O>(api: &Api<O>, caller: &Caller) -> Result<Share, Refusal> {
    let each = api.limits.client_bodies_max;
    api.bodies.take(caller.client.clone(), api.limits.queue).await.map_err(|full| match full {
        Full::Own => {
            let message = format!(
                "{each} bodies of this client are coming in, as many as may at once: finish those, then send this one again"
            );
            Refusal::new(StatusCode::TOO_MANY_REQUESTS, "busy", message).header(header::RETRY_AFTER, "1")
        }
        Full::All => Refusal::unavailable("busy", "too many bodies are coming in at once: try again in a moment"),
    })
}

fn too_large(limits: &Limits, is_packed: bool) -> Refusal {
    let (most, form) =
        if is_packed { (limits.packed_bytes_max, "packed") } else { (limits.unpacked_bytes_max, "unpacked") };
    Refusal::too_large(format!("the body has more than {most} bytes {form}: send it in several requests"))
}

/// Refuses a body whose announced length is too much for its form, or, where that is not known yet, for any.
fn check_announced<O>(api: &Api<O>, incoming: &Incoming, is_packed: Option<bool>) -> Result<(), Refusal> {
    let limits = &api.limits;
    let is_packed = is_packed.unwrap_or(limits.packed_bytes_max > limits.unpacked_bytes_max);
    let most = if is_packed { limits.packed_bytes_max } else { limits.unpacked_bytes_max };
    match incoming.announced() {
        Some(bytes) if bytes > most => Err(too_large(limits, is_packed)),
        _ => Ok(()),
    }
}

/// Unpacks, packs and appends lines as they come.
async fn lines<O: Operator>(
    api: &Api<O>,
    sender: &mut Sender<'_, O>,
    source: Source,
    form: Form,
    mut incoming: Incoming,
    first: Bytes,
) -> Result<(), Refusal> {
    let bad = |error: crate::unpack::BadBody| {
        Refusal::bad("bad_body", format!("{error}; send it unpacked, or pack it again"))
    };
    let mut unpack = Unpack::new(form).map_err(bad)?;
    let profile = api.operator.profile();
    let mut packer = Packer::new(source, profile.codec, profile.target);
    let limits = &api.limits;
    let (mut packed_bytes, mut unpacked_bytes) = (0u64, 0u64);
    let mut count = |unpacked: usize| {
        unpacked_bytes += unpacked as u64;
        if unpacked_bytes > limits.unpacked_bytes_max { Err(too_large(limits, false)) } else { Ok(()) }
    };
    // Before any of it is in.
    check_announced(api, &incoming, Some(unpack.is_packed()))?;
    let mut out = Vec::new();
    let mut piece = Some(first).filter(|first| !first.is_empty());
    while let Some(bytes) = piece {
        packed_bytes += bytes.len() as u64;
        if unpack.is_packed() && packed_bytes > limits.packed_bytes_max {
            return Err(too_large(limits, true));
        }
        let mut input = &bytes[..];
        while !input.is_empty() {
            out.clear();
            unpack.step(&mut input, &mut out).map_err(bad)?;
            count(out.len())?;
            packer.push(&out);
            while let Some(packed) = packer.next(false) {
                sender.send(packed.partition_key, packed.data).await?;
            }
            // A step is work of a few milliseconds: others come in between.
            tokio::task::yield_now().await;
        }
        piece = incoming.next().await?;
    }
    out.clear();
    unpack.finish(&mut out).map_err(bad)?;
    count(out.len())?;
    packer.push(&out);
    while let Some(packed) = packer.next(true) {
        sender.send(packed.partition_key, packed.data).await?;
    }
    Ok(())
}

/// Appends a batch that a producer made, unchanged.
async fn batch<O: Operator>(
    sender: &mut Sender<'_, O>,
    tenant: &str,
    service: Option<&str>,
    lease: &Lease<'_>,
    mut incoming: Incoming,
    first: Bytes,
) -> Result<(), Refusal> {
    if service.is_some() {
        return Err(Refusal::field("service", "a Weir batch names its service in its header: leave the parameter out"));
    }
    let data = incoming.whole(first, RECORD_BYTES_MAX - 4 * PARTITION_KEY_CHARS_MAX, "the Weir batch").await?;
    let header = check_batch(&data, tenant, sender.operator.definitions_revision())?;
    // All copies of a byte meet on one shard, whoever sends them.
    let partition_key = match (&header.extent, &header.producer) {
        (Some(extent), _) => extent.origin.partition_key(tenant, extent.from),
        (None, Some(producer)) => producer.partition_key(tenant),
        (None, None) => lease.producer.partition_key(tenant),
    };
    sender.send(partition_key, data).await
}

/// A client may say what it has seen, and nothing that the system itself says: no tick, no definition, nothing of another tenant.
fn check_batch(
    data: &Bytes,
    tenant: &str,
    definitions: Option<events::position::SequenceNumber>,
) -> Result<Header, Refusal> {
    let bad = |error: wire::DecodeError| Refusal::bad("bad_batch", error.to_string());
    // Before the body is unpacked: whose it is decides first.
    let (header, _) = wire::decode_header(data).map_err(bad)?;
    if header.tenant != tenant {
        let message = format!(
            "the batch is of tenant `{}`, and the credential of `{tenant}`: send it with its own",
            header.tenant
        );
        return Err(Refusal::new(StatusCode::FORBIDDEN, "foreign_tenant", message));
    }
    if header.definitions > definitions {
        let message = "the batch names a revision of definitions that this server does not have: leave it out, or take it from an answer of \
                       POST /definitions";
        return Err(Refusal::bad("unknown_revision", message));
    }
    let batch = wire::decode(data).map_err(bad)?;
    if batch.header.content == Content::Events {
        let events = wire::decode_events(&batch.body).map_err(bad)?;
        if let Some(place) = events.iter().position(|event| !matches!(event, Event::Measured(_))) {
            let message =
                format!("event {place} of the batch is not `Measured`: a client sends only lines and measured values");
            return Err(Refusal::bad("foreign_event", message));
        }
    }
    Ok(batch.header)
}

type Appending<'a> = futures_util::future::BoxFuture<'a, Result<Appended, AppendFailed>>;

/// Appends the records of one body, a few at a time, in order.
pub(crate) struct Sender<'a, O> {
    operator: &'a O,
    run: Option<String>,
    in_flight: FuturesOrdered<Appending<'a>>,
    sent: u64,
    positions: Vec<Value>,
    failed: Option<AppendFailed>,
}

impl<'a, O: Operator> Sender<'a, O> {
    pub(crate) fn new(operator: &'a O, run: Option<String>) -> Self {
        Self { operator, run, in_flight: FuturesOrdered::new(), sent: 0, positions: vec![], failed: None }
    }

    /// Sends a record; `Err`: an earlier one has failed.
    pub(crate) async fn send(&mut self, partition_key: String, data: Bytes) -> Result<(), Refusal> {
        while self.in_flight.len() >= IN_FLIGHT {
            self.answer().await;
        }
        if let Some(failed) = &self.failed {
            return Err(not_appended(failed));
        }
        if let Some(run) = &self.run {
            self.operator.admit(run).map_err(|why| {
                Refusal::new(StatusCode::TOO_MANY_REQUESTS, "runs_full", why).header(header::RETRY_AFTER, "1")
            })?;
        }
        self.sent += 1;
        let put = Put { partition_key, hash_key: None, data };
        self.in_flight.push_back(Box::pin(self.operator.append(put)));
        Ok(())
    }

    async fn answer(&mut self) {
        match self.in_flight.next().await {
            Some(Ok(appended)) => {
                if let Some(run) = &self.run {
                    self.operator.expect(run, &appended);
                }
                let (shard, sequence) = (appended.shard.as_str(), appended.sequence.to_string());
                self.positions.push(json!({"shard": shard, "sequence": sequence}));
            }
            Some(Err(failed)) => {
                self.failed.get_or_insert(failed);
            }
            None => {}
        }
    }

    /// Waits for everything that was sent. The positions stand in the answer whether the body was taken whole or not.
    pub(crate) async fn finish(mut self, done: Result<(), Refusal>, lease: Lease<'_>) -> Result<Response, Refusal> {
        let positions = self.settle(lease).await;
        match done.and(positions) {
            Ok(()) => Ok(answer(StatusCode::ACCEPTED, &json!({"positions": self.positions}))),
            Err(refusal) => Err(self.with_positions(refusal)),
        }
    }

    /// Waits for everything that was sent, and hands the identity on if all of it is acknowledged.
    pub(crate) async fn settle(&mut self, lease: Lease<'_>) -> Result<(), Refusal> {
        while !self.in_flight.is_empty() {
            self.answer().await;
        }
        match &self.failed {
            None => {
                lease.hand_on(self.sent);
                Ok(())
            }
            Some(failed) => Err(not_appended(failed)),
        }
    }

    fn with_positions(self, refusal: Refusal) -> Refusal {
        if self.positions.is_empty() {
            return refusal;
        }
        let note =
            format!(". {} batches of it are in, at `positions`: send only what follows them", self.positions.len());
        refusal.beside("positions", self.positions.into(), &note)
    }

    /// Where the records are.
    pub(crate) fn positions(&self) -> &[Value] {
        &self.positions
    }
}

fn not_appended(failed: &AppendFailed) -> Refusal {
    match failed {
        AppendFailed::Refused(events::stream::Refused::Invalid(_)) => Refusal::bad("not_taken", failed.to_string()),
        _ => Refusal::unavailable("not_appended", format!("the stream did not take all of it: {failed}")),
    }
}
