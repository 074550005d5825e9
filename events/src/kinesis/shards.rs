//! The shards of a stream, as ListShards tells them: all pages, parents before children; and the ring, which says whose a key is just now.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::Duration,
};

use aws_sdk_kinesis::{Client, types};
use tokio::time::Instant;

use super::{
    Options,
    failure::{Failure, Kind},
    pace::Bucket,
};
use crate::{
    position::{HashKey, HashRange, SequenceNumber, ShardId},
    stream::Shard,
};

/// Most pages of one listing, each of up to 1,000 shards. Beyond: the listing fails.
const PAGES_MAX: usize = 1_000;
/// How often a listing begins anew because a page's token was too old. Then it fails.
const LISTINGS_MAX: usize = 3;

/// A shard, and what else a reader wants to know of it.
#[derive(Debug, Clone)]
pub(super) struct Listed {
    pub shard: Shard,
    /// Behind all its records; known once it is closed.
    pub ending: Option<SequenceNumber>,
}

/// All shards that are listed, parents before children. `parents` are as they were listed: also those that are not listed themselves any more.
pub(super) async fn list(client: &Client, name: &str) -> Result<Vec<Listed>, Failure> {
    let mut last = None;
    for _ in 0..LISTINGS_MAX {
        match list_once(client, name).await {
            Err(failure) if failure.kind == Kind::Expired => last = Some(failure),
            Err(failure) => return Err(failure),
            Ok(all) => return all.iter().map(listed).collect::<Result<_, _>>().map(in_order),
        }
    }
    Err(last.unwrap_or_else(|| Failure::new(Kind::Expired, "the listing of shards did not end")))
}

async fn list_once(client: &Client, name: &str) -> Result<Vec<types::Shard>, Failure> {
    let mut all = Vec::new();
    let mut token: Option<String> = None;
    for _ in 0..PAGES_MAX {
        // With a token, the name must not be given (API reference, `ListShards`).
        let call = match token.take() {
            Some(token) => client.list_shards().next_token(token),
            None => client.list_shards().stream_name(name),
        };
        let answer = call.send().await.map_err(|error| Failure::of(&error))?;
        token = answer.next_token;
        all.extend(answer.shards.unwrap_or_default());
        if token.is_none() {
            return Ok(all);
        }
    }
    Err(Failure::new(Kind::Refused, format!("the stream has more than {PAGES_MAX} pages of shards")))
}

fn listed(shard: &types::Shard) -> Result<Listed, Failure> {
    let id = ShardId::named(shard.shard_id());
    let strange = |what: &str| Failure::new(Kind::Refused, format!("{id} was listed with {what}"));
    let range = shard.hash_key_range().ok_or_else(|| strange("no range of keys"))?;
    let key = |text: &str| text.parse().map(HashKey).map_err(|_| strange("a key that is no number"));
    let range = HashRange { from: key(range.starting_hash_key())?, through: key(range.ending_hash_key())? };
    let ending = shard.sequence_number_range().and_then(|range| range.ending_sequence_number());
    let ending = ending.map(str::parse).transpose().map_err(|_| strange("an end that is no sequence number"))?;
    let parents = [shard.parent_shard_id(), shard.adjacent_parent_shard_id()];
    let parents = parents.into_iter().flatten().map(ShardId::named).collect();
    Ok(Listed { shard: Shard { id, range, parents, closed: ending.is_some() }, ending })
}

/// Parents before children, and otherwise by name. Parents that are not among them decide nothing here, and stay named: what is lost with them is for
/// the reader to say.
fn in_order(mut all: Vec<Listed>) -> Vec<Listed> {
    all.sort_by(|a, b| a.shard.id.cmp(&b.shard.id));
    let names: BTreeSet<ShardId> = all.iter().map(|listed| listed.shard.id.clone()).collect();
    let (mut ordered, mut done) = (Vec::with_capacity(all.len()), BTreeSet::new());
    while !all.is_empty() {
        let before = all.len();
        let mut later = Vec::new();
        for listed in all {
            if listed.shard.parents.iter().all(|parent| done.contains(parent) || !names.contains(parent)) {
                done.insert(listed.shard.id.clone());
                ordered.push(listed);
            } else {
                later.push(listed);
            }
        }
        all = later;
        if all.len() == before {
            // Shards that descend from each other: no stream has them. They are shown rather than waited for.
            ordered.append(&mut all);
        }
    }
    ordered
}

/// What the appends know of a shard: who comes first goes first, whatever the size of the records.
#[derive(Debug)]
pub(super) struct Gate {
    began: Instant,
    state: Mutex<GateState>,
}

/// Times are those of the gate's own clock, which stands still while the shard is held: whoever has a turn keeps its place.
#[derive(Debug)]
struct GateState {
    bytes: Bucket,
    records: Bucket,
    /// How long it was held in all, and until when, since the gate began.
    held: Duration,
    held_until: Duration,
}

/// When a record may go, by the gate's own clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turn(Duration);

