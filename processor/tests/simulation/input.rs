//! Log lines whose meaning is known because they were made here: the simulator's model never parses.

use events::identity::{Origin, OriginKind, SLICE_BYTES};
use projections::store::law::random::Random;

/// The simulated day begins here, Unix milliseconds: a full minute.
pub const BEGIN_MS: i64 = 1_764_000_000_000;
pub const TENANTS: [&str; 2] = ["local", "acme"];
pub const SERVICES: [&str; 4] = ["api", "cart", "mail", "search"];
const LEVELS: [&str; 6] = ["trace", "debug", "info", "warn", "error", "fatal"];

/// What a line with data says.
#[derive(Debug, Clone, Default)]
pub struct Line {
    pub time_ms: Option<i64>,
    pub service: Option<&'static str>,
    pub level: Option<usize>,
    pub status: Option<u16>,
    pub latency: Option<f64>,
    pub bytes: Option<f64>,
}

impl Line {
    /// The built-in metrics that it adds to, each with its value.
    pub fn metrics(&self) -> Vec<(&'static str, f64)> {
        const LEVEL_METRICS: [&str; 6] =
            ["level_trace", "level_debug", "level_info", "level_warn", "level_error", "level_fatal"];
        let mut metrics = vec![("lines", 1.0)];
        metrics.extend(self.level.map(|level| (LEVEL_METRICS[level], 1.0)));
        let class = self.status.and_then(|status| match status / 100 {
            2 => Some("status_2xx"),
            3 => Some("status_3xx"),
            4 => Some("status_4xx"),
            5 => Some("status_5xx"),
            _ => None,
        });
        metrics.extend(class.map(|class| (class, 1.0)));
        if self.status.is_some() || self.latency.is_some() {
            metrics.push(("requests", 1.0));
        }
        let failed = match self.status {
            Some(status) => status >= 500,
            None => self.level.is_some_and(|level| level >= 4),
        };
        if failed {
            metrics.push(("errors", 1.0));
        }
        metrics.extend(self.latency.map(|latency| ("latency", latency)));
        metrics.extend(self.bytes.map(|bytes| ("bytes", bytes)));
        metrics
    }
}

/// What became of a line, by itself.
#[derive(Debug, Clone)]
pub enum Says {
    Skip(&'static str),
    Line(Line),
    /// More of the line before it.
    Continues,
}

/// A physical line.
#[derive(Debug, Clone)]
pub struct Written {
    /// Unique in the whole simulation.
    pub id: u64,
    /// Offset of its first byte in its text.
    pub at: u64,
    pub says: Says,
}

/// Some lines as they would stand in a file.
#[derive(Debug, Clone, Default)]
pub struct Text {
    pub bytes: Vec<u8>,
    pub lines: Vec<Written>,
}

/// How odd lines are: swarms of seeds differ in what they contain.
#[derive(Debug, Clone, Copy)]
pub struct Oddness {
    pub undated: bool,
    pub future: bool,
    pub broken: bool,
    pub continued: bool,
    pub late: bool,
    /// One tenant and one service: all lines meet in a few rows, and alarms see them.
    pub narrow: bool,
}

impl Oddness {
    pub fn tenant(self, random: &mut Random) -> &'static str {
        TENANTS[if self.narrow { 0 } else { random.below(2) as usize }]
    }

    pub fn service(self, random: &mut Random) -> &'static str {
        SERVICES[if self.narrow { 0 } else { random.below(4) as usize }]
    }
}

impl Text {
    /// `count` lines about a minute that is written at `now_ms`.
    pub fn write(random: &mut Random, ids: &mut u64, count: u64, now_ms: i64, odd: Oddness) -> Self {
        let mut text = Self::default();
        let mut has_head = false;
        for i in 0..count {
            let id = *ids;
            *ids += 1;
            let at = text.bytes.len() as u64;
            let (written, says) = line(random, id, now_ms, odd, has_head);
            has_head = !matches!(says, Says::Skip("blank"));
            text.bytes.extend_from_slice(&written);
            if i + 1 < count || random.below(4) > 0 || written.is_empty() {
                text.bytes.push(b'\n');
            }
            text.lines.push(Written { id, at, says });
        }
        text
    }

    /// The lines that begin in a range of bytes.
    pub fn lines_in(&self, from: u64, to: u64) -> &[Written] {
        let first = self.lines.partition_point(|line| line.at < from);
        let end = self.lines.partition_point(|line| line.at < to);
        &self.lines[first..end]
    }
}

