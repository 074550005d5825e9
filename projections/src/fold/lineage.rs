//! The state with which the child of a split or merge begins: what it takes from its parents, which have ended. Decides it from their snapshots alone.
//!
//! | of the parents | the child has |
//! | --- | --- |
//! | time | the latest |
//! | definitions in force | those of the highest revision; what was applied since, of all |
//! | services of the day | the union of those that the day of its time has met |
//! | marks | found in the parents' rows, through `lineage`, until it has a row of its own |
//! | windows, balances | none: they stay the parents' partials, and merge at read |

use bytes::Bytes;
use events::position::ShardId;

use super::{
    Place, Shard,
    sabotage::{self, Sabotage},
    services::{DAY_MS, Services},
    snapshot::{self, BadSnapshot},
};

/// Most ancestors of a shard: each is asked for its marks when a record brings bytes of a slice that the shard has none of yet. A shard with more does
/// not begin, and says so: to forget the oldest would count copies twice.
pub const LINEAGE_MAX: usize = 256;

impl Shard {
    /// The child of these parents, in the order in which the stream names them, each with the parts of its last resume point.
    pub fn inherit(place: Place, parents: &[(ShardId, Vec<Bytes>)]) -> Result<Self, BadSnapshot> {
        let mut shard = Self::new(place);
        let parents =
            if sabotage::breaks(Sabotage::MergeTakesOneParent) { &parents[..1.min(parents.len())] } else { parents };
        let mut read = vec![];
        for (parent, parts) in parents {
            read.push((parent, snapshot::read(parts)?));
        }
        shard.time_ms = read.iter().map(|(_, (parent, _))| parent.time_ms).max().unwrap_or_default();
        shard.services = Services::begin(shard.time_ms);
        shard.lineage = read.iter().map(|(parent, _)| (*parent).clone()).collect();
        for (_, (parent, services)) in read {
            let ancestors = parent.lineage.into_iter().filter(|ancestor| !shard.lineage.contains(ancestor));
            let ancestors: Vec<ShardId> = ancestors.collect();
            shard.lineage.extend(ancestors);
            if parent.time_ms.div_euclid(DAY_MS) == shard.time_ms.div_euclid(DAY_MS) {
                shard.services.meet_all(&services)?;
            }
            if !sabotage::breaks(Sabotage::ChildWithoutDefinitions) {
                shard.alarms.inherit(parent.alarms);
            }
        }
        if shard.lineage.len() > LINEAGE_MAX {
            return Err(BadSnapshot::Lineage(shard.lineage.len()));
        }
        shard.alarms.restore();
        shard.live = shard.alarms.live();
        Ok(shard)
    }
}
