//! Exceedance curves for charts: amounts at return periods evenly spaced on a logarithmic axis.
//!
//! Logarithms and powers are computed from correctly rounded operations in a fixed order and never
//! by the platform's math library: the report page is an artifact, and its bytes must be the same
//! on every machine.

use std::f64::consts::{LN_2, LN_10};

use forge_contract::{distribution::Resolution, result_details::Quantity, shard_result::ShardResult};
use forge_kernel::{
    double_double::DoubleDouble,
    request::Request,
    statistics::{Level, OrderStatistics},
};

use serde_json::Value;

use crate::portfolio_tables::has_occurrences;

/// Denominator of every level.
const LEVEL_DENOMINATOR: u64 = 1_000_000;
/// Iterations that must lie beyond the longest return period shown. With fewer, the end of the
/// curve would be noise.
const MIN_TAIL_ITERATIONS: u64 = 10;
/// The longest return period shown is 10^4.
const MAX_DECADES: u32 = 4;
/// The same of a stored result, which may state longer ones.
const MAX_OUTPUT_DECADES: u32 = 9;

/// Members of a row of `output.exceedance` with the names of their curves, the most important one
/// first.
const OUTPUT_CURVES: [(&str, &str); 5] = [
    ("net", "net AEP"),
    ("gross", "gross AEP"),
    ("largest_occurrence", "gross OEP"),
    ("aep", "AEP"),
    ("oep", "OEP"),
];

/// Confidence level of the bands.
const BAND_CONFIDENCE: f64 = 0.95;

/// Exceedance curves over return periods from 1 to `10^decades`.
#[derive(Debug, Clone, PartialEq)]
pub struct ExceedanceCurves {
    /// Number of decades on the axis of return periods: 1 to 4.
    pub decades: u32,
    /// The curves, the most important one first.
    pub curves: Vec<ExceedanceCurve>,
    /// The axis of amounts, common to all curves.
    pub scale: LogScale,
}

/// Quantiles of an amount, one per return period.
#[derive(Debug, Clone, PartialEq)]
pub struct ExceedanceCurve {
    /// Name: AEP is of an iteration's total, OEP of its largest occurrence.
    pub name: &'static str,
    /// The quantiles.
    pub amounts: Vec<f64>,
    /// The 95% confidence intervals of the quantiles; `None` where there are too few iterations.
    pub intervals: Vec<Option<(f64, f64)>>,
}

impl ExceedanceCurves {
    /// Computes the curves of a merged result at `points` return periods. Portfolios with treaties
    /// have net and gross AEP. At most `most` curves.
    ///
    /// Returns `None` if there are fewer than 100 iterations, or if every amount is 0.
    pub fn new(request: &Request, result: &ShardResult, points: usize, most: usize) -> Option<Self> {
        let decades = decades(result.iterations)?;
        let levels: Vec<_> = levels(decades, points).collect();
        let curves: Vec<_> = ordered_amounts(request, result)
            .into_iter()
            .take(most)
            .map(|(name, ordered)| ExceedanceCurve::new(name, &ordered, &levels, request.program.units))
            .collect();
        let median = levels.iter().position(|level| 2 * level.numerator >= LEVEL_DENOMINATOR)?;
        let medians = curves.iter().map(|curve| curve.amounts[median]);
        Self::scaled(decades, medians.collect(), curves)
    }

    /// The curves through the return periods of a stored result: straight lines between the amounts
    /// that `output.exceedance` states, on the axes of the chart. An amount of 0 stands where no
    /// return period is stated. At most `most` curves, at `points` return periods.
    ///
    /// Returns `None` if there are fewer than two rows with return periods, or every amount is 0.
    pub fn of_output(output: &Value, points: usize, most: usize) -> Option<Self> {
        let rows = output["exceedance"].as_array()?;
        let mut rows: Vec<_> = rows
            .iter()
            .filter_map(|row| Some((row["return_period"].as_f64().filter(|&t| t >= 1.0)?, row)))
            .collect();
        rows.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (_, (longest, _)) = rows.first().zip(rows.last()).filter(|(first, last)| first.0 < last.0)?;
        let decades = log10(*longest).ceil().clamp(1.0, f64::from(MAX_OUTPUT_DECADES));
        let position = |index: usize| decades * index as f64 / (points - 1) as f64;
        let curve = |member: &str, name| {
            let amounts = |figure: &str| -> Vec<(f64, f64)> {
                let stated = rows
                    .iter()
                    .filter_map(|(period, row)| Some((log10(*period), row[member][figure].as_f64()?)));
                stated.collect()
            };
            let [var, low, high] = ["var", "var_low", "var_high"].map(amounts);
            let at = |stated: &[(f64, f64)], index| interpolate(stated, position(index));
            let interval = |index| at(&low, index).zip(at(&high, index));
            (!var.is_empty()).then(|| ExceedanceCurve {
                name,
                amounts: (0..points).map(|index| at(&var, index).unwrap_or(0.0)).collect(),
                intervals: (0..points).map(interval).collect(),
            })
        };
        let curves = OUTPUT_CURVES.into_iter().filter_map(|(member, name)| curve(member, name));
        let curves: Vec<_> = curves.take(most).collect();
        let least = |curve: &ExceedanceCurve| curve.amounts.iter().copied().find(|&amount| amount > 0.0);
        Self::scaled(decades as u32, curves.iter().filter_map(least).collect(), curves)
    }

