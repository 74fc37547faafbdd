//! The summary of a merged result: its figures in units of the args (docs/determinism.md, sections
//! 9 and 11). Does not know what the figures mean to a profile.

use forge_contract::{
    program::{MAX_AMOUNT, Program},
    shard_result::{HISTOGRAM_BUCKETS, ShardResult, bucket_bounds, bucket_of},
};
use schemars::JsonSchema;
use serde::Serialize;

use crate::statistics::{Level, Moments, OrderStatistics, two_sided_z};

/// Levels of the standard quantiles, in thousandths.
const STANDARD_LEVELS_PER_MILLE: [u64; 6] = [500, 900, 950, 990, 995, 999];
/// Return periods where the args name none, in iterations.
pub const DEFAULT_RETURN_PERIODS: [u64; 10] = [2, 5, 10, 25, 50, 100, 200, 250, 500, 1000];
/// Confidence level of the reported intervals.
pub(crate) const INTERVAL_CONFIDENCE: f64 = 0.95;
/// Iterations beyond a level from which on the interval of the tail value covers in about 95% of
/// runs; with fewer it is too narrow.
pub const MIN_BEYOND_FOR_TAIL_VALUES: u64 = 400;
/// Buckets of a result that form one bar of the reported histogram, which is an eighth of an octave
/// wide.
const BUCKETS_PER_BAR: usize = 128;

/// The levels and return periods that a result reports, and which moments there are to report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportedTails {
    /// Levels of value at risk and tail value at risk, ascending.
    pub levels: Vec<Level>,
    /// Return periods of exceedance, in iterations, ascending: each at least 2.
    pub return_periods: Vec<u64>,
    /// The highest moment of the total.
    pub total: HighestMoment,
    /// The highest moment of the largest occurrence.
    pub largest: HighestMoment,
}

impl Default for ReportedTails {
    fn default() -> Self {
        Self {
            levels: STANDARD_LEVELS_PER_MILLE.map(|thousandths| Level::new(thousandths, 1000)).into(),
            return_periods: DEFAULT_RETURN_PERIODS.into(),
            total: HighestMoment::Variance,
            largest: HighestMoment::Variance,
        }
    }
}

/// The highest moment, up to the second, that an amount has. Distributions with a heavy tail may
/// lack both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HighestMoment {
    /// Not even a mean.
    None,
    /// A mean, but no variance.
    Mean,
    /// Mean and variance.
    Variance,
}

impl HighestMoment {
    /// A figure that is a mean; `None` if there is none.
    pub fn mean(self, figure: f64) -> Option<f64> {
        (self >= Self::Mean).then_some(figure)
    }

    /// A figure that depends on a variance; `None` if there is none.
    pub fn variance(self, figure: f64) -> Option<f64> {
        (self >= Self::Variance).then_some(figure)
    }
}

/// Value at risk and tail value at risk, with 95% confidence intervals.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct TailFigures {
    /// Value at risk: the smallest amount that is not exceeded with at least the probability of the
    /// level.
    pub var: f64,
    /// Lower bound of the distribution-free interval of `var`; null if there are too few
    /// iterations.
    pub var_low: Option<f64>,
    /// Upper bound of that interval; null if there are too few iterations.
    pub var_high: Option<f64>,
    /// Tail value at risk: the mean of the quantiles above the level; null for an amount without a
    /// mean.
    pub tvar: Option<f64>,
    /// Lower bound of the asymptotic interval of `tvar`; null for an amount without a variance.
    /// With fewer than some 400 iterations beyond the level, the interval covers in fewer than 95%
    /// of runs.
    pub tvar_low: Option<f64>,
    /// Upper bound of that interval; null likewise.
    pub tvar_high: Option<f64>,
}

impl TailFigures {
    /// The tail of an amount at a level, in units of the args.
    pub fn new(ordered: &OrderStatistics, level: Level, unit: f64, moment: HighestMoment) -> Self {
        let (low, high) = ordered.var_interval(level, INTERVAL_CONFIDENCE);
        let (tvar_low, tvar_high) = ordered.tvar_interval(level, two_sided_z(INTERVAL_CONFIDENCE));
        Self {
            var: ordered.var(level) / unit,
            var_low: low.map(|amount| amount / unit),
            var_high: high.map(|amount| amount / unit),
            tvar: moment.mean(ordered.tvar(level) / unit),
            tvar_low: moment.variance(tvar_low / unit),
            tvar_high: moment.variance(tvar_high / unit),
        }
    }
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

/// The amounts that are exceeded once in a return period, on average.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Exceedance {
    /// The return period T, in iterations: the level is 1 − 1/T.
    pub return_period: u64,
    /// Aggregate exceedance: the tail of the total.
    pub aep: TailFigures,
    /// Occurrence exceedance: the tail of the largest occurrence.
    pub oep: TailFigures,
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
    /// Mean of the total; `None` if it has none.
    pub mean: Option<f64>,
    /// Sample standard deviation of the total; `None` for a single iteration, and for a total
    /// without a variance.
    pub std_dev: Option<f64>,
    /// Standard error of the mean; `None` likewise.
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
    pub quantiles: Vec<QuantileFigures>,
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
        let quantile = |&level: &Level| QuantileFigures {
            level: level.to_f64(),
            tail: TailFigures::new(&total, level, unit, reported.total),
        };
        let exceedance = |&return_period: &u64| {
            let level = Level::new(return_period - 1, return_period);
            Exceedance {
                return_period,
                aep: TailFigures::new(&total, level, unit, reported.total),
                oep: TailFigures::new(&largest, level, unit, reported.largest),
            }
        };
        Self {
            mean: reported.total.mean(moments.mean / unit),
            std_dev: moments.variance.and_then(|v| reported.total.variance(v.sqrt() / unit)),
            std_error: moments.std_error.and_then(|e| reported.total.variance(e / unit)),
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
