//! The scalar reference: executes one iteration after another and one draw after another. It is the
//! norm for every other backend and follows sections 4, 7 and 8 of docs/determinism.md, so it must
//! not be optimised.

use std::ops::Range;

use forge_contract::{
    digest::Digest,
    program::{AmountTable, Component, INDEX_FRACTION_BITS, MAX_AMOUNT, Occurrence, Program},
    shard::{LEAF_ITERATIONS, Shard},
    shard_result::ShardResult,
    table::{OCTAVES, Segment},
};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

use super::{
    Backend, ExecutionControl, ExecutionError,
    iteration::{ComponentAmount, IterationObserver, IterationOutcome},
    result_builder::ResultBuilder,
};
use crate::{seed_tree::leaf_seeds, treaties::Year};

/// Most work, in the unit of [`Program::max_work`], between two calls of
/// [`ExecutionControl::advance`]. A leaf of a large portfolio takes an hour, and a cancellation
/// must not wait for its end.
const MAX_UNREPORTED_WORK: u64 = 1 << 26;

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

/// Iterations between two calls of [`ExecutionControl::advance`].
pub(crate) fn report_interval(program: &Program) -> u64 {
    (MAX_UNREPORTED_WORK / program.max_work()).clamp(1, LEAF_ITERATIONS)
}

fn execute_shard(
    program: &Program,
    shard: &Shard,
    control: &dyn ExecutionControl,
) -> Result<ShardResult, ExecutionError> {
    let mut executor = RangeExecutor::new(program);
    let leaves = shard.iterations.div_ceil(LEAF_ITERATIONS);
    let interval = report_interval(program);
    for (leaf, seed) in (0..).zip(leaf_seeds(shard.seed, shard.id.height, leaves)) {
        let iterations = LEAF_ITERATIONS.min(shard.iterations - leaf * LEAF_ITERATIONS);
        for start in (0..iterations).step_by(interval as usize) {
            let end = iterations.min(start + interval);
            executor.execute(seed, start..end);
            if control.advance(end - start).is_break() {
                return Err(ExecutionError::Cancelled);
            }
        }
    }
    Ok(executor.finish())
}

/// Executes a range of iterations of one leaf.
pub(crate) fn execute_range(program: &Program, leaf_seed: Digest, iterations: Range<u64>) -> ShardResult {
    let mut executor = RangeExecutor::new(program);
    executor.execute(leaf_seed, iterations);
    executor.finish()
}

/// Executes ranges of iterations, and gives one result of all.
pub(super) struct RangeExecutor<'a> {
    interpreter: Interpreter<'a>,
    result: ResultBuilder<'a>,
}

impl<'a> RangeExecutor<'a> {
    pub(super) fn new(program: &'a Program) -> Self {
        Self { interpreter: Interpreter::new(program), result: ResultBuilder::new(program) }
    }

    /// Executes a range of iterations of one leaf.
    pub(super) fn execute(&mut self, leaf_seed: Digest, iterations: Range<u64>) {
        for iteration in iterations {
            self.interpreter.execute(leaf_seed, iteration, &mut self.result);
        }
    }

    pub(super) fn finish(self) -> ShardResult {
        self.result.finish()
    }
}

/// A program, with what is the same in all iterations.
pub(crate) struct Interpreter<'a> {
    program: &'a Program,
    /// The distinct steps of the treaties, ascending.
    steps: Vec<u32>,
    /// Whether the occurrences of the groups follow in random order.
    interleaves: bool,
    /// For each group, the number of components before it.
    first_components: Vec<usize>,
}

impl<'a> Interpreter<'a> {
    pub(crate) fn new(program: &'a Program) -> Self {
        let mut count = 0;
        let first_components = program.groups.iter().map(|group| {
            count += group.components.len();
            count - group.components.len()
        });
        Self {
            program,
            steps: program.steps(),
            interleaves: program.interleaves(),
            first_components: first_components.collect(),
        }
    }

