//! The shard result: exact, mergeable, and with a single byte encoding.
//!
//! All figures are integers, and equal results have equal bytes, so backends are compared by hash.
//! The kernel merges results (`reduction`); this module only defines, encodes and decodes them.

use ethnum::U256;

use crate::{
    digest::Digest,
    program::{MAX_AMOUNT, MAX_COUNT},
    wire::{DecodeError, WireReader, WireWriter},
};

/// Number of histogram buckets. Values below 1,024 have a bucket each; from there to 2^53 every
/// octave has 1,024 buckets.
pub const HISTOGRAM_BUCKETS: usize = 44 * 1024;

const MAGIC: &[u8; 4] = b"FKSR";
const VERSION: u32 = 1;

/// Index of the bucket that holds `amount`, which is at most [`MAX_AMOUNT`].
pub fn bucket_of(amount: u64) -> usize {
    let octave = (amount >> 10).checked_ilog2().map_or(0, |log| log as usize + 1);
    let shift = octave.saturating_sub(1);
    (shift << 10) + (amount >> shift) as usize
}

/// Smallest and largest amount in a bucket.
pub fn bucket_bounds(bucket: usize) -> (u64, u64) {
    let shift = (bucket >> 10).saturating_sub(1);
    let low = ((bucket - (shift << 10)) as u64) << shift;
    (low, low + (1 << shift) - 1)
}

/// Distribution of one quantity over the iterations: the iteration's total, or its largest
/// occurrence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distribution {
    /// Smallest amount; `u64::MAX` if there are no iterations.
    pub min: u64,
    /// Largest amount; 0 if there are no iterations.
    pub max: u64,
    /// For each of the program's marks, the number of iterations with exactly this amount.
    pub at_marks: Vec<u64>,
    /// Non-empty buckets in ascending order: bucket index and number of iterations.
    pub histogram: Vec<(u32, u64)>,
}

impl Distribution {
    /// Number of iterations with an amount of 0.
    pub fn zeros(&self) -> u64 {
        match self.histogram.first() {
            Some(&(0, count)) => count,
            _ => 0,
        }
    }
}

/// Occurrence counts of one component.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Total number of occurrences.
    pub occurrences: u64,
    /// Number of occurrences with an amount at the component's cap. If the model has no cap, the
    /// number of saturated amounts.
    pub capped: u64,
}

/// Result of executing iterations of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardResult {
    /// Number of iterations executed.
    pub iterations: u64,
    /// One tally per component of the program.
    pub components: Vec<Tally>,
    /// Number of iterations with a total at the program's cap. If the model has no cap, the number
    /// of saturated totals.
    pub capped: u64,
    /// Sum of the totals, in minor units.
    pub sum: u128,
    /// Sum of the squared totals, in minor units squared.
    pub sum_squares: U256,
    /// Distribution of the iteration's total.
    pub total: Distribution,
    /// Distribution of the iteration's largest occurrence (0 when it has none), limited by the
    /// program's cap.
    pub largest: Distribution,
}

impl ShardResult {
    /// SHA-256 of [`ShardResult::encode`].
    pub fn digest(&self) -> Digest {
        Digest::hash_parts(&[&self.encode()])
    }

