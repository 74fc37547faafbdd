//! Count and quantile tables: exact real numbers, floored (docs/determinism.md, section 5).
//!
//! Counts are computed in 256-bit fixed point and quantiles in double-double arithmetic, both far
//! more precise than the floor requires. Where that precision cannot decide a floor, the table is
//! refused: it must not be guessed.

use ethnum::U256;
use forge_contract::program::{CountTable, SEGMENT_LEFT_BITS, Segment};

use crate::{
    double_double::{DoubleDouble, power_of_two},
    normal,
};

/// Fraction bits of the fixed-point weights of a Poisson distribution.
const WEIGHT_BITS: u32 = 176;
/// Quantiles are clamped to ±2^54 minor units. Amounts saturate at 2^53 − 1, so this loses nothing.
const NODE_LIMIT: f64 = (1u64 << 54) as f64;

/// A node of a table lies so close to an integer that double-double arithmetic cannot decide its
/// floor. About one table in 2^50 has such a node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("leads to a table entry too close to an integer to be rounded down reliably; change its last digit")]
pub struct UndecidedFloor;

/// A finite positive f64 as mantissa · 2^-shift.
fn mantissa_and_shift(x: f64) -> (u64, u32) {
    let bits = x.to_bits();
    let (exponent, fraction) = ((bits >> 52) as i32, bits & ((1 << 52) - 1));
    let (mantissa, exponent) =
        if exponent == 0 { (fraction, -1074) } else { (fraction | 1 << 52, exponent - 1075) };
    let trailing = mantissa.trailing_zeros().min(63) as i32;
    let (mantissa, exponent) = (mantissa >> trailing, exponent + trailing);
    if exponent > 0 { (mantissa << exponent, 0) } else { (mantissa, -exponent as u32) }
}

/// `floor(value · 2^64)` for 0 ≤ value ≤ 1, and whether the floor is exact.
fn floor_times_2_64(value: f64) -> (u128, bool) {
    let (mantissa, shift) = mantissa_and_shift(value);
    if shift > 127 {
        return (0, mantissa == 0);
    }
    let scaled = u128::from(mantissa) << 64;
    (scaled >> shift, scaled.trailing_zeros() >= shift || scaled == 0)
}

/// The count table of the thresholds `floor(2^64 · CDF(k))`, k = 0, 1, …: leading zeros become the
/// offset, and the table ends before the first threshold of 2^64 − 1 or more.
fn from_thresholds(thresholds: impl Iterator<Item = u128>) -> CountTable {
    let mut table = CountTable { offset: 0, thresholds: Vec::new() };
    for threshold in thresholds.take_while(|&t| t < u128::from(u64::MAX)) {
        if threshold == 0 {
            table.offset += 1;
        } else {
            table.thresholds.push(threshold as u64);
        }
    }
    table
}

/// The count table of exactly `count` occurrences in every iteration.
pub fn constant_counts(count: u32) -> CountTable {
    CountTable { offset: count, thresholds: Vec::new() }
}

/// The count table of one occurrence with this probability (0 to 1), else none.
pub fn bernoulli_counts(probability: f64) -> CountTable {
    let (floor, exact) = floor_times_2_64(probability);
    // CDF(0) = 1 − p, so floor(2^64·CDF(0)) = 2^64 − ceil(2^64·p).
    let ceil = floor + u128::from(!exact);
    from_thresholds([(1u128 << 64) - ceil, 1 << 64].into_iter())
}

/// The count table of a Poisson distribution with this mean (0 to 10,000).
///
/// Weights relative to that of the mode follow w(k+1) = w(k)·λ/(k+1). Their partial sums divided by
/// their total are the CDF, so no exponential is needed. The error is below 2^-150, where the floor
/// needs 2^-64.
pub fn poisson_counts(mean: f64) -> CountTable {
    let (mantissa, shift) = mantissa_and_shift(mean);
    let mode = mean.floor() as u64;
    let one = U256::ONE << WEIGHT_BITS;
    let mantissa = U256::from(mantissa);
    let mut below = Vec::new();
    let mut weight = one;
    for k in (1..=mode).rev() {
        // Reached only for λ ≥ 1, where the shift is at most 52.
        weight = ((weight * U256::from(k)) << shift) / mantissa;
        below.push(weight);
    }
    let mut above = vec![one];
    let mut weight = one;
    for k in mode + 1.. {
        let product = weight * mantissa;
        weight = if shift > 255 { U256::ZERO } else { product >> shift } / U256::from(k);
        if weight == U256::ZERO {
            break;
        }
        above.push(weight);
    }
    let weights = || below.iter().rev().chain(&above);
    let total: U256 = weights().copied().sum();
    let mut sum = U256::ZERO;
    let cdf = weights().map(|&weight| {
        sum += weight;
        let scaled: U256 = (sum << 64u32) / total;
        scaled.as_u128()
    });
    from_thresholds(cdf)
}

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
    fn bernoulli_thresholds_are_exact() {
        assert_eq!(bernoulli_counts(0.0), constant_counts(0));
        assert_eq!(bernoulli_counts(1.0), constant_counts(1));
        assert_eq!(bernoulli_counts(0.5).thresholds, [1 << 63]);
        // 0.02 is 5764607523034235 · 2^-58, so 2^64·p = 5764607523034235 · 64 exactly.
        assert_eq!(
            bernoulli_counts(0.02).thresholds,
            [(1u128 << 64).wrapping_sub(5_764_607_523_034_235 * 64) as u64]
        );
        assert_eq!(bernoulli_counts(1e-30), constant_counts(0));
        // The smallest probability that can strike: the draw 2^64 − 1 is above 2^64 − 2.
        assert_eq!(bernoulli_counts(power_of_two(-63)).thresholds, [u64::MAX - 1]);
    }

    #[test]
    fn poisson_thresholds_of_small_means_are_exact() {
        assert_eq!(poisson_counts(0.0), constant_counts(0));
        let table = poisson_counts(2.0);
        // 2^64·e^-2 and 2^64·3e^-2, to the last digit.
        assert_eq!(table.thresholds[0], 2_496_495_334_008_788_799);
        assert_eq!(table.thresholds[1], 7_489_486_002_026_366_399);
        assert_eq!(table.offset, 0);
        assert_eq!(poisson_counts(1e-300), constant_counts(0));
        assert_eq!(poisson_counts(5e-324), constant_counts(0));
    }

    #[test]
    fn poisson_table_of_a_large_mean_has_an_offset() {
        let table = poisson_counts(10_000.0);
        assert!(table.offset > 9_000 && table.offset < 9_200, "{}", table.offset);
        assert!(table.thresholds.is_sorted());
        let median = table.count(1 << 63);
        assert_eq!(median, 10_000);
    }

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
