//! Services that are asked and do not answer: decides since when that is so, and when it is worth a word. No call depends on it.
//!
//! It stands below the SDK, where each attempt is one request: a connection that hangs is given up after `ANSWER_WAIT`, and asked for again some times,
//! and until the last of them has failed no caller has heard anything. It is of the process, not of a system: a command that waits for the answer to its
//! first call has no system yet.

use std::{
    collections::BTreeMap,
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use aws_sdk_kinesis::config::{HttpClient, RuntimeComponents, SharedHttpClient, http::HttpRequest};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector, http_client_fn,
};
use tokio::time::Instant;

/// What is silent for so long is told of: answers that are asked for again have come by then, most often.
const WORD_AFTER: Duration = Duration::from_secs(10);
/// Pauses between attempts are shorter: who was asked last so long ago is not asked any more.
const PAUSE_MAX: Duration = Duration::from_secs(20);

/// The header that says what is asked, such as `DynamoDB_20120810.Scan`.
const ACTION: &str = "x-amz-target";

static ALL: LazyLock<Silences> = LazyLock::new(Silences::default);

/// Which services this process asks and hears nothing from, in words.
pub fn said() -> Option<String> {
    ALL.said()
}

/// The same client, whose requests are watched.
pub(super) fn watched(to: SharedHttpClient) -> SharedHttpClient {
    http_client_fn(move |settings: &HttpConnectorSettings, components: &RuntimeComponents| {
        SharedHttpConnector::new(Watched { to: to.http_connector(settings, components) })
    })
}

#[derive(Debug)]
struct Watched {
    to: SharedHttpConnector,
}

impl HttpConnector for Watched {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let asked = request.headers().get(ACTION).and_then(asked_of).map(|(service, action)| ALL.ask(service, action));
        let answer = self.to.call(request);
        HttpConnectorFuture::new(async move {
            let answer = answer.await;
            if let (Some(asked), Ok(_)) = (&asked, &answer) {
                asked.is_answered();
            }
            answer
        })
    }
}

/// Which service, and what: of those that this program cannot go on without.
fn asked_of(target: &str) -> Option<(&'static str, &str)> {
    let (service, action) = target.split_once('.')?;
    let service = ["Kinesis", "DynamoDB"].into_iter().find(|name| service.starts_with(name))?;
    Some((service, action))
}

/// See the module.
#[derive(Debug, Default)]
struct Silences(Mutex<BTreeMap<&'static str, Silence>>);

#[derive(Debug, Default)]
struct Silence {
    /// Requests under way.
    open: usize,
    /// Since when it is asked and has answered nothing.
    since: Option<Instant>,
    /// When a request last ended without an answer.
    ended: Option<Instant>,
    /// What was asked last.
    action: String,
}

impl Silence {
    fn is_asked(&self) -> bool {
        self.open > 0 || self.ended.is_some_and(|ended| ended.elapsed() < PAUSE_MAX)
    }
}

/// A request under way, until this is dropped.
struct Asked<'a> {
    of: &'a Silences,
    service: &'static str,
}

impl Silences {
    fn services(&self) -> MutexGuard<'_, BTreeMap<&'static str, Silence>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self, service: &'static str, action: &str) -> Asked<'_> {
        let mut services = self.services();
        let silence = services.entry(service).or_default();
        if !silence.is_asked() || silence.since.is_none() {
            silence.since = Some(Instant::now());
        }
        silence.open += 1;
        silence.action = action.to_owned();
        Asked { of: self, service }
    }

    fn said(&self) -> Option<String> {
        let services = self.services();
        let silent = services.iter().filter_map(|(service, silence)| {
            let secs = silence.since.filter(|_| silence.is_asked())?.elapsed();
            (secs >= WORD_AFTER).then(|| {
                format!("{service} has not answered for {} s (last asked: {})", secs.as_secs(), silence.action)
            })
        });
        let said = silent.collect::<Vec<_>>().join("; ");
        (!said.is_empty()).then_some(said)
    }
}

impl Asked<'_> {
    fn is_answered(&self) {
        if let Some(silence) = self.of.services().get_mut(self.service) {
            // Whoever else waits is heard of from now on.
            silence.since = Some(Instant::now()).filter(|_| silence.open > 1);
            silence.ended = None;
        }
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if let Some(silence) = self.of.services().get_mut(self.service) {
            silence.open = silence.open.saturating_sub(1);
            silence.ended = silence.since.map(|_| Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    async fn pass(secs: u64) {
        tokio::time::advance(Duration::from_secs(secs)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_asked_again_and_again_and_stays_silent_is_told_of_until_it_answers() {
        let silences = Silences::default();
        assert_eq!(silences.said(), None);
        let first = silences.ask("DynamoDB", "Scan");
        pass(9).await;
        assert_eq!(silences.said(), None, "it may come yet");
        pass(1).await;
        assert_eq!(silences.said().as_deref(), Some("DynamoDB has not answered for 10 s (last asked: Scan)"));
        // The connection is given up, and another attempt made after a pause.
        drop(first);
        pass(3).await;
        assert!(silences.said().is_some(), "it will be asked again");
        let second = silences.ask("DynamoDB", "Scan");
        assert_eq!(silences.said().as_deref(), Some("DynamoDB has not answered for 13 s (last asked: Scan)"));
        let other = silences.ask("Kinesis", "ListShards");
        pass(10).await;
        assert!(silences.said().unwrap().contains("; Kinesis has not answered for 10 s"));
        for asked in [second, other] {
            asked.is_answered();
        }
        assert_eq!(silences.said(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn who_answers_others_or_is_asked_no_more_is_not_silent() {
        let silences = Silences::default();
        let slow = silences.ask("Kinesis", "PutRecords");
        for _ in 0..5 {
            pass(5).await;
            silences.ask("Kinesis", "GetRecords").is_answered();
            assert_eq!(silences.said(), None);
        }
        pass(10).await;
        assert!(silences.said().is_some());
        drop(slow);
        pass(20).await;
        assert_eq!(silences.said(), None, "nobody asks any more");
        let _anew = silences.ask("Kinesis", "GetRecords");
        assert_eq!(silences.said(), None);
    }

    #[test]
    fn what_is_asked_stands_in_a_header_of_the_two_that_are_waited_for() {
        assert_eq!(asked_of("DynamoDB_20120810.BatchWriteItem"), Some(("DynamoDB", "BatchWriteItem")));
        assert_eq!(asked_of("Kinesis_20131202.PutRecords"), Some(("Kinesis", "PutRecords")));
        assert_eq!(asked_of("SSOOIDC.CreateToken"), None);
    }
}
