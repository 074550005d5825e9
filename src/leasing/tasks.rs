//! The leases of generations that are followed with: decides what a row of the table is called that is no shard's, and which generations this process
//! follows with. One process follows with a generation, for all shards, as their homes tell each other what they heard in memory; which one it is does not
//! matter, so loads are not evened out. Two at the same time harm nothing (laws 4 and 5), and cost twice.

use std::collections::{BTreeMap, BTreeSet};

use events::position::ShardId;
use processor::leases::{Lease, Step, dynamodb::TableError, plan_tasks};
use projections::store::Generation;

use super::{Leasing, State};
use crate::workers::held;

/// How the names of these rows begin; no shard's does.
const GENERATION: &str = "generation/";

fn name_of(generation: Generation) -> ShardId {
    ShardId::named(&format!("{GENERATION}{}", generation.0))
}

fn generation_of(task: &ShardId) -> Option<Generation> {
    task.as_str().strip_prefix(GENERATION)?.parse().ok().map(Generation)
}

/// True if a row is no shard's.
pub(super) fn is_task(lease: &Lease) -> bool {
    lease.shard.as_str().starts_with(GENERATION)
}

impl Leasing {
    /// Which generations are to be followed with; `None`: this process has not looked yet.
    pub(super) fn wanted_tasks(&self) -> Option<BTreeSet<ShardId>> {
        let wanted = held(&self.workers.following.wanted).clone()?;
        Some(wanted.into_iter().map(name_of).collect())
    }

    /// True: another look may find more to do.
    pub(super) async fn look_at_tasks(
        &self,
        state: &mut State,
        leases: &[Lease],
        silent: &BTreeSet<ShardId>,
    ) -> Result<bool, TableError> {
        let Some(wanted) = self.wanted_tasks() else { return Ok(false) };
        let (mut changed, mut tasks) = (false, BTreeMap::new());
        for step in plan_tasks(&self.me, &wanted, leases, silent) {
            let won = self.table.carry_out(&self.me, &step).await?;
            match step {
                Step::Renew(lease) | Step::Take { lease, .. } if won => {
                    let kept = Lease { owner: Some(self.me.clone()), counter: lease.counter + 1, ..lease };
                    tasks.insert(kept.shard.clone(), kept);
                }
                Step::CreateTask(_) => changed = true,
                _ => {}
            }
        }
        *held(&self.workers.following.mine) = tasks.keys().filter_map(generation_of).collect();
        state.tasks = tasks;
        Ok(changed)
    }

    /// Gives all of them back. Its threads may still commit: whoever takes one over begins behind that, or again.
    pub(super) async fn leave_tasks(&self) {
        let mut state = self.state.lock().await;
        for (_, lease) in std::mem::take(&mut state.tasks) {
            // One that cannot be given back is taken over after a while.
            let _ = self.table.release(&lease, None).await;
        }
        held(&self.workers.following.mine).clear();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_generations_row_is_told_from_a_shards_and_names_it() {
        let name = name_of(Generation(7));
        assert_eq!((name.as_str(), generation_of(&name)), ("generation/7", Some(Generation(7))));
        assert_eq!(generation_of(&ShardId::numbered(7)), None);
    }
}
