//! The time of a stream, on the way from it: records get stamps by a clock that stands still until it is set, so nobody waits for minutes or hours to
//! pass; and the stream may let go of its beginning, which no emulator does. Decides nothing about right and wrong.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use crate::way::{Call, Guard};

/// Puts stamps of its own on records: the time at which each was first seen.
pub struct Stamps {
    pub now_ms: i64,
    of: HashMap<String, i64>,
    gone: HashSet<String>,
}

impl Stamps {
    pub fn at(now_ms: i64) -> Self {
        Self { now_ms, of: HashMap::new(), gone: HashSet::new() }
    }

    /// The stream has nothing any more of what arrived before a time: who asks for it is answered with what comes behind, as Kinesis answers.
    pub fn let_go(&mut self, before_ms: i64) {
        let old = self.of.iter().filter(|(_, stamp_ms)| **stamp_ms < before_ms);
        self.gone.extend(old.map(|(sequence, _)| sequence.clone()));
    }
}

impl Guard for Stamps {
    fn is_answered(&mut self, call: &Call, answer: &mut Value) -> bool {
        if !["PutRecord", "PutRecords", "GetRecords"].contains(&call.action.as_str()) {
            return true;
        }
        let now_ms = self.now_ms;
        let mut stamp_ms = |record: &Value| {
            record["SequenceNumber"].as_str().map(|sequence| *self.of.entry(sequence.to_owned()).or_insert(now_ms))
        };
        stamp_ms(answer);
        for record in answer["Records"].as_array_mut().into_iter().flatten() {
            let stamp_ms = stamp_ms(record);
            if let (Some(stamp_ms), true) = (stamp_ms, record["ApproximateArrivalTimestamp"].is_number()) {
                record["ApproximateArrivalTimestamp"] = (stamp_ms as f64 / 1e3).into();
            }
        }
        if let (Some(records), "GetRecords") = (answer["Records"].as_array_mut(), call.action.as_str()) {
            records.retain(|record| !record["SequenceNumber"].as_str().is_some_and(|of| self.gone.contains(of)));
        }
        true
    }
}
