#![allow(clippy::unwrap_used)]
//! The store on DynamoDB under the laws of its port, on programs that others wrote; what these never do is scripted on the way to them.

mod gate;
mod keep;
mod laws;
mod races;
mod reading;
mod scripted;
mod tables;
mod units;
