//! A Kinesis of one shard whose subscriptions are scripted, as bytes of the event stream format (AWS SDK reference, "Event stream encoding"). Knows
//! nothing of the adapter.

use std::{
    collections::VecDeque,
    io,
    ops::Range,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::kinesis::tests::base64;

/// So much is there for whoever takes it.
pub const FLOOD_BYTES: usize = 256 << 20;
/// A writer that cannot go on for so long is stuck: nobody reads.
const STUCK_AFTER: Duration = Duration::from_millis(500);

/// How a subscription ends.
#[derive(Debug, Clone, Copy)]
pub enum Ends {
    /// Its five minutes are over.
    Over,
    /// The connection breaks within an event.
    CutInAnEvent,
}

/// What a subscription says.
#[derive(Debug, Clone)]
pub enum Sub {
    /// These, after the first answer.
    Events(Vec<Vec<u8>>, Ends),
    /// It does not come about.
    Refused(&'static str),
    /// The connection is closed without an answer.
    Reset,
    /// `FLOOD_BYTES` of records, as fast as they are taken.
    Flood,
}

pub fn sequence(number: u64) -> String {
    format!("495903382714902566085596{number:032}")
}

impl Sub {
    /// Records of these numbers, and where it goes on.
    pub fn event(numbers: Range<u64>, continuation: u64, behind_ms: u64) -> Vec<u8> {
        let records: Vec<Value> = numbers.map(|number| record(number, b"data")).collect();
        let told = json!({"Records": records, "ContinuationSequenceNumber": sequence(continuation), "MillisBehindLatest": behind_ms});
        frame("event", "SubscribeToShardEvent", &told)
    }

    /// The last records of the shard.
    pub fn end(numbers: Range<u64>) -> Vec<u8> {
        let records: Vec<Value> = numbers.clone().map(|number| record(number, b"data")).collect();
        let range = json!({"StartingHashKey": "0", "EndingHashKey": "1"});
        let child =
            json!({"ShardId": "shardId-000000000001", "ParentShards": ["shardId-000000000000"], "HashKeyRange": range});
        let told = json!({"Records": records, "ContinuationSequenceNumber": sequence(numbers.end), "MillisBehindLatest": 0, "ChildShards": [child]});
        frame("event", "SubscribeToShardEvent", &told)
    }

    pub fn exception(code: &str) -> Vec<u8> {
        frame("exception", code, &json!({"message": "as scripted"}))
    }
}

fn record(number: u64, data: &[u8]) -> Value {
    json!({
        "SequenceNumber": sequence(number), "ApproximateArrivalTimestamp": 1_700_000_000.5, "PartitionKey": "k",
        "Data": base64::encode(data),
    })
}

/// Two lengths and their checksum, headers, payload, and the checksum of all.
fn frame(kind: &str, name: &str, payload: &Value) -> Vec<u8> {
    let mut headers = vec![];
    let of_name = if kind == "exception" { ":exception-type" } else { ":event-type" };
    for (header, value) in [(":message-type", kind), (of_name, name), (":content-type", "application/json")] {
        headers.push(header.len() as u8);
        headers.extend(header.as_bytes());
        headers.push(7);
        headers.extend((value.len() as u16).to_be_bytes());
        headers.extend(value.as_bytes());
    }
    let payload = payload.to_string().into_bytes();
    let mut bytes = vec![];
    bytes.extend((16 + headers.len() as u32 + payload.len() as u32).to_be_bytes());
    bytes.extend((headers.len() as u32).to_be_bytes());
    bytes.extend(crc32(&bytes).to_be_bytes());
    bytes.extend(headers);
    bytes.extend(payload);
    bytes.extend(crc32(&bytes).to_be_bytes());
    bytes
}

/// CRC-32 as in gzip, a bit at a time.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

#[derive(Debug, Default)]
struct State {
    subs: VecDeque<Sub>,
    positions: Vec<String>,
}

pub struct Server {
    pub endpoint: String,
    state: Arc<Mutex<State>>,
    /// Bytes of a flood that were sent, and whether the writer waits.
    flood: watch::Receiver<(usize, bool)>,
}

impl Server {
    pub async fn start(subs: Vec<Sub>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State { subs: subs.into(), positions: vec![] }));
        let (sent, flood) = watch::channel((0, false));
        let (shared, sent) = (state.clone(), Arc::new(sent));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (state, sent) = (shared.clone(), sent.clone());
                tokio::spawn(async move {
                    // A client that goes away ends it.
                    let _ = serve(stream, state, sent).await;
                });
            }
        });
        Self { endpoint, state, flood }
    }

    /// Where each subscription was asked to begin.
    pub fn positions(&self) -> Vec<String> {
        self.state.lock().unwrap().positions.clone()
    }

    /// Waits until a flood cannot go on; how much was sent. `None`: all of it was.
    pub async fn stuck(&self) -> Option<usize> {
        let mut flood = self.flood.clone();
        let (sent, _) = *flood.wait_for(|(sent, waits)| *waits || *sent >= FLOOD_BYTES).await.unwrap();
        (sent < FLOOD_BYTES).then_some(sent)
    }
}

