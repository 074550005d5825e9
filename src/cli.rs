//! What the commands are called and what they take. Each command is a file; all of them speak to the system through its HTTP API, in the same
//! process or over a socket, so that a command means the same with and without a running `weir up`.

mod alarms;
mod apply;
mod buckets;
mod client;
mod demo;
mod elsewhere;
mod generations;
mod held_up;
mod ingest;
mod keep;
mod metrics;
mod near;
mod output;
mod pair;
mod progress;
mod promote;
mod replay;
mod shards;
mod up;
mod verify;

use std::{
    ffi::OsString,
    fmt,
    net::SocketAddr,
    num::NonZeroU16,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args as ClapArgs, Parser, Subcommand};
use events::embedded::OpenError as StreamError;
use weir::OpenError;

use pair::{Named, Pair};

/// Where `weir up` listens unless it is told otherwise.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:4717";
/// Thirty years.
const KEEP_DAYS_MAX: u16 = 10_950;

/// Logs in, metrics and alarms out: an event-sourced stream processor in one program.
#[derive(Debug, Parser)]
#[command(name = "weir", version, arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run stream, consumer and API in one process; Ctrl-C drains and exits
    Up(Up),
    /// Read log files; returns when every line is durable, folded and readable
    Ingest(Ingest),
    /// Print metrics
    Metrics(Metrics),
    /// Recompute every row from the stream and compare
    Verify(Verify),
    /// Put definitions (alarms) in force
    Apply(Apply),
    /// Print alarms, their states and their changes
    Alarms(Alarms),
    /// Fold the stream again into a generation of rows beside the one that counts, and compare both
    Replay(Replay),
    /// Print generations of rows: from where, how far, which one counts
    Generations(Generations),
    /// Make another generation count; the same with the other's name goes back
    Promote(Promote),
    /// Print the shards of the stream: their keys, parents, and how far they are folded
    Shards(Shards),
    /// Split a shard of a data folder in two, each with half of its keys
    Split(Split),
    /// Merge two neighbouring shards of a data folder
    Merge(Merge),
    /// On AWS: say for how long rows are kept, or keep them for some days, for all processes of the pair
    Keep(Keep),
    /// Show it all on sample logs in a temporary folder
    Demo(Demo),
}

/// Which system a command speaks to.
#[derive(Debug, Clone, ClapArgs)]
pub struct Where {
    /// Data folder [env: WEIR_DATA] [default: weir in the user's data directory]. A running `weir up` on it is found by itself
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// A running weir, such as http://127.0.0.1:4717 [env: WEIR_URL, unless --data is given]
    #[arg(long, value_name = "URL", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    url: Option<String>,
    /// Token, where the running weir asks for one. Other users see arguments: WEIR_TOKEN is the better place
    #[arg(long, env = "WEIR_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    token: Option<Token>,
    #[command(flatten)]
    pair: Pair,
}

impl Where {
    /// The running weir that is meant. What was typed for this command comes before what stands in the environment for all.
    fn url(&self) -> Option<String> {
        let of_environment = || match self.data {
            Some(_) => None,
            None if self.pair.is_typed() => None,
            None => set("WEIR_URL").map(|url| url.to_string_lossy().into_owned()),
        };
        self.url.clone().or_else(of_environment)
    }

    /// The pair on AWS that is meant. A running weir has its own.
    fn pair(&self) -> Result<Option<Named>, Failure> {
        match (&self.url, self.pair.is_typed()) {
            (Some(url), true) => Err(Failure::new(format!(
                "the weir at {url} has a stream and rows of its own: give --url, or --stream and --store"
            ))),
            _ => self.pair.named(),
        }
    }
}

/// The archive that is meant, if one is.
fn archive(given: Option<&str>) -> Option<String> {
    let of_environment = || set("WEIR_ARCHIVE").map(|url| url.to_string_lossy().into_owned());
    given.map(str::to_owned).or_else(of_environment)
}

