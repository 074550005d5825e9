//! What we conclude: pure folds, rows, the Store port and its adapters. The fold knows no clock, no runtime and no store.

pub mod store;
