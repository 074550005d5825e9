//! The same records once more, in order, by one worker a shard that nothing happens to and that keeps every law: what the rows, and what shards
//! say to each other, have to be.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use events::{
    event::{Event, RolledUp, RolledWindow},
    identity::CONTROL_KEY,
    position::{HashKey, SequenceNumber, ShardId},
    stream::{ReadOnly, Record},
    wire,
};
use processor::consume::{ConsumeError, Worker};
use processor::effects::Sink;
use projections::{
    fold::{Effect, Input, Place, alarms::point},
    series::Series,
    store::{Kind, Row},
};

use crate::{alarms::Part, fuse::Fuse, model::Meaning, store::SimStore, stream::SimStream};

const SYSTEM_KEY: &str = "weir/system";

/// By source, its position, the home's point and the part.
type Said = BTreeMap<(ShardId, SequenceNumber, HashKey, u32), RolledUp>;

/// What was said, and how far definitions can be read: nobody names one before that.
struct Listener(Arc<Mutex<Said>>, Arc<Mutex<SequenceNumber>>);

impl Sink for Listener {
    async fn carry_out(&mut self, _: &ShardId, effects: Vec<Effect>) -> Result<(), String> {
        for Effect::Append { hash_key, event } in effects {
            if let Event::RolledUp(told) = event {
                self.0.lock().unwrap().insert((told.source.clone(), told.source_position, hash_key, told.part), told);
            }
        }
        Ok(())
    }

    fn admit(&mut self, input: Input) -> Option<Input> {
        let is_readable = input.definitions().is_none_or(|revision| revision <= *self.1.lock().unwrap());
        is_readable.then_some(input)
    }
}

fn event(record: &Record) -> Option<Event> {
    // What the system says, and definitions, have a key that nothing else has: most records need not be decoded here.
    if record.partition_key != SYSTEM_KEY {
        return None;
    }
    let batch = wire::decode(&record.data).ok().filter(|batch| batch.header.content == wire::Content::Events)?;
    wire::decode_events(&batch.body).ok()?.into_iter().next()
}

/// What a record of the system means to the model.
pub fn meaning(record: &Record) -> Meaning {
    match event(record) {
        Some(Event::Ticked(tick)) => Meaning::Ticked(tick),
        Some(Event::RolledUp(told)) => {
            let source = told.source.clone();
            let window = |window: RolledWindow| {
                let series = Series::decode(&mut &window.series[..]).expect("a fold spelled it");
                let of = window.of.unwrap_or_else(|| source.clone());
                (of, (window.tenant, window.service, series.metric), window.start_secs)
            };
            Meaning::Spoken(Part {
                source: told.source,
                at: told.source_position,
                home: point(told.home),
                part: told.part,
                parts_after: told.parts_after,
                windows: told.windows.into_iter().map(window).collect(),
            })
        }
        Some(Event::Defined(defined)) if defined.kind == "alarm" => {
            let tenant = wire::decode(&record.data).expect("it was decoded before").header.tenant;
            Meaning::Defined(tenant, defined.name, defined.body)
        }
        _ => Meaning::System,
    }
}

/// True if it defines something.
pub fn is_definition(record: &Record) -> bool {
    matches!(event(record), Some(Event::Defined(_)))
}

fn rolled_up(record: &Record) -> Option<RolledUp> {
    if let Some(Event::RolledUp(told)) = event(record) { Some(told) } else { None }
}

