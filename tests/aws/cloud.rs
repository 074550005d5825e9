//! A stream and tables that one test has to itself, and the commands on them. Decides nothing about right and wrong.

use std::{
    ffi::OsStr,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use crate::{
    program::{Folder, Said, Server, clean, say, weir},
    stream::runtime,
};

/// What AWS tools read from a process's environment: taken away, so that the machine's own account is never meant.
pub fn forget(command: &mut Command) {
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("AWS_")) {
        command.env_remove(name);
    }
    // Neither files of the user nor the address at which cloud machines find their roles.
    command.env("AWS_EC2_METADATA_DISABLED", "true").env("AWS_CONFIG_FILE", "/dev/null");
    command.env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
}

/// A command in an environment without a word about AWS.
pub fn bare(folder: &Folder) -> Command {
    let mut command = weir(folder.root.path());
    forget(&mut command);
    command
}

/// A client of the tables.
pub fn dynamodb() -> aws_sdk_dynamodb::Client {
    let settings = emulators::settings!(aws_sdk_dynamodb, &emulators::dynamodb().endpoint);
    aws_sdk_dynamodb::Client::from_conf(settings.build())
}

/// All items of a small table, each attribute's text or number.
pub fn scan(table: &str) -> Vec<serde_json::Map<String, serde_json::Value>> {
    use aws_sdk_dynamodb::types::AttributeValue;
    let answer = runtime().block_on(dynamodb().scan().table_name(table).send()).unwrap();
    let text = |value: AttributeValue| match value {
        AttributeValue::S(text) | AttributeValue::N(text) => text.into(),
        AttributeValue::Ss(texts) => texts.into(),
        other => format!("{other:?}").into(),
    };
    let items = answer.items.unwrap_or_default().into_iter();
    items.map(|item| item.into_iter().map(|(name, value)| (name, text(value))).collect()).collect()
}

/// A pair of its own on the emulators.
pub struct Cloud {
    /// The cache folder, and files.
    pub folder: Folder,
    pub name: String,
}

impl Cloud {
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self { folder: Folder::new(), name: format!("weir-test-{number}") }
    }

    /// Its options.
    pub fn options(&self) -> [String; 4] {
        ["--stream".into(), format!("kinesis://{}", self.name), "--store".into(), format!("dynamodb://{}", self.name)]
    }

    /// Leads a command to the emulators.
    pub fn lead(command: &mut Command) -> &mut Command {
        forget(command);
        command.env("AWS_REGION", "us-east-1").env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
        command.env("AWS_ENDPOINT_URL_KINESIS", &emulators::kinesis().endpoint);
        command.env("AWS_ENDPOINT_URL_DYNAMODB", &emulators::dynamodb().endpoint)
    }

    /// A command on the pair, with this folder as its cache.
    pub fn command_in(&self, cache: &Folder, name: &str) -> Command {
        let mut command = cache.command(name);
        clean(&mut command, cache.root.path());
        Self::lead(&mut command).args(self.options());
        command
    }

    /// A command on the pair.
    pub fn command(&self, name: &str) -> Command {
        self.command_in(&self.folder, name)
    }

    /// A command with arguments, run to its end.
    pub fn run<S: AsRef<OsStr>>(&self, name: &str, arguments: impl IntoIterator<Item = S>) -> Said {
        say(self.command(name).args(arguments))
    }

    /// Asserts that verify finds no difference; its answer.
    #[track_caller]
    pub fn verifies(&self) -> serde_json::Value {
        let report = self.run("verify", ["--json"]).exits(0).json();
        assert_eq!((&report["differences"], &report["older_than_stream"]), (&0.into(), &0.into()), "{report}");
        report
    }

    /// Starts `weir up` on a free port, and returns once it has said where it serves.
    pub fn up<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Server {
        Server::start(self.command("up").args(["--listen", "127.0.0.1:0"]).args(arguments))
    }
}
