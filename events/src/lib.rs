//! What happened: event types, the wire format, the Stream port and its adapters. Nothing here concludes anything.

pub mod archive;
pub mod calendar;
pub mod cut;
#[cfg(feature = "embedded")]
pub mod embedded;
pub mod event;
pub mod identity;
#[cfg(feature = "aws")]
pub mod kinesis;
pub mod pack;
pub mod position;
#[cfg(feature = "sdk")]
pub mod sdk;
pub mod stream;
pub mod wire;