/// A variable of the environment; one that is empty is not set.
fn set(variable: &str) -> Option<OsString> {
    std::env::var_os(variable).filter(|value| !value.is_empty())
}

/// A secret: it is sent, and never shown.
#[derive(Clone)]
pub struct Token(String);

impl From<String> for Token {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a token")
    }
}

/// How an answer is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people
    Table,
    /// One object a line
    Json,
    /// With a header line
    Csv,
}

/// Where to listen: numbers, or this machine's own name for itself.
fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let numbers = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    let next = format!("give an IP address and a port, such as {DEFAULT_LISTEN}, or 0.0.0.0:4717 for every address");
    numbers.as_deref().unwrap_or(text).parse().map_err(|_| next)
}

/// A time from one second to ten minutes.
fn failover(text: &str) -> Result<Duration, String> {
    let next = "give seconds or minutes, such as 10s or 2m, at least 1s and at most 10m";
    let (number, unit) = match (text.strip_suffix('s'), text.strip_suffix('m')) {
        (Some(number), _) => (number, 1),
        (None, Some(number)) => (number, 60),
        (None, None) => return Err(next.to_owned()),
    };
    let secs = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    secs.filter(|secs| (1..=600).contains(secs)).map(Duration::from_secs).ok_or_else(|| next.to_owned())
}

/// Days for which rows are kept; `None`: for as long as the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct KeepTime(Option<u16>);

/// `forever`, or days.
fn keep_time(text: &str) -> Result<KeepTime, String> {
    let days =
        text.strip_suffix('d').and_then(|days| days.parse().ok()).filter(|days| (1..=KEEP_DAYS_MAX).contains(days));
    match (text, days) {
        ("forever", _) => Ok(KeepTime(None)),
        (_, Some(days)) => Ok(KeepTime(Some(days))),
        _ => Err(format!("give days, such as 400d, at least 1d and at most {KEEP_DAYS_MAX}d, or forever")),
    }
}

/// Choice of format.
#[derive(Debug, Clone, Copy, ClapArgs)]
pub struct Output {
    /// Format of the answer [default: table]
    #[arg(short, long = "output", value_name = "FORMAT", value_enum)]
    output: Option<Format>,
    /// The same as -o json
    #[arg(long)]
    json: bool,
}

impl Output {
    /// Of two formats neither is what was meant.
    fn format(self) -> Result<Format, Failure> {
        match self.output {
            Some(format @ (Format::Table | Format::Csv)) if self.json => {
                let name = if format == Format::Csv { "csv" } else { "table" };
                Err(Failure::new(format!("--json and -o {name} ask for two formats: give one of them")))
            }
            _ if self.json => Ok(Format::Json),
            output => Ok(output.unwrap_or(Format::Table)),
        }
    }
}

/// Options of `weir keep`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Keep {
    /// From now on: days, such as 400d, or forever. Without it, only what is in force is said
    #[arg(value_name = "TIME", value_parser = keep_time)]
    time: Option<KeepTime>,
    #[command(flatten)]
    of: Where,
}

/// Options of `weir up`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Up {
    /// Data folder [env: WEIR_DATA] [default: weir in the user's data directory]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Address to serve on; port 0 takes any free one
    #[arg(long, default_value = DEFAULT_LISTEN, value_name = "IP:PORT", value_parser = listen_address)]
    listen: SocketAddr,
    /// File with a line `TENANT TOKEN` for each credential, tokens of at least 16 characters; needed to listen beyond this machine. Only tenant
    /// `local` may verify, and ask for generations and shards
    #[arg(long, value_name = "FILE")]
    tokens: Option<PathBuf>,
    /// Shards of a new data folder or stream, at most 64 [default: one for each core, at most 8; on Kinesis one]
    #[arg(long, value_name = "N")]
    shards: Option<NonZeroU16>,
    /// Go on although the host's clock stands before the stream's last stamp
    #[arg(long)]
    confirm_clock: bool,
    /// On AWS: other processes take the shards of one that was silent for so long, 1s to 10m; the same for all of a pair [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = failover)]
    failover: Option<Duration>,
    /// On AWS: read as an enhanced fan-out consumer of this pair's own, registered if it is missing, which no other reader slows down. In us-east-1
    /// $0.015 an hour for each shard and $0.013 a GB, for as long as it is registered
    #[arg(long)]
    fan_out: bool,
    /// Keep all that is on the stream beyond its retention: s3://BUCKET/PREFIX, or file:///FOLDER [env: WEIR_ARCHIVE]. It costs one PUT in five
    /// minutes for each shard
    #[arg(long, value_name = "URL")]
    archive: Option<String>,
    #[command(flatten)]
    pair: Pair,
}

