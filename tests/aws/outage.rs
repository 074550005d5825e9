//! DynamoDB out of reach for a while: the process stays, says so, and goes on by itself.

use std::{
    fs::{self, File},
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::{
    cloud::Cloud,
    logs::lines,
    program::{Answer, Folder, Server, until},
    way::{self, Call, Guard},
};

/// A way to an endpoint that can be cut.
struct Way {
    endpoint: String,
    is_cut: Arc<AtomicBool>,
    sockets: Arc<Mutex<Vec<TcpStream>>>,
}

impl Way {
    fn to(endpoint: &str) -> Self {
        let there: SocketAddr = endpoint.strip_prefix("http://").unwrap().parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (is_cut, sockets) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Vec<TcpStream>>>::default());
        let (cut, held) = (is_cut.clone(), sockets.clone());
        std::thread::spawn(move || {
            for here in listener.incoming() {
                let here = here.unwrap();
                let mut held = held.lock().unwrap();
                if cut.load(Ordering::SeqCst) {
                    continue;
                }
                let there = TcpStream::connect(there).unwrap();
                for (mut from, mut to) in [
                    (here.try_clone().unwrap(), there.try_clone().unwrap()),
                    (there.try_clone().unwrap(), here.try_clone().unwrap()),
                ] {
                    std::thread::spawn(move || {
                        // It ends when either side does, or the way is cut.
                        let _ = io::copy(&mut from, &mut to);
                        let _ = to.shutdown(std::net::Shutdown::Both);
                    });
                }
                held.extend([here, there]);
            }
        });
        Self { endpoint, is_cut, sockets }
    }

    fn cut(&self) {
        let mut sockets = self.sockets.lock().unwrap();
        self.is_cut.store(true, Ordering::SeqCst);
        for socket in sockets.drain(..) {
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
    }

    fn mend(&self) {
        self.is_cut.store(false, Ordering::SeqCst);
    }
}

/// Whether the check of this name is fine, as `GET /health` says.
fn check(server: &Server, name: &str) -> (bool, String) {
    let health: Answer = server.get("/health");
    let health = health.json();
    let check = health["checks"].as_array().unwrap().iter().find(|check| check["name"] == name).unwrap().clone();
    (check["ok"].as_bool().unwrap(), check["detail"].as_str().unwrap().to_owned())
}

#[test]
fn a_store_out_of_reach_is_said_by_health_and_the_same_process_goes_on_when_it_is_back() {
    let cloud = Cloud::new();
    let way = Way::to(&emulators::dynamodb().endpoint);
    let mut command = cloud.command("up");
    command.args(["--listen", "127.0.0.1:0"]).env("AWS_ENDPOINT_URL_DYNAMODB", &way.endpoint);
    let server = Server::start(&mut command);
    assert_eq!(server.post("/ingest?run=before", lines("app", 0..60).as_bytes()).status, 202);
    assert_eq!(server.get("/runs/before").json()["folded"], 60);
    way.cut();
    // The stream takes what comes, and somebody who waits makes the worker try to commit.
    assert_eq!(server.post("/ingest?run=meanwhile", lines("app", 60..120).as_bytes()).status, 202);
    let mut why = String::new();
    until("health says that the store is out of reach", || {
        let _ = server.get("/runs/meanwhile?wait=1");
        let (is_ok, said) = check(&server, "consumer");
        why = said;
        !is_ok
    });
    assert!(why.contains("it is tried again within") && why.contains("dynamodb") | why.contains("table"), "{why}");
    way.mend();
    until("health says that it is back", || {
        let _ = server.get("/runs/meanwhile?wait=1");
        check(&server, "consumer").0
    });
    let settled = server.settles("meanwhile");
    assert_eq!((&settled["folded"], &settled["duplicate"]), (&60.into(), &0.into()), "{settled}");
    server.stop().exits(0);
    cloud.verifies();
}

/// Keeps rows from being written while it is shut.
struct Rows {
    is_shut: bool,
}

impl Guard for Rows {
    fn goes(&mut self, call: &Call) -> bool {
        let table = call.asked["TableName"].as_str().unwrap_or_default();
        !(self.is_shut && call.action == "PutItem" && table.ends_with("-ApplicationMetrics"))
    }
}

#[test]
fn a_command_that_is_held_up_says_by_what_and_goes_on_by_itself() {
    let (cloud, local) = (Cloud::new(), Folder::new());
    let way = way::Way::to(&emulators::dynamodb().endpoint, Rows { is_shut: true });
    let file = cloud.folder.file("app.log", lines("app", 0..300));
    local.ingest([&file]).exits(0);
    let mut command = cloud.command("ingest");
    command.env("AWS_ENDPOINT_URL_DYNAMODB", &way.endpoint).arg(&file);
    let words = cloud.folder.path("words");
    let mut child = command.stdout(Stdio::piped()).stderr(File::create(&words).unwrap()).spawn().unwrap();
    let held =
        || fs::read_to_string(&words).unwrap().lines().find(|line| line.contains("held up: ")).map(str::to_owned);
    until("it says what holds it up", || {
        assert!(child.try_wait().unwrap().is_none(), "it ended");
        held().is_some_and(|held| held.ends_with("nothing that is in is counted twice"))
    });
    let held = held().unwrap();
    assert!(
        held.contains(&format!("{}-ApplicationMetrics", cloud.name)) && held.contains("It goes on by itself"),
        "{held}"
    );
    way.guard.lock().unwrap().is_shut = false;
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success(), "{out:?}");
    let folded = "accepted 300 = folded 300 + skipped 0 + duplicate 0 + dead 0\n";
    assert!(String::from_utf8_lossy(&out.stdout).ends_with(folded), "{out:?}");
    assert_eq!(cloud.verifies()["digest"], local.verifies()["digest"]);
}
