//! What became of a call to S3 that failed, in words that name the object, the cause and the next step. Never holds a secret: no request, no
//! header, no signature.

use std::{error::Error, fmt};

use aws_sdk_s3::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};
use events::sdk::{self, chain, credentials};

/// Where S3 says in which region a bucket lies.
const REGION_HEADER: &str = "x-amz-bucket-region";

/// What is to be done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// There is no such bucket.
    NoBucket,
    /// There is no such key, or no such version: it was deleted, or never was.
    NoKey,
    /// The credentials do not permit it.
    Denied,
    /// AWS does not accept the credentials.
    Credentials,
    /// The bucket lies in another region, if S3 says in which.
    Elsewhere(Option<String>),
    /// Another object stands under the key by now, or one at all.
    Replaced,
    /// The object is archived, and has to be restored before it can be read.
    Archived,
    /// The object is encrypted with a key that its owner keeps, and that each call has to bring along (SSE-C).
    OwnersKey,
    /// The range begins behind the object's last byte.
    PastEnd,
    /// It may pass: throttles, lost answers, trouble of the service or the way to it.
    Unavailable,
    /// Anything else: it will not pass by itself.
    Refused,
}

/// A call that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What is to be done about it.
    pub kind: Kind,
    /// The cause, as S3 or the SDK says it.
    pub why: String,
    /// How often it was tried.
    pub tries: u32,
    /// Which bucket was asked.
    pub bucket: String,
    /// Which key, or which beginning of keys.
    pub key: String,
}

impl Error for Failure {}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, why, tries, bucket, key } = self;
        match kind {
            Kind::NoBucket => write!(
                f,
                "there is no bucket {bucket} ({why}). Check its name, and the account and endpoint that are asked (AWS_PROFILE, AWS_ENDPOINT_URL)"
            ),
            Kind::NoKey => write!(
                f,
                "there is no such object ({why}): it was deleted, or never was. `aws s3 ls s3://{bucket}/{key}` shows what there is"
            ),
            Kind::Denied => write!(
                f,
                "the credentials do not permit it ({why}). They need s3:ListBucket on the bucket {bucket}, s3:GetObject on its objects (of versions \
                 that a notification names s3:GetObjectVersion), and kms:Decrypt on the key of objects that are encrypted with one. Of a bucket whose \
                 owner has its readers pay, `weir ingest --requester-pays` reads, on your bill"
            ),
            Kind::Credentials => write!(f, "there are no credentials that AWS accepts ({why}). Renew or correct them"),
            Kind::Elsewhere(region) => {
                let region = region.as_deref().unwrap_or("another region, which S3 does not name");
                write!(f, "the bucket {bucket} lies in {region} ({why}). Name its region with AWS_REGION")
            }
            Kind::Replaced => write!(
                f,
                "it was replaced while it was read ({why}). What was read of the one before is in; ingest it again for what it holds now"
            ),
            Kind::Archived => write!(
                f,
                "it is archived ({why}) and cannot be read before it is restored: `aws s3api restore-object --bucket {bucket} --key '{key}' \
                 --restore-request Days=7`, then ingest it again once that is done"
            ),
            Kind::OwnersKey => write!(
                f,
                "it is encrypted with a key that its owner keeps (SSE-C: {why}), which is not taken here. Give the key to another tool: `aws s3 cp \
                 s3://{bucket}/{key} - --sse-c --sse-c-key fileb://KEY | weir ingest - --as NAME`"
            ),
            Kind::PastEnd => write!(f, "it ends before the bytes that were asked for ({why}). Ingest it again"),
            Kind::Unavailable => write!(
                f,
                "S3 did not give it in {tries} tries: {why}. Once it does, run the same again: what is in is known, and nothing is counted twice"
            ),
            Kind::Refused => write!(f, "S3 refused it: {why}"),
        }
    }
}

impl Failure {
    pub(super) fn new(bucket: &str, key: &str, kind: Kind, why: String) -> Self {
        Self { kind, why, tries: 1, bucket: bucket.to_owned(), key: key.to_owned() }
    }

    /// True if the same call may have an answer later.
    pub fn passes(&self) -> bool {
        self.kind == Kind::Unavailable
    }

    /// Judges an error of the SDK.
    pub(super) fn of<E>(bucket: &str, key: &str, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        if let Some(why) = credentials(error) {
            return Self::new(bucket, key, Kind::Credentials, why.to_owned());
        }
        let (kind, why) = match error {
            SdkError::ServiceError(context) if context.raw().status().is_success() => {
                (Kind::Unavailable, format!("the answer could not be read: {}", chain(error)))
            }
            SdkError::ServiceError(context) => {
                let (raw, error) = (context.raw(), context.err());
                let region = raw.headers().get(REGION_HEADER).map(str::to_owned);
                of_service(raw.status().as_u16(), error.code(), error.message(), region)
            }
            SdkError::ConstructionFailure(_) => {
                (Kind::Refused, format!("the call could not be made: {}", chain(error)))
            }
            SdkError::TimeoutError(_) => (Kind::Unavailable, "there was no answer in time".to_owned()),
            SdkError::DispatchFailure(failure) if failure.is_user() => {
                (Kind::Refused, format!("the call could not be sent: {}", chain(error)))
            }
            SdkError::DispatchFailure(_) => (Kind::Unavailable, format!("the connection broke: {}", chain(error))),
            SdkError::ResponseError(_) => {
                (Kind::Unavailable, format!("the answer could not be read: {}", chain(error)))
            }
            _ => (Kind::Unavailable, chain(error)),
        };
        Self::new(bucket, key, kind, why)
    }
}

