//! Random work on a disk that forgets, against a plain model, with a crash at any step. The seed stands in every message.
//!
//! The model of a shard is a list: what was acknowledged or read, in order, then what may have been appended. After each opening the shard must
//! hold the first part as it was and a beginning of the second, and nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicI64, Ordering},
};

use super::*;
use crate::embedded::disk::simulated::{Faults, Seeded};

const STEPS: u64 = 40;

#[derive(Default)]
struct Shelf {
    sure: Vec<(SequenceNumber, String, Bytes)>,
    maybe: Vec<(String, Bytes)>,
    /// Records before this index may be trimmed.
    floor: usize,
}

struct World {
    seed: u64,
    chance: Seeded,
    disk: SimulatedDisk,
    /// The host's clock: it goes back now and then, by less than what stops the stream.
    clock: Arc<AtomicI64>,
    options: Options,
    stream: Option<Embedded<SimulatedDisk>>,
    shelves: BTreeMap<ShardId, Shelf>,
    /// Shards that were split or merged.
    closed: BTreeSet<ShardId>,
    /// Of its own, so that it changes nothing else of a seed.
    resharding: Seeded,
    reshardings: u64,
    /// No record of an earlier opening has a higher epoch.
    epoch: u64,
    counter: u64,
    crashes: u64,
    /// What a reader saw while a sync was on its way.
    seen: Arc<Mutex<Vec<(ShardId, Record)>>>,
}

fn simulate(seed: u64, sabotage: Option<Sabotage>) -> Result<(u64, u64, usize), String> {
    let mut chance = Seeded::new(seed);
    let options = Options {
        shards: (1 + chance.below(3) as u16).try_into().unwrap(),
        segment_bytes: 4096 + 1024 * (1 + chance.below(6)),
        commit: Commit::Inline,
        sabotage,
        ..Options::default()
    };
    let disk = SimulatedDisk::new(seed);
    let mut world = World {
        seed,
        chance,
        disk,
        clock: Arc::default(),
        options,
        stream: None,
        shelves: BTreeMap::new(),
        closed: BTreeSet::new(),
        resharding: Seeded::new(seed ^ 0x5117),
        reshardings: 0,
        epoch: 0,
        counter: 0,
        crashes: 0,
        seen: Arc::default(),
    };
    // Of its own, so that it changes nothing else of a seed.
    let mut wobble = Seeded::new(seed ^ 0xC10C);
    for step in 0..STEPS as i64 {
        world.clock.store(1_000_000 + 1_000 * step + wobble.below(50_000) as i64, Ordering::Relaxed);
        if world.resharding.one_in(6) {
            world.reshard();
        }
        world.step()?;
    }
    world.crash();
    world.open()?;
    Ok((world.crashes, world.reshardings, world.shelves.values().map(|shelf| shelf.sure.len()).sum()))
}

impl World {
    fn broken(&self, what: impl std::fmt::Display) -> String {
        format!("seed {}: {what}", self.seed)
    }

    fn step(&mut self) -> Result<(), String> {
        if self.stream.is_none() {
            return self.open();
        }
        match self.chance.below(20) {
            0..12 => self.append(),
            12..15 => self.read_somewhere(),
            15 => self.trim(),
            16 => {
                let capacity = self.chance.one_in(2).then(|| 30_000 + self.chance.below(60_000));
                self.disk.set_capacity(capacity);
                let mut often = |count| if self.chance.one_in(2) { count } else { 0 };
                let faults = Faults { write: often(8), sync: often(30), name: often(8) };
                self.disk.set_faults(faults);
                Ok(())
            }
            17 => {
                let steps = self.chance.below(25);
                self.disk.fail_after(steps);
                Ok(())
            }
            _ => {
                self.crash();
                Ok(())
            }
        }
    }

    /// The process dies, or the power goes; in both cases readers were there until the last moment.
    fn crash(&mut self) {
        self.crashes += 1;
        self.disk.set_meanwhile(None);
        match self.chance.below(4) {
            _ if self.disk.is_down() => self.disk.power_loss(self.chance.number()),
            0 => self.stream.iter().for_each(Embedded::close),
            1 => self.disk.kill(),
            _ => self.disk.power_loss(self.chance.number()),
        }
        self.stream = None;
    }

