//! Accumulates columns of amounts, one entry for each iteration of a batch: sums, extremes, marks
//! and dense histograms.

use ethnum::U256;
use forge_contract::{
    distribution::Resolution,
    listed_amounts::{AmountClasses, ListedAmounts, add_sums},
    result_details::{AllocationClass, GroupTally, QuantityResult},
    shard_result::Distribution,
};

use super::{
    super::vector::Vector,
    draws::{Column, MAX_BATCH_YEARS},
};

/// Set in the counter of a bucket that holds a mark. Counts stay below it: a shard has at most 2^28
/// iterations.
const HAS_MARK: u32 = 1 << 31;

/// Most lanes of a vector.
const MAX_LANES: usize = 8;

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
    listed: ListedAmounts,
}

impl ColumnTally {
    /// The tally of no iterations. If `is_listed`, few distinct amounts are listed.
    pub(super) fn new(marks: Vec<u64>, resolution: Resolution, is_listed: bool) -> Self {
        let mut counts = vec![0; resolution.buckets()];
        let flagged = marks.iter().filter(|&&mark| !has_own_bucket(resolution, mark));
        flagged.for_each(|&mark| counts[resolution.bucket_of(mark)] = HAS_MARK);
        let at_marks = vec![0; marks.len()];
        let (sum, sum_squares) = (0, U256::ZERO);
        let listed = ListedAmounts::new(is_listed);
        Self { sum, sum_squares, min: u64::MAX, max: 0, marks, at_marks, resolution, counts, listed }
    }

    /// Adds the first `years` amounts of a column, all at most `MAX_AMOUNT`; the others are 0.
    #[inline(always)]
    pub(super) fn add<V: Vector>(&mut self, column: &Column, years: usize) {
        let sums = ColumnSums::of::<V>(column, years);
        self.sum += u128::from(sums.sum);
        self.sum_squares += U256::from(sums.squares);
        (self.min, self.max) = (self.min.min(sums.min), self.max.max(sums.max));
        match self.resolution {
            Resolution::FINE => self.count::<V, 10>(column, years),
            _ => self.count::<V, 8>(column, years),
        }
        if self.listed.is_complete() {
            self.list(&column[..years]);
        }
    }

    /// Lists amounts, as long as there are few.
    #[cold]
    #[inline(never)]
    fn list(&mut self, amounts: &[u64]) {
        for run in amounts.chunk_by(|a, b| a == b) {
            self.listed.add(run[0], run.len() as u64);
        }
    }

    #[inline(always)]
    fn count<V: Vector, const BITS: u32>(&mut self, column: &Column, years: usize) {
        let mut buckets = [0; MAX_LANES];
        for first in (0..years).step_by(V::LANES) {
            V::buckets::<BITS>(V::load(&column[first..])).store(&mut buckets);
            for lane in 0..V::LANES.min(years - first) {
                let count = &mut self.counts[buckets[lane] as usize];
                *count += 1;
                if *count & HAS_MARK != 0 {
                    self.count_mark(column[first + lane]);
                }
            }
        }
    }

    fn count_mark(&mut self, amount: u64) {
        if let Ok(mark) = self.marks.binary_search(&amount) {
            self.at_marks[mark] += 1;
        }
    }

    pub(super) fn finish(mut self) -> QuantityResult {
        for (at_mark, &mark) in self.at_marks.iter_mut().zip(&self.marks) {
            if has_own_bucket(self.resolution, mark) {
                *at_mark = self.counts[self.resolution.bucket_of(mark)].into();
            }
        }
        let counts = self.counts.into_iter().map(|count| u64::from(count & !HAS_MARK));
        let histogram = (0..).zip(counts).filter(|&(_, count)| count > 0).collect();
        let distribution = Distribution {
            min: self.min,
            max: self.max,
            at_marks: self.at_marks,
            histogram,
            listed: self.listed.list(),
        };
        QuantityResult { sum: self.sum, sum_squares: self.sum_squares, distribution }
    }
}