impl Gate {
    fn new(options: &Options) -> Self {
        let state = GateState {
            bytes: Bucket::new(options.write_bytes_per_sec),
            records: Bucket::new(options.write_records_per_sec),
            held: Duration::ZERO,
            held_until: Duration::ZERO,
        };
        Self { began: Instant::now(), state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, GateState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A turn for one record of so many bytes, behind all who have one; none, and nothing is taken, if it would come after more than `longest`.
    pub fn turn(&self, bytes: usize, longest: Duration) -> Option<Turn> {
        let (mut state, since) = (self.state(), self.began.elapsed());
        let now = since.max(state.held_until).saturating_sub(state.held);
        let (after_bytes, after_records) = (state.bytes.after(now, bytes), state.records.after(now, 1));
        let turn = now.max(after_bytes.paid_at()).max(after_records.paid_at());
        if turn + state.held > since + longest {
            return None;
        }
        (state.bytes, state.records) = (after_bytes, after_records);
        Some(Turn(turn))
    }

    /// When a turn comes, unless the shard is held again.
    pub fn comes_at(&self, turn: Turn) -> Instant {
        self.began + turn.0 + self.state().held
    }

    /// Nothing goes for so long from now, after a throttle: somebody else writes too. A longer hold stays.
    pub fn hold(&self, pause: Duration) {
        let (mut state, since) = (self.state(), self.began.elapsed());
        let (from, until) = (since.max(state.held_until), since + pause);
        if until > from {
            state.held += until - from;
            state.held_until = until;
        }
    }
}

/// Whose each key is, as far as is known: a stream is split and merged while this looks away, so it decides rates, never positions.
#[derive(Debug, Default)]
pub(super) struct Ring(RwLock<Vec<(Shard, Arc<Gate>)>>);

impl Ring {
    /// Takes a new listing; the gates of shards that stay stay.
    pub fn learn(&self, all: &[Listed], options: &Options) {
        let mut ring = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let mut open: Vec<(Shard, Arc<Gate>)> = Vec::new();
        for listed in all.iter().filter(|listed| !listed.shard.closed) {
            let known = ring.iter().find(|(shard, _)| shard.id == listed.shard.id);
            let gate = known.map_or_else(|| Arc::new(Gate::new(options)), |(_, gate)| gate.clone());
            open.push((listed.shard.clone(), gate));
        }
        open.sort_by_key(|(shard, _)| shard.range.from);
        *ring = open;
    }

    /// The gate of the shard that owns the key, if any is known.
    pub fn gate(&self, key: HashKey) -> Option<Arc<Gate>> {
        let ring = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let (_, gate) = ring.get(ring.partition_point(|(shard, _)| shard.range.through < key))?;
        Some(gate.clone())
    }

    /// True if a shard that took a record is among those known.
    pub fn knows(&self, id: &str) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).iter().any(|(shard, _)| shard.id.as_str() == id)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn named(id: &str, parents: &[&str]) -> Listed {
        let range = HashRange { from: HashKey(0), through: HashKey(u128::MAX) };
        let parents = parents.iter().map(|parent| ShardId::named(parent)).collect();
        Listed { shard: Shard { id: ShardId::named(id), range, parents, closed: false }, ending: None }
    }

    #[test]
    fn parents_come_before_children_and_those_that_are_gone_stay_named() {
        let all = vec![named("a", &["c", "z"]), named("b", &[]), named("c", &["d"]), named("d", &["gone"])];
        let ordered = in_order(all);
        let names: Vec<&str> = ordered.iter().map(|listed| listed.shard.id.as_str()).collect();
        assert_eq!(names, ["b", "d", "c", "a"]);
        let parents = |i: usize| ordered[i].shard.parents.iter().map(ShardId::as_str).collect::<Vec<_>>();
        assert_eq!((parents(1), parents(3)), (vec!["gone"], vec!["c", "z"]), "`gone` and `z` are not listed");
    }

    #[test]
    fn a_circle_of_parents_ends() {
        assert_eq!(in_order(vec![named("a", &["b"]), named("b", &["a"])]).len(), 2);
    }

    fn gate() -> Gate {
        Gate::new(&Options::default())
    }

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn a_large_record_has_its_turn_although_others_go_on_writing_small_ones() {
        let gate = gate();
        for _ in 0..10 {
            gate.turn(100_000, MINUTE).unwrap();
        }
        let large = gate.turn(1 << 20, MINUTE).unwrap();
        let comes = gate.comes_at(large);
        for _ in 0..200 {
            let small = gate.turn(100_000, MINUTE).unwrap();
            assert!(gate.comes_at(small) > comes, "who comes later goes later");
        }
        assert_eq!(gate.comes_at(large), comes);
        assert!(comes - Instant::now() < Duration::from_millis(1_100), "a second and a little is what it costs");
    }

    #[tokio::test(start_paused = true)]
    async fn whose_turn_would_come_too_late_has_none_and_takes_nothing() {
        let gate = gate();
        while gate.turn(500_000, Duration::from_secs(5)).is_some() {}
        let before = gate.comes_at(gate.turn(1, MINUTE).unwrap());
        assert!((0..100).all(|_| gate.turn(1 << 20, Duration::from_secs(5)).is_none()));
        let after = gate.comes_at(gate.turn(1, MINUTE).unwrap());
        assert!(after - before < Duration::from_millis(2), "refused, they took neither bytes nor records");
    }

    #[tokio::test(start_paused = true)]
    async fn a_hold_moves_all_turns_and_does_not_let_them_go_at_once_when_it_ends() {
        let gate = gate();
        let turns: Vec<Turn> = (0..40).map(|_| gate.turn(100_000, MINUTE).unwrap()).collect();
        let before: Vec<Instant> = turns.iter().map(|turn| gate.comes_at(*turn)).collect();
        gate.hold(Duration::from_secs(5));
        gate.hold(Duration::from_secs(1));
        let held = |turn: &Turn, before: &Instant| gate.comes_at(*turn) == *before + Duration::from_secs(5);
        assert!(turns.iter().zip(&before).all(|(turn, before)| held(turn, before)));
        let next = gate.comes_at(gate.turn(1, MINUTE).unwrap());
        assert!(next > gate.comes_at(turns[39]));
    }
}
