//! The scalar reference: executes one iteration after another and one draw after another. It is the
//! norm for every other backend and follows sections 4, 7 and 8 of docs/determinism.md, so it must
//! not be optimised.

use std::ops::Range;

use ethnum::U256;
use forge_contract::{
    digest::Digest,
    program::{MAX_AMOUNT, OCTAVES, Program, Segment},
    shard::{LEAF_ITERATIONS, Shard},
    shard_result::{Distribution, HISTOGRAM_BUCKETS, ShardResult, Tally, bucket_of},
};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

use super::{Backend, ExecutionControl, ExecutionError};
use crate::seed_tree::leaf_seeds;

/// The reference backend.
#[derive(Debug, Clone, Copy, Default)]
pub struct Scalar;

impl Backend for Scalar {
    fn name(&self) -> &str {
        "scalar"
    }

    fn execute(
        &self,
        program: &Program,
        shards: &[Shard],
        control: &dyn ExecutionControl,
    ) -> Result<Vec<ShardResult>, ExecutionError> {
        shards.iter().map(|shard| execute_shard(program, shard, control)).collect()
    }
}

fn execute_shard(
    program: &Program,
    shard: &Shard,
    control: &dyn ExecutionControl,
) -> Result<ShardResult, ExecutionError> {
    let mut result = ResultBuilder::new(program);
    let leaves = shard.iterations.div_ceil(LEAF_ITERATIONS);
    for (leaf, seed) in (0..).zip(leaf_seeds(shard.seed, shard.id.height, leaves)) {
        let iterations = LEAF_ITERATIONS.min(shard.iterations - leaf * LEAF_ITERATIONS);
        for iteration in 0..iterations {
            execute_iteration(program, seed, iteration, &mut result);
        }
        if control.advance(iterations).is_break() {
            return Err(ExecutionError::Cancelled);
        }
    }
    Ok(result.finish())
}

/// Executes a range of iterations of one leaf.
pub(super) fn execute_range(program: &Program, leaf_seed: Digest, iterations: Range<u64>) -> ShardResult {
    let mut result = ResultBuilder::new(program);
    for iteration in iterations {
        execute_iteration(program, leaf_seed, iteration, &mut result);
    }
    result.finish()
}

/// Executes one iteration: draws all counts first, then one amount for each occurrence.
fn execute_iteration(program: &Program, leaf_seed: Digest, iteration: u64, result: &mut ResultBuilder) {
    let mut stream = ChaCha8Rng::from_seed(leaf_seed.0);
    stream.set_stream(iteration);
    let counts: Vec<u32> = program.components.iter().map(|c| c.counts.count(stream.next_u64())).collect();
    let (mut total, mut largest) = (program.base, 0);
    for (index, component) in program.components.iter().enumerate() {
        for _ in 0..counts[index] {
            let raw = amount_of_draw(program.segment_bits, &component.amounts, stream.next_u64());
            let amount = raw.min(component.cap);
            result.components[index].occurrences += 1;
            result.components[index].capped += u64::from(amount == component.cap);
            total = (total + amount).min(MAX_AMOUNT);
            largest = largest.max(amount);
        }
    }
    result.add_iteration(total.min(program.cap), largest.min(program.cap));
}

/// The amount of one occurrence, before the component's cap.
#[inline]
pub(crate) fn amount_of_draw(segment_bits: u32, table: &[Segment], draw: u64) -> u64 {
    let (index, y) = locate(draw, segment_bits);
    interpolate(table[index], y as i64)
}

/// Locates a draw in a quantile table: the index of its segment, and its position y in the segment,
/// below 2^31.
#[inline]
pub(super) fn locate(draw: u64, segment_bits: u32) -> (usize, u64) {
    // The draw stands for u = (draw + 1/2) / 2^64. Its distance from the nearer end is t = w / 2^65
    // with w odd.
    let upper = draw >> 63 == 1;
    let distance = if upper { !draw } else { draw };
    let w = 2 * distance + 1;
    // w lies in octave `rank`. The bits below its leading bit are the segment, then the position in
    // the segment.
    let rank = w.ilog2();
    let normalised = w << (63 - rank);
    let segment = (normalised << 1) >> (64 - segment_bits);
    let fraction = (normalised << 1 << segment_bits) >> 33;
    // y ascends with the amount. In the upper half t descends with the amount, so y is reversed.
    let y = if upper { (1 << 31) - 1 - fraction } else { fraction };
    let half = OCTAVES << segment_bits;
    (usize::from(upper) * half + ((rank as usize) << segment_bits) + segment as usize, y)
}

