//! One request, until it is answered: decides which errors are worth another try, how long to wait, what is said of the rest, and whether what failed
//! may have happened. It never repeats what cannot be repeated: each write of this adapter stands on a condition, or writes the same thing again.
//!
//! | answer | again | may have happened |
//! | --- | --- | --- |
//! | throttled, over a limit, in conflict with a transaction | yes | no |
//! | 5xx, time-out, cut or refused connection | yes | yes |
//! | what the caller takes for an answer, such as a failed condition | no | an earlier try |
//! | any other | no | an earlier try |
//!
//! Messages of the service about signatures repeat what was signed, with session tokens: of these only the code is said. What providers of credentials
//! say may hold what a program wrote to its stderr: of these only the kind is said.

use std::{
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use aws_sdk_dynamodb::{
    error::{ProvideErrorMetadata, SdkError},
    types::ConsumedCapacity,
};
use events::sdk::{self, credentials};

use crate::store::{ReadError, WriteError};

/// A request is tried so often; then it has failed. With `Pace::default` these waits last 6 seconds at most together, 3 as a rule.
pub const TRIES_MAX: u32 = 8;

/// Longest wait before each new try: it begins with `first`, doubles, and stays at `most`. The wait itself is random below that, so that who was
/// throttled together does not come back together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub(super) first: Duration,
    pub(super) most: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { first: Duration::from_millis(50), most: Duration::from_secs(3) }
    }
}

impl Pace {
    /// Waits before the next try; `tries`: so many were made.
    pub(super) async fn wait(self, tries: u32) {
        let most = self.first.saturating_mul(1 << tries.saturating_sub(1).min(16)).min(self.most);
        // A new one has new keys: random enough to tell processes apart.
        let random = RandomState::new().hash_one(tries) % 1_000;
        tokio::time::sleep(most.mul_f64((random + 1) as f64 / 1_000.0)).await;
    }
}

/// Capacity units that were consumed, as the service counted them: for prices, and for tests that hold them.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// In halves, as an eventually consistent read takes half of one.
    read: AtomicU64,
    write: AtomicU64,
}

/// Capacity units.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Units {
    /// Read units.
    pub read: f64,
    /// Write units.
    pub write: f64,
}

impl Meter {
    pub(super) fn read<'a>(&self, consumed: impl IntoIterator<Item = &'a ConsumedCapacity>) {
        self.read.fetch_add(halves(consumed), Ordering::Relaxed);
    }

    pub(super) fn write<'a>(&self, consumed: impl IntoIterator<Item = &'a ConsumedCapacity>) {
        self.write.fetch_add(halves(consumed), Ordering::Relaxed);
    }

    pub(super) fn units(&self) -> Units {
        let of = |halves: &AtomicU64| halves.load(Ordering::Relaxed) as f64 / 2.0;
        Units { read: of(&self.read), write: of(&self.write) }
    }
}

fn halves<'a>(consumed: impl IntoIterator<Item = &'a ConsumedCapacity>) -> u64 {
    consumed.into_iter().filter_map(ConsumedCapacity::capacity_units).map(|units| (units * 2.0).round() as u64).sum()
}

/// A request that was not answered well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failed {
    /// False: it certainly did not happen.
    pub(super) may_have_happened: bool,
    pub(super) why: String,
}

impl Failed {
    /// What is known before anything is sent.
    pub(super) fn before(why: impl Into<String>) -> Self {
        Self { may_have_happened: false, why: why.into() }
    }
}

impl From<Failed> for WriteError {
    fn from(Failed { may_have_happened, why }: Failed) -> Self {
        if may_have_happened { Self::Unknown(why) } else { Self::NotWritten(why) }
    }
}

impl From<Failed> for ReadError {
    fn from(failed: Failed) -> Self {
        Self::Unavailable(failed.why)
    }
}

/// What a request came to.
pub(super) enum Answer<T, E> {
    Done(T),
    /// The caller's own kind of refusal. `after_doubt`: an earlier try of this request may have happened, and be what stands in its way.
    Refused {
        error: E,
        after_doubt: bool,
    },
}

