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
    statistics::{Level, Moments, OrderStatistics},
    summary::{HighestMoment, QuantileFigures, TailFigures},
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
    highest: HighestMoment,
}

/// Figures of an amount.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Figures {
    /// Mean; null for an amount without one.
    pub mean: Option<f64>,
    /// Sample standard deviation; null with a single year, and for an amount without a variance.
    pub std_dev: Option<f64>,
    /// Standard error of the mean; null likewise.
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

impl QuantityStatistics {
    /// The statistics of the total, after all treaties.
    pub fn of_total(result: &ShardResult, program: &Program, highest: HighestMoment) -> Self {
        let moments = Moments::new(result);
        let marks = program.marks();
        Self::new(&result.total, &marks, Resolution::FINE, moments, program.units, highest)
    }

    /// The statistics of the largest occurrence of all lines, before treaties; `sums` are those of
    /// its quantity.
    pub fn of_largest(
        result: &ShardResult,
        sums: &QuantityResult,
        program: &Program,
        highest: HighestMoment,
    ) -> Self {
        let moments = Moments::of_sums(result.iterations, sums.sum, sums.sum_squares);
        Self::new(&result.largest, &program.marks(), Resolution::FINE, moments, program.units, highest)
    }

    /// The statistics of a quantity of a portfolio.
    pub fn of_quantity(
        quantity: Quantity,
        result: &QuantityResult,
        iterations: u64,
        program: &Program,
        highest: HighestMoment,
    ) -> Self {
        let moments = Moments::of_sums(iterations, result.sum, result.sum_squares);
        let marks = program.marks_of(quantity);
        Self::new(&result.distribution, &marks, Resolution::COARSE, moments, program.units, highest)
    }

    fn new(
        distribution: &Distribution,
        marks: &[u64],
        resolution: Resolution,
        moments: Moments,
        units: u32,
        highest: HighestMoment,
    ) -> Self {
        Self {
            ordered: OrderStatistics::with_resolution(distribution, marks, resolution),
            moments,
            min: distribution.min,
            max: distribution.max,
            zeros: distribution.zeros(),
            unit: f64::from(units),
            highest,
        }
    }

    /// Mean, deviation, extremes, and the tails at these levels.
    pub fn figures(&self, levels: &[Level]) -> Figures {
        let unit = self.unit;
        let quantile = |&level: &Level| QuantileFigures { level: level.to_f64(), tail: self.tail(level) };
        Figures {
            mean: self.mean(),
            std_dev: self.moments.variance.and_then(|variance| self.highest.variance(variance.sqrt() / unit)),
            std_error: self.moments.std_error.and_then(|error| self.highest.variance(error / unit)),
            min: self.min as f64 / unit,
            max: self.max as f64 / unit,
            zero_probability: self.zeros as f64 / self.ordered.len() as f64,
            quantiles: levels.iter().map(quantile).collect(),
        }
    }

    /// The tail at a level.
    pub fn tail(&self, level: Level) -> TailFigures {
        TailFigures::new(&self.ordered, level, self.unit, self.highest)
    }

    /// The fraction of years in which the amount is above `amount` minor units.
    pub fn fraction_above(&self, amount: u64) -> f64 {
        self.ordered.fraction_above(amount)
    }

    /// The mean of a function of the amount in units of the args. Within a bucket, iterations are
    /// taken as spread evenly.
    pub fn mean_of(&self, function: impl Fn(f64) -> f64) -> f64 {
        self.ordered.mean_of(|amount| function(amount / self.unit))
    }

    /// Standard error of [`Self::mean_of`]; `None` for a single year.
    pub fn std_error_of(&self, function: impl Fn(f64) -> f64) -> Option<f64> {
        let n = self.ordered.len() as f64;
        let mean = self.mean_of(&function);
        let squared_deviation = |amount: f64| {
            let deviation = function(amount) - mean;
            deviation * deviation
        };
        (n > 1.0).then(|| (self.mean_of(squared_deviation) / (n - 1.0)).sqrt())
    }

    /// Mean in units of the args; `None` for an amount without one.
    pub fn mean(&self) -> Option<f64> {
        self.highest.mean(self.moments.mean / self.unit)
    }

    /// Fraction of years in which the amount is not 0.
    pub fn positive_probability(&self) -> f64 {
        (self.ordered.len() - self.zeros) as f64 / self.ordered.len() as f64
    }
}
