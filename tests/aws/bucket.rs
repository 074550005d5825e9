//! A bucket of the emulator that one test has to itself, filled by plain HTTP. Decides nothing about right and wrong.

use std::{
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use crate::program::{Answer, Folder, Said, request, say};

pub struct Bucket {
    pub name: String,
}

/// As the path of a URL.
fn escaped(key: &str) -> String {
    let one = |byte: u8| match byte {
        byte if byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte) => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    key.bytes().map(one).collect()
}

fn done(answer: Answer) -> Answer {
    assert!((200..300).contains(&answer.status), "{answer:?}");
    answer
}

impl Bucket {
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let bucket = Self { name: format!("weir-test-{}-{number}", std::process::id()) };
        done(bucket.call("PUT", "", &[]));
        bucket
    }

    fn call(&self, method: &str, rest: &str, body: &[u8]) -> Answer {
        request(&emulators::aws().endpoint, method, &format!("/{}{rest}", self.name), body)
    }

    pub fn put(&self, key: &str, bytes: impl AsRef<[u8]>) {
        done(self.call("PUT", &format!("/{}", escaped(key)), bytes.as_ref()));
    }

    pub fn delete(&self, key: &str) {
        done(self.call("DELETE", &format!("/{}", escaped(key)), &[]));
    }

    /// The keys that begin so, in their order.
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        let listed = done(self.call("GET", &format!("?list-type=2&prefix={}", escaped(prefix)), &[])).body;
        let keys = listed.split("<Key>").skip(1).filter_map(|rest| rest.split("</Key>").next());
        keys.map(str::to_owned).collect()
    }

    pub fn keep_versions(&self) {
        let on = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
        done(self.call("PUT", "?versioning", on));
    }

    pub fn url(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.name)
    }
}

/// Leads a command to the emulator of S3.
pub fn lead(command: &mut Command) -> &mut Command {
    crate::cloud::Cloud::lead(command).env("AWS_ENDPOINT_URL_S3", &emulators::aws().endpoint)
}

/// `weir ingest` into a data folder.
pub fn ingest(folder: &Folder, names: &[&str]) -> Said {
    say(lead(&mut folder.command("ingest")).args(names))
}
