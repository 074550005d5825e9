//! Who said it, and from where: tenants, origins, producers. Decides which shard all copies of a byte meet on; never looks at a byte.
//!
//! Invariants:
//! - The partition key of a batch with an origin is a function of (tenant, origin, slice) alone: not of the service, the producer or the cut.
//! - The partition key of a batch without an origin is a function of (tenant, producer id) alone.

use std::fmt;

use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};

/// A line belongs to the slice of its first byte, and a batch never crosses a slice: so a large file spreads over the shards.
pub const SLICE_BYTES: u64 = 16 << 20;
/// Longest tenant name.
pub const TENANT_BYTES_MAX: usize = 64;
/// Longest origin name: PATH_MAX of Linux, and more than an S3 bucket and key.
pub const ORIGIN_NAME_BYTES_MAX: usize = 4096;
/// Longest service name.
pub const SERVICE_BYTES_MAX: usize = 255;
/// The tenant of one machine's own user, and of records that concern no tenant (ticks).
pub const LOCAL_TENANT: &str = "local";
/// Definitions have one order: all go to this partition key.
pub const CONTROL_KEY: &str = "weir/control";

/// The text is no name for the thing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} `{name}` {why}")]
pub struct BadName {
    /// What was to be named.
    pub what: &'static str,
    /// The offending text, cut short.
    pub name: String,
    /// What is wrong with it.
    pub why: &'static str,
}

fn refuse(what: &'static str, name: &str, why: &'static str) -> BadName {
    BadName { what, name: name.chars().take(80).collect(), why }
}

/// Checks a tenant's name: 1 to 64 of `a-z A-Z 0-9 - _ .`
pub fn check_tenant(name: &str) -> Result<&str, BadName> {
    let fits = (1..=TENANT_BYTES_MAX).contains(&name.len());
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if fits && plain { Ok(name) } else { Err(refuse("tenant", name, "is not 1 to 64 of a-z A-Z 0-9 - _ .")) }
}

/// Checks a service's name: 1 to 255 bytes without control characters.
pub fn check_service(name: &str) -> Result<&str, BadName> {
    let fits = (1..=SERVICE_BYTES_MAX).contains(&name.len());
    if fits && !name.chars().any(char::is_control) {
        Ok(name)
    } else {
        Err(refuse("service", name, "is not 1 to 255 bytes without control characters"))
    }
}

/// What kind of thing bytes were read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OriginKind {
    /// An object in a bucket: name `bucket/key`, version its version id or etag.
    Object,
    /// A file: name its absolute path, version its incarnation.
    File,
    /// Named by hand (`--as`): the name alone is the identity, the version is empty.
    Named,
}

/// What bytes were read from. The same origin holds the same bytes for ever.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Origin {
    /// The kind.
    pub kind: OriginKind,
    /// `bucket/key`, an absolute path, or the name given by hand.
    pub name: String,
    /// Tells apart what stood under the same name at different times.
    pub version: String,
}

impl Origin {
    /// The partition key of the slice that holds the byte at `offset`.
    pub fn partition_key(&self, tenant: &str, offset: u64) -> String {
        let kind = match self.kind {
            OriginKind::Object => "object",
            OriginKind::File => "file",
            OriginKind::Named => "named",
        };
        hashed([tenant, kind, &self.name, &self.version, &(offset / SLICE_BYTES).to_string()])
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)?;
        if self.version.is_empty() { Ok(()) } else { write!(f, " ({})", self.version) }
    }
}

/// The mark of a batch without an origin: (producer, epoch, counter) names it, whatever happens to it on the way.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Producer {
    /// Unique for this producer; kept in its spool.
    pub id: String,
    /// Raised when the producer starts anew with nothing unacknowledged.
    pub epoch: u64,
    /// Grows by one a batch; c is not sent while c − 64 is unacknowledged.
    pub counter: u64,
}

/// A producer never sends counter c while c − `IN_FLIGHT_MAX` is unacknowledged: so the fold needs one bit for each of the last 128.
pub const IN_FLIGHT_MAX: u64 = 64;

impl Producer {
    /// The partition key of this producer's batches.
    pub fn partition_key(&self, tenant: &str) -> String {
        hashed([tenant, "producer", &self.id])
    }
}

/// MD5 over the fields, each ended by a NUL, as lower-case hex: any language can make it. No field can hold a NUL.
fn hashed<const N: usize>(fields: [&str; N]) -> String {
    let mut md5 = Md5::new();
    for field in fields {
        md5.update(field.as_bytes());
        md5.update([0]);
    }
    let bytes: [u8; 16] = md5.finalize().into();
    format!("{:032x}", u128::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_partition_key_depends_on_the_slice_and_not_on_the_place_in_it() {
        let origin = Origin { kind: OriginKind::File, name: "/var/log/a.log".into(), version: "1".into() };
        assert_eq!(origin.partition_key("local", 0), origin.partition_key("local", SLICE_BYTES - 1));
        assert_ne!(origin.partition_key("local", 0), origin.partition_key("local", SLICE_BYTES));
        assert_ne!(origin.partition_key("local", 0), origin.partition_key("other", 0));
        // printf 'local\0file\0/var/log/a.log\0001\0000\0' | md5sum
        assert_eq!(origin.partition_key("local", 0), "03de4403b18b39e07323e72098b797fd");
    }

    #[test]
    fn names_that_could_leave_their_place_in_a_key_are_refused() {
        assert!(check_tenant("acme-1").is_ok());
        for bad in ["", "a b", "a\0b", "a/b", &"x".repeat(65)] {
            assert!(check_tenant(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "a\0b", "a\nb", &"x".repeat(256)] {
            assert!(check_service(bad).is_err(), "{bad:?}");
        }
        assert!(check_service("checkout api é").is_ok());
    }
}
