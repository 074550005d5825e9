//! Ingest, consume and replay: the shell that carries out what the fold decides.

pub mod append;
pub mod consume;
pub mod drive;
pub mod effects;
pub mod generations;
pub mod ingest;
pub mod leases;
pub mod ledger;
pub mod rebuild;
pub mod replay;
pub mod tick;
pub mod verify;
