//! The whole system in one process, without the command line.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "program/history.rs"]
mod history;

use std::{
    collections::BTreeSet,
    num::{NonZeroU16, NonZeroUsize},
    sync::{Arc, Mutex},
    time::Duration,
};

use api::operator::AppendFailed;
use events::{
    embedded::{self as stream, disk::RealDisk},
    event::{Defined, Event, OpenShard, Ticked},
    identity::{CONTROL_KEY, Origin, OriginKind},
    pack::{Identity, Packer, Source},
    position::{HashKey, SequenceNumber, ShardId},
    stream::{Limits, Put, ReadOnly, Refused, Start, Stream},
    wire::Codec,
};
use processor::{
    append::{append_all, system_event},
    ingest::ReaderList,
    rebuild,
};
use projections::{
    cell::Cell,
    fold::{FOLD_REVISION, Place},
    query,
    store::{
        Checkpoint, Commit, Generation, Kind, Row, Span, Store,
        law::memory::{Commits, Memory},
    },
};
use weir::{LocalStore, LocalStream, Opening, Options, SHARDS_MAX, System};

async fn ingest(system: &System, run: &str, name: &str, text: &str) {
    let origin = Origin { kind: OriginKind::File, name: name.into(), version: "1".into() };
    let source = Source {
        tenant: "local".into(),
        service: Some("app".into()),
        identity: Identity::Origin { origin, from: 0 },
        read_at_ms: weir::now_ms(),
        definitions: None,
    };
    let mut packer = Packer::new(source, Codec::None, 64 << 10);
    packer.push(text.as_bytes());
    while let Some(packed) = packer.next(true) {
        let put = Put { partition_key: packed.partition_key, hash_key: None, data: packed.data };
        let appended = system.append(put).await.unwrap();
        system.ledger().expect(run, &appended.shard, appended.sequence);
    }
}

fn lines(count: usize) -> String {
    let line = |i: usize| {
        let (minute, second, service, latency) = (i / 60 % 60, i % 60, i % 7, i % 100);
        format!(
            "{{\"timestamp\":\"2026-01-01T00:{minute:02}:{second:02}.000Z\",\"level\":\"INFO\",\"service\":\"svc-{service}\",\
             \"latency_ms\":{latency}.5,\"status\":200}}\n"
        )
    };
    (0..count).map(line).collect()
}

#[tokio::test]
async fn what_was_ingested_is_folded_once_and_verifies_also_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let shards = NonZeroU16::new(3);
    for round in 0..2 {
        let system = System::open(folder.path(), Options { shards, ..Options::default() }).await.unwrap();
        for file in 0..5 {
            ingest(&system, "run", &format!("/logs/{file}.jsonl"), &lines(3_000)).await;
        }
        let balance = system.ledger().settled("run", Duration::from_secs(30)).await.unwrap();
        assert_eq!(balance.accepted(), 15_000);
        assert_eq!((balance.folded, balance.duplicate), if round == 0 { (15_000, 0) } else { (0, 15_000) });
        let report = system.verify(|_| {}).await.unwrap();
        assert_eq!(report.differences, 0, "{:?}", report.first_difference);
        assert!(report.rows > 300, "{report:?}");
        let span = Span::All { tenant: None, generation: Generation(0), kind: Kind::Service };
        let services = system.store().scan(&span, None, 1000.try_into().unwrap()).await.unwrap();
        let names: BTreeSet<_> = services.rows.iter().map(|row| &row.key.subject.name).collect();
        assert_eq!(names.len(), 7);
        assert_eq!(system.close(), None);
    }
}

#[tokio::test]
async fn more_shards_than_a_new_folder_may_have_are_refused_before_anything_is_made() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("data");
    let many = Options { shards: NonZeroU16::new(SHARDS_MAX + 1), ..Options::default() };
    let refused = System::open(&folder, many.clone()).await.err().unwrap().to_string();
    assert!(refused.contains("65 shards are too many") && refused.contains("at most 64"), "{refused}");
    assert!(!folder.exists());
    let two = Options { shards: NonZeroU16::new(2), ..Options::default() };
    assert_eq!(System::open(&folder, two).await.unwrap().close(), None);
    let system = System::open(&folder, many).await.unwrap();
    assert_eq!(system.shards().await.unwrap(), 2, "a folder that is there keeps its own");
    assert_eq!(system.close(), None);
}

