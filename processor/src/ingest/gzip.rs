//! Gzip (RFC 1952): any number of members, zero bytes after them as padding. Checks every sum and length; gives all bytes before damage.

use flate2::{Crc, Decompress, FlushDecompress, Status};

use super::{FileError, input::Input};

/// First bytes of a member.
pub(super) const MAGIC: [u8; 2] = [0x1f, 0x8b];
const DEFLATE: u8 = 8;

const HEADER_SUM: u8 = 1 << 1;
const EXTRA: u8 = 1 << 2;
const NAME: u8 = 1 << 3;
const COMMENT: u8 = 1 << 4;
const RESERVED: u8 = 0xe0;

enum Place {
    /// Before a member, or after all of them.
    Between,
    Within,
    End,
}

pub(super) struct Gzip {
    inflate: Decompress,
    sum: Crc,
    place: Place,
}

impl Gzip {
    pub(super) fn new() -> Self {
        Self { inflate: Decompress::new(false), sum: Crc::new(), place: Place::Between }
    }

    /// Every member so far has ended, and its sum was right.
    pub(super) fn is_between(&self) -> bool {
        !matches!(self.place, Place::Within)
    }

    /// Unpacks more into `out`; 0 at the end. After an error nothing more comes.
    pub(super) fn read(&mut self, input: &mut Input, out: &mut [u8]) -> Result<usize, FileError> {
        loop {
            match self.place {
                Place::End => return Ok(0),
                Place::Between => self.place = if open_member(input)? { Place::Within } else { Place::End },
                Place::Within => {
                    let (count, ended) = self.inflate_some(input, out)?;
                    self.sum.update(&out[..count]);
                    if ended {
                        self.close_member(input)?;
                    }
                    if count > 0 {
                        return Ok(count);
                    }
                }
            }
        }
    }

    fn inflate_some(&mut self, input: &mut Input, out: &mut [u8]) -> Result<(usize, bool), FileError> {
        let packed = input.peek(1)?;
        if packed.is_empty() {
            return Err(FileError::Truncated { offset: input.offset() });
        }
        let (before_in, before_out) = (self.inflate.total_in(), self.inflate.total_out());
        let result = self.inflate.decompress(packed, out, FlushDecompress::None);
        input.take((self.inflate.total_in() - before_in) as usize);
        let count = (self.inflate.total_out() - before_out) as usize;
        match result {
            Ok(status) => Ok((count, matches!(status, Status::StreamEnd))),
            // What came before the damage is given first; the next call meets it again.
            Err(_) if count > 0 => Ok((count, false)),
            Err(error) => Err(FileError::Damaged { offset: input.offset(), why: error.to_string() }),
        }
    }

    /// The member's last bytes are unpacked: its sum and length follow.
    fn close_member(&mut self, input: &mut Input) -> Result<(), FileError> {
        let offset = input.offset();
        let trailer = input.peek(8)?;
        let Some((sum, length)) = trailer.split_at_checked(4).and_then(|(sum, rest)| Some((sum, rest.get(..4)?)))
        else {
            return Err(FileError::Truncated { offset: offset + trailer.len() as u64 });
        };
        let says = |bytes: &[u8]| bytes.iter().rev().fold(0u32, |value, byte| value << 8 | u32::from(*byte));
        let (sum, length) = (says(sum), says(length));
        input.take(8);
        if sum != self.sum.sum() || length != self.sum.amount() {
            return Err(FileError::Damaged { offset, why: "the checksum of what was unpacked is wrong".into() });
        }
        self.inflate.reset(false);
        self.sum.reset();
        self.place = Place::Between;
        Ok(())
    }
}

/// Passes a member's header; false at the end of all.
fn open_member(input: &mut Input) -> Result<bool, FileError> {
    let begin = input.offset();
    let Some(first) = input.peek(1)?.first().copied() else { return Ok(false) };
    if first == 0 && begin > 0 {
        while let Some(byte) = input.byte()? {
            if byte != 0 {
                return Err(FileError::TrailingGarbage { offset: begin });
            }
        }
        return Ok(false);
    }
    let head = input.peek(10)?;
    let agrees = head.iter().zip(MAGIC).all(|(byte, magic)| *byte == magic);
    if !agrees && begin > 0 {
        return Err(FileError::TrailingGarbage { offset: begin });
    }
    let Some(head) = head.get(..10) else {
        let length = head.len() as u64;
        return Err(FileError::Truncated { offset: begin + length });
    };
    let (method, flags) = (head[2], head[3]);
    if method != DEFLATE || flags & RESERVED != 0 {
        return Err(FileError::Damaged { offset: begin, why: "the header is not one of gzip".into() });
    }
    input.take(10);
    let need = |input: &mut Input| input.byte()?.ok_or(FileError::Truncated { offset: input.offset() });
    if flags & EXTRA != 0 {
        let length = u16::from_le_bytes([need(input)?, need(input)?]);
        for _ in 0..length {
            need(input)?;
        }
    }
    for text in [NAME, COMMENT] {
        while flags & text != 0 && need(input)? != 0 {}
    }
    if flags & HEADER_SUM != 0 {
        need(input)?;
        need(input)?;
    }
    Ok(true)
}
