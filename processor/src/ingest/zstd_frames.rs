//! Zstandard (RFC 8878): any number of frames, skippable ones among them. Memory is bounded by the window that a frame may ask for.

use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

use super::{FileError, input::Input};

/// First bytes of a frame.
pub(super) const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// A frame that asks for a larger window is refused: 128 MiB, what `zstd` itself unpacks without being told.
const WINDOW_LOG_MAX: u32 = 27;

pub(super) struct Frames {
    decoder: Decoder<'static>,
    /// Between two frames.
    between: bool,
}

/// True if a frame, or one to be skipped, begins with these bytes.
pub(super) fn begins_frame(head: &[u8]) -> bool {
    head.starts_with(&MAGIC)
        || (head.len() >= 4 && (0x50..=0x5f).contains(&head[0]) && head[1..4] == [0x2a, 0x4d, 0x18])
}

impl Frames {
    pub(super) fn new() -> Result<Self, FileError> {
        let damaged = |error: std::io::Error| FileError::Damaged { offset: 0, why: error.to_string() };
        let mut decoder = Decoder::new().map_err(damaged)?;
        decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX)).map_err(damaged)?;
        Ok(Self { decoder, between: true })
    }

    /// Every frame so far has ended as it should.
    pub(super) fn is_between(&self) -> bool {
        self.between
    }

    /// Unpacks more into `out`; 0 at the end. After an error nothing more comes.
    pub(super) fn read(&mut self, input: &mut Input, out: &mut [u8]) -> Result<usize, FileError> {
        loop {
            let offset = input.offset();
            let packed = input.peek(if self.between { 4 } else { 1 })?;
            if packed.is_empty() && self.between {
                return Ok(0);
            }
            if self.between && !begins_frame(packed) {
                let cut = packed.len() < 4 && MAGIC.starts_with(packed);
                let offset = offset + if cut { packed.len() as u64 } else { 0 };
                return Err(if cut { FileError::Truncated { offset } } else { FileError::TrailingGarbage { offset } });
            }
            // At the end of the file what is unpacked already may still have to come out.
            let at_end = packed.is_empty();
            let mut from = InBuffer::around(packed);
            let mut to = OutBuffer::around(out);
            let result = self.decoder.run(&mut from, &mut to);
            let (taken, count) = (from.pos(), to.pos());
            input.take(taken);
            match result {
                Ok(0) => self.between = true,
                Ok(_) => self.between = false,
                Err(_) if count > 0 => {}
                Err(error) => return Err(FileError::Damaged { offset: input.offset(), why: error.to_string() }),
            }
            if count > 0 {
                return Ok(count);
            }
            if at_end && !self.between {
                return Err(FileError::Truncated { offset: input.offset() });
            }
        }
    }
}
