//! Emulators of AWS services for tests: decides which program plays which service, installs it once at its pinned version, and starts it on a port
//! that the system gives. Never anything of ours: what is tested speaks to programs that others wrote.
//!
//! | service | program | what it does not do |
//! | --- | --- | --- |
//! | Kinesis | kinesis-local 0.6.2 (npm) | partial failures, throttles; `SubscribeToShard` does not name children |
//! | DynamoDB | dynalite 4.0.0 (npm): its capacity units are right | transactions, TTL, throttles |
//! | S3, SQS, SNS, EventBridge, DynamoDB, `SubscribeToShard` | ministack 1.5.33 (PyPI) | read units are halved; its positions have leading zeros, so none is found |
//!
//! What none of them does is scripted at the level of HTTP by the tests that need it. Each holds its data in memory and ends with the process
//! that started it, however that ends. Node and Python are needed; a machine without them fails these tests, and says so.

use std::{
    fs::{self, File},
    hash::Hasher,
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

/// How long an emulator may take until it answers, on a machine that is busy with compiling.
const START_MAX: Duration = Duration::from_secs(120);
/// How often who waits for it looks.
const START_LOOK: Duration = Duration::from_millis(20);
/// Somebody else may take a free port before the emulator does.
const STARTS_MAX: u32 = 5;

/// Settings of a client of AWS for tests, of the crate that is named: credentials of nobody, plain HTTP, and this endpoint. A macro, as this package builds
/// no client: whoever calls it has that crate, and `aws_smithy_http_client`.
#[macro_export]
macro_rules! settings {
    ($sdk:ident, $endpoint:expr) => {
        $sdk::config::Builder::new()
            .behavior_version($sdk::config::BehaviorVersion::latest())
            .region($sdk::config::Region::new("us-east-1"))
            .credentials_provider($sdk::config::Credentials::new("test", "test", None, None, "test"))
            .endpoint_url($endpoint)
            .http_client(::aws_smithy_http_client::Builder::new().build_http())
    };
}

/// A running emulator, for as long as this process lives.
#[derive(Debug)]
pub struct Emulator {
    /// Where it answers, such as `http://127.0.0.1:40123`.
    pub endpoint: String,
    /// Its standard input is a pipe from here: it ends when this process does.
    _child: Child,
}

/// Kinesis; one for the process.
pub fn kinesis() -> &'static Emulator {
    static ONE: OnceLock<Emulator> = OnceLock::new();
    ONE.get_or_init(|| {
        let folder = installed("npm", &["package.json", "package-lock.json"], npm).join("node_modules/kinesis-local");
        start("kinesis-local", |port| {
            // It opens a second port, for TLS, which nobody uses.
            let mut command = Command::new("node");
            command.arg("main.js").current_dir(&folder);
            command
                .env("KINESIS_MOCK_PLAIN_PORT", port.to_string())
                .env("KINESIS_MOCK_TLS_PORT", free_port().to_string());
            for wait in
                ["CREATE", "DELETE", "SPLIT_SHARD", "MERGE_SHARDS", "UPDATE_SHARD_COUNT", "REGISTER", "DEREGISTER"]
            {
                let suffix = match wait {
                    "CREATE" | "DELETE" => "_STREAM_DURATION",
                    "REGISTER" | "DEREGISTER" => "_STREAM_CONSUMER_DURATION",
                    _ => "_DURATION",
                };
                command.env(format!("{wait}{suffix}"), "20ms");
            }
            command.env("SHARD_LIMIT", "10000").env("LOG_LEVEL", "ERROR");
            command
        })
    })
}

/// DynamoDB; one for the process.
pub fn dynamodb() -> &'static Emulator {
    static ONE: OnceLock<Emulator> = OnceLock::new();
    ONE.get_or_init(|| {
        let folder = installed("npm", &["package.json", "package-lock.json"], npm).join("node_modules/dynalite");
        start("dynalite", |port| {
            let mut command = Command::new("node");
            command.arg("cli.js").current_dir(&folder);
            command.args([
                "--host",
                "127.0.0.1",
                "--port",
                &port.to_string(),
                "--createTableMs",
                "10",
                "--deleteTableMs",
                "10",
            ]);
            command
        })
    })
}

/// A Python that has botocore, as a client of AWS that is none of ours.
pub fn python() -> PathBuf {
    installed("python", &["requirements.txt"], pip).join("bin/python")
}

/// S3, SQS, SNS, EventBridge, Lambda and DynamoDB in one; one for the process.
pub fn aws() -> &'static Emulator {
    static ONE: OnceLock<Emulator> = OnceLock::new();
    ONE.get_or_init(|| {
        let folder = installed("python", &["requirements.txt"], pip);
        start("ministack", |port| {
            // By the interpreter: the script's first line names the folder in which it was installed, and a folder may be moved.
            let mut command = Command::new(folder.join("bin/python"));
            command.arg(folder.join("bin/ministack"));
            command.current_dir(&folder).env("GATEWAY_PORT", port.to_string()).env("MINISTACK_HOST", "127.0.0.1");
            command
        })
    })
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("the machine has a free port");
    listener.local_addr().expect("a bound listener has an address").port()
}

