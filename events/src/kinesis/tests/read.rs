//! Reads over iterators that expire, answers that are empty or lost, and records that are gone.

use std::{
    num::{NonZeroU32, NonZeroUsize},
    time::Duration,
};

use super::{
    super::reader::{BEHIND_MAX, TRIES_MAX},
    Kinesis, limits, open, put, quick,
    scripted::{Act, Rec, Scripted, Shard, sequence},
};
use crate::{
    position::{SequenceNumber, ShardId},
    stream::{Limits, Page, ReadError, ReadOnly, Start, Stream},
};

const EXPIRED: Act = Act::Error(400, "ExpiredIteratorException", "Iterator expired.");
const THROTTLED: Act = Act::Error(400, "ProvisionedThroughputExceededException", "Rate exceeded for shard");

fn shard(number: u64) -> ShardId {
    ShardId::numbered(number)
}

fn position(number: usize) -> SequenceNumber {
    sequence(number).parse().unwrap()
}

fn numbers(page: &Page) -> Vec<u8> {
    page.records.iter().map(|record| record.data[0]).collect()
}

async fn filled(count: u8) -> (Scripted, Kinesis) {
    let service = Scripted::start(1).await;
    let stream = open(&service, quick()).await;
    if count > 0 {
        let answers = stream.append((0..count).map(|i| put("k", &[i; 10])).collect()).await.unwrap();
        assert!(answers.iter().all(Result::is_ok));
    }
    (service, stream)
}

#[tokio::test]
async fn an_expired_iterator_is_made_anew_from_the_position() {
    let (service, stream) = filled(6).await;
    let first = stream.read(&shard(0), Start::TrimHorizon, limits(2, usize::MAX)).await.unwrap();
    service.next("GetRecords", [EXPIRED]);
    let second = stream.read(&shard(0), first.next.unwrap(), limits(2, usize::MAX)).await.unwrap();
    service.next("GetRecords", [EXPIRED, EXPIRED]);
    let third = stream.read(&shard(0), second.next.unwrap(), limits(2, usize::MAX)).await.unwrap();
    assert_eq!([numbers(&first), numbers(&second), numbers(&third)], [[0, 1], [2, 3], [4, 5]]);
    assert_eq!(service.calls("GetShardIterator").len(), 1 + 1 + 2);
}

#[tokio::test]
async fn pages_go_on_with_the_iterator_of_the_last_answer() {
    let (service, stream) = filled(6).await;
    let mut from = Start::TrimHorizon;
    for _ in 0..3 {
        from = stream.read(&shard(0), from, limits(2, usize::MAX)).await.unwrap().next.unwrap();
    }
    for _ in 0..3 {
        let page = stream.read(&shard(0), from, limits(2, usize::MAX)).await.unwrap();
        assert_eq!((page.records.len(), page.behind_ms), (0, 0));
        from = page.next.unwrap();
    }
    assert_eq!(service.calls("GetShardIterator").len(), 1);
    assert_eq!(service.calls("GetRecords").len(), 6);
}

#[tokio::test]
async fn what_one_answer_held_beyond_a_page_is_not_fetched_again() {
    let (service, stream) = filled(6).await;
    let mut from = Start::TrimHorizon;
    for i in 0..6 {
        let page = stream.read(&shard(0), from, limits(100, 1)).await.unwrap();
        assert_eq!(numbers(&page), [i]);
        assert_eq!(page.behind_ms > 0, i < 5, "what was read ahead is not handed out yet");
        from = page.next.unwrap();
    }
    assert_eq!(service.calls("GetRecords").len(), 1);
}

#[tokio::test]
async fn a_throttled_read_waits_and_is_said_if_it_does_not_pass() {
    let (service, stream) = filled(2).await;
    service.next("GetRecords", [THROTTLED, THROTTLED]);
    service.next("GetShardIterator", [THROTTLED]);
    let page = stream.read(&shard(0), Start::TrimHorizon, limits(10, usize::MAX)).await.unwrap();
    assert_eq!(numbers(&page), [0, 1]);
    service.state().always.insert("GetRecords", THROTTLED);
    let before = service.calls("GetRecords").len();
    let answer = stream.read(&shard(0), page.next.unwrap(), limits(10, usize::MAX)).await;
    assert!(matches!(&answer, Err(ReadError::Unavailable(why)) if why.contains("Rate exceeded")), "{answer:?}");
    assert_eq!(service.calls("GetRecords").len() - before, TRIES_MAX as usize);
}

