//! The parts of a portfolio's execution that run in vectors: the keystream of consecutive
//! iterations, and the amounts of one component.

use super::{
    chacha::{BlockTemplate, DRAWS_PER_BLOCK},
    leaf::lane_numbers,
    vector::Vector,
};
use forge_contract::program::{MAX_AMOUNT, Segment, Terms};

/// The stream, counted from the first one, whose draws [`fill_draws`] writes to each of the
/// `2 · LANES` places of a draw.
#[inline(always)]
pub(super) fn order_lanes<V: Vector>(order: &mut [u64]) {
    for (lanes, order) in V::pair(lane_numbers(), V::splat(0)).into_iter().zip(order.chunks_mut(V::LANES)) {
        lanes.store(order);
    }
}

/// Writes the draws of these blocks, each for `2 · LANES` streams, beginning with `first_stream`.
#[inline(always)]
pub(super) fn fill_draws<V: Vector>(templates: &[BlockTemplate], first_stream: u32, draws: &mut [u64]) {
    let streams = lane_numbers::<V>().add32(V::splat32(first_stream));
    let blocks = draws.chunks_exact_mut(DRAWS_PER_BLOCK * 2 * V::LANES);
    for (template, block) in templates.iter().zip(blocks) {
        let values = template.draws(streams);
        for (halves, draw) in values.iter().zip(block.chunks_exact_mut(2 * V::LANES)) {
            halves[0].store(draw);
            halves[1].store(&mut draw[V::LANES..]);
        }
    }
}

/// Appends to the lists the draws of the lanes that have more than `position` occurrences: to the
/// list whose number is that of the thresholds that the lane's pick reaches. Every list has room.
#[inline(always)]
pub(super) fn split<V: Vector>(occurrences: &LaneOccurrences<'_>, position: u64, lists: &mut [DrawList]) {
    for start in (0..2 * V::LANES).step_by(V::LANES) {
        let counts = V::load(&occurrences.counts[start..]);
        let mut remaining = V::greater_than(counts, V::splat(position));
        if !V::any(remaining) {
            continue;
        }
        let keys = V::load(&occurrences.keys[start..]).add(V::splat(position << YEAR_BITS));
        let (picks, draws) = (V::load(&occurrences.picks[start..]), V::load(&occurrences.draws[start..]));
        for (at, list) in lists.iter_mut().enumerate() {
            let lanes = match occurrences.thresholds.get(at) {
                Some(&threshold) => {
                    let reached = picks.greater_equal_unsigned(V::splat(threshold));
                    let lanes = V::mask_and_not(remaining, reached);
                    remaining = V::mask_and(remaining, reached);
                    lanes
                }
                None => remaining,
            };
            draws.compress(lanes, &mut list.draws[list.length..]);
            list.length += keys.compress(lanes, &mut list.keys[list.length..]);
        }
    }
}

/// The occurrences of a group at one position, in all lanes.
pub(super) struct LaneOccurrences<'a> {
    /// Ascending; one less than there are lists.
    pub(super) thresholds: &'a [u64],
    pub(super) picks: &'a [u64],
    pub(super) draws: &'a [u64],
    /// For each lane, its number of occurrences.
    pub(super) counts: &'a [u64],
    /// For each lane, the key of its first occurrence.
    pub(super) keys: &'a [u64],
}

/// Bits of a key that hold the number of the iteration in its batch; the number of the event is
/// above.
pub(super) const YEAR_BITS: u32 = 8;

/// The amount draws of one component.
#[derive(Default)]
pub(super) struct DrawList {
    pub(super) length: usize,
    /// The draws, with room for more.
    pub(super) draws: Vec<u64>,
    /// The keys of the draws, with room for more: event and iteration. Within an iteration they
    /// ascend.
    pub(super) keys: Vec<u64>,
}

impl DrawList {
    /// Appends a draw.
    pub(super) fn push(&mut self, draw: u64, key: u64) {
        self.reserve(1);
        (self.draws[self.length], self.keys[self.length]) = (draw, key);
        self.length += 1;
    }

    /// The keys of the draws.
    pub(super) fn used_keys(&self) -> &[u64] {
        &self.keys[..self.length]
    }

    /// Makes room for this many draws more, and for a vector.
    pub(super) fn reserve(&mut self, draws: usize) {
        let needed = self.length + draws + 8;
        if self.draws.len() < needed {
            let length = needed.max(self.draws.len() / 2 * 3);
            self.draws.resize(length, 0);
            self.keys.resize(length, 0);
        }
    }
}

/// Computes the histogram buckets of amounts up to 2^53 − 1. Returns the smallest and the largest
/// of the first `years` amounts. The lengths are multiples of 8.
#[inline(always)]
pub(super) fn buckets<V: Vector>(amounts: &[u64], years: usize, buckets: &mut [u64]) -> (u64, u64) {
    for (amounts, buckets) in amounts.chunks_exact(V::LANES).zip(buckets.chunks_exact_mut(V::LANES)) {
        V::buckets(V::load(amounts)).store(buckets);
    }
    let (mut min, mut max) = (u64::MAX, 0);
    for &amount in &amounts[..years] {
        min = amount.min(min);
        max = amount.max(max);
    }
    (min, max)
}

/// Applies policy terms to amounts, without the share. Returns the largest amount, and how many are
/// at the limit.
#[inline(always)]
pub(super) fn limit(terms: &Terms, amounts: &mut [u64]) -> (u64, u64) {
    let (mut largest, mut at_limit) = (0, 0);
    for amount in amounts {
        let limited = terms.limited((*amount).min(MAX_AMOUNT));
        largest = limited.max(largest);
        at_limit += u64::from(limited == terms.limit);
        *amount = limited;
    }
    (largest, at_limit)
}

/// Looks up the amounts of draws in a quantile table. The lengths are multiples of 8.
#[inline(always)]
pub(super) fn look_up<V: Vector>(table: &[Segment], bits: u32, draws: &[u64], amounts: &mut [u64]) {
    let all = V::splat(0).equal(V::splat(0));
    for (draws, amounts) in draws.chunks_exact(V::LANES).zip(amounts.chunks_exact_mut(V::LANES)) {
        V::look_up_amounts(table, bits, V::load(draws), all).store(amounts);
    }
}
