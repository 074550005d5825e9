//! The socket: how many connections, how long a silent one is kept, and how one ends so that its last answer arrives. Knows no route.
//!
//! | what a client does | what becomes of it |
//! | --- | --- |
//! | opens more connections than its share, or than there are | 503 with `Retry-After`, without its request being read |
//! | waits idle while a newcomer finds no room | the longest idle connection, of the address with most, is closed for it |
//! | sends its head slowly, or nothing after its last answer | 408, or the connection is closed |
//! | does not read its answer, or byte by byte | the connection is closed |
//! | still sends a body that was refused | a bounded rest is read and thrown away, else the answer is lost in a reset (RFC 9112, section 9.6) |
//! | still waits for its answer when the server has been ending for a while | 503, and what it asked for is given up |

use std::{convert::Infallible, future::poll_fn, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::ConnectInfo, http::Request, response::IntoResponse};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

use self::{
    idle::{Guest, Idle},
    stalled::Stalled,
};
use crate::{
    refusal::Refusal,
    shares::{Full, Share, Shares},
    throttle::Client,
};

mod idle;
mod stalled;

/// What the socket takes at most.
#[derive(Debug, Clone)]
pub struct Connections {
    /// Connections at once; further ones are told to come back.
    pub all_max: usize,
    /// Connections of one address at once (of one /64 where it is IPv6); the same.
    pub each_max: usize,
    /// Longest that a request's head may take, and that a connection may be idle.
    pub head: Duration,
    /// Longest that a client may leave its answer unread.
    pub unread: Duration,
    /// Bytes a second that a client has to read of its answers, but for so long.
    pub answer_bytes_per_second_min: u64,
    /// Bytes of a refused body that are thrown away before the connection is cut.
    pub linger_bytes_max: u64,
    /// Longest time for the same.
    pub linger: Duration,
    /// Longest that the next of these bytes is waited for.
    pub linger_silence: Duration,
    /// Longest that open requests are worked on once the server is told to end.
    pub drain: Duration,
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            // Half of the descriptors that a process may have by default.
            all_max: 512,
            each_max: 256,
            head: Duration::from_secs(15),
            unread: Duration::from_secs(60),
            answer_bytes_per_second_min: 4 << 10,
            // Twice the largest body that is taken. Many clients read no answer before they have sent everything: throwing it away costs less
            // than their sending it once more.
            linger_bytes_max: 2 << 30,
            linger: Duration::from_secs(60),
            linger_silence: Duration::from_secs(3),
            drain: Duration::from_secs(5),
        }
    }
}

/// How long it rests when no connection can be accepted, for want of descriptors perhaps.
const ACCEPT_REST: Duration = Duration::from_millis(200);
/// The same as `linger_silence`, once the server is told to end: whoever is still sending has sent in that time.
const LINGER_LEAVING: Duration = Duration::from_millis(200);
/// Largest head of a request, and what is read of a body at one time; a larger head is answered with 431.
const BUFFER_BYTES: usize = 128 << 10;
/// Connections that are heard out after their last answer, half of them at most of one client; more are cut.
const LINGERING_MAX: usize = 128;
/// Connections that are being turned away at once; more are cut without a word.
const TURNED_AWAY_MAX: usize = 64;

/// Longest that a newcomer waits for the room that an idle connection makes: that one has only to be closed.
const ROOM_WAIT: Duration = Duration::from_secs(1);

/// Serves the routes on a socket until `until` is done; then takes no more connections and ends once the open requests are answered.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Connections,
    until: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let open = Shares::new(limits.all_max, limits.each_max, 0);
    let turned_away = Shares::new(TURNED_AWAY_MAX, TURNED_AWAY_MAX, 0);
    let lingering = Shares::new(LINGERING_MAX, LINGERING_MAX / 2, 0);
    let common = Arc::new(Common { router, limits, lingering, idle: Arc::default() });
    let (tell, told) = watch::channel(false);
    // Dropped with this future: then nobody is answered any more.
    let mut tasks = JoinSet::new();
    let mut until = std::pin::pin!(until);
    loop {
        let accepted = tokio::select! {
            () = &mut until => break,
            Some(_) = tasks.join_next(), if !tasks.is_empty() => continue,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            // The client was gone before it was its turn.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(_) => {
                tokio::time::sleep(ACCEPT_REST).await;
                continue;
            }
        };
        // Answers are written whole: waiting for more of them only delays the last packet.
        let _ = stream.set_nodelay(true);
        let (common, told, client) = (common.clone(), told.clone(), Client::of(peer.ip()));
        match open.try_take(client.clone()) {
            Ok(share) => {
                tasks.spawn(common.attend(stream, peer, told, share));
            }
            Err(full) => {
                // At once, so that each newcomer has its own room made.
                let room = full == Full::All && common.idle.make_room();
                let Ok(turned_away) = turned_away.try_take(Client::Crowd) else { continue };
                let open = open.clone();
                tasks.spawn(async move {
                    let share = if room { open.take(client, ROOM_WAIT).await } else { Err(full) };
                    match share {
                        Ok(share) => {
                            drop(turned_away);
                            common.attend(stream, peer, told, share).await;
                        }
                        Err(full) => turn_away(stream, full, &common.limits, told).await,
                    }
                });
            }
        }
    }
    drop(listener);
    tell.send_replace(true);
    while tasks.join_next().await.is_some() {}
    Ok(())
}

