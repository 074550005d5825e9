//! A commit: rows, then parts, then the resume point by one conditional write, then the removal of what it no longer names.
//!
//! Invariants:
//! - A resume point is put only on condition that the one it was compared with still stands, so it only moves forward, and each part that it only
//!   refers to is one that the standing one names.
//! - A part is removed only if it was offered by a commit at or before a position that stands and does not name it: no commit that could still
//!   name it can win any more, unless it offers it again, and then it has a later position.

mod parts;

use std::collections::{BTreeMap, HashSet};

use aws_sdk_dynamodb::{
    operation::put_item::PutItemError,
    types::{ReturnConsumedCapacity, ReturnValuesOnConditionCheckFailure},
};
use bytes::Bytes;
use events::position::{SequenceNumber, ShardId};

use super::{
    DynamoDb,
    call::{Answer, Failed, TRIES_MAX, call},
    item::{self, POSITION, Standing},
    layout::{self, Place, Sort, Table},
    lock, write,
};
use crate::store::{
    Checkpoint, Commit, Committed, Generation, NAME_BYTES_MAX, PART_BYTES_MAX, PartName, ReadError, WriteError,
    Written, key::SHARD_BYTES_MAX,
};

/// Bodies of parts that lie in the resume point itself, all together: a part of its own costs its kilobytes twice, to put and to remove. Up to here
/// a look at how far a shard is stays one read unit, which is 4 KB.
pub(super) const HELD_BYTES_MAX: usize = 3_000;
/// Shards whose resume points this process remembers; with one more it forgets all, and reads them.
const REMEMBERED_MAX: usize = 10_000;

/// What this process knows of a shard.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    /// The resume point that stood when it was last seen. Written on that condition, so a wrong one costs a request and no more.
    standing: Option<Standing>,
    /// Parts that no resume point names and that could not be removed. `None`: what others left was not looked for yet.
    unnamed: Option<Vec<PartName>>,
}

fn resume_point(generation: Generation, shard: &ShardId) -> Place {
    let partition = layout::shard_partition(generation, shard);
    Place { table: Table::Checkpoints, partition, sort: Sort::Text(item::RESUME_POINT.into()) }
}

fn part(generation: Generation, shard: &ShardId, PartName(name): &PartName) -> Place {
    let partition = layout::part_partition(generation, shard, name);
    Place { table: Table::Checkpoints, partition, sort: Sort::Text(name.clone()) }
}

impl DynamoDb {
    pub(super) async fn put_commit(&self, commit: Commit) -> Result<Committed, WriteError> {
        let Commit { rows, parts, checkpoint } = commit;
        check(&checkpoint, &parts)?;
        let offered = write::offer(rows)?;
        let rows = self.put_rows(offered).await?;
        let some_stand = rows.contains(&Written::Stored);
        let checkpoint = self.put_parts_and_point(checkpoint, parts).await;
        let unknown = |failed: Failed| Failed { may_have_happened: failed.may_have_happened || some_stand, ..failed };
        Ok(Committed { rows, checkpoint: checkpoint.map_err(unknown)? })
    }

    /// Parts, then the resume point. `Err`: the position that stands instead.
    async fn put_parts_and_point(
        &self,
        checkpoint: Checkpoint,
        parts: Vec<(PartName, Bytes)>,
    ) -> Result<Result<(), SequenceNumber>, Failed> {
        let of = (checkpoint.generation, checkpoint.shard.clone());
        let mut doubt = false;
        let remembered = lock(&self.remembered).get(&of).and_then(|remembered| remembered.standing.clone());
        // What is remembered may be old: nothing is refused by it.
        let mut is_remembered = remembered.is_some();
        let mut standing = if is_remembered { remembered } else { self.read_point(&of).await? };
        for _ in 0..TRIES_MAX {
            let in_doubt = |failed: Failed| Failed { may_have_happened: failed.may_have_happened || doubt, ..failed };
            if let Some(position) = refusal(standing.as_ref(), &checkpoint, &parts) {
                if is_remembered {
                    standing = self.read_point(&of).await.map_err(in_doubt)?;
                    is_remembered = false;
                    continue;
                }
                self.lost(&of, position, standing, &checkpoint, &parts).await;
                return Ok(Err(position));
            }
            let (new, to_put) = lay_out(&checkpoint, &parts, standing.as_ref(), self.held_bytes_max);
            // Nobody sees a part that no resume point names.
            let put = self.put_parts(&of, checkpoint.position, to_put).await;
            put.map_err(|failed| Failed { may_have_happened: doubt, ..failed })?;
            match self.put_point(&of, &new, standing.as_ref()).await.map_err(in_doubt)? {
                Moved::Done => {
                    self.won(&of, standing, new).await;
                    return Ok(Ok(()));
                }
                Moved::Refused { stands, after_doubt } => {
                    doubt |= after_doubt;
                    // One of this call's own tries is what stands.
                    if doubt && stands.as_ref() == Some(&new) {
                        self.won(&of, standing, new).await;
                        return Ok(Ok(()));
                    }
                    (standing, is_remembered) = (stands, false);
                }
            }
        }
        let why = format!("the resume point of {} in table {} is being moved by others; again", of.1, self.checkpoints);
        Err(Failed { may_have_happened: doubt, why })
    }