/// Whether a bucket holds this amount alone, so that its counter is that of the mark.
fn has_own_bucket(resolution: Resolution, mark: u64) -> bool {
    resolution.bounds(resolution.bucket_of(mark)) == (mark, mark)
}

/// Sums and extremes of a column.
struct ColumnSums {
    sum: u64,
    squares: u128,
    min: u64,
    max: u64,
    zeros: u64,
}

impl ColumnSums {
    /// Those of the first `years` numbers, all below 2^53; the others are 0.
    #[inline(always)]
    fn of<V: Vector>(column: &Column, years: usize) -> Self {
        let zero = V::splat(0);
        let (mut sum, mut max, mut min, mut zeros) = (zero, zero, V::splat(i64::MAX as u64), 0);
        // With a number as high·2^32 + low: the sums of the low and of the high half of low·low, of
        // low·high, and of high·high.
        let (mut low_squares, mut mixed, mut high_squares) = ([zero; 2], zero, zero);
        for first in (0..years).step_by(V::LANES) {
            let numbers = V::load(&column[first..]);
            sum = sum.add(numbers);
            max = max.max_signed(numbers);
            zeros += u64::from(V::count_set(numbers.equal(zero)));
            if first + V::LANES <= years {
                min = min.min(numbers);
            }
            let (low_square, high) = (numbers.multiply_u32(numbers), numbers.shift_right::<32>());
            low_squares[0] = low_squares[0].add(low_square.and(V::splat(u32::MAX.into())));
            low_squares[1] = low_squares[1].add(low_square.shift_right::<32>());
            mixed = mixed.add(numbers.multiply_u32(high));
            high_squares = high_squares.add(high.multiply_u32(high));
        }
        let mut mins = [u64::MAX; MAX_LANES];
        min.store(&mut mins);
        let mut min = u64::MAX;
        for &number in mins.iter().chain(&column[years / V::LANES * V::LANES..years]) {
            min = min.min(number);
        }
        let mut maxima = [0; MAX_LANES];
        max.store(&mut maxima);
        let low_squares =
            u128::from(sum_lanes(low_squares[0])) + (u128::from(sum_lanes(low_squares[1])) << 32);
        let mixed = u128::from(sum_lanes(mixed)) << 33;
        Self {
            sum: sum_lanes(sum),
            squares: low_squares + mixed + (u128::from(sum_lanes(high_squares)) << 64),
            min,
            max: maxima.into_iter().max().unwrap_or(0),
            zeros: zeros - (years.next_multiple_of(V::LANES) - years) as u64,
        }
    }
}

/// The sum of the lanes, each below 2^61.
#[inline(always)]
fn sum_lanes<V: Vector>(vector: V) -> u64 {
    let mut lanes = [0; MAX_LANES];
    vector.store(&mut lanes);
    lanes.into_iter().sum()
}

/// Adds columns of numbers of occurrences and of gross amounts to a group's tally.
#[inline(always)]
pub(super) fn add_to_group<V: Vector>(
    tally: &mut GroupTally,
    counts: &Column,
    amounts: &Column,
    years: usize,
) {
    let (counts, amounts) = (ColumnSums::of::<V>(counts, years), ColumnSums::of::<V>(amounts, years));
    tally.occurrences += counts.sum;
    tally.squared_occurrences += counts.squares;
    tally.without_loss += amounts.zeros;
    tally.sum += u128::from(amounts.sum);
    tally.sum_squares += U256::from(amounts.squares);
}

/// Sums of the parts of the total, by class of the total.
pub(super) struct AllocationTally {
    parts: usize,
    /// The sums of each total, as long as these are listed; then `None`, and all sums are in rows.
    listed: Option<AmountClasses<Vec<u128>>>,
    /// For each bucket, one more than its row, or 0.
    rows: Vec<u32>,
    sums: Vec<u128>,
    /// What is not yet in `sums`: of each row, at most [`MAX_RECENT`] iterations.
    recent: Vec<u64>,
    /// The number of iterations of each row in `recent`.
    recent_iterations: Vec<u32>,
}

