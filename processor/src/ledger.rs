//! What became of appended records, for those who wait for it. In memory only: after a restart nobody waits any more.
//!
//! A run groups appends of one tenant; its name is the tenant's, a slash, and what the tenant calls it. `admit` asks for room before a record is
//! appended; `expect` names the record, before or after it was folded; `settled` answers once every one of them is folded and its rows can be read.
//! Outcomes that nobody has asked for yet are kept for a while, because an append's answer may come later than its fold.
//!
//! A tenant's runs take room from that tenant's alone. A run that somebody waits for, or that is not settled, is never forgotten for another.

#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use events::position::{SequenceNumber, ShardId};
use projections::fold::balance::Balance;
use tokio::sync::watch;

/// Outcomes kept that no run has claimed: more than can be in flight between an append and its answer.
pub const UNCLAIMED_MAX: usize = 8_192;
/// Runs of one tenant that are remembered, besides those that come in at the moment. Beyond, settled ones are forgotten: those whose balance was
/// read first, then those that were longest without news; where none is settled, no new one is admitted.
pub const RUNS_MAX: usize = 1_024;
/// Records of one tenant's runs that wait to be folded, about 100 bytes each. Beyond, no more are admitted until some are folded.
pub const OPEN_MAX: usize = 262_144;

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
    /// All of it is folded and can be read, but so many records were folded by another process, which alone knows what became of their lines; the
    /// balance of the others.
    #[error("{1} records were folded by another process on the same stream and rows")]
    Elsewhere(Box<Balance>, usize),
}

/// There is no room for what a run is about to append. Nothing was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// Of runs.
    #[error(
        "{RUNS_MAX} runs of this tenant are not folded yet, or are waited for: send again in a moment, or send more under one run"
    )]
    Runs,
    /// Of records.
    #[error("{OPEN_MAX} records of this tenant wait to be folded: send again in a moment")]
    Records,
}

#[derive(Debug, Default)]
struct Run {
    balance: Balance,
    /// Appended, and not folded yet: so many.
    open: usize,
    /// Folded by another process: so many.
    elsewhere: usize,
    /// The highest position of the run on each shard: readable once committed.
    last: HashMap<ShardId, SequenceNumber>,
    /// Who asked for it has read its balance, and nothing came after.
    is_read: bool,
    /// The books' count of news when it last had some.
    touched: u64,
}

#[derive(Debug, Default)]
struct Tenant {
    runs: HashMap<Arc<str>, Run>,
    open: usize,
}

#[derive(Debug, Default)]
struct Books {
    /// As many as there are credentials.
    tenants: HashMap<String, Tenant>,
    /// Whose each record is that is appended and not folded yet.
    open: HashMap<(ShardId, SequenceNumber), Arc<str>>,
    unclaimed: HashMap<(ShardId, SequenceNumber), Balance>,
    unclaimed_order: VecDeque<(ShardId, SequenceNumber)>,
    committed: HashMap<ShardId, SequenceNumber>,
    /// How many wait for a run now.
    waited: HashMap<String, usize>,
    news: u64,
    stopped: Option<String>,
}

fn tenant_of(run: &str) -> &str {
    run.split_once('/').map_or("", |(tenant, _)| tenant)
}

/// Its rows can be read as well.
fn is_settled(run: &Run, committed: &HashMap<ShardId, SequenceNumber>) -> bool {
    run.open == 0 && run.last.iter().all(|(shard, last)| committed.get(shard).is_some_and(|at| at >= last))
}

impl Books {
    fn run(&self, name: &str) -> Option<&Run> {
        self.tenants.get(tenant_of(name))?.runs.get(name)
    }

    /// The run, which has news; its tenant's count of open records; the name.
    fn touch(&mut self, name: &str) -> (&mut Run, &mut usize, Arc<str>) {
        self.news += 1;
        let tenant = self.tenants.entry(tenant_of(name).to_owned()).or_default();
        let name = match tenant.runs.get_key_value(name) {
            Some((known, _)) => known.clone(),
            None => Arc::from(name),
        };
        let run = tenant.runs.entry(name.clone()).or_default();
        (run.touched, run.is_read) = (self.news, false);
        (run, &mut tenant.open, name)
    }

    /// Forgets one settled run of a tenant if it has as many as it may have. False: none can be forgotten.
    fn make_room(&mut self, tenant: &str) -> bool {
        let Self { tenants, committed, waited, .. } = self;
        let Some(tenant) = tenants.get_mut(tenant).filter(|tenant| tenant.runs.len() >= RUNS_MAX) else { return true };
        let settled =
            tenant.runs.iter().filter(|(name, run)| is_settled(run, committed) && !waited.contains_key(&***name));
        let first = settled.min_by_key(|(_, run)| (!run.is_read, run.touched)).map(|(name, _)| name.clone());
        first.is_some_and(|first| tenant.runs.remove(&first).is_some())
    }
}

