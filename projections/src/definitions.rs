//! Definitions as rows: immutable bodies in one order. Decides which are in force at a revision, not what they mean.

use std::collections::BTreeMap;

use events::position::SequenceNumber;
use serde::{Deserialize, Serialize};

/// One definition as it was applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// Its position on the control key: the one order of all definitions.
    pub revision: SequenceNumber,
    /// Whose it is.
    pub tenant: String,
    /// `alarm`, for now.
    pub kind: String,
    /// Unique within tenant and kind.
    pub name: String,
    /// JSON text; `null`: removed by this revision.
    pub body: String,
    /// Who applied it.
    pub by: String,
    /// When, by the fold's time, Unix milliseconds.
    pub at_ms: i64,
}

impl Definition {
    /// The subject of its row. A revision is part of it, so a body is never replaced.
    pub fn row_name(&self) -> String {
        format!("{:0>40}", self.revision.to_string())
    }

    /// The body of its row.
    pub fn encode(&self) -> Vec<u8> {
        rmp_serde::to_vec_named(self).expect("a definition of strings and integers always encodes")
    }

    /// Reads the body of a row.
    pub fn decode(bytes: &[u8]) -> Result<Self, rmp_serde::decode::Error> {
        rmp_serde::from_slice(bytes)
    }

    /// True unless this revision removed it.
    pub fn is_alive(&self) -> bool {
        self.body.trim() != "null"
    }
}

/// The definitions in force at a revision: of each name the last one up to and including it.
pub fn in_force(all: &[Definition], revision: SequenceNumber) -> Vec<&Definition> {
    let mut last: BTreeMap<(&str, &str, &str), &Definition> = BTreeMap::new();
    for definition in all.iter().filter(|definition| definition.revision <= revision) {
        let key = (definition.tenant.as_str(), definition.kind.as_str(), definition.name.as_str());
        let newest = last.entry(key).or_insert(definition);
        if newest.revision < definition.revision {
            *newest = definition;
        }
    }
    last.into_values().filter(|definition| definition.is_alive()).collect()
}
