//! The load: lines of fifty services over some days, always the same bytes for the same numbers. Decides what a line looks like; measures nothing.
//!
//! As many services as a middling company has, of which a few say most (Zipf); lines are nearly in order of time, never quite; latencies are
//! log-normal around a value of each service; two in a hundred are errors; one message in 64 holds escaped quotes.

use std::{
    f64::consts::TAU,
    io::{self, Write},
};

use events::calendar::date;

/// 2026-01-01T00:00:00Z.
const START_MS: u64 = 1_767_225_600_000;
const DAY_MS: u64 = 86_400_000;
const SERVICES: usize = 50;
const MESSAGES: usize = 4096;
const PATHS: usize = 200;
/// A line stands at most so far from where its time would put it.
const DISPLACED_MS: f64 = 5_000.0;

const TEAMS: [&str; 10] =
    ["auth", "cart", "search", "billing", "catalog", "media", "notify", "orders", "users", "edge"];
const PARTS: [&str; 5] = ["api", "worker", "gateway", "cron", "sync"];
const WORDS: &str = "connection request timeout user order cache miss upstream retry payload token session item queue flush commit index shard \
                     replica handler response body header client worker batch event metric latency checkout refund invoice search result page \
                     rank score render asset upload download thumbnail";
const AGENTS: [&str; 4] = [
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "curl/8.5.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/126.0 Safari/537.36",
    "kube-probe/1.29",
];
const FINE: [u16; 10] = [200, 200, 200, 200, 201, 204, 301, 304, 400, 404];
const BROKEN: [u16; 4] = [500, 502, 503, 504];

/// What the lines look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One object a line.
    Json,
    /// nginx's combined format, with the time that the request took at its end.
    Combined,
}

/// SplitMix64: small, the same everywhere, and good enough for a load.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In 0..1.
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// Mean 0, deviation 1.
    fn normal(&mut self) -> f64 {
        let (a, b) = (self.share().max(f64::MIN_POSITIVE), self.share());
        (-2.0 * a.ln()).sqrt() * (TAU * b).cos()
    }
}

/// What does not change from line to line.
struct World {
    services: Vec<String>,
    /// Share of lines of all services up to and including this one.
    up_to: Vec<f64>,
    latency_ms: Vec<f64>,
    messages: Vec<String>,
    paths: Vec<String>,
}

impl World {
    fn new(random: &mut Random) -> Self {
        let words: Vec<&str> = WORDS.split_whitespace().collect();
        let services: Vec<String> =
            TEAMS.iter().flat_map(|team| PARTS.iter().map(move |part| format!("{team}-{part}"))).collect();
        let weights: Vec<f64> = (1..=SERVICES).map(|rank| (rank as f64).powf(-1.1)).collect();
        let total: f64 = weights.iter().sum();
        let up_to = weights.iter().scan(0.0, |sum, weight| {
            *sum += weight / total;
            Some(*sum)
        });
        let up_to = up_to.collect();
        let latency_ms = (0..SERVICES).map(|_| (40f64.ln() + 0.8 * random.normal()).exp()).collect();
        let message = |number: usize, random: &mut Random| {
            let length = 20 + random.below(101);
            let mut text = String::new();
            while text.len() < length {
                text.push_str(words[random.below(words.len())]);
                text.push(' ');
            }
            text.truncate(length);
            if number.is_multiple_of(64) {
                text.truncate(length - 4);
                text.push_str("\\\"q\\\"");
            }
            text
        };
        let messages = (0..MESSAGES).map(|number| message(number, random)).collect();
        let paths = (0..PATHS).map(|i| format!("/api/v{}/{}/{i}", 1 + i % 3, words[i % words.len()])).collect();
        Self { services, up_to, latency_ms, messages, paths }
    }
}

/// One event.
struct Event {
    time_ms: u64,
    service: usize,
    level: &'static str,
    status: u16,
    latency_us: u64,
    random: u64,
    more: u64,
}

