//! The leases of a process that shares its stream with others: decides when the table is read, which workers begin and end because of it, and what is
//! told of it. What to do with a lease `processor::leases` plans; what a worker does it knows nothing of.
//!
//! | when | what |
//! | --- | --- |
//! | each two fifths of `failover` (a third of 10 s, in a command that ends by itself), and when a shard of this process ended | list shards, read the table, renew, take, end, remove |
//! | a lease was won | a worker begins at the shard's resume point |
//! | a lease is another's | its worker commits, and ends; what it folds until then harms nothing (laws 4 and 5) |
//! | the process is told to end | each worker commits and ends, and then its lease is free: another takes it at its next look |
//! | the table cannot be read or written | workers go on, `/health` says it, and another look is taken as usual |
//!
//! Nothing is decided by what the table says of how far a shard was read: that stands in the store, with the rows.
//!
//! A lease shares the shard of the generation that counts, whichever that is (`workers`). Each generation that is followed with has a lease of its own,
//! for all of its shards at once (`tasks`).

mod following;
mod name;
mod tasks;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use events::{
    position::{SequenceNumber, ShardId},
    stream::{Shard, Stream},
};
use processor::leases::{
    Appetite, BRIEF_FAILOVER, Lease, Noted, Step, View, Watch,
    dynamodb::{Table, TableError},
    plan,
};
use projections::fold::Place;
use tokio::{sync::Mutex as AsyncMutex, time::Instant};

use self::following::Following;
pub(crate) use self::name::name;
use crate::{
    AnyStream, with_causes,
    workers::{Workers, held, lost_shard},
};

/// How long an owner may be silent until another takes its shards over, unless told otherwise (the Kinesis Client Library's `failoverTimeMillis`, which is
/// 10 s there). Each two fifths of it each lease is renewed, a write unit: each third of 10 s these were a sixth of all that a small stream costs. Rows
/// that can be read are up to a minute old anyway, and a process that is told to end gives its leases back at once.
pub(crate) const FAILOVER: Duration = Duration::from_secs(30);
/// How often resume points of others' shards are looked at that somebody here waits for; and how often a worker that has ended is seen.
const LOOK: Duration = Duration::from_millis(500);
/// What a look makes possible (a row that was made can be taken) is done at once, in so many looks.
const LOOKS_MAX: u32 = 3;

/// See the module.
pub(crate) struct Leasing {
    table: Table,
    /// This process, in the table.
    me: String,
    appetite: Appetite,
    failover: Duration,
    stream: Arc<AnyStream>,
    workers: Arc<Workers>,
    state: AsyncMutex<State>,
}

/// What one process knows of leases.
#[derive(Debug, Default)]
struct State {
    began: Option<Instant>,
    watch: Watch,
    shards: Vec<Shard>,
    listed: Option<Instant>,
    /// Shards that were folded to their end, as their resume points say.
    ended: BTreeSet<ShardId>,
    /// As the table was when it was last read, with what was written since.
    leases: BTreeMap<ShardId, Lease>,
    /// What this process has.
    mine: BTreeSet<ShardId>,
    /// The leases of tasks that this process has.
    tasks: BTreeMap<ShardId, Lease>,
    following: Following,
}

