//! The services that a shard has met today: short numbers for long names, so that a line finds its window by an integer. Decides whether there is
//! room for another.
//!
//! The day is that of the fold's time, in UTC. At the record that begins another day the count begins anew, so a tenant that once named too many
//! is not locked out for ever, and what is remembered is bounded.
//!
//! Invariants:
//! - What was met today, in its order, is part of the snapshot: a worker that was started again says no to the same lines as a replay.
//! - A number is given to another name only when no window of the old one is open.

mod met;

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use rustc_hash::FxBuildHasher;

use self::met::Met;
use super::{
    limits::limits,
    rows::{Body, Current, OpenRows, Slot},
};
use crate::{
    canonical::DecodeError,
    store::{Partial, Subject},
};

pub const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// A service of a tenant, in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ServiceId(u32);

/// A window row, in this process.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WindowKey {
    pub service: ServiceId,
    pub start_secs: i64,
    pub partial: Partial,
    pub page: u16,
}

/// The row that says that a service was seen: a list for readers. It holds nothing but the positions of the records that named it first of all,
/// and first on its last day: so it expires when its service is named no longer.
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

/// Lists a service that was met today.
pub fn list(seen: &mut OpenRows<Subject, Seen>, subject: &Subject, current: &Current) {
    let slot = seen.open(subject);
    seen.touch(slot, current);
}

#[derive(Debug)]
struct Service {
    tenant: String,
    name: String,
    /// The windows that its last lines fell into, latest first: lines come nearly in order.
    last: [Option<(i64, Slot)>; 2],
}

/// A tenant that was met today, or nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TenantId(u32);

/// A tenant that has no service today; it has none that could be found.
const NOBODY: TenantId = TenantId(0);

type Names = HashMap<Box<str>, ServiceId, FxBuildHasher>;

/// A service that was just met.
#[derive(Debug, Clone, Copy)]
pub struct Newcomer {
    pub tenant: TenantId,
    pub service: ServiceId,
}

#[derive(Debug)]
pub struct Services {
    day: i64,
    tenants: HashMap<String, TenantId>,
    /// Of today, by tenant; the first is nobody's.
    by_name: Vec<Names>,
    met: Met,
    /// Not met today, but there may be open windows of them.
    earlier: HashMap<String, Names>,
    all: Vec<Service>,
    /// Numbers of `all` that nobody has.
    free: Vec<ServiceId>,
}

impl Default for Services {
    fn default() -> Self {
        Self {
            day: 0,
            tenants: HashMap::new(),
            by_name: vec![Names::default()],
            met: Met::default(),
            earlier: HashMap::new(),
            all: vec![],
            free: vec![],
        }
    }
}

impl Services {
    /// The fold's time: where it lies in another day than before, nobody has been met.
    pub fn begin_day(&mut self, time_ms: i64) {
        let day = time_ms.div_euclid(DAY_MS);
        if day == self.day {
            return;
        }
        self.day = day;
        for (tenant, id) in self.tenants.drain() {
            self.earlier.entry(tenant).or_default().extend(self.by_name[id.0 as usize].drain());
        }
        self.by_name.truncate(1);
        self.met = Met::default();
    }

    /// Tenant and service.
    pub fn name(&self, id: ServiceId) -> (&str, &str) {
        let service = &self.all[id.0 as usize];
        (&service.tenant, &service.name)
    }

    /// The tenant's number: once a batch, so that a line needs one look-up only.
    pub fn tenant(&self, name: &str) -> TenantId {
        self.tenants.get(name).copied().unwrap_or(NOBODY)
    }

    /// The service's number, if it was met today.
    #[inline]
    pub fn find(&self, tenant: TenantId, name: &str) -> Option<ServiceId> {
        self.by_name[tenant.0 as usize].get(name).copied()
    }

    /// The number under which windows of a service may be open.
    pub fn known(&self, tenant: &str, name: &str) -> Option<ServiceId> {
        let earlier = || self.earlier.get(tenant)?.get(name).copied();
        self.find(self.tenant(tenant), name).or_else(earlier)
    }

    /// Meets a service that `find` does not find; `Err`: the reason why there is no room for it.
    pub fn add(&mut self, tenant: &str, name: &str) -> Result<Newcomer, &'static str> {
        let (limits, id) = (limits(), self.tenant(tenant));
        if id == NOBODY && self.tenants.len() >= limits.tenants {
            return Err("too_many_tenants");
        }
        if self.by_name[id.0 as usize].len() >= limits.tenant_services || self.met.count() >= limits.services {
            return Err("too_many_services");
        }
        Ok(self.meet(tenant, name))
    }

    fn meet(&mut self, tenant: &str, name: &str) -> Newcomer {
        let (mut id, mut newcomer) = (self.tenant(tenant), None);
        if id == NOBODY {
            id = TenantId(self.by_name.len() as u32);
            newcomer = Some(tenant);
            self.tenants.insert(tenant.to_owned(), id);
            self.by_name.push(Names::default());
        }
        self.met.add(id.0 - 1, newcomer, name);
        let known = self.earlier.get_mut(tenant).and_then(|names| names.remove(name));
        let service = known.unwrap_or_else(|| self.number(tenant, name));
        self.by_name[id.0 as usize].insert(name.into(), service);
        Newcomer { tenant: id, service }
    }

    fn number(&mut self, tenant: &str, name: &str) -> ServiceId {
        let service = Service { tenant: tenant.to_owned(), name: name.to_owned(), last: [None; 2] };
        if let Some(id) = self.free.pop() {
            self.all[id.0 as usize] = service;
            return id;
        }
        self.all.push(service);
        ServiceId(self.all.len() as u32 - 1)
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

    /// Forgets who was not met today and has none of these windows open; true: some numbers are free now.
    pub fn forget_earlier<'a>(&mut self, open: impl Iterator<Item = &'a WindowKey>) -> bool {
        if self.earlier.is_empty() {
            return false;
        }
        let open: HashSet<ServiceId, FxBuildHasher> = open.map(|key| key.service).collect();
        let before = self.free.len();
        self.earlier.retain(|_, names| {
            names.retain(|_, id| {
                if !open.contains(id) {
                    self.free.push(*id);
                }
                open.contains(id)
            });
            !names.is_empty()
        });
        // In whatever order a map gave them: which number a name gets is in no row.
        self.free.len() > before
    }

    /// What was met today, in parts that each fit into one item. All but the last stay as they are until the day ends.
    pub fn snapshot(&self) -> Vec<Bytes> {
        self.met.parts()
    }

    /// Nobody was met yet on the day of this time.
    pub fn begin(time_ms: i64) -> Self {
        Self { day: time_ms.div_euclid(DAY_MS), ..Self::default() }
    }

    /// Meets who stands in another snapshot of this day, whatever the limits say: there was room.
    pub fn meet_all(&mut self, parts: &[&[u8]]) -> Result<(), DecodeError> {
        met::each(parts, |tenant, name| {
            if self.find(self.tenant(tenant), name).is_none() {
                self.meet(tenant, name);
            }
        })
    }

    /// Meets again who stands in a snapshot that was made at this time.
    pub fn restore(time_ms: i64, parts: &[&[u8]]) -> Result<Self, DecodeError> {
        let mut services = Self::begin(time_ms);
        met::each(parts, |tenant, name| {
            services.meet(tenant, name);
        })?;
        Ok(services)
    }
}
