//! Where a record stands: shards, hash keys and sequence numbers. Only order is decided here, never time.
//!
//! Invariants:
//! - A sequence number is compared as an integer, never as text. Numbers of two shards are not comparable.
//! - `SequenceNumber::ZERO` stands before every record, so "through ZERO" means "nothing yet".

use std::{fmt, str::FromStr};

use md5::{Digest, Md5};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Most decimal digits of a sequence number (Kinesis API reference, `SequenceNumber`: 129 characters at most).
pub const SEQUENCE_NUMBER_DIGITS_MAX: usize = 129;

/// 448 bits hold 134 decimal digits, more than the 129 that Kinesis may send.
const LIMBS: usize = 7;

/// The position of a record in its shard. Opaque, ordered as an integer, unique in its shard.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SequenceNumber([u64; LIMBS]);

impl SequenceNumber {
    /// Before every record.
    pub const ZERO: Self = Self([0; LIMBS]);
    /// After every record.
    pub const MAX: Self = Self([u64::MAX; LIMBS]);
    /// Most bytes that `to_bytes` gives.
    pub const BYTES_MAX: usize = LIMBS * 8;

    /// The least number that stands behind this one; behind `MAX` there is none.
    pub fn next(self) -> Self {
        self.times_plus(1, 1).unwrap_or(Self::MAX)
    }

    /// The embedded stream's numbers: the epoch of the opening that wrote the record, then its place in the shard's log.
    pub const fn from_parts(epoch: u64, offset: u64) -> Self {
        Self([0, 0, 0, 0, 0, epoch, offset])
    }

    /// Epoch and offset, or `None` where another stream made this number.
    pub const fn parts(&self) -> Option<(u64, u64)> {
        match self.0 {
            [0, 0, 0, 0, 0, epoch, offset] => Some((epoch, offset)),
            _ => None,
        }
    }

    /// Big-endian bytes without leading zeros: what is stored.
    pub fn to_bytes(&self) -> Vec<u8> {
        let Some(first) = self.0.iter().position(|limb| *limb != 0) else { return vec![] };
        let mut bytes = Vec::with_capacity((LIMBS - first) * 8);
        bytes.extend_from_slice(&self.0[first].to_be_bytes()[self.0[first].leading_zeros() as usize / 8..]);
        for limb in &self.0[first + 1..] {
            bytes.extend_from_slice(&limb.to_be_bytes());
        }
        bytes
    }

    /// Reads what `to_bytes` wrote; `None` if longer than any sequence number or not in its shortest form.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > LIMBS * 8 || bytes.first() == Some(&0) {
            return None;
        }
        let mut wide = [0u8; LIMBS * 8];
        wide[LIMBS * 8 - bytes.len()..].copy_from_slice(bytes);
        let mut limbs = [0u64; LIMBS];
        for (limb, chunk) in limbs.iter_mut().zip(wide.as_chunks::<8>().0) {
            *limb = u64::from_be_bytes(*chunk);
        }
        Some(Self(limbs))
    }

    /// Multiplies by `factor` and adds; `None` on overflow.
    fn times_plus(mut self, factor: u64, addend: u64) -> Option<Self> {
        let mut carry = u128::from(addend);
        for limb in self.0.iter_mut().rev() {
            let wide = u128::from(*limb) * u128::from(factor) + carry;
            *limb = wide as u64;
            carry = wide >> 64;
        }
        (carry == 0).then_some(self)
    }

    /// Divides in place and returns the remainder.
    fn divide(&mut self, divisor: u64) -> u64 {
        let mut rest = 0u128;
        for limb in &mut self.0 {
            let wide = (rest << 64) | u128::from(*limb);
            *limb = (wide / u128::from(divisor)) as u64;
            rest = wide % u128::from(divisor);
        }
        rest as u64
    }
}

impl fmt::Display for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const CHUNK: u64 = 10_000_000_000_000_000_000;
        let mut rest = *self;
        let mut chunks = vec![rest.divide(CHUNK)];
        while rest != Self::ZERO {
            chunks.push(rest.divide(CHUNK));
        }
        let mut text = chunks.pop().unwrap_or(0).to_string();
        for chunk in chunks.iter().rev() {
            text.push_str(&format!("{chunk:019}"));
        }
        f.pad_integral(true, "", &text)
    }
}

impl fmt::Debug for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parts() {
            Some((epoch, offset)) => write!(f, "{epoch}:{offset}"),
            None => fmt::Display::fmt(self, f),
        }
    }
}

/// The text is not a sequence number: 1 to 129 decimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a sequence number (1 to {SEQUENCE_NUMBER_DIGITS_MAX} decimal digits)")]
pub struct NotASequenceNumber(String);

