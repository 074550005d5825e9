//! A Kinesis of one stream over HTTP, whose faults are scripted. It keeps the port's laws itself (`tests/laws.rs` runs them), so that what a test finds is
//! the adapter's. Decides what the service would answer; knows nothing of the adapter.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
    time::{SystemTime, UNIX_EPOCH},
};

use md5::{Digest, Md5};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::base64;

/// What happens to one call.
#[derive(Debug, Clone)]
pub enum Act {
    /// Nothing is done, and this is said.
    Error(u16, &'static str, &'static str),
    /// Of a PutRecords call, these are not taken, each with its code.
    FailRecords(Vec<(usize, &'static str)>),
    /// Nothing is done, and the connection is closed.
    Reset,
    /// It is done, and the connection is closed without an answer.
    Lose,
    /// It is done, and the connection is closed within the answer.
    Cut,
    /// It is done, and no answer ever comes.
    Hang,
    /// A GetRecords call gives nothing and says how far behind that is.
    Empty(i64),
}

#[derive(Debug, Clone)]
pub struct Rec {
    pub key: String,
    pub data: Vec<u8>,
    pub at_ms: i64,
}

#[derive(Debug, Default)]
pub struct Shard {
    pub id: String,
    pub from: u128,
    pub through: u128,
    pub parents: Vec<String>,
    pub closed: bool,
    /// The number of the first record that is kept.
    pub first: usize,
    pub records: VecDeque<Rec>,
}

impl Shard {
    fn end(&self) -> usize {
        self.first + self.records.len()
    }
}

#[derive(Debug, Default)]
pub struct State {
    pub status: Option<&'static str>,
    pub retention_hours: i64,
    pub shards: Vec<Shard>,
    pub script: HashMap<&'static str, VecDeque<Act>>,
    /// For calls that the script has nothing for.
    pub always: HashMap<&'static str, Act>,
    /// Name and body of each call, in order.
    pub calls: Vec<(String, Value)>,
    /// Shards of a page of ListShards.
    pub page: usize,
    /// Most PutRecords calls that were under way together.
    pub together_max: usize,
    together: usize,
    clock_ms: i64,
}

pub struct Scripted {
    pub endpoint: String,
    state: Arc<Mutex<State>>,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.server.abort();
    }
}

pub fn sequence(number: usize) -> String {
    format!("495903382714902566085596{:032}", number + 1)
}

fn number(sequence: &str) -> Option<usize> {
    sequence.strip_prefix("495903382714902566085596")?.parse::<usize>().ok()?.checked_sub(1)
}

type Said = Result<Value, (u16, &'static str, String)>;

fn refuse(code: &'static str, message: impl Into<String>) -> Said {
    Err((400, code, message.into()))
}

impl Scripted {
    /// A stream of so many open shards.
    pub async fn start(shards: usize) -> Self {
        let mut state = State { status: Some("ACTIVE"), retention_hours: 24, page: 1000, ..State::default() };
        state.make_shards(shards);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(state));
        let server = tokio::spawn(serve(listener, state.clone()));
        Self { endpoint, state, server }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// What happens to the next calls of this name.
    pub fn next(&self, call: &'static str, acts: impl IntoIterator<Item = Act>) {
        self.state().script.entry(call).or_default().extend(acts);
    }

    /// The bodies of all calls of this name.
    pub fn calls(&self, call: &str) -> Vec<Value> {
        self.state().calls.iter().filter(|(name, _)| name == call).map(|(_, body)| body.clone()).collect()
    }

    /// Nobody listens any more.
    pub async fn stop(&mut self) {
        self.server.abort();
        let _ = (&mut self.server).await;
    }
}

async fn serve(listener: TcpListener, state: Arc<Mutex<State>>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((socket, _)) = listener.accept().await else { return };
        connections.spawn(connection(socket, state.clone()));
    }
}

async fn connection(socket: TcpStream, state: Arc<Mutex<State>>) -> Option<()> {
    let mut socket = BufReader::new(socket);
    loop {
        let (name, body) = request(&mut socket).await?;
        let act = {
            let mut state = state.lock().unwrap();
            state.calls.push((name.clone(), body.clone()));
            let next = state.script.get_mut(name.as_str()).and_then(VecDeque::pop_front);
            next.or_else(|| state.always.get(name.as_str()).cloned())
        };
        if name == "PutRecords" {
            let mut state = state.lock().unwrap();
            state.together += 1;
            state.together_max = state.together_max.max(state.together);
        }
        for _ in 0..50 {
            // Others get their turn while this call is under way.
            tokio::task::yield_now().await;
        }
        let said = match &act {
            Some(Act::Error(status, code, message)) => Err((*status, *code, (*message).to_owned())),
            Some(Act::Reset) => return None,
            act => state.lock().unwrap().answer(&name, &body, act.as_ref()),
        };
        if name == "PutRecords" {
            state.lock().unwrap().together -= 1;
        }
        let (status, text) = match said {
            Ok(value) => (200, value.to_string()),
            Err((status, code, message)) => (status, json!({"__type": code, "message": message}).to_string()),
        };
        let head = format!(
            "HTTP/1.1 {status} X\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: {}\r\n\r\n",
            text.len()
        );
        match act {
            Some(Act::Lose) => return None,
            Some(Act::Hang) => std::future::pending::<()>().await,
            Some(Act::Cut) => {
                socket.get_mut().write_all((head + &text[..text.len() / 2]).as_bytes()).await.ok()?;
                return None;
            }
            _ => socket.get_mut().write_all((head + &text).as_bytes()).await.ok()?,
        }
    }
}

/// Name and body of the next call; `None`: the client went away.
async fn request(socket: &mut BufReader<TcpStream>) -> Option<(String, Value)> {
    let (mut name, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if socket.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        if line.trim().is_empty() {
            break;
        }
        let Some((header, value)) = line.split_once(':') else { continue };
        match header.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap(),
            "x-amz-target" => name = value.trim().rsplit('.').next().unwrap().to_owned(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    socket.read_exact(&mut body).await.ok()?;
    Some((name, serde_json::from_slice(&body).unwrap()))
}

impl State {
    pub fn make_shards(&mut self, count: usize) {
        let width = u128::MAX / count as u128;
        for i in 0..count {
            let through = if i + 1 == count { u128::MAX } else { width * (i as u128 + 1) - 1 };
            self.shards.push(Shard {
                id: format!("shardId-{i:012}"),
                from: width * i as u128,
                through,
                ..Shard::default()
            });
        }
    }

    fn now_ms(&mut self) -> i64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
        self.clock_ms = self.clock_ms.max(now);
        self.clock_ms
    }

    fn answer(&mut self, name: &str, body: &Value, act: Option<&Act>) -> Said {
        if self.status.is_none() && name != "CreateStream" {
            return refuse("ResourceNotFoundException", "Stream under account 0 not found.");
        }
        match name {
            "DescribeStreamSummary" => Ok(self.describe(body)),
            "CreateStream" => {
                if self.status.is_some() {
                    return refuse("ResourceInUseException", "Stream already exists.");
                }
                self.status = Some("CREATING");
                Ok(json!({}))
            }
            "ListShards" => self.list(body),
            "PutRecords" => Ok(self.put(body, act)),
            "GetShardIterator" => self.iterator(body),
            "GetRecords" => self.get(body, act),
            other => refuse("UnknownOperationException", other),
        }
    }

    fn describe(&mut self, body: &Value) -> Value {
        let status = self.status.unwrap();
        if status == "CREATING" {
            self.status = Some("ACTIVE");
        }
        json!({"StreamDescriptionSummary": {
            "StreamName": body["StreamName"], "StreamARN": "arn:aws:kinesis:us-east-1:0:stream/x", "StreamStatus": status,
            "RetentionPeriodHours": self.retention_hours, "StreamCreationTimestamp": 1.7e9, "OpenShardCount": self.shards.len(),
            "EnhancedMonitoring": [],
        }})
    }

    fn list(&self, body: &Value) -> Said {
        let from: usize = match body["NextToken"].as_str() {
            Some(_) if !body["StreamName"].is_null() => {
                return refuse("InvalidArgumentException", "NextToken and StreamName cannot be provided together.");
            }
            Some(token) => token.parse().unwrap(),
            None => 0,
        };
        let shard = |shard: &Shard| {
            let mut range = json!({"StartingSequenceNumber": sequence(0)});
            if shard.closed {
                range["EndingSequenceNumber"] = json!(sequence(shard.end() + 1_000_000));
            }
            let mut value = json!({"ShardId": shard.id, "SequenceNumberRange": range, "HashKeyRange": {
                "StartingHashKey": shard.from.to_string(), "EndingHashKey": shard.through.to_string()}});
            for (name, parent) in ["ParentShardId", "AdjacentParentShardId"].iter().zip(&shard.parents) {
                value[*name] = json!(parent);
            }
            value
        };
        let to = self.shards.len().min(from + self.page);
        let mut answer = json!({"Shards": self.shards[from..to].iter().map(shard).collect::<Vec<_>>()});
        if to < self.shards.len() {
            answer["NextToken"] = json!(to.to_string());
        }
        Ok(answer)
    }

    fn put(&mut self, body: &Value, act: Option<&Act>) -> Value {
        let at_ms = self.now_ms();
        let mut failed = 0;
        let mut answers = vec![];
        for (i, record) in body["Records"].as_array().unwrap().iter().enumerate() {
            if let Some(Act::FailRecords(which)) = act
                && let Some((_, code)) = which.iter().find(|(index, _)| *index == i)
            {
                failed += 1;
                answers.push(json!({"ErrorCode": code, "ErrorMessage": "scripted"}));
                continue;
            }
            let key = record["PartitionKey"].as_str().unwrap().to_owned();
            let hash = match record["ExplicitHashKey"].as_str() {
                Some(hash) => hash.parse().unwrap(),
                None => u128::from_be_bytes(Md5::digest(key.as_bytes()).into()),
            };
            let owns = |shard: &&mut Shard| !shard.closed && shard.from <= hash && hash <= shard.through;
            let shard = self.shards.iter_mut().find(owns).unwrap();
            answers.push(json!({"ShardId": shard.id, "SequenceNumber": sequence(shard.end())}));
            let data = base64::decode(record["Data"].as_str().unwrap());
            shard.records.push_back(Rec { key, data, at_ms });
        }
        json!({"FailedRecordCount": failed, "Records": answers})
    }

    fn iterator(&mut self, body: &Value) -> Said {
        let now_ms = self.now_ms();
        let id = body["ShardId"].as_str().unwrap();
        let Some(shard) = self.shards.iter().find(|shard| shard.id == id) else {
            return refuse(
                "ResourceNotFoundException",
                format!("Shard {id} in stream x under account 0 does not exist"),
            );
        };
        let asked = || number(body["StartingSequenceNumber"].as_str().unwrap());
        let at = match body["ShardIteratorType"].as_str().unwrap() {
            "TRIM_HORIZON" => Some(0),
            "LATEST" => Some(shard.end()),
            "AT_SEQUENCE_NUMBER" => asked(),
            "AFTER_SEQUENCE_NUMBER" => asked().map(|number| number + 1),
            _ => {
                let since_ms = (body["Timestamp"].as_f64().unwrap() * 1000.0).round() as i64;
                if since_ms > now_ms {
                    return refuse("InvalidArgumentException", "The timestamp cannot be greater than the current one.");
                }
                Some(shard.first + shard.records.iter().take_while(|record| record.at_ms < since_ms).count())
            }
        };
        let Some(at) = at else { return refuse("InvalidArgumentException", "StartingSequenceNumber is invalid") };
        Ok(json!({"ShardIterator": format!("{id}|{at}")}))
    }

    fn get(&mut self, body: &Value, act: Option<&Act>) -> Said {
        let token = body["ShardIterator"].as_str().unwrap();
        let (id, at) = token.split_once('|').unwrap();
        let shard = self.shards.iter().find(|shard| shard.id == id).unwrap();
        if let Some(Act::Empty(behind)) = act {
            return Ok(json!({"Records": [], "NextShardIterator": token, "MillisBehindLatest": behind}));
        }
        // What was trimmed is passed over in silence.
        let at = at.parse::<usize>().unwrap().max(shard.first);
        let limit = body["Limit"].as_u64().unwrap_or(10_000) as usize;
        let page: Vec<(usize, &Rec)> =
            (at..shard.end()).map(|n| (n, &shard.records[n - shard.first])).take(limit).collect();
        let to = at + page.len();
        let behind = shard.records.back().map_or(0, |newest| {
            let end = page.last().map_or(newest.at_ms, |(_, record)| record.at_ms);
            if to < shard.end() { (newest.at_ms - end).max(1) } else { 0 }
        });
        let record = |(n, record): &(usize, &Rec)| {
            json!({"SequenceNumber": sequence(*n), "PartitionKey": record.key, "Data": base64::encode(&record.data),
                "ApproximateArrivalTimestamp": record.at_ms as f64 / 1000.0})
        };
        let records: Vec<Value> = page.iter().map(record).collect();
        let mut answer = json!({"Records": records, "MillisBehindLatest": behind});
        if shard.closed && to >= shard.end() {
            let children = self.shards.iter().filter(|child| child.parents.iter().any(|parent| parent == id));
            let child = |child: &Shard| {
                json!({"ShardId": child.id, "ParentShards": child.parents, "HashKeyRange": {
                    "StartingHashKey": child.from.to_string(), "EndingHashKey": child.through.to_string()}})
            };
            answer["ChildShards"] = json!(children.map(child).collect::<Vec<_>>());
        } else {
            answer["NextShardIterator"] = json!(format!("{id}|{to}"));
        }
        Ok(answer)
    }
}
