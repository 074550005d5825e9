//! Bodies of every form, whole and broken, on their way to the stream.

use std::{io::Write, num::NonZeroU32, time::Duration};

use axum::{body::Body, http::Request};
use bytes::Bytes;
use events::{
    event::{Datum, Event, Measured, TimeReset},
    identity::{Origin, OriginKind, Producer},
    position::SequenceNumber,
    stream::{AppendError, Refused},
    wire::{self, Content, Extent},
};
use futures_util::stream;
use proptest::prelude::*;

use super::{Server, fake::header, lines};
use crate::{Access, Limits, operator::AppendFailed};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(vec![], flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// With a checksum, as the command line tool writes it.
fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(vec![], 1).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A body that comes in pieces of this size.
fn pieces(bytes: Vec<u8>, size: usize) -> Body {
    let pieces: Vec<_> = bytes.chunks(size).map(Bytes::copy_from_slice).map(Ok::<_, std::io::Error>).collect();
    Body::from_stream(stream::iter(pieces))
}

fn small() -> Limits {
    Limits { packed_bytes_max: 4_000, unpacked_bytes_max: 100_000, ..Limits::default() }
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_same_lines_in_any_form_and_pieces_give_the_same_rows(
        count in 0..400usize, at in any::<prop::sample::Index>(), size in 1..5_000usize, ended in any::<bool>(),
    ) {
        let mut text = lines("web", count).into_bytes();
        if !ended { text.pop(); }
        let (one, two) = text.split_at(at.index(text.len() + 1));
        let forms = [text.clone(), gzip(&text), zstd(&text), [gzip(one), gzip(two)].concat(), [zstd(one), zstd(two)].concat()];
        let outcomes = forms.map(|body| {
            let server = Server::open();
            let answer = wait(server.post("/ingest?service=web&run=r", pieces(body, size)));
            assert_eq!(answer.status.as_u16(), 202, "{}", answer.text);
            let settled = wait(server.get("/runs/r"));
            let folded = if count == 0 { 0 } else { settled.ok()["folded"].as_u64().unwrap() };
            (folded, server.fake.digest())
        });
        prop_assert_eq!(outcomes[0].0, count as u64);
        prop_assert!(outcomes.iter().all(|outcome| *outcome == outcomes[0]), "{outcomes:?}");
    }
}

#[tokio::test]
async fn the_answer_names_every_position_and_the_run_its_balance() {
    let server = Server::open();
    let noise: String = (0..60_000).map(|i| format!("line {i} that says nothing of the kind\n")).collect();
    let answer = server.post("/ingest?service=web&run=r", noise + &lines("web", 10)).await;
    let positions = answer.ok()["positions"].as_array().unwrap();
    assert!(positions.len() > 3, "{}", positions.len());
    assert_eq!(positions.len(), server.fake.puts().len());
    assert!(positions[0]["sequence"].is_string() && positions[0]["shard"].as_str().unwrap().starts_with("shardId-"));
    let settled = server.get("/runs/r").await;
    let settled = settled.ok();
    assert_eq!((&settled["settled"], &settled["accepted"]), (&true.into(), &60_010.into()), "{settled}");
    let sum = settled["skipped"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum::<u64>();
    assert_eq!(settled["folded"].as_u64().unwrap() + sum, 60_010);
    assert_eq!(server.get("/runs/r?wait=0").await.ok()["settled"], false);
    assert_eq!(server.get("/balance").await.ok()["accepted"], 60_010);
    assert!(server.get("/runs/other").await.refused(404, "unknown_run").contains("run `other` is not known"));
    server.get("/runs/a%2Fb").await.refused(400, "bad_parameter");
    server.post("/ingest?run=a/b", "x").await.refused(400, "bad_parameter");
}

#[tokio::test]
async fn every_batch_has_a_counter_of_its_own() {
    let server = Server::open();
    let text = lines("web", 30_000);
    for _ in 0..2 {
        server.post("/ingest", text.clone()).await.ok();
        server.post("/metrics", r#"{"service":"a","metric":"m","value":1}"#).await.ok();
    }
    let producers: Vec<_> =
        server.fake.puts().iter().map(|put| wire::decode_header(&put.data).unwrap().0.producer.unwrap()).collect();
    let mut distinct = producers.iter().map(|p| (p.id.clone(), p.epoch, p.counter)).collect::<Vec<_>>();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), producers.len(), "{producers:?}");
    assert_eq!(server.fake.balance("local").duplicate, 0);
    assert!(producers.len() > 8, "{producers:?}");
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_with_what_is_in() {
    let server = Server::of(Access::Open, small());
    let noise: Vec<u8> = (0..20_000u32).flat_map(|i| xxhash(i).to_le_bytes()).collect();
    server.post("/ingest", gzip(&noise)).await.refused(413, "too_large");
    server.post("/ingest", zstd(&noise)).await.refused(413, "too_large");
    let bomb = gzip(&vec![b'\n'; 500_000]);
    assert!(bomb.len() < 4_000);
    assert!(server.post("/ingest", bomb).await.refused(413, "too_large").contains("more than 100000 bytes unpacked"));
    let bomb = zstd(&vec![b'\n'; 200_000_000]);
    assert!(bomb.len() < 40_000);
    server.post("/ingest", pieces(bomb, 100)).await.refused(413, "too_large");
    server.post("/ingest", lines("web", 3_000)).await.refused(413, "too_large");

    let limits = Limits { unpacked_bytes_max: 3_000_000, ..small() };
    let server = Server::of(Access::Open, limits);
    let answer = server.post("/ingest?run=r", pieces(lines("web", 60_000).into_bytes(), 100_000)).await;
    assert!(answer.refused(413, "too_large").contains("batches of it are in, at `positions`"), "{}", answer.text);
    assert_eq!(answer.json["positions"].as_array().unwrap().len(), server.fake.puts().len());
    assert_eq!(server.get("/runs/r").await.ok()["folded"].as_u64().unwrap(), server.fake.balance("local").folded);
}

fn xxhash(i: u32) -> u64 {
    u64::from(i).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(i % 64)
}

#[tokio::test]
async fn a_body_that_cannot_be_unpacked_is_refused_with_its_form() {
    let server = Server::open();
    let text = lines("web", 300).into_bytes();
    for whole in [gzip(&text), zstd(&text)] {
        let mut damaged = whole.clone();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 0xff;
        let form = if whole[0] == 0x1f { "gzip" } else { "zstd" };
        let cut = |bytes: usize| whole[..bytes].to_vec();
        let bodies = [
            cut(whole.len() - 1),
            cut(whole.len() - 5),
            cut(whole.len() / 2),
            cut(10),
            damaged,
            [whole.clone(), vec![7; 50]].concat(),
        ];
        for (case, body) in bodies.into_iter().enumerate() {
            let answer = server.post("/ingest", body).await;
            assert_eq!(answer.status.as_u16(), 400, "{form} {case}: {}", answer.text);
            assert!(answer.refused(400, "bad_body").contains(&format!("begins as {form}")), "{}", answer.text);
        }
    }
    let huge_window = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xf8, 0x01, 0x00, 0x00];
    server.post("/ingest", huge_window.to_vec()).await.refused(400, "bad_body");
    let cut = stream::iter([Ok(Bytes::from(lines("web", 3))), Err(std::io::Error::other("gone"))]);
    server.post("/ingest", Body::from_stream(cut)).await.refused(400, "body_cut_short");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_falls_silent_is_let_go() {
    let server = Server::open();
    let silent = stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"line\n"))]);
    let silent = futures_util::StreamExt::chain(silent, stream::pending());
    let answer = server.post("/ingest", Body::from_stream(silent)).await;
    assert!(answer.refused(408, "silent").contains("nothing came for 10 s"));
}

