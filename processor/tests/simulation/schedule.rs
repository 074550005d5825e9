//! What happens in a world, step by step, from its seed alone.

use std::sync::Arc;

use events::{
    event::{Defined, Event, OpenShard, Ticked, TimeReset},
    identity::CONTROL_KEY,
    position::{HashKey, HashRange, SequenceNumber},
};
use processor::{
    append::{system_event, system_event_of},
    drive, tick, verify,
};
use projections::{
    fold::{FOLD_REVISION, Place, sabotage},
    store::Generation,
};

use crate::{
    actors::{Sender, Sent},
    check,
    model::{Meaning, ModelShard},
    reference,
    store::SimStore,
    world::{Broken, Seen, World},
};

/// Worker turns until all is folded, at most: far more than any world needs.
const DRAIN_MAX: usize = 3_000;

impl World {
    /// What happens to the world.
    pub fn live(&mut self) -> Result<(), String> {
        let revision_at = self.random.below(self.shape.steps);
        for step in 0..self.shape.steps {
            self.step = step;
            self.pass_time();
            if step == 2 && self.shape.alarms {
                self.begin_alarms()?;
            }
            if self.shape.new_revision && step == revision_at {
                self.change_revision();
            }
            self.act()?;
            self.check()?;
        }
        self.step = self.shape.steps;
        self.drain()
    }

    /// The whole schedule, and what it left behind.
    pub fn run(&mut self) -> Result<Seen, String> {
        self.live()?;
        self.finish()
    }

    /// Some alarms are in force before much happens.
    fn begin_alarms(&mut self) -> Result<(), String> {
        for _ in 0..self.random.below(4) {
            self.define();
        }
        self.set_faults(false);
        self.fold_all()?;
        self.tick(None)?;
        self.set_faults(true);
        Ok(())
    }

    fn pass_time(&mut self) {
        self.clock_ms += self.random.below(self.shape.pace_ms) as i64;
        if self.shape.jumps && self.random.below(25) == 0 {
            let was_ms = self.clock_ms;
            self.clock_ms += [-70_000, -600_000, 7_200_000, 200_000][self.random.below(4) as usize];
            self.stream.set_clock(self.clock_ms);
            self.say(|_| "the clock jumps".into());
            if self.clock_ms < was_ms && self.random.below(2) == 0 {
                self.reset_time(was_ms);
            }
        }
        self.stream.set_clock(self.clock_ms);
        if self.shape.slow_shard && self.random.below(20) == 0 {
            let shard = self.random.below(self.places.len() as u64) as usize;
            self.slow = if self.slow.is_some() { None } else { Some(shard) };
        }
        // What is late comes after others of its producer were acknowledged; in hasty worlds after many.
        if self.random.below(if self.shape.hasty { 20 } else { 4 }) == 0 {
            self.stream.arrive();
        }
        self.pass_outage();
    }

    /// A person says that the clock is right. The record goes to every shard until each has it.
    fn reset_time(&mut self, was_ms: i64) {
        self.set_faults(false);
        for (shard, range) in self.stream.ring() {
            self.say(|_| format!("{shard} hears that the clock is right"));
            let put = system_event(range.from, Event::TimeReset(TimeReset { was_ms }));
            self.append(&[Sent { put, meaning: Arc::new(Meaning::TimeReset) }]);
        }
        self.set_faults(self.outage <= self.step);
    }

    fn pass_outage(&mut self) {
        if self.outage == self.step {
            self.set_faults(true);
        }
        if !self.shape.outages || self.outage > self.step || self.random.below(15) > 0 {
            return;
        }
        self.outage = self.step + 1 + self.random.below(6);
        let (mut stream, mut store) = (self.shape.stream, self.shape.store);
        let what = match self.random.below(5) {
            0 => (&mut stream.not_appended, "appends are refused"),
            1 => (&mut stream.unknown, "appends are not answered"),
            2 => (&mut store.refused, "commits are refused"),
            3 => (&mut store.request_lost, "commits are lost"),
            _ => (&mut store.partial, "commits end half way"),
        };
        *what.0 = 1000;
        let what = what.1;
        self.stream.set_rates(stream);
        self.store.set_rates(store);
        self.say(|_| what.into());
    }