/// Somebody waits for a run, until this is dropped: a request may be given up at any point.
struct Waiting<'a>(&'a Ledger, &'a str);

impl<'a> Waiting<'a> {
    fn new(ledger: &'a Ledger, run: &'a str) -> Self {
        *ledger.books().waited.entry(run.to_owned()).or_default() += 1;
        Self(ledger, run)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut books = self.0.books();
        if let Some(count) = books.waited.get_mut(self.1) {
            *count -= 1;
            if *count == 0 {
                books.waited.remove(self.1);
            }
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
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        self.news.send_modify(|count| *count += 1);
    }

    /// A run is about to append a record: whether there is room for it. Nothing is kept for it yet.
    pub fn admit(&self, run: &str) -> Result<(), Full> {
        let mut books = self.books();
        let tenant = tenant_of(run);
        if books.tenants.get(tenant).is_some_and(|tenant| tenant.open >= OPEN_MAX) {
            return Err(Full::Records);
        }
        if books.run(run).is_some() || books.make_room(tenant) { Ok(()) } else { Err(Full::Runs) }
    }

    /// A run has appended a record.
    pub fn expect(&self, run: &str, shard: &ShardId, sequence: SequenceNumber) {
        let mut books = self.books();
        if books.run(run).is_none() {
            // Others may have been admitted at the same time: what is appended is counted all the same.
            books.make_room(tenant_of(run));
        }
        let key = (shard.clone(), sequence);
        let outcome = books.unclaimed.remove(&key);
        // A worker tells what it folded before it tells that it has committed.
        let is_passed = books.committed.get(shard).is_some_and(|through| *through >= sequence);
        let (run, open, name) = books.touch(run);
        let last = run.last.entry(shard.clone()).or_default();
        *last = sequence.max(*last);
        match outcome {
            Some(balance) => run.balance.add(&balance),
            None if is_passed => run.elsewhere += 1,
            None => {
                run.open += 1;
                *open += 1;
                books.open.insert(key, name);
            }
        }
    }

    /// A worker has folded records.
    pub fn folded(&self, shard: &ShardId, outcomes: Vec<(SequenceNumber, Balance)>) {
        let mut books = self.books();
        for (sequence, balance) in outcomes {
            let key = (shard.clone(), sequence);
            if let Some(name) = books.open.remove(&key) {
                let (run, open, _) = books.touch(&name);
                run.balance.add(&balance);
                run.open = run.open.saturating_sub(1);
                *open = open.saturating_sub(1);
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
        let mut books = self.books();
        // What can be read stays so: whoever goes on with another generation may begin further back.
        let committed = books.committed.entry(shard.clone()).or_default();
        *committed = through.max(*committed);
        drop(books);
        self.tell();
    }

    /// A worker goes on behind a resume point that another process has set: what became of the records up to there is known to that one alone.
    pub fn passed(&self, shard: &ShardId, through: SequenceNumber) {
        let mut books = self.books();
        let gone: Vec<_> = books.open.keys().filter(|(of, at)| of == shard && *at <= through).cloned().collect();
        for key in gone {
            let Some(name) = books.open.remove(&key) else { continue };
            let (run, open, _) = books.touch(&name);
            run.open = run.open.saturating_sub(1);
            run.elsewhere += 1;
            *open = open.saturating_sub(1);
        }
        drop(books);
        self.committed(shard, through);
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
        let waits = |run: &Run| run.last.get(shard).is_some_and(|last| *last > committed);
        books.waited.keys().any(|run| books.run(run).is_some_and(waits))
    }

    /// The highest position on each shard that a run has, whether somebody waits for it or not, and whose rows cannot be read yet.
    pub fn unsettled(&self) -> Vec<(ShardId, SequenceNumber)> {
        let books = self.books();
        let mut most: HashMap<&ShardId, SequenceNumber> = HashMap::new();
        for run in books.tenants.values().flat_map(|tenant| tenant.runs.values()) {
            for (shard, last) in &run.last {
                if books.committed.get(shard).is_none_or(|at| at < last) {
                    let known = most.entry(shard).or_default();
                    *known = (*last).max(*known);
                }
            }
        }
        most.into_iter().map(|(shard, last)| (shard.clone(), last)).collect()
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

    fn look(&self, name: &str) -> Result<Balance, Unsettled> {
        let mut books = self.books();
        let Books { tenants, committed, stopped, .. } = &mut *books;
        let found = tenants.get_mut(tenant_of(name)).and_then(|tenant| tenant.runs.get_mut(name));
        let Some(run) = found else { return Err(Unsettled::Unknown(name.to_owned())) };
        if is_settled(run, committed) {
            run.is_read = true;
            return match run.elsewhere {
                0 => Ok(run.balance.clone()),
                records => Err(Unsettled::Elsewhere(Box::new(run.balance.clone()), records)),
            };
        }
        match stopped {
            Some(why) => Err(Unsettled::Stopped(why.clone())),
            None => Err(Unsettled::Late(Box::new(run.balance.clone()))),
        }
    }
}