impl FromStr for SequenceNumber {
    type Err = NotASequenceNumber;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || NotASequenceNumber(text.chars().take(SEQUENCE_NUMBER_DIGITS_MAX + 1).collect());
        if text.is_empty() || text.len() > SEQUENCE_NUMBER_DIGITS_MAX {
            return Err(refuse());
        }
        text.bytes().try_fold(Self::ZERO, |number, byte| {
            let digit = byte.wrapping_sub(b'0');
            (digit < 10).then(|| number.times_plus(10, u64::from(digit))).flatten().ok_or_else(refuse)
        })
    }
}

impl Serialize for SequenceNumber {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.to_bytes())
    }
}

impl<'de> Deserialize<'de> for SequenceNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = serde_bytes::ByteBuf::deserialize(deserializer)?;
        Self::from_bytes(&bytes).ok_or_else(|| serde::de::Error::custom("not a sequence number"))
    }
}

/// A shard's name, as Kinesis writes it: `shardId-000000000003`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ShardId(std::sync::Arc<str>);

impl ShardId {
    /// The name of the shard with this number.
    pub fn numbered(number: u64) -> Self {
        Self(format!("shardId-{number:012}").into())
    }

    /// A name that a stream gave.
    pub fn named(name: &str) -> Self {
        Self(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A place on the ring of 2^128 hash keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HashKey(pub u128);

impl HashKey {
    /// Where Kinesis places a partition key: its MD5, read big-endian (Kinesis developer guide, "Partition Key").
    pub fn of(partition_key: &str) -> Self {
        Self(u128::from_be_bytes(Md5::digest(partition_key.as_bytes()).into()))
    }
}

impl Serialize for HashKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0.to_be_bytes())
    }
}

impl<'de> Deserialize<'de> for HashKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = serde_bytes::ByteBuf::deserialize(deserializer)?;
        let bytes = bytes.as_slice().try_into().map_err(|_| serde::de::Error::custom("not a hash key"))?;
        Ok(Self(u128::from_be_bytes(bytes)))
    }
}

/// The hash keys that a shard owns, both ends inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HashRange {
    /// Lowest key.
    pub from: HashKey,
    /// Highest key.
    pub through: HashKey,
}

impl HashRange {
    /// True if the shard with this range owns the key.
    pub fn contains(&self, key: HashKey) -> bool {
        self.from <= key && key <= self.through
    }

    /// The ring cut into `count` ranges of equal size (the last takes the rest), as Kinesis cuts a new stream.
    pub fn even(count: std::num::NonZeroU16) -> Vec<Self> {
        let count = u128::from(count.get());
        if count == 1 {
            return vec![Self { from: HashKey(0), through: HashKey(u128::MAX) }];
        }
        let width = u128::MAX / count + u128::from(u128::MAX % count == count - 1);
        (0..count)
            .map(|i| {
                let through = if i + 1 == count { u128::MAX } else { width * (i + 1) - 1 };
                Self { from: HashKey(width * i), through: HashKey(through) }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_longer_than_any_machine_word_orders_as_an_integer() {
        let small: SequenceNumber = "49590338271490256608559692538361571095921575989136588898".parse().unwrap();
        let large: SequenceNumber = "149590338271490256608559692538361571095921575989136588898".parse().unwrap();
        assert!(small < large, "length decides before digits");
        assert_eq!(small.to_string(), "49590338271490256608559692538361571095921575989136588898");
        assert_eq!("9".repeat(129).parse::<SequenceNumber>().unwrap().to_string(), "9".repeat(129));
        assert!("9".repeat(130).parse::<SequenceNumber>().is_err());
        assert!("".parse::<SequenceNumber>().is_err());
        assert!("-1".parse::<SequenceNumber>().is_err());
        assert_eq!(SequenceNumber::ZERO.to_string(), "0");
    }

    #[test]
    fn even_ranges_cover_the_ring_without_gap_or_overlap() {
        for count in [1u16, 2, 3, 7, 16] {
            let ranges = HashRange::even(count.try_into().unwrap());
            assert_eq!((ranges.len(), ranges[0].from.0), (usize::from(count), 0));
            assert!(ranges.windows(2).all(|pair| pair[0].through.0 + 1 == pair[1].from.0));
            assert_eq!(ranges.last().unwrap().through.0, u128::MAX);
        }
    }

    #[test]
    fn a_partition_key_lands_where_kinesis_puts_it() {
        // MD5("a") = 0cc175b9c0f1b6a831c399e269772661
        assert_eq!(HashKey::of("a").0, 0x0cc1_75b9_c0f1_b6a8_31c3_99e2_6977_2661);
    }

    proptest! {
        #[test]
        fn bytes_and_text_give_the_number_back(limbs in any::<[u64; LIMBS]>(), keep in 0..LIMBS) {
            let mut limbs = limbs;
            limbs[..keep].fill(0);
            let number = SequenceNumber(limbs);
            prop_assert_eq!(SequenceNumber::from_bytes(&number.to_bytes()), Some(number));
            if keep > 0 {
                prop_assert_eq!(number.to_string().parse::<SequenceNumber>().unwrap(), number);
            }
        }
    }
}
