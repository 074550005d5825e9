//! The archive: what was appended can be read from it and the stream behind it, whoever archives, is killed, or loses an answer; and what is missing is
//! said, never left out.
#![allow(clippy::unwrap_used, missing_docs)]

mod broken;
mod law;
mod lives;
#[path = "../parts/local.rs"]
mod local;
mod objects;
mod places;
mod retained;
mod together;
mod verified;
mod world;
