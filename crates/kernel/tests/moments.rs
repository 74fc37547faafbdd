//! Proves that whole runs have the distribution that the model defines: moments, tail values,
//! exceedance and limits of millions of iterations against closed forms and computed distributions,
//! within 5 standard errors. Seeds are fixed.
#![allow(clippy::disallowed_methods, reason = "references for statistics, not results")]

mod common;

use common::{
    compound::{Lattice, Severity},
    gauss,
    runs::{CompletedRun, insurance, run},
};
use serde_json::json;

/// Largest deviation of a figure, in standard errors.
const MAX_STANDARD_ERRORS: f64 = 5.0;

fn assert_near(found: f64, expected: f64, standard_error: f64, what: &str) {
    let errors = (found - expected) / standard_error;
    assert!(
        errors.abs() <= MAX_STANDARD_ERRORS,
        "{what}: {found} is {errors:.1} standard errors from {expected}"
    );
}

/// Compares a share of n iterations with its probability.
fn assert_share(found: f64, probability: f64, n: f64, what: &str) {
    let error = (probability * (1.0 - probability) / n).sqrt();
    assert_near(found, probability, error.max(0.3 / n), what);
}

/// A portfolio for insurance.v1.
#[derive(Clone, Copy)]
struct PortfolioModel {
    frequency: f64,
    claim: Severity,
    /// Probability and loss of the catastrophe.
    catastrophe: Option<(f64, Severity)>,
    aggregate_limit: f64,
}

impl PortfolioModel {
    fn run(self, iterations: u64) -> CompletedRun {
        let claim = self.claim;
        let mut args = json!({
            "iterations": iterations, "claim_freq": self.frequency,
            "claim_severity_mu": claim.law.mu, "claim_severity_sig": claim.law.sigma,
        });
        if claim.limit.is_finite() {
            args["policy_limit"] = json!(claim.limit);
        }
        if let Some((probability, loss)) = self.catastrophe {
            args["cat_prob"] = json!(probability);
            args["cat_mu"] = json!(loss.law.mu);
            args["cat_sig"] = json!(loss.law.sigma);
        }
        if self.aggregate_limit.is_finite() {
            args["aggregate_limit"] = json!(self.aggregate_limit);
        }
        insurance(args)
    }

    /// Mean and variance of the total without an aggregate limit.
    fn moments(self) -> (f64, f64) {
        let (first, second) = self.claim.moments();
        let (mut mean, mut variance) = (self.frequency * first, self.frequency * second);
        if let Some((probability, loss)) = self.catastrophe {
            let (first, second) = loss.moments();
            mean += probability * first;
            variance += probability * second - (probability * first) * (probability * first);
        }
        (mean, variance)
    }

    /// The total's distribution before the aggregate limit.
    fn total(self, step: f64, points: usize) -> Lattice {
        let claims = self.claim.lattice(step, points).compound_poisson(self.frequency);
        match self.catastrophe {
            Some((probability, loss)) => {
                claims.plus(&loss.lattice(step, points).with_probability(probability))
            }
            None => claims,
        }
    }

    /// P(largest occurrence ≤ x).
    fn largest(self, x: f64) -> f64 {
        if x >= self.aggregate_limit {
            return 1.0;
        }
        let claims = (-self.frequency * (1.0 - self.claim.cdf(x))).exp();
        claims * self.catastrophe.map_or(1.0, |(probability, loss)| 1.0 - probability * (1.0 - loss.cdf(x)))
    }

    fn none(self) -> f64 {
        (-self.frequency).exp() * (1.0 - self.catastrophe.map_or(0.0, |cat| cat.0))
    }
}

fn claims(frequency: f64, claim: Severity) -> PortfolioModel {
    PortfolioModel { frequency, claim, catastrophe: None, aggregate_limit: f64::INFINITY }
}

