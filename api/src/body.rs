//! A request's body as it comes in. Decides how long a silent client is waited for, and how much is taken.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;

use crate::refusal::Refusal;

/// Bytes in pieces, in order.
pub(crate) struct Incoming {
    pieces: BodyDataStream,
    silence: Duration,
}

impl Incoming {
    pub(crate) fn new(body: Body, silence: Duration) -> Self {
        Self { pieces: body.into_data_stream(), silence }
    }

    /// The next piece, never empty; `None`: the body is complete.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Refusal> {
        loop {
            let Ok(piece) = tokio::time::timeout(self.silence, self.pieces.next()).await else {
                let message =
                    format!("nothing came for {} s in the middle of the body: send it again", self.silence.as_secs());
                return Err(Refusal::new(axum::http::StatusCode::REQUEST_TIMEOUT, "silent", message));
            };
            match piece.transpose() {
                Ok(Some(piece)) if piece.is_empty() => {}
                Ok(piece) => return Ok(piece),
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
