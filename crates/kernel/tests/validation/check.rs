//! Executes a run and compares its result with what is expected.

use forge_contract::shard_result::ShardResult;
use forge_kernel::{
    backend::{Backend, simd::Simd},
    convergence::StopReason,
    reduction::merge_results,
    request::Request,
    statistics::Level,
};
use serde_json::{Value, json};

use crate::{
    cases::{FigureKind, Relation, ValidationCheck, ValidationRun},
    figures::{AmountSample, FractionBounds},
};

/// Standard errors within which an answer must lie.
const MAX_ERRORS: f64 = 4.0;
/// Relative rounding of figures that have no sampling error.
const ROUNDING: f64 = 1e-12;

/// A figure beside the published one.
#[derive(Clone)]
pub struct Finding {
    /// Profile of the run.
    pub profile: String,
    /// What the figure is.
    pub what: String,
    /// The published figure.
    pub expected: f64,
    /// What the run gave.
    pub found: f64,
    /// The 95% interval of a quantile.
    pub interval: Option<(Option<f64>, Option<f64>)>,
    /// Distance in standard errors; `None` without a sampling error.
    pub z: Option<f64>,
    /// Whether they agree.
    pub agrees: bool,
}

/// A run with its result.
struct Executed<'a> {
    run: &'a ValidationRun,
    request: Request,
    result: ShardResult,
    output: Value,
    unit: f64,
}

/// Executes a run and compares every figure.
pub fn execute(run: &ValidationRun, seed: &str) -> Vec<Finding> {
    let envelope = json!({
        "op": {"name": "mc", "version": 1, "profile": run.profile},
        "seed": {"mode": "explicit", "value": seed},
        "args": run.args
    });
    let request =
        Request::from_json(envelope.to_string().as_bytes()).unwrap_or_else(|e| panic!("{seed}: {e:?}"));
    let shards: Vec<_> = request.plan.shards().map(|id| request.shard(id)).collect();
    let results = Simd::new().execute(&request.program, &shards, &()).unwrap();
    let result = merge_results(&request.program, &results);
    let output = request.result_document(&result, StopReason::BudgetExhausted).output;
    let unit = f64::from(request.program.units);
    let executed = Executed { run, request, result, output, unit };
    run.checks.iter().map(|check| executed.compare(check)).collect()
}

