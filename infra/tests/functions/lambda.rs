//! Lambda, as a function sees it: its environment, and the runtime API over HTTP (Lambda developer guide, "Using the Lambda runtime API"). One function
//! instance each. Decides nothing about right and wrong.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde_json::Value;

/// How long the tests wait for anything: then they fail.
const LONGEST: Duration = Duration::from_secs(120);

/// How an invocation ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Ended {
    /// With an answer.
    Answered(Value),
    /// With an error, in its words.
    Failed(String),
    /// The function's process ended before it answered.
    Died,
}

impl Ended {
    #[track_caller]
    pub fn answered(self) -> Value {
        match self {
            Self::Answered(answer) => answer,
            other => panic!("no answer: {other:?}"),
        }
    }

    #[track_caller]
    pub fn failed(self) -> String {
        match self {
            Self::Failed(why) => why,
            other => panic!("no error: {other:?}"),
        }
    }
}

#[derive(Default)]
struct State {
    /// The invocation that waits for the function, with its number and deadline.
    pending: Option<(u64, u64, String)>,
    ended: HashMap<u64, Ended>,
    /// The function asks for its next invocation.
    is_asking: bool,
    invocations: u64,
    /// Why it could not begin.
    init_error: Option<String>,
    is_closed: bool,
}

#[derive(Default)]
struct Api {
    state: Mutex<State>,
    changed: Condvar,
}

/// A function instance. Dropped, it is killed.
pub struct Function {
    api: Arc<Api>,
    pub child: Child,
    said: Arc<Mutex<String>>,
    /// They end when it has closed its outputs.
    collecting: Vec<JoinHandle<()>>,
}

impl Function {
    /// Starts a program of this package with what its environment says besides.
    pub fn start(program: &str, lead: impl FnOnce(&mut Command)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let api = Arc::<Api>::default();
        let mut command = Command::new(program);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("AWS_LAMBDA_RUNTIME_API", listener.local_addr().unwrap().to_string());
        command.env("AWS_LAMBDA_FUNCTION_NAME", "weir").env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST");
        command.env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512");
        lead(&mut command);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let said = Arc::<Mutex<String>>::default();
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let collecting = vec![collect(out, said.clone()), collect(err, said.clone())];
        let of_server = api.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (api, stream) = (of_server.clone(), stream.unwrap());
                if api.state.lock().unwrap().is_closed {
                    return;
                }
                // A connection ends when the function does.
                std::thread::spawn(move || {
                    let _ = serve(&api, stream);
                });
            }
        });
        Self { api, child, said, collecting }
    }

    /// Gives the function an event and waits for its end. `time`: how long it may take until its deadline.
    pub fn invoke(&mut self, event: &Value, time: Duration) -> Ended {
        let number = self.hand_over(event, time);
        self.wait(number)
    }

    /// Gives the function an event; the number of the invocation.
    pub fn hand_over(&mut self, event: &Value, time: Duration) -> u64 {
        let deadline = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + time;
        let mut state = self.api.state.lock().unwrap();
        state.invocations += 1;
        let number = state.invocations;
        state.pending = Some((number, deadline.as_millis() as u64, event.to_string()));
        self.api.changed.notify_all();
        number
    }

    /// Waits for an invocation's end.
    pub fn wait(&mut self, number: u64) -> Ended {
        let begun = Instant::now();
        let api = self.api.clone();
        let mut state = api.state.lock().unwrap();
        loop {
            if let Some(ended) = state.ended.remove(&number) {
                return ended;
            }
            if let Some(why) = state.init_error.take() {
                return Ended::Failed(why);
            }
            if self.child.try_wait().unwrap().is_some() {
                return Ended::Died;
            }
            assert!(begun.elapsed() < LONGEST, "no answer: {}", self.said());
            state = api.changed.wait_timeout(state, Duration::from_millis(20)).unwrap().0;
        }
    }

    /// Waits until the function asks for an invocation: it has begun, and has answered the one before.
    pub fn is_ready(&mut self) -> bool {
        let begun = Instant::now();
        let api = self.api.clone();
        let mut state = api.state.lock().unwrap();
        while !state.is_asking {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            assert!(begun.elapsed() < LONGEST, "it does not begin: {}", self.said());
            state = api.changed.wait_timeout(state, Duration::from_millis(5)).unwrap().0;
        }
        true
    }

    /// What it has written so far.
    pub fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// The lines of its log, once there are so many: they come on another way than answers do.
    pub fn log(&self, lines: usize) -> Vec<Value> {
        let begun = Instant::now();
        loop {
            let log: Vec<Value> = self.said().lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            if log.len() >= lines {
                return log;
            }
            assert!(begun.elapsed() < LONGEST, "it has said: {}", self.said());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for its end, and says what it has written.
    pub fn end(&mut self) -> String {
        self.child.wait().unwrap();
        self.collecting.drain(..).for_each(|collecting| collecting.join().unwrap());
        self.said()
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success(), "{name}");
    }

    /// Has it stand still, as on a host that has no time for it.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on.
    pub fn go_on(&self) {
        self.signal("-CONT");
    }

    /// Ends it as Lambda does with an instance that is out of time: at once.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.api.state.lock().unwrap().is_closed = true;
        self.api.changed.notify_all();
    }
}

