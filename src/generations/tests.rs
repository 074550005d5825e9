//! Processes that share one pair and its generations. The clock is set by hand, so nobody waits for a minute to pass.
#![allow(clippy::unwrap_used)]

mod compared;
mod shared;
mod words;
mod world;
