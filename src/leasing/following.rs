//! How far other processes are with shards that somebody here waits for: decides when that is looked up, when the owner is told that somebody waits,
//! and when its standing still is worth a word.
//!
//! A position comes from the store, as whatever the owner has committed can be read. An owner commits about once a minute; that somebody waits it
//! reads in its lease's row (`weirWantedThrough`), and commits as soon as it has come so far.

use std::{collections::BTreeMap, time::Duration};

use events::position::{SequenceNumber, ShardId};
use processor::leases::Lease;
use tokio::time::Instant;

use super::Leasing;
use crate::workers::held;

/// An owner that renews its lease and moves nothing that is waited for is told of after so long.
const STILL_MAX: Duration = Duration::from_secs(180);
/// Whoever waits is told for whom after so long: most often it is over before.
const WORD_AFTER: Duration = Duration::from_secs(5);
/// After so long an owner is told again that somebody waits: of two who did, one may have been forgotten.
const ASK_AGAIN: Duration = Duration::from_secs(15);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Following(BTreeMap<ShardId, Awaited>);

#[derive(Debug)]
struct Awaited {
    /// What is waited for.
    through: SequenceNumber,
    /// Where the owner is, and since when it is there.
    at: SequenceNumber,
    since: Instant,
    asked: Option<(SequenceNumber, Instant)>,
}

impl Following {
    /// Who has not moved although somebody waits, in words.
    pub(super) fn stalled(&self, leases: &BTreeMap<ShardId, Lease>) -> Option<String> {
        let (shard, awaited) = self.0.iter().find(|(_, awaited)| awaited.since.elapsed() >= STILL_MAX)?;
        let owner = leases.get(shard).and_then(|lease| lease.owner.as_deref()).unwrap_or("nobody");
        let (at, secs) = (awaited.at, awaited.since.elapsed().as_secs());
        Some(format!(
            "{shard} is read by {owner}, which has not gone past {at} for {secs} s, while somebody waits for {}: see what its /health says, or stop it, and \
             another process takes the shard over",
            awaited.through
        ))
    }

    /// Whose commits are awaited, in words: each process once.
    fn owners(&self, leases: &BTreeMap<ShardId, Lease>) -> Option<String> {
        let mut of: BTreeMap<Option<&str>, Vec<&str>> = BTreeMap::new();
        for (shard, _) in self.0.iter().filter(|(_, awaited)| awaited.since.elapsed() >= WORD_AFTER) {
            let owner = leases.get(shard).and_then(|lease| lease.owner.as_deref());
            of.entry(owner).or_default().push(shard.as_str());
        }
        let said = of.into_iter().map(|(owner, shards)| match owner {
            Some(owner) => format!("{owner} folds {}, and its next commit is awaited", shards.join(" and ")),
            None => format!("nobody has {} yet, and whoever takes it is awaited", shards.join(" and ")),
        });
        let said = said.collect::<Vec<_>>().join("; ");
        (!said.is_empty()).then_some(said)
    }
}

impl Leasing {
    /// Looks how far others are with what somebody here waits for. What cannot be looked up now is looked up at the next call.
    pub(super) async fn follow(&self) {
        let mut wanted: BTreeMap<ShardId, SequenceNumber> = held(&self.workers.awaited).clone();
        for (shard, through) in self.workers.ledger.unsettled() {
            let most = wanted.entry(shard).or_default();
            *most = through.max(*most);
        }
        let applied: BTreeMap<ShardId, SequenceNumber> = self.workers.ledger.applied_through().into_iter().collect();
        let running = self.workers.running();
        wanted.retain(|shard, through| !running.contains(shard) && applied.get(shard).is_none_or(|at| at < through));
        let mut state = self.state.lock().await;
        state.following.0.retain(|shard, _| wanted.contains_key(shard));
        for (shard, through) in wanted {
            let Ok(applied) = self.workers.applied(&shard).await else { continue };
            let at = applied.through;
            self.workers.ledger.passed(&shard, at);
            if at >= through {
                state.following.0.remove(&shard);
                continue;
            }
            let is_asked = state.leases.get(&shard).is_some_and(|lease| lease.owner.is_some());
            let now = Instant::now();
            let awaited = state.following.0.entry(shard.clone());
            let awaited = awaited.or_insert(Awaited { through, at, since: now, asked: None });
            if at > awaited.at {
                (awaited.at, awaited.since) = (at, now);
            }
            awaited.through = through;
            let was_asked = awaited.asked.is_some_and(|(of, when)| of >= through && when.elapsed() < ASK_AGAIN);
            if is_asked && !was_asked && self.table.want(&shard, through).await.is_ok() {
                awaited.asked = Some((through, now));
            }
        }
        let following = &state.following;
        self.workers.notes.waits_for(following.owners(&state.leases), following.stalled(&state.leases));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use processor::leases::Noted;

    use super::*;

    fn lease(shard: u64, owner: Option<&str>) -> (ShardId, Lease) {
        let shard = ShardId::numbered(shard);
        let owner = owner.map(str::to_owned);
        let (counter, noted, wanted) = (1, Noted::Nothing, SequenceNumber::ZERO);
        (shard.clone(), Lease { shard, owner, counter, noted, wanted })
    }

    #[tokio::test(start_paused = true)]
    async fn each_process_whose_commit_is_awaited_is_named_once_and_in_no_words_of_alarm() {
        let leases: BTreeMap<_, _> =
            [lease(1, Some("a:1")), lease(2, Some("b:2")), lease(3, Some("a:1")), lease(4, None)].into();
        let now = Instant::now();
        let awaited = |shard: &ShardId| {
            let (through, at) = (SequenceNumber::MAX, SequenceNumber::ZERO);
            (shard.clone(), Awaited { through, at, since: now, asked: None })
        };
        let following = Following(leases.keys().map(awaited).collect());
        assert_eq!(following.owners(&leases), None, "most often it is over before");
        tokio::time::advance(WORD_AFTER).await;
        let [one, two, three, four] = [1, 2, 3, 4].map(ShardId::numbered);
        assert_eq!(
            following.owners(&leases).unwrap(),
            format!(
                "nobody has {four} yet, and whoever takes it is awaited; a:1 folds {one} and {three}, and its next commit is awaited; b:2 folds {two}, and \
                 its next commit is awaited"
            )
        );
    }
}
