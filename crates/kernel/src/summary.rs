//! The summary of a merged result: its figures in units of the args (docs/determinism.md, sections
//! 9 and 11). Does not know what the figures mean to a profile.

use forge_contract::{
    program::{MAX_AMOUNT, Program},
    shard_result::{HISTOGRAM_BUCKETS, ShardResult, bucket_bounds, bucket_of},
};
use schemars::JsonSchema;
use serde::Serialize;

use crate::statistics::{Level, Moments, OrderStatistics};

/// Levels of the standard quantiles, in thousandths.
const STANDARD_LEVELS_PER_MILLE: [u64; 6] = [500, 900, 950, 990, 995, 999];
/// Return periods where the args name none, in iterations.
pub const DEFAULT_RETURN_PERIODS: [u64; 10] = [2, 5, 10, 25, 50, 100, 200, 250, 500, 1000];
/// Confidence level of the reported intervals.
pub(crate) const INTERVAL_CONFIDENCE: f64 = 0.95;
/// Buckets of a result that form one bar of the reported histogram, which is an eighth of an octave
/// wide.
const BUCKETS_PER_BAR: usize = 128;

/// The levels and return periods that a result reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportedTails {
    /// Levels of value at risk and tail value at risk, ascending.
    pub levels: Vec<Level>,
    /// Return periods of exceedance, in iterations, ascending: each at least 2.
    pub return_periods: Vec<u64>,
}

impl Default for ReportedTails {
    fn default() -> Self {
        Self {
            levels: STANDARD_LEVELS_PER_MILLE.map(|thousandths| Level::new(thousandths, 1000)).into(),
            return_periods: DEFAULT_RETURN_PERIODS.into(),
        }
    }
}

/// A quantile of the total.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Quantile {
    /// The probability that the total does not exceed `var`.
    pub level: f64,
    /// Value at risk: the smallest amount that is not exceeded with at least this probability.
    pub var: f64,
    /// Lower bound of the distribution-free 95% confidence interval of `var`; null if there are too
    /// few iterations.
    pub var_low: Option<f64>,
    /// Upper bound of that interval; null if there are too few iterations.
    pub var_high: Option<f64>,
    /// Tail value at risk: the mean of the quantiles above the level.
    pub tvar: f64,
}

/// The amounts that are exceeded once in a return period, on average.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Exceedance {
    /// The return period T, in iterations: the level is 1 − 1/T.
    pub return_period: u64,
    /// Aggregate exceedance: quantile of the total.
    pub aep: f64,
    /// Mean of the quantiles of the total above that level.
    pub aep_tvar: f64,
    /// Occurrence exceedance: quantile of the largest occurrence.
    pub oep: f64,
    /// Mean of the quantiles of the largest occurrence above that level.
    pub oep_tvar: f64,
}

/// A histogram of the total.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Buckets")]
pub struct Histogram {
    /// Edges of the bars, ascending: one more than `counts`. A bar includes its lower edge and
    /// excludes its upper edge.
    pub edges: Vec<f64>,
    /// Iterations in each bar.
    pub counts: Vec<u64>,
}

/// The figures of a merged result, in units of the args.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Mean of the total.
    pub mean: f64,
    /// Sample standard deviation of the total; `None` for a single iteration.
    pub std_dev: Option<f64>,
    /// Standard error of the mean; `None` for a single iteration.
    pub std_error: Option<f64>,
    /// Smallest total.
    pub min: f64,
    /// Largest total.
    pub max: f64,
    /// Fraction of iterations with a total of 0.
    pub zero_probability: f64,
    /// Fraction of iterations whose total is at the program's cap.
    pub cap_probability: f64,
    /// The quantiles of the total at 50%, 90%, 95%, 99%, 99.5% and 99.9%.
    pub standard_quantiles: [f64; 6],
    /// Quantiles of the total at the reported levels.
    pub quantiles: Vec<Quantile>,
    /// Exceedance by return period.
    pub exceedance: Vec<Exceedance>,
    /// Histogram of the total.
    pub distribution: Histogram,
}

impl Summary {
    /// Summarises a result of at least one iteration.
    pub fn new(result: &ShardResult, program: &Program, reported: &ReportedTails) -> Self {
        let unit = f64::from(program.units);
        let marks = program.marks();
        let total = OrderStatistics::new(&result.total, &marks);
        let largest = OrderStatistics::new(&result.largest, &marks);
        let moments = Moments::new(result);
        let n = result.iterations as f64;
        let quantile = |&level: &Level| {
            let (low, high) = total.var_interval(level, INTERVAL_CONFIDENCE);
            Quantile {
                level: level.to_f64(),
                var: total.var(level) / unit,
                var_low: low.map(|x| x / unit),
                var_high: high.map(|x| x / unit),
                tvar: total.tvar(level) / unit,
            }
        };
        let exceedance = |&return_period: &u64| {
            let level = Level::new(return_period - 1, return_period);
            Exceedance {
                return_period,
                aep: total.var(level) / unit,
                aep_tvar: total.tvar(level) / unit,
                oep: largest.var(level) / unit,
                oep_tvar: largest.tvar(level) / unit,
            }
        };
        Self {
            mean: moments.mean / unit,
            std_dev: moments.variance.map(|v| v.sqrt() / unit),
            std_error: moments.std_error.map(|e| e / unit),
            min: result.total.min as f64 / unit,
            max: result.total.max as f64 / unit,
            zero_probability: result.total.zeros() as f64 / n,
            cap_probability: result.capped as f64 / n,
            standard_quantiles: STANDARD_LEVELS_PER_MILLE
                .map(|thousandths| total.var(Level::new(thousandths, 1000)) / unit),
            quantiles: reported.levels.iter().map(quantile).collect(),
            exceedance: reported.return_periods.iter().map(exceedance).collect(),
            distribution: total_histogram(result, unit),
        }
    }
}

/// Groups the buckets of the total into bars, from that of the minimum to that of the maximum.
fn total_histogram(result: &ShardResult, unit: f64) -> Histogram {
    let bar = |amount: u64| bucket_of(amount) / BUCKETS_PER_BAR;
    let (first, last) = (bar(result.total.min), bar(result.total.max));
    let mut counts = vec![0; last - first + 1];
    for &(bucket, count) in &result.total.histogram {
        counts[bucket as usize / BUCKETS_PER_BAR - first] += count;
    }
    let edge = |bar: usize| match bar * BUCKETS_PER_BAR {
        HISTOGRAM_BUCKETS => MAX_AMOUNT + 1,
        bucket => bucket_bounds(bucket).0,
    };
    let edges = (first..=last + 1).map(|bar| edge(bar) as f64 / unit).collect();
    Histogram { edges, counts }
}
