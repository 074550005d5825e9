//! Half an hour of two shards under alarms, pinned: definitions, ticks, what shards tell each other, states with the reasons for their changes, a
//! shard that is silent, a jump in time, a `TimeReset`, and the snapshots in between.

use bytes::Bytes;
use events::{
    event::{Defined, Event, OpenShard, Ticked, TimeReset},
    identity::{CONTROL_KEY, LOCAL_TENANT},
    position::{HashKey, HashRange, SequenceNumber, ShardId},
    stream::Record,
    wire::{self, Content, Header},
};
use projections::{
    definitions::Definition,
    fold::{Effect, FOLD_REVISION, Input, Place, Shard, alarms::Decision},
    store::{Generation, Kind, Row},
};

/// 2026-01-01T00:00:00Z.
const START_SECS: i64 = 1_767_225_600;
const SHARDS: u16 = 2;

struct World {
    shards: Vec<(HashRange, Shard, u64)>,
    now_ms: i64,
    definitions: Vec<Definition>,
    shown: String,
}

impl World {
    fn new() -> Self {
        let ranges = HashRange::even(SHARDS.try_into().unwrap());
        let ring: Vec<_> = (0..).map(ShardId::numbered).zip(ranges).collect();
        let place = |shard: &ShardId| Place { generation: Generation(0), shard: shard.clone(), ring: ring.clone() };
        let shards = ring.iter().map(|(id, range)| (*range, Shard::new(place(id)), 0)).collect();
        let shown = format!("revision {FOLD_REVISION}\n");
        Self { shards, now_ms: START_SECS * 1000, definitions: vec![], shown }
    }

    /// Folds a record, and then those that it made shards tell each other.
    fn put(&mut self, key: HashKey, data: Bytes) {
        let (_, shard, records) = self.shards.iter_mut().find(|(range, ..)| range.contains(key)).unwrap();
        *records += 1;
        let sequence = SequenceNumber::from_parts(1, 8 * *records);
        let record = Record { sequence, arrived_at_ms: self.now_ms, partition_key: "k".into(), data };
        let input = Input::of(&record);
        if let Some(revision) = shard.wants_definitions(&input) {
            shard.define(&input, revision, &self.definitions);
        }
        let wanted = shard.wants(&input).len();
        let effects = shard.fold(&input, vec![None; wanted]).unwrap().effects;
        let unmet = shard.unmet().len();
        shard.meet(vec![None; unmet]).unwrap();
        for Effect::Append { hash_key, event } in effects {
            if let Event::RolledUp(told) = &event {
                let digest = xxhash_rust::xxh3::xxh3_64(format!("{:?}", told.windows).as_bytes());
                let (source, position, windows) = (&told.source, told.source_position, told.windows.len());
                self.shown += &format!("told by {source} at {position:?}: {windows} windows {digest:016x}\n");
            }
            self.event(hash_key, event);
        }
    }

    fn event(&mut self, key: HashKey, event: Event) {
        self.put(key, wire::encode_events(Header::plain(LOCAL_TENANT, Content::Events, 0, self.now_ms), &[event]));
    }

    fn define(&mut self, name: &str, body: &str) {
        let (kind, name, by) = ("alarm".into(), name.into(), "me".into());
        self.event(HashKey::of(CONTROL_KEY), Event::Defined(Defined { kind, name, body: body.into(), by }));
        let rows = self.rows();
        let made = rows.iter().filter(|row| row.key.subject.kind == Kind::Definition);
        self.definitions = made.map(|row| Definition::decode(&row.body).unwrap()).collect();
    }

    fn lines(&mut self, shard: usize, text: &str) {
        let header = Header::plain(LOCAL_TENANT, Content::Lines, text.len() as u32, self.now_ms);
        self.put(self.shards[shard].0.from, wire::encode(&header, text.as_bytes()));
    }

    /// A second after this minute of the world began, these shards are ticked; both are open.
    fn tick(&mut self, minute: i64, shards: &[usize]) {
        self.now_ms = (START_SECS + minute * 60) * 1000 + 1_000;
        let definitions = self.definitions.iter().map(|definition| definition.revision).max().unwrap_or_default();
        let ranges = self.shards.iter().map(|(range, ..)| *range);
        let open = |(number, range)| OpenShard { shard: ShardId::numbered(number), range };
        let open_shards = (0..).zip(ranges).map(open).collect();
        let tick = Event::Ticked(Ticked { definitions, open_shards, fold_revision: FOLD_REVISION });
        shards.iter().for_each(|shard| self.event(self.shards[*shard].0.from, tick.clone()));
    }

