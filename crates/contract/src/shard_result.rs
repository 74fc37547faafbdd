//! The shard result: exact, mergeable, with one byte encoding. Merging itself is the kernel's (`reduce`).
//!
//! Integers only. Equal results have equal bytes, so backends are compared by hash.

use ethnum::U256;

use crate::{
    digest::Digest,
    program::{MAX_AMOUNT, MAX_COUNT},
    wire::{DecodeError, Reader, Writer},
};

/// Histogram buckets: values below 1,024 have one each, then every octave up to 2^53 has 1,024.
pub const HISTOGRAM_BUCKETS: usize = 44 * 1024;

const MAGIC: &[u8; 4] = b"FKSR";
const VERSION: u32 = 1;

/// The bucket of an amount (at most [`MAX_AMOUNT`]).
pub fn bucket_of(amount: u64) -> usize {
    let octave = (amount >> 10).checked_ilog2().map_or(0, |log| log as usize + 1);
    let shift = octave.saturating_sub(1);
    (shift << 10) + (amount >> shift) as usize
}

/// The smallest and the largest amount of a bucket.
pub fn bucket_bounds(bucket: usize) -> (u64, u64) {
    let shift = (bucket >> 10).saturating_sub(1);
    let low = ((bucket - (shift << 10)) as u64) << shift;
    (low, low + (1 << shift) - 1)
}

/// How one quantity (the iteration's total, or its largest occurrence) is distributed over the iterations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distribution {
    /// Smallest amount; `u64::MAX` when there is no iteration.
    pub min: u64,
    /// Largest amount; 0 when there is no iteration.
    pub max: u64,
    /// For each of the program's marks, the iterations that fall exactly on it.
    pub at_marks: Vec<u64>,
    /// Non-empty buckets in ascending order, with their iterations.
    pub histogram: Vec<(u32, u64)>,
}

impl Distribution {
    /// Iterations whose amount is 0.
    pub fn zeros(&self) -> u64 {
        match self.histogram.first() {
            Some(&(0, count)) => count,
            _ => 0,
        }
    }
}

/// Occurrences of one component.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// All occurrences.
    pub occurrences: u64,
    /// Those whose amount reached the component's cap. Without a cap in the model these are the saturated ones.
    pub capped: u64,
}

/// What executing iterations of a program yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardResult {
    /// Iterations executed.
    pub iterations: u64,
    /// One tally for each component of the program.
    pub components: Vec<Tally>,
    /// Iterations whose total reached the program's cap. Without a cap in the model these are the saturated ones.
    pub capped: u64,
    /// Sum of the totals, in minor units.
    pub sum: u128,
    /// Sum of the squared totals, in squared minor units.
    pub sum_squares: U256,
    /// The iteration's total.
    pub total: Distribution,
    /// The iteration's largest occurrence (0 when it has none), cut to the program's cap.
    pub largest: Distribution,
}

impl ShardResult {
    /// SHA-256 of [`ShardResult::encode`].
    pub fn digest(&self) -> Digest {
        Digest::hash_parts(&[&self.encode()])
    }

