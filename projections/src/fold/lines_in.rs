//! A batch of lines, folded: the hot path. Bytes are touched once; nothing is allocated, hashed twice or locked for a line.

mod beside;
mod told;

use std::ops::Range;

use events::{
    cut::{self, Groups, LINE_BYTES_MAX},
    identity,
    wire::{Batch, Header},
};
use memchr::memchr;

use self::beside::Beside;
use super::{
    AHEAD_MAX_MS, Folded, Input, LINES_PAGE, Shard, Stop,
    alarms::Alarms,
    balance::Balance,
    input,
    rows::{Current, OpenRows, Slot},
    sabotage::{self, Sabotage},
    services::{self, Seen, ServiceId, Services, TenantId, WindowKey},
    taken::{Answer, Overtaken},
};
use crate::{
    cell::Cell,
    lines::{self, Line, Parser},
    store::{Kind, Subject},
};

/// The service of lines that name none, in a batch that names none.
pub const UNNAMED_SERVICE: &str = "unnamed";

/// What of a batch no lower position has brought.
pub(super) enum Fresh {
    All,
    Nothing,
    /// Ranges of the origin's bytes.
    Some(Vec<Range<u64>>),
    /// These, and the mark has no room for them: nothing was taken.
    Refused(Vec<Range<u64>>),
}

/// Why lines are skipped that are new and cannot be marked as taken.
pub(super) const NO_ROOM: &str = "too_many_gaps";

/// What became of the line that continuations follow.
#[derive(Clone, Copy)]
enum Head {
    None,
    Folded(Slot, ServiceId, i64),
    Skipped(&'static str),
}

/// What the lines of one batch share.
struct Lines<'a> {
    header: &'a Header,
    undated_ms: i64,
    declared: &'a str,
    plain: bool,
    latest_ms: i64,
    current: Current,
    watching: bool,
}

/// The parts of a shard that a line touches, once it is read.
struct Touched<'a> {
    /// Changes at the first service of a tenant's day.
    tenant: TenantId,
    services: &'a mut Services,
    windows: &'a mut OpenRows<WindowKey, Cell>,
    seen: &'a mut OpenRows<Subject, Seen>,
    alarms: &'a mut Alarms,
    generation: crate::store::Generation,
    partial: crate::store::Partial,
}

impl Shard {
    pub(super) fn fold_lines(&mut self, input: &Input, batch: &Batch) -> Result<Folded, Stop> {
        let header = &batch.header;
        let fresh = self.fresh(input, header)?;
        let mut balance = Balance::default();
        match &fresh {
            Fresh::Nothing => balance.duplicate = cut::count_lines(&batch.body),
            Fresh::Refused(free) => refuse(free, header, &batch.body, &mut balance),
            Fresh::All | Fresh::Some(_) => self.read_lines(input, batch, &fresh, &mut balance),
        }
        Ok(Folded { balance, effects: vec![] })
    }

    fn read_lines(&mut self, input: &Input, batch: &Batch, fresh: &Fresh, balance: &mut Balance) {
        let header = &batch.header;
        let lines = self.shared(input, header, header.read_at_ms, lines::is_plain(&batch.body));
        let (mut touched, parser) = self.touched(header);
        parser.read_at(header.read_at_ms);
        touched.fold(parser, &lines, fresh, &batch.body, balance);
    }

    fn shared<'a>(&self, input: &Input, header: &'a Header, undated_ms: i64, plain: bool) -> Lines<'a> {
        Lines {
            header,
            undated_ms,
            declared: header.service.as_deref().unwrap_or(UNNAMED_SERVICE),
            plain,
            latest_ms: self.time_ms.saturating_add(AHEAD_MAX_MS),
            current: self.current(input),
            watching: self.alarms.is_watching(),
        }
    }

    fn touched(&mut self, header: &Header) -> (Touched<'_>, &mut Parser) {
        let touched = Touched {
            tenant: self.services.tenant(&header.tenant),
            services: &mut self.services,
            windows: &mut self.windows,
            seen: &mut self.seen,
            alarms: &mut self.alarms,
            generation: self.place.generation,
            partial: self.live.partial(),
        };
        (touched, &mut self.parser)
    }

    /// Takes what is new, and remembers that it was taken.
    pub(super) fn fresh(&mut self, input: &Input, header: &Header) -> Result<Fresh, Stop> {
        let Some(subject) = input::mark(header, &self.place) else { return Ok(Fresh::All) };
        let current = self.current(input);
        if let Some(extent) = &header.extent {
            let slot = self.taken.open(&subject);
            let (mark, ahead) = self.taken.touch_mark(slot, &current);
            if mark.origin.is_empty() {
                mark.origin = extent.origin.to_string();
            }
            let answer = mark
                .take(extent.from, extent.to, input.sequence, ahead)
                .map_err(|Overtaken| Stop::Overtaken(self.place.shard.clone()))?;
            self.crowded |= mark.is_crowded();
            return Ok(match answer {
                Answer::Refused(free) => Fresh::Refused(free),
                Answer::Takes(fresh) => match fresh.as_slice() {
                    [] => Fresh::Nothing,
                    [range] if *range == (extent.from..extent.to) => Fresh::All,
                    _ => Fresh::Some(fresh),
                },
            });
        }
        let producer = header.producer.as_ref().expect("a batch with a mark has an extent or a producer");
        let slot = self.producers.open(&subject);
        let (marks, ahead) = self.producers.touch_mark(slot, &current);
        let is_new = marks
            .take(producer, input.sequence, ahead)
            .map_err(|Overtaken| Stop::Overtaken(self.place.shard.clone()))?;
        self.crowded |= marks.is_crowded();
        Ok(if is_new { Fresh::All } else { Fresh::Nothing })
    }
}