    fn open(&mut self) -> Result<(), String> {
        for attempt in 0.. {
            let clock = self.clock.clone();
            match Embedded::open(self.disk.clone(), move || clock.load(Ordering::Relaxed), self.options.clone()) {
                Ok(stream) => {
                    self.stream = Some(stream);
                    break;
                }
                Err(error @ OpenError::Io { .. }) if attempt < 50 => {
                    if attempt > 3 {
                        self.disk.set_capacity(None);
                        self.disk.set_faults(Faults::default());
                    }
                    let _ = error;
                    self.crash();
                }
                Err(error) => return Err(self.broken(format_args!("opening: {error:?}"))),
            }
        }
        let stream = self.stream.clone().unwrap();
        let shards = block_on(stream.shards()).map_err(|error| self.broken(error))?;
        let is_listed = |id: &ShardId| shards.iter().any(|shard| shard.id == *id);
        if let Some((gone, _)) = self.shelves.iter().find(|(id, shelf)| !shelf.sure.is_empty() && !is_listed(id)) {
            return Err(self.broken(format_args!("{gone} is not listed any more")));
        }
        if let Some(again) = shards.iter().find(|shard| !shard.closed && self.closed.contains(&shard.id)) {
            return Err(self.broken(format_args!("{} is open again", again.id)));
        }
        for shard in shards {
            let records = self.read_all(&stream, &shard.id)?;
            if let Some(records) = records {
                self.compare(&shard.id, &records)?;
                // What was never appended for certain, and is not here now, never comes.
                self.shelves.entry(shard.id).or_default().maybe.clear();
            }
        }
        self.epoch = self.epoch.max(
            self.shelves.values().filter_map(|shelf| shelf.sure.last()?.0.parts()).map(|p| p.0).max().unwrap_or(0),
        );
        Ok(())
    }

    /// `None`: the disk is down.
    fn read_all(&self, stream: &Embedded<SimulatedDisk>, shard: &ShardId) -> Result<Option<Vec<Record>>, String> {
        let mut all = Vec::new();
        let mut from = Start::TrimHorizon;
        loop {
            match block_on(stream.read(shard, from, LIMITS)) {
                Ok(page) if page.records.is_empty() => return Ok(Some(all)),
                Ok(page) => {
                    all.extend(page.records);
                    match page.next {
                        Some(next) => from = next,
                        None => return Ok(Some(all)),
                    }
                }
                Err(ReadError::Unavailable(_)) => return Ok(None),
                Err(error) => return Err(self.broken(format_args!("reading {shard}: {error:?}"))),
            }
        }
    }

    /// Everything read is a promise.
    fn compare(&mut self, shard: &ShardId, records: &[Record]) -> Result<(), String> {
        let seed = self.seed;
        let shelf = self.shelves.entry(shard.clone()).or_default();
        let broken = |what: String| Err(format!("seed {seed}: {shard}: {what}"));
        if let Some(pair) = records.windows(2).find(|pair| pair[0].arrived_at_ms > pair[1].arrived_at_ms) {
            let stamps = (pair[0].arrived_at_ms, pair[1].arrived_at_ms);
            return broken(format!("stamps go back from {} to {}", stamps.0, stamps.1));
        }
        let skipped = match records.first() {
            Some(first) => shelf.sure.iter().position(|(sequence, ..)| *sequence == first.sequence),
            None => None,
        };
        let skipped = skipped.unwrap_or(if shelf.floor == shelf.sure.len() { shelf.sure.len() } else { 0 });
        if skipped > shelf.floor {
            return broken(format!("{skipped} records are gone, {} may be", shelf.floor));
        }
        let sure = &shelf.sure[skipped..];
        if records.len() < sure.len() {
            return broken(format!("{} records, {} are promised", records.len(), sure.len()));
        }
        for (record, (sequence, key, data)) in records.iter().zip(sure) {
            if (record.sequence, &record.partition_key, &record.data) != (*sequence, key, data) {
                return broken(format!(
                    "{:?} {} stands where {sequence:?} {key} was",
                    record.sequence, record.partition_key
                ));
            }
        }
        let more = &records[sure.len()..];
        for (i, record) in more.iter().enumerate() {
            let Some((key, data)) = shelf.maybe.get(i) else {
                return broken(format!("{} was never appended", record.partition_key));
            };
            if (&record.partition_key, &record.data) != (key, data) {
                return broken(format!("{} stands where {key} was to be", record.partition_key));
            }
            shelf.sure.push((record.sequence, key.clone(), data.clone()));
        }
        shelf.maybe.drain(..more.len());
        match shelf.sure.windows(2).find(|pair| pair[0].0 >= pair[1].0) {
            Some(pair) => broken(format!("{:?} does not stand behind {:?}", pair[1].0, pair[0].0)),
            None => Ok(()),
        }
    }

