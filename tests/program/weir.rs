//! The real binary as tests run it: a clean environment, its answers as text, its address as it prints it. Decides nothing about right and wrong.
//!
//! Nothing here waits for time to pass: a started server is up when it has said so, a process is over when it has ended. What never comes fails the test.
#![allow(clippy::unwrap_used, dead_code)]

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, ChildStderr, ChildStdout, Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

/// Longest that anything is waited for, on a machine that is busy with other tests. Then the test fails, and says what did not come.
const LONGEST: Duration = Duration::from_secs(200);
/// Between two looks at what is waited for.
const LOOK: Duration = Duration::from_millis(50);

/// Waits until something is so.
#[track_caller]
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < LONGEST, "{what}: not within {LONGEST:?}");
        std::thread::sleep(LOOK);
    }
}

/// A command of the program, in an environment without a word about Weir. `home` is where it would put things by default.
pub fn weir(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    clean(&mut command, home);
    command
}

/// Takes from a command's environment what would change the answers.
pub fn clean(command: &mut Command, home: &Path) {
    for variable in ["WEIR_DATA", "WEIR_URL", "WEIR_TOKEN", "WEIR_STREAM", "WEIR_STORE", "XDG_DATA_HOME"] {
        command.env_remove(variable);
    }
    command.env("HOME", home).stdin(Stdio::null());
}

/// What a command said.
#[derive(Debug)]
pub struct Said {
    /// Exit status; `None`: a signal ended it.
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Said {
    /// The last line of the answer.
    pub fn last_line(&self) -> &str {
        self.out.lines().last().unwrap_or_default()
    }

    /// Asserts the exit status.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "out: {}\nerr: {}", self.out, self.err);
        self
    }

    /// Asserts that the messages for people hold all of these.
    #[track_caller]
    pub fn complains(self, words: &[&str]) -> Self {
        for word in words {
            assert!(self.err.contains(word), "`{word}` is missing\nout: {}\nerr: {}", self.out, self.err);
        }
        self
    }

    /// The answer as one JSON object.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(self.out.trim()).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The answer as JSON, an object a line.
    #[track_caller]
    pub fn json_lines(&self) -> Vec<serde_json::Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// Runs a command to its end.
pub fn say(command: &mut Command) -> Said {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (over, waits) = mpsc::channel::<()>();
    let (id, name) = (child.id().to_string(), format!("{command:?}"));
    // One that does not end is ended, so that what it said is seen.
    let watching = std::thread::spawn(move || {
        let is_late = waits.recv_timeout(LONGEST) == Err(mpsc::RecvTimeoutError::Timeout);
        if is_late {
            let _ = Command::new("kill").args(["-KILL", &id]).status();
        }
        is_late
    });
    let output = child.wait_with_output().unwrap();
    drop(over);
    let said = said(output.status.code(), &output.stdout, &output.stderr);
    assert!(!watching.join().unwrap(), "{name} did not end within {LONGEST:?}: {said:?}");
    said
}

/// Runs a command to its end with these bytes on its standard input.
pub fn say_with_input(command: &mut Command, input: &[u8]) -> Said {
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.unwrap();
    let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_vec());
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    // A command that refuses does not read on.
    let _ = writer.join().unwrap();
    said(output.status.code(), &output.stdout, &output.stderr)
}

fn said(code: Option<i32>, out: &[u8], err: &[u8]) -> Said {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Said { code, out: text(out), err: text(err) }
}

/// A data folder and the commands on it.
pub struct Folder {
    pub root: tempfile::TempDir,
    pub data: PathBuf,
}

impl Folder {
    pub fn new() -> Self {
        let mut root = tempfile::tempdir().unwrap();
        // For looking into what a failure left behind.
        root.disable_cleanup(std::env::var_os("WEIR_KEEP").is_some());
        let data = root.path().join("data");
        Self { root, data }
    }