/// Mean, its standard error, and the probability of a year without loss.
fn check_mean(run: &CompletedRun, model: PortfolioModel) {
    let (mean, variance) = model.moments();
    let error = (variance / run.n()).sqrt();
    assert_near(run.output("mean_loss"), mean, error, "mean");
    assert_share(run.output("zero_loss_probability"), model.none(), run.n(), "no loss");
    let occurrences = run.document["work"]["components"][0]["occurrences"].as_f64().unwrap();
    assert_near(
        occurrences,
        model.frequency * run.n(),
        (model.frequency * run.n()).sqrt().max(1.0),
        "claims",
    );
}

/// Compares a reported quantile with a distribution, as probabilities. The histogram may blur the
/// quantile by 0.1%.
fn assert_quantile(found: f64, level: f64, n: f64, cdf: impl Fn(f64) -> f64, what: &str) {
    let error = MAX_STANDARD_ERRORS * (level * (1.0 - level) / n).sqrt();
    let (low, high) = (cdf(found * 0.999), cdf(found * 1.001));
    assert!(low - error <= level, "{what}: {found} is not exceeded with {low}, not {level}");
    assert!(high + error >= level, "{what}: {found} is not exceeded with {high}, not {level}");
}

/// Checks OEP against its closed form.
fn check_oep(run: &CompletedRun, model: PortfolioModel) {
    for row in run.list("exceedance") {
        let period = row["return_period"].as_f64().unwrap();
        let (level, oep) = (1.0 - 1.0 / period, row["oep"]["var"].as_f64().unwrap());
        if oep == 0.0 {
            assert!(model.none() >= level - 0.001, "oep of {period}");
        } else {
            assert_quantile(oep, level, run.n(), |x| model.largest(x), &format!("oep of {period}"));
        }
    }
}

/// Compares VaR, its interval and TVaR at all levels and return periods, and the aggregate limit,
/// with the computed distribution of the total.
fn check_total(run: &CompletedRun, model: PortfolioModel, total: &Lattice) {
    let limit = model.aggregate_limit;
    let cdf = |x: f64| if x >= limit { 1.0 } else { total.cdf(x) };
    let n = run.n();
    // Every amount above a limit counts as the limit; without a limit the lattice has to reach far
    // enough.
    let end = if limit.is_finite() { limit } else { total.end() };
    let mean = end - total.shortfall(end, 1);
    let second = end * end - 2.0 * end * total.shortfall(end, 1) + total.shortfall(end, 2);
    let error = ((second - mean * mean) / n).sqrt();
    assert_near(run.output("mean_loss"), mean, error, "mean of the limited total");
    let check = |level: f64, var: f64, tvar: f64, what: &str| {
        if var == 0.0 {
            assert!(cdf(0.0) >= level - 0.001, "var of {what}");
            return;
        }
        assert_quantile(var, level, n, cdf, what);
        // E[S − v] and E[(S − v)²] above v: the unconditional moments less those below v.
        let v = var.min(end);
        let above = mean - v + total.shortfall(v, 1);
        let squares = second - 2.0 * v * mean + v * v - total.shortfall(v, 2);
        let share = 1.0 - level;
        let excess = above / share;
        // Manistre and Hancock: the variance in the tail, plus level · excess² for the estimated
        // quantile.
        let variance = squares / share - excess * excess + level * excess * excess;
        let error = (variance.max(0.0) / (n * share)).sqrt();
        // The histogram blurs tail values too, though less than quantiles.
        assert_near(tvar, var + excess, error + 5e-5 * var, &format!("tail value of {what}"));
    };
    for row in run.list("quantiles") {
        let number = |name: &str| row[name].as_f64().unwrap();
        let level = number("level");
        check(level, number("var"), number("tvar"), &format!("level {level}"));
        assert!(number("var_low") <= number("var") && number("var") <= number("var_high"));
    }
    for row in run.list("exceedance") {
        let number = |name: &str| row["aep"][name].as_f64().unwrap();
        let period = row["return_period"].as_f64().unwrap();
        check(1.0 - 1.0 / period, number("var"), number("tvar"), &format!("period {period}"));
        assert!(number("tvar_low") <= number("tvar") && number("tvar") <= number("tvar_high"));
    }
    let reached = if limit.is_finite() { 1.0 - total.cdf(limit - total.step / 2.0) } else { 0.0 };
    assert_share(run.output("aggregate_limit_probability"), reached, n, "aggregate limit");
}