#[tokio::test]
async fn a_definition_is_in_force_on_every_shard_and_verifies() {
    use api::Operator;
    let folder = tempfile::tempdir().unwrap();
    let options = Options { shards: NonZeroU16::new(3), ..Options::default() };
    let system = System::open(folder.path(), options).await.unwrap();
    let body = r#"{"AlarmName":"a","ServiceName":"svc-1","MetricName":"errors","Statistic":"Sum","Period":60,"EvaluationPeriods":1,
        "Threshold":1,"ComparisonOperator":"GreaterThanOrEqualToThreshold"}"#;
    for _ in 0..3 {
        let defined =
            events::event::Defined { kind: "alarm".into(), name: "a".into(), body: body.into(), by: "test".into() };
        system.apply("local", vec![defined]).await.unwrap();
        ingest(&system, "run", "/logs/a.jsonl", &lines(500)).await;
    }
    system.ledger().settled("run", Duration::from_secs(30)).await.unwrap();
    system.tick().await.unwrap();
    let report = Operator::verify(&system).await.unwrap();
    assert_eq!(report["differences"], 0, "{report}");
    assert_eq!(system.close(), None);
}

#[tokio::test]
async fn a_process_that_was_started_again_knows_the_revision_that_its_ticker_names() {
    use api::Operator;
    let folder = tempfile::tempdir().unwrap();
    let system = System::open(folder.path(), Options::default()).await.unwrap();
    let defined = system.apply("local", vec![alarm(0)]).await.unwrap()[0];
    assert_eq!(system.revision(), defined);
    assert_eq!(system.close(), None);
    let system = System::open(folder.path(), Options::default()).await.unwrap();
    // It ticks at once.
    let known = async {
        while system.definitions_revision().is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), known).await.unwrap();
    assert_eq!(system.revision(), defined);
    assert_eq!(system.close(), None);
}

#[tokio::test]
async fn a_record_that_never_can_be_taken_is_refused_for_good_and_each_opening_speaks_in_an_epoch_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let mut epochs = vec![];
    for _ in 0..2 {
        let system = System::open(folder.path(), Options::default()).await.unwrap();
        let put = Put { partition_key: String::new(), hash_key: None, data: vec![].into() };
        let refused = system.append(put).await.unwrap_err();
        assert!(matches!(refused, AppendFailed::Refused(Refused::Invalid(_))), "{refused}");
        epochs.push(system.producer().epoch);
        assert_eq!(system.close(), None);
    }
    assert!(epochs[0] < epochs[1], "{epochs:?}");
}

#[tokio::test]
async fn rows_that_move_while_they_are_verified_do_not_differ() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { shards: NonZeroU16::new(2), ..Options::default() };
    let system = std::sync::Arc::new(System::open(folder.path(), options).await.unwrap());
    let writer = system.clone();
    let writing = tokio::spawn(async move {
        for file in 0..40 {
            ingest(&writer, "run", &format!("/logs/{file}.jsonl"), &lines(1_000)).await;
            writer.ledger().settled("run", Duration::from_secs(30)).await.unwrap();
        }
    });
    let mut reports = vec![];
    while !writing.is_finished() {
        let report = system.verify(|_| {}).await.unwrap();
        assert_eq!(report.differences, 0, "{:?}", report.first_difference);
        reports.push(report);
    }
    writing.await.unwrap();
    assert_eq!(Arc::try_unwrap(system).ok().unwrap().close(), None);
    // The digest is of what was compared: of a replay up to there.
    let disk = RealDisk::in_folder(folder.path().join("stream")).unwrap();
    let stream = Arc::new(LocalStream::open(disk, weir::now_ms, stream::Options::default()).unwrap());
    let shards = stream.shards().await.unwrap();
    let ring: Vec<_> = shards.iter().map(|shard| (shard.id.clone(), shard.range)).collect();
    let place =
        |(shard, _): &(ShardId, _)| Place { generation: Generation(0), shard: shard.clone(), ring: ring.clone() };
    let places: Vec<Place> = ring.iter().map(place).collect();
    assert!(!reports.is_empty());
    for report in reports {
        let at = |shard: &ShardId| report.through[shard.as_str()].parse().unwrap_or_default();
        let until = places.iter().map(|place| (place.shard.clone(), at(&place.shard))).collect();
        let replayed = Arc::new(Memory::new(Commits::Whole));
        rebuild::restore(ReadOnly::new(stream.clone()), replayed.clone(), places.clone(), &until, |_| {})
            .await
            .unwrap();
        assert_eq!(report.digest, Some(query::digest(&*replayed, Generation(0)).await.unwrap()), "{report:?}");
    }
}

