//! Real sockets: clients that stall, drip and flood, and what others see of it.

use std::{
    io::Write,
    net::SocketAddr,
    process::{Command, Stdio},
    sync::atomic::Ordering,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::oneshot,
};

use super::{ACME, OTHER, Server};
use crate::{Access, Connections, Limits, serve_within};

/// A server on a socket. Dropped, it drains.
struct Socket {
    address: SocketAddr,
    server: Server,
    stop: oneshot::Sender<()>,
}

impl Socket {
    async fn of(limits: Limits, connections: Connections) -> Self {
        Self::serving(Server::of(Access::Open, limits), connections).await
    }

    async fn serving(server: Server, connections: Connections) -> Self {
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], listener.local_addr().unwrap().port()));
        let (stop, stopped) = oneshot::channel::<()>();
        let router = server.router.clone();
        tokio::spawn(serve_within(listener, router, connections, async { drop(stopped.await) }));
        Self { address, server, stop }
    }

    /// A connection from 127.0.0.`host`.
    async fn connect_from(&self, host: u8) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, host], 0))).unwrap();
        socket.connect(self.address).await.unwrap()
    }

    /// A connection whose request is under way: the server waits for its body.
    async fn sending_from(&self, host: u8) -> TcpStream {
        let mut stream = self.connect_from(host).await;
        let head = self.head(7).replace("\r\n\r\n", "\r\nexpect: 100-continue\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut asked = [0; 25];
        stream.read_exact(&mut asked).await.unwrap();
        stream
    }

    /// The head of a body with so many bytes.
    fn head(&self, bytes: usize) -> String {
        format!(
            "POST /ingest HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-length: {bytes}\r\n\r\n",
            self.address
        )
    }
}

/// All that comes until the server ends the connection.
async fn rest(stream: &mut TcpStream) -> String {
    let mut answer = vec![];
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn three_hundred_half_sent_bodies_of_one_client_are_not_in_the_way_of_another() {
    let limits = Limits { queue: Duration::from_millis(100), ..Limits::default() };
    let socket = Socket::of(limits, Connections::default()).await;
    let mut flood = vec![];
    for _ in 0..300 {
        let mut stream = socket.connect_from(1).await;
        // Who is turned away at once has no ear for it.
        let _ = stream.write_all(format!("{}half of", socket.head(1_000)).as_bytes()).await;
        flood.push(stream);
    }
    // More than may wait were told at once, so that they hold no connection; those who waited, in vain, were told later.
    for place in [20, 299] {
        let refused = rest(&mut flood[place]).await;
        assert!(refused.starts_with("HTTP/1.1 429 ") && refused.contains("retry-after: 1"), "{refused}");
        assert!(refused.contains("8 bodies of this client are coming in"), "{refused}");
    }
    for _ in 0..20 {
        let mut other = socket.connect_from(2).await;
        other.write_all(format!("{}a line\n", socket.head(7)).as_bytes()).await.unwrap();
        let answer = rest(&mut other).await;
        assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
    }
    assert_eq!(socket.server.fake.puts().len(), 20);
}

#[tokio::test]
async fn half_sent_bodies_of_one_tenant_are_not_in_the_way_of_another_at_the_same_address() {
    let socket = Socket::serving(Server::with_tokens(), Connections::default()).await;
    let head = |token: &str, bytes| {
        socket.head(bytes).replace("\r\n\r\n", &format!("\r\nauthorization: Bearer {token}\r\n\r\n"))
    };
    let mut flood = vec![];
    for _ in 0..300 {
        let mut stream = socket.connect_from(1).await;
        let _ = stream.write_all(format!("{}half of", head(ACME, 1_000)).as_bytes()).await;
        flood.push(stream);
        // Each is a new one to the server, as from many machines behind one address.
        tokio::task::yield_now().await;
    }
    let refused = rest(&mut flood[299]).await;
    assert!(refused.starts_with("HTTP/1.1 429 "), "{refused}");
    for _ in 0..20 {
        let mut other = socket.connect_from(1).await;
        other.write_all(format!("{}a line\n", head(OTHER, 7)).as_bytes()).await.unwrap();
        let answer = rest(&mut other).await;
        assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
    }
}

#[tokio::test]
async fn a_drip_is_cut_with_a_408_that_says_why() {
    let limits = Limits { silence: Duration::from_millis(300), ..Limits::default() };
    let socket = Socket::of(limits, Connections::default()).await;
    let mut stream = socket.connect_from(1).await;
    stream.write_all(socket.head(1_000_000).as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    // A byte, and a look whether there is an answer: as slow as a client can be without being silent.
    let bytes = loop {
        stream.write_all(b"x").await.unwrap();
        if let Ok(read) = tokio::time::timeout(Duration::from_millis(20), stream.read(&mut answer)).await {
            break read.unwrap();
        }
    };
    let answer = String::from_utf8_lossy(&answer[..bytes]).into_owned() + &rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("the body comes too slowly") && answer.contains("4096 bytes a second"), "{answer}");
}

#[tokio::test]
async fn a_head_that_does_not_end_is_answered_and_an_idle_connection_closed() {
    let connections = Connections { head: Duration::from_millis(200), ..Connections::default() };
    let socket = Socket::of(Limits::default(), connections).await;
    let mut loris = socket.connect_from(1).await;
    loris.write_all(b"GET /health HTTP/1.1\r\nhost: local").await.unwrap();
    let answer = rest(&mut loris).await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("head did not come in whole"), "{answer}");
    let mut idle = socket.connect_from(1).await;
    assert_eq!(rest(&mut idle).await, "");
}

