//! The same input on another number of shards: the same merged rows to the byte, and, where ticks and lines come in the same order, the same
//! alarms at the same times for the same reasons.

use std::collections::BTreeMap;

use events::{
    event::{Defined, Event},
    identity::CONTROL_KEY,
    position::HashKey,
};
use processor::append::system_event_of;
use projections::{
    cell::Cell,
    fold::alarms::Decision,
    store::{Kind, law::random::Random},
};

use crate::{
    actors::{Sender, Sent},
    input::{BEGIN_MS, File, Oddness},
    model::Meaning,
    shape::Shape,
    world::World,
};

/// By tenant, service, minute and page: the merged cell.
type Merged = BTreeMap<(String, String, i64, u16), Vec<u8>>;
type Transition = (String, String, i64, Option<&'static str>, &'static str, String, String);

/// What happens, in order. Each append is one call, and is acknowledged whole.
enum Happens {
    Append(Vec<Sent>),
    Minute,
}

/// An input without anything that depends on when it is folded: no line far ahead, no two readings of one file.
fn input(seed: u64) -> Vec<Happens> {
    let mut random = Random::new(seed);
    let odd = Oddness { undated: true, future: false, broken: true, continued: true, late: true, narrow: false };
    let (mut ids, mut now_ms, mut happens) = (0, BEGIN_MS, vec![]);
    // The shapes and names of alarms come from a world that nothing else happens to.
    let mut world = World::new(seed, None, crate::runtime(), false);
    world.shape.odd = odd;
    for minute in 0..12 {
        for _ in 0..random.below(3) {
            let number = happens.len();
            let file = File::write(&mut random, &mut ids, number, now_ms, odd);
            let read_at_ms = now_ms;
            // Nobody sends a part of a file that nobody sends whole.
            for _ in 0..1 + random.below(2) {
                let sender = world.surrounded(|around| Sender::of_whole_file(around, &file, read_at_ms));
                happens.push(Happens::Append(sender.waiting.into()));
            }
        }
        if minute % 4 == 1 {
            for tenant in ["local", "acme"] {
                let name = format!("alarm{}", random.below(3));
                let body = if random.below(5) == 0 { "null".to_owned() } else { world.alarm(&name) };
                let defined = Defined { kind: "alarm".into(), name, body, by: "somebody".into() };
                let put = system_event_of(tenant, HashKey::of(CONTROL_KEY), Event::Defined(defined));
                happens.push(Happens::Append(vec![Sent { put, meaning: Meaning::System.into() }]));
            }
        }
        now_ms += 60_000;
        happens.push(Happens::Minute);
    }
    happens
}

/// Folds an input on so many shards.
/// `one_in`: how often a shard is split, or two are merged.
fn fold(seed: u64, shards: u16, happens: &[Happens], one_in: Option<u64>) -> Result<World, String> {
    let shape = Shape { shards, ..Shape::calm() };
    let mut world = World::of(seed, shape, None, crate::runtime(), false);
    let mut resharding = Random::new(seed);
    for happens in happens {
        if one_in.is_some_and(|one_in| resharding.below(one_in) == 0) {
            world.reshard();
        }
        match happens {
            Happens::Append(sent) => {
                world.append(sent);
            }
            Happens::Minute => {
                world.clock_ms += 60_000;
                world.stream.set_clock(world.clock_ms);
                world.fold_all()?;
                world.tick(None)?;
                // What shards say to each other comes now, or while the next minute is folded.
                if world.random.below(2) == 0 {
                    world.fold_all()?;
                }
            }
        }
        world.check()?;
    }
    world.clock_ms += 60_000;
    world.stream.set_clock(world.clock_ms);
    world.tick(None)?;
    world.fold_all()?;
    world.check()?;
    Ok(world)
}

fn merged(world: &World) -> Merged {
    let mut merged: BTreeMap<_, Cell> = BTreeMap::new();
    for row in world.store.rows().into_iter().filter(|row| row.key.subject.kind == Kind::Window) {
        let subject = row.key.subject.clone();
        let cell = Cell::decode(&row.body).unwrap();
        merged.entry((subject.tenant, subject.name, row.key.at, row.key.page)).or_default().merge(&cell);
    }
    merged.into_iter().map(|(key, cell)| (key, cell.encode())).collect()
}

fn transitions(world: &World) -> Vec<Transition> {
    let rows = world.store.rows().into_iter().filter(|row| row.key.subject.kind == Kind::Transition);
    let mut found: Vec<Transition> = rows
        .map(|row| {
            let of = Decision::decode(&row.body).unwrap();
            let from = of.from.map(|state| state.as_str());
            (of.tenant, of.alarm, of.time_secs, from, of.to.as_str(), of.reason, of.reason_data)
        })
        .collect();
    found.sort();
    found
}

/// One seed on one, two, three and four shards. Answers how many transitions there were.
pub fn compare(seed: u64) -> Result<usize, String> {
    let happens = input(seed);
    let one = fold(seed, 1, &happens, None)?;
    let (rows, changes) = (merged(&one), transitions(&one));
    for shards in 2..=4 {
        let other = fold(seed, shards, &happens, None)?;
        let theirs = merged(&other);
        if rows != theirs {
            let pair = rows.iter().zip(&theirs).find(|(ours, theirs)| ours != theirs);
            return Err(format!("seed {seed}: one shard and {shards} shards have other rows: {pair:?}"));
        }
        let theirs = transitions(&other);
        if changes != theirs {
            let first = changes.iter().find(|change| !theirs.contains(change));
            let other = theirs.iter().find(|change| !changes.contains(change));
            return Err(format!("seed {seed}: one shard has {first:#?}, {shards} have {other:#?}"));
        }
    }
    Ok(changes.len())
}

/// One seed on one shard that stays, and on others that split and merge, where copies of a file land on parents and on children, and alarms are decided by
/// what both saw. Answers how many shards there were in the end, and how many transitions.
pub fn compare_resharded(seed: u64) -> Result<(usize, usize), String> {
    let happens = input(seed);
    let one = fold(seed, 1, &happens, None)?;
    let (rows, changes) = (merged(&one), transitions(&one));
    let mut other = fold(seed, 1 + (seed % 3) as u16, &happens, Some(3))?;
    let theirs = merged(&other);
    if rows != theirs {
        let pair = rows.iter().zip(&theirs).find(|(ours, theirs)| ours != theirs);
        return Err(format!("seed {seed}: splits and merges have changed rows: {pair:?}"));
    }
    let theirs = transitions(&other);
    if changes != theirs {
        let first = changes.iter().find(|change| !theirs.contains(change));
        let other = theirs.iter().find(|change| !changes.contains(change));
        return Err(format!("seed {seed}: one shard has {first:#?}, those that split and merge have {other:#?}"));
    }
    other.verify().map_err(|what| format!("seed {seed}: {what}"))?;
    Ok((other.places.len(), changes.len()))
}