impl Executed<'_> {
    fn compare(&self, check: &ValidationCheck) -> Finding {
        match &check.field {
            Some(field) => self.compare_field(check, field),
            None => self.compare_figure(check),
        }
    }

    fn finding(&self, check: &ValidationCheck, found: f64, z: Option<f64>) -> Finding {
        let difference = (found - check.expected).abs();
        let agrees = match z {
            Some(z) => z.abs() <= MAX_ERRORS,
            None => difference <= ROUNDING * check.expected.abs(),
        };
        let what = check.label.clone().unwrap_or_else(|| describe(check));
        let profile = self.run.profile.clone();
        Finding { profile, what, expected: check.expected, found, interval: None, z, agrees }
    }

    fn compare_field(&self, check: &ValidationCheck, field: &str) -> Finding {
        let value = self.output.pointer(field).unwrap_or_else(|| panic!("the output has no {field}"));
        let found = match value {
            Value::Array(items) => items.iter().map(number).sum(),
            other => number(other),
        };
        let years = self.result.iterations as f64;
        let z = check.std_dev.map(|deviation| distance(found, check, deviation / years.sqrt()));
        self.finding(check, found, z)
    }

    fn compare_figure(&self, check: &ValidationCheck) -> Finding {
        let sample = self.sample(check.of.as_deref().expect("a figure is of an amount"));
        let unit = self.unit;
        match check.figure.expect("a check has a field or a figure") {
            FigureKind::Mean => {
                let (mean, error) = sample.mean();
                let z = (!check.exact).then(|| distance(mean / unit, check, error / unit));
                self.finding(check, mean / unit, z)
            }
            FigureKind::Variance => {
                let (variance, error) = sample.variance();
                let z = distance(variance / unit / unit, check, error / unit / unit);
                self.finding(check, variance / unit / unit, Some(z))
            }
            FigureKind::StdDev => {
                let (variance, error) = sample.variance();
                let deviation = variance.sqrt();
                let z = distance(deviation / unit, check, error / (2.0 * deviation) / unit);
                self.finding(check, deviation / unit, Some(z))
            }
            FigureKind::Tvar => {
                let (tvar, error) = sample.tvar(level(check));
                self.finding(check, tvar / unit, Some(distance(tvar / unit, check, error / unit)))
            }
            FigureKind::Probability => self.compare_probability(check, &sample),
            FigureKind::Var => self.compare_quantile(check, &sample),
        }
    }

    fn sample(&self, name: &str) -> AmountSample {
        let named = |list: &str, name: &str, key: Option<&str>| {
            let list = self.run.args[list].as_array().unwrap();
            let is_named = |item: &Value| key.map_or(item, |key| &item[key]) == name;
            list.iter().position(is_named).unwrap_or_else(|| panic!("there is no {name}"))
        };
        let line_of = |name: &str| named("lines", name, None);
        let treaty_of = |name: &str| named("treaties", name, Some("name"));
        AmountSample::new(name, &self.request.program, &self.result, line_of, treaty_of)
    }

    /// The distance is 0 where the expected probability lies within the bounds that the bucket of
    /// the amount leaves.
    fn compare_probability(&self, check: &ValidationCheck, sample: &AmountSample) -> Finding {
        let amount = (check.amount.expect("a probability has an amount") * self.unit).round();
        let complement =
            |bounds: FractionBounds| FractionBounds { low: 1.0 - bounds.high, high: 1.0 - bounds.low };
        let bounds = match check.relation.expect("a probability has a relation") {
            Relation::AtMost => sample.at_most(amount),
            Relation::Above => complement(sample.at_most(amount)),
            Relation::AtLeast => complement(sample.below(amount)),
            Relation::At => {
                let (most, below) = (sample.at_most(amount), sample.below(amount));
                assert!(most.low == most.high, "amounts near {amount} share a bucket");
                FractionBounds { low: most.low - below.high, high: most.high - below.low }
            }
        };
        let p = check.expected;
        let allowed = p * check.relative;
        let error = (p * (1.0 - p) / sample.years).sqrt();
        let outside = if p + allowed < bounds.low {
            bounds.low - p - allowed
        } else if p - allowed > bounds.high {
            bounds.high - p + allowed
        } else {
            0.0
        };
        let z = if outside == 0.0 { 0.0 } else { outside / error };
        self.finding(check, (bounds.low + bounds.high) / 2.0, Some(z))
    }

    /// Compares ranks: a quantile q at the level p has P(S < q) ≤ p ≤ P(S ≤ q). The distance is
    /// that of p from the fractions of years below q and up to q, to a bucket.
    fn compare_quantile(&self, check: &ValidationCheck, sample: &AmountSample) -> Finding {
        let level = level(check);
        let p = level.to_f64();
        let expected = check.expected * self.unit;
        let below = sample.below(expected * (1.0 - check.relative)).low;
        let at_most = sample.at_most(expected * (1.0 + check.relative)).high;
        let error = (p * (1.0 - p) / sample.years).sqrt();
        // More years below than p: the run's quantile is lower.
        let z = if below > p {
            (p - below) / error
        } else if at_most < p {
            (p - at_most) / error
        } else {
            0.0
        };
        let (low, high) = sample.var_interval(level);
        let in_units = |bound: Option<f64>| bound.map(|amount| amount / self.unit);
        Finding {
            interval: Some((in_units(low), in_units(high))),
            ..self.finding(check, sample.var(level) / self.unit, Some(z))
        }
    }
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// The distance of a figure from the answer in standard errors, less what the answer is uncertain
/// by.
fn distance(found: f64, check: &ValidationCheck, error: f64) -> f64 {
    let difference = found - check.expected;
    let beyond = (difference.abs() - check.relative * check.expected.abs()).max(0.0);
    if beyond == 0.0 { 0.0 } else { beyond.copysign(difference) / error }
}

fn level(check: &ValidationCheck) -> Level {
    match (check.level, check.return_period) {
        (Some(level), None) => Level::new((level * 1e6).round() as u64, 1_000_000),
        (None, Some(period)) => Level::new(period - 1, period),
        _ => panic!("a quantile has a level or a return period"),
    }
}

/// The name of a figure.
fn describe(check: &ValidationCheck) -> String {
    let of = check.of.as_deref().unwrap_or_default();
    let amount = match of.split_once(' ') {
        Some((kind, name)) => format!("{kind} {name}"),
        None if of == "total" => "S".to_owned(),
        None => of.to_owned(),
    };
    let level = || match (check.level, check.return_period) {
        (Some(level), _) => format!("{}%", (level * 1e6).round() / 1e4),
        (_, period) => format!("{} years", period.unwrap_or_default()),
    };
    match (check.figure, &check.field) {
        (Some(FigureKind::Mean), _) => format!("mean of {amount}"),
        (Some(FigureKind::StdDev), _) => format!("standard deviation of {amount}"),
        (Some(FigureKind::Variance), _) => format!("variance of {amount}"),
        (Some(FigureKind::Var), _) if of == "largest" => format!("OEP {}", level()),
        (Some(FigureKind::Var), _) => format!("VaR {} of {amount}", level()),
        (Some(FigureKind::Tvar), _) => format!("TVaR {} of {amount}", level()),
        (Some(FigureKind::Probability), _) => {
            let relation = match check.relation {
                Some(Relation::At) => "=",
                Some(Relation::AtMost) => "<=",
                Some(Relation::AtLeast) => ">=",
                _ => ">",
            };
            format!("P({amount} {relation} {})", check.amount.unwrap_or_default())
        }
        (None, field) => format!("`{}`", field.as_deref().unwrap_or_default()),
    }
}
