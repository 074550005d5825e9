//! What readers have to see, said by a replay of the whole stream into a store of its own: what comes of it with one generation and nothing lost.

use std::{collections::BTreeMap, sync::Arc};

use events::{
    event::Event,
    identity::LOCAL_TENANT,
    position::{SequenceNumber, ShardId},
    stream::{ReadOnly, Shard, Stream},
    wire::{self, Content},
};
use processor::{
    generations,
    replay::{Replay, ResumePoints},
    verify,
};
use projections::{
    fold::Place,
    generations::{Compared, Entry, Standing, View, compared::LeftOut},
    query::{self, Item, Query},
    store::{
        Generation, Store,
        law::{
            block_on,
            memory::{Commits, Memory},
        },
    },
};

use crate::world::{FIRST, World};

fn places(generation: Generation, shards: &[Shard]) -> Vec<Place> {
    let ring: Vec<_> =
        shards.iter().filter(|shard| !shard.closed).map(|shard| (shard.id.clone(), shard.range)).collect();
    shards.iter().map(|shard| Place { generation, shard: shard.id.clone(), ring: ring.clone() }).collect()
}

fn metrics_of(store: &Memory, view: View) -> Vec<Item> {
    let query = Query {
        tenant: LOCAL_TENANT.into(),
        view,
        service: None,
        namespace: None,
        metric: None,
        from_secs: 0,
        to_secs: i64::MAX / 2,
        period_secs: 300,
    };
    block_on(query::metrics(store, &query, None, 100_000.try_into().unwrap())).unwrap().items
}

impl World {
    /// What the stream says, folded by nobody who could know of generations.
    fn truth(&self) -> Memory {
        let all = block_on(self.stream.inner.shards()).unwrap();
        let tip = |shard: &Shard| (shard.id.clone(), self.stream.inner.tip(&shard.id).unwrap());
        let (until, scratch): (ResumePoints, _) = (all.iter().map(tip).collect(), Memory::new(Commits::Whole));
        let (stream, scratch) = (ReadOnly::new(self.stream.inner.clone()), Arc::new(scratch));
        block_on(async {
            let mut replay = Replay::open(stream, scratch.clone(), places(FIRST, &all), &until).await.unwrap();
            replay.through(&until, &|_| {}).await.unwrap();
        });
        Arc::into_inner(scratch).unwrap()
    }

    /// What each shard said, by which generation, and which counted there.
    fn effects_leave_once(&self) {
        let mut promotions: BTreeMap<SequenceNumber, u32> = BTreeMap::new();
        for promotion in &self.record().promotions {
            promotions.extend(promotion.revision.map(|revision| (revision, promotion.generation)));
        }
        let (mut named, mut words) = (BTreeMap::<(ShardId, SequenceNumber), SequenceNumber>::new(), vec![]);
        // By the highest that a shard or one of its parents has named: a tick may know less than the one before it.
        let mut highest = BTreeMap::<ShardId, SequenceNumber>::new();
        for shard in block_on(self.stream.inner.shards()).unwrap() {
            let parents = shard.parents.iter().filter_map(|parent| highest.get(parent));
            let mut revision = parents.max().copied().unwrap_or_default();
            for record in self.log(&shard.id) {
                let batch = wire::decode(&record.data).unwrap();
                if batch.header.content != Content::Events {
                    continue;
                }
                for event in wire::decode_events(&batch.body).unwrap() {
                    match event {
                        Event::Ticked(tick) => {
                            revision = tick.definitions.max(revision);
                            named.insert((shard.id.clone(), record.sequence), revision);
                        }
                        Event::RolledUp(word) => words.push(word),
                        _ => {}
                    }
                }
            }
            highest.insert(shard.id, revision);
        }
        for word in words {
            let revision = named[&(word.source.clone(), word.source_position)];
            let counts = promotions.range(..=revision).next_back().map_or(0, |(_, generation)| *generation);
            assert_eq!(word.generation, counts, "{} at {}", word.source, word.source_position);
        }
    }

    /// A generation beside the first one.
    pub fn compared(&self, name: &str) -> Compared {
        let record = self.record();
        let entry = record.entry(record.named(name).unwrap()).unwrap();
        let (of, from_secs) = (Generation(entry.number), entry.windows_from_secs());
        let common = generations::Common { from_secs, through: self.committed_by_both(FIRST, of) };
        block_on(generations::compare(&*self.store, (FIRST, "first"), of, &common, 0)).unwrap()
    }

    fn committed_by_both(&self, one: Generation, other: Generation) -> BTreeMap<ShardId, SequenceNumber> {
        let at = |generation, shard: &ShardId| {
            let point = block_on(self.store.resume_point(generation, shard)).unwrap();
            point.map_or(SequenceNumber::ZERO, |point| point.position)
        };
        let shards = self.shards().into_iter();
        shards.map(|shard| (shard.id.clone(), at(one, &shard.id).min(at(other, &shard.id)))).collect()
    }

    /// Beside the first one, while both move.
    pub fn compare_moving(&self) {
        let record = self.record();
        let is_folded = |entry: &&Entry| entry.standing == Standing::Following && !record.first_ended;
        for entry in record.entries.iter().filter(is_folded) {
            let compared = self.compared(&entry.name);
            assert_eq!((compared.windows_differ, compared.decisions_differ), (0, 0), "moving: {compared:?}");
        }
    }

    /// A generation is what the stream says.
    pub fn verify(&self, generation: Generation) -> verify::Report {
        let (stream, scratch) = (ReadOnly::new(self.stream.clone()), Arc::new(Memory::new(Commits::Whole)));
        let (places, from_ms) = (places(generation, &self.shards()), self.record().start_ms(generation));
        let done = verify::verify_from(stream, &*self.store, scratch, places, from_ms, async {}, |_| {});
        let report = block_on(done).unwrap_or_else(|error| panic!("{generation:?}: {error}"));
        assert_eq!(report.differences, 0, "{generation:?}: {:?}", report.first_difference);
        report
    }

    /// The same by all that the stream ever had; how many differences there are.
    pub fn verify_by_archive(&self, generation: Generation) -> u64 {
        let (stream, scratch) = (ReadOnly::new(self.stream.inner.clone()), Arc::new(Memory::new(Commits::Whole)));
        let places = places(generation, &block_on(self.stream.inner.shards()).unwrap());
        let from_ms = self.record().start_ms(generation);
        let done = verify::verify_from(stream, &*self.store, scratch, places, from_ms, async {}, |_| {});
        block_on(done).unwrap().differences
    }

    pub fn check(&mut self) {
        self.settle();
        let record = self.record();
        let (view, scratch) = (View::of(&record), self.truth());
        let (seen, truth) = (metrics_of(&self.store, view.clone()), metrics_of(&scratch, FIRST.into()));
        assert_eq!(seen.len(), truth.len(), "windows that readers see");
        for (seen, truth) in seen.iter().zip(&truth) {
            assert_eq!(format!("{seen:?}"), format!("{truth:?}"));
        }
        let balance = |store: &Memory, view: &View| block_on(query::balance(store, LOCAL_TENANT, view)).unwrap();
        assert_eq!(balance(&self.store, &view), balance(&scratch, &FIRST.into()));
        self.effects_leave_once();
        for entry in record.entries.iter().filter(|_| !record.first_ended) {
            let compared = self.compared(&entry.name);
            assert_eq!((compared.windows_differ, compared.decisions_differ), (0, 0), "{compared:?}");
            assert_eq!((compared.moving, compared.past), (LeftOut::default(), LeftOut::default()), "all is compared");
        }
        for generation in record.folded() {
            self.verify(generation);
        }
    }
}
