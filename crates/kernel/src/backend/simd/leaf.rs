//! One leaf, many iterations at once: an iteration a lane, as on a GPU. Same draws, same integers, same order within an
//! iteration as the scalar reference; across iterations only sums, counts and extremes are kept, so order is free.

use std::array::from_fn;

use ethnum::U256;
use forge_contract::program::{MAX_AMOUNT, MAX_COMPONENTS, Program};

use super::{
    chacha::{DRAWS, Key},
    scratch::Scratch,
    vector::Vector,
};

/// Groups of iterations between two transfers of lane sums: 2^9 groups of 2 vectors of amounts below 2^53 stay below
/// 2^63 a lane.
const GROUPS: u64 = 512;

/// Executes the first `groups · 2 · LANES` iterations (up to 65,536) of a leaf and adds them to `out`.
#[inline(always)]
pub(super) fn execute<V: Vector>(program: &Program, seed: &[u8; 32], groups: u64, out: &mut Scratch) {
    // The usual numbers of components get code of their own, without loops over components.
    match program.components.len() {
        1 => execute_components::<V, 1>(program, seed, groups, out),
        2 => execute_components::<V, 2>(program, seed, groups, out),
        3 => execute_components::<V, 3>(program, seed, groups, out),
        _ => execute_components::<V, MAX_COMPONENTS>(program, seed, groups, out),
    }
}

#[inline(always)]
fn execute_components<V: Vector, const C: usize>(
    program: &Program,
    seed: &[u8; 32],
    groups: u64,
    out: &mut Scratch,
) {
    let key = Key::new(seed);
    let first_block = key.prepare(0);
    let lanes = 2 * V::LANES as u64;
    let lane_numbers = lane_numbers::<V>();
    for chunk in (0..groups).step_by(GROUPS as usize) {
        let mut sums = Sums::<V, C>::new();
        for group in chunk..(chunk + GROUPS).min(groups) {
            let streams = lane_numbers.add32(V::splat32((group * lanes) as u32));
            let mut years = [Years::<V, C>::new(program); 2];
            let mut draws = first_block.draws(streams);
            let mut block = 0;
            loop {
                let more = [
                    years[0].read(program, block, &draws, 0, out),
                    years[1].read(program, block, &draws, 1, out),
                ];
                if more == [false; 2] {
                    break;
                }
                block += 1;
                draws = key.prepare(block).draws(streams);
            }
            years[0].finish(program, &mut sums, out);
            years[1].finish(program, &mut sums, out);
        }
        sums.transfer(program, out);
    }
}

/// The numbers 0, 1, 2, … in u32 lanes.
#[inline(always)]
fn lane_numbers<V: Vector>() -> V {
    V::load(&from_fn::<u64, 8, _>(|i| ((2 * i as u64 + 1) << 32) + 2 * i as u64))
}

/// The first block of `groups` groups of streams; the lanes' sum keeps the compiler from leaving it out.
#[cfg(feature = "testing")]
#[inline(always)]
pub(super) fn keystream<V: Vector>(groups: u64) -> u64 {
    let block = Key::new(&[7; 32]).prepare(0);
    let lanes = 2 * V::LANES as u64;
    let mut sum = V::splat(0);
    for group in 0..groups {
        let draws = block.draws(lane_numbers::<V>().add32(V::splat32((group * lanes) as u32)));
        for halves in draws {
            sum = sum.add(halves[0]).add(halves[1]);
        }
    }
    add_up(sum) as u64
}

/// As many iterations as a vector has lanes, while they are executed.
#[derive(Clone, Copy)]
struct Years<V, const C: usize> {
    /// Occurrences of the components up to and including each.
    ends: [V; C],
    total: V,
    largest: V,
}

impl<V: Vector, const C: usize> Years<V, C> {
    #[inline(always)]
    fn new(program: &Program) -> Self {
        Self { ends: [V::splat(0); C], total: V::splat(program.base), largest: V::splat(0) }
    }

    /// Reads one block of draws; says whether any lane needs another.
    #[inline(always)]
    fn read(
        &mut self,
        program: &Program,
        block: u32,
        draws: &[[V; 2]; DRAWS],
        half: usize,
        out: &mut Scratch,
    ) -> bool {
        let components = count_of::<C>(program);
        let first = block as usize * DRAWS;
        let mut occurrences = true;
        for (i, halves) in draws.iter().enumerate() {
            let draw = halves[half];
            if first + i < components {
                self.draw_count(program, first + i, draw);
            } else if occurrences {
                let position = V::splat((first + i - components) as u64);
                occurrences = self.draw_amount(program, position, draw, out);
            }
        }
        let next = (first + DRAWS) as u64;
        next < components as u64
            || V::any(V::above(self.ends[components - 1], V::splat(next - components as u64)))
    }

