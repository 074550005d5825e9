//! The adapter against a service whose faults are scripted, by the real client.
#![allow(clippy::unwrap_used)]

use super::{
    scripted::{Act, Scripted, etag},
    *,
};

fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|n| (n * 31 % 251) as u8).collect()
}

fn wanted(key: &str) -> Wanted {
    Wanted { key: key.into(), ..Wanted::default() }
}

#[tokio::test]
async fn a_range_comes_as_far_as_the_object_reaches_and_an_empty_object_is_one() {
    let s3 = Scripted::start().await;
    let bucket = s3.bucket();
    s3.put("in/a b+c é.txt", bytes(1000));
    s3.put("empty", vec![]);
    let part = bucket.get(&wanted("in/a b+c é.txt"), 900..5000).await.unwrap();
    assert_eq!((&part.bytes[..], part.total), (&bytes(1000)[900..], 1000));
    assert_eq!((part.etag, part.version, part.modified_ms), (etag(&bytes(1000)), None, 1_767_226_000_000));
    let part = bucket.get(&wanted("empty"), 0..100).await.unwrap();
    assert_eq!((part.bytes.len(), part.total), (0, 0));
    let failure = bucket.get(&wanted("in/a b+c é.txt"), 1000..1001).await.unwrap_err();
    assert_eq!(failure.kind, Kind::PastEnd);
}

#[tokio::test]
async fn what_breaks_off_is_asked_for_from_there_on_and_of_the_same_object() {
    let s3 = Scripted::start().await;
    s3.put("a", bytes(1000));
    let slow = Act::Error(503, "SlowDown", None);
    s3.next([slow.clone(), Act::Cut(300), Act::Lose, slow, Act::Cut(200), Act::Fine]);
    let part = s3.bucket().get(&wanted("a"), 100..900).await.unwrap();
    assert_eq!(part.bytes, &bytes(1000)[100..900]);
    let asked: Vec<_> = s3.calls().into_iter().map(|call| (call.range.unwrap().0, call.if_match.is_some())).collect();
    assert_eq!(asked, [(100, false), (100, false), (400, true), (400, true), (400, true), (600, true)]);
}

#[tokio::test]
async fn a_bucket_whose_readers_pay_is_read_by_who_says_so_and_anybody_else_is_told_how() {
    let s3 = Scripted::start().await;
    s3.put("a", bytes(1000));
    s3.put("empty", vec![]);
    s3.state().readers_pay = true;
    let refused = s3.bucket().list("", None).await.unwrap_err();
    assert!(refused.kind == Kind::Denied && refused.to_string().contains("--requester-pays"), "{refused}");
    let bucket = s3.bucket().paid_by_who_asks();
    assert_eq!(bucket.list("", None).await.unwrap().objects.len(), 2);
    assert_eq!(bucket.get(&wanted("a"), 0..2000).await.unwrap().bytes, bytes(1000));
    assert_eq!(bucket.get(&wanted("empty"), 0..2000).await.unwrap().total, 0);
}

