//! What the SDK's errors of AWS' clients say, for the adapters of each service. Decides what of them may be repeated: never a secret.

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;

/// Longest text of AWS that is repeated.
const MESSAGE_CHARS_MAX: usize = 300;

/// What is wrong with the credentials, if that is the cause: which is known before anything is sent, as requests are signed. Only of which kind it is: a
/// provider may repeat what a program wrote, secrets too.
pub fn credentials(error: &(dyn Error + 'static)) -> Option<&'static str> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<CredentialsError>() {
            return Some(match error {
                CredentialsError::CredentialsNotLoaded(_) => "none were found",
                CredentialsError::ProviderTimedOut(_) => "their provider did not answer in time",
                CredentialsError::InvalidConfiguration(_) => "their configuration is not valid",
                CredentialsError::ProviderError(_) => "their provider failed",
                _ => "their provider failed in a way that has no name",
            });
        }
        // It has no type of its own where no provider is configured.
        if error.to_string().starts_with("failed to select an auth scheme") {
            return Some("no provider of them is configured");
        }
        next = error.source();
    }
    None
}

/// Codes by which services say that they do not accept who asks, or the signature.
const OF_CREDENTIALS: [&str; 14] = [
    "ExpiredToken",
    "ExpiredTokenException",
    "IncompleteSignature",
    "IncompleteSignatureException",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "InvalidToken",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
    "RequestExpired",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
];

/// True if a service says by this code that credentials, signature or the machine's clock are wrong.
pub fn is_of_credentials(code: &str) -> bool {
    OF_CREDENTIALS.contains(&code)
}

/// What a service answered. Where it does not accept who asks, the code alone: the messages of some of these repeat the request that was signed, the
/// session's token included.
pub fn said(code: &str, message: Option<&str>) -> String {
    match message.filter(|message| !message.is_empty() && !is_of_credentials(code)) {
        Some(message) => format!("{code}: {}", message.chars().take(MESSAGE_CHARS_MAX).collect::<String>()),
        None => code.to_owned(),
    }
}

/// The error and what caused it, each once. Not of what [`credentials`] speaks of.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut said = vec![error.to_string()];
    let mut next = error.source();
    while let Some(error) = next {
        let text = error.to_string();
        if said.last() != Some(&text) {
            said.push(text);
        }
        next = error.source();
    }
    said.join(": ").chars().take(MESSAGE_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_service_says_is_told_but_for_what_may_repeat_the_request_that_was_signed() {
        let message = "The Canonical String should have been 'POST x-amz-security-token:SESSION'";
        for code in OF_CREDENTIALS {
            assert_eq!(said(code, Some(message)), code);
        }
        assert_eq!(said("ValidationException", Some("a key is missing")), "ValidationException: a key is missing");
        assert_eq!(said("ValidationException", Some("")), "ValidationException");
        assert_eq!(said("X", Some(&"y".repeat(1_000))).len(), 3 + MESSAGE_CHARS_MAX);
    }

    #[derive(Debug, thiserror::Error)]
    #[error("{said}")]
    struct Wrapped {
        said: &'static str,
        source: Box<dyn Error>,
    }

    #[test]
    fn causes_are_told_once_and_what_a_provider_of_credentials_says_is_not_told() {
        let secret = CredentialsError::provider_error("the program wrote AKIASECRET");
        let inner = Box::new(Wrapped { said: "dispatch failure", source: Box::new(secret) });
        let error = Wrapped { said: "dispatch failure", source: inner };
        assert_eq!(credentials(&error), Some("their provider failed"));
        let plain = Wrapped { said: "dispatch failure", source: Box::new(std::io::Error::other("reset")) };
        let error = Wrapped { said: "dispatch failure", source: Box::new(plain) };
        assert_eq!((chain(&error).as_str(), credentials(&error)), ("dispatch failure: reset", None));
    }
}