    fn act(&mut self) -> Result<(), String> {
        let minute = self.clock_ms.div_euclid(60_000);
        let is_due = minute != self.ticked_minute && !(self.shape.misses_ticks && self.random.below(4) > 0);
        if is_due || (self.shape.two_tickers && self.random.below(10) == 0) {
            self.ticked_minute = minute;
            if self.listed_before.is_some() && self.random.below(2) == 0 {
                self.tick_late();
            }
            let dies = (self.random.below(20) == 0).then(|| self.random.below(4) as u32);
            self.tick(dies)?;
        }
        match self.random.below(100) {
            0..8 => self.begin_sender(),
            8..40 => self.send(),
            40..44 if self.shape.alarms => self.define(),
            40..44 if self.shape.reshards => self.note(),
            44..48 if self.shape.reshards => self.reshard(),
            44..46 if self.shape.alarms => self.define(),
            _ => {
                let shard = self.random.below(self.places.len() as u64) as usize;
                if self.slow != Some(shard) {
                    self.turn(shard)?;
                }
            }
        }
        Ok(())
    }

    fn begin_sender(&mut self) {
        let pick = self.random.below(self.files.len() as u64 + u64::from(self.shape.noise)) as usize;
        let sender = match self.files.get(pick).cloned() {
            Some(file) => {
                let read_at_ms = self.clock_ms;
                self.surrounded(|around| Sender::of_file(around, &file, read_at_ms))
            }
            None if self.shape.noise => self.surrounded(Sender::once),
            None => return,
        };
        self.say(|_| format!("somebody begins to send {} batches", sender.waiting.len()));
        self.senders.push(sender);
    }

    fn send(&mut self) {
        if self.senders.is_empty() {
            return;
        }
        let which = self.random.below(self.senders.len() as u64) as usize;
        let mut sender = self.senders.swap_remove(which);
        let places = self.surrounded(|around| sender.choose(around));
        let sent: Vec<Sent> = places.iter().map(|place| sender.waiting[*place].clone()).collect();
        let answer = if sent.is_empty() { Some(vec![]) } else { self.append(&sent) };
        self.say(|_| format!("{} batches are sent: {answer:?}", sent.len()));
        match answer {
            Some(taken) => {
                let taken = places.into_iter().zip(taken).filter_map(|(place, taken)| taken.then_some(place));
                sender.acknowledged(taken.collect());
            }
            None => self.surrounded(|around| sender.unknown(around)),
        }
        if !sender.is_done() {
            self.senders.push(sender);
        }
    }

    fn define(&mut self) {
        let tenant = self.shape.odd.tenant(&mut self.random);
        let name = format!("alarm{}", self.random.below(3));
        let body = if self.random.below(6) == 0 { "null".to_owned() } else { self.alarm(&name) };
        self.say(|_| format!("{tenant} applies {name}: {body}"));
        let defined = Defined { kind: "alarm".into(), name, body, by: "somebody".into() };
        let put = system_event_of(tenant, HashKey::of(CONTROL_KEY), Event::Defined(defined));
        // Whoever applies a definition and hears nothing applies it again: another revision with the same body.
        self.append(&[Sent { put, meaning: Meaning::System.into() }]);
    }

    /// A definition of a kind that no shard acts by.
    fn note(&mut self) {
        let tenant = self.shape.odd.tenant(&mut self.random);
        let (name, body) = (format!("note{}", self.random.below(3)), format!("\"{}\"", self.step));
        self.say(|_| format!("{tenant} applies {name}: {body}"));
        let defined = Defined { kind: "note".into(), name, body, by: "somebody".into() };
        let put = system_event_of(tenant, HashKey::of(CONTROL_KEY), Event::Defined(defined));
        self.append(&[Sent { put, meaning: Meaning::System.into() }]);
    }

    /// Splits a shard, or merges two.
    pub fn reshard(&mut self) {
        const SHARDS_MAX: usize = 12;
        if self.places.len() >= SHARDS_MAX {
            return;
        }
        let mut open: Vec<_> = (0..).zip(self.stream.listed()).filter(|(_, shard)| !shard.closed).collect();
        open.sort_by_key(|(_, shard)| shard.range.from);
        let pick = self.random.below(open.len() as u64) as usize;
        let (one, next) = (&open[pick], open.get(pick + 1));
        let HashRange { from, through } = one.1.range;
        match next.filter(|_| self.random.below(2) == 0) {
            Some(next) => self.replace(&[one.0, next.0], &[HashRange { from, through: next.1.range.through }]),
            None => {
                let at = HashKey(from.0 + (through.0 - from.0) / 4 * (1 + u128::from(self.random.below(3))) + 1);
                let lower = HashRange { from, through: HashKey(at.0 - 1) };
                self.replace(&[one.0], &[lower, HashRange { from: at, through }]);
            }
        }
    }

