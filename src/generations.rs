//! The generations of a running system: which of them have threads, and what readers see. Decides when one has caught up and when one has come to its
//! end, by the record of generations; what a generation's shard does is in `work`, what people ask for in `asked`.

mod asked;
pub(crate) mod starts;
mod work;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use events::{
    event::{Defined, Event},
    identity::{CONTROL_KEY, LOCAL_TENANT},
    position::{HashKey, ShardId},
    stream::Stream,
};
use processor::{
    append::{append_all, system_event_of},
    drive,
    generations::Crew,
};
use projections::{
    definitions::GENERATION,
    generations::{LIVE, Live, Promotion, Record, Standing, View, record},
    store::{Generation, ReadError},
};

pub(crate) use self::work::Followed;
use crate::{
    now_ms,
    ticker::Ticker,
    with_causes,
    workers::{Workers, held, place_in},
};

/// Between two looks at the record, where this process alone changes it.
const LOOK: Duration = Duration::from_millis(200);
/// The record is changed so often again when others change it at the same time.
const CHANGES_MAX: u32 = 20;

/// See the module.
pub(crate) struct Generations {
    pub(crate) workers: Arc<Workers>,
    ticker: Arc<Ticker>,
    view: RwLock<View>,
    /// Without the first, which `workers` have.
    crews: Mutex<BTreeMap<Generation, Arc<Followed>>>,
    /// Whoever opens, compares or promotes one: one at a time.
    changing: tokio::sync::Mutex<()>,
    /// Why the record could not be looked at or changed when that was last tried.
    trouble: Mutex<Option<String>>,
    /// Of each generation the shards that have a thread.
    started: Mutex<BTreeSet<(Generation, ShardId)>>,
}

impl Generations {
    pub(crate) fn new(workers: Arc<Workers>, ticker: Arc<Ticker>) -> Arc<Self> {
        Arc::new(Self {
            workers,
            ticker,
            view: RwLock::default(),
            crews: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
            trouble: Mutex::default(),
            started: Mutex::default(),
        })
    }