    /// Encodes the result in its canonical bytes (docs/determinism.md, section 8).
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = WireWriter::new(MAGIC, VERSION);
        writer.u64(self.iterations);
        writer.u64(self.capped);
        writer.u128(self.sum);
        writer.u256(self.sum_squares);
        writer.varint(self.components.len() as u64);
        for tally in &self.components {
            writer.varint(tally.occurrences);
            writer.varint(tally.capped);
        }
        writer.varint(self.total.at_marks.len() as u64);
        for distribution in [&self.total, &self.largest] {
            writer.u64(distribution.min);
            writer.u64(distribution.max);
            distribution.at_marks.iter().for_each(|&count| writer.varint(count));
            writer.varint(distribution.histogram.len() as u64);
            let mut next = 0;
            for &(bucket, count) in &distribution.histogram {
                writer.varint(u64::from(bucket - next));
                writer.varint(count);
                next = bucket + 1;
            }
        }
        writer.finish()
    }

    /// Decodes canonical bytes.
    ///
    /// # Errors
    /// [`DecodeError`] when the bytes are not the encoding of a result that an execution can
    /// produce.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = WireReader::new(bytes, MAGIC, VERSION)?;
        let (iterations, capped) = (reader.u64()?, reader.u64()?);
        let (sum, sum_squares) = (reader.u128()?, reader.u256()?);
        let components = list_length(&mut reader)?;
        let tally = |reader: &mut WireReader<'_>| {
            Ok(Tally { occurrences: reader.varint()?, capped: reader.varint()? })
        };
        let components =
            (0..components).map(|_| tally(&mut reader)).collect::<Result<Vec<_>, DecodeError>>()?;
        let marks = list_length(&mut reader)?;
        let total = decode_distribution(&mut reader, marks, iterations)?;
        let largest = decode_distribution(&mut reader, marks, iterations)?;
        reader.finish()?;
        let result = Self { iterations, components, capped, sum, sum_squares, total, largest };
        result.validate()?;
        Ok(result)
    }

    fn validate(&self) -> Result<(), DecodeError> {
        let rule = |holds: bool, message: &str| {
            if holds { Ok(()) } else { Err(DecodeError::invalid(message)) }
        };
        rule(self.iterations <= 1 << 48, "a result must have at most 2^48 iterations")?;
        rule(self.capped <= self.iterations, "more iterations are capped than were executed")?;
        let capped = self.components.iter().all(|t| t.capped <= t.occurrences);
        rule(capped, "more occurrences are capped than occurred")?;
        let max_occurrences = self.iterations * MAX_COUNT;
        let plausible = self.components.iter().all(|t| t.occurrences <= max_occurrences);
        rule(plausible, "there are more occurrences than the iterations can have")?;
        let n = u128::from(self.iterations);
        let (min, max) = (u128::from(self.total.min), u128::from(self.total.max));
        let sums = if n == 0 {
            self.sum == 0 && self.sum_squares == 0
        } else {
            (min * n..=max * n).contains(&self.sum)
                && (U256::from(min * min) * n..=U256::from(max * max) * n).contains(&self.sum_squares)
                && U256::from(self.sum) * U256::from(self.sum) <= self.sum_squares * n
        };
        rule(sums, "the sums are impossible for amounts between the minimum and the maximum")
    }
}

fn list_length(reader: &mut WireReader<'_>) -> Result<usize, DecodeError> {
    let length = reader.varint()?;
    if length > reader.remaining() as u64 {
        return Err(DecodeError::invalid("a list is longer than the remaining bytes"));
    }
    Ok(length as usize)
}

