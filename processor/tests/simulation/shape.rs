//! What kind of world a seed is: swarms of different worlds find more than many that are alike.

use projections::{
    fold::{limits::Limits, sabotage::Sabotage},
    store::law::random::Random,
};

use crate::{
    input::{BEGIN_MS, Oddness},
    store, stream,
    world::Broken,
};

/// From `BEGIN_MS` to a few minutes before midnight.
const UNTIL_NIGHT_MS: i64 = 8 * 3_600_000 - 600_000;

#[derive(Debug, Clone)]
pub struct Shape {
    pub shards: u16,
    pub steps: u64,
    pub page_max: u64,
    /// The store commits all at once.
    pub atomic: bool,
    pub files: usize,
    pub producers: u64,
    pub odd: Oddness,
    pub alarms: bool,
    pub noise: bool,
    /// How far the clock goes at a step, at most.
    pub pace_ms: u64,
    /// The host's clock jumps, stamps too.
    pub jumps: bool,
    /// More ticks than minutes.
    pub two_tickers: bool,
    /// Ticks are missed, and minutes with them.
    pub misses_ticks: bool,
    pub zombies: bool,
    /// A worker that others were opened beside hardly ever commits.
    pub lazy_zombies: bool,
    /// Small ones, in some.
    pub limits: Limits,
    /// When it begins, Unix milliseconds: in some a few minutes before a day ends.
    pub begin_ms: i64,
    /// Producers begin a new epoch whenever they may.
    pub eager_epochs: bool,
    /// Producers send so many batches that marks forget the first of them.
    pub hasty: bool,
    /// The stream or the store is away for a while.
    pub outages: bool,
    /// Of a hundred turns of a worker, so many end in its death.
    pub crash_percent: u64,
    /// Of a hundred turns, so many commit.
    pub commit_percent: u64,
    pub slow_shard: bool,
    pub new_revision: bool,
    /// Shards split and merge.
    pub reshards: bool,
    pub stream: stream::Rates,
    pub store: store::Rates,
}

impl Shape {
    /// Nothing goes wrong, and nothing begins by itself.
    pub fn calm() -> Self {
        let calm = Self::of(&mut Random::new(0), None);
        Self {
            files: 0,
            producers: 0,
            hasty: false,
            atomic: true,
            zombies: false,
            crash_percent: 0,
            stream: stream::Rates::default(),
            store: store::Rates::default(),
            limits: Limits::REAL,
            begin_ms: BEGIN_MS,
            ..calm
        }
    }

    pub fn of(random: &mut Random, broken: Option<Broken>) -> Self {
        let mut one_in = |n: u64| random.below(n) == 0;
        let (faulty, lossy) = (!one_in(4), !one_in(3));
        let rate = |on: bool, rate: u16| if on { rate } else { 0 };
        let stream = stream::Rates {
            throttled: rate(faulty, 100),
            not_appended: rate(faulty, 50),
            unknown: rate(lossy, 150),
            unavailable: rate(faulty, 20),
            late: rate(one_in(2), 300),
            shuffled: rate(one_in(3), 300),
        };
        let store = store::Rates {
            refused: rate(faulty, 50),
            request_lost: rate(lossy, 50),
            answer_lost: rate(lossy, 80),
            partial: rate(lossy, 80),
            unavailable: rate(faulty, 15),
        };
        let is_odd = [one_in(2), one_in(3), one_in(2), one_in(2), one_in(2)];
        let flags =
            [one_in(2), !one_in(4), one_in(2), one_in(4), one_in(3), one_in(2), !one_in(3), one_in(4), one_in(12)];
        let more = [one_in(2), one_in(3), one_in(3), one_in(2)];
        let new_revision =
            matches!(broken, Some(Broken::Fold(Sabotage::RevisionIgnored | Sabotage::StopsWithoutCommit)));
        let is_small = random.below(3) == 0;
        let limits = Limits {
            tenants: 1 + random.below(2) as usize,
            tenant_services: 1 + random.below(3) as usize,
            services: 2 + random.below(3) as usize,
            series: 1 + random.below(2) as usize,
            pieces: 1 + random.below(3) as usize,
            id_bytes: 250,
            told_bytes: 200,
        };
        let (until_night, hasty) = (random.below(2) == 0, random.below(6) == 0);
        let reshards = match broken {
            Some(Broken::Fold(
                Sabotage::ChildBeforeParent
                | Sabotage::ChildWithoutMarks
                | Sabotage::ChildWithoutDefinitions
                | Sabotage::MergeTakesOneParent
                | Sabotage::HomesLeftBehind
                | Sabotage::MinutesLeftBehind
                | Sabotage::HomesOfAll
                | Sabotage::RestUntold
                | Sabotage::EndSaysAll
                | Sabotage::UnlistedTicks,
            )) => true,
            // Other laws are looked for where they show: most of them need alarms.
            Some(_) => false,
            None => random.below(2) == 0,
        };
        let stream = if hasty { stream::Rates { unknown: 150, late: 300, ..stream } } else { stream };
        Self {
            limits: if is_small { limits } else { Limits::REAL },
            begin_ms: BEGIN_MS + if until_night { UNTIL_NIGHT_MS } else { 0 },
            shards: 1 + random.below(4) as u16,
            steps: 40 + random.below(100),
            page_max: [1, 3, 10][random.below(3) as usize],
            atomic: flags[0],
            files: random.below(5) as usize,
            producers: if hasty { 1 + random.below(2) } else { random.below(4) },
            odd: Oddness {
                undated: is_odd[0],
                future: is_odd[1],
                broken: is_odd[2],
                continued: is_odd[3],
                late: is_odd[4],
                narrow: more[2],
            },
            alarms: flags[1],
            noise: flags[2],
            pace_ms: [5_000, 20_000, 40_000][random.below(3) as usize],
            jumps: flags[3],
            two_tickers: flags[4],
            misses_ticks: flags[5],
            zombies: flags[6],
            lazy_zombies: more[0],
            eager_epochs: more[1],
            hasty,
            outages: more[3],
            crash_percent: [0, 5, 25][random.below(3) as usize],
            commit_percent: [5, 30, 80][random.below(3) as usize],
            slow_shard: flags[7],
            new_revision: (flags[8] || new_revision) && !reshards,
            reshards,
            stream,
            store,
        }
    }
}
