//! Laws of commits: resume points only move forward, and never without what they stand for.

use bytes::Bytes;
use events::position::{SequenceNumber, ShardId};

use super::{Adapter, Bench, key, row, seq};
use crate::store::{Checkpoint, Commit, Committed, Generation, PART_BYTES_MAX, PartName, Store, WriteError, Written};

pub(super) fn checkpoint(position: u64, parts: &[&str]) -> Checkpoint {
    let parts = parts.iter().map(|name| PartName((*name).to_owned())).collect();
    Checkpoint {
        generation: Generation(0),
        shard: ShardId::numbered(0),
        position: seq(position),
        fold_revision: 4,
        ended: false,
        parts,
    }
}

pub(super) fn part(name: &str) -> (PartName, Bytes) {
    (PartName(name.to_owned()), format!("body of {name}").into_bytes().into())
}

/// A commit without rows: new parts, and all that it names.
fn parts_only(position: u64, new: &[&str], named: &[&str]) -> Commit {
    let parts = new.iter().map(|name| part(name)).collect();
    Commit { rows: Vec::new(), parts, checkpoint: checkpoint(position, named) }
}

impl<A: Adapter> Bench<'_, A> {
    pub(super) fn commit(&self, commit: &Commit) -> Committed {
        let committed = self.wait(self.store.commit(commit.clone())).expect("a commit without faults is answered");
        assert_eq!(committed.rows.len(), commit.rows.len(), "one answer for each row");
        committed
    }

    /// The resume point of a shard, whose parts must be those that were named.
    pub(super) fn resume_point(&self, generation: Generation, shard: &ShardId) -> Option<Checkpoint> {
        let answer = self.wait(self.store.checkpoint(generation, shard)).expect("a resume point is readable");
        let alone = self.wait(self.store.resume_point(generation, shard)).expect("a resume point is readable");
        assert_eq!(alone.as_ref(), answer.as_ref().map(|(point, _)| point), "without its parts");
        let (point, bodies) = answer?;
        let expected: Vec<Bytes> = point.parts.iter().map(|name| part(&name.0).1).collect();
        assert_eq!(bodies, expected, "the bodies of {:?}", point.parts);
        Some(point)
    }

    fn position(&self) -> Option<SequenceNumber> {
        self.resume_point(Generation(0), &ShardId::numbered(0)).map(|point| point.position)
    }
}

/// By its own condition, alone for each generation and shard; who loses hears the position that stands.
pub fn a_resume_point_only_moves_forward<A: Adapter>(adapter: &A) {
    let bench = Bench::empty(adapter);
    assert_eq!(bench.position(), None);
    let offered = |position, name| parts_only(position, &[name], &[name]);
    assert_eq!(bench.commit(&offered(10, "first")).checkpoint, Ok(()));
    for loser in [10, 9, 1] {
        assert_eq!(bench.commit(&offered(loser, "loser")).checkpoint, Err(seq(10)));
        assert_eq!(bench.resume_point(Generation(0), &ShardId::numbered(0)), Some(checkpoint(10, &["first"])));
    }
    for (generation, shard) in
        [(1, ShardId::numbered(0)), (0, ShardId::numbered(1)), (0, ShardId::named("shardId-00000000000"))]
    {
        let mut commit = offered(3, "theirs");
        commit.checkpoint.generation = Generation(generation);
        commit.checkpoint.shard = shard.clone();
        assert_eq!(bench.commit(&commit).checkpoint, Ok(()));
        assert_eq!(bench.resume_point(Generation(generation), &shard), Some(commit.checkpoint));
    }
    assert_eq!(bench.position(), Some(seq(10)));
    assert_eq!(bench.commit(&offered(11, "second")).checkpoint, Ok(()));
    assert_eq!(bench.position(), Some(seq(11)));
}