    /// Executes one iteration: draws all counts, the indices and the annual amounts, then one
    /// occurrence after another.
    pub(crate) fn execute(&self, leaf_seed: Digest, iteration: u64, observer: &mut impl IterationObserver) {
        let mut stream = ChaCha8Rng::from_seed(leaf_seed.0);
        stream.set_stream(iteration);
        let groups = &self.program.groups;
        let counts: Vec<u64> = groups
            .iter()
            .map(|group| match group.occurrence {
                Occurrence::Annual => 0,
                _ => group.counts.count(stream.next_u64()).into(),
            })
            .collect();
        let factor = |index| amount_in_table(index, stream.next_u64());
        let factors: Vec<u64> = self.program.indices.iter().map(factor).collect();

        let mut year = Year::new(&self.program.treaties, &self.steps, self.program.lines as usize);
        let mut group_totals = vec![0u64; groups.len()];
        let mut amounts = vec![0u64; self.program.lines as usize];
        let annual = groups.iter().enumerate().filter(|(_, g)| g.occurrence == Occurrence::Annual);
        for (group, _) in annual {
            self.draw_amounts(group, &factors, &mut stream, &mut amounts, observer);
            group_totals[group] = amounts.iter().sum();
            year.add_annual(group, &mut amounts, observer);
        }
        let mut largest = 0;
        let mut remaining = counts.clone();
        while let Some(group) = self.next_group(&remaining, &mut stream) {
            remaining[group] -= 1;
            self.draw_amounts(group, &factors, &mut stream, &mut amounts, observer);
            let occurrence = amounts.iter().sum::<u64>();
            largest = occurrence.max(largest);
            group_totals[group] = group_totals[group].saturating_add(occurrence);
            year.add_occurrence(group, &mut amounts, observer);
        }
        observer.start_closing();
        let year = year.close(observer);
        observer.end_iteration(&IterationOutcome { counts, group_totals, largest, year });
    }

    /// The group of the next occurrence; `None` after the last one. Where the order matters, every
    /// order of the remaining occurrences is equally likely.
    fn next_group(&self, remaining: &[u64], stream: &mut ChaCha8Rng) -> Option<usize> {
        let first = remaining.iter().position(|&count| count > 0)?;
        let all: u64 = remaining.iter().sum();
        if !self.interleaves || remaining[first] == all {
            return Some(first);
        }
        let mut place = ((u128::from(stream.next_u64()) * u128::from(all)) >> 64) as u64;
        remaining.iter().position(|&count| {
            let is_here = place < count;
            place = place.wrapping_sub(count);
            is_here
        })
    }

    /// Draws the amounts of one occurrence, or of one year, for every line.
    fn draw_amounts(
        &self,
        group: usize,
        factors: &[u64],
        stream: &mut ChaCha8Rng,
        amounts: &mut [u64],
        observer: &mut impl IterationObserver,
    ) {
        observer.start_occurrence(group);
        let components = &self.program.groups[group].components;
        let struck = match &self.program.groups[group].occurrence {
            Occurrence::Claim { pick: None } => 0..1,
            Occurrence::Claim { pick: Some(pick) } => {
                let picked = pick.count(stream.next_u64()) as usize;
                picked..picked + 1
            }
            Occurrence::Strike | Occurrence::Annual => 0..components.len(),
        };
        amounts.fill(0);
        let mut draw = 0;
        for index in struck {
            let component = &components[index];
            if !component.same_rank {
                draw = stream.next_u64();
            }
            let loss = loss_of_draw(component, factors, draw);
            let limited = component.terms.limited(loss);
            let paid = component.terms.share.of(limited);
            let line = component.line as usize;
            amounts[line] += paid;
            observer.add_amount(&ComponentAmount {
                component: self.first_components[group] + index,
                line,
                loss,
                paid,
                is_capped: limited == component.terms.limit,
            });
        }
    }
}