/// Options of `weir ingest`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Ingest {
    /// Files, folders, patterns, or - for standard input; s3://BUCKET/KEY for an object or all below it, s3://BUCKET/KEY* for all whose keys begin
    /// so. gzip and zstd are told by their bytes
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Service of lines that name none [default: from the file's name]
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Identity of the one input, by hand: bytes that came under this name before are not counted again
    #[arg(long = "as", value_name = "NAME")]
    as_name: Option<String>,
    /// Count files again that were read before
    #[arg(long, conflicts_with = "as_name")]
    again: bool,
    /// Read from buckets without being asked, whatever it costs; what it will cost is said all the same
    #[arg(long)]
    yes: bool,
    /// Read from buckets whose owner has who reads them pay for calls and transfer
    #[arg(long)]
    requester_pays: bool,
    #[command(flatten)]
    to: Where,
}

/// Options of `weir metrics`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Metrics {
    /// Only this service
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Only this metric, such as requests, errors, latency
    #[arg(long, value_name = "NAME")]
    metric: Option<String>,
    /// Only this namespace
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// First time: RFC 3339, a date, epoch seconds or milliseconds, now, -15m [default: the first there is]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    start: Option<String>,
    /// First time that is not wanted [default: the last there is]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    end: Option<String>,
    /// From so long ago until now, such as 15m, 1h, 7d
    #[arg(long, value_name = "SPAN", conflicts_with = "start")]
    since: Option<String>,
    /// Seconds of one window: 60, 300 or 3600
    #[arg(long, default_value = "60", value_parser = ["60", "300", "3600"])]
    period: String,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    of: Where,
}

/// Options of `weir verify`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Verify {
    /// One object instead of sentences
    #[arg(long)]
    json: bool,
    /// Read from there what the stream no longer has, as `weir up --archive` keeps it [env: WEIR_ARCHIVE]
    #[arg(long, value_name = "URL")]
    archive: Option<String>,
    #[command(flatten)]
    of: Where,
}

/// Options of `weir apply`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Apply {
    /// JSON files with alarms in CloudWatch's field names: one, an array, or {"MetricAlarms": […]}
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    to: Where,
}

/// Options of `weir alarms`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Alarms {
    /// One alarm, with its changes
    #[arg(value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    of: Where,
}

/// Options of `weir replay`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Replay {
    /// Where it begins, to the minute: a time (RFC 3339, a date, epoch seconds or milliseconds, -2d), SHARD:POSITION, oldest for all that the stream
    /// keeps, or archive for all that the archive has and the stream behind it. Left out to go on with one that was begun
    #[arg(long, value_name = "TIME|SHARD:POSITION|oldest|archive", allow_hyphen_values = true)]
    start: Option<String>,
    /// The archive of --start archive: s3://BUCKET/PREFIX or file:///FOLDER, as `weir up --archive` was told (also WEIR_ARCHIVE)
    #[arg(long, value_name = "URL")]
    archive: Option<String>,
    /// Its name: letters, digits, `-`, `_` and `.`; the generation that is there from the beginning is called first
    #[arg(long, value_name = "NAME")]
    generation: String,
    /// The comparison as one object instead of sentences
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    to: Where,
}