/// At its position it moves to the end of its shard, once, and never back; a shard without a record ends too.
pub fn a_resume_point_moves_to_the_end_of_its_shard<A: Adapter>(adapter: &A) {
    let bench = Bench::empty(adapter);
    let ended = |position, name: &str| {
        let mut commit = parts_only(position, &[name], &[name]);
        commit.checkpoint.ended = true;
        commit
    };
    let stands = || bench.resume_point(Generation(0), &ShardId::numbered(0));
    assert_eq!(bench.commit(&parts_only(10, &["a"], &["a"])).checkpoint, Ok(()));
    assert_eq!(bench.commit(&ended(9, "late")).checkpoint, Err(seq(10)));
    assert_eq!(bench.commit(&ended(10, "a")).checkpoint, Ok(()), "the same part, as nothing else has changed");
    let end = ended(10, "a").checkpoint;
    assert_eq!(stands(), Some(end.clone()));
    for loser in [ended(10, "a"), parts_only(10, &["a"], &["a"]), parts_only(9, &["late"], &["late"])] {
        assert_eq!(bench.commit(&loser).checkpoint, Err(seq(10)));
        assert_eq!(stands(), Some(end.clone()));
    }
    let mut empty = ended(0, "a");
    (empty.checkpoint.shard, empty.checkpoint.position) = (ShardId::numbered(7), SequenceNumber::ZERO);
    assert_eq!(bench.commit(&empty).checkpoint, Ok(()), "of a shard that never had a record");
    assert_eq!(bench.commit(&empty).checkpoint, Err(SequenceNumber::ZERO));
    assert_eq!(bench.resume_point(Generation(0), &ShardId::numbered(7)), Some(empty.checkpoint));
}

/// All of it stands once it is acknowledged; a row that has lost does not hold up the resume point.
pub fn a_commit_brings_its_rows_and_parts<A: Adapter>(adapter: &A) {
    let bench = Bench::empty(adapter);
    bench.write(&[row(key("b", 0), 7)]);
    let mut commit = parts_only(6, &["z", "a", "m"], &["z", "a", "m"]);
    commit.rows = vec![row(key("c", 0), 6), row(key("b", 0), 5), row(key("a", 0), 6)];
    let committed = bench.commit(&commit);
    assert_eq!(committed.rows, [Written::Stored, Written::Lost(seq(7)), Written::Stored]);
    assert_eq!(committed.checkpoint, Ok(()));
    assert_eq!(bench.resume_point(Generation(0), &ShardId::numbered(0)), Some(checkpoint(6, &["z", "a", "m"])));
    assert_eq!(bench.read(&key("a", 0)), Some(row(key("a", 0), 6)));
    assert_eq!(bench.read(&key("b", 0)), Some(row(key("b", 0), 7)));
    // Its resume point loses; what it says of its rows is true all the same.
    let mut late = parts_only(5, &["late"], &["late"]);
    late.rows = vec![row(key("a", 0), 5), row(key("new", 0), 5)];
    let committed = bench.commit(&late);
    assert_eq!((committed.rows[0], committed.checkpoint), (Written::Lost(seq(6)), Err(seq(6))));
    assert_eq!(bench.read(&key("new", 0)).is_some(), committed.rows[1] == Written::Stored);
    // A commit that changed nothing but the position.
    assert_eq!(bench.commit(&parts_only(8, &[], &[])).checkpoint, Ok(()));
    assert_eq!(bench.resume_point(Generation(0), &ShardId::numbered(0)), Some(checkpoint(8, &[])));
    // And one that is too large is refused whole.
    let mut large = parts_only(9, &["large"], &["large"]);
    large.parts[0].1 = vec![0; PART_BYTES_MAX + 1].into();
    large.rows = vec![row(key("large", 0), 9)];
    let answer = bench.wait(bench.store.commit(large));
    assert!(matches!(answer, Err(WriteError::NotWritten(_))), "{answer:?}");
    assert_eq!((bench.position(), bench.read(&key("large", 0))), (Some(seq(8)), None));
}

/// Unchanged parts are only named; a part that the new resume point does not name cannot be referred to any more.
pub fn parts_are_kept_by_reference_and_go_when_unnamed<A: Adapter>(adapter: &A) {
    let bench = Bench::empty(adapter);
    assert_eq!(bench.commit(&parts_only(1, &["a", "b"], &["a", "b"])).checkpoint, Ok(()));
    assert_eq!(bench.commit(&parts_only(2, &["c"], &["c", "a"])).checkpoint, Ok(()));
    assert_eq!(bench.resume_point(Generation(0), &ShardId::numbered(0)), Some(checkpoint(2, &["c", "a"])));
    assert_eq!(bench.commit(&parts_only(3, &[], &["a", "c"])).checkpoint, Ok(()), "in another order");
    assert_eq!(bench.commit(&parts_only(4, &[], &["b"])).checkpoint, Err(seq(3)), "gone since 2");
    // A part that was offered by a commit that lost is not there for the next.
    assert_eq!(bench.commit(&parts_only(3, &["d"], &["d"])).checkpoint, Err(seq(3)));
    assert_eq!(bench.commit(&parts_only(5, &["e"], &["a", "d", "e"])).checkpoint, Err(seq(3)));
    assert_eq!(bench.commit(&parts_only(6, &["e"], &["a", "e"])).checkpoint, Ok(()));
    assert_eq!(bench.resume_point(Generation(0), &ShardId::numbered(0)), Some(checkpoint(6, &["a", "e"])));
}

