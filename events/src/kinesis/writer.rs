//! Appends to Kinesis: decides which records go in which call, when, and how often again. Never gives up a record whose fate is unknown as one that
//! was not appended.
//!
//! What becomes of a record:
//!
//! | the call says of it | may it be there | then |
//! | --- | --- | --- |
//! | shard and sequence number | it is | acknowledged |
//! | a throttle, of the record or of the whole call | no | again after a pause; its shard pauses for all; at last `Refused::Throttled` |
//! | an internal failure of the record | no, says Kinesis | again after a pause; at last `Refused::Failed` |
//! | nothing, as its turn on the shard, or a place among the calls under way, would come too late | no | `Refused::Throttled` |
//! | nothing: time-out, cut connection, 5xx, an answer that cannot be read | yes | again, the same bytes; at last `AppendError::Unknown` |
//! | nothing: no connection came about | no | again after a pause; at last `AppendError::NotAppended` |
//! | no such stream, credentials, permission | no | at once `AppendError::NotAppended` |
//!
//! Where a call fails as a whole after others have acknowledged records, the rest is `Refused::Failed`. The same record may be there twice after
//! an unknown: whoever appends puts an identity into the payload, which is what the fold counts by.

use std::sync::Arc;

use aws_sdk_kinesis::{
    operation::put_records::PutRecordsOutput,
    primitives::Blob,
    types::{PutRecordsRequestEntry, PutRecordsResultEntry},
};
use tokio::time::Instant;

use super::{
    Inner,
    failure::{Failure, Kind},
    shards::{Gate, Turn},
};
use crate::{
    position::{HashKey, ShardId},
    stream::{APPEND_RECORDS_MAX, AppendError, Appended, Put, Refused},
};

/// Most bytes of payloads and keys in one call. The service takes 10 MiB since it takes large records; every other speaker of its API takes these.
pub(super) const CALL_BYTES_MAX: usize = 5 << 20;
/// How often a record is sent. Then its last failure is the answer.
pub(super) const TRIES_MAX: u32 = 10;

/// After a call without an answer, the next ones of the same append hold half as much, but not less: on a slow link only small ones end in time.
const CALL_BYTES_MIN: usize = 256 << 10;

type Answers = Vec<Option<Result<Appended, Refused>>>;

/// A record without an answer.
struct Waiting {
    /// Its place among the puts.
    index: usize,
    put: Put,
    failures: u32,
    not_before: Option<Instant>,
    /// Its turn on a shard; until it is sent.
    turn: Option<(Arc<Gate>, Turn)>,
    /// When waiting for a turn ends; until it is sent.
    give_up: Option<Instant>,
    last: Refused,
    /// A call that held it was lost.
    unknown: bool,
}

impl Waiting {
    fn bytes(&self) -> usize {
        self.put.partition_key.len() + self.put.data.len()
    }

    fn hash_key(&self) -> HashKey {
        self.put.hash_key.unwrap_or_else(|| HashKey::of(&self.put.partition_key))
    }
}

/// One append, from its puts to its answers.
struct Append<'a> {
    stream: &'a Inner,
    answers: Answers,
    waiting: Vec<Waiting>,
    given_up: Vec<Waiting>,
    /// Most bytes of its next call.
    call_bytes: usize,
    /// Of the last call that failed as a whole.
    why: Option<String>,
}

impl Inner {
    pub(super) async fn append(&self, puts: Vec<Put>) -> Result<Vec<Result<Appended, Refused>>, AppendError> {
        if puts.len() > APPEND_RECORDS_MAX {
            let what = format!("{} records in one append, at most {APPEND_RECORDS_MAX} are taken", puts.len());
            return Err(AppendError::NotAppended(what));
        }
        let mut append = Append {
            stream: self,
            answers: vec![None; puts.len()],
            waiting: Vec::with_capacity(puts.len()),
            given_up: Vec::new(),
            call_bytes: CALL_BYTES_MAX,
            why: None,
        };
        for (index, put) in puts.into_iter().enumerate() {
            match put.check() {
                Err(refused) => append.answers[index] = Some(Err(refused)),
                Ok(()) => append.waiting.push(Waiting {
                    index,
                    put,
                    failures: 0,
                    not_before: None,
                    turn: None,
                    give_up: None,
                    last: Refused::Failed,
                    unknown: false,
                }),
            }
        }
        while !append.waiting.is_empty() {
            append.round().await;
        }
        append.finish()
    }
}

