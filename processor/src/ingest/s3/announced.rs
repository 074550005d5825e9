//! Objects that S3 announces, onto a stream, within a time: what a function does with the messages that it is handed. Decides which of several
//! announcements of a key is the one to be read, and what of them is done.
//!
//! | the object | what is read | the message |
//! | --- | --- | --- |
//! | has a version | that version, whatever stands there now | done when its last line is durable |
//! | has none, and stands | it | as above |
//! | has none, and another stands there | the other one: its own announcement finds it known | done as where it is gone |
//! | is gone, before or while it is read | what came of it | done when an event that says so is durable, which becomes a dead letter unless it was read before |
//! | is damaged, archived, or not permitted | what came of it | not done: it comes again, and in the end lies in the queue's queue for the dead |
//! | takes longer than there is time | what came of it | not done: it comes again, and is read on from where it is durable |
//! | was read to its end before | nothing | done |
//!
//! Of objects that come with more than one call it is kept how far they are (`places`); a small one that comes again is read again. Either way the fold
//! knows its bytes, also of two calls that read the same at the same time.

mod places;

use std::{collections::HashMap, pin::pin, sync::Arc, time::Duration};

use events::{
    event::Missed,
    identity::{Origin, OriginKind},
    pack::{Packed, Profile},
    stream::{Put, Stream},
};
use futures_util::future::{Either, select};
use projections::dynamodb::DynamoDb;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

use self::places::{Missing, Places};
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
    /// Nothing more is waited for from here on: what is on its way by then may have become durable or not.
    pub wait_until: Instant,
    /// From here on nothing more is said of how far objects are.
    pub keep_until: Instant,
    /// How often it is said while they are read: what a call that is killed leaves to be read again.
    pub keep_every: Duration,
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

/// Reads what the messages announce. Returns what became of each, in their order, when all of it is durable or the time is over. `rows`: where it is kept
/// how far objects are.
pub async fn ingest_announced<S: Stream>(
    messages: Vec<Message>,
    bucket: impl Fn(&str) -> Bucket,
    stream: &S,
    rows: Arc<DynamoDb>,
    settings: &Settings,
) -> Vec<Done> {
    let plan = Plan::of(&messages);
    let places = Arc::new(Places::new(rows, &settings.tenant, plan.objects.len()));
    let became = read(&plan, bucket, stream, &places, settings).await;
    let done = |(message, announced): (Message, &Vec<(usize, usize)>)| {
        let mut done = Done { id: message.id, read: 0, missed: 0, left: vec![] };
        if let Err(error) = message.objects {
            done.left.push(error.to_string());
        }
        for (object, etag) in announced {
            match &became[*object][*etag] {
                Became::Read => done.read += 1,
                Became::Missed => done.missed += 1,
                Became::Left(why) => done.left.push(why.clone()),
            }
        }
        done
    };
    messages.into_iter().zip(&plan.announced).map(done).collect()
}

/// Objects to be read, each once, and which of them each message announces.
struct Plan {
    objects: Vec<Notified>,
    /// The etags under which each of them was announced; one that was replaced has several.
    etags: Vec<Vec<Option<String>>>,
    /// Of each message: places in both.
    announced: Vec<Vec<(usize, usize)>>,
}

