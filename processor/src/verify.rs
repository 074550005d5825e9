//! Exactly once, shown: folds the stream again beside the rows and compares both, shard by shard.

mod doubt;

use std::{
    collections::{BTreeMap, HashMap},
    num::NonZeroUsize,
    sync::Arc,
};

use events::{
    position::{SequenceNumber, ShardId},
    stream::{ReadOnly, Stream},
};
use projections::{
    fold::{LINES_PAGE, Place, rows::Body, taken::Taken},
    store::{Generation, Kind, ReadError, Row, RowKey, Span, Store},
};
use serde::Serialize;

use self::doubt::{Differing, Doubts};
use crate::{
    drive::{self, SCAN_ROWS},
    replay::{Progress, Replay, ReplayError, kept::Brought, resume_points},
};

/// Most rows that differ of which it is asked whether what the stream has lost explains it: those that come after count as they are.
const ASKED_MAX: usize = 10_000;
/// Damaged rows after which no more are looked for: whoever has so many needs no longer list.
const DAMAGED_MAX: u64 = 100;

/// A row that is not what the stream says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Tenant of the row.
    pub tenant: String,
    /// Its kind.
    pub kind: String,
    /// Its subject.
    pub subject: String,
    /// Its place in time.
    pub at: i64,
    /// Its shard.
    pub shard: String,
    /// The row in words.
    pub row: String,
    /// What differs.
    pub what: String,
}

/// What was compared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Records folded again.
    pub records: u64,
    /// Rows compared.
    pub rows: u64,
    /// Rows that differ.
    pub differences: u64,
    /// The first of them in key order.
    pub first_difference: Option<Difference>,
    /// Rows that hold records older than the stream's oldest, or differ and may depend on such: they cannot be recomputed, and were not compared.
    pub older_than_stream: u64,
    /// Rows of these that differ because they are damaged.
    pub damaged: u64,
    /// The first record of each shard that the stream still has.
    pub from: BTreeMap<String, String>,
}

/// Folds every shard up to where its rows stand into `scratch`, an empty store, and compares. `progress` hears how much is done.
///
/// Rows move on meanwhile. So the long replay runs beside them; then `pause` keeps every worker from committing for as long as its answer lives,
/// the replay catches up with the last commits, and the rows are compared standing still.
pub async fn verify<S: Stream, T: Store, R: Store, G>(
    stream: ReadOnly<S>,
    store: &T,
    scratch: Arc<R>,
    places: Vec<Place>,
    pause: impl Future<Output = G>,
    progress: impl Fn(Progress),
) -> Result<Report, ReplayError> {
    let generation = places.first().map_or(Generation::default(), |place| place.generation);
    let shards: Vec<ShardId> = places.iter().map(|place| place.shard.clone()).collect();
    let until = resume_points(store, generation, &shards).await?;
    let mut replay = Replay::open(stream.clone(), scratch.clone(), places, &until).await?;
    let brought = Brought::read(&stream, store, generation, replay.oldest()).await?;
    let marks = [Kind::Taken, Kind::Producer, Kind::Definition];
    replay.give(store, &marks, |row, first| brought.before(row, first)).await?;
    give_full_pages(&replay, store, generation).await?;
    replay.through(&until, &progress).await?;
    let _paused = pause.await;
    let until = resume_points(store, generation, &shards).await?;
    replay.through(&until, &progress).await?;
    let from = |(shard, first): (&ShardId, &SequenceNumber)| {
        (
            shard.to_string(),
            if [SequenceNumber::ZERO, SequenceNumber::MAX].contains(first) {
                "nothing".into()
            } else {
                first.to_string()
            },
        )
    };
    let mut report =
        Report { records: replay.records(), from: replay.oldest().iter().map(from).collect(), ..Report::default() };
    let definitions = drive::definitions(store, generation).await.map_err(ReplayError::Definitions)?;
    let doubts = Doubts::new(replay.begins_ms().clone(), &definitions);
    compare(store, &*scratch, generation, replay.oldest(), doubts, &mut report).await?;
    Ok(report)
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
        if row.applied_from < replay.oldest().get(&row.key.shard).copied().unwrap_or_default() {
            let is_across = |row: &Row, first| row.applied_from < first && first <= row.applied_through;
            let page = |row: Row, first| (row.key.page != LINES_PAGE && is_across(&row, first)).then_some(row);
            return replay.give(store, &[Kind::Window], page).await;
        }
    }
    Ok(())
}