impl Append<'_> {
    /// One call, with as many of the waiting as may go now.
    async fn round(&mut self) {
        let call = self.next_call().await;
        if call.is_empty() {
            return;
        }
        let bytes: usize = call.iter().map(Waiting::bytes).sum();
        let units = self.stream.in_flight_units(bytes);
        let acquire = self.stream.in_flight.acquire_many(units);
        let Ok(held) = tokio::time::timeout(self.stream.options.turn_longest, acquire).await else {
            return call.into_iter().for_each(|waiting| self.crowded_out(waiting));
        };
        let _held = held.expect("the semaphore is never closed");
        match self.stream.put_records(&call).await {
            Ok(answers) => self.answered(call, answers).await,
            Err(failure) => self.failed(call, failure),
        }
    }

    /// Takes those whose pause is over and whose turn has come; waits until there is one. Empty: none is left, as no turn came in time.
    async fn next_call(&mut self) -> Vec<Waiting> {
        loop {
            let now = Instant::now();
            let (mut call, mut bytes, mut soonest) = (Vec::new(), 0, None::<Instant>);
            let mut left = Vec::with_capacity(self.waiting.len());
            for mut waiting in std::mem::take(&mut self.waiting) {
                let size = waiting.bytes();
                // One that is larger goes alone.
                let is_full = !call.is_empty() && bytes + size > self.call_bytes;
                match self.comes_at(&mut waiting, now) {
                    None => self.crowded_out(waiting),
                    Some(at) if at > now => {
                        soonest = Some(soonest.map_or(at, |soonest| soonest.min(at)));
                        left.push(waiting);
                    }
                    Some(_) if is_full || call.len() == APPEND_RECORDS_MAX => left.push(waiting),
                    Some(_) => {
                        (waiting.turn, waiting.give_up) = (None, None);
                        bytes += size;
                        call.push(waiting);
                    }
                }
            }
            self.waiting = left;
            if !call.is_empty() || self.waiting.is_empty() {
                return call;
            }
            tokio::time::sleep_until(soonest.unwrap_or(now)).await;
        }
    }

    /// When the record may go, which takes its turn; `None`: not in time.
    fn comes_at(&self, waiting: &mut Waiting, now: Instant) -> Option<Instant> {
        if let Some(pause) = waiting.not_before.filter(|not_before| *not_before > now) {
            return Some(pause);
        }
        let longest = self.stream.options.turn_longest;
        let give_up = *waiting.give_up.get_or_insert(now + longest);
        if waiting.turn.is_none() {
            let Some(gate) = self.stream.ring.gate(waiting.hash_key()) else { return Some(now) };
            let turn = gate.turn(waiting.bytes(), longest)?;
            waiting.turn = Some((gate, turn));
        }
        let at = waiting.turn.as_ref().map_or(now, |(gate, turn)| gate.comes_at(*turn));
        // Its shard may have been held since, again and again.
        (at <= give_up).then_some(at)
    }

    /// A record that the stream's limits leave no room for.
    fn crowded_out(&mut self, waiting: Waiting) {
        self.given_up.push(Waiting { last: Refused::Throttled, ..waiting });
    }

    async fn answered(&mut self, call: Vec<Waiting>, answers: Vec<PutRecordsResultEntry>) {
        let mut moved = false;
        if answers.iter().any(|answer| answer.sequence_number.is_some()) {
            self.stream.troubles[0].is_over();
        } else if let Some(code) = answers.iter().find_map(|answer| answer.error_code.as_deref()) {
            self.stream.troubles[0].failed(&format!("it takes no records just now ({code})"));
        }
        for (mut waiting, answer) in call.into_iter().zip(answers) {
            if let (Some(sequence), Some(shard)) = (&answer.sequence_number, &answer.shard_id) {
                moved |= !self.stream.ring.knows(shard);
                match sequence.parse() {
                    Ok(sequence) => {
                        let shard = ShardId::named(shard);
                        self.stream.lanes.has_more(&shard);
                        self.answers[waiting.index] = Some(Ok(Appended { shard, sequence }));
                    }
                    Err(error) => {
                        self.why = Some(format!("Kinesis took a record and said where in no known way: {error}"));
                        waiting.unknown = true;
                        self.given_up.push(waiting);
                    }
                }
                continue;
            }
            waiting.last = match answer.error_code.as_deref() {
                Some("ProvisionedThroughputExceededException") => Refused::Throttled,
                _ => Refused::Failed,
            };
            self.again(waiting);
        }
        if moved {
            self.stream.look_at_shards().await;
        }
    }

    fn failed(&mut self, call: Vec<Waiting>, failure: Failure) {
        let last = if failure.kind == Kind::Throttled { Refused::Throttled } else { Refused::Failed };
        self.stream.troubles[0].failed(&failure.why);
        let hopeless = matches!(failure.kind, Kind::Gone | Kind::Refused | Kind::Expired | Kind::InUse);
        let is_unknown = matches!(failure.kind, Kind::Unknown | Kind::Late);
        if is_unknown {
            self.call_bytes = (self.call_bytes / 2).max(CALL_BYTES_MIN);
        }
        for mut waiting in call {
            waiting.last = last.clone();
            waiting.unknown |= is_unknown;
            if hopeless { self.given_up.push(waiting) } else { self.again(waiting) }
        }
        if hopeless {
            self.given_up.append(&mut self.waiting);
        }
        self.why = Some(failure.why);
    }

    /// A record that was sent and failed.
    fn again(&mut self, mut waiting: Waiting) {
        waiting.failures += 1;
        if waiting.failures >= TRIES_MAX {
            self.given_up.push(waiting);
            return;
        }
        let pause = self.stream.options.back_off().pause(waiting.failures);
        waiting.not_before = Some(Instant::now() + pause);
        if waiting.last == Refused::Throttled
            && let Some(gate) = self.stream.ring.gate(waiting.hash_key())
        {
            // All who write to this shard slow down with it.
            gate.hold(pause);
        }
        self.waiting.push(waiting);
    }

    fn finish(mut self) -> Result<Vec<Result<Appended, Refused>>, AppendError> {
        let why = self.why.take().unwrap_or_default();
        if self.given_up.iter().any(|waiting| waiting.unknown) {
            return Err(AppendError::Unknown(self.stream.say(&why)));
        }
        let throttled = self.given_up.iter().any(|waiting| waiting.last == Refused::Throttled);
        if !self.given_up.is_empty() && !why.is_empty() && !throttled && self.answers.iter().all(Option::is_none) {
            return Err(AppendError::NotAppended(self.stream.say(&why)));
        }
        for waiting in self.given_up {
            self.answers[waiting.index] = Some(Err(waiting.last));
        }
        Ok(self.answers.into_iter().map(|answer| answer.expect("who waits is answered or given up")).collect())
    }
}

impl Inner {
    /// One PutRecords call, without retries of the SDK. As many answers as records.
    async fn put_records(&self, call: &[Waiting]) -> Result<Vec<PutRecordsResultEntry>, Failure> {
        let entries = call.iter().map(|waiting| {
            PutRecordsRequestEntry::builder()
                .partition_key(&waiting.put.partition_key)
                .set_explicit_hash_key(waiting.put.hash_key.map(|key| key.0.to_string()))
                .data(Blob::new(waiting.put.data.to_vec()))
                .build()
                .expect("an entry with key and data is complete")
        });
        let entries: Vec<_> = entries.collect();
        let put = self.once.put_records().stream_name(&self.name).set_records(Some(entries));
        let longest = self.options.longest_for(call.iter().map(Waiting::bytes).sum());
        let answer = put.customize().config_override(longest).send().await;
        let PutRecordsOutput { records, .. } = answer.map_err(|error| Failure::of(&error))?;
        if records.len() != call.len() {
            let why = format!("Kinesis answered {} of {} records", records.len(), call.len());
            return Err(Failure::new(Kind::Unknown, why));
        }
        Ok(records)
    }
}