impl Touched<'_> {
    fn fold(&mut self, parser: &mut Parser, lines: &Lines<'_>, fresh: &Fresh, body: &[u8], balance: &mut Balance) {
        let mut groups = Groups::default();
        let mut head = Head::None;
        let whole = matches!(fresh, Fresh::All) && lines.header.edits.is_empty();
        let ranges = if let Fresh::Some(ranges) = fresh { Some(ranges.as_slice()) } else { None };
        let mut beside = Beside::new(lines.header, ranges);
        let mut at = 0;
        while let Some(first) = body.get(at) {
            let from = at;
            // Nearly every line of nearly every batch: a head, by its first byte alone. So its end is found while it is read.
            if whole && !cut::may_continue(*first) {
                let read = parser.next(body, &mut at, lines.plain);
                let line = &body[from..at - 1];
                groups.begin(line);
                head = match read {
                    _ if line.len() > LINE_BYTES_MAX => Head::Skipped("too_long"),
                    Some(Ok(read)) => self.add(lines, &read),
                    Some(Err(skip)) => Head::Skipped(skip.as_str()),
                    None => break,
                };
                count(balance, head, line);
                continue;
            }
            let line = &body[from..memchr(b'\n', &body[from..]).map_or(body.len(), |length| from + length)];
            at = from + line.len() + 1;
            let said = beside.line(from, line.len());
            let too_long = line.len() > LINE_BYTES_MAX || said.is_cut;
            let continues = groups.continues(line, too_long);
            if !said.is_fresh {
                balance.duplicate += 1;
                head = Head::None;
                continue;
            }
            match head {
                Head::Folded(slot, service, start) if continues => {
                    self.cells(lines, slot, service, start, Cell::add_continuation);
                }
                Head::Skipped(_) if continues => {}
                _ if too_long => head = Head::Skipped("too_long"),
                _ => {
                    head = match parser.parse(line, lines.plain) {
                        Ok(read) => self.add(lines, &read),
                        Err(skip) => Head::Skipped(skip.as_str()),
                    }
                }
            }
            count(balance, head, line);
        }
    }

    /// Adds what a line says to its window.
    #[inline]
    fn add(&mut self, lines: &Lines<'_>, line: &Line<'_>) -> Head {
        let mut undated_ms = lines.undated_ms;
        if sabotage::breaks(Sabotage::UndatedAtFoldTime) {
            undated_ms = lines.latest_ms - AHEAD_MAX_MS;
        }
        let time_ms = line.time_ms.unwrap_or(undated_ms);
        if time_ms > lines.latest_ms && !sabotage::breaks(Sabotage::FutureTaken) {
            return Head::Skipped("future");
        }
        let start = time_ms.div_euclid(60_000) * 60;
        let service = match self.services.find(self.tenant, line.service.unwrap_or(lines.declared)) {
            Some(service) => service,
            None => match self.meet(lines, line) {
                Ok(service) => service,
                Err(reason) => return Head::Skipped(reason),
            },
        };
        let slot = match self.services.recent(service, start) {
            Some(slot) => slot,
            None => {
                let slot = self.windows.open(&WindowKey {
                    service,
                    start_secs: start,
                    partial: self.partial,
                    page: LINES_PAGE,
                });
                self.services.remember(service, start, slot);
                slot
            }
        };
        self.cells(lines, slot, service, start, |cell| cell.add_line(line));
        Head::Folded(slot, service, start)
    }

    /// A service that was not met today: checks its name (a line may claim anything), and lists it. `Err`: why there is no room for it.
    #[cold]
    fn meet(&mut self, lines: &Lines<'_>, line: &Line<'_>) -> Result<ServiceId, &'static str> {
        let name = line.service.filter(|name| identity::check_service(name).is_ok()).unwrap_or(lines.declared);
        if let Some(service) = self.services.find(self.tenant, name) {
            return Ok(service);
        }
        let tenant = &lines.header.tenant;
        let newcomer = self.services.add(tenant, name)?;
        self.tenant = newcomer.tenant;
        let (tenant, generation) = (tenant.clone(), self.generation);
        let subject = Subject { tenant, generation, kind: Kind::Service, name: name.to_owned() };
        services::list(self.seen, &subject, &lines.current);
        Ok(newcomer.service)
    }

    /// Does the same to a row and to what alarms watch of it.
    #[inline]
    fn cells(&mut self, lines: &Lines<'_>, slot: Slot, service: ServiceId, start: i64, change: impl Fn(&mut Cell)) {
        if let Some(cell) = self.windows.touch(slot, &lines.current) {
            change(cell);
        }
        if lines.watching
            && let Some(cell) = self.alarms.watched(self.services, service, start)
        {
            change(cell);
        }
    }
}

/// Counts a line that is now the head, or continues it.
#[inline]
fn count(balance: &mut Balance, head: Head, line: &[u8]) {
    match head {
        Head::Skipped(reason) => balance.skip(reason, 1, line),
        Head::Folded(..) | Head::None => balance.folded += 1,
    }
}

/// Counts the lines of a batch that takes nothing although some of its bytes are free.
fn refuse(free: &[Range<u64>], header: &Header, body: &[u8], balance: &mut Balance) {
    let (mut beside, mut at) = (Beside::new(header, Some(free)), 0);
    while at < body.len() {
        let line = &body[at..memchr(b'\n', &body[at..]).map_or(body.len(), |length| at + length)];
        if beside.line(at, line.len()).is_fresh {
            balance.skip(NO_ROOM, 1, line);
        } else {
            balance.duplicate += 1;
        }
        at += line.len() + 1;
    }
}
