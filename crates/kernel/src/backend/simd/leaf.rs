//! Executes a leaf, one iteration in each lane. Draws, integers and their order within an iteration
//! are those of the scalar reference. Across iterations only sums, counts and extremes are kept,
//! which do not depend on the order.

use std::array::from_fn;

use ethnum::U256;
use forge_contract::{
    amount::MAX_AMOUNT,
    plain_program::{MAX_PLAIN_COMPONENTS, PlainProgram},
};

use super::{
    chacha::{ChaChaKey, DRAWS_PER_BLOCK},
    scratch::Scratch,
    vector::{QuantileTables, Vector},
};

/// Groups between two transfers of the lane sums. 2^9 groups of 2 vectors of totals below 2^53 stay
/// below 2^63 in a lane.
const GROUPS_PER_TRANSFER: u64 = 512;

/// Executes the first `groups · 2 · LANES` iterations (at most 65,536) of a leaf and adds them to
/// `scratch`.
#[inline(always)]
pub(super) fn execute_leaf<V: Vector>(
    program: &PlainProgram<'_>,
    seed: &[u8; 32],
    groups: u64,
    scratch: &mut Scratch,
) {
    // Code specialised for the common numbers of components has no loops over components.
    match program.components.len() {
        1 => execute_components::<V, 1>(program, seed, groups, scratch),
        2 => execute_components::<V, 2>(program, seed, groups, scratch),
        3 => execute_components::<V, 3>(program, seed, groups, scratch),
        _ => execute_components::<V, MAX_PLAIN_COMPONENTS>(program, seed, groups, scratch),
    }
}

#[inline(always)]
fn execute_components<V: Vector, const C: usize>(
    program: &PlainProgram<'_>,
    seed: &[u8; 32],
    groups: u64,
    scratch: &mut Scratch,
) {
    let key = ChaChaKey::new(seed);
    let first_block = key.block_template(0);
    let group_size = 2 * V::LANES as u64;
    let lane_numbers = lane_numbers::<V>();
    for chunk in (0..groups).step_by(GROUPS_PER_TRANSFER as usize) {
        let mut sums = LaneSums::<V, C>::new();
        for group in chunk..(chunk + GROUPS_PER_TRANSFER).min(groups) {
            let streams = lane_numbers.add32(V::splat32((group * group_size) as u32));
            let mut halves = [IterationVector::<V, C>::new(program); 2];
            let mut draws = first_block.draws(streams);
            let mut block = 0;
            loop {
                let needs_block = [
                    halves[0].consume_block(program, block, &draws, 0, scratch),
                    halves[1].consume_block(program, block, &draws, 1, scratch),
                ];
                if needs_block == [false; 2] {
                    break;
                }
                block += 1;
                draws = key.block_template(block).draws(streams);
            }
            halves[0].accumulate(program, &mut sums, scratch);
            halves[1].accumulate(program, &mut sums, scratch);
        }
        sums.transfer(program, scratch);
    }
}

/// The numbers 0, 1, 2, … in u32 lanes.
#[inline(always)]
pub(super) fn lane_numbers<V: Vector>() -> V {
    V::load(&from_fn::<u64, 8, _>(|i| ((2 * i as u64 + 1) << 32) + 2 * i as u64))
}

/// The first block of `groups` groups of streams; the lanes' sum keeps the compiler from leaving it
/// scratch.
#[cfg(feature = "testing")]
#[inline(always)]
pub(super) fn keystream<V: Vector>(groups: u64) -> u64 {
    let block = ChaChaKey::new(&[7; 32]).block_template(0);
    let group_size = 2 * V::LANES as u64;
    let mut sum = V::splat(0);
    for group in 0..groups {
        let draws = block.draws(lane_numbers::<V>().add32(V::splat32((group * group_size) as u32)));
        for halves in draws {
            sum = sum.add(halves[0]).add(halves[1]);
        }
    }
    sum_lanes(sum) as u64
}

/// The iterations in the lanes of one vector, during execution.
#[derive(Clone, Copy)]
struct IterationVector<V, const C: usize> {
    /// For each component, the occurrences of the components up to and including it.
    ends: [V; C],
    total: V,
    largest: V,
}

