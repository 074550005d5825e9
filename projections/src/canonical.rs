//! Decides how whole numbers lie in canonical bytes; must never accept two spellings of one number.
//!
//! - A varint is little-endian base 128, seven bits a byte, without a needless last byte.
//! - What a decoder accepts, the encoder writes again byte for byte.
//! - A decoder never reserves memory on the word of its input.

use events::position::SequenceNumber;

/// Why bytes are refused. `what` names the field that was being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end inside the field.
    #[error("the bytes end inside the {what}")]
    Truncated {
        /// The field.
        what: &'static str,
    },
    /// The same value has a shorter or another spelling, which is the only one that is written.
    #[error("the {what} is not spelled as it would be written")]
    NotCanonical {
        /// The field.
        what: &'static str,
    },
    /// No encoder writes such a value.
    #[error("the {what} is outside its range")]
    OutOfRange {
        /// The field.
        what: &'static str,
    },
}

/// Appends `n`, one to ten bytes.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Takes a varint off the front of `input`; on an error `input` is left wherever the error was seen.
pub(crate) fn take_varint(input: &mut &[u8], what: &'static str) -> Result<u64, DecodeError> {
    let mut n = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = take_byte(input, what)?;
        if shift == 63 && byte > 1 {
            return Err(DecodeError::OutOfRange { what });
        }
        n |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            if byte == 0 && shift > 0 {
                return Err(DecodeError::NotCanonical { what });
            }
            return Ok(n);
        }
    }
    Err(DecodeError::OutOfRange { what })
}

/// Takes one byte off the front of `input`.
pub(crate) fn take_byte(input: &mut &[u8], what: &'static str) -> Result<u8, DecodeError> {
    let (&byte, rest) = input.split_first().ok_or(DecodeError::Truncated { what })?;
    *input = rest;
    Ok(byte)
}

/// Takes `len` bytes off the front of `input`.
pub(crate) fn take_bytes<'a>(input: &mut &'a [u8], len: usize, what: &'static str) -> Result<&'a [u8], DecodeError> {
    let (bytes, rest) = input.split_at_checked(len).ok_or(DecodeError::Truncated { what })?;
    *input = rest;
    Ok(bytes)
}

/// Appends bytes with their length before them.
pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// Takes text of at most `max` bytes with its length before it.
pub(crate) fn take_text<'a>(input: &mut &'a [u8], max: usize, what: &'static str) -> Result<&'a str, DecodeError> {
    let len = take_varint(input, what)?;
    if len > max as u64 {
        return Err(DecodeError::OutOfRange { what });
    }
    std::str::from_utf8(take_bytes(input, len as usize, what)?).map_err(|_| DecodeError::OutOfRange { what })
}

/// Appends a whole number of either sign, small ones in few bytes.
pub(crate) fn put_signed(out: &mut Vec<u8>, n: i64) {
    put_varint(out, ((n << 1) ^ (n >> 63)) as u64);
}

/// Takes a whole number of either sign.
pub(crate) fn take_signed(input: &mut &[u8], what: &'static str) -> Result<i64, DecodeError> {
    let n = take_varint(input, what)?;
    Ok((n >> 1) as i64 ^ -((n & 1) as i64))
}

/// Appends a sequence number, short ones in few bytes.
pub(crate) fn put_position(out: &mut Vec<u8>, position: SequenceNumber) {
    let bytes = position.to_bytes();
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(&bytes);
}

/// Takes a sequence number.
pub(crate) fn take_position(input: &mut &[u8]) -> Result<SequenceNumber, DecodeError> {
    const WHAT: &str = "sequence number";
    let len = take_varint(input, WHAT)?.min(u64::from(u16::MAX)) as usize;
    SequenceNumber::from_bytes(take_bytes(input, len, WHAT)?).ok_or(DecodeError::NotCanonical { what: WHAT })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_needless_last_byte_and_a_65th_bit_are_refused() {
        let what = "n";
        assert_eq!(take_varint(&mut &[0x80, 0x00][..], what), Err(DecodeError::NotCanonical { what }));
        assert_eq!(take_varint(&mut &[0x80][..], what), Err(DecodeError::Truncated { what }));
        let mut widest = [0xff; 10];
        widest[9] = 1;
        assert_eq!(take_varint(&mut &widest[..], what), Ok(u64::MAX));
        widest[9] = 2;
        assert_eq!(take_varint(&mut &widest[..], what), Err(DecodeError::OutOfRange { what }));
        widest[9] = 0x81;
        assert_eq!(take_varint(&mut &widest[..], what), Err(DecodeError::OutOfRange { what }));
    }

    proptest! {
        #[test]
        fn a_varint_is_read_back_and_what_follows_is_left(n: u64, shift in 0u32..64) {
            let n = n >> shift;
            let mut bytes = Vec::new();
            put_varint(&mut bytes, n);
            bytes.push(7);
            let mut input = &bytes[..];
            prop_assert_eq!(take_varint(&mut input, "n"), Ok(n));
            prop_assert_eq!(input, &[7][..]);
        }
    }
}
