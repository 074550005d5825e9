//! Alarms in the fold of one shard: what a home says of a shard that is silent, how far a jump in time is walked, what old lines cost, and how many
//! alarms there may be.
#![allow(clippy::unwrap_used, missing_docs)]

use std::num::NonZeroU16;

use bytes::Bytes;
use events::{
    event::{Defined, Event, OpenShard, Ticked},
    position::{HashRange, SequenceNumber, ShardId},
    stream::Record,
    wire::{self, Content, Header},
};
use projections::{
    alarm::State,
    definitions::{ALARMS_MAX, Definition},
    fold::{
        Effect, FOLD_REVISION, Folded, Input, Place, Shard, WALK_MAX_SECS,
        alarms::{Decision, LATE_TICKS_MAX, home_key},
    },
    store::{Generation, Kind},
};

/// 2026-01-01T00:00:00Z.
const START_SECS: i64 = 1_767_225_600;

/// One of two shards.
struct World {
    place: Place,
    shard: Shard,
    records: u64,
    now_secs: i64,
    /// Definitions that earlier shards of this world made.
    kept: Vec<Definition>,
}

impl World {
    /// The first of two shards, or the second.
    fn of(number: usize) -> Self {
        let ranges = HashRange::even(NonZeroU16::new(2).unwrap());
        let ring: Vec<_> = (0..).map(ShardId::numbered).zip(ranges).collect();
        let place = Place { generation: Generation(0), shard: ring[number].0.clone(), ring };
        Self { shard: Shard::new(place.clone()), place, records: 0, now_secs: START_SECS, kept: vec![] }
    }

    /// A name that is at home on the first shard.
    fn name(&self) -> String {
        let is_first = |name: &String| *self.place.owner(home_key("local", name)) == ShardId::numbered(0);
        (0..).map(|number| format!("alarm{number}")).find(is_first).unwrap()
    }

    fn put(&mut self, data: Bytes) -> Folded {
        self.records += 1;
        let sequence = SequenceNumber::from_parts(1, self.records);
        let arrived_at_ms = self.now_secs * 1000 + 1_000;
        let input = Input::of(&Record { sequence, arrived_at_ms, partition_key: "k".into(), data });
        if let Some(revision) = self.shard.wants_definitions(&input) {
            let all = self.definitions();
            self.shard.define(&input, revision, &all);
        }
        let wanted = self.shard.wants(&input).len();
        let folded = self.shard.fold(&input, vec![None; wanted]).unwrap();
        let unmet = self.shard.unmet().len();
        self.shard.meet(vec![None; unmet]).unwrap();
        folded
    }

    fn event(&mut self, event: Event) -> Folded {
        self.put(wire::encode_events(Header::plain("local", Content::Events, 0, self.now_secs * 1000), &[event]))
    }

    fn define(&mut self, name: &str, body: &str) -> Folded {
        let (kind, name, by) = ("alarm".into(), name.into(), "me".into());
        self.event(Event::Defined(Defined { kind, name, body: body.into(), by }))
    }

    fn lines(&mut self, service: &str, times_secs: &[i64]) {
        let line = |secs: &i64| format!("{{\"time\":{secs},\"service\":\"{service}\",\"status\":500}}\n");
        let text: String = times_secs.iter().map(line).collect();
        let header = Header::plain("local", Content::Lines, text.len() as u32, self.now_secs * 1000);
        assert_eq!(self.put(wire::encode(&header, text.as_bytes())).balance.folded, times_secs.len() as u64);
    }

    /// The minute that began with this time is over; the tick names every definition that was applied.
    fn tick(&mut self, at_secs: i64, listed: &[u64]) -> Folded {
        self.now_secs = at_secs;
        let definitions = self.definitions().iter().map(|definition| definition.revision).max().unwrap_or_default();
        let open = |number: &u64| self.place.ring[*number as usize].clone();
        let open_shards = listed.iter().map(open).map(|(shard, range)| OpenShard { shard, range }).collect();
        self.event(Event::Ticked(Ticked { definitions, open_shards, fold_revision: FOLD_REVISION }))
    }

    /// Nothing is let go of here: every row that was made.
    fn rows<R>(&self, kind: Kind, decode: impl Fn(&Bytes) -> R) -> Vec<R> {
        let rows = self.shard.commit().rows;
        rows.iter().filter(|row| row.key.subject.kind == kind).map(|row| decode(&row.body)).collect()
    }

    fn definitions(&self) -> Vec<Definition> {
        let made = self.rows(Kind::Definition, |body| Definition::decode(body).unwrap());
        self.kept.iter().cloned().chain(made).collect()
    }

    /// Changes after the alarm was new, in order.
    fn changes(&self) -> Vec<Decision> {
        let mut changes = self.rows(Kind::Transition, |body| Decision::decode(body).unwrap());
        changes.retain(|decision| decision.from.is_some());
        changes.sort_by_key(|decision| decision.time_secs);
        changes
    }

    /// What a resume point holds of alarms: the section of the state.
    fn state(&self) -> Vec<u8> {
        let parts = self.shard.commit().parts;
        parts.iter().filter(|(_, part)| part[0] == 1).flat_map(|(_, part)| part[1..].to_vec()).collect()
    }

    fn restart(&mut self) {
        self.kept = self.definitions();
        let commit = self.shard.commit();
        let parts: Vec<Bytes> = commit.parts.into_iter().map(|(_, part)| part).collect();
        self.shard = Shard::restore(self.place.clone(), commit.checkpoint.position, &parts).unwrap();
    }
}

