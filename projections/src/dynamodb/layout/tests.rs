#![allow(clippy::unwrap_used)]
//! Places of all kinds of names: one for each key, in the order of keys, and short enough.

use proptest::prelude::*;

use super::*;
use crate::store::{NAME_BYTES_MAX, key::SHARD_BYTES_MAX};

fn name() -> impl Strategy<Value = String> {
    // What takes texts apart, what sorts low and high, and names that are made of a whole partition.
    prop_oneof![
        "[a/1 !\"~\u{1}\u{10ffff}]{0,4}",
        Just("a/windows/g0/0/1".to_owned()),
        Just("a/g0/1970-01-01T00/1".to_owned()),
        Just("balances/a".to_owned()),
    ]
}

prop_compose! {
    fn keys()(
        tenant in name(), name in name(), shard in "[ab! \u{1}~]{1,2}", generation in 0..2u32, kind in 0..Kind::ALL.len(),
        at in prop_oneof![-2..2i64, -30_000..30_000i64, any::<i64>(), 253_402_300_700..253_402_300_900i64],
        partial in prop_oneof![0..2u16, any::<u16>()], page in prop_oneof![0..2u16, any::<u16>()],
    ) -> RowKey {
        let subject = Subject { tenant, generation: Generation(generation), kind: Kind::ALL[kind], name };
        RowKey { subject, at, shard: ShardId::named(&shard), partial: Partial(partial), page }
    }
}

proptest! {
    #[test]
    fn a_place_is_that_of_one_key_and_says_it(a in keys(), b in keys()) {
        let (left, right) = (place(&a).unwrap(), place(&b).unwrap());
        prop_assert_eq!(left == right, a == b);
        if (left.table, &left.partition) == (right.table, &right.partition) {
            prop_assert_eq!(left.sort.cmp(&right.sort), a.cmp(&b));
            prop_assert_eq!(&a.subject.tenant, &b.subject.tenant, "one partition holds rows of one tenant");
        }
        prop_assert_eq!(Scope::of(&a.subject).key(&a.subject.name, &left.sort), Some(a));
    }

    #[test]
    fn lists_are_partitions_of_their_own_and_say_what_they_hold(a in keys(), b in keys()) {
        let (scope, rows) = (Scope::of(&a.subject), place(&b).unwrap());
        let listed = tenant_listed(&scope);
        prop_assert_ne!((listed.table, &listed.partition), (rows.table, &rows.partition));
        prop_assert_eq!(read_tenant(&listed.sort), Some(scope.tenant.clone()));
        prop_assert!(tenant_lists(scope.generation, scope.kind).contains(&listed.partition));
        if let Some(bucket) = scope.bucket(&a.subject.name, a.at) {
            let listed = scope.listed(&bucket);
            prop_assert_ne!((listed.table, &listed.partition), (rows.table, &rows.partition));
            prop_assert!(scope.bucket_lists().contains(&listed.partition));
            prop_assert!(scope.span(&bucket).contains(&a.at) || a.at == i64::MAX);
            prop_assert_eq!(read_bucket(&listed.sort), Some(bucket));
        } else {
            prop_assert!(scope.shared_partitions().contains(&scope.shared_partition(&a.subject.name)));
        }
    }

    #[test]
    fn a_head_lies_before_every_row_of_its_bucket(a in keys()) {
        let scope = Scope::of(&a.subject);
        if let Some((head, _)) = scope.bucket(&a.subject.name, a.at).and_then(|bucket| scope.head(&bucket)) {
            let row = place(&a).unwrap();
            prop_assert_eq!(&head.partition, &row.partition);
            prop_assert!(head.sort < row.sort && head.sort < Sort::Text(time(i64::MIN)));
        }
    }
}

#[test]
fn names_that_are_made_of_the_same_text_have_partitions_of_their_own() {
    let mut names = vec![String::new()];
    for length in 0..3 {
        let longer = names.iter().filter(|name| name.len() == length);
        let longer: Vec<String> = longer.flat_map(|name| ["a", "/"].map(|char| format!("{name}{char}"))).collect();
        names.extend(longer);
    }
    let mut partitions = std::collections::HashSet::new();
    for (tenant, name) in names.iter().flat_map(|tenant| names.iter().map(move |name| (tenant, name))) {
        for kind in [Kind::Window, Kind::Balance] {
            let subject = Subject { tenant: tenant.clone(), generation: Generation(0), kind, name: name.clone() };
            let key = RowKey { subject, at: 0, shard: ShardId::numbered(0), partial: Partial(0), page: 0 };
            let Place { table, partition, .. } = place(&key).unwrap();
            assert!(partitions.insert((table, partition.clone())), "{partition} of {tenant:?} and {name:?}");
        }
    }
}

#[test]
fn the_stored_texts_are_those_of_version_1() {
    let subject = |kind| Subject { tenant: "acme".into(), generation: Generation(0), kind, name: "checkout".into() };
    let key = |kind| RowKey {
        subject: subject(kind),
        at: 1_763_705_100,
        shard: ShardId::numbered(3),
        partial: Partial(1),
        page: 2,
    };
    let window = place(&key(Kind::Window)).unwrap();
    assert_eq!(window.partition, "acme/checkout/g0/2025-11-21T06/4");
    assert_eq!(window.sort, Sort::Text("2025-11-21T06:05:00Z shardId-000000000003 00010002".into()));
    assert_eq!(place(&key(Kind::Balance)).unwrap().partition, "acme/balances/checkout/g0/2025-11-21/4");
    let alarm = place(&key(Kind::Alarm)).unwrap();
    assert_eq!(alarm.partition, "acme/alarms/g0/0/4");
    let Sort::Bytes(bytes) = alarm.sort else { panic!("bytes") };
    assert_eq!(&bytes[..9], b"checkout\0");
    let scope = Scope::of(&subject(Kind::Window));
    let (head, index) = scope.head(&scope.bucket("checkout", 1_763_705_100).unwrap()).unwrap();
    assert_eq!((head.partition, head.sort), (window.partition, Sort::Text("!".into())));
    assert_eq!(index, format!("acme//g0/2025-11-21T06-{}/4", list_of("checkout", SERVICE_LISTS)));
}

#[test]
fn the_longest_names_fit_into_the_keys_of_dynamodb() {
    for (kind, filler) in Kind::ALL.into_iter().flat_map(|kind| ["x", "/", "\u{1}"].map(|filler| (kind, filler))) {
        let name = filler.repeat(NAME_BYTES_MAX);
        let subject = Subject { tenant: name.clone(), generation: Generation(u32::MAX), kind, name };
        let shard = ShardId::named(&"!".repeat(SHARD_BYTES_MAX));
        let key = RowKey { subject, at: i64::MIN, shard, partial: Partial(u16::MAX), page: u16::MAX };
        let length = |sort: &Sort| match sort {
            Sort::Text(text) => text.len(),
            Sort::Bytes(bytes) => bytes.len(),
        };
        let scope = Scope::of(&key.subject);
        let listed = scope.bucket(&key.subject.name, key.at).map(|bucket| scope.listed(&bucket));
        for place in [Some(place(&key).unwrap()), listed, Some(tenant_listed(&scope))].into_iter().flatten() {
            assert!(place.partition.len() <= 2_048, "{kind:?}: {} bytes", place.partition.len());
            assert!(length(&place.sort) <= 1_024, "{kind:?}: {} bytes", length(&place.sort));
        }
    }
}
