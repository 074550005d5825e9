//! A batch of events, folded; and records that are dead.

use bytes::Bytes;
use events::{
    cut,
    event::{Datum, Defined, Event, Missed},
    identity::{self, LOCAL_TENANT},
    wire::{self, Batch, Content, Header},
};

use super::{
    AHEAD_MAX_MS, FOLD_REVISION, Folded, Input, Shard, Stop,
    input::{self, Body, Named},
    limits::limits,
    lines_in::{Fresh, NO_ROOM},
    sabotage::{self, Sabotage},
    services::{self, ServiceId, WindowKey},
    wanted,
};
use crate::{
    cell::WINDOW_SECS,
    definitions::{Definition, NoRoom},
    distribution,
    store::{Kind, ROW_BYTES_MAX, Row},
};

/// Why an object is dead.
const MISSING: &str = "object_missing";

impl Shard {
    pub(super) fn fold_body(&mut self, input: &Input, body: &Body) -> Result<Folded, Stop> {
        match body {
            Body::Lines(batch) => self.fold_lines(input, batch),
            Body::Events(batch, events, named) => self.fold_events(input, batch, events, named),
            Body::Told(told) => self.fold_told(input, told),
            Body::Repeated(batch) => Ok(repeated(batch)),
            Body::Skipped { reason, sample } => {
                let mut folded = Folded::default();
                folded.balance.skip(reason, 1, sample);
                Ok(folded)
            }
            Body::Dead { number, reason, cause, bytes } => Ok(self.bury(input, *number, reason, cause, bytes)),
        }
    }

    fn fold_events(
        &mut self,
        input: &Input,
        batch: &Batch,
        events: &[Event],
        named: &[Option<Named>],
    ) -> Result<Folded, Stop> {
        let mut folded = Folded::default();
        let mut named = named.iter();
        let fresh = self.fresh(input, &batch.header)?;
        let is_fresh = !matches!(fresh, Fresh::Nothing | Fresh::Refused(_));
        for event in events {
            match event {
                Event::Measured(measured) if matches!(fresh, Fresh::Refused(_)) => {
                    folded.balance.skip(NO_ROOM, measured.data.len() as u64, b"");
                }
                Event::Measured(measured) if !is_fresh => folded.balance.duplicate += measured.data.len() as u64,
                Event::Measured(measured) => {
                    for (datum, named) in measured.data.iter().zip(&mut named) {
                        match self.measure(input, &batch.header, datum, named.as_ref()) {
                            Ok(()) => folded.balance.folded += 1,
                            Err(reason) => folded.balance.skip(reason, 1, datum.metric.as_bytes()),
                        }
                    }
                }
                Event::Missed(missed) if matches!(fresh, Fresh::Refused(_)) => {
                    folded.balance.skip(NO_ROOM, 1, missed.origin.name.as_bytes());
                }
                Event::Missed(missed) if !is_fresh || self.was_taken(input, &batch.header, missed) => {
                    folded.balance.duplicate += 1;
                }
                Event::Missed(missed) => {
                    let dead = self.bury_missed(input, missed);
                    folded.balance.add(&dead.balance);
                }
                _ if !is_fresh => {}
                Event::Defined(defined) => {
                    if self.record_definition(input, &batch.header, defined).is_err() {
                        folded.balance.skip("too_many_alarms", 1, defined.name.as_bytes());
                    }
                }
                Event::Ticked(tick) => {
                    folded.effects.extend(self.alarms.tick(&self.place, tick, input.sequence, self.time_ms));
                    self.keep_decisions(input);
                }
                Event::RolledUp(rolled_up) => {
                    self.alarms.hear(rolled_up.clone());
                    self.keep_decisions(input);
                }
                Event::TimeReset(_) if sabotage::breaks(Sabotage::TimeResetIgnored) => {}
                Event::TimeReset(_) => {
                    self.time_ms = input.arrived_at_ms;
                    self.alarms.reset_time(self.time_ms);
                    self.begin_day();
                }
            }
        }
        Ok(folded)
    }

