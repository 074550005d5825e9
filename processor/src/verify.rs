//! Exactly once, shown: folds the stream again beside the rows and compares both, shard by shard.
//!
//! | what | equal |
//! | --- | --- |
//! | a row | key, body, first and last record, revision of the fold |
//! | marks of files and objects | the bytes that were taken, and of each stretch without a gap the highest record that took some of it |
//! | marks of producers | the counters that a producer may still send again, with their records, and the highest record of those before |
//! | the snapshot of a resume point | every byte: time, alarms with definitions, windows and states, the services of the day |
//!
//! Not compared, as they depend on when commits fell and on nothing that was folded: into how many ranges a stretch is cut, which counters are listed
//! that can no longer come, and what parts of a snapshot are called.
//! Not comparable: rows past their time, which may have been removed, and what began anew since; and what holds something of records that the stream no longer has, or differs and may depend on such (`doubt`). It is counted, and
//! named by kind and service.

mod doubt;
mod report;
mod same;
mod walk;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use events::{
    position::{SequenceNumber, ShardId},
    stream::{ReadOnly, Stream},
};
use projections::{
    fold::{LINES_PAGE, Place, snapshot},
    query::Digest,
    store::{Day, Generation, Kind, Row, Span, Store},
};

pub use self::report::{Difference, OLDER_MAX, Older, Report};
use self::{
    doubt::{Differing, Doubts},
    same::{What, difference},
    walk::{Pair, SideBySide, Walk},
};
use crate::{
    drive,
    replay::{Progress, Replay, ReplayError, ResumePoints, first_of, kept::Brought, resume_points},
};

/// Most rows that differ of which it is asked whether what the stream has lost explains it: those that come after count as they are.
const ASKED_MAX: usize = 10_000;
/// Damaged rows after which no more are looked for: whoever has so many needs no longer list.
const DAMAGED_MAX: u64 = 100;

/// Folds every shard up to where its rows stand into `scratch`, an empty store, and compares. `progress` hears how much is done.
///
/// Rows move on meanwhile. So the long replay runs beside them; then `pause` keeps every worker from committing for as long as its answer lives,
/// the replay catches up with the last commits, and the rows are compared, and their digest is taken, standing still.
pub async fn verify<S: Stream, T: Store, R: Store, G>(
    stream: ReadOnly<S>,
    store: &T,
    scratch: Arc<R>,
    places: Vec<Place>,
    pause: impl Future<Output = G>,
    progress: impl Fn(Progress),
) -> Result<Report, ReplayError> {
    verify_from(stream, store, scratch, places, None, pause, progress).await
}

/// As `verify`, of a generation that begins at a time, Unix milliseconds: what it was given of the time before is taken as it stands.
pub async fn verify_from<S: Stream, T: Store, R: Store, G>(
    stream: ReadOnly<S>,
    store: &T,
    scratch: Arc<R>,
    places: Vec<Place>,
    begins_ms: Option<i64>,
    pause: impl Future<Output = G>,
    progress: impl Fn(Progress),
) -> Result<Report, ReplayError> {
    let generation = places.first().map_or(Generation::default(), |place| place.generation);
    let shards: Vec<ShardId> = places.iter().map(|place| place.shard.clone()).collect();
    let until = resume_points(store, generation, &shards).await?;
    let mut replay = Replay::open_from(stream.clone(), scratch.clone(), places, &until, begins_ms).await?;
    let brought = Brought::read(&stream, store, generation, replay.oldest()).await?;
    let marks = [Kind::Taken, Kind::Producer, Kind::Identified, Kind::Definition];
    replay.give(store, &marks, |row, first| brought.before(row, first)).await?;
    give_full_pages(&replay, store, generation).await?;
    replay.give_ends(store).await?;
    replay.through(&until, &progress).await?;
    let _paused = pause.await;
    let until = resume_points(store, generation, &shards).await?;
    replay.through(&until, &progress).await?;
    let mut report =
        Report { records: replay.records(), from: shown(replay.oldest()), through: shown(&until), ..Report::default() };
    let definitions = drive::definitions(store, generation).await.map_err(ReplayError::Definitions)?;
    let parents = stream.shards().await?.into_iter().map(|shard| (shard.id, shard.parents)).collect();
    let doubts = Doubts::new(replay.begins_ms().clone(), replay.orphans(), parents, &definitions);
    rows(store, &*scratch, generation, replay.oldest(), doubts, &mut report).await?;
    snapshots(store, &*scratch, generation, &replay, &mut report).await?;
    Ok(report)
}

fn shown(positions: &ResumePoints) -> BTreeMap<String, String> {
    let shown = |(shard, position): (&ShardId, &SequenceNumber)| {
        let is_none = [SequenceNumber::ZERO, SequenceNumber::MAX].contains(position);
        (shard.to_string(), if is_none { "nothing".into() } else { position.to_string() })
    };
    positions.iter().map(shown).collect()
}