/// Folds each shard up to and including `until`, and compares. Laws are kept on this thread meanwhile.
pub fn compare(
    runtime: &tokio::runtime::Runtime,
    fuse: &Arc<Fuse>,
    stream: &Arc<SimStream>,
    store: &SimStore,
    places: &[Place],
    until: &[SequenceNumber],
) -> Result<(), String> {
    let said = Arc::new(Mutex::new(Said::new()));
    let scratch = Arc::new(SimStore::new(true, None, 0, fuse.clone()));
    let work = async {
        let listed = stream.listed();
        let defined = Arc::new(Mutex::new(SequenceNumber::ZERO));
        let mut workers: Vec<Option<Worker<_, _, _>>> = places.iter().map(|_| None).collect();
        loop {
            let (mut moved, mut is_over) = (false, true);
            for (shard, place) in places.iter().enumerate() {
                if workers[shard].is_none() {
                    let (stream, sink) = (ReadOnly::new(stream.clone()), Listener(said.clone(), defined.clone()));
                    workers[shard] = match Worker::open(stream, scratch.clone(), sink, place.clone()).await {
                        Err(ConsumeError::NotYet { .. }) => None,
                        opened => Some(opened?),
                    };
                }
                let Some(worker) = &mut workers[shard] else {
                    is_over = false;
                    continue;
                };
                let is_ended = worker.shard().is_ended() || !listed[shard].closed;
                if worker.shard().position() >= until[shard] && is_ended {
                    continue;
                }
                is_over = false;
                let step = worker.step_until(Duration::ZERO, until[shard]).await?;
                moved |= !step.folded.is_empty() || step.ended;
                let committed = worker.commit().await?;
                if listed[shard].range.contains(HashKey::of(CONTROL_KEY)) {
                    let mut defined = defined.lock().unwrap();
                    *defined = committed.max(*defined);
                }
            }
            if is_over {
                return Ok::<_, ConsumeError>(());
            }
            if !moved {
                // Somebody has named what nobody could read: a broken law, which is found in the rows.
                let all = std::mem::replace(&mut *defined.lock().unwrap(), SequenceNumber::MAX);
                assert!(all < SequenceNumber::MAX, "the plain run stands still");
            }
        }
    };
    let done = fuse.run(runtime, None, work).expect("no fuse is lit");
    done.map_err(|error| format!("the plain run failed: {error}"))?;
    effects(stream, &said.lock().unwrap(), places, until)?;
    rows(store, &scratch)?;
    // What decisions depend on, to the byte: also what has not led to another decision yet.
    match places.iter().find(|place| store.snapshot(&place.shard) != scratch.snapshot(&place.shard)) {
        Some(place) => Err(format!("the snapshot of {} is another than the plain run's", place.shard)),
        None => Ok(()),
    }
}

/// What was to be said was said, and nothing else.
fn effects(stream: &SimStream, said: &Said, places: &[Place], until: &[SequenceNumber]) -> Result<(), String> {
    let mut recorded = Said::new();
    for shard in 0..places.len() {
        for told in stream.log(shard, 0).iter().filter_map(rolled_up) {
            let source = places.iter().position(|place| place.shard == told.source);
            let key = (told.source.clone(), told.source_position, point(told.home), told.part);
            let is_folded = source.is_some_and(|source| told.source_position <= until[source]);
            if is_folded && said.get(&key) != Some(&told) {
                return Err(format!("{key:?} said\n  {told:?}, not\n  {:?}", said.get(&key)));
            }
            recorded.insert(key, told);
        }
    }
    match said.keys().find(|key| !recorded.contains_key(*key)) {
        Some(missing) => Err(format!("{missing:?} was decided and folded past, and never said")),
        None => Ok(()),
    }
}

fn is_compared(row: &&Arc<Row>) -> bool {
    // Marks hold traces of restarts; the model looks after them.
    !matches!(row.key.subject.kind, Kind::Taken | Kind::Producer)
}

fn rows(store: &SimStore, scratch: &SimStore) -> Result<(), String> {
    let (ours, theirs) = (store.rows(), scratch.rows());
    let mut theirs = theirs.iter().filter(is_compared);
    for ours in ours.iter().filter(is_compared) {
        let Some(theirs) = theirs.next() else { return Err(format!("only we have {ours:?}")) };
        if ours != theirs {
            return Err(format!("we have {}\nthe plain run has {}", shown(ours), shown(theirs)));
        }
    }
    theirs.next().map_or(Ok(()), |row| Err(format!("only the plain run has {}", shown(row))))
}

fn shown(row: &Row) -> String {
    let key = &row.key;
    format!(
        "{:?} {} {} of {} at {}: {:?}..{:?} {}",
        key.subject.kind,
        key.subject.tenant,
        key.subject.name,
        key.shard,
        key.at,
        row.applied_from,
        row.applied_through,
        String::from_utf8_lossy(&row.body)
    )
}