    /// A path beside the data folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Writes a file beside the data folder.
    pub fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// A command on the data folder.
    pub fn command(&self, name: &str) -> Command {
        let mut command = weir(self.root.path());
        command.arg(name).arg("--data").arg(&self.data);
        command
    }

    /// A command with arguments, run to its end.
    pub fn run<S: AsRef<OsStr>>(&self, name: &str, arguments: impl IntoIterator<Item = S>) -> Said {
        say(self.command(name).args(arguments))
    }

    /// `weir ingest`, run to its end.
    pub fn ingest<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Said {
        self.run("ingest", arguments)
    }

    /// Asserts that verify finds no difference; its answer.
    #[track_caller]
    pub fn verifies(&self) -> serde_json::Value {
        let report = self.run("verify", ["--json"]).exits(0).json();
        assert_eq!(report["differences"], 0, "{report}");
        report
    }

    /// Starts `weir up` on a free port, and returns once it has said where it serves.
    pub fn up<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Server {
        Server::start(self.command("up").args(["--listen", "127.0.0.1:0"]).args(arguments))
    }
}

/// A running `weir up` or `weir demo`. Dropped, it is killed.
pub struct Server {
    pub child: Child,
    pub url: String,
    /// What it printed until then.
    pub begun: String,
    out: BufReader<ChildStdout>,
    err: ChildStderr,
}

impl Server {
    /// Starts it and waits until it has said where it serves.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut err = child.stderr.take().unwrap();
        let mut begun = String::new();
        let url = loop {
            let mut line = String::new();
            let ended = out.read_line(&mut line).unwrap() == 0;
            begun.push_str(&line);
            if ended {
                let mut why = String::new();
                err.read_to_string(&mut why).unwrap();
                panic!("it does not serve: {begun}{why}");
            }
            if line.contains(" serves http://") {
                break line.split_whitespace().find(|word| word.starts_with("http://")).unwrap().to_owned();
            }
        };
        Self { url, child, begun, out, err }
    }

    /// Sends a signal, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(status.unwrap().success());
    }

    /// Waits for its end.
    pub fn end(mut self) -> Said {
        let (mut out, mut err) = (std::mem::take(&mut self.begun).into_bytes(), vec![]);
        self.out.read_to_end(&mut out).unwrap();
        self.err.read_to_end(&mut err).unwrap();
        said(self.child.wait().unwrap().code(), &out, &err)
    }

    /// Tells it to drain, and waits for its end.
    pub fn stop(self) -> Said {
        self.signal("TERM");
        self.end()
    }

    /// Waits until all lines of a run can be read; what became of them. Somebody who waits makes the process commit at once.
    #[track_caller]
    pub fn settles(&self, run: &str) -> serde_json::Value {
        let mut balance = serde_json::Value::Null;
        until(&format!("the lines of {run} are folded"), || {
            balance = self.get(&format!("/runs/{run}")).json();
            balance["settled"] == true
        });
        balance
    }

    /// A request without a body.
    pub fn get(&self, path: &str) -> Answer {
        request(&self.url, "GET", path, &[])
    }

    /// A request with a body.
    pub fn post(&self, path: &str, body: &[u8]) -> Answer {
        request(&self.url, "POST", path, body)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the API answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Answer {
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// One HTTP request as plain as curl's, over its own connection, with none of the program's own code.
pub fn request(url: &str, method: &str, path: &str, body: &[u8]) -> Answer {
    let host = url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    // Who refuses need not read the body.
    let _ = stream.write_all(body);
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let status = line.split(' ').nth(1).unwrap_or_else(|| panic!("no status: {line}")).parse().unwrap();
    let mut headers = BTreeMap::new();
    loop {
        line.clear();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    assert!(!headers.contains_key("transfer-encoding"), "an answer in chunks: {headers:?}");
    let mut body = String::new();
    reader.read_to_string(&mut body).unwrap();
    Answer { status, headers, body }
}