    /// Adds one value that an API named; `Err`: why it is skipped.
    pub(super) fn measure(
        &mut self,
        input: &Input,
        header: &Header,
        datum: &Datum,
        named: Option<&Named>,
    ) -> Result<(), &'static str> {
        let named = named.ok_or("bad_series")?;
        let value = distribution::check(datum.value).map_err(|_| "bad_value")?;
        if datum.time_ms.unwrap_or(header.read_at_ms) > self.time_ms.saturating_add(AHEAD_MAX_MS) {
            return Err("future");
        }
        let (name, start_secs, page) = wanted::place(header, datum, named);
        identity::check_service(name).map_err(|_| "bad_service")?;
        let key = WindowKey {
            service: self.service(input, &header.tenant, name)?,
            start_secs,
            partial: self.live.partial(),
            page,
        };
        let slot = match self.windows.find(&key) {
            Some(slot) => slot,
            None => {
                if let Some(stored) = self.pages.remove(&self.window_key(&key)) {
                    self.windows.admit(&key, stored);
                }
                self.windows.open(&key)
            }
        };
        let current = self.current(input);
        let has_room = match self.windows.touch(slot, &current) {
            Some(cell) => cell.add_encoded(named.series.clone(), WINDOW_SECS, value, limits().series).is_ok(),
            None if sabotage::breaks(Sabotage::RoomOfLaterPage) => !self.windows.body(slot).is_full(limits().series),
            None => self.windows.body(slot).has_encoded(&named.series, WINDOW_SECS),
        };
        if !has_room {
            return Err("too_many_series");
        }
        if let Some(cell) = self.alarms.watched_series(&self.services, key.service, start_secs, &named.series) {
            // It is no row, and alarms in force bound what is watched: so all of it fits.
            let _ = cell.add_encoded(named.series.clone(), WINDOW_SECS, value, usize::MAX);
        }
        Ok(())
    }

    fn service(&mut self, input: &Input, tenant: &str, name: &str) -> Result<ServiceId, &'static str> {
        if let Some(service) = self.services.find(self.services.tenant(tenant), name) {
            return Ok(service);
        }
        let newcomer = self.services.add(tenant, name)?;
        let (subject, current) = (self.subject(tenant, Kind::Service, name), self.current(input));
        services::list(&mut self.seen, &subject, &current);
        Ok(newcomer.service)
    }

    /// A definition becomes a row under its place in the order; no record may name it before that row can be read.
    fn record_definition(&mut self, input: &Input, header: &Header, defined: &Defined) -> Result<(), NoRoom> {
        let definition = Definition {
            revision: input.sequence,
            tenant: header.tenant.clone(),
            kind: defined.kind.clone(),
            name: defined.name.clone(),
            body: defined.body.clone(),
            by: defined.by.clone(),
            at_ms: self.time_ms,
        };
        self.alarms.apply(&definition)?;
        let subject = self.subject(&header.tenant, Kind::Definition, &definition.row_name());
        self.state(input, subject, self.time_ms, 0, definition.encode().into());
        Ok(())
    }

    fn bury(&mut self, input: &Input, number: Option<u32>, reason: &'static str, cause: &str, bytes: &Bytes) -> Folded {
        let mut folded = Folded::default();
        folded.balance.dead = 1;
        let position = format!("{:0>40}", input.sequence.to_string());
        let name = number.map_or_else(|| position.clone(), |number| format!("{position}.{number}"));
        let subject = self.subject(LOCAL_TENANT, Kind::DeadLetter, &name);
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
                page as u16,
                Bytes::copy_from_slice(body),
            );
        }
        folded
    }

    /// True if a lower position brought the byte from which on something is missing: it was read after all, by another way or before.
    fn was_taken(&mut self, input: &Input, header: &Header, missed: &Missed) -> bool {
        let mark = input::missing(header, missed, &self.place);
        let mark = self.taken.find(&mark).map(|slot| self.taken.body(slot));
        mark.is_some_and(|mark| mark.holds(missed.from, input.sequence))
    }

    fn bury_missed(&mut self, input: &Input, missed: &Missed) -> Folded {
        let Missed { origin, from } = missed;
        let rest = match *from {
            Missed::UNKNOWN => "on; how far it had been read is not known".to_owned(),
            from => format!("from byte {from} on"),
        };
        let cause = format!("{origin} was announced, and was gone when it was to be read {rest}");
        self.bury(input, None, MISSING, &cause, &Bytes::copy_from_slice(origin.name.as_bytes()))
    }

    /// Alarms that were decided just now become rows.
    pub(super) fn keep_decisions(&mut self, input: &Input) {
        for decision in self.alarms.take_decisions() {
            if decision.from != Some(decision.to) {
                let state = self.subject(&decision.tenant, Kind::Alarm, &decision.alarm);
                self.state(input, state, 0, 0, decision.encode().into());
            }
            let change = self.subject(&decision.tenant, Kind::Transition, &decision.alarm);
            // An alarm may begin and change in one minute.
            let page = match decision.from {
                None => 0,
                Some(from) if from != decision.to => 1,
                // No change: its generation has begun to count.
                Some(_) => 2,
            };
            self.state(input, change, decision.time_secs, page, decision.encode().into());
        }
    }

    fn state(&mut self, input: &Input, subject: crate::store::Subject, at: i64, page: u16, body: Bytes) {
        let key = self.key(subject, at, page);
        let row = Row {
            key: key.clone(),
            applied_from: input.sequence,
            applied_through: input.sequence,
            folded_on: self.current(input).day,
            fold_revision: FOLD_REVISION,
            body,
        };
        self.facts.insert(key, row);
    }
}

/// A batch whose bytes, or whose mark, another part of the same record has brought.
fn repeated(batch: &Batch) -> Folded {
    let mut folded = Folded::default();
    folded.balance.duplicate = match batch.header.content {
        Content::Lines => cut::count_lines(&batch.body),
        Content::Events => wire::decode_events(&batch.body).map_or(0, |events| input::data(&events).count() as u64),
    };
    folded
}
