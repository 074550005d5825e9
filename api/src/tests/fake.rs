//! A process in one place: append folds and commits at once.

use std::{
    collections::HashMap,
    num::NonZeroU16,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use events::{
    event::{Defined, Event},
    identity::{CONTROL_KEY, Producer},
    position::{HashKey, HashRange, SequenceNumber, ShardId},
    stream::{Appended, Put, Record},
    wire::{self, Content, Header},
};
use projections::{
    definitions::Definition,
    fold::{Input, Place, Shard, balance::Balance},
    store::{
        Generation, Kind, Span, Store,
        law::{
            block_on,
            memory::{Commits, Memory},
        },
    },
};
use serde_json::{Value, json};

use crate::operator::{AppendFailed, Check, Health, NotDone, Operator, Reshard, Unsettled};

pub(super) const HOUR: i64 = 1_767_322_800;
pub(super) const NOW_MS: i64 = (HOUR + 1_800) * 1000;

pub(super) struct Fake {
    store: Memory,
    inner: Mutex<Inner>,
    /// How the next appends end: each is taken from the back.
    pub(super) failures: Mutex<Vec<AppendFailed>>,
    pub(super) checks: Mutex<Vec<Check>>,
    /// Why nothing is folded any more.
    pub(super) stopped: Mutex<Option<String>>,
    /// Why there is no room for a run's next record.
    pub(super) full: Mutex<Option<String>>,
    /// Appends wait for this.
    pub(super) gate: tokio::sync::RwLock<()>,
    /// Appends that began.
    pub(super) begun: std::sync::atomic::AtomicU32,
}

#[derive(Default)]
struct Inner {
    shards: Vec<(HashRange, ShardId, Shard)>,
    puts: Vec<Put>,
    balances: HashMap<(ShardId, SequenceNumber), Balance>,
    runs: HashMap<String, Balance>,
}

impl Fake {
    pub(super) fn new(shards: u16) -> Self {
        let ranges = HashRange::even(NonZeroU16::new(shards).unwrap());
        let ring: Vec<_> = (0..).map(ShardId::numbered).zip(ranges).collect();
        let shards = ring.iter().map(|(id, range)| {
            let place = Place { generation: Generation(0), shard: id.clone(), ring: ring.clone() };
            (*range, id.clone(), Shard::new(place))
        });
        let inner = Inner { shards: shards.collect(), ..Inner::default() };
        Self {
            store: Memory::new(Commits::Whole),
            inner: Mutex::new(inner),
            failures: Mutex::default(),
            checks: Mutex::new(vec![Check { name: "stream".into(), ok: true, detail: "on disk".into() }]),
            stopped: Mutex::default(),
            full: Mutex::default(),
            gate: tokio::sync::RwLock::default(),
            begun: Default::default(),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// Everything that was appended, in order.
    pub(super) fn puts(&self) -> Vec<Put> {
        self.inner().puts.clone()
    }

    pub(super) fn digest(&self) -> String {
        block_on(projections::query::digest(&self.store, Generation(0))).unwrap()
    }

    pub(super) fn balance(&self, tenant: &str) -> Balance {
        block_on(projections::query::balance(&self.store, tenant, &Generation(0).into())).unwrap()
    }

    fn take(&self, put: Put) -> Result<Appended, AppendFailed> {
        put.check()?;
        let mut inner = self.inner();
        inner.puts.push(put.clone());
        let sequence = SequenceNumber::from_parts(1, inner.puts.len() as u64);
        let key = put.hash_key.unwrap_or_else(|| HashKey::of(&put.partition_key));
        let record = Record { sequence, arrived_at_ms: NOW_MS, partition_key: put.partition_key, data: put.data };
        let (_, id, shard) = inner.shards.iter_mut().find(|(range, ..)| range.contains(key)).unwrap();
        let id = id.clone();
        let input = Input::of(&record);
        if let Some(revision) = shard.wants_definitions(&input) {
            shard.define(&input, revision, &self.definitions());
        }
        let marks = block_on(self.store.read(&shard.wants(&input))).unwrap();
        let folded = shard.fold(&input, marks).unwrap();
        let stored = block_on(self.store.read(&shard.unmet())).unwrap();
        shard.meet(stored).unwrap();
        block_on(self.store.commit(shard.commit())).unwrap();
        shard.committed();
        inner.balances.insert((id.clone(), sequence), folded.balance);
        Ok(Appended { shard: id, sequence })
    }

    fn definitions(&self) -> Vec<Definition> {
        let span = Span::All { tenant: None, generation: Generation(0), kind: Kind::Definition };
        let rows = block_on(self.store.scan(&span, None, std::num::NonZeroUsize::new(10_000).unwrap())).unwrap().rows;
        rows.iter().map(|row| Definition::decode(&row.body).unwrap()).collect()
    }
}

pub(super) fn header(tenant: &str, content: Content, raw_len: usize) -> Header {
    Header::plain(tenant, content, raw_len as u32, NOW_MS)
}

impl Operator for Fake {
    type Store = Memory;

    fn store(&self) -> &Memory {
        &self.store
    }

    fn generation(&self) -> Generation {
        Generation(0)
    }

    async fn replay(&self, name: &str, start: Option<&str>) -> Result<serde_json::Value, NotDone> {
        match start {
            Some("broken") => Err(NotDone::Failed("the disk".into())),
            start => Ok(serde_json::json!({"name": name, "start": start})),
        }
    }

    async fn generations(&self) -> Result<serde_json::Value, NotDone> {
        Ok(serde_json::json!({"generations": []}))
    }

    async fn compare(&self, name: &str) -> Result<serde_json::Value, NotDone> {
        Err(NotDone::Refused(format!("no {name}")))
    }

    async fn promote(&self, name: &str) -> Result<serde_json::Value, NotDone> {
        Err(NotDone::Refused(format!("no {name}")))
    }

    async fn end(&self, name: &str, no_way_back: bool) -> Result<serde_json::Value, NotDone> {
        match no_way_back {
            true => Ok(serde_json::json!({"name": name, "noWayBack": true})),
            false => Err(NotDone::Refused(format!("{name} can be gone back to"))),
        }
    }

    async fn shards(&self) -> Result<serde_json::Value, NotDone> {
        Ok(serde_json::json!({"shards": []}))
    }

    async fn reshard(&self, change: Reshard) -> Result<serde_json::Value, NotDone> {
        match change {
            Reshard::Split(shard) => Ok(serde_json::json!({"shards": [shard.to_string()]})),
            Reshard::Merge([one, other]) => Err(NotDone::Refused(format!("{one} and {other} are no neighbours"))),
        }
    }

    fn now_ms(&self) -> i64 {
        NOW_MS
    }

    async fn append(&self, put: Put) -> Result<Appended, AppendFailed> {
        self.begun.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let _open = self.gate.read().await;
        let failure = self.failures.lock().unwrap().pop();
        failure.map_or_else(|| self.take(put), Err)
    }

    fn producer(&self) -> Producer {
        Producer { id: "api".into(), epoch: 1, counter: 0 }
    }

    fn definitions_revision(&self) -> Option<SequenceNumber> {
        self.definitions().iter().map(|definition| definition.revision).max()
    }

    fn admit(&self, _run: &str) -> Result<(), String> {
        self.full.lock().unwrap().clone().map_or(Ok(()), Err)
    }

    fn expect(&self, run: &str, appended: &Appended) {
        let mut inner = self.inner();
        let balance = inner.balances[&(appended.shard.clone(), appended.sequence)].clone();
        inner.runs.entry(run.to_owned()).or_default().add(&balance);
    }

    async fn settled(&self, run: &str, wait: Duration) -> Result<Balance, Unsettled> {
        if let Some(why) = self.stopped.lock().unwrap().clone() {
            return Err(Unsettled::Stopped(why));
        }
        let balance = self.inner().runs.get(run).cloned().ok_or(Unsettled::Unknown)?;
        if wait.is_zero() { Err(Unsettled::Late(Box::new(balance))) } else { Ok(balance) }
    }

    fn applied_through(&self) -> Vec<(ShardId, SequenceNumber)> {
        self.inner().shards.iter().map(|(_, id, shard)| (id.clone(), shard.position())).collect()
    }

    async fn health(&self) -> Health {
        Health { checks: self.checks.lock().unwrap().clone(), behind_ms: Some(7) }
    }

    async fn verify(&self) -> Result<Value, String> {
        let _open = self.gate.read().await;
        Ok(json!({"digest": self.digest()}))
    }

    async fn apply(&self, tenant: &str, defined: Vec<Defined>) -> Result<Vec<SequenceNumber>, String> {
        if let Some(why) = self.stopped.lock().unwrap().clone() {
            return Err(why);
        }
        let each = defined.into_iter().map(|defined| {
            let data = wire::encode_events(header(tenant, Content::Events, 0), &[Event::Defined(defined)]);
            let put = Put { partition_key: CONTROL_KEY.into(), hash_key: None, data };
            self.take(put).map(|appended| appended.sequence).map_err(|error| error.to_string())
        });
        each.collect()
    }
}
