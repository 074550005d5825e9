//! Who was met today, as the snapshot holds it: a list that only grows, in parts of which only the last one changes. So a commit copies what one
//! part may hold, and encodes nothing. Decides nothing.
//!
//! An entry is a varint, the tenant's number in order of their first services, and the service's name; where the number is that of a tenant who
//! has not come before, the tenant's name stands between them.

use bytes::Bytes;

use crate::canonical::{self, DecodeError};

/// A part that has so many bytes is closed: a whole number of entries, far below what a store's item may hold.
const PART_BYTES: usize = 64 << 10;
/// Longest name of a tenant or a service in a snapshot.
const NAME_BYTES_MAX: usize = crate::store::NAME_BYTES_MAX;

/// See the module.
#[derive(Debug, Default)]
pub struct Met {
    closed: Vec<Bytes>,
    open: Vec<u8>,
    count: usize,
}

impl Met {
    /// How many services.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Adds a service of the tenant with this number, and the tenant's name if this is its first one.
    pub fn add(&mut self, tenant: u32, newcomer: Option<&str>, name: &str) {
        canonical::put_varint(&mut self.open, u64::from(tenant));
        if let Some(newcomer) = newcomer {
            canonical::put_text(&mut self.open, newcomer);
        }
        canonical::put_text(&mut self.open, name);
        self.count += 1;
        if self.open.len() >= PART_BYTES {
            self.closed.push(std::mem::take(&mut self.open).into());
        }
    }

    /// All of it.
    pub fn parts(&self) -> Vec<Bytes> {
        let mut parts = self.closed.clone();
        if !self.open.is_empty() {
            parts.push(Bytes::copy_from_slice(&self.open));
        }
        parts
    }
}

/// Calls `meet` with tenant and service of each entry, in order.
pub fn each(parts: &[&[u8]], mut meet: impl FnMut(&str, &str)) -> Result<(), DecodeError> {
    let mut tenants: Vec<&str> = vec![];
    for mut part in parts.iter().copied() {
        while !part.is_empty() {
            let number = canonical::take_varint(&mut part, "number of a tenant")? as usize;
            if number == tenants.len() {
                tenants.push(canonical::take_text(&mut part, NAME_BYTES_MAX, "tenant")?);
            }
            let tenant = tenants.get(number).ok_or(DecodeError::OutOfRange { what: "number of a tenant" })?;
            meet(tenant, canonical::take_text(&mut part, NAME_BYTES_MAX, "service")?);
        }
    }
    Ok(())
}
