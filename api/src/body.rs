//! A request's body as it comes in. Decides how long a slow client is waited for, and how much is taken.

use std::time::Duration;

use axum::body::{Body, BodyDataStream, HttpBody};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use tokio::time::Instant;

use crate::{Limits, refusal::Refusal};

/// Bytes in pieces, in order.
pub(crate) struct Incoming {
    pieces: BodyDataStream,
    pace: Pace,
    /// What the client says that will come.
    announced: Option<u64>,
}

/// How slowly a body may come. Only the time counts for which its client was waited: not that of appends, for which the client waits.
struct Pace {
    silence: Duration,
    wait_max: Duration,
    bytes_per_second_min: u64,
    waited: Duration,
    bytes: u64,
}

impl Pace {
    /// How much longer the next piece may be waited for.
    fn left(&self) -> Duration {
        let earned = Duration::from_millis(self.bytes.saturating_mul(1000) / self.bytes_per_second_min.max(1));
        let allowed = (self.silence + earned).min(self.wait_max);
        self.silence.min(allowed.saturating_sub(self.waited))
    }

    fn too_slow(&self, silent: Duration) -> Refusal {
        let (bytes, secs) = (self.bytes, self.waited.as_secs_f64());
        let refuse = |code, message| Refusal::new(axum::http::StatusCode::REQUEST_TIMEOUT, code, message);
        if silent >= self.silence {
            let secs = self.silence.as_secs_f64();
            return refuse("silent", format!("nothing came for {secs} s in the middle of the body: send it again"));
        }
        let message = if self.waited >= self.wait_max {
            format!("the body did not come in whole within {secs:.0} s: send it in several requests, or packed")
        } else {
            format!(
                "the body comes too slowly, {bytes} bytes in {secs:.1} s; after {} s there are to be {} bytes a second: gather lines and send \
                 them at once",
                self.silence.as_secs_f64(),
                self.bytes_per_second_min
            )
        };
        refuse("slow", message)
    }
}

impl Incoming {
    pub(crate) fn new(body: Body, limits: &Limits) -> Self {
        let announced = body.size_hint().exact();
        let pace = Pace {
            silence: limits.silence,
            wait_max: limits.body_wait_max,
            bytes_per_second_min: limits.body_bytes_per_second_min,
            waited: Duration::ZERO,
            bytes: 0,
        };
        Self { pieces: body.into_data_stream(), pace, announced }
    }

    /// How many bytes the client has announced, if it has.
    pub(crate) fn announced(&self) -> Option<u64> {
        self.announced
    }

    /// The next piece, never empty; `None`: the body is complete.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Refusal> {
        loop {
            let from = Instant::now();
            let piece = tokio::time::timeout(self.pace.left(), self.pieces.next()).await;
            let silent = from.elapsed();
            self.pace.waited += silent;
            let Ok(piece) = piece else { return Err(self.pace.too_slow(silent)) };
            match piece.transpose() {
                Ok(Some(piece)) if piece.is_empty() => {}
                Ok(piece) => {
                    self.pace.bytes += piece.as_ref().map_or(0, |piece| piece.len() as u64);
                    return Ok(piece);
                }
                Err(error) => {
                    let message = format!("the body could not be read to its end: {error}; send it again");
                    return Err(Refusal::bad("body_cut_short", message));
                }
            }
        }
    }

    /// Pieces until there are at least so many bytes, or all.
    pub(crate) async fn at_least(&mut self, bytes: usize) -> Result<Bytes, Refusal> {
        let mut first = BytesMut::new();
        while first.len() < bytes {
            match self.next().await? {
                Some(piece) if first.is_empty() && piece.len() >= bytes => return Ok(piece),
                Some(piece) => first.extend_from_slice(&piece),
                None => break,
            }
        }
        Ok(first.freeze())
    }

    /// The whole body behind `first`, at most so many bytes.
    pub(crate) async fn whole(&mut self, first: Bytes, most: usize, what: &str) -> Result<Bytes, Refusal> {
        if self.announced.is_some_and(|bytes| bytes > most as u64) {
            return Err(too_large(what, most));
        }
        // A body in one piece, as this process sends it to itself, stays where it lies.
        let Some(second) = self.next().await? else {
            return if first.len() > most { Err(too_large(what, most)) } else { Ok(first) };
        };
        let mut whole = BytesMut::from(first);
        whole.extend_from_slice(&second);
        loop {
            if whole.len() > most {
                return Err(too_large(what, most));
            }
            match self.next().await? {
                Some(piece) => whole.extend_from_slice(&piece),
                None => return Ok(whole.freeze()),
            }
        }
    }
}

fn too_large(what: &str, most: usize) -> Refusal {
    Refusal::too_large(format!("{what} has more than {most} bytes: send less at a time"))
}
