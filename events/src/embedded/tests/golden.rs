//! Files of each version ever written: they are still read, and what is written today is the same to the byte. Golden files are added, never
//! edited. `stream` is the metadata; `segment` is shard 0's only segment, cut behind its last record.

use std::io::IoSlice;

use super::*;
use crate::embedded::disk::File as _;

const STREAM_V1: &[u8] = include_bytes!("golden/v1/stream");
const SEGMENT_V1: &[u8] = include_bytes!("golden/v1/segment");
const SEGMENT_PATH: &str = "shardId-000000000000/00000000000000000000.log";

fn puts() -> Vec<Put> {
    vec![put("a key", b"a payload".to_vec()), put("é", Vec::new()), put("k", vec![7; 600])]
}

#[test]
fn a_stream_of_version_1_is_written_and_read_as_ever() {
    let disk = SimulatedDisk::new(42);
    let stream = open(&disk, small());
    append(&stream, puts());
    append(&stream, vec![put("later", b"in a group of its own".to_vec())]);
    stream.close();
    let segment = disk.contents(SEGMENT_PATH).unwrap();
    let end = segment.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    assert!(disk.contents("stream").unwrap() == STREAM_V1, "the metadata is another");
    assert!(segment[..end] == *SEGMENT_V1, "the segment is another");

    let copy = SimulatedDisk::new(1);
    copy.create_folder("shardId-000000000000").unwrap();
    for (path, bytes) in [("stream", STREAM_V1), (SEGMENT_PATH, SEGMENT_V1)] {
        copy.create(path).unwrap().write_at(&[IoSlice::new(bytes)], 0).unwrap();
    }
    let records = read_all(&open(&copy, small()), 0, Start::TrimHorizon).unwrap();
    let expected = puts();
    assert_eq!(records.len(), 4);
    for (record, put) in records.iter().zip(&expected) {
        assert_eq!((&record.partition_key, &record.data), (&put.partition_key, &put.data));
    }
    assert_eq!(records[0].sequence, SequenceNumber::from_parts(2, 0));
    assert_eq!(records[3].arrived_at_ms, 1_000);
}