impl Plan {
    fn of(messages: &[Message]) -> Self {
        let mut plan = Self { objects: vec![], etags: vec![], announced: vec![] };
        let mut known: HashMap<(&str, &str, Option<&str>), usize> = HashMap::new();
        for message in messages {
            let mut announced = vec![];
            for object in message.objects.iter().flatten() {
                let name = (object.bucket.as_str(), object.key.as_str(), object.version.as_deref());
                let place = *known.entry(name).or_insert_with(|| {
                    plan.objects.push(object.clone());
                    plan.etags.push(vec![]);
                    plan.objects.len() - 1
                });
                let earlier = &mut plan.objects[place];
                if is_later(object, earlier) {
                    *earlier = object.clone();
                }
                let etags = &mut plan.etags[place];
                let etag = etags.iter().position(|etag| *etag == object.etag).unwrap_or_else(|| {
                    etags.push(object.etag.clone());
                    etags.len() - 1
                });
                announced.push((place, etag));
            }
            plan.announced.push(announced);
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

/// The objects, told to who opens them, each with its place as its tag.
async fn to_open(objects: &[Notified], bucket: impl Fn(&str) -> Bucket) -> mpsc::Receiver<Next> {
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
    told
}

/// What became of each object, by the etags under which it was announced.
async fn read<S: Stream>(
    Plan { objects, etags, .. }: &Plan,
    bucket: impl Fn(&str) -> Bucket,
    stream: &S,
    places: &Arc<Places>,
    settings: &Settings,
) -> Vec<Vec<Became>> {
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
    let opened = places.clone().going_on(open_ahead(to_open(objects, bucket).await));
    let inputs = Inputs { paths: vec![], stdin: Box::new(std::io::empty()), objects: Some(opened) };
    let sender = ToStream(stream);
    let mut run = Run::start(inputs, options, None, &sender, Default::default());
    let mut is_sure = true;
    let over = {
        let reading = pin!(timeout_at(settings.read_until, run.done()));
        matches!(select(reading, pin!(places.keep_up(settings.keep_every))).await, Either::Left((Err(_), _)))
    };
    if over {
        run.stop();
        // What is not durable by then is left.
        is_sure = timeout_at(settings.wait_until, run.done()).await.is_ok();
    }
    let mut reports: Vec<Option<FileReport>> = objects.iter().map(|_| None).collect();
    for file in run.report().files {
        if let Some(report) = file.tag.and_then(|tag| reports.get_mut(tag)) {
            *report = Some(file);
        }
    }
    let mut became = vec![];
    for (tag, ((object, etags), report)) in objects.iter().zip(etags).zip(reports).enumerate() {
        // A batch that was refused may have been appended.
        let refused = report
            .as_ref()
            .is_some_and(|file| matches!(&file.outcome, Outcome::Failed { error: FileError::Send(_), .. }));
        let stood = report.as_ref().and_then(|file| file.origin.clone()).or_else(|| places.origin(tag));
        let stood = stood.unwrap_or_else(|| announced_as(object, object.etag.as_deref()));
        let judged = judge((tag, object), report, &stood, stream, places, settings).await;
        let is_read = matches!(judged, Became::Read);
        let kept = timeout_at(settings.keep_until, places.end(tag, is_read, is_sure && !refused)).await;
        let judged = match kept.unwrap_or_else(|_| Err("the time was over".to_owned())) {
            Ok(()) => judged,
            Err(why) => {
                let name = url(&object.bucket, &object.key);
                Became::Left(format!("{name}: how far it is on the stream could not be kept, so it comes again: {why}"))
            }
        };
        let mut by_etag = vec![];
        for etag in etags {
            let origin = announced_as(object, etag.as_deref());
            let is_other = object.version.is_none() && etag.is_some() && origin.version != stood.version;
            by_etag.push(match &judged {
                // While another stands there nobody can read it any more.
                Became::Read | Became::Missed if is_other => {
                    tell_missed(object, origin, 0, stream, places, settings).await
                }
                judged => judged.clone(),
            });
        }
        became.push(by_etag);
    }
    became
}

/// What an announcement says of an object.
fn announced_as(object: &Notified, etag: Option<&str>) -> Origin {
    Origin {
        kind: OriginKind::Object,
        name: format!("{}/{}", object.bucket, object.key),
        version: object.version.as_deref().or(etag).unwrap_or_default().to_owned(),
    }
}

/// `stood`: the one that was read, or was to be.
async fn judge<S: Stream>(
    (tag, object): (usize, &Notified),
    report: Option<FileReport>,
    stood: &Origin,
    stream: &S,
    places: &Places,
    settings: &Settings,
) -> Became {
    let name = url(&object.bucket, &object.key);
    if places.was_read(tag) {
        return Became::Read;
    }
    let Some(file) = report else {
        return Became::Left(format!("{name}: the time was over before it was begun; it comes again"));
    };
    let (error, bytes) = match file.outcome {
        Outcome::Ingested { .. } | Outcome::Unchanged => return Became::Read,
        Outcome::Failed { error, bytes, .. } => (error, bytes),
    };
    let is_gone = |failure: &Failure| failure.kind == Kind::NoKey;
    let reached = places.reached(tag);
    match (&error, reached) {
        (FileError::Object(why), _) if why.downcast_ref::<Failure>().is_some_and(is_gone) => {}
        (FileError::NotRead, Some(end)) => {
            return Became::Left(format!(
                "{name}: the time was over when it was on the stream up to byte {end}: it goes on from there when it comes again"
            ));
        }
        (FileError::NotRead, None) => {
            return Became::Left(format!("{name}: the time was over before it was read to its end; it comes again"));
        }
        _ => return Became::Left(format!("{name}: {error}")),
    }
    tell_missed(object, stood.clone(), reached.unwrap_or(bytes), stream, places, settings).await
}

/// Appends that an object is gone, of which this call has read so many bytes.
async fn tell_missed<S: Stream>(
    object: &Notified,
    origin: Origin,
    read: u64,
    stream: &S,
    places: &Places,
    settings: &Settings,
) -> Became {
    let told = async {
        let from = match places.missing(&origin, read).await.map_err(|error| error.to_string())? {
            Missing::Nothing => return Ok(Became::Read),
            Missing::From(from) => from,
        };
        let put = missed(&settings.tenant, Missed { origin, from }, settings.now_ms);
        append_all(stream, vec![put]).await?;
        Ok(Became::Missed)
    };
    let told: Result<Became, String> =
        timeout_at(settings.wait_until, told).await.unwrap_or_else(|_| Err("the time was over".to_owned()));
    told.unwrap_or_else(|why| {
        Became::Left(format!("{} is gone, and that could not be appended: {why}", url(&object.bucket, &object.key)))
    })
}

#[cfg(test)]
mod tests;
