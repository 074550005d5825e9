//! Decides whether a text that names no instant means to be a timestamp all the same. Then its line is skipped by that reason: as an undated
//! line it would count in the minute in which it was read, and ring what watches the present.

/// Go's zero time: the usual way of a Go program to say that no time was set.
const ZERO_TIME: &[u8] = b"0001-01-01T00:00:00";

/// What timestamps begin with, once `0` stands for every digit and `a` for every letter. A date without a time of day is none of them: its line
/// may have the time elsewhere.
const SHAPES: [&[u8]; 13] = [
    b"0000-00-00a00:",
    b"0000-00-00 00:",
    b"0000/00/00a00:",
    b"0000/00/00 00:",
    b"00/aaa/0000:00:",
    b"00 aaa 0000 00:",
    b"0 aaa 0000 00:",
    b"00-aaa-0000 00:",
    b"aaa, 00 aaa 0000 00:",
    // Day and month in one order or the other: which, nobody knows.
    b"00/00/0000 00:",
    b"00/00/0000, 00:",
    b"aaa aaa 00 00:00:00 0000",
    b"aaa aaa  0 00:00:00 0000",
];
const SHAPE_BYTES_MAX: usize = 24;

/// True if `text` begins as a timestamp does.
#[cold]
pub(super) fn timestamp(text: &[u8]) -> bool {
    if text.starts_with(ZERO_TIME) {
        return false;
    }
    let mut shape = [0; SHAPE_BYTES_MAX];
    let length = text.len().min(SHAPE_BYTES_MAX);
    for (place, byte) in shape.iter_mut().zip(text) {
        *place = match byte {
            b'0'..=b'9' => b'0',
            b'A'..=b'Z' | b'a'..=b'z' => b'a',
            other => *other,
        };
    }
    SHAPES.iter().any(|begin| shape[..length].starts_with(begin))
}
