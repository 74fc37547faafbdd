//! Reduction: exact merging of shard results by integer addition. Any grouping and any order give
//! the same bytes.

use ethnum::U256;
use forge_contract::{
    listed_amounts::ListedAmounts,
    program::Program,
    shard_result::{Distribution, HISTOGRAM_BUCKETS, ShardResult, Tally, bucket_of},
};

use crate::{
    details_reduction::DetailsReduction,
    result_shape::{ResultShape, ShapeMismatch},
};

/// A running merge of shard results. Its memory does not grow with the number of results.
#[derive(Debug, Clone)]
pub struct Reduction {
    shape: ResultShape,
    iterations: u64,
    components: Vec<Tally>,
    capped: u64,
    sum: u128,
    sum_squares: U256,
    total: DenseDistribution,
    largest: DenseDistribution,
    details: Option<DetailsReduction>,
}

impl Reduction {
    /// A merge of no results.
    pub fn new(program: &Program) -> Self {
        let marks = program.marks().len();
        Self {
            shape: ResultShape::new(program),
            iterations: 0,
            components: vec![Tally::default(); program.component_count()],
            capped: 0,
            sum: 0,
            sum_squares: U256::ZERO,
            total: DenseDistribution::new(marks),
            largest: DenseDistribution::new(marks),
            details: program.details.then(|| DetailsReduction::new(program)),
        }
    }

    /// Iterations merged so far.
    pub fn iterations(&self) -> u64 {
        self.iterations
    }

    /// Merges a result.
    ///
    /// # Errors
    /// [`ShapeMismatch`], when the result is of another program. The merge is then unchanged.
    pub fn add(&mut self, result: &ShardResult) -> Result<(), ShapeMismatch> {
        self.shape.check(result)?;
        if let (Some(details), Some(added)) = (&mut self.details, &result.details) {
            details.add(added, !result.total.listed.is_empty());
        }
        self.iterations += result.iterations;
        for (tally, added) in self.components.iter_mut().zip(&result.components) {
            tally.occurrences += added.occurrences;
            tally.capped += added.capped;
        }
        self.capped += result.capped;
        self.sum += result.sum;
        self.sum_squares += result.sum_squares;
        self.total.add(&result.total);
        self.largest.add(&result.largest);
        Ok(())
    }

    /// The merge so far, as one shard result.
    pub fn result(&self) -> ShardResult {
        ShardResult {
            iterations: self.iterations,
            components: self.components.clone(),
            capped: self.capped,
            sum: self.sum,
            sum_squares: self.sum_squares,
            total: self.total.distribution(),
            largest: self.largest.distribution(),
            details: self.details.as_ref().map(DetailsReduction::details),
        }
    }
}

/// Merges results of one program.
///
/// # Panics
/// If a result has another number of components or marks than the program.
pub fn merge_results(program: &Program, results: &[ShardResult]) -> ShardResult {
    let mut reduction = Reduction::new(program);
    for result in results {
        reduction.add(result).expect("every result has the shape of the program");
    }
    reduction.result()
}

/// A distribution that holds all buckets, empty ones included.
#[derive(Debug, Clone)]
struct DenseDistribution {
    min: u64,
    max: u64,
    at_marks: Vec<u64>,
    histogram: Vec<u64>,
    listed: ListedAmounts,
}

impl DenseDistribution {
    fn new(marks: usize) -> Self {
        let (at_marks, histogram) = (vec![0; marks], vec![0; HISTOGRAM_BUCKETS]);
        Self { min: u64::MAX, max: 0, at_marks, histogram, listed: ListedAmounts::new(true) }
    }

    fn add(&mut self, added: &Distribution) {
        self.min = self.min.min(added.min);
        self.max = self.max.max(added.max);
        self.at_marks.iter_mut().zip(&added.at_marks).for_each(|(a, b)| *a += b);
        self.listed.merge(added);
        for &(bucket, count) in &added.histogram {
            self.histogram[bucket as usize] += count;
        }
    }

    fn distribution(&self) -> Distribution {
        let used = if self.min > self.max { 0..0 } else { bucket_of(self.min)..bucket_of(self.max) + 1 };
        let buckets = used.map(|bucket| (bucket as u32, self.histogram[bucket]));
        Distribution {
            min: self.min,
            max: self.max,
            at_marks: self.at_marks.clone(),
            histogram: buckets.filter(|&(_, count)| count > 0).collect(),
            listed: self.listed.list(),
        }
    }
}
