//! One run: batches on their way to the system, each sent until it is durable, and what became of all of them. Decides what is worth another try; reads
//! no file.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use events::{pack::Packed, position::ShardId};
use hyper::{Method, StatusCode};
use processor::ingest::{ReaderList, SendError, Sender};
use serde_json::Value;

use super::{Failure, client::Client};

/// About so many bytes of lines in a batch: a record holds 1 MiB with its header, and one group of lines may pass the target.
pub const BATCH_BYTES: usize = 512 << 10;
/// A batch that may not have arrived is sent again, so often.
const TRIES_MAX: u32 = 5;

/// Batches of one run, sent to the system.
pub struct Run<'a> {
    client: &'a Client,
    path: String,
    name: String,
    list: Option<Arc<ReaderList>>,
}

impl<'a> Run<'a> {
    /// A run with a name that nobody else uses.
    pub fn new(client: &'a Client) -> Self {
        let name = format!("{:016x}", random());
        Self { client, path: format!("/ingest?run={name}"), name, list: None }
    }

    /// Where its lines are sent.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The list hears how far the stream is.
    pub fn telling(self, list: Arc<ReaderList>) -> Self {
        Self { list: Some(list), ..self }
    }

    fn tell(&self, answer: &[u8]) {
        let (Some(list), Ok(answer)) = (&self.list, serde_json::from_slice::<Value>(answer)) else { return };
        for position in answer["positions"].as_array().into_iter().flatten() {
            let (Some(shard), Some(sequence)) = (position["shard"].as_str(), position["sequence"].as_str()) else {
                continue;
            };
            if let Ok(sequence) = sequence.parse() {
                list.acknowledged(ShardId::named(shard), sequence);
            }
        }
    }

    /// Waits until everything that was sent, and all that was durable before, is folded and readable.
    pub async fn settled(&self, sent: bool) -> Result<Value, Failure> {
        let path = format!("/runs/{}", self.name);
        loop {
            match self.client.answer(Method::GET, &path, Bytes::new()).await? {
                Ok(balance) if balance["settled"] != Value::Bool(false) => return Ok(balance),
                Ok(_) => {}
                // A run that sent nothing has no balance; it waits all the same for what an earlier one sent and did not see folded.
                Err(refused) if !sent && refused.is_nothing => return Ok(Value::Null),
                Err(refused) => return Err(refused.why),
            }
        }
    }
}

impl Sender for Run<'_> {
    async fn send(&self, packed: Packed) -> Result<(), SendError> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let why = match self.client.send(Method::POST, &self.path, packed.data.clone()).await {
                Ok((status, answer)) if status.is_success() => {
                    self.tell(&answer);
                    return Ok(());
                }
                Ok((status, body)) => {
                    let value: Value = serde_json::from_slice(&body).unwrap_or_default();
                    let message = value["error"]["message"].as_str().unwrap_or("no reason given");
                    let why = format!("{status}: {message}");
                    // What is wrong with the batch or the credential stays wrong; too many requests, a slow way and trouble of the server pass.
                    let passes = [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT].contains(&status);
                    if status.is_client_error() && !passes {
                        return Err(SendError::Unavailable(why));
                    }
                    why
                }
                Err(error) => error.to_string(),
            };
            if attempt == TRIES_MAX {
                return Err(SendError::Unavailable(why));
            }
            tokio::time::sleep(Duration::from_millis(100 << attempt)).await;
        }
    }
}

/// A number that nobody can foresee: the standard library's own seed for hash tables.
pub fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{
        io::{BufRead, BufReader, Write},
        net::TcpListener,
    };

    use super::*;

    /// Whoever waits for others is first told that it is late, and then that it is nobody's run, as it sent nothing.
    #[tokio::test]
    async fn a_run_that_sent_nothing_ends_well_once_what_was_there_before_is_folded() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let answers =
                [("200 OK", r#"{"settled":false}"#), ("404 Not Found", r#"{"error":{"message":"run is not known"}}"#)];
            for (status, body) in answers {
                let mut socket = listener.accept().unwrap().0;
                let lines = BufReader::new(socket.try_clone().unwrap()).lines();
                lines.map(Result::unwrap).take_while(|line| !line.is_empty()).for_each(drop);
                let length = body.len();
                write!(socket, "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
                    .unwrap();
            }
        });
        let client = Client::at(&url);
        assert_eq!(Run::new(&client).settled(false).await.unwrap(), Value::Null);
        server.join().unwrap();
    }
}