fn line(random: &mut Random, id: u64, now_ms: i64, odd: Oddness, has_head: bool) -> (Vec<u8>, Says) {
    let chance = random.below(100);
    if odd.continued && chance < 12 {
        let text = if random.below(2) == 0 { format!("\tat frame {id}") } else { format!("Caused by: {id}") };
        // Without a head before it, it is a line like any other.
        return (text.into_bytes(), if has_head { Says::Continues } else { Says::Line(Line::default()) });
    }
    if odd.broken && chance < 18 {
        return match random.below(4) {
            0 => (vec![], Says::Skip("blank")),
            1 => (b"  \t".to_vec(), Says::Skip("blank")),
            2 => (format!("{{\"n\":{id},").into_bytes(), Says::Skip("malformed_json")),
            _ => (format!("n\0{id}").into_bytes(), Says::Skip("binary")),
        };
    }
    if odd.undated && chance < 25 {
        return (format!("hello number{id}").into_bytes(), Says::Line(Line::default()));
    }
    let line = event(random, now_ms, odd);
    (json(&line, id).into_bytes(), Says::Line(line))
}

fn event(random: &mut Random, now_ms: i64, odd: Oddness) -> Line {
    let mut some = |of: u64| random.below(4) < of;
    let has = [some(3), some(2), some(3), some(3), some(1)];
    let mut time_ms = now_ms - random.below(90_000) as i64;
    match random.below(20) {
        0 | 1 if odd.late => time_ms -= (random.below(5) * 600_000) as i64,
        2 if odd.late => time_ms = BEGIN_MS - 86_400_000 * 400,
        3 if odd.future => time_ms = now_ms + 7_200_000 + random.below(1_200_000) as i64 - 600_000,
        4 if odd.future => time_ms = now_ms + 86_400_000,
        _ => {}
    }
    Line {
        time_ms: (!odd.undated || random.below(8) > 0).then_some(time_ms),
        service: (has[0] || odd.narrow).then(|| odd.service(random)),
        level: has[1].then(|| random.below(6) as usize),
        status: has[2].then(|| [200, 204, 301, 404, 500, 503, 100][random.below(7) as usize]),
        latency: has[3].then(|| random.below(4000) as f64 * 0.25),
        bytes: has[4].then(|| random.below(10_000) as f64),
    }
}

fn json(line: &Line, id: u64) -> String {
    let mut fields = vec![format!("\"n\":{id}")];
    fields.extend(line.time_ms.map(|time| format!("\"ts\":{time}")));
    fields.extend(line.service.map(|service| format!("\"service\":\"{service}\"")));
    fields.extend(line.level.map(|level| format!("\"level\":\"{}\"", LEVELS[level])));
    fields.extend(line.status.map(|status| format!("\"status\":{status}")));
    fields.extend(line.latency.map(|latency| format!("\"latency_ms\":{latency}")));
    fields.extend(line.bytes.map(|bytes| format!("\"bytes\":{bytes}")));
    format!("{{{}}}", fields.join(","))
}

/// A file that may be sent by several.
#[derive(Debug, Clone)]
pub struct File {
    pub tenant: &'static str,
    pub origin: Origin,
    /// Offset of the text's first byte: near the end of a slice, in some.
    pub from: u64,
    pub text: Text,
}

impl File {
    pub fn write(random: &mut Random, ids: &mut u64, number: usize, now_ms: i64, odd: Oddness) -> Self {
        let count = 1 + random.below(30);
        let text = Text::write(random, ids, count, now_ms, odd);
        let near = random.below(2 * text.bytes.len() as u64 + 1);
        let kind = if random.below(2) == 0 { OriginKind::File } else { OriginKind::Object };
        let from = match random.below(3) {
            0 => SLICE_BYTES.saturating_sub(near),
            1 => 2 * SLICE_BYTES - near,
            _ => 0,
        };
        let name = format!("/log/{}", number / 2);
        let origin = Origin { kind, name, version: (number % 2).to_string() };
        Self { tenant: odd.tenant(random), origin, from, text }
    }

    /// Offsets in the text at which a line begins that is no continuation.
    pub fn heads(&self) -> Vec<u64> {
        self.text.lines.iter().filter(|line| !matches!(line.says, Says::Continues)).map(|line| line.at).collect()
    }
}
