//! The report: from a merged result to the figures that people read, and the result document (docs/determinism.md,
//! sections 9 and 11).

use forge_contract::{
    digest::Digest,
    envelope::Op,
    ids::ReplayKey,
    program::{MAX_AMOUNT, Program},
    shard_result::{BUCKETS, ShardResult, bucket_bounds, bucket_of},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    converge::StopReason,
    statistics::{Level, Moments, Ordered},
    workload::PROFILES,
};

/// Levels of the reported quantiles, in thousandths.
const LEVELS: [u64; 6] = [500, 900, 950, 990, 995, 999];
/// Reported return periods, in iterations.
const RETURN_PERIODS: [u64; 10] = [2, 5, 10, 25, 50, 100, 200, 250, 500, 1000];
/// Confidence of the reported intervals.
const CONFIDENCE: f64 = 0.95;
/// Histogram buckets that make one bar of the reported distribution: an eighth of an octave.
const BUCKETS_A_BAR: usize = 128;

/// A quantile of the total.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Quantile {
    /// The probability of not exceeding `var`.
    pub level: f64,
    /// Value at risk: the smallest amount that is not exceeded with at least this probability.
    pub var: f64,
    /// Lower end of the distribution-free 95% confidence interval of `var`; null if there are too few iterations for one.
    pub var_low: Option<f64>,
    /// Upper end of that interval.
    pub var_high: Option<f64>,
    /// Tail value at risk: the mean of the quantiles above the level.
    pub tvar: f64,
}

/// Amounts that are exceeded once in a return period.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Exceedance {
    /// The return period T, in iterations: the level is 1 − 1/T.
    pub return_period: u64,
    /// Aggregate exceedance: quantile of the total.
    pub aep: f64,
    /// Mean of the totals' quantiles above that level.
    pub aep_tvar: f64,
    /// Occurrence exceedance: quantile of the largest occurrence.
    pub oep: f64,
    /// Mean of the largest occurrences' quantiles above that level.
    pub oep_tvar: f64,
}

/// A histogram.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Buckets {
    /// Ends of the bars, ascending: one more than `counts`. A bar holds its lower end and not its upper one.
    pub edges: Vec<f64>,
    /// Iterations in each bar.
    pub counts: Vec<u64>,
}

/// The figures of a result, in units of the args.
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
    /// Share of iterations with a total of 0.
    pub zero_probability: f64,
    /// Share of iterations whose total is at the program's cap.
    pub cap_probability: f64,
    /// Quantiles of the total.
    pub quantiles: Vec<Quantile>,
    /// Exceedance by return period.
    pub exceedance: Vec<Exceedance>,
    /// Histogram of the total.
    pub distribution: Buckets,
}

impl Summary {
    /// The figures of a result of at least one iteration.
    pub fn new(result: &ShardResult, program: &Program) -> Self {
        let unit = f64::from(program.units);
        let marks = program.marks();
        let total = Ordered::new(&result.total, &marks);
        let largest = Ordered::new(&result.largest, &marks);
        let moments = Moments::new(result);
        let n = result.iterations as f64;
        let quantile = |thousandths: u64| {
            let level = Level::new(thousandths, 1000);
            let (low, high) = total.var_interval(level, CONFIDENCE);
            Quantile {
                level: level.to_f64(),
                var: total.var(level) / unit,
                var_low: low.map(|x| x / unit),
                var_high: high.map(|x| x / unit),
                tvar: total.tvar(level) / unit,
            }
        };
        let exceedance = |return_period: u64| {
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
            quantiles: LEVELS.into_iter().map(quantile).collect(),
            exceedance: RETURN_PERIODS.into_iter().map(exceedance).collect(),
            distribution: bars(result, unit),
        }
    }

    /// The quantiles' values, from 50% to 99.9%.
    pub fn percentiles(&self) -> [f64; 6] {
        std::array::from_fn(|i| self.quantiles[i].var)
    }
}

fn bars(result: &ShardResult, unit: f64) -> Buckets {
    let bar = |amount: u64| bucket_of(amount) / BUCKETS_A_BAR;
    let (first, last) = (bar(result.total.min), bar(result.total.max));
    let mut counts = vec![0; last - first + 1];
    for &(bucket, count) in &result.total.histogram {
        counts[bucket as usize / BUCKETS_A_BAR - first] += count;
    }
    let edge = |bar: usize| match bar * BUCKETS_A_BAR {
        BUCKETS => MAX_AMOUNT + 1,
        bucket => bucket_bounds(bucket).0,
    };
    let edges = (first..=last + 1).map(|bar| edge(bar) as f64 / unit).collect();
    Buckets { edges, counts }
}

/// Document `result.json`: a pure function of op, args and seed. Its canonical bytes are what is hashed and compared.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, title = "Forge result")]
pub struct ResultDocument {
    /// Always `forge.result.v1`.
    pub schema: &'static str,
    /// Kernel version: results are equal only under one kernel version.
    pub kernel: u32,
    /// Names the computation.
    pub replay_key: ReplayKey,
    /// The operation.
    pub op: Op,
    /// The args in normal form.
    pub args: Map<String, Value>,
    /// Where the random numbers come from.
    pub seed: SeedReport,
    /// SHA-256 of the program's canonical bytes.
    pub program: Digest,
    /// How many iterations, and why no more.
    pub iterations: Iterations,
    /// What was executed.
    pub work: Work,
    /// The figures, as the profile defines them.
    #[schemars(schema_with = "output_schema")]
    pub output: Value,
}

fn output_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let outputs: Vec<_> = PROFILES.iter().map(|profile| (profile.output_schema)(generator)).collect();
    schemars::json_schema!({ "description": "The figures, as the profile defines them.", "oneOf": outputs })
}

/// Where the random numbers come from.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct SeedReport {
    /// `derived` from op and args, or `explicit`.
    pub mode: &'static str,
    /// Root of the seed tree.
    pub root_seed: Digest,
}

/// How many iterations were executed, and why no more.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Iterations {
    /// Iterations asked for.
    pub requested: u64,
    /// Iterations the result stands on.
    pub performed: u64,
    /// Why the run ended.
    pub stop_reason: StopReason,
}

/// What was executed.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Work {
    /// Occurrences of all components.
    pub occurrences: u64,
    /// Amounts and totals that exceeded the largest amount and were cut to it: the result understates them. 0 as a rule.
    pub saturated: u64,
    /// The same by component.
    pub components: Vec<ComponentWork>,
}

/// Occurrences of one component.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ComponentWork {
    /// Name of the component.
    pub name: &'static str,
    /// Its occurrences.
    pub occurrences: u64,
    /// Those whose amount reached the component's limit (without a limit: saturated).
    pub capped: u64,
}

impl Work {
    /// Counts the work of a result; `names` are those of the program's components.
    pub fn new(result: &ShardResult, program: &Program, names: &[&'static str]) -> Self {
        let unlimited =
            program.components.iter().zip(&result.components).filter(|(c, _)| c.cap == MAX_AMOUNT);
        let amounts: u64 = unlimited.map(|(_, tally)| tally.capped).sum();
        let totals = if program.cap == MAX_AMOUNT { result.capped } else { 0 };
        let component = |(&name, tally): (&&'static str, &forge_contract::shard_result::Tally)| {
            ComponentWork { name, occurrences: tally.occurrences, capped: tally.capped }
        };
        Self {
            occurrences: result.components.iter().map(|tally| tally.occurrences).sum(),
            saturated: amounts + totals,
            components: names.iter().zip(&result.components).map(component).collect(),
        }
    }
}
