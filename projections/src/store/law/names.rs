//! Laws of names: what no key can hold is refused, and reading it finds nothing, least of all somebody else's rows.

use super::{Adapter, Bench, key, row};
use crate::store::{NAME_BYTES_MAX, Span, Store, WriteError};

/// A NUL could end a name early and so reach over the wall between tenants.
pub fn names_that_no_key_can_hold_are_refused_and_hide_nothing<A: Adapter>(adapter: &A) {
    let bench = Bench::empty(adapter);
    let good = row(key("web", 0), 1);
    bench.write(std::slice::from_ref(&good));
    let mut bad = vec![key("we\0b", 0), key("", 0), key(&"x".repeat(NAME_BYTES_MAX + 1), 0)];
    bad[1].subject.tenant = "ten\0ant".to_owned();
    // The bytes with which a key of the good row would go on.
    let mut reaching = key("", 0);
    reaching.subject.tenant = "tenant\0\0\0\0\0\u{1}web".to_owned();
    bad.push(reaching);
    for bad in bad {
        let answer = bench.wait(bench.store.write(vec![row(key("other", 0), 1), row(bad.clone(), 9)]));
        assert!(matches!(answer, Err(WriteError::NotWritten(_))), "{:?}: {answer:?}", bad.subject);
        assert_eq!(bench.read(&key("other", 0)), None, "`NotWritten` means that nothing was");
        assert_eq!(bench.read(&bad), None);
        let span = Span::Of { subject: bad.subject, from: i64::MIN, to: i64::MAX };
        assert_eq!(bench.scan(&span, 10), []);
    }
    let longest = row(key(&"é".repeat(NAME_BYTES_MAX / 2), 0), 1);
    bench.write(std::slice::from_ref(&longest));
    assert_eq!(bench.read(&longest.key), Some(longest));
    assert_eq!(bench.read(&good.key), Some(good));
}
