//! Real processes that share one pair share its generations: a third opens, promotes and goes back, and one of those that fold dies in between.

use crate::{
    cloud::{Cloud, scan},
    logs::{NONE, lines},
    program::{self, Folder, Server, say, weir},
};

const LINES: u64 = 300;
/// Files of a stage: enough that both shards get some of their lines.
const FILES: u64 = 4;

struct World {
    cloud: Cloud,
    /// Whose cache a command has that is neither of those that stay.
    third: Folder,
    files: u64,
}

impl World {
    fn join(&self, folder: &Folder) -> Server {
        let mut command = self.cloud.command_in(folder, "up");
        Server::start(command.args(["--listen", "127.0.0.1:0", "--shards", "2", "--failover", "2s"]))
    }

    fn file(&self, number: u64) -> std::path::PathBuf {
        let (service, from) = (format!("s{number}"), number * LINES);
        self.third.file(&format!("{service}.log"), lines(&service, from..from + LINES))
    }

    /// Files of their own, of several services so that both shards have some; returns when all of them can be read.
    fn flow(&mut self, through: &Server) {
        let files = (self.files..self.files + FILES).map(|number| self.file(number));
        say(weir(self.third.root.path()).args(["ingest", "--url", &through.url]).args(files)).exits(0);
        self.files += FILES;
    }

    fn asks(&self, name: &str, arguments: &[&str]) -> crate::program::Said {
        say(self.cloud.command_in(&self.third, name).args(arguments)).exits(0)
    }

    /// What counts is what the stream says, and what one process alone makes of all lines.
    fn is_exact(&self) {
        let alone = Folder::new();
        let files = (0..self.files).map(|number| self.file(number));
        alone.ingest(files).exits(0);
        assert_eq!(self.cloud.verifies()["digest"], alone.verifies()["digest"]);
    }
}

fn consumer(server: &Server) -> String {
    let health = server.get("/health").json();
    assert!(health["behindMs"].is_u64(), "{health}");
    let check = health["checks"].as_array().unwrap().iter().find(|check| check["name"] == "consumer").unwrap().clone();
    check["detail"].as_str().unwrap().to_owned()
}

/// Waits until each of these processes reads so many of the two shards.
#[track_caller]
fn until(servers: &[&Server], shards: usize) {
    let reads = format!("reads {shards} of 2 shards");
    program::until(&reads, || servers.iter().all(|server| consumer(server).contains(&reads)));
}

/// Who has the work on a generation that is one process's at a time.
fn owner(cloud: &Cloud, key: &str) -> Option<String> {
    let rows = scan(&format!("{}-leases", cloud.name));
    let row = rows.into_iter().find(|row| row["leaseKey"] == key)?;
    row.get("leaseOwner").and_then(|owner| owner.as_str()).map(str::to_owned)
}

#[test]
fn processes_that_share_a_stream_share_its_generations() {
    let mut world = World { cloud: Cloud::new(), third: Folder::new(), files: 0 };
    let folders = [Folder::new(), Folder::new()];
    let mut servers = folders.iter().map(|folder| world.join(folder)).collect::<Vec<_>>();
    until(&[&servers[0], &servers[1]], 1);
    world.flow(&servers[0]);

    // A third process opens one, and waits until it has caught up.
    let said = world.asks("replay", &["--start", "oldest", "--generation", "new"]);
    assert!(said.out.starts_with("compared new with first: 0 of "), "{said:?}");
    world.flow(&servers[1]);
    world.asks("promote", &["new"]);
    // Rows of both shards go on, each folded where its lease is.
    world.flow(&servers[0]);
    for server in &servers {
        assert!(consumer(server).contains("reads 1 of 2 shards"), "{}", consumer(server));
    }
    world.is_exact();

    // Whoever follows dies, and another takes that over too.
    let following = owner(&world.cloud, "generation/0").expect("somebody follows with the first");
    let dies = usize::from(!consumer(&servers[0]).contains(&format!("this process ({following})")));
    let mut dead = servers.remove(dies);
    dead.child.kill().unwrap();
    dead.child.wait().unwrap();
    until(&[&servers[0]], 2);
    world.flow(&servers[0]);
    world.asks("promote", &["first"]);
    assert_ne!(owner(&world.cloud, "generation/0"), Some(following));
    world.flow(&servers[0]);
    world.is_exact();

    // And forth again, beside a newcomer.
    servers.push(world.join(&folders[dies]));
    until(&[&servers[0], &servers[1]], 1);
    let said = world.asks("generations", &["--compare", "new"]);
    assert!(said.out.starts_with("compared new with first: 0 of "), "{said:?}");
    world.asks("promote", &["new"]);
    world.flow(&servers[1]);
    world.is_exact();
    for server in servers {
        server.stop().exits(0);
    }
    let listed = world.asks("generations", &NONE);
    assert!(listed.out.contains("counts"), "{listed:?}");
    world.is_exact();
}