/// Writes `lines` lines whose times run over `days` days.
pub fn generate(out: &mut impl Write, format: Format, lines: u64, days: u64) -> io::Result<()> {
    let mut random = Random(1);
    let world = World::new(&mut random);
    let span_ms = days * DAY_MS;
    for line in 0..lines {
        let displaced = (1000.0 * random.normal()).clamp(-DISPLACED_MS, DISPLACED_MS);
        let place = (line as f64 * (span_ms as f64 / lines as f64) + displaced).clamp(0.0, (span_ms - 1) as f64);
        let share = random.share();
        let service = world.up_to.partition_point(|up_to| *up_to < share).min(SERVICES - 1);
        let latency_ms = world.latency_ms[service] * (0.6 * random.normal()).exp();
        let kind = random.share();
        let level = if kind < 0.02 {
            "ERROR"
        } else if kind < 0.07 {
            "WARN"
        } else {
            "INFO"
        };
        let status = if kind < 0.02 { BROKEN[random.below(4)] } else { FINE[random.below(10)] };
        let event = Event {
            time_ms: place as u64,
            service,
            level,
            status,
            latency_us: (latency_ms * 1000.0).round() as u64,
            random: random.next(),
            more: random.next(),
        };
        match format {
            Format::Json => json(out, &world, &event)?,
            Format::Combined => combined(out, &world, &event)?,
        }
    }
    out.flush()
}

fn clock(time_ms: u64) -> (u64, u64, u64, u64) {
    let ms = time_ms % DAY_MS;
    (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000)
}

fn json(out: &mut impl Write, world: &World, event: &Event) -> io::Result<()> {
    let ((year, month, day), (hour, minute, second, ms)) =
        (date(((START_MS + event.time_ms) / DAY_MS) as i64), clock(event.time_ms));
    let message = &world.messages[event.random as usize % MESSAGES];
    let path = path(world, event);
    let latency = decimal(event.latency_us, 3);
    let (service, level, status) = (&world.services[event.service], event.level, event.status);
    let (id, more) = (event.random, event.more);
    writeln!(
        out,
        "{{\"timestamp\":\"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z\",\"level\":\"{level}\",\"service\":\
         \"{service}\",\"message\":\"{message}\",\"latency_ms\":{latency},\"status\":{status},\"request_id\":\"{:08x}-{:04x}-{:04x}-{:04x}-\
         {:012x}\",\"path\":\"{path}\"}}",
        id >> 32,
        id >> 16 & 0xffff,
        id & 0xffff,
        more >> 48,
        more & 0xffff_ffff_ffff
    )
}

fn combined(out: &mut impl Write, world: &World, event: &Event) -> io::Result<()> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let ((year, month, day), (hour, minute, second, _)) =
        (date(((START_MS + event.time_ms) / DAY_MS) as i64), clock(event.time_ms));
    let [a, b, c, d, e, f, g, _] = event.random.to_le_bytes();
    let (service, status) = (&world.services[event.service], event.status);
    writeln!(
        out,
        "{a}.{b}.{c}.{d} - - [{day:02}/{}/{year:04}:{hour:02}:{minute:02}:{second:02} +0000] \"GET /{service}{} HTTP/1.1\" {status} {} \
         \"https://example.org/{service}\" \"{}\" {}.{:03}",
        MONTHS[month as usize - 1],
        path(world, event),
        100 + (usize::from(e) << 8 | usize::from(f)) % 59_900,
        AGENTS[usize::from(g) % 4],
        event.latency_us / 1_000_000,
        event.latency_us / 1000 % 1000
    )
}

/// Some paths are asked for far more often.
fn path<'a>(world: &'a World, event: &Event) -> &'a str {
    let share = (event.more >> 32) as f64 / 4_294_967_296.0;
    &world.paths[(share * share * PATHS as f64) as usize]
}

/// Thousandths as a decimal without zeros at its end, but one digit behind the point.
fn decimal(thousandths: u64, digits: usize) -> String {
    let text = format!("{}.{:0digits$}", thousandths / 1000, thousandths % 1000);
    let short = text.trim_end_matches('0');
    if short.ends_with('.') { format!("{short}0") } else { short.to_owned() }
}
