//! Profile `insurance.v1`: one iteration is one year of a portfolio, in the collective risk model
//! (Klugman, Panjer, Willmot, "Loss Models", 4th ed., chapter 9).
//!
//! The number of claims is Poisson. Each claim is lognormal and capped at the policy limit. With
//! some probability there is one lognormal catastrophe loss, which affects many policies and is
//! therefore not capped at the policy limit. The total of the year is capped at the aggregate
//! limit.

use forge_contract::{
    error::InvalidDocument,
    plain_program::plain_program,
    program::{MAX_AMOUNT, Program, Segment},
    shard_result::ShardResult,
    strict::{ObjectReader, number_to_value},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{
    Budget, Profile, Vocabulary, WorkloadModel, cap_of_limit,
    reported_tails::TailReportArgs,
    table_error,
    warning::{Warning, WarningList, grouped},
};
use crate::{
    convergence::Convergence,
    counts::CountLaw,
    double_double::DoubleDouble,
    severities::SeverityLaw,
    summary::{Exceedance, Histogram, QuantileFigures, ReportedTails, Summary},
};

/// The profile `insurance.v1`.
pub const PROFILE: Profile = Profile {
    op: "mc",
    version: 1,
    name: "insurance.v1",
    vocabulary: Vocabulary {
        iterations: "years",
        occurrences: "losses",
        quantity: "annual loss",
        unit: "",
        return_periods: true,
    },
    formula: &[
        "Annual loss = min(aggregate_limit, min(X₁, policy_limit) + … + min(X_N, policy_limit) + B · C). A limit \
         that is not given does not apply.",
        "N is the number of claims, Poisson with mean claim_freq. Each claim X is lognormal: ln X is normal with \
         mean claim_severity_mu and standard deviation claim_severity_sig. B is 1 with probability cat_prob, the \
         year has a catastrophe, and otherwise 0. Its loss C is lognormal with cat_mu and cat_sig. All of them \
         are independent.",
    ],
    read_args,
    args_schema: |generator| generator.subschema_for::<InsuranceArgs>(),
    output_schema: |generator| generator.subschema_for::<InsuranceOutput>(),
    example_args: || {
        json!({
            "iterations": 1_000_000, "claim_freq": 2.0, "claim_severity_mu": 6.0, "claim_severity_sig": 1.0,
            "cat_prob": 0.02, "cat_mu": 10.0, "cat_sig": 1.5, "policy_limit": 50_000, "aggregate_limit": 250_000
        })
    },
    examples: &[],
};

/// Minor units in a unit of the currency: amounts have two decimals.
const UNITS: u32 = 100;
/// Largest limit, in units of the currency: it stays below the amount at which results saturate.
const MAX_LIMIT: f64 = 1e13;
/// Largest sigma for which tables with 6 segment bits are accurate enough. Beyond it they need 7.
const MAX_SIGMA_OF_SMALL_TABLES: f64 = 4.0;

/// Args of `mc` version 1, profile `insurance.v1`: one iteration is one year. Amounts are in one
/// currency, with two decimals.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "InsuranceArgs")]
pub struct InsuranceArgs {
    /// Years to simulate.
    #[schemars(range(min = 1, max = 281_474_976_710_656_u64))]
    pub iterations: u64,
    /// Expected number of claims in a year, without catastrophes: the mean of a Poisson
    /// distribution.
    #[schemars(range(min = 0.0, max = 10_000.0))]
    pub claim_freq: f64,
    /// Mean of the natural logarithm of a claim: the median claim is e to this power.
    #[schemars(range(min = -50.0, max = 50.0))]
    pub claim_severity_mu: f64,
    /// Standard deviation of the natural logarithm of a claim. Above 5, a noticeable part of the
    /// mean lies beyond the largest draw (docs/determinism.md, section 5.2).
    #[schemars(range(min = 1e-9, max = 8.0))]
    pub claim_severity_sig: f64,
    /// Probability of a catastrophe loss in a year. Given together with `cat_mu` and `cat_sig`, or
    /// not at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub cat_prob: Option<f64>,
    /// Mean of the natural logarithm of the catastrophe loss.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -50.0, max = 50.0))]
    pub cat_mu: Option<f64>,
    /// Standard deviation of the natural logarithm of the catastrophe loss.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1e-9, max = 8.0))]
    pub cat_sig: Option<f64>,
    /// Largest amount paid for one claim. Does not apply to catastrophe losses. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.01, max = 1e13))]
    pub policy_limit: Option<f64>,
    /// Largest amount paid in one year. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.01, max = 1e13))]
    pub aggregate_limit: Option<f64>,
    /// What is reported. Default: the default levels and return periods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<TailReportArgs>,
    /// Ends the run before `iterations` once a figure is precise enough.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub convergence: Option<Convergence>,
}

/// The model of valid args.
#[derive(Debug)]
struct InsuranceModel {
    args: InsuranceArgs,
    budget: Budget,
}

fn read_args(mut object: ObjectReader<'_, '_>) -> Box<dyn WorkloadModel> {
    let budget = Budget::read(&mut object);
    let mu = -50.0..=50.0;
    let sigma = 1e-9..=8.0;
    let limit = 0.01..=MAX_LIMIT;
    let has_report = object.node("report").is_some();
    let args = InsuranceArgs {
        iterations: budget.iterations,
        claim_freq: object.required_number("claim_freq", 0.0..=10_000.0),
        claim_severity_mu: object.required_number("claim_severity_mu", mu.clone()),
        claim_severity_sig: object.required_number("claim_severity_sig", sigma.clone()),
        cat_prob: object.optional_number("cat_prob", 0.0..=1.0),
        cat_mu: object.optional_number("cat_mu", mu),
        cat_sig: object.optional_number("cat_sig", sigma),
        policy_limit: object.optional_number("policy_limit", limit.clone()),
        aggregate_limit: object.optional_number("aggregate_limit", limit),
        report: has_report.then(|| TailReportArgs::read(object.optional_object("report"))),
        convergence: budget.convergence.clone(),
    };
    let cat = [("cat_prob", args.cat_prob), ("cat_mu", args.cat_mu), ("cat_sig", args.cat_sig)];
    if cat.iter().any(|(_, value)| value.is_some()) {
        for (name, _) in cat.iter().filter(|(_, value)| value.is_none()) {
            object.error(name, "is missing: give all of cat_prob, cat_mu and cat_sig or none of them");
        }
    }
    let model = InsuranceModel { args, budget };
    model.budget.check_draws(model.expected_draws(), &mut object);
    object.finish();
    Box::new(model)
}

impl InsuranceModel {
    /// Probability, mu and sigma of the catastrophe.
    fn catastrophe(&self) -> Option<(f64, f64, f64)> {
        Some((self.args.cat_prob?, self.args.cat_mu?, self.args.cat_sig?))
    }

    fn segment_bits(&self) -> u32 {
        let cat_sigma = self.catastrophe().map_or(0.0, |cat| cat.2);
        if self.args.claim_severity_sig.max(cat_sigma) <= MAX_SIGMA_OF_SMALL_TABLES { 6 } else { 7 }
    }

    fn lognormal_table(&self, mu: f64, sigma: f64, pointer: &str) -> Result<Vec<Segment>, InvalidDocument> {
        SeverityLaw::Lognormal { mu, sigma }.table(UNITS, self.segment_bits()).map_err(table_error(pointer))
    }

    /// Refuses a component whose median would saturate, unless a limit applies. `expected` is the
    /// mean number of its occurrences.
    fn check_size(
        &self,
        mu: f64,
        expected: f64,
        limit: Option<f64>,
        pointer: &str,
    ) -> Result<(), InvalidDocument> {
        let median = exp(mu) * f64::from(UNITS) * expected.max(1.0);
        let limited = limit.is_some() || self.args.aggregate_limit.is_some();
        if limited || median < MAX_AMOUNT as f64 {
            return Ok(());
        }
        let message = format!(
            "is too large: most amounts would exceed the largest representable one, {} (with a mu of 25 the \
             median is 7.2e10); lower it, or give a limit",
            MAX_AMOUNT as f64 / f64::from(UNITS)
        );
        Err(InvalidDocument::single(pointer, message))
    }
}

/// Standard deviations below the median that all but a 740th of the claims exceed.
const NEARLY_ALL: f64 = 3.0;
/// Standard deviations above the median that a hundredth of the claims exceeds.
const ONE_IN_100: f64 = 2.326;

impl InsuranceModel {
    fn warn_about_limits(&self, warnings: &mut WarningList) {
        let a = &self.args;
        let (Some(limit), true) = (a.policy_limit, a.claim_freq > 0.0) else { return };
        if a.aggregate_limit.is_some_and(|aggregate| aggregate < limit) {
            warnings
                .push("/policy_limit", "is above aggregate_limit, which is reached first: it has no effect");
        }
        let (median, low) =
            (exp(a.claim_severity_mu), exp(a.claim_severity_mu - NEARLY_ALL * a.claim_severity_sig));
        if low > limit {
            let (limit, median) = (grouped(limit), grouped(median.round()));
            let message =
                format!("is {limit}, which nearly every claim reaches: the median claim is {median}");
            warnings.push("/policy_limit", message);
        }
    }

    /// Warns where a part of the amounts is cut to the largest one, so that all figures are too
    /// low.
    fn warn_about_saturation(&self, warnings: &mut WarningList) {
        let a = &self.args;
        let largest = MAX_AMOUNT as f64 / f64::from(UNITS);
        let claims =
            a.policy_limit.is_none().then_some((a.claim_freq, a.claim_severity_mu, a.claim_severity_sig));
        let components = [(claims, "/claim_severity_sig"), (self.catastrophe(), "/cat_sig")];
        for (component, path) in components {
            let Some((frequency, mu, sigma)) = component else { continue };
            if a.aggregate_limit.is_none() && frequency > 0.0 && exp(mu + ONE_IN_100 * sigma) > largest {
                let message = format!(
                    "makes more than one amount in 100 exceed {}, the largest there is: they are cut to it, and all \
                     figures are too low. Lower it, or give a limit",
                    grouped(largest.floor())
                );
                warnings.push(path, message);
            }
        }
    }
}

fn exp(x: f64) -> f64 {
    DoubleDouble::from(x).exp().to_f64()
}

impl WorkloadModel for InsuranceModel {
    fn model_args(&self) -> Map<String, Value> {
        let mut args = Map::new();
        let mut put = |name: &str, value: Option<f64>| {
            if let Some(value) = value {
                args.insert(name.to_owned(), number_to_value(value));
            }
        };
        let a = &self.args;
        put("claim_freq", Some(a.claim_freq));
        put("claim_severity_mu", Some(a.claim_severity_mu));
        put("claim_severity_sig", Some(a.claim_severity_sig));
        put("cat_prob", a.cat_prob);
        put("cat_mu", a.cat_mu);
        put("cat_sig", a.cat_sig);
        put("policy_limit", a.policy_limit);
        put("aggregate_limit", a.aggregate_limit);
        if let Some(report) = a.report.as_ref().and_then(TailReportArgs::to_value) {
            args.insert("report".to_owned(), report);
        }
        args
    }

    fn budget(&self) -> &Budget {
        &self.budget
    }

    fn component_names(&self) -> Vec<String> {
        let names = ["claims", "catastrophe"].map(str::to_owned);
        names.into_iter().take(1 + usize::from(self.catastrophe().is_some())).collect()
    }

    fn expected_draws(&self) -> u64 {
        let components = self.component_names().len() as u64;
        // The claims take one count draw, and the catastrophe a count draw and at most one amount
        // draw.
        self.args.claim_freq.ceil() as u64 + 2 * components - 1
    }

    fn expected_occurrences(&self) -> f64 {
        self.args.claim_freq + self.args.cat_prob.unwrap_or(0.0)
    }

    fn warnings(&self, _: &Program) -> Vec<Warning> {
        let mut warnings = WarningList::default();
        self.warn_about_limits(&mut warnings);
        self.warn_about_saturation(&mut warnings);
        warnings.into_warnings()
    }

    fn reported_tails(&self) -> ReportedTails {
        self.args.report.as_ref().map_or_else(ReportedTails::default, TailReportArgs::reported_tails)
    }

    fn compile(&self) -> Result<Program, InvalidDocument> {
        let a = &self.args;
        if a.claim_freq > 0.0 {
            let mu = a.claim_severity_mu;
            self.check_size(mu, a.claim_freq, a.policy_limit, "/args/claim_severity_mu")?;
        }
        let claim_pointer = "/args/claim_severity_mu";
        let mut components = vec![(
            CountLaw::Poisson(a.claim_freq).table().map_err(table_error("/args/claim_freq"))?,
            self.lognormal_table(a.claim_severity_mu, a.claim_severity_sig, claim_pointer)?,
            cap_of_limit(a.policy_limit, UNITS),
        )];
        if let Some((probability, mu, sigma)) = self.catastrophe() {
            self.check_size(mu, 1.0, None, "/args/cat_mu")?;
            components.push((
                CountLaw::Bernoulli(probability).table().map_err(table_error("/args/cat_prob"))?,
                self.lognormal_table(mu, sigma, "/args/cat_mu")?,
                MAX_AMOUNT,
            ));
        }
        let cap = cap_of_limit(a.aggregate_limit, UNITS);
        Ok(plain_program(UNITS, 0, cap, self.segment_bits(), components))
    }

    fn output(&self, _: &ShardResult, _: &Program, summary: &Summary) -> Value {
        let [p50_loss, p90_loss, p95_loss, p99_loss, p995_loss, p999_loss] = summary.standard_quantiles;
        let limited = self.args.aggregate_limit.is_some();
        let output = InsuranceOutput {
            mean_loss: summary.mean.expect("a lognormal distribution has a mean"),
            std_dev: summary.std_dev,
            std_error: summary.std_error,
            min_loss: summary.min,
            max_loss: summary.max,
            zero_loss_probability: summary.zero_probability,
            aggregate_limit_probability: if limited { summary.cap_probability } else { 0.0 },
            p50_loss,
            p90_loss,
            p95_loss,
            p99_loss,
            p995_loss,
            p999_loss,
            quantiles: summary.quantiles.clone(),
            exceedance: summary.exceedance.clone(),
            loss_distribution: summary.distribution.clone(),
        };
        serde_json::to_value(output).expect("the output is plain data")
    }
}

/// Output of `insurance.v1`: the annual loss, in the currency of the args.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "InsuranceOutput")]
struct InsuranceOutput {
    /// Mean annual loss (AAL).
    mean_loss: f64,
    /// Sample standard deviation of the annual loss; null with a single year.
    std_dev: Option<f64>,
    /// Standard error of the mean; null with a single year.
    std_error: Option<f64>,
    /// Smallest annual loss.
    min_loss: f64,
    /// Largest annual loss.
    max_loss: f64,
    /// Fraction of years without loss.
    zero_loss_probability: f64,
    /// Fraction of years in which the aggregate limit is reached; 0 without one.
    aggregate_limit_probability: f64,
    /// 50% quantile of the annual loss.
    p50_loss: f64,
    /// 90% quantile of the annual loss.
    p90_loss: f64,
    /// 95% quantile of the annual loss.
    p95_loss: f64,
    /// 99% quantile of the annual loss.
    p99_loss: f64,
    /// 99.5% quantile of the annual loss.
    p995_loss: f64,
    /// 99.9% quantile of the annual loss.
    p999_loss: f64,
    /// Value at risk and tail value at risk of the annual loss.
    quantiles: Vec<QuantileFigures>,
    /// Loss exceedance by return period: of the annual total (AEP) and of the largest occurrence in
    /// a year (OEP).
    exceedance: Vec<Exceedance>,
    /// Histogram of the annual loss.
    loss_distribution: Histogram,
}