async fn serve(stream: TcpStream, state: Arc<Mutex<State>>, sent: Arc<watch::Sender<(usize, bool)>>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut call, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            let Some((name, value)) = line.trim_end().split_once(": ") else {
                if line.trim_end().is_empty() { break } else { continue }
            };
            match name.to_ascii_lowercase().as_str() {
                "x-amz-target" => call = value.rsplit('.').next().unwrap_or_default().to_owned(),
                "content-length" => length = value.parse().unwrap(),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        let body: Value = serde_json::from_slice(&body).unwrap();
        let answer = match call.as_str() {
            "SubscribeToShard" => return subscribe(stream.into_inner(), &body, &state, &sent).await,
            "DescribeStreamSummary" => json!({"StreamDescriptionSummary": {
                "StreamName": "scripted", "StreamARN": "arn:aws:kinesis:us-east-1:1:stream/scripted", "StreamStatus": "ACTIVE",
                "RetentionPeriodHours": 24, "StreamCreationTimestamp": 1.0, "EnhancedMonitoring": [], "OpenShardCount": 1,
            }}),
            "DescribeStreamConsumer" => json!({"ConsumerDescription": {
                "ConsumerName": "weir", "ConsumerARN": "arn:consumer", "ConsumerStatus": "ACTIVE", "ConsumerCreationTimestamp": 1.0,
                "StreamARN": "arn:aws:kinesis:us-east-1:1:stream/scripted",
            }}),
            "ListShards" => json!({"Shards": [{
                "ShardId": "shardId-000000000000", "HashKeyRange": {"StartingHashKey": "0", "EndingHashKey": u128::MAX.to_string()},
                "SequenceNumberRange": {"StartingSequenceNumber": sequence(0)},
            }]}),
            other => panic!("{other} is not scripted"),
        };
        stream.write_all(&plain(200, &answer)).await?;
    }
}

fn plain(status: u16, answer: &Value) -> Vec<u8> {
    let body = answer.to_string();
    let head = format!(
        "HTTP/1.1 {status} Told\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    (head + &body).into_bytes()
}

async fn subscribe(
    mut stream: TcpStream,
    body: &Value,
    state: &Mutex<State>,
    sent: &watch::Sender<(usize, bool)>,
) -> io::Result<()> {
    let sub = {
        let mut state = state.lock().unwrap();
        let position = &body["StartingPosition"];
        let at = position["SequenceNumber"].as_str().map(|at| format!(" {at}")).unwrap_or_default();
        state.positions.push(format!("{}{at}", position["Type"].as_str().unwrap()));
        state.subs.pop_front().expect("no more subscriptions are scripted")
    };
    let mut begin =
        b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.amazon.eventstream\r\nConnection: close\r\n\r\n".to_vec();
    begin.extend(frame("event", "initial-response", &json!({})));
    match sub {
        Sub::Reset => Ok(()),
        Sub::Refused(code) => stream.write_all(&plain(400, &json!({"__type": code, "message": "as scripted"}))).await,
        Sub::Events(events, ends) => {
            stream.write_all(&begin).await?;
            stream.write_all(&events.concat()).await?;
            if let Ends::CutInAnEvent = ends {
                let next = Sub::event(900..901, 900, 0);
                stream.write_all(&next[..next.len() / 2]).await?;
            }
            stream.shutdown().await
        }
        Sub::Flood => {
            stream.write_all(&begin).await?;
            let (mut total, mut number) = (0, 1);
            while total < FLOOD_BYTES {
                let told = json!({"Records": [record(number, &[b'x'; 256 << 10])], "ContinuationSequenceNumber": sequence(number), "MillisBehindLatest": 9});
                let bytes = frame("event", "SubscribeToShardEvent", &told);
                let mut writing = std::pin::pin!(stream.write_all(&bytes));
                if tokio::time::timeout(STUCK_AFTER, &mut writing).await.is_err() {
                    sent.send_replace((total, true));
                    writing.await?;
                }
                total += bytes.len();
                number += 1;
                sent.send_modify(|(sent, _)| *sent = total);
            }
            Ok(())
        }
    }
}
