//! Of a stream that has lost its beginning: which differences between rows may come from what was lost. Decides what of them cannot be compared; on a
//! stream that is whole nothing is in doubt.
//!
//! | lost | what a replay may get wrong | how it shows |
//! | --- | --- | --- |
//! | which bytes, or counters, a record that is left only repeats | takes them again | the stored balance of that minute has more duplicates |
//! | whom the first day had met | says no to others, once the day's limit is met | a balance of that day tells of the limit |
//! | the same, of a child's parents | meets them anew | only entries of services, of shards with such parents |
//! | where alarms stood, and the values that they look back at | changes of state | nothing: until all of it was seen again |
//!
//! A row that is equal was compared, whatever is in doubt.

use std::collections::{HashMap, HashSet};

use events::position::{SequenceNumber, ShardId};
use projections::{
    alarm::Alarm,
    definitions::Definition,
    fold::{
        AHEAD_MAX_MS,
        alarms::{Decision, LATE_TICKS_MAX},
        balance::Balance,
        rows::Body,
    },
    store::{Kind, Row, RowKey},
};

use super::same::What;

const DAY_SECS: i64 = 24 * 60 * 60;
/// The reasons for which lines are skipped at the limits of a day.
const LIMITS_OF_A_DAY: [&str; 2] = ["too_many_services", "too_many_tenants"];

/// Two rows that differ.
#[derive(Debug)]
pub struct Differing {
    pub key: RowKey,
    pub what: What,
    /// First and last record of each.
    spans: Vec<(SequenceNumber, SequenceNumber)>,
    /// The stored balance and the replayed one.
    balances: Option<(Balance, Balance)>,
    /// When the alarm was decided, of either.
    decided_secs: Option<i64>,
}

impl Differing {
    pub fn of(key: RowKey, what: What, stored: Option<&Row>, replayed: Option<&Row>) -> Self {
        let both = || stored.into_iter().chain(replayed);
        let spans = both().map(|row| (row.applied_from, row.applied_through)).collect();
        let (mut balances, mut decided_secs) = (None, None);
        match key.subject.kind {
            Kind::Balance => {
                let balance = |row: Option<&Row>| Balance::decode(&row?.body).ok();
                balances = balance(stored).zip(balance(replayed));
            }
            Kind::Alarm | Kind::Transition => {
                let decided = both().filter_map(|row| Decision::decode(&row.body).ok());
                decided_secs = decided.map(|decision| decision.time_secs).max();
            }
            _ => {}
        }
        Self { key, what, spans, balances, decided_secs }
    }
}

/// Records of one minute that may have been judged by what is lost.
#[derive(Debug)]
struct Doubtful {
    shard: ShardId,
    tenant: String,
    from: SequenceNumber,
    through: SequenceNumber,
    end_secs: i64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Doubts {
    /// When the first record arrived that is left of each shard.
    begins_ms: HashMap<ShardId, i64>,
    /// Shards that have lost records.
    cut: HashSet<ShardId>,
    /// The parents of each shard.
    parents: HashMap<ShardId, Vec<ShardId>>,
    /// By shard and tenant: a mark holds what the stream has lost and what it has.
    across: HashSet<(ShardId, String)>,
    /// By tenant and name: how far an alarm looks back.
    range_secs: HashMap<(String, String), i64>,
    doubtful: Vec<Doubtful>,
}

impl Doubts {
    /// `orphans`: shards that began with what is lost. `definitions`: all that ever were.
    pub fn new(
        begins_ms: HashMap<ShardId, i64>,
        orphans: &[ShardId],
        parents: HashMap<ShardId, Vec<ShardId>>,
        definitions: &[Definition],
    ) -> Self {
        let mut range_secs = HashMap::<_, i64>::new();
        for definition in definitions.iter().filter(|definition| definition.kind == "alarm") {
            if let Ok(alarm) = Alarm::parse(&definition.body) {
                let range = range_secs.entry((definition.tenant.clone(), definition.name.clone())).or_default();
                *range = alarm.range_secs().max(*range);
            }
        }
        Self { begins_ms, cut: orphans.iter().cloned().collect(), parents, range_secs, ..Self::default() }
    }

