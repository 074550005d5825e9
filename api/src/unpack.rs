//! Bodies as they come in, unpacked as they come. Decides the form from the first bytes and never holds more than a step's output.

use std::io::Write;

use flate2::write::MultiGzDecoder;
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

/// So many first bytes tell the form.
pub(crate) const FORM_BYTES: usize = 4;
/// Input of one step of gzip, which grows a thousandfold at worst.
const GZIP_STEP_BYTES: usize = 4 << 10;
/// Output of one step of zstd.
const ZSTD_STEP_BYTES: usize = 128 << 10;
/// Input of one step of plain bytes.
const PLAIN_STEP_BYTES: usize = 256 << 10;
/// Largest window of a zstd frame, as a power of two: 32 MiB, what `zstd` uses up to level 22 without `--long` or `--ultra`.
const ZSTD_WINDOW_LOG_MAX: u32 = 25;

/// What a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Plain,
    Gzip,
    Zstd,
    Batch,
}

impl Form {
    pub(crate) fn of(first: &[u8]) -> Self {
        match first {
            _ if events::wire::is_batch(first) => Self::Batch,
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            _ => Self::Plain,
        }
    }
}

/// The bytes cannot be unpacked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the body begins as {form} and cannot be unpacked: {why}")]
pub(crate) struct BadBody {
    form: &'static str,
    why: String,
}

/// See the module.
pub(crate) enum Unpack {
    Plain,
    Gzip(Box<MultiGzDecoder<Vec<u8>>>),
    /// True: in the middle of a frame.
    Zstd(Decoder<'static>, bool),
}

fn bad_gzip(error: &std::io::Error) -> BadBody {
    BadBody { form: "gzip", why: error.to_string() }
}

fn bad_zstd(error: &std::io::Error) -> BadBody {
    BadBody { form: "zstd", why: error.to_string() }
}

impl Unpack {
    pub(crate) fn new(form: Form) -> Result<Self, BadBody> {
        Ok(match form {
            Form::Gzip => Self::Gzip(Box::new(MultiGzDecoder::new(Vec::new()))),
            Form::Zstd => {
                let mut decoder = Decoder::new().map_err(|error| bad_zstd(&error))?;
                decoder
                    .set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX))
                    .map_err(|error| bad_zstd(&error))?;
                Self::Zstd(decoder, false)
            }
            Form::Plain | Form::Batch => Self::Plain,
        })
    }

    /// True if what comes in may be larger when unpacked.
    pub(crate) fn is_packed(&self) -> bool {
        !matches!(self, Self::Plain)
    }

    /// Takes some bytes off the front of `input` and appends what they unpack to, at most a few MiB.
    pub(crate) fn step(&mut self, input: &mut &[u8], out: &mut Vec<u8>) -> Result<(), BadBody> {
        match self {
            Self::Plain => {
                let (now, rest) = input.split_at(input.len().min(PLAIN_STEP_BYTES));
                out.extend_from_slice(now);
                *input = rest;
            }
            Self::Gzip(decoder) => {
                let (now, rest) = input.split_at(input.len().min(GZIP_STEP_BYTES));
                decoder.write_all(now).map_err(|error| bad_gzip(&error))?;
                out.append(decoder.get_mut());
                *input = rest;
            }
            Self::Zstd(decoder, within) => {
                let at = out.len();
                out.resize(at + ZSTD_STEP_BYTES, 0);
                let mut from = InBuffer::around(input);
                let mut to = OutBuffer::around(&mut out[at..]);
                let hint = decoder.run(&mut from, &mut to).map_err(|error| bad_zstd(&error))?;
                let (read, written) = (from.pos(), to.pos());
                *within = hint != 0;
                out.truncate(at + written);
                *input = &input[read..];
            }
        }
        Ok(())
    }

    /// No more will come: appends what is left, and refuses a body that was cut short.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), BadBody> {
        match self {
            Self::Plain => Ok(()),
            Self::Gzip(decoder) => {
                decoder.try_finish().map_err(|error| bad_gzip(&error))?;
                out.append(decoder.get_mut());
                Ok(())
            }
            Self::Zstd(decoder, within) => {
                // Output that did not fit into the last step.
                loop {
                    let before = out.len();
                    if !*within {
                        return Ok(());
                    }
                    out.resize(before + ZSTD_STEP_BYTES, 0);
                    let mut to = OutBuffer::around(&mut out[before..]);
                    let hint = decoder.run(&mut InBuffer::around(&[]), &mut to).map_err(|error| bad_zstd(&error))?;
                    let written = to.pos();
                    out.truncate(before + written);
                    *within = hint != 0;
                    if *within && written == 0 {
                        return Err(BadBody { form: "zstd", why: "it ends in the middle of a frame".into() });
                    }
                }
            }
        }
    }
}