/// A round could not be ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RoundError {
    #[error(transparent)]
    Table(#[from] TableError),
    #[error(transparent)]
    Shards(#[from] events::stream::ReadError),
    #[error(transparent)]
    Store(#[from] projections::store::ReadError),
}

impl Leasing {
    pub(crate) fn new(
        table: Table,
        me: String,
        appetite: Appetite,
        failover: Duration,
        of: &Arc<Workers>,
    ) -> Arc<Self> {
        Arc::new(Self {
            table,
            me,
            appetite,
            failover,
            stream: of.stream.clone(),
            workers: of.clone(),
            state: AsyncMutex::default(),
        })
    }

    /// Between two rounds. One that fails does not make this process silent, as two would also if there were three in `failover`.
    fn pace(&self) -> Duration {
        match self.appetite {
            Appetite::Share => self.failover * 2 / 5,
            Appetite::Leftovers => self.failover.min(BRIEF_FAILOVER) / 3,
        }
    }

    /// Takes rounds until the system is told to end, and then gives back what it has.
    pub(crate) async fn run(self: Arc<Self>) -> Result<(), String> {
        let mut due = Instant::now() + self.pace();
        let mut ended = self.workers.ended().len();
        let mut wanted = self.wanted_tasks();
        while !self.workers.is_stopped_within(LOOK).await {
            let (now_ended, now_wanted) = (self.workers.ended().len(), self.wanted_tasks());
            let has_news = std::mem::replace(&mut ended, now_ended) != now_ended
                || std::mem::replace(&mut wanted, now_wanted.clone()) != now_wanted;
            if Instant::now() >= due || has_news {
                due = Instant::now() + self.pace();
                let begun = self.round(now_ended > 0).await;
                self.say(begun.as_ref().err()).await;
                for place in begun.unwrap_or_default() {
                    let shard = place.shard.clone();
                    let started = self.workers.start(place, None);
                    started.map_err(|error| format!("no thread for the worker of {shard}: {error}"))?;
                }
            }
            self.follow().await;
        }
        self.leave().await;
        Ok(())
    }

    /// One round; the shards whose workers are to begin.
    pub(crate) async fn round(&self, has_news: bool) -> Result<Vec<Place>, RoundError> {
        let mut state = self.state.lock().await;
        for look in 0..LOOKS_MAX {
            if !self.look(&mut state, look == 0 && has_news).await? {
                break;
            }
        }
        let running = self.workers.running();
        for shard in running.iter().filter(|shard| !state.mine.contains(shard)) {
            self.workers.tell(shard);
        }
        for shard in &state.mine {
            self.workers.want(shard, state.leases.get(shard).map_or(SequenceNumber::ZERO, |lease| lease.wanted));
        }
        let shards = &state.shards;
        // One that is still ending begins again in a later round, when it has committed.
        let begins = |shard: &&Shard| state.mine.contains(&shard.id) && !running.contains(&shard.id);
        let begins = shards.iter().filter(begins).filter(|shard| !state.ended.contains(&shard.id));
        Ok(begins.map(|shard| self.workers.place_of(shard, shards)).collect())
    }

    /// Reads and carries out once. True: another look may find more to do.
    async fn look(&self, state: &mut State, is_new: bool) -> Result<bool, RoundError> {
        let is_old = state.listed.is_none_or(|listed| listed.elapsed() >= self.workers.manner.shards_look);
        if is_old || is_new {
            state.shards = self.stream.shards().await?;
            state.listed = Some(Instant::now());
        }
        self.learn_ends(state).await?;
        let leases = self.table.read().await?;
        let began = *state.began.get_or_insert_with(Instant::now);
        let silent = state.watch.look(&leases, began.elapsed(), self.failover);
        let (tasks, leases): (Vec<Lease>, Vec<Lease>) = leases.into_iter().partition(tasks::is_task);
        let mut changed = self.look_at_tasks(state, &tasks, &silent).await?;
        let before = std::mem::take(&mut state.mine);
        state.leases = leases.iter().map(|lease| (lease.shard.clone(), lease.clone())).collect();
        let view = View { shards: &state.shards, ended: &state.ended, leases: &leases, silent: &silent };
        let steps = plan(&self.me, self.appetite, view);
        // Until each is renewed it is what the table says.
        let is_mine = |lease: &&Lease| lease.owner.as_ref() == Some(&self.me) && lease.noted != Noted::End;
        state.mine = leases.iter().filter(is_mine).map(|lease| lease.shard.clone()).collect();
        for shard in before.difference(&state.mine).filter(|shard| !state.ended.contains(shard)) {
            let owner = state.leases.get(shard).and_then(|lease| lease.owner.as_deref()).unwrap_or("nobody");
            self.workers.notes.tell(format!("{shard} was taken over by {owner}"));
        }
        for step in &steps {
            changed |= self.carry_out(state, step).await?;
        }
        Ok(changed)
    }

    /// Which closed shards were folded to their end: by this process, or as their resume points say.
    async fn learn_ends(&self, state: &mut State) -> Result<(), RoundError> {
        let listed: BTreeSet<ShardId> = state.shards.iter().map(|shard| shard.id.clone()).collect();
        state.ended.retain(|shard| listed.contains(shard));
        state.ended.extend(self.workers.ended().into_iter().map(|(shard, _)| shard).filter(|id| listed.contains(id)));
        for shard in state.shards.iter().filter(|shard| shard.closed) {
            if state.ended.contains(&shard.id) {
                continue;
            }
            if self.workers.applied(&shard.id).await?.ended {
                state.ended.insert(shard.id.clone());
            }
        }
        Ok(())
    }

    /// True: another look may find more to do.
    async fn carry_out(&self, state: &mut State, step: &Step) -> Result<bool, TableError> {
        match step {
            Step::Renew(lease) => {
                let through = self.committed(&lease.shard).filter(|through| Noted::Through(*through) > lease.noted);
                if self.table.renew(lease, through).await? {
                    self.keep(state, lease);
                } else {
                    state.mine.remove(&lease.shard);
                }
            }
            Step::Take { lease, steal } => {
                if !self.table.carry_out(&self.me, step).await? {
                    return Ok(false);
                }
                self.keep(state, lease);
                let why = match (&lease.owner, steal) {
                    // It was this process itself that was silent.
                    (Some(owner), _) if *owner == self.me => return Ok(false),
                    (None, _) => "nobody had it".to_owned(),
                    (Some(owner), true) => format!("{owner} had more than its share"),
                    (Some(owner), false) => format!("{owner} has been silent"),
                };
                self.workers.notes.tell(format!("{} is read by this process now: {why}", lease.shard));
            }
            Step::Create(_) | Step::CreateTask(_) | Step::End { .. } => {
                self.table.carry_out(&self.me, step).await?;
                return Ok(true);
            }
            Step::Remove(_) => {
                self.table.carry_out(&self.me, step).await?;
            }
            Step::Lose(lease) => {
                let Ok(applied) = self.workers.applied(&lease.shard).await else { return Ok(false) };
                let was_said = self.workers.ended().contains(&(lease.shard.clone(), true));
                let is_removed = self.table.carry_out(&self.me, step).await?;
                if is_removed && !applied.ended && !was_said {
                    self.workers.notes.lose(lost_shard(&lease.shard, applied.through));
                }
                state.mine.remove(&lease.shard);
            }
        }
        Ok(false)
    }

    /// This process has just written the lease.
    fn keep(&self, state: &mut State, lease: &Lease) {
        state.mine.insert(lease.shard.clone());
        let kept = Lease { owner: Some(self.me.clone()), counter: lease.counter + 1, ..lease.clone() };
        state.leases.insert(lease.shard.clone(), kept);
    }

    /// How far a shard can be read, as far as this process knows.
    fn committed(&self, shard: &ShardId) -> Option<SequenceNumber> {
        let applied = self.workers.ledger.applied_through();
        applied
            .into_iter()
            .find(|(of, _)| of == shard)
            .map(|(_, through)| through)
            .filter(|at| *at > SequenceNumber::ZERO)
    }

    /// Waits until each worker has committed and ended, and gives its lease back. Those that cannot be are taken over after `failover`.
    pub(crate) async fn leave(&self) {
        let mut due = Instant::now() + self.pace();
        let mut left = BTreeSet::new();
        self.leave_tasks().await;
        loop {
            let running = self.workers.running();
            let mut state = self.state.lock().await;
            for shard in state.mine.clone() {
                let Some(lease) = state.leases.get(&shard).cloned() else { continue };
                if running.contains(&shard) {
                    // What takes long is not taken away meanwhile.
                    if Instant::now() >= due && self.table.renew(&lease, None).await.is_ok_and(|won| won) {
                        self.keep(&mut state, &lease);
                    }
                } else if left.insert(shard.clone()) {
                    let through = self.committed(&shard);
                    let _ = self.table.release(&lease, through).await;
                }
            }
            if running.is_empty() {
                return;
            }
            if Instant::now() >= due {
                due = Instant::now() + self.pace();
            }
            drop(state);
            tokio::time::sleep(LOOK / 10).await;
        }
    }

    /// Has `/health` say who has which shard.
    pub(crate) async fn say(&self, failed: Option<&RoundError>) {
        let state = self.state.lock().await;
        if let Some(error) = failed {
            let next = "what this process has it goes on with, and looks again in a moment";
            self.workers.notes.is_shared(Err(format!(
                "who reads which shard could not be looked up: {}; {next}",
                with_causes(error)
            )));
            return;
        }
        let mut of: BTreeMap<Option<&str>, Vec<&str>> = BTreeMap::new();
        for shard in state.shards.iter().filter(|shard| !state.ended.contains(&shard.id)) {
            let owner = state.leases.get(&shard.id).and_then(|lease| lease.owner.as_deref());
            of.entry(owner).or_default().push(shard.id.as_str());
        }
        let count = of.values().map(Vec::len).sum::<usize>();
        let mine = of.remove(&Some(self.me.as_str())).unwrap_or_default();
        let mut said = format!("this process ({}) reads {} of {count} shards: {}", self.me, mine.len(), listed(&mine));
        for (owner, shards) in of {
            said.push_str(&format!("; {} reads {}", owner.unwrap_or("nobody yet"), listed(&shards)));
        }
        let record = self.workers.record();
        for generation in held(&self.workers.following.mine).iter().filter(|of| **of != record.live()) {
            said.push_str(&format!("; beside them it folds all of the generation `{}`", record.name(*generation)));
        }
        self.workers.notes.is_shared(Ok(said));
    }
}

fn listed(shards: &[&str]) -> String {
    if shards.is_empty() { "none".to_owned() } else { shards.join(" ") }
}