    /// Curves with an axis that begins below the smallest of the amounts `low`.
    fn scaled(decades: u32, low: Vec<f64>, curves: Vec<ExceedanceCurve>) -> Option<Self> {
        let low = low.into_iter().filter(|&amount| amount > 0.0).reduce(f64::min).unwrap_or(0.0);
        let scale = LogScale::new(curves.iter().flat_map(|curve| &curve.amounts).copied(), low)?;
        Some(Self { decades, curves, scale })
    }
}

/// The amount at a position between the stated ones, which are pairs of position and amount in
/// ascending order: on a straight line between their logarithms. `None` outside, and beside an
/// amount that is not positive.
fn interpolate(stated: &[(f64, f64)], position: f64) -> Option<f64> {
    let after = stated.partition_point(|(at, _)| *at < position);
    let (right, amount) = *stated.get(after)?;
    if right == position {
        return Some(amount);
    }
    let (left, before) = *stated.get(after.checked_sub(1)?)?;
    (before > 0.0 && amount > 0.0).then(|| {
        let share = (position - left) / (right - left);
        power_of_ten(log10(before) + (log10(amount) - log10(before)) * share)
    })
}

/// The amounts to draw, with their names.
fn ordered_amounts(request: &Request, result: &ShardResult) -> Vec<(&'static str, OrderStatistics)> {
    let program = &request.program;
    let marks = program.marks();
    let total = OrderStatistics::new(&result.total, &marks);
    let largest = OrderStatistics::new(&result.largest, &marks);
    let details = result.details.as_ref().filter(|_| !program.treaties.is_empty());
    let gross = details.and_then(|details| {
        let position = program.quantities().iter().position(|quantity| *quantity == Quantity::Gross)?;
        let (distribution, marks) =
            (&details.quantities.get(position)?.distribution, program.marks_of(Quantity::Gross));
        Some(OrderStatistics::with_resolution(distribution, &marks, Resolution::COARSE))
    });
    let mut amounts = match gross {
        Some(gross) => vec![("net AEP", total), ("gross AEP", gross), ("gross OEP", largest)],
        None => vec![("AEP", total), ("OEP", largest)],
    };
    if !has_occurrences(program) {
        amounts.pop();
    }
    amounts
}

impl ExceedanceCurve {
    fn new(name: &'static str, ordered: &OrderStatistics, levels: &[Level], units: u32) -> Self {
        let unit = f64::from(units);
        let interval = |&level: &Level| {
            let (low, high) = ordered.var_interval(level, BAND_CONFIDENCE);
            low.zip(high).map(|(low, high)| (low / unit, high / unit))
        };
        Self {
            name,
            amounts: levels.iter().map(|&level| ordered.var(level) / unit).collect(),
            intervals: levels.iter().map(interval).collect(),
        }
    }
}

/// Number of whole decades of return periods that have [`MIN_TAIL_ITERATIONS`] beyond them, at most
/// [`MAX_DECADES`]. `None` with fewer than 100 iterations.
fn decades(iterations: u64) -> Option<u32> {
    let decades = (iterations / MIN_TAIL_ITERATIONS).checked_ilog10()?.min(MAX_DECADES);
    (decades >= 1).then_some(decades)
}

/// The probability level of each return period.
fn levels(decades: u32, points: usize) -> impl Iterator<Item = Level> {
    (0..points).map(move |x| {
        let exponent = f64::from(decades) * x as f64 / (points - 1) as f64;
        let exceedance = (LEVEL_DENOMINATOR as f64 / power_of_ten(exponent) + 0.5) as u64;
        Level::new(LEVEL_DENOMINATOR - exceedance.clamp(1, LEVEL_DENOMINATOR - 1), LEVEL_DENOMINATOR)
    })
}

/// A logarithmic axis of amounts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogScale {
    /// Amount at the lower end of the axis: a power of ten.
    pub bottom: f64,
    /// Amount at the upper end of the axis: the largest amount shown.
    pub top: f64,
}

impl LogScale {
    /// An axis that ends at the largest of `amounts` and begins at the power of ten at or below
    /// `low`. If `low` is 0 or not below the largest amount, it begins at the power of ten at or
    /// below a tenth of the largest amount.
    ///
    /// Returns `None` if the largest amount is 0.
    pub fn new(amounts: impl Iterator<Item = f64>, low: f64) -> Option<Self> {
        let top = amounts.fold(0.0, f64::max);
        let low = if low > 0.0 && low < top { low } else { top / 10.0 };
        (top > 0.0).then(|| Self { bottom: power_of_ten(log10(low).floor()), top })
    }

    /// Position of an amount on the axis: 0 at the bottom, 1 at the top. `None` if the amount is
    /// below the bottom.
    pub fn position(self, amount: f64) -> Option<f64> {
        (amount >= self.bottom).then(|| log10(amount / self.bottom) / log10(self.top / self.bottom))
    }

