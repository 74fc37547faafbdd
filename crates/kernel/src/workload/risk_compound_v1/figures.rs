//! Figures of one quantity, in units of the args, with their confidence intervals.

use forge_contract::{
    distribution::Resolution,
    program::Program,
    result_details::{Quantity, QuantityResult},
    shard_result::{Distribution, ShardResult},
};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    statistics::{Level, Moments, OrderStatistics, two_sided_z},
    summary::INTERVAL_CONFIDENCE,
};

/// An amount of each year, over all years.
#[derive(Debug, Clone)]
pub struct QuantityStatistics {
    ordered: OrderStatistics,
    moments: Moments,
    min: u64,
    max: u64,
    zeros: u64,
    unit: f64,
}

/// Figures of an amount.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Figures {
    /// Mean.
    pub mean: f64,
    /// Sample standard deviation; null with a single year.
    pub std_dev: Option<f64>,
    /// Standard error of the mean; null with a single year.
    pub std_error: Option<f64>,
    /// Smallest amount.
    pub min: f64,
    /// Largest amount.
    pub max: f64,
    /// Fraction of years in which the amount is 0.
    pub zero_probability: f64,
    /// Value at risk and tail value at risk.
    pub quantiles: Vec<QuantileFigures>,
}

/// Value at risk and tail value at risk at a level, with 95% confidence intervals.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct QuantileFigures {
    /// The level.
    pub level: f64,
    /// Value and tail value at the level.
    #[serde(flatten)]
    pub tail: TailFigures,
}

/// Value at risk and tail value at risk, with 95% confidence intervals.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct TailFigures {
    /// Value at risk: the smallest amount that is not exceeded with at least the probability of the
    /// level.
    pub var: f64,
    /// Lower bound of the distribution-free interval of `var`; null if there are too few years.
    pub var_low: Option<f64>,
    /// Upper bound of that interval; null if there are too few years.
    pub var_high: Option<f64>,
    /// Tail value at risk: the mean of the quantiles above the level.
    pub tvar: f64,
    /// Lower bound of the asymptotic interval of `tvar`. With fewer than some 400 years beyond the
    /// level, the interval covers in fewer than 95% of runs.
    pub tvar_low: f64,
    /// Upper bound of that interval.
    pub tvar_high: f64,
}

impl QuantityStatistics {
    /// The statistics of the total, after all treaties.
    pub fn of_total(result: &ShardResult, program: &Program) -> Self {
        let moments = Moments::new(result);
        Self::new(&result.total, &program.marks(), Resolution::FINE, moments, program.units)
    }

    /// The statistics of the largest occurrence, before treaties. Its mean and standard deviation
    /// are not known.
    pub fn of_largest(result: &ShardResult, program: &Program) -> OrderStatistics {
        OrderStatistics::new(&result.largest, &program.marks())
    }

    /// The statistics of a quantity of a portfolio.
    pub fn of_quantity(
        quantity: Quantity,
        result: &QuantityResult,
        iterations: u64,
        program: &Program,
    ) -> Self {
        let moments = Moments::of_sums(iterations, result.sum, result.sum_squares);
        let marks = program.marks_of(quantity);
        Self::new(&result.distribution, &marks, Resolution::COARSE, moments, program.units)
    }

    fn new(
        distribution: &Distribution,
        marks: &[u64],
        resolution: Resolution,
        moments: Moments,
        units: u32,
    ) -> Self {
        Self {
            ordered: OrderStatistics::with_resolution(distribution, marks, resolution),
            moments,
            min: distribution.min,
            max: distribution.max,
            zeros: distribution.zeros(),
            unit: f64::from(units),
        }
    }

    /// Mean, deviation, extremes, and the tails at these levels.
    pub fn figures(&self, levels: &[Level]) -> Figures {
        let unit = self.unit;
        let quantile = |&level: &Level| QuantileFigures { level: level.to_f64(), tail: self.tail(level) };
        Figures {
            mean: self.moments.mean / unit,
            std_dev: self.moments.variance.map(|variance| variance.sqrt() / unit),
            std_error: self.moments.std_error.map(|error| error / unit),
            min: self.min as f64 / unit,
            max: self.max as f64 / unit,
            zero_probability: self.zeros as f64 / self.ordered.len() as f64,
            quantiles: levels.iter().map(quantile).collect(),
        }
    }

    /// The tail at a level.
    pub fn tail(&self, level: Level) -> TailFigures {
        tail_figures(&self.ordered, level, self.unit)
    }

    /// The fraction of years in which the amount is above `amount` minor units.
    pub fn fraction_above(&self, amount: u64) -> f64 {
        self.ordered.fraction_above(amount)
    }

    /// Mean in units of the args.
    pub fn mean(&self) -> f64 {
        self.moments.mean / self.unit
    }

    /// Fraction of years in which the amount is not 0.
    pub fn positive_probability(&self) -> f64 {
        (self.ordered.len() - self.zeros) as f64 / self.ordered.len() as f64
    }
}

/// The tail of an amount at a level.
pub fn tail_figures(ordered: &OrderStatistics, level: Level, unit: f64) -> TailFigures {
    let (low, high) = ordered.var_interval(level, INTERVAL_CONFIDENCE);
    let (tvar_low, tvar_high) = ordered.tvar_interval(level, two_sided_z(INTERVAL_CONFIDENCE));
    TailFigures {
        var: ordered.var(level) / unit,
        var_low: low.map(|amount| amount / unit),
        var_high: high.map(|amount| amount / unit),
        tvar: ordered.tvar(level) / unit,
        tvar_low: tvar_low / unit,
        tvar_high: tvar_high / unit,
    }
}
