//! What could not be done: exit status 2, and an error that names the thing, the cause and the next step.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
};

use crate::{
    logs::{NONE, lines, plain},
    program::{Folder, say},
};

#[test]
fn every_command_ends_with_2_when_its_folder_or_url_cannot_be_had() {
    let folder = Folder::new();
    // A file stands where the folder should be.
    std::fs::write(&folder.data, "").unwrap();
    let file = folder.file("app.log", lines("app", 0..1));
    let alarm = folder.file("alarm.json", "{}");
    let (file, alarm) = (file.to_str().unwrap(), alarm.to_str().unwrap());
    // Nothing listens there: it was free a moment ago, and is held without answering.
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", held.local_addr().unwrap());
    drop(held);
    for arguments in [vec!["ingest", file], vec!["metrics"], vec!["verify"], vec!["apply", alarm], vec!["alarms"]] {
        let said = folder.run(arguments[0], &arguments[1..]).exits(2);
        said.complains(&[folder.data.to_str().unwrap(), "It is a file", "--data DIR"]);
        let elsewhere = folder.path("elsewhere");
        let with_url = [&arguments[..], &["--url", &url, "--data", elsewhere.to_str().unwrap()]].concat();
        let said = plain(&folder, &with_url).exits(2);
        said.complains(&[&url, "does not answer", "weir up"]);
    }
    say(folder.command("up").args(["--listen", "127.0.0.1:0"])).exits(2).complains(&[folder.data.to_str().unwrap()]);
}

#[test]
fn a_server_that_is_no_weir_is_said_to_be_none_and_its_page_is_not_shown() {
    let folder = Folder::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for (number, socket) in listener.incoming().enumerate() {
            let mut socket = socket.unwrap();
            let lines = BufReader::new(socket.try_clone().unwrap()).lines();
            lines.map(Result::unwrap).take_while(|line| !line.is_empty()).for_each(drop);
            let status = if number % 2 == 0 { "403 Forbidden" } else { "200 OK" };
            let body =
                format!("<?xml version=\"1.0\"?>\n<Error><Code>AccessDenied</Code>{}</Error>", "<a/>".repeat(400));
            let length = body.len();
            let _ = write!(socket, "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
        }
    });
    let file = folder.file("app.log", lines("app", 0..1));
    for arguments in [&["metrics"][..], &["alarms"], &["verify"], &["ingest", file.to_str().unwrap()]] {
        let said = plain(&folder, &[arguments, &["--url", &url]].concat()).exits(2);
        let said = said.complains(&[&url, "does not answer", "as a weir does", "Is the URL that of a `weir up`"]);
        assert!(said.err.len() < 400, "{said:?}");
    }
}

#[test]
fn usage_that_is_wrong_ends_with_2() {
    let folder = Folder::new();
    for arguments in [
        &["bogus"][..],
        &[],
        &["metrics", "--bogus"],
        &["metrics", "-o", "xml"],
        &["up", "--listen", "nowhere"],
        &["up", "--shards", "0"],
        &["metrics", "--url", "https://127.0.0.1"],
        &["metrics", "--url", "127.0.0.1"],
        &["metrics", "--json", "-o", "csv"],
        &["alarms", "-o", "table", "--json"],
    ] {
        let said = plain(&folder, arguments).exits(2);
        assert!(!said.err.is_empty(), "{arguments:?}");
    }
    plain(&folder, &["metrics", "--json", "-o", "csv"]).exits(2).complains(&["--json and -o csv", "give one"]);
    for address in ["localhost", "127.0.0.1", "example.com:80"] {
        plain(&folder, &["up", "--listen", address])
            .exits(2)
            .complains(&["an IP address and a port", "127.0.0.1:4717"]);
    }
    folder.up(["--shards", "1"]).stop().exits(0);
    crate::program::Server::start(folder.command("up").args(["--listen", "localhost:0"])).stop().exits(0);
    plain(&folder, &["--help"]).exits(0);
    plain(&folder, &["ingest", "--help"]).exits(0);
    plain(&folder, &["--version"]).exits(0);
}

#[test]
fn an_address_that_is_taken_names_who_has_it_and_a_free_one() {
    let folder = Folder::new();
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap().to_string();
    let name = std::fs::read_to_string("/proc/self/comm").unwrap();
    for command in ["up", "demo"] {
        let mut command = crate::program::weir(folder.root.path()).args([command, "--listen", &address]).spawn_said();
        command = command.exits(2).complains(&[&address, "taken by", "try --listen 127.0.0.1:"]);
        assert!(command.err.contains(name.trim()), "{command:?}");
    }
}

