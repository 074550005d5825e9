//! The generations of a running system: which of them this process follows with, and what readers see. Decides when one has caught up and when one has
//! come to its end, by the record of generations; what a shard of one that follows does is in `work`, what people ask for in `asked`. The shards of the
//! one that counts are `workers`'.

mod asked;
mod compared;
mod ended;
mod fill;
pub(crate) mod starts;
mod work;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError, RwLock, atomic::Ordering},
    time::Duration,
};

use events::{
    event::{Defined, Event},
    identity::{CONTROL_KEY, LOCAL_TENANT},
    position::HashKey,
    stream::{Shard, Stream},
};
use processor::{
    append::{append_all, system_event_of},
    drive::newest_revision,
    generations::{Crew, defined},
};
use projections::{
    definitions::GENERATION,
    generations::{LIVE, Live, Promotion, Record, Standing, View, record},
    store::{Generation, ReadError},
};

use tokio::runtime::Handle;

pub(crate) use self::work::Followed;
use crate::{
    now_ms,
    ticker::Ticker,
    with_causes,
    workers::{Workers, held},
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
    /// Those that this process follows with.
    crews: Mutex<BTreeMap<Generation, Arc<Followed>>>,
    /// The one that is filled from the archive, or was last.
    filling: Mutex<Option<Arc<fill::Fill>>>,
    /// Whoever opens, compares or promotes one: one at a time.
    changing: tokio::sync::Mutex<()>,
    /// Why the record could not be looked at or changed when that was last tried.
    trouble: Mutex<Option<String>>,
}

/// Those that some process is to follow with. The one that counts is among them once anything was promoted, as nobody knows in advance at which record of a
/// shard it ceases to.
fn followed(record: &Record) -> BTreeSet<Generation> {
    let is_alone = |generation: Generation| generation == record.live() && record.promotions.is_empty();
    record.folded().into_iter().filter(|generation| !is_alone(*generation)).collect()
}

impl Generations {
    pub(crate) fn new(workers: Arc<Workers>, ticker: Arc<Ticker>) -> Arc<Self> {
        Arc::new(Self {
            workers,
            ticker,
            view: RwLock::default(),
            crews: Mutex::default(),
            filling: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
            trouble: Mutex::default(),
        })
    }

