//! An archive and the live stream behind it, as one stream that can only be read. Decides where a read is answered; a shard is read from the archive as
//! far as that goes, and then from the stream, in the middle of which nothing may be missing.
//!
//! | of a shard | what a reader finds |
//! | --- | --- |
//! | the archive hangs together from its first segment, and the stream goes on where it ends | all of it |
//! | it is broken somewhere | it begins behind the last break, as if the records before had been trimmed; `said` tells where and why |
//! | the stream's oldest record is not the one behind the archive's last | the stream's own records only; `said` tells |
//! | the archive has nothing of it yet | the stream's own records; `unarchived` names it |
//! | the stream lists it no longer, and the archive has its end | all that the archive has |
//! | the stream lists it no longer, and the archive's newest segment is not its last | nothing: all of it is lost, as with a parent that was trimmed |
//! | a block turns out to be damaged, or a break to have come since it was opened | an error that names the segment and what can be done |
//!
//! It holds the header of one segment and the records of one block for each shard that is being read.

use std::{
    collections::{BTreeMap, HashSet},
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use events::{
    archive::Segment,
    position::{SequenceNumber, ShardId},
    stream::{AppendError, Appended, Limits, Page, Put, ReadError, ReadOnly, Record, Refused, Shard, Start, Stream},
};

use super::{
    ArchiveError, Objects, Reader,
    chain::{self, Chain, Found},
};

/// How often the archive is looked at again where the stream has let go of what came behind it: its archiver may have gone on meanwhile.
const LOOKS_MAX: usize = 3;

/// See the module.
pub struct Archived<S, O> {
    live: ReadOnly<S>,
    archive: Reader<O>,
    shards: BTreeMap<ShardId, Kept<O>>,
    said: Vec<String>,
    /// Shards of the stream of which the archive has no segment.
    unarchived: Vec<ShardId>,
}

/// What the archive gives of a shard.
struct Kept<O> {
    archive: Reader<O>,
    /// As the archive has it; `closed`: its end is there.
    shard: Shard,
    /// `None`: the shard is gone from the stream, and what the archive has is no whole end of it.
    chain: Option<Mutex<Chain>>,
    at: Mutex<Option<At>>,
}

/// Where the last read was answered.
#[derive(Clone)]
struct At {
    segment: Arc<Segment>,
    block: usize,
    records: Arc<Vec<Record>>,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failed(error: ArchiveError) -> ReadError {
    match error {
        ArchiveError::Objects(_) => ReadError::Unavailable(error.to_string()),
        ArchiveError::Stream(error) => error,
        error => ReadError::Damaged(error.to_string()),
    }
}

/// One record, at once.
const ONE: Limits = Limits { records: NonZeroUsize::MIN, bytes: 1, wait: Duration::ZERO };

impl<S: Stream, O: Objects> Archived<S, O> {
    /// Looks at every shard of the archive: one list and a header for each of its segments. `live` is the stream that the archive is of.
    pub async fn open(live: ReadOnly<S>, archive: Reader<O>) -> Result<Self, ArchiveError> {
        // Before the archive: what is archived and trimmed meanwhile is then found in the archive.
        let listed = live.shards().await?;
        let (mut shards, mut said) = (BTreeMap::new(), vec![]);
        let mut unarchived: Vec<ShardId> = listed.iter().map(|shard| shard.id.clone()).collect();
        for shard in archive.shards().await? {
            let own = listed.iter().find(|listed| listed.id == shard);
            let Some((found, words)) = found(&live, &archive, &shard, own.is_some()).await? else { continue };
            said.extend(words);
            unarchived.retain(|listed| *listed != shard);
            let of = own.cloned().or_else(|| found.chain.as_ref().map(|chain| chain.newest.shard.clone()));
            // Of a shard that nobody knows any more not even the range can be told.
            let Some(of) = of else { continue };
            let Found { chain, .. } = found;
            let is_whole = own.is_some() || chain.as_ref().is_some_and(|chain| chain.newest.shard.closed);
            let chain = chain.filter(|_| is_whole).map(Mutex::new);
            if own.is_some() && chain.is_none() {
                continue;
            }
            let archive = archive.clone();
            shards.insert(shard, Kept { archive, shard: of, chain, at: Mutex::default() });
        }
        Ok(Self { live, archive, shards, said, unarchived })
    }

    /// What is missing, and where it is read from all the same; in words, one for each shard of which something is.
    pub fn said(&self) -> &[String] {
        &self.said
    }

    /// The same of shards that the archive has nothing of, in words. A new shard is one until its first segment is put: nothing of it is missing while the
    /// stream still has its first record. So they are told where something is missing that the stream once had.
    pub fn unarchived(&self) -> Vec<String> {
        let told =
            |shard: &ShardId| format!("{shard}: the archive has nothing of it, and it is read from the stream alone");
        self.unarchived.iter().map(told).collect()
    }

    /// The last record of a shard that is read from the archive; `None`: all of it is read from the stream, or nothing of it can be read.
    pub fn archived_through(&self, shard: &ShardId) -> Option<SequenceNumber> {
        Some(held(self.shards.get(shard)?.chain.as_ref()?).newest.last)
    }

    /// Where the archive is, for people.
    pub fn describe(&self) -> String {
        self.archive.describe()
    }

    /// Answers from the archive, or says that it is the stream's to answer from there.
    async fn page_of_archive(
        &self,
        kept: &Kept<O>,
        from: Start,
        limits: &Limits,
    ) -> Result<Result<Page, Start>, ReadError> {
        let Some(chain) = &kept.chain else { return Ok(Ok(kept.lost(from)?)) };
        let chain = held(chain).clone();
        let Some(from) = kept.place(&chain, from).await? else { return Ok(Err(from)) };
        let (position, is_after) = match from {
            Start::After(position) => (position, true),
            Start::At(position) => (position, false),
            _ => return Ok(Err(from)),
        };
        let last = chain.newest.last;
        if position > last || (is_after && position == last) {
            let ended = Page { records: vec![], next: None, behind_ms: 0 };
            return Ok(if chain.newest.shard.closed { Ok(ended) } else { Err(from) });
        }
        let records = kept.records(&chain, position, is_after).await?;
        let mut room = limits.bytes;
        let mut page: Vec<Record> = vec![];
        let is_wanted = |record: &&Record| record.sequence > position || (!is_after && record.sequence == position);
        for record in records.iter().filter(is_wanted).take(limits.records.get()) {
            page.push(record.clone());
            match room.checked_sub(record.data.len()) {
                Some(left) if left > 0 => room = left,
                _ => break,
            }
        }
        let Some(end) = page.last() else {
            return Err(ReadError::Damaged(format!("{}: no record of the archive is at {position}", kept.shard.id)));
        };
        let older_ms = u64::try_from(chain.newest.highest_ms.saturating_sub(end.arrived_at_ms)).unwrap_or(0).max(1);
        let after = Start::After(end.sequence);
        let (next, behind_ms) = match (end.sequence == last, chain.newest.shard.closed) {
            (false, _) => (Some(after), older_ms),
            (true, true) => (None, 0),
            (true, false) => (Some(after), self.behind(kept, after, older_ms).await),
        };
        Ok(Ok(Page { records: page, next, behind_ms }))
    }

    /// Whether the stream has something behind the archive. Why it cannot be read, the next read says.
    async fn behind(&self, kept: &Kept<O>, from: Start, older_ms: u64) -> u64 {
        match self.live.read(&kept.shard.id, from, ONE).await {
            Ok(page) if page.records.is_empty() => page.behind_ms,
            _ => older_ms,
        }
    }

    /// Answers from the stream, behind the archive. `None`: the archive has grown over the place.
    async fn page_of_live(&self, kept: &Kept<O>, from: Start, limits: Limits) -> Result<Option<Page>, ReadError> {
        let answer = self.live.read(&kept.shard.id, from, limits).await;
        let gone = match answer {
            Err(ReadError::Trimmed { oldest, .. }) => {
                format!("the oldest record that the stream still has is {oldest}")
            }
            Err(ReadError::NoSuchShard(_)) => "the stream no longer has the shard".to_owned(),
            answer => return answer.map(Some),
        };
        let Some(chain) = &kept.chain else { return Ok(None) };
        let newest = held(chain).newest.clone();
        let grown = kept.grown(&newest).await.map_err(failed)?;
        if let Some((segments, newest)) = grown {
            let mut chain = held(chain);
            chain.segments.extend(segments);
            chain.newest = newest;
            return Ok(None);
        }
        Err(ReadError::Damaged(format!(
            "{}: the archive ends at {} with the segment {}, and {gone}: what came between is in neither. Run the same again: what lies before is \
             then left out, and it is said from where it is read",
            kept.shard.id,
            newest.last,
            self.archive.describe_segment(&kept.shard.id, newest.after)
        )))
    }
}

/// What the archive has of a shard, and what of it the stream goes on from, with words for what is missing.
async fn found<S: Stream, O: Objects>(
    live: &ReadOnly<S>,
    archive: &Reader<O>,
    shard: &ShardId,
    is_live: bool,
) -> Result<Option<(Found, Vec<String>)>, ArchiveError> {
    for _ in 0..LOOKS_MAX {
        let mut said = vec![];
        let Some(mut found) = chain::find(archive, shard).await? else { return Ok(None) };
        let begins = |chain: &Chain| match chain.first() {
            Some(first) => format!("what comes from {first} on can be read"),
            None => "nothing of it can be read".to_owned(),
        };
        if let Some(why) = &found.broken {
            let begins = found.chain.as_ref().map_or("nothing of it is read from the archive".to_owned(), begins);
            said.push(format!("{shard}: {why}; {begins}"));
        }
        let Some(chain) = found.chain.as_ref().filter(|chain| !chain.newest.shard.closed) else {
            return Ok(Some((found, said)));
        };
        let (last, segment) = (chain.newest.last, archive.describe_segment(shard, chain.newest.after));
        let ends = format!("the archive ends at {last} with the segment {segment}");
        if !is_live {
            said.push(format!(
                "{shard}: {ends}, which is not its end, and the stream no longer has it: it is left out"
            ));
            return Ok(Some((found, said)));
        }
        match live.read(shard, Start::After(last), ONE).await {
            Err(events::stream::ReadError::Trimmed { oldest, .. }) => {
                let newer = archive.segments(shard, last).await?;
                if !newer.is_empty() {
                    // It went on meanwhile.
                    continue;
                }
                said.push(format!(
                    "{shard}: {ends}, and the oldest record that the stream still has is {oldest}: what came between is in neither, and it is read \
                     from {oldest} on"
                ));
                found.chain = None;
                return Ok(Some((found, said)));
            }
            answer => {
                answer?;
                return Ok(Some((found, said)));
            }
        }
    }
    Err(ArchiveError::Strange {
        object: archive.describe_segment(shard, SequenceNumber::ZERO),
        why: "the stream lets go of records as soon as they are archived: keep them for longer".to_owned(),
    })
}

impl<O: Objects> Kept<O> {
    /// Nothing is left: it ends at once, and whoever was further is told.
    fn lost(&self, from: Start) -> Result<Page, ReadError> {
        match from {
            Start::At(asked) | Start::After(asked) if asked > SequenceNumber::ZERO => {
                Err(ReadError::Trimmed { shard: self.shard.id.clone(), asked, oldest: SequenceNumber::MAX })
            }
            _ => Ok(Page { records: vec![], next: None, behind_ms: 0 }),
        }
    }

    /// Where a read begins, as a position. `None`: behind all that is archived, it is the stream's.
    async fn place(&self, chain: &Chain, from: Start) -> Result<Option<Start>, ReadError> {
        let behind = chain.begins_behind();
        let from_first = match chain.first() {
            Some(first) => Start::At(first),
            None => Start::After(chain.newest.last),
        };
        let trimmed = |asked| {
            let oldest = chain.first().unwrap_or(SequenceNumber::MAX);
            Err(ReadError::Trimmed { shard: self.shard.id.clone(), asked, oldest })
        };
        match from {
            Start::Latest => Ok(chain.newest.shard.closed.then_some(Start::After(chain.newest.last))),
            Start::TrimHorizon | Start::At(SequenceNumber::ZERO) | Start::After(SequenceNumber::ZERO) => {
                Ok(Some(from_first))
            }
            Start::After(asked) if asked < behind => trimmed(asked),
            Start::At(asked) if asked < behind || (asked == behind && !chain.oldest.is_behind_hole) => trimmed(asked),
            Start::AtTimestamp(since_ms) if since_ms > chain.newest.highest_ms => {
                Ok(chain.newest.shard.closed.then_some(Start::After(chain.newest.last)))
            }
            Start::AtTimestamp(since_ms) => self.since(chain, since_ms).await.map(Some),
            from => Ok(Some(from)),
        }
    }

    /// The first record that arrived at a time or later. The highest stamp up to a segment's end grows from segment to segment.
    async fn since(&self, chain: &Chain, since_ms: i64) -> Result<Start, ReadError> {
        let (mut low, mut high) = (0, chain.segments.len() - 1);
        while low < high {
            let middle = low + (high - low) / 2;
            let segment = self.header(chain.segments[middle]).await?;
            if segment.highest_ms < since_ms { low = middle + 1 } else { high = middle }
        }
        let segment = self.header(chain.segments[low]).await?;
        let reaches = |block: &events::archive::Block| block.highest_ms >= since_ms;
        for block in segment.blocks.iter().position(reaches).unwrap_or(0)..segment.blocks.len() {
            let records = self.block(&segment, block).await?;
            if let Some(record) = records.iter().find(|record| record.arrived_at_ms >= since_ms) {
                return Ok(Start::At(record.sequence));
            }
        }
        // The highest stamp is that of a record before the chain's first: what follows is later.
        Ok(match chain.first() {
            Some(first) => Start::At(first),
            None => Start::After(chain.newest.last),
        })
    }

    async fn header(&self, after: SequenceNumber) -> Result<Arc<Segment>, ReadError> {
        if let Some(at) = held(&self.at).as_ref().filter(|at| at.segment.after == after) {
            return Ok(at.segment.clone());
        }
        let segment = self.archive.segment(&self.shard.id, after).await.map_err(failed)?;
        segment.map(Arc::new).ok_or_else(|| {
            let name = self.archive.describe_segment(&self.shard.id, after);
            ReadError::Damaged(format!(
                "the segment {name} is gone since this was begun: restore it, or run the same again"
            ))
        })
    }

    async fn block(&self, segment: &Arc<Segment>, block: usize) -> Result<Arc<Vec<Record>>, ReadError> {
        if let Some(at) = held(&self.at).as_ref().filter(|at| at.segment == *segment && at.block == block) {
            return Ok(at.records.clone());
        }
        let records = Arc::new(self.archive.records(segment, block).await.map_err(failed)?);
        *held(&self.at) = Some(At { segment: segment.clone(), block, records: records.clone() });
        Ok(records)
    }

    /// The block with the first record that is at or after a position, or strictly after it; there is one.
    async fn records(
        &self,
        chain: &Chain,
        position: SequenceNumber,
        is_after: bool,
    ) -> Result<Arc<Vec<Record>>, ReadError> {
        let begins_before = |after: &SequenceNumber| if is_after { *after <= position } else { *after < position };
        let number = chain.segments.partition_point(begins_before).saturating_sub(1);
        let segment = self.header(chain.segments[number]).await?;
        let joins = chain.segments.get(number + 1).is_none_or(|next| *next == segment.last);
        if !joins {
            let name = self.archive.describe_segment(&self.shard.id, segment.after);
            return Err(ReadError::Damaged(format!(
                "the segment {name} was replaced since this was begun: run the same again"
            )));
        }
        let block = segment.block_of(position);
        let records = self.block(&segment, block).await?;
        let has = |record: &Record| record.sequence > position || (!is_after && record.sequence == position);
        if records.last().is_some_and(has) || block + 1 == segment.blocks.len() {
            return Ok(records);
        }
        self.block(&segment, block + 1).await
    }

    /// What came behind the newest segment since the archive was looked at.
    async fn grown(&self, newest: &Segment) -> Result<Option<(Vec<SequenceNumber>, Segment)>, ArchiveError> {
        let mut segments = vec![];
        let mut last = newest.clone();
        while let Some(next) = self.archive.segment(&self.shard.id, last.last).await? {
            if last.shard.closed || next.previous != Some(last.checksum) || next.is_behind_hole {
                break;
            }
            segments.push(next.after);
            last = next;
        }
        Ok((!segments.is_empty()).then_some((segments, last)))
    }
}

impl<S: Stream, O: Objects> Stream for Archived<S, O> {
    async fn append(&self, _: Vec<Put>) -> Result<Vec<Result<Appended, Refused>>, AppendError> {
        Err(AppendError::NotAppended("an archive is only read".to_owned()))
    }

    /// Those of the stream and those that only the archive has, parents before children.
    async fn shards(&self) -> Result<Vec<Shard>, ReadError> {
        let mut all = self.live.shards().await?;
        let listed: HashSet<ShardId> = all.iter().map(|shard| shard.id.clone()).collect();
        let archived = self.shards.values().map(|kept| &kept.shard).filter(|shard| !listed.contains(&shard.id));
        all.extend(archived.map(|shard| Shard { closed: true, ..shard.clone() }));
        Ok(in_order(all))
    }

    async fn read(&self, shard: &ShardId, from: Start, limits: Limits) -> Result<Page, ReadError> {
        let Some(kept) = self.shards.get(shard) else { return self.live.read(shard, from, limits).await };
        for _ in 0..LOOKS_MAX {
            let from = match self.page_of_archive(kept, from, &limits).await? {
                Ok(page) => return Ok(page),
                Err(from) => from,
            };
            if let Some(page) = self.page_of_live(kept, from, limits).await? {
                return Ok(page);
            }
        }
        Err(ReadError::Unavailable(format!("{shard}: the stream lets go of records as soon as they are archived")))
    }
}

/// Parents before children; otherwise as they were.
fn in_order(mut all: Vec<Shard>) -> Vec<Shard> {
    let names: HashSet<ShardId> = all.iter().map(|shard| shard.id.clone()).collect();
    let (mut ordered, mut done): (Vec<Shard>, HashSet<ShardId>) = (Vec::with_capacity(all.len()), HashSet::new());
    while !all.is_empty() {
        let before = all.len();
        let is_ready =
            |shard: &Shard| shard.parents.iter().all(|parent| done.contains(parent) || !names.contains(parent));
        let (ready, later): (Vec<Shard>, Vec<Shard>) = all.into_iter().partition(is_ready);
        done.extend(ready.iter().map(|shard| shard.id.clone()));
        ordered.extend(ready);
        all = later;
        if all.len() == before {
            // Shards that descend from each other: no stream has them. They are shown rather than waited for.
            ordered.append(&mut all);
        }
    }
    ordered
}
