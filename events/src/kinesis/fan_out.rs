//! Reads by enhanced fan-out: a registered consumer to which Kinesis pushes what each shard gets, beside the reads that all others share. Decides how
//! a subscription becomes pages that are asked for, when it is made anew, and from where. It registers a consumer, and never removes one.
//!
//! A subscription is read only while somebody asks for a page. What nobody asks for stays in the connection's window of a few megabytes, and Kinesis
//! waits: so a slow fold costs no memory. Subscriptions have a client with connections of their own, else one that is not read would keep the
//! answers of appends waiting too.
//!
//! | what happens | then |
//! | --- | --- |
//! | five minutes are over, the connection is cut, an internal failure | it is made anew behind the last continuation |
//! | `ResourceInUseException`: it was made less than five seconds ago, or another process of this consumer has the shard now | again after a pause |
//! | children are named, or nothing came for some seconds and a plain read finds the end | the shard is read to its end |
//! | no such shard, no such consumer, no permission | the read's answer |
//!
//! It is kept with what was handed out last, so that whoever folded half of a page goes on in its middle.

mod consumer;

use std::{
    collections::{HashMap, VecDeque},
    num::NonZeroUsize,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use aws_sdk_kinesis::{
    Client,
    config::{self, StalledStreamProtectionConfig, retry::RetryConfig},
    primitives::{DateTime, event_stream::EventReceiver},
    types::{
        ShardIteratorType, StartingPosition, SubscribeToShardEvent, SubscribeToShardEventStream,
        error::SubscribeToShardEventStreamError,
    },
};
use tokio::time::Instant;

pub use self::consumer::OpenError;
use super::{
    Kinesis,
    failure::{Failure, Kind},
    places::{Begins, Expected, Place},
    reader::{CLOCK_AHEAD_MS_MAX, Stop, TRIES_MAX, now_ms, record},
};
use crate::{
    position::{SequenceNumber, ShardId},
    stream::{AppendError, Appended, Limits, Page, Put, ReadError, Record, Refused, Shard, Start, Stream},
};

/// A consumer may subscribe to a shard again after so long (API reference, `SubscribeToShard`).
const AGAIN_AFTER: Duration = Duration::from_secs(5);
/// Kinesis tells a new subscriber something within this time, even of a shard that is idle. Without a word it is made anew.
const FIRST_EVENT_WAIT: Duration = Duration::from_secs(15);
/// A subscription from which nothing was asked for so long is given up: it holds a part of the connection's window.
const LEFT_MAX: Duration = Duration::from_secs(60);

/// A shard from which nothing came for so long is asked once, as all other readers ask, whether it has ended: an end that was told when the connection
/// broke is not always told again.
const END_LOOK: Duration = Duration::from_secs(10);

type Receiver = EventReceiver<SubscribeToShardEventStream, SubscribeToShardEventStreamError>;

/// See the module.
#[derive(Debug)]
pub struct FanOut {
    stream: Kinesis,
    client: Client,
    consumer_arn: String,
    again_after: Duration,
    subscriptions: Mutex<HashMap<ShardId, Subscription>>,
    /// When each shard was subscribed to last.
    made: Mutex<HashMap<ShardId, Instant>>,
    /// The last record that this process has put on each shard: whoever reads waits for it, as there is more until it was pushed.
    appended: Mutex<HashMap<ShardId, (SequenceNumber, Instant)>>,
}

/// A place in a shard, and what pushes records behind it.
#[derive(Debug)]
struct Subscription {
    place: Place,
    /// What was handed out last.
    given: Vec<Record>,
    /// `None`: it is to be made, or the shard has ended.
    receiver: Option<Receiver>,
    /// Where the next subscription goes on, as the last event said.
    continuation: Option<String>,
    must_begin_at: Option<Expected>,
    /// The subscription has said something.
    heard: bool,
    /// The last record that was pushed.
    pushed: SequenceNumber,
    left_at: Instant,
    /// When something came, or the end was looked for.
    idle_since: Instant,
}

impl Subscription {
    fn new(from: Start) -> Self {
        let from = match from {
            Start::At(SequenceNumber::ZERO) | Start::After(SequenceNumber::ZERO) => Start::TrimHorizon,
            from => from,
        };
        Self {
            place: Place::new(from),
            given: vec![],
            receiver: None,
            continuation: None,
            must_begin_at: None,
            heard: false,
            pushed: match from {
                Start::At(sequence) | Start::After(sequence) => sequence,
                Start::TrimHorizon | Start::AtTimestamp(_) | Start::Latest => SequenceNumber::ZERO,
            },
            left_at: Instant::now(),
            idle_since: Instant::now(),
        }
    }

    /// Whether it can go on there. Who has folded only a part of what was handed out comes back to the middle of it.
    fn goes_on_at(&mut self, from: Start) -> bool {
        if self.place.from == from {
            return true;
        }
        let Start::After(folded) = from else { return false };
        let Some(at) = self.given.iter().position(|record| record.sequence == folded) else { return false };
        for record in self.given.split_off(at + 1).into_iter().rev() {
            self.place.ahead.push_front(record);
        }
        self.place.from = from;
        true
    }

    fn page(&mut self, limits: &Limits) -> Page {
        let mut page = self.place.page(limits);
        // Nothing is known of where it ends until it has said something.
        if !self.heard && page.records.is_empty() && page.next.is_some() {
            page.behind_ms = page.behind_ms.max(1);
        }
        self.given.clone_from(&page.records);
        page
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FanOut {
    /// Uses the stream's consumer of this name, or registers it where that is allowed; returns with whether it was registered, once it can be used.
    /// `client` is for subscriptions alone.
    pub async fn open(stream: Kinesis, client: &Client, name: &str, create: bool) -> Result<(Self, bool), OpenError> {
        Self::open_with(stream, client, name, create, AGAIN_AFTER).await
    }

    pub(super) async fn open_with(
        stream: Kinesis,
        client: &Client,
        name: &str,
        create: bool,
        again_after: Duration,
    ) -> Result<(Self, bool), OpenError> {
        let found = consumer::find(&stream, name, create).await?;
        // What is pushed comes whenever there is something: a silent one is no failure.
        let quiet = StalledStreamProtectionConfig::disabled();
        let once = client.config().to_builder().retry_config(RetryConfig::disabled()).stalled_stream_protection(quiet);
        let fan_out = Self {
            stream,
            client: Client::from_conf(once.build()),
            consumer_arn: found.arn,
            again_after,
            subscriptions: Mutex::default(),
            made: Mutex::default(),
            appended: Mutex::default(),
        };
        Ok((fan_out, found.was_registered))
    }

    /// The stream without the consumer.
    pub fn stream(&self) -> &Kinesis {
        &self.stream
    }

    /// What goes on there, if anything does; others that nobody asks are given up.
    fn take(&self, shard: &ShardId, from: Start) -> Subscription {
        let mut all = held(&self.subscriptions);
        let kept = all.remove(shard);
        all.retain(|_, subscription| subscription.left_at.elapsed() < LEFT_MAX);
        kept.and_then(|mut kept| kept.goes_on_at(from).then_some(kept)).unwrap_or_else(|| Subscription::new(from))
    }

    fn keep(&self, shard: &ShardId, subscription: Subscription) {
        let kept = Subscription { left_at: Instant::now(), ..subscription };
        held(&self.subscriptions).insert(shard.clone(), kept);
    }

    /// Reads on until there is something to hand out, or the time is over.
    async fn receive(&self, shard: &ShardId, of: &mut Subscription, wait: Duration) -> Result<(), ReadError> {
        let deadline = Instant::now().checked_add(wait);
        let troubles = &self.stream.0.troubles[1];
        let mut failures = 0;
        while of.place.ahead.is_empty() && !of.place.ended {
            let step = match of.receiver {
                Some(_) => self.next_event(shard, of, deadline).await,
                None => self.subscribe(shard, of, deadline).await,
            };
            let failure = match step {
                Ok(true) => {
                    if of.heard {
                        troubles.is_over();
                    }
                    continue;
                }
                Ok(false) => return Ok(()),
                Err(Stop::Answer(error)) => return Err(error),
                Err(Stop::Failed(failure)) => failure,
            };
            of.receiver = None;
            troubles.failed(&failure.why);
            failures += 1;
            match failure.kind {
                Kind::Gone => return Err(self.stream.0.gone(shard, failure.why).await),
                Kind::Refused => return Err(ReadError::Unavailable(self.stream.0.say(&failure.why))),
                _ if failures >= TRIES_MAX => return Err(ReadError::Unavailable(self.stream.0.say(&failure.why))),
                Kind::InUse | Kind::Throttled => tokio::time::sleep(self.stream.0.options.throttle_pause).await,
                _ => tokio::time::sleep(self.stream.0.options.back_off().pause(failures)).await,
            }
        }
        Ok(())
    }

    /// One event, if it comes in time. False: it did not.
    async fn next_event(
        &self,
        shard: &ShardId,
        of: &mut Subscription,
        deadline: Option<Instant>,
    ) -> Result<bool, Stop> {
        let Some(receiver) = &mut of.receiver else { return Ok(true) };
        // A new one says first where it stands, and what this process has put there is on its way: who asks waits for that, however short it wanted to.
        let made = held(&self.made).get(shard).copied();
        let appended = held(&self.appended).get(shard).copied();
        let is_behind = appended.is_some_and(|(last, at)| last > of.pushed && made.is_some_and(|made| made < at));
        let is_owed = !of.heard || is_behind;
        let until = if is_owed { Some(Instant::now() + FIRST_EVENT_WAIT).max(deadline) } else { deadline };
        let event = match until {
            Some(until) => match tokio::time::timeout_at(until, receiver.recv()).await {
                Ok(event) => event,
                Err(_) if !is_owed => return Ok(false),
                Err(_) => return Err(Failure::new(Kind::Late, "a subscription said nothing").into()),
            },
            None => receiver.recv().await,
        };
        match event {
            Ok(Some(SubscribeToShardEventStream::SubscribeToShardEvent(event))) => self.told(shard, of, event).await?,
            // Of a newer service: nothing is lost with it that counts.
            Ok(Some(_)) => {}
            // Its five minutes are over.
            Ok(None) => of.receiver = None,
            Err(error) => return Err(Failure::of_event(&error).into()),
        }
        Ok(true)
    }

    async fn told(&self, shard: &ShardId, of: &mut Subscription, event: SubscribeToShardEvent) -> Result<(), Stop> {
        let is_end = !event.child_shards().is_empty();
        let mut ahead = event.records.into_iter().map(record).collect::<Result<VecDeque<_>, _>>()?;
        match Begins::of(&mut of.must_begin_at, &mut ahead, is_end) {
            Begins::Well => {}
            Begins::Later { asked, oldest } => {
                let oldest = match oldest {
                    Some(oldest) => oldest,
                    None => self.stream.0.ending(shard).await,
                };
                of.receiver = None;
                return Err(Stop::Answer(ReadError::Trimmed { shard: shard.clone(), asked, oldest }));
            }
        }
        of.heard = true;
        of.pushed = ahead.back().map_or(of.pushed, |last| last.sequence.max(of.pushed));
        of.continuation = Some(event.continuation_sequence_number).filter(|text| !text.is_empty());
        of.place.ahead = ahead;
        of.place.behind_ms = u64::try_from(event.millis_behind_latest).unwrap_or(0);
        of.place.heard_at = Instant::now();
        of.place.ended = is_end;
        if is_end {
            of.receiver = None;
        }
        Ok(())
    }

    /// Subscribes. False: not in the time that there is, as it was done just now.
    async fn subscribe(&self, shard: &ShardId, of: &mut Subscription, deadline: Option<Instant>) -> Result<bool, Stop> {
        let again = held(&self.made).get(shard).map(|made| *made + self.again_after).filter(|at| *at > Instant::now());
        if let Some(again) = again {
            if let Some(deadline) = deadline.filter(|deadline| *deadline < again) {
                of.heard = false;
                tokio::time::sleep_until(deadline).await;
                return Ok(false);
            }
            tokio::time::sleep_until(again).await;
        }
        let position = self.position(of);
        let asked_at_ms = now_ms();
        let call = self.client.subscribe_to_shard().consumer_arn(&self.consumer_arn).shard_id(shard.as_str());
        let call = call.starting_position(position).customize();
        let call = call.config_override(config::Builder::new()).send();
        held(&self.made).insert(shard.clone(), Instant::now());
        let longest = self.stream.0.options.call_timeout;
        let late = |_| Failure::new(Kind::Late, "there was no answer in time");
        let answer = tokio::time::timeout(longest, call).await.map_err(late)?;
        let answer = answer.map_err(|error| Failure::of(&error))?;
        if of.place.from == Start::Latest {
            of.place.from = Start::AtTimestamp(asked_at_ms - CLOCK_AHEAD_MS_MAX);
        }
        (of.receiver, of.heard) = (Some(answer.event_stream), false);
        Ok(true)
    }

    async fn look_for_the_end(&self, shard: &ShardId, of: &mut Subscription) {
        if !of.place.ahead.is_empty() || of.place.ended {
            of.idle_since = Instant::now();
        }
        if of.idle_since.elapsed() < END_LOOK {
            return;
        }
        of.idle_since = Instant::now();
        let limits = Limits { records: NonZeroUsize::MIN, bytes: 1, wait: Duration::ZERO };
        let page = self.stream.read(shard, of.place.from, limits).await;
        of.place.ended = page.is_ok_and(|page| page.records.is_empty() && page.next.is_none());
    }

    /// Where a subscription begins: behind what the last one said, or, with a look whether it is there, at the record that was read last.
    fn position(&self, of: &mut Subscription) -> StartingPosition {
        let behind = Duration::from_millis(of.place.behind_ms) + of.place.heard_at.elapsed();
        let at_the_edge = of.place.behind_ms > 0 && self.stream.0.edge().is_some_and(|edge| behind >= edge);
        let continuation = of.continuation.clone().filter(|_| of.must_begin_at.is_none() && !at_the_edge);
        let position = StartingPosition::builder();
        let position = match (continuation, of.place.from) {
            (Some(through), _) => position.r#type(ShardIteratorType::AfterSequenceNumber).sequence_number(through),
            (None, Start::TrimHorizon) => position.r#type(ShardIteratorType::TrimHorizon),
            (None, Start::Latest) => position.r#type(ShardIteratorType::Latest),
            (None, Start::AtTimestamp(since_ms)) => {
                position.r#type(ShardIteratorType::AtTimestamp).timestamp(DateTime::from_millis(since_ms))
            }
            (None, Start::At(sequence) | Start::After(sequence)) => {
                let wanted = matches!(of.place.from, Start::At(_));
                of.must_begin_at = Some(Expected { sequence, wanted });
                position.r#type(ShardIteratorType::AtSequenceNumber).sequence_number(sequence.to_string())
            }
        };
        position.build().expect("a position with a type is complete")
    }
}

impl Stream for FanOut {
    async fn append(&self, puts: Vec<Put>) -> Result<Vec<Result<Appended, Refused>>, AppendError> {
        let answers = self.stream.append(puts).await?;
        let mut last = held(&self.appended);
        for Appended { shard, sequence } in answers.iter().flatten() {
            let (known, at) = last.entry(shard.clone()).or_insert((*sequence, Instant::now()));
            (*known, *at) = ((*sequence).max(*known), Instant::now());
        }
        Ok(answers)
    }

    async fn shards(&self) -> Result<Vec<Shard>, ReadError> {
        self.stream.shards().await
    }

    async fn read(&self, shard: &ShardId, from: Start, limits: Limits) -> Result<Page, ReadError> {
        if let Start::AtTimestamp(since_ms) = from
            && since_ms > now_ms()
        {
            // Kinesis refuses times that are still to come; nothing can have arrived since.
            tokio::time::sleep(limits.wait).await;
            return Ok(Page { records: vec![], next: Some(from), behind_ms: 0 });
        }
        let mut subscription = self.take(shard, from);
        let received = self.receive(shard, &mut subscription, limits.wait).await;
        if received.is_ok() {
            self.look_for_the_end(shard, &mut subscription).await;
        }
        let page = received.map(|()| subscription.page(&limits));
        match &page {
            Ok(page) if page.next.is_none() => {}
            // One that failed goes on behind its continuation, at the next call.
            Ok(_) | Err(ReadError::Unavailable(_)) => self.keep(shard, subscription),
            Err(_) => {}
        }
        page
    }
}
