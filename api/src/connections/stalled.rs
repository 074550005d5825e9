//! A socket that fails when its client reads too slowly: else whoever asks and never reads, or reads byte by byte, keeps a connection for ever.
//!
//! Only the time counts for which the socket took nothing. A client may be silent for `unread_max`, and what it reads earns it time again, never
//! more than that: so an answer of any length may come slowly, and none more slowly than the least rate.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep},
};

/// See the module.
#[derive(Debug)]
pub(super) struct Stalled<S = TcpStream> {
    stream: S,
    unread_max: Duration,
    bytes_per_second_min: u64,
    /// How much longer the client may be waited for.
    left: Duration,
    /// Since when the socket takes nothing, and what ends that.
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl<S: AsyncWrite + Unpin> Stalled<S> {
    pub(super) fn new(stream: S, unread_max: Duration, bytes_per_second_min: u64) -> Self {
        Self { stream, unread_max, bytes_per_second_min, left: unread_max, waiting: None }
    }

    fn write(
        &mut self,
        context: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = write(Pin::new(&mut self.stream), context) {
            if let Some((since, _)) = self.waiting.take() {
                self.left = self.left.saturating_sub(since.elapsed());
            }
            let bytes = *written.as_ref().unwrap_or(&0) as u64;
            let earned = Duration::from_micros(bytes.saturating_mul(1_000_000) / self.bytes_per_second_min.max(1));
            self.left = self.left.saturating_add(earned).min(self.unread_max);
            return Poll::Ready(written);
        }
        let now = Instant::now();
        let until = now + self.left;
        let (_, waiting) = self.waiting.get_or_insert_with(|| (now, Box::pin(tokio::time::sleep_until(until))));
        ready!(waiting.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read its answer")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stalled<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stalled<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.write(context, |stream, context| stream.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write(context, |stream, context| stream.poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;

    static ANSWER: [u8; 64 << 10] = [7; 64 << 10];

    /// Writes an answer to a client that takes `bytes` each `every`; how long it took, and whether the client got it.
    async fn read_by(bytes: usize, every: Duration) -> (Duration, io::Result<()>) {
        let (server, mut client) = tokio::io::duplex(16);
        let mut server: Stalled<DuplexStream> = Stalled::new(server, Duration::from_secs(60), 1_024);
        let reads = tokio::spawn(async move {
            let mut taken = vec![0; bytes];
            loop {
                tokio::time::sleep(every).await;
                let _ = client.read_exact(&mut taken).await;
            }
        });
        let begun = Instant::now();
        let written = server.write_all(&ANSWER).await;
        reads.abort();
        (begun.elapsed(), written)
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_byte_by_byte_is_cut_and_who_reads_at_the_least_rate_is_not() {
        for (bytes, every) in [(1, Duration::from_millis(100)), (500, Duration::from_secs(1)), (1, Duration::MAX)] {
            let (took, written) = read_by(bytes, every).await;
            assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut, "{bytes} bytes each {every:?}");
            assert!(took >= Duration::from_secs(60) && took <= Duration::from_secs(125), "{took:?}");
        }
        // Slowly and for longer than one may be silent; and in two halves, with a long silence between.
        let (took, written) = read_by(1_100, Duration::from_secs(1)).await;
        assert!(written.is_ok() && took > Duration::from_secs(58), "{took:?}");
        let (took, written) = read_by(50 << 10, Duration::from_secs(50)).await;
        assert!(written.is_ok() && took >= Duration::from_secs(100), "{took:?}");
    }
}