#[tokio::test]
async fn connections_are_bounded_in_all_and_free_again_once_they_end() {
    let connections = Connections { all_max: 3, each_max: 2, ..Connections::default() };
    let socket = Socket::of(Limits::default(), connections).await;
    let mut open = vec![socket.sending_from(1).await, socket.sending_from(1).await];
    let one_more = rest(&mut socket.connect_from(1).await).await;
    assert!(one_more.contains("this address has 2 connections open"), "{one_more}");
    open.push(socket.sending_from(2).await);
    let one_more = rest(&mut socket.connect_from(3).await).await;
    assert!(one_more.contains("as many connections are open as this server takes"), "{one_more}");
    drop(open);
    // Their ends are heard of in no certain order.
    loop {
        let mut stream = socket.connect_from(1).await;
        let _ = stream.write_all(format!("{}a line\n", socket.head(7)).as_bytes()).await;
        if rest(&mut stream).await.starts_with("HTTP/1.1 202 ") {
            break;
        }
    }
}

#[tokio::test]
async fn idle_connections_make_room_for_a_newcomer_and_those_that_are_answered_do_not() {
    let connections = Connections { all_max: 4, each_max: 3, ..Connections::default() };
    let socket = Socket::of(Limits::default(), connections).await;
    let mut sending = socket.sending_from(1).await;
    let mut idle = [socket.connect_from(1).await, socket.connect_from(1).await, socket.connect_from(2).await];
    // One has asked and keeps its connection, the others have said nothing.
    for stream in &mut idle[..1] {
        ask(stream).await;
    }
    let mut newcomers = vec![];
    for host in 3..6 {
        let mut newcomer = socket.connect_from(host).await;
        let answer = ask(&mut newcomer).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        newcomers.push(newcomer);
    }
    for stream in &mut idle {
        assert_eq!(rest(stream).await, "");
    }
    sending.write_all(b"a line\n").await.unwrap();
    let answer = rest(&mut sending).await;
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
}

/// Sends bodies that are refused while they are still being written, as Python's own client does, which looks for no answer before it has sent
/// everything; prints each answer's status and code. Standard input is a bomb of zstd.
const URLLIB: &str = r#"
import gzip, json, sys, urllib.error, urllib.request
address = sys.argv[1]
bomb = gzip.compress(bytes(4 << 20)) + b"x" * (4 << 20)
zstd = sys.stdin.buffer.read() + b"x" * (4 << 20)
plain = b"a line\n" * (1 << 20)
def pieces(bytes, count=1):
    for _ in range(count):
        for at in range(0, len(bytes), 128 << 10):
            yield bytes[at:at + (128 << 10)]
