//! Region, credentials and endpoints come from where every AWS tool has them, the files of profiles included; and what is wrong with a profile is said by
//! its name, with the next step.

use std::process::Command;

use crate::{
    cloud::{Cloud, forget},
    logs::lines,
    program::{Folder, Said, say, weir},
    refusals::refusing,
};

/// A home with what `aws configure` and `aws configure sso` write.
struct Home {
    folder: Folder,
}

impl Home {
    fn new() -> Self {
        let home = Self { folder: Folder::new() };
        let (kinesis, dynamodb) = (&emulators::kinesis().endpoint, &emulators::dynamodb().endpoint);
        home.folder.file(
            ".aws/config",
            format!(
                "[default]\nregion = us-east-1\n\n\
                 [profile emulated]\nregion = us-east-1\nservices = here\n\n\
                 [services here]\nkinesis =\n  endpoint_url = {kinesis}\ndynamodb =\n  endpoint_url = {dynamodb}\n\n\
                 [profile no-region]\noutput = json\n\n\
                 [profile empty]\nregion = us-east-1\n\n\
                 [profile signed]\nregion = us-east-1\nsso_session = corp\nsso_account_id = 111122223333\nsso_role_name = Dev\n\n\
                 [sso-session corp]\nsso_region = us-east-1\nsso_start_url = https://corp.awsapps.com/start\n\n\
                 [profile old]\nregion = us-east-1\nsso_region = us-east-1\nsso_start_url = https://corp.awsapps.com/start\n\
                 sso_account_id = 111122223333\nsso_role_name = Dev\n\n\
                 [profile role]\nregion = us-east-1\nrole_arn = arn:aws:iam::111122223333:role/logs\nsource_profile = gone\n"
            ),
        );
        home.folder.file(".aws/credentials", "[emulated]\naws_access_key_id = test\naws_secret_access_key = test\n");
        home
    }

    fn command(&self, profile: &str) -> Command {
        let mut command = weir(self.folder.root.path());
        forget(&mut command);
        command.env_remove("AWS_CONFIG_FILE").env_remove("AWS_SHARED_CREDENTIALS_FILE").env("AWS_PROFILE", profile);
        command
    }

    fn metrics(&self, profile: &str) -> Said {
        let mut command = self.command(profile);
        say(command.args(["metrics", "--stream", "kinesis://logs", "--store", "dynamodb://logs"])).exits(2)
    }
}

#[test]
fn a_profile_gives_region_credentials_and_an_endpoint_for_each_service() {
    let (home, cloud) = (Home::new(), Cloud::new());
    let file = home.folder.file("app.log", lines("app", 0..60));
    let run = |arguments: &[&str]| {
        let mut command = home.command("emulated");
        say(command.args(arguments).args(cloud.options())).exits(0)
    };
    let said = run(&["ingest", file.to_str().unwrap()]);
    assert_eq!(said.last_line(), "accepted 60 = folded 60 + skipped 0 + duplicate 0 + dead 0");
    let made = |what: &str, endpoint: &str| format!("made the {what} in us-east-1 at {endpoint}");
    said.complains(&[
        &made(&format!("stream {}", cloud.name), &emulators::kinesis().endpoint),
        &made(&format!("table {}-ApplicationMetrics", cloud.name), &emulators::dynamodb().endpoint),
    ]);
    assert_eq!(run(&["verify", "--json"]).json()["differences"], 0);
    // What the environment says of one service comes before the profile.
    let mut command = home.command("emulated");
    command.args(["metrics"]).args(cloud.options()).env("AWS_ENDPOINT_URL_KINESIS", "http://127.0.0.1:9");
    say(&mut command).exits(2).complains(&["us-east-1 at http://127.0.0.1:9"]);
}

#[test]
fn credentials_that_aws_no_longer_takes_are_said_with_the_profile_that_has_them() {
    let home = Home::new();
    for (code, words) in
        [("ExpiredTokenException", "renew or correct them"), ("InvalidSignatureException", "check the secret key")]
    {
        let mut command = home.command("emulated");
        command.args(["metrics", "--stream", "kinesis://logs", "--store", "dynamodb://logs"]);
        command.env("AWS_ENDPOINT_URL_KINESIS", refusing(code));
        say(&mut command).exits(2).complains(&[code, words, "profile `emulated`", "AWS_PROFILE"]);
    }
}

#[test]
fn what_is_wrong_with_a_profile_is_said_by_its_name_with_the_next_step() {
    let home = Home::new();
    home.metrics("nobody").complains(&["no profile `nobody`", "AWS_PROFILE", "aws configure list-profiles"]);
    home.metrics("no-region").complains(&["no AWS region", "`no-region`", "AWS_REGION"]);
    home.metrics("empty").complains(&["no AWS credentials in the profile `empty`", "aws configure"]);
    home.metrics("role").complains(&["no AWS credentials in the profile `role`", "`gone` was not defined"]);
    for profile in ["signed", "old"] {
        home.metrics(profile)
            .complains(&[&format!("`{profile}` signs in by SSO"), &format!("aws sso login --profile {profile}")]);
    }
    // A sign-in that is over, under the SHA-1 of the session's name.
    home.folder.file(
        ".aws/sso/cache/ee0bfd2552fbd840c02cc48b6e823320543c450f.json",
        r#"{"accessToken":"secret","expiresAt":"2020-01-01T00:00:00Z","startUrl":"https://corp.awsapps.com/start","region":"us-east-1"}"#,
    );
    let said = home.metrics("signed").complains(&["has expired", "aws sso login --profile signed"]);
    assert!(!said.err.contains("secret"), "{said:?}");
    // A home without any of the files.
    let bare = Home { folder: Folder::new() };
    bare.metrics("nosuch").complains(&["no profile `nosuch`", "~/.aws/config", "AWS_PROFILE"]);
    let mut command = bare.command("nosuch");
    command
        .args(["metrics", "--stream", "kinesis://logs", "--store", "dynamodb://logs"])
        .env("AWS_REGION", "us-east-1");
    say(&mut command).exits(2).complains(&["no profile `nosuch`", "~/.aws/config", "AWS_PROFILE"]);
    home.folder.file(".aws/config", "[profile broken\nregion = us-east-1\n");
    home.metrics("emulated").complains(&["AWS's configuration", "~/.aws/config", "cannot be read", "could not parse"]);
}
