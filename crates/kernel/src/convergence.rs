//! Convergence: whether a run may end before its budget (docs/determinism.md, section 10). The test
//! runs at fixed checkpoints on the merge of all iterations before them. It must never see results
//! out of order: then where a run ends is a pure function of the envelope.

use std::ops::Bound::Excluded;

use forge_contract::{shard_result::ShardResult, strict::ObjectReader};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    plan::MAX_ITERATIONS,
    statistics::{Level, Moments, OrderStatistics, two_sided_z},
};

/// Denominator of a level: levels have at most six decimals.
const LEVEL_DENOMINATOR: u64 = 1_000_000;

/// When a run may end before its budget: as soon as `metric` is precise enough, or the variance is
/// stable. Tested at checkpoints of 65,536 times 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, …
/// iterations.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Convergence {
    /// The figure whose precision is tested.
    pub metric: Metric,
    /// Level of `var` or `tvar`, with at most six decimals, which a schema cannot check in binary
    /// floating point. Not allowed for `mean`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0.0, "exclusiveMaximum" = 1.0))]
    pub level: Option<f64>,
    /// The run ends when half the width of the figure's confidence interval is at most this
    /// fraction of the figure.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0.0))]
    pub relative_half_width: f64,
    /// Confidence level of the interval. Default 0.95.
    #[schemars(with = "Option<f64>", range(min = 0.5, max = 0.999_999), default = "default_confidence")]
    pub confidence: f64,
    /// The first checkpoint tested is the first one at or after this many iterations. Default 1.
    #[schemars(
        with = "Option<u64>",
        range(min = 1, max = 281_474_976_710_656_u64),
        default = "default_min_iterations"
    )]
    pub min_iterations: u64,
    /// The run also ends when the sample variance has changed by at most the fraction
    /// `relative_half_width` at this many consecutive checkpoints. Default 0: never.
    #[schemars(with = "Option<u64>", range(min = 0, max = 100), default)]
    pub stable_checkpoints: u64,
}

fn default_confidence() -> f64 {
    0.95
}

fn default_min_iterations() -> u64 {
    1
}

/// A figure of the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Mean.
    Mean,
    /// Value at risk at `level`: the quantile.
    Var,
    /// Tail value at risk at `level`: the mean beyond the quantile.
    Tvar,
}

const METRIC_NAMES: [(&str, Metric); 3] =
    [("mean", Metric::Mean), ("var", Metric::Var), ("tvar", Metric::Tvar)];

/// Why a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// The figure's confidence interval is narrow enough.
    BandReached,
    /// The variance has been stable for `stable_checkpoints` checkpoints.
    VarianceStable,
    /// All requested iterations were executed.
    BudgetExhausted,
}

impl Convergence {
    /// Reads `args.convergence`; errors go to the collector of `object`.
    pub fn read(mut object: ObjectReader<'_, '_>) -> Self {
        let metric = object.required_choice("metric", &METRIC_NAMES);
        let has_metric = !object.has_error("metric");
        let level = object.optional_number("level", (Excluded(0.0), Excluded(1.0)));
        match (metric, level) {
            (Metric::Mean, Some(_)) if has_metric => {
                object.error("level", "is not allowed with metric `mean`: omit it")
            }
            (Metric::Var | Metric::Tvar, None) if has_metric && !object.has_error("level") => {
                object.error("level", "is missing: metrics `var` and `tvar` require a level, such as 0.995");
            }
            (_, Some(level)) if level_in_millionths(level).is_none() && !object.has_error("level") => {
                object.error("level", format!("must have at most six decimals; it is {level}"));
            }
            _ => {}
        }
        let confidence = object.optional_number("confidence", 0.5..=0.999_999);
        let min_iterations = object.optional_integer("min_iterations", 1..=MAX_ITERATIONS);
        let convergence = Self {
            metric,
            level,
            relative_half_width: object
                .required_number("relative_half_width", (Excluded(0.0), std::ops::Bound::Included(1.0))),
            confidence: confidence.unwrap_or_else(default_confidence),
            min_iterations: min_iterations.unwrap_or_else(default_min_iterations),
            stable_checkpoints: object.optional_integer("stable_checkpoints", 0..=100).unwrap_or(0),
        };
        object.finish();
        convergence
    }

