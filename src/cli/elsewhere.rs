//! Systems whose stream and rows are not in a data folder: opened where the program was built for that, else told how to have it. What was made is
//! named on standard error.

use std::{num::NonZeroU16, path::Path, time::Duration};

use weir::System;

use super::{Failure, client::Purpose, pair::Named};

/// How a process takes part in a pair.
#[derive(Debug, Clone, Copy, Default)]
#[cfg_attr(not(feature = "aws"), allow(dead_code, reason = "told to nobody"))]
pub struct How {
    /// Shards of a stream that is made.
    pub shards: Option<NonZeroU16>,
    /// It shares the shards with others until it is told to end; else it is a command that ends by itself.
    pub stays: bool,
    /// How long a process may be silent until others take its shards over.
    pub failover: Option<Duration>,
    /// It reads by enhanced fan-out.
    pub fan_out: bool,
}

/// Opens a system on AWS. `cache`: the data folder.
#[cfg(feature = "aws")]
pub async fn open(pair: &Named, cache: &Path, how: How, purpose: Purpose) -> Result<System, Failure> {
    use weir::aws::{FAILOVER, Options, Pair, Role};
    let named = Pair::parse(&pair.stream, &pair.store).map_err(|error| Failure::of(&error))?;
    let role = match purpose {
        Purpose::Read => Role::Reader,
        _ if how.stays => Role::Worker,
        Purpose::Add | Purpose::Verify => Role::Helper,
    };
    let failover = how.failover.unwrap_or(FAILOVER);
    let options = Options {
        create: pair.create && purpose == Purpose::Add,
        shards: how.shards,
        role,
        failover,
        fan_out: how.fan_out,
    };
    let made = |what: &str| eprintln!("made {what}");
    System::open_on_aws(&named, options, cache, made).await.map_err(|error| Failure::of(&error))
}

/// As above, in a program that cannot.
#[cfg(not(feature = "aws"))]
pub async fn open(pair: &Named, _: &Path, _: How, _: Purpose) -> Result<System, Failure> {
    Err(Failure::new(format!(
        "{pair} are on AWS, and this program was built without it: build it with `cargo build --release --features aws`, then run the same again"
    )))
}
