//! Tables: what maps a uniform u64 draw to a number of occurrences or to an amount, in integers.
//! docs/determinism.md, section 5, defines their entries.

use crate::{
    amount::MAX_AMOUNT,
    wire::{DecodeError, WireReader, WireWriter},
};

/// Number of octaves in each half of a quantile table.
pub const OCTAVES: usize = 64;
/// Bit width of a segment's `left`: its magnitude is below 2^29.
pub const SEGMENT_LEFT_BITS: u32 = 29;
/// Largest number of amounts in a step table or a linear table.
pub const MAX_STEPS: usize = 65_536;

/// Maps a uniform u64 draw to a count: `offset` plus the number of thresholds ≤ the draw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountTable {
    /// Smallest count.
    pub offset: u32,
    /// `floor(2^64 · CDF(offset + i))`, non-decreasing.
    pub thresholds: Vec<u64>,
}

impl CountTable {
    /// Returns the count that `draw` maps to.
    pub fn count(&self, draw: u64) -> u32 {
        self.offset + self.thresholds.partition_point(|&threshold| threshold <= draw) as u32
    }

    /// Largest count.
    pub fn max_count(&self) -> u64 {
        u64::from(self.offset) + self.thresholds.len() as u64
    }

    pub(crate) fn encode(&self, writer: &mut WireWriter) {
        writer.u32(self.offset);
        encode_u64s(&self.thresholds, writer);
    }

    pub(crate) fn decode(reader: &mut WireReader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { offset: reader.u32()?, thresholds: decode_u64s(reader)? })
    }
}

/// One segment of a quantile table: a quadratic polynomial in integers. For y in [0, 2^31):
/// amount = max(0, left·2^31 + y·(slope + (y·curve >> 31))) >> shift.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Segment {
    /// Value at the lower end of the segment, in units of 2^(31 − shift) minor units.
    pub left: i32,
    /// Coefficient of y.
    pub slope: i32,
    /// Coefficient of y², in units of 2^−31.
    pub curve: i32,
    /// Number of bits by which the scaled value is shifted right to give whole minor units: 5 to
    /// 61.
    pub shift: u32,
}

impl Segment {
    fn is_safe(&self) -> bool {
        self.left.unsigned_abs() < 1 << SEGMENT_LEFT_BITS
            && u64::from(self.slope.unsigned_abs()) + u64::from(self.curve.unsigned_abs()) < 3 << 29
            && (5..=61).contains(&self.shift)
    }
}

/// Maps a uniform u64 draw to an amount; ascends with the draw, unless components share the draw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AmountTable {
    /// A continuous law: a quadratic in each of `2 · 64 · 2^segment_bits` segments, the lower half
    /// of the draws first. Within each half, segments are ordered by distance from the end of the
    /// distribution.
    Quantiles {
        /// log2 of the number of segments in an octave: 1 to 8.
        segment_bits: u32,
        /// The segments.
        segments: Vec<Segment>,
    },
    /// A law of separate amounts: the amount of a draw is the one at the number of thresholds ≤ the
    /// draw.
    Steps {
        /// `floor(2^64 · CDF)` of each amount but the last, non-decreasing.
        thresholds: Vec<u64>,
        /// One more amount than there are thresholds, ascending unless components share the draw.
        amounts: Vec<u64>,
    },
    /// A law whose quantile function is linear between knots. The piece of a draw is the one at the
    /// number of thresholds ≤ the draw.
    Linear {
        /// `floor(2^64 · CDF)` of each knot but the first and the last, non-decreasing.
        thresholds: Vec<u64>,
        /// The knots' amounts: two more than there are thresholds, ascending.
        amounts: Vec<u64>,
    },
}

impl AmountTable {
    /// Always the same amount.
    pub fn constant(amount: u64) -> Self {
        Self::Steps { thresholds: Vec::new(), amounts: vec![amount] }
    }

