//! Laws of workers that know nothing of each other: interleaved, and at the same time.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    thread,
};

use events::position::{SequenceNumber, ShardId};

use super::{
    Adapter, Bench,
    commits::{checkpoint, part},
    key,
    random::Random,
    row, seq, subject,
};
use crate::store::{Commit, Generation, RowKey, Span, Written};

/// A worker that folds records 1, 2, 3 … of one shard: record `n` touches the row of `n % 7`. It knows only its own commits.
struct Worker {
    name: &'static str,
    position: u64,
    touched: BTreeMap<RowKey, u64>,
    acknowledged_parts: BTreeSet<String>,
}

impl Worker {
    fn new(name: &'static str) -> Self {
        Self { name, position: 0, touched: BTreeMap::new(), acknowledged_parts: BTreeSet::new() }
    }

    fn fold(&mut self, records: u64) {
        for _ in 0..records {
            self.position += 1;
            self.touched.insert(key("web", (self.position % 7).cast_signed()), self.position);
        }
    }

    /// Its snapshot has one part for each ten records; all but the last did not change.
    fn commit(&self, all_parts: bool) -> Commit {
        let names: Vec<String> = (0..=self.position / 10)
            .map(|tens| format!("{} {}", self.name, (tens * 10 + 9).min(self.position)))
            .collect();
        let new = names.iter().filter(|name| all_parts || !self.acknowledged_parts.contains(*name));
        Commit {
            rows: self.touched.iter().map(|(key, through)| row(key.clone(), *through)).collect(),
            parts: new.map(|name| part(name)).collect(),
            checkpoint: checkpoint(self.position, &names.iter().map(String::as_str).collect::<Vec<_>>()),
        }
    }

    /// Commits, with all parts if those it refers to are gone.
    fn settle<A: Adapter>(&mut self, bench: &Bench<'_, A>, said: &str) {
        let commit = self.commit(false);
        let mut committed = bench.commit(&commit);
        if committed.checkpoint.is_err_and(|standing| standing < seq(self.position)) {
            committed = bench.commit(&self.commit(true));
            assert_eq!(committed.checkpoint, Ok(()), "{said}: with all parts and a higher position it wins");
        }
        for (row, written) in commit.rows.iter().zip(&committed.rows) {
            if let Written::Lost(standing) = written {
                assert!(*standing >= row.applied_through, "{said}: {:?} lost to a row that is not as far", row.key);
            }
        }
        if committed.checkpoint.is_ok() {
            self.acknowledged_parts = commit.checkpoint.parts.into_iter().map(|name| name.0).collect();
        }
        self.touched.clear();
    }
}

/// A zombie and its heir fold the same records and commit when they like: each row ends at its last record, and nothing ever goes back.
pub fn workers_in_any_order_leave_the_furthest_rows<A: Adapter>(adapter: &A) {
    const RECORDS: u64 = 60;
    for seed in 0..12 {
        let mut random = Random::new(seed);
        let bench = Bench::empty(adapter);
        let mut workers = [Worker::new("zombie"), Worker::new("heir")];
        let mut furthest = SequenceNumber::ZERO;
        while workers.iter().any(|worker| worker.position < RECORDS) {
            let worker = &mut workers[random.below(2) as usize];
            worker.fold((1 + random.below(12)).min(RECORDS - worker.position));
            let said = format!("seed {seed}, {} at {}", worker.name, worker.position);
            worker.settle(&bench, &said);
            let point = bench.resume_point(Generation(0), &ShardId::numbered(0));
            let position = point.map_or(SequenceNumber::ZERO, |point| point.position);
            assert!(position >= furthest, "{said}: the resume point went back");
            furthest = position;
            for at in 0..7 {
                let through = bench.read(&key("web", at)).map_or(SequenceNumber::ZERO, |row| row.applied_through);
                let due = (1..=RECORDS).rev().find(|n| n % 7 == at.unsigned_abs() && seq(*n) <= furthest);
                assert!(
                    through >= due.map_or(SequenceNumber::ZERO, seq),
                    "{said}: row {at} is behind the resume point"
                );
            }
        }
        assert_eq!(furthest, seq(RECORDS), "seed {seed}");
        let rows = bench.scan(&Span::Of { subject: subject("tenant", "web"), from: 0, to: 7 }, 100);
        let expected: Vec<_> = (0..7).map(|at| row(key("web", at), last_of(RECORDS, at.unsigned_abs()))).collect();
        assert_eq!(rows, expected, "seed {seed}");
    }
}

