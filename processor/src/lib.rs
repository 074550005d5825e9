//! Ingest, consume and replay: the shell that carries out what the fold decides.

pub mod append;
pub mod archive;
pub mod consume;
pub mod delivered;
pub mod drive;
pub mod effects;
pub mod generations;
pub mod ingest;
pub mod leases;
pub mod ledger;
pub mod prices;
pub mod rebuild;
pub mod replay;
#[cfg(feature = "aws")]
pub mod s3;
pub mod tick;
pub mod verify;
