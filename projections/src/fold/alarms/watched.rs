//! What alarms watch of a shard's own windows: which series, how long, and what of it was not told yet. Decides no state.
//!
//! A watched cell takes what lines say as a whole, as that is no more than a cell's built-in counts, and of the series that APIs name those that an
//! alarm in force names. So definitions bound it.

use std::collections::{BTreeMap, BTreeSet};

use events::event::RolledWindow;
use serde::{Deserialize, Serialize};

use super::{Alarms, KEEP_SECS, Name};
use crate::{
    alarm::Alarm,
    cell::Cell,
    fold::services::{ServiceId, Services},
    series::Series,
};

/// One service of which an alarm watches something.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Watched {
    tenant: String,
    service: String,
    range_secs: i64,
    /// As they are spelled.
    #[serde(skip)]
    series: BTreeSet<Vec<u8>>,
    /// By window start; true: changed since it was last told.
    cells: BTreeMap<i64, (StoredCell, bool)>,
}

/// A cell that is stored as its row's bytes.
#[derive(Debug, Clone, Default)]
pub(super) struct StoredCell(Cell);

impl Serialize for StoredCell {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0.encode())
    }
}

impl<'de> Deserialize<'de> for StoredCell {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = serde_bytes::ByteBuf::deserialize(deserializer)?;
        Cell::decode(&bytes).map(Self).map_err(serde::de::Error::custom)
    }
}

impl Alarms {
    /// True if any line may be watched.
    pub fn is_watching(&self) -> bool {
        !self.watched.is_empty()
    }

    /// The definitions in force are others now.
    pub(super) fn rewatch(&mut self, before: &BTreeMap<Name, Alarm>) {
        // A home that is new to these windows has never been told them, and may have forgotten what lies further back than it looked.
        let sees_no_more = |name, alarm: &Alarm| {
            before.get(name).is_some_and(|was: &Alarm| {
                (&was.service, &was.series) == (&alarm.service, &alarm.series) && was.range_secs() >= alarm.range_secs()
            })
        };
        let untold = self.alarms.iter().filter(|(name, alarm)| !sees_no_more(*name, alarm));
        self.untold.extend(untold.map(|(name, _)| name.clone()));
        let mut watched: BTreeMap<Name, i64> = BTreeMap::new();
        for ((tenant, _), alarm) in &self.alarms {
            let range = watched.entry((tenant.clone(), alarm.service.clone())).or_default();
            *range = (*range).max(alarm.range_secs());
        }
        self.watched.retain(|of| watched.contains_key(&(of.tenant.clone(), of.service.clone())));
        for ((tenant, service), range_secs) in watched {
            match self.watched.iter_mut().find(|of| of.tenant == tenant && of.service == service) {
                Some(of) => of.range_secs = range_secs,
                None => {
                    let (series, cells) = (BTreeSet::new(), BTreeMap::new());
                    self.watched.push(Watched { tenant, service, range_secs, series, cells });
                }
            }
        }
        self.name_series();
        self.places.clear();
    }

    pub(super) fn name_series(&mut self) {
        let mut named: BTreeMap<(&str, &str), BTreeSet<Vec<u8>>> = BTreeMap::new();
        for ((tenant, _), alarm) in &self.alarms {
            named.entry((tenant, &alarm.service)).or_default().insert(alarm.series.encode());
        }
        for of in &mut self.watched {
            of.series = named.remove(&(of.tenant.as_str(), of.service.as_str())).unwrap_or_default();
        }
    }

    /// Numbers of services mean others from now on.
    pub fn forget_numbers(&mut self) {
        self.places.clear();
    }

    /// As `watched`, if an alarm looks at this very series.
    pub fn watched_series(
        &mut self,
        services: &Services,
        service: ServiceId,
        start_secs: i64,
        series: &[u8],
    ) -> Option<&mut Cell> {
        let place = self.place(services, service)?;
        let is_watched = self.watched[place].series.contains(series);
        if is_watched { self.watched(services, service, start_secs) } else { None }
    }

    /// The cell that alarms watch, if they watch this service and still reach this window.
    #[inline]
    pub fn watched(&mut self, services: &Services, service: ServiceId, start_secs: i64) -> Option<&mut Cell> {
        let place = self.place(services, service)?;
        let of = &mut self.watched[place];
        if start_secs < self.now_secs - of.range_secs - KEEP_SECS {
            return None;
        }
        let (cell, changed) = of.cells.entry(start_secs).or_default();
        *changed = true;
        Some(&mut cell.0)
    }

    #[inline]
    fn place(&mut self, services: &Services, service: ServiceId) -> Option<usize> {
        match self.places.get(&service) {
            Some(place) => *place,
            None => {
                let (tenant, name) = services.name(service);
                let place = self.watched.iter().position(|of| of.tenant == tenant && of.service == name);
                self.places.insert(service, place);
                place
            }
        }
    }

    /// Once per series, however many alarms look at it; all windows where one of these is new.
    pub(super) fn changed_windows(&self, alarms: &[(&Name, &Alarm)]) -> Vec<RolledWindow> {
        let mut told: BTreeMap<(&str, &str, &Series), bool> = BTreeMap::new();
        for (name, alarm) in alarms {
            *told.entry((&name.0, &alarm.service, &alarm.series)).or_default() |= self.untold.contains(*name);
        }
        let mut windows = vec![];
        for ((tenant, service, series), all) in &told {
            let Some(of) = self.watched.iter().find(|of| of.tenant == *tenant && of.service == *service) else {
                continue;
            };
            for (start_secs, (cell, _)) in of.cells.iter().filter(|(_, (_, changed))| *all || *changed) {
                let Some(values) = cell.0.window(series) else { continue };
                let mut value = vec![];
                values.encode(&mut value);
                let (tenant, service) = ((*tenant).to_owned(), (*service).to_owned());
                windows.push(RolledWindow { tenant, service, series: series.encode(), start_secs: *start_secs, value });
            }
        }
        windows
    }

    /// All that changed before this minute was told; what no evaluation range reaches any more is forgotten.
    pub(super) fn told(&mut self, end_secs: i64) {
        self.untold.clear();
        for of in &mut self.watched {
            let floor = end_secs - of.range_secs - KEEP_SECS;
            of.cells = of.cells.split_off(&floor);
            of.cells.values_mut().for_each(|cell| cell.1 = false);
        }
    }
}
