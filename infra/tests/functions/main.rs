//! The functions as they are deployed: the real programs, started by a runtime API that plays Lambda, on emulators of Kinesis and DynamoDB that others
//! wrote. What Lambda does besides (retries, halves, repeats, an end in the middle) is played here, as its developer guide describes it.
#![allow(clippy::unwrap_used, missing_docs)]

mod alarm;
mod apart;
mod cloud;
mod consumer;
mod deployed;
mod digest;
#[path = "../../../processor/tests/parts/emulated.rs"]
mod emulated;
mod generations;
#[path = "../../../tests/program/input.rs"]
mod input;
mod lambda;
mod mapping;
mod notification;
mod others;
#[path = "../../../processor/tests/parts/ranges.rs"]
mod ranges;
mod revision;
#[path = "../../../tests/aws/stamps.rs"]
#[allow(dead_code, reason = "no stream lets go of anything here")]
mod stamps;
mod start;
#[path = "../../../tests/aws/way.rs"]
mod way;
mod web;
