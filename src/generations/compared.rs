//! Generations compared: which positions both have come to, for how long that is waited for, and what is told of it. How rows are compared is
//! `processor`'s; here is decided between which of them, and nothing is held up for it where others fold.

use std::collections::BTreeMap;

use api::operator::NotDone;
use events::{
    position::{SequenceNumber, ShardId},
    stream::Stream,
};
use processor::generations::{Common, compare};
use projections::{
    generations::{Compared, PromoteRefused, Record, Standing, compared::LeftOut},
    store::Generation,
    when::Second,
};
use serde_json::{Value, json};

use super::asked::{STAND_WAIT, failed, refused};
use crate::{System, now_ms, with_causes, workers::Applied};

/// While shards are split and merged it is compared so often; then that is the answer.
const COMPARES_MAX: u32 = 5;

impl System {
    /// Compares a generation with the one that counts, and keeps what came of it.
    pub async fn compare_generations(&self, name: &str) -> Result<Value, NotDone> {
        let _one = self.generations.changing.lock().await;
        let compared = self.compare_with_live(name).await?;
        Ok(told(&compared))
    }

    pub(super) async fn compare_with_live(&self, name: &str) -> Result<Compared, NotDone> {
        let generations = &self.generations;
        let record = generations.look().await.map_err(|error| failed(with_causes(&error)))?;
        let Some(generation) = record.named(name) else {
            let unknown = record.clone().promote(name, 0);
            return Err(unknown.map_or_else(|error| refused(&error), |_| failed("unknown")));
        };
        let live = record.live();
        if generation == live {
            return Err(refused(&PromoteRefused::Counts(name.to_owned())));
        }
        match record.standing(generation) {
            Standing::Opening | Standing::Filling => return Err(refused(&PromoteRefused::Filling(name.to_owned()))),
            Standing::Ended => return Err(refused(&PromoteRefused::Ended(name.to_owned()))),
            Standing::Following => {}
        }
        let from = |of: Generation| record.entry(of).map_or(i64::MIN, |entry| entry.windows_from_secs());
        let from_secs = from(live).max(from(generation));
        let compared = self.compare_moving(&record, live, generation, from_secs).await?;
        let keep = |record: &mut Record| {
            if let Some(entry) = record.entries.iter_mut().find(|entry| entry.number == generation.0) {
                entry.compared = Some(compared.clone());
            }
            Ok::<_, String>(())
        };
        generations.change(keep).await.map_err(failed)?.map_err(failed)?;
        Ok(compared)
    }

    /// Compares what both have surely folded. Where this process alone has the pair that is everything, as nothing of the one that counts is committed
    /// meanwhile, and the other goes no further than it. Where others commit too, what came in for a row meanwhile leaves it out, and nobody is held up.
    async fn compare_moving(
        &self,
        record: &Record,
        live: Generation,
        generation: Generation,
        from_secs: i64,
    ) -> Result<Compared, NotDone> {
        for _ in 0..COMPARES_MAX {
            let mut through = self.stand(record, live, generation).await?;
            // Not before: while this is held, the one that counts comes no further.
            let still = match self.workers.manner.is_alone {
                true => Some(self.workers.commits.write().await),
                false => None,
            };
            if still.is_some() {
                through = self.stand(record, live, generation).await?;
            }
            let common = Common { from_secs, through };
            let with = (live, record.name(live));
            let compared = compare(&*self.store, with, generation, &common, now_ms()).await;
            let compared = compared.map_err(|error| failed(with_causes(&error)))?;
            drop(still);
            // Of shards that were made meanwhile it is not known how far both are.
            let listed = self.stream.shards().await.map_err(|error| failed(with_causes(&error)))?;
            if listed.iter().all(|shard| common.through.contains_key(&shard.id)) {
                return Ok(compared);
            }
        }
        Err(NotDone::Refused(format!(
            "shards were split or merged each of {COMPARES_MAX} times while rows were compared: nothing was found out. Try again once the stream's shards \
             stay as they are"
        )))
    }

    /// How far both are with each shard.
    async fn standings(
        &self,
        live: Generation,
        generation: Generation,
    ) -> Result<BTreeMap<ShardId, (Applied, Applied)>, String> {
        let mut standings = BTreeMap::new();
        for shard in self.stream.shards().await.map_err(|error| with_causes(&error))? {
            let counts = self.workers.applied_in(live, &shard.id).await.map_err(|error| with_causes(&error))?;
            let own = self.workers.applied_in(generation, &shard.id).await.map_err(|error| with_causes(&error))?;
            standings.insert(shard.id, (counts, own));
        }
        Ok(standings)
    }