/// Runs a command to its end, without its data folder being told.
trait SpawnSaid {
    fn spawn_said(&mut self) -> crate::program::Said;
}

impl SpawnSaid for std::process::Command {
    fn spawn_said(&mut self) -> crate::program::Said {
        say(self)
    }
}

#[test]
fn a_folder_in_use_names_the_weir_that_has_it() {
    let folder = Folder::new();
    let server = folder.up(NONE);
    let said = say(folder.command("up").args(["--listen", "127.0.0.1:0"])).exits(2);
    said.complains(&[folder.data.to_str().unwrap(), "in use", &server.url, "--data"]);
    server.stop().exits(0);
}

#[test]
fn who_listens_beyond_this_machine_needs_tokens() {
    let folder = Folder::new();
    let said = say(folder.command("up").args(["--listen", "0.0.0.0:0"])).exits(2);
    said.complains(&["0.0.0.0:0", "--tokens", "127.0.0.1"]);
    let tokens = folder.file("tokens", "tenant-without-token\n");
    let said = say(folder.command("up").args(["--listen", "0.0.0.0:0", "--tokens"]).arg(&tokens)).exits(2);
    let said = said.complains(&[tokens.to_str().unwrap(), "line 1", "TENANT TOKEN"]);
    assert!(!said.err.contains("tenant-without-token"), "it may be a secret: {said:?}");
    let swapped = folder.file("tokens", "# ours\nsecret-0123456789 acme\n");
    let said = say(folder.command("up").args(["--listen", "0.0.0.0:0", "--tokens"]).arg(&swapped)).exits(2);
    let said = said.complains(&["line 2", "16 visible ASCII characters"]);
    assert!(!said.err.contains("secret-"), "{said:?}");
    let help = plain(&folder, &["up", "--help"]).exits(0);
    assert!(help.out.contains("at least 16 characters"), "{help:?}");
}

#[test]
fn a_command_that_reads_makes_no_folder_and_says_that_nothing_is_there() {
    let folder = Folder::new();
    let said_nothing = |folder: &Folder| {
        for command in ["metrics", "alarms", "verify"] {
            let said = folder.run(command, NONE).exits(2);
            said.complains(&["nothing of weir", folder.data.to_str().unwrap(), "weir ingest PATH", "--data"]);
        }
    };
    said_nothing(&folder);
    assert!(!folder.data.exists(), "a name that was misspelt leaves nothing behind");
    // Nor does it turn a folder of other things into one of ours.
    std::fs::create_dir(&folder.data).unwrap();
    std::fs::write(folder.data.join("letter.txt"), "dear").unwrap();
    said_nothing(&folder);
    assert_eq!(std::fs::read_dir(&folder.data).unwrap().count(), 1);
    folder.ingest([folder.file("app.log", lines("app", 0..1))]).exits(0);
    folder.verifies();
}

#[test]
fn every_command_that_meets_a_clock_behind_the_stream_says_how_to_confirm_it() {
    use events::{
        embedded::{Options, disk::RealDisk},
        stream::{Put, Stream},
    };
    let folder = Folder::new();
    let log = folder.file("app.log", lines("app", 0..10));
    folder.ingest([&log]).exits(0);
    // A host whose clock was two hours ahead has been here.
    let disk = RealDisk::in_folder(folder.data.join("stream")).unwrap();
    let ahead = || weir::now_ms() + 7_200_000;
    let stream = weir::LocalStream::open(disk, ahead, Options::default()).unwrap();
    let put = Put { partition_key: "k".into(), hash_key: None, data: "2026-01-01T00:00:00Z a line\n".into() };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(stream.append(vec![put])).unwrap();
    stream.close();
    drop(stream);
    let alarm = folder.file("alarm.json", "[]");
    let data = folder.data.to_str().unwrap();
    let confirm = format!("weir up --confirm-clock --data {data}");
    for arguments in [
        vec!["metrics"],
        vec!["alarms"],
        vec!["verify"],
        vec!["ingest", log.to_str().unwrap()],
        vec!["apply", alarm.to_str().unwrap()],
        vec!["up", "--listen", "127.0.0.1:0"],
    ] {
        folder.run(arguments[0], &arguments[1..]).exits(2).complains(&["the host's clock says", &confirm]);
    }
    folder.up(["--confirm-clock"]).stop().exits(0);
    folder.ingest([&log]).exits(0).complains(&["hold nothing new"]);
    folder.up(NONE).stop().exits(0);
    folder.verifies();
}
