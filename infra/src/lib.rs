//! What is deployed: Lambda functions, a page each in `bin`, which call what the program calls. Decides how an event of AWS reads as what Weir knows, and
//! how an answer reads for who waits for it; never what a record means, and it makes no stream and no table.

#![cfg(feature = "aws")]

pub mod delivery;
pub mod log;
pub mod settings;
pub mod web;
