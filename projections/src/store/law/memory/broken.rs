//! The laws that a store in memory can break on purpose. It decides only their names; `memory` breaks them.

/// A law broken on purpose, to see that the suite finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Broken {
    /// `>=` instead of `>`: who comes second with the same position replaces the first.
    EqualReplaces,
    /// No condition at all.
    AnythingReplaces,
    /// Who lost hears its own position.
    LostHearsItself,
    /// A write stops at the first row that loses.
    LoserEndsTheWrite,
    /// A body is kept although the row is replaced.
    OldBodyStays,
    /// A row keeps the day of the one that it replaced.
    OldDayStays,
    /// A refused write has already stored rows.
    RefusesLate,
    /// The resume point is put before rows and parts.
    ResumePointFirst,
    /// The resume point may move back.
    ResumePointGoesBack,
    /// A resume point does not move to the end of its shard where that is its position.
    EndIsNoPlace,
    /// Parts that are only named are removed.
    ForgetsReferredParts,
    /// Parts that are not named stay, and may be referred to for ever.
    KeepsUnnamedParts,
    /// Nobody looks whether a part that is only named is still there.
    NamesGoneParts,
    /// Who loses the race for the resume point takes away the parts under the names it offered.
    LoserSweepsParts,
    /// A span holds the place that it should end before.
    SpanHoldsItsEnd,
    /// A span takes every tenant that begins with the name.
    TenantPrefix,
    /// A span takes every subject that begins with the name.
    SubjectPrefix,
    /// Negative places sort behind the others.
    UnsignedPlaces,
    /// A page begins with the last row of the one before.
    PageRepeats,
    /// The row after a full page is skipped.
    PageSkips,
    /// A page goes on after a count of rows instead of after a key.
    PageByCount,
    /// Answers stand in the order of the rows, not of the keys asked for.
    AnswersSorted,
    /// Missing rows are left out.
    MissingLeftOut,
    /// Expiry takes the day that it should end before.
    ExpiresItsEnd,
    /// Expiry goes by the place in time, not by the day of folding.
    ExpiresByPlace,
    /// Expiry takes kinds that stay.
    ExpiresEveryKind,
    /// Expiry takes what was past when it was looked at, although it was replaced since.
    ExpiresWhatItSaw,
    /// Expiry takes all generations.
    ExpiresEveryGeneration,
    /// Reads see the state before the last write.
    ReadsLate,
    /// The condition is looked at before, not while, the row is put.
    ChecksThenPuts,
}

impl Broken {
    /// All of them.
    pub const ALL: [Self; 30] = [
        Self::EqualReplaces,
        Self::AnythingReplaces,
        Self::LostHearsItself,
        Self::LoserEndsTheWrite,
        Self::OldBodyStays,
        Self::OldDayStays,
        Self::RefusesLate,
        Self::ResumePointFirst,
        Self::ResumePointGoesBack,
        Self::EndIsNoPlace,
        Self::ForgetsReferredParts,
        Self::KeepsUnnamedParts,
        Self::NamesGoneParts,
        Self::LoserSweepsParts,
        Self::SpanHoldsItsEnd,
        Self::TenantPrefix,
        Self::SubjectPrefix,
        Self::UnsignedPlaces,
        Self::PageRepeats,
        Self::PageSkips,
        Self::PageByCount,
        Self::AnswersSorted,
        Self::MissingLeftOut,
        Self::ExpiresItsEnd,
        Self::ExpiresByPlace,
        Self::ExpiresEveryKind,
        Self::ExpiresWhatItSaw,
        Self::ExpiresEveryGeneration,
        Self::ReadsLate,
        Self::ChecksThenPuts,
    ];
}