    /// Where readers find windows.
    pub(crate) fn view(&self) -> View {
        self.view.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the record; readers and the ticker go by it from here on.
    pub(crate) async fn look(&self) -> Result<Record, ReadError> {
        let record = record::read(&*self.workers.store).await?.record;
        self.ticker.count(record.live());
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = View::of(&record);
        Ok(record)
    }

    /// Changes the record; what `change` refuses is not written. Called again where somebody else changed it meanwhile.
    async fn change<T, E>(&self, change: impl Fn(&mut Record) -> Result<T, E>) -> Result<Result<T, E>, String> {
        for _ in 0..CHANGES_MAX {
            let read = record::read(&*self.workers.store).await.map_err(|error| with_causes(&error))?;
            let mut record = read.record.clone();
            let done = match change(&mut record) {
                Ok(done) => done,
                Err(refused) => return Ok(Err(refused)),
            };
            if record == read.record {
                return Ok(Ok(done));
            }
            match record::write(&*self.workers.store, &read, &record).await {
                Ok(true) => {
                    self.look().await.map_err(|error| with_causes(&error))?;
                    return Ok(Ok(done));
                }
                Ok(false) => {}
                Err(error) => return Err(with_causes(&error)),
            }
        }
        Err("others change the list of generations at the same time: try again".to_owned())
    }

    /// A generation has come so far.
    async fn stands(&self, generation: Generation, standing: Standing) -> Result<(), String> {
        let change = |record: &mut Record| {
            record.stands(generation, standing);
            Ok::<_, String>(())
        };
        self.change(change).await?
    }

    /// The threads of one, if this process has any.
    pub(crate) fn crew(&self, generation: Generation) -> Option<Arc<Followed>> {
        match generation == Generation::default() {
            true => Some(self.workers.first.clone()),
            false => held(&self.crews).get(&generation).cloned(),
        }
    }

    /// Looks now and then which generations are to be folded, and how far they are.
    pub(crate) async fn supervise(self: Arc<Self>) -> Result<(), String> {
        let pause = self.workers.manner.shards_look.max(LOOK);
        while !self.workers.stop.load(Ordering::SeqCst) {
            let done = self.attend().await;
            *held(&self.trouble) = done.err();
            if self.workers.is_stopped_within(pause).await {
                break;
            }
        }
        Ok(())
    }

    /// Why generations are not looked after, if so.
    pub(crate) fn trouble(&self) -> Option<String> {
        held(&self.trouble).clone()
    }

    /// As `supervise` does, without waiting for its next look.
    pub(crate) async fn attend_now(&self) -> Result<(), String> {
        self.attend().await
    }

    async fn attend(&self) -> Result<(), String> {
        let record = self.look().await.map_err(|error| with_causes(&error))?;
        self.mend(&record).await?;
        for generation in record.folded() {
            let crew = self.crew_of(generation, &record).await?;
            let is_over = crew.time_ms().is_some_and(|time_ms| record.is_over(generation, time_ms));
            if is_over && crew.follows() {
                self.end(generation, crew.time_ms().unwrap_or_default()).await?;
            } else if record.standing(generation) == Standing::Filling && crew.has_caught_up() {
                self.stands(generation, Standing::Following).await?;
            }
        }
        for (generation, crew) in held(&self.crews).iter() {
            if record.standing(*generation) == Standing::Ended {
                crew.over.store(true, Ordering::SeqCst);
            }
        }
        self.workers.first.over.fetch_or(record.first_ended, Ordering::SeqCst);
        Ok(())
    }

    /// The stream may name a promotion that the record does not know: the rows were made anew, or under another prefix, and the generation is not among
    /// them. Then nothing would count from there on. So the first one, which was made of the whole stream, is promoted.
    async fn mend(&self, record: &Record) -> Result<(), String> {
        let known = record.promotions.last().map_or(0, |promotion| promotion.number);
        let first = &self.workers.first;
        first.alone.store(record.live() == Generation::default(), Ordering::SeqCst);
        let Some(unknown) = first.promoted().filter(|live| live.promotion > known) else { return Ok(()) };
        let number = unknown.promotion.checked_add(1).ok_or("there were too many promotions")?;
        let begin = |record: &mut Record| {
            record.promotions.push(Promotion { number, generation: 0, revision: None, at_ms: now_ms() });
            Ok::<_, String>(())
        };
        self.change(begin).await??;
        let live = Live { generation: Generation::default(), promotion: number };
        let defined = Event::Defined(Defined {
            kind: GENERATION.into(),
            name: LIVE.into(),
            body: live.body(),
            by: "weir, as the generation that counted is not among the rows".into(),
        });
        let put = system_event_of(LOCAL_TENANT, HashKey::of(CONTROL_KEY), defined);
        let appended = append_all(&*self.workers.stream, vec![put]).await?;
        let revision = appended.first().map(|appended| appended.sequence).unwrap_or_default();
        let done = |record: &mut Record| {
            record.promoted(number, revision, now_ms());
            Ok::<_, String>(())
        };
        self.change(done).await?
    }

    /// Ends one, unless it was promoted in between.
    async fn end(&self, generation: Generation, time_ms: i64) -> Result<(), String> {
        let change = |record: &mut Record| {
            if record.is_over(generation, time_ms) {
                record.stands(generation, Standing::Ended);
            }
            Ok::<_, String>(())
        };
        self.change(change).await?
    }

    /// The crew of a generation, with a thread for each shard.
    async fn crew_of(&self, generation: Generation, record: &Record) -> Result<Arc<Followed>, String> {
        let known = self.crew(generation);
        let crew = match known {
            Some(crew) => crew,
            None => {
                let defined = drive::newest_revision(&*self.workers.store, generation).await;
                let defined = defined.map_err(|error| with_causes(&error))?;
                let crew = Followed::new(Crew::new(generation, record.start_ms(generation), defined));
                held(&self.crews).insert(generation, crew.clone());
                crew
            }
        };
        if generation == Generation::default() {
            return Ok(crew);
        }
        let listed = self.workers.stream.shards().await.map_err(|error| with_causes(&error))?;
        for shard in &listed {
            if !held(&self.started).insert((generation, shard.id.clone())) {
                continue;
            }
            crew.expect(&shard.id);
            let (place, workers, crew) = (place_in(generation, shard, &listed), self.workers.clone(), crew.clone());
            let name = format!("g{}-{}", generation.0, shard.id);
            let work = async move { crew.work(&workers, &place, false).await };
            self.workers.spawn(&name, work).map_err(|error| format!("no thread for {name}: {error}"))?;
        }
        Ok(crew)
    }
}

/// A flag that is set once.
pub(crate) type Told = AtomicBool;
