//! Pulling the plug: whatever chance leaves of what was not synced, an acknowledged commit is whole and no commit is half.

use std::collections::BTreeMap;

use bytes::Bytes;
use events::position::{SequenceNumber, ShardId};

use super::disk::Disk;
use crate::{
    embedded::{Embedded, OpenError},
    store::{
        Checkpoint, Commit, Day, Generation, Kind, PartName, Partial, Row, RowKey, Span, Store, Subject, WriteError,
        law::{block_on, random::Random},
    },
};

const SEEDS: u64 = 200;
const LOSSES: usize = 2;
const SHARD: u64 = 0;

/// What a store should hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct State {
    rows: BTreeMap<RowKey, Row>,
    checkpoint: Option<(Checkpoint, Vec<Bytes>)>,
}

impl State {
    fn of(store: &Embedded) -> Self {
        let span = Span::All { tenant: None, generation: Generation(0), kind: Kind::Window };
        let all = block_on(store.scan(&span, None, 100_000.try_into().unwrap())).unwrap();
        assert_eq!(all.next_after, None);
        let rows = all.rows.into_iter().map(|row| (row.key.clone(), row)).collect();
        let checkpoint = block_on(store.checkpoint(Generation(0), &ShardId::numbered(SHARD))).unwrap();
        Self { rows, checkpoint }
    }

    fn with(&self, commit: &Commit) -> Self {
        let mut rows = self.rows.clone();
        rows.extend(commit.rows.iter().map(|row| (row.key.clone(), row.clone())));
        let known: BTreeMap<&PartName, &Bytes> = self
            .checkpoint
            .iter()
            .flat_map(|(point, bodies)| point.parts.iter().zip(bodies))
            .chain(commit.parts.iter().map(|(name, body)| (name, body)))
            .collect();
        let bodies = commit.checkpoint.parts.iter().map(|name| known[name].clone()).collect();
        Self { rows, checkpoint: Some((commit.checkpoint.clone(), bodies)) }
    }

    fn position(&self) -> u64 {
        self.checkpoint.as_ref().map_or(0, |(point, _)| point.position.parts().unwrap().1)
    }
}

fn bytes(random: &mut Random, length: u64) -> Bytes {
    let mut bytes: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| random.next().to_le_bytes()).collect();
    bytes.truncate(length as usize);
    bytes.into()
}

/// A commit after that state: rows at the end of a few services and some of the old ones, one new part, some by reference.
fn next_commit(state: &State, random: &mut Random) -> Commit {
    let position = state.position() + 1;
    let through = SequenceNumber::from_parts(1, position);
    let mut rows = BTreeMap::new();
    let most = if random.per_mille(100) { 150 } else { 12 };
    for _ in 0..=random.below(most) {
        let old = state.rows.keys().nth(random.below(state.rows.len() as u64 * 2) as usize).cloned();
        let key = old.unwrap_or_else(|| {
            let name = format!("service-{}", random.below(4));
            let subject = Subject { tenant: "t".into(), generation: Generation(0), kind: Kind::Window, name };
            RowKey {
                subject,
                at: (position * 200 + random.below(200)).cast_signed(),
                shard: ShardId::numbered(SHARD),
                partial: Partial(0),
                page: 0,
            }
        });
        let length = if random.per_mille(20) { random.below(60_000) } else { random.below(900) };
        let body = bytes(random, length);
        let folded_on = Day(position as u16);
        let (applied_from, applied_through) = (through, through);
        let row = Row { key: key.clone(), applied_from, applied_through, folded_on, fold_revision: 1, body };
        rows.insert(key, row);
    }
    let new = PartName(format!("part {position}"));
    let mut parts = state.checkpoint.as_ref().map_or_else(Vec::new, |(point, _)| point.parts.clone());
    parts.retain(|_| random.per_mille(600));
    parts.push(new.clone());
    let generation = Generation(0);
    let shard = ShardId::numbered(SHARD);
    let checkpoint = Checkpoint { generation, shard, position: through, fold_revision: 1, ended: false, parts };
    let length = random.below(3_000);
    Commit { rows: rows.into_values().collect(), parts: vec![(new, bytes(random, length))], checkpoint }
}

/// Commits until one is not acknowledged; returns what stands for certain, and the commit that may stand as well.
fn commit_until_refused(store: &Embedded, mut state: State, random: &mut Random) -> (State, Option<Commit>) {
    const COMMITS_MAX: usize = 6;
    for _ in 0..COMMITS_MAX {
        let commit = next_commit(&state, random);
        match block_on(store.commit(commit.clone())) {
            Ok(committed) => {
                assert_eq!(committed.checkpoint, Ok(()));
                state = state.with(&commit);
            }
            Err(WriteError::NotWritten(_)) => return (state, None),
            Err(WriteError::Unknown(_)) => return (state, Some(commit)),
        }
    }
    (state, None)
}

