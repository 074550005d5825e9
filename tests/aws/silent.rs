//! Services that take connections and requests, and answer nothing: who is asked says so, and does not wait for the answer first.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::Stdio,
    sync::{Arc, Condvar, Mutex},
};

use crate::{
    cloud::Cloud,
    logs::{NONE, lines},
    program::Server,
};

/// A way to an endpoint whose answers can be kept back.
struct Way {
    endpoint: String,
    is_silent: Arc<(Mutex<bool>, Condvar)>,
}

impl Way {
    fn to(endpoint: &str) -> Self {
        let there: SocketAddr = endpoint.strip_prefix("http://").unwrap().parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let is_silent = Arc::<(Mutex<bool>, Condvar)>::default();
        let silent = is_silent.clone();
        std::thread::spawn(move || {
            for here in listener.incoming() {
                let (here, there) = (here.unwrap(), TcpStream::connect(there).unwrap());
                for (mut from, mut to) in [
                    (here.try_clone().unwrap(), there.try_clone().unwrap()),
                    (there.try_clone().unwrap(), here.try_clone().unwrap()),
                ] {
                    let silent = silent.clone();
                    std::thread::spawn(move || {
                        let mut bytes = [0; 16 << 10];
                        while let Ok(many @ 1..) = from.read(&mut bytes) {
                            let kept_back = silent.1.wait_while(silent.0.lock().unwrap(), |is_silent| *is_silent);
                            drop(kept_back.unwrap());
                            if to.write_all(&bytes[..many]).is_err() {
                                break;
                            }
                        }
                        let _ = to.shutdown(std::net::Shutdown::Both);
                    });
                }
            }
        });
        Self { endpoint, is_silent }
    }

    fn is_silent(&self, is_silent: bool) {
        *self.is_silent.0.lock().unwrap() = is_silent;
        self.is_silent.1.notify_all();
    }
}

/// What `GET /health` says of this check.
fn check(server: &Server, name: &str) -> (u16, bool, String) {
    let health = server.get("/health");
    let said = health.json();
    let check = said["checks"].as_array().unwrap().iter().find(|check| check["name"] == name).unwrap().clone();
    (health.status, check["ok"].as_bool().unwrap(), check["detail"].as_str().unwrap().to_owned())
}

#[test]
fn health_answers_while_kinesis_or_dynamodb_does_not_and_names_it() {
    let cloud = Cloud::new();
    let ways = [Way::to(&emulators::kinesis().endpoint), Way::to(&emulators::dynamodb().endpoint)];
    let mut command = cloud.command("up");
    command.env("AWS_ENDPOINT_URL_KINESIS", &ways[0].endpoint).env("AWS_ENDPOINT_URL_DYNAMODB", &ways[1].endpoint);
    let server = Server::start(command.args(["--listen", "127.0.0.1:0"]));
    for (way, name, service) in [(&ways[0], "stream", "Kinesis"), (&ways[1], "store", "DynamoDB")] {
        way.is_silent(true);
        let said = check(&server, name);
        assert_eq!(said, (503, false, format!("{service} has not answered within 3 s")));
        way.is_silent(false);
        // What hangs is given up, and asked for anew.
        while !check(&server, name).1 {}
    }
    server.stop().exits(0);
}

#[test]
fn commands_say_what_they_wait_for_while_dynamodb_does_not_answer() {
    let cloud = Cloud::new();
    let file = cloud.folder.file("app.log", lines("app", 0..3));
    cloud.run("ingest", [&file]).exits(0);
    let way = Way::to(&emulators::dynamodb().endpoint);
    way.is_silent(true);
    for (name, arguments) in [("metrics", &NONE[..]), ("ingest", &[file.to_str().unwrap()])] {
        let mut command = cloud.command(name);
        command.args(arguments).env("AWS_ENDPOINT_URL_DYNAMODB", &way.endpoint);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        let word = said.take_while(|line| !line.starts_with("weir: ")).find(|line| line.contains("has not answered"));
        child.kill().unwrap();
        child.wait().unwrap();
        let word = word.unwrap_or_else(|| panic!("{name} said nothing of it"));
        assert!(word.starts_with("held up: DynamoDB has not answered for 1"), "{word}");
    }
}