fn of_service(status: u16, code: Option<&str>, message: Option<&str>, region: Option<String>) -> (Kind, String) {
    // Answers to HEAD have no body, and so no code.
    let by_status = match status {
        403 => "AccessDenied",
        404 => "NotFound",
        405 => "MethodNotAllowed",
        412 => "PreconditionFailed",
        416 => "InvalidRange",
        503 => "SlowDown",
        _ => "no code",
    };
    let code = code.unwrap_or(by_status);
    let message = message.unwrap_or_default();
    let said = if message.is_empty() { format!("{status} {code}") } else { sdk::said(code, Some(message)) };
    let kind = match code {
        "NoSuchBucket" => Kind::NoBucket,
        // The version that is named is a delete marker: nothing stands there.
        "NoSuchKey" | "NoSuchVersion" | "NotFound" | "MethodNotAllowed" => Kind::NoKey,
        "PermanentRedirect" | "TemporaryRedirect" | "IllegalLocationConstraintException" => Kind::Elsewhere(region),
        "AuthorizationHeaderMalformed" if region.is_some() => Kind::Elsewhere(region),
        "PreconditionFailed" => Kind::Replaced,
        "InvalidObjectState" => Kind::Archived,
        // The code is that of any wrong request.
        "InvalidRequest" if message.contains("Server Side Encryption") => Kind::OwnersKey,
        "InvalidRange" => Kind::PastEnd,
        "AccessDenied" | "AccessDeniedException" | "AllAccessDisabled" | "AccountProblem" => Kind::Denied,
        _ if sdk::is_of_credentials(code) => Kind::Credentials,
        "SlowDown"
        | "RequestTimeout"
        | "RequestTimeoutException"
        | "Throttling"
        | "ThrottlingException"
        | "TooManyRequestsException"
        | "ConditionalRequestConflict"
        | "OperationAborted" => Kind::Unavailable,
        _ if status >= 500 || status == 429 => Kind::Unavailable,
        _ if status == 301 || status == 307 => Kind::Elsewhere(region),
        _ => Kind::Refused,
    };
    (kind, said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_s3_answers_is_told_apart_by_what_is_to_be_done_about_it() {
        let region = || Some("eu-west-1".to_owned());
        for (status, code, kind) in [
            (404, Some("NoSuchBucket"), Kind::NoBucket),
            (404, Some("NoSuchKey"), Kind::NoKey),
            (404, None, Kind::NoKey),
            (405, Some("MethodNotAllowed"), Kind::NoKey),
            (403, Some("AccessDenied"), Kind::Denied),
            (403, None, Kind::Denied),
            (403, Some("InvalidObjectState"), Kind::Archived),
            (403, Some("ExpiredToken"), Kind::Credentials),
            (301, Some("PermanentRedirect"), Kind::Elsewhere(region())),
            (400, Some("AuthorizationHeaderMalformed"), Kind::Elsewhere(region())),
            (412, Some("PreconditionFailed"), Kind::Replaced),
            (416, Some("InvalidRange"), Kind::PastEnd),
            (503, Some("SlowDown"), Kind::Unavailable),
            (500, Some("InternalError"), Kind::Unavailable),
            (400, Some("SomethingNew"), Kind::Refused),
        ] {
            assert_eq!(of_service(status, code, Some("said"), region()).0, kind, "{status} {code:?}");
        }
    }

    #[test]
    fn an_object_under_a_key_of_its_owner_is_told_from_a_wrong_request() {
        let message = "The object was stored using a form of Server Side Encryption. The correct parameters must be provided to retrieve the object.";
        assert_eq!(of_service(400, Some("InvalidRequest"), Some(message), None).0, Kind::OwnersKey);
        assert_eq!(of_service(400, Some("InvalidRequest"), Some("Missing required header"), None).0, Kind::Refused);
    }

    #[test]
    fn what_a_signature_error_repeats_of_the_request_is_not_repeated() {
        let message = "The Canonical String should have been 'GET x-amz-security-token:SESSION'";
        let (kind, why) = of_service(403, Some("SignatureDoesNotMatch"), Some(message), None);
        assert_eq!((kind, why.as_str()), (Kind::Credentials, "SignatureDoesNotMatch"));
    }
}