fn errors(name: &str, periods: u32, to_alarm: u32) -> String {
    format!(
        r#"{{"AlarmName":"{name}","ServiceName":"shop","MetricName":"errors","Statistic":"Sum","Period":60,"EvaluationPeriods":{periods},
            "DatapointsToAlarm":{to_alarm},"Threshold":1,"ComparisonOperator":"GreaterThanOrEqualToThreshold"}}"#
    )
}

#[test]
fn a_minute_is_decided_without_a_silent_shard_after_three_further_ticks_and_the_reason_names_it() {
    let mut world = World::of(0);
    let name = world.name();
    world.define(&name, &errors(&name, 1, 1));
    world.tick(START_SECS, &[0]);
    world.lines("shop", &[START_SECS + 30]);
    world.tick(START_SECS + 60, &[0, 1]);
    assert_eq!(LATE_TICKS_MAX, 3);
    for further in 1..=3 {
        assert_eq!(world.changes(), [], "before {further} further ticks");
        world.tick(START_SECS + 60 + further * 60, &[0]);
    }
    let changes = world.changes();
    assert_eq!((changes[0].to, changes[0].time_secs), (State::Alarm, START_SECS + 60));
    let end = "transition). Decided without shardId-000000000001, which had not spoken for this minute.";
    assert!(changes[0].reason.ends_with(end), "{}", changes[0].reason);
    assert!(changes[1..].iter().all(|change| !change.reason.contains("without")), "all had spoken: {changes:?}");
}

#[test]
fn a_jump_in_time_is_walked_minute_by_minute_and_no_further_back_than_a_day() {
    // It looks back 1,920 minutes, and rings in the first minute that sees an error.
    let first_rung = |error_before_end_secs: i64| {
        let mut world = World::of(0);
        let name = world.name();
        world.define(&name, &errors(&name, 1440, 1));
        world.tick(START_SECS, &[0]);
        let end = START_SECS + 40 * 3_600;
        world.now_secs = end;
        world.lines("shop", &[end - error_before_end_secs]);
        world.tick(end, &[0]);
        let changes = world.changes();
        assert_eq!(changes.iter().filter(|change| change.to == State::Alarm).count(), 1, "{changes:?}");
        end - changes[0].time_secs
    };
    assert_eq!(WALK_MAX_SECS, 86_400);
    assert_eq!(first_rung(30), 0, "the last minute");
    assert_eq!(first_rung(2 * 3_600 + 30), 2 * 3_600);
    assert_eq!(first_rung(86_400 + 30), 86_400, "the first minute that is walked");
    assert_eq!(first_rung(30 * 3_600 + 30), 86_400, "what lies before is not");
}

#[test]
fn a_backfill_of_years_ago_rings_nothing_tells_nobody_and_leaves_nothing_behind() {
    const YEAR_2015_SECS: i64 = 1_420_070_400;
    let old: Vec<i64> = (0..3_000).map(|minute| YEAR_2015_SECS + minute * 60).collect();
    let folded = |number: usize, service: &str| {
        let mut world = World::of(number);
        let name = world.name();
        world.define(&name, &errors(&name, 1440, 1));
        let listed = [number as u64];
        world.tick(START_SECS, &listed);
        world.lines(service, &old);
        // Just behind what the alarm reaches: 1,920 minutes, and some to spare.
        world.lines(service, &[START_SECS - 1_930 * 60]);
        let effects = world.tick(START_SECS + 60, &listed).effects;
        (world.state(), world.changes(), effects)
    };
    let (state, changes, _) = folded(0, "shop");
    assert_eq!((&state, &changes), (&folded(0, "nobody watches").0, &vec![]));
    assert!(state.len() < 2_000, "{} bytes", state.len());
    // The other shard, which tells the home.
    let (state, _, effects) = folded(1, "shop");
    assert_eq!(state, folded(1, "nobody watches").0);
    let [Effect::Append { event: Event::RolledUp(told), .. }] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(told.windows, []);
}

#[test]
fn a_definition_without_room_is_skipped_and_counted_also_after_a_restart_and_never_in_force() {
    let mut world = World::of(0);
    let apply = |world: &mut World, number: usize, body: &str| {
        let folded = world.define(&format!("n{number}"), body);
        let skipped: Vec<(String, u64)> =
            folded.balance.skipped.into_iter().map(|(reason, skipped)| (reason, skipped.count)).collect();
        assert!(skipped.is_empty() || skipped == [("too_many_alarms".to_owned(), 1)], "{skipped:?}");
        skipped.is_empty()
    };
    let body = errors("n", 1, 1);
    assert!((0..ALARMS_MAX - 1).all(|number| apply(&mut world, number, &body)));
    world.tick(START_SECS, &[0]);
    assert!(apply(&mut world, ALARMS_MAX - 1, &body), "the last one that has room");
    for restart in [false, true] {
        if restart {
            world.restart();
        }
        assert!(!apply(&mut world, ALARMS_MAX, &body), "one in force and one that is not yet are counted alike");
        assert!(apply(&mut world, 7, &errors("n", 3, 2)), "another body for one that is there");
    }
    world.tick(START_SECS + 60, &[0]);
    assert!(!apply(&mut world, ALARMS_MAX, &body));
    assert!(apply(&mut world, 3, "null"));
    assert!(apply(&mut world, ALARMS_MAX, &body), "there is room again");
    world.tick(START_SECS + 120, &[0]);
    assert!(!apply(&mut world, 3, &body));
}