    fn append(&mut self) -> Result<(), String> {
        let stream = self.stream.clone().unwrap();
        let count = 1 + self.chance.below(6);
        let puts: Vec<Put> = (0..count).map(|_| self.any_put()).collect();
        self.watch(&stream);
        let answer = block_on(stream.append(puts.clone()));
        self.disk.set_meanwhile(None);
        match answer {
            Ok(answers) => {
                for (put, answer) in puts.into_iter().zip(answers) {
                    let Ok(appended) = answer else { continue };
                    let epoch = appended.sequence.parts().map_or(0, |(epoch, _)| epoch);
                    if epoch <= self.epoch {
                        return Err(self.broken(format_args!("epoch {epoch} was used by an earlier opening")));
                    }
                    if self.closed.contains(&appended.shard) {
                        return Err(self.broken(format_args!("{} took a record after it was closed", appended.shard)));
                    }
                    let shelf = self.shelves.entry(appended.shard).or_default();
                    shelf.sure.push((appended.sequence, put.partition_key, put.data));
                }
                self.keep_seen()
            }
            Err(AppendError::NotAppended(_)) => self.keep_seen(),
            Err(AppendError::Unknown(_)) => {
                let mut shards = block_on(stream.shards()).unwrap();
                shards.retain(|shard| !shard.closed);
                for put in puts {
                    let owner =
                        shards.iter().find(|shard| shard.range.contains(HashKey::of(&put.partition_key))).unwrap();
                    let shelf = self.shelves.entry(owner.id.clone()).or_default();
                    shelf.maybe.push((put.partition_key, put.data));
                }
                self.keep_seen()?;
                if stream.ended().is_none() && !self.disk.is_down() {
                    return Err(self.broken("nobody knows what is durable, and the stream goes on"));
                }
                self.crash();
                Ok(())
            }
        }
    }

    /// Splits a shard, or merges two: it happens, or it does not, or nobody knows and the stream has ended.
    fn reshard(&mut self) {
        let Some(stream) = self.stream.clone() else { return };
        let Ok(mut open) = block_on(stream.shards()) else { return };
        open.retain(|shard| !shard.closed);
        open.sort_by_key(|shard| shard.range.from);
        let pick = self.resharding.below(open.len() as u64) as usize;
        let (one, next) = (&open[pick], open.get(pick + 1));
        let (parents, done) = match next.filter(|_| self.resharding.one_in(2)) {
            Some(next) => (vec![&one.id, &next.id], stream.merge(&one.id, &next.id).map(|_| ())),
            None => {
                let width = (one.range.through.0 - one.range.from.0) >> 64;
                let at = one.range.from.0 + 1 + (u128::from(self.resharding.below(width as u64)) << 64);
                (vec![&one.id], stream.split(&one.id, HashKey(at)).map(|_| ()))
            }
        };
        match done {
            Ok(()) => {
                self.reshardings += 1;
                self.closed.extend(parents.into_iter().cloned());
            }
            Err(_) if stream.ended().is_some() || self.disk.is_down() => self.crash(),
            Err(_) => {}
        }
    }

    /// A reader follows the stream at the worst moments: whenever a sync has been asked for and has not happened.
    fn watch(&self, stream: &Embedded<SimulatedDisk>) {
        let stream = stream.clone();
        let seen = self.seen.clone();
        let places = self.shelves.iter().map(|(shard, shelf)| (shard.clone(), shelf.sure.last().map(|last| last.0)));
        let places: Vec<_> = places.collect();
        self.disk.set_meanwhile(Some(Arc::new(move || {
            for (shard, last) in &places {
                let from = last.map_or(Start::TrimHorizon, Start::After);
                if let Ok(page) = block_on(stream.read(shard, from, LIMITS)) {
                    seen.lock().unwrap().extend(page.records.into_iter().map(|record| (shard.clone(), record)));
                }
            }
        })));
    }

