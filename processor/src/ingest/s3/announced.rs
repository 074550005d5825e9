//! Objects that S3 announces, onto a stream, within a time: what a function does with the messages that it is handed. Decides which of several
//! announcements of a key is the one to be read, and what of them is done.
//!
//! | the object | what is read | the message |
//! | --- | --- | --- |
//! | has a version | that version, whatever stands there now | done when its last line is durable |
//! | has none, and stands | it | as above |
//! | has none, and another stands there | the other one: its own announcement finds it known | as above |
//! | is gone, before or while it is read | what came of it | done when an event that says so is durable, which becomes a dead letter unless it was read before |
//! | is damaged, archived, not permitted, or the time is over | what came of it | not done: it comes again, and in the end lies in the queue's queue for the dead |
//!
//! Nothing is remembered between two calls: what comes again is read again, and the fold knows its bytes.

use std::collections::HashMap;

use events::{
    event::Missed,
    identity::{Origin, OriginKind},
    pack::{Packed, Profile},
    stream::{Put, Stream},
};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

use super::{Next, ToOpen, open_ahead, url};
use crate::{
    append::{append_all, missed},
    ingest::{
        FileError, FileReport, Inputs, Options, Outcome, Run, SendError, Sender,
        notified::{Message, Notified},
    },
    s3::{Bucket, Failure, Kind, Wanted},
};

/// How announced objects are read.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Whose they are.
    pub tenant: String,
    /// The service of lines that name none; without it an object's name gives it.
    pub service: Option<String>,
    /// How batches are packed.
    pub profile: Profile,
    /// The wall clock, Unix milliseconds.
    pub now_ms: i64,
    /// Nothing more is read from here on.
    pub read_until: Instant,
    /// Nothing more is waited for from here on.
    pub wait_until: Instant,
}

/// What became of one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// By what its queue knows it.
    pub id: Option<String>,
    /// Objects of it whose lines are durable.
    pub read: usize,
    /// Objects of it that were gone: that is durable.
    pub missed: usize,
    /// Why it has to come again; none: it has not.
    pub left: Vec<String>,
}

/// What became of one object.
#[derive(Debug, Clone)]
enum Became {
    Read,
    Missed,
    Left(String),
}

/// Sends into a stream of this process.
struct ToStream<'a, S>(&'a S);

impl<S: Stream> Sender for ToStream<'_, S> {
    async fn send(&self, Packed { partition_key, data, .. }: Packed) -> Result<(), SendError> {
        let put = Put { partition_key, hash_key: None, data };
        append_all(self.0, vec![put]).await.map(drop).map_err(SendError::Unavailable)
    }
}

/// Reads what the messages announce. Returns what became of each, in their order, when all of it is durable or the time is over.
pub async fn ingest_announced<S: Stream>(
    messages: Vec<Message>,
    bucket: impl Fn(&str) -> Bucket,
    stream: &S,
    settings: &Settings,
) -> Vec<Done> {
    let plan = Plan::of(&messages);
    let became = read(&plan.objects, bucket, stream, settings).await;
    let done = |(message, places): (Message, &Vec<usize>)| {
        let mut done = Done { id: message.id, read: 0, missed: 0, left: vec![] };
        if let Err(error) = message.objects {
            done.left.push(error.to_string());
        }
        for place in places {
            match &became[*place] {
                Became::Read => done.read += 1,
                Became::Missed => done.missed += 1,
                Became::Left(why) => done.left.push(why.clone()),
            }
        }
        done
    };
    messages.into_iter().zip(&plan.places).map(done).collect()
}

/// Objects to be read, each once, and which of them each message announces.
struct Plan {
    objects: Vec<Notified>,
    places: Vec<Vec<usize>>,
}

