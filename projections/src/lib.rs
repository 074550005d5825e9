//! What we conclude: pure folds, rows and the Store port.

pub mod lines;