/// Sends a request until it is answered.
pub(super) async fn call<T, E, F>(
    pace: Pace,
    (operation, table): (&str, &str),
    is_answer: impl Fn(&E) -> bool,
    mut attempt: impl FnMut() -> F,
) -> Result<Answer<T, E>, Failed>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    F: Future<Output = Result<T, SdkError<E>>>,
{
    let (mut tries, mut doubt) = (0, false);
    loop {
        tries += 1;
        let error = match attempt().await {
            Ok(answer) => return Ok(Answer::Done(answer)),
            Err(SdkError::ServiceError(context)) if is_answer(context.err()) => {
                return Ok(Answer::Refused { error: context.into_err(), after_doubt: doubt });
            }
            Err(error) => error,
        };
        let verdict = judge(&error);
        doubt |= verdict != Verdict::Refused && verdict != Verdict::Throttled;
        if verdict == Verdict::Refused || tries == TRIES_MAX {
            let why = format!("{operation} on table {table}: {}", said(operation, &error, verdict, tries));
            return Err(Failed { may_have_happened: doubt, why });
        }
        pace.wait(tries).await;
    }
}

/// The same for requests that are either done or failed.
pub(super) async fn done<T, E, F>(pace: Pace, what: (&str, &str), attempt: impl FnMut() -> F) -> Result<T, Failed>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    F: Future<Output = Result<T, SdkError<E>>>,
{
    match call(pace, what, |_| false, attempt).await? {
        Answer::Done(answer) => Ok(answer),
        Answer::Refused { error, .. } => Err(Failed::before(error.to_string())),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Throttled,
    Lost,
    Refused,
}

fn judge<E: ProvideErrorMetadata + std::error::Error + 'static>(error: &SdkError<E>) -> Verdict {
    match error {
        SdkError::ConstructionFailure(_) => Verdict::Refused,
        SdkError::ServiceError(context) => match error.code().unwrap_or_default() {
            "ProvisionedThroughputExceededException"
            | "ThrottlingException"
            | "Throttling"
            | "RequestLimitExceeded"
            | "LimitExceededException"
            | "TransactionConflictException"
            | "TransactionInProgressException" => Verdict::Throttled,
            _ if context.raw().status().as_u16() >= 500 => Verdict::Lost,
            _ => Verdict::Refused,
        },
        // Requests are signed before they are sent.
        _ if credentials(error).is_some() => Verdict::Refused,
        _ => Verdict::Lost,
    }
}

/// Cause and next step.
fn said<E: ProvideErrorMetadata + std::error::Error + 'static>(
    operation: &str,
    error: &SdkError<E>,
    verdict: Verdict,
    tries: u32,
) -> String {
    let SdkError::ServiceError(_) = error else { return said_of_way(error, tries) };
    let code = error.code().unwrap_or("an error without a code");
    let message = error.message().unwrap_or_default();
    let next = match code {
        _ if sdk::is_of_credentials(code) => {
            return format!(
                "{code}; the credentials are wrong or have expired, or this machine's clock is: renew them (such as by `aws sso login`), and see \
                 `aws sts get-caller-identity`"
            );
        }
        "AccessDeniedException" => {
            format!("allow `dynamodb:{operation}` on this table, and on its indexes, to these credentials")
        }
        "ResourceNotFoundException" => {
            "there is no such table in this account and region: see AWS_REGION, or create it".to_owned()
        }
        _ if verdict == Verdict::Throttled => format!(
            "throttled {tries} times: the table or account takes no more at the moment. Raise its maximum throughput, or send less"
        ),
        _ if verdict == Verdict::Lost => format!("the service failed {tries} times; try again later"),
        _ => "this request was refused and will be again".to_owned(),
    };
    if message.is_empty() { format!("{code}; {next}") } else { format!("{code} ({message}); {next}") }
}

/// Of a request that came to no answer.
fn said_of_way<E: std::error::Error + 'static>(error: &SdkError<E>, tries: u32) -> String {
    if let Some(kind) = credentials(error) {
        return format!(
            "it was not sent, as there are no usable credentials ({kind}): log in (such as by `aws sso login`) or name a profile that has some \
             (AWS_PROFILE), and see `aws sts get-caller-identity`"
        );
    }
    let cause = match error {
        SdkError::TimeoutError(_) => "no answer in time",
        SdkError::DispatchFailure(failure) if failure.is_timeout() => "no answer in time",
        SdkError::DispatchFailure(_) => "the connection could not be made, or broke",
        SdkError::ConstructionFailure(_) => return format!("it could not be made ({})", root(error)),
        _ => "the answer could not be read",
    };
    format!("{cause}, {tries} times ({}); see AWS_REGION, AWS_ENDPOINT_URL and the network", root(error))
}

/// The innermost cause.
fn root(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
