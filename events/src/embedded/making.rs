//! The metadata of a stream that is opened, and the making of a stream where there is none. Decides what an interrupted making is; never makes anew
//! what may hold a record.

use std::io;

use super::{
    OpenError, Options, Sabotage,
    disk::{Disk, File},
    frame,
    metadata::{self, Metadata, Unreadable},
    segment::{self, Before, Header, Room},
};
use crate::position::ShardId;

/// Of a stream that is there, or of one that is made now.
pub(super) fn load_or_make<D: Disk>(disk: &D, options: &Options) -> Result<Metadata, OpenError> {
    let failed = |source| OpenError::Io { what: "read or written", file: disk.describe(metadata::PATH), source };
    let damaged = |what: &str| {
        OpenError::Damaged {
        file: disk.describe(metadata::PATH),
        offset: 0,
        what: what.to_owned(),
        next_step: "put a copy of this file back (an older one of the same stream will do: records are not lost by it), or move the whole folder \
                    away and ingest again"
            .to_owned(),
    }
    };
    let mut metadata = match Metadata::load(disk) {
        Ok(Some(metadata)) => metadata,
        Ok(None) => {
            let names = disk.list("").map_err(failed)?;
            if names.iter().any(|name| name.starts_with("shardId-")) {
                return Err(damaged("it is missing, and there are shards"));
            }
            let metadata = Metadata::new(disk.fresh_id(), options.shards);
            metadata.store(disk).map_err(failed)?;
            metadata
        }
        Err(Unreadable::Io(source)) => return Err(failed(source)),
        Err(Unreadable::Damaged(what)) => return Err(damaged(what)),
        Err(Unreadable::Version(version)) => {
            return Err(OpenError::Version { file: disk.describe(metadata::PATH), version });
        }
    };
    if metadata.epoch == 0 {
        // Durable with the next store, which raises it again, before anything is appended.
        metadata.epoch = 1;
        for entry in &metadata.shards {
            make_shard(disk, &metadata, entry.number, options).map_err(failed)?;
        }
    }
    if let Some(unknown) = unknown_shard(disk, &metadata).map_err(failed)? {
        let what = format!("it does not know {unknown}, which holds records");
        let next_step = format!("put back a copy of this file that was made after {unknown} began");
        return Err(OpenError::Damaged { file: disk.describe(metadata::PATH), offset: 0, what, next_step });
    }
    Ok(metadata)
}

/// The shard's folder and first segment; what an interrupted making left is made again. Where more than that stands the metadata is an old copy,
/// and recovery looks at the files.
pub(super) fn make_shard<D: Disk>(disk: &D, metadata: &Metadata, number: u64, options: &Options) -> io::Result<()> {
    let shard = ShardId::numbered(number);
    disk.create_folder(shard.as_str())?;
    disk.sync_folder("")?;
    let header =
        Header { log_id: metadata.log_id, shard: number, first: 0, epoch: metadata.epoch, before: Before::NOTHING };
    let names = disk.list(shard.as_str())?;
    if names.iter().filter_map(|name| segment::first_of(name)).any(|first| first > 0) {
        return Ok(());
    }
    match disk.open(&segment::path(&shard, 0)) {
        Ok(file) => {
            let mut bytes = vec![0; segment::HEADER_BYTES as usize];
            let read = file.read_at(&mut bytes, 0)?;
            if Header::from_bytes(&bytes[..read]) == Some(header) {
                return Ok(());
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let unseeded = options.switches().breaks(Sabotage::UnseededChecksum);
    let place = frame::Place { log_id: metadata.log_id, shard: number, segment: 0, unseeded };
    segment::create(disk, &shard, header, place, Room::Bytes(options.segment_bytes), true).map(|_| ())
}

/// A shard that the metadata does not know and that holds records: the metadata is older than the split or merge that made it. Where nothing stands
/// in its first segment, that was interrupted, and whoever comes next makes it again.
fn unknown_shard<D: Disk>(disk: &D, metadata: &Metadata) -> io::Result<Option<ShardId>> {
    for name in disk.list("")?.iter().filter(|name| name.starts_with("shardId-")) {
        let shard = ShardId::named(name);
        if metadata.shards.iter().any(|entry| entry.id() == shard) {
            continue;
        }
        let segments = match disk.list(name) {
            // Its name came through a power loss, and the folder did not.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            listed => listed?,
        };
        if segments.iter().filter_map(|name| segment::first_of(name)).any(|first| first > 0) {
            return Ok(Some(shard));
        }
        let mut head = [0; frame::HEAD_BYTES];
        match disk.open(&segment::path(&shard, 0)) {
            Ok(file) if file.read_at(&mut head, segment::HEADER_BYTES)? > 0 && head.iter().any(|byte| *byte != 0) => {
                return Ok(Some(shard));
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(None)
}
