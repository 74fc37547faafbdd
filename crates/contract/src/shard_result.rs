//! The shard result: exact, mergeable, and with a single byte encoding.
//!
//! All figures are integers, and equal results have equal bytes, so backends are compared by hash.
//! The kernel merges results (`reduction`); this module only defines, encodes and decodes them.

use ethnum::U256;

use crate::{
    digest::Digest,
    distribution::Resolution,
    program::MAX_COUNT,
    result_details::ResultDetails,
    wire::{DecodeError, WireReader, WireWriter},
};

pub use crate::distribution::Distribution;

/// Number of buckets in the histograms of the total and of the largest occurrence.
pub const HISTOGRAM_BUCKETS: usize = Resolution::FINE.buckets();

const MAGIC: &[u8; 4] = b"FKSR";
const VERSION: u32 = 1;

/// Index of the bucket that holds `amount`, in the histograms of the total and of the largest
/// occurrence.
pub fn bucket_of(amount: u64) -> usize {
    Resolution::FINE.bucket_of(amount)
}

/// Smallest and largest amount in a bucket of the total or of the largest occurrence.
pub fn bucket_bounds(bucket: usize) -> (u64, u64) {
    Resolution::FINE.bounds(bucket)
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
    /// Figures beyond the total, for a program with `details`.
    pub details: Option<ResultDetails>,
}

impl ShardResult {
    /// The classes by which the total is allocated, in ascending order, each with its number and
    /// its iterations: its listed amounts, else its [`ShardResult::coarse_totals`].
    pub fn total_classes(&self) -> Vec<(u64, u64)> {
        if self.total.listed.is_empty() {
            self.coarse_totals().into_iter().map(|(bucket, years)| (bucket.into(), years)).collect()
        } else {
            self.total.listed.clone()
        }
    }

    /// The histogram of the total with [`Resolution::COARSE`].
    pub fn coarse_totals(&self) -> Vec<(u32, u64)> {
        let mut buckets: Vec<(u32, u64)> = Vec::new();
        for &(fine, iterations) in &self.total.histogram {
            let coarse = Resolution::COARSE.bucket_of(bucket_bounds(fine as usize).0) as u32;
            match buckets.last_mut() {
                Some((bucket, sum)) if *bucket == coarse => *sum += iterations,
                _ => buckets.push((coarse, iterations)),
            }
        }
        buckets
    }

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
        self.total.encode(&mut writer);
        self.largest.encode(&mut writer);
        writer.varint(u64::from(self.details.is_some()));
        if let Some(details) = &self.details {
            details.encode([&self.total, &self.largest], &mut writer);
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
        let components = reader.list_length()?;
        let tally = |reader: &mut WireReader<'_>| {
            Ok(Tally { occurrences: reader.varint()?, capped: reader.varint()? })
        };
        let components =
            (0..components).map(|_| tally(&mut reader)).collect::<Result<Vec<_>, DecodeError>>()?;
        let marks = reader.list_length()?;
        let mut total = Distribution::decode(&mut reader, Resolution::FINE, marks, iterations)?;
        let mut largest = Distribution::decode(&mut reader, Resolution::FINE, marks, iterations)?;
        let details = match reader.varint()? {
            0 => None,
            1 => Some(ResultDetails::decode(&mut reader, iterations, [&mut total, &mut largest])?),
            _ => return Err(DecodeError::invalid("a result has details or none")),
        };
        reader.finish()?;
        let result = Self { iterations, components, capped, sum, sum_squares, total, largest, details };
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
        rule(sums, "the sums are impossible for amounts between the minimum and the maximum")?;
        self.details.as_ref().map_or(Ok(()), |details| details.validate(self.iterations))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::program::MAX_AMOUNT;

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
            listed: Vec::new(),
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
            details: None,
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
