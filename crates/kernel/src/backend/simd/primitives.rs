//! The keystream of a portfolio's iterations, in vectors.

use super::{
    chacha::{BlockTemplate, DRAWS_PER_BLOCK},
    leaf::lane_numbers,
    vector::Vector,
};

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
    write_draws(templates, lane_numbers::<V>().add32(V::splat32(first_stream)), draws);
}

/// Writes the draws of these blocks, each for the streams whose numbers are in u32 lanes.
#[inline(always)]
pub(super) fn write_draws<V: Vector>(templates: &[BlockTemplate], streams: V, draws: &mut [u64]) {
    let draws = &mut draws[..templates.len() * DRAWS_PER_BLOCK * 2 * V::LANES];
    for (at, template) in templates.iter().enumerate() {
        let values = template.draws(streams);
        for (draw, halves) in values.iter().enumerate() {
            let place = (at * DRAWS_PER_BLOCK + draw) * 2 * V::LANES;
            halves[0].store(&mut draws[place..]);
            halves[1].store(&mut draws[place + V::LANES..]);
        }
    }
}
