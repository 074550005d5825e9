//! A batch is read as it was written; what its bytes do not keep of its header's claims is refused.
#![allow(clippy::unwrap_used)]
use proptest::prelude::*;

use super::*;
use crate::identity::OriginKind;

fn header(raw: &[u8]) -> Header {
    Header {
        tenant: "local".into(),
        content: Content::Lines,
        codec: Codec::None,
        raw_len: raw.len() as u32,
        read_at_ms: 1_767_225_600_000,
        service: Some("checkout".into()),
        extent: Some(Extent {
            origin: Origin { kind: OriginKind::File, name: "/var/log/app.log".into(), version: "r1-1".into() },
            from: 100,
            to: 100 + raw.len() as u64,
        }),
        edits: vec![],
        producer: None,
        data_key_id: None,
        definitions: Some(SequenceNumber::from_parts(3, 4096)),
    }
}

#[test]
fn every_codec_gives_the_same_body_back() {
    let raw = b"one line\nanother line\n".repeat(100);
    for codec in [Codec::None, Codec::Lz4, Codec::Zstd] {
        let packed = encode(&Header { codec, ..header(&raw) }, &raw);
        let batch = decode(&packed).unwrap();
        assert_eq!((batch.body.as_ref(), batch.header.codec), (raw.as_slice(), codec));
    }
}

#[test]
fn a_claim_that_the_bytes_do_not_keep_is_refused() {
    let raw = b"a line\n";
    let cases: [(&str, Header); 5] = [
        ("tenant", Header { tenant: "a/b".into(), ..header(raw) }),
        ("service", Header { service: Some("a\0".into()), ..header(raw) }),
        ("at most", Header { raw_len: u32::MAX, ..header(raw) }),
        ("key `k`", Header { data_key_id: Some("k".into()), ..header(raw) }),
        (
            "does not cover",
            Header { edits: vec![Edit { body_offset: 0, removed_bytes: 9, reason: Removed::Redacted }], ..header(raw) },
        ),
    ];
    for (word, header) in cases {
        let head = rmp_serde::to_vec_named(&header).unwrap();
        let mut payload = MAGIC.to_vec();
        payload.push(VERSION);
        payload.extend_from_slice(&(head.len() as u32).to_le_bytes());
        payload.extend_from_slice(&head);
        payload.extend_from_slice(raw);
        let error = decode(&payload.into()).unwrap_err().to_string();
        assert!(error.contains(word), "{word}: {error}");
    }
    let short = encode(&header(raw), raw);
    assert!(decode(&short.slice(..short.len() - 1)).unwrap_err().to_string().contains("6 bytes"));
}

#[test]
fn a_bomb_is_not_unpacked_beyond_what_its_header_names() {
    let raw = vec![0u8; 1 << 20];
    for codec in [Codec::Lz4, Codec::Zstd] {
        let packed = encode(&Header { codec, ..header(&raw) }, &raw);
        let (mut lying, body_at) = decode_header(&packed).unwrap();
        lying.raw_len = 10;
        lying.extent = None;
        let head = rmp_serde::to_vec_named(&lying).unwrap();
        let mut payload = MAGIC.to_vec();
        payload.push(VERSION);
        payload.extend_from_slice(&(head.len() as u32).to_le_bytes());
        payload.extend_from_slice(&head);
        payload.extend_from_slice(&packed[body_at..]);
        assert_eq!(decode(&payload.into()).unwrap_err().reason(), "malformed_batch");
    }
}

#[test]
fn a_newer_version_is_said_and_not_guessed() {
    let mut packed = encode(&header(b"x"), b"x").to_vec();
    packed[4] = 9;
    assert_eq!(decode(&packed.into()), Err(DecodeError::Version(9)));
}

mod golden;

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), keep in 0usize..200, flip in any::<(u16, u8)>()) {
        let _ = decode(&bytes.clone().into());
        let mut magic = MAGIC.to_vec();
        magic.push(VERSION);
        magic.extend_from_slice(&bytes);
        let _ = decode(&magic.into());
        let mut real = encode(&header(b"a line\n"), b"a line\n").to_vec();
        let at = usize::from(flip.0) % real.len();
        real[at] ^= flip.1;
        real.truncate(real.len().saturating_sub(keep % 50));
        let _ = decode(&real.into());
        let _ = decode_events(&bytes);
    }
}
