//! Looks at sixteen bytes at once. It answers with a mask, bit n for byte n, and never reads outside the slice it is given.

use wide::u8x16;

#[inline(always)]
fn equal(a: &[u8; 16], b: &[u8; 16]) -> u32 {
    u8x16::new(*a).simd_eq(u8x16::new(*b)).to_bitmask()
}

#[inline(always)]
fn ends_or_escapes<const STRICT: bool>(bytes: &[u8; 16]) -> u32 {
    let bytes = u8x16::new(*bytes);
    let marks = bytes.simd_eq(u8x16::splat(b'"')) | bytes.simd_eq(u8x16::splat(b'\\'));
    // In a plain batch a newline is the only control byte there can be.
    let controls = if STRICT { bytes.min(u8x16::splat(0x1f)) } else { u8x16::splat(b'\n') };
    (marks | bytes.simd_eq(controls)).to_bitmask()
}

/// Which of the sixteen bytes at `at` equal `pattern`'s; `None` when there are fewer.
#[inline(always)]
pub(super) fn equal_at(bytes: &[u8], at: usize, pattern: &[u8; 16]) -> Option<u32> {
    Some(equal(bytes.get(at..)?.first_chunk()?, pattern))
}

/// Where the first quote, backslash or newline stands at or after `from`; when `STRICT`, any control byte as well.
#[inline(always)]
pub(super) fn find_end_or_escape<const STRICT: bool>(bytes: &[u8], from: usize) -> Option<usize> {
    let (blocks, rest) = bytes.get(from..)?.as_chunks();
    for (index, block) in blocks.iter().enumerate() {
        let marks = ends_or_escapes::<STRICT>(block);
        if marks != 0 {
            return Some(from + index * 16 + marks.trailing_zeros() as usize);
        }
    }
    let at = bytes.len() - rest.len();
    // Less than a block is left: look at the last whole one again, without what was seen.
    if let Some(block) = bytes.last_chunk() {
        let first = bytes.len() - 16;
        let marks = ends_or_escapes::<STRICT>(block) >> (at - first);
        return (marks != 0).then(|| at + marks.trailing_zeros() as usize);
    }
    let found = bytes[at..].iter().position(|byte| matches!(byte, b'"' | b'\\' | b'\n') || STRICT && *byte < 0x20);
    found.map(|found| at + found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_first_mark_is_found_wherever_it_stands(
            bytes in proptest::collection::vec(prop_oneof![8 => Just(b'a'), 1 => any::<u8>(), 1 => Just(b'"'), 1 => Just(b'\n')], 0..70),
            from in 0usize..70,
        ) {
            let from = from.min(bytes.len());
            let plain = |strict: bool| {
                let mark = |byte: &u8| matches!(byte, b'"' | b'\\' | b'\n') || strict && *byte < 0x20;
                bytes[from..].iter().position(mark).map(|at| from + at)
            };
            prop_assert_eq!(find_end_or_escape::<false>(&bytes, from), plain(false));
            prop_assert_eq!(find_end_or_escape::<true>(&bytes, from), plain(true));
        }
    }
}