for attempt in range(10):
    for name, body, headers in [
        ("gzip", bomb, {}),
        ("gzip in pieces", pieces(bomb), {}),
        ("zstd", zstd, {}),
        ("zstd in pieces", pieces(zstd), {}),
        ("plain", plain, {}),
        ("plain in pieces", pieces(plain), {}),
    ] + ([("long", pieces(plain, 30), {"Content-Length": str(30 * len(plain))})] if attempt == 0 else []):
        request = urllib.request.Request("http://" + address + "/ingest", data=body, headers=headers, method="POST")
        try:
            urllib.request.urlopen(request)
            print(name, "taken")
        except urllib.error.HTTPError as error:
            print(name, error.code, json.load(error)["error"]["code"])
        except OSError as error:
            print(name, "no answer:", error)
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_is_still_sending_sees_why_it_is_refused() {
    let limits = Limits { packed_bytes_max: 1 << 20, unpacked_bytes_max: 1 << 20, ..Limits::default() };
    let socket = Socket::of(limits, Connections::default()).await;
    let address = socket.address.to_string();
    let python = move || {
        let mut python = Command::new("python3");
        python.args(["-c", URLLIB, &address]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut python = python.spawn().unwrap();
        let bomb = zstd::encode_all(&vec![0; 4 << 20][..], 1).unwrap();
        python.stdin.take().unwrap().write_all(&bomb).unwrap();
        python.wait_with_output().unwrap()
    };
    let output = tokio::task::spawn_blocking(python).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let forms = ["gzip", "gzip in pieces", "zstd", "zstd in pieces", "plain", "plain in pieces"];
    let mut expected: Vec<_> = forms.iter().cycle().take(10 * forms.len()).collect();
    expected.insert(forms.len(), &"long");
    let expected: String = expected.iter().map(|form| format!("{form} 413 too_large\n")).collect();
    assert_eq!(said, expected, "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn who_waits_for_a_hundred_continue_is_refused_before_it_sends() {
    let limits = Limits { packed_bytes_max: 1 << 20, unpacked_bytes_max: 1 << 20, ..Limits::default() };
    let socket = Socket::of(limits, Connections::default()).await;
    let expecting = |bytes| socket.head(bytes).replace("\r\n\r\n", "\r\nexpect: 100-continue\r\n\r\n");
    let mut stream = socket.connect_from(1).await;
    stream.write_all(expecting(2 << 20).as_bytes()).await.unwrap();
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    let mut stream = socket.connect_from(1).await;
    stream.write_all(expecting(7).as_bytes()).await.unwrap();
    let mut asked = [0; 25];
    stream.read_exact(&mut asked).await.unwrap();
    assert_eq!(asked, *b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"a line\n").await.unwrap();
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
}

#[tokio::test]
async fn a_client_that_ends_its_side_once_it_has_asked_is_answered() {
    let socket = Socket::of(Limits::default(), Connections::default()).await;
    let shut = socket.server.fake.gate.write().await;
    let mut stream = socket.connect_from(1).await;
    stream.write_all(format!("{}a line\n", socket.head(7)).as_bytes()).await.unwrap();
    while socket.server.fake.begun.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    stream.shutdown().await.unwrap();
    // Its end is on the way, with this connection behind it: the server has met it once it answers here.
    let mut other = socket.connect_from(2).await;
    other.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
    rest(&mut other).await;
    drop(shut);
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
}

/// Asks and leaves the connection open; what was answered.
async fn ask(stream: &mut TcpStream) -> String {
    stream.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut answer = vec![];
    while !answer.ends_with(b"}") {
        assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0);
    }
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn a_connection_that_falls_silent_after_its_answer_is_closed() {
    let connections = Connections { head: Duration::from_millis(200), ..Connections::default() };
    let socket = Socket::of(Limits::default(), connections).await;
    let mut stream = socket.connect_from(1).await;
    for _ in 0..2 {
        assert!(ask(&mut stream).await.starts_with("HTTP/1.1 200 "));
    }
    assert_eq!(rest(&mut stream).await, "");
}

#[tokio::test]
async fn a_server_that_is_told_to_end_closes_idle_connections_and_takes_no_more() {
    let Socket { address, server, stop, .. } = Socket::of(Limits::default(), Connections::default()).await;
    let mut idle = TcpStream::connect(address).await.unwrap();
    ask(&mut idle).await;
    let mut silent = TcpStream::connect(address).await.unwrap();
    let mut asking = TcpStream::connect(address).await.unwrap();
    ask(&mut asking).await;
    let shut = server.fake.gate.write().await;
    let body = "POST /ingest HTTP/1.1\r\nhost: localhost\r\ncontent-length: 7\r\n\r\na line\n";
    asking.write_all(body.as_bytes()).await.unwrap();
    while server.fake.begun.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    drop(stop);
    assert_eq!(rest(&mut idle).await, "");
    let refused = TcpStream::connect(address).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    assert_eq!(rest(&mut silent).await, "");
    drop(shut);
    let answer = rest(&mut asking).await;
    assert!(answer.starts_with("HTTP/1.1 202 ") && answer.contains("connection: close"), "{answer}");
}

#[tokio::test]
async fn who_is_not_done_when_the_server_ends_is_told_so() {
    let connections = Connections { drain: Duration::from_millis(200), ..Connections::default() };
    let Socket { address, server, stop } = Socket::of(Limits::default(), connections).await;
    let _shut = server.fake.gate.write().await;
    let head = |bytes| format!("POST /ingest HTTP/1.1\r\nhost: localhost\r\ncontent-length: {bytes}\r\n\r\na line\n");
    let mut appending = TcpStream::connect(address).await.unwrap();
    appending.write_all(head(7).as_bytes()).await.unwrap();
    while server.fake.begun.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    let mut sending = TcpStream::connect(address).await.unwrap();
    // It is asked for its body once the server works on it.
    let expecting = head(1_000).replace("\r\n\r\n", "\r\nexpect: 100-continue\r\n\r\n");
    sending.write_all(expecting.as_bytes()).await.unwrap();
    let mut asked = [0; 25];
    sending.read_exact(&mut asked).await.unwrap();
    drop(stop);
    for mut stream in [appending, sending] {
        let answer = rest(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("the server is ending"), "{answer}");
        assert!(answer.contains("retry-after: 1") && answer.contains("connection: close"), "{answer}");
    }
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let socket = Socket::of(Limits::default(), Connections::default()).await;
    let mut stream = socket.connect_from(1).await;
    let head = format!("GET /health HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "x".repeat(200 << 10));
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}
