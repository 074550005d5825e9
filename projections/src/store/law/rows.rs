//! Laws of single rows: what is replaced, what is kept, what is refused.

use bytes::Bytes;
use events::position::SequenceNumber;

use super::{Adapter, Bench, key, row, seq};
use crate::store::{ROW_BYTES_MAX, Row, Store, WriteError, Written};

/// Forward only: equal and lower positions lose, hear which position stands, and change nothing.
pub fn a_row_is_replaced_only_by_one_that_goes_further<A: Adapter>(adapter: &A) {
    let bench = Bench::empty(adapter);
    let (first, further) = (row(key("web", 60), 10), row(key("web", 60), 11));
    assert_eq!(bench.write(std::slice::from_ref(&first)), [Written::Stored]);
    for loser in [10, 9, 0] {
        let loser = Row { body: Bytes::from_static(b"loser"), ..row(key("web", 60), loser) };
        assert_eq!(bench.write(&[loser]), [Written::Lost(seq(10))]);
        assert_eq!(bench.read(&first.key).as_ref(), Some(&first), "who lost changed nothing");
    }
    assert_eq!(bench.write(std::slice::from_ref(&further)), [Written::Stored]);
    assert_eq!(bench.read(&first.key), Some(further));
    assert_eq!(bench.write(&[first]), [Written::Lost(seq(11))]);
    // Epochs come before offsets, and a number as long as Kinesis may send is further than both.
    let mut longest = row(key("web", 60), 12);
    longest.applied_through = SequenceNumber::from_parts(2, 0);
    assert_eq!(bench.write(std::slice::from_ref(&longest)), [Written::Stored]);
    longest.applied_through = "9".repeat(129).parse().expect("129 digits are a sequence number");
    assert_eq!(bench.write(std::slice::from_ref(&longest)), [Written::Stored]);
    assert_eq!(bench.write(&[row(key("web", 60), 99)]), [Written::Lost(longest.applied_through)]);
}

/// What was written is read, to the last field and byte.
pub fn a_row_keeps_every_field<A: Adapter>(adapter: &A) {
    let bench = Bench::empty(adapter);
    let plain = row(key("web", 0), 7);
    let bytes = |length: usize| Bytes::from_iter((0..length).map(|at| (at % 251) as u8));
    let rows = [
        Row { body: Bytes::new(), applied_from: seq(0), fold_revision: u32::MAX, ..plain.clone() },
        Row {
            key: key("web", 1),
            applied_from: SequenceNumber::ZERO,
            applied_through: SequenceNumber::ZERO,
            ..plain.clone()
        },
        Row { key: key("web", 2), body: bytes(ROW_BYTES_MAX), ..plain.clone() },
        Row { key: key("web", 3), body: bytes(4097), applied_through: seq(u64::MAX), ..plain },
    ];
    assert_eq!(bench.write(&rows), [Written::Stored; 4]);
    for row in rows {
        assert!(bench.read(&row.key).as_ref() == Some(&row), "{:?} came back changed", row.key);
    }
}

/// One row that loses takes nothing from its neighbours; the answers stand in the order of the rows.
pub fn each_row_of_a_write_has_its_own_condition<A: Adapter>(adapter: &A) {
    let bench = Bench::empty(adapter);
    bench.write(&[row(key("b", 0), 5), row(key("d", 0), 5)]);
    let offered =
        [row(key("e", 0), 1), row(key("d", 0), 6), row(key("a", 0), 1), row(key("b", 0), 4), row(key("c", 0), 1)];
    let written = bench.write(&offered);
    assert_eq!(written, [Written::Stored, Written::Stored, Written::Stored, Written::Lost(seq(5)), Written::Stored]);
    for (row, written) in offered.iter().zip(written) {
        assert_eq!(bench.read(&row.key).as_ref() == Some(row), written == Written::Stored, "{:?}", row.key);
    }
}

/// A repeated write is harmless, in one call and in two.
pub fn the_same_row_twice_is_stored_and_then_lost_to_itself<A: Adapter>(adapter: &A) {
    let bench = Bench::empty(adapter);
    let first = row(key("web", 0), 3);
    assert_eq!(bench.write(&[first.clone(), first.clone()]), [Written::Stored, Written::Lost(seq(3))]);
    assert_eq!(bench.write(std::slice::from_ref(&first)), [Written::Lost(seq(3))]);
    assert_eq!(bench.read(&first.key), Some(first));
}

/// Nothing is nothing.
pub fn an_empty_write_does_nothing<A: Adapter>(adapter: &A) {
    let bench = Bench::empty(adapter);
    assert_eq!(bench.write(&[]), []);
    assert_eq!(bench.wait(bench.store.read(&[])), Ok(Vec::new()));
}

/// Missing keys have their place among the answers, and a key may be asked for twice.
pub fn reads_answer_in_the_order_of_their_keys<A: Adapter>(adapter: &A) {
    let bench = Bench::empty(adapter);
    let rows: Vec<Row> = (0..250).map(|at| row(key("web", at), 1 + at.unsigned_abs())).collect();
    bench.write(&rows);
    let mut asked: Vec<i64> = (0..300).map(|at| at * 7 % 300).collect();
    asked.extend([3, 3, 299, 3]);
    let keys: Vec<_> = asked.iter().map(|at| key("web", *at)).collect();
    let answers = bench.wait(bench.store.read(&keys)).expect("a read without faults is answered");
    assert_eq!(answers.len(), keys.len());
    for (at, answer) in asked.iter().zip(answers) {
        assert_eq!(answer.as_ref(), rows.get(*at as usize), "the answer for {at}");
    }
}

/// A write is refused before any of it is done.
pub fn what_is_too_large_is_refused_whole<A: Adapter>(adapter: &A) {
    let bench = Bench::empty(adapter);
    let small = row(key("web", 0), 1);
    let large = Row { body: vec![7; ROW_BYTES_MAX + 1].into(), ..row(key("web", 1), 1) };
    let answer = bench.wait(bench.store.write(vec![small.clone(), large]));
    assert!(matches!(answer, Err(WriteError::NotWritten(_))), "{answer:?}");
    assert_eq!(bench.read(&small.key), None, "`NotWritten` means that nothing was");
}