/// So many amounts below 2^53 have a sum below 2^64.
const MAX_RECENT: u32 = 1 << 11;

impl AllocationTally {
    pub(super) fn new(parts: usize) -> Self {
        let rows = vec![0; Resolution::COARSE.buckets()];
        let listed = Some(AmountClasses::new());
        Self { parts, listed, rows, sums: Vec::new(), recent: Vec::new(), recent_iterations: Vec::new() }
    }

    /// Adds `years` iterations with these totals. `parts` are columns.
    #[inline(always)]
    pub(super) fn add<V: Vector>(&mut self, totals: &Column, parts: &[&Column], years: usize) {
        let mut buckets = [0; MAX_LANES];
        let listed = if self.listed.is_some() { self.add_listed(&totals[..years], parts) } else { 0 };
        let start = listed / V::LANES * V::LANES;
        for first in (start..years).step_by(V::LANES) {
            V::buckets::<8>(V::load(&totals[first..])).store(&mut buckets);
            for (lane, &bucket) in buckets.iter().enumerate().take(V::LANES.min(years - first)) {
                if first + lane < listed {
                    continue;
                }
                let year = (first + lane) % MAX_BATCH_YEARS;
                let row = self.row_of(bucket as usize);
                for (sum, column) in self.recent[row * self.parts..][..self.parts].iter_mut().zip(parts) {
                    *sum += column[year];
                }
                self.recent_iterations[row] += 1;
                if self.recent_iterations[row] == MAX_RECENT {
                    self.add_recent(row);
                }
            }
        }
    }

    /// Adds iterations by their totals, as long as these are listed, and returns the number of
    /// these iterations. After that, the sums are in rows.
    #[cold]
    #[inline(never)]
    fn add_listed(&mut self, totals: &[u64], parts: &[&Column]) -> usize {
        let Some(mut classes) = self.listed.take() else { return 0 };
        for (year, &total) in totals.iter().enumerate() {
            let sums = classes.of_amount(total, |sums, added| add_sums(sums, added.into_iter()));
            add_sums(sums, parts.iter().map(|column| column[year].into()));
            if !classes.is_listed() {
                for (bucket, sums) in classes.iter() {
                    let row = self.row_of(bucket as usize);
                    self.sums[row * self.parts..][..self.parts].copy_from_slice(sums);
                }
                return year + 1;
            }
        }
        self.listed = Some(classes);
        totals.len()
    }

    #[inline]
    fn row_of(&mut self, bucket: usize) -> usize {
        if self.rows[bucket] == 0 {
            self.recent.resize(self.recent.len() + self.parts, 0);
            self.sums.resize(self.recent.len(), 0);
            self.recent_iterations.push(0);
            self.rows[bucket] = self.recent_iterations.len() as u32;
        }
        self.rows[bucket] as usize - 1
    }

    fn add_recent(&mut self, row: usize) {
        self.recent_iterations[row] = 0;
        let parts = row * self.parts..(row + 1) * self.parts;
        for (sum, recent) in self.sums[parts.clone()].iter_mut().zip(&mut self.recent[parts]) {
            *sum += u128::from(std::mem::take(recent));
        }
    }

    pub(super) fn finish(mut self) -> Vec<AllocationClass> {
        if let Some(classes) = self.listed {
            let class = |(number, sums): (u64, &Vec<u128>)| AllocationClass { number, sums: sums.clone() };
            return classes.iter().map(class).collect();
        }
        (0..self.recent_iterations.len()).for_each(|row| self.add_recent(row));
        let rows = (0..).zip(&self.rows).filter(|&(_, &row)| row > 0);
        let sums = |row: u32| self.sums[(row as usize - 1) * self.parts..][..self.parts].to_vec();
        rows.map(|(number, &row)| AllocationClass { number, sums: sums(row) }).collect()
    }
}
