//! The parts of a portfolio's execution that run in vectors: the keystream of consecutive
//! iterations, and the amounts of one component.

use super::{
    chacha::{BlockTemplate, DRAWS_PER_BLOCK},
    leaf::lane_numbers,
    vector::Vector,
};
use forge_contract::program::Segment;

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

/// Looks up the amounts of draws in a quantile table. The lengths are multiples of 8.
#[inline(always)]
pub(super) fn look_up<V: Vector>(table: &[Segment], bits: u32, draws: &[u64], amounts: &mut [u64]) {
    let all = V::splat(0).equal(V::splat(0));
    for (draws, amounts) in draws.chunks_exact(V::LANES).zip(amounts.chunks_exact_mut(V::LANES)) {
        V::look_up_amounts(table, bits, V::load(draws), all).store(amounts);
    }
}