/// The amount of a component before its terms, at most [`MAX_AMOUNT`].
pub(crate) fn loss_of_draw(component: &Component, factors: &[u64], draw: u64) -> u64 {
    let amount = amount_in_table(&component.amounts, draw).min(MAX_AMOUNT);
    match component.index {
        None => amount,
        Some(index) => {
            let product = u128::from(amount) * u128::from(factors[index as usize]);
            (product >> INDEX_FRACTION_BITS).min(MAX_AMOUNT.into()) as u64
        }
    }
}

/// The amount of a draw in a table.
pub(crate) fn amount_in_table(table: &AmountTable, draw: u64) -> u64 {
    match table {
        AmountTable::Quantiles { segment_bits, segments } => amount_of_draw(*segment_bits, segments, draw),
        AmountTable::Steps { thresholds, amounts } => {
            amounts[thresholds.partition_point(|&threshold| threshold <= draw)]
        }
        AmountTable::Linear { thresholds, amounts } => amount_between_knots(thresholds, amounts, draw),
    }
}

/// The amount of a draw in a linear table, rounded to the nearest whole one. The draw stands for
/// the middle of its interval, and so is never on a knot.
fn amount_between_knots(thresholds: &[u64], amounts: &[u64], draw: u64) -> u64 {
    let piece = thresholds.partition_point(|&threshold| threshold <= draw);
    let start = if piece == 0 { 0 } else { thresholds[piece - 1] };
    let end = thresholds.get(piece).map_or(1 << 64, |&end| u128::from(end));
    let width = end - u128::from(start);
    let (low, high) = (amounts[piece], amounts[piece + 1]);
    let part = u128::from(high - low) * (2 * u128::from(draw - start) + 1);
    low + ((part + width) / (2 * width)) as u64
}

/// The amount of a draw in a quantile table.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{double_double::DoubleDouble, seed_tree, standard_quantiles, tables};
    use forge_contract::{plain_program::plain_program, shard::ShardId};

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
        let counts = crate::counts::CountLaw::Constant(2).table().unwrap();
        let amounts = tables::quantile_table(standard_quantiles::normal(6), &|z: DoubleDouble| {
            z.scale(10.0) + DoubleDouble::from(500.0)
        });
        let program = plain_program(1, 7, 1010, 6, [(counts, amounts.unwrap(), 505)]);
        let id = ShardId { height: 1, index: 3 };
        let seed = seed_tree::shard_seed(seed_tree::explicit_root("x"), id);
        let shard = Shard { id, iterations: LEAF_ITERATIONS + 3, seed };
        let result = Scalar.execute(&program, &[shard], &()).unwrap().remove(0);
        assert_eq!(result.iterations, LEAF_ITERATIONS + 3);
        assert_eq!(result.components[0].occurrences, 2 * (LEAF_ITERATIONS + 3));
        assert!(result.total.max <= 1010 && result.largest.max == 505);
        assert_eq!(ShardResult::decode(&result.encode()), Ok(result));
    }

    #[test]
    fn amounts_between_knots_are_linear_and_rounded() {
        let (half, last) = (1 << 63, u64::MAX);
        let table = AmountTable::Linear { thresholds: vec![half, last], amounts: vec![0, 100, 100, 110] };
        let amount = |draw| amount_in_table(&table, draw);
        assert_eq!([0, half / 100, half - 1, half, last - 1].map(amount), [0, 1, 100, 100, 100]);
        // The last piece has one draw, which stands for its middle.
        assert_eq!(amount(last), 105);
        // An amount is rounded at its half.
        let step = half / 100;
        assert_eq!([step / 2 - 1, step / 2 + 1].map(amount), [0, 1]);
        let whole = AmountTable::Linear { thresholds: vec![], amounts: vec![0, MAX_AMOUNT] };
        assert_eq!([0, half, last].map(|draw| amount_in_table(&whole, draw)), [0, 1 << 52, MAX_AMOUNT]);
        // A piece without a draw is passed over.
        let table = AmountTable::Linear { thresholds: vec![0, half, half], amounts: vec![1, 2, 4, 9, 9] };
        assert_eq!([0, half].map(|draw| amount_in_table(&table, draw)), [2, 9]);
    }
}
