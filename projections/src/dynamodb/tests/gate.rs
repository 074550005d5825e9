//! What stands between the client and a program that plays DynamoDB: it lets requests through, answers them itself, or cuts the connection before
//! or after they happened. It understands nothing but the name of the operation.

use std::sync::{Arc, Mutex};

use aws_sdk_dynamodb::{
    Client, Config,
    config::{BehaviorVersion, Credentials, Region, SharedHttpClient},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
};

/// One for all tests of the process: connections belong to the runtime on which they were made. Nobody need be inside it: who waits drives it.
pub(super) fn runtime() -> &'static Runtime {
    static ONE: std::sync::OnceLock<Runtime> = std::sync::OnceLock::new();
    ONE.get_or_init(|| Builder::new_current_thread().enable_all().build().unwrap())
}

pub(super) fn wait<F: Future>(future: F) -> F::Output {
    runtime().block_on(future)
}

pub(super) fn client(endpoint: &str) -> Client {
    let credentials = Credentials::new("test", "a secret of the test", None, None, "test");
    Client::from_conf(config(endpoint).credentials_provider(credentials).build())
}

/// Without credentials.
pub(super) fn config(endpoint: &str) -> aws_sdk_dynamodb::config::Builder {
    static HTTP: std::sync::OnceLock<SharedHttpClient> = std::sync::OnceLock::new();
    let http = HTTP.get_or_init(|| aws_smithy_http_client::Builder::new().build_http());
    Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .http_client(http.clone())
        .endpoint_url(endpoint)
}

/// A request on its way.
#[derive(Debug, Clone)]
pub(super) struct Request {
    /// Such as `PutItem`.
    pub(super) operation: String,
    pub(super) body: String,
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Act {
    Pass,
    /// It happens, and nobody hears so.
    PassAndCut,
    /// It never arrives.
    Cut,
    /// It never arrives, and this is said.
    Say(u16, String),
}

impl Act {
    pub(super) fn refuse(status: u16, code: &str) -> Self {
        Self::Say(
            status,
            format!(r#"{{"__type":"com.amazonaws.dynamodb.v20120810#{code}","message":"said by the test"}}"#),
        )
    }
}

/// A gate in front of a service; requests that came to it, in order.
#[derive(Clone)]
pub(super) struct Gate {
    pub(super) endpoint: String,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Gate {
    /// In front of `service` (`http://host:port`); `decide` sees each request.
    pub(super) fn before(service: &str, decide: impl Fn(&Request) -> Act + Send + Sync + 'static) -> Self {
        let service = service.strip_prefix("http://").unwrap().trim_end_matches('/').to_owned();
        let listener = wait(TcpListener::bind("127.0.0.1:0")).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let gate = Self { endpoint, seen: Arc::default() };
        let (seen, decide) = (Arc::clone(&gate.seen), Arc::new(decide));
        runtime().spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (service, seen, decide) = (service.clone(), Arc::clone(&seen), Arc::clone(&decide));
                tokio::spawn(async move {
                    let _ = serve(socket, &service, &seen, &*decide).await;
                });
            }
        });
        gate
    }

    /// As `before`, on a thread of its own: `decide` may wait for what another gate's does.
    pub(super) fn apart(service: &str, decide: impl Fn(&Request) -> Act + Send + Sync + 'static) -> Self {
        let service = service.strip_prefix("http://").unwrap().trim_end_matches('/').to_owned();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let gate = Self { endpoint: format!("http://{}", listener.local_addr().unwrap()), seen: Arc::default() };
        let (seen, decide) = (Arc::clone(&gate.seen), Arc::new(decide));
        std::thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).unwrap();
                while let Ok((socket, _)) = listener.accept().await {
                    let (service, seen, decide) = (service.clone(), Arc::clone(&seen), Arc::clone(&decide));
                    tokio::spawn(async move {
                        let _ = serve(socket, &service, &seen, &*decide).await;
                    });
                }
            });
        });
        gate
    }

    /// So many requests came.
    pub(super) fn all(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    pub(super) fn seen(&self, operation: &str) -> Vec<Request> {
        self.seen.lock().unwrap().iter().filter(|request| request.operation == operation).cloned().collect()
    }
}

/// One request; then the connection is closed, so that each is on its own.
async fn serve(
    mut socket: TcpStream,
    service: &str,
    seen: &Mutex<Vec<Request>>,
    decide: &(dyn Fn(&Request) -> Act + Send + Sync),
) -> std::io::Result<()> {
    let mut bytes = vec![];
    let head = loop {
        if let Some(end) = memchr::memmem::find(&bytes, b"\r\n\r\n") {
            break end + 4;
        }
        if socket.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
    };
    let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
    let header = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
    };
    let length: usize = header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    while bytes.len() < head + length {
        if socket.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
    }
    let operation = header("x-amz-target").unwrap_or_default();
    let operation = operation.rsplit('.').next().unwrap_or_default().to_owned();
    let request = Request { operation, body: String::from_utf8_lossy(&bytes[head..]).into_owned() };
    seen.lock().unwrap().push(request.clone());
    let act = decide(&request);
    match act {
        Act::Cut => {}
        Act::Say(status, body) => {
            let length = body.len();
            let head = format!(
                "HTTP/1.1 {status} said\r\ncontent-type: application/x-amz-json-1.0\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
            );
            socket.write_all(head.as_bytes()).await?;
            socket.write_all(body.as_bytes()).await?;
        }
        Act::Pass | Act::PassAndCut => {
            let mut upstream = TcpStream::connect(service).await?;
            let line_end = memchr::memmem::find(&bytes, b"\r\n").unwrap_or(0) + 2;
            upstream.write_all(&bytes[..line_end]).await?;
            upstream.write_all(b"connection: close\r\n").await?;
            upstream.write_all(&bytes[line_end..]).await?;
            let mut answer = vec![];
            upstream.read_to_end(&mut answer).await?;
            if act == Act::Pass {
                socket.write_all(&answer).await?;
            }
        }
    }
    socket.shutdown().await
}