    /// Where readers find windows.
    pub(crate) fn view(&self) -> View {
        self.view.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the record; readers and the ticker go by it from here on.
    pub(crate) async fn look(&self) -> Result<Record, ReadError> {
        Ok(self.take(&record::read(&*self.workers.store).await?))
    }

    /// Goes by what was read, or by what is newer and known: of two looks at the same time the earlier one may answer later. Returns what it goes by.
    fn take(&self, read: &record::Read) -> Record {
        // Held throughout, so that all of it is of one version.
        let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
        let record = self.workers.learn(read);
        self.ticker.count(record.live());
        *held(&self.workers.following.wanted) = Some(followed(&record));
        *view = View::of(&record);
        Record::clone(&record)
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
        held(&self.crews).get(&generation).cloned()
    }

    /// Fills one from the archive, unless this process does so already.
    async fn fill(
        self: &Arc<Self>,
        record: &Record,
        generation: Generation,
        whole: Arc<fill::Whole>,
        runtime: Option<Handle>,
    ) -> Result<(), String> {
        if self.filling(generation).is_some_and(|fill| fill.is_at_work()) {
            return Ok(());
        }
        let starts = record.entry(generation).map(|entry| entry.starts.clone()).unwrap_or_default();
        let defined = defined(&*self.workers.store, generation, &starts).await.map_err(|error| with_causes(&error))?;
        let crew = Crew::new(generation, record.start_ms(generation), defined);
        let fill = fill::Fill::new(record, crew, whole);
        *held(&self.filling) = Some(fill.clone());
        let (own, on) = (self.clone(), runtime.clone());
        let work = async move {
            fill.run(own, on).await;
            Ok(())
        };
        let name = format!("g{}-archive", generation.0);
        self.workers.spawn_on(&name, runtime, work).map_err(|error| format!("no thread for {name}: {error}"))
    }

    /// How one is filled from the archive, if this process does that or has done it.
    fn filling(&self, generation: Generation) -> Option<Arc<fill::Fill>> {
        held(&self.filling).clone().filter(|fill| fill.generation() == generation)
    }

    /// Looks now and then which generations are to be folded, and how far they are.
    pub(crate) async fn supervise(self: Arc<Self>) -> Result<(), String> {
        let pause = self.workers.manner.shards_look.max(LOOK);
        let mine = |workers: &Workers| held(&workers.following.mine).clone();
        while !self.workers.stop.load(Ordering::SeqCst) {
            let known = mine(&self.workers);
            let done = self.attend().await;
            self.workers.notes.is_unattended(done.as_ref().err().cloned());
            *held(&self.trouble) = done.err();
            let due = tokio::time::Instant::now() + pause;
            // Who has just taken one over is not to wait.
            while tokio::time::Instant::now() < due && mine(&self.workers) == known {
                if self.workers.is_stopped_within(LOOK.min(pause)).await {
                    return Ok(());
                }
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
        let followed: Vec<_> = followed(&record).into_iter().filter(|of| self.workers.follows(*of)).collect();
        held(&self.crews).retain(|generation, crew| {
            let stays = followed.contains(generation);
            if !stays {
                crew.end();
            }
            stays
        });
        let listed = match followed.is_empty() {
            true => Arc::default(),
            false => Arc::new(self.workers.stream.shards().await.map_err(|error| with_causes(&error))?),
        };
        for generation in followed {
            let crew = self.crew_of(generation, &record, &listed).await?;
            let is_over = crew.time_ms().is_some_and(|time_ms| record.is_over(generation, time_ms));
            if is_over && crew.follows() {
                self.end(generation, crew.time_ms().unwrap_or_default()).await?;
            } else if record.standing(generation) == Standing::Filling && crew.has_caught_up() {
                self.stands(generation, Standing::Following).await?;
            }
        }
        self.name_promotion(&record).await
    }

    /// A promotion comes into force at the tick that names it. Where whoever promoted did not come so far, that is not left to the next minute: it may be
    /// that nothing counts until then.
    async fn name_promotion(&self, record: &Record) -> Result<(), String> {
        let revision = record.finished().last().and_then(|promotion| promotion.revision).unwrap_or_default();
        let (stream, store) = (&*self.workers.stream, &*self.workers.store);
        if self.ticker.revision() < revision
            && newest_revision(store, record.live()).await.map_err(|error| with_causes(&error))? >= revision
        {
            self.ticker.tick(stream, store).await.map_err(|error| with_causes(&error))?;
        }
        Ok(())
    }

    /// The stream may name a promotion that the record does not know: the rows were made anew, or under another prefix, and the generation is not among
    /// them. Then nothing would count from there on. So the first one, which was made of the whole stream, is promoted.
    async fn mend(&self, record: &Record) -> Result<(), String> {
        if unknown_to(record, self.workers.unknown()).is_none() {
            return Ok(());
        }
        // Another process may have begun it meanwhile, or been killed in the middle: then it is finished under its number.
        let begin = |record: &mut Record| {
            let Some(unknown) = unknown_to(record, self.workers.unknown()) else { return Ok(None) };
            if let Some(begun) = record.unfinished().filter(|begun| begun.number > unknown.promotion) {
                return Ok((begun.generation == 0).then_some(begun.number));
            }
            let number = unknown.promotion.checked_add(1).ok_or("there were too many promotions")?;
            record.promotions.push(Promotion { number, generation: 0, revision: None, at_ms: now_ms() });
            Ok::<_, String>(Some(number))
        };
        let Some(number) = self.change(begin).await?? else { return Ok(()) };
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
    async fn crew_of(
        &self,
        generation: Generation,
        record: &Record,
        listed: &Arc<Vec<Shard>>,
    ) -> Result<Arc<Followed>, String> {
        let crew = match self.crew(generation) {
            Some(crew) => crew,
            None => {
                let starts = record.entry(generation).map(|entry| entry.starts.clone()).unwrap_or_default();
                let defined = defined(&*self.workers.store, generation, &starts).await;
                let defined = defined.map_err(|error| with_causes(&error))?;
                let crew = Crew::new(generation, record.start_ms(generation), defined);
                let crew = Followed::new(crew, starts, record.name(generation).to_owned());
                // Whoever asks for a replay and whoever looks now and then may come here at the same time.
                held(&self.crews).entry(generation).or_insert(crew).clone()
            }
        };
        for shard in crew.expect(listed) {
            let (workers, own) = (self.workers.clone(), crew.clone());
            let (name, id) = (format!("g{}-{}", generation.0, shard.id), shard.id.clone());
            let work = async move {
                own.work(&workers, &shard).await;
                Ok(())
            };
            if let Err(error) = self.workers.spawn(&name, work) {
                // It is tried again at the next look.
                crew.forget(&id);
                return Err(format!("no thread for {name}: {error}"));
            }
        }
        Ok(crew)
    }
}

/// What counts by the stream, if the record knows neither the generation nor a promotion that came after.
fn unknown_to(record: &Record, counts: Option<Live>) -> Option<Live> {
    let finished = record.finished().last().map_or(0, |promotion| promotion.number);
    counts.filter(|counts| counts.promotion > finished && record.entry(counts.generation).is_none())
}

#[cfg(test)]
mod tests;