    #[inline(always)]
    fn draw_count(&mut self, program: &Program, component: usize, draw: V) {
        let table = &program.components[component].counts;
        let mut count = V::splat(u64::from(table.offset));
        if component > 0 {
            count = count.add(self.ends[component - 1]);
        }
        for thresholds in table.thresholds.chunks(8) {
            let mut reached = V::above(V::splat(0), V::splat(0));
            for &threshold in thresholds {
                reached = draw.at_least_unsigned(V::splat(threshold));
                count = count.increment(reached);
            }
            if !V::any(reached) {
                break;
            }
        }
        self.ends[component] = count;
    }

    /// Draws the amounts of the occurrence at `position` in the lanes that have so many; says whether any has.
    #[inline(always)]
    fn draw_amount(&mut self, program: &Program, position: V, draw: V, out: &mut Scratch) -> bool {
        let components = count_of::<C>(program);
        let mut left = V::above(self.ends[components - 1], position);
        if !V::any(left) {
            return false;
        }
        for (index, component) in program.components.iter().enumerate().take(components) {
            let here = if index + 1 == components {
                left
            } else {
                V::both(left, V::above(self.ends[index], position))
            };
            if V::any(here) {
                let cap = V::splat(component.cap);
                let amount = V::price(&component.amounts, program.segment_bits, draw, here).min(cap);
                out.capped_occurrences[index] += u64::from(V::count(amount.equal(cap)));
                self.total = self.total.add(amount).min(V::splat(MAX_AMOUNT));
                self.largest = self.largest.max_signed(amount);
                left = V::without(left, here);
                if !V::any(left) {
                    break;
                }
            }
        }
        true
    }

    /// Adds all lanes.
    #[inline(always)]
    fn finish(&self, program: &Program, sums: &mut Sums<V, C>, out: &mut Scratch) {
        let cap = V::splat(program.cap);
        let (total, largest) = (self.total.min(cap), self.largest.min(cap));
        sums.add(&self.ends, total, largest);
        out.capped += u64::from(V::count(total.equal(cap)));
        for (mark, counts) in out.marks.iter().zip(&mut out.at_marks) {
            let mark = V::splat(*mark);
            counts[0] += u64::from(V::count(total.equal(mark)));
            counts[1] += u64::from(V::count(largest.equal(mark)));
        }
        let (totals, largests) = (lanes_of(V::buckets(total)), lanes_of(V::buckets(largest)));
        for lane in 0..V::LANES {
            out.total.count(totals[lane]);
            out.largest.count(largests[lane]);
        }
    }
}

/// Number of components, known to the compiler where `C` is exact.
#[inline(always)]
fn count_of<const C: usize>(program: &Program) -> usize {
    if C == MAX_COMPONENTS { program.components.len() } else { C }
}

/// Sums in the lanes, before they are added up.
struct Sums<V, const C: usize> {
    ends: [V; C],
    sum: V,
    /// Σ of the low and the high half of low·low, where an amount is high·2^32 + low; Σ low·high; Σ high·high.
    low_squares: [V; 2],
    mixed: V,
    high_squares: V,
    total: [V; 2],
    largest: [V; 2],
}

/// Above every amount; the smallest of no amounts.
const NONE: u64 = i64::MAX as u64;

impl<V: Vector, const C: usize> Sums<V, C> {
    #[inline(always)]
    fn new() -> Self {
        let zero = V::splat(0);
        let extremes = [V::splat(NONE), zero];
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
        if V::any(V::above(high, V::splat(0))) {
            self.mixed = self.mixed.add(total.multiply_u32(high));
            self.high_squares = self.high_squares.add(high.multiply_u32(high));
        }
        self.total = [self.total[0].min(total), self.total[1].max_signed(total)];
        self.largest = [self.largest[0].min(largest), self.largest[1].max_signed(largest)];
    }

    #[inline(always)]
    fn transfer(&self, program: &Program, out: &mut Scratch) {
        let mut before = 0;
        for (tally, end) in out.occurrences.iter_mut().zip(&self.ends).take(count_of::<C>(program)) {
            let end = add_up(*end) as u64;
            *tally += end - before;
            before = end;
        }
        out.sum += add_up(self.sum);
        let (low, high) = (add_up(self.low_squares[0]), add_up(self.low_squares[1]));
        // Each is below 2^76, so the sums of a chunk stay below 2^128 after the shifts by 0, 32 and 33.
        out.sum_squares += U256::from(low + (high << 32));
        out.sum_squares += U256::from(add_up(self.mixed)) << 33u32;
        out.sum_squares += U256::from(add_up(self.high_squares)) << 64u32;
        for (extremes, lanes) in [(&mut out.total, self.total), (&mut out.largest, self.largest)] {
            extremes.min =
                extremes.min.min(lanes_of(lanes[0]).into_iter().take(V::LANES).min().unwrap_or(NONE));
            extremes.max = extremes.max.max(lanes_of(lanes[1]).into_iter().max().unwrap_or(0));
        }
    }
}

/// The lanes, and zeros.
#[inline(always)]
fn lanes_of<V: Vector>(vector: V) -> [u64; 8] {
    let mut lanes = [0; 8];
    vector.store(&mut lanes);
    lanes
}

#[inline(always)]
fn add_up<V: Vector>(vector: V) -> u128 {
    lanes_of(vector).into_iter().map(u128::from).sum()
}
