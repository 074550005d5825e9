//! Generations: which replays of the stream there are beside each other, which of them counts, and where a reader finds a window. Decides all of that
//! from a record and from definitions; it folds nothing and asks no clock.
//!
//! | what | where | who writes it |
//! | --- | --- | --- |
//! | what there is: names, starts, how compared, what was promoted | one row, `record` | whoever opens, compares, promotes or ends one, if nobody did so in between |
//! | which counts from which record on | a definition, `Live` | the fold of the control key, as with every definition |
//! | which rows make up a window | `View`, from the record | nobody: it is read |
//!
//! Invariants:
//! - Each promotion has a number, one more than the last; every shard of every generation begins new partials under that number at the record that
//!   names it. So a partial says between which promotions its records lie, whoever folded them.
//! - What a generation has folded lies behind its start. A window that begins two hours after that or later holds no line from before (a line may be
//!   two hours ahead), so the generation has all of it.

pub mod compared;
pub mod record;
pub mod view;

use serde::{Deserialize, Serialize};

pub use self::{
    compared::Compared,
    record::{Entry, OpenRefused, PromoteRefused, Promotion, Record, Standing},
    view::{Source, View},
};
use crate::{
    definitions::{self, Definition},
    fold::sabotage::{self, Sabotage},
    store::{Generation, Partial},
};

/// The one definition of its kind.
pub const LIVE: &str = "live";

/// Which generation counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Live {
    /// The first, until something is promoted.
    pub generation: Generation,
    /// The number of the promotion that made it so; 0: there was none.
    pub promotion: u16,
}

#[derive(Serialize, Deserialize)]
struct Body {
    generation: u32,
    promotion: u16,
}

impl Live {
    /// By definitions in force. One that cannot be read was refused when it was applied, or is a newer program's.
    pub fn of(in_force: &[Definition]) -> Self {
        let found = in_force.iter().find(|of| of.kind == definitions::GENERATION && of.name == LIVE);
        let body = found.and_then(|found| serde_json::from_str::<Body>(&found.body).ok());
        body.map_or(Self::default(), |body| Self { generation: Generation(body.generation), promotion: body.promotion })
    }

    /// The body of its definition.
    pub fn body(self) -> String {
        let body = Body { generation: self.generation.0, promotion: self.promotion };
        serde_json::to_string(&body).expect("two numbers always encode")
    }

    /// The partial that records go into.
    pub fn partial(self) -> Partial {
        if sabotage::breaks(Sabotage::PartialNotBegun) { Partial(0) } else { Partial(self.promotion) }
    }
}

#[cfg(test)]
mod tests;
