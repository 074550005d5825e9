//! Rows that this program can go on with: those of the folder, or, where an earlier revision of the fold made them, new ones from the stream. The
//! old rows stay as they are until the new ones are whole, and are replaced in one step.

use std::{
    fs::{self, File},
    io,
    path::Path,
    sync::Arc,
};

use events::stream::ReadOnly;
use processor::{
    rebuild,
    replay::{Progress, ReplayError},
};
use projections::{
    fold::{FOLD_REVISION, Place},
    store::Store,
};

use crate::{LocalStore, LocalStream, OpenError};

/// What an opening does that takes long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// The rows are made anew.
    Rebuilding {
        /// The revision of the fold that made the old ones.
        from: u32,
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

/// Opens the rows of a folder. A rebuild that was cut short begins again.
pub(crate) async fn rows(
    folder: &Path,
    stream: &Arc<LocalStream>,
    places: &[Place],
    say: impl Fn(Opening),
) -> Result<Arc<LocalStore>, OpenError> {
    let (path, new_path) = (folder.join("rows.redb"), folder.join("rows-new.redb"));
    let failed = |source| OpenError::Folder { folder: folder.to_owned(), source };
    remove(&new_path).and_then(|()| remove_scratch(folder)).map_err(failed)?;
    let store = LocalStore::open(&path)?;
    let Some(from) = earlier_revision(&store, places).await? else { return Ok(Arc::new(store)) };
    let say = |Progress { records, bytes, bytes_total }| {
        say(Opening::Rebuilding { from, to: FOLD_REVISION, records, bytes, bytes_total });
    };
    say(Progress::default());
    let new = Arc::new(LocalStore::open(&new_path)?);
    rebuild::rebuild(ReadOnly::new(stream.clone()), &store, new.clone(), places.to_vec(), say)
        .await
        .map_err(Box::new)?;
    // Both are closed before names change; the new one's last commit is durable.
    drop((store, new));
    fs::rename(&new_path, &path).and_then(|()| File::open(folder)?.sync_all()).map_err(failed)?;
    Ok(Arc::new(LocalStore::open(&path)?))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// What a verify that was killed left: nobody else has the folder.
fn remove_scratch(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.starts_with("verify-") && name.ends_with(".redb")) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// The lowest revision of the fold before this program's that a resume point has. Where one is later, a worker refuses it.
async fn earlier_revision(store: &LocalStore, places: &[Place]) -> Result<Option<u32>, OpenError> {
    let mut revisions = vec![];
    for place in places {
        let stored =
            store.checkpoint(place.generation, &place.shard).await.map_err(ReplayError::from).map_err(Box::new)?;
        revisions.extend(stored.map(|(checkpoint, _)| checkpoint.fold_revision));
    }
    let later = revisions.iter().any(|revision| *revision > FOLD_REVISION);
    Ok(revisions.into_iter().filter(|revision| *revision < FOLD_REVISION && !later).min())
}