    /// Removes what the resume point before named and this one does not, what could not be removed before, and, once in a process, what others left.
    async fn won(&self, of: &(Generation, ShardId), before: Option<Standing>, new: Standing) {
        let unnamed = self.remember(of, Some(new.clone()));
        let (mut unnamed, is_all) = match unnamed {
            Some(unnamed) => (unnamed, true),
            // What fails is tried again after the next commit.
            None => self.part_names(of).await.map_or((vec![], false), |names| (names, true)),
        };
        unnamed.extend(before.iter().flat_map(Standing::items).cloned());
        let named: HashSet<&PartName> = new.items().collect();
        let unnamed: HashSet<PartName> = unnamed.into_iter().filter(|name| !named.contains(name)).collect();
        let left = self.remove_parts(of, new.position, unnamed.into_iter().collect()).await;
        self.leave(of, left, is_all);
    }

    /// Remembers parts to remove after a later commit.
    fn leave(&self, of: &(Generation, ShardId), left: Vec<PartName>, is_all: bool) {
        let mut remembered = lock(&self.remembered);
        let unnamed = &mut remembered.entry(of.clone()).or_default().unnamed;
        match unnamed {
            Some(unnamed) => unnamed.extend(left),
            None if is_all => *unnamed = Some(left),
            None => {}
        }
    }

    /// Removes what this commit offered in vain, where none with these parts can win any more.
    async fn lost(
        &self,
        of: &(Generation, ShardId),
        position: SequenceNumber,
        standing: Option<Standing>,
        checkpoint: &Checkpoint,
        parts: &[(PartName, Bytes)],
    ) {
        self.remember(of, standing.clone()).into_iter().for_each(|unnamed| self.leave(of, unnamed, true));
        if position >= checkpoint.position {
            let is_named = |name: &PartName| standing.iter().any(|standing| standing.items().any(|item| item == name));
            let unnamed = parts.iter().map(|(name, _)| name).filter(|name| !is_named(name)).cloned().collect();
            let left = self.remove_parts(of, position, unnamed).await;
            self.leave(of, left, false);
        }
    }

    /// Returns the parts that were remembered as named by nobody.
    fn remember(&self, of: &(Generation, ShardId), standing: Option<Standing>) -> Option<Vec<PartName>> {
        let mut remembered = lock(&self.remembered);
        if remembered.len() >= REMEMBERED_MAX {
            remembered.clear();
        }
        remembered.insert(of.clone(), Remembered { standing, unnamed: None }).unwrap_or_default().unnamed
    }

    pub(super) async fn read_point(
        &self,
        (generation, shard): &(Generation, ShardId),
    ) -> Result<Option<Standing>, Failed> {
        let Some(item) = self.get(&resume_point(*generation, shard)).await? else { return Ok(None) };
        let damaged = |flaw| Failed::before(self.damaged(*generation, shard, flaw));
        item::read_checkpoint(&item).map(Some).map_err(damaged)
    }

    fn damaged(&self, generation: Generation, shard: &ShardId, flaw: item::Flaw) -> String {
        format!(
            "the resume point of {shard} in generation {} has no {flaw}, or another than was written, in table {}; restore the table to a point \
             before, or replay",
            generation.0, self.checkpoints
        )
    }

    /// Moves the resume point, if the one that it was compared with still stands.
    async fn put_point(
        &self,
        (generation, shard): &(Generation, ShardId),
        new: &Standing,
        standing: Option<&Standing>,
    ) -> Result<Moved, Failed> {
        let table = self.name(Table::Checkpoints);
        let mut request = self
            .client
            .put_item()
            .table_name(table)
            .set_item(Some(item::checkpoint(&resume_point(*generation, shard), new)))
            .expression_attribute_names("#k", POSITION)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        request = match standing {
            None => request.condition_expression("attribute_not_exists(#k)"),
            Some(standing) => request
                .condition_expression("#k = :k")
                .expression_attribute_values(":k", item::text(item::position_text(standing.position))),
        };
        let moved = PutItemError::is_conditional_check_failed_exception;
        match call(self.pace, ("PutItem", table), moved, || request.clone().send()).await? {
            Answer::Done(answer) => {
                self.meter.write(answer.consumed_capacity());
                Ok(Moved::Done)
            }
            Answer::Refused { error, after_doubt } => {
                let item = match &error {
                    PutItemError::ConditionalCheckFailedException(failed) => failed.item(),
                    _ => None,
                };
                let stands = match item.map(item::read_checkpoint) {
                    Some(Ok(stands)) => Some(stands),
                    // Not every emulator returns it.
                    _ => {
                        let read = self.read_point(&(*generation, shard.clone())).await;
                        read.map_err(|failed| Failed { may_have_happened: after_doubt, ..failed })?
                    }
                };
                Ok(Moved::Refused { stands, after_doubt })
            }
        }
    }