/// Walks both stores in key order, side by side.
async fn compare<T: Store, R: Store>(
    store: &T,
    scratch: &R,
    generation: Generation,
    oldest: &HashMap<ShardId, SequenceNumber>,
    mut doubts: Doubts,
    report: &mut Report,
) -> Result<(), ReplayError> {
    let mut differing = vec![];
    'kinds: for kind in Kind::ALL {
        let span = Span::All { tenant: None, generation, kind };
        let (mut ours, mut theirs) = (Walk::new(store, &span), Walk::new(scratch, &span));
        let (mut stored, mut replayed) = (ours.next_or_damaged().await?, theirs.next().await?);
        while stored.is_some() || replayed.is_some() {
            if let Some(Err(damage)) = &stored {
                report.rows += 1;
                report.differences += 1;
                report.damaged += 1;
                // What stands there cannot be told; most likely it is the row that the stream has next.
                let Some(row) = replayed.take() else {
                    report.first_difference.get_or_insert_with(|| unnamed(kind, damage));
                    break;
                };
                differing.push(Differing::of(row.key.clone(), damage_of(&row.key, damage), None, None));
                if report.damaged == DAMAGED_MAX {
                    break 'kinds;
                }
                ours.go_on_behind(row.key);
                (stored, replayed) = (ours.next_or_damaged().await?, theirs.next().await?);
                continue;
            }
            let mut stored_row = stored.take().and_then(Result::ok);
            let key =
                stored_row.iter().chain(&replayed).map(|row| row.key.clone()).min().expect("one of them is there");
            let left = if stored_row.as_ref().is_some_and(|row| row.key == key) { stored_row.take() } else { None };
            let right = if replayed.as_ref().is_some_and(|row| row.key == key) { replayed.take() } else { None };
            let first = oldest.get(&key.shard).copied().unwrap_or_default();
            if let Some(older) = left.as_ref().filter(|row| row.applied_from < first) {
                report.older_than_stream += 1;
                doubts.older(older, first);
            } else {
                report.rows += 1;
                if let Some(what) = difference(left.as_ref(), right.as_ref()) {
                    report.differences += 1;
                    if differing.len() < ASKED_MAX {
                        differing.push(Differing::of(key, what, left.as_ref(), right.as_ref()));
                    }
                }
            }
            stored = if left.is_some() { ours.next_or_damaged().await? } else { stored_row.map(Ok) };
            if right.is_some() {
                replayed = theirs.next().await?;
            }
        }
    }
    let (earnest, doubted) = doubts.judge(differing);
    report.differences -= doubted as u64;
    report.rows -= doubted as u64;
    report.older_than_stream += doubted as u64;
    let first = earnest.into_iter().next().map(|found| name(&found.key, found.what));
    report.first_difference = first.or(report.first_difference.take());
    Ok(())
}

fn name(key: &RowKey, what: String) -> Difference {
    Difference {
        tenant: key.subject.tenant.clone(),
        kind: format!("{:?}", key.subject.kind),
        subject: key.subject.name.clone(),
        at: key.at,
        shard: key.shard.to_string(),
        row: key.to_string(),
        what,
    }
}

/// Why a row cannot be read; it names the row, which stands there already.
fn damage_of(key: &RowKey, damage: &str) -> String {
    damage.strip_prefix(&key.to_string()).map_or_else(|| damage.to_owned(), |rest| format!("it{rest}"))
}

/// One behind all that the stream has.
fn unnamed(kind: Kind, damage: &str) -> Difference {
    Difference { kind: format!("{kind:?}"), row: "a row".into(), what: damage.into(), ..Difference::default() }
}

fn difference(stored: Option<&Row>, replayed: Option<&Row>) -> Option<String> {
    let (stored, replayed) = match (stored, replayed) {
        (Some(stored), Some(replayed)) => (stored, replayed),
        (Some(_), None) => return Some("the stream says nothing of this row".into()),
        (None, _) => return Some("the stream says that there is such a row, and there is none".into()),
    };
    if canonical(stored) != canonical(replayed) {
        return Some("it holds something else than the stream says".into());
    }
    (stored.applied_through != replayed.applied_through).then(|| {
        format!("it is through {:?} where the stream says {:?}", stored.applied_through, replayed.applied_through)
    })
}

/// The body without what depends on when rows were written: which marks were joined, and which old counters were forgotten.
fn canonical(row: &Row) -> Vec<u8> {
    match row.key.subject.kind {
        Kind::Taken => match Taken::decode(&row.body) {
            Ok(mut taken) => {
                for range in &mut taken.ranges {
                    range.position = SequenceNumber::ZERO;
                }
                taken.join(SequenceNumber::MAX);
                taken.ranges.iter_mut().for_each(|range| range.joined = true);
                taken.encode()
            }
            Err(_) => row.body.to_vec(),
        },
        Kind::Producer => vec![],
        _ => row.body.to_vec(),
    }
}

/// Rows one by one.
struct Walk<'a, T> {
    store: &'a T,
    span: &'a Span,
    page: std::vec::IntoIter<Row>,
    page_rows: NonZeroUsize,
    after: Option<RowKey>,
    ended: bool,
}

impl<'a, T: Store> Walk<'a, T> {
    fn new(store: &'a T, span: &'a Span) -> Self {
        Self { store, span, page: vec![].into_iter(), page_rows: SCAN_ROWS, after: None, ended: false }
    }

    /// The next row, or why it cannot be read: those before damage are had one by one.
    async fn next_or_damaged(&mut self) -> Result<Option<Result<Row, String>>, ReadError> {
        loop {
            match self.next().await {
                Ok(row) => return Ok(row.map(Ok)),
                Err(ReadError::Damaged(why)) if self.page_rows == NonZeroUsize::MIN => return Ok(Some(Err(why))),
                Err(ReadError::Damaged(_)) => self.page_rows = NonZeroUsize::MIN,
                Err(error) => return Err(error),
            }
        }
    }

    /// Passes over everything up to a row.
    fn go_on_behind(&mut self, key: RowKey) {
        self.after = Some(key);
        self.page_rows = SCAN_ROWS;
    }

    async fn next(&mut self) -> Result<Option<Row>, ReadError> {
        loop {
            if let Some(row) = self.page.next() {
                return Ok(Some(row));
            }
            if self.ended {
                return Ok(None);
            }
            let page = self.store.scan(self.span, self.after.as_ref(), self.page_rows).await?;
            self.ended = page.next_after.is_none();
            self.after = page.next_after;
            self.page = page.rows.into_iter();
        }
    }
}
