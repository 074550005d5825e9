//! What people ask of generations: a replay, a list, a comparison, a promotion. Decides the order in which things are written, so that whoever is killed
//! in the middle finds it half done and finishes it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use api::operator::NotDone;
use events::{
    event::Defined,
    identity::LOCAL_TENANT,
    position::{SequenceNumber, ShardId},
    stream::{ReadOnly, Stream},
};
use processor::{
    generations::{Began, BeginError, Start, begin, give, named_through},
    replay::bytes_before,
};
use projections::{
    definitions::GENERATION,
    generations::{
        Entry, LIVE, Live, OpenRefused, PromoteRefused, Record, Standing,
        record::{FIRST, FOLLOWS_MS},
    },
    store::{Generation, Store},
    when::Second,
};
use serde_json::{Value, json};

use super::{
    compared::told,
    fill::{Whole, missing},
};
use crate::{System, now_ms, with_causes};

/// Longest that two generations are waited for until each has come to where the other was.
pub(super) const STAND_WAIT: Duration = Duration::from_secs(60);

pub(super) fn refused(error: &(impl std::error::Error + 'static)) -> NotDone {
    NotDone::Refused(with_causes(error))
}

pub(super) fn failed(why: impl Into<String>) -> NotDone {
    NotDone::Failed(why.into())
}

/// It may be that nobody fills it at the moment: whoever asks for it again goes on with it, and waits.
fn not_filled(record: &Record, name: &str) -> NotDone {
    let entry = record.named(name).and_then(|generation| record.entry(generation));
    let is_archives = entry.is_some_and(|entry| entry.from_archive && entry.standing == Standing::Opening);
    let archive = if is_archives { " --archive URL" } else { "" };
    NotDone::Refused(format!(
        "the generation `{name}` has not caught up yet: `weir replay --generation {name}{archive}` goes on with it, and ends once it has"
    ))
}

fn not_begun(error: &BeginError) -> NotDone {
    match error {
        BeginError::Stream(_) | BeginError::Read(_) | BeginError::Write(_) | BeginError::Marks(_) => {
            NotDone::Failed(with_causes(error))
        }
        _ => NotDone::Refused(with_causes(error)),
    }
}

impl System {
    /// Opens a generation, or goes on with one that was opened before; its threads begin. `start`: `None` only to go on.
    pub async fn replay(&self, name: &str, start: Option<Start>) -> Result<Value, NotDone> {
        let generations = &self.generations;
        let _one = generations.changing.lock().await;
        let record = generations.look().await.map_err(|error| failed(with_causes(&error)))?;
        let known = record.named(name).and_then(|generation| record.entry(generation));
        let is_filling = |entry: &Entry| entry.from_archive && entry.standing == Standing::Opening;
        let from_archive = (known.is_none() && start == Some(Start::Archive)) || known.is_some_and(is_filling);
        let whole = if from_archive { Some(self.whole().await?) } else { None };
        let began = match (&start, known) {
            (None, None) => {
                return Err(NotDone::Refused(format!(
                    "there is no generation `{name}` yet: give --start TIME, SHARD:POSITION, oldest or archive"
                )));
            }
            (Some(Start::Archive), Some(known)) if !known.from_archive => {
                return Err(NotDone::Refused(format!(
                    "the generation `{name}` is there, and does not begin in the archive: leave --start out to go on with it, or give another name"
                )));
            }
            (None | Some(Start::Archive), Some(known)) => {
                Began { start_ms: known.start_ms, starts: known.starts.clone() }
            }
            (Some(start), _) => {
                let all = record.knows_before(None);
                let begun = match &whole {
                    Some(whole) => begin(&ReadOnly::new(whole.clone()), &*self.store, all, start).await,
                    None => begin(&ReadOnly::new(self.stream.clone()), &*self.store, all, start).await,
                };
                let missing = whole.as_ref().map_or(vec![], |whole| missing(whole, true));
                begun.map_err(|error| match not_begun(&error) {
                    NotDone::Refused(why) if !missing.is_empty() => {
                        NotDone::Refused(format!("{why}; of the archive is missing: {}", missing.join("; ")))
                    }
                    other => other,
                })?
            }
        };
        let named = named_through(&*self.store, record.live()).await.map_err(|error| failed(with_causes(&error)))?;
        let open = |record: &mut Record| {
            record.numbers_through = record.numbers_through.max(named);
            let (generation, is_new) = record.open(name, began.start_ms, began.starts.clone(), now_ms())?;
            if is_new && from_archive {
                record.fill_from_archive(generation);
            }
            Ok(generation)
        };
        let generation =
            generations.change(open).await.map_err(failed)?.map_err(|error: OpenRefused| refused(&error))?;
        let record = generations.look().await.map_err(|error| failed(with_causes(&error)))?;
        if let Some(entry) = record.entry(generation).filter(|entry| entry.standing == Standing::Opening) {
            let began = Began { start_ms: entry.start_ms, starts: entry.starts.clone() };
            let from = record.knows_before(entry.start_ms);
            let from = if from == generation { Generation(entry.parent.unwrap_or_default()) } else { from };
            match whole {
                Some(whole) => {
                    self.given(&ReadOnly::new(whole.clone()), from, generation, &began).await?;
                    let runtime = self.archive.runtime();
                    generations.fill(&record, generation, whole, runtime).await.map_err(failed)?;
                }
                None => {
                    self.given(&ReadOnly::new(self.stream.clone()), from, generation, &began).await?;
                    generations.stands(generation, Standing::Filling).await.map_err(failed)?;
                }
            }
        }
        generations.attend_now().await.map_err(failed)?;
        let record = generations.look().await.map_err(|error| failed(with_causes(&error)))?;
        self.shown(&record, generation).await.map_err(failed)
    }

    /// The archive and the stream behind it.
    async fn whole(&self) -> Result<Arc<Whole>, NotDone> {
        let whole = self.archived().await.map_err(|error| failed(with_causes(&error)))?;
        whole.ok_or_else(|| {
            NotDone::Refused(
                "there is no archive to read: this process was started without --archive URL, and no other one can read it for this".to_owned(),
            )
        })
    }

    /// Gives a generation what it has to know of the time before; what is on the stream of that time is waited for.
    async fn given<S: Stream>(
        &self,
        stream: &ReadOnly<S>,
        from: Generation,
        to: Generation,
        began: &Began,
    ) -> Result<(), NotDone> {
        let mut given = give(stream, &*self.store, from, to, began).await;
        if matches!(given, Err(BeginError::Unfolded { .. })) {
            // If it is not folded within that time, the next attempt says so.
            let _within = self.caught_up(STAND_WAIT).await;
            given = give(stream, &*self.store, from, to, began).await;
        }
        given.map_err(|error| not_begun(&error))
    }

    /// All generations, the first one first.
    pub async fn generations(&self) -> Result<Value, String> {
        let record = self.generations.look().await.map_err(|error| with_causes(&error))?;
        let all = std::iter::once(Generation::default());
        let all = all.chain(record.entries.iter().map(|entry| Generation(entry.number)));
        let mut shown = vec![];
        for generation in all {
            shown.push(self.shown(&record, generation).await?);
        }
        let unfinished = record.unfinished().map(|promotion| record.name(Generation(promotion.generation)).to_owned());
        Ok(json!({"generations": shown, "unfinishedPromotion": unfinished, "trouble": self.generations.trouble()}))
    }

    async fn shown(&self, record: &Record, generation: Generation) -> Result<Value, String> {
        let entry = record.entry(generation);
        let time = |time_ms: i64| Second(time_ms.div_euclid(1000)).to_string();
        let counts = record.live() == generation;
        let applied = self.resume_points(generation).await?;
        let until = if counts { applied.clone() } else { self.resume_points(record.live()).await? };
        let (mut bytes, mut bytes_total) = (0, 0);
        for (shard, until) in &until {
            let first = entry.and_then(|entry| entry.starts.get(shard)).copied().unwrap_or_default();
            let end = bytes_before(*until);
            let first = bytes_before(first).min(end);
            let at = applied.get(shard).copied().unwrap_or_default();
            bytes += bytes_before(at).clamp(first, end) - first;
            bytes_total += end - first;
        }
        let counted_until_ms = entry.map_or(record.first_counted_until_ms, |entry| entry.counted_until_ms);
        let back = counted_until_ms.filter(|_| record.standing(generation) == Standing::Following && !counts);
        let mut troubles = self.generations.crew(generation).map(|crew| crew.troubles()).unwrap_or_default();
        let filling = self.generations.filling(generation);
        troubles.extend(filling.iter().flat_map(|fill| fill.troubles()));
        let texts = |positions: BTreeMap<ShardId, SequenceNumber>| -> BTreeMap<String, String> {
            positions.into_iter().map(|(shard, at)| (shard.to_string(), at.to_string())).collect()
        };
        Ok(json!({
            "name": record.name(generation),
            "number": generation.0,
            "parent": entry.and_then(|entry| entry.parent).map(|parent| record.name(Generation(parent)).to_owned()),
            "start": entry.and_then(|entry| entry.start_ms).map(time),
            "starts": entry.map(|entry| texts(entry.starts.clone())),
            "openedAt": entry.map(|entry| time(entry.opened_at_ms)),
            "standing": if counts { json!("counts") } else { json!(record.standing(generation)) },
            "bytes": bytes,
            "bytesTotal": bytes_total,
            "appliedThrough": texts(applied),
            "goBackUntil": back.map(|until| time(until.saturating_add(FOLLOWS_MS))),
            "troubles": troubles,
            "archive": filling.map(|fill| fill.told()),
            "compared": entry.and_then(|entry| entry.compared.as_ref()).map(told),
        }))
    }

    /// Whoever folds it, in this process or another.
    async fn resume_points(&self, generation: Generation) -> Result<BTreeMap<ShardId, SequenceNumber>, String> {
        let mut points = BTreeMap::new();
        for shard in self.stream.shards().await.map_err(|error| with_causes(&error))? {
            let stored = self.store.resume_point(generation, &shard.id).await.map_err(|error| with_causes(&error))?;
            points.extend(stored.map(|point| (shard.id, point.position)));
        }
        Ok(points)
    }

    /// From the record that names it on, a generation counts: readers, alarms and effects go by it. To go back is the same with the other's name.
    pub async fn promote(&self, name: &str) -> Result<Value, NotDone> {
        let generations = &self.generations;
        let _one = generations.changing.lock().await;
        let record = generations.look().await.map_err(|error| failed(with_causes(&error)))?;
        // Who promotes again what counts, after an answer that was lost, has what was asked for.
        if record.named(name) == Some(record.live()) && record.unfinished().is_none() {
            let mut shown = self.shown(&record, record.live()).await.map_err(failed)?;
            shown["already"] = json!(true);
            return Ok(shown);
        }
        // What is refused is refused before anything is compared.
        record.clone().promote(name, now_ms()).map_err(|error| match error {
            PromoteRefused::Filling(_) => not_filled(&record, name),
            error => refused(&error),
        })?;
        let generation = record.named(name).unwrap_or_default();
        let entry = record.entry(generation);
        if entry.is_some_and(|entry| entry.compared.is_none() && entry.counted_until_ms.is_none())
            && record.unfinished().is_none()
        {
            self.compare_with_live(name).await?;
        }
        if record.unfinished().is_none() {
            self.stand(&record, record.live(), generation).await?;
        }
        let begun = generations.change(|record| record.promote(name, now_ms())).await.map_err(failed)?;
        let begun = begun.map_err(|error| refused(&error))?;
        let live = Live { generation, promotion: begun.number };
        let defined =
            Defined { kind: GENERATION.into(), name: LIVE.into(), body: live.body(), by: "weir promote".into() };
        let telling = self.workers.notes.telling();
        telling.say(format!("the record by which `{name}` counts is to be folded, for a minute at most"));
        let (revisions, tick) = self.apply_and_tick(LOCAL_TENANT, vec![defined]).await.map_err(failed)?;
        let wait = STAND_WAIT.as_secs();
        telling.say(format!("every shard is to come to the tick from which on `{name}` counts, for {wait} s at most"));
        // Every shard has come to the record that names it, and the new one has committed from there.
        match self.has_ticked(tick, STAND_WAIT).await {
            Ok(true) => {}
            Ok(false) => {
                return Err(failed(format!(
                    "the promotion is on the stream, and not every shard has come to it within {} s: `weir promote {name}` finishes it",
                    STAND_WAIT.as_secs()
                )));
            }
            Err(error) => return Err(failed(with_causes(&error))),
        }
        let revision = revisions.first().copied().unwrap_or_default();
        let done = |record: &mut Record| {
            record.promoted(begun.number, revision, now_ms());
            Ok::<_, String>(())
        };
        generations.change(done).await.map_err(failed)?.map_err(failed)?;
        let record = generations.look().await.map_err(|error| failed(with_causes(&error)))?;
        let before = record.finished().rev().nth(1).map_or(FIRST, |before| record.name(Generation(before.generation)));
        let mut shown = self.shown(&record, generation).await.map_err(failed)?;
        shown["before"] = json!(before);
        Ok(shown)
    }
}