/// Two workers refer to their own parts: one whose parts the other's resume point has dropped must send them again. It hears a position
/// that is lower than its own.
pub fn a_resume_point_never_names_a_part_that_is_gone<A: Adapter>(adapter: &A) {
    let bench = Bench::empty(adapter);
    assert_eq!(bench.commit(&parts_only(1, &[], &["never stored"])).checkpoint, Err(SequenceNumber::ZERO));
    assert_eq!(bench.position(), None);
    assert_eq!(bench.commit(&parts_only(10, &["zombie", "both"], &["zombie", "both"])).checkpoint, Ok(()));
    assert_eq!(bench.commit(&parts_only(20, &["heir"], &["heir", "both"])).checkpoint, Ok(()));
    assert_eq!(bench.commit(&parts_only(30, &["zombie 2"], &["zombie", "zombie 2"])).checkpoint, Err(seq(20)));
    assert_eq!(bench.resume_point(Generation(0), &ShardId::numbered(0)), Some(checkpoint(20, &["heir", "both"])));
    let again = parts_only(30, &["zombie", "zombie 2"], &["zombie", "zombie 2"]);
    assert_eq!(bench.commit(&again).checkpoint, Ok(()));
    assert_eq!(bench.position(), Some(seq(30)));
    // The same commit once more, as after a lost answer, has lost to itself and takes nothing away.
    assert_eq!(bench.commit(&again).checkpoint, Err(seq(30)));
    assert_eq!(bench.position(), Some(seq(30)));
}

/// The commit with this number, of a worker that is alone: new rows, old rows again, one part that stays, one that is new.
fn numbered(number: u64) -> Commit {
    let name = format!("part {number}");
    let before = format!("part {}", number - 1);
    let (new, named) = match number {
        1 => (vec!["base", &name], vec!["base", &name]),
        _ => (vec![name.as_str()], vec!["base", &before, &name]),
    };
    let rows = vec![
        row(key("always", 0), number),
        row(key("in turns", (number % 2).cast_signed()), number),
        row(key("once", number.cast_signed()), number),
    ];
    Commit { rows, ..parts_only(number, &new, &named) }
}

/// Wherever it dies: acknowledged commits are there, a resume point has all that it stands for, and the same commit again goes through.
pub fn a_crash_leaves_no_resume_point_without_its_rows_and_parts<A: Adapter>(adapter: &A) {
    const COMMITS: u64 = 4;
    const CHANGES_MAX: u64 = 1_000;
    // Odd, as who dies may do so before or after every other change.
    let step = if adapter.is_far() { 3 } else { 1 };
    for changes in (0..CHANGES_MAX).step_by(step) {
        let Some(store) = adapter.mortal(changes) else { return };
        let mut acknowledged = 0;
        while acknowledged < COMMITS && adapter.wait(store.commit(numbered(acknowledged + 1))).is_ok() {
            acknowledged += 1;
        }
        let bench = Bench { adapter, store: adapter.revive(store) };
        let stands = bench.position().map_or(0, |position| position.parts().map_or(0, |(_, number)| number));
        let dead =
            format!("dead after {changes} changes, {acknowledged} commits acknowledged, resume point at {stands}");
        assert!(stands == acknowledged || stands == acknowledged + 1, "{dead}");
        for row in (1..=stands).flat_map(|number| numbered(number).rows) {
            let found = bench.read(&row.key);
            assert!(
                found.is_some_and(|found| found.applied_through >= row.applied_through),
                "{:?} is not there; {dead}",
                row.key
            );
        }
        for row in (1..=COMMITS).flat_map(|number| numbered(number).rows) {
            let Some(found) = bench.read(&row.key) else { continue };
            let through = u64::from(found.fold_revision);
            assert_eq!(found, super::row(row.key, through), "a mixture of two rows; {dead}");
            assert!(through <= acknowledged + 1, "a row that nobody has written yet; {dead}");
        }
        if acknowledged == COMMITS {
            return;
        }
        let next = acknowledged + 1;
        let expected = if stands == next { Err(seq(next)) } else { Ok(()) };
        assert_eq!(bench.commit(&numbered(next)).checkpoint, expected, "the same commit again; {dead}");
        assert_eq!(bench.commit(&numbered(next + 1)).checkpoint, Ok(()), "the commit after it; {dead}");
        assert_eq!(bench.position(), Some(seq(next + 1)), "{dead}");
        assert_eq!(bench.read(&key("always", 0)), Some(row(key("always", 0), next + 1)), "{dead}");
    }
    panic!("{COMMITS} small commits took more than {CHANGES_MAX} changes");
}