    pub(super) async fn read_checkpoint(
        &self,
        generation: Generation,
        shard: &ShardId,
    ) -> Result<Option<(Checkpoint, Vec<Bytes>)>, ReadError> {
        let of = (generation, shard.clone());
        let mut before = None;
        for _ in 0..TRIES_MAX {
            let Some(standing) = self.read_point(&of).await? else { return Ok(None) };
            let Some(found) = self.bodies(&of, &standing).await? else {
                // Another worker has moved it meanwhile, and removed what it named.
                if before.as_ref() == Some(&standing) {
                    return Err(ReadError::Damaged(self.damaged(generation, shard, "such part")));
                }
                before = Some(standing);
                continue;
            };
            self.remember(&of, Some(standing.clone())).into_iter().for_each(|left| self.leave(&of, left, true));
            return Ok(Some((standing.of(generation, shard), found)));
        }
        Err(ReadError::Unavailable(format!("the resume point of {shard} is being moved by others; again")))
    }

    /// The bodies of a resume point's parts, in their order; `None`: one is gone.
    async fn bodies(&self, of: &(Generation, ShardId), standing: &Standing) -> Result<Option<Vec<Bytes>>, ReadError> {
        let items: Vec<PartName> = standing.items().cloned().collect();
        let Some(bodies) = self.read_parts(of, &items).await? else { return Ok(None) };
        let mut bodies = bodies.into_iter();
        let body = |name| standing.held.get(name).cloned().or_else(|| bodies.next());
        Ok(standing.parts.iter().map(body).collect())
    }
}

/// The resume point that is to stand, and the parts that have to stand as items before. Of those that are at hand the smallest lie in the resume point.
/// What stands as an item is not put again: a name never changes what it means.
fn lay_out(
    checkpoint: &Checkpoint,
    parts: &[(PartName, Bytes)],
    standing: Option<&Standing>,
    held_bytes_max: usize,
) -> (Standing, Vec<(PartName, Bytes)>) {
    let named: HashSet<&PartName> = checkpoint.parts.iter().collect();
    let items: HashSet<&PartName> = standing.iter().flat_map(|standing| standing.items()).collect();
    let at_hand = standing.iter().flat_map(|standing| &standing.held);
    let at_hand = at_hand.chain(parts.iter().map(|(name, body)| (name, body)));
    let new: BTreeMap<&PartName, &Bytes> =
        at_hand.filter(|(name, _)| named.contains(name) && !items.contains(name)).collect();
    let mut new: Vec<_> = new.into_iter().map(|(name, body)| (name.clone(), body.clone())).collect();
    new.sort_by_key(|(_, body)| body.len());
    let mut bytes = 0;
    let fits = |(_, body): &&(PartName, Bytes)| {
        bytes += body.len();
        bytes <= held_bytes_max
    };
    let held = new.iter().take_while(fits).count();
    let to_put = new.split_off(held);
    (Standing { held: new.into_iter().collect(), ..Standing::from(checkpoint) }, to_put)
}

/// What became of a resume point that was put.
enum Moved {
    Done,
    /// Another one stands; or, `after_doubt`, it may be what an earlier try put.
    Refused {
        stands: Option<Standing>,
        after_doubt: bool,
    },
}

/// The position for whose sake a resume point cannot be put: it is not behind, or it does not name a part that this one only refers to.
fn refusal(standing: Option<&Standing>, new: &Checkpoint, parts: &[(PartName, Bytes)]) -> Option<SequenceNumber> {
    let (position, ended) =
        standing.map_or((SequenceNumber::ZERO, false), |standing| (standing.position, standing.ended));
    let mut known: HashSet<&PartName> = standing.iter().flat_map(|standing| &standing.parts).collect();
    known.extend(parts.iter().map(|(name, _)| name));
    let goes_on = standing.is_none() || (position, ended) < (new.position, new.ended);
    (!goes_on || !new.parts.iter().all(|name| known.contains(name))).then_some(position)
}

fn check(checkpoint: &Checkpoint, parts: &[(PartName, Bytes)]) -> Result<(), WriteError> {
    let refuse = |why: String| Err(WriteError::NotWritten(why));
    let shard = checkpoint.shard.as_str();
    if shard.len() > SHARD_BYTES_MAX || shard.contains('\0') {
        return refuse(format!("the shard's name `{shard}` holds a NUL byte or has more than {SHARD_BYTES_MAX} bytes"));
    }
    let bad = |name: &&PartName| name.0.is_empty() || name.0.len() > NAME_BYTES_MAX || name.0.contains('\0');
    if let Some(PartName(name)) = checkpoint.parts.iter().chain(parts.iter().map(|(name, _)| name)).find(bad) {
        return refuse(format!(
            "the part's name `{name}` is empty, holds a NUL byte or has more than {NAME_BYTES_MAX} bytes"
        ));
    }
    match parts.iter().find(|(_, body)| body.len() > PART_BYTES_MAX) {
        Some((PartName(name), body)) => {
            refuse(format!("part `{name}` has {} bytes, {PART_BYTES_MAX} are allowed", body.len()))
        }
        None => Ok(()),
    }
}
