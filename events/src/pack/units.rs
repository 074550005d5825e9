//! Full PUT payload units: Kinesis bills each record by begun units of 25 KB, so a batch is cut where its *packed* size is just under a whole number
//! of them. Decides from sizes alone whether a cut is good or which one to try next; packs nothing.
//!
//! How well lines pack is known from the batch before, and nearly the same for the next. So most first tries are taken; each other costs packing the
//! batch again, and there are at most `TRIES_MAX`.

use crate::stream::RECORD_BYTES_MAX;

/// What is billed as one (Kinesis pricing page, "PUT Payload Unit": 25 KB, where a record of 1 MB has 40). Key and payload are counted together.
pub const UNIT_BYTES: usize = 25_000;
/// Units that a batch aims at. More fill no better; a record of ten is a quarter of what a shard takes in a second, and some 1 MB of lines.
pub const UNITS_AIM: usize = 10;
/// Most bytes of lines in a batch, however well they pack: what packer and reader hold.
pub const RAW_BYTES_MAX: usize = 4 << 20;
/// Full enough: another try would cost more than it saves.
const FILL_MIN: f64 = 0.95;
/// How much of the units is aimed at, as the guess may be a little low.
const AIM: f64 = 0.985;
/// Cuts tried for one batch. Then the last is taken, if a record holds it.
const TRIES_MAX: u32 = 4;
/// Before anything was packed: a guess that is too high costs a try, and so does one that is too low.
const FIRST_RATIO: f64 = 4.0;

/// What to do with a cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is the batch.
    Take,
    /// Cut again, as far as `raw_target` says.
    Again,
}

/// The cuts of one packer.
#[derive(Debug, Clone)]
pub(super) struct Units {
    /// Bytes of lines in a byte of record, as last seen.
    ratio: f64,
    /// How many bytes of lines to cut.
    raw_target: usize,
    tries: u32,
    /// The length of the cut before this one.
    before: usize,
}

impl Units {
    pub fn new() -> Self {
        let mut units = Self { ratio: FIRST_RATIO, raw_target: 0, tries: 0, before: 0 };
        units.begin();
        units
    }

    /// How many bytes of lines to cut at most.
    pub fn raw_target(&self) -> usize {
        self.raw_target
    }

    /// Judges a cut of `raw` bytes of lines that makes a record of `packed` bytes. `last`: the bytes end with it, so it cannot be longer.
    pub fn judge(&mut self, raw: usize, packed: usize, last: bool) -> Verdict {
        self.tries += 1;
        self.ratio = raw as f64 / packed as f64;
        let same = std::mem::replace(&mut self.before, raw) == raw;
        let too_large = packed > RECORD_BYTES_MAX;
        let fill = packed as f64 / (packed.div_ceil(UNIT_BYTES) * UNIT_BYTES) as f64;
        // The end of the bytes or of a slice, or a line that is not to be cut: no guess makes another.
        let fixed = last || same || (raw < self.raw_target && raw + self.raw_target / 8 < self.raw_target);
        if !too_large && (fill >= FILL_MIN || fixed || self.tries >= TRIES_MAX) {
            self.begin();
            return Verdict::Take;
        }
        self.aim();
        if too_large {
            // Whatever the guess says: each try is at most half of the one before, down to a line.
            self.raw_target = self.raw_target.min(raw / 2).max(1);
        }
        Verdict::Again
    }

    fn begin(&mut self) {
        self.tries = 0;
        self.before = 0;
        self.aim();
    }

    fn aim(&mut self) {
        let most = RAW_BYTES_MAX as f64 / self.ratio / UNIT_BYTES as f64;
        let units = most.floor().clamp(1.0, UNITS_AIM as f64);
        self.raw_target = ((units * UNIT_BYTES as f64 * AIM * self.ratio) as usize).clamp(1, RAW_BYTES_MAX);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_guess_that_was_wrong_is_mended_by_what_was_seen() {
        let mut units = Units::new();
        let first = units.raw_target();
        // Half as well as guessed: twice the size, which is as full as can be; taken, and remembered.
        assert_eq!(units.judge(first, 2 * UNITS_AIM * UNIT_BYTES - 100, false), Verdict::Take);
        let second = units.raw_target();
        assert!(second < first * 52 / 100);
        // Eleven units for little more than ten: once more, a little shorter.
        assert_eq!(units.judge(second, UNITS_AIM * UNIT_BYTES + 2_000, false), Verdict::Again);
        assert!(units.raw_target() < second);
    }

    #[test]
    fn what_no_record_holds_is_never_taken_and_tries_end() {
        let mut units = Units { ratio: 200.0, ..Units::new() };
        units.begin();
        let mut raw = units.raw_target();
        assert!(raw > 3 << 20);
        for _ in 0..10 {
            if units.judge(raw, raw, false) == Verdict::Take {
                break;
            }
            assert!(units.raw_target() <= raw / 2 || raw <= RECORD_BYTES_MAX);
            raw = units.raw_target();
        }
        assert!(raw <= RECORD_BYTES_MAX, "{raw}");
    }

    #[test]
    fn lines_that_pack_extremely_well_stay_within_what_is_held() {
        let mut units = Units { ratio: 1_000.0, ..Units::new() };
        units.begin();
        assert!(units.raw_target() <= RAW_BYTES_MAX);
        assert_eq!(units.judge(RAW_BYTES_MAX, 4_000, false), Verdict::Again);
        assert_eq!(units.judge(RAW_BYTES_MAX, 4_000, false), Verdict::Take, "no cut is better");
    }
}
