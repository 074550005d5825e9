//! An S3 of one bucket over HTTP, whose faults are scripted: what no emulator does. Decides what the service would answer, as its API reference says;
//! knows nothing of the adapter.
#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use xxhash_rust::xxh3::xxh3_64;

use super::Bucket;
use crate::ingest::notified::decoded;

/// What happens to one call.
#[derive(Debug, Clone)]
pub enum Act {
    /// It is answered as it should be.
    Fine,
    /// This is said, with the region in which the bucket lies if there is one.
    Error(u16, &'static str, Option<&'static str>),
    /// The answer's body ends after so many bytes, with the connection.
    Cut(usize),
    /// The connection is closed without an answer.
    Lose,
    /// No answer ever comes.
    Hang,
    /// Before the answer is made, an object is put or, without bytes, deleted.
    Change(&'static str, Option<Vec<u8>>),
}

/// A call that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub method: String,
    pub key: String,
    pub query: BTreeMap<String, String>,
    pub range: Option<(u64, u64)>,
    pub if_match: Option<String>,
    /// Who asks says so that it pays.
    pub pays: bool,
}

#[derive(Debug, Default)]
pub struct State {
    objects: BTreeMap<String, Arc<Vec<u8>>>,
    /// What happens to the next calls that name an object, and to the next lists.
    pub script: VecDeque<Act>,
    pub lists: VecDeque<Act>,
    pub calls: Vec<Call>,
    /// The owner has its readers pay.
    pub readers_pay: bool,
    /// Ranges that reach this byte are never answered.
    pub silent_from: Option<u64>,
    /// Keys of a page of a list.
    pub page: usize,
    /// It keeps versions: each has the number of its put.
    pub keeps_versions: bool,
    versions: BTreeMap<(String, String), Arc<Vec<u8>>>,
    current: BTreeMap<String, String>,
}

impl State {
    fn put(&mut self, key: &str, bytes: Vec<u8>) {
        let bytes = Arc::new(bytes);
        if self.keeps_versions {
            let version = format!("v{}", self.versions.len() + 1);
            self.versions.insert((key.into(), version.clone()), bytes.clone());
            self.current.insert(key.into(), version);
        }
        self.objects.insert(key.into(), bytes);
    }
}

pub struct Scripted {
    endpoint: String,
    state: Arc<Mutex<State>>,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.server.abort();
    }
}

pub fn etag(bytes: &[u8]) -> String {
    format!("{:032x}", xxh3_64(bytes))
}

impl Scripted {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State { page: 1000, ..State::default() }));
        let server = tokio::spawn(serve(listener, state.clone()));
        Self { endpoint, state, server }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn put(&self, key: &str, bytes: impl Into<Vec<u8>>) {
        self.state().put(key, bytes.into());
    }

    pub fn delete(&self, key: &str) {
        self.state().objects.remove(key);
    }

    /// What happens to the next calls that name an object.
    pub fn next(&self, acts: impl IntoIterator<Item = Act>) {
        self.state().script.extend(acts);
    }

    pub fn calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.state().calls)
    }

    /// The bucket, by a real client.
    pub fn bucket(&self) -> Bucket {
        let settings = emulators::settings!(aws_sdk_s3, &self.endpoint).force_path_style(true);
        Bucket::new(aws_sdk_s3::Client::from_conf(settings.build()), "logs")
    }
}

async fn serve(listener: TcpListener, state: Arc<Mutex<State>>) {
    let mut connections = JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let state = state.clone();
        connections.spawn(async move {
            // A client that goes away ends its connection.
            let _ = converse(socket, state).await;
        });
    }
}

