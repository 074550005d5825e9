//! The state with which the child of a split or merge begins: what it takes from its parents, which have ended. Decides it from their snapshots alone.
//!
//! | of the parents | the child has |
//! | --- | --- |
//! | time | the latest |
//! | definitions in force | those of the highest revision; what was applied since, of all |
//! | alarms | the homes whose points it owns, whole; what was not told yet it tells (`alarms/inherited.rs`) |
//! | services of the day | the union of those that the day of its time has met |
//! | marks | found in the parents' rows, through `lineage`, until it has a row of its own |
//! | windows, balances | none: they stay the parents' partials, and merge at read |

use bytes::Bytes;
use events::position::{HashRange, SequenceNumber, ShardId};

use super::{
    Alarms, Place, Shard,
    sabotage::{self, Sabotage},
    services::{DAY_MS, Services},
    snapshot::{self, BadSnapshot},
};
use crate::store::Commit;

/// Most ancestors of a shard: each is asked for its marks when a record brings bytes of a slice that the shard has none of yet. A shard with more does
/// not begin, and says so: to forget the oldest would count copies twice.
pub const LINEAGE_MAX: usize = 256;

impl Shard {
    /// The child that owns these keys, of these parents, in the order in which the stream names them, each with the parts of its last resume point.
    pub fn inherit(place: Place, range: HashRange, parents: &[(ShardId, Vec<Bytes>)]) -> Result<Self, BadSnapshot> {
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
        let mut alarms = vec![];
        for (name, (parent, services)) in read {
            let ancestors = parent.lineage.into_iter().filter(|ancestor| !shard.lineage.contains(ancestor));
            let ancestors: Vec<ShardId> = ancestors.collect();
            shard.lineage.extend(ancestors);
            if parent.time_ms.div_euclid(DAY_MS) == shard.time_ms.div_euclid(DAY_MS) {
                shard.services.meet_all(&services)?;
            }
            alarms.push((name.clone(), parent.alarms));
        }
        if !sabotage::breaks(Sabotage::ChildWithoutDefinitions) {
            shard.alarms = Alarms::inherit(alarms, range);
        }
        if shard.lineage.len() > LINEAGE_MAX {
            return Err(BadSnapshot::Lineage(shard.lineage.len()));
        }
        shard.live = shard.alarms.live();
        Ok(shard)
    }

    /// The end of a shard, by the parts of its last resume point, for a generation that begins behind it: to its children there it is no more than an
    /// ancestor. They take its time and find its marks; alarms begin anew with the generation.
    pub fn ancestor(place: Place, position: SequenceNumber, parts: &[Bytes]) -> Result<Commit, BadSnapshot> {
        let (ended, _) = snapshot::read(parts)?;
        let mut shard = Self::new(place);
        (shard.began, shard.position) = (ended.began, position);
        (shard.time_ms, shard.lineage) = (ended.time_ms, ended.lineage);
        shard.services = Services::begin(shard.time_ms);
        shard.end();
        Ok(shard.commit())
    }
}
