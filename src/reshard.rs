//! The shards of the stream, as people see and change them. Decides where a shard is split; that a worker goes from parents to children by itself is
//! `workers`'. A stream on AWS is resharded by AWS's own tools, which also know what it costs: that is said, with the command.

use std::collections::HashSet;

use api::operator::{NotDone, Reshard};
use events::{
    position::{HashKey, HashRange, ShardId},
    stream::{ReadError, Shard, Stream},
};
use projections::{fold::LINEAGE_MAX, store::Store};
use serde_json::{Value, json};

use crate::{AnyStream, LocalStream, System, with_causes};

/// The first key of the upper half; of a shard that has one key only, that one, which the stream refuses.
fn middle(range: HashRange) -> HashKey {
    let HashRange { from, through } = range;
    HashKey(from.0 + (through.0 - from.0) / 2 + u128::from(from < through))
}

/// One as it is shown; `folded`: up to where its rows can be read.
fn shown(shard: &Shard, folded: Option<String>) -> Value {
    let parents: Vec<String> = shard.parents.iter().map(ToString::to_string).collect();
    json!({
        "shard": shard.id.to_string(), "state": if shard.closed { "closed" } else { "open" }, "parents": parents, "foldedThrough": folded,
        "startingHashKey": shard.range.from.0.to_string(), "endingHashKey": shard.range.through.0.to_string(),
    })
}

impl System {
    /// How many shards take records now.
    pub async fn open_shards(&self) -> Result<usize, ReadError> {
        self.stream.shards().await.map(|listed| listed.iter().filter(|shard| !shard.closed).count())
    }

    /// All shards that the stream lists.
    pub(crate) async fn shards_shown(&self) -> Result<Value, NotDone> {
        let listed = self.stream.shards().await.map_err(|error| NotDone::Failed(with_causes(&error)))?;
        let mut all = vec![];
        for shard in &listed {
            let point = self.store.resume_point(self.generation(), &shard.id).await;
            let point = point.map_err(|error| NotDone::Failed(with_causes(&error)))?;
            all.push(shown(shard, point.map(|point| point.position.to_string())));
        }
        Ok(json!({ "shards": all }))
    }

    /// Splits or merges; what is appended meanwhile goes to the old shards or to the new ones.
    pub(crate) async fn reshard(&self, change: Reshard) -> Result<Value, NotDone> {
        let listed = self.stream.shards().await.map_err(|error| NotDone::Failed(with_causes(&error)))?;
        let made = match &*self.stream {
            AnyStream::Local(stream) => local(stream, &listed, &change)?,
            #[cfg(feature = "aws")]
            AnyStream::Kinesis(stream) => return Err(on_kinesis(stream.name(), &listed, &change)),
            #[cfg(feature = "aws")]
            AnyStream::FanOut(stream) => return Err(on_kinesis(stream.stream().name(), &listed, &change)),
        };
        let made: Vec<String> = made.iter().map(ToString::to_string).collect();
        Ok(json!({ "shards": made }))
    }
}

/// The range of one that may be split.
fn range_of(listed: &[Shard], shard: &ShardId) -> Result<HashRange, NotDone> {
    let found = listed.iter().find(|known| known.id == *shard);
    let refused = || NotDone::Refused(format!("the stream has no shard `{shard}`: `weir shards` lists them"));
    found.map(|found| found.range).ok_or_else(refused)
}

/// All shards whose keys a child of these would have, by themselves or their ancestors.
fn ancestors(listed: &[Shard], parents: &[ShardId]) -> HashSet<ShardId> {
    let (mut found, mut open) = (HashSet::new(), parents.to_vec());
    while let Some(id) = open.pop() {
        if found.insert(id.clone()) {
            open.extend(listed.iter().filter(|shard| shard.id == id).flat_map(|shard| shard.parents.clone()));
        }
    }
    found
}

fn local(stream: &LocalStream, listed: &[Shard], change: &Reshard) -> Result<Vec<ShardId>, NotDone> {
    let parents = match change {
        Reshard::Split(shard) => std::slice::from_ref(shard),
        Reshard::Merge(both) => both,
    };
    // A fold that met more would stop for good.
    if ancestors(listed, parents).len() > LINEAGE_MAX {
        return Err(NotDone::Refused(format!(
            "the new shards would have more than {LINEAGE_MAX} ancestors by splits and merges, which is the limit"
        )));
    }
    let made = match change {
        Reshard::Split(shard) => stream.split(shard, middle(range_of(listed, shard)?)).map(Vec::from),
        Reshard::Merge([one, other]) => stream.merge(one, other).map(|made| vec![made]),
    };
    made.map_err(|error| match stream.ended() {
        Some(_) => NotDone::Failed(with_causes(&error)),
        None => NotDone::Refused(format!("{}; `weir shards` lists them", with_causes(&error))),
    })
}

#[cfg(feature = "aws")]
fn on_kinesis(stream: &str, listed: &[Shard], change: &Reshard) -> NotDone {
    let command = match change {
        Reshard::Split(shard) => match range_of(listed, shard) {
            Ok(range) => format!(
                "split-shard --stream-name {stream} --shard-to-split {shard} --new-starting-hash-key {}",
                middle(range).0
            ),
            Err(refused) => return refused,
        },
        Reshard::Merge([one, other]) => {
            format!("merge-shards --stream-name {stream} --shard-to-merge {one} --adjacent-shard-to-merge {other}")
        }
    };
    NotDone::Refused(format!(
        "{stream} is a stream of Kinesis, and an open shard is paid by the hour: run `aws kinesis {command}`; all that reads goes on by itself"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ancestors_are_counted_once_however_many_ways_lead_to_them() {
        // A shard is split and its halves merged again, round after round.
        let range = HashRange { from: HashKey(0), through: HashKey(u128::MAX) };
        let shard = |number: u64, parents: &[u64]| Shard {
            id: ShardId::numbered(number),
            range,
            parents: parents.iter().copied().map(ShardId::numbered).collect(),
            closed: true,
        };
        let mut listed = vec![shard(0, &[])];
        for round in 0..100 {
            let (parent, next) = (3 * round, 3 * round + 1);
            listed.extend([shard(next, &[parent]), shard(next + 1, &[parent]), shard(next + 2, &[next, next + 1])]);
        }
        assert_eq!(ancestors(&listed, &[ShardId::numbered(0)]).len(), 1);
        assert_eq!(ancestors(&listed, &[ShardId::numbered(4), ShardId::numbered(5)]).len(), 6);
        assert_eq!(ancestors(&listed, &[ShardId::numbered(300)]).len(), 301);
    }

    #[test]
    fn the_middle_of_any_range_leaves_keys_on_both_sides() {
        let middle_of =
            |from: u128, through: u128| middle(HashRange { from: HashKey(from), through: HashKey(through) }).0;
        assert_eq!(middle_of(0, u128::MAX), 1 << 127);
        assert_eq!((middle_of(4, 5), middle_of(4, 6), middle_of(u128::MAX - 1, u128::MAX)), (5, 6, u128::MAX));
        assert_eq!(middle_of(7, 7), 7, "the stream refuses it: neither side may be empty");
    }
}