    pub(crate) fn encode(&self, writer: &mut WireWriter) {
        match self {
            Self::Quantiles { segment_bits, segments } => {
                writer.u32(0);
                writer.u32(*segment_bits);
                for segment in segments {
                    writer.i32(segment.left);
                    writer.i32(segment.slope);
                    writer.i32(segment.curve);
                    writer.u32(segment.shift);
                }
            }
            Self::Steps { thresholds, amounts } => {
                writer.u32(1);
                encode_u64s(thresholds, writer);
                amounts.iter().for_each(|&amount| writer.u64(amount));
            }
            Self::Linear { thresholds, amounts } => {
                writer.u32(2);
                encode_u64s(thresholds, writer);
                amounts.iter().for_each(|&amount| writer.u64(amount));
            }
        }
    }

    pub(crate) fn decode(reader: &mut WireReader<'_>) -> Result<Self, DecodeError> {
        match reader.u32()? {
            0 => {
                let segment_bits = reader.u32()?;
                if !(1..=8).contains(&segment_bits) {
                    return Err(DecodeError::invalid("segment bits must be 1 to 8"));
                }
                let length = (2 * OCTAVES) << segment_bits;
                if length > reader.remaining() / 16 {
                    return Err(DecodeError::invalid("a table is longer than the remaining bytes"));
                }
                let segment = |_| {
                    let (left, slope, curve) = (reader.i32()?, reader.i32()?, reader.i32()?);
                    Ok(Segment { left, slope, curve, shift: reader.u32()? })
                };
                let segments = (0..length).map(segment).collect::<Result<_, DecodeError>>()?;
                Ok(Self::Quantiles { segment_bits, segments })
            }
            kind @ (1 | 2) => {
                let thresholds = decode_u64s(reader)?;
                let length = thresholds.len() + kind as usize;
                if length > reader.remaining() / 8 {
                    return Err(DecodeError::invalid("a table is longer than the remaining bytes"));
                }
                let amounts = (0..length).map(|_| reader.u64()).collect::<Result<_, _>>()?;
                Ok(match kind {
                    1 => Self::Steps { thresholds, amounts },
                    _ => Self::Linear { thresholds, amounts },
                })
            }
            _ => Err(DecodeError::invalid("a table has an unknown kind")),
        }
    }

    /// Checks the rules of a table. Step tables that share a draw need not ascend: of two events,
    /// one may cost a line more and another line less.
    pub(crate) fn validate(&self, shares_draw: bool) -> Result<(), DecodeError> {
        let rule = |holds: bool, message: &str| {
            if holds { Ok(()) } else { Err(DecodeError::invalid(message)) }
        };
        match self {
            Self::Quantiles { segment_bits, segments } => {
                rule((1..=8).contains(segment_bits), "segment bits must be 1 to 8")?;
                rule(
                    segments.len() == (2 * OCTAVES) << segment_bits,
                    "a table must have 128 · 2^segment_bits segments",
                )?;
                rule(segments.iter().all(Segment::is_safe), "a segment must not overflow")
            }
            Self::Steps { thresholds, amounts } | Self::Linear { thresholds, amounts } => {
                rule(thresholds.is_sorted(), "thresholds must not decrease")?;
                rule(amounts.len() <= MAX_STEPS, "a table must have at most 65,536 steps")?;
                let more = if matches!(self, Self::Steps { .. }) { 1 } else { 2 };
                rule(
                    amounts.len() == thresholds.len() + more,
                    "a table must have one more amount than thresholds, a linear one two more",
                )?;
                let may_decrease = shares_draw && matches!(self, Self::Steps { .. });
                rule(may_decrease || amounts.is_sorted(), "the amounts of a table must not decrease")?;
                rule(amounts.iter().all(|&a| a <= MAX_AMOUNT), "amounts must be at most 2^53 - 1")
            }
        }
    }
}

fn encode_u64s(values: &[u64], writer: &mut WireWriter) {
    writer.u32(values.len() as u32);
    values.iter().for_each(|&value| writer.u64(value));
}

fn decode_u64s(reader: &mut WireReader<'_>) -> Result<Vec<u64>, DecodeError> {
    let length = reader.u32()? as usize;
    if length > reader.remaining() / 8 {
        return Err(DecodeError::invalid("a table is longer than the remaining bytes"));
    }
    (0..length).map(|_| reader.u64()).collect()
}
