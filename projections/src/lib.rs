//! What we conclude: pure folds, rows and the Store port.

pub mod canonical;
pub mod distribution;
pub mod sketch;
pub mod sum;
