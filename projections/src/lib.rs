//! What we conclude: pure folds, rows, the Store port and its adapters. The fold knows no clock, no runtime and no store.

pub mod alarm;
pub mod canonical;
pub mod cell;
pub mod definitions;
pub mod distribution;
#[cfg(feature = "aws")]
pub mod dynamodb;
#[cfg(feature = "embedded")]
pub mod embedded;
pub mod fold;
pub mod generations;
pub mod lines;
pub mod query;
pub mod series;
pub mod sketch;
pub mod store;
pub mod sum;
pub mod when;
