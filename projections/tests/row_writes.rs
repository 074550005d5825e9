//! Rows are cheap: how many are written for a service-minute.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::HashMap;

use events::{
    identity::{Origin, OriginKind},
    pack::{Identity, Packer, Source},
    position::{SequenceNumber, ShardId},
    stream::Record,
    wire::Codec,
};
use projections::{
    fold::{CHANGED_ROWS_MAX, Input, Place, Shard},
    store::{Generation, Kind, Row, RowKey},
};

/// A day of fifty services, three lines a service and minute, each up to five seconds out of order.
fn day() -> Vec<u8> {
    let mut text = vec![];
    for i in 0..50 * 1440 * 3u64 {
        let millis = i * 86_400_000 / (50 * 1440 * 3);
        let jittered = (millis + i * 7919 % 5000).min(86_399_999);
        let (second, service) = (jittered / 1000, i % 50);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        text.extend_from_slice(
            format!(
                "{{\"timestamp\":\"2026-01-01T{hour:02}:{minute:02}:{second:02}.000Z\",\"service\":\"s{service}\",\"latency_ms\":{}.25,\"status\":200}}\n",
                i % 97
            )
            .as_bytes(),
        );
    }
    text
}

#[test]
fn a_backfill_writes_a_service_minute_once_and_again_only_where_a_commit_cut_it() {
    let origin = Origin { kind: OriginKind::File, name: "/day.log".into(), version: "1".into() };
    let source = Source {
        tenant: "local".into(),
        service: None,
        identity: Identity::Origin { origin, from: 0 },
        read_at_ms: 1_767_312_000_000,
        definitions: None,
    };
    let mut packer = Packer::new(source, Codec::None, 64 << 10);
    packer.push(&day());
    let mut fold = Shard::new(Place { generation: Generation(0), shard: ShardId::numbered(0), ring: vec![] });
    let mut stored: HashMap<RowKey, Row> = HashMap::new();
    let (mut writes, mut commits) = (0, 0);
    let mut commit = |fold: &mut Shard, stored: &mut HashMap<RowKey, Row>| {
        for row in fold.commit().rows {
            writes += usize::from(row.key.subject.kind == Kind::Window);
            stored.insert(row.key.clone(), row);
        }
        fold.committed();
        commits += 1;
    };
    let mut sequence = 0;
    while let Some(packed) = packer.next(true) {
        sequence += 8;
        let record = Record {
            sequence: SequenceNumber::from_parts(1, sequence),
            arrived_at_ms: 1_767_312_000_000,
            partition_key: packed.partition_key,
            data: packed.data,
        };
        let input = Input::of(&record);
        let marks = fold.wants(&input).iter().map(|key| stored.get(key).cloned()).collect();
        fold.fold(&input, marks).unwrap();
        let rows = fold.unmet().iter().map(|key| stored.get(key).cloned()).collect();
        fold.meet(rows).unwrap();
        if fold.changed_rows() >= CHANGED_ROWS_MAX / 4 {
            commit(&mut fold, &mut stored);
        }
    }
    commit(&mut fold, &mut stored);
    let windows = stored.keys().filter(|key| key.subject.kind == Kind::Window).count();
    assert!(windows > 50 * 1400 && commits > 5, "{windows} windows in {commits} commits");
    assert!(writes * 10 <= windows * 11, "{writes} writes for {windows} service-minutes");
}
