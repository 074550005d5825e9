//! Cuts what a shard tells a home into parts that each fit into a record. Decides where to cut: by the windows alone, so a redelivery has the same
//! parts; never what is said.

use events::{
    event::{RolledUp, RolledWindow},
    identity::{SERVICE_BYTES_MAX, TENANT_BYTES_MAX},
    stream::RECORD_BYTES_MAX,
};

use crate::{
    distribution,
    fold::limits::{Limits, limits},
    series,
};

/// What an encoded window has besides its texts and bytes: names of fields, and lengths.
const WINDOW_FRAME_BYTES: usize = 80;
/// What a record has besides the windows of its part: partition key, header, source.
const RECORD_FRAME_BYTES: usize = 1024;

const _: () = {
    let window = WINDOW_FRAME_BYTES + TENANT_BYTES_MAX + SERVICE_BYTES_MAX + series::ENCODED_BYTES_MAX;
    // The least part is one window, however large.
    let least = window + distribution::ENCODED_BYTES_MAX;
    let told = Limits::REAL.told_bytes;
    let most = if least > told { least } else { told };
    assert!(most + RECORD_FRAME_BYTES <= RECORD_BYTES_MAX, "a part fits into a record");
};

/// The parts, in order: at least one.
pub(super) fn of(whole: RolledUp) -> Vec<RolledUp> {
    let mut parts: Vec<Vec<RolledWindow>> = vec![vec![]];
    let mut bytes = 0;
    let RolledUp { source, source_position, source_time_ms, windows, generation, .. } = whole;
    for window in windows {
        let more = encoded_bytes_max(&window);
        if bytes + more > limits().told_bytes && bytes > 0 {
            parts.push(vec![]);
            bytes = 0;
        }
        bytes += more;
        parts.last_mut().expect("there is a first part").push(window);
    }
    let last = parts.len() as u32 - 1;
    let part = |(part, windows)| {
        let source = source.clone();
        RolledUp { source, source_position, source_time_ms, windows, part, parts_after: last - part, generation }
    };
    (0..).zip(parts).map(part).collect()
}

fn encoded_bytes_max(window: &RolledWindow) -> usize {
    WINDOW_FRAME_BYTES + window.tenant.len() + window.service.len() + window.series.len() + window.value.len()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use events::{
        event::Event,
        position::{SequenceNumber, ShardId},
        wire::{self, Content, Header},
    };
    use proptest::prelude::*;

    use super::*;

    fn windows() -> impl Strategy<Value = Vec<RolledWindow>> {
        let value = prop_oneof![0..100usize, Just(distribution::ENCODED_BYTES_MAX)];
        let window = (1..=TENANT_BYTES_MAX, 1..=SERVICE_BYTES_MAX, 0..=series::ENCODED_BYTES_MAX, any::<i64>(), value);
        let window = window.prop_map(|(tenant, service, series, start_secs, value)| RolledWindow {
            tenant: "t".repeat(tenant),
            service: "s".repeat(service),
            series: vec![0xcc; series],
            start_secs,
            value: vec![0xff; value],
        });
        prop_oneof![prop::collection::vec(window.clone(), 0..5), prop::collection::vec(window, 300..400)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn parts_hold_all_windows_in_their_order_and_each_fits_into_a_record(windows in windows(), shard in 1..=128usize) {
            let source = ShardId::named(&"x".repeat(shard));
            let whole = RolledUp {
                source, source_position: SequenceNumber::MAX, source_time_ms: i64::MIN, windows, part: 0, parts_after: 0,
                generation: 7,
            };
            let parts = of(whole.clone());
            prop_assert_eq!(&parts, &of(whole.clone()));
            let mut joined = vec![];
            for (i, part) in parts.iter().enumerate() {
                prop_assert_eq!((part.part as usize, part.parts_after as usize), (i, parts.len() - 1 - i));
                prop_assert!(!part.windows.is_empty() || parts.len() == 1);
                let head = Header::plain("t".repeat(TENANT_BYTES_MAX), Content::Events, 0, i64::MIN);
                let bytes = wire::encode_events(head, &[Event::RolledUp(part.clone())]).len();
                prop_assert!(bytes <= Limits::REAL.told_bytes.max(part.windows.first().map_or(0, encoded_bytes_max)) + RECORD_FRAME_BYTES - 256);
                joined.extend(part.windows.iter().cloned());
            }
            prop_assert_eq!(joined, whole.windows);
        }
    }
}
