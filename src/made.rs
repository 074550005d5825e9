//! Rows that this program can go on with: those of the folder, or, where an earlier revision of the fold made them or they are gone, new ones from
//! the stream. The old rows stay as they are until the new ones are whole, and are replaced in one step.

use std::{
    fs::{self, File},
    io,
    path::Path,
    sync::Arc,
};

use events::{
    position::{SequenceNumber, ShardId},
    stream::ReadOnly,
};
use processor::{
    append::{append_all, system_event},
    rebuild,
    replay::{Progress, ReplayError, ResumePoints},
};
use projections::{
    fold::{FOLD_REVISION, Place},
    store::Store,
};

use crate::{AnyStream, LocalStore, OpenError};

/// How the names of files begin into which `verify` folds.
pub(crate) const SCRATCH: &str = "verify-";

/// What an opening does that takes long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// The rows are made anew.
    Rebuilding {
        /// The revision of the fold that made the old ones; `None`: there are none, and the stream is not empty.
        from: Option<u32>,
        /// This program's.
        to: u32,
        /// Records folded so far.
        records: u64,
        /// Bytes of the stream that are done.
        bytes: u64,
        /// Bytes of the stream in all; 0 before the first record.
        bytes_total: u64,
    },
}

/// Opens the rows of a folder, whose shards end at `tips`. A rebuild that was cut short begins again.
pub(crate) async fn rows(
    folder: &Path,
    stream: &Arc<AnyStream>,
    places: &[Place],
    tips: Vec<(ShardId, SequenceNumber)>,
    say: impl Fn(Opening),
) -> Result<LocalStore, OpenError> {
    let (path, new_path) = (folder.join("rows.redb"), folder.join("rows-new.redb"));
    let failed = |source| OpenError::Folder { folder: folder.to_owned(), source };
    remove(&new_path).and_then(|()| remove_scratch(folder)).map_err(failed)?;
    let store = LocalStore::open(&path)?;
    let revisions = revisions(&store, places).await?;
    let tips: ResumePoints = tips.into_iter().collect();
    let is_gone = revisions.is_empty() && tips.values().any(|tip| *tip > SequenceNumber::ZERO);
    // Where one is later than this program's, a worker refuses it.
    let later = revisions.iter().any(|revision| *revision > FOLD_REVISION);
    let from = revisions.into_iter().filter(|revision| *revision < FOLD_REVISION && !later).min();
    if from.is_none() && !is_gone {
        return Ok(store);
    }
    let say = |Progress { records, bytes, bytes_total }| {
        say(Opening::Rebuilding { from, to: FOLD_REVISION, records, bytes, bytes_total });
    };
    say(Progress::default());
    let new = Arc::new(LocalStore::open(&new_path)?);
    let (from_stream, places) = (ReadOnly::new(stream.clone()), places.to_vec());
    if is_gone {
        let unheard = rebuild::restore(from_stream, new.clone(), places, &tips, say).await.map_err(Box::new)?;
        let puts = unheard.into_iter().map(|(home, event)| system_event(home, event)).collect();
        // Before the rows stand: a crash in between begins anew, and finds them on the stream.
        append_all(&**stream, puts).await.map_err(OpenError::Unheard)?;
    } else {
        rebuild::rebuild(from_stream, &store, new.clone(), places, say).await.map_err(Box::new)?;
    }
    // Both are closed before names change; the new one's last commit is durable.
    drop((store, new));
    fs::rename(&new_path, &path).and_then(|()| File::open(folder)?.sync_all()).map_err(failed)?;
    Ok(LocalStore::open(&path)?)
}

/// What a `verify` left that was killed: nobody else has the folder open.
fn remove_scratch(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        if name.to_str().is_some_and(|name| name.starts_with(SCRATCH) && name.ends_with(".redb")) {
            remove(&folder.join(name))?;
        }
    }
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The revisions of the fold that the resume points have; none: nothing was ever committed, or the rows are gone.
async fn revisions(store: &LocalStore, places: &[Place]) -> Result<Vec<u32>, OpenError> {
    let mut revisions = vec![];
    for place in places {
        let stored =
            store.resume_point(place.generation, &place.shard).await.map_err(ReplayError::from).map_err(Box::new)?;
        revisions.extend(stored.map(|checkpoint| checkpoint.fold_revision));
    }
    Ok(revisions)
}
