//! What holds a command up, said on standard error while it goes on: AWS is out of reach or takes no more, or another process has to go on first.
//! Decides how often; what it is, the system says.

use std::{future::Future, io::IsTerminal, time::Duration};

use tokio::time::Instant;

use super::client::Client;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// What passes within so many looks in a row is not worth a word.
const LOOKS_MIN: u32 = 3;
/// Between two words about it.
const WORD_PAUSE: Duration = Duration::from_secs(30);

/// What was said of it.
#[derive(Debug, Default)]
struct Words {
    looks: u32,
    said: Option<Instant>,
}

impl Words {
    /// What is to be said now.
    fn of(&mut self, why: Option<String>, now: Instant) -> Option<String> {
        let Some(why) = why else {
            self.looks = 0;
            return self.said.take().map(|_| "it goes on".to_owned());
        };
        self.looks += 1;
        let is_due = self.said.is_none_or(|said| now.duration_since(said) >= WORD_PAUSE);
        if self.looks < LOOKS_MIN || !is_due {
            return None;
        }
        self.said = Some(now);
        Some(format!("held up: {why}. It goes on by itself; Ctrl-C ends it, and nothing that is in is counted twice"))
    }
}

/// Waits for `work`, and says meanwhile what holds it up. A server on another machine says it in its own `/health`.
pub async fn beside<T>(client: &Client, work: impl Future<Output = T>) -> T {
    let Client::Here { system, .. } = client else { return work.await };
    if system.is_local() {
        return work.await;
    }
    let looking = async {
        let mut words = Words::default();
        loop {
            tokio::time::sleep(LOOK).await;
            if let Some(word) = words.of(system.held_up(), Instant::now()) {
                // A bar that is being drawn stands on this line.
                let clear = if std::io::stderr().is_terminal() { "\r\x1b[2K" } else { "" };
                eprintln!("{clear}{word}");
            }
        }
    };
    tokio::select! {
        done = work => done,
        () = looking => unreachable!("it looks until the work is done"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_is_said_now_and_then_and_that_it_is_over_once() {
        let (mut words, begin) = (Words::default(), Instant::now());
        let said: Vec<u64> = (0..70)
            .filter(|second| words.of(Some("throttled".into()), begin + Duration::from_secs(*second)).is_some())
            .collect();
        assert_eq!(said, [2, 32, 62]);
        let end = begin + Duration::from_secs(70);
        assert_eq!(words.of(None, end).as_deref(), Some("it goes on"));
        assert_eq!(words.of(None, end), None);
        assert_eq!(words.of(Some("for a moment".into()), end), None);
        assert_eq!(words.of(None, end), None, "nothing was said of it");
    }
}