#[tokio::test]
async fn rows_over_a_stream_that_ends_before_them_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let system = System::open(folder.path(), Options::default()).await.unwrap();
    ingest(&system, "run", "/logs/a.jsonl", &lines(500)).await;
    system.ledger().settled("run", Duration::from_secs(30)).await.unwrap();
    assert_eq!(system.close(), None);
    std::fs::remove_dir_all(folder.path().join("stream")).unwrap();
    let refused = System::open(folder.path(), Options::default()).await.err().map(|error| error.to_string());
    assert!(refused.as_deref().is_some_and(|text| text.contains("do not belong together")), "{refused:?}");
}

/// Every row of the folder's store, by kind.
async fn rows_of(store: &impl Store) -> Vec<Row> {
    let mut rows = vec![];
    for kind in Kind::ALL {
        let span = Span::All { tenant: None, generation: Generation(0), kind };
        let page = store.scan(&span, None, 10_000.try_into().unwrap()).await.unwrap();
        assert!(page.next_after.is_none());
        rows.extend(page.rows);
    }
    rows
}

/// The folder's rows as another revision of the fold might have made them.
async fn made_by_revision(folder: &std::path::Path, revision: u32, shards: u64) {
    let path = folder.join("rows.redb");
    let old = LocalStore::open(&path).unwrap();
    let other = LocalStore::open(&folder.join("other.redb")).unwrap();
    let rows: Vec<Row> = rows_of(&old).await.into_iter().map(|row| Row { fold_revision: revision, ..row }).collect();
    for number in 0..shards {
        let shard = ShardId::numbered(number);
        let (checkpoint, parts) = old.checkpoint(Generation(0), &shard).await.unwrap().unwrap();
        let of_shard = |row: &&Row| row.key.shard == shard;
        // One window is missing and one says something else: the earlier fold knew no better.
        let mut rows: Vec<Row> = rows.iter().filter(of_shard).cloned().collect();
        let first = rows.iter().position(|row| row.key.subject.kind == Kind::Window).unwrap();
        rows.remove(first);
        rows[first].body = Cell::default().encode().into();
        let parts = checkpoint.parts.iter().cloned().zip(parts).collect();
        let checkpoint = Checkpoint { fold_revision: revision, ..checkpoint };
        other.commit(Commit { rows, parts, checkpoint }).await.unwrap().checkpoint.unwrap();
    }
    drop((old, other));
    std::fs::rename(folder.join("other.redb"), path).unwrap();
}

#[tokio::test]
async fn rows_of_an_earlier_fold_are_made_anew_and_it_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { shards: NonZeroU16::new(2), ..Options::default() };
    let system = System::open(folder.path(), options.clone()).await.unwrap();
    for file in 0..4 {
        ingest(&system, "run", &format!("/logs/{file}.jsonl"), &lines(900)).await;
    }
    system.ledger().settled("run", Duration::from_secs(30)).await.unwrap();
    assert_eq!(system.close(), None);
    let stored = LocalStore::open(&folder.path().join("rows.redb")).unwrap();
    let windows =
        |rows: Vec<Row>| rows.into_iter().filter(|row| row.key.subject.kind == Kind::Window).collect::<Vec<_>>();
    let expected = windows(rows_of(&stored).await);
    drop(stored);
    made_by_revision(folder.path(), FOLD_REVISION - 1, 2).await;
    // As a rebuild that was killed leaves it.
    std::fs::write(folder.path().join("rows-new.redb"), b"half of a file").unwrap();
    let said = Mutex::new(vec![]);
    let system =
        System::open_saying(folder.path(), options.clone(), |what| said.lock().unwrap().push(what)).await.unwrap();
    let Opening::Rebuilding { from, to, .. } = said.lock().unwrap()[0];
    assert_eq!((from, to), (Some(FOLD_REVISION - 1), FOLD_REVISION));
    let Opening::Rebuilding { records, .. } = *said.lock().unwrap().last().unwrap();
    assert!(records > 0);
    assert_eq!(windows(rows_of(system.store()).await), expected);
    // What is known stays known, and what follows is folded on top.
    ingest(&system, "again", "/logs/0.jsonl", &lines(900)).await;
    ingest(&system, "again", "/logs/new.jsonl", &lines(10)).await;
    let balance = system.ledger().settled("again", Duration::from_secs(30)).await.unwrap();
    assert_eq!((balance.duplicate, balance.folded), (900, 10));
    let report = system.verify(|_| {}).await.unwrap();
    assert_eq!((report.differences, report.older_than_stream), (0, 0), "{:?}", report.first_difference);
    assert_eq!(system.close(), None);
    assert!(!folder.path().join("rows-new.redb").exists());
    // The second time there is nothing to say.
    said.lock().unwrap().clear();
    let system = System::open_saying(folder.path(), options, |what| said.lock().unwrap().push(what)).await.unwrap();
    assert_eq!(*said.lock().unwrap(), []);
    assert_eq!(system.close(), None);
}