/// A piece of so many bytes after each pause.
fn dripping(pieces: usize, bytes: usize, pause: Duration) -> Body {
    let piece = Bytes::from(format!("{}\n", "x".repeat(bytes - 1)));
    Body::from_stream(stream::unfold(0, move |sent| {
        let piece = piece.clone();
        async move {
            tokio::time::sleep(pause).await;
            (sent < pieces).then(|| (Ok::<_, std::io::Error>(piece), sent + 1))
        }
    }))
}

#[tokio::test(start_paused = true)]
async fn a_body_that_drips_is_cut_off_and_one_that_is_only_slow_is_taken() {
    let server = Server::open();
    let answer = server.post("/ingest", dripping(10_000, 1, Duration::from_millis(900))).await;
    let message = answer.refused(408, "slow");
    assert!(message.contains("11 bytes in 10.0 s") && message.contains("4096 bytes a second"), "{message}");
    // Twice the least pace, for five minutes.
    server.post("/ingest", dripping(300, 8 << 10, Duration::from_secs(1))).await.ok();
    // However quick it is by then, it has to end some time.
    let answer = server.post("/ingest", dripping(10_000, 8 << 10, Duration::from_secs(1))).await;
    let message = answer.refused(408, "slow");
    assert!(message.contains("within 600 s"), "{message}");
    assert!(answer.json["positions"].as_array().is_some_and(|positions| !positions.is_empty()), "{}", answer.text);
}

