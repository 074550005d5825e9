//! What another implementation aggregated is read, and what is not wholly an aggregate is none.
#![allow(clippy::unwrap_used)]
use proptest::prelude::*;

use super::*;

/// Made with `aws_kinesis_agg` 1.2.3 of PyPI (awslabs/kinesis-aggregation, Apache-2.0) on protobuf 7.36.2; `golden/README.md` has the program.
const BY_PYTHON: &[u8] = include_bytes!("../golden/kpl-aws_kinesis_agg-1.2.3.bin");

fn aggregate(message: &[u8]) -> Bytes {
    [MAGIC.as_slice(), message, Md5::digest(message).as_slice()].concat().into()
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn field(out: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    put_varint(out, number << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// What a writer of the format writes: partition keys, explicit hash keys, and records as (index, index, data).
fn written(keys: &[&str], hash_keys: &[&str], records: &[(u64, Option<u64>, &[u8])]) -> Bytes {
    let mut message = vec![];
    keys.iter().for_each(|key| field(&mut message, 1, key.as_bytes()));
    hash_keys.iter().for_each(|key| field(&mut message, 2, key.as_bytes()));
    for (key, hash_key, data) in records {
        let mut record = vec![0x08];
        put_varint(&mut record, *key);
        if let Some(hash_key) = hash_key {
            record.push(0x10);
            put_varint(&mut record, *hash_key);
        }
        field(&mut record, 3, data);
        field(&mut message, 3, &record);
    }
    aggregate(&message)
}

fn read(payload: &Bytes) -> Vec<(Option<String>, Option<String>, Vec<u8>)> {
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    let records = records(payload).unwrap().unwrap();
    let all = records.iter().map(|record| {
        let keys = record.keys.as_ref();
        let explicit = keys.and_then(|keys| keys.explicit_hash_key.as_ref());
        (keys.map(|keys| text(&keys.partition_key)), explicit.map(text), record.data.to_vec())
    });
    all.collect()
}

#[test]
fn what_another_implementation_has_aggregated_is_read() {
    let some = |text: &str| Some(text.to_owned());
    let expected = vec![
        (some("checkout-1"), None, br#"{"service":"checkout","status":200,"latency_ms":12.5}"#.to_vec()),
        (some("checkout-2"), None, br#"{"service":"checkout","status":503,"latency_ms":250}"#.to_vec()),
        (some("ключ-3"), None, b"2026-01-01T00:06:41Z ERROR payment declined".to_vec()),
        (some("checkout-1"), some(&(1_u128 << 127).to_string()), br#"{"level":"warn","msg":"slow"}"#.to_vec()),
        (some("empty"), None, b"".to_vec()),
    ];
    assert_eq!(read(&Bytes::from_static(BY_PYTHON)), expected);
}

#[test]
fn what_is_not_wholly_right_is_no_aggregate() {
    let right = written(&["k"], &[], &[(0, None, b"a")]);
    assert!(records(&right).unwrap().is_some());
    let mut other_md5 = right.to_vec();
    *other_md5.last_mut().unwrap() ^= 1;
    let no_data = aggregate(&[0x0A, 1, b'k', 0x1A, 2, 0x08, 0]);
    let no_key = aggregate(&[0x0A, 1, b'k', 0x1A, 3, 0x1A, 1, b'a']);
    let other_type = aggregate(&[0x08, 1]);
    let cut = aggregate(&[0x0A, 9, b'k']);
    let group = aggregate(&[0x0A, 1, b'k', 0x2B, 0x2C]);
    let long_varint = aggregate(&[0x0A, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1]);
    let empty = [MAGIC.as_slice(), Md5::digest(b"").as_slice()].concat();
    for payload in [&b""[..], b"F3", &MAGIC, &right[1..], &right[..right.len() - 1], &right[..19], &other_md5, &empty] {
        assert_eq!(records(&Bytes::copy_from_slice(payload)), Ok(None), "{payload:02x?}");
    }
    for payload in [no_data, no_key, other_type, cut, group, long_varint] {
        assert_eq!(records(&payload), Ok(None), "{payload:02x?}");
    }
}

#[test]
fn an_index_that_is_in_no_table_is_told_of_its_record_alone() {
    let payload = written(&["k"], &["1"], &[(0, None, b"a"), (1, None, b"b"), (0, Some(1), b"c"), (0, Some(0), b"d")]);
    let known: Vec<bool> = records(&payload).unwrap().unwrap().iter().map(|record| record.keys.is_some()).collect();
    assert_eq!(known, [true, false, false, true]);
}

#[test]
fn tags_and_fields_of_a_later_version_are_passed_over() {
    let mut record = vec![0x08, 0, 0x1A, 1, b'a'];
    field(&mut record, 4, &[0x0A, 1, b't', 0x12, 1, b'v']);
    record.extend_from_slice(&[0x28, 7]);
    let mut message = vec![0x0A, 1, b'k', 0x21, 1, 2, 3, 4, 5, 6, 7, 8];
    field(&mut message, 3, &record);
    assert_eq!(read(&aggregate(&message)), [(Some("k".to_owned()), None, b"a".to_vec())]);
}

#[test]
fn more_records_than_the_limit_are_too_many() {
    let records = |count| vec![(0, None, b"".as_slice()); count];
    assert_eq!(super::records(&written(&["k"], &[], &records(RECORDS_MAX))).unwrap().unwrap().len(), RECORDS_MAX);
    assert_eq!(super::records(&written(&["k"], &[], &records(RECORDS_MAX + 1))), Err(TooMany));
}

proptest! {
    #[test]
    fn what_is_aggregated_is_given_back_in_its_order(
        keys in prop::collection::vec("[a-zé]{0,9}", 1..4), hash_keys in prop::collection::vec("[0-9]{1,39}", 0..3),
        records in prop::collection::vec((any::<u64>(), any::<Option<u64>>(), prop::collection::vec(any::<u8>(), 0..200)), 0..20),
    ) {
        let of = |index: u64, count: usize| index % count as u64;
        let records: Vec<_> = records.iter().map(|(key, hash_key, data)| {
            let hash_key = hash_key.filter(|_| !hash_keys.is_empty()).map(|index| of(index, hash_keys.len()));
            (of(*key, keys.len()), hash_key, data.as_slice())
        }).collect();
        let texts = |texts: &'_ [String]| texts.iter().map(String::clone).collect::<Vec<_>>();
        let (keys, hash_keys) = (texts(&keys), texts(&hash_keys));
        let payload = written(
            &keys.iter().map(String::as_str).collect::<Vec<_>>(),
            &hash_keys.iter().map(String::as_str).collect::<Vec<_>>(), &records,
        );
        let expected: Vec<_> = records.iter().map(|(key, hash_key, data)| {
            (Some(keys[*key as usize].clone()), hash_key.map(|index| hash_keys[index as usize].clone()), data.to_vec())
        }).collect();
        prop_assert_eq!(read(&payload), expected);
    }

    #[test]
    fn whatever_bytes_a_message_has_it_is_read_or_is_none(message in prop::collection::vec(any::<u8>(), 0..80)) {
        let _ = records(&aggregate(&message));
    }
}