#[test]
fn poisson_lognormal_moments() {
    // Only the four required args.
    for (frequency, mu, sigma) in [(2.0, 6.0, 1.0), (0.7, 3.0, 0.5), (12.5, 8.0, 0.25)] {
        let model = claims(frequency, Severity::unlimited(mu, sigma));
        let run = model.run(3_000_000);
        check_mean(&run, model);
        check_oep(&run, model);
        // Var of the sample variance is (μ₄ − σ⁴)/n, with μ₄ = κ₄ + 3κ₂² and κ₄ = λE[X⁴].
        let (_, variance) = model.moments();
        let fourth = frequency * (4.0 * mu + 8.0 * sigma * sigma).exp();
        let error = ((fourth + 2.0 * variance * variance) / run.n()).sqrt();
        assert_near(run.output("std_dev").powi(2), variance, error, "variance");
        let reported = run.output("std_error") * run.n().sqrt();
        assert!((reported / run.output("std_dev") - 1.0).abs() < 1e-12);
    }
}

#[test]
fn limited_expected_value() {
    let law = Severity::unlimited(7.0, 1.3);
    for limit in [500.0, 1096.63, 5_000.0, 100_000.0] {
        let model = claims(1.5, Severity { limit, ..law });
        let run = model.run(1_000_000);
        check_mean(&run, model);
        check_oep(&run, model);
        let component = &run.document["work"]["components"][0];
        let [capped, all] = ["capped", "occurrences"].map(|name| component[name].as_f64().unwrap());
        assert_share(capped / all, 1.0 - law.cdf(limit), all, "claims at the limit");
    }
}

#[test]
fn quickstart_total_with_limits() {
    let model = PortfolioModel {
        frequency: 2.0,
        claim: Severity::limited(6.0, 1.0, 50_000.0),
        catastrophe: Some((0.02, Severity::unlimited(10.0, 1.5))),
        aggregate_limit: 250_000.0,
    };
    let run = model.run(4_000_000);
    check_oep(&run, model);
    check_total(&run, model, &model.total(20.0, 12_501));
}

#[test]
fn limits_that_bind_often() {
    let model = PortfolioModel {
        frequency: 3.0,
        claim: Severity::limited(6.0, 1.2, 600.0),
        catastrophe: Some((0.3, Severity::unlimited(7.0, 0.7))),
        aggregate_limit: 2_000.0,
    };
    let run = model.run(1_000_000);
    assert!(run.output("aggregate_limit_probability") > 0.25);
    assert_eq!(run.output("p90_loss"), 2_000.0);
    check_oep(&run, model);
    check_total(&run, model, &model.total(0.25, 8_001));
}

#[test]
fn high_frequency() {
    let model = claims(300.0, Severity::unlimited(4.0, 0.9));
    let run = model.run(200_000);
    check_mean(&run, model);
    check_oep(&run, model);
    check_total(&run, model, &model.total(5.0, 10_000));
}

#[test]
fn heavy_tail() {
    let model = claims(2.0, Severity::unlimited(5.0, 2.5));
    let run = model.run(3_000_000);
    check_mean(&run, model);
    check_oep(&run, model);
}

#[test]
fn rare_catastrophe() {
    let model = PortfolioModel {
        frequency: 0.5,
        claim: Severity::limited(6.0, 0.8, 10_000.0),
        catastrophe: Some((1e-5, Severity::unlimited(14.0, 0.5))),
        aggregate_limit: f64::INFINITY,
    };
    let run = model.run(6_000_000);
    check_mean(&run, model);
    check_oep(&run, model);
    let found = run.document["work"]["components"][1]["occurrences"].as_f64().unwrap();
    assert_near(found, 60.0, 60f64.sqrt(), "catastrophes");
}

