//! `weir up`: stream, consumer and API in one process. Decides where it listens and how it ends.

use std::{
    io,
    net::SocketAddr,
    num::NonZeroU16,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::net::TcpListener;
#[cfg(unix)]
use tokio::signal::unix;
use weir::{OpenError, Options, System};

use super::{
    Answer, Failure,
    client::{Purpose, data_folder},
    elsewhere,
    output::{counted, say},
    pair::{Named, Pair},
    progress,
};

/// Where `weir up` listens unless it is told otherwise.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:4717";
/// How long requests that are under way may take once the program is told to end.
const DRAIN: Duration = Duration::from_secs(10);
/// How often a stopped consumer is looked for, or a folder that another command has.
const CHANGE_LOOK: Duration = Duration::from_millis(200);

/// How a process that serves calls itself.
pub const UP: &str = "weir up";

/// Where to listen: numbers, or this machine's own name for itself.
pub fn listen_address(text: &str) -> Result<SocketAddr, String> {
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

/// Options of `weir up`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
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

/// Runs the command.
pub async fn run(options: Args) -> Result<Answer, Failure> {
    let access = access(options.tokens.as_deref(), options.listen)?;
    let folder = data_folder(options.data.as_deref())?;
    let pair = options.pair.named()?;
    if let (Some(Named { stream, .. }), true) = (&pair, options.confirm_clock) {
        let why = "--confirm-clock is for a data folder; the records of";
        return Err(Failure::new(format!("{why} {stream} are stamped by Kinesis: leave it out")));
    }
    if pair.is_none() && (options.failover.is_some() || options.fan_out) {
        let option = if options.fan_out { "--fan-out" } else { "--failover" };
        return Err(Failure::new(format!(
            "{option} is for a stream on AWS: give --stream kinesis://NAME --store dynamodb://PREFIX, or leave it out"
        )));
    }
    let archive = super::archive(options.archive.as_deref());
    if let Some(url) = &archive {
        // Before anything is made, or shards are taken from others.
        weir::look_at_archive(url).await.map_err(|error| Failure::of(&error))?;
    }
    let listener = listen(options.listen).await?;
    let (system, of) = match &pair {
        Some(pair) => {
            let Args { shards, failover, fan_out, .. } = options;
            let how = elsewhere::How { shards, stays: true, failover, fan_out };
            (elsewhere::open(pair, &folder, how, Purpose::Add).await?, pair.to_string())
        }
        None => {
            let settings = Options { shards: options.shards, confirm_clock: options.confirm_clock, who: UP.into() };
            let system = open(&folder, settings).await?;
            progress::recovering(&system);
            (system, format!("data folder {}", folder.display()))
        }
    };
    if let Some(url) = &archive
        && let Err(error) = system.archive_to(url).await
    {
        let _ = closed(system).await;
        return Err(Failure::of(&error));
    }
    let serving = Serving::start(system, listener, access).await?;
    let end = if pair.is_some() { "Ctrl-C commits and exits" } else { "Ctrl-C drains and exits" };
    let told = match options.shards.filter(|_| !serving.system().is_new()) {
        Some(asked) => tell_shards(serving.system(), asked, pair.is_some()).await,
        None => Ok(()),
    };
    match told.and_then(|()| say(&format!("weir serves {}  ({of}; {end})", serving.url))) {
        Ok(()) => serving.until_told().await,
        Err(refused) => {
            let _ = serving.close().await;
            Err(refused)
        }
    }
}

/// Shards that are there stay as they are, whatever is asked for.
async fn tell_shards(system: &System, asked: NonZeroU16, is_on_aws: bool) -> Result<(), Failure> {
    let open = system.open_shards().await.map_err(|error| Failure::of(&error))?;
    if open != usize::from(asked.get()) {
        let next = if is_on_aws { "`aws kinesis update-shard-count`" } else { "`weir split SHARD`" };
        eprintln!(
            "--shards {asked} is for a new data folder or stream: this one is there and stays as it is, with {}. {next} changes that",
            counted(open as u64, "open shard")
        );
    }
    Ok(())
}

/// Opens the folder; one that a command has for a while is waited for.
async fn open(folder: &Path, settings: Options) -> Result<System, Failure> {
    let mut said = false;
    loop {
        let error = match progress::open(folder, settings.clone()).await {
            Ok(system) => return Ok(system),
            Err(error @ OpenError::InUse(_)) => error,
            Err(error) => return Err(Failure::to_open(folder, &error)),
        };
        if let Some(url) = weir::serving(folder) {
            let next = "use that one, stop it, or give another --data DIR";
            return Err(Failure::new(format!("{error}, which serves {url}: {next}")));
        }
        // `None`: it has just let go.
        if let Some(holder) = weir::holder(folder) {
            if holder.starts_with(UP) {
                return Err(Failure::new(format!("{error}, {holder}: stop that one, or give another --data DIR")));
            }
            if !std::mem::replace(&mut said, true) {
                eprintln!("waiting for {holder}, which has the data folder {} open", folder.display());
            }
        }
        tokio::time::sleep(CHANGE_LOOK).await;
    }
}

/// A system that serves, and has its address in its folder.
pub struct Serving {
    /// Where.
    pub url: String,
    system: Arc<System>,
    listener: TcpListener,
    router: axum::Router,
    /// The file that leads the commands on this folder here; `None`: the system has no folder.
    address: Option<PathBuf>,
    signals: Signals,
}

impl Serving {
    /// Leaves the address in the folder, for the other commands. A system that cannot be served is closed.
    pub async fn start(system: System, listener: TcpListener, access: api::Access) -> Result<Self, Failure> {
        let begun = Signals::listen().and_then(|signals| Ok((signals, Self::address(&system, &listener)?)));
        // Before the address is known to anyone, signals are heard.
        let (signals, (url, address)) = match begun {
            Ok(begun) => begun,
            Err(refused) => {
                let _ = closed(system).await;
                return Err(refused);
            }
        };
        let system = Arc::new(system);
        let router = api::router(system.clone(), access);
        Ok(Self { url, system, listener, router, address, signals })
    }

    /// Where it is served, and the file that says so.
    fn address(system: &System, listener: &TcpListener) -> Result<(String, Option<PathBuf>), Failure> {
        let local = listener.local_addr().map_err(|error| Failure::new(format!("no address: {error}")))?;
        let url = format!("http://{local}");
        let address = system.is_local().then(|| system.folder().join("address"));
        if let Some(address) = &address {
            // Written beside and renamed: whoever reads it reads a whole address or none.
            let beside = system.folder().join("address.new");
            std::fs::write(&beside, format!("{url}\n{}\n", system.instance()))
                .and_then(|()| std::fs::rename(&beside, address))
                .map_err(|error| Failure::new(format!("{}: {error}", address.display())))?;
        }
        Ok((url, address))
    }

    /// Closes the system without having served it.
    async fn close(self) -> Option<String> {
        let Self { system, router, .. } = self;
        drop(router);
        end(system).await
    }

    /// The system.
    pub fn system(&self) -> &Arc<System> {
        &self.system
    }

    /// Serves until Ctrl-C, SIGTERM, or until the consumer has stopped; then drains.
    pub async fn until_told(self) -> Result<Answer, Failure> {
        self.until_told_after(|| {}).await
    }

    /// As `until_told`; `ends` ends what else uses the system, before it is drained.
    pub async fn until_told_after(self, ends: impl FnOnce()) -> Result<Answer, Failure> {
        let Self { system, listener, router, address, mut signals, .. } = self;
        let (told, mut hears) = tokio::sync::watch::channel(false);
        let watched = system.clone();
        let mut server = tokio::spawn(api::serve(listener, router, async move {
            let _ = hears.wait_for(|told| *told).await;
        }));
        let mut over = None;
        tokio::select! {
            () = signals.heard() => {}
            () = stopped(&watched) => {}
            ended = &mut server => {
                over = Some(ended.ok().and_then(Result::err).map(|error| format!("the server ended: {error}")));
            }
        }
        drop(watched);
        ends();
        if let Some(address) = &address {
            let _ = std::fs::remove_file(address);
        }
        told.send_replace(true);
        if over.is_none() && tokio::time::timeout(DRAIN, &mut server).await.is_err() {
            server.abort();
            let _ = server.await;
        }
        let why = end(system).await.or(over.flatten());
        why.map_or(Ok(Answer::Yes), |why| Err(Failure::new(why)))
    }
}

/// Closes a system that requests may hold; why it had stopped, if it had.
async fn end(system: Arc<System>) -> Option<String> {
    let stopped = system.why_stopped();
    match Arc::try_unwrap(system) {
        Ok(system) => closed(system).await,
        // A request that did not end in time still holds it; what is durable is safe, and folds at the next start.
        Err(_) => stopped,
    }
}

/// Folds what is left and closes a system; what is to be known of its end is told on standard error.
pub async fn closed(system: System) -> Option<String> {
    tokio::task::spawn_blocking(move || system.close_telling(|words| eprintln!("{words}"))).await.ok().flatten()
}

async fn stopped(system: &System) {
    while system.why_stopped().is_none() {
        system.losses().iter().for_each(|loss| eprintln!("lost: {loss}"));
        system.news().iter().for_each(|news| eprintln!("{news}"));
        tokio::time::sleep(CHANGE_LOOK).await;
    }
}

/// Ctrl-C and SIGTERM, heard from when this is made: whoever was told the URL may end the program at once, and it is to drain then as well.
struct Signals {
    #[cfg(unix)]
    interrupted: unix::Signal,
    #[cfg(unix)]
    terminated: unix::Signal,
}

impl Signals {
    fn listen() -> Result<Self, Failure> {
        #[cfg(unix)]
        {
            let of =
                |kind| unix::signal(kind).map_err(|error| Failure::new(format!("no signal can be heard: {error}")));
            Ok(Self { interrupted: of(unix::SignalKind::interrupt())?, terminated: of(unix::SignalKind::terminate())? })
        }
        #[cfg(not(unix))]
        Ok(Self {})
    }

    async fn heard(&mut self) {
        #[cfg(unix)]
        tokio::select! {
            _ = self.interrupted.recv() => {}
            _ = self.terminated.recv() => {}
        }
        #[cfg(not(unix))]
        let _ = tokio::signal::ctrl_c().await;
    }
}

/// Takes the address, or says who has it and what to do.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, Failure> {
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let holder = holder(address.port()).unwrap_or_else(|| "another program".into());
            let next = free_port(address)
                .map_or("--listen HOST:PORT with a free port".into(), |free| format!("--listen {free}"));
            Err(Failure::new(format!("{address} is taken by {holder}. Stop it, or try {next}")))
        }
        Err(error) => Err(Failure::new(format!("cannot listen on {address}: {error}"))),
    }
}