fn last_of(records: u64, rest: u64) -> u64 {
    (1..=records).rev().find(|n| n % 7 == rest).unwrap_or(0)
}

/// Several threads write the same rows: a read that begins after an acknowledgement sees that row or a further one, and a whole one.
pub fn what_was_acknowledged_is_seen_by_all_threads<A: Adapter>(adapter: &A) {
    const WRITERS: u64 = 3;
    const READERS: u64 = 2;
    const ROUNDS: u64 = 25;
    const KEYS: usize = 5;
    let bench = &Bench::empty(adapter);
    let acknowledged: &[AtomicU64; KEYS] = &std::array::from_fn(|_| AtomicU64::new(0));
    let writing = &AtomicUsize::new(WRITERS as usize);
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            scope.spawn(move || {
                // Also if it panics: else nobody would hear why, as readers would go on for ever.
                let _ends = Ends(writing);
                let mut random = Random::new(writer);
                for round in 0..ROUNDS {
                    let through = 1 + round * WRITERS + writer;
                    let mut places: Vec<usize> = (0..KEYS).filter(|_| random.below(3) > 0).collect();
                    random.shuffle(&mut places);
                    let rows: Vec<_> = places.iter().map(|at| row(key("web", *at as i64), through)).collect();
                    for (at, written) in places.iter().zip(bench.write(&rows)) {
                        if let Written::Lost(standing) = written {
                            assert!(standing >= seq(through), "lost to {standing:?} with {through}");
                        }
                        acknowledged[*at].fetch_max(through, Ordering::SeqCst);
                    }
                }
            });
        }
        for reader in 0..READERS {
            scope.spawn(move || {
                let mut random = Random::new(reader);
                loop {
                    let is_last = writing.load(Ordering::SeqCst) == 0;
                    let at = random.below(KEYS as u64) as usize;
                    let floor = acknowledged[at].load(Ordering::SeqCst);
                    let found = bench.read(&key("web", at as i64));
                    let through = found.as_ref().map_or(0, |found| u64::from(found.fold_revision));
                    assert!(through >= floor, "row {at} was acknowledged through {floor} and read through {through}");
                    assert!(
                        found.is_none_or(|found| found == row(found.key.clone(), through)),
                        "a mixture of two rows"
                    );
                    if is_last {
                        break;
                    }
                }
            });
        }
    });
    for (at, acknowledged) in acknowledged.iter().enumerate() {
        let found = bench.read(&key("web", at as i64)).map_or(0, |row| u64::from(row.fold_revision));
        assert_eq!(found, acknowledged.load(Ordering::SeqCst), "the furthest row of {at} stands at the end");
    }
}

/// One writer less, when it is dropped.
struct Ends<'a>(&'a AtomicUsize);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// While one thread adds rows, another's scans hold at least those that were acknowledged when they began, in order.
pub fn a_scan_sees_what_was_acknowledged_before_it_began<A: Adapter>(adapter: &A) {
    const ROWS: u64 = 60;
    let bench = &Bench::empty(adapter);
    let acknowledged = &AtomicU64::new(0);
    thread::scope(|scope| {
        let writer = scope.spawn(move || {
            for at in 0..ROWS {
                bench.write(&[row(key("web", at.cast_signed()), 1)]);
                acknowledged.store(at + 1, Ordering::SeqCst);
            }
        });
        let span = Span::Of { subject: subject("tenant", "web"), from: 0, to: i64::MAX };
        loop {
            let is_last = writer.is_finished();
            let floor = acknowledged.load(Ordering::SeqCst);
            let places: Vec<i64> = bench.scan(&span, 7).iter().map(|row| row.key.at).collect();
            assert!(places.len() as u64 >= floor, "{floor} rows were acknowledged, {} scanned", places.len());
            assert_eq!(places, (0..places.len() as i64).collect::<Vec<_>>());
            if is_last {
                break;
            }
        }
    });
}