#[test]
fn tiny_frequency() {
    let model = claims(1e-4, Severity::unlimited(6.0, 1.0));
    let run = model.run(6_000_000);
    check_mean(&run, model);
    assert_eq!(run.output("p999_loss"), 0.0);
}

#[test]
fn catastrophe_only() {
    let loss = Severity::unlimited(9.0, 1.2);
    let model =
        PortfolioModel { catastrophe: Some((0.15, loss)), ..claims(0.0, Severity::unlimited(6.0, 1.0)) };
    let run = model.run(2_000_000);
    check_mean(&run, model);
    check_oep(&run, model);
    // The total is the only loss there is: its distribution is a closed form too.
    for row in run.list("quantiles").iter().filter(|row| row["level"].as_f64() > Some(0.86)) {
        let (level, var) = (row["level"].as_f64().unwrap(), row["var"].as_f64().unwrap());
        assert_quantile(var, level, run.n(), |x| 1.0 - 0.15 * (1.0 - loss.cdf(x)), "var");
    }
}

/// Mean and second moment of max(0, Normal).
fn rectified(mean: f64, deviation: f64) -> (f64, f64) {
    let a = mean / deviation;
    let (below, density) = (gauss::phi(a), gauss::density(a));
    let first = mean * below + deviation * density;
    (first, (mean * mean + deviation * deviation) * below + mean * deviation * density)
}

#[test]
fn eta_moments() {
    let cases =
        [(300.0, 120.0, 0.1, 240.0, 90.0, 0.02, 900.0, 400.0), (1.0, 2.0, 0.5, 0.5, 3.0, 1.0, 0.0, 1.0)];
    for (traffic, spread, weather_prob, weather, weather_std, incident_prob, incident, incident_std) in cases
    {
        let args = json!({
            "iterations": 2_000_000, "base_eta": 1800.25, "traffic_mean": traffic, "traffic_std": spread,
            "weather_prob": weather_prob, "weather_mean": weather, "weather_std": weather_std,
            "incident_prob": incident_prob, "incident_mean": incident, "incident_std": incident_std,
        });
        let run = run("eta.v1", &args, "moments");
        let delays = [
            (1.0, rectified(traffic, spread)),
            (weather_prob, rectified(weather, weather_std)),
            (incident_prob, rectified(incident, incident_std)),
        ];
        let mean: f64 = delays.iter().map(|(p, (first, _))| p * first).sum();
        let variance: f64 =
            delays.iter().map(|(p, (first, second))| p * second - p * p * first * first).sum();
        assert_near(run.output("mean_eta"), 1800.25 + mean, (variance / run.n()).sqrt(), "mean");
        // Not far from normal: the kurtosis is below 30.
        assert_near(run.output("std_dev").powi(2), variance, variance * (30.0 / run.n()).sqrt(), "variance");
    }
}

#[test]
fn confidence_intervals_cover() {
    // A single normal delay far above 0 has a known quantile. 400 runs of one and a half leaves.
    let (runs, level, z) = (400u32, 0.99, 2.326_347_874_040_840_8);
    let covered = (0..runs).filter(|i| {
        let args = json!({"iterations": 100_000, "base_eta": 0, "traffic_mean": 1000, "traffic_std": 100});
        let run = run("eta.v1", &args, &format!("coverage {i}"));
        let row = run.list("quantiles").iter().find(|row| row["level"] == json!(level)).unwrap();
        let truth = 1000.0 + 100.0 * z;
        row["var_low"].as_f64().unwrap() <= truth && truth <= row["var_high"].as_f64().unwrap()
    });
    assert_share(covered.count() as f64 / f64::from(runs), 0.95, f64::from(runs), "coverage");
}