fn decode_distribution(
    reader: &mut WireReader<'_>,
    marks: usize,
    iterations: u64,
) -> Result<Distribution, DecodeError> {
    let (min, max) = (reader.u64()?, reader.u64()?);
    let at_marks = (0..marks).map(|_| reader.varint()).collect::<Result<Vec<_>, _>>()?;
    let length = list_length(reader)?;
    let mut histogram = Vec::with_capacity(length);
    let (mut next, mut counted) = (0u64, 0u64);
    for _ in 0..length {
        let bucket = next.saturating_add(reader.varint()?);
        let count = reader.varint()?;
        if bucket >= HISTOGRAM_BUCKETS as u64 || count == 0 {
            return Err(DecodeError::invalid("a bucket is out of range or empty"));
        }
        counted = counted.saturating_add(count);
        histogram.push((bucket as u32, count));
        next = bucket + 1;
    }
    let bounds = (histogram.first().map(|b| b.0 as usize), histogram.last().map(|b| b.0 as usize));
    let consistent = match bounds {
        (Some(first), Some(last)) => {
            max <= MAX_AMOUNT && min <= max && (bucket_of(min), bucket_of(max)) == (first, last)
        }
        _ => (min, max) == (u64::MAX, 0),
    };
    let on_marks = at_marks.iter().fold(0, |sum: u64, &count| sum.saturating_add(count));
    if counted != iterations || !consistent || on_marks > iterations {
        return Err(DecodeError::invalid("the histogram does not match iterations, minimum and maximum"));
    }
    Ok(Distribution { min, max, at_marks, histogram })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn buckets_are_contiguous_and_narrow() {
        assert_eq!([0, 1023, 1024, 2047, 2048, 2050].map(bucket_of), [0, 1023, 1024, 2047, 2048, 2049]);
        assert_eq!(bucket_of(MAX_AMOUNT), HISTOGRAM_BUCKETS - 1);
        let mut next = 0;
        for bucket in 0..HISTOGRAM_BUCKETS {
            let (low, high) = bucket_bounds(bucket);
            assert_eq!((low, bucket_of(low), bucket_of(high)), (next, bucket, bucket));
            assert!(low < 1024 || (high - low + 1) * 1024 <= low);
            next = high + 1;
        }
        assert_eq!(next, MAX_AMOUNT + 1);
    }

    fn result(amounts: &[u64]) -> ShardResult {
        let mut counts = std::collections::BTreeMap::new();
        for &amount in amounts {
            *counts.entry(bucket_of(amount) as u32).or_insert(0) += 1;
        }
        let distribution = Distribution {
            min: amounts.iter().copied().min().unwrap_or(u64::MAX),
            max: amounts.iter().copied().max().unwrap_or(0),
            at_marks: vec![0, 0],
            histogram: counts.into_iter().collect(),
        };
        ShardResult {
            iterations: amounts.len() as u64,
            components: vec![Tally {
                occurrences: 7 * amounts.len() as u64,
                capped: amounts.len() as u64 / 2,
            }],
            capped: 0,
            sum: amounts.iter().map(|&a| u128::from(a)).sum(),
            sum_squares: amounts.iter().map(|&a| U256::from(a) * U256::from(a)).sum(),
            total: distribution.clone(),
            largest: distribution,
        }
    }

    #[test]
    fn results_that_no_execution_can_produce_are_rejected() {
        let corruptions: [fn(&mut ShardResult); 8] = [
            |r| r.iterations = 4,
            |r| r.capped = 4,
            |r| r.components[0].capped = 22,
            |r| r.components[0].occurrences = 3 * MAX_COUNT + 1,
            |r| r.total.at_marks = vec![2, 2],
            |r| r.total.max = 80_000,
            |r| r.sum = 14,
            // 70,010² exceeds 3 times this sum of squares, so no three amounts have both sums.
            |r| r.sum_squares -= 4_000_000_000,
        ];
        let good = result(&[5, 5, 70_000]);
        assert_eq!(ShardResult::decode(&good.encode()), Ok(good.clone()));
        for change in corruptions {
            let mut bad = good.clone();
            change(&mut bad);
            assert!(ShardResult::decode(&bad.encode()).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn encoding_round_trips(amounts in prop::collection::vec(0..=MAX_AMOUNT, 0..40)) {
            let result = result(&amounts);
            let bytes = result.encode();
            prop_assert_eq!(ShardResult::decode(&bytes), Ok(result));
            prop_assert!(ShardResult::decode(&bytes[..bytes.len() - 1]).is_err());
        }

        #[test]
        fn decoded_results_are_canonical(bytes in prop::collection::vec(any::<u8>(), 0..300), at in 0usize..200) {
            prop_assert!(ShardResult::decode(&bytes).is_err());
            let mut damaged = result(&[5, 5, 70_000]).encode();
            let at = at % damaged.len();
            damaged[at] ^= 1 << (bytes.len() % 8);
            if let Ok(result) = ShardResult::decode(&damaged) {
                prop_assert_eq!(result.encode(), damaged);
            }
        }
    }
}
