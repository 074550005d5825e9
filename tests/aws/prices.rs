//! What reading a bucket costs is said before anything is read, and above a dollar somebody has to say yes: at a terminal, or by `--yes`.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::Command,
    sync::{Arc, Mutex},
};

use crate::{
    bucket::lead,
    program::{Folder, Said, say},
};

/// Objects of 5 TiB: some $3 of calls, and the transfer.
const OBJECTS: u32 = 10;
const OBJECT_BYTES: u64 = 5 << 40;

/// A service that lists objects which no emulator could hold, and gives none of them. What was got from it.
#[derive(Clone, Default)]
struct Huge {
    got: Arc<Mutex<Vec<String>>>,
}

impl Huge {
    fn start(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let service = self.clone();
        std::thread::spawn(move || {
            for here in listener.incoming() {
                let (here, service) = (here.unwrap(), service.clone());
                // A connection ends when the client does.
                std::thread::spawn(move || service.serve(here));
            }
        });
        endpoint
    }

    fn serve(&self, here: TcpStream) -> std::io::Result<()> {
        let (mut reader, mut writer) = (BufReader::new(here.try_clone()?), here);
        loop {
            let (mut first, mut length) = (String::new(), 0);
            if reader.read_line(&mut first)? == 0 {
                return Ok(());
            }
            loop {
                let mut line = String::new();
                reader.read_line(&mut line)?;
                let Some((name, value)) = line.trim_end().split_once(':') else { break };
                if name.eq_ignore_ascii_case("content-length") {
                    length = value.trim().parse().unwrap();
                }
            }
            reader.read_exact(&mut vec![0; length])?;
            let (status, body) = self.answer(&first);
            let body = if first.starts_with("HEAD") { String::new() } else { body };
            write!(
                writer,
                "HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )?;
        }
    }

    fn answer(&self, request: &str) -> (&'static str, String) {
        if request.starts_with("GET") && request.contains("list-type=2") {
            let object = |number: u32| {
                format!(
                    "<Contents><Key>logs/{number}.log</Key><Size>{OBJECT_BYTES}</Size><ETag>&quot;e{number}&quot;</ETag>\
                     <LastModified>2026-01-01T00:00:00Z</LastModified></Contents>"
                )
            };
            let objects: String = (0..OBJECTS).map(object).collect();
            return (
                "200 OK",
                format!(
                    "<ListBucketResult><Name>huge</Name><IsTruncated>false</IsTruncated><KeyCount>{OBJECTS}</KeyCount>{objects}</ListBucketResult>"
                ),
            );
        }
        if request.starts_with("GET") {
            self.got.lock().unwrap().push(request.to_owned());
        }
        ("404 Not Found", "<Error><Code>NoSuchKey</Code><Message>There is none.</Message></Error>".into())
    }
}

const PRICE: [&str; 3] = ["10 objects of 50.00 TiB", "estimate: ", "more for the transfer"];

fn asked(huge: &Huge, endpoint: &str, typed: Option<&str>, yes: bool) -> (Said, usize) {
    let folder = Folder::new();
    let mut command = folder.command("ingest");
    lead(&mut command).env("AWS_ENDPOINT_URL_S3", endpoint).arg("s3://huge/logs/");
    command.args(yes.then_some("--yes"));
    let said = match typed {
        None => say(&mut command),
        Some(answer) => {
            let mut terminal = Command::new("python3");
            terminal.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/at_terminal.py")).arg(answer);
            terminal.arg(command.get_program()).args(command.get_args());
            for (name, value) in command.get_envs() {
                match value {
                    Some(value) => terminal.env(name, value),
                    None => terminal.env_remove(name),
                };
            }
            let said = say(&mut terminal);
            // There all is shown in one place.
            Said { err: said.out.clone(), ..said }
        }
    };
    let got = std::mem::take(&mut *huge.got.lock().unwrap()).len();
    (said, got)
}

#[test]
fn above_a_dollar_somebody_says_yes_at_a_terminal_or_beforehand_and_else_nothing_is_read() {
    let huge = Huge::default();
    let endpoint = huge.start();
    let (said, got) = asked(&huge, &endpoint, Some("n"), false);
    said.exits(1).complains(&PRICE).complains(&["go on? [y/N]", "nothing was read"]);
    assert_eq!(got, 0, "nothing is paid for");
    let (said, got) = asked(&huge, &endpoint, Some("y"), false);
    said.exits(1).complains(&PRICE).complains(&["go on? [y/N]", "failed: s3://huge/logs/0.log"]);
    assert!(got > 0, "it goes on");
    // Nobody can be asked: it is said how to say yes.
    let (said, got) = asked(&huge, &endpoint, None, false);
    said.exits(2).complains(&PRICE).complains(&["more than $1.00", "--yes"]);
    assert_eq!(got, 0, "nothing is paid for");
    let (said, got) = asked(&huge, &endpoint, None, true);
    let said = said.exits(1).complains(&PRICE);
    assert!(got > 0 && !said.err.contains("[y/N]"), "{said:?}");
}
