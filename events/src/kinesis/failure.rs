//! What became of a call that failed: decides from the SDK's error whether it may have happened, and whether it may pass. Its text never holds a
//! secret: no request, no header, no signature.

use std::{error::Error, io};

use aws_sdk_kinesis::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
    types::error::SubscribeToShardEventStreamError,
};

use crate::sdk::{self, chain, credentials};

/// What the caller can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It did not happen: too much at once. Again after a pause.
    Throttled,
    /// It may have happened: the answer was lost, or the service failed. Again, if that does no harm.
    Unknown,
    /// As `Unknown`: there was no answer in time. Again with less, as the link may be slow.
    Late,
    /// It did not happen: nothing was sent. Again after a pause.
    NeverSent,
    /// It did not happen: what it names does not exist.
    Gone,
    /// It did not happen: an iterator or a page's token is too old. Again with a new one.
    Expired,
    /// It did not happen: what is asked for exists already, or is being changed.
    InUse,
    /// It did not happen, and will not until somebody changes something: credentials, permissions, arguments.
    Refused,
}

/// A failed call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub kind: Kind,
    pub why: String,
}

impl Failure {
    pub fn new(kind: Kind, why: impl Into<String>) -> Self {
        Self { kind, why: why.into() }
    }

    /// Judges an error of the SDK.
    pub fn of<E>(error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        if let Some(why) = credentials(error) {
            return Self::new(Kind::Refused, format!("there are no usable AWS credentials: {why}"));
        }
        match error {
            SdkError::ServiceError(context) => {
                let error = context.err();
                of_service(context.raw().status().as_u16(), error.code(), error.message())
            }
            SdkError::ConstructionFailure(_) => {
                Self::new(Kind::Refused, format!("the call could not be made: {}", chain(error)))
            }
            SdkError::TimeoutError(_) => Self::new(Kind::Late, "there was no answer in time"),
            SdkError::DispatchFailure(failure) if failure.is_user() => {
                Self::new(Kind::Refused, format!("the call could not be sent: {}", chain(error)))
            }
            SdkError::DispatchFailure(_) if never_connected(error) => {
                Self::new(Kind::NeverSent, format!("no connection: {}", chain(error)))
            }
            SdkError::DispatchFailure(_) => Self::new(Kind::Unknown, format!("the connection broke: {}", chain(error))),
            SdkError::ResponseError(_) => {
                Self::new(Kind::Unknown, format!("the answer could not be read: {}", chain(error)))
            }
            _ => Self::new(Kind::Unknown, chain(error)),
        }
    }
}

impl Failure {
    /// Judges what came instead of an event: the stream of events is over with it. The SDK gives these errors no code, only a type.
    pub fn of_event<R: std::fmt::Debug + 'static>(error: &SdkError<SubscribeToShardEventStreamError, R>) -> Self {
        use SubscribeToShardEventStreamError as Told;
        let SdkError::ServiceError(context) = error else {
            return Self::new(Kind::Unknown, format!("the subscription broke: {}", chain(error)));
        };
        let told = context.err();
        let code = match told {
            Told::ResourceNotFoundException(_) => "ResourceNotFoundException",
            Told::ResourceInUseException(_) => "ResourceInUseException",
            Told::InternalFailureException(_) => "InternalFailure",
            Told::KmsThrottlingException(_) => "KMSThrottlingException",
            Told::KmsDisabledException(_) => "KMSDisabledException",
            Told::KmsInvalidStateException(_) => "KMSInvalidStateException",
            Told::KmsAccessDeniedException(_) => "KMSAccessDeniedException",
            Told::KmsNotFoundException(_) => "KMSNotFoundException",
            Told::KmsOptInRequired(_) => "KMSOptInRequired",
            told => told.code().unwrap_or("an unknown error"),
        };
        // What the service itself failed at, and what only a newer one says, may pass.
        let is_known = told.code().is_some() || !matches!(code, "InternalFailure" | "an unknown error");
        of_service(if is_known { 400 } else { 500 }, Some(code), told.message())
    }
}

fn of_service(status: u16, code: Option<&str>, message: Option<&str>) -> Failure {
    let code = code.unwrap_or("no code");
    let said = sdk::said(code, message);
    let (kind, why) = match code {
        "ProvisionedThroughputExceededException"
        | "LimitExceededException"
        | "KMSThrottlingException"
        | "ThrottlingException"
        | "Throttling"
        | "RequestLimitExceeded" => (Kind::Throttled, said),
        "ExpiredIteratorException" | "ExpiredNextTokenException" => (Kind::Expired, said),
        "ResourceNotFoundException" => (Kind::Gone, said),
        "ResourceInUseException" => (Kind::InUse, said),
        _ if sdk::is_of_credentials(code) => {
            let next = "renew or correct them, and check the secret key and this machine's clock";
            (Kind::Refused, format!("AWS does not accept the credentials or the signature: {next} ({said})"))
        }
        "AccessDeniedException" | "AccessDenied" => {
            (Kind::Refused, format!("the credentials do not permit it ({said})"))
        }
        _ if status >= 500 => (Kind::Unknown, said),
        _ => (Kind::Refused, said),
    };
    Failure { kind, why }
}

/// True if the operating system says that no connection came about: then nothing was sent.
fn never_connected(error: &(dyn Error + 'static)) -> bool {
    use io::ErrorKind::{AddrNotAvailable, ConnectionRefused, HostUnreachable, NetworkUnreachable};
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<io::Error>()
            && matches!(error.kind(), ConnectionRefused | HostUnreachable | NetworkUnreachable | AddrNotAvailable)
        {
            return true;
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_signature_error_repeats_of_the_request_is_not_repeated() {
        let message = "The Canonical String should have been 'POST x-amz-security-token:SESSION'";
        let failure = of_service(400, Some("InvalidSignatureException"), Some(message));
        assert_eq!(failure.kind, Kind::Refused);
        assert!(!failure.why.contains("SESSION"), "{}", failure.why);
    }

    #[test]
    fn an_unknown_error_of_the_service_may_have_happened_and_one_of_ours_did_not() {
        assert_eq!(of_service(500, None, None).kind, Kind::Unknown);
        assert_eq!(of_service(503, Some("ServiceUnavailable"), None).kind, Kind::Unknown);
        assert_eq!(of_service(400, Some("SomethingNew"), None).kind, Kind::Refused);
    }
}
