//! Packed bytes, unpacked ahead of who reads them, so that what turns out damaged was not taken. Decides which unpacked bytes may leave; knows no
//! line.
//!
//! A gzip member says at its end what it should have held, and damaged deflate may unpack into anything before. So bytes leave once their member
//! (or Zstandard frame) has ended as it should, and otherwise only when `AHEAD_BYTES` behind them are unpacked: a smaller member is taken
//! verified or not at all, of a larger one only its last `AHEAD_BYTES` are. Whoever took unverified bytes is told so with the damage.

use std::collections::VecDeque;

use super::{FileError, gzip::Gzip, input::Input, zstd_frames::Frames};

/// Unpacked bytes that are held until they are known to be right. Fewer in tests, so that they take both ways.
pub(super) const AHEAD_BYTES: usize = if cfg!(test) { 32 << 10 } else { 8 << 20 };
/// How much is unpacked at once.
const CHUNK_BYTES: usize = 128 << 10;
/// What a small file is unpacked into first.
const FIRST_BYTES: usize = 16 << 10;

pub(super) enum Unpack {
    Gzip(Gzip),
    Zstd(Frames),
}

impl Unpack {
    fn read(&mut self, input: &mut Input, out: &mut [u8]) -> Result<usize, FileError> {
        match self {
            Self::Gzip(gzip) => gzip.read(input, out),
            Self::Zstd(frames) => frames.read(input, out),
        }
    }

    /// All that was unpacked so far has ended as it should.
    fn is_between(&self) -> bool {
        match self {
            Self::Gzip(gzip) => gzip.is_between(),
            Self::Zstd(frames) => frames.is_between(),
        }
    }
}

/// See the module.
pub(super) struct Ahead {
    unpack: Unpack,
    input: Input,
    /// Unpacked and not given; of the first, what stands before `begin` was given.
    chunks: VecDeque<Vec<u8>>,
    begin: usize,
    given: u64,
    unpacked: u64,
    verified: u64,
    spare: Vec<u8>,
    /// Nothing more can be unpacked.
    end: Option<Result<(), FileError>>,
}

/// A file that was unpacked to its end at once.
pub(super) struct Small {
    pub bytes: Vec<u8>,
    /// What ends it.
    pub damage: Option<FileError>,
    /// Bytes of the file that nobody counted.
    pub disk_bytes: u64,
}

impl Ahead {
    /// `Err`: it is small, and its bytes are these.
    pub(super) fn new(mut unpack: Unpack, mut input: Input) -> Result<Self, Small> {
        let (mut bytes, mut have, mut verified) = (vec![0; FIRST_BYTES], 0, 0);
        let end = loop {
            if have == bytes.len() {
                if have >= AHEAD_BYTES {
                    break None;
                }
                bytes.resize((2 * have).min(AHEAD_BYTES), 0);
            }
            match unpack.read(&mut input, &mut bytes[have..]) {
                Ok(0) => break Some(None),
                Ok(count) => have += count,
                Err(damage) => break Some(Some(damage)),
            }
            if unpack.is_between() {
                verified = have;
            }
        };
        match end {
            None => {
                let chunks = VecDeque::from([bytes]);
                let (unpacked, verified) = (have as u64, verified as u64);
                Ok(Self { unpack, input, chunks, begin: 0, given: 0, unpacked, verified, spare: vec![], end: None })
            }
            Some(damage) => {
                bytes.truncate(if damage.is_some() { verified } else { have });
                bytes.shrink_to_fit();
                Err(Small { bytes, damage: damage.map(|damage| damage.spoilt(false)), disk_bytes: input.uncounted() })
            }
        }
    }

    pub(super) fn input(&mut self) -> &mut Input {
        &mut self.input
    }

    /// The first bytes, before any is read.
    pub(super) fn first(&self) -> &[u8] {
        self.chunks.front().map_or(&[], Vec::as_slice)
    }

    /// Gives more into `out`; 0 at the end. After an error nothing more comes.
    pub(super) fn read(&mut self, out: &mut [u8]) -> Result<usize, FileError> {
        while self.end.is_none() && self.given >= self.verified && self.unpacked - self.given < AHEAD_BYTES as u64 {
            self.unpack_more();
        }
        let most = match &self.end {
            Some(Ok(())) => self.unpacked - self.given,
            None if self.verified <= self.given => CHUNK_BYTES as u64,
            // What follows the last member that ended well is not worth taking.
            Some(Err(_)) | None => self.verified.saturating_sub(self.given),
        };
        let Some(chunk) = self.chunks.front().filter(|_| most > 0) else {
            self.chunks.clear();
            self.unpacked = self.given;
            return self.end.replace(Ok(())).unwrap_or(Ok(())).map(|()| 0);
        };
        let count = out.len().min(chunk.len() - self.begin).min(most as usize);
        out[..count].copy_from_slice(&chunk[self.begin..self.begin + count]);
        self.begin += count;
        self.given += count as u64;
        if self.begin == chunk.len() {
            self.spare = self.chunks.pop_front().unwrap_or_default();
            self.begin = 0;
        }
        Ok(count)
    }

    fn unpack_more(&mut self) {
        let mut chunk = std::mem::take(&mut self.spare);
        chunk.resize(CHUNK_BYTES, 0);
        match self.unpack.read(&mut self.input, &mut chunk) {
            Ok(0) => self.end = Some(Ok(())),
            Ok(count) => {
                chunk.truncate(count);
                self.chunks.push_back(chunk);
                self.unpacked += count as u64;
                if self.unpack.is_between() {
                    self.verified = self.unpacked;
                }
            }
            Err(damage) => self.end = Some(Err(damage.spoilt(self.given > self.verified))),
        }
    }
}
