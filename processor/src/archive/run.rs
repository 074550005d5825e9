//! Every shard of a stream archived, for as long as a process lives. Decides which shards have an archiver, when one that failed tries again, and what
//! is told of them; none of it ends the process: what is not archived now is archived later, as long as the stream keeps it.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use events::{
    position::ShardId,
    stream::{ReadOnly, Shard, Stream},
};
use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::time::{Instant, sleep, timeout};

use super::{
    ArchiveError, Objects, Writer,
    archiver::{Archiver, Settings, Step},
};

/// First pause of an archiver that failed; it doubles with each failure that follows.
const PAUSE: Duration = Duration::from_millis(500);
/// Longest such pause.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// How often who waits looks whether it is to end.
const STOP_LOOK: Duration = Duration::from_millis(100);
/// How long a process that ends reads what is there, and after that, how long it waits until what an archiver holds is put; the stream still has it.
const END_READ: Duration = Duration::from_secs(5);
const END_WAIT: Duration = Duration::from_secs(10);
/// Most words that wait to be told. Beyond, the newest are not kept: nobody listens.
const WORDS_MAX: usize = 1_000;

/// How often is looked, and how much is taken at once.
#[derive(Debug, Clone, Copy)]
pub struct Rhythm {
    /// Longest that a record waits for its segment.
    pub age: Duration,
    /// See [`Settings::idle_pause`].
    pub idle_pause: Duration,
    /// Between two looks at the list of shards.
    pub shards_look: Duration,
}

#[derive(Debug, Default)]
struct OfShard {
    behind_ms: u64,
    trouble: Option<String>,
}

/// What is known of the archivers.
#[derive(Debug, Default)]
pub struct State {
    shards: Mutex<BTreeMap<ShardId, OfShard>>,
    unlisted: Mutex<Option<String>>,
    losses: Mutex<Vec<String>>,
    left: Mutex<Vec<String>>,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// How the archive is, in words; `Err`: what is wrong.
    pub fn said(&self, place: &str) -> Result<String, String> {
        let shards = held(&self.shards);
        let mut troubles: Vec<String> = held(&self.unlisted).iter().cloned().collect();
        troubles.extend(shards.iter().filter_map(|(shard, of)| Some(format!("{shard}: {}", of.trouble.as_ref()?))));
        let behind_secs = shards.values().map(|of| of.behind_ms).max().unwrap_or(0) / 1_000;
        let words = format!("{place} has {} shards, {behind_secs} s behind", shards.len());
        if troubles.is_empty() { Ok(words) } else { Err(format!("{words}; {}", troubles.join("; "))) }
    }

    /// What was gone from the stream before it was archived, since this was last asked.
    pub fn losses(&self) -> Vec<String> {
        std::mem::take(&mut *held(&self.losses))
    }

    /// What the end of a process has left to be archived by whoever comes next, since this was last asked; in words.
    pub fn left(&self) -> Vec<String> {
        std::mem::take(&mut *held(&self.left))
    }

    fn of(&self, shard: &ShardId, change: impl FnOnce(&mut OfShard)) {
        change(held(&self.shards).entry(shard.clone()).or_default());
    }
}

/// What the archivers of a process share.
struct Shared<'a, S, O, F> {
    stream: ReadOnly<S>,
    archive: Writer<O>,
    state: &'a State,
    is_stopped: F,
}

/// Archives until told to end; then puts what is held, and what can be read within seconds.
pub async fn run<S: Stream, O: Objects>(
    stream: ReadOnly<S>,
    archive: Writer<O>,
    rhythm: Rhythm,
    state: &State,
    is_stopped: impl Fn() -> bool,
) {
    let shared = &Shared { stream, archive, state, is_stopped };
    let mut known: HashSet<ShardId> = HashSet::new();
    let mut running = FuturesUnordered::new();
    let mut due = Instant::now();
    loop {
        // At the end once more: who stops for long finds what came meanwhile in the archive.
        let is_ending = (shared.is_stopped)();
        if is_ending || Instant::now() >= due {
            due = Instant::now() + rhythm.shards_look;
            let listed = shared.listed(is_ending).await;
            *held(&state.unlisted) = listed.as_ref().err().map(|why| format!("the shards could not be listed: {why}"));
            if let (Err(why), true) = (&listed, is_ending) {
                held(&state.left).push(format!(
                    "what came last may not be archived: the shards could not be listed: {why}. Whoever archives next lists them again"
                ));
            }
            let listed = listed.unwrap_or_default();
            let settings = Settings::of(listed.len(), rhythm.age, rhythm.idle_pause);
            for shard in listed {
                if known.insert(shard.id.clone()) {
                    running.push(shared.keep(shard, settings));
                }
            }
        }
        if is_ending {
            break;
        }
        let pause = sleep(STOP_LOOK);
        if running.is_empty() {
            pause.await;
            continue;
        }
        // Whichever is first: an archiver that has ended, or a look at the clock.
        futures_util::future::select(running.next(), std::pin::pin!(pause)).await;
    }
    while running.next().await.is_some() {}
}