    /// Waits until a generation and the one that counts have both committed what either of them has now, whichever processes fold them. Both go on
    /// meanwhile, so a moment at which they stand at one place need not come. Returns up to where both have committed each shard.
    pub(super) async fn stand(
        &self,
        record: &Record,
        live: Generation,
        generation: Generation,
    ) -> Result<BTreeMap<ShardId, SequenceNumber>, NotDone> {
        let deadline = tokio::time::Instant::now() + STAND_WAIT;
        let telling = self.workers.notes.telling();
        let mut standings = self.standings(live, generation).await.map_err(failed)?;
        let goals: BTreeMap<ShardId, Applied> =
            standings.iter().map(|(shard, (counts, own))| (shard.clone(), *counts.max(own))).collect();
        loop {
            let is_behind =
                |of: Generation, at: Applied| move |goal: &Applied| (!at.reaches(*goal)).then_some((of, at));
            let behind = standings.iter().find_map(|(shard, (counts, own))| {
                let goal = goals.get(shard)?;
                let behind = is_behind(generation, *own)(goal).or_else(|| is_behind(live, *counts)(goal));
                behind.map(|(of, at)| (shard, of, at, *goal))
            });
            let Some((shard, of, at, goal)) = behind else { break };
            if tokio::time::Instant::now() >= deadline {
                return Err(NotDone::Refused(not_there(record, (live, generation), shard, (of, at), goal)));
            }
            telling.say(format!(
                "on {shard} the generation `{}` is at {}, and the other at {}: whoever folds it is awaited, for {} s at most",
                record.name(of),
                at.through,
                goal.through,
                STAND_WAIT.as_secs()
            ));
            tokio::time::sleep(self.workers.manner.turn_look).await;
            standings = self.standings(live, generation).await.map_err(failed)?;
        }
        let through = |(counts, own): (Applied, Applied)| match counts.ended && own.ended {
            true => SequenceNumber::MAX,
            false => counts.through.min(own.through),
        };
        Ok(standings.into_iter().map(|(shard, both)| (shard, through(both))).collect())
    }
}

/// Which of both has not come to where the other is.
fn not_there(
    record: &Record,
    (live, generation): (Generation, Generation),
    shard: &ShardId,
    (of, at): (Generation, Applied),
    goal: Applied,
) -> String {
    let end = if goal.ended { ", where it ends" } else { "" };
    let (at, goal) = (at.through, goal.through);
    match of == generation {
        true => format!(
            "it has not caught up: on {shard} it is at {at}, and the one that counts at {goal}{end}; wait, `weir generations` says how far it is"
        ),
        false => format!(
            "the generation `{}`, which counts, has not caught up: on {shard} it is at {at}, and `{}` at {goal}{end}; `GET /health` says what holds it \
             up. Wait until it has come so far, and run the same again",
            record.name(live),
            record.name(generation)
        ),
    }
}

pub(super) fn told(compared: &Compared) -> Value {
    let second = |secs: i64| Second(secs).to_string();
    let windows = compared.first.iter().map(|differs| {
        let mut shown = serde_json::to_value(differs).unwrap_or_default();
        shown["time"] = json!(second(differs.start_secs));
        shown
    });
    let decisions = compared.first_decisions.iter().map(|differs| {
        let mut shown = serde_json::to_value(differs).unwrap_or_default();
        shown["time"] = json!(second(differs.time_secs));
        shown
    });
    let left_out = |of: LeftOut| json!({"windows": of.windows, "decisions": of.decisions, "from": of.first_secs.map(second), "through": of.last_secs.map(second)});
    json!({
        "at": second(compared.at_ms.div_euclid(1000)),
        "with": compared.with,
        "windowsFrom": compared.from_secs.map(second),
        "windows": compared.windows,
        "windowsDiffer": compared.windows_differ,
        "decisions": compared.decisions,
        "decisionsDiffer": compared.decisions_differ,
        "firstWindows": windows.collect::<Vec<_>>(),
        "firstDecisions": decisions.collect::<Vec<_>>(),
        "moving": left_out(compared.moving),
        "past": left_out(compared.past),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whichever_of_both_is_behind_is_named_with_where_both_are() {
        let (shard, at) =
            (ShardId::numbered(3), |counter| Applied { through: SequenceNumber::from_parts(0, counter), ended: false });
        let of = |generation| {
            not_there(
                &Record::default(),
                (Generation(0), Generation(1)),
                &shard,
                (Generation(generation), at(5)),
                at(9),
            )
        };
        let (five, nine) = (at(5).through, at(9).through);
        assert!(
            of(1).starts_with(&format!(
                "it has not caught up: on {shard} it is at {five}, and the one that counts at {nine}; wait"
            )),
            "{}",
            of(1)
        );
        assert!(
            of(0).starts_with(&format!(
                "the generation `first`, which counts, has not caught up: on {shard} it is at {five}, and `"
            )),
            "{}",
            of(0)
        );
    }
}