/// A free port after the taken one.
fn free_port(address: SocketAddr) -> Option<SocketAddr> {
    (1..=20u16)
        .filter_map(|step| address.port().checked_add(step))
        .map(|port| SocketAddr::new(address.ip(), port))
        .find(|next| std::net::TcpListener::bind(next).is_ok())
}

/// The program that listens on a port, as Linux tells it under /proc; `None` elsewhere, and for other users' programs.
fn holder(port: u16) -> Option<String> {
    let suffix = format!(":{port:04X}");
    let mut inodes = vec![];
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        for line in std::fs::read_to_string(table).unwrap_or_default().lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            if let [_, local, _, "0A", _, _, _, _, _, inode, ..] = fields.as_slice()
                && local.ends_with(&suffix)
            {
                inodes.push(format!("socket:[{inode}]"));
            }
        }
    }
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    processes.filter(|process| process.file_name().to_string_lossy().bytes().all(|b| b.is_ascii_digit())).find_map(
        |process| {
            let holds = std::fs::read_dir(process.path().join("fd")).ok()?.flatten().any(|descriptor| {
                std::fs::read_link(descriptor.path())
                    .is_ok_and(|link| inodes.iter().any(|inode| link == Path::new(inode)))
            });
            let name = std::fs::read_to_string(process.path().join("comm")).ok()?;
            holds.then(|| format!("`{}` (process {})", name.trim(), process.file_name().to_string_lossy()))
        },
    )
}

/// Who may come in: everybody on this machine, or whoever has a token of the file.
fn access(tokens: Option<&Path>, listen: SocketAddr) -> Result<api::Access, Failure> {
    let Some(path) = tokens else {
        if !listen.ip().is_loopback() {
            return Err(Failure::new(format!(
                "{listen} can be reached from other machines: give --tokens FILE with a line `TENANT TOKEN` for each client, or listen on 127.0.0.1"
            )));
        }
        return Ok(api::Access::Open);
    };
    let failed = |why: String| Failure::new(format!("the file of tokens, {}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    warn_if_readable(path);
    api::Access::tokens(&text).map_err(|error| failed(error.to_string()))
}

/// Who reads the file has every tenant's credential.
fn warn_if_readable(path: &Path) {
    #[cfg(unix)]
    if let Ok(about) = std::fs::metadata(path)
        && std::os::unix::fs::PermissionsExt::mode(&about.permissions()) & 0o077 != 0
    {
        let path = path.display();
        eprintln!("warning: the file of tokens, {path}, is open to other users of this machine: `chmod 600 {path}`");
    }
    #[cfg(not(unix))]
    let _ = path;
}
