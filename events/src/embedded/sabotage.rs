//! Laws broken on purpose, to show that the tests would find it. A build for users has none of them in force.

/// Laws that test builds can break, to show that the tests find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// Readers see a record before its sync.
    PublishedBeforeSync,
    /// A new segment's name is not synced.
    FolderNotSynced,
    /// A frame's checksum does not know its place.
    UnseededChecksum,
    /// An opening keeps the epoch of the one before.
    EpochKept,
    /// What stands behind the end, after a crash or a failed write, is not cleared.
    StaleTailKept,
    /// A sync that failed is answered for, and the stream goes on.
    FailedSyncOutlived,
    /// A record is stamped with the clock's time, although an earlier one has a later stamp.
    StampsGoBack,
    /// What an opening finds is read without being made durable.
    TailNotSyncedAtOpen,
    /// A split or merge counts before its metadata is durable.
    ReshardNotSynced,
}

/// The sabotage in force: none in a build for users.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Switches(Option<Sabotage>);

impl Switches {
    pub(super) fn of(sabotage: Option<Sabotage>) -> Self {
        Self(sabotage)
    }

    pub(super) fn breaks(self, sabotage: Sabotage) -> bool {
        self.0 == Some(sabotage)
    }
}