impl<V: Vector, const C: usize> IterationVector<V, C> {
    #[inline(always)]
    fn new(program: &PlainProgram<'_>) -> Self {
        Self { ends: [V::splat(0); C], total: V::splat(program.base), largest: V::splat(0) }
    }

    /// Consumes one block of draws. Returns whether any lane needs another block.
    #[inline(always)]
    fn consume_block(
        &mut self,
        program: &PlainProgram<'_>,
        block: u32,
        draws: &[[V; 2]; DRAWS_PER_BLOCK],
        half: usize,
        scratch: &mut Scratch,
    ) -> bool {
        let components = component_count::<C>(program);
        let first = block as usize * DRAWS_PER_BLOCK;
        let mut has_occurrences = true;
        for (i, halves) in draws.iter().enumerate() {
            let draw = halves[half];
            if first + i < components {
                self.draw_count(program, first + i, draw);
            } else if has_occurrences {
                let position = V::splat((first + i - components) as u64);
                has_occurrences = self.draw_amount(program, position, draw, scratch);
            }
        }
        let next = (first + DRAWS_PER_BLOCK) as u64;
        next < components as u64
            || V::any(V::greater_than(self.ends[components - 1], V::splat(next - components as u64)))
    }

    #[inline(always)]
    fn draw_count(&mut self, program: &PlainProgram<'_>, component: usize, draw: V) {
        let table = program.components[component].counts;
        let mut count = V::splat(u64::from(table.offset));
        if component > 0 {
            count = count.add(self.ends[component - 1]);
        }
        for thresholds in table.thresholds.chunks(8) {
            let mut reached = V::greater_than(V::splat(0), V::splat(0));
            for &threshold in thresholds {
                reached = draw.greater_equal_unsigned(V::splat(threshold));
                count = count.increment(reached);
            }
            if !V::any(reached) {
                break;
            }
        }
        self.ends[component] = count;
    }

    /// Draws the amounts of the occurrence at `position` in the lanes that have one. Returns
    /// whether any lane has.
    #[inline(always)]
    fn draw_amount(
        &mut self,
        program: &PlainProgram<'_>,
        position: V,
        draw: V,
        scratch: &mut Scratch,
    ) -> bool {
        let components = component_count::<C>(program);
        let mut remaining = V::greater_than(self.ends[components - 1], position);
        if !V::any(remaining) {
            return false;
        }
        for (index, component) in program.components.iter().enumerate().take(components) {
            let lanes = if index + 1 == components {
                remaining
            } else {
                V::mask_and(remaining, V::greater_than(self.ends[index], position))
            };
            if V::any(lanes) {
                let cap = V::splat(component.cap);
                let table = QuantileTables::new(program.segment_bits, component.amounts);
                let amount = V::look_up_amounts(table, None, draw, lanes).min(cap);
                scratch.capped_occurrences[index] += u64::from(V::count_set(amount.equal(cap)));
                self.total = self.total.add(amount).min(V::splat(MAX_AMOUNT));
                self.largest = self.largest.max_signed(amount);
                remaining = V::mask_and_not(remaining, lanes);
                if !V::any(remaining) {
                    break;
                }
            }
        }
        true
    }

    /// Adds the finished iterations to `sums` and `scratch`.
    #[inline(always)]
    fn accumulate(&self, program: &PlainProgram<'_>, sums: &mut LaneSums<V, C>, scratch: &mut Scratch) {
        let cap = V::splat(program.cap);
        let (total, largest) = (self.total.min(cap), self.largest.min(cap));
        sums.add(&self.ends, total, largest);
        scratch.capped += u64::from(V::count_set(total.equal(cap)));
        for (mark, counts) in scratch.marks.iter().zip(&mut scratch.at_marks) {
            let mark = V::splat(*mark);
            // Marks ascend, and no occurrence is above the total.
            if !V::any(total.greater_equal_unsigned(mark)) {
                break;
            }
            counts[0] += u64::from(V::count_set(total.equal(mark)));
            counts[1] += u64::from(V::count_set(largest.equal(mark)));
        }
        let (totals, largests) = (to_lanes(V::buckets::<10>(total)), to_lanes(V::buckets::<10>(largest)));
        for lane in 0..V::LANES {
            scratch.total.count(totals[lane]);
            scratch.largest.count(largests[lane]);
        }
    }
}