async fn converse(socket: TcpStream, state: Arc<Mutex<State>>) -> std::io::Result<()> {
    let mut socket = BufReader::new(socket);
    loop {
        let mut line = String::new();
        if socket.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let (method, target) = line.split_once(' ').unwrap();
        let target = target.rsplit_once(' ').unwrap().0.to_owned();
        let (mut headers, method) = (BTreeMap::new(), method.to_owned());
        loop {
            let mut line = String::new();
            socket.read_line(&mut line).await?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        socket.read_exact(&mut body).await?;
        let call = read(method, &target, &headers);
        let act = {
            let mut state = state.lock().unwrap();
            state.calls.push(call.clone());
            let is_silent = state.silent_from.is_some_and(|from| call.range.is_some_and(|range| range.1 >= from));
            let script = if call.key.is_empty() { &mut state.lists } else { &mut state.script };
            if is_silent { Act::Hang } else { script.pop_front().unwrap_or(Act::Fine) }
        };
        let (answer, cut) = match act {
            Act::Lose => return Ok(()),
            Act::Hang => std::future::pending().await,
            Act::Error(status, code, region) => (error(status, code, region), None),
            Act::Cut(bytes) => (answer(&state, &call, &headers, body), Some(bytes)),
            Act::Change(key, bytes) => {
                let mut changed = state.lock().unwrap();
                match bytes {
                    Some(bytes) => changed.put(key, bytes),
                    None => drop(changed.objects.remove(key)),
                }
                drop(changed);
                (answer(&state, &call, &headers, body), None)
            }
            Act::Fine => (answer(&state, &call, &headers, body), None),
        };
        let (head, body) = answer;
        socket.write_all(head.as_bytes()).await?;
        socket.write_all(&body[..cut.unwrap_or(body.len()).min(body.len())]).await?;
        socket.flush().await?;
        if cut.is_some() {
            return Ok(());
        }
    }
}

fn read(method: String, target: &str, headers: &BTreeMap<String, String>) -> Call {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let range = headers.get("range").and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
    Call {
        method,
        key: decoded(path.strip_prefix("/logs").unwrap().trim_start_matches('/')),
        query: pairs.map(|(name, value)| (name.to_owned(), decoded(value))).collect(),
        range: range.map(|(from, to)| (from.parse().unwrap(), to.parse().unwrap())),
        if_match: headers.get("if-match").cloned(),
        pays: headers.get("x-amz-request-payer").is_some_and(|payer| payer == "requester"),
    }
}

type Answer = (String, Vec<u8>);

fn said(status: u16, headers: &str, body: Vec<u8>) -> Answer {
    (format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n{headers}\r\n", body.len()), body)
}

fn error(status: u16, code: &str, region: Option<&str>) -> Answer {
    let region = region.map_or(String::new(), |region| format!("x-amz-bucket-region: {region}\r\n"));
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>as scripted</Message></Error>");
    said(status, &format!("{region}Content-Type: application/xml\r\n"), body.into())
}

fn answer(state: &Mutex<State>, call: &Call, headers: &BTreeMap<String, String>, body: Vec<u8>) -> Answer {
    let mut state = state.lock().unwrap();
    if state.readers_pay && !call.pays {
        return error(403, "AccessDenied", None);
    }
    if call.method == "PUT" {
        if headers.contains_key("if-none-match") && state.objects.contains_key(&call.key) {
            return error(412, "PreconditionFailed", None);
        }
        state.put(&call.key, body);
        return said(200, "", vec![]);
    }
    if call.key.is_empty() {
        return list(&state, call);
    }
    let version = call.query.get("versionId").cloned();
    let bytes = match &version {
        Some(version) => state.versions.get(&(call.key.clone(), version.clone())),
        None => state.objects.get(&call.key),
    };
    let Some(bytes) = bytes else { return error(404, "NoSuchKey", None) };
    let tag = format!("\"{}\"", etag(bytes));
    if call.if_match.as_ref().is_some_and(|wanted| *wanted != tag) {
        return error(412, "PreconditionFailed", None);
    }
    let version = version.or_else(|| state.current.get(&call.key).cloned());
    let version = version.map_or(String::new(), |version| format!("x-amz-version-id: {version}\r\n"));
    let about = format!("ETag: {tag}\r\nLast-Modified: Thu, 01 Jan 2026 00:06:40 GMT\r\n{version}");
    if call.method == "HEAD" {
        return (format!("HTTP/1.1 200 X\r\nContent-Length: {}\r\n{about}\r\n", bytes.len()), vec![]);
    }
    let (from, through) = call.range.unwrap();
    let total = bytes.len() as u64;
    if from >= total {
        return error(416, "InvalidRange", None);
    }
    let to = (through + 1).min(total);
    let about = format!("{about}Content-Range: bytes {from}-{}/{total}\r\n", to - 1);
    said(206, &about, bytes[from as usize..to as usize].to_vec())
}

fn list(state: &State, call: &Call) -> Answer {
    let prefix = &call.query["prefix"];
    assert_eq!(call.query["encoding-type"], "url");
    let after = call.query.get("continuation-token").map(|token| decoded(token)).unwrap_or_default();
    let keys = state.objects.iter().filter(|(key, _)| key.starts_with(prefix.as_str()) && **key > after);
    let page: Vec<_> = keys.clone().take(state.page).collect();
    let more = keys.count() > page.len();
    let one = |(key, bytes): &(&String, &Arc<Vec<u8>>)| {
        let key: String = key
            .bytes()
            .map(|byte| match byte {
                b' ' => "+".to_owned(),
                byte if byte.is_ascii_alphanumeric() || b"-_.*/".contains(&byte) => char::from(byte).to_string(),
                byte => format!("%{byte:02X}"),
            })
            .collect();
        format!(
            "<Contents><Key>{key}</Key><LastModified>2026-01-01T00:06:40.000Z</LastModified><ETag>&quot;{}&quot;</ETag><Size>{}</Size></Contents>",
            etag(bytes),
            bytes.len()
        )
    };
    let token = |key: &str| key.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    let next = page.last().filter(|_| more).map(|(key, _)| token(key));
    let next = next.map_or(String::new(), |token| format!("<NextContinuationToken>{token}</NextContinuationToken>"));
    let body = format!(
        "<?xml version=\"1.0\"?><ListBucketResult>{}<IsTruncated>{more}</IsTruncated>{next}</ListBucketResult>",
        page.iter().map(one).collect::<String>()
    );
    said(200, "Content-Type: application/xml\r\n", body.into())
}
