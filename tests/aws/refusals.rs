//! What is said when something of AWS is missing or wrong: the thing, the cause and the next step, with exit status 2.

use std::{
    io::{Read, Write},
    net::TcpListener,
};

use crate::{
    cloud::{Cloud, bare},
    logs::lines,
    program::{Folder, say},
};

#[test]
fn who_may_make_nothing_is_told_what_is_missing_and_nothing_is_made() {
    let cloud = Cloud::new();
    let file = cloud.folder.file("app.log", lines("app", 0..3));
    let file = file.to_str().unwrap();
    let of_stream = format!("there is no Kinesis stream {}", cloud.name);
    for command in [&["ingest", file][..], &["up", "--listen", "127.0.0.1:0"]] {
        let said = cloud.run(command[0], command[1..].iter().chain(&["--no-create"])).exits(2);
        said.complains(&[&of_stream, "unless they are given --no-create"]);
    }
    for never in [&["verify", "--json"][..], &["metrics"], &["generations"]] {
        let said = cloud.run(never[0], &never[1..]).exits(2);
        let said = said.complains(&[&of_stream, "misspelt", "AWS_REGION", "`weir up` and `weir ingest` make"]);
        assert!(!said.err.contains("leave out") && !said.err.contains("create it"), "{said:?}");
        assert_eq!(said.err.matches("AWS_PROFILE").count(), 1, "one list of steps: {said:?}");
    }
    // The stream is there, and not the tables: another prefix.
    cloud.run("ingest", [file]).exits(0);
    let mut options = cloud.options();
    options[3].push_str("-other");
    let mut command = cloud.folder.command("ingest");
    let said = say(Cloud::lead(&mut command).args(options).args([file, "--no-create"])).exits(2);
    said.complains(&[&format!("{}-other-ApplicationMetrics", cloud.name), "--no-create"]);
    // With all there is, it takes nothing away.
    cloud.run("ingest", [file, "--no-create"]).exits(0);
}

#[test]
fn names_regions_credentials_and_endpoints_that_are_wrong_are_said() {
    let folder = Folder::new();
    let pair = ["--stream", "kinesis://logs", "--store", "dynamodb://logs"];
    let metrics = |arguments: &[&str], variables: &[(&str, &str)]| {
        say(bare(&folder).arg("metrics").args(arguments).envs(variables.iter().copied())).exits(2)
    };
    let wrong = ["--stream", "logs", "--store", "dynamodb://logs"];
    metrics(&wrong, &[]).complains(&["--stream logs is not kinesis://NAME"]);
    let wrong = ["--stream", "kinesis://logs", "--store", "dynamodb://a/b"];
    metrics(&wrong, &[]).complains(&["--store dynamodb://a/b is not dynamodb://PREFIX"]);
    metrics(&pair, &[]).complains(&["no AWS region is set", "AWS_REGION", "AWS_PROFILE"]);
    metrics(&pair, &[("AWS_REGION", "eu-central-1")]).complains(&["no AWS credentials", "aws configure"]);

    let known = [("AWS_REGION", "eu-central-1"), ("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")];
    // Nobody listens on a port that was just free.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let endpoint = format!("http://{free}");
    let unreachable = [&known[..], &[("AWS_ENDPOINT_URL", &endpoint)]].concat();
    metrics(&pair, &unreachable).complains(&["stream logs", "eu-central-1 at http://127.0.0.1:", "AWS_ENDPOINT_URL"]);

    // RFC 6761: no resolver knows a name that ends so.
    let unknown = [&known[..], &[("AWS_ENDPOINT_URL", "http://kinesis.invalid")]].concat();
    metrics(&pair, &unknown).complains(&[
        "no address is known of http://kinesis.invalid",
        "eu-central-1",
        "AWS_REGION",
    ]);

    // A service that refuses.
    for (code, words) in [
        ("AccessDeniedException", "credentials do not permit it"),
        ("UnrecognizedClientException", "credentials"),
        ("InvalidSignatureException", "credentials"),
    ] {
        let endpoint = refusing(code);
        let refused = [&known[..], &[("AWS_ENDPOINT_URL", &endpoint)]].concat();
        metrics(&pair, &refused).complains(&["stream logs", code, words]);
    }
}

/// A service that answers every request with this error, for as long as the tests run.
pub fn refusing(code: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut request = [0; 16 << 10];
                let body = format!(r#"{{"__type":"{code}","message":"User: somebody is not authorized"}}"#);
                let head = format!(
                    "HTTP/1.1 400 Bad Request\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                // One answer for each request: they are small, and each comes in one piece.
                while stream.read(&mut request).is_ok_and(|bytes| bytes > 0) {
                    if stream.write_all(head.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    format!("http://{address}")
}