fn alarm(number: u64) -> Defined {
    let body = format!(
        r#"{{"AlarmName":"a{number}","ServiceName":"svc-1","MetricName":"errors","Statistic":"Sum","Period":60,"EvaluationPeriods":1,
        "Threshold":1,"ComparisonOperator":"GreaterThanOrEqualToThreshold"}}"#
    );
    Defined { kind: "alarm".into(), name: format!("a{number}"), body, by: "test".into() }
}

/// What alarms are and were, and what defines them.
async fn decided(folder: &std::path::Path) -> Vec<Row> {
    let rows = rows_of(&LocalStore::open(&folder.join("rows.redb")).unwrap()).await;
    let kinds = [Kind::Alarm, Kind::Transition, Kind::Definition];
    rows.into_iter().filter(|row| kinds.contains(&row.key.subject.kind)).collect()
}

#[tokio::test]
async fn rows_that_are_gone_are_made_anew_with_their_definitions_and_alarms() {
    use api::Operator;
    let folder = tempfile::tempdir().unwrap();
    let options = Options { shards: NonZeroU16::new(3), ..Options::default() };
    let path = folder.path().to_owned();
    // An alarm has rung and fallen silent.
    tokio::task::spawn_blocking(move || history::live(&path, 3, history::Rows::All)).await.unwrap();
    let system = System::open(folder.path(), options.clone()).await.unwrap();
    system.apply("local", (0..50).map(alarm).collect()).await.unwrap();
    ingest(&system, "run", "/logs/a.jsonl", &lines(500)).await;
    system.ledger().settled("run", Duration::from_secs(30)).await.unwrap();
    assert_eq!(system.close(), None);
    let before = decided(folder.path()).await;
    let count = |kind| before.iter().filter(|row| row.key.subject.kind == kind).count();
    assert_eq!(count(Kind::Definition), 51);
    assert!(count(Kind::Alarm) >= 1 && count(Kind::Transition) >= 4, "{before:?}");
    std::fs::remove_file(folder.path().join("rows.redb")).unwrap();
    // As a verify that was killed leaves it.
    std::fs::write(folder.path().join("verify-1.redb"), b"half of a file").unwrap();
    let said = Mutex::new(vec![]);
    let system = System::open_saying(folder.path(), options, |what| said.lock().unwrap().push(what)).await.unwrap();
    assert!(matches!(said.lock().unwrap()[0], Opening::Rebuilding { from: None, .. }));
    assert!(!folder.path().join("verify-1.redb").exists());
    let report = system.verify(|_| {}).await.unwrap();
    assert_eq!((report.differences, report.older_than_stream), (0, 0), "{:?}", report.first_difference);
    assert_eq!(system.close(), None);
    let after = decided(folder.path()).await;
    // A state may have changed since; what was decided, and by what, stays as it was.
    let is_same = |row: &Row, other: &Row| {
        if row.key.subject.kind == Kind::Alarm { other.key == row.key } else { other == row }
    };
    let lost: Vec<_> = before.iter().filter(|row| !after.iter().any(|other| is_same(row, other))).collect();
    assert!(lost.is_empty(), "{lost:?}");
}

/// A stream of two shards, stamped by this clock, on which each has ticked and neither has told the other. Where its shards are.
async fn ticked(folder: &std::path::Path, clock: impl stream::Clock) -> (Arc<LocalStream>, Vec<Place>) {
    let disk = RealDisk::in_folder(folder.join("stream")).unwrap();
    let options = stream::Options { shards: NonZeroU16::new(2).unwrap(), ..stream::Options::default() };
    let stream = Arc::new(LocalStream::open(disk, clock, options).unwrap());
    let shards = stream.shards().await.unwrap();
    let ring: Vec<_> = shards.iter().map(|shard| (shard.id.clone(), shard.range)).collect();
    let open = |(shard, range): (ShardId, _)| OpenShard { shard, range };
    let open_shards: Vec<OpenShard> = ring.iter().cloned().map(open).collect();
    let put = vec![system_event(HashKey::of(CONTROL_KEY), Event::Defined(alarm(0)))];
    let definitions = stream.append(put).await.unwrap().remove(0).unwrap().sequence;
    let tick = Event::Ticked(Ticked { definitions, open_shards, fold_revision: FOLD_REVISION });
    let puts = ring.iter().map(|(_, range)| system_event(range.from, tick.clone())).collect();
    append_all(&*stream, puts).await.unwrap();
    let place =
        |(shard, _): &(ShardId, _)| Place { generation: Generation(0), shard: shard.clone(), ring: ring.clone() };
    let places = ring.iter().map(place).collect();
    (stream, places)
}

