//! A bucket of an emulator, filled and asked by plain HTTP with none of the program's own code; and the real client of it.
#![allow(dead_code, reason = "each test takes what it needs")]

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use processor::s3::Bucket;

/// An answer's status and body.
pub fn call(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> (u16, String) {
    let host = emulators::aws().endpoint.strip_prefix("http://").unwrap();
    let mut socket = TcpStream::connect(host).unwrap();
    let mut head =
        format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    // The emulator takes account, region and service from a signature that it does not check.
    if headers.iter().all(|(name, _)| *name != "Authorization") {
        head += "Authorization: AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0\r\n";
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    socket.write_all(format!("{head}\r\n").as_bytes()).unwrap();
    socket.write_all(body).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[track_caller]
pub fn done(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> String {
    let (status, said) = call(method, path, headers, body);
    assert!((200..300).contains(&status), "{method} {path}: {status} {said}");
    said
}

/// The bucket, by a real client.
pub fn bucket(name: &str) -> Bucket {
    let settings = emulators::settings!(aws_sdk_s3, &emulators::aws().endpoint).force_path_style(true);
    Bucket::new(aws_sdk_s3::Client::from_conf(settings.build()), name)
}