/// Options of `weir generations`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Generations {
    /// Compare this one with the one that counts, once more: windows and decisions of alarms that differ
    #[arg(long, value_name = "NAME")]
    compare: Option<String>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    of: Where,
}

/// Options of `weir promote`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Promote {
    /// The generation
    #[arg(value_name = "NAME")]
    generation: String,
    /// One object instead of a sentence
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    of: Where,
}

/// Options of `weir shards`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Shards {
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    of: Where,
}

/// Options of `weir split`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Split {
    /// The shard, which is closed; `weir shards` lists them
    #[arg(value_name = "SHARD")]
    shard: String,
    /// One object instead of a sentence
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    of: Where,
}

/// Options of `weir merge`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Merge {
    /// One of them; both are closed
    #[arg(value_name = "SHARD")]
    shard: String,
    /// The other: the one whose keys begin where the first one's end, or end where they begin
    #[arg(value_name = "WITH")]
    with: String,
    /// One object instead of a sentence
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    of: Where,
}

/// Options of `weir demo`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Demo {
    /// Address to serve on; port 0 takes any free one
    #[arg(long, default_value = DEFAULT_LISTEN, value_name = "IP:PORT", value_parser = listen_address)]
    listen: SocketAddr,
}

/// What came of a command that could be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Fine.
    Yes,
    /// It differs, or some inputs failed; which was said.
    No,
}

/// A command could not be carried out: the thing, the cause and the next step, in one text.
#[derive(Debug)]
pub struct Failure(String);

impl Failure {
    fn new(text: impl Into<String>) -> Self {
        let text = text.into().replace(END_PROCESS, "");
        // However deep it was met, and on whichever side of a socket: the process that met it has ended, or is about to.
        let next = match NO_ROOM.iter().any(|words| text.contains(words)) && !text.contains(MAKE_ROOM) {
            true => MAKE_ROOM,
            false => "",
        };
        Self(format!("{text}{next}"))
    }

    fn of(error: &dyn std::error::Error) -> Self {
        Self::new(weir::with_causes(error))
    }

    /// A folder that could not be opened.
    fn to_open(folder: &Path, error: &OpenError) -> Self {
        let text = weir::with_causes(error);
        match error {
            OpenError::Stream(StreamError::ClockBehind { .. }) => Self::new(format!(
                "{text} with `weir up --confirm-clock --data {}`, once; what was stamped too late stays so",
                folder.display()
            )),
            _ => Self::new(text),
        }
    }
}

/// What the stream says to whoever embeds it. The process that met it is this one, which is about to end, or a `weir up`, which ends by itself.
const END_PROCESS: &str = "; end this process";
/// What the system says of a disk, a quota or a limit that leaves no room.
const NO_ROOM: [&str; 3] = ["(os error 28)", "(os error 122)", "(os error 27)"];
const MAKE_ROOM: &str =
    ". There is no room: make some, then run the same again; what is durable is known, and nothing is counted twice";

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Carries out a command.
pub async fn run(args: Args) -> Result<Answer, Failure> {
    match args.command {
        Command::Up(options) => up::run(options).await,
        Command::Ingest(options) => ingest::run(options).await,
        Command::Metrics(options) => metrics::run(options).await,
        Command::Verify(options) => verify::run(options).await,
        Command::Apply(options) => apply::run(options).await,
        Command::Alarms(options) => alarms::run(options).await,
        Command::Replay(options) => replay::run(options).await,
        Command::Generations(options) => generations::run(options).await,
        Command::Promote(options) => promote::run(options).await,
        Command::Shards(options) => shards::list(options).await,
        Command::Split(options) => shards::split(options).await,
        Command::Merge(options) => shards::merge(options).await,
        Command::Keep(options) => keep::run(options).await,
        Command::Demo(options) => demo::run(options).await,
    }
}
