//! A batch of events, folded; and records that are dead.

use bytes::Bytes;
use events::{
    event::{Datum, Defined, Event},
    identity,
    wire::{Batch, Header},
};

use super::{
    AHEAD_MAX_MS, FOLD_REVISION, Folded, Input, LINES_PAGE, Shard, Stop,
    input::Body,
    lines_in::Fresh,
    sabotage::{self, Sabotage},
};
use crate::{
    cell::WINDOW_SECS,
    definitions::Definition,
    distribution,
    fold::services::WindowKey,
    series::Series,
    store::{Kind, ROW_BYTES_MAX, Row},
};

/// Pages over which a service's API metrics are spread by the hash of the series: a row must fit into one item.
const SERIES_PAGES: u64 = 16;

impl Shard {
    pub(super) fn fold_body(&mut self, input: &Input) -> Result<Folded, Stop> {
        match &input.body {
            Body::Lines(batch) => self.fold_lines(input, batch),
            Body::Events(batch, events) => self.fold_events(input, batch, events),
            Body::Dead { reason, cause, bytes } => Ok(self.bury(input, reason, cause, bytes)),
        }
    }

    fn fold_events(&mut self, input: &Input, batch: &Batch, events: &[Event]) -> Result<Folded, Stop> {
        let mut folded = Folded::default();
        let is_fresh = !matches!(self.fresh(input, &batch.header)?, Fresh::Nothing);
        for event in events {
            match event {
                Event::Measured(measured) if !is_fresh => folded.balance.duplicate += measured.data.len() as u64,
                Event::Measured(measured) => {
                    for datum in &measured.data {
                        match self.measure(input, &batch.header, datum) {
                            Ok(()) => folded.balance.folded += 1,
                            Err(reason) => folded.balance.skip(reason, 1, datum.metric.as_bytes()),
                        }
                    }
                }
                _ if !is_fresh => {}
                Event::Defined(defined) => self.record_definition(input, &batch.header, defined),
                Event::Ticked(tick) => {
                    if tick.fold_revision > FOLD_REVISION && !sabotage::breaks(Sabotage::RevisionIgnored) {
                        return Err(Stop::NewerRevision {
                            shard: self.place.shard.clone(),
                            position: input.sequence,
                            newer: tick.fold_revision,
                        });
                    }
                    folded.effects.extend(self.alarms.tick(&self.place, tick, input.sequence, self.time_ms));
                    self.keep_decisions(input);
                }
                Event::RolledUp(rolled_up) => {
                    self.alarms.hear(rolled_up.clone());
                    self.alarms.decide(&self.place);
                    self.keep_decisions(input);
                }
                Event::TimeReset(_) if sabotage::breaks(Sabotage::TimeResetIgnored) => {}
                Event::TimeReset(_) => {
                    self.time_ms = input.arrived_at_ms;
                    self.alarms.reset_time(self.time_ms);
                }
            }
        }
        Ok(folded)
    }

    /// Adds one value that an API named; `Err`: why it is skipped.
    fn measure(&mut self, input: &Input, header: &Header, datum: &Datum) -> Result<(), &'static str> {
        let series =
            Series::new(&datum.namespace, &datum.metric, &datum.dimensions, &datum.unit).map_err(|_| "bad_series")?;
        let value = distribution::check(datum.value).map_err(|_| "bad_value")?;
        let time_ms = datum.time_ms.unwrap_or(header.read_at_ms);
        if time_ms > self.time_ms.saturating_add(AHEAD_MAX_MS) {
            return Err("future");
        }
        let name = datum.service.as_deref().or(header.service.as_deref()).unwrap_or(super::lines_in::UNNAMED_SERVICE);
        identity::check_service(name).map_err(|_| "bad_service")?;
        let tenant = self.services.tenant(&header.tenant);
        let service = match self.services.find(tenant, name) {
            Some(service) => service,
            None => {
                let service = self.services.add(tenant, &header.tenant, name).ok_or("too_many_services")?;
                let slot = self.seen.open(&self.subject(&header.tenant, Kind::Service, name));
                self.seen.touch(slot, input.sequence, self.record);
                service
            }
        };
        let start_secs = time_ms.div_euclid(60_000) * WINDOW_SECS;
        let page = LINES_PAGE + 1 + (xxhash_rust::xxh3::xxh3_64(&series.encode()) % SERIES_PAGES) as u32;
        let slot = self.windows.open(&WindowKey { service, start_secs, page });
        if let Some(cell) = self.windows.touch(slot, input.sequence, self.record) {
            cell.add_value(&series, WINDOW_SECS, value).map_err(|_| "too_many_series")?;
        }
        if let Some(cell) = self.alarms.watched(&self.services, service, start_secs) {
            // What is watched is bounded by the alarms in force, and a full cell has been said above.
            let _ = cell.add_value(&series, WINDOW_SECS, value);
        }
        Ok(())
    }

    /// A definition becomes a row under its place in the order; no record may name it before that row can be read.
    fn record_definition(&mut self, input: &Input, header: &Header, defined: &Defined) {
        let definition = Definition {
            revision: input.sequence,
            tenant: header.tenant.clone(),
            kind: defined.kind.clone(),
            name: defined.name.clone(),
            body: defined.body.clone(),
            by: defined.by.clone(),
            at_ms: self.time_ms,
        };
        let subject = self.subject(&header.tenant, Kind::Definition, &definition.row_name());
        self.state(input, subject, self.time_ms, 0, definition.encode().into());
    }

    fn bury(&mut self, input: &Input, reason: &'static str, cause: &str, bytes: &Bytes) -> Folded {
        let mut folded = Folded::default();
        folded.balance.dead = 1;
        let subject = self.subject(input.tenant(), Kind::DeadLetter, &format!("{:0>40}", input.sequence.to_string()));
        let mut letter = Vec::with_capacity(bytes.len() + cause.len() + 8);
        for text in [reason, cause] {
            crate::canonical::put_text(&mut letter, text);
        }
        letter.extend_from_slice(bytes);
        for (page, body) in letter.chunks(ROW_BYTES_MAX).enumerate() {
            self.state(
                input,
                subject.clone(),
                self.time_ms.div_euclid(1000),
                page as u32,
                Bytes::copy_from_slice(body),
            );
        }
        folded
    }

    /// Alarms that were decided just now become rows.
    fn keep_decisions(&mut self, input: &Input) {
        for decision in self.alarms.take_decisions() {
            let state = self.subject(&decision.tenant, Kind::Alarm, &decision.alarm);
            self.state(input, state, 0, 0, decision.encode().into());
            if decision.changed() {
                let change = self.subject(&decision.tenant, Kind::Transition, &decision.alarm);
                // An alarm may begin and change in one minute.
                let page = u32::from(decision.from.is_some());
                self.state(input, change, decision.time_secs, page, decision.encode().into());
            }
        }
    }

    fn state(&mut self, input: &Input, subject: crate::store::Subject, at: i64, page: u32, body: Bytes) {
        let key = self.key(subject, at, page);
        let row = Row {
            key: key.clone(),
            applied_from: input.sequence,
            applied_through: input.sequence,
            fold_revision: FOLD_REVISION,
            body,
        };
        self.facts.insert(key, row);
    }
}
