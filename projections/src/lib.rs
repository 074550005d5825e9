//! What we conclude: pure folds, rows, the Store port and its adapters. The fold knows no clock, no runtime and no store.

#[cfg(feature = "embedded")]
pub mod embedded;
pub mod store;