#[test]
fn a_loss_of_power_takes_no_acknowledged_commit_and_leaves_none_half() {
    let (mut losses_in_opening, mut stood, mut gone) = (0, 0, 0);
    for seed in 0..SEEDS {
        let mut random = Random::new(seed);
        let disk = Disk::new();
        // A file gets its name when it is whole (`path::make`).
        drop(disk.open().unwrap());
        let mut certain = State::default();
        let mut possible: Option<Commit> = None;
        for loss in 0..LOSSES {
            let said = format!("seed {seed}, loss {loss}");
            // Now and then while the file is opened or repaired.
            let changes = if random.per_mille(300) { random.below(12) } else { random.below(70) };
            disk.lose_power_after(changes);
            match disk.open() {
                Err(OpenError::Refused { .. } | OpenError::Damaged { .. }) if !disk.has_power() => {
                    losses_in_opening += 1
                }
                Err(error) => panic!("{said}: {error}"),
                // It may have been opened with its last change refused.
                Ok(_) if !disk.has_power() => losses_in_opening += 1,
                Ok(store) => {
                    let found = settle(&store, &certain, possible.as_ref(), &said, (&mut stood, &mut gone));
                    (certain, possible) = commit_until_refused(&store, found, &mut random);
                }
            }
            disk.restore_power(&mut random);
        }
        let said = format!("seed {seed}, at the end");
        let store = disk.open().unwrap_or_else(|error| panic!("{said}: {error}"));
        let certain = settle(&store, &certain, possible.as_ref(), &said, (&mut stood, &mut gone));
        let commit = next_commit(&certain, &mut random);
        assert_eq!(block_on(store.commit(commit.clone())).unwrap().checkpoint, Ok(()), "{said}");
        drop(store);
        assert!(State::of(&disk.open().unwrap()) == certain.with(&commit), "{said}: after closing and opening");
    }
    assert!(
        losses_in_opening > 20 && stood > 5 && gone > 20,
        "{losses_in_opening}, {stood}, {gone}: all kinds were met"
    );
}

/// What stands is what was acknowledged, or that and all of the commit whose answer was lost.
fn settle(
    store: &Embedded,
    certain: &State,
    possible: Option<&Commit>,
    said: &str,
    (stood, gone): (&mut u64, &mut u64),
) -> State {
    let found = State::of(store);
    let whole = possible.map(|commit| certain.with(commit));
    if whole.as_ref() == Some(&found) {
        *stood += 1;
    } else {
        assert!(found == *certain, "{said}: rows or parts of a commit are half there, or gone");
        *gone += u64::from(whole.is_some());
    }
    found
}

#[test]
fn after_a_full_disk_the_next_write_works_and_nothing_is_half() {
    let (mut not_written, mut unknown) = (0, 0);
    for seed in 0..25 {
        let mut random = Random::new(seed);
        let disk = Disk::new();
        let store = disk.open().unwrap();
        let mut state = State::default();
        for step in 0..10 {
            let said = format!("seed {seed}, step {step}");
            let commit = next_commit(&state, &mut random);
            let refusals = random.below(3);
            disk.refuse(refusals);
            let answer = block_on(store.commit(commit.clone()));
            disk.refuse(0);
            let with = state.with(&commit);
            let found = State::of(&store);
            match answer {
                Ok(_) => assert!(found == with, "{said}: an acknowledged commit is not there"),
                Err(WriteError::NotWritten(why)) => {
                    not_written += 1;
                    assert!(why.contains("no room for disk"), "{why}");
                    assert!(found == state, "{said}: something was written");
                }
                Err(WriteError::Unknown(_)) => {
                    unknown += 1;
                    assert!(found == state || found == with, "{said}: half of it was written");
                }
            }
            state = found;
            if random.per_mille(100) {
                let commit = next_commit(&state, &mut random);
                assert_eq!(block_on(store.commit(commit.clone())).unwrap().checkpoint, Ok(()), "{said}");
                state = state.with(&commit);
            }
        }
        drop(store);
        assert!(State::of(&disk.open().unwrap()) == state, "seed {seed}: after closing and opening");
    }
    assert!(not_written > 40, "{not_written} not written, {unknown} unknown");
}