    /// A ticker has listed the shards before a split or merge, and appends its tick after it.
    fn tick_late(&mut self) {
        let Some(ticked) = self.listed_before.take() else { return };
        self.say(|_| format!("a ticker comes late: {:?}", ticked.open_shards));
        for open in &ticked.open_shards {
            let put = system_event(open.range.from, Event::Ticked(ticked.clone()));
            self.append(&[Sent { put, meaning: Meaning::System.into() }]);
        }
    }

    fn replace(&mut self, parents: &[usize], ranges: &[HashRange]) {
        let work = drive::newest_revision(&*self.store, Generation::default());
        if let Some(Ok(definitions)) = self.fuse.run(&self.runtime, None, work) {
            let open = self.stream.ring().into_iter().map(|(shard, range)| OpenShard { shard, range });
            let listed = Ticked { definitions, open_shards: open.collect(), fold_revision: FOLD_REVISION };
            self.listed_before = Some(listed);
        }
        self.say(|_| format!("shards {parents:?} close, and {} begin", ranges.len()));
        self.stream.reshard(parents, ranges);
        self.tell();
        for parent in parents {
            self.models[*parent].closed = true;
        }
        let ring = self.stream.ring();
        let children = self.stream.listed().split_off(self.places.len());
        for child in children {
            let range = child.range;
            let place = Place { generation: Generation::default(), shard: child.id, ring: ring.clone() };
            let of: Vec<&ModelShard> = parents.iter().map(|parent| &self.models[*parent]).collect();
            let model = ModelShard::child(place.clone(), range, self.shape.limits, &of);
            self.models.push(model);
            self.places.push(place);
            self.processes.push(vec![]);
        }
    }

