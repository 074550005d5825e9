//! Laws broken on purpose, so that tests can show that they would find it. Decides nothing in a build for users: there every question is a
//! constant `false`, and the compiler leaves nothing of it.

/// A law that the fold, or its driver, does not keep while it is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sabotage {
    /// A row that was opened takes in the stored one although that is already through the record.
    RowAheadTakenIn,
    /// A row in memory takes records that it is already through.
    RowAheadAddedTo,
    /// An opened row is written without taking in what is stored of it.
    RowNotMet,
    /// Rows leave memory although they changed since they were stored.
    LetGoBeforeDurable,
    /// Half of the changed rows are left out of a commit, and the resume point moves all the same.
    ResumePointBeforeRows,
    /// A worker whose row lost against another's stops, as if its resume point had.
    LoserStops,
    /// Ranges that are joined keep the lowest position.
    JoinKeepsLowest,
    /// Rows of one tenant are another's.
    TenantsMixed,
    /// Marks that are ahead answer as if they were not.
    MarkNotAhead,
    /// A joined range past the worker's own position is not recognised.
    OvertakenNotSeen,
    /// A mark that is ahead forgets that it refused a record for want of room.
    RefusalForgotten,
    /// Whether a mark has room depends on which of its ranges were joined.
    RangesCounted,
    /// Marks of producers forget what a worker that lags behind still has to hear.
    ForgottenNotSeen,
    /// A counter far behind the highest is taken as new.
    OldCounterTaken,
    /// An id that was taken is taken again.
    IdsForgotten,
    /// The last record's stamp is the time, even when it lies before another.
    TimeGoesBack,
    /// Time is not lowered by the record that lowers it.
    TimeResetIgnored,
    /// The snapshot's time is not restored.
    TimeNotRestored,
    /// The snapshot's services are not restored.
    ServicesNotRestored,
    /// The snapshot's services are restored, and the day in which they were met is not.
    DayNotRestored,
    /// The services of other days are counted too.
    DaysNotTold,
    /// What becomes of a value is decided before the page that may be full is read.
    PageNotRead,
    /// A page that is ahead is asked for room, and not for what it has.
    RoomOfLaterPage,
    /// The snapshot's alarms are not restored.
    AlarmsNotRestored,
    /// An undated line falls into the fold's minute and not into that of its reading.
    UndatedAtFoldTime,
    /// Lines far ahead of time are taken.
    FutureTaken,
    /// Two ticks of one minute are both walked.
    EveryTickCounts,
    /// What a shard says again, or said before, replaces what it has said since.
    HeardAgain,
    /// A shard has spoken as soon as one part of what it says was heard.
    FirstPartIsAll,
    /// A minute is decided before all shards have spoken.
    DecidedEarly,
    /// A decision uses what was said for later minutes.
    LaterNewsUsed,
    /// Of a jump in time only the last minute is decided.
    JumpNotWalked,
    /// A difference is told, where the state was to be.
    ToldTwiceAddsUp,
    /// Definitions past the named revision are in force.
    LaterDefinitionsUsed,
    /// The newest definitions that the store has are in force, whatever the record names.
    StoreDefinitionsUsed,
    /// A pending minute is decided by definitions that came later.
    PendingByLaterDefinitions,
    /// Effects that could not be appended are forgotten.
    EffectsDropped,
    /// A newer revision is folded on with.
    RevisionIgnored,
    /// A worker that stops at a newer revision sets no resume point.
    StopsWithoutCommit,
    /// What a shard says to the others is wrong.
    SaysWrong,
    /// A child begins although a parent has not ended.
    ChildBeforeParent,
    /// A child begins without its parents' marks.
    ChildWithoutMarks,
    /// Of a merge, the child takes the state and the marks of one parent.
    MergeTakesOneParent,
    /// A child begins without definitions.
    ChildWithoutDefinitions,
    /// A child begins its alarms anew.
    HomesLeftBehind,
    /// A child takes over where alarms stand, and not the minutes that wait.
    MinutesLeftBehind,
    /// A child keeps all homes of its parents, whoever owns their points.
    HomesOfAll,
    /// What a shard had not told when it ended is told by nobody.
    RestUntold,
    /// A shard that has ended has spoken for all minutes, and its children need not.
    EndSaysAll,
    /// A tick that does not list a shard counts for it all the same.
    UnlistedTicks,
    /// A replay takes what was recorded for true.
    ReplayBelievesRecorded,
    /// A generation acts although it does not count.
    UnpromotedActs,
    /// The generation that counted acts on behind the promotion of another.
    OldActsOn,
    /// Where a generation begins to count, rows go on in the partials in which they were.
    PartialNotBegun,
    /// Readers take all partials of a window of both generations.
    ReadersTakeBoth,
    /// What shards said and homes have not folded is in no resume point.
    WordsNotKept,
    /// A generation that begins later does not know what was taken before.
    MarksNotGiven,
    /// It does not know which shards had ended before its start, and whose marks are their children's.
    EndsNotGiven,
    /// It begins although what came before its start is not all folded by the one that tells it of that time.
    BeginsUnfolded,
    /// What it is given of shards that had nothing behind the start when that was found is not cut at the start.
    LateShardsGivenWhole,
    /// A replay takes a shard that had ended before the start for one that never had a record.
    EndedIsNew,
    /// Two generations are compared by rows of which one is further than both are known to be.
    MovingCompared,
}

#[cfg(feature = "law")]
thread_local! {
    static BROKEN: std::cell::Cell<Option<Sabotage>> = const { std::cell::Cell::new(None) };
}

/// True while this law is broken on this thread: never in a build for users.
#[inline(always)]
pub fn breaks(sabotage: Sabotage) -> bool {
    #[cfg(feature = "law")]
    return BROKEN.get() == Some(sabotage);
    #[cfg(not(feature = "law"))]
    {
        let _ = sabotage;
        false
    }
}

/// Breaks a law for this thread, or keeps them all.
#[cfg(feature = "law")]
pub fn set(sabotage: Option<Sabotage>) {
    BROKEN.set(sabotage);
}
