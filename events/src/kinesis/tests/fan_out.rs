//! Enhanced fan-out against emulators that others wrote, and against scripted streams of events for what they do not do.

mod events;

use std::{
    num::{NonZeroU16, NonZeroUsize},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use self::events::{Ends, Server, Sub, sequence};
use super::{Kinesis, Missing, client, put, quick};
use crate::{
    kinesis::{ConsumerError, FanOut, Options},
    position::{SequenceNumber, ShardId},
    stream::{Limits, Page, ReadError, Start, Stream},
};

fn limits(records: usize) -> Limits {
    Limits { records: NonZeroUsize::new(records).unwrap(), bytes: 1 << 20, wait: Duration::from_millis(200) }
}

async fn on(endpoint: &str, shards: NonZeroU16) -> FanOut {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let (client, name) = (client(endpoint), format!("kinesis-fan-out-{}", COUNT.fetch_add(1, Relaxed)));
    // An emulator takes some seconds until it sees that a subscriber is gone.
    let options = Options { throttle_pause: Duration::from_secs(1), ..quick() };
    let stream = Kinesis::open_with(client.clone(), &name, Missing::Create(shards), options).await.unwrap();
    let missing = FanOut::open(stream.clone(), &client, "weir-test", false).await.unwrap_err();
    assert_eq!(missing, ConsumerError::Missing { stream: name, name: "weir-test".into() });
    let (_, was_registered) = FanOut::open(stream.clone(), &client, "weir-test", true).await.unwrap();
    assert!(was_registered);
    let (fan_out, was_registered) = FanOut::open(stream, &client, "weir-test", true).await.unwrap();
    assert!(!was_registered, "the one that is there is used");
    fan_out
}

/// What is read from a place until so many records came, and where it goes on.
async fn read(
    stream: &FanOut,
    shard: &ShardId,
    mut from: Start,
    count: usize,
) -> (Vec<(SequenceNumber, Vec<u8>)>, Start) {
    let mut records = vec![];
    while records.len() < count {
        let page = stream.read(shard, from, limits(3)).await.unwrap();
        records.extend(page.records.into_iter().map(|record| (record.sequence, record.data.to_vec())));
        from = page.next.expect("it is open");
    }
    (records, from)
}

async fn what_is_there_and_what_comes_is_pushed(stream: &FanOut) -> Vec<(SequenceNumber, Vec<u8>)> {
    let shard = stream.shards().await.unwrap().remove(0).id;
    let append = async |data: &[u8]| stream.append(vec![put("k", data)]).await.unwrap().remove(0).unwrap().sequence;
    let mut expected = vec![];
    for i in 0..10u8 {
        expected.push((append(&[i]).await, vec![i]));
    }
    let (found, from) = read(stream, &shard, Start::TrimHorizon, 10).await;
    assert_eq!(found, expected);
    let live = append(b"live").await;
    let (found, _) = read(stream, &shard, from, 1).await;
    assert_eq!(found, [(live, b"live".to_vec())]);
    expected.push((live, b"live".to_vec()));
    expected
}

#[tokio::test]
async fn an_emulator_pushes_what_is_there_and_what_comes() {
    // It compares positions as text with zeros before them, and so knows none that is asked for: no resuming here.
    what_is_there_and_what_comes_is_pushed(&on(&emulators::aws().endpoint, NonZeroU16::MIN).await).await;
}

#[tokio::test]
async fn another_emulator_pushes_what_is_there_and_what_comes_and_a_second_process_goes_on_in_the_middle() {
    let endpoint = &emulators::kinesis().endpoint;
    let stream = on(endpoint, NonZeroU16::MIN).await;
    let expected = what_is_there_and_what_comes_is_pushed(&stream).await;
    let shard = stream.shards().await.unwrap().remove(0).id;
    let kinesis = stream.stream().clone();
    drop(stream);
    let (other, _) = FanOut::open(kinesis, &client(endpoint), "weir-test", true).await.unwrap();
    let (found, _) = read(&other, &shard, Start::After(expected[6].0), 4).await;
    assert_eq!(found, expected[7..]);
}

const SHARD: &str = "shardId-000000000000";

async fn scripted(subs: Vec<Sub>) -> (Server, FanOut) {
    let server = Server::start(subs).await;
    let client = client(&server.endpoint);
    let options = Options { back_off_first: Duration::ZERO, back_off_longest: Duration::ZERO, ..quick() };
    let stream = Kinesis::open_with(client.clone(), "scripted", Missing::Refuse, options).await.unwrap();
    let (fan_out, _) = FanOut::open_with(stream, &client, "weir", false, Duration::ZERO).await.unwrap();
    (server, fan_out)
}

/// The numbers of all records from a place to the shard's end.
async fn to_the_end(stream: &FanOut, mut from: Start) -> Vec<SequenceNumber> {
    let mut records = vec![];
    loop {
        let Page { records: more, next, .. } = stream.read(&ShardId::named(SHARD), from, limits(2)).await.unwrap();
        records.extend(more.into_iter().map(|record| record.sequence));
        match next {
            Some(next) => from = next,
            None => return records,
        }
    }
}

fn numbers(range: std::ops::Range<u64>) -> Vec<SequenceNumber> {
    range.map(|number| sequence(number).parse().unwrap()).collect()
}

#[tokio::test]
async fn a_subscription_that_is_over_cut_or_taken_is_made_anew_behind_its_continuation() {
    let (server, stream) = scripted(vec![
        Sub::Events(vec![Sub::event(1..4, 7, 500)], Ends::Over),
        // Nothing came, and it goes on from what was said all the same.
        Sub::Events(vec![Sub::event(8..8, 9, 0)], Ends::Over),
        Sub::Events(vec![Sub::event(10..12, 11, 0)], Ends::CutInAnEvent),
        Sub::Events(vec![Sub::exception("InternalFailureException")], Ends::Over),
        Sub::Events(vec![Sub::exception("ResourceInUseException")], Ends::Over),
        Sub::Refused("ResourceInUseException"),
        Sub::Refused("LimitExceededException"),
        Sub::Reset,
        Sub::Events(vec![Sub::event(12..15, 14, 0), Sub::end(15..16)], Ends::Over),
    ])
    .await;
    let found = to_the_end(&stream, Start::TrimHorizon).await;
    assert_eq!(found, [numbers(1..4), numbers(10..12), numbers(12..15), numbers(15..16)].concat());
    let after = |number: u64| format!("AFTER_SEQUENCE_NUMBER {}", sequence(number));
    let expected = [&["TRIM_HORIZON".to_owned(), after(7), after(9)][..], &vec![after(11); 6]].concat();
    assert_eq!(server.positions(), expected);
}

#[tokio::test]
async fn who_resumes_sees_the_record_there_or_hears_that_it_is_gone() {
    let shard = ShardId::named(SHARD);
    let after = Start::After(sequence(4).parse().unwrap());
    let (server, stream) = scripted(vec![Sub::Events(vec![Sub::event(4..6, 5, 0), Sub::end(6..7)], Ends::Over)]).await;
    assert_eq!(to_the_end(&stream, after).await, numbers(5..7));
    assert_eq!(server.positions(), [format!("AT_SEQUENCE_NUMBER {}", sequence(4))]);
    let (_server, stream) = scripted(vec![Sub::Events(vec![Sub::event(6..9, 8, 0)], Ends::Over)]).await;
    let gone = stream.read(&shard, after, limits(2)).await.unwrap_err();
    let (asked, oldest) = (sequence(4).parse().unwrap(), sequence(6).parse().unwrap());
    assert_eq!(gone, ReadError::Trimmed { shard, asked, oldest });
}

#[tokio::test]
async fn who_folded_half_of_a_page_goes_on_in_its_middle_by_the_same_subscription() {
    let (server, stream) = scripted(vec![Sub::Events(vec![Sub::event(1..5, 4, 0), Sub::end(5..6)], Ends::Over)]).await;
    let page = stream.read(&ShardId::named(SHARD), Start::TrimHorizon, limits(4)).await.unwrap();
    assert_eq!(page.records.len(), 4);
    assert_eq!(to_the_end(&stream, Start::After(page.records[0].sequence)).await, numbers(2..6));
    assert_eq!(server.positions().len(), 1);
}

#[tokio::test]
async fn what_does_not_pass_is_the_reads_answer() {
    let shard = ShardId::named(SHARD);
    for (code, words) in [
        ("AccessDeniedException", "credentials do not permit it"),
        ("ResourceNotFoundException", "ResourceNotFoundException"),
        ("KMSDisabledException", "KMSDisabledException"),
    ] {
        let (server, stream) = scripted(vec![Sub::Refused(code)]).await;
        let refused = stream.read(&shard, Start::TrimHorizon, limits(2)).await.unwrap_err();
        let ReadError::Unavailable(why) = refused else { panic!("{refused:?}") };
        assert!(why.contains(words) && why.contains("scripted"), "{why}");
        assert_eq!(server.positions().len(), 1, "{code}");
    }
    let (_server, stream) = scripted(vec![Sub::Refused("ResourceNotFoundException")]).await;
    let other = ShardId::named("shardId-000000000007");
    let gone = stream.read(&other, Start::TrimHorizon, limits(2)).await.unwrap_err();
    assert_eq!(gone, ReadError::NoSuchShard(other));
}

#[tokio::test]
async fn what_nobody_asks_for_is_not_taken_from_the_connection() {
    let (server, stream) = scripted(vec![Sub::Flood]).await;
    let page = stream.read(&ShardId::named(SHARD), Start::TrimHorizon, limits(1)).await.unwrap();
    assert_eq!(page.records.len(), 1);
    let sent = server.stuck().await.expect("it stands still long before all of it is sent");
    let mut from = page.next.unwrap();
    for _ in 0..3 {
        from = stream.read(&ShardId::named(SHARD), from, limits(1)).await.unwrap().next.unwrap();
    }
    assert!(sent < events::FLOOD_BYTES / 2, "{sent} bytes");
}
