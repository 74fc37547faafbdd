//! Quantile tables: exact real numbers, floored (docs/determinism.md, section 5.2).
//!
//! Quantiles are computed in double-double arithmetic, far more precise than the floor requires.
//! Where that precision cannot decide a floor, the table is refused: it must not be guessed.

use forge_contract::program::{SEGMENT_LEFT_BITS, Segment};

use crate::{
    double_double::{DoubleDouble, power_of_two},
    dyadic::Fraction,
    standard_quantiles::StandardQuantiles,
};

/// Quantiles are clamped to ±2^54 minor units. Amounts saturate at 2^53 − 1, so this loses nothing.
const NODE_LIMIT: f64 = (1u64 << 54) as f64;

/// An entry of a table lies so close to an integer that its floor cannot be decided. About one
/// quantile table in 2^50 has such an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("leads to a table entry too close to an integer to be rounded down reliably; change its last digit")]
pub struct UndecidedFloor;

/// 2^-85.
pub const RELATIVE_ERROR: f64 = 1.0 / (1u128 << 85) as f64;

/// A quantile in minor units, at a node of a table.
#[derive(Debug, Clone, Copy)]
pub struct QuantileNode {
    /// The quantile.
    pub value: DoubleDouble,
    /// What its error is relative to: it is below [`RELATIVE_ERROR`] times this. Where the quantile
    /// is a difference, this is the sum of the magnitudes.
    pub scale: DoubleDouble,
}

impl From<DoubleDouble> for QuantileNode {
    fn from(value: DoubleDouble) -> Self {
        Self { value, scale: value.abs() }
    }
}

/// A quantile function in minor units.
pub trait QuantileFunction {
    /// The quantile at a value of the standard quantile. Ascends.
    fn near(&self, standard: DoubleDouble) -> QuantileNode;

    /// The quantile at a probability of being exceeded, where an approximation cannot tell it from
    /// `candidate`: exactly, or another number that every floor takes for it. `None` where nothing
    /// is known.
    fn exact(&self, survival: &Fraction, candidate: &Fraction) -> Option<Fraction>;
}

/// A function for tests. Where it cannot be told from an integer, it is taken to be that.
impl<F: Fn(DoubleDouble) -> DoubleDouble> QuantileFunction for F {
    fn near(&self, standard: DoubleDouble) -> QuantileNode {
        self(standard).into()
    }

    fn exact(&self, _survival: &Fraction, candidate: &Fraction) -> Option<Fraction> {
        Some(candidate.clone())
    }
}

/// The quantile table of a law.
///
/// # Errors
/// [`UndecidedFloor`], when the floor of a node cannot be decided.
pub fn quantile_table(
    standard: &StandardQuantiles,
    law: &impl QuantileFunction,
) -> Result<Vec<Segment>, UndecidedFloor> {
    let limit = DoubleDouble::from(NODE_LIMIT);
    // Execution floors, so half a unit is added to make it round to the nearest minor unit.
    let node = |&x: &DoubleDouble| {
        let QuantileNode { value, scale } = law.near(x);
        let value = value + DoubleDouble::from(0.5);
        // The limit is exact.
        let capped = |value| QuantileNode { value, scale: DoubleDouble::ZERO };
        if limit.is_less_than(value) {
            return capped(limit);
        }
        if value.is_less_than(-limit) { capped(-limit) } else { QuantileNode { value, scale } }
    };
    let floor = |(survival, node): (DoubleDouble, QuantileNode), exponent| {
        floor_scaled(node, exponent).or_else(|undecided| {
            let nearest = (node.value.scale(power_of_two(-exponent)) + DoubleDouble::from(0.5)).floor();
            let candidate = Fraction::of_integer(nearest, exponent) + Fraction::new(-0.5);
            let survival = Fraction::of_double_double(survival);
            let quantile = law.exact(&survival, &candidate).ok_or(undecided)?;
            let floor = (quantile + Fraction::new(0.5)).floor_scaled(exponent);
            i64::try_from(floor).map_err(|_| UndecidedFloor)
        })
    };
    let points = |survivals: Vec<DoubleDouble>, quantiles: &[DoubleDouble]| -> Vec<_> {
        survivals.into_iter().zip(quantiles.iter().map(node)).collect()
    };
    let distances = || standard.distances.iter().map(|&t| DoubleDouble::from(t));
    let lower = points(distances().map(|t| DoubleDouble::ONE - t).collect(), &standard.lower);
    let upper = points(distances().collect(), &standard.upper);
    let lower = lower.windows(3).step_by(2).map(|n| segment([n[0], n[1], n[2]], floor));
    let upper = upper.windows(3).step_by(2).map(|n| segment([n[2], n[1], n[0]], floor));
    lower.chain(upper).collect()
}

/// The quadratic through the quantile at a segment's lower end, middle and upper end.
fn segment<P: Copy>(
    points: [(P, QuantileNode); 3],
    floor: impl Fn((P, QuantileNode), i32) -> Result<i64, UndecidedFloor>,
) -> Result<Segment, UndecidedFloor> {
    let [left, middle, right] = points;
    let (left_size, right_size) = (left.1.value.abs(), right.1.value.abs());
    let magnitude = if left_size.is_less_than(right_size) { right_size } else { left_size };
    // Smallest exponent ≥ −29 with magnitude < 2^(29 + exponent).
    let mut exponent = -29;
    while !magnitude.is_less_than(DoubleDouble::from(power_of_two(exponent + SEGMENT_LEFT_BITS as i32))) {
        exponent += 1;
    }
    let (a, b, c) = (floor(left, exponent)?, floor(middle, exponent)?, floor(right, exponent)?);
    Ok(Segment {
        left: a as i32,
        slope: (4 * b - 3 * a - c) as i32,
        curve: (2 * (a - 2 * b + c)) as i32,
        shift: (31 - exponent) as u32,
    })
}

/// `floor(value / 2^exponent)`, if the node's uncertainty cannot move it across an integer.
fn floor_scaled(node: QuantileNode, exponent: i32) -> Result<i64, UndecidedFloor> {
    let scaled = node.value.scale(power_of_two(-exponent));
    let floor = scaled.floor();
    // The half that was added to the quantile is exact.
    let uncertainty = node.scale.scale(power_of_two(-exponent) * RELATIVE_ERROR);
    let is_decided = (scaled - uncertainty).floor() == floor && (scaled + uncertainty).floor() == floor;
    if is_decided { Ok(floor) } else { Err(UndecidedFloor) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::standard_quantiles;

    #[test]
    fn linear_quantile_is_reproduced() {
        let table = quantile_table(standard_quantiles::normal(6), &|z: DoubleDouble| {
            z.scale(1000.0) + DoubleDouble::from(5000.0)
        })
        .unwrap();
        assert_eq!(table.len(), 2 * 64 * 64);
        // The last segment of the lower half ends at t = 1/2, z = 0.
        let last = table[64 * 64 - 1];
        let end = i64::from(last.left) + i64::from(last.slope) + i64::from(last.curve);
        assert_eq!(end >> (last.shift - 31), 5000);
    }
}