    /// The powers of ten from the bottom up to, but not including, the top.
    pub fn ticks(self) -> impl Iterator<Item = f64> {
        std::iter::successors(Some(self.bottom), |amount| Some(amount * 10.0))
            .take_while(move |&amount| amount < self.top)
    }
}

/// Computes 10^exponent. Exact for integers from 0 to 22.
fn power_of_ten(exponent: f64) -> f64 {
    let is_exact = exponent.trunc() == exponent && exponent.abs() <= 22.0;
    match is_exact {
        true if exponent >= 0.0 => (0..exponent as u32).fold(1.0, |power, _| power * 10.0),
        true => 1.0 / power_of_ten(-exponent),
        false => DoubleDouble::product(exponent, LN_10).exp().to_f64(),
    }
}

/// Decimal logarithm of a positive number, accurate to 15 digits, and exact for powers of ten from
/// 1 to 10^22.
fn log10(x: f64) -> f64 {
    // x = m · 2^k with m first in [1, 2), then in [√½, √2);
    // ln m = 2 · artanh(s) with s = (m − 1) / (m + 1).
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
    #[expect(clippy::disallowed_methods, reason = "the platform's logarithm is the reference of this test")]
    fn logarithms_agree_with_the_platform_to_1e_minus_14() {
        for x in [1e-9, 0.02, 0.99, 1.0, 1.5, 2.0, 999.0, 123_456.789, 9e15] {
            assert!((log10(x) - x.log10()).abs() < 1e-14 * x.log10().abs().max(1.0), "{x}");
        }
        assert_eq!([1.0, 10.0, 1000.0, 1e15].map(log10), [0.0, 1.0, 3.0, 15.0]);
        assert_eq!([0.0, 3.0, -2.0].map(power_of_ten), [1.0, 1000.0, 0.01]);
        assert!((power_of_ten(0.5) - 10f64.sqrt()).abs() < 1e-14);
    }

    #[test]
    fn log_scale_spans_powers_of_ten_up_to_the_largest_amount() {
        let scale = LogScale::new([0.0, 35.0, 25_000.0].into_iter(), 35.0).unwrap();
        assert_eq!((scale.bottom, scale.top), (10.0, 25_000.0));
        assert_eq!([9.9, 10.0, 25_000.0].map(|amount| scale.position(amount)), [None, Some(0.0), Some(1.0)]);
        assert_eq!(scale.ticks().collect::<Vec<_>>(), [10.0, 100.0, 1000.0, 10_000.0]);
        assert_eq!(LogScale::new([0.0].into_iter(), 0.0), None);
        assert_eq!(LogScale::new([5.0, 5.0].into_iter(), 5.0).unwrap().bottom, 0.1);
        assert_eq!(LogScale::new([10.0].into_iter(), 0.0).unwrap().bottom, 1.0);
    }

    #[test]
    fn return_periods_end_where_ten_iterations_lie_beyond() {
        let decades = [99, 100, 9_999, 1_000_000, u64::MAX].map(decades);
        assert_eq!(decades, [None, Some(1), Some(2), Some(4), Some(4)]);
        let all: Vec<_> = levels(4, 101).collect();
        assert_eq!(
            (all[0], all[100]),
            (Level::new(1, LEVEL_DENOMINATOR), Level::new(LEVEL_DENOMINATOR - 100, LEVEL_DENOMINATOR))
        );
        assert_eq!(all[25], Level::new(LEVEL_DENOMINATOR - 100_000, LEVEL_DENOMINATOR));
    }

    #[test]
    fn curves_of_a_stored_result_pass_through_its_return_periods() {
        let row = |period: u64, var: f64| {
            let aep = serde_json::json!({"var": var, "var_low": var / 2.0, "var_high": null});
            serde_json::json!({"return_period": period, "aep": aep, "oep": {"var": 0.0}})
        };
        let output = serde_json::json!({"exceedance": [row(10, 100.0), row(1000, 10_000.0)]});
        let curves = ExceedanceCurves::of_output(&output, 7, 3).unwrap();
        assert_eq!(curves.decades, 3);
        let names: Vec<_> = curves.curves.iter().map(|curve| curve.name).collect();
        assert_eq!(names, ["AEP", "OEP"]);
        let expected = [0.0, 0.0, 100.0, 316.23, 1000.0, 3162.28, 10_000.0];
        for (amount, expected) in curves.curves[0].amounts.iter().zip(expected) {
            assert!((amount - expected).abs() < 0.01, "{amount} {expected}");
        }
        assert!(curves.curves[0].intervals.iter().all(Option::is_none), "an end is missing");
        assert_eq!((curves.scale.bottom, curves.scale.top), (100.0, 10_000.0));
        let without = serde_json::json!({"exceedance": [row(10, 100.0)]});
        assert_eq!(ExceedanceCurves::of_output(&without, 7, 3), None, "one row is no curve");
        assert_eq!(ExceedanceCurves::of_output(&serde_json::json!({}), 7, 3), None);
    }
}
