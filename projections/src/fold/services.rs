//! The services that a shard has met: short numbers for long names, so that a line finds its window by an integer.

use std::collections::HashMap;

use rustc_hash::FxBuildHasher;

use super::{
    SERVICES_MAX,
    rows::{Body, Slot},
};
use crate::canonical::DecodeError;

/// A service of a tenant, in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ServiceId(u32);

/// A window row, in this process.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WindowKey {
    pub service: ServiceId,
    pub start_secs: i64,
    pub page: u32,
}

/// The row that says that a service was seen: a list for readers. It holds nothing but its own position.
#[derive(Debug, Default)]
pub struct Seen;

impl Body for Seen {
    fn encode(&self) -> Vec<u8> {
        vec![1]
    }

    fn decode(_: &[u8]) -> Result<Self, DecodeError> {
        Ok(Self)
    }

    fn take_in(&mut self, _: Self) {}
}

#[derive(Debug)]
struct Service {
    tenant: String,
    name: String,
    /// The windows that its last lines fell into, latest first: lines come nearly in order.
    last: [Option<(i64, Slot)>; 2],
}

/// A tenant, in this process.
#[derive(Debug, Clone, Copy)]
pub struct TenantId(u32);

#[derive(Debug, Default)]
pub struct Services {
    tenants: HashMap<String, TenantId>,
    by_name: Vec<HashMap<Box<str>, ServiceId, FxBuildHasher>>,
    all: Vec<Service>,
}

impl Services {
    /// Tenant and service.
    pub fn name(&self, id: ServiceId) -> (&str, &str) {
        let service = &self.all[id.0 as usize];
        (&service.tenant, &service.name)
    }

    /// The tenant's number: once a batch, so that a line needs one look-up only.
    pub fn tenant(&mut self, name: &str) -> TenantId {
        if let Some(id) = self.tenants.get(name) {
            return *id;
        }
        let id = TenantId(self.by_name.len() as u32);
        self.tenants.insert(name.to_owned(), id);
        self.by_name.push(HashMap::default());
        id
    }

    /// The service's number, if it was met.
    #[inline]
    pub fn find(&self, tenant: TenantId, name: &str) -> Option<ServiceId> {
        self.by_name[tenant.0 as usize].get(name).copied()
    }

    /// Meets a new service; `None`: the tenant has as many as it may.
    pub fn add(&mut self, tenant: TenantId, tenant_name: &str, name: &str) -> Option<ServiceId> {
        let names = &mut self.by_name[tenant.0 as usize];
        if names.len() >= SERVICES_MAX {
            return None;
        }
        let id = ServiceId(self.all.len() as u32);
        names.insert(name.into(), id);
        self.all.push(Service { tenant: tenant_name.to_owned(), name: name.to_owned(), last: [None; 2] });
        Some(id)
    }

    /// The window of a recent line of this service.
    #[inline]
    pub fn recent(&self, id: ServiceId, start_secs: i64) -> Option<Slot> {
        let last = &self.all[id.0 as usize].last;
        last.iter().flatten().find(|(start, _)| *start == start_secs).map(|(_, slot)| *slot)
    }

    /// Remembers a window.
    pub fn remember(&mut self, id: ServiceId, start_secs: i64, slot: Slot) {
        let last = &mut self.all[id.0 as usize].last;
        last[1] = last[0];
        last[0] = Some((start_secs, slot));
    }

    /// Every `Slot` has ended.
    pub fn forget_windows(&mut self) {
        for service in &mut self.all {
            service.last = [None; 2];
        }
    }
}
