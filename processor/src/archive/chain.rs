//! From where on the segments of a shard hang together. Decides what a reader may take from the archive without leaving anything out; reads headers
//! only, from the newest backwards, as it is the newest records that join the live stream.

use events::{
    archive::Segment,
    position::{SequenceNumber, ShardId},
};
use futures_util::{StreamExt, stream};

use super::{ArchiveError, Objects, Reader};

/// Headers that are asked for at the same time.
const HEADERS_AT_ONCE: usize = 16;

/// The segments of a shard that hang together, up to the newest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// The positions behind which they begin, in order: at least one.
    pub segments: Vec<SequenceNumber>,
    /// The oldest of them.
    pub oldest: Segment,
    /// The newest of them.
    pub newest: Segment,
}

impl Chain {
    /// The first record that can be had; `None`: the shard ended without one.
    pub fn first(&self) -> Option<SequenceNumber> {
        self.oldest.held.map(|held| held.first)
    }

    /// A reader who has all up to this position finds what comes after it here, and nothing is missing between.
    pub fn begins_behind(&self) -> SequenceNumber {
        match (self.oldest.is_behind_hole, self.first()) {
            // What the hole swallowed is not known: only the first record itself is a sure beginning.
            (true, Some(first)) => first,
            (true, None) => SequenceNumber::MAX,
            (false, _) => self.oldest.after,
        }
    }
}

/// What the archive has of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What hangs together. `None`: the newest segment cannot be used.
    pub chain: Option<Chain>,
    /// Why it does not go back further, in words; `None`: it goes back to the shard's first segment.
    pub broken: Option<String>,
}

/// Looks at the segments of a shard; `None`: it has none. One list and one header for each segment, up to where the chain is broken.
pub async fn find<O: Objects>(archive: &Reader<O>, shard: &ShardId) -> Result<Option<Found>, ArchiveError> {
    let mut segments = archive.segments(shard, SequenceNumber::ZERO).await?;
    let headers = stream::iter(segments.clone().into_iter().rev())
        .map(|after| async move { (after, archive.segment(shard, after).await) })
        .buffered(HEADERS_AT_ONCE);
    let mut headers = std::pin::pin!(headers);
    let (mut newest, mut oldest): (Option<Segment>, Option<Segment>) = (None, None);
    let mut broken = None;
    while let Some((after, header)) = headers.next().await {
        let header = match header {
            Ok(Some(header)) => header,
            // It went between the list and now.
            Ok(None) => {
                broken = Some(format!("the segment {} is gone", archive.describe_segment(shard, after)));
                break;
            }
            Err(error @ ArchiveError::Segment { .. }) => {
                broken = Some(error.to_string());
                break;
            }
            Err(error) => return Err(error),
        };
        if let Some(why) = oldest.as_ref().and_then(|next| gap(archive, &header, next)) {
            broken = Some(why);
            break;
        }
        newest.get_or_insert_with(|| header.clone());
        broken = beginning(archive, &header);
        oldest = Some(header);
        if broken.is_some() {
            break;
        }
    }
    if segments.is_empty() {
        return Ok(None);
    }
    let Some((oldest, newest)) = oldest.zip(newest) else { return Ok(Some(Found { chain: None, broken })) };
    if oldest.after > SequenceNumber::ZERO && broken.is_none() {
        let segment = archive.describe_segment(shard, oldest.after);
        broken =
            Some(format!("the segments before {segment} are gone from the archive: none ends at {}", oldest.after));
    }
    segments.retain(|after| *after >= oldest.after);
    Ok(Some(Found { chain: Some(Chain { segments, oldest, newest }), broken }))
}

/// Why a segment does not follow on another one, which comes before it in the list.
fn gap<O: Objects>(archive: &Reader<O>, before: &Segment, next: &Segment) -> Option<String> {
    let shard = &next.shard.id;
    let name = |of: &Segment| archive.describe_segment(shard, of.after);
    if before.last != next.after {
        return Some(format!(
            "segments are missing between {}, which ends at {}, and {}, which begins behind {}",
            name(before),
            before.last,
            name(next),
            next.after
        ));
    }
    (next.previous != Some(before.checksum)).then(|| {
        format!("the segment {} was replaced: {}, which comes behind it, names another one", name(before), name(next))
    })
}

/// Why nothing before a segment is joined to it.
fn beginning<O: Objects>(archive: &Reader<O>, segment: &Segment) -> Option<String> {
    segment.is_behind_hole.then(|| {
        let first = segment.held.map_or("the shard's end".to_owned(), |held| held.first.to_string());
        format!(
            "the records after {} and before {first} were gone from the stream before they were archived, says the segment {}",
            segment.after,
            archive.describe_segment(&segment.shard.id, segment.after)
        )
    })
}