/// Number of components; a constant unless `C` is [`MAX_PLAIN_COMPONENTS`].
#[inline(always)]
fn component_count<const C: usize>(program: &PlainProgram<'_>) -> usize {
    if C == MAX_PLAIN_COMPONENTS { program.components.len() } else { C }
}

/// Sums and extremes in each lane.
struct LaneSums<V, const C: usize> {
    ends: [V; C],
    sum: V,
    /// With a total as high·2^32 + low: Σ of the low and of the high half of low·low, Σ low·high
    /// (`mixed`), Σ high·high.
    low_squares: [V; 2],
    mixed: V,
    high_squares: V,
    total: [V; 2],
    largest: [V; 2],
}

/// Minimum of no amounts: above every amount.
const NO_MINIMUM: u64 = i64::MAX as u64;

impl<V: Vector, const C: usize> LaneSums<V, C> {
    #[inline(always)]
    fn new() -> Self {
        let zero = V::splat(0);
        let extremes = [V::splat(NO_MINIMUM), zero];
        Self {
            ends: [zero; C],
            sum: zero,
            low_squares: [zero; 2],
            mixed: zero,
            high_squares: zero,
            total: extremes,
            largest: extremes,
        }
    }

    #[inline(always)]
    fn add(&mut self, ends: &[V; C], total: V, largest: V) {
        for (sum, end) in self.ends.iter_mut().zip(ends) {
            *sum = sum.add(*end);
        }
        self.sum = self.sum.add(total);
        let low_square = total.multiply_u32(total);
        self.low_squares[0] = self.low_squares[0].add(low_square.and(V::splat(u64::from(u32::MAX))));
        self.low_squares[1] = self.low_squares[1].add(low_square.shift_right::<32>());
        let high = total.shift_right::<32>();
        if V::any(V::greater_than(high, V::splat(0))) {
            self.mixed = self.mixed.add(total.multiply_u32(high));
            self.high_squares = self.high_squares.add(high.multiply_u32(high));
        }
        self.total = [self.total[0].min(total), self.total[1].max_signed(total)];
        self.largest = [self.largest[0].min(largest), self.largest[1].max_signed(largest)];
    }

    /// Adds the lane sums to `scratch`.
    #[inline(always)]
    fn transfer(&self, program: &PlainProgram<'_>, scratch: &mut Scratch) {
        let mut before = 0;
        for (tally, end) in scratch.occurrences.iter_mut().zip(&self.ends).take(component_count::<C>(program))
        {
            let end = sum_lanes(*end) as u64;
            *tally += end - before;
            before = end;
        }
        scratch.sum += sum_lanes(self.sum);
        let (low, high) = (sum_lanes(self.low_squares[0]), sum_lanes(self.low_squares[1]));
        // Each is below 2^76, so the sums of a chunk stay below 2^128 after the shifts by 0, 32 and
        // 33.
        scratch.sum_squares += U256::from(low + (high << 32));
        scratch.sum_squares += U256::from(sum_lanes(self.mixed)) << 33u32;
        scratch.sum_squares += U256::from(sum_lanes(self.high_squares)) << 64u32;
        for (extremes, lanes) in [(&mut scratch.total, self.total), (&mut scratch.largest, self.largest)] {
            extremes.min =
                extremes.min.min(to_lanes(lanes[0]).into_iter().take(V::LANES).min().unwrap_or(NO_MINIMUM));
            extremes.max = extremes.max.max(to_lanes(lanes[1]).into_iter().max().unwrap_or(0));
        }
    }
}

/// The lanes, padded with zeros.
#[inline(always)]
fn to_lanes<V: Vector>(vector: V) -> [u64; 8] {
    let mut lanes = [0; 8];
    vector.store(&mut lanes);
    lanes
}

#[inline(always)]
fn sum_lanes<V: Vector>(vector: V) -> u128 {
    to_lanes(vector).into_iter().map(u128::from).sum()
}
