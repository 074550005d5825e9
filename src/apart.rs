//! What the API asks of a process that folds nothing, as a function behind API Gateway: the same pair, folded by others. Decides what can be answered
//! honestly without a fold at hand, and says of the rest where it is to be had.
//!
//! | asked for | answer |
//! | --- | --- |
//! | metrics, alarms, balance | the rows as they are, of the generation that counts or did ten seconds ago; how far they are is not known here without asking for each shard |
//! | lines, values | 202 once they are durable on the stream |
//! | a run | known in the process that took it, which may be one of several: settled once the resume points have passed all of it; what became of its lines, only who folded it knows |
//! | definitions | 200 as soon as they are folded, if that is soon enough for who waits; else 202: they are in, and come into force at the tick after that |
//! | health | the stream and the rows; the fold has alarms of its own |
//! | verify | refused: it takes as long as the stream is |
//! | shards | as the stream lists them; to split or merge them is AWS's |
//! | generations | as they stand; to open, compare, promote or end one is refused, as nothing here folds them |

use std::{
    collections::{HashMap, VecDeque},
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use api::operator::{AppendFailed, Check, Health, NotDone, Operator, Reshard, Unsettled};
use events::{
    event::{Defined, Event},
    identity::{CONTROL_KEY, Producer},
    pack::Profile,
    position::{HashKey, SequenceNumber, ShardId},
    stream::{Appended, Put},
};
use processor::append::system_event_of;
use projections::{
    fold::balance::Balance,
    generations::View,
    store::{Generation, Kind, Span, Store, Subject},
};
use serde_json::Value;
use tokio::time::Instant;

use crate::{AnyStore, System, now_ms, with_causes};

/// Runs that are remembered; with one more, that which began first is forgotten, and is unknown from then on.
const RUNS_MAX: usize = 1_024;
/// How often who waits for others looks how far they are.
const LOOK: Duration = Duration::from_secs(1);
/// For so long readers may see a generation that does not count any longer.
const VIEW_MS_MAX: i64 = 10_000;

/// What a run has appended: so many records, and the last position on each shard.
#[derive(Debug, Default, Clone)]
struct Run {
    records: usize,
    last: HashMap<ShardId, SequenceNumber>,
}

#[derive(Debug, Default)]
struct Runs {
    all: HashMap<String, Run>,
    /// As they began.
    order: VecDeque<String>,
}

/// See the module.
pub struct Apart {
    system: Arc<System>,
    /// How long definitions are waited for.
    apply_wait: Duration,
    runs: Mutex<Runs>,
    /// Definitions up to here were read back. One control key has an order: whatever stands before it is folded too.
    applied: Mutex<SequenceNumber>,
    /// When it was looked which generation counts, by the host's clock: others stand still while the process is frozen.
    looked_ms: AtomicI64,
}

impl Apart {
    /// Over a system that was opened to read. `apply_wait`: how long who applies definitions can wait for the answer.
    pub fn new(system: Arc<System>, apply_wait: Duration) -> Self {
        Self {
            system,
            apply_wait,
            runs: Mutex::default(),
            applied: Mutex::default(),
            looked_ms: AtomicI64::new(now_ms()),
        }
    }

    /// Before each request: looks which generation counts, unless that was just done. What cannot be read then, the request itself will meet.
    pub async fn look(&self) {
        let now_ms = now_ms();
        let looked_ms = self.looked_ms.load(Ordering::Relaxed);
        if !(looked_ms..looked_ms + VIEW_MS_MAX).contains(&now_ms) && self.system.generations.look().await.is_ok() {
            self.looked_ms.store(now_ms, Ordering::Relaxed);
        }
    }

    fn runs(&self) -> MutexGuard<'_, Runs> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until resume points have passed these positions. False: not in the given time.
    async fn passed(&self, last: &HashMap<ShardId, SequenceNumber>, wait: Duration) -> Result<bool, String> {
        let deadline = Instant::now() + wait;
        let mut open: Vec<_> = last.iter().collect();
        loop {
            while let Some((shard, last)) = open.last() {
                let point = self.system.store().resume_point(self.generation(), shard).await;
                let point = point.map_err(|error| with_causes(&error))?;
                if point.is_none_or(|point| point.position < **last) {
                    break;
                }
                open.pop();
            }
            if open.is_empty() {
                return Ok(true);
            }
            if Instant::now() + LOOK > deadline {
                return Ok(false);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Whether a definition that was folded has its row: without one, there was no room for it.
    async fn is_kept(&self, tenant: &str, revision: SequenceNumber) -> Result<bool, String> {
        let name = projections::definitions::row_name(revision);
        let subject =
            Subject { tenant: tenant.to_owned(), generation: self.generation(), kind: Kind::Definition, name };
        let span = Span::Of { subject, from: i64::MIN, to: i64::MAX };
        let found = self.system.store().scan(&span, None, NonZeroUsize::MIN).await;
        found.map(|page| !page.rows.is_empty()).map_err(|error| with_causes(&error))
    }
}

/// What takes a process that folds.
fn not_here(command: &str) -> NotDone {
    NotDone::Refused(format!(
        "it takes a process that folds generations, and this one folds nothing: run `weir {command}` with the same --stream and --store"
    ))
}

impl Operator for Apart {
    type Store = AnyStore;

    fn store(&self) -> &AnyStore {
        self.system.store()
    }

    fn generation(&self) -> Generation {
        self.system.generation()
    }

    fn view(&self) -> View {
        self.system.view()
    }

    async fn replay(&self, _: &str, _: Option<&str>) -> Result<Value, NotDone> {
        Err(not_here("replay"))
    }

    async fn generations(&self) -> Result<Value, NotDone> {
        self.system.generations().await.map_err(NotDone::Failed)
    }

    async fn compare(&self, _: &str) -> Result<Value, NotDone> {
        Err(not_here("generations"))
    }

    async fn promote(&self, _: &str) -> Result<Value, NotDone> {
        Err(not_here("promote"))
    }

    async fn end(&self, _: &str, _: bool) -> Result<Value, NotDone> {
        // The record of generations is another's to write: so the function needs no permission to.
        Err(not_here("generations --end"))
    }

    async fn shards(&self) -> Result<Value, NotDone> {
        self.system.shards_shown().await
    }

    async fn reshard(&self, change: Reshard) -> Result<Value, NotDone> {
        self.system.reshard(change).await
    }

    fn now_ms(&self) -> i64 {
        now_ms()
    }

    async fn append(&self, put: Put) -> Result<Appended, AppendFailed> {
        self.system.append(put).await
    }

    fn profile(&self) -> Profile {
        Operator::profile(&*self.system)
    }

    fn instance(&self) -> &str {
        self.system.instance()
    }

    fn producer(&self) -> Producer {
        self.system.producer()
    }

    /// Ticks name the newest each minute.
    fn definitions_revision(&self) -> Option<SequenceNumber> {
        None
    }

    fn expect(&self, run: &str, appended: &Appended) {
        let mut runs = self.runs();
        if !runs.all.contains_key(run) {
            runs.order.push_back(run.to_owned());
            if runs.order.len() > RUNS_MAX
                && let Some(first) = runs.order.pop_front()
            {
                runs.all.remove(&first);
            }
        }
        let run = runs.all.entry(run.to_owned()).or_default();
        run.records += 1;
        let last = run.last.entry(appended.shard.clone()).or_default();
        *last = appended.sequence.max(*last);
    }

    async fn settled(&self, run: &str, wait: Duration) -> Result<Balance, Unsettled> {
        let known = self.runs().all.get(run).cloned();
        let Some(run) = known else { return Err(Unsettled::Unknown) };
        match self.passed(&run.last, wait).await {
            Ok(true) => Err(Unsettled::Elsewhere(Box::default(), run.records)),
            Ok(false) => Err(Unsettled::Late(Box::default())),
            Err(why) => Err(Unsettled::Stopped(why)),
        }
    }

    fn applied_through(&self) -> Vec<(ShardId, SequenceNumber)> {
        vec![]
    }

    async fn health(&self) -> Health {
        let check = |name: &str, answer: Result<String, String>| {
            let ok = answer.is_ok();
            Check { name: name.into(), ok, detail: answer.unwrap_or_else(|why| why) }
        };
        let shards = self.system.shards().await;
        let shards = shards.map(|count| format!("{count} shards")).map_err(|error| with_causes(&error));
        let span = Span::All { tenant: None, generation: self.generation(), kind: Kind::Service };
        let rows = self.store().scan(&span, None, NonZeroUsize::MIN).await;
        let rows = rows.map(|_| "rows can be read".to_owned()).map_err(|error| with_causes(&error));
        let elsewhere = "this process neither folds nor ticks: how far behind those are that do, their own metrics say (IteratorAge, Errors)";
        let checks = vec![check("stream", shards), check("store", rows), check("consumer", Ok(elsewhere.to_owned()))];
        Health { checks, behind_ms: None }
    }

    async fn verify(&self) -> Result<Value, String> {
        Err("it folds the whole stream, which takes longer than this process may work on one request: run `weir verify` with the same --stream and \
             --store"
            .to_owned())
    }

    async fn apply(&self, tenant: &str, defined: Vec<Defined>) -> Result<Vec<SequenceNumber>, String> {
        let (mut revisions, mut last) = (vec![], HashMap::new());
        for definition in defined {
            let put = system_event_of(tenant, HashKey::of(CONTROL_KEY), Event::Defined(definition));
            let appended = self.append(put).await.map_err(|error| with_causes(&error))?;
            revisions.push(appended.sequence);
            let last: &mut SequenceNumber = last.entry(appended.shard).or_default();
            *last = appended.sequence.max(*last);
        }
        // Whoever cannot wait so long is told that they are in, and not that it failed.
        if !self.passed(&last, self.apply_wait).await? {
            return Ok(revisions);
        }
        for revision in &revisions {
            if !self.is_kept(tenant, *revision).await? {
                // Somebody else applied alarms at the same time.
                return Err("the tenant has no room for more alarms".into());
            }
        }
        self.system.tick().await.map_err(|error| with_causes(&error))?;
        let mut applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        *applied = revisions.iter().copied().max().unwrap_or_default().max(*applied);
        Ok(revisions)
    }

    fn is_in_force(&self, revisions: &[SequenceNumber]) -> bool {
        let applied = *self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        revisions.iter().all(|revision| *revision <= applied)
    }
}
