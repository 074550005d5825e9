//! Exactly once, shown: folds the stream again beside the rows and compares both, shard by shard. Its sink holds nothing that could append.
//!
//! The replay is the live fold with the live code. A recorded `RolledUp` is only a barrier in it: its value is the one that this replay
//! computed, and a shard waits until the replay of the source has come that far.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use events::{
    event::{Event, RolledUp},
    identity::CONTROL_KEY,
    position::{HashKey, SequenceNumber, ShardId},
    stream::{ReadOnly, Stream},
};
use projections::{
    fold::rows::Body,
    fold::{
        Effect, Input, Place,
        sabotage::{self, Sabotage},
        taken::Taken,
    },
    store::{Generation, Kind, ReadError, Row, RowKey, Span, Store},
};
use serde::Serialize;

use crate::{
    consume::{ConsumeError, Sink, Worker},
    drive::SCAN_ROWS,
};

/// The replay could not be finished.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The replay's worker.
    #[error("the stream could not be folded again: {0}")]
    Replay(#[from] ConsumeError),
    /// Rows could not be read.
    #[error("rows could not be read: {0}")]
    Read(#[from] ReadError),
    /// The stream could not be read.
    #[error("the stream could not be read: {0}")]
    Stream(#[from] events::stream::ReadError),
    /// Every shard waits for another: a rolled-up record names a position that its source never reached.
    #[error("the replay stands still at {0:?}: each shard waits for what another has to say")]
    Stuck(Vec<ShardId>),
}

/// A row that is not what the stream says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Tenant of the row.
    pub tenant: String,
    /// Its kind.
    pub kind: String,
    /// Its subject.
    pub subject: String,
    /// Its place in time.
    pub at: i64,
    /// Its shard.
    pub shard: String,
    /// What differs.
    pub what: String,
}

/// What was compared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Records folded again.
    pub records: u64,
    /// Rows compared.
    pub rows: u64,
    /// Rows that differ.
    pub differences: u64,
    /// The first of them in key order.
    pub first_difference: Option<Difference>,
    /// Rows that hold records older than the stream's oldest: they cannot be recomputed, and were not compared.
    pub older_than_stream: u64,
    /// The first record of each shard that the stream still has.
    pub from: BTreeMap<String, String>,
}

/// What the replays of all shards have said so far, by who spoke, at which tick, and to whom: a shard tells each home something else.
type Said = Arc<Mutex<HashMap<(ShardId, SequenceNumber, HashKey), RolledUp>>>;

/// See the module: it can tell and hear, and do nothing else.
struct Barrier {
    said: Said,
    /// The key under which the others address this shard.
    home: HashKey,
    /// How far the replay of the control shard has come: a record that names a later definition waits.
    defined: Arc<Mutex<SequenceNumber>>,
    control: ShardId,
    /// Records from before are gone from the stream: what they said is taken as recorded.
    oldest: HashMap<ShardId, SequenceNumber>,
}

impl Sink for Barrier {
    async fn carry_out(&mut self, _: &ShardId, effects: Vec<Effect>) -> Result<(), String> {
        let mut said = self.said.lock().map_err(|_| "another shard's replay panicked".to_owned())?;
        for Effect::Append { hash_key, event } in effects {
            if let Event::RolledUp(rolled_up) = event {
                said.insert((rolled_up.source.clone(), rolled_up.source_position, hash_key), rolled_up);
            }
        }
        Ok(())
    }

    fn admit(&mut self, input: Input) -> Option<Input> {
        let (Ok(said), Ok(defined)) = (self.said.lock(), self.defined.lock()) else { return None };
        let oldest_definition = self.oldest.get(&self.control).copied().unwrap_or_default();
        if input.definitions().is_some_and(|revision| revision > *defined && revision >= oldest_definition) {
            return None;
        }
        input.map_rolled_up(|recorded| {
            let oldest = self.oldest.get(&recorded.source).copied().unwrap_or_default();
            let believes = sabotage::breaks(Sabotage::ReplayBelievesRecorded);
            if recorded.source_position < oldest || believes {
                return Some(recorded.clone());
            }
            said.get(&(recorded.source.clone(), recorded.source_position, self.home)).cloned()
        })
    }
}

