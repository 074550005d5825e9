//! The whole system in one process, without the command line.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{collections::BTreeSet, num::NonZeroU16, time::Duration};

use events::{
    identity::{Origin, OriginKind},
    pack::{Identity, Packer, Source},
    stream::Put,
    wire::Codec,
};
use projections::store::{Generation, Kind, Span, Store};
use weir::{Options, System};

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
    let mut rounds = 0;
    while !writing.is_finished() {
        let report = system.verify(|_| {}).await.unwrap();
        assert_eq!(report.differences, 0, "{:?}", report.first_difference);
        rounds += 1;
    }
    writing.await.unwrap();
    assert!(rounds > 0);
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
