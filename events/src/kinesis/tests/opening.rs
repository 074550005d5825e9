//! Streams that are missing, being made, or not ours to use.

use std::{num::NonZeroU16, time::Duration};

use aws_credential_types::provider::{error::CredentialsError, future};
use aws_sdk_kinesis::config::{Credentials, ProvideCredentials};

use super::{
    Kinesis, Missing, client, client_with, quick,
    scripted::{Act, Scripted},
};
use crate::kinesis::OpenError;

const CREATE: Missing = Missing::Create(NonZeroU16::new(2).unwrap());

#[tokio::test]
async fn a_missing_stream_is_made_if_that_is_allowed_and_waited_for() {
    let service = Scripted::start(2).await;
    service.state().status = None;
    let stream = Kinesis::open_with(client(&service.endpoint), "new", CREATE, quick()).await.unwrap();
    assert!(stream.was_created());
    let call = &service.calls("CreateStream")[0];
    assert_eq!((&call["ShardCount"], &call["Tags"]["created-by"]), (&2.into(), &"weir".into()));
    assert_eq!(call["StreamModeDetails"]["StreamMode"], "PROVISIONED");
    assert_eq!(service.calls("DescribeStreamSummary").len(), 3, "missing, being made, active");
    let stream = Kinesis::open_with(client(&service.endpoint), "new", CREATE, quick()).await.unwrap();
    assert!(!stream.was_created(), "what is there is used as it is");
    assert_eq!(service.calls("CreateStream").len(), 1);
}

#[tokio::test]
async fn a_stream_that_another_made_meanwhile_is_used() {
    let service = Scripted::start(1).await;
    service.next("DescribeStreamSummary", [Act::Error(400, "ResourceNotFoundException", "not found")]);
    let stream = Kinesis::open_with(client(&service.endpoint), "raced", CREATE, quick()).await.unwrap();
    assert!(!stream.was_created());
}

#[tokio::test]
async fn a_stream_that_is_said_to_be_there_and_is_not_yet_seen_is_asked_for_again_only_after_a_pause() {
    let service = Scripted::start(1).await;
    service.state().always.insert("DescribeStreamSummary", Act::Error(400, "ResourceNotFoundException", "not found"));
    let options = crate::kinesis::Options { status_pause: Duration::from_secs(3_600), ..quick() };
    let open = Kinesis::open_with(client(&service.endpoint), "raced", CREATE, options);
    // However long it is left to itself: nothing more is asked.
    let _ = tokio::time::timeout(Duration::from_millis(300), open).await.unwrap_err();
    assert_eq!((service.calls("CreateStream").len(), service.calls("DescribeStreamSummary").len()), (1, 1));
}

#[tokio::test]
async fn a_missing_stream_that_may_not_be_made_is_named() {
    let service = Scripted::start(1).await;
    service.state().status = None;
    let error = Kinesis::open_with(client(&service.endpoint), "absent", Missing::Refuse, quick()).await.unwrap_err();
    assert_eq!(error, OpenError::Missing("absent".into()));
    assert_eq!(error.to_string(), "there is no Kinesis stream absent in this account and region");
    assert_eq!(service.calls("CreateStream").len(), 0);
}

#[tokio::test]
async fn a_stream_that_is_being_deleted_is_not_waited_for() {
    let service = Scripted::start(1).await;
    service.state().status = Some("DELETING");
    let error = Kinesis::open_with(client(&service.endpoint), "going", CREATE, quick()).await.unwrap_err();
    assert!(error.to_string().contains("being deleted"), "{error}");
}

#[tokio::test]
async fn a_name_that_no_stream_has_is_refused_before_anything_is_asked() {
    let service = Scripted::start(1).await;
    for name in ["", "a b", "kinesis://x", &"x".repeat(129)] {
        let error = Kinesis::open_with(client(&service.endpoint), name, CREATE, quick()).await.unwrap_err();
        assert!(matches!(error, OpenError::Name(_)), "{name:?}: {error}");
    }
    assert_eq!(service.state().calls.len(), 0);
}

#[tokio::test]
async fn credentials_that_are_missing_or_not_accepted_are_said_without_their_secrets() {
    let service = Scripted::start(1).await;
    let open = async |client| Kinesis::open_with(client, "x", CREATE, quick()).await.unwrap_err().to_string();
    let said = open(client_with(&service.endpoint, None::<Credentials>)).await;
    assert!(said.contains("credentials"), "{said}");
    assert_eq!(service.state().calls.len(), 0);
    let secrets = Credentials::new("AKIDSECRET", "sk-SECRET", Some("st-SECRET".into()), None, "test");
    for (code, message, word) in [
        ("UnrecognizedClientException", "The security token included in the request is invalid.", "credentials"),
        ("ExpiredTokenException", "The security token included in the request is expired", "renew"),
        ("InvalidSignatureException", "The Canonical String was 'x-amz-security-token:st-SECRET'", "signature"),
        ("AccessDeniedException", "User: arn is not authorized to perform: kinesis:DescribeStreamSummary", "permit"),
    ] {
        service.next("DescribeStreamSummary", [Act::Error(400, code, message)]);
        let said = open(client_with(&service.endpoint, Some(secrets.clone()))).await;
        assert!(said.contains(word) && said.contains(code), "{said}");
        assert!(!said.contains("SECRET"), "{said}");
    }
}

/// As one that runs a program and repeats what that wrote.
#[derive(Debug)]
struct Talkative;

impl ProvideCredentials for Talkative {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(Err(CredentialsError::provider_error("the program wrote SECRET")))
    }
}

#[tokio::test]
async fn what_a_provider_of_credentials_says_is_not_repeated() {
    let service = Scripted::start(1).await;
    let client = client_with(&service.endpoint, Some(Talkative));
    let error = Kinesis::open_with(client, "x", CREATE, quick()).await.unwrap_err().to_string();
    assert!(error.contains("credentials") && error.contains("provider failed"), "{error}");
    assert!(!error.contains("SECRET"), "{error}");
}

#[tokio::test]
async fn where_nobody_listens_this_is_said() {
    let mut service = Scripted::start(1).await;
    service.stop().await;
    let error = Kinesis::open_with(client(&service.endpoint), "x", CREATE, quick()).await.unwrap_err();
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn nothing_that_is_printed_of_a_stream_holds_a_secret() {
    let service = Scripted::start(1).await;
    let stream = super::open(&service, quick()).await;
    let text = format!("{stream:?}");
    assert_eq!(text, "Kinesis(\"scripted\")");
}