/// The quadratic of a segment at y, rounded down. `>>` of a negative number is arithmetic, so it is
/// the floor too.
fn interpolate(segment: Segment, y: i64) -> u64 {
    let slope = i64::from(segment.slope) + ((y * i64::from(segment.curve)) >> 31);
    let value = (i64::from(segment.left) << 31) + y * slope;
    (value.max(0) >> segment.shift) as u64
}

/// Accumulates the result of a shard.
struct ResultBuilder {
    iterations: u64,
    components: Vec<Tally>,
    cap: u64,
    capped: u64,
    sum: u128,
    sum_squares: U256,
    total: DistributionBuilder,
    largest: DistributionBuilder,
}

impl ResultBuilder {
    fn new(program: &Program) -> Self {
        Self {
            iterations: 0,
            components: vec![Tally::default(); program.components.len()],
            cap: program.cap,
            capped: 0,
            sum: 0,
            sum_squares: U256::ZERO,
            total: DistributionBuilder::new(program.marks()),
            largest: DistributionBuilder::new(program.marks()),
        }
    }

    fn add_iteration(&mut self, total: u64, largest: u64) {
        self.iterations += 1;
        self.capped += u64::from(total == self.cap);
        self.sum += u128::from(total);
        self.sum_squares += U256::from(u128::from(total) * u128::from(total));
        self.total.add(total);
        self.largest.add(largest);
    }

    fn finish(self) -> ShardResult {
        ShardResult {
            iterations: self.iterations,
            components: self.components,
            capped: self.capped,
            sum: self.sum,
            sum_squares: self.sum_squares,
            total: self.total.finish(),
            largest: self.largest.finish(),
        }
    }
}

/// Accumulates the distribution of one quantity.
struct DistributionBuilder {
    min: u64,
    max: u64,
    marks: Vec<u64>,
    at_marks: Vec<u64>,
    histogram: Vec<u64>,
}

impl DistributionBuilder {
    fn new(marks: Vec<u64>) -> Self {
        let at_marks = vec![0; marks.len()];
        Self { min: u64::MAX, max: 0, marks, at_marks, histogram: vec![0; HISTOGRAM_BUCKETS] }
    }

    fn add(&mut self, amount: u64) {
        self.min = self.min.min(amount);
        self.max = self.max.max(amount);
        if let Ok(mark) = self.marks.binary_search(&amount) {
            self.at_marks[mark] += 1;
        }
        self.histogram[bucket_of(amount)] += 1;
    }

    fn finish(self) -> Distribution {
        let buckets = (0..).zip(self.histogram).filter(|&(_, count)| count > 0);
        Distribution { min: self.min, max: self.max, at_marks: self.at_marks, histogram: buckets.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{double_double::DoubleDouble, seed_tree, standard_quantiles, tables};
    use forge_contract::{program::Component, shard::ShardId};

    #[test]
    fn amounts_round_to_the_nearest_minor_unit() {
        let table = tables::quantile_table(standard_quantiles::normal(6), &|z: DoubleDouble| {
            z.scale(100.0) + DoubleDouble::from(1000.0)
        })
        .unwrap();
        // z at the quartiles is ∓0.67449, so the amounts are 932.55 and 1067.45; at the middle
        // 1000.
        let at = |draw| amount_of_draw(6, &table, draw);
        assert_eq!([at(1 << 62), at(3 << 62), at(1 << 63), at((1 << 63) - 1)], [933, 1067, 1000, 1000]);
        // The first and the last draw lie 2^-65 from the ends, where z = ∓9.1552.
        assert_eq!(at(u64::MAX), 1000 + 916);
        assert_eq!(at(0), 1000 - 916);
    }

    #[test]
    fn shard_counts_all_its_iterations() {
        let component = Component {
            counts: crate::counts::CountLaw::Constant(2).table().unwrap(),
            amounts: tables::quantile_table(standard_quantiles::normal(6), &|z: DoubleDouble| {
                z.scale(10.0) + DoubleDouble::from(500.0)
            })
            .unwrap(),
            cap: 505,
        };
        let program = Program { units: 1, segment_bits: 6, base: 7, cap: 1010, components: vec![component] };
        let id = ShardId { height: 1, index: 3 };
        let seed = seed_tree::shard_seed(seed_tree::explicit_root("x"), id);
        let shard = Shard { id, iterations: LEAF_ITERATIONS + 3, seed };
        let result = Scalar.execute(&program, &[shard], &()).unwrap().remove(0);
        assert_eq!(result.iterations, LEAF_ITERATIONS + 3);
        assert_eq!(result.components[0].occurrences, 2 * (LEAF_ITERATIONS + 3));
        assert!(result.total.max <= 1010 && result.largest.max == 505);
        assert_eq!(ShardResult::decode(&result.encode()), Ok(result));
    }
}