/// Folds every shard up to where its rows stand into `scratch`, an empty store, and compares. `progress` hears how many records are done.
///
/// Rows move on meanwhile. So the long replay runs beside them; then `pause` keeps every worker from committing for as long as its answer lives,
/// the replay catches up with the last commits, and the rows are compared standing still.
pub async fn verify<S: Stream, T: Store, R: Store, G>(
    stream: ReadOnly<S>,
    store: &T,
    scratch: Arc<R>,
    places: Vec<Place>,
    pause: impl Future<Output = G>,
    progress: impl Fn(u64),
) -> Result<Report, VerifyError> {
    let mut report = Report::default();
    let mut oldest = HashMap::new();
    let shards: Vec<ShardId> = places.iter().map(|place| place.shard.clone()).collect();
    for place in &places {
        let first = stream.oldest(&place.shard).await?;
        report.from.insert(place.shard.to_string(), first.map_or("nothing".into(), |first| first.to_string()));
        oldest.insert(place.shard.clone(), first.unwrap_or_default());
    }
    let generation = places.first().map_or(Generation::default(), |place| place.generation);
    let (said, defined) = (Said::default(), Arc::default());
    let control = places.first().map_or(ShardId::numbered(0), |place| place.owner(HashKey::of(CONTROL_KEY)).clone());
    let mut workers = vec![];
    for place in places {
        let (said, defined, control) = (said.clone(), Arc::clone(&defined), control.clone());
        let own = place.ring.iter().find(|(shard, _)| *shard == place.shard);
        let home = own.map_or(HashKey(0), |(_, range)| range.from);
        let sink = Barrier { said, home, defined, control, oldest: oldest.clone() };
        workers.push((place.shard.clone(), Worker::open(stream.clone(), scratch.clone(), sink, place).await?));
    }
    given(store, &*scratch, generation, &oldest).await?;
    let until = resume_points(store, generation, &shards).await?;
    replay(&mut workers, &until, &control, &defined, &mut report, &progress).await?;
    let _paused = pause.await;
    let until = resume_points(store, generation, &shards).await?;
    replay(&mut workers, &until, &control, &defined, &mut report, &progress).await?;
    compare(store, &*scratch, generation, &oldest, &mut report).await?;
    Ok(report)
}

/// Where the rows of each shard stand.
async fn resume_points<T: Store>(
    store: &T,
    generation: Generation,
    shards: &[ShardId],
) -> Result<HashMap<ShardId, SequenceNumber>, ReadError> {
    let mut points = HashMap::new();
    for shard in shards {
        let checkpoint = store.checkpoint(generation, shard).await?;
        points.insert(shard.clone(), checkpoint.map_or(SequenceNumber::ZERO, |(checkpoint, _)| checkpoint.position));
    }
    Ok(points)
}

async fn replay<S: Stream, R: Store>(
    workers: &mut [(ShardId, Worker<S, R, Barrier>)],
    until: &HashMap<ShardId, SequenceNumber>,
    control: &ShardId,
    defined: &Mutex<SequenceNumber>,
    report: &mut Report,
    progress: &impl Fn(u64),
) -> Result<(), VerifyError> {
    loop {
        let (mut moved, mut waiting) = (false, vec![]);
        for (shard, worker) in workers.iter_mut() {
            let until = until[shard];
            if worker.shard().position() >= until {
                continue;
            }
            let step = worker.step_until(Duration::ZERO, until).await?;
            moved |= !step.folded.is_empty();
            report.records += step.folded.len() as u64;
            progress(report.records);
            let committed = worker.commit().await?;
            if shard == control
                && let Ok(mut defined) = defined.lock()
            {
                *defined = committed;
            }
            if worker.shard().position() < until {
                waiting.push(shard.clone());
            }
        }
        if waiting.is_empty() {
            return Ok(());
        }
        if !moved {
            return Err(VerifyError::Stuck(waiting));
        }
    }
}

/// Calls `each` with every row of a kind, in key order.
async fn each_row<T: Store>(
    store: &T,
    generation: Generation,
    kind: Kind,
    mut each: impl FnMut(Row),
) -> Result<(), ReadError> {
    let span = Span::All { tenant: None, generation, kind };
    let mut after: Option<RowKey> = None;
    loop {
        let page = store.scan(&span, after.as_ref(), SCAN_ROWS).await?;
        page.rows.into_iter().for_each(&mut each);
        match page.next_after {
            Some(key) => after = Some(key),
            None => return Ok(()),
        }
    }
}

/// What the stream no longer has is given: marks and definitions of records that were trimmed.
async fn given<T: Store, R: Store>(
    store: &T,
    scratch: &R,
    generation: Generation,
    oldest: &HashMap<ShardId, SequenceNumber>,
) -> Result<(), VerifyError> {
    let mut rows = vec![];
    for kind in [Kind::Taken, Kind::Producer, Kind::Definition] {
        each_row(store, generation, kind, |row| {
            let first = oldest.get(&row.key.shard).copied().unwrap_or_default();
            if let Some(row) = before(row, first) {
                rows.push(row);
            }
        })
        .await?;
    }
    for chunk in rows.chunks(SCAN_ROWS.get()) {
        scratch
            .write(chunk.to_vec())
            .await
            .map_err(|source| ConsumeError::Write { shard: ShardId::numbered(0), source })?;
    }
    Ok(())
}