    /// The canonical bytes (docs/determinism.md, section 8).
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new(MAGIC, VERSION);
        out.u64(self.iterations);
        out.u64(self.capped);
        out.u128(self.sum);
        out.u256(self.sum_squares);
        out.varint(self.components.len() as u64);
        for tally in &self.components {
            out.varint(tally.occurrences);
            out.varint(tally.capped);
        }
        out.varint(self.total.at_marks.len() as u64);
        for distribution in [&self.total, &self.largest] {
            out.u64(distribution.min);
            out.u64(distribution.max);
            distribution.at_marks.iter().for_each(|&count| out.varint(count));
            out.varint(distribution.histogram.len() as u64);
            let mut next = 0;
            for &(bucket, count) in &distribution.histogram {
                out.varint(u64::from(bucket - next));
                out.varint(count);
                next = bucket + 1;
            }
        }
        out.finish()
    }

    /// Reads canonical bytes back.
    ///
    /// # Errors
    /// [`DecodeError`] when the bytes are not the encoding of a possible result.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Reader::new(bytes, MAGIC, VERSION)?;
        let (iterations, capped) = (input.u64()?, input.u64()?);
        let (sum, sum_squares) = (input.u128()?, input.u256()?);
        let components = list_length(&mut input)?;
        let tally =
            |input: &mut Reader<'_>| Ok(Tally { occurrences: input.varint()?, capped: input.varint()? });
        let components =
            (0..components).map(|_| tally(&mut input)).collect::<Result<Vec<_>, DecodeError>>()?;
        let marks = list_length(&mut input)?;
        let total = decode_distribution(&mut input, marks, iterations)?;
        let largest = decode_distribution(&mut input, marks, iterations)?;
        input.finish()?;
        let result = Self { iterations, components, capped, sum, sum_squares, total, largest };
        result.check()?;
        Ok(result)
    }

    fn check(&self) -> Result<(), DecodeError> {
        let rule = |holds: bool, message: &str| {
            if holds { Ok(()) } else { Err(DecodeError::invalid(message)) }
        };
        rule(self.iterations <= 1 << 48, "a result has at most 2^48 iterations")?;
        rule(self.capped <= self.iterations, "more iterations are capped than there are")?;
        let capped = self.components.iter().all(|t| t.capped <= t.occurrences);
        rule(capped, "more occurrences are capped than there are")?;
        let most = self.iterations * MAX_COUNT;
        let bounded = self.components.iter().all(|t| t.occurrences <= most);
        rule(bounded, "more occurrences than so many iterations can have")?;
        let n = u128::from(self.iterations);
        let (min, max) = (u128::from(self.total.min), u128::from(self.total.max));
        let sums = if n == 0 {
            self.sum == 0 && self.sum_squares == 0
        } else {
            (min * n..=max * n).contains(&self.sum)
                && (U256::from(min * min) * n..=U256::from(max * max) * n).contains(&self.sum_squares)
                && U256::from(self.sum) * U256::from(self.sum) <= self.sum_squares * n
        };
        rule(sums, "no amounts between the minimum and the maximum have these sums")
    }
}

fn list_length(input: &mut Reader<'_>) -> Result<usize, DecodeError> {
    let length = input.varint()?;
    if length > input.remaining() as u64 {
        return Err(DecodeError::invalid("a list is longer than the bytes that are left"));
    }
    Ok(length as usize)
}

fn decode_distribution(
    input: &mut Reader<'_>,
    marks: usize,
    iterations: u64,
) -> Result<Distribution, DecodeError> {
    let (min, max) = (input.u64()?, input.u64()?);
    let at_marks = (0..marks).map(|_| input.varint()).collect::<Result<Vec<_>, _>>()?;
    let length = list_length(input)?;
    let mut histogram = Vec::with_capacity(length);
    let (mut next, mut seen) = (0u64, 0u64);
    for _ in 0..length {
        let bucket = next.saturating_add(input.varint()?);
        let count = input.varint()?;
        if bucket >= HISTOGRAM_BUCKETS as u64 || count == 0 {
            return Err(DecodeError::invalid("a bucket is out of range or empty"));
        }
        seen = seen.saturating_add(count);
        histogram.push((bucket as u32, count));
        next = bucket + 1;
    }
    let bounds = (histogram.first().map(|b| b.0 as usize), histogram.last().map(|b| b.0 as usize));
    let matching = match bounds {
        (Some(first), Some(last)) => {
            max <= MAX_AMOUNT && min <= max && (bucket_of(min), bucket_of(max)) == (first, last)
        }
        _ => (min, max) == (u64::MAX, 0),
    };
    let marked = at_marks.iter().fold(0, |sum: u64, &count| sum.saturating_add(count));
    if seen != iterations || !matching || marked > iterations {
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
    fn what_no_execution_can_yield_is_refused() {
        let break_it: [fn(&mut ShardResult); 8] = [
            |r| r.iterations = 4,
            |r| r.capped = 4,
            |r| r.components[0].capped = 22,
            |r| r.components[0].occurrences = 3 * MAX_COUNT + 1,
            |r| r.total.at_marks = vec![2, 2],
            |r| r.total.max = 80_000,
            |r| r.sum = 14,
            // 70,010² is more than 3 times this sum of squares: no three amounts have both.
            |r| r.sum_squares -= 4_000_000_000,
        ];
        let good = result(&[5, 5, 70_000]);
        assert_eq!(ShardResult::decode(&good.encode()), Ok(good.clone()));
        for change in break_it {
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
        fn what_decodes_is_canonical(bytes in prop::collection::vec(any::<u8>(), 0..300), at in 0usize..200) {
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
