//! Why a generation is not opened or promoted, in words that name the next step. Decides nothing.

use super::{FIRST, GENERATIONS_MAX, NAME_BYTES_MAX, OPEN_MAX};

/// A generation cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenRefused {
    /// No name.
    #[error(
        "`{0}` is no name of a generation: give one of 1 to {NAME_BYTES_MAX} letters, digits, `-`, `_` and `.`, other than `{FIRST}`"
    )]
    Name(String),
    /// Opened before, with another start.
    #[error(
        "there is a generation `{0}` already, and it has another start: take another name, or give the same --start to go on with it"
    )]
    Taken(String),
    /// It has ended.
    #[error("the generation `{0}` has ended and is not folded any more: take another name")]
    Ended(String),
    /// One at a time.
    #[error(
        "the replay into generation `{0}` is under way: wait until it has caught up (`weir generations` says how far it is)"
    )]
    UnderWay(String),
    /// Each costs as much as the first.
    #[error(
        "{OPEN_MAX} generations are folded beside each other, which is the limit: one that does not count ends a day after it did, one that never \
         counted a week after its opening"
    )]
    Many,
    /// Forever.
    #[error("{GENERATIONS_MAX} generations were opened on these rows, which is the limit")]
    TooMany,
}

/// A generation cannot be promoted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PromoteRefused {
    /// No such.
    #[error("there is no generation `{name}`; there is {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// It counts.
    #[error("the generation `{0}` counts already")]
    Counts(String),
    /// It has not caught up.
    #[error("the generation `{0}` has not caught up yet: wait until `weir generations` says that it follows")]
    Filling(String),
    /// Too late.
    #[error(
        "the generation `{0}` has ended: one that does not count folds on for a day, and only so long can be gone back to it. A replay into a new one \
         makes its rows again"
    )]
    Ended(String),
    /// Somebody else does.
    #[error("the promotion of `{0}` is under way, or was cut short: finish it first with `weir promote {0}`")]
    UnderWay(String),
    /// The number of a partial has no more room.
    #[error("there were {0} promotions on these rows, which is the limit")]
    TooMany(u16),
}