    /// What the reader saw is a promise.
    fn keep_seen(&mut self) -> Result<(), String> {
        for (shard, record) in std::mem::take(&mut *self.seen.lock().unwrap()) {
            let seed = self.seed;
            let shelf = self.shelves.entry(shard).or_default();
            if shelf.sure.iter().rev().any(|(sequence, ..)| *sequence == record.sequence) {
                continue;
            }
            let (key, data) = (record.partition_key, record.data);
            if shelf.maybe.first() != Some(&(key.clone(), data.clone())) {
                return Err(format!("seed {seed}: {key} was read, and never appended"));
            }
            shelf.maybe.remove(0);
            shelf.sure.push((record.sequence, key, data));
        }
        Ok(())
    }

    /// Often as long as a sector with its frame, so that stale sectors hold whole frames.
    fn any_put(&mut self) -> Put {
        self.counter += 1;
        let key = format!("{:08}", self.counter);
        // Half of the seeds know no other.
        let len = match self.chance.below(8) & if self.seed.is_multiple_of(2) { 3 } else { 7 } {
            0..4 => 512 - 48 - key.len(),
            4..6 => self.chance.below(100) as usize,
            6 => self.chance.below(3000) as usize,
            _ => 1024 - 48 - key.len(),
        };
        let mut data = vec![self.counter as u8; len];
        data.iter_mut().step_by(61).for_each(|byte| *byte = self.chance.number() as u8);
        put(&key, data)
    }

    fn read_somewhere(&mut self) -> Result<(), String> {
        let stream = self.stream.clone().unwrap();
        let shards: Vec<ShardId> = self.shelves.keys().cloned().collect();
        for shard in shards {
            let shelf = &self.shelves[&shard];
            let at = self.chance.below(shelf.sure.len() as u64) as usize;
            let Some((sequence, ..)) = shelf.sure.get(at) else { continue };
            let limits = Limits { bytes: 1 + self.chance.below(2000) as usize, ..LIMITS };
            match block_on(stream.read(&shard, Start::After(*sequence), limits)) {
                Ok(page) => {
                    for (record, (sequence, key, data)) in page.records.iter().zip(&shelf.sure[at + 1..]) {
                        if (record.sequence, &record.partition_key, &record.data) != (*sequence, key, data) {
                            return Err(
                                self.broken(format_args!("{shard}: {:?} instead of {sequence:?}", record.sequence))
                            );
                        }
                    }
                    if page.records.len() > shelf.sure.len() - at - 1 {
                        return Err(self.broken("more than was acknowledged is read"));
                    }
                }
                Err(ReadError::Trimmed { oldest, .. }) if at < shelf.floor && oldest > *sequence => {}
                Err(ReadError::Unavailable(_)) => {}
                Err(error) => return Err(self.broken(format_args!("reading {shard} after {sequence:?}: {error:?}"))),
            }
        }
        Ok(())
    }

    fn trim(&mut self) -> Result<(), String> {
        let stream = self.stream.clone().unwrap();
        for (shard, shelf) in &mut self.shelves {
            let keep = self.chance.below(shelf.sure.len() as u64) as usize;
            let Some((keep_from, ..)) = shelf.sure.get(keep) else { continue };
            shelf.floor = shelf.floor.max(keep);
            // Faults may hinder it; what is promised is checked by reading.
            let _ = stream.trim(shard, i64::MAX, *keep_from);
        }
        Ok(())
    }
}

#[test]
fn nothing_promised_is_lost_by_a_crash_at_any_step() {
    let (mut crashes, mut reshardings, mut records) = (0, 0, 0);
    for seed in 0..600 {
        let (more, resharded, kept) = simulate(seed, None).unwrap_or_else(|broken| panic!("{broken}"));
        crashes += more;
        reshardings += resharded;
        records += kept;
    }
    let done = format!("{crashes} crashes, {reshardings} splits and merges, {records} records");
    assert!(crashes > 2000 && reshardings > 1000 && records > 6_000, "the work was done: {done}");
}

#[test]
fn each_law_broken_on_purpose_is_found_within_a_hundred_seeds() {
    let laws = [
        Sabotage::PublishedBeforeSync,
        Sabotage::FolderNotSynced,
        Sabotage::UnseededChecksum,
        Sabotage::EpochKept,
        Sabotage::StaleTailKept,
        Sabotage::TailNotSyncedAtOpen,
        Sabotage::FailedSyncOutlived,
        Sabotage::StampsGoBack,
        Sabotage::ReshardNotSynced,
    ];
    for law in laws {
        let found = (0..100).find_map(|seed| simulate(seed, Some(law)).err());
        assert!(found.is_some(), "{law:?} was not found");
        println!("{law:?}: {}", found.unwrap());
    }
}