fn collect(from: impl Read + Send + 'static, said: Arc<Mutex<String>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let mut said = said.lock().unwrap();
            said.push_str(&line);
            said.push('\n');
        }
    })
}

/// One request: method, path, body.
fn request(reader: &mut BufReader<TcpStream>) -> std::io::Result<Option<(String, String, Vec<u8>)>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    let (mut length, mut is_chunked) = (0, false);
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap(),
            "transfer-encoding" => is_chunked = value.trim() == "chunked",
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    if !is_chunked {
        return Ok(Some((method, path, body)));
    }
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let size = usize::from_str_radix(line.trim(), 16).unwrap();
        let before = body.len();
        body.resize(before + size, 0);
        reader.read_exact(&mut body[before..])?;
        line.clear();
        reader.read_line(&mut line)?;
        if size == 0 {
            break;
        }
    }
    Ok(Some((method, path, body)))
}

fn serve(api: &Api, stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut writer, mut reader) = (stream.try_clone()?, BufReader::new(stream));
    while let Some((method, path, body)) = request(&mut reader)? {
        let path = path.strip_prefix("/2018-06-01/runtime/").unwrap();
        if (method.as_str(), path) == ("GET", "invocation/next") {
            let mut state = api.state.lock().unwrap();
            state.is_asking = true;
            api.changed.notify_all();
            while state.pending.is_none() && !state.is_closed {
                state = api.changed.wait(state).unwrap();
            }
            let Some((number, deadline_ms, event)) = state.pending.take() else { return Ok(()) };
            state.is_asking = false;
            drop(state);
            write!(
                writer,
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nLambda-Runtime-Aws-Request-Id: {number}\r\nLambda-Runtime-Deadline-Ms: {deadline_ms}\r\n\
                 Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:us-east-1:000000000000:function:weir\r\nContent-Length: {}\r\n\r\n{event}",
                event.len()
            )?;
            continue;
        }
        let text = String::from_utf8(body).unwrap();
        let mut state = api.state.lock().unwrap();
        let why = || {
            let error: Value = serde_json::from_str(&text).unwrap();
            error["errorMessage"].as_str().unwrap().to_owned()
        };
        match path.split('/').collect::<Vec<_>>()[..] {
            ["invocation", number, "response"] => {
                let answer = serde_json::from_str(&text).unwrap();
                state.ended.insert(number.parse().unwrap(), Ended::Answered(answer));
            }
            ["invocation", number, "error"] => {
                state.ended.insert(number.parse().unwrap(), Ended::Failed(why()));
            }
            ["init", "error"] => state.init_error = Some(why()),
            _ => panic!("{method} {path}"),
        }
        api.changed.notify_all();
        drop(state);
        write!(writer, "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")?;
    }
    Ok(())
}
