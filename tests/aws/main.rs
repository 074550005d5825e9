//! The same program on Kinesis and DynamoDB, over real sockets to emulators that others wrote: the real binary, as a shell would run it.
#![allow(clippy::unwrap_used, missing_docs)]

mod cloud;
mod digest;
#[path = "../cli/logs.rs"]
mod logs;
mod outage;
mod processes;
#[path = "../program/weir.rs"]
mod program;
mod refusals;
mod split;