    /// Nothing is let go of here: all that was ever made.
    fn rows(&self) -> Vec<Row> {
        self.shards.iter().flat_map(|(_, shard, _)| shard.commit().rows).collect()
    }

    fn show_snapshots(&mut self, minute: i64) {
        for (_, shard, _) in &self.shards {
            for (name, part) in shard.commit().parts {
                let digest = xxhash_rust::xxh3::xxh3_128(&part);
                self.shown += &format!("minute {minute}: part {}, {} bytes {digest:032x}\n", name.0, part.len());
            }
        }
    }
}

fn alarm(metric: &str, statistic: &str, period: u32, (periods, to_alarm): (u32, u32), threshold: f64) -> String {
    let field = if statistic.starts_with('p') { "ExtendedStatistic" } else { "Statistic" };
    format!(
        r#"{{"AlarmName":"a","ServiceName":"shop","MetricName":"{metric}","{field}":"{statistic}","Period":{period},
            "EvaluationPeriods":{periods},"DatapointsToAlarm":{to_alarm},"Threshold":{threshold:?},
            "ComparisonOperator":"GreaterThanOrEqualToThreshold"}}"#
    )
}

/// All that happened, and what was made of it, as text.
pub fn shown() -> String {
    let mut world = World::new();
    // Of each a few names, so that both shards are at home for some.
    for number in 0..3 {
        world.define(&format!("errors {number}"), &alarm("errors", "Sum", 60, (3, 2), 1.0));
        world.define(&format!("slow {number}"), &alarm("latency", "p90", 120, (2, 1), 100.0));
        world.define(&format!("nothing {number}"), &alarm("level_fatal", "Sum", 60, (3, 3), 1.0));
        world.define(&format!("two days {number}"), &alarm("latency", "Average", 3600, (48, 1), 50.0));
    }
    world.tick(0, &[0, 1]);
    for minute in 0..30 {
        for shard in 0..2 {
            let (at, is_bad) = (START_SECS + minute * 60 + 20, matches!(minute, 5..8 | 13..15));
            let (status, latency) = if is_bad { (500, 250.0 + minute as f64) } else { (200, 12.5 + shard as f64) };
            let line =
                format!("{{\"time\":{at},\"service\":\"shop\",\"status\":{status},\"latency_ms\":{latency:?}}}\n");
            // Silence, so that data runs out; and an old line among the others.
            if !(19..27).contains(&minute) {
                world.lines(shard, &line.repeat(1 + minute as usize % 3));
            }
        }
        match minute {
            10 => world.lines(0, &format!("{{\"time\":{START_SECS},\"service\":\"shop\",\"latency_ms\":9000}}\n")),
            16 => world.define("slow 1", &alarm("latency", "p90", 120, (2, 1), 10.0)),
            17 => world.define("errors 2", "null"),
            _ => {}
        }
        // One shard is silent for six minutes: the other decides without it.
        world.tick(minute + 1, if (13..19).contains(&minute) { &[0] } else { &[0, 1] });
        if minute % 6 == 5 {
            world.show_snapshots(minute);
        }
    }
    world.now_ms = (START_SECS + 27 * 60) * 1000;
    for shard in 0..2 {
        world.event(world.shards[shard].0.from, Event::TimeReset(TimeReset { was_ms: (START_SECS + 30 * 60) * 1000 }));
    }
    world.lines(1, &format!("{{\"time\":{},\"service\":\"shop\",\"status\":500}}\n", START_SECS + 27 * 60));
    world.tick(28, &[0, 1]);
    world.tick(29, &[0, 1]);
    // Three hours later, at once.
    world.tick(29 + 180, &[0, 1]);
    world.show_snapshots(29 + 180);
    show_rows(&mut world);
    world.shown
}

fn show_rows(world: &mut World) {
    let mut rows = world.rows();
    rows.sort_by(|a, b| a.key.cmp(&b.key));
    for row in rows {
        let (key, digest) = (&row.key, xxhash_rust::xxh3::xxh3_128(&row.body));
        world.shown += &format!(
            "{:?} {} {} {} page {} {:?}..{:?} {digest:032x}\n",
            key.subject.kind, key.subject.name, key.at, key.shard, key.page, row.applied_from, row.applied_through
        );
        if matches!(key.subject.kind, Kind::Alarm | Kind::Transition) {
            let Decision { from, to, reason, reason_data, time_secs, .. } = Decision::decode(&row.body).unwrap();
            let (minute, second) = ((time_secs - START_SECS) / 60, time_secs % 60);
            world.shown +=
                &format!("    minute {minute}:{second:02} {from:?} to {to:?}: {reason}\n    {reason_data}\n");
        }
    }
}
