//! A second implementation of docs/determinism.md, section 7, in wide integers: the position of a
//! draw in a table, and its amount.

use forge_contract::program::{OCTAVES, Segment};

/// The position of a draw in a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrawPosition {
    pub upper: bool,
    /// Octave: 0 is the far end.
    pub rank: u32,
    pub segment: u32,
    /// Position within the segment: 0 at its lower amount, 2^31 at its higher one.
    pub y: i64,
}

/// w = 2^65 · t, the odd number of half-steps between a draw and the nearer end.
pub fn half_steps(draw: u64) -> (bool, u128) {
    let upper = draw >= 1 << 63;
    let distance = if upper { u64::MAX - draw } else { draw };
    (upper, 2 * u128::from(distance) + 1)
}

/// The draw that lies w half-steps from an end.
pub fn draw_at(upper: bool, w: u128) -> u64 {
    let distance = ((w - 1) / 2) as u64;
    if upper { u64::MAX - distance } else { distance }
}

/// Locates a draw in a table.
pub fn locate(segment_bits: u32, draw: u64) -> DrawPosition {
    let (upper, w) = half_steps(draw);
    let rank = w.ilog2();
    // w / 2^rank is 1.sssfff…: the segment bits, then 31 bits of the position in the segment.
    let place = (w << (segment_bits + 31)) >> rank;
    let (segment, f) = ((place >> 31) as u32 - (1 << segment_bits), (place % (1 << 31)) as i64);
    let y = if upper { (1 << 31) - 1 - f } else { f };
    DrawPosition { upper, rank, segment, y }
}

/// Number of a table's entry.
pub fn entry(segment_bits: u32, place: DrawPosition) -> usize {
    let half = if place.upper { OCTAVES << segment_bits } else { 0 };
    half + ((place.rank as usize) << segment_bits) + place.segment as usize
}

/// The amount of a draw, before any cap.
pub fn amount(segment_bits: u32, table: &[Segment], draw: u64) -> u64 {
    let place = locate(segment_bits, draw);
    let (value, shift) = scaled(table[entry(segment_bits, place)], place.y);
    (value.max(0) >> shift) as u64
}

/// The amount at a position before it is floored, times 2^shift, and the shift.
pub fn scaled(segment: Segment, y: i64) -> (i128, u32) {
    let [left, slope, curve, y] =
        [segment.left.into(), segment.slope.into(), segment.curve.into(), y].map(i128::from);
    // A division that rounds down, where the kernel shifts.
    let slope = slope + (y * curve).div_euclid(1 << 31);
    (left * (1 << 31) + y * slope, segment.shift)
}