/// Starts a program that listens on the given port, and waits until it does.
fn start(name: &str, command: impl Fn(u16) -> Command) -> Emulator {
    let log = home().join(format!("{name}-{}.log", std::process::id()));
    for _ in 0..STARTS_MAX {
        let port = free_port();
        let mut child =
            tied(&command(port), &log).unwrap_or_else(|error| panic!("{name} could not be started: {error}"));
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let began = Instant::now();
        while child.try_wait().is_ok_and(|ended| ended.is_none()) {
            if TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok() {
                return Emulator { endpoint: format!("http://{address}"), _child: child };
            }
            assert!(began.elapsed() < START_MAX, "{name} did not answer on port {port} within {START_MAX:?}");
            thread::sleep(START_LOOK);
        }
    }
    let said = fs::read_to_string(&log).unwrap_or_default();
    panic!("{name} ended {STARTS_MAX} times before it answered: {said}");
}

/// Runs a program under a shell that ends it when our end of a pipe closes: statics are never dropped, and a test may be killed.
fn tied(program: &Command, log: &Path) -> io::Result<Child> {
    const SCRIPT: &str =
        r#"exec 3<&0; "$@" </dev/null & pid=$!; { cat <&3 >/dev/null; kill $pid 2>/dev/null; } & wait $pid"#;
    let mut shell = Command::new("sh");
    shell.args(["-c", SCRIPT, "sh"]).arg(program.get_program()).args(program.get_args());
    shell.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(folder) = program.get_current_dir() {
        shell.current_dir(folder);
    }
    let log = File::create(log)?;
    shell.stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log).spawn()
}

/// Where emulators are installed: beside what cargo builds, as they are as easily had again.
fn home() -> PathBuf {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/emulators");
    fs::create_dir_all(&home).unwrap_or_else(|error| panic!("{} cannot be made: {error}", home.display()));
    home
}

/// The folder into which `install` has put what the lists name. Processes that want the same wait for the first; another list is another folder.
fn installed(name: &str, lists: &[&str], install: fn(&Path)) -> PathBuf {
    let mut hash = xxhash_rust::xxh3::Xxh3Default::new();
    for list in lists {
        hash.write(&fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(list)).expect("the list lies in this crate"));
    }
    let folder = home().join(format!("{name}-{:016x}", hash.finish()));
    let lock = File::create(home().join(format!("{name}.lock"))).expect("the folder of emulators can be written");
    lock.lock().expect("a file of ours can be locked");
    let done = folder.join("installed");
    if !done.exists() {
        eprintln!("installing emulators of AWS for the tests into {}", folder.display());
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("the folder of emulators can be written");
        for list in lists {
            fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join(list), folder.join(list))
                .expect("a list can be copied");
        }
        install(&folder);
        File::create(&done).expect("the folder of emulators can be written");
    }
    folder
}

fn npm(folder: &Path) {
    run(Command::new("npm").args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(folder));
}

fn pip(folder: &Path) {
    run(Command::new("python3").args(["-m", "venv", "."]).current_dir(folder));
    run(Command::new("bin/pip")
        .args(["install", "--quiet", "--no-deps", "-r", "requirements.txt"])
        .current_dir(folder));
}

fn run(command: &mut Command) {
    let answer = command.output();
    let answer = answer
        .unwrap_or_else(|error| panic!("{command:?} cannot be run ({error}): the tests of AWS need Node and Python 3"));
    assert!(answer.status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&answer.stderr));
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    fn status_line(emulator: &Emulator) -> String {
        let address = emulator.endpoint.strip_prefix("http://").expect("an address");
        let mut socket = TcpStream::connect(address).expect("it listens");
        socket.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("it reads");
        let mut answer = String::new();
        let _ = socket.read_to_string(&mut answer);
        answer.lines().next().unwrap_or_default().to_owned()
    }

    #[test]
    fn each_emulator_is_installed_once_and_speaks_http() {
        for emulator in [kinesis(), dynamodb(), aws()] {
            let line = status_line(emulator);
            assert!(line.starts_with("HTTP/1.1 "), "{}: {line:?}", emulator.endpoint);
        }
    }

    #[test]
    fn an_emulator_ends_when_nobody_holds_its_pipe() {
        let folder = home();
        let child = tied(Command::new("sleep").arg("1000"), &folder.join("sleep.log")).expect("a shell can be started");
        let mut child = child;
        assert!(child.try_wait().expect("it can be asked").is_none());
        drop(child.stdin.take());
        assert!(child.wait().is_ok());
    }
}