#[tokio::test]
async fn an_answer_that_is_lost_is_asked_for_again_and_nothing_is_passed_over() {
    for fault in [Act::Lose, Act::Cut, Act::Reset, Act::Error(500, "InternalFailure", "")] {
        let (service, stream) = filled(3).await;
        service.next("GetShardIterator", [fault.clone()]);
        service.next("GetRecords", [fault.clone()]);
        let page = stream.read(&shard(0), Start::TrimHorizon, limits(10, usize::MAX)).await.unwrap();
        assert_eq!(numbers(&page), [0, 1, 2], "after {fault:?}");
    }
}

#[tokio::test]
async fn an_empty_answer_that_is_behind_is_not_the_tip() {
    let (service, stream) = filled(2).await;
    service.next("GetRecords", vec![Act::Empty(90_000); 3]);
    let page = stream.read(&shard(0), Start::TrimHorizon, limits(10, usize::MAX)).await.unwrap();
    assert_eq!((numbers(&page), page.behind_ms), (vec![0, 1], 0), "it does not end at an empty answer");
    service.state().always.insert("GetRecords", Act::Empty(90_000));
    let page = stream.read(&shard(0), Start::TrimHorizon, limits(10, usize::MAX)).await.unwrap();
    assert_eq!((page.records.len(), page.behind_ms), (0, 90_000), "nor does it go on for ever");
    assert_eq!(service.calls("GetRecords").len(), 4 + BEHIND_MAX as usize);
}

#[tokio::test]
async fn the_oldest_record_may_be_behind_empty_pages() {
    let (service, stream) = filled(1).await;
    service.next("GetRecords", vec![Act::Empty(90_000); BEHIND_MAX as usize * 2 + 1]);
    let reader = ReadOnly::new(std::sync::Arc::new(stream));
    assert_eq!(reader.oldest(&shard(0)).await, Ok(Some(position(0))));
    let (_service, stream) = filled(0).await;
    assert_eq!(ReadOnly::new(std::sync::Arc::new(stream)).oldest(&shard(0)).await, Ok(None));
}

#[tokio::test]
async fn an_idle_shard_is_left_alone_across_reads_until_something_is_put_there() {
    let service = Scripted::start(1).await;
    let options = super::Options { idle_pause: Duration::from_secs(3_600), ..quick() };
    let stream = open(&service, options).await;
    let brief = |millis| Limits { wait: Duration::from_millis(millis), ..limits(9, usize::MAX) };
    for _ in 0..5 {
        let page = stream.read(&shard(0), Start::TrimHorizon, brief(1)).await.unwrap();
        assert_eq!((page.records.len(), page.behind_ms, page.next), (0, 0, Some(Start::TrimHorizon)));
    }
    assert_eq!(service.calls("GetRecords").len(), 1);
    stream.read(&shard(0), Start::TrimHorizon, brief(0)).await.unwrap();
    assert_eq!(service.calls("GetRecords").len(), 2, "who does not wait wants to know now");
    stream.append(vec![put("k", &[7])]).await.unwrap();
    let page = stream.read(&shard(0), Start::TrimHorizon, brief(1)).await.unwrap();
    assert_eq!(numbers(&page), [7]);
    stream.read(&shard(0), page.next.unwrap(), brief(1)).await.unwrap();
    let elsewhere = stream.read(&shard(0), Start::TrimHorizon, brief(1)).await.unwrap();
    assert_eq!(numbers(&elsewhere), [7], "only the place at the tip is idle");
}

#[tokio::test]
async fn a_reader_waits_for_what_comes() {
    let (_service, stream) = filled(1).await;
    let reading = stream.clone();
    let patient = Limits { records: NonZeroUsize::MIN, bytes: 1, wait: Duration::from_secs(60) };
    let from = Start::After(position(0));
    let reader = tokio::spawn(async move { reading.read(&shard(0), from, patient).await.unwrap() });
    stream.append(vec![put("k", &[7])]).await.unwrap();
    assert_eq!(numbers(&reader.await.unwrap()), [7]);
}

/// Closes shard 0 and gives its keys to two children.
fn split(service: &Scripted) {
    let mut state = service.state();
    state.shards[0].closed = true;
    let parent = state.shards[0].id.clone();
    let (from, through) = (state.shards[0].from, state.shards[0].through);
    let middle = from + (through - from) / 2;
    for (number, from, through) in [(1, from, middle), (2, middle + 1, through)] {
        let id = format!("shardId-{number:012}");
        state.shards.push(Shard { id, from, through, parents: vec![parent.clone()], ..Shard::default() });
    }
}