    /// A row that holds what the stream has lost; `first`: its shard's oldest record that is left.
    pub fn older(&mut self, row: &Row, first: SequenceNumber) {
        self.cut.insert(row.key.shard.clone());
        let is_mark = matches!(row.key.subject.kind, Kind::Taken | Kind::Producer | Kind::Identified);
        if is_mark && row.applied_through >= first {
            self.across.insert((row.key.shard.clone(), row.key.subject.tenant.clone()));
        }
    }

    /// What differs in earnest, and what cannot be compared. All that is older has been told.
    pub fn judge(&mut self, differing: Vec<Differing>) -> (Vec<Differing>, Vec<RowKey>) {
        for found in &differing {
            if let Some((stored, replayed)) = &found.balances
                && self.is_doubtful(&found.key, stored, replayed)
            {
                self.doubtful.push(Doubtful {
                    shard: found.key.shard.clone(),
                    tenant: found.key.subject.tenant.clone(),
                    from: found.spans.iter().map(|span| span.0).min().unwrap_or_default(),
                    through: found.spans.iter().map(|span| span.1).max().unwrap_or_default(),
                    end_secs: found.key.at + 60,
                });
            }
        }
        let (doubted, earnest): (Vec<_>, Vec<_>) = differing.into_iter().partition(|found| self.explains(found));
        (earnest, doubted.into_iter().map(|found| found.key).collect())
    }

    /// It has lost records, or one of those has with whose state it began.
    fn is_cut(&self, shard: &ShardId) -> bool {
        let (mut asked, mut seen) = (vec![shard], HashSet::new());
        while let Some(shard) = asked.pop() {
            if self.cut.contains(shard) {
                return true;
            }
            asked.extend(self.parents.get(shard).into_iter().flatten().filter(|parent| seen.insert(*parent)));
        }
        false
    }

    /// The same lines came in, and what became of them hangs on what is lost.
    fn is_doubtful(&self, key: &RowKey, stored: &Balance, replayed: &Balance) -> bool {
        let place = (key.shard.clone(), key.subject.tenant.clone());
        let repeats = self.across.contains(&place) && stored.duplicate > replayed.duplicate;
        let first_day = self.begins_ms.get(&key.shard).map(|begins_ms| begins_ms.div_euclid(DAY_SECS * 1000));
        let is_first_day = self.is_cut(&key.shard) && first_day == Some(key.at.div_euclid(DAY_SECS));
        let met = |balance: &Balance| LIMITS_OF_A_DAY.iter().any(|reason| balance.skipped.contains_key(*reason));
        stored.accepted() == replayed.accepted() && (repeats || is_first_day && (met(stored) || met(replayed)))
    }

    fn explains(&self, found: &Differing) -> bool {
        let subject = &found.key.subject;
        if matches!(subject.kind, Kind::Alarm | Kind::Transition) {
            return found
                .decided_secs
                .zip(self.unsure_until_secs(&subject.tenant, &subject.name))
                .is_some_and(|(decided, until)| decided < until);
        }
        if subject.kind == Kind::Service && self.is_cut(&found.key.shard) {
            return true;
        }
        self.doubtful.iter().any(|doubtful| {
            let meets = |span: &(_, _)| span.0 <= doubtful.through && doubtful.from <= span.1;
            doubtful.shard == found.key.shard && doubtful.tenant == subject.tenant && found.spans.iter().any(meets)
        })
    }

    /// Until when an alarm may stand elsewhere in a replay: values may lie ahead of time, an evaluation looks back at its range, and may keep the
    /// state for as long again.
    fn unsure_until_secs(&self, tenant: &str, alarm: &str) -> Option<i64> {
        let begins = self.cut.iter().filter_map(|shard| self.begins_ms.get(shard)).map(|ms| ms.div_euclid(1000));
        let last = begins.chain(self.doubtful.iter().map(|doubtful| doubtful.end_secs)).max()?;
        let range = self.range_secs.get(&(tenant.to_owned(), alarm.to_owned())).copied().unwrap_or_default();
        Some(last + AHEAD_MAX_MS / 1000 + 2 * range + 60 * (i64::from(LATE_TICKS_MAX) + 2))
    }
}
