//! A bucket with one object of any length over HTTP, whose bytes are made up as they are asked for, and some ranges of which may be held back. Decides
//! what S3 would answer, as its API reference says; nothing of it lies on a disk or in memory.
#![allow(dead_code, reason = "each test takes what it needs")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    ops::Range,
    sync::{Arc, Condvar, Mutex},
};

/// Every line of the object; the last is cut where the object ends.
pub const LINE: &[u8] = b"{\"timestamp\":\"2026-01-01T00:00:00Z\",\"service\":\"app\",\"status\":200,\"latency_ms\":12,\"text\":\"a line of some length, as many are\"}\n";
/// Its bytes are copied from a block of whole lines.
const BLOCK_LINES: usize = 8 << 10;
const ETAG: &str = "0123456789abcdef0123456789abcdef";

#[derive(Debug)]
struct State {
    /// Ranges that were asked for.
    asked: Vec<Range<u64>>,
    /// Ranges that reach this byte are not answered.
    held_from: u64,
}

#[derive(Clone)]
pub struct Ranges {
    pub endpoint: String,
    length: u64,
    block: Arc<[u8]>,
    state: Arc<(Mutex<State>, Condvar)>,
}

impl Ranges {
    /// One that serves an object of so many bytes, under any name.
    pub fn start(length: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let state = State { asked: vec![], held_from: u64::MAX };
        let ranges = Self {
            endpoint,
            length,
            block: LINE.repeat(BLOCK_LINES).into(),
            state: Arc::new((Mutex::new(state), Condvar::new())),
        };
        let of_server = ranges.clone();
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let (ranges, socket) = (of_server.clone(), socket.unwrap());
                // A client that goes away ends its connection.
                std::thread::spawn(move || drop(ranges.converse(socket)));
            }
        });
        ranges
    }

    /// Ranges that reach this byte wait from now on, until a later byte is named.
    pub fn hold_from(&self, byte: u64) {
        self.state.0.lock().unwrap().held_from = byte;
        self.state.1.notify_all();
    }

    /// The ranges that were asked for since this was last called.
    pub fn asked(&self) -> Vec<Range<u64>> {
        std::mem::take(&mut self.state.0.lock().unwrap().asked)
    }

    /// Waits until a range that reaches this byte is asked for.
    pub fn wait_for(&self, byte: u64) {
        let mut state = self.state.0.lock().unwrap();
        while !state.asked.iter().any(|range| range.end > byte) {
            state = self.state.1.wait(state).unwrap();
        }
    }

    fn converse(&self, socket: TcpStream) -> std::io::Result<()> {
        socket.set_nodelay(true)?;
        let (mut writer, mut reader) = (socket.try_clone()?, BufReader::new(socket));
        let mut line = String::new();
        while reader.read_line(&mut line)? > 0 {
            let (mut range, mut body) = (0..self.length, 0);
            loop {
                let mut header = String::new();
                reader.read_line(&mut header)?;
                let Some((name, value)) = header.trim_end().split_once(": ") else { break };
                match name.to_ascii_lowercase().as_str() {
                    "range" => {
                        let (from, through) = value.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
                        range = from.parse().unwrap()..(through.parse::<u64>().unwrap() + 1).min(self.length);
                    }
                    "content-length" => body = value.parse().unwrap(),
                    _ => {}
                }
            }
            reader.by_ref().take(body).read_to_end(&mut vec![])?;
            assert!(line.starts_with("GET "), "{line}");
            line.clear();
            self.wait_for_turn(&range);
            self.answer(&mut writer, range)?;
        }
        Ok(())
    }

    fn wait_for_turn(&self, range: &Range<u64>) {
        let mut state = self.state.0.lock().unwrap();
        state.asked.push(range.clone());
        self.state.1.notify_all();
        while range.end > state.held_from {
            state = self.state.1.wait(state).unwrap();
        }
    }

    fn answer(&self, writer: &mut TcpStream, range: Range<u64>) -> std::io::Result<()> {
        let Self { length, block, .. } = self;
        write!(
            writer,
            "HTTP/1.1 206 X\r\nContent-Length: {}\r\nETag: \"{ETAG}\"\r\nLast-Modified: Thu, 01 Jan 2026 00:06:40 GMT\r\nContent-Range: bytes {}-{}/{length}\r\n\r\n",
            range.end - range.start,
            range.start,
            range.end - 1
        )?;
        let mut at = range.start;
        while at < range.end {
            let from = (at % block.len() as u64) as usize;
            let count = (block.len() - from).min((range.end - at) as usize);
            writer.write_all(&block[from..from + count])?;
            at += count as u64;
        }
        Ok(())
    }
}
