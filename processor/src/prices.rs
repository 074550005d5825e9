//! What reading from a bucket will cost, by list prices and measured units. The one place where prices stand. Decides no more than a range: what is in
//! an object is not known before it is read. Pure.

use std::fmt;

/// Where the prices are from: AWS's pricing pages of S3, Kinesis Data Streams (provisioned) and DynamoDB (on demand), without free allowances.
pub const SOURCE: &str = "list prices of us-east-1, November 2025";
/// Dollars a GET.
const GET_USD: f64 = 0.000_000_4;
/// Dollars a LIST.
const LIST_USD: f64 = 0.000_005;
/// Dollars a PUT payload unit of Kinesis.
const PUT_UNIT_USD: f64 = 0.014e-6;
/// Dollars a write unit of DynamoDB.
const WRITE_UNIT_USD: f64 = 0.625e-6;
/// Dollars for 10^9 bytes that leave AWS.
const TRANSFER_GB_USD: f64 = 0.09;

/// Bytes of a full unit: 98 % of 25,000 (`events/src/kinesis/design.md`, "PUT payload units").
const UNIT_BYTES: f64 = 24_500.0;
/// How many bytes of lines a byte of the stream holds: 4.4 were measured there; lines of many words and few numbers pack better, random ones worse.
const PACKING: Span = Span { low: 2.5, high: 12.0 };
/// What a packed object comes to on the stream, which is packed otherwise and in other pieces.
const REPACKED: Span = Span { low: 0.8, high: 1.5 };
/// How many bytes of lines a packed object's byte holds.
const UNPACKED: Span = Span { low: 4.0, high: 15.0 };
/// Bytes of a line: those of the measured million (`benches/design.md`).
const LINE_BYTES: f64 = 274.0;
/// Write units a line: from 10,000 lines a second of 50 services to 46 (`projections/src/dynamodb/design.md`, "What a million log lines cost").
const WRITES_A_LINE: Span = Span { low: 0.000_38, high: 0.038 };
/// Write units an object besides: its mark, and entries of lists.
const WRITES_AN_OBJECT: Span = Span { low: 1.0, high: 4.0 };

/// From so much to so much.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Span {
    /// At least about this.
    pub low: f64,
    /// At most about this.
    pub high: f64,
}

impl Span {
    fn of(low: f64, high: f64) -> Self {
        Self { low, high }
    }

    fn times(self, factor: f64) -> Self {
        Self::of(self.low * factor, self.high * factor)
    }

    fn and(self, other: Self) -> Self {
        Self::of(self.low + other.low, self.high + other.high)
    }
}

/// What is to be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reading {
    /// Objects.
    pub objects: u64,
    /// Their bytes as they lie in the bucket.
    pub bytes: u64,
    /// Of these, bytes that are packed.
    pub packed_bytes: u64,
    /// Calls that read them.
    pub gets: u64,
    /// Calls that list them, those that were made already with them.
    pub lists: u64,
}

/// What it will cost, about.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// Calls of S3.
    pub calls: u64,
    /// PUT payload units of Kinesis; `None`: the stream costs nothing.
    pub put_units: Option<Span>,
    /// Write units of DynamoDB.
    pub write_units: Option<Span>,
    /// Dollars of all that.
    pub usd: Span,
    /// Dollars more if the bytes leave AWS or the region.
    pub transfer_usd: f64,
}

impl Estimate {
    /// Of reading into a stream and rows that are paid, or into a folder.
    pub fn of(reading: &Reading, is_paid: bool) -> Self {
        let (objects, packed) = (reading.objects as f64, reading.packed_bytes as f64);
        let plain = reading.bytes.saturating_sub(reading.packed_bytes) as f64;
        let calls_usd = reading.gets as f64 * GET_USD + reading.lists as f64 * LIST_USD;
        let streamed = REPACKED.times(packed).and(Span::of(plain / PACKING.high, plain / PACKING.low));
        let units = streamed.times(1.0 / UNIT_BYTES);
        // Each object ends in a record of its own.
        let put_units = Span::of(units.low.max(objects), units.high + objects);
        let lines = UNPACKED.times(packed / LINE_BYTES).and(Span::of(plain / LINE_BYTES, plain / LINE_BYTES));
        let of_lines = Span::of(lines.low * WRITES_A_LINE.low, lines.high * WRITES_A_LINE.high);
        let write_units = of_lines.and(WRITES_AN_OBJECT.times(objects));
        let paid = put_units.times(PUT_UNIT_USD).and(write_units.times(WRITE_UNIT_USD));
        Self {
            calls: reading.gets + reading.lists,
            put_units: is_paid.then_some(put_units),
            write_units: is_paid.then_some(write_units),
            usd: Span::of(calls_usd, calls_usd).and(if is_paid { paid } else { Span::default() }),
            transfer_usd: reading.bytes as f64 / 1e9 * TRANSFER_GB_USD,
        }
    }

    /// Most dollars that it may come to.
    pub fn usd_max(&self) -> f64 {
        self.usd.high + self.transfer_usd
    }
}

/// Dollars and cents; what is less than a cent is said to be.
pub fn dollars(usd: f64) -> String {
    if usd < 0.01 { "less than $0.01".to_owned() } else { format!("${usd:.2}") }
}

impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} calls of S3", self.calls)?;
        for (units, of) in [(self.put_units, "PUT units of Kinesis"), (self.write_units, "write units of DynamoDB")] {
            if let Some(units) = units {
                write!(f, ", {:.0} to {:.0} {of}", units.low.ceil(), units.high.ceil())?;
            }
        }
        match (dollars(self.usd.low), dollars(self.usd.high)) {
            (low, high) if low == high => write!(f, ": {high}")?,
            (low, high) => write!(f, ": {low} to {high}")?,
        }
        write!(f, " ({SOURCE})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLION: Reading = Reading { objects: 100, bytes: 274_000_000, packed_bytes: 0, gets: 1_700, lists: 2 };

    #[test]
    fn the_measured_million_lies_within_the_range() {
        let paid = Estimate::of(&MILLION, true);
        let units = paid.put_units.unwrap_or_default();
        assert!(units.low < 2_534.0 && 2_534.0 < units.high, "{units:?}");
        let writes = paid.write_units.unwrap_or_default();
        assert!(writes.low < 1_000.0 && 38_000.0 < writes.high, "{writes:?}");
        assert!(paid.usd.low < 0.003 && (0.02..0.03).contains(&paid.usd.high), "{paid:?}");
        assert!((0.024..0.025).contains(&paid.transfer_usd));
        assert_eq!(
            paid.to_string(),
            "1702 calls of S3, 932 to 4574 PUT units of Kinesis, 480 to 38400 write units of DynamoDB: less than $0.01 to $0.02 \
             (list prices of us-east-1, November 2025)"
        );
    }

    #[test]
    fn a_folder_pays_for_calls_alone_and_many_small_objects_for_a_unit_each() {
        let local = Estimate::of(&MILLION, false);
        assert_eq!((local.put_units, local.write_units), (None, None));
        assert!(local.usd.high < 0.001, "{local:?}");
        let small = Reading {
            objects: 1_000_000,
            bytes: 1_000_000_000,
            packed_bytes: 1_000_000_000,
            gets: 1_000_000,
            lists: 2_000,
        };
        let small = Estimate::of(&small, true);
        assert!(small.put_units.is_some_and(|units| units.low >= 1_000_000.0), "{small:?}");
        assert!(small.usd.low > 1.0, "{small:?}");
    }
}
