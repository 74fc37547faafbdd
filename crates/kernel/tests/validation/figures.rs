//! The amounts of a result whose figures are compared, and how precisely each figure is known.

use forge_contract::{
    distribution::{Distribution, Resolution},
    program::Program,
    result_details::Quantity,
    shard_result::ShardResult,
};
use forge_kernel::statistics::{Level, Moments, OrderStatistics};

/// An amount over all years.
pub struct AmountSample {
    distribution: Distribution,
    ordered: OrderStatistics,
    moments: Option<Moments>,
    resolution: Resolution,
    /// The marks with the years exactly on each.
    at_marks: Vec<(u64, u64)>,
    /// Number of years.
    pub years: f64,
}

/// A fraction of the years, between two bounds: those of the buckets that an amount lies in.
#[derive(Clone, Copy)]
pub struct FractionBounds {
    pub low: f64,
    pub high: f64,
}

impl AmountSample {
    /// The amount that `name` means in a result of the program. `line_of` and `treaty_of` find
    /// lines and treaties by name.
    pub fn new(
        name: &str,
        program: &Program,
        result: &ShardResult,
        line_of: impl Fn(&str) -> usize,
        treaty_of: impl Fn(&str) -> usize,
    ) -> Self {
        let (kind, rest) = name.split_once(' ').unwrap_or((name, ""));
        let quantity = match kind {
            "total" => return Self::fine(&result.total, Some(Moments::new(result)), program, result),
            "largest" => return Self::fine(&result.largest, None, program, result),
            "gross" => Quantity::Gross,
            "line" => Quantity::GrossLine(line_of(rest)),
            "ceded" => Quantity::Ceded(treaty_of(rest)),
            "step" => {
                let step: usize = rest.parse().unwrap();
                if step == program.steps().len() {
                    return Self::fine(&result.total, Some(Moments::new(result)), program, result);
                }
                Quantity::NetAfterSteps(step)
            }
            _ => panic!("{name} is no amount"),
        };
        let at = program.quantities().iter().position(|other| *other == quantity).unwrap();
        let found = &result.details.as_ref().unwrap().quantities[at];
        let resolution = Resolution::COARSE;
        let marks = program.marks_of(quantity);
        Self {
            ordered: OrderStatistics::with_resolution(&found.distribution, &marks, resolution),
            distribution: found.distribution.clone(),
            moments: Some(Moments::of_sums(result.iterations, found.sum, found.sum_squares)),
            resolution,
            at_marks: marks.iter().copied().zip(found.distribution.at_marks.iter().copied()).collect(),
            years: result.iterations as f64,
        }
    }

    fn fine(
        distribution: &Distribution,
        moments: Option<Moments>,
        program: &Program,
        result: &ShardResult,
    ) -> Self {
        let marks = program.marks();
        Self {
            ordered: OrderStatistics::new(distribution, &marks),
            distribution: distribution.clone(),
            moments,
            resolution: Resolution::FINE,
            at_marks: marks.iter().copied().zip(distribution.at_marks.iter().copied()).collect(),
            years: result.iterations as f64,
        }
    }

    /// Mean and its standard error, in minor units.
    pub fn mean(&self) -> (f64, f64) {
        let moments = self.moments.expect("the amount has moments");
        (moments.mean, moments.std_error.unwrap_or(0.0))
    }

    /// Variance and its standard error, from the fourth moment of the histogram.
    pub fn variance(&self) -> (f64, f64) {
        let moments = self.moments.expect("the amount has moments");
        let variance = moments.variance.unwrap_or(0.0);
        let mut fourth = 0.0;
        for &(bucket, count) in &self.distribution.histogram {
            let (low, high) = self.bounds(bucket);
            let distance = (low + high) as f64 / 2.0 - moments.mean;
            let square = distance * distance;
            fourth += count as f64 * (square * square);
        }
        let kurtosis = fourth / self.years / (variance * variance);
        (variance, variance * ((kurtosis - 1.0).max(0.0) / self.years).sqrt())
    }

    fn bounds(&self, bucket: u32) -> (u64, u64) {
        let (low, high) = self.resolution.bounds(bucket as usize);
        (low.max(self.distribution.min), high.min(self.distribution.max))
    }

    /// The fraction of years with at most `amount` minor units. Years on a mark count where it is;
    /// others, in a bucket that holds the amount and larger ones, for the upper bound only.
    pub fn at_most(&self, amount: f64) -> FractionBounds {
        self.fraction(|_, high| high as f64 <= amount, |low, _| low as f64 <= amount)
    }

    /// The fraction of years with less than `amount` minor units.
    pub fn below(&self, amount: f64) -> FractionBounds {
        self.fraction(|_, high| (high as f64) < amount, |low, _| (low as f64) < amount)
    }

    fn fraction(
        &self,
        is_certain: impl Fn(u64, u64) -> bool,
        is_possible: impl Fn(u64, u64) -> bool,
    ) -> FractionBounds {
        let (mut low_count, mut high_count) = (0, 0);
        let mut add = |low: u64, high: u64, count: u64| {
            low_count += if is_certain(low, high) { count } else { 0 };
            high_count += if is_possible(low, high) { count } else { 0 };
        };
        for &(bucket, count) in &self.distribution.histogram {
            let (low, high) = self.bounds(bucket);
            let in_bucket = self.at_marks.iter().filter(|(mark, _)| (low..=high).contains(mark));
            let mut rest = count;
            for &(mark, at) in in_bucket {
                add(mark, mark, at);
                rest -= at;
            }
            add(low, high, rest);
        }
        FractionBounds { low: low_count as f64 / self.years, high: high_count as f64 / self.years }
    }

    /// Value at risk.
    pub fn var(&self, level: Level) -> f64 {
        self.ordered.var(level)
    }

    /// The 95% interval of the value at risk.
    pub fn var_interval(&self, level: Level) -> (Option<f64>, Option<f64>) {
        self.ordered.var_interval(level, 0.95)
    }

    /// Tail value at risk and its standard error.
    pub fn tvar(&self, level: Level) -> (f64, f64) {
        (self.ordered.tvar(level), self.ordered.tvar_half_width(level, 1.0))
    }
}
