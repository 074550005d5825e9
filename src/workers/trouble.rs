//! What a worker's failure means: decides which pass, and how long a worker waits before it begins again. Knows no worker.

use std::time::Duration;

use events::stream::ReadError;
use processor::{consume::ConsumeError, drive::DriveError};
use projections::{fold::Stop, store};

use super::lost_text;
use crate::chance;

/// First pause of a worker that could not read or write; it doubles with each attempt that moves nothing.
pub(crate) const PAUSE: Duration = Duration::from_millis(500);
/// Longest such pause.
pub(crate) const PAUSE_MAX: Duration = Duration::from_secs(60);
/// About so long waits one that was overtaken, so that two do not run into each other again at once; or one that waits for its parents.
pub(crate) const OVERTAKEN_PAUSE: Duration = Duration::from_millis(100);

/// Another worker has gone on from further: what this one holds is of no more use.
pub(crate) fn is_overtaken(error: &ConsumeError) -> bool {
    matches!(
        error,
        ConsumeError::Overtaken { .. } | ConsumeError::Drive { source: DriveError::Stop(Stop::Overtaken(_)), .. }
    )
}

/// It can only be waited for: another worker has to end a parent first.
pub(crate) fn is_too_early(error: &ConsumeError) -> bool {
    matches!(error, ConsumeError::NotYet { .. })
}

/// Another attempt can mend it.
pub(crate) fn passes(error: &ConsumeError) -> bool {
    match error {
        ConsumeError::Stream { source: ReadError::Unavailable(_), .. }
        | ConsumeError::Checkpoint { source: store::ReadError::Unavailable(_), .. }
        | ConsumeError::Drive { source: DriveError::Read(store::ReadError::Unavailable(_)), .. }
        | ConsumeError::Write { .. }
        | ConsumeError::Effect { .. }
        | ConsumeError::Failed(_) => true,
        error => is_overtaken(error) || is_too_early(error),
    }
}

/// Records were gone before they were folded: what is to be said of it.
pub(crate) fn lost_records(error: &ConsumeError) -> Option<String> {
    let ConsumeError::Stream { source: ReadError::Trimmed { shard, asked, oldest }, .. } = error else { return None };
    Some(lost_text(shard, *asked, *oldest))
}

/// Between half and the whole of it: workers that failed together do not come again together.
pub(crate) fn spread(pause: Duration) -> Duration {
    pause / 2 + (pause / 2).mul_f64(f64::from(chance() as u32) / f64::from(u32::MAX))
}