/// Whether a page of values had room is known from what it holds now, as no page loses a series. So those that are older are given as they stand.
async fn give_full_pages<S: Stream, T: Store, R: Store>(
    replay: &Replay<S, R>,
    store: &T,
    generation: Generation,
) -> Result<(), ReplayError> {
    let span = Span::All { tenant: None, generation, kind: Kind::Balance };
    let mut balances = Walk::new(store, &span);
    while let Some(row) = balances.next().await? {
        // Every value is in a balance: where none is older, no page is.
        if row.applied_from < first_of(replay.oldest(), &row.key.shard) {
            let is_across = |row: &Row, first| row.applied_from < first && first <= row.applied_through;
            let page = |row: Row, first| (row.key.page != LINES_PAGE && is_across(&row, first)).then_some(row);
            return replay.give(store, &[Kind::Window], page).await;
        }
    }
    Ok(())
}

/// Walks both stores in key order, side by side. The digest is that of the very rows that are compared.
async fn rows<T: Store, R: Store>(
    store: &T,
    scratch: &R,
    generation: Generation,
    oldest: &HashMap<ShardId, SequenceNumber>,
    mut doubts: Doubts,
    report: &mut Report,
) -> Result<(), ReplayError> {
    let (mut differing, mut digest) = (vec![], Some(Digest::default()));
    // Of what is not asked about, how many and the first.
    let (mut further, mut first_further) = (0, None);
    'kinds: for kind in Kind::ALL {
        let span = Span::All { tenant: None, generation, kind };
        let mut both = SideBySide::begin(store, scratch, &span).await?;
        while let Some(pair) = both.next().await? {
            let (key, stored, replayed) = match pair {
                Pair::Rows(key, stored, replayed) => (key, stored, replayed),
                Pair::Damaged(key, why) => {
                    report.damaged += 1;
                    match key {
                        Some(key) => differing.push(Differing::of(key.clone(), What::damage(&key, &why), None, None)),
                        None => {
                            further += 1;
                            first_further.get_or_insert_with(|| Difference::unnamed(kind, why));
                        }
                    }
                    if report.damaged == DAMAGED_MAX {
                        break 'kinds;
                    }
                    continue;
                }
            };
            // Of rows that cannot all be read there is no digest.
            if let Some(row) = stored.as_ref().filter(|_| kind == Kind::Window)
                && digest.as_mut().is_some_and(|digest| digest.add(row).is_err())
            {
                digest = None;
            }
            let first = first_of(oldest, &key.shard);
            if let Some(older) = stored.as_ref().filter(|row| row.applied_from < first) {
                report.is_older(&key);
                doubts.older(older, first);
                continue;
            }
            if is_expired(store, kind, stored.as_ref(), replayed.as_ref()) {
                report.expired += 1;
                continue;
            }
            match difference(stored.as_ref(), replayed.as_ref()) {
                None => report.compared(None),
                Some(what) if differing.len() < ASKED_MAX => {
                    differing.push(Differing::of(key, what, stored.as_ref(), replayed.as_ref()));
                }
                Some(what) => {
                    further += 1;
                    first_further.get_or_insert_with(|| Difference::of(&key, what));
                }
            }
        }
    }
    let (earnest, doubted) = doubts.judge(differing);
    doubted.iter().for_each(|key| report.is_older(key));
    earnest.into_iter().for_each(|found| report.compared(Some(Difference::of(&found.key, found.what))));
    (report.rows, report.differences) = (report.rows + further, report.differences + further);
    report.first_difference = report.first_difference.take().or(first_further);
    report.digest = digest.filter(|_| report.damaged == 0).map(Digest::end);
    Ok(())
}

/// True of what the stream, or its archive, says and the store need not hold: a row that is past its time; and, where rows are kept by time at all, the
/// earlier part of one that was touched again when it was past it, and so began anew.
fn is_expired<T: Store>(store: &T, kind: Kind, stored: Option<&Row>, replayed: Option<&Row>) -> bool {
    match (stored, replayed) {
        (None, Some(replayed)) => store.is_past(kind, replayed.folded_on),
        (Some(stored), Some(replayed)) => {
            stored.applied_from > replayed.applied_from && store.is_past(kind, Day::default())
        }
        _ => false,
    }
}

/// The state at each resume point: what decisions will depend on.
async fn snapshots<S: Stream, T: Store, R: Store>(
    store: &T,
    scratch: &R,
    generation: Generation,
    replay: &Replay<S, R>,
    report: &mut Report,
) -> Result<(), ReplayError> {
    let (mut found, mut is_cut) = (vec![], !replay.orphans().is_empty());
    for (shard, first) in replay.oldest() {
        // Nothing was committed, and nothing is folded again.
        let Some((stood, stored)) = store.checkpoint(generation, shard).await? else { continue };
        let is_older = snapshot::applied_from(&stored).is_ok_and(|from| from < *first);
        is_cut |= is_older || *first == SequenceNumber::MAX;
        let what = match scratch.checkpoint(generation, shard).await? {
            None => Some("the stream says nothing of it".to_owned()),
            Some((stands, _)) if stands.position != stood.position => {
                Some(format!("it is at {} where the stream says {}", stood.position, stands.position))
            }
            Some((_, replayed)) => snapshot::difference(&stored, &replayed),
        };
        found.push((shard, what));
    }
    found.sort();
    for (shard, what) in found {
        // Shards tell each other what alarms are decided by: what one of them has lost may be missing at any.
        if what.is_some() && is_cut {
            report.is_older_snapshot();
        } else {
            report.compared(what.map(|what| Difference::of_snapshot(shard, what)));
        }
    }
    Ok(())
}