#[tokio::test]
async fn a_closed_shard_is_read_to_its_end_and_no_further() {
    let (service, stream) = filled(3).await;
    split(&service);
    let first = stream.read(&shard(0), Start::TrimHorizon, limits(2, usize::MAX)).await.unwrap();
    let last = stream.read(&shard(0), first.next.unwrap(), limits(2, usize::MAX)).await.unwrap();
    assert_eq!((numbers(&last), last.next), (vec![2], None));
    for limits in [limits(100, 1), limits(100, usize::MAX)] {
        let again = stream.read(&shard(0), Start::After(position(1)), limits).await.unwrap();
        assert_eq!((numbers(&again), again.next), (vec![2], None));
    }
    let after = stream.read(&shard(0), Start::After(position(2)), limits(9, usize::MAX)).await.unwrap();
    assert_eq!((after.records.len(), after.next), (0, None), "its last record is there: nothing is lost");
}

#[tokio::test]
async fn a_position_in_an_empty_shard_is_trimmed_as_soon_as_that_can_be_known() {
    let (service, stream) = filled(3).await;
    service.state().shards[0].records.clear();
    service.state().shards[0].first = 3;
    let from = Start::After(position(2));
    let page = stream.read(&shard(0), from, limits(9, usize::MAX)).await.unwrap();
    assert_eq!((page.records.len(), page.next), (0, Some(from)), "nothing is there to tell by");
    stream.append(vec![put("k", &[9])]).await.unwrap();
    let trimmed = ReadError::Trimmed { shard: shard(0), asked: position(2), oldest: position(3) };
    assert_eq!(stream.read(&shard(0), from, limits(9, usize::MAX)).await, Err(trimmed));
}

#[tokio::test]
async fn a_closed_shard_whose_records_are_all_gone_is_said() {
    let (service, stream) = filled(3).await;
    split(&service);
    service.state().shards[0].records.clear();
    service.state().shards[0].first = 3;
    let answer = stream.read(&shard(0), Start::After(position(1)), limits(9, usize::MAX)).await;
    let Err(ReadError::Trimmed { asked, oldest, .. }) = answer else { panic!("{answer:?}") };
    assert_eq!(asked, position(1));
    assert!(oldest > position(2), "behind all that was there");
}

#[tokio::test]
async fn a_reader_near_the_retention_asks_by_position_and_hears_of_what_was_trimmed() {
    let service = Scripted::start(1).await;
    service.state().retention_hours = 1;
    let stream = open(&service, quick()).await;
    stream.append((0..4).map(|i| put("k", &[i])).collect()).await.unwrap();
    let old_ms = service.state().shards[0].records[3].at_ms - 3_500_000;
    service.state().shards[0].records.iter_mut().take(3).for_each(|record: &mut Rec| record.at_ms = old_ms);
    let page = stream.read(&shard(0), Start::TrimHorizon, limits(1, usize::MAX)).await.unwrap();
    assert!(page.behind_ms > 3_000_000);
    service.state().shards[0].records.drain(..2);
    service.state().shards[0].first = 2;
    let answer = stream.read(&shard(0), page.next.unwrap(), limits(1, usize::MAX)).await;
    assert_eq!(answer, Err(ReadError::Trimmed { shard: shard(0), asked: position(0), oldest: position(2) }));
}

#[tokio::test]
async fn a_retention_that_is_shortened_is_known_from_the_next_listing_on() {
    let (service, stream) = filled(4).await;
    let old_ms = service.state().shards[0].records[3].at_ms - 3_500_000;
    service.state().shards[0].records.iter_mut().take(3).for_each(|record: &mut Rec| record.at_ms = old_ms);
    let page = stream.read(&shard(0), Start::TrimHorizon, limits(1, 1)).await.unwrap();
    service.state().retention_hours = 1;
    stream.shards().await.unwrap();
    let page = stream.read(&shard(0), page.next.unwrap(), limits(1, 1)).await.unwrap();
    service.state().shards[0].records.drain(..3);
    service.state().shards[0].first = 3;
    let answer = stream.read(&shard(0), page.next.unwrap(), limits(1, 1)).await;
    assert_eq!(answer, Err(ReadError::Trimmed { shard: shard(0), asked: position(1), oldest: position(3) }));
}

#[tokio::test]
async fn latest_misses_nothing_although_its_iterator_expires() {
    let (service, stream) = filled(1).await;
    let page = stream.read(&shard(0), Start::Latest, limits(9, usize::MAX)).await.unwrap();
    assert_eq!(page.records, []);
    stream.append(vec![put("k", &[8])]).await.unwrap();
    service.next("GetRecords", [EXPIRED]);
    let page = stream.read(&shard(0), page.next.unwrap(), limits(9, usize::MAX)).await.unwrap();
    assert_eq!(page.records.last().map(|record| record.data[0]), Some(8), "perhaps behind some that are older");
}

