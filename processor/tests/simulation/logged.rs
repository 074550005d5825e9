//! Log events as a subscription of CloudWatch Logs delivers them: known by their ids, at least once, in other payloads than before. Both sides: who
//! sends them, and what the rows have to hold.

use std::collections::BTreeSet;

use bytes::Bytes;
use events::{
    identity::LOCAL_TENANT,
    position::SequenceNumber,
    stream::Put,
    wire::{part::Part, payload},
};
use projections::{
    fold::{identified, limits::Limits},
    store::Kind,
};
use rustc_hash::FxHashSet;

use crate::{
    actors::{Sent, Surroundings},
    model::{Holds, Meaning, ModelShard, key},
};

/// One line that says nothing but that it was written.
#[derive(Debug, Clone)]
pub struct LogEvent {
    pub id: u64,
    pub time_ms: i64,
}

/// What one payload means.
#[derive(Debug, Clone)]
pub struct Logged {
    service: &'static str,
    /// As marks name it.
    source: String,
    events: Vec<LogEvent>,
}

/// Which ids of one source and minute are known, and how many records brought some.
#[derive(Debug, Default)]
pub struct Known {
    ids: FxHashSet<u64>,
    records: BTreeSet<SequenceNumber>,
}

impl Known {
    /// What a shard begins with that has taken over from another.
    pub fn unite(&mut self, other: &Self) {
        self.ids.extend(&other.ids);
        self.records.extend(&other.records);
    }

    fn has_room(&self, limits: &Limits) -> bool {
        let (records, ids) = (self.records.len() + 1, self.ids.len() + 1);
        records * identified::RECORD_BYTES_MAX + ids * identified::ID_BYTES <= limits.id_bytes
    }
}

/// Some events in several payloads, each of some of them: so most come more than once, beside others.
pub fn payloads(around: &mut Surroundings<'_>) -> Vec<Sent> {
    let service = around.odd.service(around.random);
    let events: Vec<LogEvent> = (0..1 + around.random.below(8))
        .map(|_| {
            *around.ids += 1;
            LogEvent { id: *around.ids - 1, time_ms: around.now_ms - around.random.below(90_000) as i64 }
        })
        .collect();
    (0..1 + around.random.below(4))
        .map(|_| {
            let count = 1 + around.random.below(6);
            let pick = |_| events[around.random.below(events.len() as u64) as usize].clone();
            payload(service, (0..count).map(pick).collect())
        })
        .collect()
}

fn payload(service: &'static str, events: Vec<LogEvent>) -> Sent {
    let shown = |event: &LogEvent| {
        let LogEvent { id, time_ms } = event;
        format!(r#"{{"id":"{id}","timestamp":{time_ms},"message":"hello number{id}\n"}}"#)
    };
    let shown: Vec<String> = events.iter().map(shown).collect();
    let data = Bytes::from(format!(
        r#"{{"messageType":"DATA_MESSAGE","owner":"1","logGroup":"/aws/lambda/{service}","logStream":"s","logEvents":[{}]}}"#,
        shown.join(",")
    ));
    let pieces = payload::pieces(&data);
    let Part::Entries(entries) = &pieces[0].part else { panic!("{pieces:?}") };
    let source = entries.source.clone().unwrap();
    let put = Put { partition_key: service.to_owned(), hash_key: None, data };
    Sent { put, meaning: Meaning::Logged(Logged { service, source, events }).into() }
}

impl ModelShard {
    pub fn log_events(&mut self, at: SequenceNumber, logged: &Logged) {
        let mut here = FxHashSet::default();
        for LogEvent { id, time_ms } in &logged.events {
            let minute = time_ms.div_euclid(60_000) * 60;
            let mark = key(&self.id, Kind::Identified, LOCAL_TENANT, &logged.source, minute, 0);
            let known = self.known.entry((logged.source.clone(), minute)).or_default();
            let is_new = here.insert(*id) && !known.ids.contains(id);
            if is_new && known.has_room(&self.limits) {
                known.ids.insert(*id);
                known.records.insert(at);
                self.fresh.push(*id);
            }
            self.touch(at, mark, || Holds::Mark, |_| {});
            if is_new {
                self.line(at, LOCAL_TENANT, logged.service, *time_ms);
            } else {
                self.balance(at, LOCAL_TENANT, |_, duplicate, _, _| *duplicate += 1);
            }
        }
    }

    fn line(&mut self, at: SequenceNumber, tenant: &str, service: &'static str, time_ms: i64) {
        match self.meet(tenant, service) {
            Ok(()) => {
                let minute = time_ms.div_euclid(60_000) * 60;
                let _ = self.add(at, tenant, service, minute, 0, "lines", 1.0);
                self.alarms.count(self.time_ms, tenant, service, minute, "lines", 1.0);
                self.balance(at, tenant, |folded, _, _, _| *folded += 1);
            }
            Err(reason) => self.balance(at, tenant, |_, _, _, skipped| *skipped.entry(reason).or_default() += 1),
        }
    }
}
