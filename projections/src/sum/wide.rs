//! Decides how a sum too wide for 128 bits is held: one fixed-point number over the whole range; must never round.
//!
//! The unit is 2^-1074, the least subnormal, so every f64 is a whole number of units. 24 limbs in two's complement reach
//! 2^461; 2^64 addends of 2^360 come to 2^424, so the number cannot wrap in any use that a `u64` can count.

/// Limbs of a [`Wide`], least first.
const LIMBS: usize = 24;

/// A signed fixed-point number in units of 2^-1074.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Wide([u64; LIMBS]);

/// The size of a [`Wide`] without its sign.
pub(super) struct Magnitude {
    pub(super) negative: bool,
    limbs: [u64; LIMBS],
}

impl Wide {
    pub(super) const ZERO: Wide = Wide([0; LIMBS]);

    /// Adds ±`magnitude` × 2^`position` units.
    pub(super) fn add_at(&mut self, negative: bool, magnitude: u128, position: u32) {
        let (first, shift) = (position as usize / 64, position % 64);
        let (low, high) = (magnitude << shift, magnitude.checked_shr(128 - shift).unwrap_or(0));
        let addend = [low as u64, (low >> 64) as u64, high as u64];
        debug_assert!(addend.iter().skip(LIMBS - first).all(|&limb| limb == 0), "beyond the last limb");
        let mut carry = false;
        for (i, limb) in self.0[first..].iter_mut().enumerate() {
            let part = addend.get(i).copied().unwrap_or(0);
            if i >= addend.len() && !carry {
                return;
            }
            (*limb, carry) = if negative { limb.borrowing_sub(part, carry) } else { limb.carrying_add(part, carry) };
        }
    }

    pub(super) fn merge(&mut self, other: &Wide) {
        let mut carry = false;
        for (limb, &part) in self.0.iter_mut().zip(&other.0) {
            (*limb, carry) = limb.carrying_add(part, carry);
        }
    }

    pub(super) fn magnitude(&self) -> Magnitude {
        let negative = self.0[LIMBS - 1] >> 63 == 1;
        let mut limbs = self.0;
        if negative {
            let mut carry = true;
            for limb in &mut limbs {
                (*limb, carry) = (!*limb).carrying_add(0, carry);
            }
        }
        Magnitude { negative, limbs }
    }
}

impl Magnitude {
    /// Position after the highest set bit; 0 for zero.
    pub(super) fn bit_len(&self) -> u32 {
        let top = self.limbs.iter().rposition(|&limb| limb != 0);
        top.map_or(0, |i| 64 * i as u32 + 64 - self.limbs[i].leading_zeros())
    }

    /// Position of the lowest set bit; `None` for zero.
    pub(super) fn trailing_zeros(&self) -> Option<u32> {
        let low = self.limbs.iter().position(|&limb| limb != 0)?;
        Some(64 * low as u32 + self.limbs[low].trailing_zeros())
    }

    /// The 64 bits from `position` up.
    pub(super) fn bits_from(&self, position: u32) -> u64 {
        let (i, shift) = (position as usize / 64, position % 64);
        let limb = |i: usize| u128::from(self.limbs.get(i).copied().unwrap_or(0));
        ((limb(i) | limb(i + 1) << 64) >> shift) as u64
    }

    /// The nearest f64, ties to even.
    pub(super) fn to_f64(&self) -> f64 {
        let bit_len = self.bit_len();
        // Below 2^53 units the bits of an f64, subnormal or of the least normal exponent, are the number of units itself.
        let cut = bit_len.saturating_sub(53);
        let mut significand = self.bits_from(cut) & ((1 << 53) - 1);
        if cut > 0 {
            let half = self.bits_from(cut - 1) & 1 == 1;
            let beyond_half = self.trailing_zeros().is_some_and(|low| low < cut - 1);
            significand += u64::from(half && (beyond_half || significand & 1 == 1));
        }
        // The leading bit of a 53-bit significand, or its carry into a 54th, adds the missing one to the exponent.
        let size = f64::from_bits((u64::from(cut) << 52) + significand);
        if self.negative { -size } else { size }
    }
}