    pub fn alarm(&mut self, name: &str) -> String {
        let service = self.shape.odd.service(&mut self.random);
        let mut pick = |of: &[&'static str]| of[self.random.below(of.len() as u64) as usize];
        let metric = pick(&["lines", "errors", "latency", "requests"]);
        let (statistic, comparison) =
            (pick(&["Sum", "SampleCount", "Maximum"]), pick(&["GreaterThanThreshold", "LessThanThreshold"]));
        let periods = 1 + self.random.below(3);
        serde_json::json!({
            "AlarmName": name, "ServiceName": service, "MetricName": metric, "Statistic": statistic,
            "Period": 60 * (1 + self.random.below(2)), "EvaluationPeriods": periods,
            "DatapointsToAlarm": 1 + self.random.below(periods), "Threshold": self.random.below(6) as f64,
            "ComparisonOperator": comparison,
        })
        .to_string()
    }

    pub fn tick(&mut self, dies: Option<u32>) -> Result<(), String> {
        let (stream, store) = (self.stream.clone(), self.store.clone());
        let done = self.fuse.run(&self.runtime, dies, tick::tick(&*stream, &*store, Generation::default()));
        self.say(|_| format!("tick: {done:?}"));
        Ok(())
    }

    /// Another program ticks from now on.
    fn change_revision(&mut self) {
        self.set_faults(false);
        let shards = self.stream.ring();
        for (shard, range) in &shards {
            let ticked = Ticked {
                definitions: SequenceNumber::ZERO,
                open_shards: shards
                    .iter()
                    .map(|(shard, range)| OpenShard { shard: shard.clone(), range: *range })
                    .collect(),
                fold_revision: FOLD_REVISION + 1,
            };
            self.say(|_| format!("{shard} changes its revision"));
            let put = system_event(range.from, Event::Ticked(ticked));
            self.append(&[Sent { put, meaning: Arc::new(Meaning::NewRevision) }]);
        }
        self.set_faults(true);
    }

    fn turn(&mut self, shard: usize) -> Result<(), String> {
        let count = self.processes[shard].len();
        if count == 0 || (self.shape.zombies && count < 3 && self.random.below(12) == 0) {
            return self.open(shard);
        }
        if self.random.below(200) < self.shape.crash_percent {
            let which = self.random.below(count as u64) as usize;
            let dead = self.processes[shard].swap_remove(which);
            self.say(|_| format!("shard {shard}: worker {} dies", dead.name));
            return Ok(());
        }
        let mut which = self.random.below(count as u64) as usize;
        if self.processes[shard][which].sleepy && self.random.below(10) > 0 {
            which = count - 1;
        }
        let is_lazy = self.shape.lazy_zombies && which + 1 < count && self.random.below(10) > 0;
        let commits = !is_lazy && self.random.below(100) < self.shape.commit_percent;
        let dies = self.random.below(200) < self.shape.crash_percent;
        let after = dies.then(|| self.random.below(20) as u32);
        self.work(shard, which, commits, after)
    }

    /// Nothing goes wrong any more: what waits is sent, time passes, and new workers fold all of it. Old ones may still be about.
    fn drain(&mut self) -> Result<(), String> {
        self.set_faults(false);
        self.slow = None;
        for _ in 0..DRAIN_MAX {
            if self.senders.is_empty() {
                break;
            }
            self.send();
        }
        self.fold_all()?;
        while self.stream.arrive() {}
        // Who slept wakes up, and tells old news.
        for shard in 0..self.processes.len() {
            for which in (0..self.processes[shard].len()).rev() {
                for _ in 0..6 {
                    let awake = self.processes[shard].len();
                    self.work(shard, which, false, None)?;
                    if self.processes[shard].len() < awake {
                        break;
                    }
                }
            }
        }
        for _ in 0..3 {
            self.clock_ms += 61_000;
            self.stream.set_clock(self.clock_ms);
            self.tick(None)?;
            self.fold_all()?;
        }
        for shard in 0..self.processes.len() {
            while !self.processes[shard].is_empty() {
                self.work(shard, 0, true, None)?;
                self.check()?;
                if !self.processes[shard].is_empty() && self.random.below(2) == 0 {
                    self.processes[shard].remove(0);
                }
            }
        }
        self.fold_all()
    }

    pub fn fold_all(&mut self) -> Result<(), String> {
        for _ in 0..DRAIN_MAX {
            self.tell();
            let behind = (0..self.models.len()).find(|shard| {
                let (of, model) = (&self.places[*shard].shard, &self.models[*shard]);
                self.store.resume_point(of) < model.last || model.closed && !self.store.has_ended(of)
            });
            let Some(shard) = behind else { return Ok(()) };
            let all = self.processes[shard].len();
            if all == 0 || self.random.below(16) == 0 {
                self.open(shard)?;
                continue;
            }
            // The newest one holds the lease; others go on now and then.
            let which = if self.random.below(10) == 0 { self.random.below(all as u64) as usize } else { all - 1 };
            // Some commits take in many pages: each of them costs as much as folding does.
            let commits = self.random.below(2) == 0;
            self.work(shard, which, commits, None)?;
            self.check()?;
        }
        Err("the workers do not come to an end".into())
    }

    fn finish(&mut self) -> Result<Seen, String> {
        self.check()?;
        check::complete(&self.store, &self.models)?;
        // Where pages end has no meaning, as the world has shown; what follows is only to say what the rows have to be.
        self.stream.set_page_max(1_000);
        let until: Vec<SequenceNumber> = self.models.iter().map(|model| model.last).collect();
        let broken = if let Some(Broken::Fold(broken)) = self.broken { Some(broken) } else { None };
        sabotage::set(None);
        let plain = reference::compare(&self.runtime, &self.fuse, &self.stream, &self.store, &self.places, &until);
        sabotage::set(broken);
        plain?;
        self.verify()?;
        Ok(Seen { records: self.stream.lengths().iter().sum::<usize>() as u64, rows: self.store.rows().len() as u64 })
    }

    /// What a user is told agrees.
    pub fn verify(&mut self) -> Result<(), String> {
        let scratch = Arc::new(SimStore::new(true, None, 0, self.fuse.clone()));
        let stream = events::stream::ReadOnly::new(self.stream.clone());
        let work = verify::verify(stream, &*self.store, scratch, self.places.clone(), async {}, |_| {});
        let report = self.fuse.run(&self.runtime, None, work).expect("no fuse is lit");
        match report {
            Ok(report) if report.differences == 0 => Ok(()),
            Ok(report) => Err(format!("verify found {:?}", report.first_difference)),
            Err(error) => Err(format!("verify failed: {error}")),
        }
    }
}
