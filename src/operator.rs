//! What the API asks of this process: the system, seen through the API's port.

use std::time::{Duration, Instant};

use api::operator::{AppendFailed, Check, EMBEDDED_PROFILE, Health, NotDone, Operator, Reshard, Unsettled};
use events::{
    event::{Defined, Event},
    identity::{CONTROL_KEY, Producer},
    pack::Profile,
    position::{HashKey, SequenceNumber, ShardId},
    stream::{Appended, Put},
};
use processor::{append::system_event_of, ledger, tick::Tick};
use projections::{
    fold::balance::Balance,
    generations::View,
    store::{Generation, Kind, Span, Store},
};
use serde_json::Value;

use crate::{AnyStore, System, VERIFY, generations::starts, now_ms, with_causes};

/// Longest that `/health` waits for the stream or the store: whoever asks is to hear what does not answer before it gives up itself.
const LOOK_MAX: Duration = Duration::from_secs(3);
/// Longest that a definition waits until its row can be read.
const APPLY_WAIT: Duration = Duration::from_secs(60);

/// What a look finds within `LOOK_MAX`, or why it found nothing; `of`: who is asked.
async fn within<T, E>(of: &str, look: impl Future<Output = Result<T, E>>) -> Result<T, String>
where
    E: std::error::Error + 'static,
{
    match tokio::time::timeout(LOOK_MAX, look).await {
        Ok(found) => found.map_err(|error| with_causes(&error)),
        Err(_) => Err(format!("{of} has not answered within {} s", LOOK_MAX.as_secs())),
    }
}

impl System {
    /// Who is asked about the stream and about the rows.
    fn kinds(&self) -> (&'static str, &'static str) {
        if self.is_local() { ("the data folder", "the data folder") } else { ("Kinesis", "DynamoDB") }
    }
}

impl Operator for System {
    type Store = AnyStore;

    fn store(&self) -> &AnyStore {
        Self::store(self)
    }

    fn generation(&self) -> Generation {
        Self::generation(self)
    }

    fn view(&self) -> View {
        Self::view(self)
    }

    async fn replay(&self, name: &str, start: Option<&str>) -> Result<Value, NotDone> {
        let start = start.map(|text| starts::parse(text, now_ms())).transpose().map_err(NotDone::Refused)?;
        Self::replay(self, name, start).await
    }

    async fn generations(&self) -> Result<Value, NotDone> {
        Self::generations(self).await.map_err(NotDone::Failed)
    }

    async fn compare(&self, name: &str) -> Result<Value, NotDone> {
        self.compare_generations(name).await
    }

    async fn promote(&self, name: &str) -> Result<Value, NotDone> {
        Self::promote(self, name).await
    }

    async fn end(&self, name: &str, no_way_back: bool) -> Result<Value, NotDone> {
        self.end_generation(name, no_way_back).await
    }

    async fn shards(&self) -> Result<Value, NotDone> {
        self.shards_shown().await
    }

    async fn reshard(&self, change: Reshard) -> Result<Value, NotDone> {
        Self::reshard(self, change).await
    }

    fn now_ms(&self) -> i64 {
        now_ms()
    }

    async fn append(&self, put: Put) -> Result<Appended, AppendFailed> {
        Self::append(self, put).await
    }

    fn profile(&self) -> Profile {
        if self.is_local() { EMBEDDED_PROFILE } else { Profile::KINESIS }
    }

    fn instance(&self) -> &str {
        Self::instance(self)
    }

    fn producer(&self) -> Producer {
        Self::producer(self)
    }

    fn definitions_revision(&self) -> Option<SequenceNumber> {
        let revision = self.revision();
        (revision > SequenceNumber::ZERO).then_some(revision)
    }

    fn admit(&self, run: &str) -> Result<(), String> {
        self.ledger().admit(run).map_err(|full| full.to_string())
    }

    fn expect(&self, run: &str, appended: &Appended) {
        self.ledger().expect(run, &appended.shard, appended.sequence);
    }

    async fn settled(&self, run: &str, wait: Duration) -> Result<Balance, Unsettled> {
        let deadline = Instant::now() + wait;
        let settled = self.ledger().settled(run, wait).await.map_err(|unsettled| match unsettled {
            ledger::Unsettled::Unknown(_) => Unsettled::Unknown,
            ledger::Unsettled::Stopped(why) => Unsettled::Stopped(why),
            ledger::Unsettled::Late(balance) => Unsettled::Late(balance),
            ledger::Unsettled::Elsewhere(balance, records) => Unsettled::Elsewhere(balance, records),
        });
        if let (Err(Unsettled::Late(_)), Some(why)) = (&settled, self.workers.notes.stalled()) {
            return Err(Unsettled::Stopped(why));
        }
        // What the run found to be in already may have been appended by a run that was killed before it was folded.
        let left = deadline.saturating_duration_since(Instant::now());
        match (settled, self.caught_up(left).await) {
            (Err(Unsettled::Elsewhere(..)), Ok(false)) => Err(Unsettled::Late(Box::default())),
            (Ok(balance), Ok(false)) => match self.ledger().why_stopped() {
                Some(why) => Err(Unsettled::Stopped(why)),
                None => Err(Unsettled::Late(Box::new(balance))),
            },
            (Err(Unsettled::Unknown), Ok(false)) => match self.ledger().why_stopped() {
                Some(why) => Err(Unsettled::Stopped(why)),
                None => Err(Unsettled::Late(Box::default())),
            },
            (_, Err(error)) => Err(Unsettled::Stopped(error.to_string())),
            (settled, Ok(_)) => settled,
        }
    }

