//! Reduction: exact merging of shard results, by integer addition. Any grouping, any order, the same bytes.

use ethnum::U256;
use forge_contract::{
    program::Program,
    shard_result::{Distribution, HISTOGRAM_BUCKETS, ShardResult, Tally, bucket_of},
};

/// A merge of shard results: constant memory, whatever the number of iterations.
#[derive(Debug, Clone)]
pub struct Reduction {
    iterations: u64,
    components: Vec<Tally>,
    capped: u64,
    sum: u128,
    sum_squares: U256,
    total: Dense,
    largest: Dense,
}

/// A result does not belong to this run: another number of components or of marks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the result has {components} components and {marks} marks, where the program has {expected_components} and {expected_marks}"
)]
pub struct ShapeMismatch {
    components: usize,
    marks: usize,
    expected_components: usize,
    expected_marks: usize,
}

impl Reduction {
    /// The merge of nothing.
    pub fn new(program: &Program) -> Self {
        let marks = program.marks().len();
        Self {
            iterations: 0,
            components: vec![Tally::default(); program.components.len()],
            capped: 0,
            sum: 0,
            sum_squares: U256::ZERO,
            total: Dense::new(marks),
            largest: Dense::new(marks),
        }
    }

    /// Iterations merged so far.
    pub fn iterations(&self) -> u64 {
        self.iterations
    }

    /// Adds a result.
    ///
    /// # Errors
    /// [`ShapeMismatch`]; then nothing is added.
    pub fn add(&mut self, result: &ShardResult) -> Result<(), ShapeMismatch> {
        let shape =
            |components: usize, total: &[u64], largest: &[u64]| (components, total.len(), largest.len());
        let found = shape(result.components.len(), &result.total.at_marks, &result.largest.at_marks);
        let expected = shape(self.components.len(), &self.total.at_marks, &self.largest.at_marks);
        if found != expected {
            return Err(ShapeMismatch {
                components: found.0,
                marks: found.1,
                expected_components: expected.0,
                expected_marks: expected.1,
            });
        }
        self.iterations += result.iterations;
        for (tally, more) in self.components.iter_mut().zip(&result.components) {
            tally.occurrences += more.occurrences;
            tally.capped += more.capped;
        }
        self.capped += result.capped;
        self.sum += result.sum;
        self.sum_squares += result.sum_squares;
        self.total.add(&result.total);
        self.largest.add(&result.largest);
        Ok(())
    }

    /// The merge as one result.
    pub fn result(&self) -> ShardResult {
        ShardResult {
            iterations: self.iterations,
            components: self.components.clone(),
            capped: self.capped,
            sum: self.sum,
            sum_squares: self.sum_squares,
            total: self.total.distribution(),
            largest: self.largest.distribution(),
        }
    }
}

/// The merge of results of one program.
///
/// # Panics
/// When a result has another number of components or marks than the program.
pub fn merge_results(program: &Program, results: &[ShardResult]) -> ShardResult {
    let mut reduction = Reduction::new(program);
    for result in results {
        reduction.add(result).expect("the results are of this program");
    }
    reduction.result()
}

/// A distribution with all its buckets.
#[derive(Debug, Clone)]
struct Dense {
    min: u64,
    max: u64,
    at_marks: Vec<u64>,
    histogram: Vec<u64>,
}

impl Dense {
    fn new(marks: usize) -> Self {
        Self { min: u64::MAX, max: 0, at_marks: vec![0; marks], histogram: vec![0; HISTOGRAM_BUCKETS] }
    }

    fn add(&mut self, more: &Distribution) {
        self.min = self.min.min(more.min);
        self.max = self.max.max(more.max);
        self.at_marks.iter_mut().zip(&more.at_marks).for_each(|(a, b)| *a += b);
        for &(bucket, count) in &more.histogram {
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
        }
    }
}