    /// The normal form, with defaults filled in.
    pub fn to_value(&self) -> Value {
        use forge_contract::strict::number_to_value;
        let mut map = Map::new();
        let metric = METRIC_NAMES.iter().find(|(_, metric)| *metric == self.metric).map(|(name, _)| *name);
        map.insert("metric".into(), metric.into());
        if let Some(level) = self.level {
            map.insert("level".into(), number_to_value(level));
        }
        map.insert("relative_half_width".into(), number_to_value(self.relative_half_width));
        map.insert("confidence".into(), number_to_value(self.confidence));
        map.insert("min_iterations".into(), self.min_iterations.into());
        map.insert("stable_checkpoints".into(), self.stable_checkpoints.into());
        Value::Object(map)
    }
}

/// The level as a fraction over 10^6; `None` if it has more than six decimals.
pub(crate) fn level_in_millionths(level: f64) -> Option<Level> {
    let millionths = (level * LEVEL_DENOMINATOR as f64).round();
    let exact = millionths / LEVEL_DENOMINATOR as f64 == level && millionths > 0.0 && level < 1.0;
    exact.then(|| Level::new(millionths as u64, LEVEL_DENOMINATOR))
}

/// Tests convergence from checkpoint to checkpoint of one run.
#[derive(Debug, Clone)]
pub struct ConvergenceMonitor {
    convergence: Convergence,
    marks: Vec<u64>,
    /// Half width of the confidence interval in standard errors.
    z: f64,
    last_variance: Option<f64>,
    /// Consecutive checkpoints, up to the last one, at which the variance was stable.
    stable_checkpoints: u64,
}

impl ConvergenceMonitor {
    /// A monitor for a run; `marks` are those of its program.
    pub fn new(convergence: Convergence, marks: Vec<u64>) -> Self {
        let z = two_sided_z(convergence.confidence);
        Self { convergence, marks, z, last_variance: None, stable_checkpoints: 0 }
    }

    /// Tests the merge of all iterations up to a checkpoint, and returns the reason if the run ends
    /// there. Must be called for every checkpoint of the plan, in ascending order.
    pub fn test(&mut self, prefix: &ShardResult) -> Option<StopReason> {
        let moments = Moments::new(prefix);
        let estimate = self.estimate(prefix, &moments);
        let variance = moments.variance.unwrap_or(0.0);
        let width = self.convergence.relative_half_width;
        let is_stable = self.last_variance.is_some_and(|last| (variance - last).abs() <= width * variance);
        self.stable_checkpoints = if is_stable { self.stable_checkpoints + 1 } else { 0 };
        self.last_variance = Some(variance);
        if estimate.is_some_and(|(estimate, half_width)| estimate > 0.0 && half_width <= width * estimate) {
            return Some(StopReason::BandReached);
        }
        let required = self.convergence.stable_checkpoints;
        (required > 0 && self.stable_checkpoints >= required).then_some(StopReason::VarianceStable)
    }

    /// The figure and half the width of its confidence interval, in minor units; `None` while there
    /// are too few iterations.
    fn estimate(&self, prefix: &ShardResult, moments: &Moments) -> Option<(f64, f64)> {
        if self.convergence.metric == Metric::Mean {
            return Some((moments.mean, self.z * moments.std_error?));
        }
        let level = level_in_millionths(self.convergence.level?)?;
        let ordered = OrderStatistics::new(&prefix.total, &self.marks);
        // If either bound has no order statistic, there are too few iterations for this level.
        let (low, high) = ordered.var_interval(level, self.convergence.confidence);
        let (low, high) = (low?, high?);
        Some(match self.convergence.metric {
            Metric::Tvar => (ordered.tvar(level), ordered.tvar_half_width(level, self.z)),
            _ => (ordered.var(level), (high - low) / 2.0),
        })
    }
}
