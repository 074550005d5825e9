//! What holds a command up, said on standard error while it goes on: AWS is out of reach or takes no more, or another process has to go on first.
//! Decides how often; what it is, the system says.

use std::{future::Future, io::IsTerminal, time::Duration};

use tokio::time::Instant;
use weir::HeldUp;

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
    fn of(&mut self, sentence: Option<String>, now: Instant) -> Option<String> {
        let Some(sentence) = sentence else {
            self.looks = 0;
            return self.said.take().map(|_| "it goes on".to_owned());
        };
        self.looks += 1;
        let is_due = self.said.is_none_or(|said| now.duration_since(said) >= WORD_PAUSE);
        if self.looks < LOOKS_MIN || !is_due {
            return None;
        }
        self.said = Some(now);
        Some(sentence)
    }
}

/// What is wrong is told with what to do; what only takes its time is no alarm.
fn sentence(of: HeldUp) -> String {
    match of {
        HeldUp::Trouble(why) => {
            format!("held up: {why}. It goes on by itself; Ctrl-C ends it, and nothing that is in is counted twice")
        }
        HeldUp::Waits(what) => format!("waiting: {what}"),
    }
}

/// Waits for `work`, and says meanwhile what holds it up. A server on another machine says it in its own `/health`.
pub async fn beside<T>(client: &Client, work: impl Future<Output = T>) -> T {
    let Client::Here { system, .. } = client else { return work.await };
    if system.is_local() {
        return work.await;
    }
    let mut words = Words::default();
    // Who does not answer is told of for every command.
    said_beside(work, || silent().is_none().then(|| words.of(system.held_up().map(sentence), Instant::now())).flatten())
        .await
}

/// Waits for `work`, and says meanwhile which service does not answer.
pub async fn beside_silence<T>(work: impl Future<Output = T>) -> T {
    let mut words = Words::default();
    // A command that cannot go on without an answer ends with why, once it has asked often enough.
    let sentence =
        |why| format!("held up: {why}. It is asked again; Ctrl-C ends it, and nothing that is in is counted twice");
    said_beside(work, || words.of(silent().map(sentence), Instant::now())).await
}

/// As `beside`, for one answer that may take a minute: what a server waits for it does not say meanwhile.
pub async fn beside_answer<T>(client: &Client, work: impl Future<Output = T>) -> T {
    let Client::There { url, .. } = client else { return beside(client, work).await };
    let mut words = Words::default();
    let what = format!("{url} has not answered yet, which may take a minute; its /health says how it is");
    said_beside(work, || words.of(Some(sentence(HeldUp::Waits(what.clone()))), Instant::now())).await
}

#[cfg(feature = "aws")]
fn silent() -> Option<String> {
    weir::aws::silence::said()
}

#[cfg(not(feature = "aws"))]
fn silent() -> Option<String> {
    None
}

/// Waits for `work`, and prints meanwhile what `look` has to say.
async fn said_beside<T>(work: impl Future<Output = T>, mut look: impl FnMut() -> Option<String>) -> T {
    let looking = async {
        loop {
            tokio::time::sleep(LOOK).await;
            if let Some(word) = look() {
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

    fn throttled() -> Option<String> {
        Some(sentence(HeldUp::Trouble("throttled".into())))
    }

    #[test]
    fn what_is_wrong_is_told_with_what_to_do_and_what_only_takes_its_time_is_no_alarm() {
        let said = throttled().unwrap_or_default();
        assert!(said.starts_with("held up: throttled. It goes on by itself; Ctrl-C"), "{said}");
        assert_eq!(sentence(HeldUp::Waits("a folds it".into())), "waiting: a folds it");
    }

    #[test]
    fn what_lasts_is_said_now_and_then_and_that_it_is_over_once() {
        let (mut words, begin) = (Words::default(), Instant::now());
        let said: Vec<u64> =
            (0..70).filter(|second| words.of(throttled(), begin + Duration::from_secs(*second)).is_some()).collect();
        assert_eq!(said, [2, 32, 62]);
        let end = begin + Duration::from_secs(70);
        assert_eq!(words.of(None, end).as_deref(), Some("it goes on"));
        assert_eq!(words.of(None, end), None);
        assert_eq!(words.of(throttled(), end), None, "for a moment");
        assert_eq!(words.of(None, end), None, "nothing was said of it");
    }
}