#[tokio::test]
async fn what_a_crash_kept_shards_from_saying_is_said_where_rows_are_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (stream, places) = ticked(folder.path(), weir::now_ms).await;
    for (round, expected) in [1, 0].into_iter().enumerate() {
        let new = Arc::new(LocalStore::open(&folder.path().join(format!("rows-{round}.redb"))).unwrap());
        let until = places.iter().map(|place| (place.shard.clone(), stream.tip(&place.shard).unwrap())).collect();
        let read_only = ReadOnly::new(stream.clone());
        let unheard = rebuild::restore(read_only, new, places.clone(), &until, |_| {}).await.unwrap();
        assert_eq!(unheard.len(), expected, "who is no home says once that it has ticked");
        append_all(&*stream, unheard.into_iter().map(|(home, event)| system_event(home, event)).collect())
            .await
            .unwrap();
    }
}

/// A list of files that has seen a record acknowledged behind the end of the shard.
fn has_seen_more(folder: &std::path::Path, shard: &ShardId) {
    let list = ReaderList::open(folder, 7, false).unwrap();
    list.acknowledged(shard.clone(), SequenceNumber::from_parts(2, 1 << 40));
    list.sync().unwrap();
}

#[tokio::test]
async fn every_list_of_files_hears_that_the_stream_lost_something_before_anything_is_appended_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let (stream, places) = ticked(folder.path(), || weir::now_ms() + 3_600_000).await;
    let tips: Vec<_> = places.iter().map(|place| stream.tip(&place.shard).unwrap()).collect();
    drop(stream);
    let names = ["readers", "readers-of-acme", "readers-named-of-acme", "readers-at-0123456789abcdef-of-acme"];
    let lists = names.map(|name| folder.path().join(name));
    for (number, list) in lists.iter().enumerate() {
        has_seen_more(list, &places[number % 2].shard);
    }
    // The rows are gone, so that what the shards have to tell each other is appended, and the clock goes back an hour.
    let options = Options { confirm_clock: true, ..Options::default() };
    let system = System::open(folder.path(), options).await.unwrap();
    assert_eq!(system.close(), None);
    let noted = lists.map(|list| list.join("lost").exists());
    assert_eq!(noted, [true, true, true, false], "what was read into another system says nothing about this stream");
    let disk = RealDisk::in_folder(folder.path().join("stream")).unwrap();
    let stream = LocalStream::open(disk, weir::now_ms, stream::Options::default()).unwrap();
    for (place, tip) in places.iter().zip(tips) {
        let limits = Limits { records: NonZeroUsize::MIN, bytes: 1 << 20, wait: Duration::ZERO };
        let first = stream.read(&place.shard, Start::After(tip), limits).await.unwrap().records.remove(0);
        let is_reset = first.data.windows(6).any(|bytes| bytes == b"was_ms");
        assert!(is_reset, "nothing is stamped before the shard has heard that time went back: {:?}", first.data);
    }
}

#[tokio::test]
async fn rows_of_a_later_fold_are_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { shards: NonZeroU16::new(1), ..Options::default() };
    let system = System::open(folder.path(), options.clone()).await.unwrap();
    ingest(&system, "run", "/logs/a.jsonl", &lines(900)).await;
    system.ledger().settled("run", Duration::from_secs(30)).await.unwrap();
    assert_eq!(system.close(), None);
    made_by_revision(folder.path(), FOLD_REVISION + 1, 1).await;
    let before = rows_of(&LocalStore::open(&folder.path().join("rows.redb")).unwrap()).await;
    let refused = System::open(folder.path(), options).await.err().unwrap().to_string();
    assert!(refused.contains("made by revision 2 of the fold; this program has 1"), "{refused}");
    assert_eq!(rows_of(&LocalStore::open(&folder.path().join("rows.redb")).unwrap()).await, before);
}
