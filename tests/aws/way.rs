//! A way to an emulator on which a test sees every call, and may keep it back, lose its answer or change it. Speaks HTTP/1.1 as far as the SDK and the
//! emulators do. Decides nothing about right and wrong.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

use serde_json::Value;

/// A call: what is asked, such as `PutRecords`, and with what.
pub struct Call {
    pub action: String,
    pub asked: Value,
}

/// What becomes of a call before it is made, and of its answer. What is pushed (`SubscribeToShard`) goes through as it comes.
pub trait Guard: Send {
    /// It is not made: this is the error that answers it.
    fn refuses(&mut self, _: &Call) -> Option<Value> {
        None
    }

    /// False: it is not made, and the connection breaks.
    fn goes(&mut self, _: &Call) -> bool {
        true
    }

    /// False: the emulator has done it, and the connection breaks.
    fn is_answered(&mut self, _: &Call, _: &mut Value) -> bool {
        true
    }
}

/// See the module.
pub struct Way<G> {
    pub endpoint: String,
    pub guard: Arc<Mutex<G>>,
}

impl<G: Guard + 'static> Way<G> {
    pub fn to(endpoint: &str, guard: G) -> Self {
        let there = endpoint.strip_prefix("http://").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let guard = Arc::new(Mutex::new(guard));
        let watching = guard.clone();
        std::thread::spawn(move || {
            for here in listener.incoming() {
                let (here, there, guard) = (here.unwrap(), there.clone(), watching.clone());
                // A connection ends when either side does, which is what a broken one looks like.
                std::thread::spawn(move || carry(here, &there, &*guard));
            }
        });
        Self { endpoint, guard }
    }
}

/// The head of a message, with its last empty line, and its body.
struct Message {
    head: Vec<String>,
    body: Vec<u8>,
}

impl Message {
    /// `None`: the other side has ended.
    fn read(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        let (mut head, mut length, mut is_chunked) = (vec![], None, false);
        loop {
            let mut line = String::new();
            if from.read_line(&mut line)? == 0 {
                return Ok(None);
            }
            let line = line.trim_end().to_owned();
            if line.is_empty() {
                break;
            }
            let lower = line.to_ascii_lowercase();
            length = lower.strip_prefix("content-length:").map_or(length, |value| value.trim().parse().ok());
            is_chunked |= lower.starts_with("transfer-encoding:") && lower.contains("chunked");
            head.push(line);
        }
        let mut body = vec![0; length.unwrap_or(0)];
        from.read_exact(&mut body)?;
        while is_chunked {
            let mut line = String::new();
            from.read_line(&mut line)?;
            let size = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
            let before = body.len();
            body.resize(before + size, 0);
            from.read_exact(&mut body[before..])?;
            from.read_line(&mut line)?;
            is_chunked = size > 0;
        }
        Ok(Some(Self { head, body }))
    }

    /// Sends it on, over a connection that is kept or not.
    fn write(&self, to: &mut impl Write, connection: &str) -> io::Result<()> {
        let is_ours = |line: &&String| {
            let lower = line.to_ascii_lowercase();
            !["content-length:", "transfer-encoding:", "connection:"].iter().any(|name| lower.starts_with(name))
        };
        let mut head: String = self.head.iter().filter(is_ours).map(|line| format!("{line}\r\n")).collect();
        head += &format!("Content-Length: {}\r\nConnection: {connection}\r\n\r\n", self.body.len());
        to.write_all(&[head.as_bytes(), &self.body].concat())
    }

    fn action(&self) -> String {
        let target = self.head.iter().find(|line| line.to_ascii_lowercase().starts_with("x-amz-target:"));
        target.and_then(|line| line.rsplit('.').next()).unwrap_or_default().to_owned()
    }
}

fn carry<G: Guard>(here: TcpStream, there: &str, guard: &Mutex<G>) -> io::Result<()> {
    let (mut reader, mut writer) = (BufReader::new(here.try_clone()?), here);
    while let Some(request) = Message::read(&mut reader)? {
        let call = Call { action: request.action(), asked: serde_json::from_slice(&request.body).unwrap_or_default() };
        if !guard.lock().unwrap().goes(&call) {
            return Ok(());
        }
        if let Some(error) = guard.lock().unwrap().refuses(&call) {
            let head = ["HTTP/1.1 400 Bad Request", "Content-Type: application/x-amz-json-1.1"].map(str::to_owned);
            let refused = Message { head: head.into(), body: error.to_string().into_bytes() };
            refused.write(&mut writer, "keep-alive")?;
            continue;
        }
        let mut emulator = TcpStream::connect(there)?;
        request.write(&mut emulator, "close")?;
        if call.action == "SubscribeToShard" {
            io::copy(&mut emulator, &mut writer)?;
            return Ok(());
        }
        let Some(mut answer) = Message::read(&mut BufReader::new(emulator))? else { return Ok(()) };
        let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let mut told = said.clone();
        if !guard.lock().unwrap().is_answered(&call, &mut told) {
            return Ok(());
        }
        if told != said {
            answer.body = told.to_string().into_bytes();
        }
        answer.write(&mut writer, "keep-alive")?;
    }
    Ok(())
}
