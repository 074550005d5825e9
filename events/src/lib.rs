//! What happened: event types, the wire format, the Stream port and its adapters. Nothing here concludes anything.

pub mod position;
pub mod stream;
