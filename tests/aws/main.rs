//! The same program on Kinesis and DynamoDB, over real sockets to emulators that others wrote: the real binary, as a shell would run it.
#![allow(clippy::unwrap_used, missing_docs)]

mod alarm;
mod archive;
mod bucket;
mod buckets;
mod cloud;
mod digest;
mod fan_out;
mod generations;
#[path = "../program/input.rs"]
mod input;
#[path = "../cli/logs.rs"]
#[allow(dead_code, reason = "the tests of the command line take the rest")]
mod logs;
mod one_input;
mod outage;
mod prices;
mod processes;
mod producers;
mod profiles;
#[path = "../program/weir.rs"]
mod program;
mod readers;
mod reads;
mod refusals;
mod refused;
mod shared_generations;
mod sharing;
mod silent;
mod split;
mod stamps;
mod strangers;
mod stream;
mod tables;
mod waits;
mod way;
mod whole;
