//! The scratch buffer of the SIMD backend: dense u32 histograms, reused from shard to shard.

use ethnum::U256;
use forge_contract::{
    plain_program::PlainProgram,
    shard_result::{Distribution, ShardResult, Tally, bucket_of},
};

/// Accumulates the result of a shard.
pub(super) struct Scratch {
    pub(super) iterations: u64,
    pub(super) occurrences: Vec<u64>,
    pub(super) capped_occurrences: Vec<u64>,
    pub(super) capped: u64,
    pub(super) sum: u128,
    pub(super) sum_squares: U256,
    /// The marks of the program.
    pub(super) marks: Vec<u64>,
    /// For each mark, the iterations whose total is on it and those whose largest occurrence is on
    /// it.
    pub(super) at_marks: Vec<[u64; 2]>,
    pub(super) total: BucketCounters,
    pub(super) largest: BucketCounters,
}

/// BucketCounters and extremes of one quantity. A u32 counter suffices: a shard has at most 2^28
/// iterations.
pub(super) struct BucketCounters {
    pub(super) min: u64,
    pub(super) max: u64,
    /// A counter for each value of a u16, more than there are buckets, so that indexing needs no
    /// bounds check.
    counts: Box<[u32; 1 << 16]>,
}

impl Scratch {
    /// An empty buffer, usable for every program after [`Scratch::prepare`].
    pub(super) fn new() -> Self {
        Self {
            iterations: 0,
            occurrences: Vec::new(),
            capped_occurrences: Vec::new(),
            capped: 0,
            sum: 0,
            sum_squares: U256::ZERO,
            marks: Vec::new(),
            at_marks: Vec::new(),
            total: BucketCounters::new(),
            largest: BucketCounters::new(),
        }
    }

    /// Prepares an empty buffer for a program.
    pub(super) fn prepare(&mut self, program: &PlainProgram<'_>) {
        let components = program.components.len();
        self.occurrences = vec![0; components];
        self.capped_occurrences = vec![0; components];
        self.marks = program.marks().to_vec();
        self.at_marks = vec![[0; 2]; self.marks.len()];
    }

    /// Takes the result and leaves the buffer empty.
    pub(super) fn take_result(&mut self) -> ShardResult {
        let tallies = self.occurrences.iter().zip(&self.capped_occurrences);
        let at_marks = |which: usize| self.at_marks.iter().map(|counts| counts[which]).collect();
        let result = ShardResult {
            iterations: self.iterations,
            components: tallies.map(|(&occurrences, &capped)| Tally { occurrences, capped }).collect(),
            capped: self.capped,
            sum: self.sum,
            sum_squares: self.sum_squares,
            total: self.total.take_distribution(at_marks(0)),
            largest: self.largest.take_distribution(at_marks(1)),
            details: None,
        };
        (self.iterations, self.capped, self.sum, self.sum_squares) = (0, 0, 0, U256::ZERO);
        result
    }
}

impl BucketCounters {
    fn new() -> Self {
        Self { min: u64::MAX, max: 0, counts: vec![0; 1 << 16].try_into().expect("2^16 counters") }
    }

    #[inline(always)]
    pub(super) fn count(&mut self, bucket: u64) {
        self.counts[usize::from(bucket as u16)] += 1;
    }

    fn take_distribution(&mut self, at_marks: Vec<u64>) -> Distribution {
        let (min, max) = (self.min, self.max);
        (self.min, self.max) = (u64::MAX, 0);
        if min > max {
            return Distribution {
                min: u64::MAX,
                max: 0,
                at_marks,
                histogram: Vec::new(),
                listed: Vec::new(),
            };
        }
        let first = bucket_of(min);
        let used = &mut self.counts[first..=bucket_of(max)];
        let buckets = (first as u32..).zip(used.iter()).filter(|&(_, &count)| count > 0);
        let histogram = buckets.map(|(bucket, &count)| (bucket, u64::from(count))).collect();
        used.fill(0);
        Distribution { min, max, at_marks, histogram, listed: Vec::new() }
    }
}