impl Plan {
    fn of(messages: &[Message]) -> Self {
        let mut plan = Self { objects: vec![], places: vec![] };
        let mut known: HashMap<(&str, &str, Option<&str>), usize> = HashMap::new();
        for message in messages {
            let mut places = vec![];
            for object in message.objects.iter().flatten() {
                let name = (object.bucket.as_str(), object.key.as_str(), object.version.as_deref());
                let place = *known.entry(name).or_insert_with(|| {
                    plan.objects.push(object.clone());
                    plan.objects.len() - 1
                });
                let earlier = &mut plan.objects[place];
                if is_later(object, earlier) {
                    *earlier = object.clone();
                }
                places.push(place);
            }
            plan.places.push(places);
        }
        plan
    }
}

/// Messages come in any order: the sequencer tells. Without one the later message is taken for the later news; what stands there decides in the end.
fn is_later(object: &Notified, earlier: &Notified) -> bool {
    match (&object.sequencer, &earlier.sequencer) {
        (Some(this), Some(that)) => this.order(that).is_gt(),
        _ => true,
    }
}

async fn read<S: Stream>(
    objects: &[Notified],
    bucket: impl Fn(&str) -> Bucket,
    stream: &S,
    settings: &Settings,
) -> Vec<Became> {
    let to_open = |(tag, object): (usize, &Notified)| {
        let Notified { key, version, etag, .. } = object.clone();
        // A version says which it is; an etag beside it could only contradict.
        let etag = etag.filter(|_| version.is_none());
        let wanted = Wanted { key, version, etag };
        Next::Open(ToOpen { bucket: bucket(&object.bucket), wanted, id: None, tag: Some(tag) })
    };
    let (tell, told) = mpsc::channel(objects.len().max(1));
    for next in objects.iter().enumerate().map(to_open) {
        // There is room for all of them, and the other end is held here.
        let _ = tell.send(next).await;
    }
    drop(tell);
    let options = Options {
        tenant: settings.tenant.clone(),
        service: settings.service.clone(),
        as_name: None,
        again: false,
        codec: settings.profile.codec,
        target: settings.profile.target,
        now_ms: settings.now_ms,
        definitions: None,
    };
    let inputs = Inputs { paths: vec![], stdin: Box::new(std::io::empty()), objects: Some(open_ahead(told)) };
    let sender = ToStream(stream);
    let mut run = Run::start(inputs, options, None, &sender, Default::default());
    if timeout_at(settings.read_until, run.done()).await.is_err() {
        run.stop();
        // What is not durable by then is left.
        let _ = timeout_at(settings.wait_until, run.done()).await;
    }
    let over = || Became::Left("the time was over before it was read; it comes again".to_owned());
    let mut became: Vec<Became> = objects.iter().map(|_| over()).collect();
    for file in run.report().files {
        let Some(tag) = file.tag else { continue };
        became[tag] = judge(&objects[tag], file, stream, settings).await;
    }
    became
}

async fn judge<S: Stream>(object: &Notified, file: FileReport, stream: &S, settings: &Settings) -> Became {
    let (error, bytes) = match file.outcome {
        Outcome::Ingested { .. } | Outcome::Unchanged => return Became::Read,
        Outcome::Failed { error, bytes, .. } => (error, bytes),
    };
    let name = url(&object.bucket, &object.key);
    let is_gone = |failure: &Failure| failure.kind == Kind::NoKey;
    if !matches!(&error, FileError::Object(why) if why.downcast_ref::<Failure>().is_some_and(is_gone)) {
        return Became::Left(format!("{name}: {error}"));
    }
    let announced = || Origin {
        kind: OriginKind::Object,
        name: format!("{}/{}", object.bucket, object.key),
        version: object.version.clone().or_else(|| object.etag.clone()).unwrap_or_default(),
    };
    let news = Missed { origin: file.origin.unwrap_or_else(announced), from: bytes };
    let put = missed(&settings.tenant, news, settings.now_ms);
    match timeout_at(settings.wait_until, append_all(stream, vec![put])).await {
        Ok(Ok(_)) => Became::Missed,
        Ok(Err(why)) => Became::Left(format!("{name} is gone, and that could not be appended: {why}")),
        Err(_) => Became::Left(format!("{name} is gone, and the time was over before that could be appended")),
    }
}

#[cfg(test)]
mod tests;
