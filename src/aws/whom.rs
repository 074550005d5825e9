//! Who asks AWS, and where: finds region and credentials as every AWS tool does, and decides in which words it is said that there are none. What a person
//! has to do next depends on the profile, so the profile is named. Never holds a credential.

use aws_config::{SdkConfig, profile::ProfileFileCredentialsProvider, provider_config::ProviderConfig};
use aws_sdk_kinesis::config::ProvideCredentials;
use aws_types::service_config::ServiceConfigKey;

use super::{CONNECT_WAIT, OpenError, https};
use crate::with_causes;

/// What the SDK calls the profile that is meant where none is named.
const DEFAULT: &str = "default";

/// Asserts that a region and credentials are found.
pub(super) async fn is_known(config: &SdkConfig) -> Result<(), OpenError> {
    let profile = set("AWS_PROFILE");
    if config.region().is_none() {
        if let Some(name) = profile.as_ref().filter(|_| are_files_empty()) {
            return Err(OpenError::NoProfile(name.clone()));
        }
        // A profile that is misspelt has no region either, and its name is what is wrong.
        let why = if profile.is_some() { of_profile().await } else { None };
        return Err(why.and_then(|why| told(profile.as_deref(), &why)).unwrap_or(OpenError::NoRegion(of(&profile))));
    }
    let Some(provider) = config.credentials_provider() else {
        return Err(OpenError::NoCredentials { profile: of(&profile), why: "none are configured".into() });
    };
    let Err(error) = provider.provide_credentials().await else { return Ok(()) };
    let mut why = said(&error);
    if let Some(known) = told(profile.as_deref(), &why) {
        return Err(known);
    }
    if let Some(name) = profile.as_ref().filter(|_| are_files_empty()) {
        return Err(OpenError::NoProfile(name.clone()));
    }
    // All places where credentials may be are long to read; who names a profile means that one.
    if let (Some(_), Some(of_profile)) = (&profile, of_profile().await) {
        why = of_profile;
    }
    Err(told(profile.as_deref(), &why).unwrap_or(OpenError::NoCredentials { profile: of(&profile), why }))
}

/// No profile stands in any of the files of profiles: then the SDK names neither, and says only that it did not look there. One that cannot be read
/// may hold some.
fn are_files_empty() -> bool {
    let home = set("HOME").unwrap_or_default();
    let file = |variable, name| set(variable).unwrap_or_else(|| format!("{home}/.aws/{name}"));
    let files = [file("AWS_CONFIG_FILE", "config"), file("AWS_SHARED_CREDENTIALS_FILE", "credentials")];
    files.iter().all(|file| match std::fs::read_to_string(file) {
        Ok(text) => !text.contains('['),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    })
}

fn set(variable: &str) -> Option<String> {
    std::env::var(variable).ok().filter(|value| !value.is_empty())
}

/// The profile whose credentials are used, where one is named. Those of the environment come before it.
pub(super) fn profile() -> Option<String> {
    set("AWS_PROFILE").filter(|_| set("AWS_ACCESS_KEY_ID").is_none())
}

/// Behind "no AWS credentials": whose.
fn of(profile: &Option<String>) -> String {
    profile.as_ref().map(|name| format!(" in the profile `{name}`")).unwrap_or_default()
}

/// The SDK lists on lines of their own where it has looked.
fn said(error: &dyn std::error::Error) -> String {
    with_causes(error).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Why the profile alone gives no credentials; `None`: it does, or it takes too long to say.
async fn of_profile() -> Option<String> {
    let provider = ProviderConfig::without_region().with_http_client(https());
    let provider = ProfileFileCredentialsProvider::builder().configure(&provider).build();
    let asked = tokio::time::timeout(CONNECT_WAIT, provider.provide_credentials()).await;
    asked.ok()?.err().map(|error| said(&error))
}

/// What is known to be wrong, from the SDK's words.
fn told(profile: Option<&str>, why: &str) -> Option<OpenError> {
    let name = profile.unwrap_or(DEFAULT);
    if profile.is_some() && why.contains(&format!("profile `{name}` was not defined")) {
        return Some(OpenError::NoProfile(name.to_owned()));
    }
    if why.contains("could not parse profile file") || why.contains("could not read file") {
        return Some(OpenError::ConfigFiles(why.to_owned()));
    }
    if why.contains("SSO token") || why.contains("sso/cache") {
        return Some(OpenError::NotSignedIn { profile: name.to_owned(), why: why.to_owned() });
    }
    None
}

/// The endpoint of a service that is not AWS's own, wherever it was set: `AWS_ENDPOINT_URL` and its forms, or the profile's `services`. `service`: as
/// AWS's models name it, such as `Kinesis`.
pub(super) fn endpoint(config: &SdkConfig, service: &str) -> Option<String> {
    let key = ServiceConfigKey::builder().service_id(service).env("AWS_ENDPOINT_URL").profile("endpoint_url").build();
    let of_service = key.ok().and_then(|key| config.service_config()?.load_config(key));
    of_service.or_else(|| config.endpoint_url().map(str::to_owned)).filter(|endpoint| !endpoint.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_sdk_says_of_a_profile_becomes_the_next_step() {
        let told = |profile, why| told(profile, why).map(|error| error.to_string());
        let missing =
            "the provider was not enabled: profile `nope` was not defined: could not find source profile nope";
        let said = told(Some("nope"), missing).unwrap_or_default();
        assert!(said.contains("no profile `nope`") && said.contains("aws configure list-profiles"), "{said}");
        // Another one that it refers to is another matter.
        assert_eq!(told(Some("role"), missing), None);
        let said = told(None, "failed to load the cached SSO token").unwrap_or_default();
        assert!(said.contains("aws sso login --profile default"), "{said}");
        assert_eq!(told(Some("any"), "no credentials found in chain"), None);
    }
}