    fn applied_through(&self) -> Vec<(ShardId, SequenceNumber)> {
        self.ledger().applied_through()
    }

    async fn health(&self) -> Health {
        let check = |name: &str, answer: Result<String, String>| {
            let ok = answer.is_ok();
            Check { name: name.into(), ok, detail: answer.unwrap_or_else(|why| why) }
        };
        let span = Span::All { tenant: None, generation: self.generation(), kind: Kind::Service };
        let (shards, rows) = tokio::join!(
            within(self.kinds().0, self.shards()),
            within(self.kinds().1, self.store().scan(&span, None, std::num::NonZeroUsize::MIN)),
        );
        let (shards, rows) =
            (shards.map(|count| format!("{count} shards")), rows.map(|_| "rows can be read".to_owned()));
        let consumer = match self.why_stopped() {
            None => self.workers.said(),
            Some(why) => Err(format!("stopped: {why}. Mend the cause and start weir again: it goes on where it was")),
        };
        let mut checks = vec![
            check("stream", shards),
            check("store", rows),
            check("consumer", consumer),
            check("ticker", self.ticking()),
        ];
        checks.extend(self.archive.health().map(|archive| check("archive", archive)));
        checks.extend(self.verifying.said().map(|far| check(VERIFY, Ok(far))));
        Health { checks, behind_ms: Some(self.behind_ms().into_iter().max().unwrap_or(0)) }
    }

    async fn verify(&self) -> Result<Value, String> {
        let report = Self::verify(self, |_| {}).await.map_err(|error| with_causes(&error))?;
        let is_cut = report.older_than_stream > 0;
        let mut report = serde_json::to_value(&report).map_err(|error| with_causes(&error))?;
        if let (Some(report), Some((place, missing))) = (report.as_object_mut(), self.archive.found(is_cut)) {
            report.insert("archive".into(), serde_json::json!({"place": place, "missing": missing}));
        }
        Ok(report)
    }

    async fn apply(&self, tenant: &str, defined: Vec<Defined>) -> Result<Vec<SequenceNumber>, String> {
        self.apply_and_tick(tenant, defined).await.map(|(revisions, _)| revisions)
    }
}

impl System {
    /// Appends definitions, and ticks once they can be read; returns their revisions, and the tick that names them.
    pub(crate) async fn apply_and_tick(
        &self,
        tenant: &str,
        defined: Vec<Defined>,
    ) -> Result<(Vec<SequenceNumber>, Tick), String> {
        let run = format!("{tenant}/apply-{}", self.producer().counter);
        self.ledger().admit(&run).map_err(|full| full.to_string())?;
        let mut revisions = vec![];
        for definition in defined {
            let put = system_event_of(tenant, HashKey::of(CONTROL_KEY), Event::Defined(definition));
            let appended = Self::append(self, put).await.map_err(|error| with_causes(&error))?;
            self.ledger().expect(&run, &appended.shard, appended.sequence);
            revisions.push(appended.sequence);
        }
        let balance = match self.ledger().settled(&run, APPLY_WAIT).await {
            // Whoever folded it knows whether there was room.
            Err(ledger::Unsettled::Elsewhere(balance, _)) => *balance,
            settled => settled.map_err(|error| with_causes(&error))?,
        };
        if balance.skipped_total() > 0 {
            // Somebody else applied alarms at the same time.
            return Err("the tenant has no room for more alarms".into());
        }
        // They come into force at the tick that names them: now, rather than at the next minute.
        let tick = self.tick().await.map_err(|error| with_causes(&error))?;
        Ok((revisions, tick))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_look_that_finds_nothing_is_given_up_and_names_who_did_not_answer() {
        let silent = std::future::pending::<Result<(), std::io::Error>>();
        assert_eq!(within("DynamoDB", silent).await.unwrap_err(), "DynamoDB has not answered within 3 s");
        let refused = async { Err::<(), _>(std::io::Error::other("refused")) };
        assert_eq!(within("Kinesis", refused).await.unwrap_err(), "refused");
        assert_eq!(within("Kinesis", async { Ok::<_, std::io::Error>(2) }).await, Ok(2));
    }
}