/// What all connections share.
struct Common {
    router: Router,
    limits: Connections,
    lingering: Arc<Shares>,
    idle: Arc<Idle>,
}

impl Common {
    /// A connection from its first request to its end.
    async fn attend(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, told: watch::Receiver<bool>, share: Share) {
        let guest = Arc::new(self.idle.enter(Client::of(peer.ip())));
        let ended = converse(stream, peer, self.router.clone(), &self.limits, told.clone(), &guest).await;
        // Who only has to be heard out is in nobody's way.
        drop((guest, share));
        if let Ok(_share) = self.lingering.try_take(Client::of(peer.ip())) {
            linger(ended, &self.limits, told).await;
        }
    }
}

/// All requests of one connection; gives it back when no more are answered.
async fn converse(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    limits: &Connections,
    mut told: watch::Receiver<bool>,
    guest: &Arc<Guest>,
) -> Stalled {
    let (ends, drain, seat) = (told.clone(), limits.drain, guest.clone());
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let (mut router, mut request, mut ends) = (router.clone(), request.map(Body::new), ends.clone());
        let seat = seat.clone();
        request.extensions_mut().insert(ConnectInfo(peer));
        seat.is_answered();
        Box::pin(async move {
            let too_late = async {
                let _ = ends.wait_for(|told| *told).await;
                tokio::time::sleep(drain).await;
            };
            let answer = tokio::select! {
                Ok(answer) = tower_service::Service::call(&mut router, request) => answer,
                () = too_late => given_up().into_response(),
            };
            // Still to be written: to leave is to write it first.
            seat.has_its_answer();
            Ok::<_, Infallible>(answer)
        })
    });
    let mut builder = http1::Builder::new();
    // A client that ends its side once it has asked still reads its answer; and what it asked for is carried through, not dropped half done.
    builder.timer(TokioTimer::new()).header_read_timeout(limits.head).half_close(true);
    builder.max_buf_size(BUFFER_BYTES);
    let mut connection = builder.serve_connection(TokioIo::new(stalled(stream, limits)), service);
    let mut leaving = false;
    let ended = loop {
        tokio::select! {
            ended = poll_fn(|context| connection.poll_without_shutdown(context)) => break ended,
            _ = told.wait_for(|told| *told), if !leaving => {
                leaving = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
            () = guest.told_to_leave(), if !leaving => {
                leaving = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
        }
    };
    let parts = connection.into_parts();
    let mut stream = parts.io.into_inner();
    // Who has said nothing is only idle.
    if ended.is_err_and(|error| error.is_timeout()) && !parts.read_buf.is_empty() {
        let message =
            format!("the request's head did not come in whole within {} s: send it again", limits.head.as_secs_f64());
        let _ = stream.write_all(&plain_answer("408 Request Timeout", "slow", &message)).await;
    }
    stream
}

fn given_up() -> Refusal {
    let message = "the server is ending and could not finish this in time: ask again once it is back. Of what was sent, some may be in";
    Refusal::unavailable("ending", message)
}

/// Says that there is no room, to a client whose request was not read.
async fn turn_away(stream: TcpStream, full: Full, limits: &Connections, told: watch::Receiver<bool>) {
    let message = match full {
        Full::Own => format!(
            "this address has {} connections open, as many as one may: use them again, or close some",
            limits.each_max
        ),
        Full::All => "as many connections are open as this server takes: try again in a moment".to_owned(),
    };
    let mut stream = stalled(stream, limits);
    let _ = stream.write_all(&plain_answer("503 Service Unavailable", "busy", &message)).await;
    linger(stream, limits, told).await;
}

fn stalled(stream: TcpStream, limits: &Connections) -> Stalled {
    Stalled::new(stream, limits.unread, limits.answer_bytes_per_second_min)
}

/// An answer outside of any conversation, after which the connection ends.
fn plain_answer(status: &str, code: &str, message: &str) -> Vec<u8> {
    let body = serde_json::json!({"error": {"code": code, "message": message}}).to_string();
    let head = "content-type: application/json\r\nx-content-type-options: nosniff\r\ncache-control: no-store\r\nconnection: close\r\nretry-after: 1";
    format!("HTTP/1.1 {status}\r\n{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// Says that nothing more comes, and throws away what the client still sends: bytes that nobody reads make the kernel send a reset, and that
/// takes the answer from a client which has not read it yet.
async fn linger(mut stream: Stalled, limits: &Connections, mut told: watch::Receiver<bool>) {
    let thrown_away = async {
        if stream.shutdown().await.is_err() {
            return;
        }
        let mut left = limits.linger_bytes_max;
        let mut rest = vec![0; 64 << 10];
        let mut leaving = false;
        while left > 0 {
            let silence = if leaving { LINGER_LEAVING } else { limits.linger_silence };
            tokio::select! {
                read = tokio::time::timeout(silence, stream.read(&mut rest)) => match read {
                    Ok(Ok(bytes @ 1..)) => left = left.saturating_sub(bytes as u64),
                    _ => return,
                },
                _ = told.wait_for(|told| *told), if !leaving => leaving = true,
            }
        }
    };
    let _ = tokio::time::timeout(limits.linger, thrown_away).await;
}
