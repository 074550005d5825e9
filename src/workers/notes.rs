//! What workers have to tell people: decides which words stand, and which are told once.

use std::sync::{Mutex, MutexGuard, PoisonError};

use events::position::{SequenceNumber, ShardId};

/// Most words that wait to be told. Beyond, the newest are not kept: nobody listens.
const WORDS_MAX: usize = 1_000;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// What was gone from the stream before it was folded.
    losses: Mutex<Vec<String>>,
    /// Which shards changed hands.
    news: Mutex<Vec<String>>,
    /// Which process has which shard, or what is wrong with that; `None`: this one has all.
    holders: Mutex<Option<Result<String, String>>>,
    /// What a command waits for that takes several steps.
    awaits: Mutex<Option<String>>,
    /// The other processes for which somebody here waits.
    waited_for: Mutex<Option<String>>,
    /// Which of them does not move, although it was waited for long enough.
    stalled: Mutex<Option<String>>,
    /// Why the shards could not be listed when they were last looked for.
    unlisted: Mutex<Option<String>>,
    /// Why generations could not be looked after when that was last tried.
    unattended: Mutex<Option<String>>,
}

pub(crate) fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who says for what it waits, until this is dropped.
pub(crate) struct Telling<'a>(&'a Notes);

impl Telling<'_> {
    /// Now it waits for this.
    pub(crate) fn say(&self, what: String) {
        *held(&self.0.awaits) = Some(what);
    }
}

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        *held(&self.0.awaits) = None;
    }
}

fn keep(words: &Mutex<Vec<String>>, word: String) {
    let mut words = held(words);
    if words.len() < WORDS_MAX {
        words.push(word);
    }
}

impl Notes {
    /// Something was gone before it was folded.
    pub(crate) fn lose(&self, loss: String) {
        keep(&self.losses, loss);
    }

    /// What was lost since this was last asked.
    pub(crate) fn losses(&self) -> Vec<String> {
        std::mem::take(&mut *held(&self.losses))
    }

    /// A shard changed hands.
    #[cfg(feature = "aws")]
    pub(crate) fn tell(&self, news: String) {
        keep(&self.news, news);
    }

    /// Which shards changed hands since this was last asked.
    pub(crate) fn news(&self) -> Vec<String> {
        std::mem::take(&mut *held(&self.news))
    }

    /// The stream is shared with other processes: who has what.
    #[cfg(feature = "aws")]
    pub(crate) fn is_shared(&self, holders: Result<String, String>) {
        *held(&self.holders) = Some(holders);
    }

    /// Others have shards that somebody here waits for; `None`: not any more.
    #[cfg(feature = "aws")]
    pub(crate) fn waits_for(&self, others: Option<String>, stalled: Option<String>) {
        *held(&self.waited_for) = others;
        *held(&self.stalled) = stalled;
    }

    /// Another process reads a shard that somebody here waits for, and does not move.
    pub(crate) fn stalled(&self) -> Option<String> {
        held(&self.stalled).clone()
    }

    /// Somebody is about to say for what it waits; one at a time.
    pub(crate) fn telling(&self) -> Telling<'_> {
        Telling(self)
    }

    /// For what is waited here, and the other processes for which that has lasted some seconds.
    pub(crate) fn waited_for(&self) -> Option<String> {
        let (what, others) = (held(&self.awaits).clone(), held(&self.waited_for).clone());
        match (what, others) {
            (Some(what), Some(others)) => Some(format!("{what}: {others}")),
            (what, others) => what.or(others),
        }
    }

    pub(crate) fn is_unlisted(&self, why: Option<String>) {
        *held(&self.unlisted) = why;
    }

    pub(crate) fn is_unattended(&self, why: Option<String>) {
        *held(&self.unattended) = why;
    }

    /// Whether all shards are worked on, in words. `troubles`: those of this process's workers.
    pub(crate) fn said(&self, mut troubles: Vec<String>) -> Result<String, String> {
        troubles.extend(held(&self.unlisted).clone());
        troubles.extend(held(&self.unattended).clone().map(|why| format!("generations are not looked after: {why}")));
        troubles.extend(self.stalled());
        let well = held(&self.holders).clone().unwrap_or_else(|| Ok("every shard has a worker".to_owned()));
        match well {
            Ok(well) if troubles.is_empty() => Ok(well),
            Ok(_) => Err(troubles.join("; ")),
            Err(why) => {
                troubles.push(why);
                Err(troubles.join("; "))
            }
        }
    }
}

/// What is said of a shard that the stream does not have any more, and that was not read to its end.
pub(crate) fn lost_shard(shard: &ShardId, committed: SequenceNumber) -> String {
    let folded = match committed {
        SequenceNumber::ZERO => "it was never folded".to_owned(),
        position => format!("it was folded up to {position} only"),
    };
    format!(
        "{shard}: it is gone from the stream, and {folded}: what else it held is in no row. Keep the stream's records for longer than weir may be away"
    )
}

/// That records are gone which were not folded, in words.
pub(crate) fn lost_text(shard: &ShardId, asked: SequenceNumber, oldest: SequenceNumber) -> String {
    format!(
        "{shard}: the records after {asked} were gone from the stream before they were folded: what they say is in no row. It goes on with \
         {oldest}. Keep the stream's records for longer than weir may be away"
    )
}

/// That a parent is gone which was not folded to its end, in words.
pub(crate) fn lost_parent_text(shard: &ShardId, (parent, position): &(ShardId, SequenceNumber)) -> String {
    let folded = match *position {
        SequenceNumber::ZERO => "was never folded".to_owned(),
        position => format!("was folded up to {position} only"),
    };
    format!(
        "{shard}: its parent {parent} is gone from the stream and {folded}: what else it held is in no row. Keep the stream's records for longer \
         than weir may be away"
    )
}
