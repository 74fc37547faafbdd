//! Accumulates columns of amounts, one entry for each iteration of a batch: sums, extremes, marks
//! and dense histograms.

use ethnum::U256;
use forge_contract::{
    distribution::Resolution,
    result_details::{AllocationBucket, GroupTally, QuantityResult},
    shard_result::Distribution,
};

use super::{super::InstructionSet, draws::MAX_BATCH_YEARS};

/// Set in the counter of a bucket that holds a mark. Counts stay below it: a shard has at most 2^28
/// iterations.
const HAS_MARK: u32 = 1 << 31;

/// The sums and the distribution of one quantity.
pub(super) struct ColumnTally {
    sum: u128,
    sum_squares: U256,
    min: u64,
    max: u64,
    marks: Vec<u64>,
    at_marks: Vec<u64>,
    resolution: Resolution,
    counts: Vec<u32>,
}

impl ColumnTally {
    pub(super) fn new(marks: Vec<u64>, resolution: Resolution) -> Self {
        let mut counts = vec![0; resolution.buckets()];
        marks.iter().for_each(|&mark| counts[resolution.bucket_of(mark)] = HAS_MARK);
        let at_marks = vec![0; marks.len()];
        let (sum, sum_squares) = (0, U256::ZERO);
        Self { sum, sum_squares, min: u64::MAX, max: 0, marks, at_marks, resolution, counts }
    }

    /// Adds the first `years` amounts of a column, all at most `MAX_AMOUNT`.
    pub(super) fn add(
        &mut self,
        instructions: InstructionSet,
        column: &[u64; MAX_BATCH_YEARS],
        years: usize,
    ) {
        let amounts = &column[..years];
        let (sum, sum_squares) = sums_of(amounts);
        self.sum += u128::from(sum);
        self.sum_squares += U256::from(sum_squares);
        let mut buckets = [0; MAX_BATCH_YEARS];
        let (min, max) = instructions.buckets(column, years, &mut buckets);
        (self.min, self.max) = (self.min.min(min), self.max.max(max));
        for (&amount, &bucket) in amounts.iter().zip(&buckets) {
            let bucket = match self.resolution {
                Resolution::FINE => bucket as usize,
                // Four fine buckets are a coarse one, except for small amounts.
                _ if bucket >= 1024 => (bucket >> 2) as usize + 512,
                coarse => coarse.bucket_of(amount),
            };
            let count = &mut self.counts[bucket];
            *count += 1;
            if *count & HAS_MARK != 0
                && let Ok(mark) = self.marks.binary_search(&amount)
            {
                self.at_marks[mark] += 1;
            }
        }
    }

    pub(super) fn finish(self) -> QuantityResult {
        let counts = self.counts.into_iter().map(|count| u64::from(count & !HAS_MARK));
        let histogram = (0..).zip(counts).filter(|&(_, count)| count > 0).collect();
        let distribution = Distribution { min: self.min, max: self.max, at_marks: self.at_marks, histogram };
        QuantityResult { sum: self.sum, sum_squares: self.sum_squares, distribution }
    }
}

/// The sum and the sum of squares of a column: 256 amounts below 2^53.
fn sums_of(amounts: &[u64]) -> (u64, u128) {
    let squares = amounts.iter().map(|&amount| u128::from(amount) * u128::from(amount));
    (amounts.iter().sum(), squares.sum())
}

/// Adds a column of numbers of occurrences and one of gross amounts to a group's tally.
pub(super) fn add_to_group(tally: &mut GroupTally, counts: &[u64], amounts: &[u64]) {
    let (occurrences, squared_occurrences) = sums_of(counts);
    let (sum, sum_squares) = sums_of(amounts);
    tally.occurrences += occurrences;
    tally.squared_occurrences += squared_occurrences;
    tally.without_loss += amounts.iter().map(|&amount| u64::from(amount == 0)).sum::<u64>();
    tally.sum += u128::from(sum);
    tally.sum_squares += U256::from(sum_squares);
}

/// Sums of the parts of the total, by bucket of the total.
pub(super) struct AllocationTally {
    parts: usize,
    /// For each bucket, one more than its row, or 0.
    rows: Vec<u32>,
    sums: Vec<u128>,
}

impl AllocationTally {
    pub(super) fn new(parts: usize) -> Self {
        Self { parts, rows: vec![0; Resolution::COARSE.buckets()], sums: Vec::new() }
    }

    /// Adds iterations with these totals. `parts` are columns of `stride` entries.
    pub(super) fn add<'a>(&mut self, totals: &[u64], parts: impl Iterator<Item = &'a [u64]> + Clone) {
        for (year, &total) in totals.iter().enumerate() {
            let row = &mut self.rows[Resolution::COARSE.bucket_of(total)];
            if *row == 0 {
                self.sums.resize(self.sums.len() + self.parts, 0);
                *row = (self.sums.len() / self.parts) as u32;
            }
            let sums = &mut self.sums[(*row as usize - 1) * self.parts..][..self.parts];
            sums.iter_mut().zip(parts.clone()).for_each(|(sum, column)| *sum += u128::from(column[year]));
        }
    }

    pub(super) fn finish(self) -> Vec<AllocationBucket> {
        let rows = (0..).zip(&self.rows).filter(|&(_, &row)| row > 0);
        let sums = |row: u32| self.sums[(row as usize - 1) * self.parts..][..self.parts].to_vec();
        rows.map(|(bucket, &row)| AllocationBucket { bucket, sums: sums(row) }).collect()
    }
}
