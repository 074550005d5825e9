//! What became of appended records, for those who wait for it. In memory only: after a restart nobody waits any more.
//!
//! A run groups appends. `expect` names a record of a run, before or after it was folded; `settled` answers once every one of them is folded and
//! its rows can be read. Outcomes that nobody has asked for yet are kept for a while, because an append's answer may come later than its fold.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use events::position::{SequenceNumber, ShardId};
use projections::fold::balance::Balance;
use tokio::sync::watch;

/// Outcomes kept that no run has claimed: more than can be in flight between an append and its answer.
pub const UNCLAIMED_MAX: usize = 8_192;
/// Runs remembered; the one that was longest without news is forgotten first.
pub const RUNS_MAX: usize = 1_024;

/// Waiting for a run ended without its balance.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsettled {
    /// Nothing was appended under this name, or it was long ago, or the program was restarted since.
    #[error(
        "run `{0}` is not known: the program was restarted, or it was long ago. Ingest the same again: what is in is counted as duplicate"
    )]
    Unknown(String),
    /// The consumer stopped.
    #[error("the consumer has stopped: {0}")]
    Stopped(String),
    /// Not in the given time; the balance so far.
    #[error("not all of it is folded yet")]
    Late(Box<Balance>),
}

#[derive(Debug)]
struct Run {
    balance: Balance,
    /// Appended, and not folded yet.
    open: HashSet<(ShardId, SequenceNumber)>,
    /// The highest position of the run on each shard: readable once committed.
    last: HashMap<ShardId, SequenceNumber>,
    /// How many wait for it now.
    waiters: usize,
    touched: Instant,
}

#[derive(Debug, Default)]
struct Books {
    runs: HashMap<String, Run>,
    unclaimed: HashMap<(ShardId, SequenceNumber), Balance>,
    unclaimed_order: VecDeque<(ShardId, SequenceNumber)>,
    committed: HashMap<ShardId, SequenceNumber>,
    stopped: Option<String>,
}

/// Somebody waits for a run, until this is dropped: a request may be given up at any point.
struct Waiting<'a>(&'a Ledger, &'a str);

impl<'a> Waiting<'a> {
    fn new(ledger: &'a Ledger, run: &'a str) -> Self {
        if let Some(run) = ledger.books().runs.get_mut(run) {
            run.waiters += 1;
        }
        Self(ledger, run)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(run) = self.0.books().runs.get_mut(self.1) {
            run.waiters = run.waiters.saturating_sub(1);
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Ledger {
    books: Mutex<Books>,
    news: watch::Sender<u64>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self { books: Mutex::default(), news: watch::Sender::new(0) }
    }
}

impl Ledger {
    fn books(&self) -> std::sync::MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        self.news.send_modify(|count| *count += 1);
    }

    /// A run has appended a record.
    pub fn expect(&self, run: &str, shard: &ShardId, sequence: SequenceNumber) {
        let mut books = self.books();
        if books.runs.len() >= RUNS_MAX && !books.runs.contains_key(run) {
            let oldest = books.runs.iter().min_by_key(|(_, run)| run.touched).map(|(name, _)| name.clone());
            if let Some(oldest) = oldest {
                books.runs.remove(&oldest);
            }
        }
        let key = (shard.clone(), sequence);
        let outcome = books.unclaimed.remove(&key);
        let run = books.runs.entry(run.to_owned()).or_insert_with(|| Run {
            balance: Balance::default(),
            open: HashSet::new(),
            last: HashMap::new(),
            waiters: 0,
            touched: Instant::now(),
        });
        run.touched = Instant::now();
        let last = run.last.entry(shard.clone()).or_default();
        *last = sequence.max(*last);
        match outcome {
            Some(balance) => run.balance.add(&balance),
            None => {
                run.open.insert(key);
            }
        }
    }

    /// A worker has folded records.
    pub fn folded(&self, shard: &ShardId, outcomes: Vec<(SequenceNumber, Balance)>) {
        let mut books = self.books();
        for (sequence, balance) in outcomes {
            let key = (shard.clone(), sequence);
            if let Some(run) = books.runs.values_mut().find(|run| run.open.contains(&key)) {
                run.open.remove(&key);
                run.balance.add(&balance);
                run.touched = Instant::now();
                continue;
            }
            if books.unclaimed_order.len() >= UNCLAIMED_MAX
                && let Some(oldest) = books.unclaimed_order.pop_front()
            {
                books.unclaimed.remove(&oldest);
            }
            books.unclaimed_order.push_back(key.clone());
            books.unclaimed.insert(key, balance);
        }
    }

    /// A worker's rows can be read up to and including a position.
    pub fn committed(&self, shard: &ShardId, through: SequenceNumber) {
        self.books().committed.insert(shard.clone(), through);
        self.tell();
    }

    /// A worker has stopped for good.
    pub fn stopped(&self, why: &str) {
        self.books().stopped.get_or_insert_with(|| why.to_owned());
        self.tell();
    }

    /// Why the consumer stopped, if it did.
    pub fn why_stopped(&self) -> Option<String> {
        self.books().stopped.clone()
    }

    /// True if somebody waits for what is folded and not yet readable: a worker that has caught up commits at once.
    pub fn is_awaited(&self, shard: &ShardId) -> bool {
        let books = self.books();
        let committed = books.committed.get(shard).copied().unwrap_or_default();
        let waits = |run: &Run| run.waiters > 0 && run.last.get(shard).is_some_and(|last| *last > committed);
        books.runs.values().any(waits)
    }

    /// How far the rows of each shard can be read.
    pub fn applied_through(&self) -> Vec<(ShardId, SequenceNumber)> {
        let mut through: Vec<_> = self.books().committed.iter().map(|(shard, at)| (shard.clone(), *at)).collect();
        through.sort();
        through
    }

    /// Waits until all of a run is folded and readable, at most `wait`.
    pub async fn settled(&self, run: &str, wait: Duration) -> Result<Balance, Unsettled> {
        let deadline = tokio::time::Instant::now() + wait;
        let _waiting = Waiting::new(self, run);
        let mut news = self.news.subscribe();
        loop {
            match self.look(run) {
                Err(Unsettled::Late(balance)) => {
                    if tokio::time::timeout_at(deadline, news.changed()).await.is_err() {
                        return Err(Unsettled::Late(balance));
                    }
                }
                answer => return answer,
            }
        }
    }

    fn look(&self, run: &str) -> Result<Balance, Unsettled> {
        let books = self.books();
        let Some(found) = books.runs.get(run) else { return Err(Unsettled::Unknown(run.to_owned())) };
        let readable =
            |(shard, last): (&ShardId, &SequenceNumber)| books.committed.get(shard).is_some_and(|at| at >= last);
        if found.open.is_empty() && found.last.iter().all(readable) {
            return Ok(found.balance.clone());
        }
        match &books.stopped {
            Some(why) => Err(Unsettled::Stopped(why.clone())),
            None => Err(Unsettled::Late(Box::new(found.balance.clone()))),
        }
    }
}
