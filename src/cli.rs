//! What the commands are called, and what they share: which system is meant, how an answer is printed, how one fails. Each command is a file, with the
//! options that are its own; all of them speak to the system through its HTTP API, in the same process or over a socket, so that a command means the same
//! with and without a running `weir up`.

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
mod sending;
mod shards;
mod up;
mod verify;

use std::{
    ffi::OsString,
    fmt,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use clap::{Args as ClapArgs, Parser, Subcommand};
use events::embedded::OpenError as StreamError;
use weir::OpenError;

use pair::{Named, Pair};

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
    Up(up::Args),
    /// Read log files; returns when every line is durable, folded and readable
    Ingest(ingest::Args),
    /// Print metrics
    Metrics(metrics::Args),
    /// Recompute every row from the stream and compare
    Verify(verify::Args),
    /// Put definitions (alarms) in force
    Apply(apply::Args),
    /// Print alarms, their states and their changes
    Alarms(alarms::Args),
    /// Fold the stream again into a generation of rows beside the one that counts, and compare both
    Replay(replay::Args),
    /// Print generations of rows: from where, how far, which one counts
    Generations(generations::Args),
    /// Make another generation count; the same with the other's name goes back
    Promote(promote::Args),
    /// Print the shards of the stream: their keys, parents, and how far they are folded
    Shards(shards::List),
    /// Split a shard of a data folder in two, each with half of its keys
    Split(shards::Split),
    /// Merge two neighbouring shards of a data folder
    Merge(shards::Merge),
    /// On AWS: say for how long rows are kept, or keep them for some days, for all processes of the pair
    Keep(keep::Args),
    /// Show it all on sample logs in a temporary folder
    Demo(demo::Args),
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
            OpenError::Folder { source, .. } => Self::new(format!("{text}{}", folder_next(source.kind()))),
            _ => Self::new(text),
        }
    }
}

/// What is to be done about a folder that the system does not give.
const fn folder_next(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::AlreadyExists | ErrorKind::NotADirectory => {
            ". It is a file, or lies below one: name a folder with --data DIR, which is made if it is not there"
        }
        ErrorKind::ReadOnlyFilesystem => {
            ". The file system is mounted read-only, and weir locks and writes its folder, also to read: mount it for writing, or copy the folder and \
             name the copy with --data DIR"
        }
        ErrorKind::PermissionDenied => {
            ". Run it as the user whom the folder belongs to, or name another with --data DIR"
        }
        _ => "",
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

/// Carries out a command, and says meanwhile which service does not answer.
pub async fn run(args: Args) -> Result<Answer, Failure> {
    held_up::beside_silence(carry_out(args.command)).await
}

async fn carry_out(command: Command) -> Result<Answer, Failure> {
    match command {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_cannot_be_used_is_named_with_the_cause_and_what_to_do() {
        for (number, words) in
            [(17, "It is a file"), (20, "below one"), (30, "mounted read-only"), (13, "the user whom")]
        {
            let folder = PathBuf::from("/logs");
            let error = OpenError::Folder { folder: folder.clone(), source: std::io::Error::from_raw_os_error(number) };
            let said = Failure::to_open(&folder, &error).to_string();
            assert!(said.starts_with("the data folder /logs cannot be used: ") && said.contains(words), "{said}");
            assert!(said.contains("--data DIR"), "{said}");
        }
    }
}
