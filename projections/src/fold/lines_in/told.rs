//! Log events and documents of strangers, folded: lines that come with a time, an identity or values of their own. Decides which of them are new,
//! and whose time counts.
//!
//! | what | units of the balance |
//! | --- | --- |
//! | a line, with those that continue it | each line |
//! | a document of JSON | one |
//! | values of metrics | each value |

use events::{
    cut::{self, LINE_BYTES_MAX},
    wire::part::{Entry, Said},
};
use memchr::memchr;

use super::{Head, Lines, Touched};
use crate::{
    cell::Cell,
    fold::{
        Balance, Folded, Input, Shard, Stop,
        input::Told,
        sabotage::{self, Sabotage},
    },
    lines::{Line, Parser, Skip},
};

impl Shard {
    pub(in crate::fold) fn fold_told(&mut self, input: &Input, told: &Told) -> Result<Folded, Stop> {
        let mut folded = Folded::default();
        let balance = &mut folded.balance;
        let mut named = told.named.iter();
        for entry in &told.entries {
            let is_new = self.is_new(input, told, entry);
            match &entry.said {
                Said::Line(text) if !is_new => balance.duplicate += cut::count_lines(trimmed(text)).max(1),
                Said::Document(_) if !is_new => balance.duplicate += 1,
                Said::Values(data) if !is_new => {
                    balance.duplicate += data.len() as u64;
                    named.by_ref().take(data.len()).for_each(drop);
                }
                Said::Values(data) => {
                    for (datum, named) in data.iter().zip(&mut named) {
                        match self.measure(input, &told.header, datum, named.as_ref()) {
                            Ok(()) => balance.folded += 1,
                            Err(reason) => balance.skip(reason, 1, datum.metric.as_bytes()),
                        }
                    }
                }
                Said::Line(text) => self.read_entry(input, told, entry, text, balance),
                Said::Document(text) => self.read_entry(input, told, entry, text, balance),
            }
        }
        Ok(folded)
    }

    /// Takes what is new, and remembers that it was taken.
    fn is_new(&mut self, input: &Input, told: &Told, entry: &Entry) -> bool {
        let Some(key) = told.mark(entry, &self.place) else { return true };
        if entry.repeated {
            return false;
        }
        let Some(id) = entry.id else { return true };
        let slot = self.identified.open(&key);
        let current = self.current(input);
        let (mark, ahead) = self.identified.touch_mark(slot, &current);
        mark.take(id, input.sequence, ahead) || sabotage::breaks(Sabotage::IdsForgotten)
    }

    fn read_entry(&mut self, input: &Input, told: &Told, entry: &Entry, text: &[u8], balance: &mut Balance) {
        let time_ms = entry.time_ms.unwrap_or(told.header.read_at_ms);
        let lines = self.shared(input, &told.header, time_ms, false);
        let (mut touched, parser) = self.touched(&told.header);
        parser.read_at(time_ms);
        let text = trimmed(text);
        let is_document = matches!(entry.said, Said::Document(_));
        let first = if is_document { text } else { &text[..memchr(b'\n', text).unwrap_or(text.len())] };
        let head = touched.head(&lines, parser, first, entry.dated.then_some(time_ms));
        super::count(balance, head, first);
        let rest = text.get(first.len() + 1..).unwrap_or_default();
        for line in rest.split(|byte| *byte == b'\n').take(cut::count_lines(rest) as usize) {
            if let Head::Folded(slot, service, start) = head {
                touched.cells(&lines, slot, service, start, Cell::add_continuation);
            }
            super::count(balance, head, line);
        }
    }
}

impl Touched<'_> {
    fn head(&mut self, lines: &Lines<'_>, parser: &mut Parser, first: &[u8], time_ms: Option<i64>) -> Head {
        if first.len() > LINE_BYTES_MAX {
            return Head::Skipped("too_long");
        }
        match (parser.parse(first, false), time_ms) {
            (Ok(read), None) => self.add(lines, &read),
            (Ok(read), time_ms) => self.add(lines, &Line { time_ms, ..read }),
            // Its time is none and need not be one; what else it says is not known then.
            (Err(Skip::BadTime), Some(_)) => self.add(lines, &Line { time_ms, ..Line::NOTHING }),
            (Err(skip), _) => Head::Skipped(skip.as_str()),
        }
    }
}

/// Without the line ends behind it, which many loggers write into a log event.
fn trimmed(text: &[u8]) -> &[u8] {
    let length = text.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r')).map_or(0, |last| last + 1);
    &text[..length]
}
