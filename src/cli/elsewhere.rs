//! Systems whose stream and rows are not in a data folder: opened where the program was built for that, else told how to have it. What was made is
//! named on standard error.

use std::{num::NonZeroU16, path::Path};

use weir::System;

use super::{Failure, client::Purpose, pair::Named};

/// Opens a system on AWS. `cache`: the data folder.
#[cfg(feature = "aws")]
pub async fn open(pair: &Named, cache: &Path, shards: Option<NonZeroU16>, purpose: Purpose) -> Result<System, Failure> {
    use weir::aws::{Options, Pair, Role};
    let named = Pair::parse(&pair.stream, &pair.store).map_err(|error| Failure::of(&error))?;
    let role = if purpose == Purpose::Read { Role::Reader } else { Role::Worker };
    let options = Options { create: pair.create && purpose == Purpose::Add, shards, role };
    let made = |what: &str| eprintln!("made {what}");
    System::open_on_aws(&named, options, cache, made).await.map_err(|error| Failure::of(&error))
}

/// As above, in a program that cannot.
#[cfg(not(feature = "aws"))]
pub async fn open(pair: &Named, _: &Path, _: Option<NonZeroU16>, _: Purpose) -> Result<System, Failure> {
    Err(Failure::new(format!(
        "{pair} are on AWS, and this program was built without it: build it with `cargo build --release --features aws`, then run the same again"
    )))
}