#[tokio::test]
async fn bytes_of_two_objects_are_never_joined() {
    let s3 = Scripted::start().await;
    s3.put("a", bytes(1000));
    s3.next([Act::Cut(300), Act::Change("a", Some(bytes(999)))]);
    let failure = s3.bucket().get(&wanted("a"), 0..1000).await.unwrap_err();
    assert_eq!(failure.kind, Kind::Replaced, "{failure}");
    let stale = Wanted { etag: Some(etag(&bytes(1000))), ..wanted("a") };
    assert_eq!(s3.bucket().get(&stale, 0..10).await.unwrap_err().kind, Kind::Replaced);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_pass_is_told_at_once_and_what_may_pass_after_so_many_tries() {
    let s3 = Scripted::start().await;
    let failure = s3.bucket().get(&wanted("none"), 0..1).await.unwrap_err();
    assert_eq!((failure.kind.clone(), s3.calls().len()), (Kind::NoKey, 1));
    assert!(failure.to_string().contains("aws s3 ls s3://logs/none"), "{failure}");
    s3.next(std::iter::repeat_n(Act::Error(503, "SlowDown", None), TRIES_MAX as usize));
    let failure = s3.bucket().get(&wanted("a"), 0..1).await.unwrap_err();
    assert_eq!((failure.kind.clone(), s3.calls().len()), (Kind::Unavailable, TRIES_MAX as usize));
    assert!(
        failure.to_string().contains("SlowDown: as scripted") && failure.to_string().contains("8 tries"),
        "{failure}"
    );
    for (status, code, words) in [
        (404, "NoSuchBucket", "there is no bucket logs"),
        (403, "AccessDenied", "s3:GetObject"),
        (403, "InvalidObjectState", "aws s3api restore-object --bucket logs --key 'a'"),
        (301, "PermanentRedirect", "Name its region with AWS_REGION"),
    ] {
        s3.next([Act::Error(status, code, None)]);
        let said = s3.bucket().get(&wanted("a"), 0..1).await.unwrap_err().to_string();
        assert!(said.contains(words), "{said}");
    }
}

#[tokio::test]
async fn a_bucket_in_another_region_is_asked_there_from_then_on() {
    let s3 = Scripted::start().await;
    s3.put("a", bytes(10));
    s3.next([Act::Error(301, "PermanentRedirect", Some("eu-west-1"))]);
    let bucket = s3.bucket();
    assert_eq!(bucket.get(&wanted("a"), 0..10).await.unwrap().bytes.len(), 10);
    assert_eq!(bucket.region().as_deref(), Some("eu-west-1"));
    assert_eq!(bucket.get(&wanted("a"), 0..10).await.unwrap().bytes.len(), 10);
    assert_eq!(s3.calls().len(), 3);
}

#[tokio::test]
async fn pages_of_a_list_follow_each_other_with_every_key() {
    let s3 = Scripted::start().await;
    let keys: Vec<String> = (0..25).map(|n| format!("in/{n:02} é+\u{1}.log")).collect();
    keys.iter().for_each(|key| s3.put(key, bytes(key.len())));
    s3.put("out", bytes(1));
    s3.state().page = 10;
    s3.state().lists.extend([Act::Fine, Act::Lose, Act::Error(500, "InternalError", None)]);
    let (mut listed, mut next, mut pages) = (vec![], None, 0);
    loop {
        let page = s3.bucket().list("in/", next.as_deref()).await.unwrap();
        listed.extend(page.objects);
        pages += 1;
        next = page.next;
        if next.is_none() {
            break;
        }
    }
    assert_eq!(pages, 3);
    let about: Vec<_> = listed.iter().map(|object| (object.key.clone(), object.size, object.etag.clone())).collect();
    let expected = keys.iter().map(|key| (key.clone(), key.len() as u64, etag(&bytes(key.len()))));
    assert_eq!(about, expected.collect::<Vec<_>>());
}

#[tokio::test]
async fn an_object_is_put_once_where_it_may_not_be_replaced() {
    let s3 = Scripted::start().await;
    let bucket = s3.bucket();
    s3.next([Act::Error(503, "SlowDown", None)]);
    assert_eq!(bucket.put("a", bytes(9).into(), Putting::IfAbsent).await.unwrap(), Stored::New);
    assert_eq!(bucket.put("a", bytes(5).into(), Putting::IfAbsent).await.unwrap(), Stored::Exists);
    assert_eq!(bucket.get(&wanted("a"), 0..100).await.unwrap().bytes.len(), 9);
    assert_eq!(bucket.put("a", bytes(5).into(), Putting::Always).await.unwrap(), Stored::New);
    assert_eq!(bucket.get(&wanted("a"), 0..100).await.unwrap().bytes.len(), 5);
}
