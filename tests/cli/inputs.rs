//! What `weir ingest` says of inputs that hold no lines, or that somebody else has to end: each is named with what to do instead.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::fs::symlink,
    process::{Command, Stdio},
};

use crate::{
    logs::{NONE, gzip, latencies, lines, sum},
    program::{Folder, say, weir},
};

/// A tar archive's first block, of a file without bytes.
fn tar() -> Vec<u8> {
    let mut block = vec![0; 1024];
    block[..7].copy_from_slice(b"app.log");
    block[257..265].copy_from_slice(b"ustar\x0000");
    block
}

#[test]
fn a_format_that_is_not_read_is_refused_by_its_bytes_and_says_what_to_do() {
    let folder = Folder::new();
    let utf16 = |mark: [u8; 2], of: fn(u16) -> [u8; 2]| {
        mark.into_iter().chain(lines("app", 0..3).encode_utf16().flat_map(of)).collect::<Vec<u8>>()
    };
    let mut wrong = vec![];
    for (number, (bytes, words)) in [
        (tar(), ["tar archive", "tar -xf FILE"]),
        (b"PK\x03\x04\x14\0\0\0\x08\0 and so on".to_vec(), ["packed with zip", "unzip -p FILE"]),
        (b"BZh91AY&SY and so on".to_vec(), ["packed with bzip2", "bzip2 -dc FILE"]),
        (b"\xfd7zXZ\0\0\x04 and so on".to_vec(), ["packed with xz", "xz -dc FILE"]),
        (utf16([0xff, 0xfe], u16::to_le_bytes), ["UTF-16", "iconv -f UTF-16 -t UTF-8 FILE"]),
        (utf16([0xfe, 0xff], u16::to_be_bytes), ["UTF-16", "iconv -f UTF-16 -t UTF-8 FILE"]),
    ]
    .into_iter()
    .enumerate()
    {
        // Its name says nothing; nor does it help to pack it.
        let mut packed = flate2::write::GzEncoder::new(vec![], flate2::Compression::default());
        packed.write_all(&bytes).unwrap();
        let packed = folder.file(&format!("packed-{number}.log"), packed.finish().unwrap());
        let plain = folder.file(&format!("plain-{number}.log"), bytes);
        for path in [plain, packed] {
            let said = folder.ingest([&path]);
            let is_refused = said.code == Some(1) && said.out.starts_with("accepted 0 = ");
            let failed = format!("failed: {}: ", path.display());
            if !is_refused || !said.err.starts_with(&failed) || !words.iter().all(|words| said.err.contains(words)) {
                wrong.push((words[0], said));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // What only begins alike is text.
    let text = folder.file("text.log", "BZh is how this line begins\nPK too\n");
    let said = folder.ingest([&text]).exits(0);
    assert_eq!(said.last_line(), "accepted 2 = folded 2 + skipped 0 + duplicate 0 + dead 0");
}

#[test]
fn what_weir_keeps_is_not_read_where_a_folder_is_read_that_holds_it() {
    let folder = Folder::new();
    let home = folder.path("home");
    folder.file("home/app.log", lines("app", 0..5));
    // Its own folder, and the cache of what was sent elsewhere.
    let server = folder.up(NONE);
    let by_default = |arguments: &[&str]| say(weir(&home).arg("ingest").arg(&home).args(arguments)).exits(0);
    by_default(&["--url", &server.url]).complains(&[".local/share/weir is a data folder of weir: not read"]);
    assert_eq!(latencies(&folder, "app"), (5, sum(0..5)));
    for said in [by_default(&[]), by_default(&[])] {
        said.complains(&[".local/share/weir is a data folder of weir: not read"]);
    }
    let said = say(weir(&home).args(["metrics", "--metric", "lines", "--json"])).exits(0);
    let services: Vec<_> = said.json_lines().iter().map(|row| row["service"].clone()).collect();
    assert_eq!(services, ["app"]);
    server.stop().exits(0);
}

#[test]
fn a_link_that_leads_nowhere_is_named_with_where_it_leads_and_in_a_folder_it_is_only_passed_over() {
    let folder = Folder::new();
    let good = folder.file("logs/app.log", lines("app", 0..5));
    let nowhere = folder.path("rotated-away.log");
    let link = folder.path("logs/current");
    symlink(&nowhere, &link).unwrap();
    let names = [link.to_str().unwrap(), nowhere.to_str().unwrap()];
    let said = folder.ingest([folder.path("logs")]).exits(0);
    assert_eq!(said.last_line(), "accepted 5 = folded 5 + skipped 0 + duplicate 0 + dead 0");
    said.complains(&["warning: ", "is a link to", "not read"]).complains(&names);
    let said = folder.ingest([&link, &good]).exits(1);
    let said = said.complains(&["failed: ", "it is a link to", "where nothing is"]).complains(&names);
    assert!(!said.err.contains("pattern"), "{said:?}");
}

#[test]
fn a_named_pipe_is_read_until_its_writer_closes_it_and_this_is_said() {
    let folder = Folder::new();
    let pipe = folder.path("app.pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut ingest = folder.command("ingest");
    let mut ingest = ingest.arg(&pipe).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Before anybody writes: else it would look as if it hung.
    let mut err = BufReader::new(ingest.stderr.take().unwrap());
    let mut said = String::new();
    err.read_line(&mut said).unwrap();
    assert!(said.contains(pipe.to_str().unwrap()) && said.contains("is a pipe: it is read until"), "{said}");
    std::fs::write(&pipe, gzip(&lines("app", 0..100))).unwrap();
    let output = ingest.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(latencies(&folder, "app"), (100, sum(0..100)));
    // In a folder nobody means the pipes that lie about.
    let other = Folder::new();
    let said = other.ingest([pipe.parent().unwrap().join("app.pipe/..")]);
    assert_ne!(said.code, None);
    let lying = other.path("logs");
    std::fs::create_dir(&lying).unwrap();
    assert!(Command::new("mkfifo").arg(lying.join("p")).status().unwrap().success());
    other.file("logs/app.log", lines("app", 0..5));
    other.ingest([&lying]).exits(0).complains(&["warning: ", "is a pipe: not read"]);
}

#[test]
fn a_socket_or_a_device_is_refused_and_not_waited_for() {
    let folder = Folder::new();
    let socket = folder.path("app.socket");
    let _held = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    folder.ingest([&socket]).exits(1).complains(&["failed: ", "app.socket", "it is a socket", "pipes or -"]);
    for device in ["/dev/null", "/dev/zero"] {
        folder.ingest([device]).exits(1).complains(&["failed: ", device, "it is a device"]);
    }
    folder.ingest(NONE).exits(2);
}
