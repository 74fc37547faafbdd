//! The distribution of one quantity over the iterations, as an exact histogram.

use crate::{
    amount::MAX_AMOUNT,
    wire::{DecodeError, WireReader, WireWriter},
};

/// How finely a histogram divides amounts: values below 2^bits have a bucket each; from there on
/// every octave has 2^bits buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resolution {
    bits: u32,
}

impl Resolution {
    /// 1,024 buckets an octave, each at most 0.1% wide.
    pub const FINE: Self = Self { bits: 10 };
    /// 256 buckets an octave, each at most 0.4% wide. A fine bucket lies in one coarse bucket.
    pub const COARSE: Self = Self { bits: 8 };

    /// Number of buckets.
    pub const fn buckets(self) -> usize {
        (54 - self.bits as usize) << self.bits
    }

    /// Index of the bucket that holds `amount`, which is at most [`MAX_AMOUNT`].
    #[inline]
    pub fn bucket_of(self, amount: u64) -> usize {
        let octave = (amount >> self.bits).checked_ilog2().map_or(0, |log| log as usize + 1);
        let shift = octave.saturating_sub(1);
        (shift << self.bits) + (amount >> shift) as usize
    }

    /// Smallest and largest amount in a bucket.
    pub fn bounds(self, bucket: usize) -> (u64, u64) {
        let shift = (bucket >> self.bits).saturating_sub(1);
        let low = ((bucket - (shift << self.bits)) as u64) << shift;
        (low, low + (1 << shift) - 1)
    }
}

/// Distribution of one quantity over the iterations: the iteration's total, or its largest
/// occurrence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distribution {
    /// Smallest amount; `u64::MAX` if there are no iterations.
    pub min: u64,
    /// Largest amount; 0 if there are no iterations.
    pub max: u64,
    /// For each mark of the quantity, the number of iterations with exactly this amount.
    pub at_marks: Vec<u64>,
    /// Non-empty buckets in ascending order: bucket index and number of iterations.
    pub histogram: Vec<(u32, u64)>,
    /// The distinct amounts in ascending order, each with its number of iterations, if the program
    /// has `details` and there are at most
    /// [`MAX_LISTED_AMOUNTS`](crate::listed_amounts::MAX_LISTED_AMOUNTS); else none.
    pub listed: Vec<(u64, u64)>,
}

impl Distribution {
    /// Number of iterations with an amount of 0.
    pub fn zeros(&self) -> u64 {
        match self.histogram.first() {
            Some(&(0, count)) => count,
            _ => 0,
        }
    }

    pub(crate) fn encode(&self, writer: &mut WireWriter) {
        writer.u64(self.min);
        writer.u64(self.max);
        self.at_marks.iter().for_each(|&count| writer.varint(count));
        writer.varint(self.histogram.len() as u64);
        let mut next = 0;
        for &(bucket, count) in &self.histogram {
            writer.varint(u64::from(bucket - next));
            writer.varint(count);
            next = bucket + 1;
        }
    }

    pub(crate) fn decode(
        reader: &mut WireReader<'_>,
        resolution: Resolution,
        marks: usize,
        iterations: u64,
    ) -> Result<Self, DecodeError> {
        let (min, max) = (reader.u64()?, reader.u64()?);
        let at_marks = (0..marks).map(|_| reader.varint()).collect::<Result<Vec<_>, _>>()?;
        let length = reader.list_length()?;
        let mut histogram = Vec::with_capacity(length);
        let (mut next, mut counted) = (0u64, 0u64);
        for _ in 0..length {
            let bucket = next.saturating_add(reader.varint()?);
            let count = reader.varint()?;
            if bucket >= resolution.buckets() as u64 || count == 0 {
                return Err(DecodeError::invalid("a bucket is out of range or empty"));
            }
            counted = counted.saturating_add(count);
            histogram.push((bucket as u32, count));
            next = bucket + 1;
        }
        let bounds = (histogram.first().map(|b| b.0 as usize), histogram.last().map(|b| b.0 as usize));
        let consistent = match bounds {
            (Some(first), Some(last)) => {
                let buckets = (resolution.bucket_of(min), resolution.bucket_of(max));
                max <= MAX_AMOUNT && min <= max && buckets == (first, last)
            }
            _ => (min, max) == (u64::MAX, 0),
        };
        let on_marks = at_marks.iter().fold(0, |sum: u64, &count| sum.saturating_add(count));
        if counted != iterations || !consistent || on_marks > iterations {
            let message = "the histogram does not match iterations, minimum and maximum";
            return Err(DecodeError::invalid(message));
        }
        Ok(Self { min, max, at_marks, histogram, listed: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_contiguous_and_narrow() {
        let fine = |amount| Resolution::FINE.bucket_of(amount);
        assert_eq!([0, 1023, 1024, 2047, 2048, 2050].map(fine), [0, 1023, 1024, 2047, 2048, 2049]);
        for resolution in [Resolution::FINE, Resolution::COARSE] {
            assert_eq!(resolution.bucket_of(MAX_AMOUNT), resolution.buckets() - 1);
            let mut next = 0;
            for bucket in 0..resolution.buckets() {
                let (low, high) = resolution.bounds(bucket);
                assert_eq!(low, next);
                assert_eq!([low, high].map(|amount| resolution.bucket_of(amount)), [bucket; 2]);
                assert!(low < 1 << resolution.bits || (high - low + 1) << resolution.bits <= low);
                next = high + 1;
            }
            assert_eq!(next, MAX_AMOUNT + 1);
        }
    }

    #[test]
    fn a_fine_bucket_lies_in_one_coarse_bucket() {
        for bucket in 0..Resolution::FINE.buckets() {
            let (low, high) = Resolution::FINE.bounds(bucket);
            assert_eq!(Resolution::COARSE.bucket_of(low), Resolution::COARSE.bucket_of(high));
        }
    }
}