#[tokio::test]
async fn listings_have_pages_and_put_parents_first_and_name_those_that_are_gone() {
    let (service, stream) = filled(1).await;
    split(&service);
    {
        let mut state = service.state();
        // Two children meet again, and the listing is turned round.
        state.shards[1].closed = true;
        state.shards[2].closed = true;
        let parents = vec![state.shards[1].id.clone(), state.shards[2].id.clone()];
        let id = "shardId-000000000003".to_owned();
        state.shards.push(Shard { id, from: 0, through: u128::MAX, parents, ..Shard::default() });
        state.shards.reverse();
        state.page = 1;
    }
    let shards = stream.shards().await.unwrap();
    let ids: Vec<&str> = shards.iter().map(|shard| &shard.id.as_str()[18..]).collect();
    assert_eq!(ids, ["00", "01", "02", "03"]);
    assert_eq!(shards.iter().map(|shard| shard.closed).collect::<Vec<_>>(), [true, true, true, false]);
    assert_eq!(shards[3].parents, [shard(1), shard(2)]);
    service.state().shards.retain(|shard| shard.id != "shardId-000000000000");
    let shards = stream.shards().await.unwrap();
    assert_eq!(shards[0].parents, [shard(0)], "who is not listed any more is still its parent");
    service.next("ListShards", [Act::Error(400, "ExpiredNextTokenException", "")]);
    assert_eq!(stream.shards().await.unwrap().len(), 3, "a listing that took too long begins anew");
}

#[tokio::test]
async fn a_stream_that_is_gone_is_told_from_a_shard_that_is() {
    let (service, stream) = filled(1).await;
    let unknown = shard(77);
    let answer = stream.read(&unknown, Start::TrimHorizon, limits(1, 1)).await;
    assert_eq!(answer, Err(ReadError::NoSuchShard(unknown)));
    service.state().status = None;
    let answer = stream.read(&shard(0), Start::TrimHorizon, limits(1, 1)).await;
    assert!(matches!(&answer, Err(ReadError::Unavailable(why)) if why.contains("stream scripted")), "{answer:?}");
}

#[tokio::test]
async fn an_answer_is_about_as_large_as_the_page() {
    let service = Scripted::start(1).await;
    let stream = open(&service, quick()).await;
    for _ in 0..4 {
        stream.append((0..10).map(|i| put("k", &vec![i; 250_000])).collect()).await.unwrap();
    }
    let (mut from, mut count) = (Start::TrimHorizon, 0);
    while count < 40 {
        let page = stream.read(&shard(0), from, limits(1_000, 1_000_000)).await.unwrap();
        count += page.records.len();
        from = page.next.unwrap();
    }
    let asked: Vec<u64> = service.calls("GetRecords").iter().map(|call| call["Limit"].as_u64().unwrap()).collect();
    assert_eq!(asked[0], 1_000, "nothing is known of the records yet");
    let page = stream.read(&shard(0), Start::TrimHorizon, limits(1_000, 1_000_000)).await.unwrap();
    assert_eq!(page.records.len(), 4);
    assert_eq!(service.calls("GetRecords").last().unwrap()["Limit"], 8, "two pages of what was seen");
}

#[tokio::test(start_paused = true)]
async fn reads_of_a_shard_keep_its_rates() {
    use super::super::reader::Lane;
    let options = super::Options::default();
    let lane = Lane::new(&options);
    let began = tokio::time::Instant::now();
    for _ in 0..25 {
        lane.turn().await;
    }
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(4) && took < Duration::from_millis(4_100), "five a second: {took:?}");
    let began = tokio::time::Instant::now();
    lane.owe(10 << 20, 40);
    lane.turn().await;
    assert!(began.elapsed() >= Duration::from_secs(5), "the shard is left alone after a full answer");
    let began = tokio::time::Instant::now();
    for _ in 0..10 {
        lane.owe(2_000_000, 8);
        lane.turn().await;
    }
    assert!(began.elapsed() >= Duration::from_secs(9), "two megabytes a second");
    let slow = NonZeroU32::new(1).unwrap();
    let shared = Lane::new(&super::Options { reads_per_sec: slow, ..options });
    let began = tokio::time::Instant::now();
    for _ in 0..3 {
        shared.turn().await;
    }
    assert!(began.elapsed() >= Duration::from_secs(2), "less, where others read too");
}
