//! Loss exceedance curves for pictures: amounts at return periods that lie evenly on a logarithmic axis.
//!
//! Logarithms come from correctly rounded operations in a stated order, not from the platform: a page that shows a
//! curve is an artifact, and its bytes are the same on every machine.

use std::f64::consts::{LN_2, LN_10};

use forge_contract::shard_result::{Distribution, ShardResult};
use forge_kernel::{
    dd::Dd,
    statistics::{Level, Ordered},
};

/// Levels are fractions of this.
const PARTS: u64 = 1_000_000;
/// Iterations beyond the longest return period shown: fewer would show noise.
const BEYOND: u64 = 10;
/// Longest return period shown: 10^4.
const MAX_DECADES: u32 = 4;

/// Amounts at return periods from 1 to `10^decades`.
#[derive(Debug, Clone, PartialEq)]
pub struct Curves {
    /// Decades of return periods.
    pub decades: u32,
    /// Aggregate exceedance: the total.
    pub aep: Vec<f64>,
    /// Occurrence exceedance: the largest occurrence.
    pub oep: Vec<f64>,
    /// The axis of amounts.
    pub scale: Scale,
}

impl Curves {
    /// The curves at `points` return periods; `None` when there are too few iterations for one, or nothing was lost.
    /// `marks` and `units` are those of the program.
    pub fn new(result: &ShardResult, marks: &[u64], units: u32, points: usize) -> Option<Self> {
        let decades = decades(result.iterations)?;
        let levels: Vec<_> = levels(decades, points).collect();
        let curve = |distribution: &Distribution| {
            let ordered = Ordered::new(distribution, marks);
            levels.iter().map(|&level| ordered.var(level) / f64::from(units)).collect::<Vec<_>>()
        };
        let (aep, oep) = (curve(&result.total), curve(&result.largest));
        let two = levels.iter().position(|level| 2 * level.numerator >= PARTS)?;
        let scale = Scale::new(aep.iter().chain(&oep).copied(), oep[two])?;
        Some(Self { decades, aep, oep, scale })
    }
}

/// The whole decades of return periods that the iterations bear: 1 to 4.
fn decades(iterations: u64) -> Option<u32> {
    let decades = (iterations / BEYOND).checked_ilog10()?.min(MAX_DECADES);
    (decades >= 1).then_some(decades)
}

/// The level of each point.
fn levels(decades: u32, points: usize) -> impl Iterator<Item = Level> {
    (0..points).map(move |x| {
        let exponent = f64::from(decades) * x as f64 / (points - 1) as f64;
        let above = (PARTS as f64 / power_of_ten(exponent) + 0.5) as u64;
        Level::new(PARTS - above.clamp(1, PARTS - 1), PARTS)
    })
}

/// A logarithmic axis of amounts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    /// The amount at its lower end: a power of ten.
    pub bottom: f64,
    /// The amount at its upper end.
    pub top: f64,
}

impl Scale {
    /// From the power of ten below `low` (or below the highest amount) to the highest amount; `None` if that is 0.
    pub fn new(amounts: impl Iterator<Item = f64>, low: f64) -> Option<Self> {
        let top = amounts.fold(0.0, f64::max);
        let low = if low > 0.0 && low < top { low } else { top / 10.0 };
        (top > 0.0).then(|| Self { bottom: power_of_ten(log10(low).floor()), top })
    }

    /// Where an amount lies: 0 at the bottom, 1 at the top; `None` below the bottom.
    pub fn share(self, amount: f64) -> Option<f64> {
        (amount >= self.bottom).then(|| log10(amount / self.bottom) / log10(self.top / self.bottom))
    }

    /// The powers of ten from the bottom to below the top.
    pub fn ticks(self) -> impl Iterator<Item = f64> {
        std::iter::successors(Some(self.bottom), |amount| Some(amount * 10.0))
            .take_while(move |&amount| amount < self.top)
    }
}

/// 10^exponent. Exact for whole exponents from 0 to 22.
fn power_of_ten(exponent: f64) -> f64 {
    let whole = exponent.trunc() == exponent && exponent.abs() <= 22.0;
    match whole {
        true if exponent >= 0.0 => (0..exponent as u32).fold(1.0, |power, _| power * 10.0),
        true => 1.0 / power_of_ten(-exponent),
        false => Dd::product(exponent, LN_10).exp().to_f64(),
    }
}

/// The decimal logarithm of a positive number, to 15 digits; exact at powers of ten from 1 to 10^22.
fn log10(x: f64) -> f64 {
    // x = m · 2^k with m in [1, 2), or in [√½, √2) below; ln m = 2·artanh(s) with s = (m − 1) / (m + 1).
    let k = ((x.to_bits() >> 52) as i32) - 1023;
    let m = f64::from_bits((x.to_bits() & ((1 << 52) - 1)) | (1023 << 52));
    let (m, k) = if m > std::f64::consts::SQRT_2 { (m / 2.0, k + 1) } else { (m, k) };
    let s = (m - 1.0) / (m + 1.0);
    let series = (0..14).rev().fold(0.0, |sum, n| sum * (s * s) + 1.0 / f64::from(2 * n + 1));
    let log = (f64::from(k) * LN_2 + 2.0 * s * series) / LN_10;
    let nearest = (log + 0.5).floor();
    if (0.0..=22.0).contains(&nearest) && power_of_ten(nearest) == x { nearest } else { log }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the platform's logarithm, to compare with")]
    fn logarithms_are_those_of_the_platform_to_its_last_digits() {
        for x in [1e-9, 0.02, 0.99, 1.0, 1.5, 2.0, 999.0, 123_456.789, 9e15] {
            assert!((log10(x) - x.log10()).abs() < 1e-14 * x.log10().abs().max(1.0), "{x}");
        }
        assert_eq!([1.0, 10.0, 1000.0, 1e15].map(log10), [0.0, 1.0, 3.0, 15.0]);
        assert_eq!([0.0, 3.0, -2.0].map(power_of_ten), [1.0, 1000.0, 0.01]);
        assert!((power_of_ten(0.5) - 10f64.sqrt()).abs() < 1e-14);
    }

    #[test]
    fn amounts_are_on_a_logarithmic_scale() {
        let scale = Scale::new([0.0, 35.0, 25_000.0].into_iter(), 35.0).unwrap();
        assert_eq!((scale.bottom, scale.top), (10.0, 25_000.0));
        assert_eq!([9.9, 10.0, 25_000.0].map(|amount| scale.share(amount)), [None, Some(0.0), Some(1.0)]);
        assert_eq!(scale.ticks().collect::<Vec<_>>(), [10.0, 100.0, 1000.0, 10_000.0]);
        assert_eq!(Scale::new([0.0].into_iter(), 0.0), None);
        assert_eq!(Scale::new([5.0, 5.0].into_iter(), 5.0).unwrap().bottom, 0.1);
        assert_eq!(Scale::new([10.0].into_iter(), 0.0).unwrap().bottom, 1.0);
    }

    #[test]
    fn only_return_periods_with_iterations_beyond_them_are_shown() {
        let decades = [99, 100, 9_999, 1_000_000, u64::MAX].map(decades);
        assert_eq!(decades, [None, Some(1), Some(2), Some(4), Some(4)]);
        let all: Vec<_> = levels(4, 101).collect();
        assert_eq!((all[0], all[100]), (Level::new(1, PARTS), Level::new(PARTS - 100, PARTS)));
        assert_eq!(all[25], Level::new(PARTS - 100_000, PARTS));
    }
}
