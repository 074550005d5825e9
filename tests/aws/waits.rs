//! Commands that wait for other processes: what these commit by themselves, and what is said of it.

use serde_json::Value;

use crate::{
    cloud::{Cloud, scan},
    logs::{NONE, lines},
    program::{Folder, Server},
    way::{Call, Guard, Way},
};

/// Whoever asks it for leases does not hear that somebody waits.
#[derive(Default)]
struct Deaf {
    kept_back: usize,
}

impl Guard for Deaf {
    fn is_answered(&mut self, _: &Call, told: &mut Value) -> bool {
        for item in told["Items"].as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
            self.kept_back += usize::from(item.remove("weirWantedThrough").is_some());
        }
        true
    }
}

#[test]
fn a_promotion_comes_through_although_who_folds_does_not_hear_that_somebody_waits() {
    let cloud = Cloud::new();
    cloud.up(["--shards", "2"]).stop().exits(0);
    cloud.run("ingest", [cloud.folder.file("app.log", lines("app", 0..300))]).exits(0);
    cloud.run("replay", ["--start", "oldest", "--generation", "new"]).exits(0);
    let way = Way::to(&emulators::dynamodb().endpoint, Deaf::default());
    let folders = [Folder::new(), Folder::new()];
    let servers = folders.each_ref().map(|folder| {
        let mut command = cloud.command_in(folder, "up");
        command.env("AWS_ENDPOINT_URL_DYNAMODB", &way.endpoint).args(["--listen", "127.0.0.1:0", "--failover", "2s"]);
        Server::start(&mut command)
    });
    let owners = || {
        let rows = scan(&format!("{}-leases", cloud.name));
        let shards = rows.iter().filter(|row| row["leaseKey"].as_str().is_some_and(|key| key.starts_with("shardId")));
        let owners = shards.filter_map(|row| row.get("leaseOwner")).map(ToString::to_string);
        owners.collect::<std::collections::BTreeSet<_>>().len()
    };
    while owners() < 2 {
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let said = cloud.run("promote", ["new"]).exits(0);
    assert!(said.out.starts_with("new counts; first is folded on"), "{said:?}");
    assert!(!said.err.contains("held up"), "{}", said.err);
    let listed = cloud.run("generations", NONE).exits(0);
    assert!(listed.out.contains("counts"), "{listed:?}");
    for server in servers {
        server.stop().exits(0);
    }
    cloud.verifies();
}
