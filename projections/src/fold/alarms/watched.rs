//! What alarms watch of a shard's own windows, and of those of shards that it took over from: which series, how long, and what of it was not told yet.
//! Decides no state.
//!
//! A watched cell takes what lines say as a whole, as that is no more than a cell's built-in counts, and of the series that APIs name those that an
//! alarm in force names. So definitions bound it.

use std::collections::{BTreeMap, BTreeSet};

use events::{
    event::RolledWindow,
    position::{HashKey, HashRange, ShardId},
};
use serde::{Deserialize, Serialize};

use super::{Alarms, KEEP_SECS, Name};
use crate::{
    alarm::Alarm,
    cell::Cell,
    fold::{
        sabotage::{self, Sabotage},
        services::{ServiceId, Services},
    },
    series::Series,
};

/// By window start; true: changed since it was last told.
type Cells = BTreeMap<i64, (StoredCell, bool)>;

/// One service of which an alarm watches something.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Watched {
    tenant: String,
    service: String,
    range_secs: i64,
    /// As they are spelled.
    #[serde(skip)]
    series: BTreeSet<Vec<u8>>,
    cells: Cells,
    /// Of shards that have ended.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    estates: BTreeMap<ShardId, Estate>,
}

/// What a shard that has ended had of a service.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Estate {
    /// Who owns it speaks for that shard; `None`: all that took over from it do, which says the same more than once.
    key: Option<HashKey>,
    cells: Cells,
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

impl Watched {
    fn of(tenant: &str, service: &str, range_secs: i64) -> Self {
        let (tenant, service, series) = (tenant.to_owned(), service.to_owned(), BTreeSet::new());
        Self { tenant, service, range_secs, series, cells: Cells::new(), estates: BTreeMap::new() }
    }

    /// Its own windows, and each estate's with its name.
    fn all_cells(&self) -> impl Iterator<Item = (Option<&ShardId>, &Cells)> {
        let estates = self.estates.iter().map(|(of, estate)| (Some(of), &estate.cells));
        std::iter::once((None, &self.cells)).chain(estates)
    }
}

fn forget_before(cells: &mut Cells, floor: i64) {
    *cells = cells.split_off(&floor);
    cells.values_mut().for_each(|cell| cell.1 = false);
}

impl Alarms {
    /// True if any line may be watched.
    pub fn is_watching(&self) -> bool {
        !self.watched.is_empty()
    }

    /// Watches what the definitions in force name.
    pub(super) fn watch(&mut self) {
        let watched = &self.defined.ranges;
        self.watched.retain(|of| watched.contains_key(&(of.tenant.clone(), of.service.clone())));
        for ((tenant, service), range_secs) in watched {
            match self.watched.iter_mut().find(|of| of.tenant == *tenant && of.service == *service) {
                Some(of) => of.range_secs = *range_secs,
                None => self.watched.push(Watched::of(tenant, service, *range_secs)),
            }
        }
        self.name_series();
        self.places.clear();
    }

    /// Of a parent's windows, and of those that it spoke for, takes what falls to who owns these keys.
    pub(super) fn take_windows(&mut self, name: &ShardId, parent: &Self, range: HashRange) {
        if sabotage::breaks(Sabotage::RestUntold) {
            return;
        }
        let key = parent.range.map(|range| range.from);
        for of in &parent.watched {
            let own = [(name, Estate { key, cells: of.cells.clone() })];
            let estates = of.estates.iter().map(|(name, estate)| (name, estate.clone()));
            for (name, estate) in own.into_iter().chain(estates) {
                if estate.cells.is_empty() || estate.key.is_some_and(|key| !range.contains(key)) {
                    continue;
                }
                let place = self.watched.iter().position(|own| own.tenant == of.tenant && own.service == of.service);
                let place = place.unwrap_or_else(|| {
                    self.watched.push(Watched::of(&of.tenant, &of.service, of.range_secs));
                    self.watched.len() - 1
                });
                self.watched[place].estates.insert(name.clone(), estate);
            }
        }
    }

    pub(super) fn name_series(&mut self) {
        let mut named: BTreeMap<(&str, &str), BTreeSet<Vec<u8>>> = BTreeMap::new();
        for ((tenant, _), alarm) in &self.defined.alarms {
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
    pub(super) fn changed_windows<'a>(&self, alarms: impl Iterator<Item = (&'a Name, &'a Alarm)>) -> Vec<RolledWindow> {
        let mut told: BTreeMap<(&str, &str, &Series), bool> = BTreeMap::new();
        for (name, alarm) in alarms {
            *told.entry((&name.0, &alarm.service, &alarm.series)).or_default() |= self.untold.contains(name);
        }
        let mut windows = vec![];
        for ((tenant, service, series), all) in &told {
            let Some(of) = self.watched.iter().find(|of| of.tenant == *tenant && of.service == *service) else {
                continue;
            };
            for (ended, cells) in of.all_cells() {
                for (start_secs, (cell, _)) in cells.iter().filter(|(_, (_, changed))| *all || *changed) {
                    let Some(values) = cell.0.window(series) else { continue };
                    let (mut value, start_secs, of) = (vec![], *start_secs, ended.cloned());
                    values.encode(&mut value);
                    let (tenant, service) = ((*tenant).to_owned(), (*service).to_owned());
                    windows.push(RolledWindow { tenant, service, series: series.encode(), start_secs, of, value });
                }
            }
        }
        windows
    }

    /// All that changed before this minute was told; what no evaluation range reaches any more is forgotten.
    pub(super) fn told(&mut self, end_secs: i64) {
        self.untold.clear();
        for of in &mut self.watched {
            let floor = end_secs - of.range_secs - KEEP_SECS;
            forget_before(&mut of.cells, floor);
            of.estates.values_mut().for_each(|estate| forget_before(&mut estate.cells, floor));
            of.estates.retain(|_, estate| !estate.cells.is_empty());
        }
    }
}