/// The part of a row that records before `first` made, where its kind can tell; `None`: there is none.
fn before(mut row: Row, first: SequenceNumber) -> Option<Row> {
    if row.applied_from >= first {
        return None;
    }
    if row.key.subject.kind == Kind::Taken {
        let mut taken = Taken::decode(&row.body).ok()?;
        taken.ranges.retain(|range| range.position < first);
        row.applied_through = taken.ranges.iter().map(|range| range.position).max()?;
        row.body = taken.encode().into();
        return Some(row);
    }
    (row.applied_through < first).then_some(row)
}

/// Walks both stores in key order, side by side.
async fn compare<T: Store, R: Store>(
    store: &T,
    scratch: &R,
    generation: Generation,
    oldest: &HashMap<ShardId, SequenceNumber>,
    report: &mut Report,
) -> Result<(), VerifyError> {
    for kind in Kind::ALL {
        let span = Span::All { tenant: None, generation, kind };
        let (mut ours, mut theirs) = (Walk::new(store, &span), Walk::new(scratch, &span));
        let (mut stored, mut replayed) = (ours.next().await?, theirs.next().await?);
        while stored.is_some() || replayed.is_some() {
            let key = stored.iter().chain(&replayed).map(|row| row.key.clone()).min().expect("one of them is there");
            let left = if stored.as_ref().is_some_and(|row| row.key == key) { stored.take() } else { None };
            let right = if replayed.as_ref().is_some_and(|row| row.key == key) { replayed.take() } else { None };
            let first = oldest.get(&key.shard).copied().unwrap_or_default();
            if left.as_ref().is_some_and(|row| row.applied_from < first) {
                report.older_than_stream += 1;
            } else {
                report.rows += 1;
                if let Some(what) = difference(left.as_ref(), right.as_ref()) {
                    report.differences += 1;
                    report.first_difference.get_or_insert_with(|| name(&key, what));
                }
            }
            if left.is_some() {
                stored = ours.next().await?;
            }
            if right.is_some() {
                replayed = theirs.next().await?;
            }
        }
    }
    Ok(())
}

fn name(key: &RowKey, what: String) -> Difference {
    Difference {
        tenant: key.subject.tenant.clone(),
        kind: format!("{:?}", key.subject.kind),
        subject: key.subject.name.clone(),
        at: key.at,
        shard: key.shard.to_string(),
        what,
    }
}

fn difference(stored: Option<&Row>, replayed: Option<&Row>) -> Option<String> {
    let (stored, replayed) = match (stored, replayed) {
        (Some(stored), Some(replayed)) => (stored, replayed),
        (Some(_), None) => return Some("the stream says nothing of this row".into()),
        (None, _) => return Some("the stream says that there is such a row, and there is none".into()),
    };
    if canonical(stored) != canonical(replayed) {
        return Some("it holds something else than the stream says".into());
    }
    (stored.applied_through != replayed.applied_through).then(|| {
        format!("it is through {:?} where the stream says {:?}", stored.applied_through, replayed.applied_through)
    })
}

/// The body without what depends on when rows were written: which marks were joined, and which old counters were forgotten.
fn canonical(row: &Row) -> Vec<u8> {
    match row.key.subject.kind {
        Kind::Taken => match Taken::decode(&row.body) {
            Ok(mut taken) => {
                for range in &mut taken.ranges {
                    range.position = SequenceNumber::ZERO;
                }
                taken.join(SequenceNumber::MAX);
                taken.ranges.iter_mut().for_each(|range| range.joined = true);
                taken.encode()
            }
            Err(_) => row.body.to_vec(),
        },
        Kind::Producer => vec![],
        _ => row.body.to_vec(),
    }
}

/// Rows one by one.
struct Walk<'a, T> {
    store: &'a T,
    span: &'a Span,
    page: std::vec::IntoIter<Row>,
    after: Option<RowKey>,
    ended: bool,
}

impl<'a, T: Store> Walk<'a, T> {
    fn new(store: &'a T, span: &'a Span) -> Self {
        Self { store, span, page: vec![].into_iter(), after: None, ended: false }
    }

    async fn next(&mut self) -> Result<Option<Row>, ReadError> {
        loop {
            if let Some(row) = self.page.next() {
                return Ok(Some(row));
            }
            if self.ended {
                return Ok(None);
            }
            let page = self.store.scan(self.span, self.after.as_ref(), SCAN_ROWS).await?;
            self.ended = page.next_after.is_none();
            self.after = page.next_after;
            self.page = page.rows.into_iter();
        }
    }
}