impl<S: Stream, O: Objects, F: Fn() -> bool> Shared<'_, S, O, F> {
    async fn listed(&self, is_ending: bool) -> Result<Vec<Shard>, String> {
        let listed = async { self.stream.shards().await.map_err(|error| error.to_string()) };
        if !is_ending {
            return listed.await;
        }
        let late = || format!("no answer within {} s", END_WAIT.as_secs());
        timeout(END_WAIT, listed).await.unwrap_or_else(|_| Err(late()))
    }

    /// Archives a shard until it has ended, or the process does; this may be before it has begun.
    async fn keep(&self, shard: Shard, settings: Settings) {
        let id = shard.id.clone();
        let (mut archiver, mut pause) = (None, PAUSE);
        self.state.of(&id, |_| {});
        while !(self.is_stopped)() {
            match self.step(&shard, settings, &mut archiver).await {
                Ok(Step::Ended) => {
                    self.state.of(&id, |of| *of = OfShard::default());
                    return;
                }
                Ok(Step::Lost(why)) => self.lose(why),
                Ok(Step::Idle(until)) => {
                    (pause, _) = (PAUSE, self.wait(until).await);
                    self.state.of(&id, |of| of.trouble = None);
                }
                Ok(Step::Archived) => {
                    pause = PAUSE;
                    self.state.of(&id, |of| of.trouble = None);
                }
                // One shard does not keep the others from their turn.
                Ok(Step::Read) => tokio::task::yield_now().await,
                Err(error) => {
                    // What it holds is put again; but what is there may be another one by then, if that is what was wrong.
                    if !matches!(error, ArchiveError::Objects(_) | ArchiveError::Stream(_)) {
                        archiver = None;
                    }
                    let words = format!("{error}; it is tried again within {:.1} s", pause.as_secs_f64());
                    self.state.of(&id, |of| of.trouble = Some(words));
                    self.wait(Instant::now() + pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
            if let Some(archiver) = &archiver {
                self.state.of(&id, |of| of.behind_ms = archiver.behind_ms());
            }
        }
        self.end(&shard, settings, archiver).await;
    }

    fn lose(&self, why: String) {
        let mut losses = held(&self.state.losses);
        if losses.len() < WORDS_MAX {
            losses.push(why);
        }
    }

    async fn step(
        &self,
        shard: &Shard,
        settings: Settings,
        archiver: &mut Option<Archiver<S, O>>,
    ) -> Result<Step, ArchiveError> {
        match archiver {
            Some(archiver) => archiver.step().await,
            None => archiver.insert(self.open(shard, settings).await?).step().await,
        }
    }

    async fn open(&self, shard: &Shard, settings: Settings) -> Result<Archiver<S, O>, ArchiveError> {
        Archiver::open(self.stream.clone(), self.archive.clone(), shard.clone(), settings).await
    }

    /// What can be read at once is put: who stops for long finds all of it in the archive. What is left is said.
    async fn end(&self, shard: &Shard, settings: Settings, archiver: Option<Archiver<S, O>>) {
        let finished = async {
            let mut archiver = match archiver {
                Some(archiver) => archiver,
                None => self.open(shard, settings).await?,
            };
            let is_all = archiver.finish(Instant::now() + END_READ, |why| self.lose(why)).await?;
            Ok((!is_all).then(|| format!("it ends at {}", archiver.archived_through())))
        };
        let left = match timeout(END_WAIT, finished).await {
            Ok(Ok(None)) => return,
            Ok(Ok(Some(ends))) => ends,
            Ok(Err(error)) => ArchiveError::to_string(&error),
            Err(_) => format!("it did not answer within {} s", END_WAIT.as_secs()),
        };
        held(&self.state.left).push(format!(
            "{}: not all of it is archived: {left}. Whoever archives next goes on there, with what the stream still has by then",
            shard.id
        ));
    }

    async fn wait(&self, until: Instant) {
        while Instant::now() < until && !(self.is_stopped)() {
            sleep(STOP_LOOK.min(until - Instant::now())).await;
        }
    }
}