#[tokio::test(start_paused = true)]
async fn a_client_is_not_blamed_for_the_time_that_the_stream_takes() {
    let server = Server::open();
    let shut = server.fake.gate.write().await;
    let body = dripping(40, 512 << 10, Duration::from_millis(1));
    let opened = async {
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        drop(shut);
    };
    tokio::join!(server.post("/ingest", body), opened).0.ok();
}

#[tokio::test]
async fn a_body_that_announces_too_much_is_refused_before_any_of_it_is_in() {
    let server = Server::of(Access::Open, small());
    let request = Request::post("/ingest").body(Body::from(lines("web", 10_000))).unwrap();
    server.send(request).await.refused(413, "too_large");
    assert_eq!(server.fake.puts().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn bodies_of_one_client_beyond_its_share_are_told_to_come_back() {
    let server = Server::of(Access::Open, Limits { client_bodies_max: 1, ..Limits::default() });
    let shut = server.fake.gate.write().await;
    let second = async {
        let answer = server.post("/ingest", "a line\n").await;
        drop(shut);
        answer
    };
    let (first, second) = tokio::join!(server.post("/ingest", "a line\n"), second);
    first.ok();
    second.refused(429, "busy");
    assert_eq!(second.headers["retry-after"], "1");
}

#[tokio::test(start_paused = true)]
async fn bodies_beyond_the_limit_wait_their_turn_and_are_then_refused() {
    let server = Server::of(Access::Open, Limits { bodies_max: 2, ..Limits::default() });
    let shut = server.fake.gate.write().await;
    let body = || server.post("/ingest", "a line\n");
    let (one, two) = (body(), body());
    let third = async {
        let answer = body().await;
        drop(shut);
        answer
    };
    let (one, two, third) = tokio::join!(one, two, third);
    one.ok();
    two.ok();
    third.refused(503, "busy");
    assert_eq!(third.headers["retry-after"], "1");
    server.post("/ingest", "a line\n").await.ok();
}

#[tokio::test]
async fn what_the_stream_does_not_take_is_said_and_its_identity_is_not_used_again() {
    let server = Server::open();
    let unknown = AppendFailed::Append(AppendError::Unknown("the answer was lost".into()));
    server.fake.failures.lock().unwrap().push(unknown);
    let answer = server.post("/ingest", "a line\n").await;
    assert!(answer.refused(503, "not_appended").contains("may have been appended"), "{}", answer.text);
    server.fake.failures.lock().unwrap().push(AppendFailed::Refused(Refused::Throttled));
    server.post("/metrics", r#"{"service":"a","metric":"m","value":1}"#).await.refused(503, "not_appended");
    server.post("/ingest", "a line\n").await.ok();
    let ids: Vec<_> =
        server.fake.puts().iter().map(|put| wire::decode_header(&put.data).unwrap().0.producer.unwrap()).collect();
    assert_eq!(ids.iter().map(|p| (p.id.as_str(), p.counter)).collect::<Vec<_>>(), [("api-3", 1)]);
}

/// A Weir batch of lines.
fn batch(tenant: &str, change: impl FnOnce(&mut wire::Header)) -> Bytes {
    let text = lines("web", 5);
    let mut header = header(tenant, Content::Lines, text.len());
    change(&mut header);
    wire::encode(&header, text.as_bytes())
}

#[tokio::test]
async fn a_weir_batch_is_appended_unchanged_under_its_own_key() {
    let server = Server::open();
    let origin = Origin { kind: OriginKind::File, name: "/a.log".into(), version: "1".into() };
    let of_file = batch("local", |header| {
        let to = u64::from(header.raw_len);
        header.extent = Some(Extent { origin: origin.clone(), from: 0, to });
    });
    for _ in 0..2 {
        server.post("/ingest?run=r", of_file.clone()).await.ok();
    }
    let settled = server.get("/runs/r").await;
    assert_eq!((&settled.ok()["folded"], &settled.json["duplicate"]), (&5.into(), &5.into()), "the same bytes again");
    let put = &server.fake.puts()[0];
    assert_eq!((&put.data, &put.partition_key), (&of_file, &origin.partition_key("local", 0)));
    let producer = Producer { id: "p".into(), epoch: 1, counter: 1 };
    let of_producer = batch("local", |header| header.producer = Some(producer.clone()));
    server.post("/ingest", of_producer).await.ok();
    assert_eq!(server.fake.puts()[2].partition_key, producer.partition_key("local"));
    server.post("/ingest", batch("local", |_| ())).await.ok();
    let data = vec![Datum {
        namespace: "Custom".into(),
        metric: "m".into(),
        service: None,
        dimensions: vec![],
        time_ms: None,
        value: 1.0,
        unit: "None".into(),
    }];
    let measured = wire::encode_events(header("local", Content::Events, 0), &[Event::Measured(Measured { data })]);
    server.post("/ingest", measured).await.ok();
}

#[tokio::test]
async fn a_client_cannot_speak_for_the_system_or_for_another() {
    let server = Server::open();
    let foreign = server.post("/ingest", batch("acme", |_| ())).await;
    assert!(foreign.refused(403, "foreign_tenant").contains("of tenant `acme`, and the credential of `local`"));
    let reset = Event::TimeReset(TimeReset { was_ms: 0 });
    let measured = Event::Measured(Measured { data: vec![] });
    let events = wire::encode_events(header("local", Content::Events, 0), &[measured, reset]);
    assert!(server.post("/ingest", events).await.refused(400, "foreign_event").starts_with("event 1 of the batch"));
    // A revision that is not there yet would hide every definition that comes up to it.
    let ahead = batch("local", |header| header.definitions = Some(SequenceNumber::MAX));
    server.post("/ingest", ahead).await.refused(400, "unknown_revision");
    let mut damaged = batch("local", |_| ()).to_vec();
    damaged.truncate(60);
    server.post("/ingest", damaged).await.refused(400, "bad_batch");
    server.post("/ingest?service=x", batch("local", |_| ())).await.refused(400, "bad_parameter");
    let large = [wire::MAGIC.as_slice(), &vec![0; 1 << 20]].concat();
    server.post("/ingest", large).await.refused(413, "too_large");
    assert_eq!(server.fake.puts().len(), 0);
}

#[tokio::test]
async fn a_client_that_asks_too_often_is_told_when_to_come_again() {
    const TWO: NonZeroU32 = NonZeroU32::new(2).unwrap();
    let limits = Limits { requests_per_second: NonZeroU32::MIN, burst: TWO, ..Limits::default() };
    let server = Server::of(Access::Open, limits);
    server.get("/metrics").await.ok();
    server.get("/metrics").await.ok();
    let refused = server.get("/metrics").await;
    refused.refused(429, "throttled");
    assert_eq!(refused.headers["retry-after"], "1");
    assert_eq!(server.get("/health").await.status.as_u16(), 429, "whatever it asks for");
}

#[tokio::test]
async fn a_run_for_which_there_is_no_room_is_refused_before_anything_of_it_is_appended() {
    let server = Server::open();
    let why = "1,024 runs of this tenant are not folded yet";
    *server.fake.full.lock().unwrap() = Some(why.into());
    let answer = server.post("/ingest?service=web&run=r", lines("web", 10)).await;
    assert!(answer.refused(429, "runs_full").contains(why), "{}", answer.text);
    assert_eq!(answer.headers["retry-after"], "1");
    assert!(answer.json["positions"].is_null(), "{}", answer.text);
    // Who waits for no run takes no room.
    server.post("/ingest?service=web", lines("web", 10)).await.ok();
    *server.fake.full.lock().unwrap() = None;
    server.post("/ingest?service=web&run=r", lines("web", 10)).await.ok();
}
