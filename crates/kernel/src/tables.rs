//! Quantile tables: exact real numbers, floored (docs/determinism.md, section 5.2).
//!
//! Quantiles are computed in double-double arithmetic, far more precise than the floor requires.
//! Where that precision cannot decide a floor, the table is refused: it must not be guessed.

use forge_contract::program::{SEGMENT_LEFT_BITS, Segment};

use crate::{
    double_double::{DoubleDouble, power_of_two},
    normal,
};

/// Quantiles are clamped to ±2^54 minor units. Amounts saturate at 2^53 − 1, so this loses nothing.
const NODE_LIMIT: f64 = (1u64 << 54) as f64;

/// An entry of a table lies so close to an integer that its floor cannot be decided. About one
/// quantile table in 2^50 has such an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("leads to a table entry too close to an integer to be rounded down reliably; change its last digit")]
pub struct UndecidedFloor;

/// A quantile table of `128 · 2^segment_bits` segments. `amount` maps the normal quantile z to
/// minor units and ascends.
///
/// # Errors
/// [`UndecidedFloor`], when the floor of a node cannot be decided.
pub fn quantile_table(
    segment_bits: u32,
    amount: impl Fn(DoubleDouble) -> DoubleDouble,
) -> Result<Vec<Segment>, UndecidedFloor> {
    let nodes = normal::nodes(segment_bits);
    let limit = DoubleDouble::from(NODE_LIMIT);
    // Execution floors, so half a unit is added to make it round to the nearest minor unit.
    let node = |z: DoubleDouble| {
        let value = amount(z) + DoubleDouble::from(0.5);
        let capped = if limit.is_less_than(value) { limit } else { value };
        if capped.is_less_than(-limit) { -limit } else { capped }
    };
    let lower: Vec<DoubleDouble> = nodes.iter().map(|&z| node(z)).collect();
    let upper: Vec<DoubleDouble> = nodes.iter().map(|&z| node(-z)).collect();
    let lower = lower.windows(3).step_by(2).map(|n| segment(n[0], n[1], n[2]));
    let upper = upper.windows(3).step_by(2).map(|n| segment(n[2], n[1], n[0]));
    lower.chain(upper).collect()
}

/// The quadratic through the quantile at a segment's lower end, middle and upper end.
fn segment(left: DoubleDouble, middle: DoubleDouble, right: DoubleDouble) -> Result<Segment, UndecidedFloor> {
    let magnitude = if left.abs().is_less_than(right.abs()) { right.abs() } else { left.abs() };
    // Smallest exponent ≥ −29 with magnitude < 2^(29 + exponent).
    let mut exponent = -29;
    while !magnitude.is_less_than(DoubleDouble::from(power_of_two(exponent + SEGMENT_LEFT_BITS as i32))) {
        exponent += 1;
    }
    let (a, b, c) =
        (floor_scaled(left, exponent)?, floor_scaled(middle, exponent)?, floor_scaled(right, exponent)?);
    Ok(Segment {
        left: a as i32,
        slope: (4 * b - 3 * a - c) as i32,
        curve: (2 * (a - 2 * b + c)) as i32,
        shift: (31 - exponent) as u32,
    })
}

/// `floor(value / 2^exponent)`, if the value's uncertainty cannot move it across an integer.
fn floor_scaled(value: DoubleDouble, exponent: i32) -> Result<i64, UndecidedFloor> {
    let scaled = value.scale(power_of_two(-exponent));
    let floor = scaled.floor();
    if scaled.is_integer() {
        return Ok(floor);
    }
    // The relative error of the quantile is below 2^-85. The half that was added to it is exact.
    let quantile = (value - DoubleDouble::from(0.5)).abs();
    let uncertainty = quantile.scale(power_of_two(-exponent - 85));
    let is_decided = (scaled - uncertainty).floor() == floor && (scaled + uncertainty).floor() == floor;
    if is_decided { Ok(floor) } else { Err(UndecidedFloor) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_quantile_is_reproduced() {
        let table = quantile_table(6, |z| z.scale(1000.0) + DoubleDouble::from(5000.0)).unwrap();
        assert_eq!(table.len(), 2 * 64 * 64);
        // The last segment of the lower half ends at t = 1/2, z = 0.
        let last = table[64 * 64 - 1];
        let end = i64::from(last.left) + i64::from(last.slope) + i64::from(last.curve);
        assert_eq!(end >> (last.shift - 31), 5000);
    }
}
